"""Builder: the one way to grow a graph. It types every value as it appears."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from sofie_rdf.errors import GraphError, ShapeError, SofieError, TypeMismatch
from sofie_rdf.ir.graph import Graph, Node, Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType, TensorType

__all__ = ["Builder", "infer_node"]


def infer_node(op: Operator, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
    """The output types of one node, after checking the number of its inputs."""
    least, most = op.arity()
    present = len(inputs)
    if present < least or (most is not None and present > most):
        wanted = str(least) if least == most else f"{least} to {most if most else 'any number'}"
        raise GraphError(f"{op.name} takes {wanted} inputs, not {present}")
    if any(t is None for t in (inputs if most is None else inputs[:least])):
        raise GraphError(f"{op.name} lacks an input that it needs")
    try:
        inferred = op.infer(*inputs)
    except (ShapeError, TypeMismatch) as error:
        given = ", ".join("-" if t is None else str(t) for t in inputs)
        raise type(error)(f"{op.name}({given}): {error.thing}", remedy=error.remedy) from None
    return inferred if isinstance(inferred, tuple) else (inferred,)


class Builder:
    """Grows a graph node by node; `build(op, *inputs)` returns the name of the output."""

    def __init__(self, name: str, provenance: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.provenance = dict(provenance or {})
        self.inputs: list[str] = []
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.constants: dict[str, Array] = {}
        # Where `fresh` looks first, so that a large graph of unnamed nodes is not searched again.
        self._numbers: dict[str, int] = {}

    def input(self, name: str, type: TensorType) -> str:
        """Declare an input of the network."""
        self._define(name, type)
        self.inputs.append(name)
        return name

    def constant(self, array: Array, name: str = "") -> str:
        """Add a constant; it is copied, made contiguous and read-only."""
        own = np.array(array, order="C", copy=True)
        own.setflags(write=False)
        name = name or self.fresh("constant")
        try:
            dtype = DType.of(own)
        except ValueError:
            raise TypeMismatch(f"constant {name!r} has the element type {own.dtype}") from None
        self._define(name, TensorType(dtype, own.shape))
        self.constants[name] = own
        return name

    def __call__(
        self,
        op: Operator,
        *inputs: str,
        outputs: Sequence[str] = (),
        origin: Origin = Origin(),  # noqa: B008
    ) -> str:
        """Apply ``op``; the name of its first output. Errors name the node's origin."""
        try:
            types = infer_node(op, [self._type(i) if i else None for i in inputs])
            names = tuple(outputs) or tuple(self.fresh(op.name.lower()) for _ in types)
            if len(names) > len(types):
                raise GraphError(f"{op.name} has {len(types)} outputs, not {len(names)}")
            kept = tuple(n or self.fresh(op.name.lower()) for n in names)
            for name, type_ in zip(kept, types, strict=False):
                self._define(name, type_)
        except SofieError as error:
            raise error.at(str(origin)) from None
        self.nodes.append(Node(op, inputs, kept, origin))
        return kept[0]

    def graph(self, *outputs: str) -> Graph:
        """The finished graph."""
        for name in outputs:
            self._type(name)
        return Graph(
            name=self.name,
            inputs=tuple(self.inputs),
            outputs=outputs,
            nodes=tuple(self.nodes),
            types=MappingProxyType(dict(self.types)),
            constants=MappingProxyType(dict(self.constants)),
            provenance=MappingProxyType(dict(self.provenance)),
        )

    def fresh(self, stem: str) -> str:
        """A name that no value has yet."""
        number = self._numbers.get(stem, 1)
        name = stem if number == 1 else f"{stem}_{number}"
        while name in self.types:
            number += 1
            name = f"{stem}_{number}"
        self._numbers[stem] = number
        return name

    def _type(self, name: str) -> TensorType:
        if name not in self.types:
            raise GraphError(f"value {name!r} is used but nothing computes it")
        return self.types[name]

    def _define(self, name: str, type_: TensorType) -> None:
        if not name:
            raise GraphError("a value needs a name")
        if name in self.types:
            raise GraphError(f"value {name!r} is defined twice")
        self.types[name] = type_
