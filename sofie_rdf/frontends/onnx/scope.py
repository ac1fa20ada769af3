"""One graph of an ONNX file, the model's or one in an attribute of a node, into a Builder."""

from __future__ import annotations

import heapq
from collections import ChainMap, Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sofie_rdf.errors import (
    CorruptFile,
    GraphError,
    SofieError,
    TypeMismatch,
    UnsupportedOperator,
)
from sofie_rdf.frontends.common.builders import BodyBuilder, FrontendBuilder, Layered
from sofie_rdf.frontends.common.problems import Problems
from sofie_rdf.frontends.onnx import control as onnx_control
from sofie_rdf.frontends.onnx import sequences as onnx_sequences
from sofie_rdf.frontends.onnx.rules import OnnxNode, lists_of, rule_for
from sofie_rdf.frontends.onnx.rules.oldest import with_newer_attributes
from sofie_rdf.frontends.onnx.rules.recurrent import with_whole_lengths
from sofie_rdf.frontends.onnx.sequences import SequenceValue
from sofie_rdf.frontends.onnx.values import (
    array_of,
    attribute_of,
    construct,
    dtype_of,
    listed,
    weights_of,
)
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.operator import Operator, lookup
from sofie_rdf.ir.types import TensorType
from sofie_rdf.ops.layout import Identity

if TYPE_CHECKING:
    import onnx

__all__ = ["Inner", "Scope"]


class Broken(SofieError):
    """Something that it needs has a problem, which is noted already."""


@dataclass(frozen=True)
class _Without:
    """Names that are among the first and not among the others."""

    names: Container[str]
    others: Container[str]

    def __contains__(self, name: object) -> bool:
        return name in self.names and name not in self.others


class Inner(NamedTuple):
    """A graph in an attribute, the values outside that it reads, its outputs that are sequences.

    ``results`` has one entry for each output of the file's graph, None for tensors.
    """

    graph: Graph
    captured: tuple[str, ...]
    results: tuple[SequenceValue | None, ...]


@dataclass
class Scope:
    """A GraphProto and the Builder that its nodes go to; inner graphs have scopes of their own."""

    place: str
    proto: onnx.GraphProto
    opsets: Mapping[str, int]
    build: FrontendBuilder
    problems: Problems | None = None
    broken: Layered = field(default_factory=Layered)
    # What the graphs around this one compute.
    outside: Container[str] = frozenset()
    # Sequences and optionals, those of the graphs around this one included.
    sequences: ChainMap[str, SequenceValue] = field(default_factory=ChainMap)
    # Which branch was read of an If of which only one can be, by the place of the If.
    branches: dict[str, int] = field(default_factory=dict)

    def run(self) -> None:
        """All weights and nodes of the graph."""
        weights = weights_of(self.proto)
        self.attempt(self.refuse_doubles, [name for name, _ in weights])
        for name, tensor in dict(weights).items():
            self.attempt(self._initializer, name, tensor, names=(name,))
        for node in self._sorted():
            origin = Origin(self.place, node.name or (node.outputs or ("",))[0])
            self.attempt(self._node, node, origin, names=node.outputs)

    def inner(
        self,
        proto: onnx.GraphProto,
        inputs: Mapping[str, TensorType],
        begin: Callable[[BodyBuilder], None] | None = None,
        first: Sequence[str] = (),
        sequences: Mapping[str, SequenceValue] = MappingProxyType({}),
        like: Sequence[SequenceValue | None] = (),
    ) -> Inner:
        """A graph in an attribute, and the values of this one that it reads.

        ``begin`` adds nodes before its own, ``first`` are outputs before its own. ``sequences`` are
        inputs of the file's graph, in tensors among ``inputs``; ``like`` is what outputs that are
        sequences are elsewhere.
        """
        build = self._builder(proto)
        scope = self._around(proto, build, sequences)
        for name, type_ in inputs.items():
            build.input(name, type_)
        if begin is not None:
            begin(build)
        noted = len(self.problems or ())
        scope.run()
        if len(self.problems or ()) > noted or any(o.name in scope.broken for o in proto.output):
            raise Broken(f"graph {proto.name!r} has a problem")
        results: list[SequenceValue | None] = []
        names = list(first)
        for number, output in enumerate(proto.output):
            other = like[number] if number < len(like) else None
            value, parts = scope._result(output.name, other)
            results.append(value)
            names += parts
        # An output that is no node's is passed through; one that is there twice is copied.
        for i, name in enumerate(names):
            if name in build.inputs or name not in build.types or name in names[:i]:
                names[i] = build(Identity(), name)
        graph = build.body(names)
        captured = tuple(build.captured[i] for i in graph.inputs[len(inputs) :])
        return Inner(graph, captured, tuple(results))

    def either(self, protos: Sequence[onnx.GraphProto]) -> list[Inner]:
        """Graphs of which one runs. Where problems are collected, those of all."""
        found: list[Inner] = []
        for proto in protos:
            self.attempt(lambda p=proto: found.append(self.inner(p, {})))
        if len(found) < len(protos):
            raise Broken("a branch has a problem")
        return found

    def _builder(self, proto: onnx.GraphProto) -> BodyBuilder:
        taken = (*(i.name for i in proto.input), *(o for n in proto.node for o in n.output))
        return BodyBuilder(proto.name or "body", self.build, taken)

    def _around(
        self,
        proto: onnx.GraphProto,
        build: FrontendBuilder,
        sequences: Mapping[str, SequenceValue] = MappingProxyType({}),
        broken: Iterable[str] = (),
    ) -> Scope:
        """The scope of a graph in an attribute. What is broken in there may be fine elsewhere."""
        return Scope(
            self.place,
            proto,
            self.opsets,
            build,
            self.problems,
            Layered(broken, (self.broken,)),
            Layered((), (self.outside, self.build.types, self._names, self.sequences)),
            self.sequences.new_child(dict(sequences)),
            self.branches,
        )

    def _result(
        self, name: str, other: SequenceValue | None
    ) -> tuple[SequenceValue | None, tuple[str, ...]]:
        """What an output is if it is a sequence, and the tensors that it is."""
        value = self.sequences.get(name)
        if value is None:
            return None, (name,)
        axes = 0
        if other is not None:
            value = onnx_sequences.as_kind(self.build, value, other.kind)
            axes = len(other.shape or ())
        parts = onnx_sequences.packed(self.build, value, axes)
        return onnx_sequences.of_parts(self.build, value, parts), parts

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(o for n in self.proto.node for o in n.output)

    def attempt(self, step: Any, *arguments: Any, names: Sequence[str] = ()) -> None:
        """Run one step; when problems are collected, note its error and go on without `names`."""
        try:
            step(*arguments)
        except SofieError as error:
            placed = error.at(self.place)
            if self.problems is None:
                raise placed from None
            if not isinstance(error, Broken):
                self.problems.note(placed)
            self.broken.update(n for n in names if not self._declared(n))

    @cached_property
    def _infos(self) -> Mapping[str, onnx.ValueInfoProto]:
        """What the file says of values, the first where it says two things."""
        infos = (*self.proto.value_info, *self.proto.output)
        return {value.name: value for value in reversed(infos)}

    def _declared(self, name: str) -> bool:
        """Whether the file says what a value is that cannot be computed, so that one can go on."""
        value = self._infos.get(name)
        if value is None or not value.type.tensor_type.HasField("shape") or self.build.has(name):
            return False
        known = self.build.names_a_size
        dims = value.type.tensor_type.shape.dim
        if not all(known(d.dim_param) if d.dim_param else d.HasField("dim_value") for d in dims):
            return False
        shape = tuple(symbol(d.dim_param) if d.dim_param else int(d.dim_value) for d in dims)
        try:
            dtype = dtype_of(value.type.tensor_type.elem_type, name)
        except SofieError:
            return False
        self.build.input(name, TensorType(dtype, shape))
        return True

    def refuse_doubles(self, names: Sequence[str]) -> None:
        for name, times in Counter(names).items():
            if times > 1:
                raise GraphError(f"defines {name!r} twice")

    def _initializer(self, name: str, tensor: onnx.TensorProto) -> None:
        if not name:
            raise GraphError("a weight has no name")
        array = array_of(tensor)
        # NumPy does not know that ml_dtypes' bfloat16 is a floating-point type.
        floating = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
        if floating and np.isnan(array).any():
            raise CorruptFile(
                f"weight {name!r} holds NaN",
                remedy="The training has diverged, or the file is damaged",
            )
        self.build.constant(array, name)

    # Nodes ---------------------------------------------------------------------------------------

    def _sorted(self) -> Iterable[OnnxNode]:
        """The nodes in an order that can run, the file's if it can; others are reported."""
        known = Layered(
            ("", *(v.name for v in self.proto.input), *dict(weights_of(self.proto))),
            (_Without(self.outside, self._names), *self.broken.around),
        )
        waiting: list[OnnxNode] = []
        for proto in self.proto.node:
            self.attempt(lambda p=proto: waiting.append(self._onnx_node(p)), names=proto.output)
        known.update(self.broken.own)
        computed = {o for n in waiting for o in n.outputs}
        for node in waiting:
            for value in dict.fromkeys(_read_by(node)):
                if value not in known and value not in computed:
                    self.attempt(self._undefined, node, value, names=(value,))
        known.update(self.broken.own - computed)
        missing = [{v for v in _read_by(n) if v not in known} for n in waiting]
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
            if not node.op_type:
                raise GraphError("does not say which operator it is")
            long = lists_of("" if domain == "ai.onnx" else domain, node.op_type)
            attributes = {
                a.name: (listed if a.name in long else attribute_of)(a) for a in node.attribute
            }
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
        except MemoryError:
            raise
        except Exception as error:
            # What no exporter writes, in some combination that no rule has thought of.
            raise GraphError(f"makes no sense: {error}", place=str(origin)) from error

    def _convert(self, node: OnnxNode, origin: Origin) -> None:
        node = with_newer_attributes(node)
        control = onnx_control.handler(node) or onnx_sequences.handler(node, self.sequences)
        rule = None if control else rule_for(node)
        operator = None if rule or control else _lookup(node)
        if any(name in self.broken for name in _read_by(node)):
            self._look_at(node, operator)
            raise Broken(f"{node.op_type} reads what has a problem")
        for name in filter(None, node.inputs):
            if name not in self.sequences:
                self.build.type_of(name)
            elif control is None:
                raise TypeMismatch(f"{node.op_type} takes no sequence, as {name!r} is one")
        if control is not None:
            control(self, node, origin)
            return
        if rule is not None:
            rule(node, self.build, origin)
            return
        assert operator is not None
        op, inputs = self._operator(operator, node)
        inputs = with_whole_lengths(op, inputs, self.build)
        outputs = list(node.outputs)
        while outputs and not outputs[-1]:
            outputs.pop()
        self.build(op, *inputs, outputs=outputs, origin=origin)

    def _look_at(self, node: OnnxNode, operator: type[Operator] | None) -> None:
        """What can be said of a node whose inputs are not known: its attributes, its graphs."""
        folded = operator.folded_inputs() if operator else {}
        if operator and not any(
            node.inputs[p] in self.broken for p in folded if p < len(node.inputs)
        ):
            self._operator(operator, node)
        for graph in node.attributes.values():
            if hasattr(graph, "node") and hasattr(graph, "initializer"):
                inputs = (v.name for v in graph.input)
                self._around(graph, self._builder(graph), broken=inputs).run()

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
            own = {*(v.name for v in graph.input), *dict(weights_of(graph))}
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
            raise UnsupportedOperator(error.thing, remedy=_INSTEAD.get(node.op_type, "")) from None
        raise


# What to do without the operators of ONNX that have no place in a network of numbers.
_TEXTS = "It works on texts: do it before the network"
_INSTEAD = {
    "CastMap": "It takes a dictionary: give the network an array",
    "ImageDecoder": "Decode images before the network",
    "RegexFullMatch": _TEXTS,
    "StringConcat": _TEXTS,
    "StringNormalizer": _TEXTS,
    "StringSplit": _TEXTS,
}


class _Computed(UnsupportedOperator):
    """What must be known when the model is read is computed when it runs."""
