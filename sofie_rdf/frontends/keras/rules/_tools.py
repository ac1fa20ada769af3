"""What several families of layers need: the order of channels, reductions, functions by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sofie_rdf.frontends.keras.layer import Value
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder
from sofie_rdf.ir.types import normal_axis
from sofie_rdf.ops.elementwise import Add, Mul
from sofie_rdf.ops.indexing import Gather, Slice
from sofie_rdf.ops.layout import Transpose, Unsqueeze

__all__ = [
    "add",
    "at",
    "axes_of",
    "broadcast_to_rank",
    "channels_first",
    "channels_last",
    "flip",
    "is_channels_last",
    "moved_back",
    "multiply",
    "part",
    "transposed",
]


def add(build: LayerBuilder, x: str, number: float) -> Value:
    """x + number"""
    return Value(x) if number == 0 else build(Add(), x, build.like(number, x))


def multiply(build: LayerBuilder, x: str, number: float) -> Value:
    """x * number"""
    return Value(x) if number == 1 else build(Mul(), x, build.like(number, x))


def is_channels_last(config: Mapping[str, Any]) -> bool:
    """Which order a layer's images have."""
    return config.get("data_format") in (None, "channels_last")


def transposed(build: LayerBuilder, x: str, order: Sequence[int]) -> Value:
    """x with its axes in another order; nothing where that is the order that they have."""
    order = tuple(order)
    return Value(x) if order == tuple(range(len(order))) else build(Transpose(order), x)


def channels_first(build: LayerBuilder, x: str) -> Value:
    """[N, ..., C] as [N, C, ...]"""
    rank = build.rank(x)
    return transposed(build, x, (0, rank - 1, *range(1, rank - 1)))


def channels_last(build: LayerBuilder, x: str) -> Value:
    """[N, C, ...] as [N, ..., C]"""
    return transposed(build, x, (0, *range(2, build.rank(x)), 1))


def moved_back(order: Sequence[int]) -> tuple[int, ...]:
    """The order of axes that undoes this one."""
    return tuple(int(i) for i in np.argsort(order))


def axes_of(axis: Any, rank: int) -> tuple[int, ...]:
    """The axes that an argument names, from the front, in ascending order; None is all."""
    if axis is None:
        return tuple(range(rank))
    given = axis if isinstance(axis, (list, tuple)) else (axis,)
    return tuple(sorted({normal_axis(int(a), rank) for a in given}))


def broadcast_to_rank(build: LayerBuilder, x: str, rank: int) -> Value:
    """x with axes of size 1 behind its own, so many that it has ``rank``."""
    own = build.rank(x)
    return Value(x) if own >= rank else build(Unsqueeze(tuple(range(own, rank))), x)


def part(build: LayerBuilder, x: str, axis: int, start: int, end: int | None) -> Value:
    """x[..., start:end, ...] along one axis"""
    last = np.iinfo(np.int64).max if end is None else end
    return build(Slice((start,), (int(last),), (axis,)), x)


def at(build: LayerBuilder, x: str, axis: int, position: int) -> Value:
    """x[..., position, ...] along one axis, without it"""
    return build(Gather(axis), x, build.constant(np.array(position, np.int64), "position"))


def flip(build: LayerBuilder, x: str, axis: int) -> Value:
    """x[..., ::-1, ...] along one axis"""
    lowest = int(np.iinfo(np.int64).min) + 1
    return build(Slice((-1,), (lowest,), (axis,), (-1,)), x)
