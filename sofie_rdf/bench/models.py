"""What is measured: networks that are built here, and ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf import frontends
from sofie_rdf.bench.networks import NETWORKS, dense
from sofie_rdf.errors import InputError, ModelError, UnsupportedFormat, nearest
from sofie_rdf.ir.dims import Size, evaluate
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, TensorType, concrete
from sofie_rdf.model import Model, from_onnx
from sofie_rdf.runtime.compile.library import CLING, chosen_compiler

__all__ = [
    "BUILT_IN",
    "USUAL",
    "Candidate",
    "FreeSizes",
    "Task",
    "candidate",
    "candidates",
    "empty_task",
    "feeds_for",
    "identity",
    "sizes_for",
    "task_for",
]


# Events in a large batch, and multiplications that take a core less than a second.
_MANY, _BEARABLE = 64, 3e10


@dataclass(frozen=True)
class FreeSizes:
    """The sizes of axes that a model leaves open and that are no batch: by name, or ``other``."""

    named: Mapping[str, int] = field(default_factory=dict)
    other: int = 32


@dataclass(frozen=True)
class Candidate:
    """A network to be measured; ``source`` is what every peer reads: a file, or ONNX as bytes."""

    name: str
    about: str
    source: Path | bytes

    @cached_property
    def model(self) -> Model:
        """Compiled by Cling, unless SOFIE_RDF_COMPILER says otherwise: whatever the cache has."""
        name = self.name if isinstance(self.source, bytes) else ""
        return from_onnx(self.source, name=name, compiler=chosen_compiler("") or CLING)

    def batches(self, wanted: Sequence[int] | None, free: FreeSizes) -> tuple[int, ...]:
        """Those that are wanted, or the one that the file has fixed; else 1 and usually 64."""
        graph = self.model.graph
        if not _batch_symbols(graph):
            shapes = [graph.types[name].shape for name in graph.inputs]
            # One axis alone is that of the features of one event.
            return (next((s[0] for s in shapes if len(s) > 1 and isinstance(s[0], int)), 1),)
        if wanted:
            return tuple(wanted)
        sizes = dict.fromkeys(graph.data_symbols, 1) | sizes_for(graph, _MANY, free)
        return (1, _MANY) if evaluate(graph.multiply_adds, sizes) < _BEARABLE else (1,)


def candidates(texts: Iterable[str]) -> list[Candidate]:
    """What these name, each once: ``all``, built-in networks, ONNX files, folders with some."""
    found: dict[str, None] = {}
    for text in texts:
        found.update(dict.fromkeys(_expanded(text)))
    return [candidate(text) for text in found]


def _expanded(text: str) -> Iterable[str]:
    if text == "all":
        return BUILT_IN
    folder = Path(text)
    if text in BUILT_IN or not folder.is_dir():
        return (text,)
    files = [str(file) for file in sorted(folder.glob("*.onnx"))]
    if not files:
        raise ModelError("is a folder without .onnx files", place=text)
    return files


def candidate(text: str) -> Candidate:
    """The built-in network of this name, or that of an ONNX file."""
    if text in BUILT_IN:
        return BUILT_IN[text]()
    path = Path(text)
    if not path.exists() and path.suffix != ".onnx":
        raise ModelError(
            f"{text!r} is no file and no built-in model",
            remedy=nearest(text, BUILT_IN) or f"There are {', '.join(BUILT_IN)}",
        )
    if frontends.recognise(path) != "onnx":
        raise UnsupportedFormat(
            "is no ONNX file",
            place=text,
            remedy="onnxruntime reads nothing else: give it the .onnx",
        )
    return Candidate(path.stem, f"the file {path}", path)


# Built-in networks --------------------------------------------------------------------------------


def _random_weights(name: str) -> Candidate:
    about, make = NETWORKS[name]
    return Candidate(name, f"{about}, random weights", make())


def _higgs() -> Candidate:
    trained = Path(__file__).resolve().parents[2] / "data" / "higgs.onnx"
    if trained.is_file():
        return Candidate("higgs", f"7 -> 4 x 64 -> 1, trained: {trained}", trained)
    source = dense([7, *[64] * 4, 1], last="Sigmoid")
    return Candidate("higgs", "7 -> 4 x [Linear(64), ReLU] -> 1, random weights", source)


BUILT_IN: Mapping[str, Callable[[], Candidate]] = {
    "higgs": _higgs,
    **{name: partial(_random_weights, name) for name in NETWORKS},
}
# What is measured where nothing is named.
USUAL = ("linear50x10", "mlp200x5", "higgs")


def identity(feeds: Mapping[str, Array]) -> bytes:
    """A model that gives these inputs back: what is left of a call when there is no network."""
    from onnx import helper

    def port(name: str, array: Array) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        return helper.make_tensor_value_info(name, kind, array.shape)

    names = {name: f"y{i}" for i, name in enumerate(feeds)}
    nodes = [helper.make_node("Identity", [x], [y]) for x, y in names.items()]
    inputs = [port(x, array) for x, array in feeds.items()]
    outputs = [port(names[x], array) for x, array in feeds.items()]
    graph = helper.make_graph(nodes, "identity", inputs, outputs)
    return bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        ).SerializeToString()
    )


# Inputs -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A network and the inputs on which it is evaluated; all contestants get the same."""

    candidate: Candidate
    sizes: Mapping[str, int]
    feeds: Mapping[str, Array]


def task_for(candidate: Candidate, batch: int, free: FreeSizes = FreeSizes()) -> Task:
    """First axes have the size of the batch; inputs are random, the same ones every time."""
    graph = candidate.model.graph
    sizes = sizes_for(graph, batch, free)
    return Task(candidate, sizes, feeds_for(graph, sizes))


def empty_task(task: Task) -> Task:
    """The same inputs for a model that gives them back."""
    return Task(Candidate("identity", "", identity(task.feeds)), {}, task.feeds)


def sizes_for(graph: Graph, batch: int, free: FreeSizes) -> dict[str, int]:
    """A size for each open axis of the inputs: first axes have that of the batch."""
    first = _batch_symbols(graph)
    return {
        name: free.named.get(name, batch if name in first else free.other) for name in graph.symbols
    }


def _batch_symbols(graph: Graph) -> frozenset[str]:
    shapes: Iterable[Any] = (graph.types[name].shape for name in graph.inputs)
    return frozenset(str(d) for shape in shapes for d in shape[:1] if isinstance(d, Size))


def feeds_for(graph: Graph, sizes: Mapping[str, int], seed: int = 2) -> dict[str, Array]:
    """Normal where they are floating-point, else 0 and 1."""
    random = np.random.default_rng(seed)
    return {name: _random(graph.types[name], name, sizes, random) for name in graph.inputs}


def _random(type_: TensorType, name: str, sizes: Mapping[str, int], random: Any) -> Array:
    try:
        shape = concrete(type_.shape, sizes)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"input {name!r} is {type_}; which sizes its axes may have is not known",
            remedy="Give them by --size NAME=N",
        ) from error
    if type_.dtype.is_float:
        return np.asarray(random.normal(size=shape)).astype(type_.dtype.numpy)
    return np.asarray(random.integers(0, 2, size=shape)).astype(type_.dtype.numpy)
