"""`sofie-rdf verify`: agreement with the library, and where there is none, at which entry."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import onnx
import pytest
import uproot
from onnx import TensorProto, helper, numpy_helper

import sofie_rdf as sofie
from sofie_rdf.cli import originals
from sofie_rdf.errors import ModelError
from sofie_rdf.runtime.arrays.agreement import Tolerances, compare
from tests.choice import some_of
from tests.cli.conftest import DATA, HIGGS, Run
from tests.cli.test_json import keys, promised
from tests.test_cli import shell

FEATURES = [f"f{i}" for i in range(7)]


def table(path: Path, features: int, constant: np.ndarray[Any, Any]) -> Path:
    """``y = x * constant``: a constant for each feature."""
    node = helper.make_node("Mul", ["x", "c"], ["y"], name="product")
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", features]) for n in "xy"]
    known = [numpy_helper.from_array(constant.astype(np.float32), "c")]
    graph = helper.make_graph([node], "table", ports[:1], ports[1:], known)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def events(path: Path, count: int = 300) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    read: dict[str, Any] = {n: rng.normal(size=count).astype(np.float32) for n in FEATURES}
    lengths = rng.integers(0, 4, count)
    read["jet"] = ak.unflatten(rng.normal(size=lengths.sum()).astype(np.float32), lengths)
    with uproot.recreate(path) as file:
        file.mktree("Events", {k: "float32" if k != "jet" else "var * float32" for k in read})
        file["Events"].extend(read)
    return read


LIBRARIES = [
    ("higgs.onnx", "onnxruntime"),
    ("higgs.keras", "keras"),
    ("higgs_xgboost.ubj", "xgboost"),
    ("particlenet.onnx", "onnxruntime"),
    ("higgs_residual.pt2", "torch"),
    ("higgs_lightgbm.txt", "lightgbm"),
]


@pytest.mark.parametrize(("file", "library"), some_of(LIBRARIES, LIBRARIES[:3:2]))
def test_the_library_of_each_kind_of_file(run: Run, file: str, library: str) -> None:
    pytest.importorskip(library)
    done = run("verify", DATA / file, "--random", "20", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["against"], found["entries"], found["agree"]) == (library, 20, True)
    assert all(o["scale"] > 0 and o["largest"] < 1e-5 for o in found["outputs"])


def test_torchscript(run: Run) -> None:
    pytest.importorskip("torch")
    done = run("verify", DATA / "higgs_residual.pt", "--input-shape", "N,7", "--random", "20")
    assert done.code == 0, done.err
    assert "and torch, 20 entries: they agree" in done.out


def test_the_reference_of_a_model_in_a_root_file(run: Run, tmp_path: Path) -> None:
    sofie.load(HIGGS).save(tmp_path / "higgs.root")
    done = run("verify", tmp_path / "higgs.root", "--random", "20", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["against"] == "reference"
    pytest.importorskip("onnxruntime")
    more = ["--against", "onnxruntime", "--original", HIGGS, "--json"]
    done = run("verify", tmp_path / "higgs.root", *more)
    assert json.loads(done.out)["against"] == "onnxruntime"
    done = run("verify", tmp_path / "higgs.root", "--against", "onnxruntime")
    assert "Name the file that it reads: --original FILE" in done.err


def test_a_disagreement_says_where_it_is(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    ours = table(tmp_path / "ours.onnx", 3, np.array([1, 2, 3]))
    other = table(tmp_path / "other.onnx", 3, np.array([1, 2, 3.5]))
    rows = np.zeros((50, 3), np.float32)
    rows[:, 0], rows[17, 2], rows[31, 2] = 1, 4, -8
    np.savez(tmp_path / "rows.npz", x=rows)
    arguments = ["verify", ours, tmp_path / "rows.npz", "--original", other]
    done = run(*arguments, "--json")
    assert done.code == 1
    found = json.loads(done.out)
    assert keys(found) == promised(run("verify", "--help").out) & keys(found)
    assert found["outputs"] == [
        {"name": "y", "numbers": 150, "largest": 4.0, "scale": 28.0, "beyond": 2, "odd": 0}
    ]
    places = [(d["entry"], d["index"], d["ours"], d["theirs"]) for d in found["differences"]]
    # By what is allowed, which is more where numbers are larger.
    assert sorted(places) == [(17, [2], 12.0, 14.0), (31, [2], -24.0, -28.0)]
    assert found["differences"][0]["allowed"] == pytest.approx(1e-5 + 1e-4 * 28)
    shown = run(*arguments, "--show", "1")
    assert shown.code == 1
    assert "ours and onnxruntime, 50 entries: 2 numbers differ" in shown.out
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["y", "31", "2", "-24", "-28", "4", "0.00281"] in lines
    assert not any(line[:2] == ["y", "17"] for line in lines)
    assert run(*arguments, "--rtol", "0.2").code == 0
    assert run(*arguments, "--rtol", "0", "--atol", "4").code == 0


def test_columns_of_a_tree(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    events(tmp_path / "events.root")
    source = f"{tmp_path}/events.root:Events"
    done = run("verify", HIGGS, source, "--columns", ",".join(FEATURES), "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["entries"], found["outputs"][0]["numbers"]) == (300, 300)
    more = ["--columns", ",".join(FEATURES), "--events", "9", "--json"]
    assert json.loads(run("verify", HIGGS, source, *more).out)["entries"] == 9


def test_objects_are_found_in_their_event(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    read = events(tmp_path / "events.root")
    ours = table(tmp_path / "ours.onnx", 2, np.array([1, 1]))
    other = table(tmp_path / "other.onnx", 2, np.array([1, 1.5]))
    done = run(
        "verify", ours, f"{tmp_path}/events.root:Events", "--columns", "jet,jet", "--per", "object",
        "--original", other, "--json",
    )  # fmt: skip
    assert done.code == 1, done.err
    found = json.loads(done.out)
    assert found["entries"] == 300
    flat = np.abs(ak.to_numpy(ak.flatten(read["jet"])))
    worst = found["differences"][0]
    assert worst["difference"] == pytest.approx(float(flat.max()) / 2)
    entry = int(ak.argmax(ak.max(abs(read["jet"]), axis=1)))
    place = int(ak.argmax(abs(read["jet"][entry])))
    assert (worst["entry"], worst["index"]) in [(entry, [place, 1]), (entry, [2 * place + 1])]


def particles(path: Path) -> None:
    """Events of 0 to 29 particles, with five columns of them."""
    rng = np.random.default_rng(8)
    lengths = rng.integers(0, 30, 40)
    names = ("deta", "dphi", "logpt", "loge", "pt")
    numbers = {n: rng.normal(size=lengths.sum()).astype(np.float32) for n in names}
    read = {n: ak.unflatten(array, lengths) for n, array in numbers.items()}
    with uproot.recreate(path) as file:
        file.mktree("Events", dict.fromkeys(read, "var * float32"))
        file["Events"].extend(read)


SETS = "pf_points=deta,dphi,pf_features=deta,dphi,logpt,loge"


@pytest.mark.parametrize(
    "options",
    [
        ["--lengths", "n_pf=8:16", "--truncate", "--order-by", "pt"],
        ["--lengths", "n_pf=29"],
        ["--lengths", "n_pf=8:"],
    ],
    ids=lambda given: given[1],
)
def test_sets_of_objects(run: Run, tmp_path: Path, options: list[str]) -> None:
    pytest.importorskip("onnxruntime")
    particles(tmp_path / "events.root")
    file, source = str(DATA / "particlenet.onnx"), f"{tmp_path}/events.root:Events"
    more = ["--columns", SETS, "--mask", "pf_mask", "--pad", "0", *options]
    done = run("verify", file, source, *more, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["entries"], found["outputs"][0]["numbers"]) == (40, 200)


def test_sets_of_objects_are_as_they_are_in_columns(run: Run, tmp_path: Path) -> None:
    root = pytest.importorskip("ROOT")
    particles(tmp_path / "events.root")
    file, source = str(DATA / "particlenet.onnx"), f"{tmp_path}/events.root:Events"
    how = ["--mask", "pf_mask", "--lengths", "n_pf=8:16", "--truncate", "--order-by", "pt"]
    out = str(tmp_path / "scored.root")
    command = ["apply", file, source, "-o", out, "--columns", SETS, *how, "--threads", "1"]
    done = run(*command)
    assert done.code == 0, done.err
    options: dict[str, Any] = {"lengths": {"n_pf": (8, 16)}, "truncate": True, "order_by": "pt"}
    df = root.RDataFrame("Events", f"{tmp_path}/events.root")
    columns = {"pf_points": ["deta", "dphi"], "pf_features": ["deta", "dphi", "logpt", "loge"]}
    df = sofie.define(df, "wanted", sofie.load(file), columns, mask="pf_mask", **options)
    wanted = np.stack([np.asarray(row) for row in df.AsNumpy(["wanted"])["wanted"]])
    with uproot.open(out) as written:
        found = ak.to_numpy(written["Events"]["softmax"].array())
    np.testing.assert_array_equal(found, wanted)


def test_columns_before_the_first_input_belong_to_none(run: Run, tmp_path: Path) -> None:
    particles(tmp_path / "events.root")
    file, source = str(DATA / "particlenet.onnx"), f"{tmp_path}/events.root:Events"
    done = run("verify", file, source, "--columns", "deta,pf_points=dphi", "--mask", "pf_mask")
    assert done.code == 1
    assert "the columns deta belong to no input" in done.err


@pytest.mark.parametrize("length", ["n_pf", "n_pf=", "n_pf=:", "n_pf=a:3", "n_pf=-1", "=3"])
def test_lengths_are_numbers(run: Run, length: str) -> None:
    assert run("verify", HIGGS, "--lengths", length).code == 2


def test_what_only_one_has_is_a_difference(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    ours = table(tmp_path / "ours.onnx", 2, np.array([1, 1]))
    other = table(tmp_path / "other.onnx", 2, np.array([1, np.inf]))
    rows = np.array([[np.nan, 1], [np.inf, 0]], np.float32)
    np.save(tmp_path / "rows.npy", rows)
    done = run("verify", ours, tmp_path / "rows.npy", "--original", other, "--json")
    assert done.code == 1
    found = json.loads(done.out)
    assert (found["outputs"][0]["beyond"], found["outputs"][0]["odd"]) == (2, 2)
    assert {(d["entry"], d["theirs"]) for d in found["differences"]} == {(0, "inf"), (1, "nan")}
    assert all(d["difference"] == "inf" for d in found["differences"])
    assert run("verify", ours, tmp_path / "rows.npy").code == 0


def test_integers_are_the_same_or_not() -> None:
    graph = sofie.load(DATA / "higgs.onnx")
    rows = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)

    def theirs(feeds: Any) -> list[dict[str, Any]]:
        return [{"score": np.array(graph(one["features"])) + 1} for one in feeds]

    found = compare(graph.compiled, theirs, (rows,), {}, Tolerances(0, 2), 3)
    assert found.agree
    found = compare(graph.compiled, theirs, (rows,), {}, Tolerances(0, 0.5), 3)
    assert not found.agree
    assert len(found.differences) == 3
    assert all(math.isclose(d.difference, 1, rel_tol=1e-6) for d in found.differences)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([HIGGS, "--against", "torch"], "is an ONNX file, which torch does not read"),
        ([HIGGS, "none.root:Events", "--columns", "a"], "no such file"),
        ([HIGGS, "none.npz"], "none.npz: no such file"),
        ([HIGGS, "none.txt"], "is no FILE.root:TREE"),
        ([HIGGS, "none.npz", "--random", "3"], "Leave out --random"),
        (["none.onnx"], "none.onnx"),
    ],
)
def test_what_is_wrong_is_said(run: Run, argv: list[str], message: str) -> None:
    done = run("verify", *argv)
    assert done.code == 1
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_library_that_is_not_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(originals.importlib.util, "find_spec", lambda _: None)
    done = run("verify", HIGGS)
    assert done.code == 1
    assert "onnxruntime is not installed. pip install onnxruntime, or compare with" in done.err


def test_the_library_is_asked_behind_walls(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stranger's file has it do ends in a process that can neither write nor connect."""
    asked = []

    def stop(function: str, *_: object, **__: object) -> None:
        asked.append(function)
        raise ModelError("stop")

    monkeypatch.setattr(originals.isolation, "call", stop)
    assert run("verify", HIGGS).code == 1
    assert asked == ["sofie_rdf.cli.originals:there"]


@pytest.mark.parametrize("file", ["higgs_residual.pt2", "higgs_residual.pt"])
def test_torch_gets_no_program_of_a_stranger(tmp_path: Path, file: str) -> None:
    """An original is read by nobody else before: with a member that torch might run."""
    pytest.importorskip("torch")
    path = tmp_path / file
    path.write_bytes((DATA / file).read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/data/aotinductor/model/a.so", b"\x7fELF")
    with pytest.raises(sofie.UnsupportedFormat, match="belongs to no network"):
        originals.there("torch", str(path), ["y"], [])


@pytest.fixture
def random_model(tmp_path: Path) -> Path:
    """``y = w x + noise``"""
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["r"]),
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["r", "m"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in "xy"]
    known = [numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], known)
    opsets = [helper.make_opsetid("", 17)]
    path = tmp_path / "random.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def test_random_numbers_are_not_compared(run: Run, random_model: Path) -> None:
    done = run("verify", random_model)
    assert done.code == 1
    assert "draws random numbers" in done.err


def test_the_loop_of_a_model_with_random_numbers(random_model: Path, tmp_path: Path) -> None:
    """It was not told of the rows, and read them from wherever: the process crashed."""
    pytest.importorskip("ROOT")
    np.save(tmp_path / "rows.npy", np.ones((20, 3), np.float32))
    more = ["--data", str(tmp_path / "rows.npy"), "--precisions", "float16"]
    done = shell("precision", random_model, *more, "--json")
    assert done.code == 0, done.err
    # The same rows have the same noise.
    (change,) = json.loads(done.out)["contenders"][1]["changes"]
    assert change["largest"] < 1e-2
