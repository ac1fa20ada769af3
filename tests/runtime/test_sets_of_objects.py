"""Columns of vectors of vectors: each object has a set, as the particles of each jet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import sofie_rdf as sofie
from tests.choice import some_of
from tests.runtime.conftest import Threads
from tests.runtime.test_objects import INT64, network

ROOT = pytest.importorskip("ROOT")

# Particles of the jets of an event; some events have no jets, and some jets no particles.
JETS = """
ROOT::RVec<ROOT::RVec<float>> particles(ULong64_t entry, float shift)
{
   ROOT::RVec<ROOT::RVec<float>> jets(entry % 4);
   for (std::size_t j = 0; j < jets.size(); ++j)
      for (std::size_t k = 0; k < (entry + 3 * j) % 5; ++k)
         jets[j].push_back(shift + entry + 0.25f * j - 0.5f * k * k);
   return jets;
}
"""
EVENTS = 25


@pytest.fixture(scope="module", autouse=True)
def _declared() -> None:
    ROOT.gInterpreter.Declare(f"namespace sets_of_objects {{ {JETS} }}")


def frame() -> Any:
    made = ROOT.RDataFrame(EVENTS)
    for name, shift in (("pt", 0), ("eta", 100)):
        made = made.Define(name, f"sets_of_objects::particles(rdfentry_, {shift})")
    made = made.Define("mass", "ROOT::RVecD(pt.size(), 0.5 + rdfentry_)")
    return made.Define("met", "float(rdfentry_)")


@pytest.fixture
def df() -> Any:
    return frame()


def sets() -> sofie.Model:
    """Of particles [N, P, 2] and a jet [N, 2]: the sum of pt * eta, and sums with the jet."""
    nodes = [
        helper.make_node("ReduceProd", ["x"], ["products"], axes=[2], keepdims=0),
        helper.make_node("ReduceSum", ["products", "one"], ["y"], keepdims=1),
        helper.make_node("ReduceSum", ["x", "two"], ["sums"], keepdims=0),
        helper.make_node("Concat", ["sums", "jet"], ["all"], axis=1),
    ]
    inputs = {"x": ["N", "P", 2], "jet": ["N", 2]}
    arrays = {"one": np.int64([1]), "two": np.int64([1])}
    return network(nodes, inputs, {"y": ["N", 1], "all": ["N", 4]}, **arrays)


def values(df: Any, *names: str) -> list[list[Any]]:
    """Of each event, for each column: numbers, lists, or lists of lists."""

    def plain(value: Any) -> Any:
        return [plain(v) for v in value] if hasattr(value, "__len__") else float(value)

    taken = [df.Take[df.GetColumnType(n)](n) for n in names]
    return [[plain(v) for v in event] for event in zip(*(t.GetValue() for t in taken), strict=True)]


COLUMNS = {"x": ["pt", "eta"], "jet": ["mass", "met"]}


def expected(df: Any) -> list[list[list[np.ndarray]]]:
    """y and all of each jet, by a call for each."""
    model, found = sets(), []
    for pt, eta, mass, met in values(df, "pt", "eta", "mass", "met"):
        jets = []
        for p, e, m in zip(pt, eta, mass, strict=True):
            x = np.float32([p, e]).T.reshape(1, -1, 2)
            given = model(x=x, jet=np.float32([[m, met]]))
            jets.append([given["y"][0], given["all"][0]])
        found.append(jets)
    return found


@pytest.mark.parametrize("per", ["", "object"])
def test_each_object_has_a_score(df: Any, per: str) -> None:
    more: Any = {"per": per} if per else {}
    out = sofie.define(
        df, {"y": "y", "met_of": "all[3]", "most": "argmax(all)"}, sets(), COLUMNS, **more
    )
    assert "RVec<float>" in out.GetColumnType("y")
    wanted = expected(df)
    assert sum(map(len, wanted)) > 30
    for jets, (y, met, most) in zip(wanted, values(out, "y", "met_of", "most"), strict=True):
        assert y == [float(j[0][0]) for j in jets]
        assert met == [float(j[1][3]) for j in jets]
        assert most == [int(np.argmax(j[1])) for j in jets]


def test_where_and_threads(df: Any, threads: Threads) -> None:
    wanted = expected(df)
    with threads(2):
        made = frame().Define("n", "double(rdfentry_)")
        out = sofie.define(made, "y", sets(), COLUMNS, output="y", where="n < 12")
        found = {int(n): y for n, y in values(out, "n", "y")}
    for n, jets in enumerate(wanted):
        assert found[n] == ([float(j[0][0]) for j in jets] if n < 12 else [])


def padded() -> sofie.Model:
    """Three particles at most, with a mask; the output is all that the network sees."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("Concat", ["flat", "mask"], ["y"], axis=1),
    ]
    inputs = {"x": ["N", 3, 2], "mask": ["N", 3]}
    return network(nodes, inputs, {"y": ["N", 9]}, shape=np.int64([-1, 6]))


def test_pads_masks_and_orders(df: Any) -> None:
    names = {f"y{i}": f"y[{i}]" for i in range(9)}
    options: Any = {"pad": -7, "truncate": True, "mask": "mask", "order_by": "eta"}
    out = sofie.define(df, names, padded(), {"x": ["pt", "eta"]}, **options)
    for pt, eta, *seen in values(out, "pt", "eta", *names):
        for j, (p, e) in enumerate(zip(pt, eta, strict=True)):
            order = np.argsort(-np.array(e), kind="stable")[:3]
            rows = np.full((3, 2), -7.0)
            rows[: len(order)] = np.stack([p, e], 1)[order] if len(order) else 0
            wanted = [*rows.ravel(), *(float(k < len(e)) for k in range(3))]
            assert [s[j] for s in seen] == wanted


def test_what_is_wrong_names_the_object(df: Any) -> None:
    out = sofie.define(df, "y", padded(), {"x": ["pt", "eta"]}, output="y[0]", pad=0, mask="mask")
    with pytest.raises(Exception, match=r"entry 3: object 2: column 'pt' has 4 elements"):
        out.Filter("rdfentry_ == 3").Sum("y").GetValue()
    short = df.Define("short_mass", "ROOT::RVecD(1, 1.)")
    out = sofie.define(
        short, "y", sets(), {"x": ["pt", "eta"], "jet": ["short_mass", "met"]}, output="y"
    )
    with pytest.raises(Exception, match="'short_mass' has 1 elements, and 'pt' has 0"):
        out.Sum("y").GetValue()


def test_what_is_refused(df: Any) -> None:
    def tried(model: sofie.Model, columns: Any, **options: Any) -> None:
        sofie.define(df, "z", model, columns, **options)

    with pytest.raises(sofie.ColumnError, match="a set for each object of an event"):
        tried(sets(), COLUMNS, output="y", per="set")
    with pytest.raises(sofie.ColumnError, match="more than one number for each object"):
        tried(sets(), COLUMNS, output="all")
    with pytest.raises(sofie.InputError, match="each object of an event has a set of its own"):
        tried(sets(), COLUMNS, output="y", batch=64)
    draws = helper.make_node("RandomNormalLike", ["x"], ["r"])
    add = helper.make_node("ReduceSum", ["r", "axes"], ["y"], keepdims=0)
    random = network([draws, add], {"x": ["N", "P", 2]}, {"y": ["N"]}, axes=np.int64([1, 2]))
    with pytest.raises(sofie.ColumnError, match="the same for all objects"):
        tried(random, ["pt", "eta"])
    three = df.Define("deep", "ROOT::RVec<ROOT::RVec<ROOT::RVec<float>>>(1)")
    with pytest.raises(sofie.ColumnError, match="numbers or RVecs of numbers"):
        sofie.define(three, "z", sets(), {"x": ["deep", "eta"], "jet": ["mass", "met"]}, output="y")


@pytest.mark.parametrize("ntuple", some_of([False, True], [True]))
def test_from_files(df: Any, tmp_path: Path, ntuple: bool) -> None:
    path = str(tmp_path / "jets.root")
    options = ROOT.RDF.RSnapshotOptions()
    if ntuple:
        options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    names = ["pt", "eta", "mass", "met"]
    plain = df
    for name in ("pt", "eta"):
        text = (
            f"std::vector<std::vector<float>> all; for (auto &j : {name}) "
            "all.emplace_back(j.begin(), j.end()); return all;"
        )
        plain = plain.Redefine(name, text)
    plain.Snapshot("Events", path, names, options)
    read = ROOT.RDataFrame("Events", path)
    out = sofie.define(read, "y", sets(), COLUMNS, output="y")
    for jets, (y,) in zip(expected(df), values(out, "y"), strict=True):
        assert y == [float(j[0][0]) for j in jets]


def test_elements_of_arrays_are_features() -> None:
    made = ROOT.RDataFrame(6).Define("a", "std::array<float, 3>{1.f, 2.f, float(rdfentry_)}")
    made = made.Define("b", "2. * rdfentry_")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = network(
        [node], {"x": ["N", 4]}, {"y": ["N", 1]}, w=np.float32([[1], [10], [100], [1000]])
    )
    out = sofie.define(made, "y", model, ["a", "b"]).AsNumpy(["y"])["y"]
    assert out.tolist() == [21 + 100 * n + 2000 * n for n in range(6)]
    whole = helper.make_node("Identity", ["k"], ["z"])
    integers = network([whole], {"k": (INT64, ["N", 3])}, {"z": (INT64, ["N", 3])})
    with pytest.raises(sofie.ColumnError, match="takes int64"):
        sofie.define(made, "z", integers, ["a"])
    fine = made.Define("i", "std::array<int, 3>{1, 2, int(rdfentry_)}")
    seen = sofie.define(fine, "z", integers, ["i"], output="z[2]").AsNumpy(["z"])["z"]
    assert seen.tolist() == list(range(6))
    # An element for each row stays an object.
    rows = network([helper.make_node("Identity", ["x"], ["y"])], {"x": ["N", 1]}, {"y": ["N", 1]})
    taken = sofie.define(made, "y", rows, ["a"]).Take["ROOT::RVec<float>"]("y")
    assert [list(v) for v in taken.GetValue()] == [[1, 2, n] for n in range(6)]
