"""Indices that are data: one that does not exist is an error, wherever it stands."""

from __future__ import annotations

import numpy as np
import pytest

from sofie_rdf.errors import SofieError
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.model import Model
from sofie_rdf.ops.indexing import Gather, GatherElements
from tests.passes.graphs import Net

RNG = np.random.default_rng(11)
ROWS, COLUMNS = 3, 21


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("element", [DType.FLOAT32, DType.FLOAT64, DType.UINT8], ids=str)
@pytest.mark.parametrize("index", [DType.INT32, DType.INT64], ids=str)
def test_an_index_that_does_not_exist(index: DType, element: DType, axis: int) -> None:
    size = (ROWS, COLUMNS)[axis]
    b = Net()
    b.input("x", TensorType(element, (ROWS, COLUMNS)))
    b.input("at", TensorType(index, (ROWS, COLUMNS)))
    b.op(GatherElements(axis), "x", "at", name="elements")
    b.op(Gather(axis), "x", "at", name="slices")
    models = [Model(b.graph(name)) for name in ("elements", "slices")]
    x = RNG.integers(0, 100, (ROWS, COLUMNS)).astype(element.numpy)
    good = RNG.integers(-size, size, (ROWS, COLUMNS)).astype(index.numpy)
    expected = [np.take_along_axis(x, good.astype(int), axis), np.take(x, good, axis)]
    wrong = [size, -size - 1, np.iinfo(index.numpy).max, np.iinfo(index.numpy).min]
    if index is DType.INT64:
        wrong.append(2**32 + 1)
    for place in np.ndindex(ROWS, COLUMNS):
        bad = good.copy()
        bad[place] = wrong[sum(place) % len(wrong)]
        for model, exact in zip(models, expected, strict=True):
            with pytest.raises(SofieError, match="does not exist among"):
                model({"x": x, "at": bad})
            np.testing.assert_array_equal(model({"x": x, "at": good}), exact)
