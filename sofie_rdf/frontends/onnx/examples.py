"""A small model of one node for every operator of ONNX: what the catalogue tries out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Example",
    "element_of",
    "examples",
    "kinds_of",
    "model_of",
    "with_kind",
    "written",
]

Shape: TypeAlias = "tuple[int | str, ...]"
# Names of parameters that count from 0; all others, such as sizes, are 1.
_POSITIONS = ("axes", "axis", "indices", "k", "pads", "position", "starts")


@dataclass(frozen=True)
class Example:
    """Inputs and attributes of a node; inputs in ``constants`` are weights with these elements."""

    shapes: Sequence[Shape]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[int, Any] = field(default_factory=dict)
    outputs: int = 0


def examples(schema: Any) -> Iterator[Example]:
    """Examples of an operator, the likeliest first: one that is written down, then guesses."""
    yield from written(schema.name)
    least = schema.min_input
    for rank, named, constant in itertools.product((2, 3, 1, 4, 0), (True, False), (False, True)):
        attributes = {a.name: _value(a, rank) for a in schema.attributes.values() if a.required}
        shapes = [_shape(i, rank, named) for i in range(least)]
        constants = {}
        if constant:
            names = [schema.inputs[min(i, len(schema.inputs) - 1)].name for i in range(1, least)]
            elements = (int(name.lower() not in _POSITIONS) for name in names)
            constants = {i: np.full((1,) * rank, v) for i, v in enumerate(elements, 1)}
        yield Example(shapes, attributes, constants)


def written(name: str) -> tuple[Example, ...]:
    """The examples of an operator that are no guesses."""
    made = _MADE[name]() if name in _MADE else ()
    return (*_WRITTEN.get(name, ()), *made)


def _shape(number: int, rank: int, named: bool) -> Shape:
    """All sizes open, and to be solved for; or all 1."""
    return tuple(f"s{number}_{axis}" if named else 1 for axis in range(rank))


def _value(attribute: Any, rank: int) -> Any:
    """A value for an attribute that must be there."""
    import onnx

    kinds = onnx.defs.OpSchema.AttrType
    if attribute.name == "kernel_shape":
        return (1,) * max(1, rank - 2)
    if attribute.name in ("pads", "paddings"):
        return (0,) * max(1, 2 * rank)
    if attribute.name == "scales":
        return (1.0,) * max(1, rank)
    if attribute.name in ("axis", "axes"):
        return 0 if attribute.type == kinds.INT else (0,)
    simple = {kinds.INT: 1, kinds.FLOAT: 0.5, kinds.INTS: (1,), kinds.FLOATS: (1.0,)}
    return simple.get(attribute.type, "")


def kinds_of(schema: Any) -> tuple[str, ...]:
    """The attributes that say an element type."""
    names = ("to", "dtype", "output_dtype", "value")
    return tuple(n for n in names if n in schema.attributes and _says_type(schema.attributes[n]))


def _says_type(attribute: Any) -> bool:
    import onnx

    kinds = onnx.defs.OpSchema.AttrType
    return bool(attribute.type == (kinds.TENSOR if attribute.name == "value" else kinds.INT))


def with_kind(example: Example, name: str, text: str) -> Example:
    """The example with an attribute that says this element type."""
    from onnx import helper

    element = element_of(text)
    value = helper.make_tensor("value", element, [1], [1]) if name == "value" else element
    return replace(example, attributes={**example.attributes, name: value})


# One node as a model -----------------------------------------------------------------------------


def model_of(
    schema: Any, example: Example, types: Sequence[str], version: int
) -> onnx.ModelProto | None:
    """The model, with these types of the inputs in ONNX's words; None if there is no such one."""
    from onnx import helper

    try:
        inputs, weights, names = _values(example, types)
        count = max(1, schema.min_output, example.outputs)
        outputs = [f"out{i}" for i in range(count)]
        domain = schema.domain
        node = helper.make_node(schema.name, names, outputs, domain=domain, **example.attributes)
        result = helper.make_tensor_value_info(outputs[0], 1, None)
        graph = helper.make_graph([node], schema.name, inputs, [result], weights)
        opsets = [helper.make_opsetid(domain, version)]
        if domain:
            opsets.append(helper.make_opsetid("", _COMPANION))
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)
    except (KeyError, ValueError, TypeError):
        return None


# ONNX's own opset beside operators of another domain.
_COMPANION = 21


def _values(example: Example, types: Sequence[str]) -> tuple[list[Any], list[Any], list[str]]:
    from onnx import helper

    inputs, weights, names = [], [], []
    for number, (shape, text) in enumerate(zip(example.shapes, types, strict=True)):
        names.append(f"in{number}")
        if number in example.constants:
            array = np.asarray(example.constants[number])
            elements = array.reshape(-1).tolist()
            weights.append(helper.make_tensor(names[-1], element_of(text), array.shape, elements))
        else:
            inputs.append(helper.make_value_info(names[-1], _type_proto(text, shape)))
    return inputs, weights, names


def _type_proto(text: str, shape: Shape) -> Any:
    """``tensor(float)``, ``seq(tensor(float))`` and the like."""
    from onnx import helper

    kind, _, rest = text.rstrip(")").partition("(")
    if kind == "tensor":
        return helper.make_tensor_type_proto(element_of(text), shape)
    make = {"seq": helper.make_sequence_type_proto, "optional": helper.make_optional_type_proto}
    return make[kind](_type_proto(f"{rest})", shape))


def element_of(text: str) -> int:
    """ONNX's number of the element type in ``tensor(float)`` or ``seq(tensor(float))``."""
    import onnx

    name = text.rpartition("(")[2].rstrip(")").upper()
    return int(onnx.TensorProto.DataType.Value(name))


# Where no guess will do --------------------------------------------------------------------------


def _graph(nodes: Sequence[Any], inputs: str, outputs: str) -> Any:
    """A graph in an attribute; nodes are triples of an operator and its inputs and outputs."""
    from onnx import helper

    made = [helper.make_node(name, given.split(), made.split()) for name, given, made in nodes]
    values = (map(helper.make_empty_tensor_value_info, n.split()) for n in (inputs, outputs))
    taken, given = map(list, values)
    return helper.make_graph(made, "body", taken, given)


def _if() -> Iterator[Example]:
    branches = [_graph([(name, "in0", "y")], "", "y") for name in ("Not", "Identity")]
    yield Example([()], dict(zip(("then_branch", "else_branch"), branches, strict=True)))


def _loop() -> Iterator[Example]:
    body = _graph([("Identity", "go", "on"), ("Identity", "v", "w")], "i go v", "on w")
    yield Example([(), (), ("N",)], {"body": body})


def _scan() -> Iterator[Example]:
    body = _graph([("Identity", "s", "t"), ("Identity", "x", "y")], "s x", "t y")
    yield Example([("N",), ("T", "N")], {"body": body, "num_scan_inputs": 1}, outputs=2)


def _map() -> Iterator[Example]:
    from onnx import helper

    for element in (1, 10, 11, 9, *range(2, 8), 12, 13):  # All that a sequence may have.
        body = _graph([("Identity", "x", "y")], "x", "")
        body.output.append(helper.make_tensor_value_info("y", element, ["N"]))
        yield Example([("N",)], {"body": body})


def _constant() -> Iterator[Example]:
    yield Example([], {"value": _tensor(np.ones(2, np.float32))})


def _trees() -> Iterator[Example]:
    for kind in (np.float32, np.float64):
        yield Example(
            _ROWS,
            {
                "tree_roots": (0,),
                "nodes_modes": _tensor(np.zeros(1, np.uint8)),
                "nodes_splits": _tensor(np.ones(1, kind)),
                "nodes_featureids": (0,),
                "nodes_truenodeids": (0,),
                "nodes_falsenodeids": (1,),
                "nodes_trueleafs": (1,),
                "nodes_falseleafs": (1,),
                "leaf_targetids": (0, 0),
                "leaf_weights": _tensor(np.ones(2, kind)),
                "n_targets": 1,
            },
        )


def _tensor(array: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(array, "value")


_MADE = {
    "Constant": _constant,
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
    "SequenceMap": _map,
    "TreeEnsemble": _trees,
}

_IMAGE: Shape = ("N", "C", 4, 4)
_ROWS: Sequence[Shape] = [("N", 2)]
_STATE: Sequence[Shape] = [(), (), (3,), (3,), (3,), (3,)]
_TREE = {
    "nodes_treeids": (0, 0, 0),
    "nodes_nodeids": (0, 1, 2),
    "nodes_featureids": (0, 0, 0),
    "nodes_modes": ("BRANCH_LEQ", "LEAF", "LEAF"),
    "nodes_values": (0.5, 0.0, 0.0),
    "nodes_truenodeids": (1, 0, 0),
    "nodes_falsenodeids": (2, 0, 0),
}


def _leaves(kind: str, ids: str) -> Mapping[str, Any]:
    """The leaves of `_TREE`."""
    lists = {f"{kind}_treeids": (0, 0), f"{kind}_nodeids": (1, 2), ids: (0, 0)}
    return {**_TREE, **lists, f"{kind}_weights": (1.0, 2.0)}


def _recurrent(gates: int) -> Sequence[Example]:
    shapes: list[Shape] = [("T", "N", 3), (1, 4 * gates, 3), (1, 4 * gates, 4)]
    return [Example(shapes, {"hidden_size": 4})]


_WRITTEN: Mapping[str, Sequence[Example]] = {
    "Gradient": (Example((("N", 3),), {"xs": ["in0"], "y": "in0"}),),
    "Adagrad": [Example(_STATE[:5])],
    "Adam": [Example(_STATE)],
    "AffineGrid": [Example([("N", 2, 3), (4,)], constants={1: [2, 1, 4, 5]})],
    "BitShift": [Example([("N",), ("N",)], {"direction": "LEFT"})],
    "AveragePool": [Example([_IMAGE], {"kernel_shape": (2, 2)})],
    "Cast": [Example([("N",)], {"to": 1}), Example([("N",)], {"to": "FLOAT"})],
    "Col2Im": [Example([("N", 4, 9), (2,), (2,)], constants={1: [4, 4], 2: [2, 2]})],
    "GRU": _recurrent(3),
    "GroupNormalization": [
        Example([("N", 4, "S"), (4,), (4,)], {"num_groups": 2}),
        Example([("N", 4, "S"), (2,), (2,)], {"num_groups": 2}),
    ],
    "InstanceNormalization": [Example([("N", 4, "S"), (4,), (4,)])],
    "Imputer": [
        Example(_ROWS, {"imputed_value_floats": (0.5,)}),
        Example(_ROWS, {"imputed_value_int64s": (1,)}),
    ],
    "LSTM": _recurrent(4),
    "LabelEncoder": [
        Example(_ROWS, {f"keys_{k}": (1,), f"values_{v}": (2.0 if v == "floats" else 2,)})
        for k in ("int64s", "floats")
        for v in ("floats", "int64s")
    ],
    "LinearAttention": [
        Example(
            [("N", "S", 4)] * 3,
            {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": "linear"},
        )
    ],
    "LinearClassifier": [
        Example(_ROWS, {"coefficients": (1.0, 2.0, 3.0, 4.0), "classlabels_ints": (0, 1)})
    ],
    "LinearRegressor": [Example(_ROWS, {"coefficients": (1.0, 2.0)})],
    "LpPool": [Example([_IMAGE], {"kernel_shape": (2, 2)})],
    "MaxPool": [Example([_IMAGE], {"kernel_shape": (2, 2)})],
    "MaxRoiPool": [Example([_IMAGE, ("R", 5)], {"pooled_shape": (2, 2)})],
    "MaxUnpool": [Example([_IMAGE, _IMAGE], {"kernel_shape": (2, 2)})],
    "Momentum": [
        Example(
            _STATE[:5],
            {"alpha": 0.5, "beta": 0.5, "norm_coefficient": 0.0, "mode": "standard"},
        )
    ],
    "NegativeLogLikelihoodLoss": [Example([("N", 3), ("N",)])],
    "NonMaxSuppression": [Example([("N", "B", 4), ("N", "C", "B")])],
    "Pad": [Example([("N", 3), (4,)], constants={1: [0, 1, 0, 1]})],
    "Optional": [Example([("N",)])],
    "RNN": _recurrent(1),
    "Reshape": [Example([("N", 2), (1,)]), Example([("N", 2)], {"shape": (-1,)})],
    "Resize": [Example([_IMAGE, (0,), (4,)], constants={1: [], 2: [1, 1, 2, 2]})],
    "ReverseSequence": [Example([("T", "N"), ("N",)])],
    "RoiAlign": [Example([_IMAGE, ("R", 4), ("R",)])],
    "RotaryEmbedding": [Example([("N", 2, "S", 4), ("N", "S", 2), ("N", "S", 2)])],
    "SVMClassifier": [
        Example(
            _ROWS,
            {
                "coefficients": (1.0, 2.0),
                "support_vectors": (1.0, 2.0, 3.0, 4.0),
                "vectors_per_class": (1, 1),
                "rho": (0.5,),
                "classlabels_ints": (0, 1),
                "kernel_params": (0.5, 0.0, 3.0),
                "kernel_type": "RBF",
            },
        )
    ],
    "SVMRegressor": [
        Example(
            _ROWS,
            {
                "coefficients": (1.0, 2.0),
                "support_vectors": (1.0, 2.0, 3.0, 4.0),
                "n_supports": 2,
                "rho": (0.5,),
                "kernel_params": (0.5, 0.0, 3.0),
                "kernel_type": "RBF",
            },
        )
    ],
    "Scaler": [Example(_ROWS, {"scale": (1.0, 2.0), "offset": (0.0, 0.0)})],
    "SoftmaxCrossEntropyLoss": [Example([("N", 3), ("N",)])],
    "Split": [
        Example([("N", 4)], {"axis": 1, **more}, outputs=2) for more in ({"num_outputs": 2}, {})
    ],
    "SequenceInsert": [Example([("N",), ("M",)])],
    "SequenceAt": [Example([("N",), ()])],
    "TfIdfVectorizer": [
        Example(
            _ROWS,
            {
                "mode": "TF",
                "ngram_counts": (0,),
                "ngram_indexes": (0,),
                "pool_int64s": (1,),
                "min_gram_length": 1,
                "max_gram_length": 1,
                "max_skip_count": 0,
            },
        )
    ],
    "TreeEnsembleClassifier": [
        Example(_ROWS, {**_leaves("class", "class_ids"), "classlabels_int64s": (0, 1)})
    ],
    "TreeEnsembleRegressor": [Example(_ROWS, {**_leaves("target", "target_ids"), "n_targets": 1})],
}
