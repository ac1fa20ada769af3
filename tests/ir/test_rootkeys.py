"""What a ROOT file says about itself, and what of it is believed; see also test_reader.py."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from sofie_rdf import limits
from sofie_rdf.errors import CorruptFile, LimitExceeded, ModelError, SofieError
from sofie_rdf.ir import record, rootfile
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.record import Macro, Record
from sofie_rdf.ir.rootkeys import KeyFile
from sofie_rdf.ir.types import DType, TensorType
from tests.rootfiles import Thing, blocks, model, root_file, text


def network(weights: Any, name: str = "m") -> Graph:
    build = Builder(name)
    build.input("x", TensorType(DType.FLOAT32, (7,)))
    return build.graph(build.constant(np.asarray(weights), "w"))


def stored(name: str = "m", number: float = 1.0) -> Record:
    return record.to_record(network(np.full(3, number), name), macro=Macro("int i;"))


def directory(name: str, held: Record) -> Thing:
    return model(name, held.json.encode(), held.header.encode(), held.weights)


def load(folder: Path, *things: Thing, name: str | None = None) -> Any:
    path = folder / "m.root"
    path.write_bytes(root_file(things))
    return rootfile.load(path, name)


def number(found: Any) -> float:
    return float(found.graph.constants["w"][0])


def test_a_file_that_tells_the_truth(tmp_path: Path) -> None:
    assert number(load(tmp_path, directory("m", stored()))) == 1
    with uproot.open(tmp_path / "m.root") as file:
        assert file.keys() == ["m;1", "m/model;1", "m/header;1", "m/weights;1"]


def test_the_newest_of_two_cycles_counts(tmp_path: Path) -> None:
    old, new = (replace(directory("m", stored(number=n)), cycle=int(n)) for n in (3.0, 12.0))
    assert number(load(tmp_path, old, new)) == 12
    assert number(load(tmp_path, new, old)) == 12


def test_two_objects_of_one_name_and_cycle_are_refused(tmp_path: Path) -> None:
    """uproot takes one of them, ROOT the other."""
    one, other = (directory("m", stored(number=n)) for n in (3.0, 12.0))
    with pytest.raises(CorruptFile, match="two objects 'm' of the same cycle"):
        load(tmp_path, one, other)
    assert one.parts is not None
    assert other.parts is not None
    both = replace(one, parts=[*one.parts, other.parts[2]])
    with pytest.raises(CorruptFile, match="two objects 'weights' of the same cycle"):
        load(tmp_path, both)


def test_a_name_that_two_directories_could_mean(tmp_path: Path) -> None:
    """The directory of the model of that name comes first, then what is called so."""
    named, renamed = directory("a%2520b", stored("a%20b", 1)), directory("a%20b", stored("c", 2))
    for things in ((named, renamed), (renamed, named)):
        assert number(load(tmp_path, *things, name="a%20b")) == 1
    assert number(load(tmp_path, renamed, name="a%20b")) == 2


def test_other_damaged_models_do_not_matter(tmp_path: Path) -> None:
    bad = model("bad", b"{", b"", b"")
    assert number(load(tmp_path, bad, directory("m", stored()), name="m")) == 1


def test_directories_that_lead_to_themselves_or_to_each_other(tmp_path: Path) -> None:
    """A list of keys is read once, so that a file of N bytes has no N^2 objects."""
    path = tmp_path / "m.root"
    parts = [Thing(f"d{i}", lies={"at": 100, "head": 60}, type="TDirectory") for i in range(3000)]
    path.write_bytes(root_file([directory("m", stored()), *parts]))
    with pytest.raises(CorruptFile):
        rootfile.names(path)
    assert number(rootfile.load(path, "m")) == 1


LIES: list[dict[str, int]] = [
    {"at": 0},
    {"at": 2**31},
    {"at": 2**32 - 1},
    {"nbytes": 0},
    {"nbytes": 2**31 - 1},
    {"nbytes": 5},
    {"head": 0},
    {"head": 2**16 - 1},
]


@pytest.mark.parametrize("lie", LIES, ids=str)
@pytest.mark.parametrize("what", ["m", "model", "weights"])
def test_keys_that_lie(tmp_path: Path, lie: dict[str, int], what: str) -> None:
    thing = directory("m", stored())
    if what == "m":
        thing = replace(thing, lies=lie)
    else:
        assert thing.parts is not None
        parts = [replace(p, lies=lie) if p.name == what else p for p in thing.parts]
        thing = replace(thing, parts=parts)
    if what == "m" and "nbytes" in lie:  # Nobody asks a directory for that.
        assert number(load(tmp_path, thing)) == 1
        return
    with pytest.raises((CorruptFile, ModelError)):
        load(tmp_path, thing)


def with_weights(thing: Thing) -> Thing:
    """A model with other weights, whose description says so."""
    held = directory("m", stored())
    assert held.parts is not None
    return replace(held, parts=[*held.parts[:2], thing])


def plain(data: bytes) -> bytes:
    return zlib.compress(data)


ZEROS = 2**24 - 1


@pytest.mark.parametrize(
    "thing",
    [
        Thing("weights", b"x" * 50, length=2**31 - 1),
        Thing("weights", b"x" * 50, length=2**30),
        Thing("weights", blocks(b"x" * 50, 0), length=100),
        Thing("weights", blocks(b"x" * 50, 99), length=100),
        Thing("weights", blocks(b"x" * 50, 101), length=100),
        Thing("weights", blocks(b"x" * 50, 100, method=b"CS\1"), length=100),
        Thing("weights", blocks(b"x" * 50, 100, method=b"XZ\0"), length=100),
        Thing("weights", blocks(b"x" * 50, 100, method=b"L4\1"), length=100),
        Thing("weights", blocks(plain(bytes(101)), 100, method=b"ZL\x08"), length=100),
        Thing("weights", blocks(plain(bytes(99)), 100, method=b"ZL\x08"), length=100),
        Thing("weights", blocks(plain(bytes(100)), 100, method=b"ZL\x08")[:-1], length=100),
    ],
    ids=lambda t: f"{t.stored[:3]!r}-{t.length}",
)
def test_blocks_that_lie(tmp_path: Path, thing: Thing) -> None:
    with pytest.raises(CorruptFile):
        load(tmp_path, with_weights(thing))


@pytest.mark.exhaustive
def test_a_little_file_that_unpacks_to_much(tmp_path: Path) -> None:
    """100 kB of zeros become no gigabytes."""
    import cramjam

    packed = bytes(cramjam.zstd.compress(bytes(ZEROS)))
    bomb = blocks(packed, ZEROS, 64)
    size = 64 * ZEROS
    held = stored()
    name = str(4 * size)
    json = held.json.replace(f'"bytes":{len(held.weights)},', f'"bytes":{name},')
    assert json != held.json
    things = [Thing(n, bomb, length=size) for n in ("weights", "weights_1", "weights_2")]
    parts = [Thing("model", text(json.encode())), *things, Thing("header", text(b""))]
    with pytest.raises((LimitExceeded, CorruptFile)):
        load(tmp_path, Thing("m", parts=parts))
    assert (tmp_path / "m.root").stat().st_size < 400_000


def test_the_limit_can_be_raised_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.root"
    rootfile.save(network(np.zeros(10**6)), path)
    monkeypatch.setenv("SOFIE_RDF_LIMITS", "bytes=1M")
    with pytest.raises(LimitExceeded, match="SOFIE_RDF_LIMITS"):
        rootfile.load(path)
    monkeypatch.setenv("SOFIE_RDF_LIMITS", "bytes=1G")
    assert rootfile.load(path).graph.constants["w"].size == 10**6


def test_a_size_in_the_graph_that_is_too_long(tmp_path: Path) -> None:
    """``N*N*...`` in the text of the graph: an error within the limits, not gigabytes."""
    held = stored()
    size = "*".join(["(N+M+1)"] * 40)
    json = held.json.replace("[7]", f"[{size}]")
    assert json != held.json
    sealed = _resealed(json)
    with limits.budget("terms=1000,seconds=60"), pytest.raises(SofieError):
        load(tmp_path, model("m", sealed, held.header.encode(), held.weights))


def _resealed(json: str) -> bytes:
    body = json[: json.rindex(',"sha256"')].encode()
    return body + b',"sha256":"' + record._sha256(body).encode() + b'"}'


# ---------------------------------------------------------------- RNTuples


@pytest.fixture(scope="module")
def ntuple(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("ntuple") / "m.root"
    rootfile.save(network(np.random.default_rng(1).normal(size=24)), path, ntuple=True)
    return path.read_bytes()


def bytes_of(data: bytes, path: Path) -> bytes:
    """The weights, as our reader reads them."""
    from sofie_rdf.ir.rootntuple import bytes_in

    path.write_bytes(data)
    with path.open("rb") as handle:
        file = KeyFile(handle, "there")
        return bytes_in(file, file.inside(file.top()["m"])["weights"], 256)


def test_an_rntuple_is_read_as_by_uproot(tmp_path: Path, ntuple: bytes) -> None:
    path = tmp_path / "m.root"
    found = bytes_of(ntuple, path)
    with uproot.open(path) as file:
        wanted = file["m/weights"].arrays(["bytes"])["bytes"]
        assert b"".join(np.asarray(part).tobytes() for part in wanted) == found


def test_a_damaged_rntuple_is_an_error_or_right(tmp_path: Path, ntuple: bytes) -> None:
    """Each bit of what describes it, and of the anchor."""
    path = tmp_path / "m.root"
    sound = bytes_of(ntuple, path)
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(3000):
        damaged = bytearray(ntuple)
        at = int(rng.integers(200, len(ntuple)))
        if rng.integers(2):
            damaged[at] ^= 1 << rng.integers(8)
        else:
            damaged[at : at + 4] = struct.pack("<i", rng.choice([-1, 0, 1, 2**31 - 1, -(2**31)]))
        try:
            with limits.budget(size=len(ntuple)):
                found = bytes_of(bytes(damaged), path)
            assert len(found) <= len(sound)
        except SofieError:
            refused += 1
        except KeyError:  # Now it is called something else.
            refused += 1
    assert refused > 100


def test_more_bytes_than_the_description_says(tmp_path: Path, ntuple: bytes) -> None:
    from sofie_rdf.ir.rootntuple import bytes_in

    path = tmp_path / "m.root"
    path.write_bytes(ntuple)
    with path.open("rb") as handle:
        file = KeyFile(handle, "there")
        weights = file.inside(file.top()["m"])["weights"]
        with pytest.raises(CorruptFile, match="not those of its description"):
            bytes_in(file, weights, 191)
