"""Whether the rows of a batch, which are events, go through a network without meeting.

Then some of them alone give what they give among others, and a batch may be cut into pieces. It is
proved node by node: for each value, which of its axes are the rows. An operator without a rule
here, or attributes that say something about that axis, prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sofie_rdf.ir.dims import name_of, product, symbols_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import Operator, symbols_in
from sofie_rdf.ir.types import TensorType, normal_axis
from sofie_rdf.ops import convolution, elementwise, linear, normalization, pooling, trees
from sofie_rdf.ops.assumptions import Assume
from sofie_rdf.ops.attention import SoftmaxAttention
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.convolution_small import SmallConv
from sofie_rdf.ops.indexing import Gather, GatherElements, Pad, Slice
from sofie_rdf.ops.layout import (
    Concat,
    Dropout,
    Expand,
    Flatten,
    Identity,
    Reshape,
    Split,
    Squeeze,
    Transpose,
    Unsqueeze,
)
from sofie_rdf.ops.pairs import PairTerms, Symmetric
from sofie_rdf.ops.recurrent import Recurrent
from sofie_rdf.ops.reduction import CumProd, CumSum, KnownReduction, LpNormalization
from sofie_rdf.ops.selection import ArgMax, ArgMin, Hardmax, TopK

__all__ = ["rows_of"]


def rows_of(graph: Graph) -> str:
    """The named size of the batch, if its rows keep apart; else "".

    They are the first axis of every input and output, and no output depends on another row.
    """
    batch = name_of((*graph.types[graph.inputs[0]].shape, 0)[0]) if graph.inputs else ""
    ports = [graph.types[name] for name in (*graph.inputs, *graph.outputs)]
    if not batch or any(_axis_of(type_, batch) != 0 for type_ in ports):
        return ""
    known: dict[str, int | None] = dict.fromkeys(graph.constants)
    known.update(dict.fromkeys(graph.inputs, 0))
    try:
        for node in graph.nodes:
            known.update(_through(graph, node, known, batch))
    except _Unproved:
        return ""
    return batch if all(known[name] == 0 for name in graph.outputs) else ""


class _Unproved(Exception):
    """Rows may meet here."""


def _require(holds: bool) -> None:
    if not holds:
        raise _Unproved


def _axis(axis: int | None) -> int:
    """An axis that there must be."""
    _require(axis is not None)
    assert axis is not None
    return axis


def _axis_of(type_: TensorType, batch: str) -> int | None:
    """The axis that is the batch; None if its size is nowhere in the shape, -1 for all else."""
    found = [i for i, dim in enumerate(type_.shape) if batch in symbols_of(dim)]
    if not found:
        return None
    return found[0] if len(found) == 1 and name_of(type_.shape[found[0]]) == batch else -1


@dataclass(frozen=True)
class _Place:
    """A node as a rule sees it: types, and the axis of the rows of each input that has them."""

    op: Any
    types: Sequence[TensorType | None]
    axes: Sequence[int | None]
    results: Sequence[TensorType]
    # Where the first result has as many rows.
    wanted: int

    @property
    def first(self) -> int:
        """The axis of the first input, where that is the only one with rows."""
        _require(all(a is None for a in self.axes[1:]))
        return _axis(self.axes[0])

    def type(self, i: int) -> TensorType:
        found = self.types[i]
        assert found is not None
        return found

    def behind(self, i: int) -> int:
        """The axis of the rows of an input, counted from the last one, which is 1."""
        return self.type(i).rank - _axis(self.axes[i])


def _through(
    graph: Graph, node: Node, known: dict[str, int | None], batch: str
) -> dict[str, int | None]:
    """The axis of the rows in each output of a node."""
    op = node.op
    results = [graph.types[name] for name in node.outputs]
    wanted = [_axis_of(type_, batch) for type_ in results]
    axes = [known[name] if name else None for name in node.inputs]
    _require(-1 not in wanted and -1 not in axes)
    for part in op.nested:
        _require(not (part.is_random or part.decides_sizes or part.bodies))
    if not any(axis is not None for axis in (*axes, *wanted)):
        _require(batch not in symbols_in(op))
        return dict.fromkeys(node.outputs)
    # How many rows there are may be said of shapes only.
    _require(batch not in symbols_in(op) or isinstance(op, (Reshape, Expand, Assume)))
    rule = next((_RULES[cls] for cls in type(op).__mro__ if cls in _RULES), None)
    _require(rule is not None)
    assert rule is not None
    types = [graph.types[name] if name else None for name in node.inputs]
    found = rule(_Place(op, types, axes, results, wanted[0] or 0))
    given = [found] * len(results) if isinstance(found, int) else list(found)[: len(results)]
    _require(all(axis in (own, -1) for axis, own in zip(given, wanted, strict=True)))
    return dict(zip(node.outputs, given, strict=True))


# Rules: the axis of the rows in all outputs, or in each (-1: that is not known) ------------------


def _broadcast(place: _Place) -> int:
    """Axes meet from the last one on, and what has no rows is the same for all of them."""
    behind = {place.behind(i) for i, axis in enumerate(place.axes) if axis is not None}
    if not behind:
        _require(isinstance(place.op, Expand))
        return place.wanted
    _require(len(behind) == 1)
    return place.results[0].rank - behind.pop()


def _outermost(place: _Place) -> int:
    """The first axis of images, and of what is added to the result of a convolution."""
    _require(place.axes[0] == 0 and all(axis is None for axis in place.axes[1:3]))
    _require(all(axis in (0, None) for axis in place.axes[3:]))
    return 0


def _without_places(place: _Place) -> list[int]:
    """Maxima, but not where they are: places are counted through all images."""
    return [_outermost(place), -1]


def _parameters(place: _Place) -> int:
    """The same, of the first input only."""
    _require(place.first == 0)
    return 0


def _before_last(place: _Place) -> int:
    """Any axis but the last one."""
    _require(place.behind(0) > 1)
    return place.first


def _matrices(place: _Place) -> int:
    """Rows of the first matrix, or axes of many matrices."""
    a, b = place.axes
    rank, vector = place.results[0].rank, place.type(1).rank == 1
    if b is None:
        _require(place.behind(0) > 1)
        return rank - place.behind(0) + (1 if vector else 0)
    _require(place.behind(1) > 2 and place.type(0).rank > 1)
    _require(a is None or place.behind(0) == place.behind(1))
    return rank - place.behind(1)


def _gemm(place: _Place) -> int:
    _require(not place.op.transA and place.axes[0] == 0)
    _require(place.axes[1] is None)
    _require(len(place.axes) < 3 or place.axes[2] in (0, None))
    return 0


def _not_along(place: _Place) -> int:
    """Along an axis that is another one, which stays or goes."""
    rank, axis = place.type(0).rank, place.first
    along = normal_axis(place.op.axis, rank)
    _require(along != axis)
    return axis if place.results[0].rank == rank or along > axis else axis - 1


def _outside(place: _Place) -> int:
    """Over all axes from one on, before which the rows are."""
    _require(place.first < normal_axis(place.op.axis, place.type(0).rank, end=True))
    return place.first


def _paired(place: _Place) -> int:
    """Pairs are made along the last axis, or become a matrix."""
    _require(place.behind(0) > 1)
    return place.first


def _reduced(place: _Place) -> int:
    axis, rank = place.first, place.type(0).rank
    reduced = place.op.reduced(place.op.axes, rank)
    _require(axis not in reduced)
    return axis if place.op.keepdims else axis - sum(i < axis for i in reduced)


def _aliased(place: _Place) -> int:
    """Rows that lie behind each other: as many numbers before them and behind them as ever."""
    before = product(place.type(0).shape[: place.first])
    _require(product(place.results[0].shape[: place.wanted]) == before)
    return place.wanted


def _transposed(place: _Place) -> int:
    return int(place.op.permutation(place.type(0).rank).index(place.first))


def _joined(place: _Place) -> int:
    axes = set(place.axes)
    axis = _axis(axes.pop())
    _require(not axes)
    _require(normal_axis(place.op.axis, place.type(0).rank) != axis)
    return axis


def _sliced(place: _Place) -> int:
    axes = place.op.axes
    count = len(place.op.starts)
    rank = place.type(0).rank
    cut = [normal_axis(a, rank) for a in (range(count) if axes is None else axes)]
    _require(place.first not in cut)
    return place.first


def _padded(place: _Place) -> int:
    _require(place.op.widths(place.type(0).rank)[place.first] == (0, 0))
    return place.first


def _gathered(place: _Place) -> int:
    """The same places of each row, or places in a table for each row."""
    along = normal_axis(place.op.axis, place.type(0).rank)
    if place.axes[0] is None:
        return along + _axis(place.axes[1])
    axis = place.first
    _require(axis != along)
    return axis if axis < along else axis - 1 + place.type(1).rank


def _picked(place: _Place) -> int:
    """Numbers of a row for that row."""
    axis = _axis(place.axes[0])
    _require(place.axes[1] == axis)
    _require(normal_axis(place.op.axis, place.type(0).rank) != axis)
    return axis


def _recurrent(place: _Place) -> list[int]:
    """Sequences side by side, which are the second axis unless ``layout`` is 1."""
    first = bool(place.op.layout)
    wanted = (0 if first else 1, None, None, None, 0, *([0 if first else 1] * 2), None)
    _require(place.axes[0] is not None)
    _require(all(a in (None, w) for a, w in zip(place.axes, wanted, strict=False)))
    return [0, 0, 0] if first else [2, 1, 1]


def _attended(place: _Place) -> int:
    """Batches or heads, which attention does not mix."""
    orders = place.op.orders
    letters = {
        order[axis] if axis is not None else ""
        for order, axis in zip(orders[1:], place.axes[:3], strict=True)
    }
    letter = letters.pop()
    _require(not letters and letter in ("b", "h"))
    if len(place.axes) > 3 and place.axes[3] is not None:
        _require("bhrk"[4 - place.behind(3)] == letter)
    return int(orders[0].index(letter))


_Rule: TypeAlias = Callable[[_Place], "int | Sequence[int]"]
_RULES: dict[type[Operator], _Rule] = {
    **dict.fromkeys((elementwise.Elementwise, Cast, Expand), _broadcast),
    # Its parameters lie along the second axis.
    normalization.BatchNormalization: _parameters,
    **dict.fromkeys((linear.Dense, linear.DenseLayers), _before_last),
    linear.MatMul: _matrices,
    linear.Gemm: _gemm,
    trees.Trees: _parameters,
    **dict.fromkeys((convolution.Conv, convolution.ConvLayer), _outermost),
    **dict.fromkeys((convolution.ConvTranspose, convolution.ConvTransposeLayer), _outermost),
    **dict.fromkeys((pooling.AveragePool, pooling.LpPool), _outermost),
    pooling.MaxPool: _without_places,
    SmallConv: _parameters,
    **dict.fromkeys((pooling.GlobalAveragePool, pooling.GlobalMaxPool), _outermost),
    **dict.fromkeys((pooling.GlobalLpPool, pooling.LRN), _outermost),
    **dict.fromkeys(
        (normalization.GroupNormalization, normalization.GroupwiseNormalization), _parameters
    ),
    normalization.InstanceNormalization: _parameters,
    **dict.fromkeys((normalization.LayerNormalization, normalization.RMSNormalization), _outside),
    **dict.fromkeys((normalization.FlatSoftmax, normalization.FlatLogSoftmax), _outside),
    **dict.fromkeys((normalization.Softmax, normalization.LogSoftmax), _not_along),
    **dict.fromkeys((ArgMax, ArgMin, Hardmax, TopK, LpNormalization, CumSum, CumProd), _not_along),
    KnownReduction: _reduced,
    **dict.fromkeys((PairTerms, Symmetric), _paired),
    **dict.fromkeys((Identity, Dropout, Reshape, Flatten, Squeeze, Unsqueeze, Assume), _aliased),
    Transpose: _transposed,
    Concat: _joined,
    Split: _not_along,
    Slice: _sliced,
    Pad: _padded,
    Gather: _gathered,
    GatherElements: _picked,
    Recurrent: _recurrent,
    SoftmaxAttention: _attended,
}
