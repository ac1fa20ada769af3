"""What the tests of SOFIE's own words share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _unoptimized(unoptimized: None) -> None:
    """All of this folder."""
