"""Write `particlenet.onnx`: a small network of ParticleNet's kind, with random numbers as weights.

It has the inputs of jet taggers that experiments use, the structure (edge convolutions over the
nearest neighbours, first in the plane of the jet and then among the features), and a number of
particles that is open. It has learnt nothing: it stands in for a real one in examples and tests.

    pip install onnx numpy
    python data/make_particlenet.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES, NEIGHBOURS, CHANNELS, CLASSES = 4, 7, (16, 24), 5
FAR = 1e3  # Where particles are put that are none, so that they are nobody's neighbours.
SEED = 1


class Network:
    """A graph that grows: each call adds a node and gives the name of its output."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(SEED)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def __call__(self, operator: str, *inputs: str, output: str = "", **attributes: object) -> str:
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        if operator == "TopK":
            self.nodes[-1].output.append(f"{output}_indices")
        return output

    def constant(self, values: object, dtype: type = np.int64) -> str:
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weight(self, *shape: int) -> str:
        """Random numbers that leave the size of a signal as it is."""
        inner = int(np.prod(shape[1:])) or 1
        return self.constant(self.random.normal(size=shape) * np.sqrt(2 / inner), np.float32)

    def neighbours(self, points: str) -> str:
        """[N, 1, P * k]: the nearest others of each point, by [N, D, P]."""
        squares = self("ReduceSum", self("Mul", points, points), self.constant([1]), keepdims=1)
        products = self("MatMul", self("Transpose", points, perm=[0, 2, 1]), points)
        twice = self("Mul", products, self.constant(2, np.float32))
        nearness = self("Sub", twice, squares)
        nearness = self("Sub", nearness, self("Transpose", squares, perm=[0, 2, 1]))
        count = self.constant([NEIGHBOURS + 1])
        nearest = self("TopK", nearness, count, axis=2) + "_indices"
        # The nearest one is the point itself.
        others = self("Slice", nearest, *(self.constant([n]) for n in (1, NEIGHBOURS + 1, 2)))
        return self("Reshape", others, self.constant([0, 1, -1]))

    def edges(self, x: str, points: str, inputs: int, outputs: int) -> str:
        """x [N, inputs, P] and its neighbours through two convolutions, and a shortcut."""
        others = self.neighbours(points)
        batch = self("Slice", self("Shape", x), *(self.constant([n]) for n in (0, 1, 0)))
        width = self("Slice", self("Shape", others), *(self.constant([n]) for n in (2, 3, 0)))
        shape = self("Concat", batch, self.constant([inputs]), width, axis=0)
        around = self("GatherElements", x, self("Expand", others, shape), axis=2)
        around = self("Reshape", around, self.constant([0, inputs, -1, NEIGHBOURS]))
        centre = self("Unsqueeze", x, self.constant([3]))
        difference = self("Sub", around, centre)
        repeated = self("Expand", centre, self("Shape", around))
        y = self("Concat", repeated, difference, axis=1)
        for count, width_in in ((outputs, 2 * inputs), (outputs, outputs)):
            y = self("Conv", y, self.weight(count, width_in, 1, 1), kernel_shape=[1, 1])
            y = self("Relu", y)
        y = self("ReduceMean", y, axes=[3], keepdims=0)
        shortcut = self("Conv", x, self.weight(outputs, inputs, 1), kernel_shape=[1])
        return self("Relu", self("Add", y, shortcut))


def network() -> onnx.ModelProto:
    """The whole network."""
    grow = Network()
    mask = "pf_mask"
    x = grow("Mul", "pf_features", mask)
    absent = grow("Sub", grow.constant(1, np.float32), mask)
    away = grow("Mul", absent, grow.constant(FAR, np.float32))
    points, inputs = "pf_points", FEATURES
    for outputs in CHANNELS:
        x = grow("Mul", grow.edges(x, grow("Add", points, away), inputs, outputs), mask)
        points, inputs = x, outputs
    total = grow("ReduceSum", x, grow.constant([2]), keepdims=0)
    count = grow("ReduceSum", mask, grow.constant([2]), keepdims=0)
    mean = grow("Div", total, grow("Max", count, grow.constant(1, np.float32)))
    hidden = grow("Relu", grow("Gemm", mean, grow.weight(32, inputs), transB=1))
    scores = grow("Gemm", hidden, grow.weight(CLASSES, 32), transB=1)
    grow("Softmax", scores, axis=1, output="softmax")
    kinds = {"pf_points": 2, "pf_features": FEATURES, "pf_mask": 1}
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size, "n_pf"])
        for name, size in kinds.items()
    ]
    result = helper.make_tensor_value_info("softmax", TensorProto.FLOAT, ["N", CLASSES])
    graph = helper.make_graph(grow.nodes, "particlenet", ends, [result], grow.weights)
    opsets = [helper.make_opsetid("", 17)]
    made = {"producer_name": "make_particlenet.py", "ir_version": 8}
    return helper.make_model(graph, opset_imports=opsets, **made)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    here = Path(__file__).resolve().parent
    parser.add_argument("--output", type=Path, default=here / "particlenet.onnx")
    options = parser.parse_args()
    model = network()
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, options.output)
    print(f"{options.output}: {options.output.stat().st_size} bytes")
