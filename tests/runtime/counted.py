"""A model that says how often it has run, and with which numbers: y = x, by an own operator."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx.parser

import sofie_rdf as sofie


@sofie.operator(domain="tests", header="counted.hxx")
class Counted(sofie.Operator):
    """x"""

    def infer(self, x: sofie.TensorType) -> sofie.TensorType:
        return x

    def reference(self, x: Any) -> Any:
        return x

    def lower(self, inputs: Any, outputs: Any) -> sofie.Call:
        tensors = (sofie.Tensor(outputs[0]), sofie.Tensor(inputs[0]))
        return sofie.Call("counted::forward", tensors)


ONNX = """
<ir_version: 9, opset_import: ["": 17, "tests": 1]>
counted (float[N, 1] x) => (float[N, 1] y) { y = tests.Counted(x) }"""


class Counting:
    """The model, and what it has seen since it was last asked."""

    def __init__(self, root: Any) -> None:
        self.model = sofie.from_onnx(onnx.parser.parse_model(ONNX))
        _ = self.model.compiled
        self._scope = root.counted
        self._scope.forget()

    def seen(self) -> Counter[int]:
        """How often each number has come; 4096 stands for all that are none from 0 to 4095."""
        counts = np.array(self._scope.seen)
        self._scope.forget()
        return Counter({int(i): int(counts[i]) for i in np.nonzero(counts)[0]})

    def calls(self) -> int:
        """How often the model has run; an object's score is one of several of a run."""
        count = int(self._scope.calls)
        self._scope.forget()
        return count
