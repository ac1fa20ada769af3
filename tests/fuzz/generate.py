"""Random networks as a strategy of hypothesis, and one that depends on a seed alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import strategies as st

# Importing these fills the table of steps.
from tests.fuzz import layout, linear, pointwise, pyramids, reductions, sequences, windows
from tests.fuzz.network import Case, Choices, Net
from tests.fuzz.steps import STEPS

__all__ = ["generate", "networks"]

FAMILIES = (layout, linear, pointwise, pyramids, reductions, sequences, windows)
# Calls of different sizes; one more repeats the first.
CALLS = 3
LONGEST = 12


def _table(net: Net) -> None:
    features = net.choose.one((1, 2, 5, 7, 16, 19))
    net.input(net.real, (net.batch, net.dim(features)), -4, 4)


def _sequence(net: Net) -> None:
    net.input(net.real, (net.batch, net.length, net.dim(net.choose.one((1, 3, 8)))), -4, 4)


def _signal(net: Net) -> None:
    net.input(net.real, (net.batch, net.dim(net.choose.one((1, 2, 4))), net.length), -3, 3)


def _picture(net: Net) -> None:
    high, wide = (net.dim(net.choose.one((1, 4, 5, 8))) for _ in range(2))
    wide = net.length if net.choose.chance(50) else wide
    high = net.height() if net.choose.chance(40) else high
    net.input(net.real, (net.batch, net.dim(net.choose.one((1, 3, 4))), high, wide), -3, 3)


def _large_picture(net: Net) -> None:
    """What strides leave something of, more than once."""
    high, wide = net.height(), net.choose.one((net.length, net.dim(8)))
    net.input(net.real, (net.batch, net.dim(net.choose.one((1, 3))), high, wide), -3, 3)


def _volume(net: Net) -> None:
    net.input(net.real, (net.batch, *net.dims([2, 3, 4, 3])), -3, 3)


def _known(net: Net) -> None:
    sizes = net.choose.one(((), (1,), (6,), (4, 5), (1, 3, 2)))
    net.input(net.real, net.dims(sizes), -4, 4)


def _words(net: Net) -> None:
    shape = net.choose.one(((net.batch,), (net.batch, net.length), (net.length,)))
    net.input(net.choose.one(("int64", "int32")), shape, 0, 9)


def _truths(net: Net) -> None:
    net.input("bool", net.choose.one(((net.batch,), (net.batch, net.length))), 0, 1)


def _vector(net: Net) -> None:
    net.input(net.real, (net.batch,), -4, 4)


def _lengths_first(net: Net) -> None:
    net.input(net.real, (net.length, net.batch, net.dim(3)), -4, 4)


FIRST = (
    *(_table, _table, _sequence, _sequence, _signal, _picture, _large_picture, _volume, _known),
    _lengths_first,
)
MORE = (*FIRST, _words, _truths, _vector)


def network(choose: Choices, label: str = "random") -> Case:
    """A network of these choices."""
    net = Net.start(choose, CALLS)
    choose.one(FIRST)(net)
    for _ in range(choose.one((0, 0, 1, 1, 2))):
        choose.one(MORE)(net)
    wanted = choose.whole(1, choose.one((LONGEST, LONGEST, LONGEST, 3 * LONGEST)))
    for _ in range(3 * wanted):
        if len(net.nodes) >= wanted:
            break
        choose.one(STEPS)(net)
    return net.finish(label)


@st.composite
def networks(draw: Callable[[Any], Any]) -> Case:
    """Models, with the inputs of a few calls."""
    return network(Choices(draw))


def generate(seed: int) -> Case:
    """The case of this seed; see `worker` about the process that this needs."""
    found: list[Case] = []

    # The first example is always the simplest, and after the second hypothesis makes variants of
    # it: for as many different networks as possible the second is taken, of a seed of its own.
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=2,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(networks())
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return Case(f"seed {seed}", found[-1].model, found[-1].calls)
