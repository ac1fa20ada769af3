"""If and Loop, whose attributes are graphs, and what Scan needs beside them.

A graph in an attribute (a body) has no constants: what it reads from the graph around it, weights
included, is an input of the body and of the node. The emitted code has a struct for each body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import GraphError, ShapeError, TypeMismatch
from sofie_rdf.ir.dims import (
    UNKNOWN,
    Dim,
    Size,
    SizesDiffer,
    name_of,
    substitute,
    symbol,
    symbols_of,
)
from sofie_rdf.ir.graph import Graph, symbols_among
from sofie_rdf.ir.operator import Call, Operand, Operator, Sizes, Tensor, operator
from sofie_rdf.ir.types import Array, DType, TensorType, normal_axis
from sofie_rdf.ops._slopes_control import of_branches, of_rounds, placed
from sofie_rdf.ops.layout import memory

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value

# (body, arrays of its inputs) -> arrays of its outputs
Evaluate: TypeAlias = Callable[[Graph, Sequence[Array]], Sequence[Array]]

HEADER = "sofie/kernels/control_flow.hxx"


def bound_sizes(
    formal: Sequence[TensorType], actual: Sequence[TensorType | None]
) -> dict[str, Dim]:
    """What the named sizes of a body's inputs are, given the types of what it gets.

    A name that is no size by itself (19*T) is that of the graph around it, as bodies are read.
    """
    sizes: dict[str, Dim] = {}
    for one, other in zip(formal, actual, strict=True):
        if other is None or type(one) is not type(other) or one.dtype != other.dtype:
            raise TypeMismatch(f"gives {other} to its graph, which wants {one}")
        if one.rank != other.rank:
            raise ShapeError(f"gives {other} to its graph, which wants {one}")
        for wanted, given in zip(one.shape, other.shape, strict=True):
            if name_of(wanted):
                sizes.setdefault(name_of(wanted), given)
    for name in symbols_among(formal) - sizes.keys():
        sizes[name] = symbol(name)
    for one, other in zip(formal, actual, strict=True):
        assert other is not None
        for wanted, given in zip(one.shape, other.shape, strict=True):
            inside = substitute(wanted, sizes)
            if inside != given:
                raise SizesDiffer(
                    f"gives {other} to its graph, which wants {one}", pair=(inside, given)
                )
    return sizes


def outside(type_: TensorType, sizes: Mapping[str, Dim], hidden: frozenset[str]) -> TensorType:
    """A type of a body as the graph around it sees it: sizes that it cannot know are UNKNOWN."""
    shape = tuple(
        substitute(d, sizes) if symbols_of(d) <= sizes.keys() - hidden else UNKNOWN
        for d in type_.shape
    )
    return type_.reshaped(shape)


class ControlFlow(Operator):
    """An operator with graphs among its attributes."""

    header: ClassVar[str] = HEADER
    decides_sizes: ClassVar[bool] = True
    moves: ClassVar[bool] = True
    is_rowwise: ClassVar[bool] = False

    def run(self, evaluate: Evaluate, *inputs: Array) -> tuple[Array, ...]:
        """`reference`, given what evaluates a body."""
        raise NotImplementedError(f"{self.name}.run")

    @staticmethod
    def sizes_inside(body: Graph, given: Sequence[TensorType]) -> dict[str, Dim]:
        """What the named sizes of a body's inputs are."""
        return bound_sizes([body.types[i] for i in body.inputs], given)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        """A call of no kernel: the emitted code has functions of its own for bodies."""
        present = (Tensor(o) for o in (*outputs, *inputs) if o is not None)
        return Call("", tuple(present), outputs=len(outputs))


@operator(since=25)
class If(ControlFlow):
    """The outputs of then_branch where the condition holds, else those of else_branch

    The inputs behind the condition are those of both branches.
    """

    then_branch: Graph
    else_branch: Graph

    def infer(self, condition: TensorType, *captured: TensorType) -> tuple[TensorType, ...]:
        if condition.dtype is not DType.BOOL:
            raise TypeMismatch(f"needs a bool, not {condition.dtype}")
        bodies = self.then_branch, self.else_branch
        if len(bodies[0].outputs) != len(bodies[1].outputs):
            raise GraphError("has branches with different numbers of outputs")
        found = []
        for body in bodies:
            sizes = bound_sizes([body.types[i] for i in body.inputs], captured)
            types = (body.types[o] for o in body.outputs)
            found.append([outside(t, sizes, frozenset()) for t in types])
        return tuple(self._either(*pair) for pair in zip(*found, strict=True))

    @staticmethod
    def _either(one: TensorType, other: TensorType) -> TensorType:
        if type(one) is not type(other) or one.dtype != other.dtype or one.rank != other.rank:
            raise TypeMismatch(f"has branches that give {one} and {other}")
        pairs = zip(one.shape, other.shape, strict=True)
        return one.reshaped(tuple(p if p == q else UNKNOWN for p, q in pairs))

    def run(self, evaluate: Evaluate, *inputs: Array) -> tuple[Array, ...]:
        condition, *captured = inputs
        branch = self.then_branch if np.asarray(condition).item() else self.else_branch
        return tuple(evaluate(branch, captured))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return of_branches(self, back)


@operator(domain="sofie", header=HEADER)
class Provided(Operator):
    """x, provided that the condition is what it must be: else the run fails"""

    holds: bool
    moves: ClassVar[bool] = True
    is_rowwise: ClassVar[bool] = False

    def infer(self, x: TensorType, condition: TensorType) -> TensorType:
        if condition.dtype is not DType.BOOL or condition.size != 1:
            raise TypeMismatch(f"needs one bool, not {condition}")
        return x

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, condition = inputs
        assert x is not None and condition is not None
        size = (x.type.size,)
        kernel = f"sofie::provided<{'true' if self.holds else 'false'}>"
        return Call(kernel, (Tensor(outputs[0], size), Tensor(x, size), Tensor(condition, (1,))))

    def reference(self, x: Array, condition: Array) -> Array:
        if bool(np.asarray(condition).item()) != self.holds:
            raise ShapeError(f"has a condition that is not {self.holds}")
        return x

    def pullback(self, back: Backward) -> Value:
        return back.g


@operator(since=25)
class Loop(ControlFlow):
    """The body again and again, at most so many times and while it says so: values, and scans

    The inputs are the number of rounds, whether to begin, ``carried`` values that each round gets
    from the one before, and what the body reads otherwise. The body takes the number of the round,
    the condition, and these; it gives the condition, the carried values, and what is stacked.
    ``length`` is the number of rounds where it is known and the condition always true.
    """

    body: Graph
    carried: int
    length: Dim | None = None

    def infer(
        self, trips: TensorType, go: TensorType, *values: TensorType
    ) -> tuple[TensorType, ...]:
        body = self.body
        first = TensorType(DType.INT64), TensorType(DType.BOOL)
        if trips.dtype is not DType.INT64 or go.dtype is not DType.BOOL:
            raise TypeMismatch(f"needs an int64 and a bool, not {trips.dtype} and {go.dtype}")
        if len(body.outputs) < 1 + self.carried or len(values) < self.carried:
            raise GraphError(f"carries {self.carried} values, which its graph does not")
        formal, hidden = [body.types[i] for i in body.inputs], self.growing
        sizes = bound_sizes(formal, (*first, *values))
        types = [body.types[o] for o in body.outputs]
        if types[0].dtype is not DType.BOOL or types[0].size != 1:
            raise TypeMismatch(f"has a graph whose condition is {types[0]}")
        carried = [outside(t, sizes, hidden) for t in formal[2 : 2 + self.carried]]
        length = UNKNOWN if self.length is None else self.length
        scans = []
        for type_ in types[1 + self.carried :]:
            one = outside(type_, sizes, hidden)
            scans.append(one.reshaped((length, *one.shape)))
        return (*carried, *scans)

    @property
    def growing(self) -> frozenset[str]:
        """The sizes that may be others in every round."""
        formal = [self.body.types[i] for i in self.body.inputs]
        after = [self.body.types[o] for o in self.body.outputs[1 : 1 + self.carried]]
        pairs = zip(formal[2 : 2 + self.carried], after, strict=True)
        return frozenset(
            s
            for p, q in pairs
            for a, b in zip(p.shape, q.shape, strict=True)
            if a != b
            for s in symbols_of(a)
        )

    def run(self, evaluate: Evaluate, *inputs: Array) -> tuple[Array, ...]:
        trips, go, *values = inputs
        carried, captured = list(values[: self.carried]), values[self.carried :]
        stacked: list[list[Array]] = [[] for _ in self.body.outputs[1 + self.carried :]]
        condition, number = np.asarray(go).reshape(()), 0
        while number < int(np.asarray(trips).item()) and bool(condition):
            limits.spend(nodes=1 + len(self.body.nodes), what="a Loop in all of its rounds")
            given = [np.array(number, np.int64), condition, *carried, *captured]
            condition, *results = evaluate(self.body, given)
            condition = np.asarray(condition).reshape(())
            carried = list(results[: self.carried])
            for stack, item in zip(stacked, results[self.carried :], strict=True):
                stack.append(item)
            number += 1
        scans = (self._stack(i, s) for i, s in enumerate(stacked))
        return (*carried, *scans)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return of_rounds(self, back)

    def _stack(self, number: int, items: list[Array]) -> Array:
        if items:
            return np.stack(items)
        type_ = self.body.types[self.body.outputs[1 + self.carried + number]]
        return np.empty(
            (0, *(d if isinstance(d, int) else 0 for d in type_.shape)), type_.dtype.numpy
        )


# What Scan needs ----------------------------------------------------------------------------------


@operator(domain="sofie", header=HEADER)
class ScanSlice(Operator):
    """x[..., i, ...] along one axis; x[..., n - 1 - i, ...] backward: without that axis"""

    axis: int
    backward: bool = False
    moves: ClassVar[bool] = True

    def infer(self, x: TensorType, i: TensorType) -> TensorType:
        if i.dtype is not DType.INT64 or i.rank:
            raise TypeMismatch(f"needs one int64, not {i}")
        axis = normal_axis(self.axis, x.rank)
        return TensorType(x.dtype, (*x.shape[:axis], *x.shape[axis + 1 :]))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, i = inputs
        assert x is not None and i is not None
        axis = normal_axis(self.axis, x.type.rank)
        from sofie_rdf.ir.dims import product

        outer, inner = product(x.type.shape[:axis]), product(x.type.shape[axis + 1 :])
        kernel = f"sofie::scan_slice<{'true' if self.backward else 'false'}>"
        y = Tensor(outputs[0], (outer, inner))
        return Call(kernel, (y, Tensor(x, (outer, x.type.shape[axis], inner)), Tensor(i)))

    def reference(self, x: Array, i: Array) -> Array:
        number = int(i)
        return np.asarray(
            np.take(x, x.shape[self.axis] - 1 - number if self.backward else number, self.axis)
        )

    def pullback(self, back: Backward) -> Value:
        return placed(back, back.axis(self.axis), self.backward)


@operator(domain="sofie", header=HEADER)
class Reversed(Operator):
    """y[i] = x[n - 1 - i] along the first axis"""

    moves: ClassVar[bool] = True
    is_rowwise: ClassVar[bool] = False

    def infer(self, x: TensorType) -> TensorType:
        if not x.rank:
            raise ShapeError("has no axis to reverse")
        return x

    def reference(self, x: Array) -> Array:
        return np.ascontiguousarray(x[::-1])

    def formula(self, x: Value) -> tuple[Value]:
        return (x.slice(0, -1, -(2**31), -1),)

    def pullback(self, back: Backward) -> Value:
        return back.g.through(self)


@operator(domain="sofie", header=HEADER)
class SizeOfAxis(Operator):
    """The size of one axis of x"""

    axis: int
    is_rowwise: ClassVar[bool] = False

    def infer(self, x: TensorType) -> TensorType:
        normal_axis(self.axis, x.rank)
        return TensorType(DType.INT64)

    def sizes_of(self, x: TensorType) -> Dim:
        return x.shape[self.axis]

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        sizes = Sizes((x.type.shape[self.axis],)), memory(outputs[0])
        return Call("sofie::write_sizes", sizes, header="sofie/kernels/creation.hxx")

    def reference(self, x: Array) -> Array:
        return np.array(x.shape[self.axis], np.int64)


assert Size is not None and Any is not None
