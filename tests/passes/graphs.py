"""What the tests of the passes share: short ways to build graphs and to compare two of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim, symbol
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ir.verify import verify
from sofie_rdf.reference import evaluate

N = symbol("N")


def floats(*shape: Dim, dtype: DType = DType.FLOAT32) -> TensorType:
    return TensorType(dtype, shape)


class Net(Builder):
    """A Builder that takes constants as plain numbers, and gives nodes origins as in a file."""

    def __init__(self, *shape: Dim, dtype: DType = DType.FLOAT32) -> None:
        super().__init__("net")
        self.dtype = dtype
        if shape:
            self.input("x", floats(*shape, dtype=dtype))

    def c(self, name: str, values: object) -> str:
        return self.constant(np.asarray(values, self.dtype.numpy), name)

    def c64(self, name: str, values: object) -> str:
        return self.constant(np.asarray(values, np.int64), name)

    def op(self, op: Operator, *inputs: str, name: str = "") -> str:
        outputs = (name,) if name else ()
        return self(op, *inputs, outputs=outputs, origin=Origin("net.onnx", name))


def summary(graph: Graph) -> list[str]:
    """One line for each node: ``y = Relu(x)``."""
    return [f"{n.outputs[0]} = {n.op}({', '.join(n.inputs)})" for n in graph.nodes]


def operators(graph: Graph) -> list[str]:
    return [str(node.op) for node in graph.nodes]


def batch(graph: Graph, rows: int = 64, seed: int = 1) -> dict[str, Array]:
    """Normal numbers for every input, of whom some are zeros of both signs."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for name in graph.inputs:
        type_ = graph.types[name]
        shape = tuple(d if isinstance(d, int) else rows for d in type_.shape)
        values = rng.normal(size=shape)
        values[rng.random(shape) < 0.05] = -0.0
        found[name] = values.astype(type_.dtype.numpy)
    return found


def identical(before: Graph, after: Graph, feeds: Mapping[str, Array] | None = None) -> None:
    """Both graphs are legal and give the same bits under the same names."""
    verify(before)
    verify(after)
    feeds = batch(before) if feeds is None else feeds
    assert (before.inputs, before.outputs) == (after.inputs, after.outputs)
    old, new = evaluate(before, feeds), evaluate(after, feeds)
    for name in before.outputs:
        assert before.types[name] == after.types[name]
        assert old[name].tobytes() == new[name].tobytes(), name


def as_exact(
    before: Graph, after: Graph, feeds: Mapping[str, Array] | None = None, ulps: float = 4
) -> None:
    """After is as near to the numbers of before in float64 as before is, but for a few ulps."""
    verify(after)
    feeds = batch(before) if feeds is None else feeds
    assert (before.inputs, before.outputs) == (after.inputs, after.outputs)
    exact = evaluate(before, feeds, wide=True)
    old, new = evaluate(before, feeds), evaluate(after, feeds)
    for name in before.outputs:
        assert before.types[name] == after.types[name]
        assert new[name].dtype == before.types[name].dtype.numpy
        assert np.isfinite(exact[name]).all()
        ulp = np.spacing(np.max(np.abs(exact[name])).astype(new[name].dtype))
        allowed = np.max(np.abs(old[name] - exact[name])) + ulps * ulp
        assert np.max(np.abs(new[name] - exact[name])) <= allowed, name
