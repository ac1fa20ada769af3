"""Errors of a network that runs name the node, and in event loops the entry and the columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import sofie_rdf as sofie
from tests.choice import some_of

ROOT = pytest.importorskip("ROOT")
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
COMPILERS = ("cling", "g++")


def network(
    nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], compiler: str, **arrays: Any
) -> sofie.Model:
    """A model of these nodes, called ``net``; inputs and outputs are (type, shape) by name."""
    infos = [
        [helper.make_tensor_value_info(name, *port) for name, port in ports.items()]
        for ports in (inputs, outputs)
    ]
    weights = [numpy_helper.from_array(a, name) for name, a in arrays.items()]
    graph = helper.make_graph(nodes, "net", *infos, weights)
    opset = [helper.make_opsetid("", 17)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return sofie.from_onnx(made, compiler=compiler)


def three_largest(compiler: str = "cling") -> sofie.Model:
    """The three largest of a set, which may have fewer."""
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"], name="the three", axis=0)
    ports = {"x": (FLOAT, ["n"])}, {"y": (FLOAT, [3]), "i": (INT64, [3])}
    return network([node], *ports, compiler, k=np.array([3]))


def looked_up(compiler: str = "cling") -> sofie.Model:
    """A row of a table by its number."""
    node = helper.make_node("Gather", ["table", "i"], ["y"], name="the table")
    ports = {"i": (INT64, ["N"])}, {"y": (FLOAT, ["N", 2])}
    return network([node], *ports, compiler, table=np.arange(8, dtype=np.float32).reshape(4, 2))


def in_a_loop(compiler: str = "cling") -> sofie.Model:
    """A table read in the body of a Loop."""
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "i"], ["row"], name="the table"),
            helper.make_node("Add", ["sum", "row"], ["more"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", FLOAT, ["N"]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", FLOAT, ["N"]),
        ],
    )
    nodes = [
        helper.make_node("Cast", ["i"], ["zero"], to=FLOAT),
        helper.make_node("Loop", ["m", "", "zero"], ["y"], name="the loop", body=body),
    ]
    table = np.arange(4, dtype=np.float32)
    ports = {"i": (INT64, ["N"])}, {"y": (FLOAT, ["N"])}
    return network(nodes, *ports, compiler, table=table, m=np.array(2))


def events(count: int = 6) -> Any:
    """``v`` has as many elements as the entry is, ``i`` is the entry."""
    df = ROOT.RDataFrame(count).Define("v", "ROOT::RVecF(5 - rdfentry_, 1.f)")
    return df.Define("i", "Long64_t(rdfentry_)").Define("w", "ROOT::RVec<Long64_t>(2, rdfentry_)")


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_kernel_s_error_names_model_and_node(compiler: str) -> None:
    with pytest.raises(sofie.InputError, match=r"^net: the three: TopK of more elements than"):
        three_largest(compiler)(np.zeros(2, np.float32))
    for model in (looked_up(compiler), in_a_loop(compiler)):
        with pytest.raises(sofie.InputError, match=r"^net: the table: index 7 does not exist"):
            model(np.array([1, 7]))


@pytest.mark.parametrize("compiler", some_of(COMPILERS, COMPILERS[:1]))
@pytest.mark.parametrize("batch", some_of([0, 4], [4]))
def test_an_event_loop_names_entry_and_columns(compiler: str, batch: int) -> None:
    df = looked_up(compiler).define(events(), "y", ["i"], output="y[1]", batch=batch)
    with pytest.raises(Exception, match=r"net: entry 4: the table: index 4.*\(columns: 'i'\)"):
        df.Sum("y").GetValue()
    few = looked_up(compiler).define(events().Range(4), "y", ["i"], output="y[1]", batch=batch)
    assert list(few.Take["float"]("y").GetValue()) == [1, 3, 5, 7]


@pytest.mark.parametrize("compiler", some_of(COMPILERS, COMPILERS[:1]))
def test_sets_and_objects_too(compiler: str) -> None:
    df = three_largest(compiler).define(events(), {"y": "y[0]", "j": "i[2]"}, ["v"], per="set")
    with pytest.raises(Exception, match=r"net: entry 3: the three: TopK.*\(columns: 'v'\)"):
        df.Sum("y").GetValue()
    df = looked_up(compiler).define(events(), "y", ["w"], output="y[1]", where="i > 1")
    with pytest.raises(Exception, match=r"net: entry 4: the table: index 4.*\(columns: 'w'\)"):
        df.Sum("y").GetValue()


def test_an_empty_set_into_an_lstm() -> None:
    """Its last step is asked for, as exporters write it, and there is none."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r"], ["all"], name="lstm", hidden_size=2),
        helper.make_node("Gather", ["all", "last"], ["y"], name="the last step", axis=0),
    ]
    rng = np.random.default_rng(1)
    weights = {k: rng.normal(size=(1, 8, n)).astype(np.float32) for k, n in (("w", 3), ("r", 2))}
    ports = {"x": (FLOAT, [1, "n", 3])}, {"y": (FLOAT, [1, 1, 2])}
    model = network(nodes, *ports, "cling", **weights, last=np.array(-1))
    df = model.define(events(), "y", ["v"] * 3, output="y[0]")
    with pytest.raises(Exception, match=r"net: entry 5: the last step: .*\(columns: 'v'\)"):
        df.Sum("y").GetValue()


def test_wrong_columns_name_the_model_as_well() -> None:
    df = ROOT.RDataFrame(5).Define("a", "rdfentry_ == 2 ? NAN : 1.f").Define("v", "ROOT::RVecF{a}")
    x = (FLOAT, ["N", 1])
    model = network([helper.make_node("Relu", ["x"], ["y"])], {"x": x}, {"y": x}, "cling")
    for column in "av":
        found = model.define(df, "y", [column], nan="error")
        with pytest.raises(Exception, match=rf"net: entry 2: column '{column}' is NaN"):
            found.Sum("y").GetValue()


def test_a_functor_of_define_slot_names_what_it_knows() -> None:
    df = events()
    functor = sofie.SofieFunctor(looked_up(), df.GetNSlots(), output="y[1]", types=["Long64_t"])
    with pytest.raises(Exception, match=r"net: the table: index 4 does not exist"):
        df.DefineSlot("y", functor, ["i"]).Sum("y").GetValue()


def test_a_macro_s_reader_names_entry_and_columns(tmp_path: Path) -> None:
    looked_up().save(tmp_path / "m.root")
    ROOT.gInterpreter.Declare('#include "sofie/rdf/RSofieReader.hxx"')
    reader = ROOT.sofie.RSofieReader(str(tmp_path / "m.root"))
    df = reader.Define(ROOT.RDF.AsRNode(events()), "y", ["i"])
    with pytest.raises(Exception, match=r"entry 4: .*the table: index 4.*\(columns: 'i'\)"):
        df.Define("s", "y[0]").Sum("s").GetValue()


@pytest.mark.parametrize("compiler", some_of(COMPILERS, COMPILERS[:1]))
def test_the_traceback_of_a_call_ends_where_our_error_is_raised(compiler: str) -> None:
    model = looked_up(compiler)
    for wrong in (np.array([9]), "text", np.zeros(2, np.float32)):
        with pytest.raises(sofie.InputError) as caught:
            model(wrong)
        paths = [str(entry.path) for entry in caught.traceback[1:]]
        assert paths
        assert all("sofie_rdf" in path for path in paths)
        assert caught.value.__cause__ is None
