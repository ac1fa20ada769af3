"""`sofie-rdf apply`: every entry scored, in files that are whole, or as they were."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import sofie_rdf as sofie
from sofie_rdf.runtime.files import trees
from tests.choice import some_of
from tests.cli.conftest import HIGGS, Run
from tests.test_cli import environment, terminal

ROOT = pytest.importorskip("ROOT")

FEATURES = [f"f{i}" for i in range(7)]
COUNT = 5000


def events(path: Path, first: int = 0, count: int = COUNT, *, ntuple: bool = False) -> Path:
    """Seven features, an array of any length, and ``number``: which event it is."""
    df = ROOT.RDataFrame(count).Define("number", f"rdfentry_ + {first}")
    for i, name in enumerate(FEATURES):
        df = df.Define(name, f"(float)sin(number * {i + 1}.7 + {i})")
    df = df.Define("jets", "ROOT::RVecF(number % 4, 1.f)")
    options = ROOT.RDF.RSnapshotOptions()
    if ntuple:
        if not hasattr(options, "fOutputFormat"):
            pytest.skip("this ROOT writes no RNTuple of a data frame")
        options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    df.Snapshot("Events", str(path), [*FEATURES, "jets", "number"], options)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return events(tmp_path_factory.mktemp("events") / "events.root")


def copied(data: Path, folder: Path, name: str = "events.root") -> Path:
    return Path(shutil.copy(data, folder / name))


def columns(path: Path, *names: str, tree: str = "Events") -> dict[str, Any]:
    return dict(ROOT.RDataFrame(tree, str(path)).AsNumpy(list(names)))


def expected(path: Path) -> np.ndarray[Any, Any]:
    read = columns(path, *FEATURES)
    found = sofie.load(HIGGS)(np.stack([read[f] for f in FEATURES], 1))
    return np.asarray(found)[:, 0]


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".sofie_rdf-")]


@pytest.mark.parametrize(
    ("ntuple", "count"),
    some_of(product([False, True], ["1", "3"]), [(False, "3"), (True, "1")]),
)
def test_all_columns_and_the_score(run: Run, tmp_path: Path, count: str, ntuple: bool) -> None:
    data, out = events(tmp_path / "events.root", ntuple=ntuple), tmp_path / "out.root"
    done = run(
        "apply", HIGGS, f"{data}:Events", "-o", out, "--columns", *FEATURES, "--threads", count
    )
    assert (done.code, done.out) == (0, f"{out}\n"), done.err
    assert f"{COUNT:,} entries with score" in done.err
    names = {str(c) for c in ROOT.RDataFrame("Events", str(out)).GetColumnNames()}
    assert names == {*FEATURES, "jets", "number", "score"}
    found = columns(out, "number", "score")
    order = np.argsort(found["number"])
    assert np.array_equal(found["number"][order], np.arange(COUNT))
    assert np.array_equal(found["score"][order], expected(data))
    if count == "1":
        assert np.array_equal(order, np.arange(COUNT))
    assert trees.source_of([f"{out}:Events"]).is_ntuple == ntuple
    assert leftovers(tmp_path) == []
    assert not ROOT.IsImplicitMTEnabled()


def test_a_friend_has_the_order_of_the_events(run: Run, tmp_path: Path) -> None:
    one = events(tmp_path / "a.root")
    events(tmp_path / "b.root", COUNT, 777)
    out = tmp_path / "friend.root"
    done = run(
        "apply", HIGGS, f"{tmp_path}/[ab].root:Events", "-o", out, "--friend", "--tree", "scores",
        "--out-names", "dnn", "--columns", ",".join(FEATURES),
    )  # fmt: skip
    assert done.code == 0, done.err
    chain = ROOT.TChain("Events")
    for name in ("a.root", "b.root"):
        chain.Add(str(tmp_path / name))
    chain.AddFriend("scores", str(out))
    both = ROOT.RDataFrame(chain).AsNumpy(["number", "dnn", *FEATURES])
    assert np.array_equal(both["number"], np.arange(COUNT + 777))
    rows = np.stack([both[f] for f in FEATURES], 1)
    assert np.array_equal(both["dnn"], sofie.load(HIGGS)(rows)[:, 0])
    assert np.array_equal(both["dnn"][:COUNT], expected(one))
    assert [str(c) for c in ROOT.RDataFrame("scores", str(out)).GetColumnNames()] == ["dnn"]


def test_some_columns_where_and_filter(run: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.root"
    done = run(
        "apply", HIGGS, f"{data}:Events", "-o", out, "--keep", "numb*", "f0", "--where", "f0 > 0",
        "--default", "-1", "--filter", "number < 100", "--columns", "1.f * f0", *FEATURES[1:],
        "--format", "ttree", "--tree", "T",
    )  # fmt: skip
    assert done.code == 0, done.err
    df = ROOT.RDataFrame("T", str(out))
    assert {str(c) for c in df.GetColumnNames()} == {"number", "f0", "score"}
    found = columns(out, "number", "f0", "score", tree="T")
    wanted = np.where(found["f0"] > 0, expected(data)[found["number"].astype(int)], -1)
    assert len(found["score"]) == 100
    assert np.array_equal(found["score"], wanted.astype(np.float32))
    done = run("apply", HIGGS, data, "-o", out, "--overwrite", "--keep", "--columns", *FEATURES)
    assert done.code == 0, done.err
    df = ROOT.RDataFrame("Events", str(out))
    assert {str(c) for c in df.GetColumnNames()} == {"score"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["{dir}/none.root:Events"], "none.root: no such file"),
        (["{dir}/no*.root:Events"], "no*.root: no file fits"),
        (["{data}:Event"], "'Event' is not there. Did you mean 'Events'?"),
        (["{data}:"], "is no FILE.root:TREE"),
        (["{text}:Events"], "text.root: cannot be opened by ROOT"),
        (["{data}:Events", "{data}:Other"], "several trees are named: Events, Other"),
        (["{data}", "--columns", "f0", "f9"], "no column 'f9'"),
        (["{data}", "--columns", *FEATURES[:6]], "7"),
        (["{data}", "--columns", *FEATURES[:6], "nonsense("], "no column and no expression"),
        (["{data}"], "Name the columns in its order: --columns"),
        (["{data}", "--columns", *FEATURES, "--keep", "numbr"], "Did you mean 'number'?"),
        (["{data}", "--columns", *FEATURES, "--out-names", "f1"], "--out-names gives it another"),
        (["{data}", "--columns", *FEATURES, "--out-names", "a", "b"], "2 names for 1 outputs"),
        (["{data}", "--columns", *FEATURES, "--out-names", "a b"], "no C++ identifier"),
        (["{data}", "--columns", *FEATURES, "--filter", "f0 >"], "'f0 >' is no filter: expected"),
        (["{data}", "--columns", *FEATURES, "--filter", "f0"], "'f0' is no filter: "),
        (["{data}", "--friend", "--filter", "f0 > 0"], "--where leaves out the model"),
        (["{data}", "--friend", "--threads", "2"], "Leave out --threads"),
        (["{data}", "--friend", "--keep"], "Leave out --keep"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_nothing_is_written(
    run: Run, data: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    (tmp_path / "text.root").write_text("no file of ROOT's")
    known = {"data": data, "dir": tmp_path, "text": tmp_path / "text.root"}
    out = tmp_path / "out.root"
    done = run("apply", HIGGS, *(m.format(**known) for m in more), "-o", out)
    assert done.code == 1
    assert message in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) == 1
    assert not out.exists()
    assert leftovers(tmp_path) == []


def test_nobody_writes_over_the_events_or_the_model(run: Run, data: Path, tmp_path: Path) -> None:
    data, link = copied(data, tmp_path), tmp_path / "link.root"
    hard = tmp_path / "hard.root"
    link.symlink_to(data)
    os.link(data, hard)
    before = data.read_bytes()
    for out in (data, link, hard, tmp_path / ".." / tmp_path.name / "events.root"):
        more = ["--overwrite", "--columns", *FEATURES]
        done = run("apply", HIGGS, f"{data}:Events", "-o", out, *more)
        assert done.code == 1
        assert "one of the files that are read" in done.err
    stored = tmp_path / "model.root"
    sofie.load(HIGGS).save(stored)
    held = stored.read_bytes()
    assert run("apply", stored, data, "-o", stored, "--overwrite").code == 1
    assert (data.read_bytes(), stored.read_bytes()) == (before, held)


@pytest.mark.parametrize("count", some_of(["1", "2"], ["2"]))
def test_a_file_that_is_there_is_replaced_only_if_asked_and_when_all_is_done(
    run: Run, data: Path, tmp_path: Path, count: str
) -> None:
    out = tmp_path / "out.root"
    out.write_bytes(b"precious")
    arguments = ["apply", HIGGS, f"{data}:Events", "-o", out]
    done = run(*arguments, "--columns", *FEATURES)
    assert done.code == 1
    assert "is there already. --overwrite replaces it" in done.err
    # An event in the middle ends the loop.
    bad = [*FEATURES[:6], "number == 4000 ? NAN : f6"]
    more = ["--overwrite", "--nan", "error", "--threads", count]
    done = run(*arguments, *more, "--columns", *bad)
    assert done.code == 1
    assert "higgs: entry 4000: column" in done.err
    assert out.read_bytes() == b"precious"
    assert leftovers(tmp_path) == []
    assert run(*arguments, "--overwrite", "--columns", *FEATURES).code == 0
    assert len(columns(out, "score")["score"]) == COUNT


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_changes_nothing(
    run: Run, data: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    out = tmp_path / "out.root"
    out.write_bytes(b"precious")
    slow = [*FEATURES[:6], "(gSystem->Sleep(20), f6)"]
    arguments = ["apply", HIGGS, f"{data}:Events", "-o", out, "--overwrite"]
    command = [sys.executable, "-m", "sofie_rdf.cli", *map(str, arguments), "--threads", "2"]
    with subprocess.Popen([*command, "--columns", *slow], env=environment()) as child:
        while child.poll() is None and not any(n.endswith(".tmp") for n in leftovers(tmp_path)):
            time.sleep(0.05)
        time.sleep(0.5)
        assert child.poll() is None
        child.send_signal(kind)
        code = child.wait(60)
    assert code == (130 if kind == signal.SIGINT else -kind)
    assert out.read_bytes() == b"precious"
    # The next run removes what is left, and is not hindered by it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = run(*arguments, "--columns", *FEATURES)
    assert done.code == 0, done.err
    assert leftovers(tmp_path) == []


FULL = """
import resource, signal, sys
from sofie_rdf.cli import main
from sofie_rdf.ir import replacing
real = replacing.replacing

def limited(*args, **kwargs):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, SIZE))
    return real(*args, **kwargs)

from sofie_rdf.runtime.files import trees
trees.replacing = limited
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("size", some_of([300, 40_000], [40_000]))
@pytest.mark.parametrize(
    "more",
    some_of(
        [["--threads", "1"], ["--threads", "2"], ["--format", "rntuple"]], [["--threads", "2"]]
    ),
)
def test_a_file_that_cannot_be_written_is_an_error(
    data: Path, tmp_path: Path, size: int, more: list[str]
) -> None:
    """The limit of a file's size is what a full disk is; ROOT may crash then, and no more."""
    out = tmp_path / "out.root"
    out.write_bytes(b"precious")
    arguments = ["apply", HIGGS, f"{data}:Events", "-o", out, "--overwrite", *more]
    command = [sys.executable, "-c", FULL.replace("SIZE", str(size)), *map(str, arguments)]
    done = subprocess.run(
        [*command, "--columns", *FEATURES],
        env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert f"error: {out}: " in done.stderr or "error: Snapshot" in done.stderr
    assert out.read_bytes() == b"precious"
    assert leftovers(tmp_path) == []


def test_progress_is_shown_on_terminals(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.root"
    shown = terminal("apply", HIGGS, f"{data}:Events", "-o", out, "--columns", *FEATURES)
    assert "evt" in shown or "%" in shown
    assert str(out) in shown


@pytest.mark.exhaustive
def test_names_that_mean_something_to_root(run: Run, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a #1 [x]?:y"
    folder.mkdir()
    data, out = copied(data, folder, "in*.root"), folder / "out $HOME.root"
    done = run("apply", HIGGS, f"{data}:Events", "-o", out, "--columns", *FEATURES)
    assert done.code == 0, done.err
    assert sorted(p.name for p in folder.iterdir()) == ["in*.root", "out $HOME.root"]


def test_a_directory_in_the_file(run: Run, tmp_path: Path) -> None:
    with ROOT.TFile(str(tmp_path / "in.root"), "RECREATE") as file:
        folder = file.mkdir("nominal")
        folder.cd()
        tree = ROOT.TTree("Events", "")
        value = np.zeros(1, np.float32)
        for name in FEATURES:
            tree.Branch(name, value, f"{name}/F")
        for _ in range(5):
            tree.Fill()
        folder.WriteObject(tree, "Events")
    source, out = f"{tmp_path}/in.root:nominal/Events", tmp_path / "out.root"
    done = run("apply", HIGGS, source, "-o", out, "--columns", *FEATURES)
    assert done.code == 0, done.err
    assert len(columns(out, "score")["score"]) == 5


def test_objects_and_random_numbers(run: Run, data: Path, tmp_path: Path) -> None:
    """RVecs of scores, two outputs, and noise that is the same on any number of threads."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"]),
        helper.make_node("Add", ["x", "noise"], ["smeared"]),
        helper.make_node("Mul", ["x", "x"], ["square"]),
    ]
    ports = [value(n, TensorProto.FLOAT, ["N", 1]) for n in ("x", "smeared", "square")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 17)]
    path = tmp_path / "g.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    given = ["apply", path, f"{data}:Events", "--columns", "jets * 2", "--per", "object"]
    done = run(*given, "-o", tmp_path / "none.root", "--threads", "2")
    assert done.code == 1
    assert '--entry "event"' in done.err
    found = []
    for count in ("1", "2"):
        out = tmp_path / f"{count}.root"
        more = ["--keep", "number", "--entry", "number", "--threads", count]
        done = run(*given, "-o", out, *more)
        assert done.code == 0, done.err
        assert "smeared, square" in done.err
        read = columns(out, "number", "smeared", "square")
        order = np.argsort(read["number"])
        found.append(
            {name: [list(read[name][i]) for i in order] for name in read if name[0] == "s"}
        )
    assert found[0] == found[1]
    assert found[0]["square"] == [[4.0] * (i % 4) for i in range(COUNT)]
