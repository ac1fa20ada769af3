"""Peers that take part, that do not, and that are wrong; and those that are installed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from sofie_rdf.bench import keras_peer, native, ort, peers, sofie_package, torch_peer
from sofie_rdf.bench.cases import Case, measure_case
from sofie_rdf.bench.measure import Contestant, Plan, compare
from sofie_rdf.bench.models import Candidate, Task, candidate, task_for
from sofie_rdf.bench.narrow import InPrecision
from sofie_rdf.bench.ort import results
from sofie_rdf.bench.peers import REFERENCE, Rival, all_peers
from sofie_rdf.errors import ModelError
from sofie_rdf.ir.types import Array
from tests.bench.test_models import _relu
from tests.choice import some_of
from tests.frontends.models import model, node


class Answer:
    """Takes a microsecond for each call, and gives these numbers."""

    def __init__(self, numbers: list[Array]) -> None:
        self._numbers = numbers

    def seconds(self, calls: int) -> float:
        return calls * 1e-6

    def outputs(self) -> list[Array]:
        return self._numbers


class Pretender:
    """A peer that needs nothing: ``missing`` is why it is absent, ``factor`` how wrong it is."""

    name, overhead = "pretender", False

    def __init__(
        self, missing: str = "", factor: float = 1, error: Exception | None = None
    ) -> None:
        self._missing, self._factor, self._error = missing, factor, error

    def absence(self) -> str:
        return self._missing

    def version(self) -> str:
        return "1"

    def forms(self, task: Task) -> Iterator[tuple[str, Contestant]]:
        if self._error:
            raise self._error
        right = results(task.candidate.source, task.feeds)
        for name in ("one", "two"):
            yield name, Answer([np.asarray(r * np.float32(self._factor)) for r in right])


def _tiny() -> Task:
    return task_for(Candidate("tiny", "", _relu(["N", 3])), 2)


def _case(peer: Pretender) -> Case:
    return measure_case(_tiny(), 2, [REFERENCE, peer], Plan(2, 0.0005))


def test_a_peer_beside_onnxruntime() -> None:
    case = _case(Pretender())
    (rival,) = case.others
    assert [f.name for f in rival.forms] == ["one", "two"]
    assert rival.best.times.median == pytest.approx(1e-6)
    assert rival.best.overhead is None
    assert case.ratio(rival) == pytest.approx(1e-6 / case.ours.median)
    assert case.reference.name == "onnxruntime"


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (Pretender("not installed"), "not installed"),
        (Pretender(error=ModelError("Relu is not built here")), "Relu is not built here"),
        (Pretender(error=KeyError("x")), "KeyError: 'x'"),
        (Pretender(factor=1.01), "other numbers: output 1: differs by"),
    ],
)
def test_why_a_peer_is_absent(peer: Pretender, reason: str) -> None:
    (rival,) = _case(peer).others
    assert reason in rival.absent
    assert rival.forms == ()
    assert Rival.from_json("pretender", rival.to_json()) == rival


def test_a_case_survives_json() -> None:
    case = _case(Pretender())
    again = Case.from_json(case.to_json())
    assert again.ours.median == pytest.approx(case.ours.median)
    assert [r.name for r in again.rivals] == [r.name for r in case.rivals]
    assert again.work == case.work
    assert (again.model, again.shapes) == ("tiny", {"x0": (2, 3)})


def test_where_calls_are_long_one_form_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sofie_rdf.bench.cases._LONG", 1e-12)
    (rival,) = _case(Pretender()).others
    assert [f.name for f in rival.forms] == ["one"]


def test_all_peers_have_names_and_say_whether_they_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [p.name for p in all_peers()] == ["onnxruntime", "g++", "SOFIE", "torch", "Keras"]
    for module in (torch_peer, keras_peer, sofie_package):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    monkeypatch.setattr(native, "find_compiler", lambda _: None)
    reasons = [p.absence() for p in all_peers()[1:]]
    assert all("not installed" in r or "no g++" in r for r in reasons)


def test_sofie_needs_a_compiler_and_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sofie_package, "find_spec", lambda _: True)
    monkeypatch.setattr(sofie_package, "find_compiler", lambda _: None)
    assert "g++" in sofie_package.SofiePackage().absence()
    monkeypatch.setattr(sofie_package, "find_compiler", lambda _: True)
    monkeypatch.setattr(sofie_package, "find_library", lambda _: None)
    assert "BLAS" in sofie_package.SofiePackage().absence()


def test_what_the_last_bits_of_the_inputs_change() -> None:
    nodes = [
        node("Mul", "x thousand", "a"),
        node("Mul", "y thousand", "b"),
        node("Sub", "a b", "z"),
    ]
    thousand = {"thousand": np.asarray(1000, np.float32)}
    source = model(nodes, {"x": [4], "y": [4]}, "z", thousand).SerializeToString()
    (found,) = ort.noise(source, task_for(Candidate("difference", "", source), 1).feeds)
    assert 1e-5 < found < 1e-2
    (little,) = ort.noise(_tiny().candidate.source, _tiny().feeds)
    assert 0 < little < 1e-6


# Those that are installed -------------------------------------------------------------------------

_NETWORKS = ("higgs", "conv2d", "conv_transposed", "rnn64", "gru64", "lstm64", "deepsets")


def _agrees(peer: peers.Peer, task: Task) -> None:
    expected = results(task.candidate.source, task.feeds)
    forms = dict(peer.forms(task))
    assert forms
    for form in forms.values():
        assert form.seconds(2) > 0
        assert not compare(form.outputs(), expected).problem


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_our_own_build_by_gcc() -> None:
    peer = native.BySystemCompiler()
    assert not peer.absence()
    assert peer.version()[0].isdigit()
    _agrees(peer, _tiny())


@pytest.mark.skipif(not find_spec("torch"), reason="needs torch")
def test_ourselves_with_weights_in_fewer_bits() -> None:
    """Other numbers, which are no mistake, and no deviation of the peers."""
    task = task_for(candidate("higgs"), 3)
    beside = [REFERENCE, InPrecision("int8"), InPrecision("float16")]
    case = measure_case(task, 3, beside, Plan(3, 1e-4, 1.0))
    found = {rival.name: rival.best.deviation.largest for rival in case.others}
    assert 1e-4 < found["int8"] < 0.1 and 0 < found["float16"] < found["int8"]
    assert case.deviation.largest < 1e-5 < found["float16"]
    assert not any(rival.absent for rival in case.others)
    none = peers.prepare(InPrecision("int8"), _tiny(), {"x": Answer([np.ones(1)])})
    assert "no weights that can be int8" in none.absent


@pytest.mark.parametrize("name", [*_NETWORKS, "transformer", "particlenet"])
def test_torch_computes_the_same(name: str) -> None:
    _agrees(torch_peer.Torch(), task_for(candidate(name), 2))


@pytest.mark.skipif(not find_spec("torch"), reason="needs torch")
def test_torch_with_slices_slopes_and_first_states() -> None:
    sizes = {"starts": [1], "ends": [3], "axes": [0]}
    weights = {name: np.asarray(numbers, np.int64) for name, numbers in sizes.items()}
    random = np.random.default_rng(3)
    shapes = {"w": (1, 20, 3), "r": (1, 20, 5), "b": (1, 40), "h": (1, 2, 5), "c": (1, 2, 5)}
    weights |= {n: random.normal(size=shape).astype(np.float32) for n, shape in shapes.items()}
    nodes = [
        node("Slice", "x starts ends axes", "s"),
        node("LeakyRelu", "s", "a", alpha=0.3),
        node("Elu", "a", "e", alpha=0.5),
        node("LSTM", "e w r b - h c", "y", hidden_size=5),
    ]
    source = model(nodes, {"x": [4, 2, 3]}, "y", weights).SerializeToString()
    _agrees(torch_peer.Torch(), task_for(Candidate("many", "", source), 1))


@pytest.mark.skipif(not find_spec("torch"), reason="needs torch")
def test_what_is_not_built_in_torch_is_named() -> None:
    with pytest.raises(ModelError, match="TreeEnsembleRegressor is not built in torch"):
        dict(torch_peer.Torch().forms(task_for(candidate("trees500"), 1)))


@pytest.mark.skipif(not find_spec("keras"), reason="needs keras")
# Keras converts its tensors of torch in a way that NumPy 2 does not like.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", some_of(["higgs", "linear50x10"], ["linear50x10"]))
def test_keras_computes_the_same(name: str) -> None:
    _agrees(keras_peer.Keras(), task_for(candidate(name), 2))


@pytest.mark.skipif(not find_spec("keras"), reason="needs keras")
def test_what_is_no_chain_is_not_built_in_keras() -> None:
    with pytest.raises(ModelError, match="Conv is not built in Keras"):
        dict(keras_peer.Keras().forms(task_for(candidate("conv2d"), 1)))


@pytest.mark.skipif(
    bool(sofie_package.SofiePackage().absence()), reason="needs the package sofie, g++ and BLAS"
)
@pytest.mark.parametrize("name", ["higgs", "lstm64"])
def test_sofie_computes_the_same(name: str) -> None:
    _agrees(sofie_package.SofiePackage(), task_for(candidate(name), 2))


def test_what_sofie_reads_has_no_open_sizes(tmp_path: Path) -> None:
    import onnx

    task = _tiny()
    sofie_package._write(task, results(task.candidate.source, task.feeds), tmp_path)
    graph = onnx.load(tmp_path / "model.onnx").graph
    for port in (*graph.input, *graph.output):
        assert [d.dim_value for d in port.type.tensor_type.shape.dim] == [2, 3]


def test_a_process_that_fails_or_crashes_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for code, reason in (
        ("import sys; sys.exit('no such operator')", "no such operator"),
        ("import os; os.abort()", "crashes with signal 6"),
    ):
        command = [sys.executable, "-c", code]
        monkeypatch.setattr(sofie_package, "_command", lambda _, c=command: c)
        with pytest.raises(ModelError, match=reason):
            sofie_package._Call(_tiny())
