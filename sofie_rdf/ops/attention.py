"""Attention and what surrounds it in transformers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch, UnsupportedOperator
from sofie_rdf.ir.dims import Dim, number_of, product, require_equal
from sofie_rdf.ir.operator import (
    Argument,
    Call,
    Functor,
    Operand,
    Operator,
    Sizes,
    Struct,
    Tensor,
    operator,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType, broadcast
from sofie_rdf.kernels.attention import ATTENTION, AttentionProblem
from sofie_rdf.ops._floats import NOTHING, accept_floats, computed
from sofie_rdf.ops._unrolled import linear_attention
from sofie_rdf.ops.elementwise import FLOATS, Binary, Swish
from sofie_rdf.ops.layout import memory
from sofie_rdf.ops.normalization import Softmax

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value
    from sofie_rdf.kernels.choice import Choice


def _tensor(operand: Operand | None, shape: Shape | None = None) -> Functor | Tensor:
    return NOTHING if operand is None else Tensor(operand, shape)


def _divided(size: Dim, heads: int, what: str) -> Dim:
    """The size of one head."""
    if heads < 1 or (isinstance(size, int) and size % heads):
        raise ShapeError(f"cannot make {heads} heads of {size} {what}")
    return size // heads


def _shared(x: Value, heads: Dim) -> Value:
    """[batch, heads, rows, size] of fewer heads, each of which is for several."""
    batch, own, rows, size = x.shape
    if own == heads:
        return x
    wide = x.reshape((batch, own, 1, rows, size)).expand((batch, own, heads // own, rows, size))
    return wide.reshape((batch, heads, rows, size))


def _masked_softmax(scores: Value, allowed: Value | None) -> Value:
    """Along the last axis, of what is allowed; zeros elsewhere, but in rows with a NaN."""
    if allowed is None:
        return scores.apply("Softmax")
    low = -3e4 if scores.dtype is DType.FLOAT16 else -1e30
    weights = allowed.choose(scores, low).apply("Softmax")
    return allowed.choose(weights, weights * 0)


@operator(since=25, header="sofie/kernels/attention.hxx", ulp=8, terms=8)
class Attention(Operator):
    """y = softmax(scale * q k^T + mask) v for each head; new keys and values are put to the past's

    A key takes no part where the mask is false or -inf, where it lies behind the query (is_causal),
    outside of a window around it, or behind the valid keys. Without any key y is 0. The other
    outputs are all keys, all values, and the scores at the stage ``qk_matmul_output_mode``: the
    products, those with the soft cap, with the mask, or behind the softmax.
    """

    is_causal: bool = False
    kv_num_heads: int | None = None
    left_window_size: int = -1
    q_num_heads: int | None = None
    qk_matmul_output_mode: int = 0
    right_window_size: int = -1
    scale: float | None = None
    softcap: float = 0.0
    # The softmax is computed as exactly as the element type allows, whatever is asked for.
    softmax_precision: DType | None = None

    def __post_init__(self) -> None:
        if self.qk_matmul_output_mode not in range(4):
            raise UnsupportedOperator(
                f"Attention has no qk_matmul_output_mode {self.qk_matmul_output_mode}"
            )
        if min(self.left_window_size, self.right_window_size) < -1:
            raise UnsupportedOperator("Attention has no window of a negative size but -1")

    def split(self, shape: Shape, heads: int | None) -> Shape:
        """[batch, heads, rows, size], or of three axes [batch, rows, heads, size]."""
        if len(shape) == 4:
            return shape
        if len(shape) != 3:
            raise ShapeError("needs q, k and v with 3 or 4 axes")
        if heads is None:
            raise ShapeError("needs q_num_heads and kv_num_heads for inputs with 3 axes")
        return (*shape[:2], heads, _divided(shape[2], heads, "numbers"))

    def heads(self, shape: Shape, heads: int | None) -> Shape:
        """[batch, heads, rows, size] of either form."""
        split = self.split(shape, heads)
        return split if len(shape) == 4 else (split[0], split[2], split[1], split[3])

    def infer(
        self,
        q: TensorType,
        k: TensorType,
        v: TensorType,
        attn_mask: TensorType | None = None,
        past_key: TensorType | None = None,
        past_value: TensorType | None = None,
        nonpad_kv_seqlen: TensorType | None = None,
    ) -> tuple[TensorType, TensorType, TensorType, TensorType]:
        of_numbers = None if attn_mask and attn_mask.dtype is DType.BOOL else attn_mask
        accept_floats(q, k, v, past_key, past_value, of_numbers)
        if not q.rank == k.rank == v.rank:
            raise ShapeError("needs q, k and v with the same number of axes")
        queries = self.heads(q.shape, self.q_num_heads)
        keys, values = (self.heads(t.shape, self.kv_num_heads) for t in (k, v))
        self._check_heads(queries, keys, values)
        if (past_key is None) != (past_value is None):
            raise ShapeError("needs past_key and past_value together")
        if past_key is not None and past_value is not None:
            keys, values = _present(past_key.shape, keys), _present(past_value.shape, values)
            require_equal(keys[2], values[2])
        scores = (*queries[:3], keys[2])
        if attn_mask is not None:
            self._check_mask(attn_mask.shape, scores)
        if nonpad_kv_seqlen is not None:
            if past_key is not None:
                raise ShapeError("has no nonpad_kv_seqlen beside past keys")
            if nonpad_kv_seqlen.dtype is not DType.INT64 or nonpad_kv_seqlen.rank != 1:
                raise TypeMismatch("needs a vector of int64 for nonpad_kv_seqlen")
            require_equal(nonpad_kv_seqlen.shape[0], queries[0])
        y = (*queries[:3], values[3]) if q.rank == 4 else (*q.shape[:2], queries[1] * values[3])
        return (
            TensorType(q.dtype, y),
            TensorType(k.dtype, keys),
            TensorType(v.dtype, values),
            TensorType(q.dtype, scores),
        )

    def _check_heads(self, queries: Shape, keys: Shape, values: Shape) -> None:
        require_equal(queries[0], keys[0])
        require_equal(queries[3], keys[3])
        for axis in range(3):
            require_equal(keys[axis], values[axis])
        heads, shared = queries[1], keys[1]
        if not isinstance(heads, int) or not isinstance(shared, int):
            raise ShapeError("needs numbers of heads that are known")
        if heads and (not shared or heads % shared):
            raise ShapeError(f"cannot share {shared} keys among {heads} heads")

    def _check_mask(self, mask: Shape, scores: Shape) -> None:
        if not 1 <= len(mask) <= 4:
            raise ShapeError("needs a mask with 1 to 4 axes")
        if broadcast((mask[:-1], scores[:-1])) != scores[:-1]:
            raise ShapeError("cannot broadcast the mask to the scores")
        if isinstance(mask[-1], int) and isinstance(scores[-1], int) and mask[-1] > scores[-1]:
            raise ShapeError(f"has a mask for {mask[-1]} keys, but {scores[-1]} keys")

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        q, k, v = inputs[:3]
        assert q is not None and k is not None and v is not None
        present = self.infer(*inputs)  # type: ignore[arg-type]
        sizes = present[1].shape[3] + present[2].shape[3]
        return product(present[3].shape) * sizes

    def _problem(self, inputs: Sequence[TensorType | None]) -> AttentionProblem:
        q = inputs[0]
        assert q is not None
        _, keys, values, _ = self.infer(*inputs)  # type: ignore[arg-type]
        return AttentionProblem(
            computed(q.dtype),
            "attention",
            keys.shape[2],
            keys.shape[3],
            values.shape[3],
            heads_last=q.rank == 3,
        )

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        return ATTENTION.choose(self._problem([None if i is None else i.type for i in inputs]))

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        return ATTENTION.choose(self._problem(inputs)).scratch

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        q, k, v, mask, past_k, past_v, valid = (*inputs, *(None,) * 4)[:7]
        assert q is not None and k is not None and v is not None
        rule = Functor(
            "sofie::AttentionRule",
            (
                self.scale or 0.0,
                self.scale is not None,
                self.softcap,
                self.is_causal,
                self.left_window_size,
                self.right_window_size,
                self.qk_matmul_output_mode,
            ),
        )
        *results, work = outputs
        present = (*results[1:], *(None,) * 4)[:3]
        split_q = self.split(q.type.shape, self.q_num_heads)
        split_k, split_v = (self.split(t.type.shape, self.kv_num_heads) for t in (k, v))
        arguments: list[Argument] = [Tensor(results[0], (*split_q[:3], split_v[3]))]
        arguments += [*map(_tensor, present), Tensor(work)]
        arguments += [Tensor(q, split_q), Tensor(k, split_k), Tensor(v, split_v)]
        full = None if mask is None else ((1,) * (4 - mask.type.rank) + mask.type.shape)
        arguments += [_tensor(mask, full), *map(_tensor, (past_k, past_v, valid))]
        choice = self.choice(inputs, outputs)
        called = f"sofie::{choice.kernel}"
        return Call(called, (rule, *arguments), len(outputs), header=choice.header)

    def reference(
        self,
        q: Array,
        k: Array,
        v: Array,
        attn_mask: Array | None = None,
        past_key: Array | None = None,
        past_value: Array | None = None,
        nonpad_kv_seqlen: Array | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        queries = self._by_head(q, self.q_num_heads)
        keys, values = (self._by_head(a, self.kv_num_heads) for a in (k, v))
        past = 0 if past_key is None else past_key.shape[2]
        if past_key is not None and past_value is not None:
            keys = np.concatenate((past_key, keys), axis=2)
            values = np.concatenate((past_value, values), axis=2)
        group = queries.shape[1] // max(keys.shape[1], 1)
        scale = 1 / math.sqrt(queries.shape[3]) if self.scale is None else self.scale
        turned = np.swapaxes(np.repeat(keys, group, axis=1), -1, -2)
        stages = [np.matmul(queries * queries.dtype.type(scale), turned)]
        cap = queries.dtype.type(self.softcap)
        stages.append(cap * np.tanh(stages[0] / cap) if self.softcap > 0 else stages[0])
        bias = self._bias(stages[0], attn_mask, past, nonpad_kv_seqlen)
        hidden = np.isneginf(bias)
        stages.append(np.where(hidden, bias, stages[1] + bias))
        stages.append(_softmax_or_zeros(stages[2], hidden))
        seen = np.repeat(values, group, axis=1)
        if nonpad_kv_seqlen is not None:
            valid = np.arange(seen.shape[2]) < nonpad_kv_seqlen.reshape(-1, 1)
            seen = np.where(valid[:, None, :, None], seen, 0)  # The others are not read.
        y = np.matmul(stages[3], seen)
        if q.ndim == 3:
            y = np.swapaxes(y, 1, 2).reshape(
                *q.shape[:2], -1 if y.size else y.shape[1] * y.shape[3]
            )
        scores = stages[self.qk_matmul_output_mode]
        return y.astype(q.dtype), keys, values, scores.astype(q.dtype)

    def _by_head(self, x: Array, heads: int | None) -> Array:
        split = np.reshape(x, [int(d) for d in self.split(x.shape, heads)])  # type: ignore[arg-type]
        return split if x.ndim == 4 else np.swapaxes(split, 1, 2)

    def _bias(self, scores: Array, mask: Array | None, past: int, valid: Array | None) -> Array:
        """What is added to the scores: 0, what the mask says, or -inf."""
        total = scores.shape[3]
        keys = np.arange(total)
        lengths = np.full(scores.shape[0], total) if valid is None else valid
        start = past if valid is None else (lengths - scores.shape[2]).reshape(-1, 1, 1, 1)
        place = np.arange(scores.shape[2]).reshape(-1, 1) + start
        allowed = np.broadcast_to(keys < lengths.reshape(-1, 1, 1, 1), scores.shape)
        if self.is_causal:
            allowed = allowed & (keys <= place)
        if self.left_window_size >= 0:
            allowed = allowed & (keys >= place - self.left_window_size)
        if self.right_window_size >= 0:
            allowed = allowed & (keys <= place + self.right_window_size)
        given: Array = np.zeros(scores.shape, scores.dtype)
        if mask is not None:
            known = mask if mask.dtype != np.bool_ else np.where(mask, 0, -np.inf)
            given[..., : mask.shape[-1]] += known.astype(scores.dtype)
            given[..., mask.shape[-1] :] = -np.inf
        return np.where(allowed, given, scores.dtype.type(-np.inf))

    def formula(
        self,
        q: Value,
        k: Value,
        v: Value,
        mask: Value | None = None,
        past_key: Value | None = None,
        past_value: Value | None = None,
        valid: Value | None = None,
    ) -> tuple[Value, ...]:
        """The same in terms of other operators."""
        queries = self._heads_of(q, self.q_num_heads)
        keys, values = (self._heads_of(t, self.kv_num_heads) for t in (k, v))
        past: Dim = 0
        if past_key is not None and past_value is not None:
            past = past_key.shape[2]
            keys, values = past_key.concat([keys], 2), past_value.concat([values], 2)
        scale = 1 / math.sqrt(number_of(queries.shape[3])) if self.scale is None else self.scale
        each, seen = (_shared(t, queries.shape[1]) for t in (keys, values))
        stages = [(queries * scale).matmul(each.turned)]
        cap = self.softcap
        stages.append((stages[0] / cap).apply("Tanh") * cap if cap > 0 else stages[0])
        if valid is not None:
            raise UnsupportedOperator("Attention with nonpad_kv_seqlen has no gradient here")
        total, allowed = stages[1], self._allowed(stages[0], past)
        if mask is not None:
            if mask.shape[-1] != total.shape[-1]:
                raise UnsupportedOperator(
                    "Attention with a mask of fewer keys has no gradient here"
                )
            if mask.dtype is not DType.BOOL:
                known = mask > -math.inf
                total, mask = total + known.choose(mask, 0), known
            allowed = mask if allowed is None else allowed & mask
        weights = _masked_softmax(total, allowed)
        hidden = total if allowed is None else allowed.choose(total, -math.inf)
        y = weights.matmul(seen)
        if q.rank == 3:
            y = y.transpose((0, 2, 1, 3)).reshape((*q.shape[:2], y.shape[1] * y.shape[3]))
        return y, keys, values, (*stages, hidden, weights)[self.qk_matmul_output_mode]

    def _heads_of(self, x: Value, heads: int | None) -> Value:
        split = x.reshape(self.split(x.shape, heads))
        return split if x.rank == 4 else split.transpose((0, 2, 1, 3))

    def _allowed(self, scores: Value, past: Dim) -> Value | None:
        """Which keys are seen by where they stand; None for all."""
        bounds = [(past, False)] if self.is_causal else []
        if self.left_window_size >= 0:
            bounds.append((past - self.left_window_size, True))
        if self.right_window_size >= 0:
            bounds.append((past + self.right_window_size, False))
        if not bounds:
            return None
        if not isinstance(past, int):
            raise UnsupportedOperator(
                "Attention with past keys of open length has no gradient here"
            )
        kept = scores.tape.filled(1, TensorType(scores.dtype, scores.shape[2:]))
        for k, upper in bounds:
            kept = kept.apply("Trilu", k=number_of(k), upper=upper)
        return kept > 0


def _present(past: Shape, fresh: Shape) -> Shape:
    """The shape of keys or values with those of the past in front."""
    if len(past) != 4:
        raise ShapeError("needs past keys and values with 4 axes")
    for axis in (0, 1, 3):
        require_equal(past[axis], fresh[axis])
    return (*fresh[:2], past[2] + fresh[2], fresh[3])


def _softmax_or_zeros(scores: Array, hidden: Array) -> Array:
    """The softmax of each row; zeros where it has no number but -inf, or is hidden as a whole."""
    largest = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
    nothing = np.isneginf(largest)
    grown = np.exp(scores - np.where(nothing, 0, largest))
    total = np.where(nothing, 1, np.sum(grown, axis=-1, keepdims=True))
    weights = grown / total
    return np.where(np.all(hidden, axis=-1, keepdims=True), 0, weights).astype(scores.dtype)


@operator(domain="sofie", header="sofie/kernels/attention.hxx", ulp=8, terms=8)
class SoftmaxAttention(Operator):
    """y = softmax(scale * q k^T + mask) v for each head, the axes of each being in some order

    An order has a letter for each axis: b for the batch, which there may not be, h for heads, r for
    rows, e for elements, which come last. A mask has all axes, or the last ones. Of bools it says
    what stays; what does not becomes ``fill``.
    """

    scale: float = 1.0
    fill: float = 0.0
    orders: tuple[str, ...] = ("bhre", "bhre", "bhre", "bhre")

    def __post_init__(self) -> None:
        allowed = {"bhre", "brhe", "rbhe", "hbre", "hrbe", "rhbe", "hre", "rhe"}
        if len(self.orders) != 4 or not allowed.issuperset(self.orders):
            raise UnsupportedOperator(f"SoftmaxAttention has no orders {self.orders}")

    def _standard(self, shape: Shape, which: int) -> Shape:
        """Batch, heads, rows and elements of y, q, k or v."""
        order = self.orders[which]
        if len(shape) != len(order):
            raise ShapeError(f"needs q, k and v with the axes {', '.join(self.orders[1:])}")
        return tuple(shape[order.index(c)] if c in order else 1 for c in "bhre")

    def infer(
        self, q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None
    ) -> TensorType:
        of_numbers = None if mask and mask.dtype is DType.BOOL else mask
        accept_floats(q, k, v, of_numbers)
        types = enumerate((q, k, v), start=1)
        queries, keys, values = (self._standard(t.shape, i) for i, t in types)
        for axis in (0, 1):
            require_equal(queries[axis], keys[axis])
            require_equal(keys[axis], values[axis])
        require_equal(queries[3], keys[3])
        require_equal(keys[2], values[2])
        if mask is not None:
            scores = (*queries[:3], keys[2])
            if not 1 <= mask.rank <= 4 or broadcast((mask.shape, scores)) != scores:
                raise ShapeError("needs a mask that fits to the scores")
            require_equal(mask.shape[-1], keys[2])
        found = dict(zip("bhre", (*queries[:3], values[3]), strict=True))
        return TensorType(q.dtype, tuple(found[letter] for letter in self.orders[0]))

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        q, k, v = inputs[:3]
        assert q is not None and k is not None and v is not None
        queries, values = self._standard(q.shape, 1), self._standard(v.shape, 3)
        return product((*queries[:3], values[2])) * (queries[3] + values[3])

    def _problem(self, inputs: Sequence[TensorType | None]) -> AttentionProblem:
        q, k, v = inputs[:3]
        assert q is not None and k is not None and v is not None
        keys = self._standard(k.shape, 2)
        return AttentionProblem(
            computed(q.dtype),
            "softmax_attention",
            keys[2],
            keys[3],
            self._standard(v.shape, 3)[3],
        )

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        return ATTENTION.choose(self._problem([None if i is None else i.type for i in inputs]))

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        return ATTENTION.choose(self._problem(inputs)).scratch

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        q, k, v, mask = (*inputs, None)[:4]
        assert q is not None and k is not None and v is not None
        y, work = outputs
        rule = Functor(
            "sofie::AttentionRule", (self.scale, True, 0.0, False, -1, -1, 0, True, self.fill)
        )
        queries, keys = self._standard(q.type.shape, 1), self._standard(k.type.shape, 2)
        sizes = Sizes((*queries[:3], keys[2], queries[3], self._standard(v.type.shape, 3)[3]))
        strides = (self._strides(o.type.shape, i) for i, o in enumerate((y, q, k, v)))
        layer = Struct("sofie::AttentionSizes", (sizes, *strides))
        full = None if mask is None else ((1,) * (4 - mask.type.rank) + mask.type.shape)
        tensors = (*map(memory, (y, work, q, k, v)), _tensor(mask, full))
        choice = self.choice(inputs, outputs)
        return Call(f"sofie::{choice.kernel}", (rule, layer, *tensors), 2, header=choice.header)

    def _strides(self, shape: Shape, which: int) -> Sizes:
        order = self.orders[which]
        behind = {letter: product(shape[i + 1 :]) for i, letter in enumerate(order)}
        return Sizes(tuple(behind.get(letter, 0) for letter in "bhr"))

    def reference(self, q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
        queries, keys, values = (self._turned(a, i) for i, a in enumerate((q, k, v), start=1))
        scores = np.matmul(queries * queries.dtype.type(self.scale), np.swapaxes(keys, -1, -2))
        if mask is not None and mask.dtype == np.bool_:
            scores = np.where(mask, scores, scores.dtype.type(self.fill))
        elif mask is not None:
            scores = scores + mask
        y = np.matmul(Softmax().reference(scores), values)
        letters = "bhre"[4 - y.ndim :]
        return np.ascontiguousarray(np.transpose(y, [letters.index(c) for c in self.orders[0]]))

    def _turned(self, array: Array, which: int) -> Array:
        order = self.orders[which]
        return np.transpose(array, [order.index(letter) for letter in "bhre" if letter in order])


@operator(since=23, header="sofie/kernels/attention/rotary.hxx", ulp=1, terms=2)
class RotaryEmbedding(Operator):
    """y = (a cos - b sin, a sin + b cos) for pairs (a, b) of x, by the angles of their positions

    The pairs are neighbours (interleaved), or one of each half. What lies behind the first
    ``rotary_embedding_dim`` numbers of a head stays as it is.
    """

    interleaved: bool = False
    num_heads: int | None = None
    rotary_embedding_dim: int = 0

    def split(self, shape: Shape) -> Shape:
        """[batch, heads, time, size], or of three axes [batch, time, heads, size]."""
        if len(shape) == 4:
            return shape
        if len(shape) != 3 or not self.num_heads:
            raise ShapeError("needs x with 4 axes, or with 3 axes and num_heads")
        size = _divided(shape[2], self.num_heads, "numbers")
        return (*shape[:2], self.num_heads, size)

    def pairs(self, size: Dim) -> Dim:
        """How many pairs each head has."""
        turned = self.rotary_embedding_dim or size
        if isinstance(turned, int) and (turned % 2 or (isinstance(size, int) and turned > size)):
            raise ShapeError(f"cannot make pairs of {turned} numbers out of {size}")
        return turned // 2

    def infer(
        self,
        x: TensorType,
        cos_cache: TensorType,
        sin_cache: TensorType,
        position_ids: TensorType | None = None,
    ) -> TensorType:
        accept_floats(x, cos_cache, sin_cache)
        split = self.split(x.shape)
        times = (split[0], split[1 if x.rank == 3 else 2])
        for cache in (cos_cache, sin_cache):
            if cache.rank != (3 if position_ids is None else 2):
                raise ShapeError("needs caches of 2 axes with position_ids, else of 3 axes")
            require_equal(cache.shape[-1], self.pairs(split[3]))
        require_equal(cos_cache.shape[0], sin_cache.shape[0])
        checked = cos_cache.shape[:2] if position_ids is None else position_ids.shape
        if position_ids is not None and position_ids.dtype is not DType.INT64:
            raise TypeMismatch("needs position_ids of int64")
        if len(checked) != 2:
            raise ShapeError("needs position_ids[batch, time]")
        for given, wanted in zip(checked, times, strict=True):
            require_equal(given, wanted)
        if position_ids is None:
            require_equal(sin_cache.shape[1], times[1])
        return x

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, cosine, sine, places = (*inputs, None)[:4]
        assert x is not None and cosine is not None and sine is not None
        split = self.split(x.type.shape)
        flags = ", ".join("true" if f else "false" for f in (self.interleaved, x.type.rank == 3))
        rows = [Tensor(c, (product(c.type.shape[:-1]), c.type.shape[-1])) for c in (cosine, sine)]
        more = () if places is None else (Tensor(places),)
        tensors = Tensor(outputs[0], split), Tensor(x, split), *rows, *more
        return Call(f"sofie::rotary_embedding<{flags}>", tensors)

    def reference(
        self, x: Array, cos_cache: Array, sin_cache: Array, position_ids: Array | None = None
    ) -> Array:
        split = np.reshape(x, [int(d) for d in self.split(x.shape)])  # type: ignore[arg-type]
        caches = cos_cache, sin_cache
        if position_ids is not None:
            if position_ids.size and position_ids.min() < 0:
                raise IndexError("RotaryEmbedding: position_ids must not be negative")
            caches = cos_cache[position_ids], sin_cache[position_ids]
        cosine, sine = (np.expand_dims(c, 2 if x.ndim == 3 else 1) for c in caches)
        half = cosine.shape[-1]
        y = split.copy()
        if self.interleaved:
            first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
        else:
            first, second = slice(0, half), slice(half, 2 * half)
        a, b = split[..., first], split[..., second]
        y[..., first] = a * cosine - b * sine
        y[..., second] = a * sine + b * cosine
        return np.reshape(y, x.shape)

    def formula(
        self, x: Value, cosine: Value, sine: Value, places: Value | None = None
    ) -> tuple[Value]:
        """The same in terms of other operators."""
        split = x.reshape(self.split(x.shape))
        if places is not None:
            cosine, sine = (c.apply("Gather", places) for c in (cosine, sine))
        axis, half = 2 if x.rank == 3 else 1, cosine.shape[-1]
        c, s = (v.reshape((*v.shape[:axis], 1, *v.shape[axis:])) for v in (cosine, sine))
        if self.interleaved:
            a, b = (split.slice(3, k, 2 * half, 2) for k in (0, 1))
        else:
            a, b = split.slice(3, 0, half), split.slice(3, half, 2 * half)
        rest = split.slice(3, 2 * half, split.shape[3])
        turned = [a * c - b * s, a * s + b * c]
        if self.interleaved:
            turned = [v.reshape((*v.shape, 1)) for v in turned]
            turned = [turned[0].concat(turned[1:], 4).reshape((*split.shape[:3], 2 * half))]
        return (turned[0].concat([*turned[1:], rest], 3).reshape(x.shape),)


@operator(since=27, header="sofie/kernels/attention/linear.hxx", ulp=8, terms=8)
class LinearAttention(Operator):
    """y[t] = scale * q[t] S[t] where S[t] = e^g[t] S[t-1] + k[t] u[t], u[t] = v[t] (update_rule)

    By the delta rules u[t] = beta[t] * (v[t] - k[t] e^g[t] S[t-1]); only the gated ones have g. The
    second output is the last S.
    """

    kv_num_heads: int
    q_num_heads: int
    chunk_size: int = 64
    scale: float = 0.0
    update_rule: str = "gated_delta"

    def __post_init__(self) -> None:
        if self.update_rule not in ("linear", "gated", "delta", "gated_delta"):
            raise UnsupportedOperator(f"LinearAttention has no update_rule {self.update_rule!r}")

    def infer(
        self,
        query: TensorType,
        key: TensorType,
        value: TensorType,
        past_state: TensorType | None = None,
        decay: TensorType | None = None,
        beta: TensorType | None = None,
    ) -> tuple[TensorType, TensorType]:
        accept_floats(query, key, value, past_state, decay, beta)
        q, k, v = self.split(query.shape, key.shape, value.shape)
        for axis in (0, 1):
            require_equal(q[axis], k[axis])
            require_equal(k[axis], v[axis])
        require_equal(q[3], k[3])
        self._check_rates(k, decay, beta)
        state = (k[0], k[2], k[3], v[3])
        if past_state is not None:
            if past_state.rank != 4:
                raise ShapeError("needs a past_state with 4 axes")
            for given, wanted in zip(past_state.shape, state, strict=True):
                require_equal(given, wanted)
        y = TensorType(query.dtype, (*query.shape[:2], q[2] * v[3]))
        return y, TensorType((past_state or query).dtype, state)

    def split(self, query: Shape, key: Shape, value: Shape) -> tuple[Shape, Shape, Shape]:
        """[batch, time, heads, size] of each."""
        if not len(query) == len(key) == len(value) == 3:
            raise ShapeError("needs query, key and value with 3 axes")
        shared = self.kv_num_heads
        if shared < 1 or self.q_num_heads < 1 or self.q_num_heads % shared:
            raise ShapeError(f"cannot share {shared} keys among {self.q_num_heads} heads")
        heads = (self.q_num_heads, shared, shared)
        listed = zip((query, key, value), heads, strict=True)
        q, k, v = ((*s[:2], h, _divided(s[2], h, "numbers")) for s, h in listed)
        return q, k, v

    def _check_rates(self, k: Shape, decay: TensorType | None, beta: TensorType | None) -> None:
        for name, given, wanted in (
            ("decay", decay, "gated" in self.update_rule),
            ("beta", beta, "delta" in self.update_rule),
        ):
            if (given is not None) != wanted:
                text = "needs" if wanted else "has no"
                raise ShapeError(f"{text} {name} by the rule {self.update_rule!r}")
            if given is None:
                continue
            if given.rank != 3:
                raise ShapeError(f"needs {name} with 3 axes")
            require_equal(given.shape[0], k[0])
            require_equal(given.shape[1], k[1])
            sizes = (k[2], 1) if name == "beta" else (k[2], k[2] * k[3])
            if given.shape[2] not in sizes:
                raise ShapeError(f"needs {sizes[0]} or {sizes[1]} numbers of {name} for each time")

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The decay of one step, and the state of one head where nobody wants to know the last."""
        y, state = self.infer(*inputs)  # type: ignore[arg-type]
        keys, values = state.shape[2:]
        return (TensorType(computed(y.dtype), (keys + keys * values,)),)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        query, key, value, past, decay, beta = (*inputs, *(None,) * 3)[:6]
        assert query is not None and key is not None and value is not None
        q, k, v = self.split(query.type.shape, key.type.shape, value.type.shape)
        *results, work = outputs
        state = results[1] if len(results) > 1 else None
        written = Tensor(results[0], (*q[:3], v[3])), _tensor(state), Tensor(work)
        read = Tensor(query, q), Tensor(key, k), Tensor(value, v), _tensor(past)
        each = 1 if decay is None or decay.type.shape[2] == k[2] else k[3]
        rates = _tensor(decay, (*k[:3], each)), _tensor(beta)
        tensors = Struct("sofie::LinearAttentionTensors", (*written, *read, *rates))
        rule = Functor("sofie::LinearAttentionRule", (self.scale,))
        return Call("sofie::linear_attention", (rule, tensors), len(outputs))

    def reference(
        self,
        query: Array,
        key: Array,
        value: Array,
        past_state: Array | None = None,
        decay: Array | None = None,
        beta: Array | None = None,
    ) -> tuple[Array, Array]:
        shapes = self.split(query.shape, key.shape, value.shape)
        arrays = zip((query, key, value), shapes, strict=True)
        q, k, v = (np.reshape(a, [int(d) for d in s]) for a, s in arrays)  # type: ignore[arg-type]
        state = np.zeros((k.shape[0], *k.shape[2:], v.shape[3]), query.dtype)
        if past_state is not None:
            state = past_state.astype(query.dtype)
        group = self.q_num_heads // self.kv_num_heads
        scale = query.dtype.type(self.scale or 1 / math.sqrt(max(k.shape[3], 1)))
        y = np.empty((*q.shape[:3], v.shape[3]), query.dtype)
        for t in range(q.shape[1]):
            if decay is not None:
                rate = decay[:, t].reshape(*k.shape[:1], k.shape[2], -1 if decay.size else 1)
                state = state * np.exp(rate)[..., None]
            stored = v[:, t]
            if beta is not None:
                recalled = np.einsum("bhkv,bhk->bhv", state, k[:, t])
                stored = beta[:, t, :, None] * (stored - recalled)
            state = state + k[:, t, :, :, None] * stored[:, :, None, :]
            seen = np.repeat(state, group, axis=1)
            y[:, t] = scale * np.einsum("bhkv,bhk->bhv", seen, q[:, t])
        last = state.astype((query if past_state is None else past_state).dtype)
        return y.reshape(*query.shape[:2], y.shape[2] * y.shape[3]), last

    def formula(
        self, query: Value, key: Value, value: Value, *others: Value | None
    ) -> tuple[Value, ...]:
        return linear_attention(self, query, key, value, *others)


@operator(since=28, header="sofie/kernels/elementwise/activations.hxx", ulp=5)
class SwiGLU(Binary):
    """a / (1 + e^(-alpha * a)) * b"""

    alpha: float = 1.0
    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def infer(self, a: TensorType, b: TensorType) -> TensorType:  # type: ignore[override]
        if a.rank != b.rank:
            raise ShapeError("needs a and b of the same shape")
        for left, right in zip(a.shape, b.shape, strict=True):
            require_equal(left, right)
        return super().infer(a, b)

    def reference(self, a: Array, b: Array) -> Array:
        return np.asarray(Swish(self.alpha).reference(a) * b)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return back.by_formula(lambda a, b: (a * (a * self.alpha).apply("Sigmoid") * b,))
