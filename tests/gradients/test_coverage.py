"""Which operators have no derivative, in all networks that other tests read: none that is not said.

An operator that is refused here without standing in ``STATED`` needs a method `pullback`, or a line
there and in docs/guide/gradients.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sofie_rdf.bench.models import BUILT_IN
from sofie_rdf.errors import ModelError, SofieError, UnsupportedOperator
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.gradients.reverse import problems
from sofie_rdf.ir.graph import Graph
from tests.conformance import real

FILES = [file for file in real.files() if file.parent.name == "cms"]
# What is refused, and why it is no omission: in words of the page on gradients.
STATED = {
    "sofie.Trees": "Trees",
    "If": "`If`",
    "Loop": "`Loop`",
    "GRU": "recurrent layers whose length is open",
    "LSTM": "recurrent layers whose length is open",
    "RNN": "recurrent layers whose length is open",
    "Resize": "`Resize` along an axis of open size",
}
# Of any operator on the way: the same, by how the refusal goes on.
ROUNDED, QUANTIZED = "is of numbers that are rounded to few bits", "quantized networks"


def unstated(graph: Graph) -> list[str]:
    """The refusals that are not stated; each names an operator, a place, and a remedy."""
    found = []
    for error in problems(graph):
        assert isinstance(error, SofieError)
        assert error.remedy
        # Events that meet are no operator without a rule: the Jacobian is by all events.
        if isinstance(error, ModelError) and "events meet" in str(error):
            continue
        assert isinstance(error, UnsupportedOperator), error
        assert error.place
        stated = any(error.thing.startswith(f"{name} ") for name in STATED)
        if not stated and ROUNDED not in error.thing:
            found.append(str(error))
    return found


def test_what_is_refused_stands_on_the_page() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/guide/gradients.md").read_text()
    for word in (*STATED.values(), QUANTIZED):
        assert word in page


@pytest.mark.parametrize("name", BUILT_IN)
def test_networks_of_the_benchmark(name: str) -> None:
    assert unstated(BUILT_IN[name]().model.graph) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_networks_of_cms(file: Path) -> None:
    assert unstated(read(file)) == []


def _layers() -> Iterator[tuple[str, Graph]]:
    from tests.frontends.keras import test_layers
    from tests.frontends.keras.oracle import frontend, keras, quiet

    for name, case in test_layers.CASES.items():
        for seed in range(8):
            try:
                with quiet():
                    layer, shape = case(test_layers.Options(sum(map(ord, name)) + 1000 * seed))
                    model = keras.Sequential([keras.Input(shape), layer])
            except ValueError:
                continue  # Options that Keras itself refuses together.
            yield name, frontend.read(model)


def test_layers_of_keras() -> None:
    pytest.importorskip("keras")
    graphs = list(_layers())
    assert len(graphs) > 200
    assert {n: found for n, graph in graphs if (found := unstated(graph))} == {}


@pytest.mark.exhaustive
def test_modules_of_torch() -> None:
    pytest.importorskip("torch")
    from sofie_rdf.frontends.torch import reader
    from tests.frontends.torch import modules

    found = {}
    for name, make in modules.CASES.items():
        case = make()
        case.module.eval()
        graph = reader.read(case.module, example_inputs=case.example, dynamic=case.dynamic)
        found[name] = unstated(graph)
    assert {name: errors for name, errors in found.items() if errors} == {}
