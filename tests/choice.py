"""Which parameters of a test `make test` takes, and which only `make test-all` does."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest

__all__ = ["every", "some_of"]


def some_of(values: Iterable[Any], now: Container[Any]) -> list[Any]:
    """All of the values as parameters; those that are not among `now` are marked as exhaustive.

    A tuple has the values of several parameters.
    """
    return [v if v in now else _later(*_several(v)) for v in values]


def every(count: int, values: Iterable[Any]) -> list[Any]:
    """All of the values as parameters; one of so many, from the first on, is in `make test`."""
    return [v if i % count == 0 else _later(*_several(v)) for i, v in enumerate(values)]


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _later(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.exhaustive)
