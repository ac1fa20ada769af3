"""Graphs with very many of one thing are read and emitted in proportion to their number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from tests.hostile.child import opened
from tests.hostile.test_bombs import model, node, value


def joined(count: int, size: str, op: str, **more: Any) -> ModelProto:
    """Open inputs into one node; ``size`` names the first axis of input number {}."""
    names = [f"x{i}" for i in range(count)]
    inputs = [value(name, [size.format(i), 3]) for i, name in enumerate(names)]
    return model([node(op, names, ["y"], **more)], inputs=inputs)


def branches(count: int, batch: Any) -> ModelProto:
    nodes = [node("Mul", ["x", f"c{i}"], [f"b{i}"]) for i in range(count)]
    nodes += [node("Sum", [f"b{i}" for i in range(count)], ["y"])]
    factors = {f"c{i}": np.float32(i + 2) for i in range(count)}
    return model(nodes, inputs=[value("x", [batch, 7])], constants=factors)


def apart(count: int, size: str) -> ModelProto:
    """As many inputs and outputs."""
    nodes = [node("Tanh", [f"x{i}"], [f"y{i}"]) for i in range(count)]
    inputs = [value(f"x{i}", [size.format(i), 3]) for i in range(count)]
    return model(nodes, inputs=inputs, outputs=[value(f"y{i}", None) for i in range(count)])


def sums_of_sizes(count: int) -> ModelProto:
    """One size for each of the inputs, which must all be equal."""
    return joined(count, "N{}", "Sum")


# What is quadratic in the number takes minutes or hours with so many; a test is ended after three.
LARGE: dict[str, Callable[[], ModelProto]] = {
    "inputs of one node": lambda: joined(20_000, "N", "Sum"),
    "inputs that are joined": lambda: joined(20_000, "N", "Concat", axis=0),
    "sizes that are equal": lambda: sums_of_sizes(4_000),
    "sizes that are added": lambda: joined(4_000, "N{}", "Concat", axis=0),
    "branches": lambda: branches(8_000, "N"),
    "branches of known size": lambda: branches(8_000, 3),
    "inputs and outputs": lambda: apart(6_000, "N"),
    "inputs of sizes of their own": lambda: apart(4_000, "N{}"),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LARGE)
def test_very_many_of_one_thing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    path.write_bytes(LARGE[name]().SerializeToString())
    assert opened(path, seconds=180) == "emitted"
