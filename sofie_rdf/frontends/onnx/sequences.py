"""Sequences and optionals of an ONNX file.

Where the tensors of a sequence are known one by one, as after SequenceConstruct, it is no value at
all: SequenceAt is one of them. Otherwise it is the two tensors of `sofie_rdf.ops.sequences`. An
optional tensor is a sequence of at most one; an optional sequence is a sequence and a bool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from sofie_rdf.errors import GraphError, TypeMismatch, UnsupportedFormat, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules import OnnxNode
from sofie_rdf.frontends.onnx.values import dtype_of
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import UNKNOWN, symbol
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import DType, Shape, TensorType, normal_axis
from sofie_rdf.ops.assumptions import Assume
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.control_flow import SizeOfAxis
from sofie_rdf.ops.creation import Shape as ShapeOf
from sofie_rdf.ops.elementwise import Greater
from sofie_rdf.ops.layout import Concat, Identity, Reshape, Split, Squeeze, Unsqueeze
from sofie_rdf.ops.sequences import (
    SEQUENCE_PARTS,
    ConcatSequence,
    SequenceAt,
    SequenceErase,
    SequenceInsert,
    SplitSequence,
)

if TYPE_CHECKING:
    import onnx

    from sofie_rdf.frontends.onnx.scope import Scope

__all__ = [
    "SequenceValue",
    "as_kind",
    "declare_input",
    "handler",
    "of_parts",
    "outside",
    "packed",
    "part_names",
    "write_output",
]

Kind: TypeAlias = Literal["sequence", "optional", "optional sequence"]
Handler: TypeAlias = "Callable[[Scope, OnnxNode, Origin], None]"

# Sequences that are longer are not followed tensor by tensor.
_LONGEST = 256


@dataclass(frozen=True)
class SequenceValue:
    """A sequence or optional: its tensors one by one, or the names of what holds all of them.

    ``shape`` is what is known of the shape of each tensor, with UNKNOWN for other sizes; None where
    not even the number of axes is known.
    """

    dtype: DType
    kind: Kind = "sequence"
    items: tuple[str, ...] | None = None
    parts: tuple[str, ...] = ()
    shape: Shape | None = None
    # Whether there is a sequence, for an optional one.
    present: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it is known that it holds nothing."""
        return self.items == ()


# Between sequences and tensors --------------------------------------------------------------------


def part_names(name: str, value: SequenceValue) -> tuple[str, ...]:
    """What the tensors of a sequence are called where it is given a name."""
    count = 3 if value.kind == "optional sequence" else 2
    return tuple(f"{name}.{part}" for part in SEQUENCE_PARTS[:count])


def packed(build: Builder, value: SequenceValue, axes: int = 0) -> tuple[str, ...]:
    """The tensors that hold a sequence; an empty one may be of tensors with this many axes."""
    parts = value.parts
    if value.items is not None:
        types = [build.type_of(i) for i in value.items]
        most = max((t.rank for t in types), default=axes)
        if not value.items:
            elements = build.constant(np.empty(0, value.dtype.numpy))
            parts = elements, build.constant(np.empty((0, most), np.int64))
        else:
            typed = list(zip(value.items, types, strict=True))
            flat = [build(Reshape((t.size,), allowzero=True), i) for i, t in typed]
            rows = [_row(build, i, t, most) for i, t in typed]
            parts = build(Concat(0), *flat), build(Concat(0), *rows)
    return (*parts, value.present) if value.kind == "optional sequence" else parts


def _row(build: Builder, item: str, type_: TensorType, axes: int) -> str:
    """The row for one tensor among the shapes of a sequence."""
    missing = axes - type_.rank
    sizes = build(ShapeOf(), item)
    if missing:
        sizes = build(Concat(0), build.constant(np.full(missing, -1, np.int64)), sizes)
    return build(Reshape((1, axes), allowzero=True), sizes)


def of_parts(build: Builder, value: SequenceValue, parts: Sequence[str]) -> SequenceValue:
    """The same kind of sequence in these tensors; of what it holds, what their types say."""
    axes = build.type_of(parts[1]).shape[1]
    shape = value.shape
    if shape is None or len(shape) != axes:
        shape = (UNKNOWN,) * axes if isinstance(axes, int) else None
    present = parts[2] if value.kind == "optional sequence" else ""
    return replace(value, items=None, parts=tuple(parts[:2]), shape=shape, present=present)


def as_kind(build: Builder, value: SequenceValue, kind: Kind) -> SequenceValue:
    """A sequence where an optional one may be."""
    if value.kind == "sequence" and kind == "optional sequence":
        return replace(value, kind=kind, present=build.constant(np.array(True)))
    return value


def outside(value: SequenceValue, other: SequenceValue | None = None) -> SequenceValue:
    """What is known outside of a graph of a sequence that it gives, or one of two graphs."""
    shapes = [v.shape for v in (value, other) if v is not None]
    if None in shapes or len({len(s) for s in shapes if s is not None}) > 1:
        return replace(value, shape=None)
    sizes = zip(*(s for s in shapes if s is not None), strict=True)
    shape = tuple(d[0] if isinstance(d[0], int) and len(set(d)) == 1 else UNKNOWN for d in sizes)
    return replace(value, shape=shape)


def declare_input(build: Builder, value: onnx.ValueInfoProto) -> SequenceValue:
    """The tensors that an input of the file is which is no tensor."""
    kind, tensor = _declared(value)
    dtype = dtype_of(tensor.elem_type, value.name)
    known = tensor.HasField("shape")
    sizes = [d.dim_value if d.HasField("dim_value") else UNKNOWN for d in tensor.shape.dim]
    shape = tuple(sizes) if known else None
    empty = SequenceValue(dtype, kind, shape=shape)
    elements, shapes, *present = (build.fresh(n) for n in part_names(value.name, empty))
    count, axes = symbol(f"{value.name}.length"), symbol(f"{value.name}.axes")
    build.input(elements, TensorType(dtype, (symbol(f"{value.name}.elements"),)))
    build.input(shapes, TensorType(DType.INT64, (count, axes if shape is None else len(shape))))
    for name in present:
        build.input(name, TensorType(DType.BOOL))
    return of_parts(build, empty, (elements, shapes, *present))


def _declared(value: onnx.ValueInfoProto) -> tuple[Kind, Any]:
    """What an input is, and the type of its tensors."""
    type_, kind = value.type, value.type.WhichOneof("value") or "nothing"
    optional = kind == "optional_type"
    if optional:
        type_ = type_.optional_type.elem_type
    if type_.WhichOneof("value") == "sequence_type":
        type_ = type_.sequence_type.elem_type
        if type_.WhichOneof("value") == "tensor_type":
            return "optional sequence" if optional else "sequence", type_.tensor_type
    elif optional and type_.WhichOneof("value") == "tensor_type":
        return "optional", type_.tensor_type
    raise UnsupportedFormat(f"input {value.name!r} is a {kind}, not a tensor or a list of tensors")


def write_output(
    build: Builder, output: onnx.ValueInfoProto, value: SequenceValue
) -> tuple[str, ...]:
    """The tensors of a sequence under the names that an output of the file has."""
    if output.type.WhichOneof("value") == "sequence_type":
        value = replace(value, kind="sequence")
    wanted = part_names(output.name, value)
    for part, own in zip(packed(build, value), wanted, strict=False):
        if part != own:
            build(Identity(), part, outputs=(own,))
    return wanted


# Nodes --------------------------------------------------------------------------------------------


def handler(node: OnnxNode, sequences: Mapping[str, SequenceValue]) -> Handler | None:
    """What reads a node that makes, takes or gives sequences."""
    if node.domain:
        return None
    if node.op_type == "Identity" and node.inputs and node.inputs[0] in sequences:
        return _identity
    return _HANDLERS.get(node.op_type)


def _sequence(scope: Scope, node: OnnxNode, position: int = 0) -> SequenceValue:
    name = node.inputs[position] if position < len(node.inputs) else ""
    if name not in scope.sequences:
        raise TypeMismatch(f"{node.op_type} needs a sequence; {name!r} is none")
    return scope.sequences[name]


def _give(scope: Scope, node: OnnxNode, value: SequenceValue) -> None:
    (name,) = node.outputs
    scope.sequences[name] = value


def _tensor(scope: Scope, node: OnnxNode, made: str, origin: Origin) -> None:
    """A tensor as the output of the node."""
    scope.build(Identity(), made, outputs=node.outputs, origin=origin)


def _identity(scope: Scope, node: OnnxNode, origin: Origin) -> None:  # noqa: ARG001
    _give(scope, node, _sequence(scope, node))


def _construct(scope: Scope, node: OnnxNode, origin: Origin) -> None:  # noqa: ARG001
    """A sequence of these tensors."""
    types = [scope.build.type_of(i) for i in node.inputs]
    if not types or len({t.dtype for t in types}) > 1:
        raise TypeMismatch("SequenceConstruct needs tensors of one element type")
    _give(scope, node, SequenceValue(types[0].dtype, items=node.inputs))


def _empty(scope: Scope, node: OnnxNode, origin: Origin) -> None:  # noqa: ARG001
    """A sequence of none."""
    dtype = dtype_of(node.attributes.get("dtype", 1), node.outputs[0])
    _give(scope, node, SequenceValue(dtype, items=()))


def _place_known(scope: Scope, node: OnnxNode, value: SequenceValue, position: int) -> int | None:
    """The place in a sequence that an input says, if that and the tensors are known."""
    if value.items is None:
        return None
    known = scope.build.value_of(node.inputs[position])
    if known is None or known.dtype == object or known.size != 1:
        return None
    place, count = int(known.item()), len(value.items)
    if not -count <= place <= count:
        raise GraphError(f"{node.op_type} asks for place {place} in a sequence of {count}")
    return place


def _place(scope: Scope, node: OnnxNode, position: int) -> str:
    """The input that says a place, as one int64."""
    name = node.inputs[position]
    type_ = scope.build.type_of(name)
    if not type_.dtype.is_integer or type_.size != 1:
        raise TypeMismatch(f"{node.op_type} needs one integer for the place, not {type_}")
    if type_.dtype is not DType.INT64:
        name = scope.build(Cast(DType.INT64), name)
    return scope.build(Reshape(()), name) if type_.rank else name


def _shape_of_items(build: Builder, value: SequenceValue) -> Shape | None:
    """What is known of the shapes of all tensors of a sequence."""
    if not value.items:
        return value.shape
    shapes = [build.type_of(i).shape for i in value.items]
    if len({len(s) for s in shapes}) > 1:
        return None
    return tuple(d[0] if len(set(d)) == 1 else UNKNOWN for d in zip(*shapes, strict=True))


def _known_rank(build: Builder, node: OnnxNode, value: SequenceValue) -> Shape:
    shape = _shape_of_items(build, value)
    if shape is None:
        raise UnsupportedOperator(
            f"{node.op_type} reads {node.inputs[0]!r}, of whose tensors the number of axes is not "
            "known",
            remedy="Declare the shape of the tensors of the sequence, or export without sequences",
        )
    return shape


def _assumed(build: Builder, made: str, shape: Shape) -> str:
    """A tensor of which some sizes are known: the run checks them."""
    own = build.type_of(made).shape
    sizes = tuple(p if d == UNKNOWN else d for d, p in zip(shape, own, strict=True))
    return build(Assume(sizes), made) if sizes != own else made


def _read_at(
    scope: Scope, node: OnnxNode, value: SequenceValue, place: str, origin: Origin
) -> None:
    build = scope.build
    shape = _known_rank(build, node, value)
    elements, shapes, *_ = packed(build, value)
    made = build(SequenceAt(len(shape)), elements, shapes, place, origin=origin)
    _tensor(scope, node, _assumed(build, made, shape), origin)


def _at(scope: Scope, node: OnnxNode, origin: Origin) -> None:
    """The tensor at a place of a sequence; negative places count from its end."""
    value = _sequence(scope, node)
    place = _place_known(scope, node, value, 1)
    if place is None:
        _read_at(scope, node, value, _place(scope, node, 1), origin)
        return
    assert value.items is not None
    if not -len(value.items) <= place < len(value.items):
        raise GraphError(f"there is no place {place} in a sequence of {len(value.items)}")
    _tensor(scope, node, value.items[place], origin)


def _insert(scope: Scope, node: OnnxNode, origin: Origin) -> None:
    """A sequence with one more tensor, at a place or at its end."""
    build, value, x = scope.build, _sequence(scope, node), node.inputs[1]
    type_ = build.type_of(x)
    if type_.dtype is not value.dtype:
        raise TypeMismatch(f"SequenceInsert puts {type_.dtype} into a sequence of {value.dtype}")
    at_end = len(node.inputs) < 3 or not node.inputs[2]
    if value.items is not None:
        place = len(value.items) if at_end else _place_known(scope, node, value, 2)
        if place is not None:
            items = list(value.items)
            items.insert(place, x)
            _give(scope, node, replace(value, items=tuple(items)))
            return
    shape = _shape_of_items(build, value)
    elements, shapes, *_ = packed(build, value, type_.rank)
    count = build.type_of(shapes).shape[0]
    where = build(SizeOfAxis(0), shapes) if at_end else _place(scope, node, 2)
    outputs = [build.fresh(n) for n in part_names(node.outputs[0], value)[:2]]
    build(SequenceInsert(), elements, shapes, x, where, outputs=outputs, origin=origin)
    alone = count == 0 or value.is_empty
    if shape is None or alone or len(shape) != type_.rank:
        shape = type_.shape if alone else None
    else:
        shape = tuple(p if p == q else UNKNOWN for p, q in zip(shape, type_.shape, strict=True))
    _give(scope, node, replace(value, items=None, parts=tuple(outputs), shape=shape))


def _erase(scope: Scope, node: OnnxNode, origin: Origin) -> None:
    """A sequence without the tensor at a place, or without the last."""
    build, value = scope.build, _sequence(scope, node)
    at_end = len(node.inputs) < 2 or not node.inputs[1]
    place = -1 if at_end and value.items is not None else None
    if not at_end:
        place = _place_known(scope, node, value, 1)
    if place is not None and value.items is not None:
        items = list(value.items)
        if not -len(items) <= place < len(items):
            raise GraphError(f"there is no place {place} in a sequence of {len(items)}")
        del items[place]
        _give(scope, node, replace(value, items=tuple(items)))
        return
    shape = _shape_of_items(build, value)
    elements, shapes, *_ = packed(build, value)
    where = build.constant(np.array(-1, np.int64)) if at_end else _place(scope, node, 1)
    outputs = [build.fresh(n) for n in part_names(node.outputs[0], value)[:2]]
    build(SequenceErase(), elements, shapes, where, outputs=outputs, origin=origin)
    _give(scope, node, replace(value, items=None, parts=tuple(outputs), shape=shape))


def _length(scope: Scope, node: OnnxNode, origin: Origin) -> None:
    """How many tensors a sequence has."""
    value = _sequence(scope, node)
    if value.items is not None:
        made = scope.build.constant(np.array(len(value.items), np.int64))
    else:
        made = scope.build(SizeOfAxis(0), value.parts[1], origin=origin)
    _tensor(scope, node, made, origin)


def _concat(scope: Scope, node: OnnxNode, origin: Origin) -> None:
    """The tensors of a sequence one after the other along an axis, old or new."""
    build, value = scope.build, _sequence(scope, node)
    new_axis = bool(node.attributes.get("new_axis", 0))
    shape = _known_rank(build, node, value)
    rank = len(shape) + new_axis
    if "axis" not in node.attributes:
        raise GraphError("ConcatFromSequence lacks its attribute 'axis'")
    axis = normal_axis(node.attributes["axis"], rank)
    if value.items:
        items = list(value.items)
        if new_axis:
            items = [build(Unsqueeze((axis,)), i) for i in items]
        build(Concat(axis), *items, outputs=node.outputs, origin=origin)
        return
    elements, shapes, *_ = packed(build, value)
    made = build(ConcatSequence(axis, rank, new_axis), elements, shapes, origin=origin)
    sizes = list(shape)
    sizes[axis : axis if new_axis else axis + 1] = [UNKNOWN]
    _tensor(scope, node, _assumed(build, made, tuple(sizes)), origin)


def _split(scope: Scope, node: OnnxNode, origin: Origin) -> None:
    """A tensor cut along an axis into a sequence, in parts that are given or of one size."""
    build, x = scope.build, node.inputs[0]
    type_ = build.type_of(x)
    axis = normal_axis(node.attributes.get("axis", 0), type_.rank)
    given = node.inputs[1] if len(node.inputs) > 1 else ""
    bare = not given and not node.attributes.get("keepdims", 1)
    parts = _parts(build, type_, axis, given)
    if parts is not None:
        fresh = [build.fresh(f"{node.outputs[0]}.{i}") for i in range(len(parts))]
        build(Split(axis, split=parts), x, outputs=fresh, origin=origin)
        items = [build(Squeeze((axis,)), i) for i in fresh] if bare else fresh
        _give(scope, node, SequenceValue(type_.dtype, items=tuple(items)))
        return
    split = []
    if given:
        dtype = build.type_of(given).dtype
        split = [given if dtype is DType.INT64 else build(Cast(DType.INT64), given)]
    outputs = [build.fresh(f"{node.outputs[0]}.{part}") for part in SEQUENCE_PARTS[:2]]
    build(SplitSequence(axis, not bare), x, *split, outputs=outputs, origin=origin)
    shape = list(type_.shape)
    shape[axis : axis + 1] = [] if bare else [UNKNOWN]
    _give(scope, node, SequenceValue(type_.dtype, parts=tuple(outputs), shape=tuple(shape)))


def _parts(build: Builder, x: TensorType, axis: int, given: str) -> tuple[int, ...] | None:
    """The sizes of the parts of an axis, where they are known and not too many."""
    whole = x.shape[axis]
    if not given:
        return (1,) * whole if isinstance(whole, int) and 0 < whole <= _LONGEST else None
    known = build.value_of(given)
    if known is None or known.dtype == object:
        return None
    if known.ndim:
        return tuple(map(int, known)) if 0 < known.size <= _LONGEST else None
    part = int(known)
    if part <= 0:
        raise GraphError("SplitToSequence cannot cut into parts of no size")
    if not isinstance(whole, int) or not 0 < whole <= part * _LONGEST:
        return None
    full, rest = divmod(whole, part)
    return (part,) * full + ((rest,) if rest else ())


# Optionals ----------------------------------------------------------------------------------------


def _optional(scope: Scope, node: OnnxNode, origin: Origin) -> None:  # noqa: ARG001
    """A value that is there, or none."""
    build = scope.build
    name = node.inputs[0] if node.inputs else ""
    if not name:
        kind, dtype = _optional_type(node)
        absent = build.constant(np.array(False)) if kind == "optional sequence" else ""
        value = SequenceValue(dtype, kind, items=(), present=absent)
    elif name in scope.sequences:
        present = build.constant(np.array(True))
        value = replace(scope.sequences[name], kind="optional sequence", present=present)
    else:
        value = SequenceValue(build.type_of(name).dtype, "optional", items=(name,))
    _give(scope, node, value)


def _optional_type(node: OnnxNode) -> tuple[Kind, DType]:
    """What an optional without a value would hold."""
    type_ = node.attributes.get("type")
    if type_ is None or not hasattr(type_, "WhichOneof"):
        raise GraphError("Optional has neither an input nor a type")
    kind: Kind = "optional"
    if type_.WhichOneof("value") == "sequence_type":
        type_, kind = type_.sequence_type.elem_type, "optional sequence"
    return kind, dtype_of(type_.tensor_type.elem_type, node.outputs[0])


def _has_element(scope: Scope, node: OnnxNode, origin: Origin) -> None:
    """Whether there is a value."""
    build = scope.build
    name = node.inputs[0] if node.inputs else ""
    value = scope.sequences.get(name)
    if value is None or value.kind == "sequence":
        made = build.constant(np.array(bool(name)))
    elif value.kind == "optional sequence":
        made = value.present
    elif value.items is not None:
        made = build.constant(np.array(bool(value.items)))
    else:
        count = build(SizeOfAxis(0), value.parts[1])
        made = build(Greater(), count, build.constant(np.array(0, np.int64)))
    _tensor(scope, node, made, origin)


def _get_element(scope: Scope, node: OnnxNode, origin: Origin) -> None:
    """The value that is there."""
    value = scope.sequences.get(node.inputs[0])
    if value is None:
        _tensor(scope, node, node.inputs[0], origin)
    elif value.kind == "optional":
        if value.items:
            _tensor(scope, node, value.items[0], origin)
        else:
            first = scope.build.constant(np.array(0, np.int64))
            _read_at(scope, node, value, first, origin)
    else:
        _give(scope, node, replace(value, kind="sequence", present=""))


_HANDLERS: Mapping[str, Handler] = {
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceAt": _at,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceLength": _length,
    "ConcatFromSequence": _concat,
    "SplitToSequence": _split,
    "Optional": _optional,
    "OptionalHasElement": _has_element,
    "OptionalGetElement": _get_element,
}


def handled() -> Mapping[str, str]:
    """The operators that are read here, and what they give."""
    return {name: read.__doc__ or "" for name, read in _HANDLERS.items()}
