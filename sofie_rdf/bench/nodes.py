"""Networks of ONNX in another program's operators, node by node.

That is done for the operators of usual networks; one with another operator has no such peer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sofie_rdf.errors import ModelError
from sofie_rdf.ir.types import Array

__all__ = ["Maker", "Network", "Node"]


class Node:
    """Attributes of a node, and its inputs that are constants."""

    def __init__(self, node: Any, numbers: Mapping[str, Array], peer: str) -> None:
        from onnx import helper

        found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self._attributes = {name: _decoded(value) for name, value in found.items()}
        self._inputs, self._numbers, self.kind = list(node.input), numbers, node.op_type
        self._peer = peer

    def get(self, name: str, default: Any = None) -> Any:
        return self._attributes.get(name, default)

    def number(self, place: int, name: str = "") -> list[int] | None:
        """The integers of an input, or of the attribute that it was before."""
        given = self._inputs[place] if place < len(self._inputs) else ""
        if given in self._numbers:
            return [int(n) for n in np.atleast_1d(self._numbers[given])]
        if given:
            raise ModelError(
                f"{self.kind} with computed {name or 'sizes'} is not built in {self._peer}"
            )
        return self.get(name) if name else None

    def ranges(self, rank: int) -> tuple[slice, ...]:
        """What a Slice with known numbers takes along each axis."""
        starts, ends = self.number(1, "starts") or [], self.number(2, "ends") or []
        axes = self.number(3, "axes") or list(range(len(starts)))
        steps = self.number(4) or [1] * len(starts)
        if min(steps, default=1) < 0:
            raise self._unknown("with negative steps")
        found = dict(
            zip((axis % rank for axis in axes), map(slice, starts, ends, steps), strict=True)
        )
        return tuple(found.get(axis, slice(None)) for axis in range(rank))

    def array(self, place: int) -> Array:
        """A constant input."""
        name = self._inputs[place] if place < len(self._inputs) else ""
        if name not in self._numbers:
            raise self._unknown("with computed weights")
        return self._numbers[name]

    def _unknown(self, how: str) -> ModelError:
        return ModelError(f"{self.kind} {how} is not built in {self._peer} here")

    def has(self, place: int) -> bool:
        return place < len(self._inputs) and bool(self._inputs[place])

    def only(self, **wanted: Any) -> None:
        """`ModelError` if an attribute has another value than the usual one."""
        for name, value in wanted.items():
            if self.get(name, value) != value:
                raise ModelError(
                    f"{self.kind} with {name}={self.get(name)} is not built in {self._peer}"
                )


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(v) for v in value]
    return value.decode() if isinstance(value, bytes) else value


Maker: TypeAlias = Callable[[Node], Callable[..., Any]]


class Network:
    """The nodes of an ONNX model as functions of a peer's arrays.

    ``makers`` give these functions by the names of operators, and ``array`` makes constants.
    """

    def __init__(
        self,
        source: Path | bytes,
        peer: str,
        makers: Mapping[str, Maker],
        array: Callable[[Array], Any],
    ) -> None:
        import onnx
        from onnx import numpy_helper

        model = onnx.load(source) if isinstance(source, Path) else onnx.load_from_string(source)
        graph = model.graph
        numbers = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self._steps = []
        for node in graph.node:
            make = makers.get(node.op_type) if not node.domain else None
            if make is None:
                raise ModelError(f"{node.op_type} is not built in {peer} here")
            function = make(Node(node, numbers, peer))
            self._steps.append((function, list(node.input), list(node.output)))
        self._constants = {name: array(np.array(a)) for name, a in numbers.items()}
        self.inputs: Sequence[str] = [i.name for i in graph.input if i.name not in numbers]
        self._outputs = [o.name for o in graph.output]

    def __call__(self, *inputs: Any) -> list[Any]:
        values: dict[str, Any] = {"": None, **self._constants}
        values.update(zip(self.inputs, inputs, strict=True))
        for function, read, written in self._steps:
            found = function(*[values[name] for name in read])
            if isinstance(found, tuple):
                values.update(zip(written, found, strict=False))
            else:
                values[written[0]] = found
        return [values[name] for name in self._outputs]
