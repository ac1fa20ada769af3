"""Rows of attention, rotary embeddings and gated units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.attention import (
    Attention,
    LinearAttention,
    RotaryEmbedding,
    SoftmaxAttention,
    SwiGLU,
)
from tests.ops.cases import Case, Fill, Input, M, N, Random, Row, anything, usual

# Values -------------------------------------------------------------------------------------------


def ordinary(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Numbers of which a softmax of products has more than one that counts; few are none."""
    values = random.normal(size=shape)
    if extreme:
        values = np.where(random.random(shape) < 0.002, np.nan, values)
    return np.asarray(values, dtype.numpy)


def masked(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    """A mask that hides about half of the keys, and for some queries all."""
    hidden = random.random(shape) < 0.4
    hidden = hidden | (random.random((*shape[:-1], 1)) < 0.2)
    if dtype is DType.BOOL:
        return ~hidden
    return np.where(hidden, -np.inf, random.normal(size=shape)).astype(dtype.numpy)


def lengths(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    """How many keys are valid."""
    return np.asarray(random.integers(0, 7, shape), dtype.numpy)


def places(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    """Rows of caches that have nine of them."""
    return np.asarray(random.integers(0, 9, shape), dtype.numpy)


def decays(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    """Logarithms of factors below one."""
    return np.asarray(-np.abs(random.normal(size=shape)), dtype.numpy)


# Attention ----------------------------------------------------------------------------------------

_FILLS: tuple[Fill, ...] = (ordinary, ordinary, ordinary, masked, ordinary, ordinary, lengths)


def _four(
    dtype: DType,
    heads: tuple[int, int] = (2, 2),
    rows: tuple[Dim, Dim] = (5, 7),
    sizes: tuple[Dim, Dim] = (4, 4),
    batch: Dim = N,
) -> list[Input]:
    q: Shape = (batch, heads[0], rows[0], sizes[0])
    k: Shape = (batch, heads[1], rows[1], sizes[0])
    v: Shape = (batch, heads[1], rows[1], sizes[1])
    return [TensorType(dtype, s) for s in (q, k, v)]


def _three(dtype: DType, heads: tuple[int, int], rows: tuple[Dim, Dim], size: int) -> list[Input]:
    widths = (heads[0] * size, heads[1] * size, heads[1] * size)
    lengths_ = (rows[0], rows[1], rows[1])
    return [TensorType(dtype, (N, r, w)) for r, w in zip(lengths_, widths, strict=True)]


def _plain_attention(dtype: DType, full: bool) -> Iterator[tuple[Attention, list[Input]]]:
    yield Attention(), _four(dtype)
    yield Attention(q_num_heads=4, kv_num_heads=2), _three(dtype, (4, 2), (6, 9), 3)
    if not full:
        return
    yield Attention(scale=0.125, softcap=1.5), _four(dtype, rows=(3, 40), sizes=(8, 20))
    yield Attention(scale=-0.5), _four(dtype, (6, 3), (1, 33), (16, 40))
    yield Attention(), _four(dtype, (3, 1), (4, 70), (17, 33), batch=2)
    yield Attention(), _four(dtype, rows=(M, M), sizes=(5, 3))
    yield Attention(is_causal=True), _four(dtype, rows=(M, M))
    yield Attention(is_causal=True), _four(dtype, rows=(7, 4))
    yield Attention(left_window_size=2, right_window_size=1), _four(dtype, rows=(9, 9))
    yield Attention(left_window_size=0), _four(dtype, rows=(9, 4))
    yield Attention(is_causal=True, right_window_size=3, left_window_size=1), _four(dtype)
    yield Attention(), _four(dtype, rows=(5, 0))
    yield Attention(), _four(dtype, rows=(0, 5))
    yield Attention(), _four(dtype, sizes=(4, 0))
    yield Attention(q_num_heads=3, kv_num_heads=3), _three(dtype, (3, 3), (M, M), 2)
    for mode in range(4):
        capped = Attention(qk_matmul_output_mode=mode, softcap=2.0, is_causal=True)
        yield capped, _four(dtype, rows=(6, 6))


def _many_queries(dtype: DType) -> Iterator[tuple[Attention, list[Input]]]:
    """Those that are answered side by side, if nobody wants the scores: blocks, and a rest."""
    yield Attention(), _four(dtype, rows=(16, 5), sizes=(16, 16))
    yield Attention(scale=0.3, softcap=1.5), _four(dtype, (3, 1), (35, 70), (17, 33))
    yield Attention(is_causal=True), _four(dtype, rows=(19, 19), sizes=(3, 48))
    yield Attention(left_window_size=3, right_window_size=0), _four(dtype, rows=(20, 20))
    yield Attention(left_window_size=1), _four(dtype, rows=(20, 6))
    for kind in (DType.BOOL, dtype):
        for shape in ((18, 9), (9,), (N, 2, 18, 9), (N, 1, 18, 6), (N, 1, 1, 9)):
            inputs = _four(dtype, rows=(18, 9))
            yield Attention(is_causal=len(shape) == 2), [*inputs, TensorType(kind, shape)]
    past = [TensorType(dtype, (N, 2, 3, size)) for size in (4, 16)]
    remembering = Attention(is_causal=True, left_window_size=4)
    yield remembering, [*_four(dtype, (4, 2), (17, 17), (4, 16)), None, *past]
    valid = TensorType(DType.INT64, (N,))
    yield Attention(is_causal=True), [*_four(dtype, rows=(17, 6)), None, None, None, valid]


def _masked_attention(dtype: DType) -> Iterator[tuple[Attention, list[Input]]]:
    shapes: list[Shape] = [
        (5, 7),
        (7,),
        (N, 1, 1, 7),
        (2, 5, 7),
        (N, 2, 5, 7),
        (1, 4),
        (N, 1, 5, 6),
    ]
    for number, shape in enumerate(shapes):
        for kind in (DType.BOOL, dtype):
            op = Attention(qk_matmul_output_mode=2 + number % 2, is_causal=number % 3 == 2)
            yield op, [*_four(dtype), TensorType(kind, shape)]
    three = _three(dtype, (4, 2), (M, M), 3)
    op = Attention(q_num_heads=4, kv_num_heads=2)
    yield op, [*three, TensorType(dtype, (N, 1, M, M))]


def _remembering_attention(dtype: DType) -> Iterator[tuple[Attention, list[Input]]]:
    for rows in (3, M, 0):
        past: list[Input] = [TensorType(dtype, (N, 2, rows, 4))] * 2
        causal = Attention(is_causal=True, left_window_size=4)
        yield causal, [*_four(dtype, (4, 2), (5, 5)), None, *past]
        of_three = Attention(q_num_heads=2, kv_num_heads=2)
        yield of_three, [*_three(dtype, (2, 2), (4, 4), 4), None, *past]
    past = [TensorType(dtype, (N, 2, 3, 4))] * 2
    yield Attention(), [*_four(dtype), TensorType(DType.BOOL, (5, 10)), *past]
    valid = TensorType(DType.INT64, (N,))
    for causal_ in (False, True):
        op = Attention(is_causal=causal_, right_window_size=3 if causal_ else -1)
        yield op, [*_four(dtype, rows=(3, 6)), None, None, None, valid]
        mask = TensorType(dtype, (3, 6))
        yield op, [*_four(dtype, rows=(3, 6)), mask, None, None, valid]


def _attention(dtype: DType, full: bool) -> Iterator[Case]:
    pairs = list(_plain_attention(dtype, full))
    if full:
        pairs += [*_masked_attention(dtype), *_remembering_attention(dtype)]
    for op, inputs in pairs:
        yield Case(op, tuple(inputs), _FILLS)
    alone = [(Attention(), _four(dtype)), *(_many_queries(dtype) if full else ())]
    for op, inputs in alone:
        yield Case(op, tuple(inputs), _FILLS, only_first_output=True)


def _of_attention(
    op: Attention, q: Array, k: Array, v: Array, *_: Array | None
) -> tuple[Array, ...]:
    """What an error of the scores does to weights, and so to a mean of values."""
    product = _largest(q) * _largest(k) * q.shape[-1]
    score = product * abs(op.scale if op.scale is not None else 1.0) / 2
    weight = 1.0 if op.qk_matmul_output_mode == 3 else 0.0
    bounds = _largest(v) * (1 + score), 0, 0, max(score, weight * (1 + score))
    return tuple(np.asarray(b) for b in bounds)


def _largest(x: Array) -> float:
    return float(np.max(np.where(np.isfinite(x), np.abs(x), 0), initial=0.0))


_FUSED: tuple[tuple[SoftmaxAttention, tuple[Shape, ...]], ...] = (
    (SoftmaxAttention(), ((N, 2, 5, 4), (N, 2, 7, 4), (N, 2, 7, 3))),
    (SoftmaxAttention(0.25, 0.0, ("brhe",) * 4), ((N, 5, 2, 4), (N, 5, 2, 4), (N, 5, 2, 4))),
    (SoftmaxAttention(0.5, -3.0), ((N, 2, 21, 16), (N, 2, 6, 16), (N, 2, 6, 32))),
    (SoftmaxAttention(-1.5, -2.0, ("rbhe",) * 4), ((M, N, 2, 17), (M, N, 2, 17), (M, N, 2, 20))),
)
_MORE_FUSED: tuple[tuple[SoftmaxAttention, tuple[Shape, ...]], ...] = (
    (
        SoftmaxAttention(0.5, -1e9, ("hbre", "rhbe", "hrbe", "brhe")),
        ((20, 3, N, 5), (3, M, N, 5), (N, M, 3, 2)),
    ),
    (SoftmaxAttention(2.0, 1.0, ("rhe", "hre", "rhe", "hre")), ((N, 5, 4), (7, N, 4), (N, 7, 4))),
    (SoftmaxAttention(), ((2, 1, 4, 0), (2, 1, 3, 0), (2, 1, 3, 5))),
    (SoftmaxAttention(), ((2, 1, 4, 3), (2, 1, 0, 3), (2, 1, 0, 5))),
)


def _fused(dtype: DType, full: bool) -> Iterator[Case]:
    fills = (ordinary, ordinary, ordinary, masked)
    for op, shapes in (*_FUSED, *(_MORE_FUSED if full else ())):
        inputs = tuple(TensorType(dtype, s) for s in shapes)
        yield Case(op, inputs, fills)
        sizes = dict(zip(op.orders[1], shapes[0], strict=True))
        keys = shapes[1][op.orders[2].index("r")]
        full = *(sizes[c] for c in "bhr" if c in sizes), keys
        for mask in (
            (1,) * (len(full) - 1) + (keys,),
            full,
            (full[0], *(1 for _ in full[2:]), keys),
        ):
            for kind in (dtype, DType.BOOL):
                yield Case(op, (*inputs, TensorType(kind, mask)), fills)


def _of_fused(op: SoftmaxAttention, q: Array, k: Array, v: Array, *_: Array) -> Array:
    product = _largest(q) * _largest(k) * q.shape[-1]
    return np.asarray(_largest(v) * (1 + product * abs(op.scale) / 2))


# The others ---------------------------------------------------------------------------------------


def _rotary(dtype: DType, full: bool) -> Iterator[Case]:
    forms: list[tuple[RotaryEmbedding, Shape, int]] = [
        (RotaryEmbedding(), (N, 2, 5, 8), 4),
        (RotaryEmbedding(num_heads=3), (N, 4, 18), 3),
    ]
    if full:
        forms += [
            (RotaryEmbedding(interleaved=True), (N, 2, 5, 8), 4),
            (RotaryEmbedding(rotary_embedding_dim=4), (N, 2, M, 7), 2),
            (RotaryEmbedding(True, 2, 2), (2, 3, 10), 1),
            (RotaryEmbedding(), (2, 1, 3, 140), 70),
            (RotaryEmbedding(), (N, 2, 0, 8), 4),
        ]
    for op, shape, half in forms:
        x = TensorType(dtype, shape)
        times = (shape[0], shape[1 if len(shape) == 3 else 2])
        own = TensorType(dtype, (*times, half))
        yield Case(op, (x, own, own), (ordinary,))
        shared = TensorType(dtype, (9, half))
        ids = TensorType(DType.INT64, times)
        yield Case(op, (x, shared, shared, ids), (ordinary, ordinary, ordinary, places))


def _of_rotary(_: RotaryEmbedding, x: Array, *caches: Array) -> Array:
    return np.asarray(_largest(x) * sum(_largest(c) for c in caches[:2]) + 0 * np.abs(x))


def _linear(dtype: DType, full: bool) -> Iterator[Case]:
    sizes: list[tuple[tuple[int, int], Dim, tuple[int, int]]] = [((2, 2), 4, (3, 5))]
    if full:
        sizes += [((4, 2), M, (4, 17)), ((3, 1), 1, (5, 2)), ((1, 1), 0, (2, 2))]
    for (heads, shared), times, (keys, values) in sizes:
        x = [
            TensorType(dtype, (N, times, w)) for w in (heads * keys, shared * keys, shared * values)
        ]
        past = TensorType(dtype, (N, shared, keys, values))
        for number, rule in enumerate(("linear", "gated", "delta", "gated_delta")):
            decay = [TensorType(dtype, (N, times, shared * w)) for w in (1, keys)][number % 2]
            beta = [TensorType(dtype, (N, times, w)) for w in (1, shared)][number % 2]
            op = LinearAttention(shared, heads, scale=0.5 * (number % 2), update_rule=rule)
            rates: list[Input] = [decay if "gated" in rule else None]
            rates += [beta] if "delta" in rule else []
            inputs = (*x, past if number < 3 else None, *rates)
            fills = ordinary, _short, ordinary, ordinary, decays, ordinary
            yield Case(op, inputs, fills, only_first_output=number == 1 and heads == 4)
            yield Case(LinearAttention(shared, heads, update_rule="linear"), tuple(x), fills[:3])


def _short(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    """Keys that are shorter than one, so that a delta rule forgets."""
    return np.asarray(random.uniform(-0.5, 0.5, shape), dtype.numpy)


def _of_linear(
    op: LinearAttention, q: Array, k: Array, v: Array, *more: Array | None
) -> tuple[Array, ...]:
    """A bound of what is stored: each step adds a value, and no rate is above a few."""
    state = sum(_largest(a) for a in (v, *more) if a is not None) * (1 + k.shape[1]) * 8
    return np.asarray(state * _largest(q) * q.shape[2] / op.q_num_heads), np.asarray(state)


def _gated(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: tuple[Shape, ...] = ((N,), (5, 13), (N, M), (), (0, 3))
    for op in (SwiGLU(), SwiGLU(alpha=-2.0)):
        for shape in shapes if full else shapes[:2]:
            yield Case(op, (TensorType(dtype, shape),) * 2, (anything, usual))


def _gate_slack(_: SwiGLU, error: Array, dtype: np.dtype[Any], a: Array, b: Array) -> Array:
    """Below the normal numbers a gate has few digits, which the value makes larger."""
    real = np.finfo(np.float32 if dtype.itemsize < 4 else dtype)
    return np.asarray(error + 4 * np.abs(b) * real.smallest_subnormal * (1 + np.abs(a)))


ROWS: dict[tuple[str, str], Row] = {
    ("", "Attention"): Row(_attention, _of_attention, signed_zeros=False),
    ("sofie", "SoftmaxAttention"): Row(_fused, _of_fused, signed_zeros=False),
    ("", "RotaryEmbedding"): Row(_rotary, _of_rotary, signed_zeros=False),
    ("", "LinearAttention"): Row(_linear, _of_linear, signed_zeros=False),
    ("", "SwiGLU"): Row(_gated, slack=_gate_slack),
}
