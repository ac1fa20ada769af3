"""Awkward arrays through a model: what `define` gives for the same columns, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from onnx import TensorProto, helper

import sofie_rdf as sofie
from sofie_rdf.runtime.compile.session import Compiled
from tests.choice import some_of
from tests.runtime.test_objects import DATA, linear, network, same

ROOT = pytest.importorskip("ROOT")
INT64 = TensorProto.INT64
COLUMNS = ["pt", "eta", "charge"]


def bits(found: Any) -> Any:
    """Lists of what is in it, with NaN as text, so that they compare."""
    if hasattr(found, "__len__"):
        return [bits(v) for v in found]
    return "nan" if found != found else float(found)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """40 events with up to five jets, in a file and as an array."""
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 6, 40)
    counts[:3] = 0, 1, 5

    def jets(kind: str) -> Any:
        return ak.unflatten(rng.normal(size=counts.sum()).astype(kind), counts)

    arrays = {"pt": jets("f4"), "eta": jets("f8"), "phi": jets("f4"), "met": rng.normal(size=40)}
    arrays["charge"] = ak.unflatten(rng.integers(-1, 2, counts.sum()).astype("i4"), counts)
    # Keys that are equal, and some that are none.
    keys = rng.integers(0, 3, counts.sum()).astype("f4")
    keys[::7] = np.nan
    arrays["key"] = ak.unflatten(keys, counts)
    path = str(tmp_path_factory.mktemp("awkward") / "events.root")
    with uproot.recreate(path) as file:
        types = {k: ak.type(ak.Array(v)).content for k, v in arrays.items()}
        file.mktree("Events", types).extend(arrays)
    return path, ak.zip(arrays, depth_limit=1)


def defined(
    events: tuple[str, Any], output: dict[str, str], *arguments: Any, **options: Any
) -> Any:
    """What `define` gives, by column."""
    df = sofie.define(ROOT.RDataFrame("Events", events[0]), output, *arguments, **options)
    return df.AsNumpy(list(output))


def alike(
    events: tuple[str, Any],
    model: sofie.Model,
    columns: Any,
    output: dict[str, str],
    where: str = "",
    **options: Any,
) -> Any:
    """Nothing, if `score` gives what `define` gives; the result of `score`."""
    more = {"where": where} if where else {}
    wanted = defined(events, output, model, columns, **options, **more)
    mask = {"where": events[1].met > 0} if where else {}
    found = model.score(events[1], columns, output=output, **options, **mask)
    for name in output:
        flat = [
            np.ravel(np.asarray(ak.flatten(row, axis=None))) if np.ndim(row) else row
            for row in (found[name] if found[name].ndim > 1 else np.asarray(found[name]))
        ]
        assert bits(flat) == bits(wanted[name]), name
    return found


# The same as define -------------------------------------------------------------------------------


def test_objects(events: tuple[str, Any]) -> None:
    found = alike(
        events, linear(), [*COLUMNS[:2], "met"], {"a": "y", "b": "y[0]", "c": "argmax(y)"}
    )
    assert str(found["a"].type) == "40 * var * float32"
    assert str(found["c"].type) == "40 * var * int32"
    assert ak.num(found["a"]).to_list() == ak.num(events[1]["pt"]).to_list()
    alike(events, linear(), ["pt", 0.1, "charge"], {"a": "y"}, where="met > 0")


def test_events(events: tuple[str, Any]) -> None:
    model = sofie.load(DATA / "higgs.onnx")
    columns = ["met", 1, 2, "met", 0.3, 0.4, 0.5]
    found = alike(events, model, columns, {"y": "score"})
    assert str(found["y"].type) == "40 * float32"
    alike(events, model, columns, {"y": "score"}, where="met > 0", default=-7)


@pytest.mark.parametrize("shape", [["N", 3, "P"], ["N", "P", 3]])
def test_sets_of_open_length(events: tuple[str, Any], shape: list[Any]) -> None:
    model = same({"x": shape})
    found = alike(events, model, COLUMNS, {"x": "of_x"}, lengths={"P": (2, 4)}, order_by="key")
    wanted = "3 * var" if shape[1] == 3 else "var * 3"
    assert str(found["x"].type) == f"40 * {wanted} * float32"
    alike(events, model, COLUMNS, {"x": "of_x"}, where="met > 0")


def test_sets_of_fixed_length(events: tuple[str, Any]) -> None:
    model = same({"x": ["N", 4, 2], "m": ["N", 4]})
    options = {"pad": {"x": [7, -1]}, "truncate": True, "mask": "m", "order_by": "pt"}
    output = {"x": "of_x", "m": "of_m", "one": "of_m[3]"}
    found = alike(events, model, {"x": ["pt", "met"]}, output, **options)
    assert str(found["x"].type) == "40 * 4 * 2 * float32"
    alike(events, model, {"x": ["pt", 3]}, output, where="met > 0", default=-1, **options)


def test_several_sets_of_a_graph_without_a_batch(events: tuple[str, Any]) -> None:
    """The first axis is that of the objects: each event is a call of its own."""
    inputs = {"nodes": ["A", 2], "ids": (INT64, ["A"]), "globals": [1, 2]}
    columns = {"nodes": ["pt", "phi"], "ids": ["charge"], "globals": ["met", 5]}
    shapes = {"ids": (INT64, ["A"])}
    output = {name: f"of_{name}" for name in inputs}
    alike(events, same(inputs, **shapes), columns, output, per="set")


def test_particlenet(events: tuple[str, Any]) -> None:
    model = sofie.load(DATA / "particlenet.onnx")
    columns = {"pf_points": ["eta", "phi"], "pf_features": ["pt", "eta", "phi", "charge"]}
    options = {"mask": "pf_mask", "lengths": {"n_pf": (24, None)}, "order_by": "pt"}
    alike(events, model, columns, {"p": next(iter(model.outputs))}, **options)


@pytest.mark.parametrize("nan", some_of(["propagate", 3.5], [3.5]))
def test_nan(events: tuple[str, Any], nan: Any) -> None:
    alike(events, linear(), ["pt", "key", "charge"], {"y": "y"}, nan=nan)
    alike(events, same({"x": ["N", "P"]}), ["key"], {"x": "of_x"}, nan=nan)


# Rows that do not mix -----------------------------------------------------------------------------


KINDS = ("mean", "softmax", "sum", "largest")


def mixing(kind: str) -> sofie.Model:
    """A network in which the objects of an event see each other."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"])]
    arrays: dict[str, Any] = {"w": np.ones((3, 1), np.float32), "first": np.array(0)}
    if kind == "mean":
        nodes += [helper.make_node("ReduceMean", ["z"], ["m"], axes=[0], keepdims=1)]
        nodes += [helper.make_node("Sub", ["z", "m"], ["y"])]
    elif kind == "softmax":
        nodes += [helper.make_node("Softmax", ["z"], ["y"], axis=0)]
    elif kind == "sum":
        nodes += [helper.make_node("CumSum", ["z", "first"], ["y"])]
    else:  # Only one row of many decides: the largest number.
        nodes += [helper.make_node("ReduceMax", ["z"], ["m"], axes=[0], keepdims=1)]
        nodes += [helper.make_node("Less", ["z", "m"], ["b"])]
        nodes += [helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT)]
    return network(nodes, {"x": ["N", 3]}, {"y": ["N", 1]}, **arrays)


@pytest.mark.parametrize("kind", some_of(KINDS, ["mean", "largest"]))
def test_objects_that_see_each_other_stay_in_their_event(
    events: tuple[str, Any], kind: str
) -> None:
    alike(events, mixing(kind), COLUMNS, {"y": "y"})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each call of a model has."""
    found: list[int] = []
    infer = Compiled.infer

    def counted(self: Compiled, feeds: Any, sizes: Any) -> Any:
        found.append(sizes["N"])
        return infer(self, feeds, sizes)

    monkeypatch.setattr(Compiled, "infer", counted)
    return found


def test_rows_that_do_not_mix_are_few_calls(events: tuple[str, Any], calls: list[int]) -> None:
    model = linear()
    _ = model.compiled
    calls.clear()
    found = model.score(events[1], COLUMNS)
    assert calls == [int(ak.sum(ak.num(events[1].pt)))]
    assert ak.num(found).to_list() == ak.num(events[1].pt).to_list()


def many(rows: int) -> Any:
    """So many events with two objects each."""
    rng = np.random.default_rng(rows)
    return ak.zip({c: rng.normal(size=(rows, 2)).astype("f4") for c in COLUMNS})


def test_a_trial_finds_what_is_not_proved(calls: list[int]) -> None:
    # No rule says what a Resize does with rows.
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["u"]),
        helper.make_node("Resize", ["u", "", "twice"], ["t"], **how),
        helper.make_node("Squeeze", ["t", "one"], ["s"]),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    arrays: Any = {"twice": np.array([1, 1, 2], np.float32), "w": np.zeros((6, 1), np.float32)}
    arrays["one"] = np.array([1])
    arrays["w"][::2, 0] = 1, 10, 100
    model, jets = network(nodes, {"x": ["N", 3]}, {"y": ["N", 1]}, **arrays), many(3000)
    assert model.compiled.rows == ""
    calls.clear()
    found = model.score(jets)
    assert len(calls) < 20
    np.testing.assert_array_equal(ak.to_numpy(found), ak.to_numpy(linear().score(jets)))
    calls.clear()
    model.score(jets)
    assert calls == [4096, 2 * len(jets) - 4096]
    calls.clear()
    model.score(jets[:10])
    assert calls == [20]


def test_a_trial_finds_rows_far_apart(calls: list[int]) -> None:
    # The rows are a series in time, of which each one sees what was 40 steps before.
    shift = {"kernel_shape": [2], "dilations": [40], "pads": [40, 0]}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("Unsqueeze", ["t", "zero"], ["u"]),
        helper.make_node("Conv", ["u", "w"], ["c"], **shift),
        helper.make_node("Squeeze", ["c", "zero"], ["s"]),
        helper.make_node("Transpose", ["s"], ["y"], perm=[1, 0]),
    ]
    arrays: Any = {"w": np.ones((1, 3, 2), np.float32), "zero": np.array([0])}
    model, jets = network(nodes, {"x": ["N", 3]}, {"y": ["N", 1]}, **arrays), many(2100)
    found = model.score(jets[:1100])
    assert calls.count(2) > 1000
    wanted = ak.to_numpy(jets.pt) + ak.to_numpy(jets.eta) + ak.to_numpy(jets.charge)
    np.testing.assert_allclose(ak.to_numpy(found), wanted[:1100], rtol=1e-5)


# Arrays of other forms ----------------------------------------------------------------------------


def test_the_forms_of_one_input(events: tuple[str, Any]) -> None:
    model, jets = linear(), ak.zip({c: events[1][c] for c in COLUMNS})
    wanted = model.score(events[1], COLUMNS)
    stacked = ak.concatenate([ak.values_astype(jets[c], "f4")[..., None] for c in COLUMNS], axis=-1)
    nested = ak.zip({"Jet": jets, "met": events[1].met}, depth_limit=1)
    forms = [
        model(jets),
        model(x=jets),
        model({"x": stacked}),
        model(stacked),
        model(ak.from_iter(stacked.to_list())),
        model.score(jets),
        model.score(jets, COLUMNS),
        model.score(nested, [f"Jet.{c}" for c in COLUMNS]),
        model.score(columns=[jets.pt, "eta", jets.charge], events=jets),
        model.score(columns={"x": [jets[c] for c in COLUMNS]}),
        model.score({c: jets[c] for c in COLUMNS}, COLUMNS),
        model.named(features=COLUMNS).score(jets[COLUMNS[::-1]]),
        model.named(features=COLUMNS)(jets[[*COLUMNS[::-1]]]),
        model.named(features=COLUMNS).score(nested.Jet, {c: c for c in COLUMNS}),
    ]
    for form in forms:
        assert form.to_list() == wanted.to_list()
    regular = np.asarray(ak.flatten(stacked))
    np.testing.assert_array_equal(np.asarray(ak.flatten(wanted)), model(regular)[:, 0])
    np.testing.assert_array_equal(model(ak.Array(regular)), model(regular))


def test_deeper_arrays_keep_what_is_around(events: tuple[str, Any]) -> None:
    """Particles of jets of events: a set for each jet, with numbers of the jet and of the event."""
    rng = np.random.default_rng(4)
    many = rng.integers(0, 4, int(ak.sum(ak.num(events[1].pt))))
    counts = ak.num(events[1].pt)
    particles = ak.unflatten(ak.unflatten(rng.normal(size=many.sum()).astype("f4"), many), counts)
    model = same({"x": ["N", "P", 3]})
    columns = [particles, events[1].pt, events[1].met]
    found = model.score(columns=columns)
    assert str(found.type) == "40 * var * var * 3 * float32"
    flat = [ak.flatten(particles), ak.flatten(events[1].pt), np.repeat(events[1].met, counts)]
    wanted = model.score(columns=flat)
    assert ak.flatten(found).to_list() == wanted.to_list()
    assert ak.num(found).to_list() == counts.to_list()
    score = linear().score(columns=columns)
    assert str(score.type) == "40 * var * var * float32"
    where = events[1].met > 0
    some = linear().score(columns=columns, where=where)
    assert some[where].to_list() == score[where].to_list()
    assert ak.num(some).to_list() == ak.to_list(ak.where(where, counts, 0))


def test_nothing(events: tuple[str, Any]) -> None:
    model, none = linear(), events[1][:0]
    assert str(model.score(none, COLUMNS).type) == "0 * var * float32"
    empty = events[1][ak.num(events[1].pt) == 0]
    assert model.score(empty, COLUMNS).to_list() == [[]] * len(empty)
    assert model.score(none, ["met", "met", 1]).to_list() == []
    nowhere = np.zeros(40, bool)
    assert model.score(events[1], COLUMNS, where=nowhere).to_list() == [[]] * 40
    numbers = model.score(events[1], ["met", "met", 1], where=nowhere, default=2)
    assert numbers.to_list() == [2.0] * 40
    assert same({"x": ["N", "P"]}).score(events[1][:1], ["pt"]).to_list() == [[]]


def test_several_outputs(events: tuple[str, Any]) -> None:
    model = same({"x": ["N", 2], "z": ["N", 1]})
    found = model(x=events[1][["pt", "phi"]], z=events[1][["eta"]])
    assert set(found) == {"of_x", "of_z"}
    assert str(found["of_x"].type) == "40 * var * 2 * float32"
    assert found["of_z"].to_list() == ak.values_astype(events[1].eta, "f4").to_list()
    chosen = model.score({"x": events[1][["pt", "phi"]], "z": events[1].met}, output="of_x[1]")
    assert chosen.to_list() == events[1].phi.to_list()


def test_options(events: tuple[str, Any]) -> None:
    """None is an error, unless its event does not count."""
    first = ak.firsts(events[1].pt)
    with pytest.raises(sofie.ColumnError, match=r"entry 0: column 'array 0' has a None.*fill_none"):
        linear().score(columns=[first, 0, 0])
    there = ak.num(events[1].pt) > 0
    found = linear().score(columns=[first, 0, 0], where=there, default=-1)
    assert found.to_list() == ak.to_list(ak.fill_none(first, -1))
    with pytest.raises(sofie.ColumnError, match="entry 2: column 'array 0' has a None"):
        linear().score(columns=[ak.Array([[1.0], [], [2, None]]), 0, 0])
    with pytest.raises(sofie.ColumnError, match="None"):
        linear()(ak.Array([[[1.0, 2, 3]], None]))


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        (["pt", "eta", "chrage"], {}, "no field 'chrage'. Did you mean 'charge'"),
        (["pt", "eta"], {}, "with 2 columns no axis is left"),
        (["pt", "eta", None], {}, "no array of numbers"),
        (["pt", "eta", "label"], {}, "'label'"),
        (["met", "met", "pt"], {"per": "event"}, "one number for each event is needed"),
        (["pt", "eta", [1, 2, 3]], {}, "column 'array 0' has 3 events, and 'pt' has 40"),
        (["pt", "eta", "other"], {}, "entry 1: column 'other' has 2 elements, and 'pt' has 1"),
        (["pt", "eta", "key"], {"nan": "error"}, "entry 1: column 'key' is NaN"),
        (["pt", "eta", "key"], {"pad": 0}, "are for models per set"),
        ([1, 2, 3], {}, "how many events there are"),
        (["met", "met", 1], {"per": "object"}, 'per="object" needs'),
        (["met", "met", 1], {"where": "met"}, "one bool for each event"),
        (["met", "met", 1], {"where": [True]}, "1 elements for 40 events"),
        (["met", "met", 1], {"where": np.ones(40, bool), "output": "argmax(y)"}, "default=-1"),
        (["met", "met", 1], {"output": "z"}, "no output 'z'"),
        (["met", "met", 1], {"output": {}}, "no output"),
    ],
)
def test_errors(events: tuple[str, Any], columns: Any, options: Any, words: str) -> None:
    more = ak.with_field(events[1], ["jet"] * 40, "label")
    more = ak.with_field(
        more, ak.concatenate([events[1].pt[:1], [[1, 2]], events[1].pt[2:]]), "other"
    )
    with pytest.raises((sofie.ColumnError, sofie.InputError)) as caught:
        linear().score(more, columns, **options)
    assert words in str(caught.value)


def test_errors_of_sets_and_calls(events: tuple[str, Any]) -> None:
    with pytest.raises(sofie.ColumnError, match="entry 2: column 'pt' has 5 elements; the model"):
        same({"x": ["N", 4]}).score(events[1], ["pt"], pad=0)
    two = same({"x": ["N", "P"], "z": ["N", "P"]})
    arrays = {"a": ak.Array([[1.0]]), "b": ak.Array([[1.0, 2.0]])}
    with pytest.raises(
        sofie.ColumnError, match="entry 0: column 'b' has 2 elements, and 'a' has 1"
    ):
        two.score(arrays, {"x": ["a"], "z": ["b"]}, output="of_x")
    with pytest.raises(sofie.InputError, match="last axis of an array should be the features"):
        linear()(events[1].pt)
    with pytest.raises(sofie.InputError, match="takes 1 arrays, not 2"):
        linear()(events[1].pt, events[1].pt)
    with pytest.raises(sofie.InputError, match="no input 'y'"):
        linear()(y=events[1][["pt"]])
    mixed, columns = same({"x": ["N", 1], "z": [1, 2]}), {"x": ["pt"], "z": ["met", 1]}
    with pytest.raises(sofie.ColumnError, match="has no row for each object"):
        mixed.score(events[1], columns, per="object", output="of_x")


def test_where_there_is_no_root() -> None:
    """Through g++, which is who compiles then if nobody says so."""
    code = (
        "import sys; sys.modules['ROOT'] = None; import awkward as ak, sofie_rdf as s; "
        f"model = s.load({str(DATA / 'higgs.onnx')!r}); "
        "jets = ak.Array([[[1.0] * 7, [2.0] * 7], [], [[0.5] * 7]]); "
        "y = model(jets); print(model.compiled.compiler); print(y.to_list())"
    )
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "SOFIE_RDF_CACHE": "off"}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    compiler, result = done.stdout.splitlines()
    assert "g++" in compiler
    wanted = sofie.load(DATA / "higgs.onnx")(np.float32([[1] * 7, [2] * 7, [0.5] * 7])).ravel()
    found = eval(result)
    assert [len(row) for row in found] == [2, 0, 1]
    np.testing.assert_allclose([v for row in found for v in row], wanted, rtol=0, atol=1e-6)
