"""Kernels that ask whether numbers are finite find the one that is not, wherever it stands."""

from __future__ import annotations

import numpy as np
import pytest

from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.convolution_small import SmallConv
from sofie_rdf.ops.quantization import DynamicQuantizeLinear
from sofie_rdf.runtime.compile.session import compile_graph


@pytest.mark.parametrize("numbers", [1, 7, 75])
def test_a_tap_that_is_none_hides_infinity(numbers: int) -> None:
    build = Builder("small")
    x = build.input("x", TensorType(DType.FLOAT32, (symbol("N"), numbers)))
    # The first result has all taps, the second one none.
    w = build.constant(np.tile(np.array([1, -0.0], np.float32), (numbers, 1)), "w")
    b = build.constant(np.array([0, 3], np.float32), "b")
    model = compile_graph(build.graph(build(SmallConv((2,)), x, w, b)))
    for place in range(numbers):
        row = np.ones((1, numbers), np.float32)
        row[0, place] = np.inf
        (y,) = model.infer({"x": row}, {"N": 1}).values()
        assert y.tolist() == [[np.inf, 3]], place


@pytest.mark.parametrize("numbers", [7, 40, 131])
def test_one_nan_is_the_scale(numbers: int) -> None:
    build = Builder("quantized")
    x = build.input("x", TensorType(DType.FLOAT32, (numbers,)))
    results = ("y", "scale", "zero")
    build(DynamicQuantizeLinear(), x, outputs=results)
    model = compile_graph(build.graph(*results))
    for place in range(numbers):
        given = np.linspace(-1, 4, numbers, dtype=np.float32)
        given[place] = np.nan
        _, scale, zero = model.infer({"x": given}, {}).values()
        assert np.isnan(scale) and zero == 0, place
        given[place] = 50  # Nothing else is as large.
        _, scale, zero = model.infer({"x": given}, {}).values()
        least = np.float32(min(given.min(), 0))
        assert scale == (np.float32(50) - least) / np.float32(255), place
        assert zero == np.rint(-least / scale), place
