"""com.microsoft: the LSTM that onnxruntime's quantize_dynamic writes, step after step in a Loop.

The whole input becomes bytes at once, as DynamicQuantizeLinear makes them, and in each step the
states of all events do. Products are those of whole numbers; the gates are floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sofie_rdf.errors import GraphError, ShapeError, UnsupportedOperator
from sofie_rdf.frontends.common.builders import BodyBuilder, FrontendBuilder
from sofie_rdf.frontends.onnx.rules._formula import Formula
from sofie_rdf.frontends.onnx.rules.contrib_fused import MICROSOFT, optional, refuse_inputs
from sofie_rdf.frontends.onnx.rules.contrib_quantized import scaled_product, whole_product
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.activations import Sigmoid, Tanh
from sofie_rdf.ops.control_flow import Loop, ScanSlice, SizeOfAxis
from sofie_rdf.ops.elementwise import Add, Mul
from sofie_rdf.ops.indexing import Gather, Slice
from sofie_rdf.ops.layout import Concat, Expand, Identity, Split, Unsqueeze
from sofie_rdf.ops.quantization import DynamicQuantizeLinear

_PLAIN = "Leave that layer as it was, with op_types_to_quantize"
_DEFAULTS = ["Sigmoid", "Tanh", "Tanh"]


@dataclass(frozen=True)
class _Weights:
    """A matrix of whole numbers of one direction, with scales and zero points."""

    matrix: str
    scale: str
    zero: str

    def product(self, f: Formula, x: str) -> str:
        """x @ matrix, of x as bytes."""
        names = [f.build.fresh(stem) for stem in ("quantized", "scale", "zero")]
        f.build(DynamicQuantizeLinear(), x, outputs=names, origin=f.origin)
        total = whole_product(f, names[0], self.matrix, names[2], self.zero)
        return scaled_product(f, total, names[1], self.scale)


@onnx_rule(
    "DynamicQuantizeLSTM",
    domain=MICROSOFT,
    inputs=(3, 12),
    outputs=3,
    attributes={
        "activation_alpha": tuple,
        "activation_beta": tuple,
        "activations": tuple,
        "clip": float,
        "direction": str,
        "hidden_size": int,
        "input_forget": int,
    },
)
def _lstm(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """LSTM, of which x @ W and h @ R are products of whole numbers with scales"""
    refuse_inputs(node, {4: "sequence_lens", 7: "P"}, _PLAIN)
    f = Formula(build, DType.FLOAT32, origin)
    directions = _directions(node)
    _check(node, build, len(directions))
    every: list[str] = []
    ends: tuple[list[str], list[str]] = ([], [])
    for number, backward in enumerate(directions):
        y, h, c = _Direction(node, f, number, backward=backward).run()
        every.append(f(Unsqueeze((1,)), y))
        for kept, state in zip(ends, (h, c), strict=True):
            kept.append(f(Unsqueeze((0,)), state))
    for number, (parts, axis) in enumerate(((every, 1), (ends[0], 0), (ends[1], 0))):
        f.give(parts[0] if len(parts) == 1 else f(Concat(axis), *parts), node, number)


def _directions(node: OnnxNode) -> Sequence[bool]:
    """Which directions go backward; `UnsupportedOperator` for functions other than the usual."""
    direction = node.attributes.get("direction", "forward")
    known = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    if direction not in known:
        raise GraphError(f"DynamicQuantizeLSTM has the direction {direction!r:.50}")
    found = known[direction]
    said = [*node.attributes.get("activations", ())]
    usual = not said or said == _DEFAULTS * len(found)
    for name in ("activation_alpha", "activation_beta", "clip", "input_forget"):
        usual = usual and not node.attributes.get(name)
    if not usual:
        raise UnsupportedOperator(
            "DynamicQuantizeLSTM with other functions than Sigmoid, Tanh and Tanh, or with a clip, "
            "is not supported",
            remedy=_PLAIN,
        )
    return found


def _check(node: OnnxNode, build: Builder, count: int) -> None:
    """The shapes of weights, scales and zero points."""
    if not all(optional(node, number) for number in range(8, 12)):
        raise GraphError("DynamicQuantizeLSTM lacks scales or zero points of its weights")
    x, w, r = (build.type_of(v) for v in node.inputs[:3])
    hidden = node.attributes.get("hidden_size", r.shape[1] if r.rank == 3 else None)
    if not isinstance(hidden, int):
        raise ShapeError(f"DynamicQuantizeLSTM has weights {r} of states")
    if x.rank != 3 or w.shape != (count, x.shape[2], 4 * hidden):
        raise ShapeError(f"DynamicQuantizeLSTM has weights {w} for an input {x}")
    if r.shape != (count, hidden, 4 * hidden):
        raise ShapeError(f"DynamicQuantizeLSTM has weights {r} of states with {hidden} numbers")
    if (bias := optional(node, 3)) and build.type_of(bias).shape != (count, 8 * hidden):
        raise ShapeError(f"DynamicQuantizeLSTM has a bias {build.type_of(bias)}")
    for number in range(8, 12):
        shape = build.type_of(node.inputs[number]).shape
        if shape not in ((count,), (count, 4 * hidden)):
            raise ShapeError(f"DynamicQuantizeLSTM has scales or zero points of shape {shape}")
    for number in (5, 6):
        if optional(node, number) and build.type_of(node.inputs[number]).shape != (
            count, x.shape[1], hidden
        ):  # fmt: skip
            given = build.type_of(node.inputs[number])
            raise ShapeError(f"DynamicQuantizeLSTM has initial states {given}")


class _Direction:
    """One direction of the layer: the product of all steps at once, and a Loop of the rest."""

    def __init__(self, node: OnnxNode, f: Formula, number: int, *, backward: bool) -> None:
        self.node, self.f, self.number, self.backward = node, f, number, backward
        hidden = f.build.type_of(node.inputs[2]).shape[1]
        assert isinstance(hidden, int)  # The weights have as many numbers.
        self.hidden = hidden

    def _own(self, number: int) -> str:
        """The part of an input that is of this direction."""
        return self.f(Gather(0), self.node.inputs[number], self._index())

    def _index(self) -> str:
        return self.f.build.constant(np.array(self.number, np.int64))

    def _weights(self, matrix: int, scale: int) -> _Weights:
        return _Weights(self._own(matrix), self._own(scale), self._own(scale + 1))

    def _first(self, number: int) -> str:
        """The first state: one that is given, or zeros."""
        if optional(self.node, number):
            return self._own(number)
        batch = self.f.build.type_of(self.node.inputs[0]).shape[1]
        zeros = self.f.build.constant(np.zeros((1, self.hidden), np.float32))
        return self.f(Expand((batch, self.hidden)), zeros)

    def run(self) -> tuple[str, str, str]:
        """All states in the order of the steps, and the last two."""
        f, build = self.f, self.f.build
        assert isinstance(build, FrontendBuilder)
        x = self.node.inputs[0]
        given = self._weights(1, 8).product(f, x)
        if optional(self.node, 3):
            given = f(Add(), given, self._bias())
        states = [self._first(5), self._first(6)]
        body = BodyBuilder(build.fresh(f"{f.origin.name}/step"), build, set())
        body.input("round", TensorType(DType.INT64))
        body.input("go", TensorType(DType.BOOL))
        names = [body.input(n, build.type_of(s)) for n, s in zip("hc", states, strict=True)]
        weights = self._weights(2, 10)
        inner = _Weights(*(body.capture(v) for v in (weights.matrix, weights.scale, weights.zero)))
        inside = Formula(body, DType.FLOAT32, f.origin)
        slice_ = ScanSlice(0, self.backward)
        now = inside(
            Add(), inside(slice_, body.capture(given), "round"), inner.product(inside, "h")
        )
        after = self._stepped(inside, now, names[1])
        graph = body.body([inside(Identity(), n) for n in ("go", *after, after[0])])
        captured = [body.captured[i] for i in graph.inputs[4:]]
        trips = f(SizeOfAxis(0), x)
        go = build.constant(np.array(True))
        made = [build.fresh(stem) for stem in ("h", "c", "all")]
        loop = Loop(graph, 2, build.type_of(x).shape[0])
        build(loop, trips, go, *states, *captured, outputs=made, origin=f.origin)
        h, c, every = made
        if self.backward:
            lowest = int(np.iinfo(np.int64).min) + 1
            every = f(Slice((-1,), (lowest,), (0,), (-1,)), every)
        return every, h, c

    def _bias(self) -> str:
        """Both halves, which belong to the two products."""
        names = [self.f.build.fresh(stem) for stem in ("own", "of_state")]
        own = self._own(3)
        split = Split(axis=0, split=(4 * self.hidden,) * 2)
        self.f.build(split, own, outputs=names, origin=self.f.origin)
        return self.f(Add(), *names)

    def _stepped(self, f: Formula, total: str, c: str) -> tuple[str, str]:
        """The new states; the gates are input, output, forget and cell."""
        names = [f.build.fresh(stem) for stem in "iofg"]
        f.build(Split(axis=-1, split=(self.hidden,) * 4), total, outputs=names, origin=f.origin)
        i, o, forget = (f(Sigmoid(), n) for n in names[:3])
        new = f(Add(), f(Mul(), forget, c), f(Mul(), i, f(Tanh(), names[3])))
        return f(Mul(), o, f(Tanh(), new)), new
