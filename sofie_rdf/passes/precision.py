"""Weights in fewer bits: which are rounded, to what, and which are left alone.

What is computed stays float32; rounded is what is stored, once, to the nearest number, from the
middle to the even one. In the graph the rounded weights are constants of the narrow type, and

    bfloat16, float16    w' = Cast(w)                 the nearest number of that type
    int8                 w' = DequantizeLinear(q, s)  q = round(w / s), |q| <= 127, for each output
                         s = max |w| of that output / 127, rounded up to 17 bits, so that q * s
                         is a float32 number

is their float32 form, with which everything goes on. So the network gives to the last bit what the
float32 network with the weights w' gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from sofie_rdf.errors import InputError, ModelError, nearest
from sofie_rdf.ir.graph import Graph, Node, Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import PRECISIONS, Array, DType, TensorType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.contraction import Einsum
from sofie_rdf.ops.convolution import Conv, ConvLayer
from sofie_rdf.ops.convolution_transposed import ConvTranspose, ConvTransposeLayer
from sofie_rdf.ops.linear import Dense, Gemm, MatMul
from sofie_rdf.ops.quantization import DequantizeLinear
from sofie_rdf.ops.recurrent import Recurrent
from sofie_rdf.passes import pipeline

__all__ = [
    "KEY",
    "Stored",
    "Weights",
    "encoded",
    "precision_of",
    "weights_of",
    "with_precision",
]

# What the provenance of a graph says of that.
KEY = "precision"

_LEVELS = 127
# The smallest numbers with all digits.
_NORMAL = {"bfloat16": 2.0**-126, "float16": 2.0**-14}


@dataclass(frozen=True)
class Stored:
    """Weights in few bits; of int8 with a scale for each position of an axis."""

    numbers: Array
    scale: Array | None = None
    axis: int = 0

    @property
    def wide(self) -> Array:
        """The float32 numbers that they are."""
        found: Array = self.numbers.astype(np.float32)
        if self.scale is None:
            return found
        shape = [1] * found.ndim
        shape[self.axis] = -1
        return np.asarray(found * self.scale.reshape(shape))


@dataclass(frozen=True)
class Weights:
    """The weights of one layer: how they are stored and, where that is float32, why."""

    name: str
    operator: str
    shape: tuple[int, ...]
    precision: str
    nbytes: int
    reason: str = ""


def precision_of(graph: Graph) -> str:
    """In which precision the weights of a graph were asked for."""
    said = graph.provenance.get(KEY, "")
    return said if said in PRECISIONS else PRECISIONS[0]  # Files say what they like.


# Rounding -----------------------------------------------------------------------------------------


def encoded(w: Array, precision: str, axis: int | None) -> Stored | str:
    """The nearest weights of that precision; or why these are better left as they are.

    ``axis`` is that of the layer's outputs: none of them may lose its digits, because all its
    weights are too small for the type.
    """
    if w.dtype != np.float32:
        return f"its weights are {w.dtype}"
    if not np.isfinite(w).all():
        return "some of its weights are no finite numbers"
    if precision == "int8":
        return _eight_bits(w, axis)
    dtype = DType(precision).numpy
    with np.errstate(over="ignore"):
        numbers = w.astype(dtype)
    if not np.isfinite(numbers.astype(np.float32)).all():
        return f"its largest weight is {_largest(w, None).max():.3g}, beyond what {precision} has"
    if (small := _smallest(w, axis)) < _NORMAL[precision]:
        return f"an output's largest weight is {small:.3g}, of which {precision} keeps few digits"
    return Stored(numbers)


def _eight_bits(w: Array, axis: int | None) -> Stored | str:
    if axis is None:
        return "it has no axis of outputs, for each of which int8 needs a scale"
    least = _LEVELS * float(np.finfo(np.float32).smallest_normal)
    if (small := _smallest(w, axis)) < least:
        return f"an output's largest weight is {small:.3g}, too small for a scale"
    largest = _largest(w, axis)
    scale = _short(np.where(largest > 0, largest / _LEVELS, 1.0))
    shape = [1] * w.ndim
    shape[axis] = -1
    numbers = np.rint(w.astype(np.float64) / scale.astype(np.float64).reshape(shape))
    return Stored(numbers.astype(np.int8), scale, axis)


def _short(scale: Array) -> Array:
    """The next larger numbers of 17 bits: times 127 they are float32 numbers."""
    fraction, exponent = np.frexp(scale.astype(np.float64))
    return np.asarray(np.ldexp(np.ceil(fraction * 2**17) / 2**17, exponent), np.float32)


def _largest(w: Array, axis: int | None) -> Array:
    """The largest magnitude for each position of the axis."""
    others = tuple(i for i in range(w.ndim) if i != axis) if axis is not None else None
    return np.asarray(np.max(np.abs(w), axis=others, initial=0)).astype(np.float64)


def _smallest(w: Array, axis: int | None) -> float:
    """The least of these that is not 0."""
    largest = _largest(w, axis)
    return float(np.min(largest, where=largest > 0, initial=np.inf))


# Which weights ------------------------------------------------------------------------------------


def _last(_: Operator) -> int | None:
    return -1


def _columns(op: Operator) -> int:
    return 0 if isinstance(op, Gemm) and op.transB else -1


# By operator: the inputs that are weights, each with the axis of its outputs.
_MATRICES: tuple[tuple[type[Operator], Mapping[int, Callable[[Operator], int | None]]], ...] = (
    (Dense, {1: _last}),
    (MatMul, {0: lambda _: -2, 1: _last}),
    (Gemm, {0: lambda _: None, 1: _columns}),
    (Conv, {1: lambda _: 0}),
    (ConvLayer, {1: lambda _: 0}),
    (ConvTranspose, {1: lambda _: 1}),
    (ConvTransposeLayer, {1: lambda _: 1}),
    (Recurrent, {1: lambda _: 1, 2: lambda _: 1}),
    (Einsum, {0: lambda _: None, 1: lambda _: None}),
)


@dataclass(frozen=True)
class _Matrix:
    node: Node
    name: str
    axis: int | None


def _matrices(graph: Graph) -> Iterator[_Matrix]:
    """The weights of all layers, each once; what is a vector is no matrix."""
    seen: set[str] = set()
    for node in graph.nodes:
        for kind, inputs in _MATRICES:
            if not isinstance(node.op, kind):
                continue
            for position, axis_of in inputs.items():
                name = node.inputs[position] if position < len(node.inputs) else ""
                if not name or name in seen or _content(graph, name) is None:
                    continue
                rank, axis = graph.types[name].rank, axis_of(node.op)
                if rank >= 2:
                    seen.add(name)
                    yield _Matrix(node, name, axis % rank if axis is not None else None)
            break


def _content(graph: Graph, name: str) -> Stored | None:
    """The constant of that name, also one that is widened first."""
    if name in graph.constants:
        return Stored(graph.constants[name])
    node = graph.producers.get(name)
    if node is None or not all(i in graph.constants for i in node.inputs):
        return None
    numbers = graph.constants[node.inputs[0]]
    if isinstance(node.op, Cast):
        return Stored(numbers)
    if isinstance(node.op, DequantizeLinear):
        return Stored(numbers, graph.constants[node.inputs[1]], node.op.axis)
    return None


def weights_of(graph: Graph) -> tuple[Weights, ...]:
    """How the weights of all layers are stored. Float32 weights of which no layer is made, too."""
    precision = precision_of(graph)
    found = []
    for matrix in _matrices(graph):
        held = _content(graph, matrix.name)
        assert held is not None
        kind = str(DType.of(held.numbers))
        nbytes = held.numbers.nbytes + (held.scale.nbytes if held.scale is not None else 0)
        reason = ""
        if precision not in (kind, PRECISIONS[0]):
            why = encoded(held.numbers, precision, matrix.axis)
            reason = why if isinstance(why, str) else "it was made after the weights were rounded"
        name, shape = matrix.node.op.full_name(), held.numbers.shape
        found.append(Weights(matrix.name, name, shape, kind, nbytes, reason))
    return (*found, *_others(graph, {w.name for w in found}))


# Constants with fewer elements are not worth a line.
_FEW = 1024


def _others(graph: Graph, known: set[str]) -> Iterator[Weights]:
    """Constants with axes that are no layer's weights: tables, positions, what a loop reads."""
    readers = {i: node for node in reversed(graph.nodes) for i in node.inputs}
    for name, array in graph.constants.items():
        node = readers.get(name)
        large = array.ndim >= 2 and array.size >= _FEW and array.dtype == np.float32
        if name in known or node is None or not large:
            continue
        kind, operator = str(DType.of(array)), node.op.full_name()
        reason = f"{operator} has no matrix of weights" if precision_of(graph) != kind else ""
        yield Weights(name, operator, array.shape, kind, array.nbytes, reason)


# The pass -----------------------------------------------------------------------------------------


def with_precision(graph: Graph, precision: str) -> Graph:
    """The graph whose layers have their weights in this precision, as far as they can.

    Layers are fused first: what is folded into the weights is rounded with them. `ModelError` where
    no weights can be rounded, with the reasons; `InputError` for another precision.
    """
    if precision not in PRECISIONS:
        listed = ", ".join(map(repr, PRECISIONS))
        near = nearest(str(precision), PRECISIONS) or f"Use one of {listed}"
        raise InputError(f"precision={precision!r} is unknown", remedy=near)
    before = precision_of(graph)
    if precision == before:
        return graph
    known = {key: text for key, text in graph.provenance.items() if key != KEY}
    if precision == PRECISIONS[0]:
        wide = pipeline.run(graph, pipeline.FUSED)
        return replace(wide, provenance=MappingProxyType(known))
    fused = pipeline.run(graph, pipeline.FUSED)
    rounded, reasons = {}, {}
    for matrix in _matrices(fused):
        found = encoded(fused.constants[matrix.name], precision, matrix.axis)
        if isinstance(found, str):
            reasons[matrix.name] = found
        else:
            rounded[matrix.name] = found
    if not rounded:
        why = "; ".join(f"{n}: {r}" for n, r in [*reasons.items()][:4])
        thing = f"has no weights that can be {precision}"
        raise ModelError(f"{thing}: {why}" if why else thing, place=graph.name)
    provenance = MappingProxyType({**known, KEY: precision})
    return replace(_with_stored(fused, rounded, precision), provenance=provenance)


def _with_stored(graph: Graph, rounded: Mapping[str, Stored], precision: str) -> Graph:
    """The graph in which these constants are widened from what is stored."""
    types, constants = dict(graph.types), dict(graph.constants)

    def added(name: str, array: Array) -> str:
        while name in types:
            name += "_"
        types[name] = TensorType(DType.of(array), array.shape)
        own = np.array(array, order="C", copy=True)
        own.setflags(write=False)
        constants[name] = own
        return name

    nodes = []
    for name, stored in rounded.items():
        del constants[name]
        inputs = [added(f"{name}.{precision}", stored.numbers)]
        op: Operator = Cast(DType.FLOAT32)
        if stored.scale is not None:
            inputs.append(added(f"{name}.scale", stored.scale))
            op = DequantizeLinear(axis=stored.axis)
        nodes.append(Node(op, tuple(inputs), (name,), Origin(name=name)))
    return replace(
        graph,
        nodes=(*nodes, *graph.nodes),
        types=MappingProxyType(types),
        constants=MappingProxyType(constants),
    )
