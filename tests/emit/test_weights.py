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
    assert words[1] == 1
    assert words[2] == 3
    for i, tensor in enumerate(tensors):
        offset, nbytes = (int(w) for w in words[4 + 2 * i : 6 + 2 * i])
        assert offset % 64 == 0
        assert nbytes == tensor.nbytes
        found = np.frombuffer(data[offset : offset + nbytes], tensor.dtype)
        np.testing.assert_array_equal(found, tensor.ravel())
    factors = np.arange(1, 2 * len(words[4:]), 2, dtype=np.uint64)
    assert words[3] == np.sum(words[4:] * factors, dtype=np.uint64)


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
