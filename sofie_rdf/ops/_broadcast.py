"""The shapes in which broadcast tensors are handed to `sofie::map`."""

from __future__ import annotations

from collections.abc import Sequence

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.types import Shape

__all__ = ["collapse"]


def collapse(shape: Shape, inputs: Sequence[Shape]) -> tuple[Shape, tuple[Shape, ...]]:
    """The output shape and the input shapes with as few axes as broadcasting allows.

    Axes of size 1 vanish, and neighbouring axes that are broadcast for the same inputs become
    one: an addition of [N, 8, 4] and [8, 4] is one of [N, 32] and [1, 32]. All shapes returned
    have the same rank, at least 1.
    """
    rank = len(shape)
    aligned = [(1,) * (rank - len(s)) + tuple(s) for s in inputs]
    sizes: list[Dim] = []
    patterns: list[tuple[bool, ...]] = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        pattern = tuple(s[axis] == 1 for s in aligned)
        if patterns and patterns[-1] == pattern:
            sizes[-1] = sizes[-1] * size
        else:
            sizes.append(size)
            patterns.append(pattern)
    if not sizes:
        return (1,), ((1,),) * len(inputs)
    columns = zip(*patterns, strict=True)
    shaped = (tuple(1 if b else d for b, d in zip(c, sizes, strict=True)) for c in columns)
    return tuple(sizes), tuple(shaped)
