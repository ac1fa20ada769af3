"""What stands twice in a file: one reader takes the first, another one the last, we none."""

from __future__ import annotations

import json
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import CorruptFile, SofieError
from sofie_rdf.frontends.trees import ubjson
from tests.frontends.trees.test_damaged import document, written

DATA = Path(__file__).resolve().parents[2] / "data"


def rewritten(
    source: Path, target: Path, member: str, change: Callable[[bytes], bytes], *, also: bool = False
) -> None:
    """A copy of an archive whose member is another one, or is there ``also`` as another one."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename == member:
                if also:
                    new.writestr(info, content)
                content = change(content)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                new.writestr(info, content)


def refused(path: Path) -> None:
    with pytest.raises(SofieError, match="twice"):
        _ = sofie.load(path).graph
    (problem, *_) = sofie.check(path)
    assert "twice" in problem.thing


@pytest.mark.parametrize(("key", "value"), [("num_trees", "1"), ("learner", "{}"), ("trees", "[]")])
def test_a_key_of_xgboost(key: str, value: str, tmp_path: Path) -> None:
    text = json.dumps(document())
    assert text.count(f'"{key}": ') == 1
    (tmp_path / "m.json").write_text(text)
    assert sofie.load(tmp_path / "m.json").graph.nodes
    found = json.loads(value) if value[0] in "{[" else value
    given = json.dumps(found)
    (tmp_path / "m.json").write_text(text.replace(f'"{key}": ', f'"{key}": {given}, "{key}": '))
    refused(tmp_path / "m.json")


def test_a_key_of_xgboost_in_binary() -> None:
    content = written({"a": "b", "c": 1})
    assert ubjson.parse(content) == {"a": "b", "c": 1}
    with pytest.raises(CorruptFile, match="'a' twice"):
        ubjson.parse(content.replace(b"c", b"a"))


@pytest.mark.parametrize("member", ["config.json", "metadata.json"])
def test_a_key_of_keras(member: str, tmp_path: Path) -> None:
    def change(content: bytes) -> bytes:
        return content.replace(b"{", b'{"config": {}, "config": {}, ', 1)

    rewritten(DATA / "higgs.keras", tmp_path / "m.keras", member, change)
    refused(tmp_path / "m.keras")


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_a_member_of_keras(member: str, tmp_path: Path) -> None:
    rewritten(DATA / "higgs.keras", tmp_path / "m.keras", member, lambda c: c, also=True)
    refused(tmp_path / "m.keras")


def test_a_key_of_a_program_of_torch(tmp_path: Path) -> None:
    def change(content: bytes) -> bytes:
        return content.replace(b"{", b'{"opset_version": {}, "opset_version": {}, ', 1)

    source = DATA / "small_program.pt2"
    with zipfile.ZipFile(source) as archive:
        (member,) = (n for n in archive.namelist() if n.endswith("models/model.json"))
    rewritten(source, tmp_path / "m.pt2", member, change)
    refused(tmp_path / "m.pt2")


def test_a_key_of_a_normalisation(tmp_path: Path) -> None:
    shutil.copy(DATA / "higgs.onnx", tmp_path / "m.onnx")
    (tmp_path / "n.json").write_text('{"mean": [0], "mean": [1], "scale": [1]}')
    with pytest.raises(CorruptFile, match="twice"):
        sofie.load(tmp_path / "m.onnx").normalized(tmp_path / "n.json")
