"""The weight file: the constants of the emitted code, in the order in which it numbers them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sofie_rdf.ir.types import Array

__all__ = ["weight_file"]

_MAGIC = b"SOFIEDAT"
_FORMAT = 2
_ALIGNMENT = 64
_HEAD = 32


def weight_file(tensors: Sequence[Array]) -> bytes:
    """The bytes of a weight file, as cling/sofie/session/weights.hxx describes and reads it."""
    table: list[int] = []
    position = _aligned(_HEAD + 16 * len(tensors))
    for tensor in tensors:
        table += [position, tensor.nbytes]
        position = _aligned(position + tensor.nbytes)
    listed = np.array(table, "<u8").view(np.uint8)
    parts = [_padded(listed, before=_HEAD)]
    parts += [_padded(_little_endian(tensor)) for tensor in tensors]
    head = [int.from_bytes(_MAGIC, "little"), _FORMAT, len(tensors)]
    total = _checksum([np.array(head, "<u8").view(np.uint8)])
    total += _checksum([p for ps in parts for p in ps])
    head.append(total % 2**64)
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
_STEP, _FACTOR, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93), np.uint64(32)


def _checksum(parts: Sequence[Array]) -> int:
    """The sum of mixed words of parts of whole words, as session/checksum.hxx describes it."""
    total = sum(part.size for part in parts)
    place = 1
    for part in parts:
        words = part.view("<u8")
        for start in range(0, words.size, _BLOCK):
            block = words[start : start + _BLOCK]
            mixed = block + np.arange(place, place + block.size, dtype=np.uint64) * _STEP
            mixed = (mixed ^ (mixed >> _HALF)) * _FACTOR
            total += int(np.sum(mixed ^ (mixed >> _HALF), dtype=np.uint64))
            place += block.size
    return total
