"""What the tests of columns share: a model that is compiled once, and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.runtime.counted import Counting

Threads = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(scope="module", autouse=True)
def _unoptimized(unoptimized: None) -> None:
    """All of this folder; kernels are tested in tests/ops."""


@pytest.fixture(scope="session")
def counting_model() -> Counting:
    return Counting(pytest.importorskip("ROOT"))


@pytest.fixture
def counting(counting_model: Counting) -> Counting:
    """The model of `counted.py`, which has not run yet."""
    counting_model.seen()
    return counting_model


@pytest.fixture
def threads() -> Threads:
    """``with threads(2):``; 0 is ROOT as it comes."""
    root = pytest.importorskip("ROOT")

    @contextmanager
    def switched(count: int) -> Iterator[None]:
        if count:
            root.EnableImplicitMT(count)
        try:
            yield
        finally:
            if count:
                root.DisableImplicitMT()

    return switched
