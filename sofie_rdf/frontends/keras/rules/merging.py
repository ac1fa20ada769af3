"""Layers that merge several values into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sofie_rdf.errors import GraphError
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Nested, Value, masked
from sofie_rdf.frontends.keras.rules._tools import transposed
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, keras_rule
from sofie_rdf.ir.types import DType, normal_axis
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.creation import Shape
from sofie_rdf.ops.elementwise import Add, And, Div, Max, Min, Mul, Or, Sqrt, Sub, Where
from sofie_rdf.ops.layout import Concat, Expand, Reshape, RuntimeExpand, Squeeze, Unsqueeze
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.ops.reduction import ReduceMax, ReduceSumSquare

__all__ = ["any_of", "batch_dot", "unit"]


def _inputs(build: LayerBuilder, inputs: Inputs, *, least: int = 1) -> list[Value]:
    """The values, those of few axes with axes of size 1 behind the batch."""
    values = inputs.tensors
    if not isinstance(inputs.first, (list, tuple)) or len(values) < least:
        raise GraphError(f"merges a list of at least {least} values, not {inputs.first!r}")
    rank = max(map(build.rank, values))
    found = []
    for x in values:
        missing = rank - build.rank(x)
        wide = build(Unsqueeze(tuple(range(1, 1 + missing))), x) if missing else x
        found.append(masked(wide, x.mask))
    return found


def any_of(build: LayerBuilder, _: Layer, inputs: Inputs, mask: Nested) -> Value | None:
    """The mask that holds where one of the masks does; none where a value has none."""
    masks = mask if isinstance(mask, (list, tuple)) else [mask]
    if any(m is None for m in masks):
        return None
    found = masks[0]
    for other in masks[1:]:
        found = build(Or(), found, other)
    return found  # type: ignore[no-any-return]


def _folded(build: LayerBuilder, op: Any, values: Sequence[Value]) -> Value:
    found = values[0]
    for other in values[1:]:
        found = build(op, found, other)
    return found


@keras_rule("Add", mask=any_of)
def add_layer(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """a + b + ..."""
    return _folded(build, Add(), _inputs(build, inputs))


@keras_rule("Subtract", mask=any_of)
def subtract(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """a - b"""
    values = _inputs(build, inputs, least=2)
    if len(values) != 2:
        raise GraphError(f"Subtract takes 2 values, not {len(values)}")
    return build(Sub(), *values)


@keras_rule("Average", mask=any_of)
def average(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The mean of all"""
    values = _inputs(build, inputs)
    total = _folded(build, Add(), values)
    return build(Div(), total, build.like(len(values), total)) if len(values) > 1 else total


@keras_rule("Maximum", "Minimum", mask=any_of)
def extreme(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The largest, or smallest, of all that is not masked"""
    op = Max() if layer.class_name == "Maximum" else Min()
    values = _inputs(build, inputs)
    if build.is_keras_2 or not any(x.mask for x in values):
        return build(op, *values)
    found: Value = values[0]
    mask = found.mask
    for x in values[1:]:
        other: Value = x
        if x.mask is not None:
            other = build(Where(), build(Unsqueeze((-1,)), x.mask), x, found)
        if mask is not None:
            found = build(Where(), build(Unsqueeze((-1,)), mask), found, other)
        both = mask is not None and x.mask is not None
        mask = build(Or(), mask, x.mask) if both else None  # type: ignore[arg-type]
        found = build(op, found, other)
    return found if mask is None else masked(found, mask)


@keras_rule("Multiply", mask=any_of)
def multiply_layer(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """a * b * ...; what is masked counts as 1, and is 0 where all are masked"""
    values = _inputs(build, inputs)
    masks = [x.mask for x in values]
    if build.is_keras_2 or not any(masks):
        return _folded(build, Mul(), values)
    wide = [m and build(Unsqueeze((-1,)), m) for m in masks]
    factors = [
        x if m is None else build(Where(), m, x, build.like(1, x))
        for x, m in zip(values, wide, strict=True)
    ]
    product = _folded(build, Mul(), factors)
    if not all(masks):
        return product
    some = _folded(build, Or(), [m for m in wide if m])
    result = build(Where(), some, product, build.like(0, product))
    return masked(result, _folded(build, Or(), [m for m in masks if m]))


# Concatenate -------------------------------------------------------------------------------------


def _concatenated_mask(
    build: LayerBuilder, layer: Layer, inputs: Inputs, mask: Nested
) -> Value | None:
    """Whether a row of the masks, one beside the other, has something that is not masked."""
    masks = mask if isinstance(mask, (list, tuple)) else [mask]
    if all(m is None for m in masks):
        return None
    parts = []
    for x, m in zip(inputs.tensors, masks, strict=True):
        if m is None:
            m = _full(build, x)
        elif build.rank(m) < build.rank(x):
            m = build(And(), build(Unsqueeze((-1,)), m), _full(build, x))
        parts.append(m)
    axis = normal_axis(int(layer.config.get("axis", -1)), build.rank(parts[0]))
    whole = build(Cast(DType.UINT8), build(Concat(axis), *parts))
    return build(Cast(DType.BOOL), build(ReduceMax((-1,), keepdims=False), whole))


def _full(build: LayerBuilder, x: str) -> Value:
    """True for each element of x."""
    yes = build.constant(True, "true")
    shape = build.shape(x)
    if all(isinstance(d, int) for d in shape):
        return build(Expand(tuple(int(d) for d in shape)), yes)  # type: ignore[arg-type]
    return build(RuntimeExpand(), yes, build(Shape(), x))


@keras_rule("Concatenate", mask=_concatenated_mask)
def concatenate(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """One behind the other along an axis"""
    values = inputs.tensors
    return build(
        Concat(normal_axis(int(layer.config.get("axis", -1)), build.rank(values[0]))), *values
    )


# Dot ---------------------------------------------------------------------------------------------


def unit(build: LayerBuilder, x: str, axis: int) -> Value:
    """x / |x| along an axis; the square of the length is at least 1e-12"""
    squares = build(ReduceSumSquare((axis,)), x)
    length = build(Sqrt(), build(Max(), squares, build.like(1e-12, x)))
    return build(Div(), x, length)


@keras_rule("Dot", mask=lambda *_: None)
def dot(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The products of two values summed along one axis of each, event by event"""
    values = inputs.tensors
    if len(values) != 2:
        raise GraphError(f"Dot takes 2 values, not {len(values)}")
    given = layer.config.get("axes")
    both = given if isinstance(given, (list, tuple)) else [given, given]
    axes = [normal_axis(int(a), build.rank(x)) for a, x in zip(both, values, strict=True)]
    if layer.config.get("normalize"):
        values = [unit(build, x, a) for x, a in zip(values, axes, strict=True)]
    return batch_dot(build, values[0], values[1], axes[0], axes[1])


def batch_dot(build: LayerBuilder, x: str, y: str, a: int, b: int) -> Value:
    """sum over axis a of x and b of y; the other axes of x, then those of y; at least two in all"""
    if not a or not b:
        raise GraphError("Dot cannot sum over the batch")
    ranks = build.rank(x), build.rank(y)
    left = [i for i in range(1, ranks[0]) if i != a]
    right = [i for i in range(1, ranks[1]) if i != b]
    sizes = [build.shape(x)[i] for i in left], [build.shape(y)[i] for i in right]
    x = _as_three(build, transposed(build, x, (0, *left, a)), len(left), last=True)
    y = _as_three(build, transposed(build, y, (0, b, *right)), len(right), last=False)
    z = build(MatMul(), x, y)
    batch = build.shape(z)[0]
    shape = (batch, *sizes[0], *sizes[1])
    if shape == build.shape(z):
        return z
    if len(left) == 0 and len(right) == 0:
        return build(Squeeze((1,)), z)
    return build(Reshape(tuple(shape)), z)


def _as_three(build: LayerBuilder, x: str, others: int, *, last: bool) -> Value:
    """[batch, others, summed], or [batch, summed, others]."""
    if others == 1:
        return Value(x)
    shape = build.shape(x)
    if not others:
        return build(Unsqueeze((1 if last else 2,)), x)
    from sofie_rdf.ir.dims import product

    if last:
        return build(Reshape((shape[0], product(shape[1:-1]), shape[-1])), x)
    return build(Reshape((shape[0], shape[1], product(shape[2:]))), x)
