"""The NumPy reference of every standard operator against ONNX's own evaluator: a second oracle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sofie_rdf.ir.dims import Size
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import REGISTRY, Operator
from sofie_rdf.ir.text import operator_text
from sofie_rdf.ir.types import Array, DType, TensorType, concrete
from tests.ops.cases import Case
from tests.ops.rows import ROWS
from tests.ops.test_contract import bench, results, sizes_of

STANDARD = sorted(name for domain, name in REGISTRY if domain == "")
OPSET = onnx.defs.onnx_opset_version()


def one_of(*dtypes: str) -> frozenset[DType]:
    return frozenset(map(DType, dtypes))


ALL = frozenset(d for d in DType if not (d.is_half or d.is_storage))
FLOATS = one_of("float32", "float64")
INTEGERS = ALL - FLOATS - one_of("bool")
DOUBLE = one_of("float64")


@dataclasses.dataclass(frozen=True)
class Difference:
    """Where ONNX's evaluator gives something else, and why ours is kept."""

    reason: str
    dtypes: frozenset[DType] = ALL
    extreme_only: bool = False
    message: str = ""  # What the difference must say.


DIFFERENT: Mapping[str, Difference] = {
    "Erf": Difference("theirs is rounded to float32", DOUBLE),
    "Flatten": Difference("theirs raises for a batch of 0", message="cannot reshape"),
    "GatherElements": Difference(
        "theirs wants as many indices as elements along the other axes",
        message="all dimensions of index and self should be the same size",
    ),
    "GatherND": Difference("theirs raises for indices of no numbers", message="cannot reshape"),
    "Gelu": Difference("theirs adds 1 + erf, which cancels, and has constants in float32", FLOATS),
    "Gemm": Difference(
        "theirs multiplies integers as floats, and rounds once behind both", INTEGERS
    ),
    "HardSwish": Difference("theirs has 1/6 in float32", DOUBLE),
    "LogSoftmax": Difference("theirs is the logarithm of a softmax, which underflows", FLOATS),
    "Mean": Difference(
        "theirs adds in place, into the shape of the first input", FLOATS, message="broadcast"
    ),
    "PRelu": Difference("theirs multiplies what it drops: 0 * inf is NaN", FLOATS, True, "nan"),
    "Pad": Difference("theirs raises for negative pads", message="can't contain negative values"),
    "Pow": Difference("theirs raises for negative exponents, and goes through float64", INTEGERS),
    "ScatterElements": Difference("theirs loses NaN that is not first", FLOATS, True, "nan"),
    "Shrink": Difference("theirs makes 0 of NaN", FLOATS, True, "nan"),
    "Softsign": Difference("theirs raises for scalars", FLOATS, message="Issues with types"),
    "ThresholdedRelu": Difference("theirs makes 0 of NaN", FLOATS, True, "nan"),
}


def attributes(op: Operator) -> tuple[dict[str, Any], dict[int, Array]]:
    """The fields as ONNX attributes, and those that ONNX has as inputs by their position."""
    folded = {name: position for position, name in op.folded_inputs().items()}
    plain: dict[str, Any] = {}
    inputs: dict[int, Array] = {}
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        if field.name in folded:
            if value is not None:
                inputs[folded[field.name]] = np.array(value, np.int64)
        elif isinstance(value, Enum):
            plain[field.name] = element_type(DType(value))
        elif value is not None:
            plain[field.name] = int(value) if isinstance(value, bool) else value
    return plain, inputs


def element_type(dtype: DType) -> int:
    return int(helper.np_dtype_to_tensor_dtype(dtype.numpy))


@cache
def evaluator(op: Operator, types: tuple[TensorType | None, ...], result: TensorType) -> Any:
    """ONNX's evaluator for a model of this one node."""
    plain, folded = attributes(op)
    names = [f"x{i}" if t is not None else "" for i, t in enumerate(types)]
    for position, value in sorted(folded.items()):
        names += [""] * (position - len(names))  # Optional inputs that are absent.
        names.insert(position, f"c{position}")
        assert names[position] == f"c{position}", value
    node = helper.make_node(op.name, names, ["y"], **plain)
    inputs = [
        helper.make_tensor_value_info(f"x{i}", element_type(t.dtype), [None] * t.rank)
        for i, t in enumerate(types)
        if t is not None
    ]
    outputs = [helper.make_tensor_value_info("y", element_type(result.dtype), [None] * result.rank)]
    constants = [numpy_helper.from_array(a, f"c{p}") for p, a in folded.items()]
    graph = helper.make_graph([node], "one", inputs, outputs, constants)
    return ReferenceEvaluator(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    )


def as_onnx_stores_it(op: Operator) -> Operator:
    """The operator with its attributes rounded to float32, which is all that a file holds."""
    values = {f.name: getattr(op, f.name) for f in dataclasses.fields(op)}
    floats = {n: float(np.float32(v)) for n, v in values.items() if isinstance(v, float)}
    return dataclasses.replace(op, **floats)


def differs(graph: Graph, node: Node, case: Case, *, extreme: bool) -> str:
    """What is different for this case, or an empty string."""
    sizes = sizes_of(graph, 400 if extreme else 6, 3)
    feeds = feeds_of(graph, node, case, sizes, extreme=extreme)
    op = as_onnx_stores_it(case.op)
    (ours, *_) = results(graph, dataclasses.replace(node, op=op), feeds, exact=False)
    types = tuple(graph.types[i] if i else None for i in node.inputs)
    known = {**graph.constants, **feeds}
    values = {f"x{i}": known[n] for i, n in enumerate(node.inputs) if n}
    try:
        with np.errstate(all="ignore"):
            theirs = evaluator(op, types, graph.types[node.outputs[0]]).run(None, values)[0]
    except Exception as error:
        return f"ONNX's evaluator raises {type(error).__name__}: {error}"
    magnitude: Any = 0.0
    row = ROWS["", op.name]
    if row.magnitude and ours.dtype.kind == "f":
        with np.errstate(all="ignore"):
            magnitude = np.nan_to_num(row.magnitude(op, *values.values()), posinf=0)
    return compare(ours, np.asarray(theirs), magnitude)


def feeds_of(
    graph: Graph, node: Node, case: Case, sizes: Mapping[str, int], *, extreme: bool
) -> dict[str, Array]:
    random = np.random.default_rng(11)
    found = {}
    for position, name in enumerate(node.inputs):
        if name in graph.inputs:
            type_ = graph.types[name]
            shape = concrete(type_.shape, sizes)
            found[name] = case.fill(position)(random, type_.dtype, shape, extreme)
    return found


def compare(ours: Array, theirs: Array, magnitude: Any = 0.0) -> str:
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return f"{ours.dtype}{list(ours.shape)} and ONNX {theirs.dtype}{list(theirs.shape)}"
    if ours.dtype.kind != "f":
        # Half precision and what is only stored has NaN, too.
        wrong = np.asarray((ours != theirs) & ((ours == ours) | (theirs == theirs)))
    else:
        real = np.finfo(ours.dtype)
        with np.errstate(all="ignore"):
            allowed = 100 * real.eps * (np.abs(theirs) + magnitude) + 100 * real.tiny
            near = (ours == theirs) | (np.abs(ours - theirs) <= allowed)
            near |= np.isnan(ours) & np.isnan(theirs)
        wrong = ~near
    if not np.any(wrong):
        return ""
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f"{int(np.sum(wrong))} of {wrong.size}, first at {list(first)}"
    return f"{place}: {ours[first]!r}, ONNX {theirs[first]!r}"


def every_case(name: str) -> list[tuple[Node, Case, DType]]:
    tested = bench(("", name))
    pairs = zip(tested.graph.nodes, tested.cases.values(), strict=True)
    return [(n, c, DType(n.outputs[0].split(".")[0])) for n, c in pairs if not symbolic(c.op)]


def symbolic(op: Operator) -> bool:
    values = (getattr(op, f.name) for f in dataclasses.fields(op))
    listed = (v if isinstance(v, tuple) else (v,) for v in values)
    return any(isinstance(d, Size) for v in listed for d in v)


@pytest.mark.parametrize("extreme", [False, True], ids=["ordinary", "extreme"])
@pytest.mark.parametrize("name", STANDARD)
def test_reference_is_that_of_onnx(name: str, extreme: bool) -> None:
    known = DIFFERENT.get(name)
    wrong: list[str] = []
    excused: list[str] = []
    for node, case, dtype in every_case(name):
        message = differs(bench(("", name)).graph, node, case, extreme=extreme)
        if not message:
            continue
        excuse = known and dtype in known.dtypes and (extreme or not known.extreme_only)
        excuse = excuse and known is not None and known.message in message
        types = ", ".join(str(bench(("", name)).graph.types[i]) for i in node.inputs if i)
        (excused if excuse else wrong).append(f"{operator_text(case.op)}({types}): {message}")
    assert not wrong, f"{len(wrong)} cases:\n" + "\n".join(wrong[:12])
    if known and extreme:
        assert excused, f"{name} agrees now: remove it from DIFFERENT ({known.reason})"
