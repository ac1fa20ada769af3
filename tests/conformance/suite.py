"""ONNX's own tests by name, and which of them are left out and why."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sofie_rdf.ir.types import Array

__all__ = [
    "EXCLUDED",
    "Case",
    "Exclusion",
    "excluded",
    "included",
    "inputs_of",
    "operators_of",
    "shortened",
    "suite",
]

# A light model with so many nodes is large.
_LARGE = 110
# As onnx calls them; "real" are large networks with weights that are all equal ("light models").
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")


@dataclass(frozen=True)
class Case:
    """A model, and pairs of inputs and what it must give for them."""

    name: str
    kind: str
    model: onnx.ModelProto
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float


# Tests that are left out --------------------------------------------------------------------------


@dataclass(frozen=True)
class Exclusion:
    """Tests that need not pass: by name, and why.

    ``refusal`` is what the frontend says of them; without it they run, but their numbers cannot be
    compared, and the tests of this table check what can be said of them.
    """

    names: str
    reason: str
    refusal: str = ""


EXCLUDED: tuple[Exclusion, ...] = (
    Exclusion(
        r"test_ai_onnx_ml_label_encoder_(string_int|tensor)_?.*|test_equal_string.*"
        r"|test_string_(concat|split)_?.*|test_regex_full_match_.*|test_strnorm.*",
        "text, which no column of numbers holds",
        "has the element type string",
    ),
    Exclusion(
        r"test_image_decoder_decode_.*",
        "compressed pictures: decoding JPEG, PNG, WebP, ... is no computation of a network",
        "operator ImageDecoder is not supported",
    ),
    Exclusion(
        r"test_affine_grid_(2d|2d_align_corners|3d_align_corners)_expanded",
        "the numbers of axes of some values depend on numbers in the input 'size': those of a "
        "Squeeze without axes, or of the two branches of an If",
        r"cannot order 4 axes|has branches that give float32\[\] and float32\[1\]",
    ),
    Exclusion(
        r"test_bernoulli.*|test_training_dropout(_default)?(_mask)?",
        "random numbers of NumPy's generator; ONNX does not say which ones a seed stands for",
    ),
    Exclusion(
        r"test_dft_inverse(_opset19)?",
        "wanted are imaginary parts of 1.9e-7 that are rounding errors of the suite: they are 0",
    ),
    Exclusion(
        r"test_attention_4d_causal_fp16_expanded",
        "wanted are float16 with the rounding errors of another order of operations; where ours "
        "differ by more than the tolerance, they are nearer to the result in float64",
    ),
)


def excluded(name: str) -> Exclusion | None:
    """The first entry of the table for this test."""
    return next((e for e in EXCLUDED if re.fullmatch(e.names, name)), None)


# The tests ----------------------------------------------------------------------------------------


@cache
def suite() -> Mapping[str, Case]:
    """All tests by name; node tests are made in memory, which takes seconds, others are read."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        raw = [case for kind in KINDS for case in load_model_tests(kind=kind)]
        cases = {case.name: _case(case) for case in raw}
    if len(cases) != len(raw):
        raise ValueError("two of ONNX's tests have the same name")
    return cases


def _case(raw: Any) -> Case:
    """One of ONNX's tests with its model and its data."""
    model, data_sets, kind = raw.model, raw.data_sets, raw.kind
    if kind == "node":
        kind = "node, expanded" if "_expanded" in raw.name else "node"
    elif kind == "real":
        kind, file = "light models", _data_folder() / "light" / Path(raw.url).name
        model = onnx.load(file)
        data_sets = [([_ramp(v) for v in inputs_of(model)], _light_outputs(file, model))]
    else:
        folder = Path(raw.model_dir)
        model = onnx.load(folder / "model.onnx")
        data_sets = [_data_set(f, model) for f in sorted(folder.glob("test_data_set_*"))]
    return Case(raw.name, kind, model, data_sets, raw.rtol, raw.atol)


def _data_folder() -> Path:
    from onnx.backend.test import loader

    return Path(loader.DATA_DIR)


def _ramp(value: onnx.ValueInfoProto) -> Array:
    """What onnx's own runner feeds to light models: from 0 to 1 in equal steps."""
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    size = int(np.prod(shape))
    return (np.arange(size).reshape(shape) / size).astype(np.float32)


def _light_outputs(file: Path, model: onnx.ModelProto) -> list[Any]:
    return [
        _protobuf(file.with_name(f"{file.stem}_output_{i}.pb"), v)
        for i, v in enumerate(model.graph.output)
    ]


def _data_set(folder: Path, model: onnx.ModelProto) -> tuple[list[Any], list[Any]]:
    inputs = (_protobuf(folder / f"input_{i}.pb", v) for i, v in enumerate(inputs_of(model)))
    outputs = (_protobuf(folder / f"output_{i}.pb", v) for i, v in enumerate(model.graph.output))
    return list(inputs), list(outputs)


def inputs_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are no weights."""
    weights = {i.name for i in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in weights]


def _protobuf(path: Path, value: onnx.ValueInfoProto) -> Any:
    kind = value.type.WhichOneof("value")
    proto = onnx.SequenceProto() if kind == "sequence_type" else onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    if isinstance(proto, onnx.SequenceProto):
        return onnx.numpy_helper.to_list(proto)
    return onnx.numpy_helper.to_array(proto)


# Parts of the suite -------------------------------------------------------------------------------


@cache
def included() -> tuple[str, ...]:
    """The tests that must pass."""
    return tuple(name for name in suite() if not excluded(name))


@cache
def shortened() -> tuple[str, ...]:
    """The tests that run with all others: without large models, and without most expanded ones.

    Of the tests whose operator is expanded to the operators that define it, the first two remain
    for each operator.
    """
    expanded: Counter[frozenset[str]] = Counter()
    kept = []
    for name in included():
        case = suite()[name]
        if case.kind == "node, expanded":
            group = operators_of(re.sub("_expanded.*", "", name))
            expanded[group] += 1
            if expanded[group] > 2:
                continue
        if case.kind != "light models" or len(case.model.graph.node) < _LARGE:
            kept.append(name)
    return tuple(kept)


def operators_of(name: str) -> frozenset[str]:
    """The operators of a test's model, those of graphs in attributes included."""
    return frozenset(node.op_type for node in _every_node(suite()[name].model.graph))


def _every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _every_node(inner)
