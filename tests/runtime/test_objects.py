"""Columns of RVecs: a score for each object of an event, and sets of objects as one input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward
import numpy as np
import pytest
import uproot
from onnx import TensorProto, helper, numpy_helper

import sofie_rdf as sofie

ROOT = pytest.importorskip("ROOT")
DATA = Path(__file__).resolve().parents[2] / "data"
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Ports = dict[str, Any]


def network(nodes: list[Any], inputs: Ports, outputs: Ports, **arrays: Any) -> sofie.Model:
    """A model of these nodes; inputs and outputs are shapes, or (type, shape), by name."""
    infos = [
        [
            helper.make_tensor_value_info(n, *(t if isinstance(t, tuple) else (FLOAT, t)))
            for n, t in ports.items()
        ]
        for ports in (inputs, outputs)
    ]
    weights = [numpy_helper.from_array(a, name) for name, a in arrays.items()]
    graph = helper.make_graph(nodes, "net", *infos, weights)
    opset = [helper.make_opsetid("", 17)]
    return sofie.from_onnx(helper.make_model(graph, opset_imports=opset, ir_version=8))


def linear() -> sofie.Model:
    """y = x0 + 10 x1 + 100 x2"""
    w = np.array([[1], [10], [100]], np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return network([node], {"x": ["N", 3]}, {"y": ["N", 1]}, w=w)


def same(inputs: Ports, **shapes: Any) -> sofie.Model:
    """Every output ``of_x`` is the input x, so that one sees what it was."""
    nodes = [helper.make_node("Identity", [x], [f"of_{x}"]) for x in inputs]
    return network(nodes, inputs, {f"of_{x}": shapes.get(x, t) for x, t in inputs.items()})


def jets(path: Path, events: int = 60) -> Any:
    """Jets of events, up to five in each, as a TTree of jagged branches: the awkward arrays."""
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 6, events)
    counts[:3] = 0, 1, 5
    arrays = {
        name: awkward.unflatten(rng.normal(size=counts.sum()).astype(kind), counts)
        for name, kind in (("pt", "f4"), ("eta", "f8"), ("phi", "f4"))
    }
    arrays["charge"] = awkward.unflatten(rng.integers(-1, 2, counts.sum()).astype("i4"), counts)
    arrays["met"] = rng.normal(size=events)
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", {k: awkward.type(v).content for k, v in arrays.items()})
        tree.extend(arrays)
    return arrays


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    path = tmp_path_factory.mktemp("objects") / "jets.root"
    return str(path), jets(path)


def frame(events: tuple[str, Any]) -> Any:
    return ROOT.RDataFrame("Events", events[0])


def lists(df: Any, column: str) -> list[Any]:
    found = df.AsNumpy([column])[column]
    return [list(v) if hasattr(v, "__len__") else v for v in found]


def rowwise(model: sofie.Model, columns: list[Any], counts: Any) -> list[list[float]]:
    """The model called on each event by itself, of columns that are flat arrays."""
    x = np.stack([np.asarray(c, np.float32) for c in columns], axis=1)
    ends = np.cumsum(counts)
    parts = np.split(x, ends[:-1])
    return [model(part).ravel().tolist() if len(part) else [] for part in parts]


# Objects ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, 3])
def test_a_score_for_each_object(events: tuple[str, Any], threads: int) -> None:
    arrays, model = events[1], linear()
    if threads:
        ROOT.EnableImplicitMT(threads)
    try:
        df = sofie.define(frame(events), "y", model, ["pt", "eta", "charge"])
        assert df.GetColumnType("y") == "ROOT::VecOps::RVec<float>"
        found = dict(zip(lists(df, "rdfentry_"), lists(df, "y"), strict=True)) if threads else None
        found_lists = [found[i] for i in range(len(found))] if found else lists(df, "y")
    finally:
        if threads:
            ROOT.DisableImplicitMT()
    flat = [awkward.flatten(arrays[k]) for k in ("pt", "eta", "charge")]
    assert found_lists == rowwise(model, flat, awkward.num(arrays["pt"]))


def test_numbers_expressions_and_constants_among_objects(events: tuple[str, Any]) -> None:
    arrays, model = events[1], linear()
    df = sofie.define(frame(events), "y", model, ["abs(eta) * 2", "met", 0.5])
    eta, _ = awkward.flatten(arrays["eta"]), 0
    met = np.repeat(arrays["met"], awkward.num(arrays["pt"]))
    flat = [np.abs(eta) * 2, met, np.full(len(met), 0.5)]
    assert lists(df, "y") == rowwise(model, flat, awkward.num(arrays["pt"]))
    # Hidden columns stay hidden.
    assert "y" in [str(c) for c in df.GetColumnNames()]
    assert not any("sofie" in str(c) for c in df.GetColumnNames())


def test_std_vectors_and_c_arrays() -> None:
    df = ROOT.RDataFrame(4).Define("v", "std::vector<double>(rdfentry_, 2.)")
    df = df.Define("b", "std::vector<bool>(rdfentry_, true)").Define(
        "i", "ROOT::RVecI(rdfentry_, 3)"
    )
    df = sofie.define(df, "y", linear(), ["v", "b", "i"])
    assert lists(df, "y") == [[312.0] * n for n in range(4)]


def test_classes_of_objects(events: tuple[str, Any]) -> None:
    node = helper.make_node("Softmax", ["x"], ["p"])
    model = network([node], {"x": ["N", 3]}, {"p": ["N", 3]})
    columns = ["pt", "eta", "phi"]
    with pytest.raises(sofie.ColumnError, match="has 3 numbers for each object"):
        sofie.define(frame(events), "y", model, columns)
    asked = {"first": "p[0]", "last": "p[2]", "kind": "argmax(p)"}
    df = sofie.define(frame(events), asked, model, columns)
    assert df.GetColumnType("kind") == "ROOT::VecOps::RVec<int>"
    x = np.stack([np.asarray(awkward.flatten(events[1][c]), np.float32) for c in columns], axis=1)
    p = model(x)
    for name, wanted in (("first", p[:, 0]), ("last", p[:, 2]), ("kind", p.argmax(1))):
        assert [v for row in lists(df, name) for v in row] == wanted.tolist()


def test_lengths_that_differ_end_the_loop() -> None:
    df = ROOT.RDataFrame(4).Define("a", "ROOT::RVecF(2)")
    df = df.Define("b", "ROOT::RVecF(rdfentry_ == 3 ? 1 : 2)")
    y = sofie.define(df, "y", linear(), ["a", "b", "a"]).Define("n", "y.size()").Sum("n")
    with pytest.raises(Exception, match="entry 3: column 'b' has 1 elements, and 'a' has 2"):
        y.GetValue()


def test_snapshot_of_scores(events: tuple[str, Any], tmp_path: Path) -> None:
    df = sofie.define(frame(events), {"y": "y", "z": "y[0]"}, linear(), ["pt", "eta", "charge"])
    wanted = lists(df, "y")
    options = ROOT.RDF.RSnapshotOptions()
    for kind in ("kTTree", "kRNTuple"):
        options.fOutputFormat = getattr(ROOT.RDF.ESnapshotOutputFormat, kind)
        path = str(tmp_path / f"{kind}.root")
        # All columns: none that only we know may be among them.
        df.Snapshot("scored", path, "", options)
        with uproot.open(path) as file:
            assert file["scored"].arrays()["y"].to_list() == wanted
            assert {"pt", "charge", "met", "z"} <= set(file["scored"].keys())
            assert not any("sofie" in key for key in file["scored"].keys())  # noqa: SIM118


# Sets ---------------------------------------------------------------------------------------------


def test_a_set_of_open_length(events: tuple[str, Any]) -> None:
    columns = ["pt", "eta", "charge"]
    for shape, swap in ((["N", 3, "P"], False), (["N", "P", 3], True)):
        df = sofie.define(frame(events), "y", same({"x": shape}), columns)
        for i, row in enumerate(lists(df, "y")):
            wanted = np.array([events[1][c][i] for c in columns], np.float32)
            assert row == (wanted.T if swap else wanted).ravel().tolist()


def test_bounds_order_and_masks(events: tuple[str, Any]) -> None:
    inputs = {"x": ["N", 2, "P"], "m": ["N", 1, "P"]}
    df = sofie.define(
        frame(events),
        {"x": "of_x", "m": "of_m"},
        same(inputs),
        {"x": ["pt", "charge"]},
        lengths={"P": (2, 4)},
        pad={"x": -9},
        mask="m",
        order_by="pt",
    )
    for i, (x, m) in enumerate(zip(lists(df, "x"), lists(df, "m"), strict=True)):
        order = np.argsort(-np.asarray(events[1]["pt"][i]), kind="stable")[:4]
        padding = max(2 - len(order), 0)
        rows = [np.asarray(events[1][c][i], np.float32)[order] for c in ("pt", "charge")]
        assert (
            x
            == np.concatenate([np.pad(r, (0, padding), constant_values=-9) for r in rows]).tolist()
        )
        assert m == [1.0] * len(order) + [0.0] * padding


def test_a_fixed_length_needs_words(events: tuple[str, Any]) -> None:
    model, columns = same({"x": [1, 4, 2]}), ["pt", "eta"]
    with pytest.raises(sofie.ColumnError, match=r"takes exactly 4 objects.*pad=0\.0"):
        sofie.define(frame(events), "y", model, columns)
    # One column too few of those that objects have.
    with pytest.raises(sofie.ColumnError, match=r"score of each object give 3 columns"):
        sofie.define(frame(events), "y", linear(), ["pt"])
    with pytest.raises(Exception, match="entry 2: column 'pt' has 5 elements; the model takes 4"):
        lists(sofie.define(frame(events), "y", model, columns, pad=0), "y")
    df = sofie.define(frame(events), "y", model, columns, pad=7, truncate=True)
    for i, row in enumerate(lists(df, "y")):
        wanted = np.full((4, 2), 7, np.float32)
        kept = np.array([events[1][c][i][:4] for c in columns]).T
        wanted[: len(kept)] = kept
        assert row == wanted.ravel().tolist()


def test_several_sets_and_numbers_in_one_model(events: tuple[str, Any]) -> None:
    inputs = {
        "jets": ["N", "J", 2],
        "tracks": ["N", "T", 1],
        "event": ["N", 2],
        "ids": (INT64, ["N", "J"]),
    }
    shapes = {"ids": (INT64, ["N", "J"])}
    df = frame(events).Define("t", "ROOT::RVecF(3, float(rdfentry_))")
    columns = {"jets": ["pt", "phi"], "tracks": ["t"], "event": ["met", 5], "ids": ["charge"]}
    shown = {f"s_{k}": f"of_{k}" for k in inputs}
    df = sofie.define(df, shown, same(inputs, **shapes), columns)
    for i in (0, 1, 2, 30):
        row = df.Range(i, i + 1)
        jet = np.array([events[1][c][i] for c in ("pt", "phi")], np.float32).T.ravel().tolist()
        assert lists(row, "s_jets") == [jet]
        assert lists(row, "s_tracks") == [[float(i)] * 3]
        assert lists(row, "s_event") == [[np.float32(events[1]["met"][i]), 5.0]]
        assert lists(row, "s_ids") == [list(events[1]["charge"][i])]
    wrong = columns | {"ids": ["t"]}
    with pytest.raises(sofie.ColumnError, match=r"'ids' takes int64.*'ROOT::RVecI\(t\)'"):
        sofie.define(
            frame(events).Define("t", "ROOT::RVecF(9)"), shown, same(inputs, **shapes), wrong
        )
    wrong = columns | {"ids": ["ROOT::RVecI(t)"]}
    broken = sofie.define(
        frame(events).Define("t", "ROOT::RVecF(9)"), shown, same(inputs, **shapes), wrong
    )
    with pytest.raises(Exception, match=r"'ROOT::RVecI\(t\)' has 9 elements, and 'pt' has"):
        lists(broken, "s_jets")


def test_particlenet_on_jagged_columns(events: tuple[str, Any]) -> None:
    model = sofie.load(DATA / "particlenet.onnx")
    df = frame(events)
    columns = {"pf_points": ["eta", "phi"], "pf_features": ["pt", "eta", "phi", "charge"]}
    df = sofie.define(
        df, "p", model, columns, mask="pf_mask", lengths={"n_pf": (24, None)}, order_by="pt"
    )
    found = lists(df, "p")
    for i in (0, 1, 2, 20):
        order = np.argsort(-np.asarray(events[1]["pt"][i]), kind="stable")
        padded = {
            c: np.pad(np.asarray(events[1][c][i], np.float32)[order], (0, 24 - len(order)))
            for c in ("pt", "eta", "phi", "charge")
        }
        mask = (np.arange(24) < len(order)).astype(np.float32)
        feeds = {k: np.stack([padded[c] for c in v])[None] for k, v in columns.items()}
        wanted = model({**feeds, "pf_mask": mask[None, None]})
        assert found[i] == wanted.ravel().tolist()


@pytest.mark.exhaustive
def test_a_graph_network_on_jagged_columns(tmp_path: Path) -> None:
    """Nodes and edges are sets of their own; some graphs have no edges, or nothing."""
    model, stored = sofie.load(DATA / "graph_network.root"), np.load(DATA / "graph_network.npz")
    graphs = [{k: stored[f"{k}.{i}"] for k in model.inputs} for i in range(4)]
    columns: dict[str, list[Any]] = {}
    arrays: dict[str, Any] = {}
    for name in ("nodes", "edges", "senders", "receivers"):
        parts = [g[name][:, None] if g[name].ndim == 1 else g[name] for g in graphs]
        features = np.concatenate(parts).T
        columns[name] = [f"{name}_{k}" for k in range(len(features))]
        counts = [len(p) for p in parts]
        arrays |= {
            c: awkward.unflatten(f, counts) for c, f in zip(columns[name], features, strict=True)
        }
    columns["globals"] = ["g0", "g1"]
    arrays |= {f"g{k}": np.array([g["globals"][0, k] for g in graphs]) for k in range(2)}
    with uproot.recreate(tmp_path / "graphs.root") as file:
        tree = file.mktree(
            "t", {k: awkward.type(awkward.Array(v)).content for k, v in arrays.items()}
        )
        tree.extend(arrays)
    df = ROOT.RDataFrame("t", str(tmp_path / "graphs.root"))
    shown = {name: f"{name}_out" for name in ("nodes", "edges", "globals")}
    df = sofie.define(df, shown, model, columns)
    for name, output in shown.items():
        for i, row in enumerate(lists(df, name)):
            wanted = stored[f"{output}.{i}"].ravel()
            np.testing.assert_allclose(np.atleast_1d(row), wanted, rtol=0, atol=2e-6)


def test_what_no_set_can_be(events: tuple[str, Any]) -> None:
    df = frame(events)

    def refused(model: sofie.Model, columns: Any, **options: Any) -> str:
        with pytest.raises(sofie.ColumnError) as caught:
            sofie.define(df, "y", model, columns, **options)
        return str(caught.value)

    square = same({"x": [1, 2, 2]})
    assert "more than one axis" in refused(square, ["pt", "eta"], pad=0)
    assert "no axis is left" in refused(same({"x": ["N", 3, "P"]}), ["pt", "eta"])
    assert "no open number" in refused(same({"x": ["N", 2, "P"]}), ["pt", "eta"], lengths={"Q": 3})
    two = same({"x": ["N", 2, "P"], "z": ["N", "Q"]})
    assert "no input 'w'" in refused(two, {"x": ["pt", "eta"], "w": ["pt"]}, output="of_x")
    assert "axes of varying size (Q)" in refused(two, {"x": ["pt", "eta"]}, output="of_x")
    assert "are for models per set" in refused(linear(), ["pt", "eta", "phi"], pad=0)
    assert 'per="object" needs' in refused(linear(), ["met", "met", "met"], per="object")
    # The first axis is that of the objects: an element is of no object in particular.
    cloud = same({"x": ["N", 2]})
    chosen = {"output": "of_x[1]", "per": "set"}
    assert "none of number 1" in refused(cloud, {"x": ["pt", "eta"]}, **chosen)
    # Memory behind an input that has one row would be written.
    row = same({"x": ["N", 2], "z": [1, 1]})
    columns = {"x": ["pt", "eta"], "z": ["pt"]}
    assert "no row for each object" in refused(row, columns, output="of_x", per="object")


def test_masks_and_orders_are_of_the_same_objects(events: tuple[str, Any]) -> None:
    df = frame(events)

    def refused(model: sofie.Model, columns: Any, **options: Any) -> str:
        with pytest.raises(sofie.ColumnError) as caught:
            sofie.define(df, "y", model, columns, output="of_x", **options)
        return str(caught.value)

    columns = {"x": ["pt"]}
    # Of other sizes, memory behind the mask would be written.
    for shapes in (
        (["N", "P"], ["N", 4]),
        ([1, 3], [1, 4]),
        ([1, 4], [1, 3]),
        ([1, 4], ["N", "P"]),
    ):
        model = same(dict(zip("xm", shapes, strict=True)))
        why = refused(model, columns, mask={"m": "x"}, pad=0, truncate=True)
        assert "which it should count" in why
    row = same({"x": ["N", 2], "m": ["N", "P"]})
    assert "which it should count" in refused(row, {"x": ["met", 1]}, mask={"m": "x"}, per="set")
    two = same({"x": ["N", "P"], "z": ["N", "P"]})
    columns = {"x": ["pt"], "z": ["eta"]}
    assert "in another order" in refused(two, columns, order_by={"x": "pt"})
    both = sofie.define(df, "y", two, columns, order_by={"x": "pt", "z": "pt"}, output="of_x")
    assert lists(both, "y")[2] == sorted(events[1]["pt"][2], reverse=True)
    for wrong in (-1, (5, 3), (-2, None)):
        with pytest.raises(sofie.InputError, match="no range of sizes"):
            sofie.define(df, "y", two, columns, output="of_x", lengths={"P": wrong})


def test_outputs_that_no_column_can_have(events: tuple[str, Any]) -> None:
    df = frame(events)
    nodes = [
        helper.make_node("NonZero", ["x"], ["w"]),
        helper.make_node("Neg", ["x"], ["y"]),
    ]
    model = network(nodes, {"x": ["N", 3]}, {"y": ["N", 3], "w": (INT64, [2, None])})
    for output in ("y", "w"):
        with pytest.raises(sofie.ColumnError, match="data decide the size of output 'w'"):
            sofie.define(df, "y", model, ["met"] * 3, output=output)
        with pytest.raises(sofie.ColumnError, match="data decide the size of output 'w'"):
            sofie.SofieFunctor(model, 1, output=output)
    mean = helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1)
    model = network([mean], {"x": ["N", 1]}, {"m": [1, 1]})
    with pytest.raises(sofie.ColumnError, match="has no row for each object"):
        sofie.define(df, "y", model, ["pt"])
    with pytest.raises(sofie.InputError, match="an open number of numbers"):
        sofie.define(df, "y", same({"x": ["N", "P"]}), {"x": ["pt"]}, output="of_x[2]")


# Where, NaN, several outputs ----------------------------------------------------------------------


def test_where_the_model_runs(events: tuple[str, Any]) -> None:
    df = frame(events)
    columns = ["met", "met * 2", 1]
    y = sofie.define(df, "y", linear(), columns, where="met > 0")
    z = sofie.define(y, "z", linear(), columns, where="met > 0", default=-1)
    for met, a, b in zip(events[1]["met"], lists(z, "y"), lists(z, "z"), strict=True):
        if met > 0:
            assert a == b
            assert a > 100
        else:
            assert np.isnan(a)
            assert b == -1
    objects = sofie.define(df, "y", linear(), ["pt", "eta", "phi"], where="met > 0")
    for met, pt, a in zip(events[1]["met"], events[1]["pt"], lists(objects, "y"), strict=True):
        assert len(a) == (len(pt) if met > 0 else 0)


def test_what_becomes_of_nan() -> None:
    df = ROOT.RDataFrame(3).Define("a", "rdfentry_ == 1 ? NAN : 1.")
    columns = ["a", 0, 0]
    assert np.isnan(lists(sofie.define(df, "y", linear(), columns), "y")[1])
    assert lists(sofie.define(df, "y", linear(), columns, nan=-5), "y") == [1, -5, 1]
    assert lists(sofie.define(df, "y", linear(), columns, nan=np.inf), "y") == [1, np.inf, 1]
    looped = sofie.define(df, "y", linear(), columns, nan="error").Sum("y")
    with pytest.raises(Exception, match="entry 1: column 'a' is NaN"):
        looped.GetValue()
    vector = df.Define("v", "ROOT::RVecD{1, a}")
    found = lists(sofie.define(vector, "y", linear(), ["v", 0, 0], nan=7), "y")
    assert found == [[1, 1], [1, 7], [1, 1]]


def test_several_columns_of_one_call() -> None:
    """The model runs once for all of them, and not at all for events that are not kept."""
    calls = "long &calls_of_it() { static long n = 0; return n; }\n"
    ROOT.gInterpreter.Declare(
        f"{calls}double count_call(double x) {{ ++calls_of_it(); return x; }}"
    )
    df = ROOT.RDataFrame(10).Define("a", "double(rdfentry_)")
    node = helper.make_node("Softmax", ["x"], ["p"])
    more = helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0)
    model = network([node, more], {"x": ["N", 2]}, {"p": ["N", 2], "s": []})
    shown = {"p0": "p[0]", "best": "argmax(p)", "p": "p"}
    df = sofie.define(df.Filter("a > 4"), shown, model, ["count_call(a)", 6.0])
    kept = df.Filter("best == 0")
    sums = [df.Sum("p0"), kept.Count(), df.Define("n", "p.size()").Sum("n")]
    assert sums[1].GetValue() == 4
    assert sums[2].GetValue() == 10
    assert ROOT.calls_of_it() == 5
    x = np.stack([np.arange(5, 10), np.full(5, 6)], axis=1).astype(np.float32)
    assert sums[0].GetValue() == pytest.approx(model(x)["p"][:, 0].sum(), rel=1e-6)
    for wrong, words in (("p[2]", "none of number 2"), ("q[0]", "no output 'q'"), ("", "several")):
        with pytest.raises(sofie.InputError, match=words):
            sofie.define(df, {"other": wrong}, model, ["a", 1])


def test_variations_reach_the_scores(events: tuple[str, Any]) -> None:
    varied = frame(events).Vary(
        "pt", "ROOT::RVec<ROOT::RVecF>{pt * 0.9f, pt * 1.1f}", ["down", "up"]
    )
    df = sofie.define(varied, {"y": "y", "z": "y[0]"}, linear(), ["pt", 0, 0])
    sums = ROOT.RDF.Experimental.VariationsFor(df.Define("n", "Sum(y) + Sum(z)").Sum("n"))
    total = float(awkward.sum(events[1]["pt"])) * 2
    assert sums["nominal"] == pytest.approx(total, rel=1e-4)
    assert sums["pt:up"] == pytest.approx(1.1 * total, rel=1e-4)
    assert sums["pt:down"] == pytest.approx(0.9 * total, rel=1e-4)
