"""Sizes in Cling: worked out by the graph itself, and checked where only the run can tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import InputError
from sofie_rdf.ir.dims import evaluate
from sofie_rdf.ir.types import Array
from tests.frontends.models import model, node
from tests.frontends.test_shape_arithmetic import KNOWN, SHAPES, gathered
from tests.runtime.agreement import agree, outputs_of

pytest.importorskip("ROOT")
pytest.importorskip("onnxruntime")


def numbers(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", list(SHAPES))
def test_a_shape_that_is_worked_out(name: str) -> None:
    text, shape = SHAPES[name]
    nodes = [
        node("Shape", "x", "s"),
        *text,
        node("Tanh", "x", "before"),
        node("Reshape", "before t", "between"),
        node("Exp", "between", "y"),
    ]
    proto = model(nodes, {"x": ["N", "M", 4]}, "y", KNOWN, opset=18)
    compiled = agree(proto, *[{"x": numbers(n, m, 4)} for n, m in ((3, 5), (1, 1), (16, 7))])
    # Some of these are nothing to onnxruntime.
    wanted = tuple(evaluate(d, {"N": 2, "M": 0}) for d in shape)
    assert outputs_of(compiled, {"x": numbers(2, 0, 4)})["y"].shape == wanted


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Concat", "four s", "t", axis=0), node("Expand", "x t", "y")],
        [node("ConstantOfShape", "s", "o"), node("Add", "o x", "y")],
        [node("Tile", "x s", "y")],
        [
            *gathered("zero", "n"),
            node("Div", "n pair", "half"),
            node("Slice", "x half n first", "y"),
        ],
        [
            node("Gather", "s zero", "n"),
            node("Range", "zero n two", "even"),
            node("Gather", "x even", "y", axis=0),
        ],
    ],
    ids=["Expand", "ConstantOfShape", "Tile", "Slice", "Range"],
)
def test_operators_that_take_sizes(nodes: list[Any]) -> None:
    proto = model([node("Shape", "x", "s"), *nodes], {"x": ["N", "M"]}, "y", KNOWN, opset=18)
    agree(proto, *[{"x": numbers(n, m)} for n, m in ((5, 3), (4, 1), (1, 2), (0, 3))])


# Checks -------------------------------------------------------------------------------------------


def test_axes_of_one_size() -> None:
    """Not what ONNX would broadcast where one of them is 1 now: that is an error, and said so."""
    proto = model([node("Add", "a b", "y")], {"a": ["N", 3], "b": ["M", 3]})
    compiled = agree(proto, *[{"a": numbers(n, 3), "b": numbers(n, 3)} for n in (4, 1, 0)])
    for n in (1, 5):
        with pytest.raises(InputError, match=f"axis 0 is {n} and not N = 4"):
            compiled(a=numbers(4, 3), b=numbers(n, 3))


def concatenated(times_a: int, times_b: int) -> sofie.Model:
    """a, so often, plus b, so often."""
    nodes = [
        node("Concat", " ".join("a" * times_a), "p", axis=0),
        node("Concat", " ".join("b" * times_b), "q", axis=0),
        node("Add", "p q", "y", "sum"),
    ]
    proto = model(nodes, {"a": ["N", 3], "b": ["M", 3]})
    calls = [{"a": numbers(times_b * k, 3), "b": numbers(times_a * k, 3)} for k in (1, 4, 0, 2)]
    return agree(proto, *calls)


@pytest.mark.parametrize(
    ("times", "equation"), [((2, 1), "M = 2\\*N"), ((2, 3), "2\\*N = 3\\*M")], ids=str
)
def test_sizes_that_must_agree(times: tuple[int, int], equation: str) -> None:
    compiled = concatenated(*times)
    right = {"a": numbers(times[1] * 3, 3), "b": numbers(times[0] * 3, 3)}
    before = compiled(right)
    # Fewer and more than what is needed, and the least that there can be.
    for wrong in (1, times[0] * 3 - 1, times[0] * 3 + 1, 0):
        with pytest.raises(InputError, match=f"^test: sum needs {equation}$"):
            compiled(a=right["a"], b=numbers(wrong, 3))
    np.testing.assert_array_equal(compiled(right), before)


def test_a_size_that_must_be_a_known_number() -> None:
    nodes = [node("Concat", "a a", "p", axis=0), node("Add", "p w", "y", "sum")]
    proto = model(nodes, {"a": ["N", 3]}, "y", {"w": numbers(6, 3)})
    compiled = agree(proto, {"a": numbers(3, 3)})
    for wrong in (0, 1, 2, 4, 6):
        with pytest.raises(InputError, match="sum needs"):
            compiled(numbers(wrong, 3))


def test_a_shape_that_does_not_hold_the_elements() -> None:
    """N + 1 rows: there must be so many elements that they are all filled."""
    text = [
        node("Shape", "x", "s"),
        *gathered("zero", "n"),
        node("Add", "n second", "more"),
        node("Concat", "more minus", "t", axis=0),
        node("Reshape", "x t", "y", "rows"),
    ]
    proto = model(text, {"x": ["N", "M", 4]}, "y", KNOWN)
    compiled = agree(proto, {"x": numbers(3, 5, 4)}, {"x": numbers(1, 1, 4)})
    with pytest.raises(InputError, match="rows needs"):
        compiled(numbers(4, 1, 4))


def test_checks_stay_where_the_passes_merge_aliases() -> None:
    """The result does not tell that the sizes were to agree; the check is made all the same."""
    nodes = [
        node("Concat", "a a", "p", axis=0),
        node("Concat", "b b b", "q", axis=0),
        node("Sub", "p q", "d", "sum"),
        node("Flatten", "d", "flat", axis=0),
        node("Identity", "flat", "same"),
        node("Squeeze", "same first", "y"),
    ]
    proto = model(nodes, {"a": ["N", 2], "b": ["M", 2]}, "y", KNOWN)
    compiled = agree(proto, {"a": numbers(6, 2), "b": numbers(4, 2)})
    with pytest.raises(InputError, match="sum needs"):
        compiled(a=numbers(6, 2), b=numbers(3, 2))
