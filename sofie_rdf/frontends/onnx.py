"""ONNX: files, bytes and ModelProtos. The nodes are our operators; here they are looked up."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sofie_rdf.errors import (
    CorruptFile,
    GraphError,
    InputError,
    SofieError,
    UnsupportedFormat,
    UnsupportedOperator,
    nearest,
)
from sofie_rdf.frontends.onnx_proto import Source, open_model
from sofie_rdf.frontends.onnx_rules import OnnxNode, rule_for
from sofie_rdf.frontends.onnx_values import array_of, attribute_of, construct, dtype_of
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim, symbol
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.operator import Operator, lookup
from sofie_rdf.ir.types import TensorType

if TYPE_CHECKING:
    import onnx

__all__ = ["Problems", "check", "read"]

OLDEST_OPSET = 7
# What an axis without name or size is called where it is the first of an input: the batch.
BATCH = "N"

Shapes: TypeAlias = Mapping[str, Sequence["int | str | None"]]


class Problems(list[SofieError]):
    """Where errors go when all of them are wanted and not only the first."""


def read(source: Source, *, name: str = "", shapes: Shapes | None = None) -> Graph:
    """The graph of an ONNX model; the first thing that is wrong with it is raised.

    ``shapes`` gives axes of inputs another size (``int``), a name (``str``), or none (``None``
    keeps what the file says). ``name`` is the model's, by default the file's.
    """
    return _Reader(source, name, shapes or {}, None).graph()


def check(source: Source, *, name: str = "", shapes: Shapes | None = None) -> Problems:
    """Everything that is wrong with an ONNX model, at once; never raises for it."""
    problems = Problems()
    try:
        _Reader(source, name, shapes or {}, problems).graph()
    except SofieError as error:
        problems.append(error)
    return problems


class _Builder(Builder):
    """A Builder whose fresh names are none that nodes further down the file have."""

    taken: AbstractSet[str] = frozenset()

    def fresh(self, stem: str) -> str:
        while (name := super().fresh(stem)) in self.taken:
            stem += "_"
        return name


class _Reader:
    def __init__(
        self, source: Source, name: str, shapes: Shapes, problems: Problems | None
    ) -> None:
        self.file = open_model(source)
        self.proto = self.file.proto.graph
        self.problems = problems
        self.shapes = shapes
        stem = Path(source).stem if isinstance(source, (str, Path)) else self.proto.name
        self.build = _Builder(name or stem or "model", self._provenance())
        self.build.taken = {o for n in self.proto.node for o in n.output}
        self.broken: set[str] = set()

    def _provenance(self) -> dict[str, str]:
        model = self.file.proto
        producer = f"{model.producer_name} {model.producer_version}".strip()
        opset = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
        known = {**self.file.provenance, "producer": producer, "opset": opset}
        return {key: value for key, value in known.items() if value}

    def graph(self) -> Graph:
        """Inputs, constants, nodes, outputs, in that order."""
        self._refuse_features()
        self._attempt(self._unknown_inputs)
        initializers = {i.name: i for i in self.proto.initializer}
        self._attempt(self._refuse_doubles, [i.name for i in self.proto.initializer])
        for value in self.proto.input:
            if value.name not in initializers:
                self._attempt(self._input, value, names=(value.name,))
        for name, tensor in initializers.items():
            self._attempt(self._initializer, tensor, names=(name,))
        for node in self._sorted():
            origin = Origin(self.file.place, node.name or (node.outputs or ("",))[0])
            self._attempt(self._node, node, origin, names=node.outputs)
        outputs = [o.name for o in self.proto.output]
        self._attempt(self._refuse_doubles, outputs)
        for name in outputs:
            self._attempt(self._output, name)
        return self.build.graph(*(() if self.problems else outputs))

    def _attempt(self, step: Any, *arguments: Any, names: Sequence[str] = ()) -> None:
        """Run one step; when problems are collected, note its error and go on without `names`."""
        try:
            step(*arguments)
        except SofieError as error:
            placed = error.at(self.file.place)
            if self.problems is None:
                raise placed from None
            self.problems.append(placed)
            self.broken.update(names)

    def _refuse_features(self) -> None:
        import onnx

        imports = [(o.domain or "ai.onnx", o.version) for o in self.file.proto.opset_import]
        self.opsets = dict(imports)
        if len(imports) > len(self.opsets):
            raise CorruptFile("says twice which opset it uses", place=self.file.place)
        if "ai.onnx" not in self.opsets:
            raise CorruptFile("does not say which opset it uses", place=self.file.place)
        version = self.opsets["ai.onnx"]
        newest = onnx.defs.onnx_opset_version()
        if version < OLDEST_OPSET:
            raise UnsupportedFormat(
                f"uses opset {version}; the oldest one that is read is {OLDEST_OPSET}",
                place=self.file.place,
                remedy="Convert it with onnx.version_converter",
            )
        if version > newest:
            raise UnsupportedFormat(
                f"uses opset {version}, which is newer than the onnx package knows ({newest})",
                place=self.file.place,
                remedy="pip install --upgrade onnx",
            )
        if self.proto.sparse_initializer:
            raise UnsupportedFormat("has sparse weights", place=self.file.place)
        if self.file.proto.functions:
            listed = ", ".join(sorted({f.name for f in self.file.proto.functions}))
            raise UnsupportedFormat(
                f"defines functions of its own ({listed})",
                place=self.file.place,
                remedy="Inline them with onnx.inliner.inline_local_functions",
            )

    def _unknown_inputs(self) -> None:
        weights = {i.name for i in self.proto.initializer}
        known = [i.name for i in self.proto.input if i.name not in weights]
        for name in self.shapes:
            if name not in known:
                raise InputError(
                    f"shapes= names {name!r}, which is no input",
                    place=self.file.place,
                    remedy=nearest(name, known) or f"The inputs are {known}",
                )

    def _refuse_doubles(self, names: Sequence[str]) -> None:
        for name, times in Counter(names).items():
            if times > 1:
                raise GraphError(f"defines {name!r} twice")

    def _input(self, value: onnx.ValueInfoProto) -> None:
        if not value.type.HasField("tensor_type"):
            kind = value.type.WhichOneof("value") or "nothing"
            raise UnsupportedFormat(f"input {value.name!r} is a {kind}, not a tensor")
        tensor = value.type.tensor_type
        given = self.shapes.get(value.name)
        if not tensor.HasField("shape") and given is None:
            raise UnsupportedFormat(
                f"input {value.name!r} has no shape",
                remedy=f"Give one: shapes={{{value.name!r}: (None, 7)}}",
            )
        if given is not None:
            _check_shape(value.name, given)
        dims = list(tensor.shape.dim) if tensor.HasField("shape") else [None] * len(given or ())
        if given is not None and len(given) != len(dims):
            raise InputError(
                f"shapes= gives input {value.name!r} {len(given)} axes; it has {len(dims)}"
            )
        shape = tuple(
            self._dim(value.name, axis, dim, given[axis] if given is not None else None)
            for axis, dim in enumerate(dims)
        )
        self.build.input(value.name, TensorType(dtype_of(tensor.elem_type, value.name), shape))

    def _dim(self, name: str, axis: int, dim: Any, given: int | str | None) -> Dim:
        if isinstance(given, str):
            return symbol(given)
        if given is not None:
            return int(given)
        if dim is not None and dim.HasField("dim_value") and dim.dim_value >= 0:
            return int(dim.dim_value)
        if dim is not None and dim.dim_param:
            return symbol(dim.dim_param)
        return symbol(self._unnamed(BATCH if axis == 0 else f"{name}_{axis}", axis))

    def _unnamed(self, wanted: str, axis: int) -> str:
        """A name for an axis that has none: not one that the file uses for another axis."""
        shapes = [v.type.tensor_type.shape.dim for v in self.proto.input]
        used = {d.dim_param for dims in shapes for d in (dims[1:] if axis == 0 else dims)}
        while wanted in used:
            wanted += "_"
        return wanted

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
        waiting: list[OnnxNode] = []
        for proto in self.proto.node:
            self._attempt(lambda p=proto: waiting.append(self._onnx_node(p)), names=proto.output)
        known |= self.broken
        computed = {o for n in waiting for o in n.outputs}
        for node in waiting:
            undefined = [i for i in node.inputs if i not in known and i not in computed]
            if undefined:
                self._attempt(self._undefined, node, undefined[0], names=undefined)
        known |= self.broken - computed
        missing = [set(n.inputs) - known for n in waiting]
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
            self._attempt(self._cycle, stuck, names=[o for n in stuck for o in n.outputs])
            yield from stuck

    def _undefined(self, node: OnnxNode, value: str) -> None:
        place = str(Origin(self.file.place, node.name or node.op_type))
        raise GraphError(f"reads {value!r}, which nothing computes", place=place)

    def _cycle(self, nodes: Sequence[OnnxNode]) -> None:
        listed = ", ".join(repr(n.name or (*n.outputs, n.op_type)[0]) for n in nodes[:5])
        more = " and others" if len(nodes) > 5 else ""
        raise GraphError(f"nodes {listed}{more} wait for each other: the graph has a cycle")

    def _output(self, name: str) -> None:
        if name not in self.build.types and name not in self.broken:
            remedy = nearest(name, self.build.types)
            raise GraphError(f"nothing computes the output {name!r}", remedy=remedy)

    def _onnx_node(self, node: onnx.NodeProto) -> OnnxNode:
        domain = node.domain or "ai.onnx"
        try:
            attributes = {a.name: attribute_of(a) for a in node.attribute}
        except SofieError as error:
            place = Origin(self.file.place, node.name or next(iter(node.output), ""))
            raise error.at(str(place)) from None
        return OnnxNode(
            name=node.name,
            domain="" if domain == "ai.onnx" else domain,
            op_type=node.op_type,
            version=self.opsets.get(domain, 0),
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            attributes=attributes,
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
        rule = rule_for(node)
        operator = None if rule else _lookup(node)
        if self.broken.intersection(node.inputs):
            self.broken.update(node.outputs)
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
            folded, op = {}, construct(operator.runtime, node.attributes)
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


class _Computed(UnsupportedOperator):
    """What must be known when the model is read is computed when it runs."""


def _lookup(node: OnnxNode) -> type[Operator]:
    """The operator; near names are offered only where the name is not ONNX's own."""
    import onnx

    try:
        return lookup(node.domain, node.op_type)
    except UnsupportedOperator as error:
        if onnx.defs.has(node.op_type, node.domain):
            raise UnsupportedOperator(error.thing) from None
        raise


def _check_shape(name: str, shape: Any) -> None:
    """`InputError` for what cannot be a shape."""
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise InputError(f"shapes= gives input {name!r} {shape!r}, which is no list of sizes")
    for size in shape:
        number = isinstance(size, int) and not isinstance(size, bool) and size >= 0
        if not (number or size is None or (isinstance(size, str) and size)):
            raise InputError(
                f"shapes= gives input {name!r} the size {size!r}",
                remedy="A size is a number, a name, or None for what the file says",
            )
