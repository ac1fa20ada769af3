"""`sofie_rdf.coffea` beside the shape of coffea's own wrappers, and in coffea's processors."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import onnx
import pytest

import sofie_rdf as sofie
from sofie_rdf.coffea import sofie_wrapper
from tests.runtime.test_lazy import events, network

FEATURES = ("pt", "eta", "phi")


class Tagger(sofie_wrapper):
    """A score for each jet, as users of coffea write it."""

    def prepare_awkward(self, jets: Any) -> Any:
        lib = self.get_awkward_lib(jets)
        flat = lib.flatten(jets) if lib is ak else lib.flatten(jets, axis=1)
        columns = [flat[name][:, np.newaxis] for name in FEATURES]
        return (ak.values_astype(ak.concatenate(columns, axis=1), "float32"),), {}

    def postprocess_awkward(self, return_array: Any, jets: Any) -> Any:
        return {k: ak.unflatten(v[:, 0], ak.num(jets)) for k, v in return_array.items()}


def tagger() -> Tagger:
    return Tagger(sofie.from_onnx(network()))


def wanted(given: Any) -> Any:
    names = [f"Jet.{n}" for n in FEATURES]
    return sofie.from_onnx(network()).score(given, names, output={"y": "y[0]", "z": "z[0]"})


def same(found: Any, expected: Any) -> None:
    for name in ("y", "z"):
        one, other = ak.to_list(found[name]), ak.to_list(expected[name])
        assert [len(v) for v in one] == [len(v) for v in other]
        np.testing.assert_allclose(np.concatenate(one), np.concatenate(other), rtol=1e-6)


def test_arrays_of_each_kind() -> None:
    call, given = tagger(), events()
    same(call(given.Jet), wanted(given))
    x = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    for name, value in call(x).items():
        np.testing.assert_array_equal(value, call.model(x)[name])
    plain = sofie_wrapper(call.model)
    for name, value in plain(ak.from_numpy(x)).items():
        np.testing.assert_array_equal(ak.to_numpy(value), call.model(x)[name])


@pytest.mark.filterwarnings("ignore:Please ensure")  # dask-awkward's, of each unflatten.
def test_lazy_arrays() -> None:
    dak = pytest.importorskip("dask_awkward")
    dask = pytest.importorskip("dask")
    lazy = dak.from_awkward(events(), npartitions=3)
    found = tagger()(lazy.Jet)
    assert all(isinstance(v, dak.Array) for v in found.values())
    (done,) = dask.compute(found, scheduler="sync")
    same(done, wanted(events()))


def test_a_file_and_its_options(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(network(), path)
    call = pickle.loads(pickle.dumps(Tagger(path, compiler="cling")))
    path.unlink()
    same(call(events().Jet), wanted(events()))
    with pytest.raises(sofie.InputError, match="compiler= for files"):
        Tagger(call.model, compiler="cling")


def test_what_cannot_be_an_array_is_said() -> None:
    class Jagged(sofie_wrapper):
        def prepare_awkward(self, jets: Any) -> Any:
            return (jets.pt,), {}

    class Lacking(sofie_wrapper):
        def prepare_awkward(self, jets: Any) -> Any:
            return jets.pt

    model = sofie.from_onnx(network())
    with pytest.raises(sofie.InputError, match="prepare_awkward gave an array that NumPy cannot"):
        Jagged(model)(events().Jet)
    with pytest.raises(sofie.InputError, match=r"returns \(args, kwargs\)"):
        Lacking(model)(events().Jet)

    class Numbered(sofie_wrapper):
        def prepare_awkward(self, jets: Any) -> Any:
            return (), {1: jets.pt}

    with pytest.raises(sofie.InputError, match=r"returns \(args, kwargs\)"):
        Numbered(model)(events().Jet)


def test_it_needs_no_coffea() -> None:
    packages = "{'coffea', 'dask_awkward', 'awkward'}"
    code = f"import sys, sofie_rdf.coffea; print({packages} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "set()"


# With coffea --------------------------------------------------------------------------------------


def test_it_has_the_methods_of_coffeas_wrappers() -> None:
    helper = pytest.importorskip("coffea.ml_tools.helper")
    theirs = helper.numpy_call_wrapper
    for name in ("prepare_awkward", "postprocess_awkward", "validate_numpy_input", "numpy_call"):
        own = inspect.signature(getattr(sofie_wrapper, name))
        assert list(own.parameters) == list(inspect.signature(getattr(theirs, name)).parameters)
    assert callable(sofie_wrapper.get_awkward_lib)


def written(path: Path) -> Any:
    """A file with jets as NanoAOD has them, and what is in it."""
    uproot = pytest.importorskip("uproot")
    given = events()
    jets = ak.values_astype(given.Jet, "float32")
    with uproot.recreate(path) as file:
        columns = {f"Jet_{n}": jets[n] for n in FEATURES}
        columns["Jet_mass"] = abs(jets.pt)
        for name in ("run", "luminosityBlock", "event"):
            columns[name] = ak.values_astype(given.event, "uint64")
        file["Events"] = {"nJet": ak.values_astype(ak.num(jets), "int32"), **columns}
    return ak.Array({"Jet": jets})


@pytest.mark.filterwarnings("ignore")  # coffea's own.
def test_a_processor(tmp_path: Path) -> None:
    processor = pytest.importorskip("coffea.processor")
    nanoevents = pytest.importorskip("coffea.nanoevents")
    paths = [tmp_path / f"{n}.root" for n in range(2)]
    expected, _ = (wanted(written(path)) for path in paths)

    class Analysis(processor.ProcessorABC):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.tag = tagger()

        def process(self, events: Any) -> Any:
            found = self.tag(events.Jet)
            scored = self.tag.model.score(events, [f"Jet.{n}" for n in FEATURES], output="y[0]")
            flat = {k: ak.to_numpy(ak.flatten(v)) for k, v in found.items()}
            flat["scored"] = ak.to_numpy(ak.flatten(scored))
            return {k: processor.column_accumulator(v) for k, v in flat.items()}

        def postprocess(self, accumulator: Any) -> Any:
            return accumulator

    runner = processor.Runner(
        executor=processor.IterativeExecutor(status=False),
        schema=nanoevents.NanoAODSchema,
        chunksize=17,
    )
    done = runner({"jets": {"files": {str(p): "Events" for p in paths}}}, Analysis())
    for name in ("y", "z"):
        flat = np.concatenate(ak.to_list(expected[name]))
        np.testing.assert_allclose(done[name].value, np.tile(flat, 2), rtol=1e-6)
    np.testing.assert_allclose(done["scored"].value, done["y"].value, rtol=1e-6)
