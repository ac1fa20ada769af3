"""Outputs of loops and branches as columns: of a known size, whatever computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import ColumnError
from sofie_rdf.ir.types import Array
from tests.frontends.models import model, node, value
from tests.runtime.agreement import agree
from tests.runtime.test_control_flow import ON, ROUND, SIGN, ZERO, body, branch, loop, vector

ROOT = pytest.importorskip("ROOT")
pytest.importorskip("onnxruntime")


def events(count: int = 40, features: int = 4) -> Array:
    return np.random.default_rng(3).normal(size=(count, features)).astype(np.float32)


def in_columns(compiled: sofie.Model, x: Array, column: Any = "y", **options: Any) -> Any:
    """The data frame with the model's column, of as many features as x has."""
    frame = ROOT.RDF.FromNumpy({f"x{i}": x[:, i].copy() for i in range(x.shape[1])})
    return compiled.define(frame, column, [f"x{i}" for i in range(x.shape[1])], **options)


def rows(df: Any, column: str) -> Array:
    return np.stack([np.asarray(one) for one in df.AsNumpy([column])[column]])


def same_as_rows_alone(compiled: sofie.Model, x: Array) -> None:
    """`define` and `score` give what a call with each row alone gives, to the last bit."""
    alone = np.concatenate([compiled(row[None]) for row in x])
    np.testing.assert_array_equal(rows(in_columns(compiled, x), "y"), alone)
    scored = np.asarray(compiled.score({f"x{i}": x[:, i] for i in range(x.shape[1])}))
    assert (scored.dtype, scored.shape) == (alone.dtype, alone.shape)
    np.testing.assert_array_equal(scored, alone)


def rounds_of_a_layer(rounds: int, *behind: Any, output: str = "y") -> Any:
    """h = tanh(h w + x), several times."""
    inner = body(
        [
            ON,
            node("MatMul", "h w", "product"),
            node("Add", "product x", "sum"),
            node("Tanh", "sum", "next"),
        ],
        "on:bool next",
        {**ROUND, "h": ["N", 4]},
    )
    given = {"k": np.array(rounds, np.int64), "w": events(4)}
    return model([loop("k - x", "y", inner), *behind], {"x": ["N", 4]}, output, given)


def test_a_loop_is_a_column() -> None:
    proto = rounds_of_a_layer(3)
    compiled = agree(proto, {"x": events(5)}, {"x": events(2)}, {"x": events(7)})
    same_as_rows_alone(compiled, events())


def test_one_output_is_that_of_the_loop_and_another_is_made_of_it() -> None:
    """What the loop gives is read after it is given out, and is given out twice."""
    behind = [node("Exp", "y", "e"), node("Identity", "y", "again"), node("Abs", "e", "z")]
    proto = rounds_of_a_layer(2, *behind, output="y z again")
    compiled = agree(proto, {"x": events(5)}, {"x": events(3)})
    df = in_columns(compiled, events(), {"a": "y[1]", "b": "z[1]", "c": "argmax(again)"})
    found = df.AsNumpy(["a", "b", "c"])
    alone = [compiled(row[None]) for row in events()]
    for column, name in (("a", "y"), ("b", "z")):
        np.testing.assert_array_equal(found[column], [one[name][0, 1] for one in alone])
    np.testing.assert_array_equal(found["c"], [np.argmax(one["again"]) for one in alone])


def test_a_branch_is_a_column() -> None:
    one, other = body([node("Exp", "x", "a")], "a"), body([node("Neg", "x", "b")], "b")
    proto = model([*SIGN, branch("up", "y", one, other)], {"x": ["N", 4]}, "y", ZERO)
    compiled = agree(proto, {"x": events(5)}, {"x": -events(5)})
    x = events()
    alone = np.concatenate([compiled(row[None]) for row in x])
    np.testing.assert_array_equal(rows(in_columns(compiled, x), "y"), alone)


def test_a_scan_is_a_column() -> None:
    """What is stacked, in as many rounds as the input has features."""
    inner = body(
        [node("Add", "s column", "next"), node("Identity", "next", "row")],
        "next row",
        {"s": ["N"], "column": ["N"]},
    )
    axes: Any = {"scan_input_axes": [1], "scan_output_axes": [1]}
    scan = node("Scan", "start x", "last y", body=inner, num_scan_inputs=1, **axes)
    start = node("ReduceSum", "x axis", "start", keepdims=0)
    proto = model([start, scan], {"x": ["N", 4]}, "y", {"axis": vector(1)})
    compiled = agree(proto, {"x": events(5)}, {"x": events(2)})
    same_as_rows_alone(compiled, events())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_loop_is_a_column() -> None:
    torch = pytest.importorskip("torch")
    from tests.frontends.torch.scripted_loop import Rounds

    module = torch.jit.script(Rounds().eval())
    compiled = sofie.from_torch(module, torch.zeros(2, 4))
    assert str(compiled.graph.types[compiled.graph.outputs[0]]) == "float32[N, 4]"
    x = events()
    same_as_rows_alone(compiled, x)
    with torch.no_grad():
        np.testing.assert_allclose(compiled(x), module(torch.from_numpy(x)), rtol=2e-6, atol=1e-6)


def test_a_loop_over_sets_scores_jagged_arrays() -> None:
    ak = pytest.importorskip("awkward")
    inner = body(
        [ON, node("Mul", "h h", "square"), node("Add", "square x", "next")],
        "on:bool next",
        {**ROUND, "h": ["N", 4]},
    )
    proto = model([loop("k - x", "y", inner)], {"x": ["N", 4]}, "y", {"k": np.array(2, np.int64)})
    compiled = sofie.from_onnx(proto)
    x = events(6)
    jets = ak.unflatten(ak.Array({f"f{i}": x[:, i] for i in range(4)}), [2, 0, 3, 1])
    found = compiled.score(jets, ["f0", "f1", "f2", "f3"])
    np.testing.assert_array_equal(ak.to_numpy(ak.flatten(found)), compiled(x))


def test_sizes_that_the_data_decide_are_refused() -> None:
    proto = model([node("NonZero", "x", "y")], [value("x", ["N", 4])], "y")
    compiled = sofie.from_onnx(proto)
    with pytest.raises(ColumnError, match="the data decide the size of output 'y'"):
        in_columns(compiled, events())
