"""`sofie-rdf`: each command, its results, its messages and its exit codes."""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import uproot
from onnx import TensorProto, helper

import sofie_rdf as sofie
from sofie_rdf.cli import arguments, main, tables
from sofie_rdf.errors import InputError, ModelError
from sofie_rdf.ir import rootfile
from sofie_rdf.ir.types import PRECISIONS
from sofie_rdf.runtime.cache import disk
from sofie_rdf.runtime.files import rootio
from tests.choice import some_of

pytestmark = pytest.mark.usefixtures("unoptimized")

REPOSITORY = Path(__file__).resolve().parents[1]
HIGGS = str(REPOSITORY / "data" / "higgs.onnx")
COMMANDS = (
    "inspect", "check", "convert", "emit", "apply", "precision", "verify", "profile", "trust",
    "ops", "cache", "completion", "bench",
)  # fmt: skip
COMMAND = [sys.executable, "-m", "sofie_rdf.cli"]


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("check", file)`` in this process."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*argv: object) -> Result:
        try:
            code = main([str(a) for a in argv])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return call


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    return kept | {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color"} | more


def shell(*argv: object, **more: str) -> Result:
    """The same in a process of its own, where nobody looks at the output."""
    command = [*COMMAND, *map(str, argv)]
    done = subprocess.run(
        command, env=environment(**more), capture_output=True, text=True, timeout=60, check=False
    )
    return Result(done.returncode, done.stdout, done.stderr)


def terminal(*argv: object, **more: str) -> str:
    """What a terminal gets from it."""
    ours, theirs = pty.openpty()
    command = [*COMMAND, *map(str, argv)]
    with subprocess.Popen(command, env=environment(**more), stdout=theirs, stderr=theirs) as child:
        os.close(theirs)
        text = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                break
            if not part:
                break
            text += part
        child.wait(60)
    os.close(ours)
    return text.decode().replace("\r\n", "\n")


def broken(path: Path, *operators: str) -> Path:
    """An ONNX file with operators that nobody has."""
    nodes = [
        helper.make_node(op, ["x"], [f"y{i}"], name=f"node{i}", domain="nowhere")
        for i, op in enumerate(operators)
    ]
    shape = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])]
    outputs = [
        helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, ["N", 3])
        for i in range(len(operators))
    ]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)]
    graph = helper.make_graph(nodes, "broken", shape, outputs)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def relu(path: Path, *, name: str = "x", output: str = "y", node: str = "relu") -> Path:
    nodes = [helper.make_node("Relu", [name], [output], name=node)]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in (name, output)]
    graph = helper.make_graph(nodes, "relu", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


# Help ---------------------------------------------------------------------------------------------


def test_help_names_every_command_and_the_exit_codes(run: Run) -> None:
    result = run("--help")
    assert result.code == 0
    assert result.err == ""
    for word in (*COMMANDS, "--version", "--include-dir", "examples:", "exit codes:"):
        assert word in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_examples_that_are_understood(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.code == 0
    text = result.out
    assert "examples:" in text
    lines = text.split("examples:")[1].splitlines()
    lines = [re.split(r"\s{2,}|\||>", line.strip())[0] for line in lines]
    examples = [x for x in lines if x.startswith("sofie-rdf ")]
    assert examples
    for line in examples:
        parsed = arguments.parser().parse_args(line.split()[1:])
        assert parsed.command == command


def test_help_is_fast() -> None:
    """It imports nothing that takes long: neither onnx nor uproot nor rich nor ROOT."""
    code = (
        "import sys; from sofie_rdf.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'ROOT', 'onnx', 'uproot', 'awkward', 'rich'}\n"
        "sys.stderr.write(' '.join(slow & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    seconds = []
    for _ in range(3):
        start = os.times()
        assert shell("--help").code == 0
        end = os.times()
        # What it computes: how long it waits depends on what else runs.
        seconds.append(end.children_user - start.children_user)
    assert min(seconds) < 1.0


def test_version_and_include_directory(run: Run) -> None:
    assert run("--version").out == f"sofie-rdf {sofie.__version__}\n"
    folder = Path(run("--include-dir").out.rstrip("\n"))
    assert (folder / "sofie" / "session" / "arena.hxx").is_file()


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["train"],
        ["inspect"],
        ["inspect", HIGGS, "--json", "--ir"],
        ["inspect", HIGGS, "--json", "--why"],
        ["inspect", HIGGS, "--shape", "features"],
        ["inspect", HIGGS, "--shape", "features=N,7 x"],
        ["inspect", HIGGS, "--shape", "=1"],
        ["inspect", HIGGS, "--shape", "x=1", "--shape", "x=2"],
        ["emit", HIGGS],
        ["check"],
        ["convert", HIGGS],
        ["convert", HIGGS, "out.onnx"],
        ["convert", HIGGS, "out.root", "--via", "h5py"],
        ["ops", "("],
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, argv: list[str]) -> None:
    result = run(*argv)
    assert result.code == 2
    assert result.out == ""
    assert "usage: sofie-rdf" in result.err


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("x=N,7", ("x", ("N", 7))),
        ("a=b=1, ?", ("a=b", (1, None))),
        ("scalar=", ("scalar", ())),
    ],
)
def test_shapes(text: str, shape: object) -> None:
    assert arguments._shape_of(text) == shape


def test_bench_gets_its_own_arguments(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is asked only when its command is; its exit code is that of the command."""
    from sofie_rdf import bench

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--fast", action="store_true")

    monkeypatch.setattr(bench, "add_arguments", add, raising=False)
    monkeypatch.setattr(bench, "main", lambda a: 7 if a.fast else 0, raising=False)
    assert run("bench", "--fast").code == 7
    assert run("bench").code == 0
    assert "--fast" in run("bench", "--help").out
    assert run("bench", "--slow").code == 2


# inspect ------------------------------------------------------------------------------------------


def test_inspect_shows_the_model(run: Run) -> None:
    result = run("inspect", HIGGS)
    assert result.code == 0
    assert result.err == ""
    model = sofie.load(HIGGS)
    lines = result.out.splitlines()
    assert lines[0].startswith("higgs  (higgs.onnx, ")
    assert "opset ai.onnx 17" in lines[0]
    assert ["input", "features", "float32[N,", "7]"] in [x.split() for x in lines]
    assert ["output", "score", "float32[N,", "1]"] in [x.split() for x in lines]
    read, optimized = model.graph, model.optimized
    rows = {x.rsplit(None, 2)[0].strip(): x.rsplit(None, 2)[1:] for x in lines if x.count("  ")}
    assert rows["nodes"] == [str(len(read.nodes)), str(len(optimized.nodes))]
    assert rows["parameters"] == [f"{read.parameters:,}", f"{optimized.parameters:,}"]
    assert f"{len(model.emission.weights):,}" in result.out
    for node in optimized:
        assert any(node.origin.name in x and type(node.op).__name__ in x for x in lines)
    assert lines[-1].endswith("where N = 1")


def test_inspect_says_why(run: Run) -> None:
    lines = run("inspect", HIGGS, "--why").out.splitlines()
    assert lines[0] == "higgs: 16 nodes as read, 1 to run"
    assert lines.index("done:") < lines.index("operators to run:") == len(lines) - 2
    assert any(x.split()[:3] == ["5", "x", "gemm"] for x in lines)
    assert lines[-1] == "    1 x sofie.DenseLayers"


def test_inspect_sums_the_nodes(run: Run) -> None:
    described = json.loads(run("inspect", HIGGS, "--shape", "features=3,7", "--json").out)
    (model,) = described["models"]
    nodes = model["to_run"]["nodes"]
    assert len(nodes) == model["to_run"]["node_count"] < model["as_read"]["node_count"]
    assert sum(n["multiply_adds"] for n in nodes) == model["to_run"]["multiply_adds"] > 0
    assert sum(n["parameters"] for n in nodes) == model["to_run"]["parameters"] > 0


def test_inspect_as_json(run: Run) -> None:
    result = run("inspect", HIGGS, "--json")
    assert result.code == 0
    described = json.loads(result.out)
    assert described["file"] == HIGGS
    (model,) = described["models"]
    assert model["name"] == "higgs"
    assert model["inputs"] == [{"name": "features", "dtype": "float32", "shape": ["N", 7]}]
    assert model["outputs"] == [{"name": "score", "dtype": "float32", "shape": ["N", 1]}]
    assert model["weight_bytes"] == len(sofie.load(HIGGS).emission.weights)


def test_inspect_as_text_before_and_after_the_passes(run: Run) -> None:
    model = sofie.load(HIGGS)
    read, run_ = run("inspect", HIGGS, "--graph").out, run("inspect", HIGGS, "--ir").out
    assert read == f"{model.graph}".rstrip() + "\n"
    assert run_ == f"{model.optimized}".rstrip() + "\n"
    assert "BatchNormalization" in read
    assert "BatchNormalization" not in run_


def test_inspect_gives_names_and_shapes(run: Run) -> None:
    result = run("inspect", HIGGS, "--name", "mine", "--shape", "features=16,?")
    assert result.out.startswith("mine  (")
    assert "float32[16, 7]" in result.out
    assert "where" not in result.out
    wrong = run("inspect", HIGGS, "--shape", "feature=16,7")
    assert wrong.code == 1
    assert "--shape names 'feature'" in wrong.err


def test_inspect_of_a_root_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "models.root"
    assert run("convert", HIGGS, path).code == 0
    assert run("inspect", path).out.startswith("higgs  (")
    assert run("convert", HIGGS, path, "--name", "second").code == 0
    result = run("inspect", path)
    assert result.code == 0
    listed = [line.split()[0] for line in result.out.splitlines()]
    assert listed[0] == "model"
    assert listed[2:] == ["higgs", "second"]
    assert "--name" in result.err
    assert run("inspect", path, "--name", "second").out.startswith("second  (")
    names = [m["name"] for m in json.loads(run("inspect", path, "--json").out)["models"]]
    assert names == ["higgs", "second"]
    missing = run("inspect", path, "--name", "secnd")
    assert missing.code == 1
    assert "Did you mean 'second'?" in missing.err
    ambiguous = run("emit", path, "-o", tmp_path)
    assert ambiguous.code == 1
    assert "--name NAME" in ambiguous.err


@pytest.mark.parametrize("columns", some_of([40, 60, 80], [40]))
def test_tables_fit_the_terminal(columns: int) -> None:
    text = terminal("inspect", HIGGS, COLUMNS=str(columns), NO_COLOR="1")
    widths = [len(line) for line in text.splitlines()]
    assert max(widths) <= columns
    # Long words are folded and not cut; few of them need it where there is room.
    assert "dense5" in text or columns < 60
    assert "".join(text.split()).count("13,057") == 2


def test_tables_are_whole_where_nobody_looks() -> None:
    """No line is folded in a pipe: each node is one line."""
    lines = shell("inspect", HIGGS).out.splitlines()
    for number, node in enumerate(sofie.load(HIGGS).optimized, 1):
        (row,) = (x for x in lines if x.startswith(f"{number}  "))
        assert node.origin.name in row
        assert all(line == line.rstrip() for line in lines)


def test_colours_on_terminals_only() -> None:
    assert "\x1b[" in terminal("check", HIGGS)
    assert "\x1b" not in terminal("check", HIGGS, "/nowhere", NO_COLOR="1")
    assert "\x1b" not in terminal("inspect", "/nowhere", NO_COLOR="1")
    for argv in (["check", HIGGS], ["inspect", "/nowhere"]):
        result = shell(*argv)
        assert "\x1b" not in result.out + result.err


def test_names_cannot_steer_the_terminal(run: Run, tmp_path: Path) -> None:
    evil = "\x1b[31m[bold]:smile:\r"
    file = relu(tmp_path / "evil.onnx", name=evil, output="y", node=evil)
    result = run("inspect", file)
    assert result.code == 0
    assert "\x1b" not in result.out
    assert "\r" not in result.out
    assert r"\x1b[31m[bold]:smile:\r" in result.out


def test_output_that_has_no_such_letters(tmp_path: Path) -> None:
    file = relu(tmp_path / "ascii.onnx", name="m_ττ")
    result = shell("inspect", file, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert result.code == 0
    assert r"m_\u03c4\u03c4" in result.out


# check --------------------------------------------------------------------------------------------


def test_check_of_a_good_file(run: Run, tmp_path: Path) -> None:
    assert run("check", HIGGS) == Result(0, f"{HIGGS}: ok\n", "")
    run("convert", HIGGS, tmp_path / "good.root")
    assert run("check", tmp_path / "good.root").code == 0


def test_check_lists_all_reasons_of_all_files(run: Run, tmp_path: Path) -> None:
    bad = broken(tmp_path / "bad.onnx", "Foo", "Bar")
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(np.random.default_rng(0).bytes(1000))
    result = run("check", bad, HIGGS, noise, tmp_path / "absent.onnx")
    assert result.code == 1
    assert result.err == ""
    lines = result.out.splitlines()
    assert f"{bad}: 2 problems" in lines
    assert f"{HIGGS}: ok" in lines
    assert f"{noise}: 1 problem" in lines
    reasons = [x for x in lines if x.startswith("  - ")]
    assert len(reasons) == 4
    for word in ("node0", "node1", "Foo", "Bar", "absent.onnx"):
        assert any(word in x for x in reasons)


def test_check_lists_the_same_reason_once(run: Run, tmp_path: Path) -> None:
    """With all places of a few, and the number of many."""
    few = run("check", broken(tmp_path / "few.onnx", *["Foo"] * 3)).out.splitlines()
    assert few[0].endswith(": 3 problems")
    assert "'node0'" in few[1] and "nowhere.Foo" in few[1]
    assert few[2:] == ["    The same at node 'node1', node 'node2'"]
    many = run("check", broken(tmp_path / "many.onnx", *["Foo"] * 50)).out.splitlines()
    assert many[0].endswith(": 50 problems")
    assert many[2].endswith("node 'node8' and 41 others")


def test_check_does_not_fold_its_lines(tmp_path: Path) -> None:
    """A path that is longer than the terminal is wide can still be copied and searched."""
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    file = broken(folder / "bad.onnx", "Foo")
    lines = shell("check", file, COLUMNS="40").out.splitlines()
    assert lines[0] == f"{file}: 1 problem"
    assert len(lines) == 2


def test_check_never_takes_a_damaged_file_for_good(run: Run, tmp_path: Path) -> None:
    whole = Path(HIGGS).read_bytes()
    files = []
    for size in (0, 1, 10, 1000, len(whole) // 2, len(whole) - 1):
        files.append(tmp_path / f"{size}.onnx")
        files[-1].write_bytes(whole[:size])
    stored = tmp_path / "stored.root"
    run("convert", HIGGS, stored)
    files.append(tmp_path / "half.root")
    files[-1].write_bytes(stored.read_bytes()[: stored.stat().st_size // 2])
    for file in files:
        result = run("check", file)
        assert result.code == 1, file
        assert "problem" in result.out


# convert ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("via", ["uproot", "ROOT"])
def test_convert_stores_the_model(
    run: Run, tmp_path: Path, via: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if via == "ROOT":
        pytest.importorskip("ROOT")
    other = rootio if via == "uproot" else rootfile
    monkeypatch.setattr(other, "save", None)
    path = tmp_path / "models.root"
    result = run("convert", HIGGS, path, "--via", via, "--name", "mine")
    assert result.code == 0
    assert result.out == f"{path}\n"
    assert "'mine'" in result.err
    stored = sofie.load(path, "mine")
    given = sofie.from_onnx(HIGGS)
    for name, constant in given.graph.constants.items():
        np.testing.assert_array_equal(stored.graph.constants[name], constant)


def test_convert_to_an_rntuple(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "models.root"
    assert run("convert", HIGGS, path, "--ntuple").code == 0
    with uproot.open(path) as file:
        assert file["higgs"].classname_of("weights") == "ROOT::RNTuple"
    refused = run("convert", HIGGS, path, "--ntuple", "--via", "ROOT")
    assert refused.code == 1
    assert "ntuple=True is for via='uproot'" in refused.err


def test_convert_fixes_shapes(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "fixed.root"
    assert run("convert", HIGGS, path, "--shape", "features=16,7").code == 0
    assert str(sofie.load(path).inputs["features"]) == "float32[16, 7]"


def test_convert_overwrites_or_not(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "models.root"
    assert run("convert", HIGGS, path, "--no-overwrite").code == 0
    before = path.read_bytes()
    refused = run("convert", HIGGS, path, "--no-overwrite")
    assert refused.code == 1
    assert refused.out == ""
    assert "Without --no-overwrite it is replaced" in refused.err
    assert path.read_bytes() == before
    assert run("convert", HIGGS, path, "--shape", "features=2,7").code == 0
    assert str(sofie.load(path).inputs["features"]) == "float32[2, 7]"


def test_convert_takes_one_model_out_of_many(run: Run, tmp_path: Path) -> None:
    many, one = tmp_path / "many.root", tmp_path / "one.root"
    run("convert", HIGGS, many)
    run("convert", HIGGS, many, "--name", "second")
    assert run("convert", many, one, "--name", "second").code == 0
    assert sofie.load(one).name == "second"


# precision ----------------------------------------------------------------------------------------

COLUMNS = [f"v{i}" for i in range(7)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    rng = np.random.default_rng(4)
    columns = {name: rng.normal(size=500).astype(np.float32) for name in COLUMNS}
    with uproot.recreate(tmp_path / "events.root") as file:
        file["Events"] = {**columns, "signal": rng.integers(0, 2, 500)}
    np.save(tmp_path / "x.npy", np.stack(list(columns.values()), axis=1))
    np.savez(tmp_path / "x.npz", features=np.load(tmp_path / "x.npy"), truth=np.ones(500))
    return tmp_path / "events.root"


def test_precision_on_the_columns_of_a_tree(run: Run, tree: Path) -> None:
    given = ("--data", f"{tree}:Events", "--columns", ",".join(COLUMNS), "--labels", "signal")
    found = run("precision", HIGGS, *given, "--cut", "0.5", "--precisions", "int8")
    assert found.code == 0 and "on 500 events" in found.out and "> 0.5" in found.out
    found = run("precision", HIGGS, *given, "--events", "50", "--json")
    told = json.loads(found.out)
    assert told["events"] == 50
    assert [c["precision"] for c in told["contenders"]] == list(PRECISIONS)
    x = np.load(tree.with_name("x.npy"))[:50]
    exact, other = (sofie.load(HIGGS, precision=p)(x).astype(float) for p in ("", "int8"))
    assert told["contenders"][3]["changes"][0]["largest"] == np.abs(exact - other).max()
    assert all(c["alone"] > 0 for c in told["contenders"])


def test_precision_on_arrays(run: Run, tree: Path) -> None:
    for file in ("x.npy", "x.npz"):
        labels = ["--labels", "truth"] if file == "x.npz" else []
        given = ("--data", tree.with_name(file), "--precisions", "float16", *labels)
        found = run("precision", HIGGS, *given)
        assert found.code == 0 and "on 500 events" in found.out, found.err


@pytest.mark.parametrize(
    ("data", "columns", "message"),
    [
        ("events.root:Event", "v0", "has no tree 'Event'"),
        ("events.root", "v0", "is no FILE.root:TREE"),
        ("absent.root:Events", "v0", "no such file"),
        ("events.root:Events", "v0,v8", "has no column 'v8'. It has signal, v0, v1"),
        ("events.root:Events", "v0", "7"),
        ("events.root:Events", "", "Name the columns: --columns"),
        ("bad.root:Events", "v0", "cannot be read"),
        ("bad.npy", "", "is no array of NumPy"),
        ("absent.npy", "", "no such file"),
        ("x.npz", "", "has no input 'truth'"),
    ],
)
def test_precision_says_what_is_wrong(
    run: Run, tree: Path, data: str, columns: str, message: str
) -> None:
    for name in ("bad.root", "bad.npy"):
        tree.with_name(name).write_bytes(tree.read_bytes()[:200])
    more = ["--columns", columns] if columns else []
    found = run("precision", HIGGS, "--data", tree.parent / data, *more)
    assert found.code == 1 and message in found.err, found.err


def test_inspect_and_convert_take_a_precision(run: Run, tmp_path: Path) -> None:
    shown = run("inspect", HIGGS, "--precision", "int8")
    assert shown.code == 0 and re.search(r"\[64, 64\] +int8 +4,352", shown.out)
    told = json.loads(run("inspect", HIGGS, "--precision", "int8", "--json").out)["models"][0]
    assert told["precision"] == "int8" and {w["precision"] for w in told["weights"]} == {"int8"}
    assert run("convert", HIGGS, tmp_path / "m.root", "--precision", "bfloat16").code == 0
    assert sofie.load(tmp_path / "m.root").precision == "bfloat16"
    assert run("emit", HIGGS, "-o", tmp_path, "--precision", "float16").code == 0
    assert (tmp_path / "higgs.dat").stat().st_size < 27_100
    assert run("inspect", HIGGS, "--precision", "half").code == 2


# trust --------------------------------------------------------------------------------------------


def test_trust_and_what_inspect_says_of_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "models.root"
    for name in ("mine", "yours"):
        assert run("convert", HIGGS, path, "--name", name).code == 0
    checksum = rootfile.load(path, "mine").sha256
    shown = run("inspect", path, "--name", "mine").out
    assert checksum in shown
    assert "run it\n" in shown
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    assert "run it, not before `sofie-rdf trust`" in run("inspect", path, "--name", "mine").out
    stored = json.loads(run("inspect", path, "--json").out)["models"][0]["stored"]
    assert (stored["sha256"], stored["trusted"]) == (checksum, False)
    assert stored["date"].startswith("20")
    result = run("trust", path, "--name", "mine")
    assert (result.code, result.out) == (0, f"{checksum}\n")
    assert run("trust", path).out.splitlines()[0] == checksum
    assert json.loads(run("inspect", path, "--json").out)["models"][1]["stored"]["trusted"]
    refused = run("trust", HIGGS)
    assert refused.code == 1
    assert "is no ROOT file" in refused.err


# emit ---------------------------------------------------------------------------------------------


def test_emit_writes_what_it_says(run: Run, tmp_path: Path) -> None:
    result = run("emit", HIGGS, "-o", tmp_path / "new" / "out")
    assert result.code == 0
    header, weights = map(Path, result.out.splitlines())
    model = sofie.load(HIGGS)
    assert header.read_text() == model.emission.header
    assert weights.read_bytes() == model.emission.weights
    assert "TMVA_SOFIE_higgs::Session" in result.err
    assert f"-I{header.parent} -I{run('--include-dir').out.strip()}" in result.err


def test_emit_standalone_includes_nothing_of_ours(run: Run, tmp_path: Path) -> None:
    result = run("emit", HIGGS, "-o", tmp_path, "--standalone", "--name", "2 b")
    assert result.code == 0
    header = Path(result.out.splitlines()[0])
    text = header.read_text()
    assert '#include "sofie' not in text
    assert "class Session" in text
    assert result.err.rstrip().endswith(f"-I{tmp_path}")


# ops ----------------------------------------------------------------------------------------------


def test_ops_is_a_table(run: Run) -> None:
    result = run("ops", "^(Relu|Conv|NonZero|RandomUniform|Reshape|Constant)$")
    assert result.code == 0
    rows = {x.split()[0]: x for x in result.out.splitlines()[2:]}
    assert [*rows] == ["Constant", "Conv", "NonZero", "RandomUniform", "Relu", "Reshape"]
    assert "max(x, 0)" in rows["Relu"] and "0.5 ulp" in rows["Relu"] and "1+" in rows["Relu"]
    assert "floats" in rows["Conv"] and "2 sqrt(n) of the sum" in rows["Conv"]
    assert "the data decide sizes" in rows["NonZero"]
    assert "random" in rows["RandomUniform"]
    assert "shape: constant or computed" in rows["Reshape"] and "exact" in rows["Reshape"]
    assert "ulp" not in rows["Constant"]
    assert "accuracy: " in result.err and "floats: float16" in result.err


def test_ops_in_markdown(run: Run) -> None:
    result = run("ops", "^bitwise", "--markdown")
    header, line, *rows = result.out.splitlines()
    assert header.startswith("| operator | formula | element types |")
    assert line == "|" + " --- |" * 6
    assert len(rows) == 4
    assert r"| BitwiseOr | a \| b | integers | 18+ | 0.5 ulp |" in result.out.replace("  ", " ")
    # Nothing in a cell ends it.
    for row in rows:
        assert len(re.split(r"(?<!\\)\|", row)) == 8


def test_ops_of_our_own(run: Run) -> None:
    missing = run("ops", "^sofie[.]Dense$")
    assert (missing.code, missing.out) == (1, "")
    assert "no operator is called" in missing.err
    assert "sofie.Dense" in run("ops", "^sofie[.]Dense$", "--all").out


# cache --------------------------------------------------------------------------------------------


def test_cache(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no cache" in run("cache").err
    monkeypatch.setenv("SOFIE_RDF_CACHE", str(tmp_path / "cache"))
    assert run("cache").out == f"{tmp_path / 'cache'}\n"
    disk.store(f"{disk.key_of(['a'])}.dat", b"12345678")
    mine = tmp_path / "cache" / "notes.txt"
    mine.write_text("not of the cache")
    assert "1 files, 48 bytes" in run("cache").err
    assert "1 files, 48 bytes removed" in run("cache", "--clear").err
    assert [*mine.parent.iterdir()] == [mine]


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ["inspect", "/nowhere/a.onnx"],
        ["inspect", str(REPOSITORY)],
        ["inspect", __file__],
        ["convert", __file__, "x.root"],
        ["convert", HIGGS, "/nowhere/x.root"],
        ["convert", HIGGS, "/dev/null/x.root"],
        ["emit", __file__, "-o", "."],
        ["emit", HIGGS, "-o", "/dev/null"],
    ],
)
def test_what_cannot_be_done_is_exit_code_1(run: Run, argv: list[str]) -> None:
    # One of them as a process; each takes half a second.
    result = shell(*argv) if "/nowhere/a.onnx" in argv else run(*argv)
    assert result.code == 1
    assert result.out == ""
    assert result.err.startswith("sofie-rdf: error: ")
    assert "Traceback" not in result.err
    assert len(result.err.splitlines()) == 1


def test_remedies_are_given_in_words_of_the_shell() -> None:
    error = ModelError("has no shape", remedy="Give one: shapes={'x': (None, 'n', 7)}")
    assert tables.in_shell_words(str(error)) == "has no shape. Give one: --shape x=?,n,7"
    text = tables.in_shell_words(str(InputError("two models", remedy="Say which with name='...'")))
    assert text == "two models. Say which with --name NAME"


def test_a_reader_that_goes_away_is_no_error() -> None:
    for argv in (["inspect", HIGGS], ["inspect", HIGGS, "--ir"], ["--help"]):
        ours, theirs = os.pipe()
        os.close(ours)
        done = subprocess.run(
            [*COMMAND, *argv], env=environment(), stdout=theirs, stderr=subprocess.PIPE, check=False
        )
        os.close(theirs)
        assert done.stderr == b""
        # argparse says nothing where its help has no reader, and ends as always.
        assert done.returncode == 141 or argv == ["--help"], argv


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "inspect", HIGGS], env=environment(), stdout=full, stderr=-1, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"sofie-rdf: error: ")
    assert len(done.stderr.splitlines()) == 1


# Whoever starts the tests in the background may have the signal ignored, which is inherited.
LISTENING = (
    "import os, signal, sys;"
    "signal.signal(signal.SIGINT, signal.SIG_DFL);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def test_control_c_is_exit_code_130() -> None:
    # It writes more than a pipe holds, so that it is at work until somebody reads.
    command = [sys.executable, "-c", LISTENING, *COMMAND, "ops", "--json"]
    child = subprocess.Popen(command, env=environment(), stdout=-1, stderr=-1)
    timer = threading.Timer(60, child.kill)
    timer.start()
    with child:
        assert child.stdout is not None
        child.stdout.read(1)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate()
    timer.cancel()
    assert child.returncode == 130
    assert err == b""


def test_main_leaves_warnings_as_they_were(run: Run) -> None:
    import warnings

    before = list(warnings.filters)
    run("check", HIGGS)
    assert warnings.filters == before


def test_roots_own_warning_is_not_shown(tmp_path: Path) -> None:
    pytest.importorskip("ROOT")
    result = shell("convert", HIGGS, tmp_path / "x.root", "--via", "ROOT")
    assert result.code == 0
    assert result.err.splitlines() == [f"sofie-rdf: model 'higgs' is in {tmp_path / 'x.root'}"]


def test_entry_point_is_main() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text()
    assert 'sofie-rdf = "sofie_rdf.cli:main"' in text
    assert callable(main)


def test_limits_of_a_file(run: Run, tmp_path: Path) -> None:
    refused = run("check", HIGGS, "--limits", "bytes=100")
    assert refused.code == 1
    assert "the limit for this file is 100 bytes" in " ".join(refused.out.split())
    assert run("check", HIGGS, "--limits", "bytes=1G,seconds=600").code == 0
    assert "are no limits" in run("emit", HIGGS, "-o", tmp_path, "--limits", "8G").err
