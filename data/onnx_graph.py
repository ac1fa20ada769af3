"""An ONNX graph that grows, for the scripts that write small networks trained with PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

FLOAT = TensorProto.FLOAT
FUNCTIONS = {nn.ReLU: "Relu", nn.Tanh: "Tanh"}


class Graph:
    """Each call adds a node and gives the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def __call__(self, operator: str, *inputs: str, output: str = "", **attributes: object) -> str:
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, values: object, dtype: type = np.float32) -> str:
        name = f"constant_{len(self.weights)}"
        array = values.detach().numpy() if isinstance(values, torch.Tensor) else values
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def layers(self, x: str, network: nn.Sequential) -> str:
        """Dense layers, convolutions over single points, and functions, one after the other."""
        for layer in network:
            if isinstance(layer, (nn.Linear, nn.Conv1d)):
                parameters = self.constant(layer.weight), self.constant(layer.bias)
                dense = isinstance(layer, nn.Linear)
                options = {"transB": 1} if dense else {"kernel_shape": [1]}
                x = self("Gemm" if dense else "Conv", x, *parameters, **options)
            else:
                x = self(FUNCTIONS[type(layer)], x)
        return x

    def save(self, path: Path, inputs: dict[str, list], outputs: dict[str, list]) -> None:
        """Write the model; shapes are lists of numbers and names."""
        ends = [
            [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in end.items()]
            for end in (inputs, outputs)
        ]
        graph = helper.make_graph(self.nodes, path.stem, *ends, self.weights)
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        print(f"{path.name}: {path.stat().st_size} bytes")
