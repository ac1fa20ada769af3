"""The cache on disk: files that are whole or not there, and models that are not read again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir import contents
from sofie_rdf.ir.dims import Dim
from sofie_rdf.passes import switches
from sofie_rdf.runtime.cache import disk as cache
from sofie_rdf.runtime.compile import loaded, records
from sofie_rdf.runtime.compile import trial as trial_module
from tests.choice import some_of
from tests.forks import Forks

PROJECT = Path(__file__).resolve().parents[2]
HIGGS = PROJECT / "data" / "higgs.onnx"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, switched on."""
    place = tmp_path / "cache"
    monkeypatch.setenv("SOFIE_RDF_CACHE", str(place))
    return place


# Files --------------------------------------------------------------------------------------------

NAME = f"{'0' * 40}.dat"


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 1000], ids=len)
def test_what_is_stored_is_found(folder: Path, data: bytes) -> None:
    assert cache.find(NAME) is None
    cache.store(NAME, data)
    found = cache.find(NAME)
    assert found is not None and bytes(found) == data
    assert cache.entries() == [(folder / NAME, len(data) + 40)]
    cache.clear()
    assert cache.find(NAME) is None
    assert cache.entries() == []


@pytest.mark.parametrize("keep", [0, 3, 39, 60])
def test_truncated_files_are_removed(folder: Path, keep: int) -> None:
    cache.store(NAME, bytes(100))
    os.truncate(folder / NAME, keep)
    assert cache.find(NAME) is None
    assert not (folder / NAME).exists()


def test_changed_files_are_removed(folder: Path) -> None:
    for position in (0, 50, 99, 105, 139):
        cache.store(NAME, bytes(100))
        data = bytearray((folder / NAME).read_bytes())
        data[position] ^= 4
        (folder / NAME).write_bytes(data)
        assert cache.find(NAME) is None, position


def test_what_is_mapped_stays_when_the_file_is_replaced(folder: Path) -> None:
    cache.store(NAME, b"first")
    found = cache.find(NAME)
    assert found is not None
    cache.store(NAME, b"other")
    cache.clear()
    assert bytes(found) == b"first"
    assert list(folder.iterdir()) == []


def test_a_job_is_claimed_once(folder: Path) -> None:
    job = f"{'1' * 40}.job"
    assert cache.claim(job)
    assert not cache.claim(job)
    os.utime(folder / job, (0, 0))
    assert cache.claim(job), "who claimed it is long gone"


def test_clearing_leaves_what_is_being_made(folder: Path) -> None:
    with cache.workshop() as place:
        assert place is not None
        cache.clear()
        assert place.is_dir()
    assert not place.exists()
    abandoned = folder / ".making-abandoned"
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    cache.clear()
    assert not abandoned.exists()


def test_what_killed_processes_have_left_is_removed_by_whoever_keeps_something(
    folder: Path,
) -> None:
    cache.store(NAME, b"x")
    left = [folder / ".making-1" / "file", folder / f"{'1' * 40}.job", folder / f"{'1' * 40}.cxx"]
    stays = [folder / ".making-2" / "file", folder / f"{'2' * 40}.job", folder / "mine.job"]
    for path in (*left, *stays):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    for path in (*left, left[0].parent, stays[2]):
        os.utime(path, (0, 0))
    cache.store(NAME, b"y")
    assert not any(path.exists() for path in (*left, left[0].parent))
    assert all(path.exists() for path in stays)


def test_the_oldest_files_go_when_there_are_too_many(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{i}" * 40 + ".dat" for i in range(4)]
    for age, name in zip((30, 50, 40), names[:3], strict=True):
        cache.store(name, bytes(100))
        os.utime(folder / name, (10**9 - age, 10**9 - age))
    monkeypatch.setattr(cache, "_LARGEST", 2 * 140)
    cache.store(names[3], bytes(100))
    assert sorted(path.name for path, _ in cache.entries()) == [names[0], names[3]]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOFIE_RDF_CACHE", "off")
    assert cache.folder() is None
    monkeypatch.delenv("SOFIE_RDF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "sofie_rdf"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "sofie_rdf"
    monkeypatch.setenv("SOFIE_RDF_CACHE", str(tmp_path / "mine"))
    assert cache.folder() == tmp_path / "mine"


# Models -------------------------------------------------------------------------------------------

SCORE = """
import json, os, sys
os.environ.update(json.loads(sys.argv[2]))
import numpy as np, sofie_rdf as s
m = s.load(sys.argv[1])
x = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)
print(m.name, *(v.hex() for v in m(x).ravel().astype(float)))
print("read" if "sofie_rdf.frontends.onnx.reader" in sys.modules else "kept")
"""


# A process that has started ROOT, and nothing of ours.
FORKS = Forks(
    "import warnings; warnings.simplefilter('ignore'); import ROOT; ROOT.gInterpreter",
    {**os.environ, "PYTHONPATH": str(PROJECT)},
)


def score(model: Path, **environment: str) -> tuple[str, str]:
    """The name with the scores, and whether the file was read, in a new process."""
    pytest.importorskip("ROOT")
    settings = {"SOFIE_RDF_CACHE": os.environ["SOFIE_RDF_CACHE"], **environment}
    done = FORKS.run(SCORE, str(model), json.dumps(settings), seconds=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = done.stdout.splitlines()
    return first, second


@pytest.mark.usefixtures("folder")
def test_a_model_is_read_once_and_another_file_is_another_model(tmp_path: Path) -> None:
    numbers, how = score(HIGGS)
    assert how == "read"
    other = tmp_path / "higgs.onnx"
    other.write_bytes(other_higgs())
    changed, how = score(other)
    assert how == "read"
    assert changed != numbers
    assert score(HIGGS) == (numbers, "kept")
    assert score(HIGGS, SOFIE_RDF_CACHE="off") == (numbers, "read")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "name",
    some_of(
        ["higgs.onnx", "higgs_xgboost.ubj", "higgs_residual.pt2"],
        ["higgs.onnx", "higgs_xgboost.ubj"],
    ),
)
def test_a_file_is_hashed_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For its record, and for what is said of its origin."""
    if name.endswith("2"):
        pytest.importorskip("torch")
    pytest.importorskip("ROOT")
    monkeypatch.setattr(contents, "_COARSE", -1)
    content, hashed = (HIGGS.parent / name).read_bytes(), []
    (tmp_path / name).write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()

    def counted(data: bytes = b"") -> Any:
        hashed.append(True)
        return hashlib.sha256(data)

    monkeypatch.setattr(contents, "hashlib", SimpleNamespace(sha256=counted))
    model = sofie.load(tmp_path / name)
    assert model.graph.provenance["sha256"] == expected
    assert hashed == [True]
    sofie.load(tmp_path / name)
    assert hashed == [True]


def other_higgs() -> bytes:
    """Another model with the same names."""
    import onnx

    model = onnx.load(str(HIGGS))
    tensor = next(t for t in model.graph.initializer if t.name == model.graph.node[-2].input[1])
    held = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(-held, tensor.name))
    return bytes(model.SerializeToString())


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_replaced_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record would give the numbers of the new one for the old one, for good."""
    pytest.importorskip("ROOT")
    from sofie_rdf.frontends.onnx import proto

    x = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)
    expected = sofie.load(HIGGS)(x)
    other, opened = other_higgs(), proto.open_model
    (tmp_path / HIGGS.name).write_bytes(HIGGS.read_bytes())
    cache.clear()

    def replaced(source: Any) -> Any:
        source.write_bytes(other)
        return opened(source)

    with monkeypatch.context() as patched:
        patched.setattr("sofie_rdf.frontends.onnx.reader.open_model", replaced)
        changed = sofie.load(tmp_path / HIGGS.name)(x)
    assert not np.array_equal(changed, expected)
    (tmp_path / HIGGS.name).write_bytes(HIGGS.read_bytes())
    np.testing.assert_array_equal(sofie.load(tmp_path / HIGGS.name)(x), expected)


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_gone_after_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ROOT")
    from sofie_rdf.frontends.onnx import proto

    x = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)
    path = tmp_path / HIGGS.name
    path.write_bytes(HIGGS.read_bytes())
    opened = proto.open_model

    def removed(source: Any) -> Any:
        found = opened(source)
        path.unlink()
        return found

    with monkeypatch.context() as patched:
        patched.setattr("sofie_rdf.frontends.onnx.reader.open_model", removed)
        model = sofie.load(path)
    np.testing.assert_array_equal(model(x), sofie.load(HIGGS)(x))


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_replaced_after_it_was_loaded(tmp_path: Path) -> None:
    """What is emitted then would be another model than the one that runs."""
    pytest.importorskip("ROOT")
    x = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)
    path = tmp_path / HIGGS.name
    path.write_bytes(HIGGS.read_bytes())
    expected = sofie.load(path)(x)
    kept = sofie.load(path)
    path.write_bytes(other_higgs())
    with pytest.raises(sofie.ModelError, match="another one than when it was loaded"):
        _ = kept.emission
    np.testing.assert_array_equal(kept(x), expected)


@pytest.mark.usefixtures("folder")
def test_a_root_file_that_gets_one_more_model(tmp_path: Path) -> None:
    pytest.importorskip("ROOT")
    x = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)
    path = tmp_path / "models.root"
    model = sofie.load(HIGGS)
    model.save(path, name="first")
    sofie.load(path, "first")(x)
    kept, late = sofie.load(path, "first"), sofie.load(path, "first")
    assert kept._file.record and late._file.record
    model.save(path, name="second")
    assert kept.graph.outputs == model.graph.outputs
    sofie.load(HIGGS.with_name("higgs_autoencoder.onnx")).save(path, name="first")
    with pytest.raises(sofie.ModelError, match="another one than when it was loaded"):
        _ = late.graph


def test_weights_in_the_cache_are_not_hashed_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their hash stands behind them, and the code compares a checksum of its own."""
    pytest.importorskip("ROOT")
    x = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)
    expected = sofie.load(HIGGS)(x)
    # What hashes the weights for the first time fails from now on.
    monkeypatch.setattr(loaded, "hashlib", None)
    first = sofie.load(HIGGS)
    np.testing.assert_array_equal(first(x), expected)
    (file,) = folder.glob("*.dat")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    np.testing.assert_array_equal(sofie.load(HIGGS)(x), expected)
    assert cache.said_of(b"other") == cache.said_of(memoryview(b"other")) == b""


@pytest.mark.parametrize("suffix", some_of(["json", "dat", "npz"], ["json"]))
@pytest.mark.parametrize("damage", some_of(["flipped", "truncated", "removed"], ["flipped"]))
def test_damaged_records_are_not_used(folder: Path, suffix: str, damage: str) -> None:
    numbers, _ = score(HIGGS)
    (file,) = folder.glob(f"*.{suffix}")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(data if damage == "flipped" else data[: len(data) // 2])
    assert score(HIGGS)[0] == numbers
    assert score(HIGGS)[0] == numbers


@pytest.mark.usefixtures("folder")
def test_the_first_result_is_compared_with_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cling compiles anew, so its first results are looked at, without the file being read."""
    pytest.importorskip("ROOT")
    x = np.zeros((1, 7), np.float32)
    expected = sofie.load(HIGGS)(x)
    checked: list[str] = []
    check = trial_module.Trial.check
    monkeypatch.setattr(
        trial_module.Trial, "check", lambda self, *a: (checked.append(a[0]), check(self, *a))
    )
    monkeypatch.setattr(trial_module, "trials", None)
    model = sofie.load(HIGGS)
    np.testing.assert_array_equal(model(x), expected)
    assert checked == ["higgs"]
    key = records.key_of_file(HIGGS, "", [])
    record = records.find(key, lambda: iter(()))
    assert record is not None
    assert record.program.scratch == sofie.load(HIGGS).plan.nbytes
    (kept,) = record.program.trials()
    with pytest.raises(sofie.JitError, match="differs from the reference"):
        kept.check("higgs", {"score": kept.expected["score"] + 1})


@pytest.mark.usefixtures("folder")
def test_a_record_whose_sizes_cannot_be_read_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of a size may be longer than what is read of one."""
    pytest.importorskip("ROOT")
    x = np.zeros((1, 7), np.float32)
    expected = sofie.load(HIGGS)(x)

    def refused(text: str) -> Dim:
        raise ValueError(f"{text} is no size")

    monkeypatch.setattr(records, "parse_dim", refused)
    assert records.find(records.key_of_file(HIGGS, "", []), lambda: iter(())) is None
    np.testing.assert_array_equal(sofie.load(HIGGS)(x), expected)


@pytest.mark.usefixtures("folder")
def test_a_kept_model_is_whole(tmp_path: Path) -> None:
    """All that it can do works without the file having been read at first."""
    pytest.importorskip("ROOT")
    fresh = sofie.load(HIGGS)
    fresh(np.zeros((1, 7), np.float32))
    kept = sofie.load(HIGGS)
    assert (kept.name, kept.inputs, kept.outputs) == (fresh.name, fresh.inputs, fresh.outputs)
    assert str(kept) == str(fresh)
    assert kept.emission.header == fresh.emission.header
    assert kept.emission.weights == fresh.emission.weights
    kept.save(tmp_path / "m.root")
    stored = sofie.load(tmp_path / "m.root")
    x = np.ones((2, 7), np.float32)
    np.testing.assert_array_equal(stored(x), kept(x))
    again = sofie.load(tmp_path / "m.root")
    np.testing.assert_array_equal(again(x), kept(x))
    assert again.extras == stored.extras
    with pytest.raises(sofie.InputError, match="float64"):
        again(np.ones((2, 7)))


@pytest.mark.usefixtures("folder")
def test_what_is_kept_is_for_these_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = records.key_of_file(HIGGS)
    monkeypatch.setenv(switches.WINOGRAD, "0")
    assert usual and records.key_of_file(HIGGS) not in ("", usual)


@pytest.mark.usefixtures("folder")
def test_a_model_with_weights_in_other_files_is_always_read(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(str(HIGGS))
    path = tmp_path / "outside.onnx"
    onnx.save(model, str(path), save_as_external_data=True, size_threshold=0, location="w.bin")
    assert records.key_of_file(path) == ""
    numbers, how = score(path)
    assert (score(path), how) == ((numbers, "read"), "read")


@pytest.mark.usefixtures("folder")
def test_names_and_shapes_are_part_of_what_is_kept() -> None:
    pytest.importorskip("ROOT")
    for _ in range(2):
        model = sofie.load(HIGGS, "mine", shapes={"features": (3, 7)})
        assert model.name == "mine"
        assert model(np.zeros((3, 7), np.float32)).shape == (3, 1)
        with pytest.raises(sofie.InputError):
            model(np.zeros((2, 7), np.float32))
        assert sofie.load(HIGGS)(np.zeros((2, 7), np.float32)).shape == (2, 1)


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_no_model_stays_an_error(tmp_path: Path) -> None:
    shutil.copy(HIGGS, tmp_path / "damaged.onnx")
    os.truncate(tmp_path / "damaged.onnx", 1000)
    for _ in range(2):
        with pytest.raises(sofie.CorruptFile):
            sofie.load(tmp_path / "damaged.onnx")
    with pytest.raises(sofie.ModelError):
        sofie.load(tmp_path / "absent.onnx")


def spoil(path: Path, damage: str) -> None:
    """Do that to a file of the cache."""
    data = path.read_bytes()
    path.unlink()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    elif damage == "folder":
        path.mkdir()
    elif damage == "link":
        path.symlink_to("/dev/zero")
    elif damage == "pipe":
        os.mkfifo(path)
    elif damage == "another form":
        # With a trailer that is right, as another version may have written it.
        cache.store(path.name, b'{"another": ["form"]}')


@pytest.mark.parametrize("suffix", ["json", "dat", "npz"])
@pytest.mark.parametrize(
    "damage",
    some_of(
        ["removed", "empty", "truncated", "flipped", "folder", "link", "pipe", "another form"],
        ["removed", "flipped", "pipe"],
    ),
)
@pytest.mark.parametrize("step", ["load", "call", "parcel"])
def test_whatever_happens_to_a_kept_file(folder: Path, suffix: str, damage: str, step: str) -> None:
    """Before it is loaded, between that and the first call, and before workers need it."""
    pytest.importorskip("ROOT")
    x = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)
    wanted = sofie.load(HIGGS)(x)
    (file,) = folder.glob(f"*.{suffix}")
    model = sofie.load(HIGGS)
    if step == "parcel":
        _ = model.compiled
    spoil(file, damage)
    if step == "load":
        model = sofie.load(HIGGS)
    np.testing.assert_array_equal(model(x), wanted)
    if step == "parcel":
        assert model.parcel.content == sofie.load(HIGGS).parcel.content
    again = sofie.load(HIGGS)
    np.testing.assert_array_equal(again(x), wanted)


@pytest.mark.usefixtures("folder")
def test_clearing_between_loading_and_calling() -> None:
    pytest.importorskip("ROOT")
    x = np.zeros((1, 7), np.float32)
    wanted = sofie.load(HIGGS)(x)
    one, other = sofie.load(HIGGS), sofie.load(HIGGS)
    cache.clear()
    np.testing.assert_array_equal(one(x), wanted)
    cache.clear()
    np.testing.assert_array_equal(other(x), wanted)
    cache.clear()
    assert one.parcel.content == other.parcel.content
