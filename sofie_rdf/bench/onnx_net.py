"""ONNX models with random weights, node by node; those of a seed are the same every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sofie_rdf.ir.types import Array

__all__ = ["Net", "serialized"]

_OPSET, _IR = 17, 8


class Net:
    """Nodes and weights, one after the other. Methods take and give names of values."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self._random = np.random.default_rng(1)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A node; its output's name."""
        from onnx import helper

        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], f"node_{name}", **attributes))
        return name

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def weights(self, *shape: int, fan_in: int | None = None) -> str:
        """Normal, so wide that a ReLU layer keeps the scale of its inputs."""
        scale = np.sqrt(2 / (fan_in or int(np.prod(shape[1:]))))
        return self.constant((self._random.normal(size=shape) * scale).astype(np.float32))

    def offsets(self, size: int) -> str:
        return self.constant((self._random.normal(size=size) * 0.1).astype(np.float32))

    def sizes(self, *sizes: int) -> str:
        return self.constant(np.array(sizes, np.int64))

    def linear(self, x: str, before: int, after: int) -> str:
        return self.add("Gemm", x, self.weights(after, before), self.offsets(after), transB=1)

    def projection(self, x: str, before: int, after: int) -> str:
        """A linear layer on the last of several axes, as exporters write it."""
        product = self.add("MatMul", x, self.weights(before, after, fan_in=before))
        return self.add("Add", product, self.offsets(after))

    def convolution(
        self, x: str, channels: int, features: int, kernel: Sequence[int], **attributes: Any
    ) -> str:
        w = self.weights(features, channels, *kernel)
        return self.add("Conv", x, w, self.offsets(features), kernel_shape=kernel, **attributes)

    def layer(
        self, x: str, channels: int, features: int, kernel: int = 1, stride: int = 1, group: int = 1
    ) -> str:
        """A convolution of an image that keeps the size, but for the stride."""
        layout: dict[str, Any] = {"pads": (kernel // 2,) * 4, "strides": (stride, stride)}
        each = channels // group
        return self.convolution(x, each, features, (kernel, kernel), group=group, **layout)

    def normalization(self, x: str, channels: int) -> str:
        """BatchNormalization."""
        r = self._random
        scale, mean = 1 + 0.1 * r.normal(size=channels), 0.1 * r.normal(size=channels)
        variance = 1 + 0.2 * r.random(channels)
        given = [self.constant(a.astype(np.float32)) for a in (scale, mean, mean, variance)]
        return self.add("BatchNormalization", x, *given)

    def split(self, x: str, size: int, *, axis: int = 1) -> tuple[str, str]:
        """The two halves of ``x`` along an axis; each has this size."""
        from onnx import helper

        first = f"split{len(self.nodes)}"
        names = first, f"{first}_b"
        sizes = self.sizes(size, size)
        self.nodes.append(helper.make_node("Split", [x, sizes], names, f"node_{first}", axis=axis))
        return names

    def finish(self, y: str, x: Sequence[Any], shape: Sequence[Any]) -> bytes:
        """The model with input ``x`` and output ``y`` of these shapes."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [y], ["y"]))
        return serialized(self.nodes, {"x": x}, {"y": shape}, self.constants)


def serialized(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[Any]],
    outputs: Mapping[str, Sequence[Any]],
    constants: Mapping[str, Array],
    *,
    ml: bool = False,
) -> bytes:
    """An ONNX model of float32 inputs and outputs."""
    from onnx import TensorProto, helper, numpy_helper

    def ports(shapes: Mapping[str, Sequence[Any]]) -> list[Any]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]

    weights = [numpy_helper.from_array(a, n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "bench", ports(inputs), ports(outputs), weights)
    opsets = [helper.make_opsetid("", _OPSET)]
    if ml:
        opsets.append(helper.make_opsetid("ai.onnx.ml", 3))
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=_IR).SerializeToString())
