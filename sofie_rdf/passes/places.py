"""Where the rows of a batch are in a value, and of indices into the batch, which row they are in.

Edge convolutions take neighbours from a table of the points of all events, by indices that are the
number of the event times the number of points, plus a neighbour among the points of that event::

    index = row * stride + own,  0 <= own <= most

If an event has ``stride`` points there and ``most`` is less, nothing is taken from another event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sofie_rdf.ir.dims import Dim, Size, largest, never_negative, symbol, symbols_of
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType, TensorType, normal_axis
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.creation import KnownRange
from sofie_rdf.ops.elementwise import Add, Mod, Mul, Sub
from sofie_rdf.ops.indexing import Gather, GatherND, ScatterElements, ScatterND, Slice
from sofie_rdf.ops.layout import (
    Concat,
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
from sofie_rdf.ops.scatter import ScatterAt
from sofie_rdf.ops.selection import ArgMax, ArgMin, TopK

__all__ = ["SHARED", "Numbers", "Place", "Rows", "Unproved", "numbers_of", "require"]


class Unproved(Exception):
    """Rows may meet here."""


def require(holds: bool) -> None:
    if not holds:
        raise Unproved


@dataclass(frozen=True, slots=True)
class Numbers:
    """Elements are ``row * stride`` and what a row has of its own, which is 0 to ``most``."""

    stride: Dim = 0
    most: Dim | None = None  # None: that is not known.


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows of a value are, if it has any; what is in one depends on nothing in another.

    ``axis`` is as long as ``outer`` times the batch times ``inner``, in that order. An inner of
    None is any: all along the axis are the same. An axis of None: rows have nothing to do with
    the value, but ``counts`` says that their number may be in it.
    """

    axis: int | None = None
    outer: Dim = 1
    inner: Dim | None = 1
    numbers: Numbers = Numbers()
    counts: bool = False


SHARED = Rows()


@dataclass(frozen=True)
class Place:
    """A node as a rule sees it: types, and where the rows of each input are."""

    op: Any
    batch: str
    types: Sequence[TensorType | None]
    rows: Sequence[Rows]
    elements: Sequence[Array | None]  # As far as they are known.
    results: Sequence[TensorType]

    @property
    def axes(self) -> tuple[int | None, ...]:
        """The axis of the rows of each input."""
        return tuple(r.axis for r in self.rows)

    @property
    def first(self) -> int:
        """The axis of the first input, where that is the only one with rows."""
        require(all(a is None for a in self.axes[1:]))
        return self.axis(0)

    def axis(self, i: int) -> int:
        """The axis of the rows of an input that must have them."""
        found = self.rows[i].axis
        require(found is not None)
        assert found is not None
        return found

    def type(self, i: int) -> TensorType:
        found = self.types[i]
        assert found is not None
        return found

    def behind(self, i: int) -> int:
        """The axis of the rows of an input, counted from the last one, which is 1."""
        return self.type(i).rank - self.axis(i)

    @property
    def shared(self) -> tuple[Dim, Dim | None]:
        """Outer and inner of the rows, which must be the same in all inputs that have them."""
        found = {(r.outer, r.inner) for r in self.rows if r.axis is not None}
        found = {each for each in found if each[1] is not None} or found
        require(len(found) == 1)
        return found.pop()

    def wanted(self, result: int = 0) -> int | None:
        """The axis of a result in whose size the batch is; None where it is in none."""
        shape = self.results[result].shape
        found = [i for i, dim in enumerate(shape) if self.batch in symbols_of(dim)]
        require(len(found) <= 1)
        return found[0] if found else None

    def times(self, dim: Dim) -> Dim:
        """How many times the batch this size is, which it must be whatever the batch is."""
        batch = symbol(self.batch)
        count = dim // batch
        require(self.batch not in symbols_of(count) and count * batch == dim)
        return count

    def numbers(self, i: int) -> Numbers:
        """What is known of the elements of an input."""
        array = self.elements[i]
        if array is None or array.dtype.kind not in "iu" or not array.size or array.min() < 0:
            return self.rows[i].numbers
        return Numbers(most=int(array.max()))

    def number(self, i: int) -> Dim | None:
        """The one number that all elements of an input are; None where that is not known."""
        array = self.elements[i]
        if array is None or not array.size or array.dtype.kind not in "iuO":
            return None
        first = array.ravel()[:1].tolist()[0]
        same = bool((array == first).all())
        return (first if isinstance(first, Size) else int(first)) if same else None

    def require_own_row(self, table: int, indices: int) -> None:
        """What these indices take along the rows of a table is of the row in which they are."""
        where, at = self.rows[table], self.numbers(indices)
        require(where.inner is not None and at.most is not None)
        assert where.inner is not None and at.most is not None
        require(at.stride == where.inner != 0 and never_negative(where.inner - 1 - at.most))


# What the elements of results are -----------------------------------------------------------------


def numbers_of(place: Place) -> list[Numbers]:
    """What is known of the elements of each result.

    What depends on the number of a row is another number in a piece of the batch: it may only
    become an index. So it goes through no operator that is not known here.
    """
    rule = next((_NUMBERS[cls] for cls in type(place.op).__mro__ if cls in _NUMBERS), _numbers)
    found = list(rule(place))
    for i, type_ in enumerate(place.results):
        if type_.dtype not in (DType.INT32, DType.INT64):
            require(found[i].stride == 0)
            found[i] = Numbers()
    return found


def _own(place: Place, inputs: Iterable[int]) -> None:
    """Unproved if elements of these inputs depend on the number of their row."""
    require(all(place.numbers(i).stride == 0 for i in inputs))


def _numbers(place: Place) -> list[Numbers]:
    """Any numbers, of any numbers."""
    _own(place, range(len(place.rows)))
    return [Numbers()] * len(place.results)


def _positions(place: Place) -> list[Numbers]:
    """Those of elements along an axis, of which TopK gives the elements, too."""
    shape = place.type(0).shape
    found = Numbers(most=shape[normal_axis(place.op.axis, len(shape))] - 1)
    values = _numbers(place)
    return [values[0], found][: len(values)] if isinstance(place.op, TopK) else [found]


def _copied(place: Place) -> list[Numbers]:
    """Elements of any input."""
    found = [place.numbers(i) for i in range(len(place.rows))]
    require(len({n.stride for n in found}) == 1)
    bounds = [n.most for n in found if n.most is not None]
    most = largest(bounds) if len(bounds) == len(found) else None
    return [Numbers(found[0].stride, most)] * len(place.results)


def _taken(place: Place) -> list[Numbers]:
    """Elements of the first input, which are of the row of the result that has them."""
    _own(place, (0,))
    return [place.numbers(0)]


def _written(place: Place) -> list[Numbers]:
    """Elements of the first two inputs."""
    _own(place, (0, 1))
    return [Numbers()]


def _added(place: Place) -> list[Numbers]:
    """Elements of the first input and of the last one, at places that the rule of rows looks at."""
    _own(place, (0, 2))
    return [Numbers()]


def _counted(place: Place) -> list[Numbers]:
    """start + i * delta, where a row has as many i as there are for each number of the batch."""
    op: KnownRange = place.op
    (size,) = place.results[0].shape
    if isinstance(op.start, float) or isinstance(op.delta, float):
        return [Numbers()]
    require(place.batch not in symbols_of(op.start))
    rising = never_negative(op.start) and op.delta > 0
    stride: Dim = 0
    if place.batch in symbols_of(size):
        size = place.times(size)
        stride = op.delta * size
    return [Numbers(stride, op.start + op.delta * (size - 1) if rising else None)]


def _sum(place: Place) -> list[Numbers]:
    a, b = place.numbers(0), place.numbers(1)
    most = None if a.most is None or b.most is None else a.most + b.most
    return [Numbers(a.stride + b.stride, most)]


def _difference(place: Place) -> list[Numbers]:
    return [Numbers(place.numbers(0).stride - place.numbers(1).stride)]


def _multiple(place: Place) -> list[Numbers]:
    for i, other in ((0, 1), (1, 0)):
        number, times = place.numbers(i), place.number(other)
        if times is not None and place.batch not in symbols_of(times):
            known = number.most if never_negative(times) else None
            return [Numbers(number.stride * times, None if known is None else known * times)]
    return _numbers(place)


def _remainder(place: Place) -> list[Numbers]:
    divisor = place.number(1)
    if place.op.fmod or divisor is None or divisor == 0 or not never_negative(divisor):
        return _numbers(place)
    require(place.batch not in symbols_of(divisor))
    require(place.numbers(0).stride % divisor == 0)
    return [Numbers(most=divisor - 1)]


_Rule: TypeAlias = Callable[[Place], Sequence[Numbers]]
_NUMBERS: dict[type[Operator], _Rule] = {
    **dict.fromkeys((Identity, Reshape, Flatten, Squeeze, Unsqueeze), _copied),
    **dict.fromkeys((Transpose, Slice, Split, Expand, Tile, Concat, Cast), _copied),
    **dict.fromkeys((Gather, GatherND), _taken),
    **dict.fromkeys((TopK, ArgMax, ArgMin), _positions),
    ScatterAt: _written,
    ScatterElements: _added,
    ScatterND: _added,
    KnownRange: _counted,
    Add: _sum,
    Sub: _difference,
    Mul: _multiple,
    Mod: _remainder,
}
