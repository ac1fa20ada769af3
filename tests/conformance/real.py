"""Real models against onnxruntime: changing sizes, masks with real padding, one Session."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.errors import InputError
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType, TensorType, concrete
from sofie_rdf.model import Model, load

__all__ = ["deviation", "files", "rounds"]

# What a dynamic axis is in one call after the other: the batch, and every other one.
BATCHES = (3, 1, 7, 0, 2)
LENGTHS = (24, 50, 17, 24, 128)


def folder() -> Path | None:
    """Where models are: SOFIE_RDF_MODELS, or a folder beside the checkout; None if nowhere."""
    given = os.environ.get("SOFIE_RDF_MODELS")
    root = Path(__file__).resolve().parents[2]
    places = [Path(given)] if given else [root.parent / "shared" / "models"]
    return next((p for p in places if p.is_dir()), None)


def files() -> list[Path]:
    """All .onnx files there."""
    found = folder()
    return sorted(found.rglob("*.onnx")) if found else []


@cache
def model(file: Path) -> Model:
    return load(file)


@cache
def session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def rounds(graph: Graph) -> Iterator[dict[str, int]]:
    """Sizes of the dynamic axes, one call after the other."""
    for number, (batch, length) in enumerate(zip(BATCHES, LENGTHS, strict=True)):
        others = graph.symbols[1:]
        yield {
            name: batch if name not in others else length + (others.index(name) % 3) * number
            for name in graph.symbols
        }


def example(name: str, type_: TensorType, sizes: Mapping[str, int], seed: int) -> Array:
    """Random numbers; a mask has ones, and behind them zeros."""
    random = np.random.default_rng(seed)
    shape = concrete(type_.shape, sizes)
    if type_.dtype is DType.BOOL or not type_.dtype.is_float:
        return np.asarray(random.integers(0, 2, shape), type_.dtype.numpy)
    if "mask" in name and shape:
        lengths = random.integers(shape[-1] // 2, shape[-1] + 1, (*shape[:-1], 1))
        if seed % 2 == 0:
            lengths = np.full_like(lengths, shape[-1])
        return np.asarray(np.arange(shape[-1]) < lengths, type_.dtype.numpy)
    return np.asarray(random.normal(size=shape), type_.dtype.numpy)


def paired(graph: Graph, sizes: dict[str, int]) -> dict[str, int]:
    """In the Particle Transformer input_4 is the four-vectors of input_1, and so on."""
    for name in graph.symbols:
        if name in ("n_input_4", "n_input_5", "n_input_6"):
            sizes[name] = sizes[f"n_input_{int(name[-1]) - 3}"]
    return sizes


def deviation(file: Path, sizes: dict[str, int], seed: int) -> float | str:
    """The largest difference, relative to the scale of the output; or what onnxruntime says.

    AssertionError where shapes or NaNs differ.
    """
    ours, graph = model(file), model(file).graph
    sizes = paired(graph, sizes)
    feeds = {n: example(n, graph.types[n], sizes, seed + i) for i, n in enumerate(graph.inputs)}
    if 0 in sizes.values():
        # onnxruntime ends the process for an empty batch in a recurrent layer.
        answer = ours(feeds)
        arrays = answer.values() if isinstance(answer, dict) else [answer]
        assert all(a.size == 0 or np.isfinite(a).all() for a in arrays)
        return 0.0
    try:
        expected = session(file).run(None, feeds)
    except Exception as error:
        try:
            ours(feeds)
        except InputError:
            pass
        return f"{type(error).__name__}: {str(error)[:200]}"
    answer = ours(feeds)
    found = answer if isinstance(answer, dict) else {graph.outputs[0]: answer}
    worst = 0.0
    for name, wanted in zip(graph.outputs, expected, strict=True):
        array = found[name]
        assert array.shape == wanted.shape and array.dtype == wanted.dtype, (name, sizes)
        assert np.array_equal(np.isnan(array), np.isnan(wanted)), (name, sizes)
        if array.size:
            scale = float(np.nanmax(np.abs(wanted), initial=1e-30))
            worst = max(worst, float(np.nanmax(np.abs(array - wanted), initial=0.0)) / scale)
    return worst
