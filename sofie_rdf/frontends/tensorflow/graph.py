"""A TensorFlow graph, frozen, as ONNX: node by node, with TensorFlow's names.

The graph is a GraphDef of inference, without variables and without calls of functions: what
`frozen` gives. Reading the ONNX model afterwards follows shape arithmetic and types everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.ir.types import Array

if TYPE_CHECKING:
    import onnx

__all__ = ["frozen", "onnx_of"]

OPSET = 20


def frozen(function: Any, signature: Sequence[Any]) -> Any:
    """A ConcreteFunction that is traced with this signature: variables are constants."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    traced = tf.function(function, autograph=False).get_concrete_function(*signature)
    return convert_variables_to_constants_v2(traced)


class _Node:
    """A node of TensorFlow's, and the ONNX nodes that it becomes."""

    def __init__(self, to: _Translation, proto: Any) -> None:
        self.to, self.proto = to, proto
        self.kind, self.name = proto.op, proto.name
        self.inputs = [to.value(i) for i in proto.input if not i.startswith("^")]

    def attribute(self, key: str) -> Any:
        """An attribute as a Python value."""
        found = self.proto.attr[key]
        return getattr(found, found.WhichOneof("value"))

    def integers(self, key: str) -> list[int]:
        return list(self.proto.attr[key].list.i)

    def dtype(self, key: str) -> int:
        """An attribute that names an element type, as ONNX's number of it."""
        import onnx
        import tensorflow as tf

        kind = tf.dtypes.as_dtype(self.proto.attr[key].type)
        if kind in (tf.string, tf.resource, tf.variant):
            raise self.refused(f"has elements of {kind.name}")
        return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind.as_numpy_dtype)))

    def known(self, position: int) -> Array:
        """An input that must be a constant."""
        name = self.inputs[position]
        if name not in self.to.constants:
            raise self.refused(f"computes its input {position}, which must be a constant")
        return self.to.constants[name]

    def rank(self, position: int) -> int:
        """The number of axes of an input."""
        name = self.proto.input[position]
        tensor = self.to.graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
        if tensor.shape.rank is None:
            raise self.refused(f"has an input {position} of any number of axes")
        return int(tensor.shape.rank)

    def refused(self, why: str) -> UnsupportedOperator:
        return UnsupportedOperator(f"TensorFlow's {self.kind} {why}", place=self.name)

    def __call__(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """An ONNX node; the name of its first output."""
        return self.to.add(self.name, kind, inputs, outputs, attributes)

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        return self.to.constant(np.asarray(value, dtype))

    def real(self, value: float) -> str:
        """A number of the type of the attribute T."""
        import tensorflow as tf

        kind = tf.dtypes.as_dtype(self.proto.attr["T"].type).as_numpy_dtype
        return self.constant(value, kind)

    def wide(self, value: str) -> str:
        """Whole numbers as int64, which ONNX wants for shapes and indices."""
        import onnx

        if value in self.to.constants:
            return self.constant(self.to.constants[value])
        return self("Cast", value, to=onnx.TensorProto.INT64)


class _Translation:
    def __init__(self, concrete: Any) -> None:
        self.graph = concrete.graph
        self.definition = concrete.graph.as_graph_def()
        self.constants: dict[str, Array] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.values: dict[str, str] = {}
        self.used: set[str] = set()
        # The outputs of the last ONNX node, which are TensorFlow's where it has several.
        self.last: list[str] = []

    def value(self, name: str) -> str:
        """What a TensorFlow value is called in ONNX."""
        stem, _, number = name.partition(":")
        return self.values[f"{stem}:{number or 0}"]

    def free(self, stem: str) -> str:
        name, number = stem, 1
        while name in self.used:
            number += 1
            name = f"{stem}_{number}"
        self.used.add(name)
        return name

    def constant(self, array: Array, name: str = "constant") -> str:
        name = self.free(name)
        self.constants[name] = array
        return name

    def add(
        self, name: str, kind: str, inputs: Sequence[str], outputs: int, attributes: Any
    ) -> str:
        import onnx

        named = [self.free(name) for _ in range(outputs)]
        self.last = named
        made = onnx.helper.make_node(kind, list(inputs), named, name=name, **attributes)
        self.nodes.append(made)
        return named[0]

    def run(self, inputs: Mapping[str, str]) -> None:
        """All nodes; ``inputs`` are the names of placeholders."""
        import tensorflow as tf

        for proto in self.definition.node:
            if proto.op == "Placeholder":
                self.used.add(inputs[proto.name])
        for proto in self.definition.node:
            if proto.op == "Placeholder":
                self.values[f"{proto.name}:0"] = inputs[proto.name]
            elif proto.op == "Const":
                array = tf.make_ndarray(proto.attr["value"].tensor)
                if array.dtype.kind != "O":
                    self.values[f"{proto.name}:0"] = self.constant(array, proto.name)
            elif proto.op not in ("NoOp", "Assert"):
                self._node(proto)

    def _node(self, proto: Any) -> None:
        maker = _MAKERS.get(proto.op)
        if maker is None:
            raise UnsupportedOperator(
                f"TensorFlow's operation {proto.op} is not supported", place=proto.name
            )
        self.last = []
        folded = self._folded(proto)
        if folded is not None:
            self.values[f"{proto.name}:0"] = self.constant(folded, proto.name)
            return
        first = maker(_Node(self, proto))
        several = self.last if self.last and self.last[0] == first else [first]
        for number, name in enumerate(several):
            self.values[f"{proto.name}:{number}"] = name

    def _folded(self, proto: Any) -> Array | None:
        """What a node gives that computes a few whole numbers of constants, as shapes are."""
        names = [self.value(i) for i in proto.input if not i.startswith("^")]
        if proto.op not in _FOLDED or any(n not in self.constants for n in names):
            return None
        arrays = [self.constants[n] for n in names]
        if any(a.dtype.kind not in "iu" or a.size > _FEW for a in arrays):
            return None
        if proto.op == "Pack" and any(a.ndim for a in arrays):
            return None
        found = np.asarray(_FOLDED[proto.op](*arrays))
        return found if found.size <= _FEW else None


def onnx_of(
    concrete: Any,
    inputs: Sequence[tuple[str, str, type, Sequence[int | str]]],
    outputs: Mapping[str, str],
    name: str,
) -> onnx.ModelProto:
    """A frozen ConcreteFunction as an ONNX model.

    ``inputs`` are placeholder, name, element type and shape; ``outputs`` the values by name.
    """
    import onnx
    from onnx import helper, numpy_helper

    order = _Translation(concrete)
    order.definition = _sorted(order.definition)
    order.used.update(outputs)
    order.run({placeholder: called for placeholder, called, _, _ in inputs})
    for called, value in outputs.items():
        order.nodes.append(helper.make_node("Identity", [order.value(value)], [called]))
    graph = helper.make_graph(
        order.nodes,
        name,
        [
            helper.make_tensor_value_info(
                called, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), list(shape)
            )
            for _, called, kind, shape in inputs
        ],
        [onnx.ValueInfoProto(name=called) for called in outputs],
        [numpy_helper.from_array(a, n) for n, a in order.constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])


def _sorted(definition: Any) -> Any:
    """The same nodes, each behind those that it reads."""
    nodes = {n.name: n for n in definition.node}
    done: dict[str, Any] = {}
    for root in nodes:
        stack = [root]
        while stack:
            name = stack[-1]
            wanted = (i.lstrip("^").partition(":")[0] for i in nodes[name].input)
            missing = [w for w in wanted if w not in done]
            if missing and name not in done:
                stack += missing
            else:
                done[stack.pop()] = nodes[name]
    ordered = type(definition)()
    ordered.node.extend(done.values())
    return ordered


_FEW = 16
_FOLDED: Mapping[str, Callable[..., Any]] = {
    "Sub": np.subtract,
    "AddV2": np.add,
    "Mul": np.multiply,
    "Fill": lambda size, value: np.full(
        size if math.prod(map(int, size)) <= _FEW else _FEW + 1, value
    ),
    "Pack": lambda *numbers: np.stack(numbers),
    "ConcatV2": lambda *parts: np.concatenate(parts[:-1], int(parts[-1])),
}


# Nodes --------------------------------------------------------------------------------------------

_SAME = {
    **{k: k for k in ("Relu", "Elu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Exp", "Log")},
    **{k: k for k in ("Sqrt", "Neg", "Abs", "Sign", "Floor", "Ceil", "Erf", "Sin", "Cos", "Tan")},
    **{k: k for k in ("Sinh", "Cosh", "Asin", "Acos", "Atan", "Asinh", "Acosh", "Atanh")},
    **{k: k for k in ("Add", "Sub", "Mul", "Less", "Greater", "Equal", "Selu", "Reciprocal")},
    "AddV2": "Add",
    "RealDiv": "Div",
    "Maximum": "Max",
    "Minimum": "Min",
    "Pow": "Pow",
    "LessEqual": "LessOrEqual",
    "GreaterEqual": "GreaterOrEqual",
    "LogicalAnd": "And",
    "LogicalOr": "Or",
    "LogicalNot": "Not",
    "Rint": "Round",
    "Inv": "Reciprocal",
    "IsNan": "IsNaN",
    "IsInf": "IsInf",
    "Shape": "Shape",
    "Size": "Size",
    "Softmax": "Softmax",
    "LogSoftmax": "LogSoftmax",
    "BatchMatMulV2": "MatMul",
    "SelectV2": "Where",
    "AddN": "Sum",
}
_IDENTITIES = ("Identity", "StopGradient", "Snapshot", "PreventGradient", "EnsureShape")
_REDUCTIONS = {
    "Sum": "ReduceSum",
    "Mean": "ReduceMean",
    "Max": "ReduceMax",
    "Min": "ReduceMin",
    "Prod": "ReduceProd",
}
_SEGMENTS = {
    "UnsortedSegmentSum": "add",
    "UnsortedSegmentProd": "mul",
    "UnsortedSegmentMax": "max",
    "UnsortedSegmentMin": "min",
}
_WHOLE = {"add": "ReduceSum", "mul": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin"}


def _same(node: _Node) -> str:
    if node.kind == "BatchMatMulV2" and (node.attribute("adj_x") or node.attribute("adj_y")):
        raise node.refused("with a transposed matrix is not supported")
    if node.kind in ("Shape", "Size"):
        return node("Cast", node(_SAME[node.kind], *node.inputs), to=node.dtype("out_type"))
    return node(_SAME[node.kind], *node.inputs)


def _reduction(node: _Node) -> str:
    axes = node.constant(node.known(1).reshape(-1))
    # No axes are all axes for ONNX, and none for TensorFlow.
    keep = int(node.attribute("keep_dims"))
    return node(_REDUCTIONS[node.kind], node.inputs[0], axes, keepdims=keep, noop_with_empty_axes=1)


def _matmul(node: _Node) -> str:
    a, b = node.inputs
    if node.attribute("transpose_a"):
        a = node("Transpose", a, perm=[1, 0])
    if node.attribute("transpose_b"):
        b = node("Transpose", b, perm=[1, 0])
    return node("MatMul", a, b)


def _segments(node: _Node) -> str:
    """Rows added up (or multiplied, ...) by the number of their segment, from the neutral number.

    That of max and min is not infinite in TensorFlow. A single segment has all rows.
    """
    data, numbers, count = node.inputs
    import tensorflow as tf

    kind = tf.dtypes.as_dtype(node.proto.attr["T"].type).as_numpy_dtype
    how = _SEGMENTS[node.kind]
    if np.dtype(kind).kind != "f" and how in ("max", "min"):
        raise node.refused("of whole numbers is not supported")
    neutral = {"add": 0, "mul": 1}.get(how)
    if neutral is None:
        neutral = np.finfo(kind).min if how == "max" else np.finfo(kind).max
    start = node.constant(neutral, kind)
    if count in node.to.constants and node.to.constants[count] == 1:
        reduced = node(_WHOLE[how], data, node.constant([0]), keepdims=1)
        return node(how.title(), reduced, start) if how in ("max", "min") else reduced
    rows = node("Shape", data, start=1)
    rank = node("Reshape", node.wide(count), node.constant([1]))
    shape = node("Concat", rank, rows, axis=0)
    empty = node("Expand", start, shape)
    index = node("Unsqueeze", node.wide(numbers), node.constant([-1]))
    return node("ScatterND", empty, index, data, reduction=how)


def _strided_slice(node: _Node) -> str:
    """x[a, b:c:d, ..., newaxis]: a Slice, then axes that go, then axes that come."""
    lists = [node.known(i).astype(np.int64).tolist() for i in (1, 2, 3)]
    kinds = ("begin", "end", "shrink_axis", "new_axis", "ellipsis")
    mask = {k: node.attribute(f"{k}_mask") for k in kinds}
    large = np.iinfo(np.int64).max
    axis = 0
    slices: list[tuple[int, ...]] = []
    gone: list[int] = []
    new: list[int] = []
    listed = len(lists[0]) - sum(mask[k].bit_count() for k in ("new_axis", "ellipsis"))
    for place, (begin, end, step) in enumerate(zip(*lists, strict=True)):
        bit = 1 << place
        if mask["ellipsis"] & bit:
            axis += node.rank(0) - listed
        elif mask["new_axis"] & bit:
            new.append(axis - len(gone) + len(new))
        else:
            if mask["shrink_axis"] & bit:
                gone.append(axis)
                end, step = begin + 1 if begin != -1 else large, 1
            elif mask["begin"] & bit:
                begin = 0 if step > 0 else large
            if mask["end"] & bit and not mask["shrink_axis"] & bit:
                end = large if step > 0 else -large
            slices.append((begin, end, axis, step))
            axis += 1
    found = node.inputs[0]
    if slices:
        columns = [node.constant(c) for c in zip(*slices, strict=True)]
        found = node("Slice", found, *columns)
    found = node("Squeeze", found, node.constant(gone)) if gone else found
    return node("Unsqueeze", found, node.constant(new)) if new else found


def _gather(node: _Node) -> str:
    if node.proto.attr["batch_dims"].i:
        raise node.refused("with batch_dims is not supported")
    return node("Gather", *node.inputs[:2], axis=int(node.known(2)))


def _reshape(node: _Node) -> str:
    """The shape as it is computed; where all but one of its sizes are constant, -1 and these."""
    shape, allowed = node.wide(node.inputs[1]), 1
    sizes = _sizes(node)
    if shape not in node.to.constants and sizes.count(None) == 1 and 0 not in sizes:
        shape, allowed = node.constant([-1 if s is None else s for s in sizes]), 0
    return node("Reshape", node.inputs[0], shape, allowzero=allowed)


def _sizes(node: _Node) -> list[int | None]:
    """What is known of the sizes of a new shape, by TensorFlow or as parts of a concatenation."""
    graph = node.to.graph
    known = graph.get_tensor_by_name(f"{node.name}:0").shape
    sizes = list(known) if known.rank is not None else []
    source = graph.get_operation_by_name(node.proto.input[1].partition(":")[0])
    if sizes.count(None) < 2 or source.type != "ConcatV2":
        return sizes
    sizes = []
    for part in source.inputs[:-1]:
        name = node.to.value(part.name)
        if name in node.to.constants:
            sizes += node.to.constants[name].tolist()
        else:
            sizes += [None] * (part.shape.num_elements() or 2)
    return sizes


def _pack(node: _Node) -> str:
    axis = node.attribute("axis")
    parts = [node("Unsqueeze", i, node.constant([axis])) for i in node.inputs]
    return node("Concat", *parts, axis=axis)


def _concat(node: _Node) -> str:
    return node("Concat", *node.inputs[:-1], axis=int(node.known(len(node.inputs) - 1)))


def _split(node: _Node) -> str:
    count = node.attribute("num_split")
    axis = int(node.known(0))
    return node("Split", node.inputs[1], outputs=count, axis=axis, num_outputs=count)


def _split_sizes(node: _Node) -> str:
    sizes = node.constant(node.known(1))
    axis = int(node.known(2))
    return node("Split", node.inputs[0], sizes, outputs=len(node.known(1)), axis=axis)


def _unpack(node: _Node) -> str:
    axis, count = node.attribute("axis"), node.attribute("num")
    node("Split", node.inputs[0], outputs=count, axis=axis, num_outputs=count)
    parts = list(node.to.last)
    axes = node.constant([axis])
    found = [node("Squeeze", p, axes) for p in parts]
    node.to.last = found
    return found[0]


def _squeeze(node: _Node) -> str:
    axes = node.integers("squeeze_dims")
    return node("Squeeze", node.inputs[0], *([node.constant(axes)] if axes else []))


def _range(node: _Node) -> str:
    return node("Range", *node.inputs)


def _fill(node: _Node) -> str:
    return node("Expand", node.inputs[1], node.wide(node.inputs[0]))


def _like(node: _Node) -> str:
    one = node.real(1 if node.kind == "OnesLike" else 0)
    return node("Expand", one, node("Shape", node.inputs[0]))


def _cumulative(node: _Node) -> str:
    flags = {k: int(node.attribute(k)) for k in ("exclusive", "reverse")}
    return node("CumSum", node.inputs[0], node.constant(node.known(1)), **flags)


def _transpose(node: _Node) -> str:
    return node("Transpose", node.inputs[0], perm=[int(p) for p in node.known(1)])


def _bias(node: _Node) -> str:
    if node.attribute("data_format") not in (b"NHWC", "NHWC"):
        raise node.refused("of channels that are not last is not supported")
    return node("Add", *node.inputs)


def _einsum(node: _Node) -> str:
    return node("Einsum", *node.inputs, equation=node.attribute("equation").decode())


def _clipped(node: _Node) -> str:
    return node("Clip", node.inputs[0], node.real(0), node.real(6))


def _no_nan(node: _Node) -> str:
    """a / b, and 0 where b is 0."""
    a, b = node.inputs
    zero = node("Equal", b, node.real(0))
    return node("Where", zero, node.real(0), node("Div", a, b))


def _identities(node: _Node) -> str:
    node.to.last = list(node.inputs)
    return node.inputs[0]


def _square(node: _Node, value: str) -> str:
    return node("Mul", value, value)


_MAKERS: dict[str, Callable[[_Node], str]] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_IDENTITIES, lambda node: node.inputs[0]),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(_SEGMENTS, _segments),
    "MatMul": _matmul,
    "BiasAdd": _bias,
    "Einsum": _einsum,
    "Rsqrt": lambda node: node("Reciprocal", node("Sqrt", *node.inputs)),
    "Square": lambda node: node("Mul", node.inputs[0], node.inputs[0]),
    "Erfc": lambda node: node("Sub", node.real(1), node("Erf", *node.inputs)),
    "SquaredDifference": lambda node: _square(node, node("Sub", *node.inputs)),
    "NotEqual": lambda node: node("Not", node("Equal", *node.inputs)),
    "DivNoNan": _no_nan,
    "Relu6": _clipped,
    "LeakyRelu": lambda node: node("LeakyRelu", *node.inputs, alpha=node.attribute("alpha")),
    "Cast": lambda node: node("Cast", *node.inputs, to=node.dtype("DstT")),
    "Reshape": _reshape,
    "ExpandDims": lambda node: node(
        "Unsqueeze", node.inputs[0], node.constant(node.known(1).reshape(-1))
    ),
    "Squeeze": _squeeze,
    "Pack": _pack,
    "Unpack": _unpack,
    "ConcatV2": _concat,
    "Split": _split,
    "SplitV": _split_sizes,
    "StridedSlice": _strided_slice,
    "GatherV2": _gather,
    "Tile": lambda node: node("Tile", node.inputs[0], node.wide(node.inputs[1])),
    "BroadcastTo": lambda node: node("Expand", node.inputs[0], node.wide(node.inputs[1])),
    "Transpose": _transpose,
    "Range": _range,
    "Fill": _fill,
    "ZerosLike": _like,
    "OnesLike": _like,
    "Cumsum": _cumulative,
    "IdentityN": _identities,
    "Where": lambda node: node("Transpose", node("NonZero", *node.inputs), perm=[1, 0]),
}
