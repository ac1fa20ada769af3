"""onnxruntime as a contestant, in each form in which it can be called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.bench.measure import Contestant, python_seconds
from sofie_rdf.bench.models import Task
from sofie_rdf.bench.ort_package import import_onnxruntime
from sofie_rdf.errors import InputError
from sofie_rdf.ir.types import Array

__all__ = [
    "Onnxruntime",
    "OrtBinding",
    "OrtRun",
    "noise",
    "results",
    "session",
]


# Ways to call it ----------------------------------------------------------------------------------


def session(source: Path | bytes) -> Any:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        given = source if isinstance(source, bytes) else str(source)
        return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each status, with no base of its own.
        raise _refusal(error) from error


def _refusal(error: Exception) -> InputError:
    return InputError(f"onnxruntime refuses: {str(error).strip()}")


class OrtRun:
    """``session.run(None, feeds)``: NumPy arrays in, new NumPy arrays out."""

    def __init__(self, source: Path | bytes, feeds: Mapping[str, Array]) -> None:
        self._session, self._feeds = session(source), dict(feeds)

    def evaluate(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs for these inputs, in the order of the model."""
        try:
            return [np.asarray(o) for o in self._session.run(None, dict(feeds))]
        except Exception as error:
            raise _refusal(error) from error

    def seconds(self, calls: int) -> float:
        run, feeds = self._session.run, self._feeds
        return python_seconds(lambda: run(None, feeds), calls)

    def outputs(self) -> list[Array]:
        return self.evaluate(self._feeds)


class OrtBinding:
    """``session.run_with_iobinding``: from and into memory that was bound once."""

    def __init__(self, source: Path | bytes, feeds: Mapping[str, Array]) -> None:
        self._session = session(source)
        self._binding = self._session.io_binding()
        self._feeds = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        self._results = [np.zeros_like(r) for r in results(source, feeds)]
        for name, array in self._feeds.items():
            self._binding.bind_input(name, *_memory(array))
        for port, array in zip(self._session.get_outputs(), self._results, strict=True):
            self._binding.bind_output(port.name, *_memory(array))
        self._session.run_with_iobinding(self._binding)

    def seconds(self, calls: int) -> float:
        run, binding = self._session.run_with_iobinding, self._binding
        return python_seconds(lambda: run(binding), calls)

    def outputs(self) -> list[Array]:
        return self._results


def _memory(array: Array) -> tuple[Any, ...]:
    return "cpu", 0, array.dtype.type, array.shape, array.ctypes.data


def results(source: Path | bytes, feeds: Mapping[str, Array]) -> list[Array]:
    """What onnxruntime computes, in the order of the model's outputs."""
    return OrtRun(source, feeds).outputs()


# How often the inputs are rounded otherwise to see what that does.
_NEIGHBOURS = 8


def noise(source: Path | bytes, feeds: Mapping[str, Array]) -> list[float]:
    """How much onnxruntime's own results change with the last bits of the inputs, for each output.

    Some networks lose digits, as a sigmoid does where it is nearly 0: two right results of such
    a network differ by more than those of others.
    """
    run = OrtRun(source, feeds)
    usual, random = run.evaluate(feeds), np.random.default_rng(7)
    largest = [0.0] * len(usual)
    for _ in range(_NEIGHBOURS):
        nearby = run.evaluate({name: _rounded(a, random) for name, a in feeds.items()})
        largest = [max(n, _change(*pair)) for n, *pair in zip(largest, usual, nearby, strict=True)]
    return largest


def _rounded(array: Array, random: Any) -> Array:
    """Every number as it is, or the one next to it."""
    if array.dtype.kind != "f":
        return array
    part = np.finfo(array.dtype).eps * random.choice((-1, 0, 1), array.shape)
    return np.asarray(array * (1 + part)).astype(array.dtype)


def _change(usual: Array, nearby: Array) -> float:
    """The largest difference; none where numbers are no floating-point numbers, or not finite."""
    if usual.dtype.kind != "f" or usual.shape != nearby.shape:
        return 0.0
    finite = np.isfinite(usual) & np.isfinite(nearby)
    difference = np.abs(usual[finite].astype(float) - nearby[finite])
    return float(np.max(difference, initial=0.0))


class Onnxruntime:
    """The peer by which our numbers are judged."""

    name = "onnxruntime"
    overhead = True

    def absence(self) -> str:
        return ""

    def version(self) -> str:
        return str(import_onnxruntime().__version__)

    def forms(self, task: Task) -> Iterator[tuple[str, Contestant]]:
        from sofie_rdf.bench import ort_api

        source, feeds = task.candidate.source, task.feeds
        if ort_api.available():
            yield "C API", ort_api.OrtCall(source, feeds, results(source, feeds))
        yield "binding", OrtBinding(source, feeds)
        yield "run", OrtRun(source, feeds)
