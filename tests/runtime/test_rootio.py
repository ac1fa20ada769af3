"""Models in .root files, by ROOT: written as by uproot, and read in C++ as macros do."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import uproot

from sofie_rdf.errors import CorruptFile, MissingDependency, ModelError, UnsupportedFormat
from sofie_rdf.ir import rootfile
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import REGISTRY, Operator, operator
from sofie_rdf.ir.record import Macro
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.runtime.compile.interpreter import declare
from sofie_rdf.runtime.files import rootio

ROOT = pytest.importorskip("ROOT")


@operator(domain="test")
class Stored(Operator):
    """x; whatever else it is given is there to be stored"""

    def infer(self, *tensors: TensorType) -> TensorType:
        return tensors[0]


_OPERATORS = {key: REGISTRY.pop(key) for key in list(REGISTRY) if key[0] == "test"}
BACKENDS: list[ModuleType] = [rootfile, rootio]
backends = pytest.mark.parametrize("backend", BACKENDS, ids=["uproot", "ROOT"])
writers = pytest.mark.parametrize("writer", BACKENDS, ids=["by-uproot", "by-ROOT"])


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    REGISTRY.update(_OPERATORS)
    yield
    for key in _OPERATORS:
        del REGISTRY[key]


def model(*constants: Array, name: str = "higgs") -> Graph:
    build = Builder(name)
    x = build.input("x", TensorType(DType.FLOAT32, (symbol("N"), 7)))
    used = [build.constant(c, f"c/{i}") for i, c in enumerate(constants)]
    return build.graph(build(Stored(), x, *used))


def special() -> list[Array]:
    """Arrays with everything that a careless writer loses."""
    nans = np.array([0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x80000000, 1, 0x7F800000], np.uint32)
    doubles = np.array([0x7FF0000000000001, 2**63, 1, 0xFFF8000000000123], np.uint64)
    integers: list[Any] = [
        DType(f"{sign}int{bits}").numpy for sign in ("", "u") for bits in (8, 16, 32, 64)
    ]
    return [
        nans.view(np.float32).reshape(2, 3),
        doubles.view(np.float64),
        np.array(-0.0, np.float32),
        np.array([[True], [False]]),
        np.zeros((0, 4), np.int64),
        np.zeros((3, 0), np.float32),
        np.arange(50_000, dtype=np.float32).reshape(50, 1000).T,
        *(np.array([np.iinfo(t).min, np.iinfo(t).max, 1], t) for t in integers),
    ]


def assert_same(found: Graph, wanted: Graph) -> None:
    assert str(found) == str(wanted)
    assert list(found.constants) == list(wanted.constants)
    for name, array in wanted.constants.items():
        assert_equal_bits(found.constants[name], array)


def assert_equal_bits(found: Array, wanted: Array) -> None:
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert found.tobytes() == wanted.tobytes()
    assert found.flags.c_contiguous
    assert not found.flags.writeable


@cache
def _reader() -> Any:
    """What a macro reads models with."""
    declare('#include "sofie/rdf/stored.hxx"\n')
    return ROOT.sofie.StoredModels


def macro_reads(path: Path, name: str = "") -> Any:
    """The model as C++ reads it, in a process of many tests."""
    return _reader()(str(path)).model(name)


def assert_stored(path: Path, graph: Graph, name: str = "") -> None:
    """The model is in the file, for Python and for macros."""
    stored = rootfile.load(path, name or None)
    assert_same(stored.graph, graph)
    found = macro_reads(path, name)
    assert str(found.sha256) == stored.sha256
    assert str(found.header) == stored.macro.header


def only_files(folder: Path, *names: str) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)


# ---------------------------------------------------------------- one format


@writers
def test_a_model_comes_back_bit_for_bit(tmp_path: Path, writer: ModuleType) -> None:
    path = tmp_path / "m.root"
    graph = model(*special())
    macro = Macro("struct S {};\n" * 999, special(), {"sizes": []})
    sha256 = writer.save(graph, path, extras={"é": "ü"}, macro=macro)
    assert_stored(path, graph)
    stored = rootfile.load(path)
    assert stored.macro.header == macro.header
    assert [t.tobytes() for t in stored.macro.tensors] == [t.tobytes() for t in macro.tensors]
    assert dict(stored.extras) == {"é": "ü"}
    assert stored.sha256 == sha256
    only_files(tmp_path, "m.root")


@writers
@pytest.mark.parametrize("arrays", [[], [np.zeros(0)], [np.zeros((0, 2), np.float32)]], ids=len)
def test_models_without_elements(tmp_path: Path, writer: ModuleType, arrays: list[Array]) -> None:
    writer.save(model(*arrays), tmp_path / "m.root")
    assert_stored(tmp_path / "m.root", model(*arrays))


@writers
@pytest.mark.parametrize("name", ["a b/c;1", "..", "é\n", "x" * 500, "weights"], ids=ascii)
def test_any_name_is_a_name(tmp_path: Path, writer: ModuleType, name: str) -> None:
    path = tmp_path / "m.root"
    writer.save(model(np.array([1], np.int8)), path, name="other")
    writer.save(model(np.array([2], np.int8)), path, name=name)
    assert rootfile.names(path) == sorted(["other", name])
    assert_stored(path, model(np.array([2], np.int8)), name)


@pytest.mark.parametrize("name", ["a:b.root", "a#b.root", "a?b=c.root", "$HOME.root", "~", "é.xml"])
def test_a_model_of_such_a_path_is_replaced(tmp_path: Path, name: str) -> None:
    """ROOT made a new file in the place of a link to the old one, which stayed as it was."""
    path = tmp_path / "d e#f" / name
    path.parent.mkdir()
    for number in (1, 2):
        rootio.save(model(np.array([number], np.int8)), path)
        found = rootfile.load(path).graph.constants
        assert [int(array[0]) for array in found.values() if array.dtype == np.int8] == [number]
    assert [p.name for p in path.parent.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a:b.root", "a#b.root", "a?b=c.root", "$HOME.root", "~", "é.xml"])
def test_any_path_is_a_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / "d e#f" / name
    path.parent.mkdir()
    for _ in range(2):
        rootio.save(model(np.array([1], np.int8)), path)
        assert_same(rootfile.load(path).graph, model(np.array([1], np.int8)))
    only_files(path.parent, name)


def test_both_write_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    graph = model(np.zeros(200_000, np.float32), np.array([1], np.int8))
    found = []
    for backend in BACKENDS:
        path = tmp_path / "m.root"
        backend.save(graph, path)
        assert path.stat().st_size < 50_000
        assert b"ZS\x01" in path.read_bytes()
        assert b"XZ" not in path.read_bytes()
        with uproot.open(path) as file:
            found.append({k: (file["higgs"].classname_of(k), file["higgs"][k]) for k in PARTS})
    assert found[0] == found[1]


PARTS = ("model", "header", "weights")


def test_weights_may_be_an_rntuple(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.root"
    root_adds(path, "h")
    for size in (0, 10, 100_000):
        monkeypatch.setattr(rootfile, "_ENTRY", 2**17)
        graph = model(np.random.default_rng(1).standard_normal(size))
        rootfile.save(graph, path, ntuple=True)
        assert_stored(path, graph)
        with uproot.open(path) as file:
            assert file["higgs"].classname_of("weights") == "ROOT::RNTuple"
            assert file["higgs/weights"].num_entries == -(-size * 8 // 2**17)
    # And back again.
    rootfile.save(graph, path)
    assert_stored(path, graph)
    with uproot.open(path) as file:
        assert file["higgs"].classname_of("weights") == "TObjString"
        assert file["h"].member("fN") == 5002


def test_a_damaged_rntuple(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    graph = model(np.random.default_rng(1).standard_normal(3000))
    rootfile.save(graph, path, ntuple=True)
    sound = path.read_bytes()
    sha256 = rootfile.load(path).sha256
    start = sound.index(b"higgs", 400)
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(40):
        damaged = bytearray(sound)
        damaged[rng.integers(start, len(sound))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            assert str(macro_reads(path).sha256) == sha256
        except ROOT.std.exception:
            refused += 1
        try:
            assert rootfile.load(path).sha256 == sha256
        except (CorruptFile, ModelError, UnsupportedFormat):
            refused += 1
    assert refused > 20


def test_long_weights_are_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootfile, "CHUNK", 2**20)
    for backend in BACKENDS:
        graph = model(np.random.default_rng(1).standard_normal(300_000))
        backend.save(graph, tmp_path / "m.root")
        assert_same(rootfile.load(tmp_path / "m.root").graph, graph)


def test_large_weights_are_fast(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sizes = [*(11_000 for _ in range(80)), 3_000_000, 8_000_000]
    graph = model(*(rng.standard_normal(n).astype(np.float32) for n in sizes))
    path = tmp_path / "m.root"
    began = time.perf_counter()
    rootio.save(graph, path)
    saved = time.perf_counter()
    assert str(macro_reads(path).sha256) == rootfile.load(path).sha256
    loaded = time.perf_counter()
    # 47 MB take 0.6 s and 1.1 s on a free core.
    assert saved - began < 8
    assert loaded - saved < 12


# ---------------------------------------------------------------- what is there already


def analysis_file(path: Path) -> None:
    file = ROOT.TFile(str(path), "RECREATE", "", 404)
    value = np.zeros(1)
    tree = ROOT.TTree("Events", "")
    tree.Branch("x", value, "x/D")
    for i in range(1000):
        value[0] = i
        tree.Fill()
    tree.Write()
    folder = file.mkdir("sub").mkdir("deep")
    folder.cd()
    histogram = ROOT.TH2F("h", "", 3, 0, 1, 3, 0, 1)
    histogram.Fill(0.5, 0.5)
    histogram.Write()
    file.cd()
    # Deleting leaves holes, and a record of them that is longer than it need be.
    for name in ("a", "b", "h/a", "c"):
        ROOT.TParameter["double"](name, 2.5).Write()
    file.Delete("a;*")
    file.Close()
    options = ROOT.RDF.RSnapshotOptions()
    options.fMode, options.fOutputFormat = "UPDATE", ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    ROOT.RDataFrame(50).Define("q", "rdfentry_ * 2.").Snapshot("ntuple", str(path), ["q"], options)
    file = ROOT.TFile(str(path), "UPDATE")
    file.Delete("b;*")
    file.Close()


def assert_analysis_unharmed(path: Path) -> None:
    file = ROOT.TFile(str(path))
    assert not file.TestBit(ROOT.TFile.kRecovered)
    assert file.GetCompressionSettings() == 404
    assert file.Get("Events").GetMaximum("x") == 999
    assert file.Get("sub/deep/h").GetEntries() == 1
    assert file.Get("c").GetVal() == 2.5
    assert {"Events", "sub", "h/a", "c", "ntuple"} <= {k.GetName() for k in file.GetListOfKeys()}
    file.Close()
    assert ROOT.RDataFrame("ntuple", str(path)).Sum("q").GetValue() == 2450
    with uproot.open(path) as read:
        assert read["Events/x"].array().to_list() == list(range(1000))
        assert read["sub/deep/h"].values().sum() == 1
        assert read["ntuple"].arrays()["q"].to_list() == [2 * i for i in range(50)]


def root_adds(path: Path, name: str, bins: int = 5000) -> None:
    file = ROOT.TFile(str(path), "UPDATE")
    histogram = ROOT.TH1D(name, "", bins, 0, 1)
    for i in range(1, bins + 1):
        histogram.SetBinContent(i, i * 0.37)
    histogram.Write()
    file.Close()


def test_an_analysis_file_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    analysis_file(path)
    wanted: dict[str, Graph] = {}
    for turn in range(2):
        for number, backend in enumerate(BACKENDS):
            for name in ("one", "two"):
                constants = [np.full(900 * turn + number, turn, np.float32), *special()]
                wanted[name] = model(*constants)
                backend.save(wanted[name], path, name=name)
                assert_analysis_unharmed(path)
            root_adds(path, f"h{turn}{number}")
            assert_analysis_unharmed(path)
            assert rootfile.names(path) == ["one", "two"]
            for name, graph in wanted.items():
                assert_stored(path, graph, name)
    file = ROOT.TFile(str(path))
    assert [file.Get(f"h{n}").GetBinContent(5000) for n in ("00", "01", "10", "11")] == [1850] * 4
    file.Close()


def test_saving_again_replaces_and_frees_the_space(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    analysis_file(path)
    rng = np.random.default_rng(3)
    sizes = []
    for turn in range(4):
        graph = model(rng.standard_normal(100_000), np.array([turn], np.int8))
        rootio.save(graph, path)
        assert_stored(path, graph)
        sizes.append(path.stat().st_size)
    assert sizes[-1] < sizes[0] * 1.5


@writers
def test_saving_again_can_be_refused(tmp_path: Path, writer: ModuleType) -> None:
    path = tmp_path / "m.root"
    writer.save(model(np.array([1], np.int8)), path)
    before = path.read_bytes()
    with pytest.raises(ModelError, match=r"model 'higgs': is there already. overwrite=True"):
        rootio.save(model(np.array([2], np.int8)), path, overwrite=False)
    assert path.read_bytes() == before
    rootio.save(model(np.array([2], np.int8)), path)
    assert_stored(path, model(np.array([2], np.int8)))


@pytest.mark.parametrize("name", ["Events", "c", "ntuple", "sub"])
def test_what_is_no_model_is_not_overwritten(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.root"
    analysis_file(path)
    before = path.read_bytes()
    for backend in BACKENDS:
        with pytest.raises(ModelError, match=rf"'{name}' is a \S+ there, and no model"):
            backend.save(model(), path, name=name)
    with pytest.raises(ModelError, match=rf"no model '{name}'. It has none"):
        rootfile.load(path, name)
    assert path.read_bytes() == before
    only_files(tmp_path, "a.root")


@backends
def test_files_that_root_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: ModuleType
) -> None:
    # The path is part of the file: its length decides where ROOT finds room for what follows.
    monkeypatch.chdir(tmp_path)
    path = Path("em.root")
    ROOT.TFile(str(path), "RECREATE").Close()
    root_adds(path, "h", bins=5)
    file = ROOT.TFile(str(path), "UPDATE")
    file.Delete("h;*")
    file.Close()
    backend.save(model(np.array([1], np.int8)), path)
    assert_stored(path, model(np.array([1], np.int8)))
    root_adds(path, "h")
    assert_stored(path, model(np.array([1], np.int8)))


@backends
def test_files_with_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: ModuleType
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("pad.root")
    for length in range(6, 18):
        file = ROOT.TFile(str(path), "RECREATE")
        for i in range(6):
            ROOT.TParameter["double"](f"p{i}", i).Write()
        file.Close()
        for name in ("p2", "p3"):
            # For some length, ROOT leaves zeros behind its list of the holes.
            file = ROOT.TFile(str(path), "UPDATE")
            file.Delete(f"{name};*")
            if name == "p3":
                ROOT.TParameter["double"]("q" + length * "x", 1).Write()
            file.Close()
        graph = model(np.array([length]))
        backend.save(graph, path)
        assert_stored(path, graph)
        file = ROOT.TFile(str(path))
        assert [file.Get(f"p{i}").GetVal() for i in (0, 1, 4, 5)] == [0, 1, 4, 5]
        file.Close()


@backends
def test_an_rntuple_is_no_description(tmp_path: Path, backend: ModuleType) -> None:
    path = tmp_path / "m.root"
    with uproot.recreate(path) as file:
        file.mkdir("higgs").mkrntuple("model", {"x": np.float32})
        file.mkrntuple("weights", {"x": np.float32})
    # ROOT crashes if it reads such a key.
    assert rootfile.names(path) == []
    with pytest.raises(ROOT.std.runtime_error, match="holds no model"):
        macro_reads(path)
    with pytest.raises(ModelError, match="'higgs' is a TDirectory"):
        backend.save(model(), path)


def test_merged_files_still_have_the_model(tmp_path: Path) -> None:
    merger = ROOT.TFileMerger(False)
    merger.OutputFile(str(tmp_path / "all.root"), "RECREATE")
    for name in ("a.root", "b.root"):
        rootfile.save(model(*special()), tmp_path / name)
        root_adds(tmp_path / name, "h")
        merger.AddFile(str(tmp_path / name), False)
    assert merger.Merge()
    assert_stored(tmp_path / "all.root", model(*special()))


# ---------------------------------------------------------------- a good guest


def test_nothing_is_printed_and_the_user_stays_where_he_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, text = tmp_path / "m.root", tmp_path / "t.root"
    text.write_text("hello" * 99)
    # ROOT takes what it emptied itself for a file to be repaired.
    emptied = tmp_path / "e.root"
    rootio.save(model(), emptied)
    file = ROOT.TFile(str(emptied), "UPDATE")
    file.Delete("higgs;*")
    file.Close()
    before = [f.GetName() for f in ROOT.gROOT.GetListOfFiles()]  # Those of other tests.
    mine = ROOT.TMemFile("mine.root", "RECREATE")
    folder = mine.mkdir("folder")
    folder.cd()
    level = ROOT.gErrorIgnoreLevel
    capfd.readouterr()
    rootio.save(model(*special()), path)
    rootio.save(model(*special()), path)
    macro_reads(path)
    path.write_bytes(path.read_bytes()[:-50])
    for wrong in (path, text, emptied):
        with pytest.raises(ModelError):
            rootio.save(model(), wrong)
        with pytest.raises(ROOT.std.runtime_error):
            macro_reads(wrong)
    assert ROOT.gDirectory.GetPath() == folder.GetPath()
    assert ROOT.gErrorIgnoreLevel == level
    assert ROOT.TFile.GetReadStreamerInfo()
    assert [f.GetName() for f in ROOT.gROOT.GetListOfFiles()] == [*before, "mine.root"]
    mine.Close()
    assert capfd.readouterr() == ("", "")


def test_without_root_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ROOT", None)
    with pytest.raises(MissingDependency, match="pip install root"):
        rootio.save(model(), tmp_path / "m.root")


# ---------------------------------------------------------------- all or nothing


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt])
def test_an_exception_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool, error: type[BaseException]
) -> None:
    path = tmp_path / "a.root"
    if existing:
        analysis_file(path)
    before = path.read_bytes() if existing else b""

    def fail(*_: object) -> None:
        raise error("in the middle")

    monkeypatch.setattr(rootio, "_tobjstring", fail)
    with pytest.raises(error if error is KeyboardInterrupt else ModelError):
        rootio.save(model(np.zeros(10)), path)
    only_files(tmp_path, *(["a.root"] if existing else []))
    assert not existing or path.read_bytes() == before


@pytest.mark.parametrize("limit", [100, 5_000, 60_000, 200_000, -500, -100, -1])
def test_a_full_disk_leaves_all_as_it_was(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "a.root"
    graph = model(np.random.default_rng(1).standard_normal(50_000))
    if limit < 0:
        # Full at the very end, where ROOT writes its directories.
        analysis_file(path)
        rootio.save(graph, path)
        limit += path.stat().st_size
    analysis_file(path)
    before = path.read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(ModelError, match=r"a\.root: cannot be"):
            rootio.save(graph, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert path.read_bytes() == before
    only_files(tmp_path, "a.root")


@pytest.mark.parametrize("content", [b"", b"roo", b"no ROOT file" * 9, b"root" + b"\0" * 99])
def test_a_file_that_is_no_root_file_is_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "thesis.tex"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"thesis\.tex: cannot be"):
        rootio.save(model(), path)
    with pytest.raises(ROOT.std.runtime_error, match=r"thesis\.tex"):
        macro_reads(path)
    assert path.read_bytes() == content
    only_files(tmp_path, "thesis.tex")


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "target.root", tmp_path / "link.root"
    link.symlink_to("target.root")
    rootio.save(model(), link, name="first")
    target.chmod(0o640)
    rootio.save(model(), link, name="second")
    assert link.is_symlink()
    assert rootfile.names(target) == ["first", "second"]
    assert target.stat().st_mode & 0o777 == 0o640


# ---------------------------------------------------------------- what a macro cannot read


def test_unknown_names_and_files(tmp_path: Path) -> None:
    path = tmp_path / "a.root"

    def refused(name: str = "") -> str:
        with pytest.raises(ROOT.std.runtime_error) as caught:
            macro_reads(path, name)
        return str(caught.value)

    assert "a.root: cannot be opened" in refused()
    analysis_file(path)
    assert "a.root: holds no model" in refused()
    for name in ("higgs_v1", "ttbar"):
        rootio.save(model(), path, name=name)
    assert "say which model; it has higgs_v1, ttbar" in refused()
    assert "has no model 'higs'; it has higgs_v1, ttbar" in refused("higs")


def test_a_model_of_another_format_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    with uproot.recreate(path) as file:
        file["higgs/model"] = json.dumps({"format": 3, "weights": "elsewhere"})
        file["higgs/weights"] = ""
    with pytest.raises(ROOT.std.runtime_error, match="has the format 3, and these headers read 2"):
        macro_reads(path)


@writers
def test_damaged_files(tmp_path: Path, writer: ModuleType) -> None:
    """A macro finds the model as it was, or throws. (ROOT's own classes crash on some of these.)"""
    path = tmp_path / "m.root"
    rng = np.random.default_rng(5)
    graph = model(rng.standard_normal(400).astype(np.float32), rng.standard_normal(300))
    writer.save(graph, path, macro=Macro("int i;" * 50))
    sound = path.read_bytes()
    sha256 = rootfile.load(path).sha256
    counts = Counter[str]()
    for turn in range(150):
        damaged = bytearray(sound)
        # Where a file describes itself is more interesting than where the weights are.
        ends = (*range(300), *range(len(sound) - 900, len(sound)))
        for _ in range(1 + turn % 3):
            where = rng.choice(ends) if turn % 2 else rng.integers(len(sound))
            damaged[where] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
        path.write_bytes(damaged if turn % 10 else sound[: rng.integers(len(sound))])
        try:
            assert str(macro_reads(path).sha256) == sha256
            counts["read"] += 1
        except ROOT.std.runtime_error as error:
            counts["refused"] += str(path) in str(error)
    assert counts.total() == 150
    assert min(counts.values()) > 20
