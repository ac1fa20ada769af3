"""Random numbers that depend on a seed and a position alone.

Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011)
turns a counter and a key into four words of 32 bits. The key is the seed as a double, its low word
first; the counter is the number i of the element in its tensor, in row-major order, in the first
two words. So element i is the same in every call, on every thread and in tensors of any size; and
two operators with the same seed draw the same numbers.

The uniform number of element i is u = floor((2^32 w0 + w1) / 2^11) / 2^53, the second one, v, the
same of w2 and w3. Everything is computed in float64 and then rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.operator import Call, Functor, Operand, Operator, Tensor, operator
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.elementwise import FLOATS, NUMBERS

__all__ = [
    "Bernoulli",
    "Multinomial",
    "RandomDropout",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "philox",
]

_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)


def philox(counter: Array, seed: float) -> tuple[Array, Array, Array, Array]:
    """Four words of 32 bits, as uint64, for each counter."""
    key = int(np.float64(seed).view(np.uint64))
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    counter = counter.astype(np.uint64)
    a, b = counter & _LOW, counter >> _WORD
    c = d = np.zeros_like(a)
    for _ in range(10):
        left, right = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, c = (right >> _WORD) ^ b ^ np.uint64(k0), (left >> _WORD) ^ d ^ np.uint64(k1)
        b, d = right & _LOW, left & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return a, b, c, d


def _uniform(high: Array, low: Array) -> Array:
    return np.asarray(((high << _WORD | low) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _uniforms(shape: Sequence[int], seed: float) -> tuple[Array, Array]:
    """u and v of each element."""
    size = int(np.prod(shape, dtype=np.int64))
    a, b, c, d = philox(np.arange(size), seed)
    return _uniform(a, b).reshape(shape), _uniform(c, d).reshape(shape)


class _Random(Operator):
    header: ClassVar[str] = "sofie/kernels/random.hxx"
    is_random: ClassVar[bool] = True
    is_rowwise: ClassVar[bool] = False
    seed: float


def _flat(operand: Operand) -> Tensor:
    return Tensor(operand, (operand.type.size,))


class _Normal(_Random):
    mean: float
    scale: float

    def drawn(self, shape: Sequence[int]) -> Array:
        u, v = _uniforms(shape, self.seed)
        radius = np.sqrt(-2 * np.log1p(-u))
        return np.asarray(self.mean + self.scale * radius * np.cos(2 * np.pi * v))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:  # noqa: ARG002
        law = Functor("sofie::NormalLaw", (float(self.mean), float(self.scale)))
        return Call("sofie::draw", (Functor("double", (float(self.seed),)), law, _flat(outputs[0])))


class _Uniform(_Random):
    low: float
    high: float

    def drawn(self, shape: Sequence[int]) -> Array:
        u, _ = _uniforms(shape, self.seed)
        return np.asarray(self.low + (self.high - self.low) * u)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:  # noqa: ARG002
        law = Functor("sofie::UniformLaw", (float(self.low), float(self.high)))
        return Call("sofie::draw", (Functor("double", (float(self.seed),)), law, _flat(outputs[0])))


def _rounded(exact: Array, dtype: np.dtype[Any]) -> Array:
    """Half precision is computed in float32."""
    return np.asarray(exact.astype(np.float32) if dtype.itemsize == 2 else exact, dtype)


def _accept_float(dtype: DType) -> DType:
    if dtype not in FLOATS:
        raise TypeMismatch(f"does not give {dtype}")
    return dtype


@operator(since=22, ulp=4, terms=8)
class RandomNormal(_Normal):
    """y[i] = mean + scale * sqrt(-2 ln(1 - u[i])) * cos(2 pi v[i])"""

    shape: Shape
    dtype: DType = DType.FLOAT32
    mean: float = 0.0
    scale: float = 1.0
    seed: float = 0.0

    def infer(self) -> TensorType:
        return TensorType(_accept_float(self.dtype), self.shape)

    def reference(self) -> Array:
        shape = [d for d in self.shape if isinstance(d, int)]
        return _rounded(self.drawn(shape), self.dtype.numpy)


@operator(since=22, ulp=4, terms=8)
class RandomNormalLike(_Normal):
    """y[i] = mean + scale * sqrt(-2 ln(1 - u[i])) * cos(2 pi v[i]), in the shape of x"""

    dtype: DType | None = None
    mean: float = 0.0
    scale: float = 1.0
    seed: float = 0.0

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(_accept_float(self.dtype or x.dtype), x.shape)

    def reference(self, x: Array) -> Array:
        return _rounded(self.drawn(x.shape), self.dtype.numpy if self.dtype else x.dtype)


@operator(since=22, ulp=4, terms=4)
class RandomUniform(_Uniform):
    """y[i] = low + (high - low) * u[i], which is less than high"""

    shape: Shape
    dtype: DType = DType.FLOAT32
    low: float = 0.0
    high: float = 1.0
    seed: float = 0.0

    def infer(self) -> TensorType:
        return TensorType(_accept_float(self.dtype), self.shape)

    def reference(self) -> Array:
        shape = [d for d in self.shape if isinstance(d, int)]
        return _rounded(self.drawn(shape), self.dtype.numpy)


@operator(since=22, ulp=4, terms=4)
class RandomUniformLike(_Uniform):
    """y[i] = low + (high - low) * u[i], which is less than high, in the shape of x"""

    dtype: DType | None = None
    low: float = 0.0
    high: float = 1.0
    seed: float = 0.0

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(_accept_float(self.dtype or x.dtype), x.shape)

    def reference(self, x: Array) -> Array:
        return _rounded(self.drawn(x.shape), self.dtype.numpy if self.dtype else x.dtype)


@operator(since=22)
class Bernoulli(_Random):
    """y[i] = 1 if u[i] < x[i], else 0: 1 with the probability x[i]"""

    dtype: DType | None = None
    seed: float = 0.0

    def infer(self, x: TensorType) -> TensorType:
        result = self.dtype or x.dtype
        if x.dtype not in FLOATS or result not in NUMBERS | {DType.BOOL}:
            raise TypeMismatch(f"does not make {result} of {x.dtype}")
        return TensorType(result, x.shape)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        seed = Functor("double", (float(self.seed),))
        return Call("sofie::bernoulli", (seed, _flat(outputs[0]), _flat(x)))

    def reference(self, x: Array) -> Array:
        u, _ = _uniforms(x.shape, self.seed)
        return np.asarray(u < x).astype(self.dtype.numpy if self.dtype else x.dtype)


@operator(since=22)
class Multinomial(_Random):
    """y[n, s] = the first class c where sum_k<=c e^x[n, k] > u[n, s] * sum_k e^x[n, k]"""

    dtype: DType = DType.INT32
    sample_size: int = 1
    seed: float = 0.0

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype not in FLOATS or self.dtype not in (DType.INT32, DType.INT64):
            raise TypeMismatch(f"does not draw {self.dtype} from {x.dtype}")
        if x.rank != 2 or x.shape[1] == 0 or self.sample_size < 0:
            raise ShapeError("draws a number of samples from x[n, classes]")
        return TensorType(self.dtype, (x.shape[0], self.sample_size))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        seed = Functor("double", (float(self.seed),))
        return Call("sofie::multinomial", (seed, Tensor(outputs[0]), Tensor(x)))

    def reference(self, x: Array) -> Array:
        u, _ = _uniforms((len(x), self.sample_size), self.seed)
        wide = x.astype(np.float64)
        grown = np.exp(wide - np.max(wide, axis=1, keepdims=True))
        below = np.cumsum(grown, axis=1)
        above = below[:, None, :] > (u * below[:, -1:])[:, :, None]
        last = np.where(np.any(above, axis=2), np.argmax(above, axis=2), x.shape[1] - 1)
        return np.asarray(last, self.dtype.numpy)


@operator(domain="sofie", ulp=2)
class RandomDropout(_Random):
    """y[i] = x[i] / (1 - ratio) where u[i] >= ratio, else 0; and where; x itself unless training"""

    seed: float = 0.0

    def infer(
        self, x: TensorType, ratio: TensorType, training: TensorType
    ) -> tuple[TensorType, TensorType]:
        if x.dtype not in FLOATS or ratio.dtype != DType.FLOAT64 or training.dtype != DType.BOOL:
            raise TypeMismatch("needs floating-point x, a ratio of float64, and training as a bool")
        if ratio.size != 1 or training.size != 1:
            raise ShapeError("needs one ratio, and one answer to whether to train")
        return x, TensorType(DType.BOOL, x.shape)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        tensors = [_flat(o) for o in (*outputs, *inputs) if o is not None]
        seed = Functor("double", (float(self.seed),))
        return Call("sofie::random_dropout", (seed, *tensors), outputs=2)

    def reference(self, x: Array, ratio: Array, training: Array) -> tuple[Array, Array]:
        share = ratio.reshape(()).astype(np.float64)
        if not training.reshape(()) or share == 0:
            return x, np.ones(x.shape, bool)
        u, _ = _uniforms(x.shape, self.seed)
        kept = np.asarray(u >= share)
        with np.errstate(divide="ignore"):
            scaled = x * x.dtype.type(1 / (1 - share))
        return np.where(kept, scaled, x.dtype.type(0)), kept
