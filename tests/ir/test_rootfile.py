"""Models in .root files, by uproot: bit for bit, beside other things, in one step, or an error."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from sofie_rdf.errors import (
    CorruptFile,
    GraphError,
    ModelError,
    UnsupportedFormat,
    UnsupportedOperator,
)
from sofie_rdf.ir import record, rootfile
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.operator import REGISTRY, Operator, operator
from sofie_rdf.ir.record import Macro, Record, Reference
from sofie_rdf.ir.types import Array, DType, TensorType


@operator(domain="test")
class Uses(Operator):
    """x; whatever else it is given is there to be stored"""

    alpha: Any = 1.0

    def infer(self, *tensors: TensorType) -> TensorType:
        return tensors[0]


_OPERATORS = {key: REGISTRY.pop(key) for key in list(REGISTRY) if key[0] == "test"}


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    REGISTRY.update(_OPERATORS)
    yield
    for key in _OPERATORS:
        del REGISTRY[key]


def model(*constants: Array, name: str = "higgs", alpha: Any = 0.1) -> Graph:
    build = Builder(name, {"producer": "a test"})
    x = build.input("x", TensorType(DType.FLOAT32, (symbol("N"), 7)))
    used = [build.constant(c, f"c/{i}") for i, c in enumerate(constants)]
    y = build(Uses(alpha), x, *used, outputs=["y"], origin=Origin("a.onnx", "node"))
    return build.graph(y)


def special() -> list[Array]:
    """Arrays with everything that a careless writer loses."""
    nans = np.array([0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x80000000, 1, 0x7F800000], np.uint32)
    doubles = np.array([0x7FF0000000000001, 2**63, 1, 0xFFF8000000000123], np.uint64)
    integers: list[Any] = [
        DType(f"{sign}int{bits}").numpy for sign in ("", "u") for bits in (8, 16, 32, 64)
    ]
    ends = [np.array([np.iinfo(t).min, np.iinfo(t).max, 1], t) for t in integers]
    empty = [np.zeros(shape, np.float32) for shape in ((0,), (3, 0, 2))]
    return [
        nans.view(np.float32).reshape(2, 3),
        doubles.view(np.float64),
        np.array(-0.0, np.float32),
        np.array(7, np.int64),
        np.array([[True], [False]]),
        np.zeros((0, 4), np.int64),
        np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
        np.zeros((1, 1, 1, 1, 1), np.float32),
        *ends,
        *empty,
    ]


def assert_same(found: Graph, wanted: Graph) -> None:
    assert str(found) == str(wanted)
    assert list(found.constants) == list(wanted.constants)
    for name, array in wanted.constants.items():
        assert_equal_bits(found.constants[name], array)


def assert_equal_bits(found: Array, wanted: Array) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert found.tobytes() == wanted.tobytes()
    assert found.flags.c_contiguous
    assert found.flags.aligned
    assert not found.flags.writeable


def only_files(folder: Path, *names: str) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)


# ---------------------------------------------------------------- round trips


def macro(header: str = "struct S {};\n") -> Macro:
    """What a macro needs; no macro is run here, so that it need not mean anything."""
    x, y = np.arange(14, dtype=np.float32).reshape(2, 7), np.array([[1.5], [2.5]])
    reference = Reference({"N": 2}, {"x": x, "flag": np.array(True)}, {"y": y}, {"y": y / 100})
    return Macro(header, (special()[0], x), {"namespace": "S", "sizes": ["N"]}, reference)


def test_a_model_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    graph = model(*special())
    extras = {"inputs": '["a"]', "é/;": ""}
    sha256 = rootfile.save(graph, path, extras=extras, macro=macro())
    stored = rootfile.load(path)
    assert_same(stored.graph, graph)
    assert dict(stored.extras) == extras
    assert stored.sha256 == sha256
    found, wanted = stored.macro, macro()
    assert found.header == wanted.header
    assert dict(found.interface) == dict(wanted.interface)
    assert [t.tobytes() for t in found.tensors] == [t.tobytes() for t in wanted.tensors]
    assert dict(found.reference.sizes) == {"N": 2}
    for part in ("inputs", "outputs", "bounds"):
        arrays = getattr(wanted.reference, part)
        assert list(getattr(found.reference, part)) == list(arrays)
        for name, array in arrays.items():
            assert_equal_bits(getattr(found.reference, part)[name], array)
    only_files(tmp_path, "m.root")


def test_equal_tensors_are_stored_once() -> None:
    array = np.arange(1000, dtype=np.float32)
    stored = record.to_record(model(array, array.copy()), macro=Macro(tensors=(array,)))
    assert len(stored.weights) == -(-array.nbytes // 64) * 64


ARRAYS: st.SearchStrategy[Array] = st.builds(
    lambda dtype, shape, seed: np.frombuffer(
        np.random.default_rng(seed).bytes(int(np.prod(shape)) * dtype.nbytes)
        if dtype is not DType.BOOL
        else bytes(int(np.prod(shape))),
        dtype.numpy,
    ).reshape(shape),
    st.sampled_from(DType),
    st.lists(st.integers(0, 4), max_size=4),
    st.integers(0, 2**32),
)


@settings(max_examples=25)
@given(st.lists(ARRAYS, max_size=6))
def test_any_arrays_come_back(arrays: list[Array]) -> None:
    graph = model(*arrays)
    assert_same(record.from_record(record.to_record(graph), "there").graph, graph)


def test_large_weights_are_fast(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sizes = [*(11_000 for _ in range(80)), 3_000_000, 8_000_000]
    graph = model(*(rng.standard_normal(n).astype(np.float32) for n in sizes))
    path = tmp_path / "m.root"
    began = time.perf_counter()
    rootfile.save(graph, path)
    saved = time.perf_counter()
    back = rootfile.load(path).graph
    loaded = time.perf_counter()
    assert_same(back, graph)
    # 47 MB take 0.7 s and 0.2 s on a free core.
    assert saved - began < 8
    assert loaded - saved < 4


def test_several_models_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    graphs = {
        n: model(np.array([i], np.float32)) for i, n in enumerate(["b", "a", "a/b", "c;1", ".."])
    }
    for name, graph in graphs.items():
        rootfile.save(graph, path, name=name)
    assert rootfile.names(path) == sorted(graphs)
    for name, graph in graphs.items():
        assert_same(rootfile.load(path, name).graph, graph)


def test_the_name_is_that_of_the_graph(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    rootfile.save(model(name="W+jets / 4"), path)
    assert rootfile.names(path) == ["W+jets / 4"]
    assert rootfile.load(path).graph.name == "W+jets / 4"


@given(st.lists(st.text(min_size=1), min_size=2, max_size=6, unique=True))
def test_directory_names_are_injective_and_safe(given: list[str]) -> None:
    directories = {record.directory_name(name) for name in given}
    assert len(directories) == len(given)
    for directory in directories:
        assert set(directory) <= set("%~_.-") | set(map(chr, range(48, 58))) | {
            c for c in directory if c.isascii() and c.isalpha()
        }
        assert not directory.startswith(".")
        assert len(directory) < 230


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "a/b",
        "a:b",
        "a;2",
        ".",
        "..",
        "%2F",
        "*",
        "é",
        "\x00",
        "\ud800",
        "x" * 5000,
        "weights",
    ],
    ids=ascii,
)
def test_any_name_is_a_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.root"
    rootfile.save(model(), path, name=name)
    assert rootfile.names(path) == [name]
    rootfile.load(path, name)


def test_a_directory_cannot_climb() -> None:
    assert record.directory_name("..") == "%2E."
    assert record.directory_name(".") == "%2E"
    assert record.directory_name("a.b/../c") == "a.b%2F..%2Fc"


def test_long_names_that_begin_alike_differ(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    for i in range(3):
        rootfile.save(model(np.array([i], np.int8)), path, name="x" * 300 + str(i))
    assert [
        int(rootfile.load(path, n).graph.constants["c/0"][0]) for n in rootfile.names(path)
    ] == [
        0,
        1,
        2,
    ]


def test_the_empty_name_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="needs a name"):
        rootfile.save(model(), tmp_path / "m.root", name="")
    only_files(tmp_path)


@pytest.mark.parametrize("name", ["a:b.root", "a#b.root", "a?b=c.root", "a b.root", "m", "é.root"])
def test_any_path_is_a_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / "d:e#f" / name
    path.parent.mkdir()
    for _ in range(2):
        rootfile.save(model(np.array([1], np.int8)), path)
        assert rootfile.names(str(path)) == ["higgs"]
        assert_same(rootfile.load(str(path)).graph, model(np.array([1], np.int8)))
    only_files(path.parent, name)


def test_the_layout_is_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    path = tmp_path / "m.root"
    arrays: list[Array] = [
        np.array([1, 2], np.float32),
        np.array([3], np.int64),
        np.zeros(200_000, np.float32),
    ]
    given = Macro("h é", (arrays[1],), {"sizes": []})
    rootfile.save(model(*arrays), path, extras={"k": "v"}, macro=given)
    with uproot.open(path) as file:
        assert file.classnames() == {
            "higgs;1": "TDirectory",
            "higgs/model;1": "TObjString",
            "higgs/header;1": "TObjString",
            "higgs/weights;1": "TObjString",
        }
        text = str(file["higgs/model"])
        assert str(file["higgs/header"]) == "h é"
        weights = str(file["higgs/weights"]).encode("utf-8", "surrogateescape")
        assert path.stat().st_size < 50_000
        assert b"ZS\x01" in path.read_bytes()
    content = b"".join(a.tobytes().ljust(-(-a.nbytes // 64) * 64, b"\0") for a in arrays)
    assert weights == content
    body, seal = text[:-77], text[-77:]
    assert seal == f',"sha256":"{hashlib.sha256(body.encode()).hexdigest()}"}}'
    document = json.loads(text)
    del document["sha256"]
    assert document.pop("writer").startswith("sofie_rdf")
    assert document.pop("graph") == str(model(*arrays))
    assert document == {
        "date": "2023-11-14T22:13:20+00:00",
        "format": 2,
        "name": "higgs",
        "header": {"bytes": 4, "sha256": hashlib.sha256("h é".encode()).hexdigest()},
        "weights": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()},
        "extras": {"k": "v"},
        "tensors": [
            {"name": "c/0", "dtype": "float32", "shape": [2], "offset": 0},
            {"name": "c/1", "dtype": "int64", "shape": [1], "offset": 64},
            {"name": "c/2", "dtype": "float32", "shape": [200_000], "offset": 128},
        ],
        "program": [[64, 8]],
        "interface": {"sizes": []},
        "reference": {"sizes": {}, "inputs": [], "outputs": [], "bounds": []},
    }


def test_long_weights_are_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootfile, "CHUNK", 100)
    path = tmp_path / "m.root"
    graph = model(np.arange(100, dtype=np.float32), *special())
    rootfile.save(graph, path)
    assert_same(rootfile.load(path).graph, graph)
    with uproot.open(path) as file:
        pieces = [k for k in file["higgs"].keys(cycle=False) if k.startswith("weights")]
    assert len(pieces) > 3
    rootfile.save(model(np.array([1], np.float32)), path, name="other")
    rootfile.save(model(np.array([1], np.float32)), path)
    with uproot.open(path) as file:
        assert sorted(file["higgs"].keys(cycle=False)) == ["header", "model", "weights"]


# ---------------------------------------------------------------- what is there already


def analysis_file(path: Path) -> None:
    with uproot.recreate(path, compression=uproot.LZ4(1)) as file:
        file.mktree("Events", {"x": np.float64})
        file["Events"].extend({"x": np.arange(1000.0)})
        file["sub/deep/h"] = np.histogram(np.arange(100.0), bins=7)
        file["note"] = "a string"
        file["other/weights"] = "no tree"
        file.mkrntuple("ntuple", {"q": np.float32})
        file["ntuple"].extend({"q": np.arange(50, dtype=np.float32)})


def assert_analysis_unharmed(path: Path) -> None:
    with uproot.open(path) as file:
        assert file["Events/x"].array().to_list() == list(range(1000))
        assert file["sub/deep/h"].values().sum() == 100
        assert file["note"] == "a string"
        assert file["other/weights"] == "no tree"
        assert file["ntuple"].arrays()["q"].to_list() == list(range(50))
        assert file.file.compression == uproot.LZ4(1)


def test_an_analysis_file_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    analysis_file(path)
    wanted: dict[str, Graph] = {}
    for turn in range(3):
        for name in ("one", "two"):
            wanted[name] = model(np.full(50 * turn + 3, turn, np.float32), *special())
            rootfile.save(wanted[name], path, name=name)
            assert_analysis_unharmed(path)
            for known, graph in wanted.items():
                assert_same(rootfile.load(path, known).graph, graph)
    assert rootfile.names(path) == ["one", "two"]
    with uproot.open(path) as file:
        assert sorted(file["one"].keys()) == ["header;1", "model;1", "weights;1"]


def test_saving_again_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The date is stored, and compressed.
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    path = tmp_path / "m.root"
    rootfile.save(model(np.zeros(100_000, np.float64)), path)
    rootfile.save(model(np.array([1], np.float32)), path)
    assert_same(rootfile.load(path).graph, model(np.array([1], np.float32)))
    # Nothing else was in the file, so that it begins anew.
    size = path.stat().st_size
    rootfile.save(model(np.array([1], np.float32)), path)
    assert path.stat().st_size == size


def test_saving_again_can_be_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    rootfile.save(model(np.array([1], np.float32)), path)
    before = path.read_bytes()
    with pytest.raises(ModelError, match=r"model 'higgs': is there already. overwrite=True"):
        rootfile.save(model(np.array([2], np.float32)), path, overwrite=False)
    assert path.read_bytes() == before
    rootfile.save(model(np.array([2], np.float32)), path, name="new", overwrite=False)
    assert rootfile.names(path) == ["higgs", "new"]


def test_a_file_without_keys_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    uproot.recreate(path).close()
    assert rootfile.names(path) == []
    rootfile.save(model(), path)
    assert rootfile.names(path) == ["higgs"]


@pytest.mark.parametrize("name", ["Events", "note", "ntuple", "sub", "other"])
def test_what_is_no_model_is_not_overwritten(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.root"
    analysis_file(path)
    before = path.read_bytes()
    with pytest.raises(ModelError, match=rf"'{name}' is a \S+ there, and no model"):
        rootfile.save(model(), path, name=name)
    assert path.read_bytes() == before
    only_files(tmp_path, "a.root")


def test_things_beside_the_model_in_its_directory_stay(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    rootfile.save(model(np.array([1], np.float32)), path)
    with uproot.update(path) as file:
        file["higgs/roc"] = np.histogram(np.arange(10.0), bins=2)
    rootfile.save(model(np.array([2], np.float32)), path)
    with uproot.open(path) as file:
        assert file["higgs/roc"].values().tolist() == [5, 5]
    assert_same(rootfile.load(path).graph, model(np.array([2], np.float32)))


def test_a_model_whose_directory_was_renamed_has_the_new_name(tmp_path: Path) -> None:
    path, copy = tmp_path / "m.root", tmp_path / "c.root"
    rootfile.save(model(np.array([1, 2], np.float32), np.array([3], np.int8)), path)
    with uproot.open(path) as file, uproot.recreate(copy) as other:
        for part in ("model", "header", "weights"):
            other[f"renamed/{part}"] = str(file[f"higgs/{part}"])
    assert rootfile.names(copy) == ["renamed"]
    assert_same(
        rootfile.load(copy, "renamed").graph,
        model(np.array([1, 2], np.float32), np.array([3], np.int8)),
    )


# ---------------------------------------------------------------- all or nothing


@pytest.mark.parametrize(
    "content", [b"", b"roo", b"hello, I am no ROOT file" * 9, b"root" + b"\0" * 99]
)
def test_a_file_that_is_no_root_file_is_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "thesis.tex"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"thesis.tex: cannot be"):
        rootfile.save(model(), path)
    assert path.read_bytes() == content
    only_files(tmp_path, "thesis.tex")


def test_a_truncated_root_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    analysis_file(path)
    content = path.read_bytes()[:-100]
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is truncated"):
        rootfile.save(model(), path)
    assert path.read_bytes() == content
    only_files(tmp_path, "a.root")


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt, MemoryError])
def test_an_exception_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool, error: type[BaseException]
) -> None:
    path = tmp_path / "a.root"
    if existing:
        analysis_file(path)
    before = path.read_bytes() if existing else b""

    string, written = rootfile._tobjstring, []

    def fail(content: bytes) -> Any:
        written.append(content)
        if len(written) == 2:
            raise error("in the middle")
        return string(content)

    monkeypatch.setattr(rootfile, "_tobjstring", fail)
    expected = error if error is KeyboardInterrupt else ModelError
    with pytest.raises(expected):
        rootfile.save(model(np.zeros(10)), path)
    only_files(tmp_path, *(["a.root"] if existing else []))
    assert not existing or path.read_bytes() == before


@pytest.mark.parametrize("limit", [100, 5_000, 60_000, 200_000])
def test_a_full_disk_leaves_all_as_it_was(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "a.root"
    analysis_file(path)
    before = path.read_bytes()
    rng = np.random.default_rng(1)
    graph = model(rng.standard_normal(50_000))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(ModelError, match=r"a\.root: cannot be written"):
            rootfile.save(graph, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert path.read_bytes() == before
    only_files(tmp_path, "a.root")


KILLED = """
import os, signal, sys
import numpy as np
from sofie_rdf.ir import record, rootfile
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.types import DType, TensorType

string, written = rootfile._tobjstring, []
def killed(content):
    written.append(content)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return string(content)
rootfile._tobjstring = killed
build = Builder("m")
build.input("x", TensorType(DType.FLOAT32, (1,)))
build.constant(np.zeros(1000), "c")
rootfile.save(build.graph("x"), sys.argv[1])
"""


def test_a_killed_writer_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    analysis_file(path)
    before = path.read_bytes()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    # What it left does not disturb the next one, which removes it.
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.warns(RuntimeWarning, match="has been killed"):
        rootfile.save(model(), path)
    assert_analysis_unharmed(path)
    only_files(tmp_path, "a.root")


def test_a_file_that_changes_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    path.write_bytes(b"before")

    def disturbed() -> None:
        with rootfile.replacing(path) as copy:
            copy.write_bytes(b"mine")
            path.write_bytes(b"theirs")

    with pytest.raises(ModelError, match="changed by someone else"):
        disturbed()
    assert path.read_bytes() == b"theirs"
    only_files(tmp_path, "a.root")


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "target.root", tmp_path / "link.root"
    link.symlink_to("target.root")
    rootfile.save(model(), link, name="first")
    target.chmod(0o640)
    rootfile.save(model(), link, name="second")
    assert link.is_symlink()
    assert rootfile.names(target) == ["first", "second"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    only_files(tmp_path, "link.root", "target.root")


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    rootfile.save(model(), tmp_path / "m.root")
    assert (tmp_path / "m.root").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_read_only_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    rootfile.save(model(), path)
    path.chmod(0o444)
    with pytest.raises(ModelError, match="Permission denied"):
        rootfile.save(model(), path)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "m.root", Path("/dev/null"), tmp_path / ("x" * 300)):
        with pytest.raises(ModelError, match=r"cannot be written|no regular file"):
            rootfile.save(model(), path)
    only_files(tmp_path)


def test_a_graph_that_cannot_be_stored_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.root"
    with pytest.raises(ModelError, match=r"test\.Uses\(alpha=<list>\) cannot be stored"):
        rootfile.save(model(alpha=[1]), path)
    with pytest.raises(GraphError):
        rootfile.save(Builder("empty").graph(), path)
    with pytest.raises(ModelError, match="extras maps strings"):
        rootfile.save(model(), path, extras={"a": 1})  # type: ignore[dict-item]
    with pytest.raises(ModelError, match="element type complex128"):
        rootfile.save(
            model(), path, macro=Macro(reference=Reference(inputs={"z": np.zeros(1, complex)}))
        )
    only_files(tmp_path)


# ---------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize("epoch", ["9" * 20, "253402300800", "9" * 5000])
def test_a_time_without_a_date_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(ModelError, match=r"SOURCE_DATE_EPOCH=.* is no time"):
        rootfile.save(model(), tmp_path / "a.root")
    only_files(tmp_path)


def test_unknown_names_and_files(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with pytest.raises(ModelError, match="No such file"):
        rootfile.load(path)
    analysis_file(path)
    assert rootfile.names(path) == []
    with pytest.raises(
        ModelError, match=r"a\.root: holds no model, but 'Events', 'note', 'ntuple'"
    ):
        rootfile.load(path)
    with pytest.raises(ModelError, match=r"has no model 'higgs'. It has none"):
        rootfile.load(path, "higgs")
    rootfile.save(model(), path, name="higgs_v1")
    rootfile.save(model(), path, name="ttbar")
    with pytest.raises(ModelError, match=r"holds 2 models: 'higgs_v1', 'ttbar'. Say which"):
        rootfile.load(path)
    with pytest.raises(ModelError, match=r"no model 'higs_v1'. Did you mean 'higgs_v1'"):
        rootfile.load(path, "higs_v1")
    with pytest.raises(ModelError, match=r"no model 'Events'. It has 'higgs_v1', 'ttbar'"):
        rootfile.load(path, "Events")


def test_a_header_of_zeros_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    path.write_bytes(b"root" + bytes(999))
    with pytest.raises(CorruptFile, match=r"m\.root: has a damaged header"):
        rootfile.names(path)


def test_a_bool_is_zero_or_one() -> None:
    stored = record.to_record(model(np.array([True, False])))
    wrong = b"\1\2".ljust(64, b"\0")
    with pytest.raises(CorruptFile, match="no bool"):
        record.from_record(resealed(stored, weights=wrong), "there")


def test_other_files_are_no_root_files(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x07\x12\x04test" * 99)
    with pytest.raises(UnsupportedFormat, match=r"m\.onnx: is no ROOT file"):
        rootfile.load(path)
    with pytest.raises(UnsupportedFormat):
        rootfile.names(path)
    with pytest.raises(ModelError, match="cannot be read"):
        rootfile.load(tmp_path)


Document = dict[str, Any]


def resealed(
    stored: Record, change: Callable[[Document], Any] = lambda _: None, weights: bytes = b""
) -> Record:
    """The record with other contents, and checksums that say that all is well."""
    document = json.loads(stored.json)
    del document["sha256"]
    weights = weights or stored.weights
    digest = hashlib.sha256(weights).hexdigest()
    document["weights"] = {"bytes": len(weights), "sha256": digest}
    change(document)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))[:-1]
    seal = hashlib.sha256(text.encode()).hexdigest()
    return Record(f'{text},"sha256":"{seal}"}}', weights, stored.header)


def write_raw(path: Path, stored: Record) -> None:
    with uproot.recreate(path) as file:
        file["higgs/model"] = stored.json
        file["higgs/weights"] = stored.weights.decode("utf-8", "surrogateescape")
        file["higgs/header"] = stored.header


GRAPH_ARRAYS: list[Array] = [
    np.array([[1, 2, 3], [4, 5, 6]], np.float32),
    np.array([7, 8], np.int64),
]


def sample(**more: Any) -> Record:
    return record.to_record(model(*GRAPH_ARRAYS), macro=macro(**more))


def _change(**values: Any) -> Callable[[Document], None]:
    return lambda document: document.update(values)


def _tensor(index: int, **values: Any) -> Callable[[Document], None]:
    return lambda document: document["tensors"][index].update(values)


LIES: dict[str, Callable[[Document], Any]] = {
    "offset odd": _tensor(0, offset=1),
    "offset beyond": _tensor(1, offset=2**20),
    "offset at the end": lambda d: _tensor(1, offset=d["weights"]["bytes"])(d),
    "offset negative": _tensor(1, offset=-1),
    "offset huge": _tensor(1, offset=2**62),
    "offset no number": _tensor(1, offset="1"),
    "offset true": _tensor(1, offset=True),
    "shape shorter": _tensor(0, shape=[2, 2]),
    "shape other": _tensor(0, shape=[3, 2]),
    "shape negative": _tensor(0, shape=[-2, -3]),
    "shape huge": _tensor(0, shape=[2**31 - 1] * 20),
    "shape large": _tensor(0, shape=[2**30]),
    "shape overflows": _tensor(0, shape=[2**32, 2**32]),
    "shape deep": _tensor(0, shape=[1] * 1000),
    "shape no list": _tensor(0, shape=6),
    "shape of floats": _tensor(0, shape=[2.0, 3.0]),
    "dtype other": _tensor(0, dtype="float64"),
    "dtype bytes": _tensor(1, dtype="uint8", shape=[16]),
    "dtype bool": _tensor(1, dtype="bool", shape=[16]),
    "dtype unknown": _tensor(0, dtype="float16"),
    "dtype no string": _tensor(0, dtype=1),
    "name other": _tensor(0, name="c/7"),
    "name twice": _tensor(0, name="c/1"),
    "name missing": lambda d: d["tensors"][0].pop("name"),
    "tensor missing": lambda d: d["tensors"].pop(),
    "tensor extra": lambda d: d["tensors"].append(
        {"name": "c/2", "dtype": "float32", "shape": [], "offset": 0}
    ),
    "tensor is number": lambda d: d["tensors"].append(1),
    "no table": _change(tensors=None),
    "table is object": _change(tensors={}),
    "no reference": _change(reference=[]),
    "reference beyond": lambda d: d["reference"]["inputs"][0].update(shape=[2**20]),
    "sizes of text": lambda d: d["reference"].update(sizes={"N": "2"}),
    "program beyond": _change(program=[[0, 2**40]]),
    "program odd": _change(program=[[8, 8]]),
    "program of text": _change(program=[["0", 8]]),
    "program of three": _change(program=[[0, 8, 8]]),
    "interface is list": _change(interface=[]),
    "weights longer": lambda d: d["weights"].update(bytes=2**40),
    "weights of others": lambda d: d["weights"].update(sha256="0" * 64),
    "no graph": lambda d: d.pop("graph"),
    "other graph": _change(graph="model higgs\n"),
    "graph is number": _change(graph=1),
    "header is number": _change(header=1),
    "extras hold numbers": _change(extras={"a": 1}),
    "no format": lambda d: d.pop("format"),
    "format zero": _change(format=0),
    "format is text": _change(format="1"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_description_that_lies_is_corrupt(tmp_path: Path, lie: str) -> None:
    stored = resealed(sample(), LIES[lie])
    path = tmp_path / "m.root"
    write_raw(path, stored)
    with pytest.raises((CorruptFile, UnsupportedFormat), match=r"m\.root: model 'higgs'"):
        rootfile.load(path)
    with pytest.raises((CorruptFile, UnsupportedFormat), match=r"^there"):
        record.from_record(stored, "there")


def test_the_raw_file_without_a_lie_is_right(tmp_path: Path) -> None:
    write_raw(tmp_path / "m.root", resealed(sample()))
    assert_same(rootfile.load(tmp_path / "m.root").graph, model(*GRAPH_ARRAYS))


@pytest.mark.parametrize("part", ["weights", "header"])
def test_changed_parts_are_corrupt(tmp_path: Path, part: str) -> None:
    stored = sample()
    for changed in (b"", b"x", stored.weights[:-1], stored.weights + b"\0", stored.weights[::-1]):
        value = changed if part == "weights" else changed.hex()
        write_raw(tmp_path / "m.root", replace(stored, **{part: value}))
        with pytest.raises(CorruptFile, match=r"m\.root: model 'higgs'"):
            rootfile.load(tmp_path / "m.root")


@pytest.mark.parametrize("part", ["weights", "header"])
def test_missing_parts_are_corrupt(tmp_path: Path, part: str) -> None:
    write_raw(tmp_path / "m.root", sample())
    with uproot.update(tmp_path / "m.root") as file:
        del file["higgs"][f"{part};1"]
    with pytest.raises(CorruptFile, match="missing"):
        rootfile.load(tmp_path / "m.root")


@pytest.mark.parametrize("text", ["", "hello", "[]", "1", "{}", "[" * 100_000, '{"format": 2}'])
def test_a_description_that_is_none_is_corrupt(tmp_path: Path, text: str) -> None:
    write_raw(tmp_path / "m.root", replace(sample(), json=text))
    with pytest.raises(CorruptFile):
        rootfile.load(tmp_path / "m.root")


def test_a_model_of_the_future_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    write_raw(path, replace(sample(), json=json.dumps({"format": 3, "weights": "elsewhere"})))
    with pytest.raises(UnsupportedFormat) as caught:
        rootfile.load(path)
    wanted = "was written by a newer sofie_rdf (format 3; this one reads 2): upgrade"
    assert caught.value.thing == wanted
    assert rootfile.names(path) == ["higgs"]


@pytest.mark.parametrize("key", ["date", "name", "writer", "graph", "extras", "interface"])
def test_the_checksum_covers_everything(tmp_path: Path, key: str) -> None:
    stored = sample()
    document = json.loads(stored.json)
    seal = document.pop("sha256")
    document[key] = {"a": "b"} if isinstance(document[key], dict) else document[key] + " "
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))[:-1]
    write_raw(tmp_path / "m.root", replace(stored, json=f'{text},"sha256":"{seal}"}}'))
    with pytest.raises(CorruptFile, match="the checksum is wrong"):
        rootfile.load(tmp_path / "m.root")


def test_an_operator_that_is_not_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.root"
    rootfile.save(model(), path)
    monkeypatch.delitem(REGISTRY, ("test", "Uses"))
    with pytest.raises(UnsupportedOperator, match=r"m\.root: model 'higgs': graph line 4: .*Uses"):
        rootfile.load(path)


def load_damaged(path: Path, content: bytes, wanted: Graph) -> None:
    """The model is read as it was, or one of the three errors is raised, without endless work."""
    path.write_bytes(content)
    began = time.process_time()
    try:
        found = rootfile.load(path)
    except (CorruptFile, UnsupportedFormat, ModelError) as error:
        assert type(error) in (CorruptFile, UnsupportedFormat) or "no model" in str(error)  # noqa: PT017
    else:
        assert_same(found.graph, wanted)
        assert found.macro.header == "int i;"
    assert time.process_time() - began < 10


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    REGISTRY.update(_OPERATORS)
    path = tmp_path_factory.mktemp("sound") / "m.root"
    rootfile.save(model(*special()), path, macro=macro("int i;"))
    return path.read_bytes()


def test_truncated_files(tmp_path: Path, sound: bytes) -> None:
    for length in [*range(120), *range(120, len(sound), 997), len(sound) - 1]:
        path = tmp_path / "m.root"
        path.write_bytes(sound[:length])
        with pytest.raises(CorruptFile, match=r"m\.root"):
            rootfile.load(path)
        with pytest.raises(CorruptFile):
            rootfile.names(path)


def test_damaged_files(tmp_path: Path, sound: bytes) -> None:
    rng = np.random.default_rng(7)
    wanted = model(*special())
    address_space = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (24 * 2**30, address_space[1]))
    try:
        for turn in range(200):
            damaged = np.frombuffer(sound, np.uint8).copy()
            if turn % 3 == 0:
                damaged[rng.integers(len(sound), size=rng.integers(1, 20))] = rng.integers(256)
            elif turn % 3 == 1:
                damaged[rng.integers(len(sound))] ^= 1 << rng.integers(8)
            else:
                start = rng.integers(len(sound))
                damaged[start : start + rng.integers(1, 9)] = rng.choice([0, 127, 128, 255])
            load_damaged(tmp_path / "m.root", damaged.tobytes(), wanted)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, address_space)


def test_random_files(tmp_path: Path, sound: bytes) -> None:
    rng = np.random.default_rng(8)
    for turn in range(60):
        head = sound[: rng.integers(4, 400)] if turn % 2 else b""
        load_damaged(tmp_path / "m.root", head + rng.bytes(len(sound)), model())
