"""What is made of a run afterwards: JSON read again, Markdown, the picture; and new processes."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sofie_rdf import bench
from sofie_rdf.bench import command, plot, roofline
from sofie_rdf.bench import first as first_module
from sofie_rdf.bench.first import First, Start, measure_first
from sofie_rdf.bench.models import Candidate, candidate, task_for
from sofie_rdf.bench.results import Results
from sofie_rdf.bench.roofline import Level, Roofline
from sofie_rdf.errors import InputError, MissingDependency, ModelError
from tests.bench.test_command import ALONE, TINY, parse
from tests.bench.test_models import _relu
from tests.bench.test_peers import Pretender
from tests.bench.test_roofline import MACHINE


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JSON of a run with a loop, a peer, and one that is absent."""
    path = tmp_path_factory.mktemp("results") / "run.json"
    peers = [command.REFERENCE, Pretender(), _Absent("not installed")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roofline, "measure", lambda: MACHINE)
        patch.setattr(command, "all_peers", lambda: peers)
        patch.setattr(command, "measure_first", lambda *_: _FIRST)
        words = ("higgs", "linear50x10", *TINY, "--threads", "1", "--json", str(path))
        assert bench.main(parse(*words)) == 0
    return path


def alike(one: Any, other: Any) -> bool:
    """Equal but for the last digits of numbers, which change when seconds become microseconds."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


class _Absent(Pretender):
    name = "somebody"


_FIRST = First(
    Start(0.5, {"read": 0.1, "passes": 0.2, "compile": 0.3, "call": 0.1}, 30_000_000),
    Start(0.5, {"read": 0.05, "passes": 0.0, "compile": 0.01, "call": 0.1}, 20_000_000),
    Start(0.1, {"session": 0.01, "call": 0.001}, 10_000_000),
    Start(0.5, {"read": 0.01, "passes": 0.0, "compile": 0.02, "call": 0.01}, 15_000_000),
)


def test_json_and_back(file: Path) -> None:
    found, written = Results.read(str(file)).to_json(), json.loads(file.read_text())
    assert alike(found, written)


def test_from_shows_the_tables_again(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(parse("--from", str(file))) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["higgs", "1", "somebody", "-", "not", "installed"] in rows
    assert [row for row in rows if row[:3] == ["higgs", "1", "pretender"]]
    assert [row for row in rows if row[:3] == ["higgs", "0.500", "0.100"] and "0.70" in row]
    assert "100 GFLOP/s" in out
    assert all(len(line) <= 200 for line in out.splitlines())


def test_from_with_json_is_the_same_again(file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    assert bench.main(parse("--from", str(file), "--json", str(again), "--markdown")) == 0
    first, second = (json.loads(path.read_text()) for path in (file, again))
    assert alike(first, second)


def test_markdown(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(parse("--from", str(file), "--markdown")) == 0
    out = capsys.readouterr().out
    tables = [part.splitlines() for part in out.split("\n\n")[1:]]
    assert [table[0].split(" | ")[0] for table in tables] == [
        "| network",
        "| first result",
        "| RDataFrame",
    ]
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    head = [cell.strip() for cell in tables[0][0].split("|")]
    assert "pretender" in head
    assert "somebody" not in head
    assert [line.split(" | ")[0] for line in tables[0][2:]] == ["| higgs"] * 2 + [
        "| linear50x10"
    ] * 2


def test_what_is_measured_is_not_lost_when_the_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def once(*given: Any) -> Any:
        if made:
            raise KeyboardInterrupt
        made.append(right(*given))
        return made[0]

    right = command.measure_case
    monkeypatch.setattr(command, "measure_case", once)
    monkeypatch.setattr(roofline, "measure", lambda: MACHINE)
    path = tmp_path / "run.json"
    words = ("higgs", "linear50x10", *TINY, *ALONE, "--batch", "1", "--json", str(path))
    with pytest.raises(KeyboardInterrupt):
        bench.main(parse(*words))
    assert [case.model for case in Results.read(str(path)).cases] == ["higgs"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no result of bench"),
        ("{}", "is no result of bench"),
        ("[1]", "is no result of bench"),
        ('{"format": 1}', "has format 1"),
        ('{"format": 2, "machine": {}}', "is no result of bench"),
    ],
)
def test_from_a_file_that_is_something_else(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=reason):
        bench.main(parse("--from", str(path)))
    with pytest.raises(ModelError, match="cannot be read"):
        bench.main(parse("--from", str(tmp_path / "absent.json")))


def test_a_peer_that_nobody_knows() -> None:
    with pytest.raises(InputError, match=r"no peer 'torhc'.*Did you mean 'torch'"):
        bench.main(parse("higgs", "--peers", "torhc"))


# The picture --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_the_picture(file: Path, tmp_path: Path, suffix: str, magic: bytes) -> None:
    path = tmp_path / f"run.{suffix}"
    assert bench.main(parse("--from", str(file), "--plot", str(path), "--markdown")) == 0
    found = path.read_bytes()
    assert found.startswith(magic)
    if suffix == "svg":
        for text in ("higgs, batch 64", "pretender", "L2 100 GB/s", "GFLOP/s", "flop/byte"):
            assert text in found.decode()
        assert "somebody" not in found.decode()


def test_names_of_caches_of_almost_one_speed_do_not_touch(file: Path) -> None:
    pyplot = plot._pyplot()
    results = Results.read(str(file))
    levels = [Level(f"L{i}", 2**20, rate) for i, rate in enumerate((91e9, 90e9, 84e9, 10e9), 1)]
    results = replace(results, roofline=Roofline(1.2e11, tuple(levels)))
    figure = pyplot.figure(figsize=(8, 6.5))
    axes = figure.add_subplot()
    roofline_axes = plot._Roofline(axes, results, {})
    roofline_axes.label()
    figure.draw_without_rendering()
    corners = []
    for text in (t for t in axes.texts if "GB/s" in t.get_text()):
        base = text.axes.transData.transform(text.xy)
        angle, size = text.get_rotation(), text.get_fontsize() * figure.dpi / 72
        text.set_rotation(0)
        wide = text.get_window_extent().width
        turned = np.exp(-1j * np.radians(angle))
        start = complex(*base) * turned
        corners.append((start.real, start.imag, wide, size))
    assert len(corners) == 4
    for i, (x, y, wide, size) in enumerate(corners):
        for x2, y2, wide2, _ in corners[:i]:
            apart = abs(y - y2) >= size or x + wide <= x2 or x2 + wide2 <= x
            assert apart
    pyplot.close(figure)


def test_a_picture_of_an_unknown_kind(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Use \.png, \.svg or \.pdf"):
        bench.main(parse("--from", str(file), "--plot", str(tmp_path / "x.txt")))


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependency, match="pip install matplotlib"):
        plot.ensure_possible("x.png")


# New processes ------------------------------------------------------------------------------------


def test_the_first_result() -> None:
    found = measure_first(task_for(Candidate("tiny", "", _relu(["N", 3])), 2))
    assert list(found.ours.steps) == ["read", "passes", "compile", "call"]
    assert list(found.again.steps) == ["read", "compile", "call"]
    assert list(found.ort.steps) == ["session", "call"]
    for one in (found.ours, found.again, found.ort):
        assert one.start > 0
        assert one.total == sum(one.steps.values())
        assert 0 < one.peak < 1 << 34
    assert found.library is None
    assert First.from_json(found.to_json()) == found


@pytest.mark.exhaustive
@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_the_first_result_with_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    compilers: list[str] = []
    measured = first_module._in_new_process

    def noted(who: str, file: Path, inputs: Path, compiler: str = "cling") -> Start:
        compilers.append(compiler)
        return measured(who, file, inputs, compiler)

    monkeypatch.setattr(first_module, "_in_new_process", noted)
    found = measure_first(task_for(Candidate("tiny", "", _relu(["N", 3])), 2), "g++")
    assert found.library is not None and list(found.library.steps) == ["read", "compile", "call"]
    assert compilers == ["cling", "cling", "cling", "g++", "g++"]
    assert First.from_json(found.to_json()) == found


def test_a_file_keeps_its_name_in_the_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def noted(_: str, path: Path, *__: object) -> Start:
        seen.append(path)
        return _FIRST.ours

    monkeypatch.setattr(first_module, "_in_new_process", noted)
    task = task_for(candidate("linear50x10"), 1)
    measure_first(task)
    assert [path.name for path in seen] == ["linear50x10.onnx"] * 3


def test_a_process_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no first result in a new process \(sofie_rdf\)"):
        first_module._in_new_process("sofie_rdf", tmp_path / "absent.onnx", tmp_path / "absent.npz")
