"""``sofie-rdf bench --gradient``, with rounds that are too short to mean anything."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sofie_rdf import bench
from sofie_rdf.bench import jax_peer, slopes, torch_peer
from sofie_rdf.bench.measure import compare
from sofie_rdf.bench.models import candidate, task_for
from sofie_rdf.errors import InputError, ModelError
from sofie_rdf.ir.dims import evaluate

pytest.importorskip("ROOT")
TINY = ("--gradient", "--seconds", "0.001", "--rounds", "2")


def run(capsys: Any, *words: str) -> tuple[int, str, str]:
    parser = ArgumentParser()
    bench.add_arguments(parser)
    status = bench.main(parser.parse_args([*TINY, *words]))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_value_and_gradient_beside_the_peers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(
        slopes, "find_spec", lambda name: None if name == "jax" else __import__(name)
    )
    status, out, _ = run(capsys, "higgs", "--batch", "1,3", "--json", "-")
    assert status == 0
    rows = json.loads(out)
    assert [(row["model"], row["batch"]) for row in rows] == [("higgs", 1), ("higgs", 3)]
    scratch = candidate("higgs").model.gradient(vjp=True).plan.nbytes
    for row in rows:
        assert row["value_us"]["median"] > 0
        assert row["value_and_gradient_us"]["median"] > 0
        assert row["scratch_bytes"] == evaluate(scratch, {"N": row["batch"]})
        assert row["peers"]["torch"]["us"]["median"] > 0
        assert row["peers"]["JAX"] == "not installed"


def test_the_table_names_the_ratio_and_who_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slopes, "find_spec", lambda _: None)
    status, out, _ = run(capsys, "higgs", "--batch", "1")
    assert status == 0
    for word in ("ratio", "scratch", "torch", "JAX", "not installed", " B "):
        assert word in out


def test_derivatives_that_a_peer_has_not_are_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    real = torch_peer._Slopes.outputs

    def wrong(self: Any) -> list[Any]:
        *others, last = real(self)
        return [*others, last + np.float32(0.01)]

    monkeypatch.setattr(torch_peer._Slopes, "outputs", wrong)
    status, _, err = run(capsys, "higgs", "--batch", "2")
    assert status == 1
    assert "not what torch gives" in " ".join(err.split())


def test_a_network_without_a_gradient_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "trees500", "--batch", "2", "--peers", "none")
    assert status == 1
    assert "sofie.Trees has no gradient" in " ".join(err.split())


@pytest.mark.parametrize("words", [("--plot", "a.png"), ("--markdown",), ("--precision", "int8")])
def test_options_that_it_does_not_have_are_refused(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="--gradient has no"):
        run(capsys, "higgs", *words)


def test_a_file_that_cannot_be_written_is_told_before(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="cannot be written"):
        run(capsys, "higgs", "--json", str(tmp_path / "none" / "a.json"))


@pytest.mark.parametrize("name", slopes.USUAL)
def test_jax_gives_what_torch_gives(name: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    task = task_for(candidate(name), 2)
    one, other = torch_peer.torch_slopes(task), jax_peer.jax_slopes(task)
    assert other.seconds(1) > 0
    assert not compare(one.outputs(), other.outputs()).problem


def test_what_is_not_built_in_jax_is_named() -> None:
    pytest.importorskip("jax")
    with pytest.raises(ModelError, match="GRU is not built in JAX here"):
        jax_peer.jax_slopes(task_for(candidate("gru64"), 1))


@pytest.mark.parametrize(
    ("changed", "by", "jumps", "same"),
    [
        (3, 0.01, 3, True),
        (3, 1, 3, False),
        (50, 0.01, 50, False),
        # Where nothing jumps there is no kink, but a wrong number.
        (3, 0.01, 2, False),
        (3, 0.01, 0, False),
    ],
)
def test_some_derivatives_may_be_those_of_the_other_side_of_a_kink(
    changed: int, by: float, jumps: int, same: bool
) -> None:
    slopes_here = np.random.default_rng(1).uniform(-1, 1, (64, 8, 5)).astype(np.float32)
    there, moved = slopes_here.copy(), slopes_here.copy()
    there.flat[:changed] += by
    moved.flat[:jumps] += by
    model, value = candidate("higgs").model, np.ones(3)

    def compared(values: int) -> None:
        ours, theirs = [value, slopes_here], [value, there]
        slopes._require_same(model, values, ours, theirs, "torch", lambda: [ours, [value, moved]])

    if same:
        compared(1)
        with pytest.raises(ModelError, match="is not what torch gives"):
            compared(2)
        return
    with pytest.raises(ModelError, match="is not what torch gives"):
        compared(1)
