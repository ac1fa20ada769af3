"""What rules for the way back are written with: values of a growing graph, with arithmetic.

An operator's `pullback` gets a `Backward` and gives what each of its inputs adds to the derivative.
Both are made of `Value`, with Python's signs: ``back.g * (1 - back.y * back.y)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Node, Origin
from sofie_rdf.ir.operator import Operator, lookup
from sofie_rdf.ir.types import Array, DType, Shape, TensorType, broadcast, normal_axis

__all__ = ["Backward", "Tape", "Value"]

Number: TypeAlias = "int | float"
Walk: TypeAlias = Callable[
    [Sequence[Node], Mapping[str, "Value"], Sequence[str]], "list[Value | None]"
]


class Tape:
    """The graph that grows, and whose node it grows for."""

    def __init__(self, build: Builder, walked: Walk, inside: Callable[[str], Tape]) -> None:
        self.build = build
        # Derivatives through some nodes of it.
        self.walked = walked
        # What a graph in an attribute grows with, which has this name and is empty.
        self.inside = inside
        self.origin = Origin()
        self._numbers: dict[tuple[str, DType], str] = {}

    def value(self, name: str) -> Value:
        """A value of the graph."""
        return Value(self, name)

    def number(self, number: Number, dtype: DType) -> Value:
        """A number as a tensor without axes."""
        key = repr(float(number)) if dtype.is_float else repr(int(number)), dtype
        if key not in self._numbers:
            array = np.array(number).astype(dtype.numpy)
            self._numbers[key] = self.build.constant(array, self.build.fresh("number"))
        return Value(self, self._numbers[key])

    def size(self, dim: Dim, dtype: DType) -> Value:
        """A size as a number, with one axis where it is named."""
        if isinstance(dim, int):
            return self.number(dim, dtype)
        op = lookup("sofie", "KnownRange")(start=dim, limit=dim + 1, delta=1, dtype=DType.INT64)
        number = Value(self, self.build(op, origin=self.origin))
        return number if dtype is DType.INT64 else number.apply("Cast", to=dtype)

    def constant(self, array: Array) -> Value:
        """An array that is known."""
        return Value(self, self.build.constant(array))

    def filled(self, number: Number, type_: TensorType) -> Value:
        """One number in a shape."""
        one = self.number(number, type_.dtype)
        value = one.apply("Expand", shape=type_.shape) if type_.rank else one
        return Value(self, value.name, float(number))


@dataclass(frozen=True, eq=False)
class Value:
    """A value of the graph; ``uniform`` is the number that all its elements are, if that is so."""

    tape: Tape = field(repr=False)
    name: str
    uniform: float | None = None

    @property
    def type(self) -> TensorType:
        return self.tape.build.type_of(self.name)

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def rank(self) -> int:
        return self.type.rank

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def known(self) -> Array | None:
        """Its elements, where it is a constant."""
        return self.tape.build.constants.get(self.name)

    def apply(self, name: str, *others: Value | None, domain: str = "", **fields: object) -> Value:
        """What the operator of this name gives for this value and others."""
        return self.through(lookup(domain, name)(**fields), *others)

    def through(self, op: Operator, *others: Value | None) -> Value:
        """What an operator gives for this value and others; the first of its outputs."""
        return self.outputs(op, *others)[0]

    def outputs(self, op: Operator, *others: Value | None) -> tuple[Value, ...]:
        """All outputs of an operator for this value and others."""
        tape = self.tape
        names = [self.name, *("" if o is None else o.name for o in others)]
        while not names[-1]:
            names.pop()
        tape.build(op, *names, origin=tape.origin)
        return tuple(Value(tape, name) for name in tape.build.nodes[-1].outputs)

    def through_as(self, name: str) -> None:
        """The same value under another name."""
        self.tape.build(lookup("", "Identity")(), self.name, outputs=(name,))

    def _with(self, other: Value | Number) -> Value:
        return other if isinstance(other, Value) else self.tape.number(other, self.dtype)

    # Arithmetic ---------------------------------------------------------------------------------

    def __add__(self, other: Value | Number) -> Value:
        return self.apply("Add", self._with(other))

    def __radd__(self, other: Number) -> Value:
        return self._with(other) + self

    def __sub__(self, other: Value | Number) -> Value:
        return self.apply("Sub", self._with(other))

    def __rsub__(self, other: Number) -> Value:
        return self._with(other) - self

    def __mul__(self, other: Value | Number) -> Value:
        other = self._with(other)
        for one, rest in ((self, other), (other, self)):
            # 1 * x is x, bit for bit.
            if one.uniform == 1 and rest.shape == broadcast((self.shape, other.shape)):
                return rest
        return self.apply("Mul", other)

    def __rmul__(self, other: Number) -> Value:
        return self._with(other) * self

    def __truediv__(self, other: Value | Number) -> Value:
        return self.apply("Div", self._with(other))

    def __rtruediv__(self, other: Number) -> Value:
        return self._with(other) / self

    def __neg__(self) -> Value:
        return self.apply("Neg")

    def __lt__(self, other: Value | Number) -> Value:
        return self.apply("Less", self._with(other))

    def __le__(self, other: Value | Number) -> Value:
        return self.apply("LessOrEqual", self._with(other))

    def __gt__(self, other: Value | Number) -> Value:
        return self.apply("Greater", self._with(other))

    def __ge__(self, other: Value | Number) -> Value:
        return self.apply("GreaterOrEqual", self._with(other))

    def equals(self, other: Value | Number) -> Value:
        """Where both are equal."""
        return self.apply("Equal", self._with(other))

    def __and__(self, other: Value) -> Value:
        return self.apply("And", other)

    def __or__(self, other: Value) -> Value:
        return self.apply("Or", other)

    def __invert__(self) -> Value:
        return self.apply("Not")

    def choose(self, yes: Value | Number, no: Value | Number) -> Value:
        """``yes`` where this holds, ``no`` elsewhere; one of them is a value."""
        if isinstance(yes, Value):
            return self.apply("Where", yes, yes._with(no))
        assert isinstance(no, Value)
        return self.apply("Where", no._with(yes), no)

    def minimum(self, other: Number) -> Value:
        return self.apply("Min", self._with(other))

    def cast(self, dtype: DType) -> Value:
        """The same numbers as elements of this type."""
        return self if self.dtype is dtype else self.apply("Cast", to=dtype)

    # Shapes -------------------------------------------------------------------------------------

    def reshape(self, shape: Shape) -> Value:
        """The same elements in another shape."""
        if self.shape == tuple(shape):
            return self
        return Value(
            self.tape,
            self.apply("Reshape", shape=tuple(shape), allowzero=True).name,
            self.uniform,
        )

    def expand(self, shape: Shape) -> Value:
        """Repeated along axes of size 1."""
        if self.shape == tuple(shape):
            return self
        return Value(self.tape, self.apply("Expand", shape=tuple(shape)).name, self.uniform)

    def transpose(self, perm: Sequence[int]) -> Value:
        """The axes in another order."""
        if list(perm) == list(range(self.rank)):
            return self
        return self.apply("Transpose", perm=tuple(perm))

    @property
    def turned(self) -> Value:
        """The last two axes exchanged."""
        rank = self.rank
        return self.transpose((*range(rank - 2), rank - 1, rank - 2))

    def sum(self, axes: Sequence[int], *, keep: bool = True) -> Value:
        """The sum over axes."""
        if not axes:
            return self
        return self.apply("ReduceSum", axes=tuple(axes), keepdims=keep)

    def mean(self, axes: Sequence[int]) -> Value:
        """The mean over axes, which are kept."""
        return self.apply("ReduceMean", axes=tuple(axes)) if axes else self

    def slice(self, axis: int, start: Dim, end: Dim, step: int = 1) -> Value:
        """A part of one axis."""
        return self.apply("Slice", starts=(start,), ends=(end,), axes=(axis,), steps=(step,))

    def pad(self, widths: Sequence[tuple[Dim, Dim]]) -> Value:
        """With zeros around; negative widths cut off."""
        if all(w == (0, 0) for w in widths):
            return self
        return self.apply("Pad", pads=(*(w[0] for w in widths), *(w[1] for w in widths)))

    def matmul(self, other: Value) -> Value:
        return self.apply("MatMul", other)

    def concat(self, others: Sequence[Value], axis: int) -> Value:
        """The value and others, one after the other."""
        return self.apply("Concat", *others, axis=axis) if others else self

    def like(self, number: Number = 0) -> Value:
        """One number in the shape of this."""
        return self.tape.filled(number, self.type)

    def summed_to(self, shape: Shape) -> Value:
        """The sum over all axes along which something of this shape was repeated."""
        wide = self.shape
        own = (1,) * (len(wide) - len(shape)) + tuple(shape)
        axes = [a for a, (p, q) in enumerate(zip(own, wide, strict=True)) if p == 1 != q]
        return self.sum(axes).reshape(shape)


@dataclass(frozen=True, eq=False)
class Backward:
    """One node on the way back.

    ``slopes`` are the derivatives by its outputs, as far as there are any, and ``needed`` says by
    which of its inputs derivatives are wanted. Only floating-point values have derivatives.
    """

    node: Node
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    slopes: tuple[Value | None, ...]
    needed: tuple[bool, ...]

    @property
    def tape(self) -> Tape:
        return self.outputs[0].tape

    @property
    def g(self) -> Value:
        """The derivative by the first output."""
        return self.slope(0)

    def slope(self, number: int) -> Value:
        """The derivative by an output; zeros where nothing depends on it."""
        found = self.slopes[number]
        return self.outputs[number].like() if found is None else found

    @property
    def x(self) -> Value:
        """The first input."""
        return self.input(0)

    @property
    def y(self) -> Value:
        """The first output."""
        return self.outputs[0]

    def input(self, number: int) -> Value:
        """An input that is there."""
        found = self.inputs[number]
        assert found is not None
        return found

    def optional(self, number: int) -> Value | None:
        """An input, or None where it is absent."""
        return self.inputs[number] if number < len(self.inputs) else None

    def needs(self, number: int) -> bool:
        """Whether the derivative by this input is wanted."""
        return number < len(self.needed) and self.needed[number]

    def by_formula(
        self, formula: Callable[..., Sequence[Value | None]]
    ) -> tuple[Value | None, ...]:
        """The derivatives of what gives the same outputs in terms of other operators."""
        build = self.tape.build
        begin = len(build.nodes)
        made = formula(*self.inputs)
        nodes = tuple(build.nodes[begin:])
        pairs = zip(made, self.slopes, strict=False)
        seeds = {y.name: g for y, g in pairs if y is not None and g is not None}
        asked = zip(self.inputs, self.needed, strict=True)
        names = [x.name if x is not None and n else "" for x, n in asked]
        wanted = tuple(dict.fromkeys(filter(None, names)))
        found = dict(zip(wanted, self.tape.walked(nodes, seeds, wanted), strict=True))
        # An input that is there twice gets all of it once.
        return tuple(found.pop(name, None) for name in names)

    def only_first(self) -> None:
        """`UnsupportedOperator` where a derivative by another output than the first is there."""
        for name, slope in zip(self.node.outputs[1:], self.slopes[1:], strict=True):
            if slope is not None:
                raise UnsupportedOperator(
                    f"{self.node.op.full_name()} has a gradient of its first output only, and not "
                    f"of {name!r}",
                    remedy="Differentiate outputs that do not depend on it",
                )

    def axis(self, axis: int) -> int:
        """An axis of the first input, counted from the front."""
        return normal_axis(axis, self.x.rank)
