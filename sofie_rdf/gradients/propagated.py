"""Graphs that say how uncertain their outputs are, given the covariance of an input."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from sofie_rdf import limits
from sofie_rdf.gradients.derived import renamed
from sofie_rdf.gradients.reverse import Sweep
from sofie_rdf.gradients.values import Value
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, TensorType

__all__ = ["Covariance", "propagated"]


@dataclass(frozen=True, eq=False)
class Covariance:
    """That of the features of an input: a ``factor`` F [features, n], of which it is F F^T.

    Or columns of another input, ``source``: for each of ``terms`` the standard deviation of one
    feature (i, i), or the covariance of two (i, j).
    """

    input: str
    factor: Array | None = None
    source: str = ""
    terms: tuple[tuple[int, int], ...] = ()


def propagated(
    graph: Graph, covariance: Covariance, wanted: Mapping[str, tuple[str, int]]
) -> Graph:
    """The graph with sqrt(J C J^T) of elements of outputs, which are ``wanted`` by new names."""
    wide, type_ = graph, graph.types[covariance.input]
    if covariance.source:
        given = TensorType(type_.dtype, (type_.shape[0], len(covariance.terms)))
        types = MappingProxyType({**graph.types, covariance.source: given})
        wide = replace(graph, inputs=(*graph.inputs, covariance.source), types=types)
    sweep = Sweep(wide)
    found = {}
    for name, (output, element) in wanted.items():
        (slope,) = sweep.pulled({output: _seed(sweep, output, element)}, [covariance.input])
        found[name] = _width(sweep, slope, covariance)
    return renamed(graph, sweep.finished(found), {})


def _seed(sweep: Sweep, output: str, element: int) -> Value:
    """1 for one of the elements of each row."""
    value = sweep.tape.value(output)
    own = [int(d) for d in value.shape[1:] if isinstance(d, int)]
    count = math.prod(own)
    if count == 1:
        return value.like(1)
    limits.spend(bytes=count * value.dtype.numpy.itemsize, what=f"an uncertainty of {output!r}")
    one = np.zeros([1, *own], value.dtype.numpy)
    one.flat[element] = 1
    return sweep.tape.constant(one).expand(value.shape)


def _width(sweep: Sweep, slope: Value, covariance: Covariance) -> Value:
    if covariance.factor is not None:
        factor = sweep.tape.constant(covariance.factor.astype(slope.dtype.numpy))
        turned = slope.matmul(factor)
        return (turned * turned).sum([1]).apply("Sqrt")
    given = sweep.tape.value(covariance.source)
    single = [k for k, (i, j) in enumerate(covariance.terms) if i == j]
    double = [k for k, (i, j) in enumerate(covariance.terms) if i != j]
    parts = []
    if single:
        moved = _picked(slope, [covariance.terms[k][0] for k in single]) * _picked(given, single)
        parts.append((moved * moved).sum([1]))
    if double:
        one, other = ([covariance.terms[k][n] for k in double] for n in (0, 1))
        both = _picked(slope, one) * _picked(slope, other) * _picked(given, double) * 2
        parts.append(both.sum([1]))
        sizes = [*parts[:-1], both.apply("Abs").sum([1])]
        return _not_rounded_below_zero(_added(parts), _added(sizes)).apply("Sqrt")
    return parts[0].apply("Sqrt")


def _added(parts: Sequence[Value]) -> Value:
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _not_rounded_below_zero(total: Value, size: Value) -> Value:
    """The sum, or 0 where it is below by no more than its terms are rounded.

    Features that move together may leave a score as it is. What is far below stays negative: it is
    of no covariance.
    """
    numbers: Any = total.dtype.numpy
    rounding = 64 * float(np.finfo(numbers).eps)
    return ((total < 0) & (total >= size * -rounding)).choose(total.like(), total)


def _picked(value: Value, columns: Sequence[int]) -> Value:
    """Some columns, in this order."""
    if list(columns) == list(range(int(str(value.shape[1])))):
        return value
    return value.apply("Gather", value.tape.constant(np.array(columns, np.int64)), axis=1)
