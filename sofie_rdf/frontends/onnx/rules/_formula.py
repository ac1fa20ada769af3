"""Arithmetic in a rule: operators applied to values and to numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from sofie_rdf.frontends.onnx.rules.engine import OnnxNode
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import Add, Mul
from sofie_rdf.ops.layout import Identity

__all__ = ["Formula"]


class Formula:
    """Element-wise arithmetic on values of one element type; numbers become constants."""

    def __init__(self, build: Builder, dtype: DType, origin: Origin) -> None:
        self.build, self.dtype, self.origin = build, dtype, origin

    def constant(self, number: float) -> str:
        return self.build.constant(np.array(number, self.dtype.numpy))

    def cast(self, value: str) -> str:
        if self.build.types[value].dtype is self.dtype:
            return value
        return self.build(Cast(self.dtype), value, origin=self.origin)

    def __call__(self, op: Any, *values: str | float) -> str:
        names = (v if isinstance(v, str) else self.constant(v) for v in values)
        return self.build(op, *names, origin=self.origin)

    def weighed(self, one: float, a: str, other: float, b: str) -> str:
        """one * a + other * b"""
        return self(Add(), self(Mul(), one, a), self(Mul(), other, b))

    def give(self, value: str, node: OnnxNode, number: int = 0) -> None:
        """Make the value an output of the node, if the node has this output."""
        if number < len(node.outputs) and node.outputs[number]:
            outputs = (node.outputs[number],)
            self.build(Identity(), value, outputs=outputs, origin=self.origin)
