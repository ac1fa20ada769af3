"""What RDataFrame promises of any column holds for a model's: each number below was counted.

The model copies its input and notes what it has seen (`counted.py`), so an event that is computed
twice, or that nobody needs, cannot hide.
"""

from __future__ import annotations

from typing import Any

import pytest

import sofie_rdf as sofie
from tests.runtime.conftest import Threads
from tests.runtime.counted import Counting

ROOT = pytest.importorskip("ROOT")


def frame(events: int = 5) -> Any:
    """x = 0, 1, 2, ...; w = 1; v = {x, x + 10}"""
    df = ROOT.RDataFrame(events).Define("x", "float(rdfentry_)").Define("w", "1.f")
    return df.Define("v", "ROOT::RVecF{x, x + 10}")


def lists(df: Any, column: str) -> list[Any]:
    found = df.AsNumpy([column])[column]
    return [list(v) if hasattr(v, "__len__") else float(v) for v in found]


def varied(result: Any) -> dict[str, float]:
    """The result for each variation."""
    found = ROOT.RDF.Experimental.VariationsFor(result)
    return {str(key): found[key] for key in found.GetKeys()}


def once(*numbers: int) -> dict[int, int]:
    return dict.fromkeys(numbers, 1)


# When it runs -------------------------------------------------------------------------------------


def test_nothing_runs_before_the_loop_nor_for_nobody(counting: Counting) -> None:
    df = sofie.define(frame(), "y", counting.model, ["x"])
    total = df.Sum("y")
    unused = df.Sum("w")
    assert counting.seen() == {}
    assert unused.GetValue() == 5
    # One loop makes both results, and asking again makes none.
    assert counting.seen() == once(0, 1, 2, 3, 4)
    assert total.GetValue() == 10
    assert counting.seen() == {}
    assert df.Sum("w").GetValue() == 5
    assert counting.seen() == {}


@pytest.mark.parametrize("count", [0, 2])
def test_once_for_each_event_whoever_asks(counting: Counting, threads: Threads, count: int) -> None:
    with threads(count):
        df = sofie.define(frame(200), "y", counting.model, ["x"])
        kept = df.Filter("x >= 120")
        more = kept.Filter("y < 150").Define("z", "y * 2")
        results = [kept.Sum("y"), more.Sum("z"), more.Max("y"), kept.Filter("y > 190").Count()]
        assert results[3].GetValue() == 9
        assert [r.GetValue() for r in results[:3]] == [80 * 159.5, 60 * 134.5, 149]
    # Not for what a Filter has left out, and once for all that ask.
    assert counting.seen() == once(*range(120, 200))


def test_several_outputs_are_one_run(counting: Counting) -> None:
    df = sofie.define(frame(), {"y": "y", "z": "y[0]"}, counting.model, ["x"], where="x != 3")
    assert df.Filter("x > 1").Define("s", "y + z").Filter("s == s").Sum("s").GetValue() == 12
    assert counting.seen() == once(2, 4)
    objects = sofie.define(frame(), "y", counting.model, ["v"])
    assert objects.Filter("x < 2").Define("s", "Sum(y)").Sum("s").GetValue() == 22
    assert counting.calls() == 2


# Variations ---------------------------------------------------------------------------------------


def test_only_what_varies_is_computed_again(counting: Counting) -> None:
    df = frame().Vary("x", "ROOT::RVecF{x + 100, x + 200}", ["a", "b"])
    df = df.Vary("w", "ROOT::RVecF{2, 3, 4}", ["c", "d", "e"])
    df = sofie.define(df, "y", counting.model, ["x"]).Define("z", "y * w")
    found = varied(df.Sum("z"))
    assert found == {
        "nominal": 10,
        "x:a": 510,
        "x:b": 1010,
        "w:c": 20,
        "w:d": 30,
        "w:e": 40,
    }
    # Three runs for each event; the variations of w need none.
    assert counting.seen() == once(*(n + k for n in range(5) for k in (0, 100, 200)))


def test_events_that_a_variation_moves_over_a_cut(counting: Counting) -> None:
    df = frame().Vary("x", "ROOT::RVecF{x + 100, x + 200}", ["a", "b"]).Filter("x > 3 && x < 203")
    found = varied(sofie.define(df, "y", counting.model, ["x"]).Sum("y"))
    assert found == {"nominal": 4, "x:a": 510, "x:b": 603}
    assert counting.seen() == once(4, *range(100, 105), *range(200, 203))


def test_expressions_and_where_vary_with_their_columns(counting: Counting) -> None:
    df = frame().Vary("x", "ROOT::RVecF{x + 100, x + 200}", ["a", "b"])
    model = counting.model
    df = sofie.define(df, "y", model, ["x + 1"], where="x != 2 && x != 204", default=0)
    assert varied(df.Sum("y")) == {"nominal": 12, "x:a": 515, "x:b": 810}
    assert counting.seen() == once(1, 2, 4, 5, *range(101, 106), *range(201, 205))


def test_two_columns_of_one_nuisance(counting: Counting) -> None:
    df = frame().Define("u", "ROOT::RVecF{x, x + 20}")
    both = "ROOT::RVec<ROOT::RVec<ROOT::RVecF>>{{v + 100, v + 200}, {u + 1000, u}}"
    df = df.Vary(["v", "u"], both, ["a", "b"], "scale")
    df = sofie.define(df, "y", counting.model, ["v"])
    df = sofie.define(df, "z", counting.model, ["u"])
    found = varied(df.Define("s", "Sum(y) + Sum(z)").Sum("s"))
    assert found == {"nominal": 190, "scale:a": 11190, "scale:b": 2190}
    assert counting.calls() == 2 * 3 * 5


def test_variations_of_the_score_itself(counting: Counting) -> None:
    outputs = {"y": "y", "z": "y[0]"}
    df = sofie.define(frame(), outputs, counting.model, ["x"])
    df = df.Vary("y", "ROOT::RVecF{y + 100, y + 200}", ["a", "b"])
    assert varied(df.Define("s", "y + z").Sum("s")) == {"nominal": 20, "y:a": 520, "y:b": 1020}
    assert counting.seen() == once(0, 1, 2, 3, 4)


# Redefine -----------------------------------------------------------------------------------------


def test_inputs_that_are_redefined(counting: Counting) -> None:
    """The score belongs to the columns as they were; expressions of them are no exception."""
    model = counting.model
    df = frame().Redefine("x", "x + 5")
    df = sofie.define(df, "a", model, ["x"])
    df = sofie.define(df, "b", model, ["x * 2"], where="x < 8", default=-1)
    df = df.Redefine("x", "x * 10")
    df = sofie.define(df, "c", model, ["x * 2"], where="x < 80", default=-1)
    df = df.Vary("x", "ROOT::RVecF{x + 1}", ["up"])
    df = sofie.define(df, "d", model, ["x * 2"])
    assert lists(df, "a") == [5, 6, 7, 8, 9]
    assert lists(df, "b") == [10, 12, 14, -1, -1]
    assert lists(df, "c") == [100, 120, 140, -1, -1]
    assert varied(df.Sum("c")) == {"nominal": 358}
    assert varied(df.Sum("d")) == {"nominal": 700, "x:up": 710}
    assert lists(df.Redefine("a", "a + 1"), "a") == [6, 7, 8, 9, 10]
    assert [str(c) for c in df.GetColumnNames()] == ["a", "b", "c", "d", "v", "w", "x"]


def test_scores_in_the_place_of_columns(counting: Counting) -> None:
    model = counting.model
    df = sofie.define(frame(), "x", model, ["x + 1"], redefine=True)
    df = sofie.define(df, "x", model, ["x + 1"], where="x != 3", default=7, redefine=True)
    assert lists(df, "x") == [2, 3, 7, 5, 6]
    df = sofie.define(df, {"w": "y", "v": "y[0]"}, model, ["x * 10"], redefine=True)
    assert lists(df, "w") == lists(df, "v") == [20, 30, 70, 50, 60]
    with pytest.raises(sofie.ColumnError, match=r"no column 'wx'\. Did you mean .*'w'"):
        sofie.define(df, "wx", model, ["x"], redefine=True)
    with pytest.raises(sofie.ColumnError, match=r"already\. redefine=True"):
        sofie.define(df, "w", model, ["x"])
    df = df.Vary("x", "ROOT::RVecF{x + 1}", ["up"])
    with pytest.raises(sofie.ColumnError, match=r"'x'.*systematic variations"):
        sofie.define(df, "x", model, ["x"], redefine=True)


# Several models, several frames -------------------------------------------------------------------


def test_the_same_model_twice(counting: Counting) -> None:
    df = sofie.define(frame(), "a", counting.model, ["x"])
    df = sofie.define(df, "b", counting.model, ["x"])
    df = sofie.define(df, "c", counting.model, ["a + b + 100"])
    assert lists(df, "c") == [100, 102, 104, 106, 108]
    assert counting.seen() == dict.fromkeys(range(5), 2) | once(100, 102, 104, 106, 108)


@pytest.mark.parametrize("count", [0, 2])
def test_frames_that_run_at_once(counting: Counting, threads: Threads, count: int) -> None:
    with threads(count):
        frames = [sofie.define(frame(300), "y", counting.model, [f"x + {k}"]) for k in range(3)]
        sums = [df.Sum("y") for df in frames]
        again = frames[0].Filter("y < 10").Count()
        ROOT.RDF.RunGraphs([*sums, again])
        assert counting.calls() == 900
        assert [s.GetValue() for s in sums] == [44850, 45150, 45450]
        assert again.GetValue() == 10
    assert counting.calls() == 0


# What else a data frame does ----------------------------------------------------------------------

BOOKED = """
struct SumOfScores : ROOT::Detail::RDF::RActionImpl<SumOfScores> {
   using Result_t = double;
   std::shared_ptr<double> sum = std::make_shared<double>(0);
   SumOfScores() = default;
   SumOfScores(SumOfScores &&) = default;
   std::shared_ptr<double> GetResultPtr() const { return sum; }
   void Initialize() {}
   void InitTask(TTreeReader *, unsigned) {}
   void Exec(unsigned, float y) { *sum += y; }
   void Finalize() {}
   std::string GetActionName() { return "SumOfScores"; }
};
double book_scores(ROOT::RDF::RNode df) { return *df.Book<float>(SumOfScores(), {"y"}); }
double aggregate_scores(ROOT::RDF::RNode df)
{
   auto add = [](double a, float y) { return a + y; };
   return *df.Aggregate(add, [](double a, double b) { return a + b; }, "y", 0.);
}
"""


@pytest.mark.exhaustive
def test_actions_and_ranges(counting: Counting) -> None:
    df = sofie.define(frame(10), "y", counting.model, ["x"])
    assert df.Range(2, 8, 2).Sum("y").GetValue() == 12
    assert counting.seen() == once(2, 4, 6)
    kept = df.Cache(["y"])
    assert [kept.Sum("y").GetValue(), kept.Max("y").GetValue()] == [45, 9]
    assert counting.seen() == once(*range(10))
    ROOT.gInterpreter.Declare(BOOKED)
    node = ROOT.RDF.AsRNode(df)
    for result in (ROOT.book_scores, ROOT.aggregate_scores):
        assert result(node) == 45
        assert counting.seen() == once(*range(10))
    assert list(df.Take["float"]("y").GetValue()) == list(range(10))
    assert df.Alias("other", "y").Histo1D("other").GetMean() == 4.5
    assert "7" in df.Filter("x == 7").Display(["y"]).AsString()
    named = df.Filter("y > 6", "high")
    report = named.Report()
    assert report.GetValue().At("high").GetPass() == 3
    assert "sofie" not in str(df.Describe().AsString())
    assert ROOT.RDF.SaveGraph(df)


def test_a_progress_bar(counting: Counting, capfd: pytest.CaptureFixture[str]) -> None:
    before = frame(10)
    ROOT.RDF.Experimental.AddProgressBar(ROOT.RDF.AsRNode(before))
    after = sofie.define(frame(10), "y", counting.model, ["x"])
    ROOT.RDF.Experimental.AddProgressBar(ROOT.RDF.AsRNode(after))
    assert sofie.define(before, "y", counting.model, ["x"]).Sum("y").GetValue() == 45
    assert after.Sum("y").GetValue() == 45
    assert capfd.readouterr().out.count("processed events: 10") == 2
