"""Rows of slices, borders, and of operators whose indices are data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.indexing import (
    CenterCropPad,
    Gather,
    GatherElements,
    GatherND,
    Pad,
    RuntimeCenterCropPad,
    RuntimePad,
    RuntimeSlice,
    RuntimeSliceAlong,
    ScatterElements,
    ScatterND,
    Slice,
    TensorScatter,
)
from sofie_rdf.ops.reversal import ReverseSequence
from tests.ops.cases import Case, Fill, M, N, Random, Row, anything, layout, small
from tests.ops.rows.layout import exactly, listed

INT32, INT64 = DType.INT32, DType.INT64
END, FAR = 2**31 - 1, 2**63 - 1


# Slices -------------------------------------------------------------------------------------------

_SLICE = layout(
    (Slice((0, 1), (END, -1)), ((N, 7),)),
    (Slice((-1,), (-FAR,), (1,), (-1,)), ((N, 5, 3),)),
    (Slice((3, -2), (0, FAR), (-1, 1), (-2, 1)), ((N, 4, 6),)),
    (Slice((1,), (-1,), (0,)), ((N, 3),)),
    (Slice((-3,), (END,), (0,)), ((N, 3),)),
    (Slice((-1,), (-END,), (0,), (-1,)), ((N, 2),)),
    (Slice((2,), (FAR,), (0,), (3,)), ((N,),)),
    (Slice((100,), (-100,), (1,), (-3,)), ((2, N),)),
    (Slice((0,), (N - 1,), (0,)), ((N, 2),)),
    (Slice((N - 2,), (N,), (0,)), ((N, 2),)),
    (Slice((M,), (N,), (0,)), ((N, M),)),
    (Slice((-M,), (-1,), (1,)), ((N, M),)),
    (Slice((5,), (1,), (1,)), ((N, 7),)),
    (Slice((), ()), ((N, 7),)),
    (Slice((0,), (0,)), ((3, 2),)),
)


def _runtime_slice(dtype: DType, full: bool) -> Iterator[Case]:
    cases: tuple[tuple[Operator, Shape, tuple[tuple[int, ...] | None, ...]], ...] = (
        (RuntimeSlice(), (N, 7), ((1,), (-1,), (1,), (2,))),
        (RuntimeSlice(), (N, 4, 6), ((3, -2), (-FAR, FAR), (-2, 2), (-2, 1))),
        (RuntimeSlice(), (N, 4), ((0, 1), (FAR, 3))),
        (RuntimeSlice(), (N, 4), ((2,), (FAR,), None, (3,))),
        (RuntimeSlice(), (4, N), ((-1,), (-FAR,), (0,), (-FAR - 1,))),
        (RuntimeSlice(), (N,), ((), (), ())),
    )
    for number in (INT64, INT32) if full else (INT64,):
        for op, shape, lists in cases if full else cases[:2]:
            if number is INT32 and "9223" in str(lists):
                continue
            types = [None if v is None else TensorType(number, (len(v),)) for v in lists]
            fills = [exactly(*(v or ())) for v in lists]
            yield Case(op, (TensorType(dtype, shape), *types), (anything, *fills))


def _slice_along(dtype: DType, full: bool) -> Iterator[Case]:
    cases = (
        (RuntimeSliceAlong((1,), (-1,)), (N, 7), (-1,), (-FAR,)),
        (RuntimeSliceAlong(), (N, 4, 6), (0, 1), (FAR, -1)),
        (RuntimeSliceAlong((-1,)), (N, 4), (2,), (1,)),
    )
    for op, shape, starts, ends in cases if full else cases[:2]:
        ranges = (TensorType(INT64, (len(starts),)),) * 2
        fills = (anything, exactly(*starts), exactly(*ends))
        yield Case(op, (TensorType(dtype, shape), *ranges), fills)


# Borders ------------------------------------------------------------------------------------------

_PADS: tuple[tuple[Pad, Shape], ...] = (
    (Pad((0, 1, 0, 2)), (N, 3)),
    (Pad((2, 1), "reflect", (1,)), (N, 5)),
    (Pad((1, 2, 3, 0), "edge", (1, -1)), (N, 4, 3)),
    (Pad((3, 4), "wrap", (-1,)), (N, 3)),
    (Pad((9, 7), "reflect", (-2,)), (N, 3, 2)),
    (Pad((0, -1, 2, 0, 3, -2)), (N, 4, 6)),
    (Pad((-1, 2), "edge", (1,)), (N, 4)),
    (Pad((-2, 5), "wrap", (1,)), (N, 4)),
    (Pad((2, 3), "reflect", (1,)), (N, 1)),
    (Pad((1, 1), axes=(0,)), (N, 3)),
    (Pad((N, 0)), (N,)),
    (Pad((1, 1, 0, 1)), (0, 3)),
    (Pad((-3, 0), axes=(1,)), (N, 3)),
    (Pad(()), ()),
    (Pad((0, 0)), (N,)),
    (Pad((0, 0, 1, 1, 0, 0, 2, 1)), (N, 2, 3, 4)),
    # Borders of rows in registers: rows shorter and longer than a pack, than two, than four.
    *(
        (Pad((1, 2, 2, 3), mode, (-2, -1)), (N, 4, size))
        for size in (9, 13, 25, 50, 133)
        for mode in ("constant", "reflect", "edge", "wrap")
    ),
    (Pad((1, 16, 1, 16), "reflect", (1, 2)), (N, 3, 40)),
    (Pad((15, 15), "reflect", (-1,)), (N, 40)),
    (Pad((20, 1), "wrap", (-1,)), (N, 40)),
    (Pad((1, 40), "edge", (-1,)), (N, 40)),
    (Pad((50, 61), "reflect", (-1,)), (N, 7)),
    (Pad((3, 2), "reflect", (-2,)), (N, 21, 3)),
    (Pad((1, 1, 1, 1), "edge", (0, 2)), (3, M, 17, 4)),
    (Pad((300, 1), "constant", (1,)), (N, 5)),
)


def _pad(dtype: DType, full: bool) -> Iterator[Case]:
    for op, shape in _PADS if full else _PADS[:3]:
        yield Case(op, (TensorType(dtype, shape),))
        if op.mode == "constant":
            for value in ((), (1,)):
                yield Case(op, (TensorType(dtype, shape), TensorType(dtype, value)))


def _runtime_pad(dtype: DType, full: bool) -> Iterator[Case]:
    value = TensorType(dtype, ())
    cases: tuple[tuple[str, Shape, tuple[int, ...], TensorType | None, tuple[int, ...] | None], ...]
    cases = (
        ("constant", (N, 3), (0, 1, 1, 2), value, None),
        ("reflect", (N, 5), (2, 1), None, (-1,)),
        ("edge", (N, 4, 3), (1, 2, -1, 0), None, (1, 2)),
        ("constant", (N, 3), (0, -1, 0, 2), None, None),
        ("wrap", (N, 3), (4, 4), None, (1,)),
        ("constant", (), (), value, None),
    )
    for mode, shape, pads, fill, axes in cases if full else cases[:2]:
        given = [TensorType(dtype, shape), TensorType(INT64, (len(pads),)), fill]
        given += [] if axes is None else [TensorType(INT64, (len(axes),))]
        fills = (anything, exactly(*pads), anything, exactly(*(axes or ())))
        yield Case(RuntimePad(mode), tuple(given), fills)


_CENTER = layout(
    (CenterCropPad((3, 8), (1, 2)), ((N, 6, 5),)),
    (CenterCropPad((8, 3), (-1, -2)), ((N, 4, 5),)),
    (CenterCropPad((N, 5)), ((N, 5),)),
    (CenterCropPad((7,), (0,)), ((N, 2),)),
    (CenterCropPad((M,), (0,)), ((N, M),)),
    (CenterCropPad((0,)), ((3,),)),
)


# Indices ------------------------------------------------------------------------------------------


def within(size: int) -> Fill:
    """Indices of so many elements, from the front and from the end."""

    def fill(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
        return np.asarray(random.integers(-size, size, shape), dtype.numpy)

    return fill


def different(size: int, axis: int) -> Fill:
    """Such indices, no two of which are the same along an axis."""

    def fill(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
        longer = list(shape)
        longer[axis] = size
        order = np.argsort(random.random(longer), axis=axis)
        chosen = np.take(order, range(shape[axis]), axis)
        return np.where(random.random(shape) < 0.5, chosen, chosen - size).astype(dtype.numpy)

    return fill


Indexed = tuple[Operator, Shape, Shape, Fill]


def indexed(*cases: Indexed, index_types: tuple[DType, ...] = (INT64, INT32)) -> Row:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        for index in index_types if full else index_types[:1]:
            for op, x, indices, fill in cases if full else cases[:3]:
                types = TensorType(dtype, x), TensorType(index, indices)
                yield Case(op, types, (anything, fill))

    return Row(make)


_GATHER = indexed(
    (Gather(), (7, 3), (N, 2), within(7)),
    (Gather(1), (N, 4, 5), (3,), within(4)),
    (Gather(-1), (N, 6), (), within(6)),
    (Gather(1), (N, 4), (6,), within(4)),
    (Gather(2), (2, N, 5), (2, 4), within(5)),
    (Gather(), (5,), (N, M), within(5)),
    (Gather(1), (N, 3, 17), (2, 0), within(3)),
    (Gather(), (9, 4), (N,), within(9)),
    (Gather(), (3, 0), (N,), within(3)),
)
_GATHER_ELEMENTS = indexed(
    (GatherElements(1), (N, 5), (N, 7), within(5)),
    (GatherElements(-2), (N, 4, 3), (N, 2, 3), within(4)),
    (GatherElements(), (6,), (N,), within(6)),
    (GatherElements(2), (4, N, 5), (3, N, 6), within(5)),
    (GatherElements(1), (3, 4, 5), (2, 9, 4), within(4)),
    (GatherElements(1), (N, 5), (N, 0), within(5)),
    (GatherElements(1), (N, 4, 3, 5), (N, 9, 3, 5), within(4)),
    (GatherElements(0), (7, 9), (4, 9), within(7)),
    (GatherElements(1), (N, 3, 8), (N, 2, 8), within(3)),
    (GatherElements(2), (5, 6, 40), (3, 6, 37), within(40)),
    (GatherElements(), (1,), (1,), within(1)),
)
_GATHER_ND = indexed(
    (GatherND(), (4, 5), (N, 2), within(4)),
    (GatherND(1), (N, 4, 3), (N, 2, 1), within(4)),
    (GatherND(), (3, 2, N), (M, 1), within(3)),
    (GatherND(2), (N, 3, 5, 2), (N, 3, 4, 1), within(5)),
    (GatherND(1), (N, 3, 4), (N, 2), within(3)),
    (GatherND(), (4, 3), (N, 0), within(1)),
    (GatherND(), (2, 3, 4), (3,), within(2)),
    index_types=(INT64,),
)


# Scattered ----------------------------------------------------------------------------------------


def _scatter_elements(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: tuple[tuple[int, Shape, Shape, int], ...] = (
        (1, (N, 6), (N, 4), 6),
        (-2, (N, 5, 3), (N, 4, 2), 5),
        (0, (7,), (5,), 7),
        (1, (N, 3), (N, 0), 3),
        (2, (2, N, 5), (1, N, 5), 5),
    )
    for index in (INT64, INT32) if full else (INT64,):
        for axis, x, places, size in shapes if full else shapes[:2]:
            types = TensorType(dtype, x), TensorType(index, places), TensorType(dtype, places)
            fills = (anything, different(size, axis), anything)
            yield Case(ScatterElements(axis), types, fills)
    for reduction in ("add", "mul", "max", "min"):
        for axis, x, places, size in shapes if full else shapes[:1]:
            types = TensorType(dtype, x), TensorType(INT64, places), TensorType(dtype, places)
            yield Case(ScatterElements(axis, reduction), types, _reduced(reduction, within(size)))


def _reduced(reduction: str, indices: Fill) -> tuple[Fill, ...]:
    """Numbers whose products and sums are exact, and any for what only compares."""
    values = small if reduction in ("add", "mul") else anything
    return values, indices, values


def _scatter_nd(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: tuple[tuple[Shape, Shape, Shape, Fill], ...] = (
        ((6, N), (4, 1), (4, N), different(6, 0)),
        ((5, 5), (N, 2), (N,), within(5)),
        ((5, 2, 3), (2, 2, 1), (2, 2, 2, 3), within(5)),
        ((N, 3), (0, 2), (0,), within(1)),
        ((3,), (2, 0), (2, 3), within(1)),
    )
    for number, (x, places, updates, fill) in enumerate(shapes if full else shapes[:1]):
        types = TensorType(dtype, x), TensorType(INT64, places), TensorType(dtype, updates)
        if number == 0:
            yield Case(ScatterND(), types, (anything, fill, anything))
        for reduction in ("add", "mul", "max", "min"):
            yield Case(ScatterND(reduction), types, _reduced(reduction, fill))


def _magnitude(op: Any, x: Array, indices: Array, updates: Array) -> Array:
    """What is summed, without signs; a product is its own magnitude."""
    if op.reduction not in ("add", "mul"):
        return np.zeros(x.shape)
    return np.asarray(op.reference(np.abs(x), indices, np.abs(updates)))


def _tensor_scatter(dtype: DType, full: bool) -> Iterator[Case]:
    cases: tuple[tuple[TensorScatter, Shape, Shape, Callable[..., Any] | None], ...] = (
        (TensorScatter(), (N, 2, 8, 3), (N, 2, 5, 3), _starts(4)),
        (TensorScatter(1, "circular"), (N, 8, 3), (N, 5, 3), _starts(30)),
        (TensorScatter(), (N, 4, 3), (N, 4, 3), None),
        (TensorScatter(-1, "circular"), (N, 7), (N, 7), _starts(7)),
        (TensorScatter(1), (N, 4, 3), (N, 0, 3), _starts(4)),
    )
    for op, cache, update, fill in cases if full else cases[:2]:
        types = TensorType(dtype, cache), TensorType(dtype, update)
        indices = () if fill is None else (TensorType(INT64, (N,)),)
        yield Case(op, (*types, *indices), (anything, anything, fill or anything))


def _starts(size: int) -> Fill:
    def fill(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
        return np.asarray(random.integers(0, size, shape), dtype.numpy)

    return fill


def _reverse_sequence(dtype: DType, full: bool) -> Iterator[Case]:
    cases: tuple[tuple[ReverseSequence, Shape], ...] = (
        (ReverseSequence(0, 1), (N, 5)),
        (ReverseSequence(), (4, N, 3)),
        (ReverseSequence(0, 1), (N, 6, 2, 3)),
        (ReverseSequence(), (4, 1)),
        (ReverseSequence(0, 1), (N, 3, 0)),
    )
    for op, shape in cases if full else cases[:2]:
        batch, times = shape[op.batch_axis], shape[op.time_axis]
        assert isinstance(times, int)
        types = TensorType(dtype, shape), TensorType(INT64, (batch,))
        yield Case(op, types, (anything, _starts(times + 1)))


ROWS: dict[tuple[str, str], Row] = {
    ("", "Slice"): _SLICE,
    ("sofie", "RuntimeSlice"): Row(_runtime_slice),
    ("sofie", "RuntimeSliceAlong"): Row(_slice_along),
    ("", "Pad"): Row(_pad),
    ("sofie", "RuntimePad"): Row(_runtime_pad),
    ("", "CenterCropPad"): _CENTER,
    ("sofie", "RuntimeCenterCropPad"): listed(
        (RuntimeCenterCropPad((1, 2)), (N, 6, 5), (3, 8)),
        (RuntimeCenterCropPad(), (N, 3), (4, 2)),
        (RuntimeCenterCropPad((-1,)), (N, 3), (0,)),
        number=INT32,
    ),
    ("", "Gather"): _GATHER,
    ("", "GatherElements"): _GATHER_ELEMENTS,
    ("", "GatherND"): _GATHER_ND,
    # Which of 0 and -0 is the larger one, nobody says.
    ("", "ScatterElements"): Row(_scatter_elements, _magnitude, signed_zeros=False),
    ("", "ScatterND"): Row(_scatter_nd, _magnitude, signed_zeros=False),
    ("", "TensorScatter"): Row(_tensor_scatter),
    ("", "ReverseSequence"): Row(_reverse_sequence),
}
