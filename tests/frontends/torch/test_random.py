"""Modules that draw random numbers: what is compared with torch, and what is refused."""

from __future__ import annotations

import random as python_random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import ModelError
from sofie_rdf.ir.graph import Graph
from tests.choice import some_of

torch = pytest.importorskip("torch")

from sofie_rdf.frontends.torch.random import require_as_many  # noqa: E402
from sofie_rdf.reference import evaluate  # noqa: E402

F = torch.nn.functional

DRAWS: dict[str, Callable[[Any], Any]] = {
    "randn": lambda x: x * torch.randn(x.shape[0], 3),
    "rand": lambda x: x * torch.rand(x.shape[0], 3),
    "randn_like": lambda x: x * torch.randn_like(x),
    "rand_like": lambda x: x * torch.rand_like(x),
    "randint": lambda x: x * torch.randint(2, 9, (x.shape[0], 3)),
    "normal": lambda x: torch.normal(x, torch.exp(x)),
    "normal_in_place": lambda x: x + torch.empty_like(x).normal_(1.0, 2.0),
    "uniform_in_place": lambda x: x + torch.empty_like(x).uniform_(1.0, 4.0),
    "exponential_in_place": lambda x: x + torch.empty_like(x).exponential_(2.0),
    "bernoulli": lambda x: torch.bernoulli(torch.sigmoid(x)),
    "multinomial": lambda x: torch.multinomial(torch.softmax(x, 1), 4, replacement=True),
    "dropout": lambda x: F.dropout(x, 0.3, training=True),
    "dropout_of_half": lambda x: F.dropout(x, training=True),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.5, training=True),
    "reparametrised": lambda x: x + torch.exp(0.5 * x) * torch.randn_like(x),
    "gumbel_softmax": lambda x: F.gumbel_softmax(x),
    "difference": lambda x: torch.randn_like(x) - torch.randn_like(x),
    "all": lambda x: F.dropout(x, 0.3, training=True) + torch.rand_like(x) * torch.randn_like(x),
}


class Drawing(torch.nn.Module):
    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        return self.function(self.layer(x))


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


@pytest.mark.parametrize("name", some_of(DRAWS, ["all", "normal_in_place"]))
def test_each_row_is_drawn_as_torch_draws_it(name: str) -> None:
    """By 4000 rows of the same numbers: mean and spread of each output."""
    module, example = Drawing(DRAWS[name]), torch.randn(5, 4)
    before = torch.get_rng_state()
    network = sofie.from_torch(module, example)
    assert torch.equal(torch.get_rng_state(), before)
    x = np.tile(np.float32([0.3, -0.2, 0.5, 1.0]), (4000, 1))
    found = network(x).astype(np.float64)
    assert np.array_equal(network(x[:3], entry=100), found[100:103])
    assert network.compiled.rows == "N"
    with torch.no_grad():
        wanted = module(torch.from_numpy(x)).numpy().astype(np.float64)
    errors = np.sqrt((wanted.var(0) + found.var(0)) / 4000)
    assert np.all(np.abs(found.mean(0) - wanted.mean(0)) <= 5 * errors)
    fourth = ((wanted - wanted.mean(0)) ** 4).mean(0) - wanted.var(0) ** 2
    assert np.all(np.abs(found.var(0) - wanted.var(0)) <= 5 * np.sqrt(2 * fourth / 4000))
    assert abs(np.corrcoef(found[:-1, 0], found[1:, 0])[0, 1]) < 0.08


def test_a_draw_for_all_rows_stays_one() -> None:
    network = sofie.from_torch(Drawing(lambda x: 0 * x + torch.randn(3)), torch.randn(5, 4))
    found = network(np.ones((4, 4), np.float32))
    assert len(np.unique(found)) == 3


def test_traced_modules_draw() -> None:
    module = Drawing(DRAWS["reparametrised"]).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, torch.randn(5, 4), check_trace=False)
    found = sofie.from_torch(traced, torch.randn(5, 4))(np.ones((100, 4), np.float32))
    assert len(np.unique(found)) == 300


def test_what_python_draws_is_refused() -> None:
    class Drawn(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x * python_random.random()

    with pytest.raises(ModelError, match="the exported network does not"):
        sofie.from_torch(Drawn(), torch.randn(5, 4))


def test_samples_without_replacement_are_refused() -> None:
    module = Drawing(lambda x: torch.multinomial(torch.softmax(x, 1), 2))
    with pytest.raises(ModelError, match="without replacement"):
        sofie.from_torch(module, torch.randn(5, 4))


@pytest.fixture(scope="module")
def randn_like() -> Graph:
    return sofie.from_torch(Drawing(DRAWS["randn_like"]), torch.randn(5, 4)).graph


def test_wrong_parameters_are_seen(randn_like: Graph) -> None:
    """What the exporter makes of a draw is compared: here a spread that it would have lost."""
    module = Drawing(lambda x: x * 2 * torch.randn_like(x))
    from sofie_rdf.frontends.torch.calls import run_of
    from sofie_rdf.frontends.torch.compare import compare
    from sofie_rdf.frontends.torch.inputs import Signature, examples_of, inputs_of

    signature = Signature(module)
    inputs = inputs_of(examples_of((torch.randn(5, 4),), signature), None, signature)
    with torch.no_grad(), pytest.raises(ModelError, match="differs from torch"):
        compare(randn_like, run_of(module, inputs), inputs, list(randn_like.inputs))


def test_a_draw_that_is_taken_for_another_is_seen(randn_like: Graph) -> None:
    x = torch.randn(5, 4)

    def twice(tensors: Any) -> Any:
        return torch.randn_like(tensors[0]) + torch.randn_like(tensors[0])

    def evaluated(known: Any) -> None:
        evaluate(known, {"x": x.numpy()})

    with pytest.raises(ModelError, match=r"draws random numbers 2 times, and the .* 1 times"):
        require_as_many(randn_like, twice, [x], evaluated)
