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
    data = np.zeros(position, np.uint8)
    words = data.view("<u8")
    words[4 : 4 + len(table)] = table
    for tensor, offset in zip(tensors, table[::2], strict=True):
        little = np.ascontiguousarray(tensor).astype(tensor.dtype.newbyteorder("<"), copy=False)
        data[offset : offset + tensor.nbytes] = np.frombuffer(little.tobytes(), np.uint8)
    words[:4] = [int.from_bytes(_MAGIC, "little"), _FORMAT, len(tensors), _checksum(words[4:])]
    return data.tobytes()


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT


def _checksum(words: Array) -> int:
    """Sum of (2 i + 1) * word i, modulo 2^64"""
    factors = np.arange(1, 2 * words.size, 2, dtype=np.uint64)
    return int(np.sum(words * factors, dtype=np.uint64))
