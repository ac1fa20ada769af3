"""Columns of RDataFrame: right in all slots, and refused early when they cannot be right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import sofie_rdf as sofie

ROOT = pytest.importorskip("ROOT")

HIGGS = Path(__file__).resolve().parents[2] / "data" / "higgs.onnx"
COLUMNS = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]
FLOAT = TensorProto.FLOAT


@pytest.fixture(scope="module")
def higgs() -> sofie.Model:
    return sofie.load(HIGGS)


@pytest.fixture(scope="module")
def events() -> dict[str, Any]:
    """The real HIGGS events that ROOT ships, signal only."""
    import uproot

    with uproot.open(higgs_file()) as file:
        return dict(file["sig_tree"].arrays(COLUMNS, library="np"))


def higgs_file() -> str:
    return f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"


@pytest.fixture(params=[0, 2, 4], ids=["one thread", "two threads", "four threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    if request.param:
        ROOT.EnableImplicitMT(request.param)
    yield request.param
    if request.param:
        ROOT.DisableImplicitMT()


def from_numpy(**columns: Any) -> Any:
    return ROOT.RDF.FromNumpy(columns)


def small(inputs: dict[str, int], outputs: dict[str, tuple[str, int]]) -> sofie.Model:
    """Each output ``name: (input, n)`` is the sum of that input times 1..n."""
    nodes, weights = [], []
    for name, (source, n) in outputs.items():
        w = np.tile(np.arange(1, n + 1, dtype=np.float32), (inputs[source], 1))
        weights.append(numpy_helper.from_array(w, f"w_{name}"))
        nodes.append(helper.make_node("MatMul", [source, f"w_{name}"], [name]))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(i, FLOAT, ["N", n]) for i, n in inputs.items()],
        [helper.make_tensor_value_info(o, FLOAT, ["N", n]) for o, (_, n) in outputs.items()],
        weights,
    )
    return sofie.from_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def test_real_events(higgs: sofie.Model, events: dict[str, Any], threads: int) -> None:
    df = ROOT.RDataFrame("sig_tree", higgs_file())
    # ROOT keeps the smallest pool that this process has had.
    assert (df.GetNSlots() > 1) == (threads > 1)
    df = sofie.define(df, "dnn", higgs, COLUMNS)
    assert df.GetColumnType("dnn") == "float"
    table = df.AsNumpy(["dnn", *COLUMNS])
    # With threads the entries come in another order, each with its own score.
    x = np.stack([table[c] for c in COLUMNS], axis=1)
    np.testing.assert_array_equal(table["dnn"], higgs(x).ravel())
    assert len(x) == len(events["m_jj"])
    assert np.isclose(x.sum(), np.stack(list(events.values())).sum(), rtol=1e-5)


@pytest.mark.usefixtures("threads")
def test_the_functor_object(higgs: sofie.Model) -> None:
    df = ROOT.RDataFrame("sig_tree", higgs_file())
    functor = sofie.SofieFunctor(higgs, df.GetNSlots())
    df = sofie.define(df.DefineSlot("a", functor, COLUMNS), "b", higgs, COLUMNS)
    assert df.Filter("a != b").Count().GetValue() == 0


def test_too_few_slots(higgs: sofie.Model) -> None:
    functor = sofie.SofieFunctor(higgs, 2)
    assert functor(1, *[1.0] * 7) == functor(0, *[1.0] * 7)
    with pytest.raises(Exception, match="GetNSlots"):
        functor(2, *[1.0] * 7)


def test_columns_of_every_arithmetic_type() -> None:
    model = small({"x": 6}, {"y": ("x", 1)})
    df = ROOT.RDataFrame(5)
    types = ["float", "double", "int", "unsigned char", "bool", "Long64_t"]
    for i, kind in enumerate(types):
        df = df.Define(f"c{i}", f"static_cast<{kind}>(rdfentry_ % 2 ? {i} : {i + 1})")
    df = sofie.define(df, "y", model, [f"c{i}" for i in range(len(types))])
    odd = [0, 1, 2, 3, 1, 5]
    even = [1, 2, 3, 4, 1, 6]
    assert list(df.AsNumpy(["y"])["y"]) == [sum(odd) if n % 2 else sum(even) for n in range(5)]


def test_several_outputs_are_an_rvec() -> None:
    model = small({"x": 2}, {"y": ("x", 3)})
    df = from_numpy(a=np.array([1, 2], np.float32), b=np.array([10, 20], np.float32))
    df = sofie.define(df, "y", model, ["a", "b"])
    assert "RVec" in df.GetColumnType("y")
    found = [list(v) for v in df.AsNumpy(["y"])["y"]]
    assert found == [[11, 22, 33], [22, 44, 66]]
    functor = sofie.SofieFunctor(model, 1)
    again = from_numpy(a=np.ones(1, np.float32), b=np.ones(1, np.float32))
    table = again.DefineSlot("y", functor, ["a", "b"]).AsNumpy(["y"])
    assert list(table["y"][0]) == [2, 4, 6]


def test_several_inputs_and_a_chosen_output() -> None:
    model = small({"p": 1, "q": 2}, {"from_p": ("p", 1), "from_q": ("q", 1)})
    df = from_numpy(a=np.float32([1, 2]), b=np.float32([10, 20]), c=np.float32([100, 200]))
    columns = {"q": ["b", "c"], "p": ["a"]}
    for output, wanted in (("from_p", [1, 2]), ("from_q", [110, 220])):
        table = sofie.define(df, "y", model, columns, output=output).AsNumpy(["y"])
        assert list(table["y"]) == wanted
    with pytest.raises(sofie.InputError, match="from_p"):
        sofie.define(df, "y", model, columns)
    with pytest.raises(sofie.ColumnError, match="which"):
        sofie.define(df, "y", model, ["a", "b", "c"], output="from_p")
    with pytest.raises(sofie.ColumnError, match="no input 'r'"):
        sofie.define(df, "y", model, {"r": ["a"]}, output="from_p")
    with pytest.raises(sofie.ColumnError, match="takes 2 numbers; 0"):
        sofie.define(df, "y", model, {"p": ["a"]}, output="from_p")


def test_it_works_with_the_rest_of_rdataframe(higgs: sofie.Model, tmp_path: Path) -> None:
    df = sofie.define(ROOT.RDataFrame("sig_tree", higgs_file()), "dnn", higgs, COLUMNS)
    passed = df.Filter("dnn > 0.5")
    snapshot = passed.Snapshot("t", str(tmp_path / "out.root"), ["dnn", *COLUMNS])
    stored = snapshot.AsNumpy()
    x = np.stack([stored[c] for c in COLUMNS], axis=1)
    np.testing.assert_array_equal(stored["dnn"], higgs(x).ravel())
    assert (stored["dnn"] > 0.5).all()
    varied = ROOT.RDataFrame("sig_tree", higgs_file()).Vary(
        "m_bb", "ROOT::RVecF{0.9f * m_bb, 1.1f * m_bb}", ["down", "up"]
    )
    means = ROOT.RDF.Experimental.VariationsFor(
        sofie.define(varied, "dnn", higgs, COLUMNS).Mean("dnn")
    )
    nominal = means["nominal"]
    assert means["m_bb:down"] != nominal != means["m_bb:up"]


def test_two_data_frames_at_once(higgs: sofie.Model) -> None:
    ROOT.EnableImplicitMT(2)
    try:
        frames = [
            sofie.define(ROOT.RDataFrame(tree, higgs_file()), "dnn", higgs, COLUMNS)
            for tree in ("sig_tree", "bkg_tree")
        ]
        means = [f.Mean("dnn") for f in frames]
        ROOT.RDF.RunGraphs(means)
        signal, background = (m.GetValue() for m in means)
    finally:
        ROOT.DisableImplicitMT()
    assert signal > background


def test_threads_switched_on_after_loading(higgs: sofie.Model) -> None:
    higgs(np.zeros((1, 7), np.float32))
    ROOT.EnableImplicitMT(3)
    try:
        df = sofie.define(ROOT.RDataFrame("sig_tree", higgs_file()), "dnn", higgs, COLUMNS)
        assert 0.5 < df.Mean("dnn").GetValue() < 0.7
    finally:
        ROOT.DisableImplicitMT()


@pytest.mark.parametrize(
    ("column", "columns", "words"),
    [
        ("dnn", COLUMNS[:-1], "takes 7 numbers; 6 columns"),
        ("dnn", [*COLUMNS[:-1], "m_wwwb"], "Did you mean 'm_wwbb'"),
        ("dnn", [*COLUMNS[:-1], None], "no column name"),
        ("dnn", [*COLUMNS[:-1], "m_jj + "], "no column and no expression"),
        ("dnn", "m_jj", "takes 7 numbers; 1 columns"),
        ("m_jj", COLUMNS, "already"),
        ("d nn", COLUMNS, "C++ identifier"),
        ("class", COLUMNS, "C++ identifier"),
    ],
)
def test_wrong_columns(higgs: sofie.Model, column: str, columns: Any, words: str) -> None:
    df = ROOT.RDataFrame("sig_tree", higgs_file())
    with pytest.raises(sofie.ColumnError) as error:
        sofie.define(df, column, higgs, columns)
    assert words in str(error.value)


def test_jagged_and_textual_columns_are_refused(higgs: sofie.Model) -> None:
    df = ROOT.RDataFrame(1).Define("v", "ROOT::RVecF{1, 2}").Define("s", 'std::string("a")')
    df = df.Define("w", "ROOT::RVec<ROOT::RVecF>{{1, 2}}")
    for column, words in (("s", "string"), ("w", "RVec<ROOT")):
        with pytest.raises(sofie.ColumnError, match=words):
            sofie.define(df, "y", higgs, [column] * 7)
    with pytest.raises(sofie.ColumnError, match="one number for each event is needed"):
        sofie.define(df, "y", higgs, ["v"] * 7, per="event")


def test_models_that_need_more_than_numbers() -> None:
    fixed = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "fixed",
        [helper.make_tensor_value_info("x", FLOAT, [4, 2])],
        [helper.make_tensor_value_info("y", FLOAT, [4, 2])],
    )
    df = from_numpy(a=np.ones(1, np.float32))
    opset = [helper.make_opsetid("", 17)]
    model = sofie.from_onnx(helper.make_model(fixed, opset_imports=opset))
    with pytest.raises(sofie.ColumnError, match="fixed batch of 4"):
        sofie.define(df, "y", model, ["a", "a"])
    free = sofie.from_onnx(
        helper.make_model(fixed, opset_imports=opset), shapes={"x": ("N", "n_pf")}
    )
    with pytest.raises(sofie.ColumnError, match="n_pf"):
        sofie.define(df, "y", free, ["a", "a"])


@pytest.mark.parametrize(
    ("nslots", "types", "words"),
    [(0, (), "nslots"), (-1, (), "nslots"), (1.0, (), "nslots"), (True, (), "nslots"),
     (1, ("float",), "1 column types"), (1, ("float; int x",) * 7, "no arithmetic type")],
)  # fmt: skip
def test_wrong_functors(higgs: sofie.Model, nslots: Any, types: Any, words: str) -> None:
    with pytest.raises(sofie.InputError) as error:
        sofie.SofieFunctor(higgs, nslots, types=types)
    assert words in str(error.value)


def test_functor_types_fit_double_columns(higgs: sofie.Model) -> None:
    df = ROOT.RDataFrame(3)
    for c in COLUMNS:
        df = df.Define(c, "1. + rdfentry_")
    functor = sofie.SofieFunctor(higgs, 1, types=["double"] * 7)
    found = df.DefineSlot("y", functor, COLUMNS).AsNumpy(["y"])["y"]
    x = np.tile(1 + np.arange(3, dtype=np.float32)[:, None], 7)
    np.testing.assert_array_equal(found, higgs(x).ravel())
