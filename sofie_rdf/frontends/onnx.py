"""ONNX: files, bytes and ModelProtos. The nodes are our operators; here they are looked up."""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Iterable, Mapping, Sequence
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
from sofie_rdf.ir.dims import Dim, symbol
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
        return _File(source, source.graph.name or "model", {"source": "a ModelProto in memory"})
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
    if not proto.graph.output or not proto.opset_import:
        raise CorruptFile("holds no ONNX graph", place=place)
    return proto


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


class _Reader:
    def __init__(
        self, source: Source, name: str, shapes: Shapes, problems: Problems | None
    ) -> None:
        self.file = _open(source)
        self.proto = self.file.proto.graph
        self.problems = problems
        self.shapes = shapes
        stem = Path(source).stem if isinstance(source, (str, Path)) else self.proto.name
        self.build = Builder(name or stem or "model", self._provenance())
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
        self._unknown_inputs()
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
        if self.problems:
            return self.build.graph()
        try:
            return self.build.graph(*outputs)
        except SofieError as error:
            raise error.at(self.file.place) from None

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

        self.opsets = {o.domain or "ai.onnx": o.version for o in self.file.proto.opset_import}
        version = self.opsets.get("ai.onnx", OLDEST_OPSET)
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
        known = [i.name for i in self.proto.input]
        for name in self.shapes:
            if name not in known:
                raise InputError(
                    f"shapes= names {name!r}, which is no input",
                    place=self.file.place,
                    remedy=nearest(name, known) or f"The inputs are {known}",
                )

    def _refuse_doubles(self, names: Sequence[str]) -> None:
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise GraphError(f"defines {doubled[0]!r} twice")

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
        array = _array(tensor)
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise CorruptFile(
                f"weight {tensor.name!r} holds NaN",
                remedy="The training has diverged, or the file is damaged",
            )
        self.build.constant(array, tensor.name)

    # Nodes ---------------------------------------------------------------------------------------

    def _sorted(self) -> Iterable[OnnxNode]:
        """The nodes in an order that can run; nodes that cannot run are reported."""
        known = {"", *(v.name for v in self.proto.input), *(i.name for i in self.proto.initializer)}
        waiting = [self._onnx_node(n) for n in self.proto.node]
        produced = {o for n in waiting for o in n.outputs}
        while waiting:
            blocked = []
            for node in waiting:
                missing = [i for i in node.inputs if i not in known]
                undefined = [i for i in missing if i not in produced]
                if undefined:
                    self._attempt(self._undefined, node, undefined[0], names=node.outputs)
                if missing and not undefined:
                    blocked.append(node)
                    continue
                known.update(node.outputs)
                if not undefined:
                    yield node
            if len(blocked) == len(waiting):
                self._attempt(self._cycle, blocked)
                return
            waiting = blocked

    def _undefined(self, node: OnnxNode, value: str) -> None:
        place = str(Origin(self.file.place, node.name or node.op_type))
        raise GraphError(f"reads {value!r}, which nothing computes", place=place)

    def _cycle(self, nodes: Sequence[OnnxNode]) -> None:
        listed = ", ".join(repr(n.name or n.outputs[0]) for n in nodes[:5])
        more = " and others" if len(nodes) > 5 else ""
        raise GraphError(f"nodes {listed}{more} wait for each other: the graph has a cycle")

    def _onnx_node(self, node: onnx.NodeProto) -> OnnxNode:
        domain = node.domain or "ai.onnx"
        return OnnxNode(
            name=node.name,
            domain="" if domain == "ai.onnx" else domain,
            op_type=node.op_type,
            version=self.opsets.get(domain, 0),
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            attributes={a.name: _attribute(a) for a in node.attribute},
        )

    def _node(self, node: OnnxNode, origin: Origin) -> None:
        try:
            self._convert(node, origin)
        except SofieError as error:
            raise error.at(str(origin)) from None

    def _convert(self, node: OnnxNode, origin: Origin) -> None:
        rule = rule_for(node)
        operator = None if rule else lookup(node.domain, node.op_type)
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


@cache
def _field_types(operator: Any) -> Mapping[str, Any]:
    hints = typing.get_type_hints(operator)
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
    wrong = GraphError(f"attribute {name!r} of {operator.name} has the wrong type")
    if kind is DType:
        return _dtype(value, name)
    if kind is bool and isinstance(value, (int, bool)):
        return bool(value)
    if kind in (int, float, str):
        if type(value) is kind:
            return value
        raise wrong
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = (value,)
    if not isinstance(value, tuple):
        raise wrong
    return value


def _dtype(element: Any, what: str) -> DType:
    import onnx

    try:
        return DType(onnx.helper.tensor_dtype_to_np_dtype(element).name)
    except (KeyError, ValueError, TypeError):
        names = {v: k for k, v in onnx.TensorProto.DataType.items()}
        kind = names.get(element, f"number {element}").lower()
        raise UnsupportedOperator(f"{what!r} has the element type {kind}") from None


def _array(tensor: onnx.TensorProto) -> Array:
    from onnx import numpy_helper

    _dtype(tensor.data_type, tensor.name)
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptFile(
            f"weight {tensor.name!r} has not the bytes that its shape {list(tensor.dims)} needs"
        ) from error


def _attribute(attribute: onnx.AttributeProto) -> Any:
    """The value of an attribute in Python; tensors become arrays, lists become tuples."""
    import onnx

    kinds = onnx.AttributeProto
    if attribute.type == kinds.TENSOR:
        return _array(attribute.t)
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if attribute.type in (kinds.INTS, kinds.FLOATS):
        return tuple(value)
    if attribute.type == kinds.STRINGS:
        return tuple(v.decode("utf-8", "replace") for v in value)
    return value
