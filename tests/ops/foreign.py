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


def run(model: bytes, feeds: Mapping[str, Any]) -> list[Any]:
    """The outputs of a model; `RuntimeError` with the reason where there are none."""
    global _pool
    if _pool is None:
        _pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    try:
        return _pool.submit(_compute, model, dict(feeds)).result()
    except BrokenProcessPool:
        _pool = None  # The next model gets a new process.
        raise


def _compute(model: bytes, feeds: dict[str, Any]) -> list[Any]:
    try:
        return [np.asarray(a) for a in _session(model).run(None, feeds)]
    except Exception as error:  # Its own exceptions cannot be sent to another process.
        raise RuntimeError(str(error)) from None


@lru_cache(maxsize=2000)
def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
