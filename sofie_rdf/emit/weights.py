"""The weight file: the constants of the emitted code, in the order in which it numbers them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sofie_rdf.ir.types import Array

__all__ = ["weight_file"]

_MAGIC = b"SOFIEDAT"
_FORMAT = 1
_ALIGNMENT = 64
_HEAD = 32


def weight_file(tensors: Sequence[Array]) -> bytes:
    """The bytes of a weight file, as cling/sofie/weights.hxx describes and reads it."""
    table: list[int] = []
    position = _aligned(_HEAD + 16 * len(tensors))
    for tensor in tensors:
        table += [position, tensor.nbytes]
        position = _aligned(position + tensor.nbytes)
    listed = np.array(table, "<u8").view(np.uint8)
    parts = [_padded(listed, before=_HEAD)]
    parts += [_padded(_little_endian(tensor)) for tensor in tensors]
    total, word = 0, 0
    for part in (p for ps in parts for p in ps):
        total += _checksum(part, word)
        word += part.size // 8
    head = [int.from_bytes(_MAGIC, "little"), _FORMAT, len(tensors), total % 2**64]
    # The tensors may be many times what else there is in memory: this is their only copy.
    return b"".join([np.array(head, "<u8").tobytes(), *(p.data for ps in parts for p in ps)])


def _little_endian(tensor: Array) -> Array:
    """The bytes of a tensor, not copied where they are in this order already."""
    little = np.ascontiguousarray(tensor).astype(tensor.dtype.newbyteorder("<"), copy=False)
    return little.reshape(-1).view(np.uint8)


def _padded(data: Array, *, before: int = 0) -> list[Array]:
    """The bytes up to a multiple of 8, and the rest with zeros up to the next tensor."""
    whole = data.size // 8 * 8
    rest = np.zeros(_aligned(before + data.size) - before - whole, np.uint8)
    rest[: data.size - whole] = data[whole:]
    return [data[:whole], rest]


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT


# Words of which the sum is taken at once: they need memory of their own.
_BLOCK = 2**16


def _checksum(data: Array, first: int) -> int:
    """Sum of (2 i + 1) * word i, for words of which the first has this number."""
    words, total = data.view("<u8"), 0
    for start in range(0, words.size, _BLOCK):
        block = words[start : start + _BLOCK]
        begin = 2 * (first + start) + 1
        factors = np.arange(begin, begin + 2 * block.size, 2, dtype=np.uint64)
        total += int(np.sum(block * factors, dtype=np.uint64))
    return total
