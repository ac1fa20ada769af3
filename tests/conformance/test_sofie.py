"""All models of SOFIE's test suite, with the inputs and the numbers of SOFIE's own test program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import SofieError
from tests.conformance.real import folder
from tests.conformance.sofie_program import Case, cases

# SOFIE's own tolerance is 1e-3; most of its numbers have six digits.
TOLERANCE = 1e-4
# The numbers of ROOT's generator, which no other one gives.
RANDOM = ("RandomNormal", "RandomUniform")
REFUSED = {  # `CONTRADICTORY` in real.py.
    # The initializer of initial_h is [2, 3, 4], and the graph's input of that name is [3, 2, 4],
    # as ONNX wants it for layout=1. SOFIE takes the bytes of one with the shape of the other.
    "RNNBidirectionalBatchwise": "the sizes 2 and 3 differ",
}


def models() -> Path:
    """Where they are; the reason of a skip where they are not."""
    place = folder()
    if place is None or not (place / "sofie").is_dir():
        pytest.skip("SOFIE's test models are not here: SOFIE_RDF_MODELS names their folder")
    return place / "sofie"


def test_all_of_them_are_looked_at() -> None:
    found = [case.model for case in cases(models())]
    assert sorted(found) == sorted(f.stem for f in models().glob("*.onnx"))
    assert len(found) == 115


@pytest.mark.exhaustive
def test_the_numbers_are_those_of_sofie() -> None:
    wrong = []
    for case in cases(models()):
        if case.model not in REFUSED and case.model not in RANDOM:
            wrong += [f"{case.model}: {problem}" for problem in differences(case)]
    assert wrong == []


@pytest.mark.parametrize("model", REFUSED)
def test_what_contradicts_itself_is_refused(model: str) -> None:
    with pytest.raises(SofieError, match=REFUSED[model]):
        sofie.load(models() / f"{model}.onnx")


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers_have_the_shape_of_sofies(name: str) -> None:
    (case,) = (c for c in cases(models()) if c.model == name)
    found = sofie.load(models() / f"{name}.onnx")()
    assert np.isfinite(found).all()
    assert [found.size] == [expected.size for _, expected in case.expected]


def differences(case: Case) -> Iterator[str]:
    """What one model gives otherwise, computed three times by one Session."""
    model = sofie.load(models() / f"{case.model}.onnx")
    feeds = {}
    for (name, type_), numbers in zip(model.inputs.items(), case.inputs, strict=True):
        shape = [d if isinstance(d, int) else 1 for d in type_.shape]
        # The program gives Where fewer numbers than it reads; those are never chosen.
        feeds[name] = np.resize(numbers, shape).astype(type_.dtype.numpy)
    if not case.expected:
        yield "nothing is compared"
    for _ in range(3):
        found = model(feeds)
        outputs = list(found.values()) if isinstance(found, dict) else [found]
        for place, expected in case.expected:
            compared = outputs if place < 0 else [outputs[place]]
            got = np.concatenate([o.ravel() for o in compared])
            if got.shape != expected.shape:
                yield f"{got.size} numbers instead of {expected.size}"
            elif not np.allclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE):
                yield f"output {place} is {np.abs(got - expected).max()} off"
