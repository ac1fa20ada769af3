"""What users hand over: right numbers, or an error; never other ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.given import in_order
from sofie_rdf.ir.types import DType
from tests.frontends.test_normalization import same

ROOT = pytest.importorskip("ROOT")
N = symbol("N")
MODEL = same(x=(N, 2)).named(features=["pt", "eta"])
SET = same(x=(N, symbol("n_pf"), 2))
INTS = {kind: same(DType(kind), x=(N, 2)) for kind in ("int8", "uint8", "int64")}


def refused(words: str, action: Any, *arguments: Any, **named: Any) -> None:
    with pytest.raises((sofie.InputError, sofie.ColumnError)) as caught:
        action(*arguments, **named)
    assert words in str(caught.value)


def frame() -> Any:
    return ROOT.RDataFrame(3).Define("a", "1. * rdfentry_").Define("b", "2. * rdfentry_")


# Sets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [set, frozenset])
def test_sets_have_no_order(kind: Any) -> None:
    words, columns = "is a set, which has no order", kind(["a", "b"])
    refused(words, MODEL.define, frame(), "y", columns)
    refused(words, MODEL.define, frame(), "y", {"x": columns})
    refused(words, MODEL.score, {"a": np.ones(3), "b": np.ones(3)}, columns)
    refused(words, MODEL.score, {"x": kind([1.0, 2.0])})
    refused(words, MODEL.named, features=columns)
    refused(words, MODEL.named, features={"x": columns})
    refused(words, MODEL.named, labels=columns)
    refused(words, SET.define, frame(), "y", ["a", "b"], lengths={"n_pf": kind([2, 3])})
    refused(words, sofie.SofieFunctor, MODEL, 1, types=kind(["float", "double"]))
    refused(words, MODEL.precision_loss, np.ones((3, 2), "f4"), precisions=kind(["int8"]))
    refused("is a set", MODEL, kind([1.0, 2.0]))


@pytest.mark.parametrize("columns", [5, b"ab", object()])
def test_what_is_no_list_of_columns(columns: Any) -> None:
    refused("columns= as a list", MODEL.define, frame(), "y", columns)
    refused("columns= as a list", MODEL.score, {"a": np.ones(3)}, columns)


def test_whatever_has_an_order_is_a_list() -> None:
    """Views of dicts, generators, arrays of texts."""
    wanted = {"a": 1, "b": 2}
    for columns in (wanted.keys(), (c for c in wanted), np.array(["a", "b"]), ("a", "b")):
        found = MODEL.define(frame(), "y", columns).AsNumpy(["y"])["y"]
        np.testing.assert_array_equal([list(row) for row in found], [[0, 0], [1, 2], [2, 4]])
    assert in_order(wanted.keys(), "") == ["a", "b"]
    assert MODEL.named(features=(n for n in ("u", "v"))).features == {"x": ("u", "v")}
    found = MODEL.define(frame(), "y", ["a", np.float32(0.5)]).AsNumpy(["y"])["y"]
    np.testing.assert_array_equal([row[1] for row in found], [0.5] * 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lengths": {"n_pf": (1, 2, 3)}}, "lengths= gives 'n_pf'"),
        ({"lengths": {"n_pf": "12"}}, "lengths='n_pf' must be a list"),
        ({"lengths": {"n_pf": (1.5, 3)}}, "lengths= gives 'n_pf'"),
        ({"pad": {1.0, 2.0}}, "pad= is a set"),
        ({"pad": ["x", 1]}, "pad= needs a number"),
        ({"pad": 10**400}, "pad= needs a number"),
        ({"nan": None}, "nan= needs a number"),
        ({"default": "x"}, "default= needs a number"),
    ],
)
def test_options_that_are_none(options: Any, words: str) -> None:
    df = frame().Define("v", "ROOT::RVecF{1, 2}")
    refused(words, SET.define, df, "y", ["v", "v"], **options)


# Arrays -------------------------------------------------------------------------------------------

MASKED = np.ma.MaskedArray(np.ones((3, 2), np.float32), mask=[[0, 1], [0, 0], [0, 0]])


def test_masked_elements_are_refused() -> None:
    """NumPy would take what is behind the mask."""
    words = "has masked elements"
    refused(words, MODEL, MASKED)
    refused(words, MODEL, x=MASKED)
    refused(words, MODEL, [MASKED[0], MASKED[1]])
    refused(words, MODEL.precision_loss, MASKED)
    labels = np.ma.MaskedArray([0, 1, 1], mask=[1, 0, 0])
    refused(words, MODEL.precision_loss, np.ones((3, 2), "f4"), labels=labels)
    where = np.ma.MaskedArray([True, True, True], mask=[0, 0, 1])
    events = {"pt": np.ones(3), "eta": np.ones(3)}
    refused(words, MODEL.score, events, where=where)
    np.testing.assert_array_equal(MODEL(np.ma.MaskedArray(MASKED.data)), np.ones((3, 2)))


def test_masked_elements_are_none_for_score() -> None:
    """And where= leaves them out."""
    awkward = pytest.importorskip("awkward")
    refused("has a None", MODEL.score, MASKED)
    events = {"pt": MASKED[:, 0], "eta": MASKED[:, 1]}
    refused("entry 0: column 'eta' has a None", MODEL.score, events)
    found = MODEL.score(events, where=np.array([False, True, True]))
    np.testing.assert_array_equal(awkward.to_numpy(found)[1:], np.ones((2, 2)))
    missing = awkward.Array([True, None, True])
    refused("where=", MODEL.score, {"pt": np.ones(3), "eta": np.ones(3)}, where=missing)


class Derived(np.ndarray[Any, Any]):
    """A class of arrays as others make them."""


class Table:
    """What looks like a table of pandas."""

    def __init__(self, values: Any, columns: list[str]) -> None:
        self.values, self.columns = values, columns

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if isinstance(self.values, Exception):
            raise self.values
        return np.asarray(self.values, dtype)


def test_tables_with_the_features_elsewhere() -> None:
    np.testing.assert_array_equal(MODEL(Table([[1.0, 2.0]], ["pt", "eta"])), [[1, 2]])
    refused("in another order", MODEL, Table([[1.0, 2.0]], ["eta", "pt"]))
    np.testing.assert_array_equal(MODEL(Table([[1.0, 2.0]], ["u", "v"])), [[1, 2]])
    for error in (RuntimeError("requires grad"), TypeError("BFloat16"), ValueError()):
        refused("input 'x' is no array", MODEL, Table(error, ["pt", "eta"]))


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1, 2]], object),
        np.ones((1, 2), np.complex64),
        np.zeros((1, 2), "M8[s]"),
        np.zeros((1, 2), "m8[s]"),
        np.array([["1", "2"]]),
        np.array([[b"1", b"2"]]),
        np.zeros(1, [("u", "f4"), ("v", "U3")]),
        None,
        b"ab",
        object(),
        (i for i in range(2)),
        [[1, 2], [3]],
        [[10**400, 1]],
    ],
    ids=lambda a: f"{type(a).__name__} {getattr(a, 'dtype', '')}",
)
def test_what_is_no_array_of_numbers(array: Any) -> None:
    refused("", MODEL, array)
    refused("", MODEL.score, array)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1, 0]], ">f4"),
        np.array([[1, 0]], np.int8),
        np.array([[1, 0]], bool),
        np.array([[1, 0]], np.float32).view(Derived),
        np.asfortranarray(np.array([[1, 0]], np.float32)),
        [[1, 0]],
        [[True, False]],
        [(np.float64(1), np.int64(0))],
    ],
    ids=lambda a: f"{type(a).__name__} {getattr(a, 'dtype', '')}",
)
def test_arrays_that_have_the_numbers(array: Any) -> None:
    np.testing.assert_array_equal(MODEL(array), [[1, 0]])
    if isinstance(array, np.ndarray):
        np.testing.assert_array_equal(MODEL.score(array), [[1, 0]])


@pytest.mark.parametrize(
    ("model", "numbers", "wrong"),
    [
        (MODEL, [[1.0, 2**24 + 1]], ""),
        (MODEL, [[1, 2**24 + 1]], "16777217"),
        (MODEL, [[1, 2**63 - 1]], "9223372036854775807"),
        (MODEL, [[1.0, 1e300]], "1e+300"),
        (MODEL, [[1.0, float("inf")]], ""),
        (INTS["int8"], [[1, 300]], "300"),
        (INTS["int8"], [[1, -128]], ""),
        (INTS["uint8"], [[1, 256]], "256"),
        (INTS["int64"], [[2**63, 2**63]], "9223372036854775808"),
        (INTS["int64"], [[1, -(2**63)]], ""),
    ],
)
def test_numbers_in_lists_that_the_type_does_not_have(model: Any, numbers: Any, wrong: str) -> None:
    if wrong:
        refused(f"does not have the number {wrong}", model, numbers)
    else:
        want = np.array(numbers).astype(model.inputs["x"].dtype.numpy)
        np.testing.assert_array_equal(model(numbers), want)
