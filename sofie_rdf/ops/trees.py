"""Ensembles of decision trees, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sofie_rdf.errors import GraphError, ShapeError, TypeMismatch
from sofie_rdf.ir.operator import (
    Argument,
    Call,
    Launch,
    Operand,
    Operator,
    Packed,
    Tensor,
    operator,
)
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.kernels.choice import Choice
from sofie_rdf.kernels.trees import TREES, TreesProblem

__all__ = ["AT_MOST", "EQUAL", "LEAF", "MISSING", "Trees"]

# What a node asks: TreeMode in trees.hxx.
LEAF, AT_MOST, EQUAL, MISSING = 0, 1, 2, 128

_AGGREGATES = {"SUM": "Sum", "AVERAGE": "Average", "MIN": "Min", "MAX": "Max"}

_INDICES = {2: "features", 5: "children", 6: "starts", 7: "targets"}


@operator(domain="sofie", header="sofie/kernels/trees.hxx", ulp=1, terms=1)
class Trees(Operator):
    """y[n, k] = base[k] + sum over trees, w[k] of the leaf that x[n] falls to

    Node i has a mode: LEAF, or AT_MOST: ``x[n, features[i]] <= thresholds[i]``, or EQUAL. Where
    that holds ``children[i, 0]`` follows, else ``children[i, 1]``; both are greater than i. NaN
    does not hold, unless MISSING is added to the mode. Leaf i adds ``weights[j]`` to target
    ``targets[j]`` for ``starts[i] <= j < starts[i + 1]``. ``aggregate`` is SUM, AVERAGE (over all
    trees), MIN or MAX (0 for a target that no leaf adds to). The trees begin at ``roots``.
    """

    aggregate: str = "SUM"

    def __post_init__(self) -> None:
        if self.aggregate not in _AGGREGATES:
            raise GraphError(f"does not know the aggregate {self.aggregate!r}")

    def infer(
        self,
        x: TensorType,
        roots: TensorType,
        features: TensorType,
        thresholds: TensorType,
        modes: TensorType,
        children: TensorType,
        starts: TensorType,
        targets: TensorType,
        weights: TensorType,
        base: TensorType,
    ) -> TensorType:
        if (x.dtype, weights.dtype) not in _KERNELS or thresholds.dtype != x.dtype:
            raise TypeMismatch(f"is not defined for {x.dtype} and weights of {weights.dtype}")
        if base.dtype != weights.dtype or modes.dtype != DType.UINT8:
            raise TypeMismatch("needs modes of uint8, and base of the type of the weights")
        if any(t.dtype != DType.INT32 for t in (roots, features, children, starts, targets)):
            raise TypeMismatch("has indices that are not of int32")
        (nodes,) = _vector(features)
        if x.rank != 2 or children.shape != (nodes, 2) or _vector(starts) != (nodes + 1,):
            raise ShapeError("needs x[n, f], children[nodes, 2] and starts[nodes + 1]")
        if not _vector(thresholds) == _vector(modes) == (nodes,):
            raise ShapeError("needs as many thresholds and modes as features")
        if _vector(targets) != _vector(weights) or roots.rank != 1:
            raise ShapeError("needs a target for each weight, and a list of roots")
        return TensorType(weights.dtype, (x.shape[0], *_vector(base)))

    def problem(self, x: TensorType, *arrays: TensorType) -> TreesProblem:
        roots, nodes, outputs = (_vector(arrays[i])[0] for i in (0, 1, -1))
        kinds = x.dtype, arrays[-1].dtype, _AGGREGATES[self.aggregate]
        return TreesProblem(*kinds, x.shape[1], roots, nodes, outputs)

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        return TREES.choose(self.problem(*(i.type for i in inputs if i is not None)))

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        return TREES.choose(self.problem(*(t for t in inputs if t is not None))).scratch

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, *arrays = (i for i in inputs if i is not None)
        choice = self.choice(inputs, outputs)
        forest = Packed(f"sofie::{choice.packed}", tuple(Tensor(a) for a in arrays))
        tensors: tuple[Argument, ...] = (*map(Tensor, outputs), Tensor(x), forest)
        return Call(f"sofie::{choice.kernel}", tensors, len(outputs), choice.header)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        x, *arrays = (i for i in inputs if i is not None)
        (y,) = outputs
        sizes = x.type.shape[1], y.type.shape[1], *(_vector(arrays[i].type)[0] for i in (0, 1))
        kernel = f"sofie::device::Trees<sofie::device::Tree{_AGGREGATES[self.aggregate]}>"
        tensors = y, x, *arrays
        return (Launch(kernel, sizes, tensors, y.type.size, "sofie/device/trees.hxx"),)

    def reference(self, x: Array, *arrays: Array) -> Array:
        roots, features, thresholds, modes, children, starts, targets, weights, base = arrays
        outputs = len(base)
        total = np.zeros((len(x), outputs), weights.dtype)
        if self.aggregate in ("MIN", "MAX"):
            total[:] = np.nan
        block = max(1, 2**20 // max(1, len(roots)))
        for first in range(0, len(x), block):
            part = slice(first, first + block)
            leaves = _fall(x[part], roots, features, thresholds, modes, children)
            self._collect(total[part], leaves, starts, targets, weights)
        if self.aggregate == "AVERAGE":
            total /= weights.dtype.type(max(1, len(roots)))
        if self.aggregate in ("MIN", "MAX"):
            total = np.where(np.isnan(total), weights.dtype.type(0), total)
        return np.asarray(total + base)

    def _collect(
        self, total: Array, leaves: Array, starts: Array, targets: Array, weights: Array
    ) -> None:
        """What the leaves of each event say, put together in its row of ``total``."""
        collect: dict[str, Any] = {"MIN": np.fmin, "MAX": np.fmax}
        count = starts[leaves + 1] - starts[leaves]
        for number in range(int(np.max(count, initial=0))):
            event, tree = np.nonzero(count > number)
            entry = starts[leaves[event, tree]] + number
            where = (event, targets[entry])
            collect.get(self.aggregate, np.add).at(total, where, weights[entry])


def _fall(
    x: Array, roots: Array, features: Array, thresholds: Array, modes: Array, children: Array
) -> Array:
    """The leaf of each event in each tree: all of them go on by a level at a time."""
    node: Array = np.broadcast_to(roots.astype(np.int64), (len(x), len(roots))).copy()
    event, tree = np.nonzero(modes[node] != LEAF)
    while len(event):
        here = node[event, tree]
        value, threshold, mode = x[event, features[here]], thresholds[here], modes[here]
        first = np.where(mode & ~np.uint8(MISSING) == EQUAL, value == threshold, value <= threshold)
        first |= np.isnan(value) & (mode & MISSING != 0)
        following = children[here, np.where(first, 0, 1)]
        if np.any(following <= here):
            raise GraphError("Trees has a node whose child does not come behind it")
        node[event, tree] = following
        inner = modes[following] != LEAF
        event, tree = event[inner], tree[inner]
    return node


def _vector(t: TensorType) -> Any:
    if t.rank != 1:
        raise ShapeError(f"needs a list, not {t}")
    return t.shape


_KERNELS: frozenset[tuple[DType, DType]] = frozenset(
    {
        (DType.FLOAT32, DType.FLOAT32),
        (DType.FLOAT64, DType.FLOAT32),
        (DType.FLOAT64, DType.FLOAT64),
    }
)
