"""lwtnn's layers, in float32. Features are the last axis, steps of a sequence the one before.

Matrices stand row by row, a row for each output. A normalization is (x + bias) * weights. Of a GRU
the gate r is applied before the matrix. Sigmoids are exact, where lwtnn takes 0 and 1 beyond 30.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sofie_rdf.errors import CorruptFile, UnsupportedFormat
from sofie_rdf.frontends.lwtnn.fields import Object, known_as
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.activations import (
    Abs,
    Elu,
    Floor,
    HardSigmoid,
    LeakyRelu,
    Relu,
    Sigmoid,
    Swish,
    Tanh,
)
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import Add, And, Equal, GreaterOrEqual, Max, Min, Mul, Sub, Where
from sofie_rdf.ops.indexing import Gather
from sofie_rdf.ops.layout import Concat, Squeeze
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.ops.normalization import Softmax
from sofie_rdf.ops.recurrent import GRU, LSTM, RNN, Recurrent

__all__ = ["FORWARD", "RECURRENT", "Layers"]

# Features that one embedding may make; more are believed of no file.
_MOST = 2**20
_PLAIN: Mapping[str, Callable[[float], Operator]] = {
    "sigmoid": lambda _: Sigmoid(),
    "rectified": lambda _: Relu(),
    "softmax": lambda _: Softmax(-1),
    "tanh": lambda _: Tanh(),
    "hard_sigmoid": lambda _: HardSigmoid(0.2, 0.5),
    "abs": lambda _: Abs(),
    "elu": Elu,
    "leakyrelu": LeakyRelu,
    "swish": Swish,
}
_WITH_ALPHA = ("elu", "leakyrelu", "swish")
# What recurrent layers call them, with alpha and beta.
_GATES: Mapping[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "linear": ("Affine", (1.0,), (0.0,)),
    "sigmoid": ("Sigmoid", (), ()),
    "rectified": ("Relu", (), ()),
    "tanh": ("Tanh", (), ()),
    "hard_sigmoid": ("HardSigmoid", (0.2,), (0.5,)),
    "elu": ("Elu", (), ()),
    "leakyrelu": ("LeakyRelu", (), ()),
}
# Components in the order of our gates, and the functions of these.
_CELLS: Mapping[str, tuple[type[Recurrent], str, tuple[str, ...]]] = {
    "lstm": (LSTM, "iofc", ("inner_activation", "activation", "activation")),
    "gru": (GRU, "zrh", ("inner_activation", "activation")),
    "simplernn": (RNN, "h", ("activation",)),
}
RECURRENT = ("lstm", "gru", "simplernn", "embedding")
FORWARD = ("dense", "normalization", "maxout", "highway")


class Layers:
    """The layers of a file, which grow the graph where they are used."""

    def __init__(self, build: Builder, given: Sequence[Object]) -> None:
        self.build, self.given = build, given
        self.kinds = [
            known_as(g.text("architecture"), (*FORWARD, *RECURRENT), "architecture", g.place)
            for g in given
        ]

    def forward(self, number: int, x: str) -> str:
        """What a layer makes of x[..., features]."""
        layer = self.given[number]
        if self.kinds[number] not in FORWARD:
            raise CorruptFile(f"is no forward layer but {self.kinds[number]}", place=layer.place)
        rule: Callable[[Object, str], str] = getattr(self, f"_{self.kinds[number]}")
        return rule(layer, x)

    def sequence(self, number: int, x: str) -> tuple[str, str]:
        """What a layer makes of x[batch, steps, features]: of all steps, and of the last one."""
        layer, kind = self.given[number], self.kinds[number]
        if kind not in RECURRENT:
            raise CorruptFile(f"is no layer of sequences but {kind}", place=layer.place)
        if kind != "embedding":
            return self._recurrent(layer, x, kind)
        for sub in self._sublayers(layer, "weights", "index", "n_out"):
            x = self._embedded(sub, x)
        last = self._of(layer, Gather(1), x, np.array(-1))
        return x, last

    # Tools ---------------------------------------------------------------------------------------

    def _of(self, layer: Object, op: Operator, *values: str | Array) -> str:
        names = [v if isinstance(v, str) else self.build.constant(v) for v in values]
        return self.build(op, *names, origin=Origin(layer.place))

    def _size(self, x: str) -> int:
        """How many features there are."""
        found = self.build.types[x].shape[-1]
        assert isinstance(found, int)
        return found

    def _matrix(self, layer: Object, key: str, columns: int) -> Array:
        """[outputs, columns], of at least one output."""
        found = layer.numbers(key)
        if not len(found) or len(found) % columns:
            raise CorruptFile(
                f"has {len(found)} numbers in {key!r} for {columns} inputs", place=layer.place
            )
        return found.reshape(-1, columns)

    def _vector(self, layer: Object, key: str, count: int) -> Array:
        found = layer.numbers(key)
        if len(found) != count:
            raise CorruptFile(
                f"has {len(found)} numbers in {key!r}, not {count}", place=layer.place
            )
        return found

    def _product(self, layer: Object, x: str) -> str:
        matrix = self._matrix(layer, "weights", self._size(x))
        bias = self._vector(layer, "bias", len(matrix))
        product = self._of(layer, MatMul(), x, np.ascontiguousarray(matrix.T))
        return self._of(layer, Add(), product, bias)

    def _sublayers(self, layer: Object, *keys: str) -> Sequence[Object]:
        layer.only("architecture", "sublayers")
        found = layer.objects("sublayers")
        if not found:
            raise CorruptFile("has no sublayers", place=layer.place)
        for sub in found:
            sub.only(*keys)
        return found

    # Forward layers ------------------------------------------------------------------------------

    def _activated(self, layer: Object, x: str) -> str:
        name, alpha = _function(layer, "activation")
        known = known_as(name, ("linear", *_PLAIN), "activation", layer.place)
        return x if known == "linear" else self._of(layer, _PLAIN[known](alpha), x)

    def _dense(self, layer: Object, x: str) -> str:
        """Without weights it is a bias, and without one of those an activation."""
        layer.only("architecture", "activation", "weights", "bias")
        if len(layer.list("weights")):
            if len(layer.list("bias")):
                x = self._product(layer, x)
            else:
                matrix = self._matrix(layer, "weights", self._size(x))
                x = self._of(layer, MatMul(), x, np.ascontiguousarray(matrix.T))
        elif len(layer.list("bias")):
            x = self._of(layer, Add(), x, self._vector(layer, "bias", self._size(x)))
        return self._activated(layer, x)

    def _normalization(self, layer: Object, x: str) -> str:
        layer.only("architecture", "weights", "bias")
        shifted = self._of(layer, Add(), x, self._vector(layer, "bias", self._size(x)))
        return self._of(layer, Mul(), shifted, self._vector(layer, "weights", self._size(x)))

    def _maxout(self, layer: Object, x: str) -> str:
        found = [self._product(s, x) for s in self._sublayers(layer, "weights", "bias")]
        if len({self._size(f) for f in found}) != 1:
            raise CorruptFile("has sublayers of different sizes", place=layer.place)
        return self._of(layer, Max(), *found) if len(found) > 1 else found[0]

    def _highway(self, layer: Object, x: str) -> str:
        """c * f(t) + (1 - c) * x, where c is a sigmoid."""
        layer.only("architecture", "activation", "components")
        components = layer.object("components")
        components.only("t", "carry")
        both = [components.object(key) for key in ("t", "carry")]
        for one in both:
            one.only("weights", "bias")
        turned, carried = (self._product(one, x) for one in both)
        if self._size(turned) != self._size(x) or self._size(carried) != self._size(x):
            raise CorruptFile("changes the number of features", place=layer.place)
        turned = self._activated(layer, turned)
        gate = self._of(layer, Sigmoid(), carried)
        rest = self._of(layer, Sub(), np.float32(1), gate)
        new = self._of(layer, Mul(), gate, turned)
        return self._of(layer, Add(), new, self._of(layer, Mul(), rest, x))

    # Layers of sequences -------------------------------------------------------------------------

    def _recurrent(self, layer: Object, x: str, kind: str) -> tuple[str, str]:
        cell, order, functions = _CELLS[kind]
        layer.only("architecture", "components", *functions, "inner_activation")
        components = layer.object("components")
        components.only(*order)
        parts = []
        for key in order:
            one = components.object(key)
            one.only("weights", "bias", "U")
            w = self._matrix(one, "weights", self._size(x))
            u = self._matrix(one, "U", len(w))
            parts.append((w, u, self._vector(one, "bias", len(w))))
            if u.shape != (len(w), len(w)) or len(w) != len(parts[0][0]):
                raise CorruptFile("has components of different sizes", place=one.place)
        hidden = len(parts[0][0])
        w, u, b = (np.concatenate(p)[None] for p in zip(*parts, strict=True))
        b = np.concatenate([b, np.zeros_like(b)], axis=1)
        op = cell(hidden_size=hidden, layout=True, **_gates(layer, functions))
        values = [x, *map(self.build.constant, (w, u, b))]
        named = [self.build.fresh(f"{kind}_{n}") for n in ("all", "last", "cell")]
        made = named if kind == "lstm" else named[:2]
        self.build(op, *values, outputs=made, origin=Origin(layer.place))
        every = self._of(layer, Squeeze((2,)), named[0])
        return every, self._of(layer, Squeeze((1,)), named[1])

    def _embedded(self, sub: Object, x: str) -> str:
        """A column of a matrix in the place of a feature, which is its number."""
        size = self._size(x)
        index, width = sub.index("index", size), sub.index("n_out", _MOST)
        weights = sub.numbers("weights")
        if not width or not len(weights) or len(weights) % width:
            raise CorruptFile(f"has no columns of {width} numbers", place=sub.place)
        if index != size - 1:
            # lwtnn's own code copies other features than those behind it.
            raise UnsupportedFormat(
                "embeds a variable that is not the last one",
                place=sub.place,
                remedy="Put the variable last, in the network and in its inputs",
            )
        table = np.ascontiguousarray(weights.reshape(width, -1).T)
        number = self._of(sub, Gather(2), x, np.array(index))
        whole = self._of(sub, Floor(), number)
        valid = self._of(sub, Equal(), number, whole)
        valid = self._of(sub, And(), valid, self._of(sub, GreaterOrEqual(), number, np.float32(0)))
        # What is no number of a column becomes one that is not there, which is an error.
        least = self._of(sub, Min(), number, np.float32(len(table)))
        number = self._of(sub, Where(), valid, least, np.float32(len(table)))
        place = self._of(sub, Cast(DType.INT64), number)
        column = self._of(sub, Gather(0), table, place)
        if not index:
            return column
        rest = self._of(sub, Gather(2), x, np.arange(index))
        return self._of(sub, Concat(2), rest, column)


def _function(layer: Object, key: str) -> tuple[str, float]:
    """The name of an activation, and its alpha."""
    if isinstance(layer.get(key), str):
        name = layer.text(key)
        if name in ("leakyrelu", "swish"):
            raise CorruptFile(f"has {key} {name!r} without its alpha", place=layer.place)
        return name, 1.0
    given = layer.object(key)
    given.only("function", "alpha")
    return given.text("function"), given.number("alpha")


def _gates(layer: Object, keys: Sequence[str]) -> Mapping[str, Any]:
    """The functions of a recurrent layer, as ONNX says them."""
    names: list[str] = []
    alphas: list[float] = []
    betas: list[float] = []
    for key in keys:
        name, alpha = _function(layer, key)
        gate = _GATES[known_as(name, _GATES, f"{key} of a recurrent layer", layer.place)]
        names.append(gate[0])
        alphas += (alpha,) if name in _WITH_ALPHA else gate[1]
        betas += gate[2]
    return {
        "activations": tuple(names),
        "activation_alpha": tuple(alphas),
        "activation_beta": tuple(betas),
    }
