"""Arrays of dask-awkward and typetracers through models, beside the same arrays in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from onnx import ModelProto

import sofie_rdf as sofie
from tests.frontends.models import model, node, value


def network(*, random: bool = False) -> ModelProto:
    """Two outputs for three features."""
    weights = {"w": np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)}
    nodes = [node("MatMul", "x w", "h"), node("Sigmoid", "h", "y"), node("Relu", "h", "z")]
    if random:
        nodes[1:2] = [node("RandomNormalLike", "h", "n"), node("Add", "h n", "y")]
    outputs = [value("y", ["N", 2]), value("z", ["N", 2])]
    return model(nodes, [value("x", ["N", 3])], outputs, weights)


def events(count: int = 40) -> ak.Array:
    random = np.random.default_rng(2)
    counts = random.integers(0, 4, count)
    jets = ak.zip({n: random.normal(size=counts.sum()) for n in ("pt", "eta", "phi")})
    return ak.Array(
        {"Jet": ak.unflatten(jets, counts), "met": random.normal(size=count),
         "good": random.random(count) < 0.5, "event": np.arange(count)}
    )  # fmt: skip


JETS = ["Jet.pt", "Jet.eta", "met"]
OPTIONS: dict[str, dict[str, Any]] = {
    "one number": {"columns": ["met", "met", "met"], "output": "y[1]"},
    "jets": {"columns": JETS, "output": "z"},
    "several": {"columns": JETS, "output": {"a": "y[0]", "b": "z"}},
    "where": {"columns": JETS, "output": "y[0]", "where": "good"},
}


def test_typetracers_have_the_types_of_results() -> None:
    """Only what is looked at is marked as needed."""
    scorer, given = sofie.from_onnx(network()), events()
    for name, options in OPTIONS.items():
        found = scorer.score(ak.to_backend(given, "typetracer"), **options)
        assert ak.backend(found) == "typetracer"
        wanted = scorer.score(given, **options)
        assert found.layout.form == wanted.layout.form, name
    form = ak.Array(given.layout.to_packed()).layout.form_with_key("<node{id}>")
    layout, report = ak.typetracer.typetracer_with_report(form)
    scorer.score(ak.Array(layout), **OPTIONS["jets"])
    touched = set(report.data_touched)
    assert form.content("met").form_key in touched
    assert form.content("event").form_key not in touched
    assert form.content("Jet").content.content("pt").form_key in touched
    assert form.content("Jet").content.content("phi").form_key not in touched


@pytest.mark.parametrize("name", OPTIONS)
def test_partitions_give_what_all_events_give(name: str) -> None:
    dak = pytest.importorskip("dask_awkward")
    scorer, given = sofie.from_onnx(network()), events()
    lazy = dak.from_awkward(given, npartitions=3)
    found = scorer.score(lazy, **OPTIONS[name])
    assert isinstance(found, dak.Array)
    wanted = scorer.score(given, **OPTIONS[name])
    assert found._meta.layout.form == wanted.layout.form
    assert ak.array_equal(found.compute(scheduler="sync"), wanted)
    threads = found.compute(scheduler="threads")
    assert ak.array_equal(threads, wanted)


def test_arrays_in_the_places_of_names() -> None:
    dak = pytest.importorskip("dask_awkward")
    scorer, given = sofie.from_onnx(network()), events()
    lazy = dak.from_awkward(given, npartitions=2)
    columns = [lazy.Jet.pt * 2, lazy.Jet.eta, 1.5]
    found = scorer.score(columns=columns, output="y[0]", where=lazy.met > 0)
    wanted = scorer.score(
        columns=[given.Jet.pt * 2, given.Jet.eta, 1.5], output="y[0]", where=given.met > 0
    )
    assert ak.array_equal(found.compute(scheduler="sync"), wanted)
    by_name = {"a": lazy.met, "b": lazy.met, "c": lazy.met}
    found = scorer.score(by_name, ["a", "b", "c"], output="y[0]").compute(scheduler="sync")
    assert ak.array_equal(found, scorer.score(given, ["met"] * 3, output="y[0]"))


def test_only_columns_that_are_used_are_read(tmp_path: Path) -> None:
    dak = pytest.importorskip("dask_awkward")
    uproot = pytest.importorskip("uproot")
    scorer, path = sofie.from_onnx(network()), tmp_path / "events.root"
    columns = {n: np.random.default_rng(3).normal(size=30) for n in ("a", "b", "c", "d")}
    with uproot.recreate(path) as file:
        file["Events"] = columns
    lazy = uproot.dask({str(path): "Events"}, steps_per_file=3)
    found = scorer.score(lazy, ["a", "b", "c"], output="y[0]")
    (needed,) = dak.necessary_columns(found).values()
    assert set(needed) == {"a", "b", "c"}
    wanted = scorer.score(columns, ["a", "b", "c"], output="y[0]")
    assert ak.array_equal(found.compute(scheduler="sync"), wanted)


def test_errors_come_before_anything_is_computed() -> None:
    dak = pytest.importorskip("dask_awkward")
    scorer = sofie.from_onnx(network())
    lazy = dak.from_awkward(events(), npartitions=2)
    with pytest.raises(sofie.ColumnError, match=r"no field 'Jet\.ptt'"):
        scorer.score(lazy, ["Jet.ptt", "Jet.eta", "met"], output="y")
    with pytest.raises(sofie.InputError, match="mixed"):
        scorer.score(columns=[lazy.met, events().met, 1], output="y")
    with pytest.raises(sofie.InputError, match=r"has no numbers before.*model\.score"):
        scorer(lazy.met)
    drawing = sofie.from_onnx(network(random=True))
    with pytest.raises(sofie.InputError, match="number of each event"):
        drawing.score(lazy, ["met"] * 3, output="y")
    found = drawing.score(lazy, ["met"] * 3, output="y", entry="event").compute(scheduler="sync")
    assert ak.array_equal(found, drawing.score(events(), ["met"] * 3, output="y", entry="event"))


def test_other_processes_get_the_model_with_its_weights() -> None:
    dak = pytest.importorskip("dask_awkward")
    scorer = sofie.from_onnx(network())
    found = scorer.score(dak.from_awkward(events(), npartitions=2), JETS, output="y[0]")
    elsewhere = found.compute(scheduler="processes", num_workers=1)
    assert ak.array_equal(elsewhere, scorer.score(events(), JETS, output="y[0]"))


def test_without_dask_awkward(monkeypatch: pytest.MonkeyPatch) -> None:
    from sofie_rdf.runtime.arrays import lazy

    monkeypatch.setitem(__import__("sys").modules, "dask_awkward", None)
    with pytest.raises(sofie.MissingDependency, match=r"sofie_rdf\[dask-awkward\]"):
        lazy.dask_awkward()
