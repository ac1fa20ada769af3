"""Environment variables that decide what the passes do."""

from __future__ import annotations

import os

__all__ = ["WINOGRAD", "settings", "winograd"]

# 0 keeps every convolution a plain sum.
WINOGRAD = "SOFIE_RDF_WINOGRAD"


def winograd() -> bool:
    """Whether convolutions may take fewer multiplications."""
    return os.environ.get(WINOGRAD) != "0"


def settings() -> tuple[str, ...]:
    """All that is chosen: what is kept of a model is for these."""
    return (f"winograd={winograd()}",)
