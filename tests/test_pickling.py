"""Models in pickles and in other processes: they travel as graphs and are compiled there."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir.text import graph_text
from sofie_rdf.runtime.compile import interpreter
from tests.choice import some_of

pytestmark = pytest.mark.usefixtures("unoptimized")

DATA = Path(__file__).resolve().parents[1] / "data"
MODELS = ("higgs.onnx", "jet_tagger.onnx", "higgs_xgboost.ubj", "graph_network.root")


def load(name: str = "higgs.onnx") -> sofie.Model:
    return sofie.load(DATA / name, compiler="g++")


def events(rows: int = 5) -> Any:
    return np.random.default_rng(1).normal(size=(rows, 7)).astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_is_the_same_model(name: str, protocol: int) -> None:
    model = load(name)
    found = pickle.loads(pickle.dumps(model, protocol))
    assert type(found) is sofie.Model
    assert (found.name, found.inputs, found.outputs) == (model.name, model.inputs, model.outputs)
    assert (found.features, found.labels) == (model.features, model.labels)
    assert (dict(found.extras), found.compiler) == (dict(model.extras), model.compiler)
    assert graph_text(found.graph) == graph_text(model.graph)
    for key, array in model.graph.constants.items():
        assert array.tobytes() == found.graph.constants[key].tobytes()


def test_it_gives_the_same_numbers_before_and_after_it_was_compiled() -> None:
    model, x = load(), events()
    before = pickle.loads(pickle.dumps(model))
    expected = model(x)
    after = pickle.loads(pickle.dumps(model))
    for found in (before, after, copy.copy(model), copy.deepcopy(model)):
        assert np.array_equal(found(x), expected)
    narrow = model.with_precision("int8")
    found = pickle.loads(pickle.dumps(narrow))
    assert found.precision == "int8"
    assert np.array_equal(found(x), narrow(x))


def test_copies_share_what_is_compiled() -> None:
    model = load()
    compiled = model.compiled
    assert copy.deepcopy([model])[0].compiled is compiled
    assert copy.copy(model).compiled is compiled


def test_cloudpickle_takes_a_function_that_has_a_model() -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    model, x = load(), events()
    assert np.array_equal(pickle.loads(cloudpickle.dumps(lambda x: model(x)))(x), model(x))


WITHOUT_ROOT = """
import pickle, sys
sys.modules["ROOT"] = None
import sofie_rdf
model = sofie_rdf.load({path!r}, compiler="g++")
content = pickle.dumps(model)
found = pickle.loads(content)
assert found.inputs == model.inputs
assert not any(name.split(".")[0] in ("cppyy", "libROOTPythonizations") for name in sys.modules)
sys.stdout.buffer.write(content)
"""


def test_pickling_needs_no_root() -> None:
    text = WITHOUT_ROOT.format(path=str(DATA / "higgs.onnx"))
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True)
    assert np.array_equal(pickle.loads(done.stdout)(events()), load()(events()))


# Damage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_a_damaged_one_is_refused(place: int) -> None:
    rebuild, (cls, text, weights, compiler) = load().__reduce__()
    at = len(text) * place // 100
    cut, torn = text[:at], text[:at] + ("x" if text[at] != "x" else "y") + text[at + 1 :]
    at = len(weights) * place // 100
    bits = weights[:at] + bytes([weights[at] ^ 1]) + weights[at + 1 :]
    for damaged in ((torn, weights), (text, bits), (text, weights[:at]), (cut, weights)):
        with pytest.raises(sofie.SofieError, match="pickle"):
            _ = rebuild(cls, *damaged, compiler).graph


@pytest.mark.parametrize("wrong", [(b"", b"", ""), ("{}", "", ""), ("[]", b"", ""), ("", b"", "")])
def test_what_is_no_model_is_refused(wrong: tuple[Any, ...]) -> None:
    rebuild, (cls, *_) = load().__reduce__()
    with pytest.raises(sofie.SofieError, match="pickle"):
        rebuild(cls, *wrong)


# Processes ----------------------------------------------------------------------------------------


def _score(model: sofie.Model, x: Any) -> Any:
    return model(x)


_HELD: list[sofie.Model] = []


def _score_held(x: Any) -> Any:
    return _HELD[0](x)


@pytest.mark.parametrize("method", some_of(["fork", "spawn", "forkserver"], ["spawn"]))
def test_processes(method: str) -> None:
    model, x = load(), events()
    expected = model(x)
    with multiprocessing.get_context(method).Pool(2) as pool:
        for found in pool.starmap(_score, [(model, x)] * 4):
            assert np.array_equal(found, expected)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        assert np.array_equal(executor.submit(model, x).result(), expected)


@pytest.mark.parametrize("compiler", ["cling", "g++"])
def test_a_model_that_was_compiled_before_a_fork(compiler: str) -> None:
    """The child has the parent's Sessions; threads of the parent go on, and those of the child."""
    if compiler == "cling":
        pytest.importorskip("ROOT")
    model, x = sofie.load(DATA / "higgs.onnx", compiler=compiler), events(20000)
    expected = model(x)
    _HELD[:] = [model]
    stop = threading.Event()

    def goes_on() -> None:
        while not stop.is_set():
            model(x[:100])

    threads = [threading.Thread(target=goes_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            jobs = [pool.apply_async(_score_held, (x,)) for _ in range(6)]
            for job in jobs:
                assert np.array_equal(job.get(timeout=120), expected)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    with ThreadPoolExecutor(2) as executor:
        for found in executor.map(model, [x] * 4):
            assert np.array_equal(found, expected)


def _submitted(x: Any) -> Any:
    """In a process that was forked in the middle of a declaration, if there is one."""
    model = sofie.from_onnx((DATA / "higgs.onnx").read_bytes(), compiler="cling", name="forked")
    return model(x)


def test_a_child_compiles_in_its_own_interpreter() -> None:
    pytest.importorskip("ROOT")
    x = events()
    expected = sofie.load(DATA / "higgs.onnx", compiler="cling")(x)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply_async(_submitted, (x,)).get(timeout=300)
    assert np.array_equal(found, expected)


def _declares(text: str) -> bool:
    interpreter.declare(text)
    return True


def test_no_process_is_forked_in_the_middle_of_a_declaration() -> None:
    """The child would wait for ever for a thread that it does not have."""
    pytest.importorskip("ROOT")
    interpreter.declare("int sofie_rdf_before_the_fork;\n")
    begun = threading.Event()

    def declares() -> None:
        with interpreter._lock:
            begun.set()
            time.sleep(0.5)

    thread = threading.Thread(target=declares)
    thread.start()
    begun.wait()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply_async(_declares, ("int sofie_rdf_in_the_child;\n",))
        assert found.get(timeout=60)
    thread.join()


@pytest.mark.exhaustive
def test_dask_sends_it_to_its_workers() -> None:
    distributed = pytest.importorskip("distributed")
    model, x = load(), events()
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client:
        assert np.array_equal(client.submit(model, x).result(timeout=120), model(x))
