"""A graph beside the library that it comes from: which differences are more than rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.types import Array
from sofie_rdf.ops.elementwise import Pow
from sofie_rdf.reference import evaluate

__all__ = ["GROWTH", "difference", "is_float", "rounding"]

# A deviation of so many ulp of the largest number is rounding, whatever the network.
ULPS = 16
HALF_ULPS = 2
# Else the network says how errors grow in it: every value that a node reads is changed in its last
# bit. Sums in another order and functions of a few ulp are so many times that, at most.
GROWTH = 10
DISTURBANCES = 3


def difference(
    graph: Graph, given: Mapping[str, Array], wanted: Sequence[Array], other: str, where: str
) -> str:
    """How the outputs differ from those of another library, in words; empty if by rounding alone.

    ``where`` says at which inputs. Errors are those of the evaluation.
    """
    outputs = evaluate(graph, given)
    noise: Mapping[str, float] | None = None
    for name, expected in zip(graph.outputs, wanted, strict=True):
        found = outputs[name]
        if found.shape != expected.shape or found.dtype != expected.dtype:
            return (
                f"output {name!r} is {found.dtype}{list(found.shape)} with {where}; {other} "
                f"gives {expected.dtype}{list(expected.shape)}"
            )
        deviation, scale = _difference(found, expected)
        allowed = _ulps(expected) * scale
        if deviation <= allowed:
            continue
        noise = noise or rounding(graph, given, outputs)
        allowed += GROWTH * noise[name]
        if not deviation <= allowed:
            return (
                f"output {name!r} of the exported network differs from {other} by {deviation:.2g} "
                f"with {where}; rounding explains {allowed:.1g}"
            )
    return ""


def _ulps(array: Array) -> float:
    """How large a deviation is rounding in any case, as part of the largest number."""
    if array.dtype.name in ("float16", "bfloat16"):
        return HALF_ULPS * _epsilon(array)
    return ULPS * _epsilon(array) if array.dtype.kind == "f" else 0.0


def _epsilon(array: Array) -> float:
    if array.dtype.name == "bfloat16":
        return 2.0**-7
    return float(np.finfo(array.dtype).eps)


def is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _difference(found: Array, wanted: Array) -> tuple[float, float]:
    """The largest difference, infinite where one is not finite and the other is; and the scale."""
    one, other = (np.asarray(a, np.float64) for a in (found, wanted))
    finite = np.isfinite(other)
    scale = float(np.max(np.abs(other[finite]), initial=0.0))
    same = np.array_equal(one[~finite], other[~finite], equal_nan=True)
    if not same or not np.isfinite(one[finite]).all():
        return float("inf"), scale
    return float(np.max(np.abs(one[finite] - other[finite]), initial=0.0)), scale


def rounding(
    graph: Graph, given: Mapping[str, Array], plain: Mapping[str, Array]
) -> dict[str, float]:
    """By how much each output changes where every value changes in its last bit."""
    random = np.random.default_rng(3)

    def disturb(node: Node, name: str, array: Array) -> Array:
        # A negative number has a square, and no power of 1.9999999.
        is_exponent = isinstance(node.op, Pow) and name == node.inputs[1]
        if not is_float(array) or is_exponent:
            return array
        # Towards zero: the largest number stays finite.
        part = random.choice((0.0, 1.0), array.shape) * _epsilon(array)
        return np.asarray(array * (1 - part)).astype(array.dtype)

    found = dict.fromkeys(plain, 0.0)
    for _ in range(DISTURBANCES):
        with np.errstate(all="ignore"):
            outputs = evaluate(graph, given, disturb=disturb)
        for name, array in outputs.items():
            if array.shape == plain[name].shape:
                one, other = (np.asarray(a, np.float64) for a in (array, plain[name]))
                good = np.isfinite(one) & np.isfinite(other)
                change = float(np.max(np.abs(one[good] - other[good]), initial=0.0))
                found[name] = max(found[name], change)
    return found
