"""Steps x * scale + offset with constants, one of each for every element along an axis of x.

Layers take them in, before and behind their products. Constants are combined in float64 and then
rounded; where more than last digits would be lost, what is here refuses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sofie_rdf.ir.graph import Node
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.elementwise import Add, Div, Mul, Neg, Sub
from sofie_rdf.ops.normalization import BatchNormalization
from sofie_rdf.passes.rewrite import Match, NoMatch

__all__ = [
    "MOST_OFFSET",
    "Affine",
    "Steps",
    "Wide",
    "rounded",
    "step_at",
    "steps_before",
    "vector",
    "wide",
]

Wide: TypeAlias = NDArray[np.float64]

# Why (x * s + t) @ w + b may only become x @ (s * w) + (t @ w + b) where t is small.
#
# A normalisation (x - mean) / std has the offset t = -mean / std. Left alone it is exact where x
# is near the mean, and its result is of order 1. Folded, the products with x * s and with t are
# rounded, each |t| times as large as their sum: log2 |t| bits are lost. That is as much as x lost
# already when it was rounded to float32 as the data were written, and for physical quantities |t|
# is 1 to 10. But a time stamp or a coordinate in a far-off system can be exact and have |t| of
# 1e6, so beyond 16 (four bits, about one digit) the step stays.
#
# What t is to be compared with is the spread of the result, which is assumed to be 1 as it is what
# normalisation is for; for a BatchNormalization it is known, |scale|. A step that only adds says
# nothing about the spread: x - 1 with x = 1 +- 1e-4 would lose 4 digits however small the offset
# is. So an offset is only folded together with the scaling that belongs to it.
MOST_OFFSET = 16.0

# A column of weights that is smaller has elements with fewer digits than the element type has.
_SMALLEST = {
    DType.FLOAT32: float(np.finfo(np.float32).tiny / np.finfo(np.float32).eps),
    DType.FLOAT64: float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps),
}

STEPS = (Add, Sub, Mul, Div, Neg, BatchNormalization)


@dataclass(frozen=True, eq=False)
class Affine:
    """x * scale + offset for each element along the last axis; the result varies by ``spread``."""

    scale: Wide
    offset: Wide
    spread: float = 1.0

    def after(self, first: Affine) -> Affine:
        """``first``, then this."""
        offset = first.offset * self.scale + self.offset
        return replace(self, scale=first.scale * self.scale, offset=offset)


def wide(array: Array) -> Wide:
    """The constant in float64, in which constants are combined."""
    return array.astype(np.float64)


def rounded(m: Match, exact: Wide, dtype: DType, features: int | None = None) -> Array:
    """``exact`` in the element type of the graph; refused where that would lose digits.

    Of weights, ``features`` is the axis of what they sum up to.
    """
    with np.errstate(over="ignore", under="ignore"):
        found = exact.astype(dtype.numpy)
    m.require(np.isfinite(found).all(), f"the constants are not finite in {dtype}")
    if dtype.is_half:
        # Rounded again, they would lose digits that count.
        m.require(
            np.array_equal(found.astype(np.float64), exact),
            f"combined, the constants are no numbers of {dtype}",
        )
    elif features is not None:
        # Beside large weights of the same sum tiny ones may vanish: they make no difference.
        others = tuple(a for a in range(exact.ndim) if a != features % exact.ndim)
        above, below = exact.max(axis=others, initial=0.0), exact.min(axis=others, initial=0.0)
        largest = np.maximum(above, -below)
        too_small = (largest > 0) & (largest < _SMALLEST[dtype])
        m.require(not too_small.any(), f"the weights are too small for {dtype}")
    return found


def vector(m: Match, value: str, like: TensorType, axis: int) -> Wide:
    """The constant as one number for each element along this axis of ``like``."""
    m.require(value in m.graph.constants, f"{value!r} is not a constant")
    array, n = m.graph.constants[value], like.shape[axis]
    assert isinstance(n, int)
    wanted = [1] * max(like.rank, array.ndim)
    wanted[axis if axis < 0 else len(wanted) - like.rank + axis] = n
    full = (1,) * (len(wanted) - array.ndim) + array.shape
    fits = all(size in (1, most) for size, most in zip(full, wanted, strict=True))
    m.require(fits, f"{value!r} is no vector" + (f" along axis {axis}" if axis >= 0 else ""))
    return np.broadcast_to(wide(array).reshape(-1), (n,))


@dataclass(frozen=True, eq=False)
class Steps:
    """Affine steps that lead to a layer, the nearest first, as one."""

    nodes: tuple[Node, ...]
    source: str
    affine: Affine

    def objection(self) -> str:
        """Why they are not to be folded; nothing where they may be."""
        scale, offset = self.affine.scale, float(np.max(np.abs(self.affine.offset), initial=0.0))
        if not np.isfinite(scale).all() or not math.isfinite(offset):
            return "the constants of the step are not finite"
        if not scale.all():
            return "a scale is 0"
        if offset and (abs(scale) == 1).all():
            return f"it adds up to {offset:.3g} and nothing says how large that is beside x"
        ratio = offset / self.affine.spread
        if ratio > MOST_OFFSET:
            digits = round(math.log10(ratio))
            loss = f"{digits} digit{'s' if digits > 1 else ''}"
            return f"the offset is {ratio:.3g} times the scale: folding would lose {loss}"
        return ""


def steps_before(m: Match, axis: int) -> tuple[Steps | None, str]:
    """All affine steps before x as one, if there is any; and why there are no more."""
    found, value = None, m.value("x")
    try:
        while (node := m.maker(value)) is not None:
            variable = [i for i in node.inputs if i not in m.graph.constants]
            if len(variable) != 1:
                break
            (value,) = variable
            step = step_at(m, node, value, axis)
            m.require_private(node)
            if found is not None:
                step = found.affine.after(step)
            found = Steps((*(found.nodes if found else ()), node), value, step)
    except NoMatch as end:
        return found, end.reason
    return found, ""


def step_at(m: Match, node: Node, source: str, axis: int) -> Affine:
    """What the node does to ``source``, as x * s + t; NoMatch where that is not what it does."""
    if not isinstance(node.op, STEPS):
        raise NoMatch
    like = m.graph.types[source]
    m.require(m.graph.types[node.outputs[0]] == like, "the step changes the shape")
    if isinstance(node.op, BatchNormalization):
        which = "the last" if axis == -1 else f"axis {axis}"
        normalised = axis % like.rank == 1
        m.require(normalised, f"axis 1 of {like.rank} is normalised, not {which}")
    n = like.shape[axis]
    assert isinstance(n, int)
    # The vectors of a BatchNormalization lie along axis 1, whatever the rank of x.
    batch = isinstance(node.op, BatchNormalization)
    form, at = (TensorType(like.dtype, (n,)), -1) if batch else (like, axis)
    c = [vector(m, i, form, at) for i in node.inputs if i != source]
    with np.errstate(all="ignore"):
        return _affine(node, node.inputs.index(source), c, n)


def _affine(node: Node, position: int, c: list[Wide], n: int) -> Affine:
    one, zero = np.ones(n), np.zeros(n)
    match node.op, position, c:
        case Neg(), 0, []:
            return Affine(-one, zero)
        case Add(), _, [t]:
            return Affine(one, t)
        case Sub(), 0, [t]:
            return Affine(one, -t)
        case Sub(), 1, [t]:
            return Affine(-one, t)
        case Mul(), _, [s]:
            return Affine(s, zero)
        case Div(), 0, [s]:
            return Affine(1 / s, zero)
        case BatchNormalization(epsilon=epsilon), 0, [scale, bias, mean, var]:
            s = scale / np.sqrt(var + epsilon)
            return Affine(s, bias - mean * s, float(np.max(np.abs(scale), initial=0.0)))
    raise NoMatch
