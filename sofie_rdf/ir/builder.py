"""Builder: the one way to grow a graph. It types every value as it appears."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import GraphError, ShapeError, SofieError, TypeMismatch
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
from sofie_rdf.ir.graph import Graph, Node, Origin
from sofie_rdf.ir.operator import Operator, symbols_in, with_sizes
from sofie_rdf.ir.types import Array, DType, Shape, TensorType

__all__ = ["Builder", "infer_node"]


def infer_node(op: Operator, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
    """The output types of one node, after checking the number of its inputs."""
    least, most = op.arity()
    present = len(inputs)
    if present < least or (most is not None and present > most):
        wanted = str(least) if least == most else f"{least} to {most if most else 'any number'}"
        raise GraphError(f"{op.name} takes {wanted} inputs, not {present}")
    if any(t is None for t in (inputs if most is None else inputs[:least])):
        raise GraphError(f"{op.name} lacks an input that it needs")
    try:
        inferred = op.infer(*inputs)
    except (ShapeError, TypeMismatch) as error:
        given = ", ".join("-" if t is None else str(t) for t in inputs)
        raise error.rewritten(f"{op.name}({given}): {error.thing}", "") from None
    found = inferred if isinstance(inferred, tuple) else (inferred,)
    for type_ in found:
        require_few_axes(type_)
    return found


# As many as NumPy's arrays may have.
_MOST_AXES = 64


def require_few_axes(type_: TensorType) -> None:
    """`ShapeError` for a tensor with more axes than any array has."""
    if type_.rank > _MOST_AXES:
        raise ShapeError(f"has {type_.rank} axes; {_MOST_AXES} is the most that there may be")


# The most elements of a tensor whose elements are followed while a graph grows.
_SMALL = 1024


def _object_array(sizes: Shape | Dim) -> Array:
    array: Array = np.empty(len(sizes) if isinstance(sizes, tuple) else (), dtype=object)
    array[...] = sizes
    return array


# What shape arithmetic with strange numbers may raise. Undecided is an ArithmeticError.
_UNKNOWABLE = (
    ArithmeticError,
    TypeError,
    ValueError,
    ShapeError,
    NotImplementedError,
    IndexError,
    MemoryError,
)


def _as_objects(array: Array | None) -> Array | None:
    """Whole numbers as Python's, so that they can be added to sizes."""
    return array if array is None or array.dtype.kind == "f" else array.astype(object)


def _is_index(number: object) -> bool:
    """Whether it is an integer that an int64 can be: what ONNX computes has no other ones."""
    return isinstance(number, (int, np.integer)) and -(2**63) <= int(number) < 2**63


def known_results(
    op: Operator,
    types: Sequence[TensorType | None],
    values: Sequence[Array | None],
    first: TensorType,
) -> tuple[Array, ...]:
    """The elements of small outputs (``first`` is the type of one), where that can be worked out.

    ``values`` are the elements of inputs as far as they are known, symbolic sizes as objects.
    """
    if op.is_random or not isinstance(first.size, int) or first.size > _SMALL:
        return ()
    sizes = op.sizes_of(types[0]) if types and types[0] is not None else None
    if sizes is not None:
        return (_object_array(sizes),)
    if any(v is None and t is not None for t, v in zip(types, values, strict=True)):
        return ()
    if any(v is not None and v.size > _SMALL for v in values):
        return ()
    symbolic = any(v is not None and v.dtype == object for v in values)
    try:
        with np.errstate(all="ignore"):
            if symbolic or any(symbols_in(op)):
                found: Any = op.on_sizes(*(_as_objects(v) for v in values))
            else:
                found = op.reference(*values)
    except _UNKNOWABLE:
        return ()
    return tuple(map(np.asarray, found if isinstance(found, tuple) else (found,)))


def _followed(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """The size in other names, which may themselves be said in others."""
    while any(name in values for name in symbols_of(dim)):
        dim = substitute(dim, values)
    return dim


class _SizeIndex:
    """Where each named size is, so that it need not be looked for in the whole graph."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, None]] = {}
        self.nodes: dict[str, set[int]] = {}
        self.known: dict[str, dict[str, None]] = {}
        # Nodes with graphs in their attributes, in which any size may be.
        self.bodies: set[int] = set()
        # The number of the first axis of an input that depends on a size.
        self.first: dict[str, int] = {}
        self._axes = self._nodes = 0

    def of_input(self, type_: TensorType) -> None:
        for dim in type_.shape:
            for name in symbols_of(dim):
                self.first.setdefault(name, self._axes)
            self._axes += 1

    def of_value(self, value: str, type_: TensorType) -> None:
        for dim in type_.shape:
            if isinstance(dim, Size):
                for name in symbols_of(dim):
                    self.values.setdefault(name, {})[value] = None

    def look_at(self, nodes: Sequence[Node]) -> None:
        """Nodes that have come since."""
        for number in range(self._nodes, len(nodes)):
            self.of_node(number, nodes[number])
        self._nodes = len(nodes)

    def of_node(self, number: int, node: Node) -> None:
        if node.op.bodies:
            self.bodies.add(number)
        for name in symbols_in(node.op):
            self.nodes.setdefault(name, set()).add(number)

    def of_known(self, value: str, array: Array) -> None:
        if array.dtype == object:
            for name in {s for d in array.flat for s in symbols_of(d)}:
                self.known.setdefault(name, {})[value] = None

    def rename(self, values: Mapping[str, Dim]) -> None:
        """Others are known now where these were."""
        for name, dim in values.items():
            place = self.first.pop(name, None)
            for other in symbols_of(dim) if place is not None else ():
                assert place is not None
                self.first[other] = min(place, self.first.get(other, place))


class Builder:
    """Grows a graph node by node; `build(op, *inputs)` returns the name of the output."""

    def __init__(self, name: str, provenance: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.provenance = dict(provenance or {})
        self.inputs: list[str] = []
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.constants: dict[str, Array] = {}
        # What is known of the elements of small tensors: numbers, or symbolic sizes (dtype object).
        self.known: dict[str, Array] = {}
        # The named sizes that the data decide, and which of them they are: 0 is the first.
        self.decided: dict[str, int] = {}
        self._sizes = _SizeIndex()
        # Where `fresh` looks first, so that a large graph of unnamed nodes is not searched again.
        self._numbers: dict[str, int] = {}

    def input(self, name: str, type: TensorType) -> str:
        """Declare an input of the network."""
        require_few_axes(type)
        self._define(name, type)
        self._sizes.of_input(type)
        self.inputs.append(name)
        return name

    def constant(self, array: Array, name: str = "") -> str:
        """Add a constant; it is copied, made contiguous and read-only."""
        name = name or self.fresh("constant")
        limits.spend(bytes=array.nbytes, what=f"the constant {name!r}")
        own = np.array(array, order="C", copy=True)
        own.setflags(write=False)
        try:
            dtype = DType.of(own)
        except ValueError:
            raise TypeMismatch(f"constant {name!r} has the element type {own.dtype}") from None
        self._define(name, TensorType(dtype, own.shape))
        self.constants[name] = own
        return name

    def __call__(
        self,
        op: Operator,
        *inputs: str,
        outputs: Sequence[str] = (),
        origin: Origin = Origin(),  # noqa: B008
    ) -> str:
        """Apply ``op``; the name of its first output. Errors name the node's origin."""
        limits.spend(nodes=1, what="the graph")
        try:
            op, inputs, types = self._inferred(op, inputs, origin)
            names = list(outputs) or [""] * len(types)
            if len(names) > len(types):
                raise GraphError(f"{op.name} has {len(types)} outputs, not {len(names)}")
            if op.writes_all:
                names += [""] * (len(types) - len(names))
            for number, type_ in enumerate(types[: len(names)]):
                names[number] = names[number] or self.fresh(op.name.lower())
                self._define(names[number], self._named(names[number], type_))
            kept = tuple(names)
            self._follow(op, inputs, kept)
        except SofieError as error:
            raise error.at(str(origin)) from None
        self.nodes.append(Node(op, inputs, kept, origin))
        return kept[0]

    def adopt(self, nodes: Sequence[Node], types: Mapping[str, TensorType]) -> None:
        """Nodes of another graph, which has types for what they compute."""
        for node in nodes:
            for name in node.outputs:
                self._define(name, types[name])
                for size in map(name_of, types[name].shape if node.op.decides_sizes else ()):
                    if size and size not in self._sizes.first:
                        self.decided.setdefault(size, len(self.decided))
        self.nodes.extend(nodes)

    def widen(self, first: str, op: Operator) -> Node:
        """The node with this first output, with an operator that gives more behind its outputs."""
        number = next(i for i, node in enumerate(self.nodes) if node.outputs[0] == first)
        node = self.nodes[number]
        types = infer_node(op, [self.type_of(i) if i else None for i in node.inputs])
        names = list(node.outputs)
        for type_ in types[len(names) :]:
            name = self.fresh(op.name.lower())
            self._define(name, self._named(name, type_))
            names.append(name)
        self.nodes[number] = replace(node, op=op, outputs=tuple(names))
        return self.nodes[number]

    def graph(self, *outputs: str) -> Graph:
        """The finished graph."""
        for name in outputs:
            self.type_of(name)
        return Graph(
            name=self.name,
            inputs=tuple(self.inputs),
            outputs=outputs,
            nodes=tuple(self.nodes),
            types=MappingProxyType(dict(self.types)),
            constants=MappingProxyType(dict(self.constants)),
            provenance=MappingProxyType(dict(self.provenance)),
        )

    def fresh(self, stem: str) -> str:
        """A name that no value has yet."""
        number = self._numbers.get(stem, 1)
        name = stem if number == 1 else f"{stem}_{number}"
        while name in self.types:
            number += 1
            name = f"{stem}_{number}"
        self._numbers[stem] = number
        return name

    def _named(self, value: str, type_: TensorType) -> TensorType:
        """The type with a name for every size that only the data decides."""
        shape = list(type_.shape)
        for axis, dim in enumerate(shape):
            if dim == UNKNOWN:
                named = f"{value}.{axis}"
                self.decided[named] = len(self.decided)
                shape[axis] = symbol(named)
        return TensorType(type_.dtype, tuple(shape))

    # Sizes that turn out to be equal -------------------------------------------------------------

    def _inferred(
        self, op: Operator, inputs: tuple[str, ...], origin: Origin
    ) -> tuple[Operator, tuple[str, ...], tuple[TensorType, ...]]:
        """The output types. Where two sizes must be equal, one of them gets the other's name."""
        while True:
            try:
                return op, inputs, infer_node(op, [self.type_of(i) if i else None for i in inputs])
            except SizesDiffer as error:  # noqa: PERF203
                changed = self._equated(op, error)
                if changed is not None:
                    op = changed
                    continue
                assumed = self._assuming(inputs, error.pair, origin)
                if assumed == inputs:
                    raise
                inputs = assumed

    def _equated(self, op: Operator, error: SizesDiffer) -> Operator | None:
        """The operator where all these sizes are equal, as far as names can make them so.

        None if the first two cannot be. Each pair is what it is after those before it.
        """
        found: dict[str, Dim] = {}
        for number, pair in enumerate((error.pair, *error.more)):
            left, right = (_followed(d, found) for d in pair)
            if left == right:
                continue
            # What is 1 by now may be repeated, and need not be equal to anything.
            values = {} if number and 1 in (left, right) else self._equation(left, right)
            if not values and not number:
                return None
            if not values:
                break
            self._replace_sizes(values)
            found.update(values)
        return with_sizes(op, {name: _followed(dim, found) for name, dim in found.items()})

    def _assuming(
        self,
        inputs: tuple[str, ...],
        pair: tuple[Dim, Dim],  # noqa: ARG002
        origin: Origin,  # noqa: ARG002
    ) -> tuple[str, ...]:
        """The inputs under which two sizes are equal that no name can make so; here, none."""
        return inputs

    def _equation(self, left: Dim, right: Dim) -> Mapping[str, Dim]:
        """What must replace a named size so that both are equal; nothing where none can."""
        pairs = [(name_of(left), right), (name_of(right), left)]
        # A size that is known later gives way to one that is known before.
        pairs.sort(key=lambda p: self._order(p[0]), reverse=True)
        for name, dim in pairs:
            if name and name not in symbols_of(dim) and self._may_become(name, dim):
                return {name: dim}
        return {}

    def _order(self, name: str) -> tuple[bool, int]:
        """When a named size becomes known: before the run by an input, or by the data."""
        if name in self.decided:
            return True, self.decided[name]
        return False, self._sizes.first.get(name, -1)

    def _may_become(self, name: str, dim: Dim) -> bool:
        if isinstance(dim, int):
            return dim >= 0
        if name not in self.decided:
            return name_of(dim) != "" and name_of(dim) not in self.decided
        own = self.decided[name]
        return all(self.decided.get(s, -1) < own for s in symbols_of(dim))

    def _replace_sizes(self, values: Mapping[str, Dim]) -> None:
        """Other sizes for named ones, wherever these are."""
        index = self._sizes
        index.look_at(self.nodes)
        for name in dict.fromkeys(n for v in values for n in index.values.pop(v, ())):
            shape = tuple(substitute(d, values) for d in self.types[name].shape)
            self.types[name] = self.types[name].reshaped(shape)
            index.of_value(name, self.types[name])
        for number in sorted({n for v in values for n in index.nodes.pop(v, ())} | index.bodies):
            self.nodes[number] = replace(
                self.nodes[number], op=with_sizes(self.nodes[number].op, values)
            )
            index.of_node(number, self.nodes[number])
        for name in dict.fromkeys(n for v in values for n in index.known.pop(v, ())):
            changed = np.frompyfunc(lambda d: substitute(d, values), 1, 1)(self.known[name])
            self.known[name] = np.asarray(changed, dtype=object)
            index.of_known(name, self.known[name])
        index.rename(values)

    # Shape arithmetic ----------------------------------------------------------------------------

    def value_of(self, name: str) -> Array | None:
        """What is known of the elements of a value: an array of numbers, or of sizes (object)."""
        if name in self.constants:
            return self.constants[name]
        return self.known.get(name)

    def _follow(self, op: Operator, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Work out the elements of small outputs, where those of the inputs are known."""
        types = [self.types[i] if i else None for i in inputs]
        values = [self.value_of(i) if i else None for i in inputs]
        found = known_results(op, types, values, self.types[outputs[0]])
        for name, array in zip(outputs, found, strict=False):
            self._know(name, array)

    def _know(self, name: str, array: Array) -> None:
        type_ = self.types[name]
        if array.shape != type_.shape:
            return
        if array.dtype == object:
            if not all(isinstance(d, Size) or _is_index(d) for d in array.flat):
                return
            if not any(isinstance(d, Size) for d in array.flat):
                array = array.astype(type_.dtype.numpy)
        self.known[name] = array
        self._sizes.of_known(name, array)

    def has(self, name: str) -> bool:
        """Whether there is such a value."""
        return name in self.types

    def type_of(self, name: str) -> TensorType:
        """The type of a value; `GraphError` where there is none of this name."""
        if name not in self.types:
            raise GraphError(f"value {name!r} is used but nothing computes it")
        return self.types[name]

    def _define(self, name: str, type_: TensorType) -> None:
        if not name:
            raise GraphError("a value needs a name")
        if name in self.types:
            raise GraphError(f"value {name!r} is defined twice")
        self.types[name] = type_
        self._sizes.of_value(name, type_)
