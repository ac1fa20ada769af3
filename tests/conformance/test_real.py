"""Real models of CMS and of SOFIE's benchmark, where they are; `tests.conformance.real` has all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sofie_rdf.errors import SofieError
from sofie_rdf.frontends.onnx.reader import check
from tests.conformance import real
from tests.frontends.models import model, node

# One of each kind that is quick: dense, recurrent, convolutions, kNN, attention.
QUICK = (
    "ConvTrans2dModel_B1",
    "DeepBoostedJet_V02_full_resnet",
    "DeepDoubleX_94X_V01_DDB",
    "DeepFlavourV03_10X_training_model",
    "HLT_ParticleNetAK4_V00_particle-net",
    "LSTM_d10_L20_h8_B1",
    "SimpleNN_Alice",
    "hgcal_superclustering_v2p1",
    "models_particletransformer_AK4_1_model",
)


def found(name: str) -> Path:
    """The file of this name; the test is skipped where there is none."""
    if not real.files():
        pytest.skip("no models: SOFIE_RDF_MODELS names no folder with .onnx files")
    file = next((f for f in real.files() if f.stem == name), None)
    if file is None:
        pytest.skip(f"{name}.onnx is not in {real.folder()}")
    return file


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", QUICK)
def test_model(name: str) -> None:
    """As it is; sizes, masks and padding change; again in another order, and in two threads."""
    file = found(name)
    pytest.importorskip("ROOT")
    pytest.importorskip("onnxruntime")
    row = real.measure(file)
    assert not row.wrong
    assert row.deviation <= real.LIMIT
    assert row.calls >= 3
    assert row.liveliness > real.LIMIT


def test_every_model_is_read() -> None:
    files = real.files()
    if not files:
        pytest.skip("no models: SOFIE_RDF_MODELS names no folder with .onnx files")
    problems = {f.name: [str(p) for p in check(f)] for f in files}
    assert not {name: listed for name, listed in problems.items() if listed}


@pytest.mark.parametrize(
    ("found", "wanted", "difference"),
    [
        ([1, 2, 4], [1, 2, 4], 0),
        ([1, 2, 4], [1, 2.5, 4], 0.125),
        ([1, np.nan, np.inf], [1, np.nan, np.inf], 0),
        ([1, np.nan], [1, 2], np.inf),
        ([1, 2], [1, np.nan], np.inf),
        ([np.inf, 2], [1, 2], np.inf),
        ([np.inf, 2], [-np.inf, 2], np.inf),
        ([1, 2], [1, 2, 3], np.inf),
        ([], [], 0),
    ],
)
def test_the_difference_of_arrays(found: object, wanted: object, difference: float) -> None:
    arrays = (np.array(a, np.float32) for a in (found, wanted))
    assert real.difference(*arrays) == difference


def test_a_model_that_differs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself: an answer that is a little wrong, and a call that fails."""
    pytest.importorskip("ROOT")
    pytest.importorskip("onnxruntime")
    file = tmp_path / "net.onnx"
    file.write_bytes(model([node("Tanh", "x", "y")], {"x": ["N", 4]}).SerializeToString())
    assert not real.measure(file).wrong
    ours = real.Subject.ours

    def wrong(self: real.Subject, inputs: dict[str, real.Array]) -> dict[str, real.Array]:
        return {n: a * np.float32(1.0001) for n, a in ours(self, inputs).items()}

    def refuses(self: real.Subject, inputs: dict[str, real.Array]) -> dict[str, real.Array]:
        if len(inputs["x"]) == 1:
            raise SofieError("is tired")
        return ours(self, inputs)

    for other in (wrong, refuses):
        monkeypatch.setattr(real.Subject, "ours", other)
        assert real.measure(file).wrong
