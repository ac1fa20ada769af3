"""RSofieReader::Define beside Python's define: the same columns, the same bits, the same errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
from onnx import TensorProto, helper

import sofie_rdf as sofie
from sofie_rdf.ir import rootfile
from sofie_rdf.runtime.cache import trust
from sofie_rdf.runtime.compile.interpreter import declare
from sofie_rdf.runtime.rdataframe.columns import depth_of
from tests.choice import some_of
from tests.frontends.test_normalization import network as points
from tests.frontends.test_normalization import weaver
from tests.runtime.conftest import Threads
from tests.runtime.test_objects import INT64, network
from tests.runtime.test_objects import same as identity

ROOT = pytest.importorskip("ROOT")
DATA = Path(__file__).resolve().parents[2] / "data"
EVENTS = 40

# Jets of an event and the particles of each; some events have no jets, and some jets no particles.
COLUMNS = {
    "pt": "ROOT::RVecF(rdfentry_ * 7 % 6, 0.5f + rdfentry_) * (1.f + 0.125f * rdfentry_)",
    "key": "ROOT::RVecD k(pt.size()); for (int i = 0; i < int(k.size()); ++i)"
    " k[i] = i * 5 % 4 + 0.3; return k;",
    "eta": "ROOT::RVecD e(pt.size()); for (int i = 0; i < int(e.size()); ++i)"
    " e[i] = 0.1 * i - 0.7 + 1e-9 * rdfentry_; return e;",
    "charge": "ROOT::RVecI c(pt.size()); for (int i = 0; i < int(c.size()); ++i) c[i] = i % 3 - 1;"
    " return c;",
    "good": "ROOT::RVecB(pt > 10)",
    "tracks": "std::vector<float>{0.5f, float(rdfentry_), -1.f}",
    "met": "float(rdfentry_) / 3",
    "number": "(unsigned short)(1000 + rdfentry_)",
    "big": "(Long64_t)(1 + (1LL << 40)) * rdfentry_",
    "parts": "std::vector<std::vector<float>> p(pt.size()); for (int j = 0; j < int(p.size()); ++j)"
    " for (int k = 0; k < int(rdfentry_ + 3 * j) % 5; ++k) p[j].push_back(j - 0.5f * k * k);"
    " return p;",
    "angles": "std::vector<std::vector<double>> a; for (auto &p : parts)"
    " a.emplace_back(p.size(), 0.1 * a.size()); return a;",
}
# What no file has.
BEHIND = {
    "four": "std::array<float, 4>{met, 2.f, float(number), -1.f}",
    "text": "std::string()",
    "nested": "ROOT::RVec<ROOT::RVecF> n; for (auto &p : parts) n.emplace_back(p); return n;",
}


def frame(*names: str, events: int = EVENTS) -> Any:
    """The columns of these names, or all: ROOT compiles each that it is told of."""
    df = ROOT.RDataFrame(events)
    for name, text in (COLUMNS | BEHIND).items():
        if name in names or not names:
            df = df.Define(name, text)
    return df


@pytest.fixture(scope="module", autouse=True)
def _declared() -> None:
    declare('#include "sofie/rdf/RSofieReader.hxx"\n')


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reader_define") / "models.root"


_kept: list[tuple[sofie.Model, Path]] = []


def stored_in(path: Path, model: sofie.Model) -> tuple[Path, str]:
    """A file with the model, and its name there. C++ compiles it once."""
    for known, file in _kept:
        if known is model:
            return file, model.name
    file = path.with_name(f"{len(_kept)}.root")
    model.save(file)
    _kept.append((model, file))
    return file, model.name


# What a macro would say --------------------------------------------------------------------------


def braces(value: Any) -> str:
    """Names, numbers, lists and mappings as C++ has them."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value)
        case dict():
            return f"{{{', '.join(f'{{{braces(k)}, {braces(v)}}}' for k, v in value.items())}}}"
        case list() | tuple():
            return f"{{{', '.join(map(braces, value))}}}"
        case None:
            return "-1"
        case float() if np.isnan(value):
            return "NAN"
    return repr(value)


NAMES = {"default": "otherwise", "entry": "event"}
_numbers: Iterator[int] = count()


def macro(kept: tuple[Path, str], df: Any, column: Any, columns: Any, **options: Any) -> Any:
    """What this model in C++ makes of the data frame, with the options of Python's define."""
    lines = [f"how.{NAMES.get(k, k)} = {braces(v)};" for k, v in options.items()]
    if columns is not None:
        lines.append(f"how.columns = {braces(columns)};")
    space = f"reader_define_{next(_numbers)}"
    declare(
        f"namespace {space} {{ ROOT::RDF::RNode made(const ROOT::RDF::RNode &df,"
        f" const std::string &file)\n{{\n   sofie::RSofieReader model(file, {braces(kept[1])});\n"
        f"   sofie::DefineOptions how;\n{''.join(lines)}\n"
        f"   return model.Define(df, {braces(column)}, how);\n}}\n}}"
    )
    return getattr(ROOT, space).made(ROOT.RDF.AsRNode(df), str(kept[0]))


def bits(df: Any, name: str) -> tuple[str, list[bytes]]:
    found = df.AsNumpy([name])[name]
    return df.GetColumnType(name), [np.asarray(v).tobytes() for v in found]


def assert_same(
    path: Path,
    df: Any,
    model: sofie.Model,
    shown: dict[str, str],
    columns: Any,
    **options: Any,
) -> list[Any]:
    """Both have the same bits in each event; what the first column holds."""
    ours = model.define(df, {f"py_{k}": v for k, v in shown.items()}, columns, **options)
    new = {f"cxx_{k}": v for k, v in shown.items()}
    both = macro(stored_in(path, model), ours, new, columns, **options)
    names = [f"{way}_{k}" for k in shown for way in ("py", "cxx")]
    found = both.AsNumpy(names)
    for k in shown:
        assert both.GetColumnType(f"py_{k}") == both.GetColumnType(f"cxx_{k}")
        ours_and_theirs = zip(found[f"py_{k}"], found[f"cxx_{k}"], strict=True)
        for event, pair in enumerate(ours_and_theirs):
            one, other = (np.asarray(v) for v in pair)
            assert one.tobytes() == other.tobytes(), f"{k}, event {event}: {one} and {other}"
    return list(found[f"cxx_{next(iter(shown))}"])


# Models -------------------------------------------------------------------------------------------


@cache
def mixed() -> sofie.Model:
    """Of x float32 [N, 3] and k int64 [N, 2]: a sum, the numbers themselves, and whole ones."""
    nodes = [
        helper.make_node("Cast", ["k"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["x", "f"], ["all"], axis=1),
        helper.make_node("ReduceSum", ["all", "axis"], ["y"], keepdims=1),
        helper.make_node("Identity", ["k"], ["whole"]),
    ]
    inputs = {"x": ["N", 3], "k": (INT64, ["N", 2])}
    outputs = {"y": ["N", 1], "all": ["N", 5], "whole": (INT64, ["N", 2])}
    return network(nodes, inputs, outputs, axis=np.int64([1]))


SHOWN = {"y": "y", "all_3": "all[3]", "most": "argmax(all)", "last": "whole[1]"}
MIXED = {"x": ["met", "abs(met - 5) * 2", 0.25], "k": ["number", "big"]}


@cache
def sets() -> sofie.Model:
    """Of particles [N, P, 2] and a jet [N, 2]: the sum of products, and sums with the jet."""
    nodes = [
        helper.make_node("ReduceProd", ["x"], ["products"], axes=[2], keepdims=0),
        helper.make_node("ReduceSum", ["products", "one"], ["y"], keepdims=1),
        helper.make_node("ReduceSum", ["x", "one"], ["sums"], keepdims=0),
        helper.make_node("Concat", ["sums", "jet"], ["all"], axis=1),
    ]
    inputs = {"x": ["N", "P", 2], "jet": ["N", 2]}
    return network(nodes, inputs, {"y": ["N", 1], "all": ["N", 4]}, one=np.int64([1]))


@cache
def fixed() -> sofie.Model:
    """Three objects of two features, and their mask: all that the network sees is its output."""
    return identity({"x": ["N", 2, 3], "mask": ["N", 3]})


SEEN = {"x": "of_x", "mask": "of_mask"}


# Columns ------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_several_inputs_outputs_and_expressions(path: Path) -> None:
    found = assert_same(path, frame(), mixed(), SHOWN | {"all": "all"}, MIXED)
    assert len(set(found)) == EVENTS


@pytest.mark.exhaustive
def test_each_object_is_a_row(path: Path) -> None:
    columns = {"x": ["pt", "abs(eta)", "met"], "k": ["charge", 3]}
    found = assert_same(path, frame(), mixed(), SHOWN, columns)
    assert [len(v) for v in found] == [n * 7 % 6 for n in range(EVENTS)]
    columns = {"x": ["pt", "good", "number"], "k": ["charge", "good"]}
    assert_same(path, frame(), mixed(), SHOWN, columns, per="object")


BOUNDED = {"order_by": "key", "lengths": {"P": (2, 4)}}
OPEN: list[dict[str, Any]] = [
    {},
    BOUNDED,
    {"lengths": {"P": 3}, "pad": {"x": [0.5, -1]}, "order_by": {"x": "eta"}},
    {"lengths": {"P": (1, None)}, "per": "set"},
]


@pytest.mark.parametrize("options", some_of(OPEN, []))
def test_sets_of_open_length(path: Path, options: Any) -> None:
    columns = {"x": ["pt", "2 * eta"], "jet": ["met", "number"]}
    assert_same(path, frame(), sets(), {"y": "y", "all": "all"}, columns, **options)


PADDED: dict[str, Any] = {"mask": "mask", "pad": {"x": [0.1, -1]}, "order_by": "charge"}
FIXED: list[dict[str, Any]] = [
    {"mask": "mask", "pad": 0},
    {"mask": {"mask": "x"}, "pad": -7.5, "order_by": "key"},
    PADDED,
]


@pytest.mark.parametrize("options", some_of(FIXED, []))
def test_sets_of_fixed_length(path: Path, options: Any) -> None:
    columns = {"x": ["pt", "eta"]}
    found = assert_same(path, frame(), fixed(), SEEN, columns, truncate=True, **options)
    assert all(len(v) == 6 for v in found)


@pytest.mark.exhaustive
def test_a_set_of_a_number_and_of_whole_numbers(path: Path) -> None:
    model = identity({"x": (INT64, ["N", "P", 3])})
    assert_same(path, frame(), model, {"x": "of_x"}, {"x": ["charge", "good", 2]})
    assert_same(path, frame(), model, {"x": "of_x"}, ["charge", "number", "charge"], pad=-1,
                lengths={"P": 8}, order_by="pt")  # fmt: skip


@pytest.mark.exhaustive
def test_particlenet(path: Path) -> None:
    """The network of a tutorial: points, features and a mask of an open length."""
    model = sofie.load(DATA / "particlenet.onnx")
    pf = ["pt", "eta"]
    columns = {"pf_points": pf, "pf_features": ["pt", "eta", "key", "charge"]}
    options: Any = {"mask": "pf_mask", "lengths": {"n_pf": (16, 128)}, "order_by": "pt"}
    output = {"score": model.graph.outputs[0]}
    assert_same(path, frame(), model, output, columns, **options)


EACH: list[dict[str, Any]] = [{}, {"lengths": {"P": (2, 3)}, "order_by": "angles"}]


@pytest.mark.parametrize("options", some_of(EACH, []))
def test_a_set_for_each_object(path: Path, options: Any) -> None:
    columns = {"x": ["nested", "angles"], "jet": ["key", "met"]}
    shown = {"y": "y", "last": "all[3]", "most": "argmax(all)"}
    found = assert_same(path, frame(), sets(), shown, columns, **options)
    assert [len(v) for v in found] == [n * 7 % 6 for n in range(EVENTS)]


@pytest.mark.exhaustive
def test_a_fixed_set_for_each_object(path: Path) -> None:
    shown = {f"x{i}": f"of_x[{i}]" for i in range(6)} | {"mask": "of_mask[1]"}
    options: Any = {"pad": -7, "truncate": True, "mask": "mask", "order_by": "parts"}
    assert_same(path, frame(), fixed(), shown, {"x": ["parts", "angles"]}, **options)


@pytest.mark.exhaustive
def test_arrays_are_features(path: Path) -> None:
    model = identity({"x": ["N", 5]})
    found = assert_same(path, frame(), model, {"x": "of_x"}, ["four", "met"])
    assert list(found[3]) == [1, 2, 1003, -1, 1]


@pytest.mark.exhaustive
def test_where_nan_and_redefine(path: Path) -> None:
    df = frame().Define("hole", "rdfentry_ % 3 ? met : NAN")
    columns = {"x": ["hole", "met", "met"], "k": ["number", 0.0]}
    shown = {k: v for k, v in SHOWN.items() if k != "last"} | {"all": "all"}
    options: Any = {"where": "met > 4 && number % 2", "default": -3}
    assert_same(path, df, mixed(), shown, columns, **options, nan=0.5)
    assert_same(path, df, mixed(), shown, columns)
    where = stored_in(path, mixed())
    out = macro(where, df, "y", columns, output="y", nan="error")
    with pytest.raises(Exception, match=r"entry 0: column 'hole' is NaN"):
        out.Sum("y").GetValue()
    objects = {"x": ["pt", "pt", "met"], "k": ["charge", "number"]}
    assert_same(path, df, mixed(), SHOWN, objects, where="number % 2")
    own = columns | {"x": ["met", "met", 1]}
    made = macro(where, df, "met", own, output="y", redefine=True)
    wanted = mixed().define(df, "z", own, output="y")
    assert bits(made, "met") == bits(wanted, "z")


# Names and what a model says itself ---------------------------------------------------------------


def test_names_of_features_and_classes(path: Path) -> None:
    model = identity({"x": ["N", 3], "v": ["N", 2]})
    named = model.named(
        features={"x": ["met", "number", "pt size"], "v": ["met", "big"]},
        labels={"of_x": ["b", "c", "light"]},
    )
    df = frame("pt", "met", "number", "big")
    shown = {"b": "b", "light": "of_x[light]", "x": "of_x", "v": "of_v[1]"}
    columns = {"number": "number + 1", "pt size": "double(pt.size())", "met": "met", "big": 7}
    assert_same(path, df, named, shown, columns)
    by_input = {"v": ["big", "met"], "x": ["met", "number", "(pt.size())"]}
    found = assert_same(path, df, named, {"vs": "of_v", "b": "b"}, by_input)
    assert list(found[1]) == [np.float32(1 / 3), np.float32(1 + 2**40)]
    where = stored_in(path, named)
    with pytest.raises(Exception, match="no column 'pt size', which is a name in the model"):
        macro(where, df, "y", None, output="b")
    with pytest.raises(Exception, match="no column 'pt size', which is a name in the model"):
        macro(where, df, "y", {"x": ["met", "number", "pt size"], "v": [1, 2]}, output="b")
    with pytest.raises(Exception, match="column 'number' is given for feature 0 of input 'x'"):
        macro(where, df, "y", {"x": ["number", "met", 1], "v": [1, 2]}, output="b")
    with pytest.raises(Exception, match="output 'of_x' has no class 'd'"):
        macro(where, df, "y", by_input, output="of_x[d]")
    # Without a word.
    usual = model.named(features={"x": ["met", "number", "big"], "v": ["met", "big"]})
    assert_same(path, df, usual, {"x": "of_x", "v": "of_v"}, None)
    one = identity({"x": ["N", 3]}).named(features=["met", "number", "big"])
    assert_same(path, df, one, {"x": "of_x"}, ["big", "met", "number"])


def test_a_model_of_weaver_fills_its_sets_itself(tmp_path: Path, path: Path) -> None:
    (tmp_path / "preprocess.json").write_text(json.dumps(weaver(output_names=None)))
    tagged = points().normalized(tmp_path / "preprocess.json")
    df = ROOT.RDataFrame(9)
    for i, name in enumerate(("pt_log", "dz", "drminsv", "deta")):
        value = f"v.push_back(0.1f * (k + 1) * ({i} + 1) - 0.3f)"
        loop = f"for (int k = 0; k < int(rdfentry_); ++k) {value}"
        df = df.Define(name, f"ROOT::RVecF v; {loop}; return v;")
    df = df.Define("jet_pt", "250. + 10 * rdfentry_")
    shown = {name: name for name in tagged.graph.outputs}
    assert_same(path, df, tagged, {f"s_{k}": v for k, v in shown.items()}, None)
    mine: Any = {"lengths": {"n_pf": (7, None)}, "pad": 0}
    assert_same(path, df, tagged, {f"s_{k}": v for k, v in shown.items()}, None, **mine)


DRAWN = """<ir_version: 8, opset_import: ["": 17]> m (float[N, 2] x) => (float[N, 2] y) {
    r = RandomNormalLike(x)
    y = Mul(x, r)
}"""


@pytest.mark.exhaustive
def test_random_numbers(path: Path, threads: Threads) -> None:
    model = sofie.from_onnx(onnx.parser.parse_model(DRAWN), seed=5)
    columns = ["met", "number"]
    assert_same(path, frame(), model, {"y": "y"}, columns)
    assert_same(path, frame(), model, {"y": "y"}, columns, entry="number")
    assert_same(path, frame(), model, {"y": "y[0]"}, ["pt", "met"], entry="number")
    with threads(2):
        assert_same(path, frame(), model, {"y": "y[0]", "z": "y[1]"}, ["pt", "met"])
    with pytest.raises(Exception, match="a whole number for each event is needed"):
        macro(stored_in(path, model), frame(), "y", columns, event="met")


# Files and threads --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """A file with the events as a TTree or as an RNTuple."""
    folder = tmp_path_factory.mktemp("reader_define")

    @cache
    def made(kind: str) -> str:
        options = ROOT.RDF.RSnapshotOptions()
        if kind == "ntuple":
            options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
        file = str(folder / f"{kind}.root")
        names = [n for n in COLUMNS if n not in ("charge", "good", "tracks")]
        chosen = ROOT.std.vector["std::string"](names)
        frame(*names, events=400).Snapshot("events", file, chosen, options)
        return file

    return made


WAYS = [("tree", 0), ("tree", 2), ("ntuple", 0), ("ntuple", 2)]


@pytest.mark.parametrize(("kind", "slots"), some_of(WAYS, [("tree", 2)]))
def test_files_on_threads(
    stored: Callable[[str], str], kind: str, slots: int, path: Path, threads: Threads
) -> None:
    with threads(slots):
        df = ROOT.RDataFrame("events", stored(kind))
        assert_same(path, df, mixed(), SHOWN, MIXED)
        each = {"x": ["parts", "angles"], "jet": ["key", "met"]}
        assert_same(path, df, sets(), {"y": "y", "most": "argmax(all)"}, each)
        options: Any = {"mask": "mask", "pad": 0, "truncate": True, "order_by": "key"}
        assert_same(path, df, fixed(), SEEN, {"x": ["pt", "eta"]}, **options)


# What cannot be -----------------------------------------------------------------------------------

K = {"k": [1, 2]}
PT = {"x": ["pt", "eta"]}
JET = PT | {"jet": [1, 2]}
WRONG: dict[str, tuple[Callable[[], sofie.Model], Any, dict[str, Any], str]] = {
    "no column": (mixed, K | {"x": ["mett", 1, 2]}, {}, "has no column 'mett'. It has"),
    "no expression": (mixed, K | {"x": ["met +", 1, 2]}, {}, "'met +' is no column and no"),
    "no input": (mixed, {"z": ["met"]}, {}, "no input 'z'. It has 'x', 'k'"),
    "no list": (mixed, ["met", "met"], {}, "it has 2 inputs, so columns must say which"),
    "too few": (mixed, K | {"x": ["met"]}, {}, "input 'x' takes 3 columns, not 1"),
    "a float": (mixed, {"x": [1, 2, 3], "k": ["met", 1]}, {}, "is float, and input 'k' takes"),
    "a half": (mixed, {"x": [1, 2, 3], "k": [1, 0.5]}, {}, "input 'k' takes int64, and 0.5"),
    "RVecs": (mixed, K | {"x": ["pt", 2, 3]}, {"per": "event"}, "'pt' is ROOT::VecOps::RVec"),
    "per": (mixed, K | {"x": ["pt", 2, 3]}, {"per": "jet"}, 'per = "jet" is none of'),
    "numbers": (mixed, K | {"x": [1, 2, 3]}, {"per": "object"}, "a column with objects, an RVec"),
    "no output": (mixed, MIXED, {"output": "z"}, "has no output 'z'; it has y, all, whole"),
    "no element": (mixed, MIXED, {"output": "all[5]"}, "has 5 numbers, and none of number 5"),
    "many": (mixed, K | {"x": ["pt", 1, 2]}, {"output": "all"}, "more than one number for each"),
    "no set": (mixed, MIXED, {"pad": 0}, "are for models per set of objects"),
    "lengths": (sets, JET, {"lengths": {"Q": 3}}, "these are 'P'"),
    "exactly": (fixed, PT, {"mask": "mask"}, "exactly 3 objects. Say what stands"),
    "no mask": (fixed, PT, {"pad": 0}, 'mask of objects, say so: mask = "mask"'),
    "wrong mask": (fixed, PT, {"pad": 0, "mask": {"mask": "y"}}, "no mask of the objects"),
    "pads": (fixed, PT, {"pad": {"x": [1, 2, 3]}, "mask": "mask"}, "pad has 3 numbers"),
    "axis": (sets, JET | {"x": ["pt"]}, {}, "with 1 columns no axis is left"),
    "order": (sets, JET, {"order_by": "met"}, "'met' is float; order_by needs one with objects"),
    "each": (sets, JET | {"x": ["parts", "angles"]}, {"per": "set"}, "a set for each object"),
    "row": (mixed, K | {"x": ["parts", 1, 2]}, {}, "numbers or RVecs of numbers are needed"),
    "text": (mixed, K | {"x": ["text", 1, 2]}, {}, "'text' is string; numbers or RVecs of"),
    "default": (mixed, MIXED, {"where": "met > 1", "output": "whole"}, "int64, and nan is none"),
    "names": (mixed, None, {}, "does not say what the features of its input 'x' are called"),
    "nan": (mixed, MIXED, {"nan": "errors"}, "neither a number nor"),
    "where": (mixed, MIXED, {"where": "nothing > 1"}, "no column and no expression"),
}


SOME = ("no column", "exactly")
NEEDED = {"no column": ("met",), "exactly": ("pt", "eta")}


@pytest.mark.parametrize("what", some_of(WRONG, SOME))
def test_what_is_refused(what: str, path: Path) -> None:
    """By Python as well, and in C++ with the model's name and the way out."""
    make, columns, options, words = WRONG[what]
    model = make()
    where = stored_in(path, model)
    options = {"output": "y"} | options if make is mixed else options
    options |= {"output": "all[0]"} if make is sets else {}
    options |= {"output": "of_x"} if make is fixed else {}
    df = frame(*NEEDED.get(what, ()), events=2)
    with pytest.raises(sofie.SofieError):
        model.define(df, "new", columns, **options)
    named = re.escape(f"{where[0]}: model 'net': ")
    with pytest.raises(Exception, match=f"{named}.*{re.escape(words)}"):
        macro(where, df, "new", columns, **options)


def test_names_of_columns(path: Path) -> None:
    where, df = stored_in(path, mixed()), frame("met", "number", "big", events=2)
    for name, words in (("a b", r"no C\+\+ identifier"), ("met", "a column 'met' already")):
        for column in (name, {"new": "y", name: "y"}):
            with pytest.raises(Exception, match=words):
                macro(where, df, column, MIXED)


@pytest.mark.exhaustive
def test_what_ends_the_loop(path: Path) -> None:
    """The entry, the columns as the user calls them, and the object."""

    def ends(words: str, model: sofie.Model, columns: Any, **options: Any) -> None:
        df = macro(stored_in(path, model), frame(), "new", columns, **options)
        total = df.Define("numbers", "double(ROOT::RVecF{new}.size())").Sum("numbers")
        with pytest.raises(Exception, match=rf"model 'net': {words}"):
            total.GetValue()

    ends(
        "entry 4: column 'pt' has 4 elements; the model takes 3, and truncate=True was not given",
        *(fixed(), PT),
        pad=0,
        mask="mask",
        output="of_x[0]",
    )
    ends(
        "entry 0: column 'tracks' has 3 elements, and 'pt' has 0",
        *(sets(), JET | {"x": ["pt", "tracks"]}),
        output="all[0]",
    )
    one = "ROOT::RVecF{1}"
    ends(
        rf"entry 0: column '{re.escape(one)}' has 1 elements, and 'pt' has 0",
        *(sets(), JET | {"x": ["pt", one]}),
        output="all[0]",
    )
    ends(
        "entry [0-9]+: object [0-9]: column 'parts' has 4 elements; the model takes 3",
        *(fixed(), {"x": ["parts", "angles"]}),
        pad=0,
        mask="mask",
        output="of_x[0]",
    )


# Files that were stored before --------------------------------------------------------------------


def test_files_without_names_and_sets(path: Path) -> None:
    """Another version has stored neither: columns of numbers work, and the rest is refused."""
    model = mixed()
    held = rootfile.load(*stored_in(path, model))
    interface = dict(held.macro.interface)
    for key in ("features", "labels", "sets"):
        del interface[key]
    for ports in ("inputs", "outputs"):
        interface[ports] = [{k: v for k, v in p.items() if k != "axes"} for p in interface[ports]]
    old = path.with_name("old.root")
    sha256 = rootfile.save(held.graph, old, macro=replace(held.macro, interface=interface))
    trust.trust(sha256, "net")
    events = frame("pt", "met", "number", "big")
    df = macro((old, "net"), events, "y", MIXED, output="all")
    wanted = model.define(events, "y", MIXED, output="all")
    assert bits(df, "y") == bits(wanted, "y")
    flat = macro((old, "net"), events, "y", ["met", 1, 2.5, "number", 2], output="all")
    assert bits(flat, "y")[0] == "ROOT::VecOps::RVec<float>"
    for columns in (None, {"x": ["pt", 1, 2], "k": [1, 2]}):
        with pytest.raises(Exception, match=r"what features are called.*Save it again"):
            macro((old, "net"), events, "y", columns, output="y")


TYPES = [
    *("float", "Float16_t", "unsigned long long", "std::int64_t", "size_t", "string", ""),
    *("ROOT::VecOps::RVec<float>", "vector<bool>", "std::array<float, 3>", "array<Double32_t,12>"),
    *("ROOT::RVec<std::vector<int> >", "vector<vector<vector<int>>>", "vector<string>"),
    *("array<int>", "std::array<float, x>", "vector<float>; int x", "vector<float)"),
    *("span<const float>", "vector<int>>", "std::array<float, 2> >", "RVec<float>"),
    *("vector<float,allocator<float> >", "TLorentzVector"),
]


@pytest.mark.parametrize("name", TYPES)
def test_types_are_read_as_by_python(name: str) -> None:
    """A type that is no number, nor made of such, is a text that no compiler gets."""
    assert ROOT.sofie.ColumnType(name).depth == depth_of(name)
