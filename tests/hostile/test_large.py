"""Graphs with very many of one thing are read and emitted in proportion to their number."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

import sofie_rdf as sofie
from sofie_rdf.errors import CorruptFile
from sofie_rdf.frontends.lwtnn import reader as lwtnn
from sofie_rdf.ir import naming
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


def branch(op: str, name: str) -> Any:
    return helper.make_graph([node(op, [name], ["b"])], "branch", [], [value("b", None)])


CONDITION = value("c", [], TensorProto.BOOL)


def ifs(count: int, ops: tuple[str, str] = ("Relu", "Neg")) -> ModelProto:
    """Each has two graphs, which read what is around them."""
    graphs = [branch(op, "x") for op in ops]
    given = dict(zip(("then_branch", "else_branch"), graphs, strict=True))
    nodes = [node("If", ["c"], [f"v{i}"], **given) for i in range(count)]
    nodes += [node("Sum", [f"v{i}" for i in range(count)], ["y"])]
    return model(nodes, inputs=[value("x", ["N", 2]), CONDITION])


def layers(count: int) -> ModelProto:
    """Dense layers with the same weights, one behind the other."""
    names = ["x", *(f"v{i}" for i in range(1, count)), "y"]
    nodes = [node("MatMul", [one, "w"], [other]) for one, other in pairwise(names)]
    weights = {"w": np.ones((2, 2), np.float32)}
    return model(nodes, inputs=[value("x", ["N", 2])], constants=weights)


def unknown(count: int) -> ModelProto:
    """Operators that there are not, one behind the other, with what the file says of each."""
    names = ["x", *(f"v{i}" for i in range(1, count)), "y"]
    proto = model([node("Unknown", [one], [other]) for one, other in pairwise(names)])
    proto.graph.value_info.extend(value(f"v{i}", [3]) for i in range(count))
    return proto


def sums_of_sizes(count: int) -> ModelProto:
    """One size for each of the inputs, which must all be equal."""
    return joined(count, "N{}", "Sum")


# Each takes less than a minute of a core. What is quadratic in the number takes hours with so many.
_CPU_SECONDS, _WAITING = 300, 1500
LARGE: dict[str, Callable[[], ModelProto]] = {
    "inputs of one node": lambda: joined(100_000, "N", "Sum"),
    "inputs that are joined": lambda: joined(100_000, "N", "Concat", axis=0),
    "sizes that are equal": lambda: sums_of_sizes(100_000),
    "sizes that are added": lambda: joined(4_000, "N{}", "Concat", axis=0),
    "branches": lambda: branches(100_000, "N"),
    "branches of known size": lambda: branches(8_000, 3),
    "inputs and outputs": lambda: apart(6_000, "N"),
    "inputs of sizes of their own": lambda: apart(4_000, "N{}"),
    "conditions": lambda: ifs(100_000),
    "layers": lambda: layers(100_000),
}
# Of these all problems are listed.
WRONG: dict[str, Callable[[], ModelProto]] = {
    "unknown operators": lambda: unknown(20_000),
    "unknown operators in branches": lambda: ifs(10_000, ("Unknown", "Unknown")),
}
_CHECK = """
import sys
import sofie_rdf
print(len(sofie_rdf.check(sys.argv[1])))
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LARGE)
def test_very_many_of_one_thing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    path.write_bytes(LARGE[name]().SerializeToString())
    given = "seconds=1500"  # The budget's clock runs on while others have the core.
    assert opened(path, given, seconds=_WAITING, cpu=_CPU_SECONDS) == "emitted"


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", WRONG)
def test_very_many_problems(name: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.onnx"
    path.write_bytes(WRONG[name]().SerializeToString())
    assert opened(path, code=_CHECK, seconds=_WAITING, cpu=_CPU_SECONDS) == "20000"


def _of_lwtnn(names: list[str]) -> bytes:
    inputs = [{"name": name, "offset": 0, "scale": 1} for name in names]
    layer = {"activation": "linear", "architecture": "dense", "bias": [0.5]}
    layers = [{**layer, "weights": [0.5] * len(names)}]
    held = {"inputs": inputs, "layers": layers, "outputs": ["y"], "defaults": {}}
    return json.dumps({**held, "miscellaneous": {}}).encode()


def test_very_many_names(tmp_path: Path) -> None:
    """Of features, of keys, and of a normalisation that has them in another order."""
    names = [f"v{i}" for i in range(40_000)]
    begin = time.process_time()
    graph = lwtnn.read(_of_lwtnn(names))
    assert naming.features_of(graph)["features"] == tuple(names)
    doubled = _of_lwtnn(names[:1]).replace(
        b'"miscellaneous": {}', b'"miscellaneous": ' + json.dumps(dict.fromkeys(names)).encode()
    )
    with pytest.raises(CorruptFile, match="'v7' stands twice"):
        lwtnn.read(doubled.replace(b'"v39999": null}', b'"v39999": null, "v7": null, "v8": null}'))
    path = tmp_path / "n.json"
    path.write_bytes(_of_lwtnn(names[::-1]))
    assert sofie.Model(graph).normalized(path).graph.inputs == ("features",)
    assert time.process_time() - begin < 10
