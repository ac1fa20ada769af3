"""What once did harm does none; a few new mutants of each kind; and that harm is noticed.

``make fuzz-files`` goes on with other seeds.
"""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from onnx import ModelProto

from sofie_rdf.errors import CorruptFile
from tests.choice import some_of
from tests.fuzz_files import campaign as campaigns
from tests.fuzz_files import child, corpus, samples
from tests.fuzz_files.campaign import campaign, replayed
from tests.fuzz_files.kinds import KINDS, Kind

needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
# The C++ is compiled with sanitizers for them.
native = (needs_gxx, pytest.mark.exhaustive)
ALL = [pytest.param(k, marks=native) if v.is_native else k for k, v in KINDS.items()]
# Enough that each way of damage comes up in each kind.
MUTANTS = 150


@pytest.mark.parametrize("kind", ALL)
def test_what_did_harm_once_does_none(kind: str) -> None:
    assert replayed(kind) == ""


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ALL)
def test_a_few_mutants(kind: str) -> None:
    summary = campaign(kind, 1, 600, MUTANTS)
    assert [f"{f.found}\n{f.text}" for f in summary.findings] == []
    assert summary.mutants == MUTANTS
    assert summary.loaded > 0, "all were refused: what is behind the first check is not reached"


def onnx_of(model: bytes) -> ModelProto:
    return ModelProto.FromString(model)


def test_samples_are_sound() -> None:
    """What is refused as it is tests nothing."""
    from sofie_rdf.frontends.lwtnn import reader as lwtnn
    from sofie_rdf.frontends.onnx import reader as onnx
    from sofie_rdf.frontends.tmva import reader as tmva
    from sofie_rdf.frontends.trees import lightgbm, xgboost

    for tree in KINDS["xgboost-json"].samples() + KINDS["xgboost-ubj"].samples():
        assert xgboost.read(tree).outputs
    for text in samples.lightgbm_files():
        assert lightgbm.read(text).outputs
    for weights in KINDS["tmva"].samples():
        assert tmva.read(weights).outputs
    for network in KINDS["lwtnn"].samples():
        assert lwtnn.read(network).outputs
    assert sum(not onnx.check(onnx_of(model)) for model in samples.onnx_models()) > 200
    assert not [e for model in samples.onnx_domains() for e in onnx.check(onnx_of(model))]


def test_the_corpus_has_kinds_that_there_are() -> None:
    found = list(corpus.entries())
    assert {entry.kind for entry in found} <= set(KINDS)
    assert all(entry.did and len(entry.data) < 30_000 for entry in found)


# Whether harm is noticed --------------------------------------------------------------------------


def _mutate(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """One in eight does harm."""
    return data + (b"!" if rng.randrange(8) == 0 else b"?") * rng.randrange(1, 9)


def _raising(folder: Path, data: bytes, number: int) -> None:
    if b"!" in data:
        raise KeyError("planted")
    raise CorruptFile("is as it should be refused")


def _crashing(folder: Path, data: bytes, number: int) -> None:
    if b"!" in data:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGSEGV)


def _hanging(folder: Path, data: bytes, number: int) -> None:
    while b"!" in data:
        pass


def _crashing_readers(folder: Path, data: bytes, number: int) -> None:
    """Only where a reader is called in this process, which `load` does not do: numbers from 1."""
    if number:
        _crashing(folder, data, number)


PLANTED = {
    "raising": (_raising, "KeyError in outside"),
    "crashing": (_crashing, "crashes: SIGSEGV"),
    "hanging": (_hanging, "hangs: it was still computing after its time"),
    "everywhere": (_crashing, "crashes: SIGSEGV"),
}


def planted(name: str) -> Kind:
    if name == "contained":
        return Kind(_sound, _mutate, lambda: _crashing_readers, 1.0, is_isolated=True)
    target = PLANTED[name][0]
    return Kind(_sound, _mutate, lambda: target, seconds=1.0, is_isolated=name == "everywhere")


def _sound() -> list[bytes]:
    return [b"sound "]


@pytest.mark.parametrize("name", some_of(PLANTED, ["raising"]))
def test_harm_is_noticed(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(KINDS, name, planted(name))
    monkeypatch.setattr(campaigns, "OUT", tmp_path / "out" / "fuzz-files")
    monkeypatch.setattr(campaigns, "ROOT", tmp_path)
    monkeypatch.setattr(campaigns, "_command", _with_planted)
    summary = campaign(name, 3, 60, 30)
    assert [f.found for f in summary.findings] == [PLANTED[name][1]]
    finding = summary.findings[0]
    assert b"!" in finding.data
    assert name == "hanging" or finding.data == b"!"
    printed = capsys.readouterr().out
    assert f"{name}: {finding.found}" in printed
    assert f"--kind {name} --file out/fuzz-files/{name}-" in printed
    assert len(list(campaigns.OUT.glob("*.bin"))) == 1


def test_what_ends_only_a_process_apart_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "contained", planted("contained"))
    monkeypatch.setattr(campaigns, "_command", _with_planted)
    summary = campaign("contained", 3, 60, 30)
    assert (summary.mutants, summary.findings) == (30, [])
    assert summary.contained == 30 - summary.loaded > 0


def _with_planted(*arguments: object) -> list[str]:
    """The command of a child that knows the planted kinds."""
    root = str(Path(__file__).resolve().parents[2])
    code = (
        f"import sys; sys.path.insert(0, {root!r})\n"
        "from tests.fuzz_files import child, kinds, test_fuzz_files as tests\n"
        "kinds.KINDS.update({n: tests.planted(n) for n in [*tests.PLANTED, 'contained']})\n"
        "sys.exit(child.main(sys.argv[1:]))"
    )
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_the_same_seed_makes_the_same_mutants(tmp_path: Path) -> None:
    for kind in ("onnx", "xgboost-json", "root", "pickle"):
        first, second = (child._Loop(kind, tmp_path, 7) for _ in range(2))
        assert [first.mutant(n) for n in range(20)] == [second.mutant(n) for n in range(20)]


def test_archives_are_sound_where_they_should_be() -> None:
    """Most mutants of an archive can be opened, and their members are what they say."""
    data, sound = samples.scripts()[0], 0
    for seed in range(60):
        mutant = KINDS["torchscript"].mutate(data, random.Random(seed), [])
        try:
            with zipfile.ZipFile(io.BytesIO(mutant)) as archive:
                sound += archive.testzip() is None
        except Exception:
            continue
    assert sound > 30


def test_from_the_command_line() -> None:
    command = [sys.executable, "-m", "tests.fuzz_files", "--kind", "lightgbm"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [*command, "--mutants", "20", "--seed", "5"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 5: make fuzz-files SEED=5" in done.stdout
    assert "lightgbm: 20 mutants" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 passed, 0 failed"
    wrong = subprocess.run(
        [*command[:-1], "nonsense"], cwd=root, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert "no kind 'nonsense'" in wrong.stderr
