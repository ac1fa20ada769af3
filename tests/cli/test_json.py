"""``--json`` of each command: the keys that its help promises, and nothing but JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import sofie_rdf as sofie
from sofie_rdf.cli import commands
from sofie_rdf.errors import ModelError
from tests.cli.conftest import DATA, HIGGS, Run
from tests.test_cli import broken


def promised(help_text: str) -> set[str]:
    """The words behind ``keys of --json``."""
    return set(re.findall(r"\w+", help_text.partition("keys of --json")[2]))


def keys(described: object) -> set[str]:
    if isinstance(described, dict):
        return set(described).union(*map(keys, described.values()))
    return set().union(*map(keys, described)) if isinstance(described, list) else set()


def test_check(run: Run, tmp_path: Path) -> None:
    bad = broken(tmp_path / "bad.onnx", "Frobnicate", "Twist")
    done = run("check", HIGGS, bad, "--json")
    assert (done.code, done.err) == (1, "")
    found = json.loads(done.out)
    good, worse = found["files"]
    assert good == {"file": str(HIGGS), "ok": True, "problems": [], "notes": []}
    assert (worse["file"], worse["ok"]) == (str(bad), False)
    kinds = [problem["kind"] for problem in worse["problems"]]
    assert kinds == ["UnsupportedOperator", "UnsupportedOperator"]
    assert [problem["place"] for problem in worse["problems"]] == [
        problem.place for problem in sofie.check(bad)
    ]
    assert "Frobnicate" in worse["problems"][0]["thing"]
    assert keys(found) <= promised(run("check", "--help").out)


def test_check_of_a_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    done = run("check", tmp_path / "absent.onnx", "--json")
    assert done.code == 1
    (problem,) = json.loads(done.out)["files"][0]["problems"]
    assert problem["kind"] == "ModelError"


def test_inspect_has_the_keys_that_its_help_promises(run: Run) -> None:
    found = json.loads(run("inspect", HIGGS, "--json").out)
    for model in found["models"]:
        model.pop("provenance")  # What the file says of itself.
    assert keys(found) <= promised(run("inspect", "--help").out)


def test_ops(run: Run) -> None:
    done = run("ops", "^(relu|gelu)$", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    relu = next(one for one in found["operators"] if one["name"] == "Relu")
    assert relu["domain"] == ""
    assert "float32" in relu["types"]["T"]
    assert set(relu["accuracy"]) == {"ulp", "terms"}
    for one in found["operators"]:
        assert set(one) <= promised(run("ops", "--help").out)
    assert run("ops", "relu", "--json", "--markdown").code == 2


def test_ops_without_a_match_is_an_empty_list(run: Run) -> None:
    done = run("ops", "nobody", "--json")
    assert done.code == 1
    assert json.loads(done.out) == {"operators": []}


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_no_isolated_is_told_to_load(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    given = []

    def stop(*_: object, **options: object) -> None:
        given.append(options["isolated"])
        raise ModelError("stop")

    monkeypatch.setattr(commands, "load", stop)
    monkeypatch.setattr(commands, "problems_of", stop)
    assert run(command, DATA / "higgs.keras").code == 1
    assert run(command, DATA / "higgs.keras", "--no-isolated").code == 1
    assert given == [None, False]


def test_no_isolated_for_what_is_never_isolated(run: Run) -> None:
    done = run("inspect", HIGGS, "--no-isolated")
    assert done.code == 1
    assert "--no-isolated means nothing for an ONNX file" in done.err


def test_no_isolated_reads_keras_files(run: Run) -> None:
    assert run("inspect", DATA / "higgs.keras", "--no-isolated", "--json").code == 0
