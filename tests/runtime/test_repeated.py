"""Calls with arrays of the types and shapes of earlier ones: the same numbers and errors."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf import model as models
from sofie_rdf.bench.networks import dense
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.model import Model
from sofie_rdf.ops.elementwise import Add, Mul

pytest.importorskip("ROOT")
N = symbol("N")


def two() -> Model:
    """y = a + b and z = a * b, of rows of three."""
    build = Builder("two")
    a, b = (build.input(name, TensorType(DType.FLOAT32, (N, 3))) for name in "ab")
    return Model(build.graph(build(Add(), a, b, outputs=["y"]), build(Mul(), a, b, outputs=["z"])))


def rows(count: int, seed: int, width: int = 3) -> Any:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def right(found: Any, a: Any, b: Any) -> None:
    assert list(found) == ["y", "z"]
    np.testing.assert_array_equal(found["y"], a + b)
    np.testing.assert_array_equal(found["z"], a * b)


def test_what_is_known_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = two()
    right(model(rows(2, 1), rows(2, 2)), rows(2, 1), rows(2, 2))

    def refuse(*_: Any) -> None:
        raise AssertionError("inputs are bound again")

    monkeypatch.setattr(models, "bind_inputs", refuse)
    a, b = rows(2, 3), rows(2, 4)
    right(model(a, b), a, b)
    right(model({"b": b, "a": a}), a, b)
    right(model(b=b, a=a), a, b)


def test_sizes_in_changing_order_and_results_of_their_own() -> None:
    model, kept = two(), []
    for number, count in enumerate((2, 5, 1, 5, 2, 0, 2, 1)):
        a, b = rows(count, number), rows(count, number + 10)
        kept.append((model(a, b), a, b))
    for found, a, b in kept:
        right(found, a, b)


def test_arrays_that_are_different_in_memory() -> None:
    model, a, b = two(), rows(4, 1), rows(4, 2)
    right(model(a, b), a, b)
    frozen = a.copy()
    frozen.flags.writeable = False
    right(model(frozen, b), a, b)
    right(model(np.asfortranarray(a), b), a, b)
    right(model(np.repeat(a, 2, axis=1)[:, ::2], b), a, b)
    right(model(a.astype(">f4"), b), a, b)
    right(model(a.tolist(), b), a, b)
    right(model(np.ma.masked_array(a), b), a, b)
    right(model(a.astype(np.float16), b), a.astype(np.float16).astype(np.float32), b)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a, b: (a.astype(np.float64), b),
        lambda a, b: (a[:, :2], b),
        lambda a, b: (a[:2], b),
        lambda a, _: (a,),
        lambda a, b: (a, b, b),
        lambda a, b: ({"a": a, "c": b},),
        lambda a, _: (a, None),
    ],
)
def test_errors_stay(wrong: Any) -> None:
    model, a, b = two(), rows(4, 1), rows(4, 2)
    model(a, b)
    with pytest.raises(sofie.InputError):
        model(*wrong(a, b))
    right(model(a, b), a, b)


def test_nothing_is_compiled_for_inputs_that_are_wrong() -> None:
    model = two()
    with pytest.raises(sofie.InputError):
        model(rows(4, 1))
    assert "compiled" not in model.__dict__


def test_threads() -> None:
    model = sofie.from_onnx(dense([7, 50, 50, 2]))
    inputs = [rows(1 + i % 3, i, 7) for i in range(12)]
    expected = [model(x) for x in inputs]
    wrong = []

    def work(offset: int) -> None:
        for i in range(300):
            at = (i + offset) % len(inputs)
            if not np.array_equal(model(inputs[at]), expected[at]):
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
