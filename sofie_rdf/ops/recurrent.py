"""Networks that read a sequence step by step: RNN, GRU and LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch, UnsupportedOperator
from sofie_rdf.ir.dims import Dim, require_equal
from sofie_rdf.ir.operator import (
    Argument,
    Call,
    Functor,
    Launch,
    Operand,
    Operator,
    Packed,
    Struct,
    Tensor,
    family,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.kernels.choice import Choice
from sofie_rdf.kernels.recurrent import RECURRENT, RECURRENT_HEADER, RecurrentProblem
from sofie_rdf.ops._device_recurrent import recurrent
from sofie_rdf.ops._unrolled import Layer, parts, unrolled
from sofie_rdf.ops.elementwise import (
    FLOATS,
    Elu,
    HardSigmoid,
    LeakyRelu,
    Relu,
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
)

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


@dataclass(frozen=True)
class Activation:
    """The activation function of a gate, with the numbers that it has."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0

    def __call__(self, x: Array) -> Array:
        alpha, beta = x.dtype.type(self.alpha), x.dtype.type(self.beta)
        match self.name:
            case "Affine":
                return np.asarray(alpha * x + beta)
            case "LeakyRelu":
                return LeakyRelu(self.alpha).reference(x)
            case "ThresholdedRelu":
                return np.where(x < alpha, x.dtype.type(0), x)
            case "ScaledTanh":
                return np.asarray(alpha * np.tanh(beta * x))
            case "HardSigmoid":
                return HardSigmoid(self.alpha, self.beta).reference(x)
            case "Elu":
                return Elu(self.alpha).reference(x)
            case _:
                found: Array = _PLAIN[self.name].reference(x)
                return found

    @property
    def cxx(self) -> str:
        return f"sofie::gate::{self.name}"


_PLAIN: dict[str, Any] = {
    "Relu": Relu(),
    "Tanh": Tanh(),
    "Sigmoid": Sigmoid(),
    "Softsign": Softsign(),
    "Softplus": Softplus(),
}
_ALPHA = {
    "Affine": 1.0,
    "LeakyRelu": 0.01,
    "ThresholdedRelu": 1.0,
    "ScaledTanh": 1.0,
    "HardSigmoid": 0.2,
    "Elu": 1.0,
}
_BETA = {"Affine": 0.0, "ScaledTanh": 1.0, "HardSigmoid": 0.5}
_NAMES = {name.lower(): name for name in (*_PLAIN, *_ALPHA)}

Gates: TypeAlias = tuple[Activation, ...]


@dataclass(frozen=True)
class _Layer:
    """One direction of a layer: its weights in NumPy, a matrix for each gate in front."""

    w: Array
    r: Array
    w_bias: Array
    r_bias: Array
    peepholes: Array | None
    gates: Gates
    clip: float | None

    def activated(self, number: int, x: Array) -> Array:
        limit = self.clip
        return self.gates[number](x if limit is None else np.clip(x, -limit, limit))

    def peephole(self, number: int, c: Array) -> Array | float:
        """What a gate sees of the cell. Nothing is not 0 * c, which can be NaN."""
        return 0.0 if self.peepholes is None else self.peepholes[number] * c


@family
class Recurrent(Operator):
    """What RNN, GRU and LSTM share: ONNX's attributes, shapes, and the walk along the sequence."""

    header: ClassVar[str] = RECURRENT_HEADER
    gates: ClassVar[int]
    # The activation functions of a direction, where none are named.
    defaults: ClassVar[tuple[str, ...]]
    has_cell: ClassVar[bool] = False

    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] = ()
    clip: float | None = None
    direction: str = "forward"
    hidden_size: int = 0
    layout: bool = False

    # Where another run of gates begins, whose sums are made for themselves.
    runs: ClassVar[tuple[int, ...]] = ()

    @property
    def apart(self) -> bool:
        """Whether the offset of the last gate beside h is not added to that beside x."""
        return False

    # Attributes ----------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        if self.direction not in ("forward", "reverse", "bidirectional"):
            raise UnsupportedOperator(f"{self.name} has no direction {self.direction!r}")
        if self.clip is not None and not self.clip >= 0:
            raise UnsupportedOperator(f"{self.name} cannot clip at {self.clip}")
        self.functions()

    @property
    def limit(self) -> float | None:
        """Where the gates' inputs are clipped; 0 is no limit, as in ONNX's evaluator and SOFIE."""
        return self.clip or None

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    def functions(self) -> tuple[Gates, ...]:
        """The activation functions of each direction, with the numbers that belong to them."""
        count, each = self.directions, len(self.defaults)
        names = self.activations or self.defaults * count
        # The schema of RNN names two, also where there is one direction.
        if len(names) < count * each or len(names) > 2 * each:
            wanted = f"{count * each} activation functions"
            raise UnsupportedOperator(f"{self.name} needs {wanted}, not {len(names)}")
        alphas, betas = iter(self.activation_alpha), iter(self.activation_beta)
        found = []
        for given in names[: count * each]:
            name = _NAMES.get(given.lower())
            if name is None:
                raise UnsupportedOperator(f"{self.name} has no activation function {given!r}")
            # Each function takes the next number, if it has such a number at all.
            alpha = next(alphas, _ALPHA[name]) if name in _ALPHA else 0.0
            beta = next(betas, _BETA[name]) if name in _BETA else 0.0
            found.append(Activation(name, alpha, beta))
        return tuple(tuple(found[i * each : (i + 1) * each]) for i in range(count))

    # Types ---------------------------------------------------------------------------------------

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        r: TensorType,
        b: TensorType | None = None,
        sequence_lens: TensorType | None = None,
        initial_h: TensorType | None = None,
    ) -> tuple[TensorType, ...]:
        return self.types(x, w, r, b, sequence_lens, initial_h)

    def types(
        self,
        x: TensorType,
        w: TensorType,
        r: TensorType,
        b: TensorType | None,
        lengths: TensorType | None,
        *states: TensorType | None,
    ) -> tuple[TensorType, TensorType]:
        """The types of all states and of the last one."""
        dtype = require_same_dtype(*(t for t in (x, w, r, b, *states) if t is not None))
        if dtype not in FLOATS:
            raise TypeMismatch(f"is not defined for {dtype}")
        if (x.rank, w.rank, r.rank) != (3, 3, 3):
            raise ShapeError("needs x, W and R with three axes each")
        steps, batch = x.shape[:2][::-1] if self.layout else x.shape[:2]
        hidden, count = r.shape[2], self.directions
        if self.hidden_size:
            require_equal(hidden, self.hidden_size)
        _require(w, (count, self.gates * hidden, x.shape[2]))
        _require(r, (count, self.gates * hidden, hidden))
        _require(b, (count, 2 * self.gates * hidden))
        if lengths is not None and lengths.dtype is not DType.INT32:
            raise TypeMismatch(f"needs lengths of int32, not {lengths.dtype}")
        _require(lengths, (batch,))
        last: Shape = (batch, count, hidden) if self.layout else (count, batch, hidden)
        for state in states:
            _require(state, last)
        every = (batch, steps, count, hidden) if self.layout else (steps, count, batch, hidden)
        return TensorType(dtype, every), TensorType(dtype, last)

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        x, _, r = inputs[:3]
        assert x is not None and r is not None
        steps, batch, size = x.shape
        hidden = r.shape[2]
        return self.directions * steps * batch * self.gates * hidden * (size + hidden)

    def problem(self, inputs: Sequence[TensorType | None], *, constant: bool) -> RecurrentProblem:
        """What is asked of a kernel, with weights that are constants or computed."""
        x, _, r, *_ = inputs
        assert x is not None and r is not None
        return RecurrentProblem(
            x.dtype,
            self.kind,
            self.gates,
            self.directions,
            x.shape[2],
            r.shape[2],
            bool(self.layout),
            constant,
        )

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        types = [None if o is None else o.type for o in inputs]
        constant = all(o.constant for o in self._weights(inputs))
        return RECURRENT.choose(self.problem(types, constant=constant))

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        return RECURRENT.choose(self.problem(inputs, constant=False)).scratch

    @staticmethod
    def _weights(inputs: Sequence[Operand | None]) -> Sequence[Operand]:
        _, w, r, b, _, _, _, p = (*inputs, *(None,) * 8)[:8]
        return [o for o in (w, r, b, p) if o is not None]

    # The kernel ----------------------------------------------------------------------------------

    def cell(self, gates: Gates, *, peepholes: bool) -> tuple[str, tuple[float, ...]]:
        """The C++ class of a cell, and its fields."""
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """The C++ class that says which gates are computed together."""
        return f"sofie::{self.name.title()}Kind"

    def _functor(self, *, peepholes: bool) -> Functor:
        cells = [self.cell(gates, peepholes=peepholes) for gates in self.functions()]
        fields = [number for _, numbers in cells for number in numbers]
        if self.directions == 2:
            return Functor(f"sofie::BothDirections<{cells[0][0]}, {cells[1][0]}>", tuple(fields))
        reverse = "true" if self.direction == "reverse" else "false"
        return Functor(f"sofie::OneDirection<{cells[0][0]}, {reverse}>", tuple(fields))

    def cell_of(self, name: str, gates: Gates, *flags: bool) -> tuple[str, tuple[float, ...]]:
        """A C++ class with these flags; its fields are alpha and beta of each gate, and clip."""
        words = ("true" if flag else "false" for flag in (self.limit is not None, *flags))
        arguments = ", ".join((*(gate.cxx for gate in gates), *words))
        pairs = [number for gate in gates for number in (gate.alpha, gate.beta)]
        return f"sofie::{name}<{arguments}>", (*pairs, self.limit or 0.0)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, w, r, b, lengths, h, c, p = (*inputs, *(None,) * 8)[:8]
        assert x is not None and w is not None and r is not None
        *results, work, packed = outputs
        three = (*(None if o.unread else o for o in results), None, None)[:3]
        tensors = _together("RecurrentTensors", *three, work, x, lengths, h, c)
        functor = self._functor(peepholes=p is not None)
        choice = self.choice(inputs, outputs)
        given: tuple[Argument, ...]
        if choice.packed:
            sources = tuple(map(Tensor, self._weights(inputs)))
            given = functor, tensors, Packed(f"sofie::{choice.packed}", sources)
        else:
            matrices = _together("RecurrentMatrices", w, r, b, p)
            given = functor, Tensor(packed), tensors, matrices
        written = (*three, work) if choice.packed else (packed, *three, work)
        count = sum(o is not None for o in written)
        return Call(f"sofie::{choice.kernel}", given, count, choice.header)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        return recurrent(self, inputs, outputs)

    # The meaning ---------------------------------------------------------------------------------

    def reference(
        self,
        x: Array,
        w: Array,
        r: Array,
        b: Array | None = None,
        lengths: Array | None = None,
        h: Array | None = None,
        c: Array | None = None,
        p: Array | None = None,
    ) -> tuple[Array, ...]:
        """All states, the last h, and the last c of a cell that has one; in NumPy."""
        hidden, count = r.shape[2], self.directions
        x = x.swapaxes(0, 1) if self.layout else x
        steps, batch = x.shape[:2]
        first = [_states(s, self.layout, (count, batch, hidden), x) for s in (h, c)]
        ends = np.full(batch, steps) if lengths is None else np.asarray(lengths, np.int64)
        every = np.zeros((steps, count, batch, hidden), x.dtype)
        last = [np.zeros((count, batch, hidden), x.dtype) for _ in range(2)]
        for d, gates in enumerate(self.functions()):
            layer = self._layer(d, gates, w, r, b, p)
            backward = self.direction == "reverse" or d == 1
            state = [s[d] for s in first]
            for step in range(steps):
                times = np.where(backward & (step < ends), ends - 1 - step, step)
                row = np.arange(batch)
                new = self.advance(layer, x[times, row], *state)
                alive = (step < ends)[:, None]
                state = [np.where(alive, n, s) for n, s in zip(new, state, strict=True)]
                every[times, d, row] = np.where(alive, state[0], 0)
            for kept, final in zip(last, state, strict=True):
                kept[d] = final
        if self.layout:
            every = every.transpose(2, 0, 1, 3)
            last = [s.swapaxes(0, 1) for s in last]
        return (every, *last[: 2 if self.has_cell else 1])

    def _layer(
        self, d: int, gates: Gates, w: Array, r: Array, b: Array | None, p: Array | None
    ) -> _Layer:
        hidden, count = r.shape[2], self.gates
        bias = np.zeros(2 * count * hidden, w.dtype) if b is None else b[d]
        w_bias, r_bias = bias.reshape(2, count, hidden)
        shapes = (count, hidden, w.shape[2]), (count, hidden, hidden)
        return _Layer(
            w[d].reshape(shapes[0]),
            r[d].reshape(shapes[1]),
            w_bias,
            r_bias,
            None if p is None else p[d].reshape(3, hidden),
            gates,
            self.limit,
        )

    def advance(self, layer: _Layer, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """h and c after one more step."""
        raise NotImplementedError

    def advanced(self, layer: Layer, own: Value, h: Value, c: Value) -> tuple[Value, Value]:
        """`advance` in terms of other operators; ``own`` is x W + b of all gates."""
        raise NotImplementedError

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        def formula(*inputs: Value | None) -> Sequence[Value]:
            x, w, r, *others = (*inputs, *(None,) * 8)[:8]
            assert x is not None and w is not None and r is not None
            return unrolled(self, x, w, r, *others)

        return back.by_formula(formula)


def _require(given: TensorType | None, wanted: Shape) -> None:
    if given is None:
        return
    if given.rank != len(wanted):
        raise ShapeError(f"needs {len(wanted)} axes where {given} is")
    for left, right in zip(given.shape, wanted, strict=True):
        require_equal(left, right)


def _together(cxx: str, *operands: Operand | None) -> Struct:
    """A struct of tensors, some of which may not be there."""
    fields = (Functor("sofie::NoSequence") if o is None else Tensor(o) for o in operands)
    return Struct(f"sofie::{cxx}", tuple(fields))


def _states(given: Array | None, batchwise: bool, shape: tuple[int, ...], x: Array) -> Array:
    if given is None:
        return np.zeros(shape, x.dtype)
    return given.swapaxes(0, 1) if batchwise else given


def _sums(layer: _Layer, x: Array, h: Array) -> list[Array]:
    """x W + h R + b of each gate."""
    gates = zip(layer.w, layer.r, layer.w_bias + layer.r_bias, strict=True)
    return [x @ w.T + h @ r.T + b for w, r, b in gates]


@operator(since=22, ulp=8, terms=4)
class RNN(Recurrent):
    """h[t] = f(x[t] W + h[t-1] R + b) along a sequence, in one direction or in both"""

    gates: ClassVar[int] = 1
    defaults: ClassVar[tuple[str, ...]] = ("Tanh",)

    def cell(self, gates: Gates, *, peepholes: bool) -> tuple[str, tuple[float, ...]]:  # noqa: ARG002
        return self.cell_of("RnnCell", gates)

    def advance(self, layer: _Layer, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        (total,) = _sums(layer, x, h)
        return layer.activated(0, total), c

    def advanced(self, layer: Layer, own: Value, h: Value, c: Value) -> tuple[Value, Value]:
        return layer.activated(0, own + h.matmul(layer.r[0])), c


@operator(since=22, ulp=8, terms=4)
class GRU(Recurrent):
    """h[t] = (1 - z) * m + z * h[t-1] along a sequence, in one direction or in both

    z and r are f(x[t] W + h[t-1] R + b), each with weights of its own, and
    m = g(x[t] W + (r * h[t-1]) R + b); with linear_before_reset m = g(x[t] W + r * (h[t-1] R + b)).
    """

    linear_before_reset: bool = False

    gates: ClassVar[int] = 3
    defaults: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh")
    runs: ClassVar[tuple[int, ...]] = (2,)

    @property
    def apart(self) -> bool:
        return self.linear_before_reset

    @property
    def kind(self) -> str:
        return "sofie::LinearGruKind" if self.linear_before_reset else "sofie::GruKind"

    def cell(self, gates: Gates, *, peepholes: bool) -> tuple[str, tuple[float, ...]]:  # noqa: ARG002
        name = "LinearGruCell" if self.linear_before_reset else "GruCell"
        return self.cell_of(name, gates)

    def advance(self, layer: _Layer, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        sums = _sums(layer, x, h)
        z, r = layer.activated(0, sums[0]), layer.activated(0, sums[1])
        inputs = x @ layer.w[2].T + layer.w_bias[2]
        if self.linear_before_reset:
            total = inputs + r * (h @ layer.r[2].T + layer.r_bias[2])
        else:
            total = inputs + (r * h) @ layer.r[2].T + layer.r_bias[2]
        return (1 - z) * layer.activated(1, total) + z * h, c

    def advanced(self, layer: Layer, own: Value, h: Value, c: Value) -> tuple[Value, Value]:
        *_, hidden = h.shape
        first, last = own.slice(1, 0, 2 * hidden), own.slice(1, 2 * hidden, 3 * hidden)
        z, r = parts(layer.activated(0, first + h.matmul(layer.r[0])), 2)
        if self.linear_before_reset:
            seen = h.matmul(layer.r[1])
            total = last + r * (seen if layer.inner is None else seen + layer.inner)
        else:
            total = last + (r * h).matmul(layer.r[1])
        return (1 - z) * layer.activated(1, total) + z * h, c


@operator(since=22, ulp=8, terms=4)
class LSTM(Recurrent):
    """c[t] = f * c[t-1] + i * g(..), h[t] = o * h(c[t]) along a sequence, either way or both

    i, o and f are f(x[t] W + h[t-1] R + p * c + b), each with weights of its own; o sees c[t].
    """

    input_forget: bool = False

    gates: ClassVar[int] = 4
    defaults: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh", "Tanh")
    has_cell: ClassVar[bool] = True

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        r: TensorType,
        b: TensorType | None = None,
        sequence_lens: TensorType | None = None,
        initial_h: TensorType | None = None,
        initial_c: TensorType | None = None,
        p: TensorType | None = None,
    ) -> tuple[TensorType, ...]:
        every, last = self.types(x, w, r, b, sequence_lens, initial_h, initial_c)
        require_same_dtype(*(t for t in (x, p) if t is not None))
        _require(p, (self.directions, 3 * r.shape[2]))
        return every, last, last

    def cell(self, gates: Gates, *, peepholes: bool) -> tuple[str, tuple[float, ...]]:
        return self.cell_of("LstmCell", gates, peepholes, self.input_forget)

    def advance(self, layer: _Layer, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        sums = _sums(layer, x, h)
        i = layer.activated(0, sums[0] + layer.peephole(0, c))
        f = 1 - i if self.input_forget else layer.activated(0, sums[2] + layer.peephole(2, c))
        new = f * c + i * layer.activated(1, sums[3])
        o = layer.activated(0, sums[1] + layer.peephole(1, new))
        return o * layer.activated(2, new), new

    def advanced(self, layer: Layer, own: Value, h: Value, c: Value) -> tuple[Value, Value]:
        totals = parts(own + h.matmul(layer.r[0]), 4)
        i = layer.activated(0, layer.peephole(0, totals[0], c))
        f = 1 - i if self.input_forget else layer.activated(0, layer.peephole(2, totals[2], c))
        new = f * c + i * layer.activated(1, totals[3])
        o = layer.activated(0, layer.peephole(1, totals[1], new))
        return o * layer.activated(2, new), new
