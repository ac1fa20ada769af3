"""Whether the rows of a batch, which are events, go through a network without meeting.

Then some of them alone give what they give among others, and a batch may be cut into pieces. It is
proved node by node: for each value, which of its axes are the rows, and of indices, which row they
are in (`places`). An operator without a rule here, or attributes that say something about that
axis, prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from sofie_rdf.ir.builder import known_results
from sofie_rdf.ir.dims import Size, name_of, product, symbols_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import Operator, symbols_in
from sofie_rdf.ir.types import Array, TensorType, normal_axis
from sofie_rdf.ops import convolution, elementwise, linear, normalization, pooling, trees
from sofie_rdf.ops.assumptions import Assume
from sofie_rdf.ops.attention import SoftmaxAttention
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.control_flow import (
    ControlFlow,
    If,
    Provided,
    Reversed,
    ScanSlice,
    bound_sizes,
)
from sofie_rdf.ops.convolution_small import SmallConv
from sofie_rdf.ops.convolution_transposed import ConvTranspose, ConvTransposeLayer
from sofie_rdf.ops.creation import KnownRange
from sofie_rdf.ops.indexing import (
    Gather,
    GatherElements,
    GatherND,
    Pad,
    ScatterElements,
    ScatterND,
    Slice,
)
from sofie_rdf.ops.layout import (
    Concat,
    Dropout,
    Expand,
    Flatten,
    Identity,
    Reshape,
    Split,
    Squeeze,
    Tile,
    Transpose,
    Unsqueeze,
)
from sofie_rdf.ops.pairs import PairTerms, Symmetric
from sofie_rdf.ops.quantization import (
    DequantizeLinear,
    IntegerDense,
    MatMulInteger,
    QLinearMatMul,
    QuantizeLinear,
)
from sofie_rdf.ops.random import RandomOperator
from sofie_rdf.ops.recurrent import Recurrent
from sofie_rdf.ops.reduction import CumProd, CumSum, KnownReduction, LpNormalization
from sofie_rdf.ops.reversal import ReverseSequence
from sofie_rdf.ops.scatter import ScatterAt
from sofie_rdf.ops.selection import ArgMax, ArgMin, Hardmax, TopK
from sofie_rdf.passes.places import SHARED, Numbers, Place, Rows, Unproved, numbers_of, require

__all__ = ["meeting", "rows_of"]

# Instead of an axis: where the rows are is not known.
_NOWHERE = -1
# What is the result of a node in a body that has no proof: nothing may read it.
_LOST = Rows(_NOWHERE)


def rows_of(graph: Graph) -> str:
    """The named size of the batch, if its rows keep apart; else "".

    They are the first axis of every input and output, and no output depends on another row.
    """
    batch = name_of((*graph.types[graph.inputs[0]].shape, 0)[0]) if graph.inputs else ""
    if not batch:
        return ""
    proof = _Proof(graph, batch)
    try:
        for name in (*graph.inputs, *graph.outputs):
            first, *others = (*graph.types[name].shape, 0)
            require(name_of(first) == batch and batch not in _names_in(others))
        for node in graph.nodes:
            proof.go_through(node)
        for name in graph.outputs:
            found = proof.rows[name]
            require(found.axis == 0 and found.numbers.stride == 0)
    except Unproved:
        return ""
    return batch


def meeting(graph: Graph, output: str) -> Node | None:
    """The first node before an output in which rows of the batch may meet; None if there is none.

    Inputs without the batch are the same for all rows. Where data decide sizes, that is not known:
    None.
    """
    proof = _Proof(graph, graph.batch_symbol, trusting=True)
    for name in graph.inputs:
        first = name_of((*graph.types[name].shape, 0)[0])
        proof.rows[name] = Rows(0) if first == graph.batch_symbol else SHARED
    for node in _before(graph, output):
        try:
            proof.go_through(node)
        except Unproved:  # noqa: PERF203
            return None if proof.is_open(node) else node
    return graph.producers[output] if proof.rows[output] == _LOST else None


def _before(graph: Graph, output: str) -> list[Node]:
    """The nodes that an output depends on, in their order."""
    needed, found = {output}, []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.outputs):
            found.append(node)
            needed.update(node.inputs)
    return found[::-1]


class _Proof:
    """Where the rows of each value are, and the elements of small ones that have none.

    ``trusting`` takes an operator without a rule at its word about the first axis.
    """

    def __init__(self, graph: Graph, batch: str, *, trusting: bool = False) -> None:
        self.graph, self.batch, self.trusting = graph, batch, trusting
        self.rows: dict[str, Rows] = dict.fromkeys(("", *graph.constants), SHARED)
        self.rows.update(dict.fromkeys(graph.inputs, Rows(0)))
        self.elements: dict[str, Array] = dict(graph.constants)

    def go_through(self, node: Node) -> None:
        """Notes where the rows of each output of a node are; `Unproved` where that is not known."""
        try:
            found = self.through(node)
        except Unproved:
            if not self.trusting or self.is_open(node) or not self.is_rowwise(node):
                raise
            found = [Rows(0)] * len(node.outputs)
        self.rows.update(zip(node.outputs, found, strict=True))

    def through(self, node: Node) -> list[Rows]:
        """Where the rows of each output of a node are."""
        if isinstance(node.op, ControlFlow):
            return self._through_bodies(node, node.op)
        types = self.graph.types
        place = Place(
            node.op,
            self.batch,
            [types[name] if name else None for name in node.inputs],
            [self.rows[name] for name in node.inputs],
            [self.elements.get(name) for name in node.inputs],
            [types[name] for name in node.outputs],
        )
        # What is drawn once for all rows is that of another row in a piece of them.
        require(not node.op.is_random or isinstance(node.op, RandomOperator))
        known = known_results(node.op, place.types, place.elements, place.results[0])
        if len(known) == len(node.outputs) and all(map(_are_sizes, known, place.results)):
            self.elements.update(zip(node.outputs, known, strict=True))
            return [Rows(counts=self.batch in _names_in(array.flat)) for array in known]
        return _through(place)

    def _through_bodies(self, node: Node, op: ControlFlow) -> list[Rows]:
        """In each branch at the same places, or in each round at those of the round before."""
        given = [self.rows[name] for name in node.inputs]
        bodies, carried = list(op.bodies.values()), getattr(op, "carried", 0)
        first = 1 if isinstance(op, If) else 2
        # Which branch runs, or how many rounds, is the same for all rows.
        require(all(rows.axis is None and not rows.counts for rows in given[:first]))
        inputs = node.inputs[1:] if first == 1 else node.inputs
        rows = given[len(given) - len(inputs) :]
        found = [self._inside(body, inputs, rows) for body in bodies]
        if first == 1:
            return [p if p == q else _LOST for p, q in zip(*found, strict=True)]
        rows = [*rows[:first], *map(_unnumbered, rows[first:][:carried]), *rows[first + carried :]]
        while True:
            go, *results = self._inside(bodies[0], inputs, rows)
            require(go.axis is None and not go.counts)
            after = [
                before if _unnumbered(now) == before and now.numbers.stride == 0 else _LOST
                for before, now in zip(rows[first:], results[:carried], strict=False)
            ]
            if after == rows[first : first + carried]:
                return [*after, *map(_stacked, results[carried:])]
            rows[first : first + carried] = after

    def _inside(self, body: Graph, inputs: Sequence[str], rows: Sequence[Rows]) -> list[Rows]:
        """Where the rows of each output of a body are, in which the batch has the same name."""
        types = [self.graph.types[name] for name in inputs]
        for name, dim in bound_sizes([body.types[i] for i in body.inputs], types).items():
            require(name_of(dim) == name or self.batch not in (name, *symbols_of(dim)))
        proof = _Proof(body, self.batch, trusting=self.trusting)
        proof.rows.update(zip(body.inputs, rows, strict=True))
        for node in body.nodes:
            try:
                proof.go_through(node)
            except Unproved:  # noqa: PERF203
                proof.rows.update(dict.fromkeys(node.outputs, _LOST))
        return [proof.rows[name] for name in body.outputs]

    def is_open(self, node: Node) -> bool:
        """Whether data decide sizes here."""
        names = filter(None, (*node.inputs, *node.outputs))
        sizes = _names_in(d for name in names for d in self.graph.types[name].shape)
        return not sizes.isdisjoint(self.graph.data_symbols)

    def is_rowwise(self, node: Node) -> bool:
        """Whether an operator without a rule keeps rows apart, which are the first axis here."""
        if not node.op.is_rowwise or any(cls in _RULES for cls in type(node.op).__mro__):
            return False
        shapes = [self.graph.types[name].shape for name in node.outputs]
        first = all(name_of((*shape, 0)[0]) == self.batch for shape in shapes)
        return first and all(self.rows[name].axis in (0, None) for name in node.inputs)


def _unnumbered(rows: Rows) -> Rows:
    return replace(rows, numbers=Numbers())


def _stacked(rows: Rows) -> Rows:
    """Behind the axis of the rounds."""
    return rows if rows.axis in (None, _NOWHERE) else replace(rows, axis=rows.axis + 1)


def _names_in(dims: Iterable[Any]) -> frozenset[str]:
    """The named sizes in these."""
    return frozenset().union(*(symbols_of(d) for d in dims if isinstance(d, Size)))


def _are_sizes(array: Array, type_: TensorType) -> bool:
    """Whether these are elements of this type that are followed."""
    whole = array.dtype != object or all(isinstance(d, int | np.integer | Size) for d in array.flat)
    return whole and array.shape == type_.shape


def _through(place: Place) -> list[Rows]:
    """Where the rows of each result are, by the rule of the operator."""
    op, wanted = place.op, [place.wanted(i) for i in range(len(place.results))]
    require(not any(r.counts or r.axis == _NOWHERE for r in place.rows))
    numbers = numbers_of(place)
    if all(axis is None for axis in (*place.axes, *wanted)):
        require(place.batch not in symbols_in(op))
        return [Rows(numbers=n) for n in numbers]
    require(not any(part.decides_sizes for part in op.nested))
    # How many rows there are may be said of shapes only.
    said = isinstance(op, Reshape | Expand | Assume | KnownRange)
    require(said or place.batch not in symbols_in(op))
    given = _given(place)
    for rows, axis, type_ in zip(given, wanted, place.results, strict=True):
        if rows.axis != _NOWHERE:
            require(axis is not None and rows.axis == axis)
            assert axis is not None
            times = place.times(type_.shape[axis])
            require(rows.inner is None or times == rows.outer * rows.inner)
    return [replace(r, numbers=n) for r, n in zip(given, numbers, strict=True)]


def _given(place: Place) -> list[Rows]:
    """What the rule says; an axis is that of the rows that the inputs have."""
    rule = next((_RULES[cls] for cls in type(place.op).__mro__ if cls in _RULES), None)
    require(rule is not None)
    assert rule is not None
    found, count = rule(place), len(place.results)
    if isinstance(found, Rows):
        return [found] * count
    outer, inner = place.shared
    require(inner is not None or rule is _broadcast)
    axes = [found] * count if isinstance(found, int) else list(found)[:count]
    return [Rows(axis, outer, inner) for axis in axes]


# Rules: the axis of the rows in all outputs, or in each ------------------


def _broadcast(place: Place) -> int:
    """Axes meet from the last one on, and what has no rows is the same for all of them."""
    behind = {place.behind(i) for i, axis in enumerate(place.axes) if axis is not None}
    require(len(behind) == 1)
    return place.results[0].rank - behind.pop()


def _repeated(place: Place) -> int | Rows:
    """The same, or one thing for all rows."""
    if any(axis is not None for axis in place.axes):
        return _broadcast(place)
    axis = place.wanted()
    assert axis is not None
    times = place.times(place.results[0].shape[axis])
    return Rows(axis, 1, 1 if times == 1 else None)


def _tiled(place: Place) -> int:
    require(place.op.repeats[place.first] == 1)
    return place.first


def _outermost(place: Place) -> int:
    """The first axis of images, and of what is added to the result of a convolution."""
    require(place.axes[0] == 0 and all(axis is None for axis in place.axes[1:3]))
    require(all(axis in (0, None) for axis in place.axes[3:]))
    return 0


def _without_places(place: Place) -> list[int]:
    """Maxima, but not where they are: places are counted through all images."""
    return [_outermost(place), _NOWHERE]


def _parameters(place: Place) -> int:
    """The same, of the first input only."""
    require(place.first == 0)
    return 0


def _before_last(place: Place) -> int:
    """Any axis but the last one."""
    require(place.behind(0) > 1)
    return place.first


def _matrices(place: Place) -> int:
    """Rows of the first matrix, or axes of many matrices."""
    a, b = place.axes
    rank, vector = place.results[0].rank, place.type(1).rank == 1
    if b is None:
        require(place.behind(0) > 1)
        return rank - place.behind(0) + (1 if vector else 0)
    require(place.behind(1) > 2 and place.type(0).rank > 1)
    require(a is None or place.behind(0) == place.behind(1))
    return rank - place.behind(1)


def _rounded(place: Place) -> int:
    """With scales that are the same for all rows."""
    axis, scale = place.first, place.type(1)
    require(scale.size == 1 or normal_axis(place.op.axis, place.type(0).rank) != axis)
    return axis


def _rounded_matrices(place: Place) -> int:
    """Rows of the first matrix; the other one, the scales and the zero points have none."""
    other = place.type(3 if isinstance(place.op, QLinearMatMul) else 1)
    require(place.first < place.type(0).rank - 1)
    return place.results[0].rank - place.behind(0) + (1 if other.rank == 1 else 0)


def _gemm(place: Place) -> int:
    require(not place.op.transA and place.axes[0] == 0)
    require(place.axes[1] is None)
    require(len(place.axes) < 3 or place.axes[2] in (0, None))
    return 0


def _not_along(place: Place) -> int:
    """Along an axis that is another one, which stays or goes."""
    rank, axis = place.type(0).rank, place.first
    along = normal_axis(place.op.axis, rank)
    require(along != axis)
    return axis if place.results[0].rank == rank or along > axis else axis - 1


def _outside(place: Place) -> int:
    """Over all axes from one on, before which the rows are."""
    require(place.first < normal_axis(place.op.axis, place.type(0).rank, end=True))
    return place.first


def _paired(place: Place) -> int:
    """Pairs are made along the last axis, or become a matrix."""
    require(place.behind(0) > 1)
    return place.first


def _reduced(place: Place) -> int:
    axis, rank = place.first, place.type(0).rank
    reduced = place.op.reduced(place.op.axes, rank)
    require(axis not in reduced)
    return axis if place.op.keepdims else axis - sum(i < axis for i in reduced)


def _aliased(place: Place) -> Rows:
    """Rows that lie behind each other: as many numbers before them and behind them as ever."""
    old, new, axis = place.type(0).shape, place.results[0].shape, place.wanted()
    require(axis is not None)
    assert axis is not None
    rows, before, lead = place.rows[0], product(old[: place.first]), product(new[:axis])
    if rows.inner is None:
        require(before == lead and old[place.first] == new[axis])
        return replace(rows, axis=axis)
    times = place.times(new[axis])
    require(lead != 0 and times != 0)
    outer = before * rows.outer // lead
    require(outer * lead == before * rows.outer and outer != 0)
    inner = times // outer
    require(outer * inner == times)
    return Rows(axis, outer, inner)


def _standardized(place: Place) -> int:
    """Over some axes, which all stay."""
    rank = place.type(0).rank
    axes = [normal_axis(axis, rank) for axis in place.op.axes]
    require(bool(axes) and place.first not in axes)
    return place.first


def _reversed(place: Place) -> int:
    """Each sequence for itself, with its own length."""
    require(place.axis(0) == place.op.batch_axis and place.axes[1] in (0, None))
    return place.axis(0)


def _transposed(place: Place) -> int:
    return int(place.op.permutation(place.type(0).rank).index(place.first))


def _joined(place: Place) -> int:
    require(len(set(place.axes)) == 1)
    require(normal_axis(place.op.axis, place.type(0).rank) != place.axis(0))
    return place.axis(0)


def _drawn(place: Place) -> Rows:
    """Numbers of a row for that row, and for what another input has in it."""
    op: RandomOperator = place.op
    require(len(place.rows) > op.rows_at() and op.axis >= 0)
    (axis,) = {place.wanted(i) for i in range(len(place.results))}
    require(axis == op.axis)
    inner = place.times(place.results[0].shape[op.axis])
    for i, rows in enumerate(place.rows[: op.rows_at()]):
        same = rows.axis == op.axis and rows.outer == 1 and rows.inner in (inner, None)
        require(rows.axis is None or same)
        require(place.numbers(i).stride == 0)
    return Rows(op.axis, 1, inner)


def _sliced(place: Place) -> int:
    require(place.first not in place.op.cut(place.type(0).rank))
    return place.first


def _padded(place: Place) -> int:
    require(place.op.widths(place.type(0).rank)[place.first] == (0, 0))
    return place.first


def _gathered(place: Place) -> int | Rows:
    """The same places of each row, or places in a table for each row, of which it may have some."""
    along, indices = normal_axis(place.op.axis, place.type(0).rank), place.rows[1]
    if place.axes[0] == along:
        place.require_own_row(0, 1)
        return replace(indices, axis=along + place.axis(1))
    require(place.numbers(1).stride == 0)
    if place.axes[0] is None:
        return along + place.axis(1)
    axis = place.first
    return axis if axis < along else axis - 1 + place.type(1).rank


def _gathered_slices(place: Place) -> int | Rows:
    """The same with several axes, behind those that both have."""
    batch, listed = int(place.op.batch_dims), place.type(1).rank - 1
    depth = place.type(1).shape[-1]
    assert isinstance(depth, int)
    x, at = place.axes
    require(at is None or at < listed)
    if x is not None and batch <= x < batch + depth:
        require(depth == 1 and batch == 0)
        place.require_own_row(0, 1)
        return replace(place.rows[1], axis=place.axis(1))
    require(place.numbers(1).stride == 0)
    if x is not None and x >= batch + depth:
        return place.first - (batch + depth) + listed
    require(at is not None and x == (at if at < batch else None))
    return place.axis(1)


def _scattered(place: Place) -> Rows:
    """To the place of the row along the axis of the rows, and anywhere along others."""
    axes = {axis for axis in place.axes[1:] if axis is not None}
    outer, inner = replace(place, rows=place.rows[1:]).shared
    require(len(axes) == 1 and inner is not None and outer is not None)
    for i, axis in enumerate(range(place.type(0).rank), 2):
        if axis == place.axes[0]:
            place.require_own_row(0, i)
        else:
            require(place.numbers(i).stride == 0)
    return Rows(place.axis(0), place.rows[0].outer, place.rows[0].inner)


def _one_place(place: Place) -> int:
    """One place along another axis, which goes away."""
    along, axis = normal_axis(place.op.axis, place.type(0).rank), place.first
    require(along != axis)
    return axis - (along < axis)


def _turned(place: Place) -> int:
    require(place.first != 0)
    return place.first


def _counted(place: Place) -> Rows:
    """Counting through all rows, each of which has as many numbers."""
    return Rows(0, 1, place.times(place.results[0].shape[0]))


def _picked(place: Place) -> int:
    """Numbers of a row for that row."""
    axis = place.axis(0)
    require(place.axes[1] == axis)
    require(normal_axis(place.op.axis, place.type(0).rank) != axis)
    return axis


def _put_slices(place: Place) -> Rows:
    """Slices that hold some of each row, to places that are the same for all rows."""
    depth, listed = place.type(1).shape[-1], place.type(1).rank - 1
    assert isinstance(depth, int)
    axis = place.axis(0)
    require(place.numbers(1).stride == 0)
    require(axis >= depth and place.axes[2] in (None, axis - depth + listed))
    return Rows(axis, *place.shared)


def _put(place: Place) -> int | Rows:
    """Numbers of a row into that row: at the same places of each, or at those of the own row."""
    if isinstance(place.op, ScatterND) and place.axes[1] is None:
        return _put_slices(place)
    axis = place.axis(0)
    require(all(other == axis for other in place.axes[:3]))
    if isinstance(place.op, ScatterND):
        # Slices, one number for each.
        require(axis == 0 and place.type(1).shape[-1] == 1)
    elif normal_axis(place.op.axis, place.type(0).rank) != axis:
        require(place.numbers(1).stride == 0)
        return axis
    table, indices, updates = place.rows[:3]
    inner = place.times(place.type(0).shape[axis]) if table.inner is None else table.inner
    owned = replace(table, inner=inner)
    require(table.outer == indices.outer == updates.outer == 1)
    require(updates.inner in (indices.inner, None) and indices.inner is not None)
    replace(place, rows=[owned, *place.rows[1:]]).require_own_row(0, 1)
    return Rows(axis, 1, inner)


def _recurrent(place: Place) -> list[int]:
    """Sequences side by side, which are the second axis unless ``layout`` is 1."""
    first = bool(place.op.layout)
    wanted = (0 if first else 1, None, None, None, 0, *([0 if first else 1] * 2), None)
    require(place.axes[0] is not None)
    require(all(a in (None, w) for a, w in zip(place.axes, wanted, strict=False)))
    return [0, 0, 0] if first else [2, 1, 1]


def _attended(place: Place) -> int:
    """Batches or heads, which attention does not mix."""
    orders = place.op.orders
    letters = {
        order[axis] if axis is not None else ""
        for order, axis in zip(orders[1:], place.axes[:3], strict=True)
    }
    letter = letters.pop()
    require(not letters and letter in ("b", "h"))
    if len(place.axes) > 3 and place.axes[3] is not None:
        require("bhrk"[4 - place.behind(3)] == letter)
    return int(orders[0].index(letter))


_Rule: TypeAlias = Callable[[Place], "int | Sequence[int] | Rows"]
_RULES: dict[type[Operator], _Rule] = {
    **dict.fromkeys((elementwise.Elementwise, Cast), _broadcast),
    Expand: _repeated,
    Tile: _tiled,
    # Its parameters lie along the second axis.
    normalization.BatchNormalization: _parameters,
    **dict.fromkeys((linear.Dense, linear.DenseLayers), _before_last),
    linear.MatMul: _matrices,
    **dict.fromkeys((QuantizeLinear, DequantizeLinear), _rounded),
    **dict.fromkeys((IntegerDense, MatMulInteger, QLinearMatMul), _rounded_matrices),
    **dict.fromkeys((convolution.ConvInteger, convolution.QLinearConv), _parameters),
    linear.Gemm: _gemm,
    trees.Trees: _parameters,
    **dict.fromkeys((convolution.Conv, convolution.ConvLayer), _outermost),
    **dict.fromkeys((ConvTranspose, ConvTransposeLayer), _outermost),
    **dict.fromkeys((pooling.AveragePool, pooling.LpPool), _outermost),
    pooling.MaxPool: _without_places,
    SmallConv: _parameters,
    **dict.fromkeys((pooling.GlobalAveragePool, pooling.GlobalMaxPool), _outermost),
    **dict.fromkeys((pooling.GlobalLpPool, pooling.LRN), _outermost),
    **dict.fromkeys(
        (normalization.GroupNormalization, normalization.GroupwiseNormalization), _parameters
    ),
    normalization.InstanceNormalization: _parameters,
    normalization.MeanVarianceNormalization: _standardized,
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
    GatherND: _gathered_slices,
    ScatterElements: _put,
    ScatterND: _put,
    ReverseSequence: _reversed,
    ScanSlice: _one_place,
    Reversed: _turned,
    Provided: _parameters,
    ScatterAt: _scattered,
    KnownRange: _counted,
    Recurrent: _recurrent,
    RandomOperator: _drawn,
    SoftmaxAttention: _attended,
}
