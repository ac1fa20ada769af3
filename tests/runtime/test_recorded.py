"""`batch=`: columns that were computed many events at once, with the bits of single events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import sofie_rdf as sofie
from sofie_rdf.errors import ColumnError, InputError
from sofie_rdf.passes import rows
from tests.runtime.conftest import Threads
from tests.runtime.counted import Counted, Counting
from tests.runtime.test_objects import linear, network, same
from tests.runtime.test_semantics import frame, lists, once, varied

ROOT = pytest.importorskip("ROOT")


@pytest.fixture(scope="module")
def apart() -> Iterator[Counting]:
    """The model that counts, of which it is known that its rows keep apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rows._RULES, Counted, rows._broadcast)
        patch.setenv("SOFIE_RDF_CACHE", "off")
        yield Counting(ROOT)


@pytest.fixture
def counting(apart: Counting) -> Counting:
    apart.seen()
    return apart


def wide(events: int) -> Any:
    """x, y, z of many digits; n is 0 to 4 objects v and w."""
    df = ROOT.RDataFrame(events).Define("x", "std::sin(1.f + rdfentry_)")
    df = df.Define("y", "std::cos(0.5 + rdfentry_)").Define("z", "int(rdfentry_ % 7)")
    df = df.Define(
        "v", "ROOT::RVecF r(rdfentry_ % 5); for (auto &e : r) e = x + (&e - &r[0]); return r;"
    )
    return df.Define("w", "ROOT::RVecD(v.size(), y)")


def alike(df: Any, model: sofie.Model, *arguments: Any, **options: Any) -> None:
    """The same bits with and without batch=."""
    names = {"a": options.pop("output", "")}
    wanted = sofie.define(df, names, model, *arguments, **options).AsNumpy(["a"])["a"]
    for batch in (1, 4, 64):
        made = sofie.define(df, names, model, *arguments, batch=batch, **options)
        found = made.AsNumpy(["a"])["a"]
        assert len(found) == len(wanted) > 0
        assert found.dtype == wanted.dtype
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


# When it runs -------------------------------------------------------------------------------------


def test_the_model_runs_in_a_loop_of_its_own(counting: Counting) -> None:
    df = sofie.define(frame(100), "y", counting.model, ["x"], batch=32)
    assert counting.seen() == once(*range(100))
    assert df.Sum("y").GetValue() == 4950
    assert df.Filter("x > 10").Max("y").GetValue() == 99
    assert counting.seen() == {}


def test_so_many_rows_are_one_call(counting: Counting) -> None:
    sofie.define(frame(100), "y", counting.model, ["x"], batch=32)
    assert counting.calls() == 4
    # Objects of several events; two each.
    df = sofie.define(frame(100), "y", counting.model, ["v"], batch=32)
    assert counting.calls() == 7
    assert lists(df, "y")[17] == [17, 27]


def test_events_that_do_not_come_are_not_computed(counting: Counting) -> None:
    df = frame(100).Filter("x < 20")
    df = sofie.define(df, "y", counting.model, ["x"], where="x != 3", default=-1, batch=64)
    assert counting.seen() == once(*(i for i in range(20) if i != 3))
    assert df.Sum("y").GetValue() == 190 - 3 - 1
    assert counting.seen() == {}


@pytest.mark.parametrize("count", [2, 3])
def test_on_threads(counting: Counting, threads: Threads, count: int) -> None:
    with threads(count):
        df = sofie.define(frame(4000), "y", counting.model, ["x"], batch=64)
        assert counting.seen() == once(*range(4000))
        assert df.Sum("y").GetValue() == 4000 * 3999 / 2
        assert df.Filter("y != x").Count().GetValue() == 0
    assert counting.seen() == {}


def test_variations_run_event_by_event(counting: Counting) -> None:
    df = frame().Vary("x", "ROOT::RVecF{x + 100, x + 200}", ["a", "b"])
    df = sofie.define(df, "y", counting.model, ["x"], batch=4)
    assert counting.seen() == once(*range(5))
    assert varied(df.Sum("y")) == {"nominal": 10, "x:a": 510, "x:b": 1010}
    assert counting.seen() == once(*(n + k for n in range(5) for k in (100, 200)))


def test_columns_that_are_others_in_the_next_loop(counting: Counting) -> None:
    ROOT.gInterpreter.Declare("namespace recorded { float n = 0; float next() { return n++; } }")
    df = ROOT.RDataFrame(5).Define("x", "recorded::next()")
    df = sofie.define(df, "y", counting.model, ["x"], batch=4)
    assert counting.seen() == once(*range(5))
    assert df.Sum("y").GetValue() == 5 + 6 + 7 + 8 + 9
    assert counting.seen() == once(*range(5, 10))


def test_equal_events_are_all_there(counting: Counting) -> None:
    df = ROOT.RDataFrame(1000).Define("x", "float(rdfentry_ % 3)")
    df = sofie.define(df, "y", counting.model, ["x"], batch=8)
    counting.seen()
    assert df.Sum("y").GetValue() == 999
    assert counting.seen() == {}


# The numbers --------------------------------------------------------------------------------------


def test_events() -> None:
    alike(wide(333), linear(), ["x", "y", "z"])
    alike(wide(50), linear(), ["x", 2, "z"], where="z > 2", default=7)
    alike(wide(50), linear(), ["z > 3 ? NAN : x", "y", "z"], nan=5)
    alike(wide(50), linear(), ["z > 3 ? NAN : x", "y", "z"])
    df = sofie.define(wide(0), "a", linear(), ["x", "y", "z"], batch=64)
    assert df.Count().GetValue() == 0 == df.Sum("a").GetValue()


@pytest.mark.exhaustive
def test_objects() -> None:
    alike(wide(333), linear(), ["v", "w", "z"])
    alike(wide(333), linear(), ["v", "w", "z"], where="z > 2")


@pytest.mark.exhaustive
def test_rows_of_several_numbers_and_inputs() -> None:
    nodes = [helper.make_node("Concat", ["a", "b"], ["c"], axis=1)]
    nodes += [helper.make_node("Greater", ["a", "b"], ["d"])]
    outputs = {"c": ["N", 4], "d": (TensorProto.BOOL, ["N", 2])}
    model = network(nodes, {"a": ["N", 2], "b": ["N", 2]}, outputs)
    columns = {"a": ["x", "y"], "b": ["z", "x"]}
    for output in ("c", "d", "c[3]", "argmax(c)"):
        alike(wide(100), model, columns, output=output)
    both = {"c": "c", "m": "argmax(c)", "d1": "d[1]"}
    wanted = sofie.define(wide(100), both, model, columns).Define("s", "Sum(c) + m + d1").Sum("s")
    found = sofie.define(wide(100), both, model, columns, batch=16)
    assert found.Define("s", "Sum(c) + m + d1").Sum("s").GetValue() == wanted.GetValue()


@pytest.mark.exhaustive
def test_sets_of_a_fixed_length() -> None:
    model = same({"s": ["N", 3, 2], "m": ["N", 1, 3]})
    options = {"pad": -1, "truncate": True, "mask": "m", "order_by": "v"}
    for output in ("of_s", "of_m"):
        alike(wide(100), model, {"s": ["v", "w"]}, output=output, **options)


def test_in_the_place_of_an_input() -> None:
    df = sofie.define(wide(20), "x", linear(), ["x", "y", "z"], redefine=True, batch=8)
    wanted = sofie.define(wide(20), "x", linear(), ["x", "y", "z"], redefine=True)
    assert lists(df, "x") == lists(wanted, "x")


# What cannot be -----------------------------------------------------------------------------------


def test_what_is_refused() -> None:
    columns = ["x", "y", "z"]
    for batch in (-1, 2.5, True, "many"):
        with pytest.raises(InputError, match="no number of rows"):
            sofie.define(wide(5), "a", linear(), columns, batch=batch)  # type: ignore[arg-type]
    mixed = [helper.make_node("CumSum", ["x", "zero"], ["y"])]
    model = network(mixed, {"x": ["N", 3]}, {"y": ["N", 3]}, zero=np.array(0))
    with pytest.raises(InputError, match="one row of model 'net' changes"):
        sofie.define(wide(5), "a", model, columns, batch=64)
    fixed = network([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 3]}, {"y": [1, 3]})
    with pytest.raises(InputError, match="one row at a time"):
        sofie.define(wide(5), "a", fixed, columns, batch=64)
    with pytest.raises(InputError, match="a length of their own"):
        sofie.define(wide(5), "a", same({"s": ["N", "P", 2]}), ["v", "w"], batch=64)


def test_errors_end_the_first_loop() -> None:
    df = wide(5).Redefine("y", "rdfentry_ == 3 ? NAN : y")
    with pytest.raises(Exception, match="entry 3: column 'y' is NaN"):
        sofie.define(df, "a", linear(), ["x", "y", "z"], nan="error", batch=64)
    with pytest.raises(ColumnError, match="no column 'nothing'"):
        sofie.define(wide(5), "a", linear(), ["x", "y", "nothing"], batch=64)
