"""Derivatives of hostile networks: what they need beside the tensors of the file is paid for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

import sofie_rdf as sofie
from sofie_rdf.uncertainty import with_uncertainty
from tests.hostile.test_bombs import model, node, value

LIMITS = "bytes=64M"


def stft() -> ModelProto:
    constants = {"step": np.int64(1), "length": np.int64(2**12)}
    nodes = [node("STFT", ["x", "step", "", "length"], ["y"])]
    return model(nodes, inputs=[value("x", [1, 2**14, 1])], constants=constants)


def half_spectrum() -> ModelProto:
    constants = {"length": np.int64(2**24), "axis": np.int64(1)}
    nodes = [node("DFT", ["x", "length", "axis"], ["y"], onesided=1, inverse=1)]
    return model(nodes, inputs=[value("x", [1, 8, 2])], constants=constants)


def smaller_image() -> ModelProto:
    """Half of many numbers: the way back is a product with a matrix of both sizes."""
    constants = {"scales": np.float32([1, 0.5])}
    nodes = [node("Resize", ["x", "", "scales"], ["y"], mode="linear")]
    return model(nodes, inputs=[value("x", [1, 2**13])], constants=constants)


def blocks() -> ModelProto:
    constants = {"image": np.array([64, 64]), "block": np.array([64, 64])}
    nodes = [node("Col2Im", ["x", "image", "block"], ["y"])]
    return model(nodes, inputs=[value("x", [1, 2**12, 1])], constants=constants)


def pooling() -> ModelProto:
    sizes: dict[str, Any] = {"kernel_shape": [2**13, 2**13], "pads": [2**12] * 4}
    return model([node("AveragePool", ["x"], ["y"], **sizes)], inputs=[value("x", [1, 1, 4, 4])])


def many_channels() -> ModelProto:
    nodes = [node("LRN", ["x"], ["y"], size=2**40 + 1)]
    return model(nodes, inputs=[value("x", [1, 4, 4, 4])])


CASES: dict[str, Callable[[], ModelProto]] = {
    "frames": stft,
    "half a spectrum": half_spectrum,
    "a smaller image": smaller_image,
    "blocks": blocks,
    "pooling": pooling,
    "channels": many_channels,
}


def read(proto: ModelProto) -> sofie.Model:
    return sofie.from_onnx(proto.SerializeToString(), limits=LIMITS)


@pytest.mark.parametrize("name", CASES)
def test_gradients_that_take_much_are_refused(name: str) -> None:
    """What a file says in a few bytes must not take gigabytes when it is differentiated."""
    found = read(CASES[name]())
    with pytest.raises(sofie.LimitExceeded, match="limit for this file"):
        _ = found.gradient("y", "x", vjp=True).emission


def test_one_number_of_many_needs_no_more_than_a_row() -> None:
    constants = {"scales": np.float32([1, 2**-13])}
    nodes = [node("Resize", ["x", "", "scales"], ["y"], mode="linear")]
    found = read(model(nodes, inputs=[value("x", [1, 2**13])], constants=constants))
    assert found.gradient("y", "x", vjp=True).emission


@pytest.mark.parametrize("size", [1, 3, 5])
def test_matrices_that_are_large_have_no_gradient(size: int) -> None:
    """A determinant is differentiated by its minors, of which there are more and more."""
    square = model([node("Det", ["x"], ["y"])], inputs=[value("x", ["N", size, size])])
    assert read(square).gradient("y", "x").outputs
    large = model([node("Det", ["x"], ["y"])], inputs=[value("x", ["N", 2**20, 2**20])])
    with pytest.raises(sofie.UnsupportedOperator, match="of at most"):
        read(large).gradient("y", "x")


def test_the_uncertainty_of_one_of_very_many_numbers() -> None:
    nodes = [node("Expand", ["x", "sizes"], ["y"])]
    wide = model(nodes, inputs=[value("x", ["N", 1])], constants={"sizes": np.array([1, 2**32])})
    with pytest.raises(sofie.LimitExceeded, match="an uncertainty of 'y'"):
        _ = with_uncertainty(read(wide), "s", "y[7]", ["x"], [[1.0]]).model.graph
    nodes = [node("Expand", ["x", "sizes"], ["e"]), node("Reshape", ["e", "shape"], ["y"])]
    wide = model(
        nodes,
        inputs=[value("x", ["N", 1])],
        constants={"sizes": np.array([1, 2**62]), "shape": np.array([0, 2**31, 2**31])},
    )
    with pytest.raises(sofie.LimitExceeded, match="an uncertainty of 'y'"):
        _ = with_uncertainty(read(wide), "s", "y[7]", ["x"], [[1.0]]).model.graph


def test_windows_of_more_numbers_than_64_bits_count() -> None:
    """So many are none, where they overflow."""
    constants = {"image": np.array([2**32, 2**32]), "block": np.array([2**32, 2**32])}
    nodes = [node("Col2Im", ["x", "image", "block"], ["y"])]
    proto = model(nodes, inputs=[value("x", [1, 8, 1])], constants=constants)
    with pytest.raises(sofie.ShapeError, match=f"{2**64}"):
        read(proto)
