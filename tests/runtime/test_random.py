"""Random numbers of events: which they are, in every way in which a model can be evaluated."""

from __future__ import annotations

import pickle
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward
import numpy as np
import onnx.parser
import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import ColumnError, InputError, ModelError
from sofie_rdf.ir.rows import ROWS, rows_for
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate
from tests.choice import some_of
from tests.runtime.conftest import Threads

ROOT = pytest.importorskip("ROOT")

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
PRODUCT = """m (float[N, 4] x) => (float[N, 4] y) {
    r = RandomNormalLike(x)
    y = Mul(x, r)
}"""
COUNT = 300


def model(text: str = PRODUCT, **options: Any) -> sofie.Model:
    return sofie.from_onnx(onnx.parser.parse_model(HEAD + text), **options)


def ones(count: int = COUNT) -> Array:
    return np.ones((count, 4), np.float32)


def expected(network: sofie.Model, feeds: Mapping[str, Array], rows: Array) -> Array:
    (name,) = network.graph.outputs
    return evaluate(network.graph, {**feeds, ROWS: rows})[name]


def by_entry(df: Any, column: str, entry: str = "entry_") -> Array:
    """The column in the order of the entries, as a row for each."""
    if entry == "entry_":
        df = df.Define(entry, "rdfentry_")
    found = df.AsNumpy([column, entry])
    values = np.stack([np.asarray(v) for v in found[column]])
    return values[np.argsort(found[entry], kind="stable")]


def frame(count: int = COUNT) -> Any:
    return ROOT.RDataFrame(count).Define("a", "1.f")


A = ["a"] * 4


# One call -----------------------------------------------------------------------------------------


def test_each_row_has_its_own_numbers_which_are_the_references() -> None:
    network = model(seed=5)
    found = network(ones())
    assert len(np.unique(found)) == found.size
    assert np.array_equal(found, expected(network, {"x": ones()}, rows_for(np.arange(COUNT), 5)))


def test_a_row_does_not_know_its_call() -> None:
    network = model()
    whole = network(ones())
    assert np.array_equal(network(ones(7), entry=20), whole[20:27])
    chosen = [3, 299, 3]
    assert np.array_equal(network(ones(3), entry=chosen), whole[chosen])
    assert not np.isin(network(ones(), seed=1), whole).any()
    assert np.array_equal(network.with_seed(1)(ones()), network(ones(), seed=1))


def test_pieces_on_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network, many = model(), ones(50_000)
    monkeypatch.setenv("SOFIE_RDF_THREADS", "1")
    alone = network(many)
    monkeypatch.setenv("SOFIE_RDF_THREADS", "3")
    assert np.array_equal(network(many), alone)
    assert np.array_equal(network(ones(5), entry=49_990), alone[49_990:49_995])


def test_compilers_give_the_same_numbers() -> None:
    assert np.array_equal(model(compiler="g++")(ones()), model(compiler="cling")(ones()))


@pytest.mark.parametrize("seed", [1.5, True, 2**64, -(2**63) - 1, "7"])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(InputError, match="64 bits"):
        model(seed=seed)


@pytest.mark.parametrize("entry", [1.5, [1, 2], [[1]], "x"])
def test_what_is_no_entry_is_refused(entry: Any) -> None:
    with pytest.raises(InputError, match="entry="):
        model()(ones(3), entry=entry)


def test_seeds_of_all_bits_are_kept() -> None:
    found = [model(seed=s)(ones(1)) for s in (0, 1, -1, 2**63, 2**64 - 1)]
    assert len(np.unique(np.stack(found[:4]))) == 16
    assert np.array_equal(found[2], found[4])


def test_inputs_named_like_keywords_are_inputs() -> None:
    text = """m (float[N, 4] seed, float[N] entry) => (float[N, 4] y) {
        r = RandomUniformLike(seed)
        y = Add(seed, r)
    }"""
    found = model(text)(seed=ones(3), entry=np.zeros(3, np.float32))
    assert found.shape == (3, 4)


def test_a_draw_for_all_rows_is_the_first_ones() -> None:
    text = """m (float[N, 4] x) => (float[N, 4] y) {
        r = RandomNormal<shape = [4]>()
        y = Mul(x, r)
    }"""
    network = model(text)
    found = network(ones(3), entry=7)
    assert np.array_equal(found, np.tile(network(ones(1), entry=7), (3, 1)))
    whole = np.asarray(network.score({"a": np.ones(5, np.float32)}, A))
    assert np.array_equal(whole[2], network(ones(1), entry=2)[0])
    assert np.array_equal(by_entry(network.define(frame(5), "y", A), "y"), whole)


def test_a_name_that_is_taken_is_refused() -> None:
    text = """m (float[N, 4] x) => (float[N, 4] y) {
        r = RandomNormalLike(x)
        y = Mul(x, r)
    }"""
    proto = onnx.parser.parse_model(HEAD + text)
    for node in proto.graph.node:
        node.input[:] = [ROWS if i == "x" else i for i in node.input]
    proto.graph.input[0].name = ROWS
    with pytest.raises(ModelError, match="Rename"):
        _ = sofie.from_onnx(proto).compiled


# Operators ----------------------------------------------------------------------------------------

TWO = """m (float[N, 2] x) => (float[N, 2] a, float[N, 2] b, float[N, 2] c) {
    a = RandomNormalLike(x)
    b = RandomNormalLike(x)
    c = RandomNormalLike<seed = 3.0>(x)
}"""


def test_no_two_operators_share_numbers() -> None:
    found = model(TWO)(np.zeros((200, 2), np.float32))
    assert len(np.unique(np.concatenate([v.ravel() for v in found.values()]))) == 1200


def test_equal_seeds_of_operators_are_no_equal_numbers() -> None:
    text = TWO.replace("RandomNormalLike(x)", "RandomNormalLike<seed = 3.0>(x)")
    found = model(text)(np.zeros((200, 2), np.float32))
    assert len(np.unique(np.concatenate([v.ravel() for v in found.values()]))) == 1200


LOOP = """m (float[N, 2] x) => (float[N, 2] y, float[K, N, 2] steps) {
    trips = Constant<value = int64 {4}>()
    go = Constant<value = bool {1}>()
    y, steps = Loop (trips, go, x) <body = b (int64 i, bool ci, float[N, 2] a)
            => (bool co, float[N, 2] ao, float[N, 2] step) {
        co = Identity(ci)
        r = RandomNormalLike(a)
        inner = Constant<value = int64 {2}>()
        ao = Loop (inner, ci, a) <body = b2 (int64 j, bool cj, float[N, 2] c)
                => (bool ck, float[N, 2] d) {
            ck = Identity(cj)
            s = RandomUniformLike(c)
            t = Add(c, s)
            d = Add(t, r)
        }>
        step = Sub(ao, a)
    }>
}"""


def test_rounds_of_loops_have_numbers_of_their_own() -> None:
    network, x = model(LOOP), np.zeros((50, 2), np.float32)
    found = network(x)
    wanted = evaluate(network.graph, {"x": x})
    assert all(np.array_equal(found[name], wanted[name]) for name in found)
    assert len(np.unique(found["steps"])) == 400
    assert np.array_equal(network(x[:5], entry=30)["steps"], found["steps"][:, 30:35])


def test_a_loop_whose_values_grow_draws_for_all_of_them() -> None:
    text = """m (float[N, 2] x) => (float[K, 2] y) {
        trips = Constant<value = int64 {3}>()
        go = Constant<value = bool {1}>()
        y = Loop (trips, go, x) <body = b (int64 i, bool ci, float[M, 2] a)
                => (bool co, float[P, 2] ao) {
            co = Identity(ci)
            r = RandomNormalLike(a)
            ao = Concat<axis = 0>(a, r)
        }>
    }"""
    network, x = model(text), np.zeros((2, 2), np.float32)
    found = network(x)
    assert np.array_equal(found, evaluate(network.graph, {"x": x})["y"])
    assert found.shape == (16, 2) and len(np.unique(found[2:])) == 28


def test_branches_draw_for_their_rows() -> None:
    text = """m (float[N, 2] x, bool c) => (float[N, 2] y) {
        y = If (c) <
            then_branch = t () => (float[N, 2] p) { p = RandomNormalLike(x) },
            else_branch = e () => (float[N, 2] q) { q = RandomNormalLike(x) }>
    }"""
    network, x = model(text), np.zeros((50, 2), np.float32)
    both = [network(x, np.array(c)) for c in (True, False)]
    assert len(np.unique(np.stack(both))) == 200
    assert np.array_equal(network(x[9:], np.array(True), entry=9), both[0][9:])


def test_rows_along_another_axis() -> None:
    text = """m (float[N, 3] x) => (float[N, 3] y) {
        t = Transpose<perm = [1, 0]>(x)
        r = RandomNormalLike(t)
        flat = Constant<value = int64[1] {-1}>()
        f = Reshape(x, flat)
        u = RandomUniformLike(f)
        back = Constant<value = int64[2] {-1, 3}>()
        v = Reshape(u, back)
        s = Transpose<perm = [1, 0]>(r)
        y = Add(v, s)
    }"""
    network, x = model(text), np.zeros((40, 3), np.float32)
    found = network(x)
    assert np.array_equal(found, evaluate(network.graph, {"x": x})["y"])
    assert np.array_equal(network(x[30:], entry=30), found[30:])
    assert network.compiled.rows == "N"


# Columns ------------------------------------------------------------------------------------------


def test_five_events_have_five_draws() -> None:
    found = by_entry(model().define(frame(5), "y", A), "y")
    assert len(np.unique(found)) == 20


@pytest.mark.parametrize(
    ("count", "batch"), some_of([(0, 0), (0, 16), (2, 0), (2, 16)], [(0, 0), (2, 16)])
)
def test_a_column_has_the_numbers_of_a_call(threads: Threads, count: int, batch: int) -> None:
    """Events with equal inputs have other numbers, whether they are computed at once or not."""
    network = model(seed=2**63 + 9)
    wanted = network(ones())
    with threads(count):
        df = network.define(frame(), "y", A, batch=batch)
        for _ in range(2):
            assert np.array_equal(by_entry(df, "y"), wanted)


def test_filters_and_ranges_do_not_change_numbers() -> None:
    network = model()
    wanted = network(ones())
    df = frame().Filter("rdfentry_ % 3 == 1")
    assert np.array_equal(by_entry(network.define(df, "y", A), "y"), wanted[1::3])
    df = network.define(frame().Range(40, 80, 2), "y", A)
    assert np.array_equal(by_entry(df, "y"), wanted[40:80:2])


def test_where_does_not_change_numbers() -> None:
    network = model()
    wanted = network(ones())
    df = network.define(frame(), "y", A, where="rdfentry_ >= 290", default=-1)
    assert np.array_equal(by_entry(df, "y")[290:], wanted[290:])
    found = network.score({"a": ones()[:, 0]}, A, where=np.arange(COUNT) >= 290, default=-1)
    assert np.array_equal(np.asarray(found)[290:], wanted[290:])


def test_several_columns_are_of_one_draw() -> None:
    df = model(TWO).define(frame(5), {"p": "a", "q": "b"}, ["a", "a"])
    wanted = model(TWO)(np.ones((5, 2), np.float32))
    assert np.array_equal(by_entry(df, "p"), wanted["a"])
    assert np.array_equal(by_entry(df, "q"), wanted["b"])


def test_variations_of_an_event_have_the_same_numbers() -> None:
    df = frame(50).Vary("a", "ROOT::RVecF{2 * a, 3 * a}", ["double", "triple"])
    network = model("m (float[N, 1] x) => (float[N, 1] y) {r = RandomNormalLike(x) y = Mul(x, r)}")
    varied = ROOT.RDF.Experimental.VariationsFor(network.define(df, "y", ["a"]).Sum("y"))
    one = float(np.sum(network(np.ones((50, 1), np.float32)), dtype=np.float64))
    assert varied["nominal"] == pytest.approx(one, rel=1e-6)
    assert varied["a:double"] == pytest.approx(2 * one, rel=1e-6)
    assert varied["a:triple"] == pytest.approx(3 * one, rel=1e-6)


def jets() -> Any:
    return awkward.Array([[1.0, 1.0, 1.0], [], [1.0, 1.0], [1.0]])


@pytest.mark.parametrize("batch", [0, 4])
def test_each_object_has_its_own_numbers(batch: int) -> None:
    network = model("m (float[N, 1] x) => (float[N, 1] y) {r = RandomNormalLike(x) y = Mul(x, r)}")
    scored = network.score({"pt": jets()}, ["pt"])
    df = ROOT.RDataFrame(4).Define(
        "pt", "ROOT::RVecF(rdfentry_ == 1 ? 0 : 3 - rdfentry_ / 2 - (rdfentry_ == 3), 1.f)"
    )
    lists = [list(v) for v in network.define(df, "y", ["pt"], batch=batch).AsNumpy(["y"])["y"]]
    entries, objects = [0, 0, 0, 2, 2, 3], [0, 1, 2, 0, 1, 0]
    wanted = expected(network, {"x": np.ones((6, 1), np.float32)}, rows_for(entries, 0, objects))
    assert np.array_equal(np.concatenate(lists), wanted.ravel())
    assert scored.to_list() == lists


def test_sets_of_any_length_draw_for_each_of_their_objects() -> None:
    network = model("m (float[L, 2] x) => (float[L, 2] y) {r = RandomNormalLike(x) y = Mul(x, r)}")
    df = ROOT.RDataFrame(4).Define("pt", "ROOT::RVecF(rdfentry_, 1.f)")
    df = network.define(df, "y", ["pt", "pt"], per="set")
    lists = [list(v) for v in df.AsNumpy(["y"])["y"]]
    events = awkward.Array([[1.0] * i for i in range(4)])
    scored = network.score({"pt": events}, ["pt", "pt"], per="set")
    assert [awkward.flatten(v, axis=None).to_list() for v in scored] == lists
    assert len({v for own in lists for v in own}) == 12


def test_sets_in_jets_have_numbers_of_their_own() -> None:
    """Two jets of an event are told apart, whatever is in them."""
    text = """m (float[N, 1, P] x) => (float[N, 1] y) {
        s = ReduceSum<keepdims = 0>(x, axes)
        r = RandomNormalLike(s)
        y = Add(s, r)
    }""".replace("s = Red", "axes = Constant<value = int64[1] {2}>() s = Red")
    events = awkward.Array([[[1.0, 2.0], [1.0, 2.0]], [], [[1.0, 2.0]]])
    found = model(text).score({"pt": events}, ["pt"])
    assert len(np.unique(awkward.flatten(found, axis=None))) == 3


# Which event it is --------------------------------------------------------------------------------


def test_a_column_may_say_which_event_it_is() -> None:
    network = model()
    df = frame().Define("event", "(unsigned)(1000 + 2 * rdfentry_)")
    wanted = network(ones(), entry=1000 + 2 * np.arange(COUNT))
    assert np.array_equal(by_entry(network.define(df, "y", A, entry="event"), "y"), wanted)
    more = network.define(df, "y", A, entry="event + (1ull << 40)", seed=4)
    wanted = network(ones(), entry=2**40 + 1000 + 2 * np.arange(COUNT), seed=4)
    assert np.array_equal(by_entry(more, "y"), wanted)


def test_score_is_told_of_events_in_each_way() -> None:
    network, events = model(), {"a": ones()[:, 0], "event": np.arange(COUNT) + 50}
    wanted = network(ones(), entry=50)
    for entry in (50, "event", events["event"]):
        assert np.array_equal(np.asarray(network.score(events, A, entry=entry)), wanted)
    chunks = [network.score({"a": ones(100)[:, 0]}, A, entry=50 + i) for i in (0, 100, 200)]
    assert np.array_equal(np.concatenate(chunks), wanted)


def test_what_tells_no_events_apart_is_refused() -> None:
    df = frame().Define("v", "ROOT::RVecI{1}")
    for entry, what in (("a", "whole number"), ("v", "whole number"), ("nothing", "no column")):
        with pytest.raises(ColumnError, match=what):
            model().define(df, "y", A, entry=entry)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The same events, x = 0, 1, ..., in TTrees and RNTuples of one and of several files."""
    folder, half = tmp_path_factory.mktemp("sources"), 30_000

    def write(name: str, begin: int, end: int, kind: Any) -> str:
        path, options = str(folder / f"{name}.root"), ROOT.RDF.RSnapshotOptions()
        options.fOutputFormat = kind
        options.fAutoFlush = 1000
        df = ROOT.RDataFrame(end - begin).Define("x", f"(long)(rdfentry_ + {begin})")
        df.Snapshot("t", path, ["x"], options)
        return path

    formats = ROOT.RDF.ESnapshotOutputFormat
    found = {}
    for name, kind in (("tree", formats.kTTree), ("ntuple", formats.kRNTuple)):
        found[name] = [write(name, 0, 2 * half, kind)]
        parts = ((0, half // 3), (half // 3, half), (half, 2 * half))
        found[f"{name}s"] = [write(f"{name}{i}", *p, kind) for i, p in enumerate(parts)]
    return found


def opened(sources: Mapping[str, Any], name: str) -> Any:
    if name == "numpy":
        return ROOT.RDF.FromNumpy({"x": np.arange(60_000)})
    if name == "empty":
        return ROOT.RDataFrame(60_000).Define("x", "(long)rdfentry_")
    return ROOT.RDataFrame("t", sources[name])


ONE = "m (float[N, 1] x) => (float[N, 1] y) {r = RandomNormalLike(x) y = Mul(x, r)}"


@pytest.mark.parametrize(
    "name",
    some_of(["tree", "trees", "ntuple", "ntuples", "numpy", "empty"], ["trees", "ntuple", "numpy"]),
)
@pytest.mark.parametrize("count", some_of([0, 2], [2]))
def test_sources_number_their_events(
    sources: Mapping[str, Any], threads: Threads, name: str, count: int
) -> None:
    """On threads ROOT does not number the entries of TTrees alike; all others it does."""
    network = model(ONE)
    wanted = network(np.ones((60_000, 1), np.float32)).ravel()
    with threads(count):
        df = opened(sources, name).Define("a", "1.f")
        if count and name.startswith("tree"):
            with pytest.raises(ColumnError, match=r'anew in several threads.*entry="event"'):
                network.define(df, "y", ["a"])
            df = network.define(df, "y", ["a"], entry="x")
        else:
            df = network.define(df, "y", ["a"])
        for _ in range(2):
            assert np.array_equal(by_entry(df, "y", "x"), wanted)


def test_only_random_models_need_numbered_events(
    sources: Mapping[str, Any], threads: Threads
) -> None:
    network = model("m (float[N, 1] x) => (float[N, 1] y) {y = Neg(x)}")
    with threads(2):
        df = network.define(opened(sources, "tree"), "y", ["x"], seed=3)
        assert df.Sum("y").GetValue() == -60_000 * 59_999 / 2


# Function objects and C++ -------------------------------------------------------------------------


def test_a_functor_takes_the_event(threads: Threads) -> None:
    network = model()
    wanted = network(ones(), seed=8)
    with threads(2):
        df = frame()
        functor = sofie.SofieFunctor(network, df.GetNSlots(), seed=8)
        assert np.array_equal(by_entry(df.DefineSlotEntry("y", functor, A), "y"), wanted)
        sofie.SofieFunctor(network, df.GetNSlots(), name="random_by_name", seed=8)
        text = "random_by_name(rdfslot_, rdfentry_, a, a, a, a)"
        assert np.array_equal(by_entry(df.Define("y", text), "y"), wanted)


MAIN = """#include "m.hxx"
#include <cstdio>
#include <cstring>
using TMVA_SOFIE_m::Session;
void print(const std::vector<float> &numbers) {
   for (float number : numbers)
      std::printf("%a ", static_cast<double>(number));
   std::printf("\\n");
}
int main(int, char **argv) {
   static_assert(Session::is_random, "told so");
   Session session(argv[1]);
   const std::vector<float> x(8, 1);
   print(session.infer(2, x)); // 0, 1
   Session copy = session;
   print(session.infer(std::vector<float>(4, 1))); // 2
   print(copy.infer(2, x)); // 2, 3
   session.entry(40);
   print(session.infer(2, x)); // 40, 41
   session.seed(77);
   print(session.infer(2, x)); // 42, 43 of another seed
}
"""


@pytest.mark.parametrize(
    "flags", some_of(["-O2", "-O3 -march=native", "-O2 -mavx2 -mfma"], ["-O3 -march=native"])
)
def test_a_session_counts_events(tmp_path: Path, flags: str) -> None:
    network = model(seed=2**63 + 1)
    files = network.emit(tmp_path)
    (tmp_path / "main.cxx").write_text(MAIN)
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-Werror", *flags.split()]
    command += ["-ffp-contract=off", *(f"-I{f}" for f in (tmp_path, *files.include))]
    subprocess.run([*command, "main.cxx", "-o", "main"], cwd=tmp_path, check=True)
    done = subprocess.run(
        [tmp_path / "main", files.weights], capture_output=True, text=True, check=True
    )
    found = [[float.fromhex(t) for t in line.split()] for line in done.stdout.splitlines()]
    calls = [(0, 2, None), (2, 1, None), (2, 2, None), (40, 2, None), (42, 2, 77)]
    for line, (entry, count, seed) in zip(found, calls, strict=True):
        own = network if seed is None else network.with_seed(seed)
        assert line == own(ones(count), entry=entry).ravel().tolist()


def test_the_functor_of_cxx_takes_the_event(tmp_path: Path) -> None:
    network = model(PRODUCT.replace("m (", "cxx_random ("), seed=6)
    files = network.emit(tmp_path)
    for folder in files.include:
        ROOT.gInterpreter.AddIncludePath(str(folder))
    code = f"""#include "{files.header}"
    #include "sofie/rdf/functor.hxx"
    sofie::SofieFunctor<4, TMVA_SOFIE_cxx_random::Session> cxx_random(1, "{files.weights}");
    sofie::SofieFunctor<4, TMVA_SOFIE_cxx_random::Session> cxx_seed(1, "{files.weights}", 9);"""
    assert ROOT.gInterpreter.Declare(code)
    df = frame(9).Define("y", "cxx_random(rdfslot_, rdfentry_, a, a, a, a)")
    df = df.Define("z", "cxx_seed(rdfslot_, rdfentry_, a, a, a, a)")
    assert np.array_equal(by_entry(df, "y"), network(ones(9)))
    assert np.array_equal(by_entry(df, "z"), network(ones(9), seed=9))


def test_a_file_keeps_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    network = model(seed=2**64 - 3)
    network.save(path)
    again = sofie.load(path)
    assert again.seed == 2**64 - 3 and sofie.load(path, seed=1).seed == 1
    assert np.array_equal(again(ones()), network(ones()))
    assert again.named(features=list("abcd")).with_precision("float32").seed == 2**64 - 3


def test_a_pickle_keeps_the_seed() -> None:
    network = model(seed=-7)
    again = pickle.loads(pickle.dumps(network))
    assert again.seed % 2**64 == 2**64 - 7
    assert np.array_equal(again(ones()), network(ones()))


def test_a_reader_of_files_draws_for_events(tmp_path: Path, threads: Threads) -> None:
    path = tmp_path / "m.root"
    network = model(seed=2**63 + 4)
    network.save(path)
    ROOT.gInterpreter.AddIncludePath(str(Path(__file__).parents[2] / "cling"))
    ROOT.gInterpreter.Declare('#include "sofie/rdf/RSofieReader.hxx"')
    reader = ROOT.sofie.RSofieReader(str(path))
    two = ROOT.std.vector["float"]([1.0] * 8)
    wanted = network(ones())
    assert np.array_equal(np.asarray(reader.Compute(two)), wanted[:2].ravel())
    assert np.array_equal(np.asarray(reader.Compute(two)), wanted[2:4].ravel())
    reader.Entry(100)
    assert np.array_equal(np.asarray(reader.Compute(two)), wanted[100:102].ravel())
    reader.Seed(3)
    other = network(ones(2), seed=3, entry=102)
    assert np.array_equal(np.asarray(reader.Compute(two)), other.ravel())
    with threads(2):
        node = ROOT.RDF.AsRNode(frame().Define("event", "(int)rdfentry_ + 5"))
        assert np.array_equal(by_entry(reader.Define(node, "y", A), "y"), network(ones(), seed=3))
        named = reader.Define(node, "z", A, "", "event")
        assert np.array_equal(by_entry(named, "z"), network(ones(), seed=3, entry=5))


def test_a_reader_refuses_trees_on_threads(
    sources: Mapping[str, Any], tmp_path: Path, threads: Threads
) -> None:
    path = tmp_path / "m.root"
    model().save(path)
    ROOT.gInterpreter.AddIncludePath(str(Path(__file__).parents[2] / "cling"))
    ROOT.gInterpreter.Declare('#include "sofie/rdf/RSofieReader.hxx"')
    reader = ROOT.sofie.RSofieReader(str(path))
    with threads(2):
        node = ROOT.RDF.AsRNode(opened(sources, "tree").Define("a", "1.f"))
        with pytest.raises(Exception, match="anew on several threads"):
            reader.Define(node, "y", A)


def test_inspect_says_so() -> None:
    assert "1 operator draws numbers for each event, with the seed 12" in str(model(seed=12))
    assert "3 operators draw numbers for each event, with the seed 0" in str(model(TWO))


def test_seeds_of_operators_may_be_integers() -> None:
    """As in the files of SOFIE's own tests; ONNX has a float."""
    text = "m (float[N, 4] x) => (float[N, 4] y) {r = RandomUniformLike<seed = 2>(x) y = Mul(x, r)}"
    found = model(text)(ones(3))
    assert np.array_equal(found, model(text.replace("2>", "2.0>"))(ones(3)))
    assert not np.isin(found, model(text.replace("2>", "3>"))(ones(3))).any()


def test_sofies_reader_is_told_of_no_events(tmp_path: Path) -> None:
    """It would give a random model no rows, which its code reads."""
    from sofie_rdf.compat.command import main

    path = tmp_path / "m.onnx"
    proto = onnx.parser.parse_model(HEAD + PRODUCT)
    onnx.save(proto, path)
    answer, header = tmp_path / "answer", tmp_path / "m.hxx"
    assert main([str(answer), "reader", f"file={path}", "name=", f"header={header}"]) == 1
    assert not header.exists()
