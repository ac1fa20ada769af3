"""The table of what a random network is made of; the modules beside this one fill it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tests.fuzz.network import Dim, Net, Value

__all__ = ["STEPS", "Step", "dropped", "step"]

Step: TypeAlias = Callable[[Net], object]

# Each as often as its weight says.
STEPS: list[Step] = []


def step(weight: int = 2, since: int = 1) -> Callable[[Step], Step]:
    """Registers a function that adds some nodes, or none where nothing fits; from that opset on."""

    def register(function: Step) -> Step:
        def guarded(net: Net) -> object:
            return function(net) if net.opset >= since else None

        guarded.__name__ = function.__name__
        STEPS.extend([guarded] * weight)
        return function

    return register


def dropped(value: Value, axes: tuple[int, ...], *, keep: bool, net: Net) -> tuple[Dim, ...]:
    """The shape without these axes, or with ones in their place."""
    shape = enumerate(value.shape)
    if keep:
        return tuple(net.dim(1) if a in axes else d for a, d in shape)
    return tuple(d for a, d in shape if a not in axes)
