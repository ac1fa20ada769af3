"""The weight file: compact, aligned, checked as a whole."""

from __future__ import annotations

import numpy as np
import pytest

from sofie_rdf.emit.weights import weight_file


def test_the_layout_is_as_described() -> None:
    tensors = [np.arange(5, dtype=np.float32), np.array([[1, 2]], np.int64), np.zeros((0, 3), bool)]
    data = weight_file(tensors)
    words = np.frombuffer(data, "<u8")
    assert data[:8] == b"SOFIEDAT"
    assert words[1] == 2
    assert words[2] == 3
    for i, tensor in enumerate(tensors):
        offset, nbytes = (int(w) for w in words[4 + 2 * i : 6 + 2 * i])
        assert offset % 64 == 0
        assert nbytes == tensor.nbytes
        found = np.frombuffer(data[offset : offset + nbytes], tensor.dtype)
        np.testing.assert_array_equal(found, tensor.ravel())
    assert int(words[3]) == (checksum(words[:3]) + checksum(words[4:])) % 2**64


def checksum(words: np.ndarray) -> int:
    """As cling/sofie/session/checksum.hxx says, word for word."""
    total = 8 * len(words)
    for place, word in enumerate(map(int, words), start=1):
        mixed = (word + place * 0x9E3779B97F4A7C15) % 2**64
        mixed = (mixed ^ mixed >> 32) * 0xD6E8FEB86659FD93 % 2**64
        total += mixed ^ mixed >> 32
    return total


def test_the_same_bit_that_is_wrong_in_several_words_is_seen() -> None:
    """A sum of multiples of words would not see two wrong signs, and many pairs of exponents."""
    tensor = np.random.default_rng(2).normal(size=64).astype(np.float32)
    words = np.frombuffer(weight_file([tensor])[64:], np.uint64)
    sound = checksum(words)
    for bit in (63, 62, 61, 31, 0):
        for first in range(8):
            for second in range(first + 1, len(words)):
                damaged = words.copy()
                damaged[[first, second]] ^= np.uint64(1 << bit)
                assert checksum(damaged) % 2**64 != sound % 2**64, (bit, first, second)


def test_big_endian_and_strided_arrays_are_stored_alike() -> None:
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    other = np.asfortranarray(plain).astype(">f4")
    assert weight_file([plain]) == weight_file([other])


def test_it_costs_hardly_more_than_the_numbers() -> None:
    big = np.zeros(1_000_000, np.float32)
    assert len(weight_file([big])) < 1.001 * big.nbytes
    assert len(weight_file([])) % 64 == 0


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64", "bool", "uint16"])
def test_every_type_keeps_its_bits(dtype: str) -> None:
    random = np.random.default_rng(1)
    values = random.integers(0, 255, size=24, dtype=np.uint8).view("uint8")
    tensor = (values % 2).astype(bool) if dtype == "bool" else values.view(dtype)
    data = weight_file([tensor])
    assert data.count(tensor.tobytes()) == 1
