"""One graph of an ONNX file, the model's or one in an attribute of a node, into a Builder."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sofie_rdf.errors import (
    CorruptFile,
    GraphError,
    SofieError,
    UnsupportedFormat,
    UnsupportedOperator,
)
from sofie_rdf.frontends import onnx_control
from sofie_rdf.frontends.onnx_rules import OnnxNode, rule_for
from sofie_rdf.frontends.onnx_values import array_of, attribute_of, construct
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.operator import Operator, lookup
from sofie_rdf.ir.types import Array, TensorType
from sofie_rdf.ops.assumptions import Assume
from sofie_rdf.ops.layout import Identity

if TYPE_CHECKING:
    import onnx

__all__ = ["OnnxBuilder", "Problems", "Scope"]


class Problems(list[SofieError]):
    """Where errors go when all of them are wanted and not only the first."""


class OnnxBuilder(Builder):
    """A Builder whose fresh names are none that nodes further down the file have."""

    taken: AbstractSet[str] = frozenset()

    def fresh(self, stem: str) -> str:
        while (name := super().fresh(stem)) in self.taken:
            stem += "_"
        return name

    def _assuming(self, inputs: tuple[str, ...], left: Dim, right: Dim) -> tuple[str, ...]:
        """Inputs whose sizes are checked when the model runs: the simpler of two that are equal."""
        if isinstance(left - right, int):
            return inputs
        wanted, other = sorted((left, right), key=lambda d: len(str(d)))
        found = []
        for name in inputs:
            shape = self.type_of(name).shape if name else ()
            if other in shape:
                assumed = tuple(wanted if d == other else d for d in shape)
                name = self(Assume(assumed), name)
            found.append(name)
        return tuple(found)


class _BodyBuilder(OnnxBuilder):
    """A Builder of a graph inside another one: what it reads from outside becomes an input."""

    def __init__(self, name: str, outer: OnnxBuilder, taken: AbstractSet[str]) -> None:
        super().__init__(name)
        self.outer = outer
        self.taken = {*taken, *outer.taken, *outer.types}
        # Values of its own that stand for values outside, in the order of the inputs.
        self.captured: dict[str, str] = {}

    def constant(self, array: Array, name: str = "") -> str:
        """Constants are the outermost graph's: bodies have none."""
        name = name or self.fresh("constant")
        outside = self.outer.constant(array, self.outer.fresh(f"{self.name}/{name}"))
        return self._capture(name, outside)

    def _capture(self, name: str, outside: str) -> str:
        self.input(name, self.outer.type_of(outside))
        self.captured[name] = outside
        known = self.outer.value_of(outside)
        if known is not None:
            self.known[name] = known
            if outside in self.outer.constants:
                # Rules look here for what is known; `graph` forgets it.
                self.constants[name] = known
        return name

    def type_of(self, name: str) -> TensorType:
        if name not in self.types and self.outer.has(name):
            self._capture(name, name)
        return super().type_of(name)

    def has(self, name: str) -> bool:
        return super().has(name) or self.outer.has(name)

    def _may_become(self, name: str, dim: Any) -> bool:
        return super()._may_become(name, dim)

    def _replace_sizes(self, values: Mapping[str, Any]) -> None:
        super()._replace_sizes(values)
        self.outer._replace_sizes(values)

    def body(self, outputs: Sequence[str]) -> Graph:
        """The finished graph, without constants."""
        for name in outputs:
            self.type_of(name)
        self.constants.clear()
        return self.graph(*outputs)


@dataclass
class Scope:
    """A GraphProto and the Builder that its nodes go to; inner graphs have scopes of their own."""

    place: str
    proto: onnx.GraphProto
    opsets: Mapping[str, int]
    build: OnnxBuilder
    problems: Problems | None = None
    broken: set[str] = field(default_factory=set)
    # What the graphs around this one compute.
    outside: AbstractSet[str] = frozenset()

    def run(self) -> None:
        """All weights and nodes of the graph."""
        if self.proto.sparse_initializer:
            raise UnsupportedFormat("has sparse weights", place=self.place)
        initializers = {i.name: i for i in self.proto.initializer}
        self.attempt(self.refuse_doubles, [i.name for i in self.proto.initializer])
        for name, tensor in initializers.items():
            self.attempt(self._initializer, tensor, names=(name,))
        for node in self._sorted():
            origin = Origin(self.place, node.name or (node.outputs or ("",))[0])
            self.attempt(self._node, node, origin, names=node.outputs)

    def inner(
        self,
        proto: onnx.GraphProto,
        inputs: Mapping[str, TensorType],
        begin: Callable[[Builder], None] | None = None,
        first: Sequence[str] = (),
    ) -> tuple[Graph, tuple[str, ...]]:
        """A graph in an attribute, and the values of this one that it reads.

        ``begin`` adds nodes before its own, ``first`` are outputs before its own.
        """
        taken = {o for n in proto.node for o in n.output}
        build = _BodyBuilder(proto.name or "body", self.build, taken)
        for name, type_ in inputs.items():
            build.input(name, type_)
        if begin is not None:
            begin(build)
        scope = Scope(
            self.place,
            proto,
            self.opsets,
            build,
            self.problems,
            self.broken,
            {*self.outside, *self.build.types, *self._names()},
        )
        scope.run()
        names = [*first, *(o.name for o in proto.output)]
        # An output that is no node's is passed through; one that is there twice is copied.
        for i, name in enumerate(names):
            if name in build.inputs or name not in build.types or name in names[:i]:
                names[i] = build(Identity(), name)
        graph = build.body(names)
        return graph, tuple(build.captured[i] for i in graph.inputs[len(inputs) :])

    def _names(self) -> Iterator[str]:
        yield from (o for n in self.proto.node for o in n.output)

    def attempt(self, step: Any, *arguments: Any, names: Sequence[str] = ()) -> None:
        """Run one step; when problems are collected, note its error and go on without `names`."""
        try:
            step(*arguments)
        except SofieError as error:
            placed = error.at(self.place)
            if self.problems is None:
                raise placed from None
            self.problems.append(placed)
            self.broken.update(names)

    def refuse_doubles(self, names: Sequence[str]) -> None:
        for name, times in Counter(names).items():
            if times > 1:
                raise GraphError(f"defines {name!r} twice")

    def _initializer(self, tensor: onnx.TensorProto) -> None:
        if not tensor.name:
            raise GraphError("a weight has no name")
        array = array_of(tensor)
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise CorruptFile(
                f"weight {tensor.name!r} holds NaN",
                remedy="The training has diverged, or the file is damaged",
            )
        self.build.constant(array, tensor.name)

    # Nodes ---------------------------------------------------------------------------------------

    def _sorted(self) -> Iterable[OnnxNode]:
        """The nodes in an order that can run, the file's if it can; others are reported."""
        known = {"", *(v.name for v in self.proto.input), *(i.name for i in self.proto.initializer)}
        known |= self.outside - set(self._names())
        waiting: list[OnnxNode] = []
        for proto in self.proto.node:
            self.attempt(lambda p=proto: waiting.append(self._onnx_node(p)), names=proto.output)
        known |= self.broken
        computed = {o for n in waiting for o in n.outputs}
        for node in waiting:
            undefined = [i for i in _read_by(node) if i not in known and i not in computed]
            if undefined:
                self.attempt(self._undefined, node, undefined[0], names=undefined)
        known |= self.broken - computed
        missing = [set(_read_by(n)) - known for n in waiting]
        readers: dict[str, list[int]] = {}
        for number, values in enumerate(missing):
            for value in values:
                readers.setdefault(value, []).append(number)
        ready = [number for number, values in enumerate(missing) if not values]
        while ready:
            node = waiting[heapq.heappop(ready)]
            yield node
            for value in node.outputs:
                for number in readers.pop(value, ()):
                    missing[number].discard(value)
                    if not missing[number]:
                        heapq.heappush(ready, number)
        stuck = [n for n, values in zip(waiting, missing, strict=True) if values]
        if stuck:
            self.attempt(self._cycle, stuck, names=[o for n in stuck for o in n.outputs])
            yield from stuck

    def _undefined(self, node: OnnxNode, value: str) -> None:
        place = str(Origin(self.place, node.name or node.op_type))
        raise GraphError(f"reads {value!r}, which nothing computes", place=place)

    def _cycle(self, nodes: Sequence[OnnxNode]) -> None:
        listed = ", ".join(repr(n.name or (*n.outputs, n.op_type)[0]) for n in nodes[:5])
        more = " and others" if len(nodes) > 5 else ""
        raise GraphError(f"nodes {listed}{more} wait for each other: the graph has a cycle")

    def _onnx_node(self, node: onnx.NodeProto) -> OnnxNode:
        domain = node.domain or "ai.onnx"
        try:
            attributes = {a.name: attribute_of(a) for a in node.attribute}
        except SofieError as error:
            place = Origin(self.place, node.name or next(iter(node.output), ""))
            raise error.at(str(place)) from None
        return OnnxNode(
            name=node.name,
            domain="" if domain == "ai.onnx" else domain,
            op_type=node.op_type,
            version=self.opsets.get(domain, 0),
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            attributes=attributes,
            captured=tuple(dict.fromkeys(_captured(node))),
        )

    def _node(self, node: OnnxNode, origin: Origin) -> None:
        try:
            self._convert(node, origin)
        except SofieError as error:
            raise error.at(str(origin)) from None
        except Exception as error:
            # What no exporter writes, in some combination that no rule has thought of.
            raise GraphError(f"makes no sense: {error}", place=str(origin)) from error

    def _convert(self, node: OnnxNode, origin: Origin) -> None:
        control = onnx_control.handler(node)
        rule = None if control else rule_for(node)
        operator = None if rule or control else _lookup(node)
        if self.broken.intersection(_read_by(node)):
            self.broken.update(node.outputs)
            return
        for name in filter(None, node.inputs):
            self.build.type_of(name)
        if control is not None:
            control(self, node, origin)
            return
        if rule is not None:
            rule(node, self.build, origin)
            return
        assert operator is not None
        op, inputs = self._operator(operator, node)
        outputs = list(node.outputs)
        while outputs and not outputs[-1]:
            outputs.pop()
        self.build(op, *inputs, outputs=outputs, origin=origin)

    def _operator(
        self, operator: type[Operator], node: OnnxNode
    ) -> tuple[Operator, tuple[str, ...]]:
        values = dict(node.attributes)
        folded = operator.folded_inputs()
        try:
            for position, field in folded.items():
                if position < len(node.inputs) and node.inputs[position]:
                    values[field] = self._known(node, position, field)
            op = construct(operator, values)
        except _Computed as error:
            if operator.runtime is None:
                raise UnsupportedOperator(error.thing, remedy=error.remedy) from None
            return self._operator(operator.runtime, node)
        inputs = [i for p, i in enumerate(node.inputs) if p not in folded]
        while inputs and not inputs[-1]:
            inputs.pop()
        if op.arity()[1] is None and "" in inputs:
            raise GraphError(f"{operator.name} lacks an input that it needs")
        return op, tuple(inputs)

    def _known(self, node: OnnxNode, position: int, field: str) -> Any:
        value = self.build.value_of(node.inputs[position])
        if value is None:
            raise _Computed(
                f"{node.op_type} needs {field!r} ({node.inputs[position]!r}) when the model is "
                "read, but it is computed",
                remedy="Make it a constant of the model, e.g. by exporting with fixed sizes",
            )
        return value.item() if value.ndim == 0 else tuple(value.tolist())


def _read_by(node: OnnxNode) -> tuple[str, ...]:
    """All values that a node needs, those that graphs in its attributes read included."""
    return (*node.inputs, *node.captured)


def _captured(node: onnx.NodeProto) -> Iterator[str]:
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            own = {v.name for v in (*graph.input, *graph.initializer)}
            own |= {o for n in graph.node for o in n.output}
            read = [i for n in graph.node for i in (*n.input, *_captured(n))]
            yield from (i for i in (*read, *(o.name for o in graph.output)) if i and i not in own)


def _lookup(node: OnnxNode) -> type[Operator]:
    """The operator; near names are offered only where the name is not ONNX's own."""
    import onnx

    try:
        return lookup(node.domain, node.op_type)
    except UnsupportedOperator as error:
        if onnx.defs.has(node.op_type, node.domain):
            raise UnsupportedOperator(error.thing) from None
        raise


class _Computed(UnsupportedOperator):
    """What must be known when the model is read is computed when it runs."""
