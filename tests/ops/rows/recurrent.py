"""Rows of RNN, GRU and LSTM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.recurrent import GRU, LSTM, RNN, Recurrent
from tests.ops.cases import Case, Fill, M, N, Random, Row

STEPS = 5


def _moderate(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Of size 1, and now and then something that is no number."""
    usual = random.normal(size=shape)
    if extreme:
        strange = random.choice([np.nan, np.inf, -np.inf, 0.0, 4.0], shape)
        usual = np.where(random.random(shape) < 0.002, strange, usual)
    return np.asarray(usual, dtype.numpy)


def _weights(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    return np.asarray(random.normal(size=shape) * 0.4, dtype.numpy)


def _lengths(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    return np.asarray(random.integers(0, STEPS, shape, endpoint=True), dtype.numpy)


def _case(
    op: Recurrent,
    dtype: DType,
    sizes: tuple[Dim, Dim, int, int],
    given: str = "b",
    constant: bool = True,
) -> Case:
    """A layer for [steps, batch, inputs, hidden]; ``given`` names its optional inputs."""
    steps, batch, size, hidden = sizes
    count, gates = op.directions, op.gates
    random = np.random.default_rng([size, hidden])

    def weight(*shape: int) -> Any:
        return _weights(random, dtype, shape, False) if constant else TensorType(dtype, shape)

    state = (batch, count, hidden) if op.layout else (count, batch, hidden)
    inputs: dict[str, Any] = {
        "x": TensorType(dtype, (batch, steps, size) if op.layout else (steps, batch, size)),
        "w": weight(count, gates * hidden, size),
        "r": weight(count, gates * hidden, hidden),
        "b": weight(count, 2 * gates * hidden),
        "l": TensorType(DType.INT32, (batch,)),
        "h": TensorType(dtype, state),
        "c": TensorType(dtype, state),
        "p": weight(count, 3 * hidden),
    }
    names = "xwrblhcp" if isinstance(op, LSTM) else "xwrblh"
    listed = [inputs[n] if n in "xwr" + given else None for n in names]
    while listed[-1] is None:
        listed.pop()
    fills: dict[str, Fill] = {"x": _moderate, "l": _lengths, "h": _moderate, "c": _moderate}
    return Case(op, tuple(listed), tuple(fills.get(n, _weights) for n in names))


def _count(x: Array, w: Array, r: Array, *_: Array) -> float:
    return float(np.prod(x.shape[:2]) / max(1, min(x.shape[:2]))) * (w.shape[2] + r.shape[2])


def _magnitude(_: Any, x: Array, *__: Array) -> Any:
    sizes = np.abs(x[np.isfinite(x)])
    return 1.0 + (float(sizes.max()) if sizes.size else 0.0)


def _everything(cls: Any, each: int, functions: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Layers with every direction, layout, and kind of input, with this many functions."""
    batchwise = {"layout": True}
    both = {"direction": "bidirectional"}
    yield cls(), (STEPS, N, 3, 4)
    yield cls(**batchwise), (STEPS, N, 8, 50)
    yield cls(direction="reverse", **batchwise), (STEPS, N, 3, 17), "blhc"
    yield cls(**both, **batchwise), (STEPS, N, 2, 5), "blhcp", False
    yield cls(hidden_size=6, **batchwise), (M, N, 3, 6), "h", False
    yield cls(**both), (M, N, 3, 33), "bp"
    yield cls(direction="reverse"), (40, 1, 20, 16), ""
    yield cls(direction="reverse"), (STEPS, 29, 35, 9), "b"
    yield cls(clip=0.3, **batchwise), (STEPS, N, 3, 7), "bhc"
    yield cls(), (0, N, 3, 4), "bhc"
    yield cls(), (3, 0, 3, 4)
    yield cls(), (3, N, 0, 4), "b"
    yield cls(), (2, N, 3, 1), "bhcp"
    hard = {"activation_alpha": (0.2,), "activation_beta": (0.5,)}
    named = ("HardSigmoid", *cls.defaults[1:])
    yield cls(**hard, activations=named, direction="reverse"), (STEPS, N, 4, 10)
    for i in range(0, len(functions), each):
        chosen = (*functions[i : i + each], *cls.defaults)[:each]
        yield cls(activations=chosen, **batchwise), (3, N, 2, 3)


# Those of which the results stay small, for any weights.
FUNCTIONS = ("Softsign", "ScaledTanh", "Sigmoid", "Relu", "LeakyRelu", "Elu", "Affine")
MORE = ("ThresholdedRelu", "Softplus", "hardsigmoid", "TANH")


def _rows(cls: Any, each: int) -> Row:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        listed = list(_everything(cls, each, FUNCTIONS + MORE))
        for op, sizes, *rest in listed if full else listed[:4]:
            yield _case(op, dtype, sizes, *rest)
        if not full:
            return
        alphas = tuple(0.25 * (i + 1) for i in range(each))
        forward, backward = ("Affine", "Elu", "Tanh")[:each], ("ScaledTanh", "Relu", "Softsign")
        op = cls(
            activations=(*forward, *backward[:each]),
            activation_alpha=alphas,
            activation_beta=(0.125, 0.75),
            direction="bidirectional",
        )
        yield _case(op, dtype, (3, N, 2, 3))
        if dtype is DType.FLOAT32 and cls is not RNN:
            # Two panels of weights, the last one narrower: the next step begins at its end. (An RNN
            # of as many units would make any rounding grow by a factor of 6 in each step.)
            yield _case(cls(layout=True), dtype, (4, N, 2, 58 if cls is LSTM else 118), "bh")
        if cls is GRU:
            yield from _linear(dtype)
            # A reset gate of inf times a state of 0.
            yield _case(cls(activations=("Softplus", "HardSigmoid")), dtype, (2, N, 2, 9))
        if cls is LSTM:
            yield _case(LSTM(input_forget=True), dtype, (STEPS, N, 3, 18), "bhcp")
            yield _case(LSTM(input_forget=True, layout=True), dtype, (STEPS, N, 3, 4), "blhcp")

    return Row(make, magnitude=_magnitude, count=_count)


def _linear(dtype: DType) -> Iterator[Case]:
    for op, sizes, *rest in _everything(GRU, 2, ()):
        changed = {f: getattr(op, f) for f in op.attributes()} | {"linear_before_reset": True}
        yield _case(GRU(**changed), dtype, sizes, *rest)


ROWS: dict[tuple[str, str], Row] = {
    ("", "RNN"): _rows(RNN, 1),
    ("", "GRU"): _rows(GRU, 2),
    ("", "LSTM"): _rows(LSTM, 3),
}
