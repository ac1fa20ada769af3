"""Wherever events come from: trees, chains, friends, RNTuples, NumPy, awkward, and all their types.

The model copies its input, so each score is the number that the source was given.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward
import numpy as np
import onnx.parser
import pytest
import uproot

import sofie_rdf as sofie
from tests.runtime.conftest import Threads
from tests.runtime.counted import Counting

ROOT = pytest.importorskip("ROOT")

X = np.arange(6, dtype=np.float32)
V = awkward.values_astype(awkward.Array([[1, 2], [], [3], [4, 5, 6], [], [7]]), np.float32)
LISTS = V.to_list()


def write(path: Path, name: str = "t", **columns: Any) -> str:
    """A TTree with these branches; awkward arrays are jagged."""
    types = {
        k: v.dtype if isinstance(v, np.ndarray) else awkward.type(v).content
        for k, v in columns.items()
    }
    with uproot.recreate(path) as file:
        tree = file.mktree(name, types)
        if len(next(iter(columns.values()))):
            tree.extend(columns)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sources")
    files = {
        "a": write(folder / "a.root", x=X, v=V),
        "b": write(folder / "b.root", x=X + 10, v=V),
        "empty": write(folder / "empty.root", x=X[:0], v=V[:0]),
        "more": write(folder / "more.root", x=X + 20, v=V, z=X + 30),
        "ntuple": str(folder / "ntuple.root"),
    }
    with uproot.recreate(files["ntuple"]) as file:
        file.mkrntuple("t", {"x": X, "v": V})
    return files


def scores(df: Any, counting: Counting, column: str) -> list[Any]:
    """The model's scores for a column, event by event."""
    df = sofie.define(df, "y", counting.model, [column])
    found = df.AsNumpy(["y"])["y"]
    return [[float(x) for x in v] if hasattr(v, "__len__") else float(v) for v in found]


def rows(df: Any, columns: list[str], *, objects: bool = False) -> list[list[float]]:
    """What a network gets of an event: a row of these columns, or one for each object."""
    shape = ", ".join(["N", *["P"] * objects, str(len(columns))])
    text = f"same (float[{shape}] x) => (float[{shape}] y) {{ y = Identity(x) }}"
    model = sofie.from_onnx(
        onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> {text}')
    )
    found = sofie.define(df, "row", model, columns).AsNumpy(["row"])["row"]
    return [[float(x) for x in row] for row in found]


# Trees --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "shifts"),
    [
        (["a"], [0]),
        (["a", "b"], [0, 10]),
        (["empty"], []),
        (["empty", "a", "empty", "b", "empty"], [0, 10]),
        (["ntuple"], [0]),
        (["ntuple", "ntuple"], [0, 0]),
    ],
)
@pytest.mark.parametrize("count", [0, 2])
def test_files(
    files: dict[str, str],
    counting: Counting,
    threads: Threads,
    count: int,
    names: list[str],
    shifts: list[int],
) -> None:
    paths = [files[name] for name in names]
    wanted = [float(x) + s for s in shifts for x in X]
    with threads(count):
        found = scores(ROOT.RDataFrame("t", paths), counting, "x")
        objects = scores(ROOT.RDataFrame("t", paths), counting, "v")
    # Threads bring the files in any order.
    assert (sorted(found) if count else found) == (sorted(wanted) if count else wanted)
    assert sorted(objects) == sorted(LISTS * len(shifts))


def test_chains_and_friends(files: dict[str, str], counting: Counting, tmp_path: Path) -> None:
    chain = ROOT.TChain("t")
    friends = ROOT.TChain("t")
    for name in ("a", "b"):
        chain.Add(files[name])
        friends.Add(files["more"])
    chain.AddFriend(friends, "other")
    df = ROOT.RDataFrame(chain)
    assert scores(df, counting, "other.x") == [*(X + 20), *(X + 20)]
    assert scores(df, counting, "other.v") == LISTS * 2
    assert scores(df, counting, "other.z + x") == [*(X + 30 + X), *(X + 30 + X + 10)]
    with pytest.raises(sofie.ColumnError, match=r"'other\.zz'\. Did you mean 'other\.z'"):
        scores(df, counting, "other.zz")
    # A friend whose entries are found by a number, here in reverse.
    numbers = np.arange(6, dtype=np.int32)[::-1].copy()
    path = write(tmp_path / "reverse.root", "r", x=numbers, w=(numbers * 100).astype("f8"))
    file = ROOT.TFile(path)
    indexed = file.Get("r")
    indexed.BuildIndex("x")
    events = ROOT.TChain("t")
    events.Add(files["a"])
    events.AddFriend(indexed)
    assert scores(ROOT.RDataFrame(events), counting, "r.w") == [100 * x for x in X]


def test_specifications(files: dict[str, str], counting: Counting, tmp_path: Path) -> None:
    samples = {
        name: {"trees": ["t"], "files": [files[name]], "metadata": {"mass": mass}}
        for name, mass in (("a", 120), ("b", 130))
    }
    path = tmp_path / "samples.json"
    path.write_text(json.dumps({"samples": samples}))
    df = ROOT.RDF.Experimental.FromSpec(str(path))
    df = df.DefinePerSample("mass", 'rdfsampleinfo_.GetI("mass")')
    assert scores(df, counting, "x") == [*X, *(X + 10)]
    assert scores(df, counting, "mass") == [120] * 6 + [130] * 6


def test_columns_that_some_files_lack(files: dict[str, str], counting: Counting) -> None:
    paths = [files["more"], files["a"]]
    filled = ROOT.RDataFrame("t", paths).DefaultValueFor["float"]("z", -1.0)
    assert scores(filled, counting, "z") == [*(X + 30), *[-1] * 6]
    assert counting.seen()[4096] == 6
    with_it = ROOT.RDataFrame("t", paths).FilterAvailable("z")
    assert scores(with_it, counting, "z") == [*(X + 30)]
    # The event is left out before the model would need what it lacks.
    late = sofie.define(ROOT.RDataFrame("t", paths), "y", counting.model, ["z"])
    assert late.FilterAvailable("z").Count().GetValue() == 6
    assert late.FilterAvailable("z").Sum("y").GetValue() == 195


# Memory -------------------------------------------------------------------------------------------


KINDS = ("i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "?")
if ROOT.gROOT.GetVersionInt() >= 64000:  # Older ones take no arrays of bytes.
    KINDS = ("i1", "u1", *KINDS)


def test_arrays_of_numpy_and_awkward() -> None:
    arrays = {f"x{kind[-2:]}".strip("?"): np.array([0, 1, 1, 0], kind) for kind in KINDS}
    wanted = np.tile(np.float32([[0], [1], [1], [0]]), len(KINDS)).tolist()
    assert rows(ROOT.RDF.FromNumpy(arrays), list(arrays)) == wanted
    assert rows(awkward.to_rdataframe(arrays), list(arrays)) == wanted
    jagged = {k: awkward.unflatten(awkward.Array(a), [3, 0, 1]) for k, a in arrays.items()}
    found = rows(awkward.to_rdataframe(jagged), list(jagged), objects=True)
    assert found == [[x for row in wanted[:3] for x in row], [], wanted[3]]


@pytest.mark.exhaustive
def test_awkward_arrays_that_are_no_columns_of_numbers(counting: Counting) -> None:
    df = awkward.to_rdataframe({"x": awkward.Array([1.0, None, 3.0])})
    with pytest.raises(sofie.ColumnError, match=r"optional<double>.*'x\.value_or\(-1\)'"):
        scores(df, counting, "x")
    assert scores(df, counting, "x.value_or(-1)") == [1, -1, 3]
    regular = awkward.from_numpy(np.arange(6.0).reshape(3, 2))
    assert scores(awkward.to_rdataframe({"v": regular}), counting, "v") == [[0, 1], [2, 3], [4, 5]]
    nested = awkward.to_rdataframe({"v": awkward.Array([[[1.0], []], []])})
    with pytest.raises(sofie.ColumnError, match=r"numbers or RVecs of numbers"):
        scores(nested, counting, "v")


# Types --------------------------------------------------------------------------------------------

BRANCHES = r"""
#include <TFile.h>
#include <TTree.h>
template <class T> void numbers(TTree &t, const std::string &name, const char *code, T *place)
{
   t.Branch(name.c_str(), place, (name + "/" + code).c_str());
   t.Branch((name + "_array").c_str(), place, (name + "_array[n]/" + code).c_str());
}
void write_every_branch(const char *path)
{
   TFile file(path, "recreate");
   TTree t("t", "t");
   int n; t.Branch("n", &n, "n/I");
   char b[3]; numbers(t, "B", "B", b);
   UChar_t ub[3]; numbers(t, "b", "b", ub);
   Short_t s[3]; numbers(t, "S", "S", s);
   UShort_t us[3]; numbers(t, "s", "s", us);
   Int_t i[3]; numbers(t, "I", "I", i);
   UInt_t ui[3]; numbers(t, "i", "i", ui);
   Float_t f[3]; numbers(t, "F", "F", f);
   Float16_t f16[3]; numbers(t, "f", "f", f16);
   Double_t d[3]; numbers(t, "D", "D", d);
   Double32_t d32[3]; numbers(t, "d", "d", d32);
   Long64_t l[3]; numbers(t, "L", "L", l);
   ULong64_t ul[3]; numbers(t, "l", "l", ul);
   Long_t g[3]; numbers(t, "G", "G", g);
   ULong_t ug[3]; numbers(t, "g", "g", ug);
   Bool_t o[3]; numbers(t, "O", "O", o);
   float fixed[2]; t.Branch("fixed", fixed, "fixed[2]/F");
   struct { float pt; int charge; } jet; t.Branch("jet", &jet, "pt/F:charge/I");
   std::vector<float> vf; t.Branch("vector_float", &vf);
   std::vector<double> vd; t.Branch("vector_double", &vd);
   std::vector<bool> vb; t.Branch("vector_bool", &vb);
   std::vector<char> vc; t.Branch("vector_char", &vc);
   std::vector<short> vs; t.Branch("vector_short", &vs);
   std::vector<Long64_t> vl; t.Branch("vector_long", &vl);
   std::vector<unsigned char> vu; t.Branch("vector_uchar", &vu);
   ROOT::RVecF rvec; t.Branch("rvec", &rvec);
   ROOT::RVecB rvecb; t.Branch("rvec_bool", &rvecb);
   for (n = 0; n < 3; ++n) {
      for (int k = 0; k < 3; ++k) {
         const int x = (n + k) % 2;
         b[k] = x; ub[k] = x; s[k] = x; us[k] = x; i[k] = x; ui[k] = x; f[k] = x; f16[k] = x; d[k] = x;
         d32[k] = x; l[k] = x; ul[k] = x; g[k] = x; ug[k] = x; o[k] = x;
      }
      fixed[0] = n; fixed[1] = n + 1; jet.pt = 10 * n; jet.charge = n;
      vf.assign(n, n); vd.assign(n, n); vb.assign(n, n % 2); vc.assign(n, n); vs.assign(n, n); vl.assign(n, n);
      vu.assign(n, n); rvec.assign(n, n); rvecb.assign(n, n % 2);
      t.Fill();
   }
   t.Write();
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def branches(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("branches") / "branches.root")
    ROOT.gInterpreter.Declare(BRANCHES)
    ROOT.write_every_branch(path)
    return path


def test_branches_of_every_type(branches: str) -> None:
    df = ROOT.RDataFrame("t", branches)
    leaves = list("BbSsIiFfDdLlGgO")
    assert rows(df, leaves) == [[n % 2] * len(leaves) for n in range(3)]
    found = rows(df, [f"{leaf}_array" for leaf in leaves], objects=True)
    assert found == [[], [1] * len(leaves), [0] * len(leaves) + [1] * len(leaves)]
    kinds = ("float", "double", "char", "short", "long", "uchar")
    vectors = [*(f"vector_{kind}" for kind in kinds), "rvec", "vector_bool", "rvec_bool"]
    assert rows(df, vectors, objects=True) == [[], [1] * 9, [*[2] * 7, 0, 0] * 2]


def test_arrays_and_leaves_of_leaves(branches: str, counting: Counting) -> None:
    df = ROOT.RDataFrame("t", branches)
    assert scores(df, counting, "fixed") == [[0, 1], [1, 2], [2, 3]]
    assert scores(df, counting, "jet.pt") == [0, 10, 20]
    assert scores(df, counting, "jet.charge * 2") == [0, 2, 4]
    moved = sofie.define(df, "jet.pt", counting.model, ["jet.pt + 1"], redefine=True)
    assert scores(moved, counting, "jet.pt") == [1, 11, 21]


def test_what_is_defined() -> None:
    numbers = ["static_cast<long double>(rdfentry_)", "std::size_t(rdfentry_)", "rdfentry_ == 1"]
    assert rows(ROOT.RDataFrame(2), numbers) == [[0, 0, 0], [1, 1, 1]]
    vectors = [
        "std::array<float, 2>{1, float(rdfentry_)}",
        "std::vector<Double32_t>(2, rdfentry_)",
        "ROOT::RVec<std::int8_t>(2, rdfentry_)",
    ]
    found = rows(ROOT.RDataFrame(2), vectors, objects=True)
    assert found == [[1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]
