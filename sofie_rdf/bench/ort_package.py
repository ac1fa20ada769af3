"""The package onnxruntime, imported where it is needed."""

from __future__ import annotations

from typing import Any

from sofie_rdf.errors import MissingDependency

__all__ = ["import_onnxruntime"]


def import_onnxruntime() -> Any:
    """The onnxruntime module; `MissingDependency` without it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency(
            "bench compares with onnxruntime, which is not installed",
            remedy="pip install onnxruntime",
        ) from error
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime
