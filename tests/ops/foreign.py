"""onnxruntime in a process of its own, which some models and inputs end."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_context
from typing import Any

import numpy as np

__all__ = ["run"]

_pool: ProcessPoolExecutor | None = None


def run(models: tuple[bytes, ...], feeds: Mapping[str, Any]) -> list[Any]:
    """The outputs of the first model that it can load; `RuntimeError` where there are none."""
    global _pool
    if _pool is None:
        _pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    try:
        return _pool.submit(_compute, models, dict(feeds)).result()
    except BrokenProcessPool:
        _pool = None  # What comes next gets a new process.
        raise


def _compute(models: tuple[bytes, ...], feeds: dict[str, Any]) -> list[Any]:
    session = _session(models)
    if isinstance(session, str):
        raise RuntimeError(session)
    try:
        return [np.asarray(a) for a in session.run(None, feeds)]
    except Exception as error:  # Its own exceptions cannot be sent to another process.
        raise RuntimeError(str(error)) from None


@lru_cache(maxsize=5000)
def _session(models: tuple[bytes, ...]) -> Any:
    """A session, or what it says to the last model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    last = "no model"
    for model in models:
        try:
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: PERF203 - there are few
            last = str(error)
    return last
