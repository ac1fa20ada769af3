"""ONNX: files, bytes and ModelProtos. The nodes are our operators; here they are looked up."""

from __future__ import annotations

import hashlib
import heapq
import types
import typing
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sofie_rdf.errors import (
    CorruptFile,
    GraphError,
    InputError,
    ModelError,
    SofieError,
    UnsupportedFormat,
    UnsupportedOperator,
    nearest,
)
from sofie_rdf.frontends.onnx_upgrade import OnnxNode, rule_for
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim, Size, symbol
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.operator import Operator, lookup
from sofie_rdf.ir.types import Array, DType, TensorType

if TYPE_CHECKING:
    import onnx

__all__ = ["Problems", "check", "read"]

OLDEST_OPSET = 7
# What an axis without name or size is called where it is the first of an input: the batch.
BATCH = "N"

Source: TypeAlias = "str | Path | bytes | onnx.ModelProto"
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


# Bytes -> ModelProto ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    proto: onnx.ModelProto
    place: str
    provenance: Mapping[str, str]


def _open(source: Source) -> _File:
    import onnx

    if isinstance(source, onnx.ModelProto):
        place = str(source.graph.name or "model")
        _refuse_empty(source, place)
        return _File(source, place, {"source": "a ModelProto in memory"})
    if isinstance(source, bytes):
        return _File(_parse(source, "bytes"), "bytes", _provenance(source, "bytes in memory"))
    path = Path(source)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", place=str(path)) from error
    proto = _parse(content, path.name)
    _load_external_data(proto, path)
    return _File(proto, path.name, _provenance(content, path.name))


def _provenance(content: bytes, source: str) -> dict[str, str]:
    return {"source": source, "sha256": hashlib.sha256(content).hexdigest()}


def _parse(content: bytes, place: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except (DecodeError, RuntimeError, ValueError) as error:
        raise CorruptFile("is truncated or no ONNX file", place=place) from error
    _refuse_empty(proto, place)
    return proto


def _refuse_empty(proto: onnx.ModelProto, place: str) -> None:
    if not proto.graph.output:
        raise CorruptFile("holds no ONNX graph", place=place)
    _refuse_undecodable(proto, place)


def _refuse_undecodable(message: Any, place: str) -> None:
    """`CorruptFile` where a name is no text: protobuf leaves such names as they are."""
    for field, value in message.ListFields():
        values = value if _is_repeated(value) else (value,)
        if field.type == field.TYPE_STRING and any(isinstance(v, bytes) for v in values):
            raise CorruptFile(f"holds a {field.name!r} that is no text", place=place)
        if field.type == field.TYPE_MESSAGE:
            for inner in values:
                _refuse_undecodable(inner, place)


def _is_repeated(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _load_external_data(proto: onnx.ModelProto, path: Path) -> None:
    import onnx
    from onnx.external_data_helper import load_external_data_for_model

    try:
        load_external_data_for_model(proto, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise CorruptFile(
            f"keeps weights in other files, which cannot be read: {error}",
            place=path.name,
            remedy="Put those files beside it",
        ) from error


# ModelProto -> Graph ------------------------------------------------------------------------------


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
        self.file = _open(source)
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
        self.build.input(value.name, TensorType(_dtype(tensor.elem_type, value.name), shape))

    def _dim(self, name: str, axis: int, dim: Any, given: int | str | None) -> Dim:
        if isinstance(given, str):
            return symbol(given)
        if given is not None:
            return int(given)
        if dim is not None and dim.HasField("dim_value") and dim.dim_value >= 0:
            return int(dim.dim_value)
        if dim is not None and dim.dim_param:
            return symbol(dim.dim_param)
        return symbol(BATCH if axis == 0 else f"{name}_{axis}")

    def _initializer(self, tensor: onnx.TensorProto) -> None:
        if not tensor.name:
            raise GraphError("a weight has no name")
        array = _array(tensor)
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
            attributes = {a.name: _attribute(a) for a in node.attribute}
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
        for position, field in folded.items():
            if position < len(node.inputs) and node.inputs[position]:
                values[field] = self._known(node, position, field)
        inputs = [i for p, i in enumerate(node.inputs) if p not in folded]
        while inputs and not inputs[-1]:
            inputs.pop()
        if operator.arity()[1] is None and "" in inputs:
            raise GraphError(f"{operator.name} lacks an input that it needs")
        return construct(operator, values), tuple(inputs)

    def _known(self, node: OnnxNode, position: int, field: str) -> Any:
        value = self.build.constants.get(node.inputs[position])
        if value is None:
            raise UnsupportedOperator(
                f"{node.op_type} needs {field!r} ({node.inputs[position]!r}) when the model is "
                "read, but it is computed",
                remedy="Make it a constant of the model, e.g. by exporting with fixed sizes",
            )
        return value.item() if value.ndim == 0 else tuple(value.tolist())


def _lookup(node: OnnxNode) -> type[Operator]:
    """The operator; near names are offered only where the name is not ONNX's own."""
    import onnx

    try:
        return lookup(node.domain, node.op_type)
    except UnsupportedOperator as error:
        if onnx.defs.has(node.op_type, node.domain):
            raise UnsupportedOperator(error.thing) from None
        raise


@cache
def _field_types(operator: Any) -> Mapping[str, Any]:
    # `Dim` names Size before it is defined, and the operator's file need not know it.
    hints = typing.get_type_hints(operator, localns={"Size": Size})
    return {f.name: hints[f.name] for f in fields(operator)}


def construct(operator: type[Operator], attributes: Mapping[str, Any]) -> Operator:
    """The operator with these ONNX attributes; `UnsupportedOperator` for one it does not know."""
    kinds = _field_types(operator)  # type: ignore[arg-type]  # classes do hash
    for name in attributes:
        if name not in kinds:
            raise UnsupportedOperator(
                f"{operator.name} has no attribute {name!r}", remedy=nearest(name, kinds)
            )
    needed = [f.name for f in fields(operator) if f.default is MISSING]
    missing = [n for n in needed if n not in attributes]
    if missing:
        raise GraphError(f"{operator.name} lacks its attribute {missing[0]!r}")
    return operator(**{n: _converted(operator, n, v, kinds[n]) for n, v in attributes.items()})


def _converted(operator: type[Operator], name: str, value: Any, kind: Any) -> Any:
    """The value in a field of this type; ONNX has numbers for bools and for element types."""
    for one in _alternatives(kind):
        if one is DType and type(value) is int:
            return _dtype(value, name)
        if one is bool and type(value) is int:
            return bool(value)
        if one in (bool, int, float, str) and type(value) is one:
            return value
        if typing.get_origin(one) is tuple:
            values = value if isinstance(value, tuple) else (value,)
            if all(type(v) in _alternatives(typing.get_args(one)[0]) for v in values):
                return values
    raise GraphError(f"attribute {name!r} of {operator.name} has the wrong type")


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if union else (kind,)


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


def _dtype(element: Any, what: str) -> DType:
    import onnx

    try:
        return DType(onnx.helper.tensor_dtype_to_np_dtype(element).name)
    except (KeyError, ValueError, TypeError):
        names = {v: k for k, v in onnx.TensorProto.DataType.items()}
        kind = names.get(element, f"number {element}").lower()
        raise UnsupportedOperator(f"{what!r} has the element type {kind}") from None


def _array(tensor: onnx.TensorProto) -> Array:
    import onnx
    from onnx import numpy_helper

    _dtype(tensor.data_type, tensor.name)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise CorruptFile(
            f"weight {tensor.name!r} is in another file, which is not known here",
            remedy="Load the model by its path",
        )
    wrong = CorruptFile(
        f"weight {tensor.name!r} has not the bytes that its shape {list(tensor.dims)} needs"
    )
    if any(d < 0 for d in tensor.dims):
        raise wrong
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise wrong from error


def _attribute(attribute: onnx.AttributeProto) -> Any:
    """The value of an attribute in Python; tensors become arrays, lists become tuples."""
    import onnx

    kinds = onnx.AttributeProto
    if attribute.type == kinds.TENSOR:
        return _array(attribute.t)
    try:
        value = onnx.helper.get_attribute_value(attribute)
    except ValueError as error:
        raise CorruptFile(f"attribute {attribute.name!r} has no type") from error
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if attribute.type in (kinds.INTS, kinds.FLOATS):
        return tuple(value)
    if attribute.type == kinds.STRINGS:
        return tuple(v.decode("utf-8", "replace") for v in value)
    return value
