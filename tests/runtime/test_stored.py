"""A stranger's .root file: Python and a macro see the same model in it, or refuse it."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir import record, rootfile
from sofie_rdf.ir.record import Macro, Record, Reference
from sofie_rdf.runtime.cache import trust
from sofie_rdf.runtime.compile.interpreter import declare
from tests.rootfiles import Thing, blocks, model, root_file, text

ROOT = pytest.importorskip("ROOT")
DATA = Path(__file__).resolve().parents[2] / "data"


@cache
def reader() -> Any:
    declare('#include "sofie/rdf/RSofieReader.hxx"\n')
    return ROOT.sofie.RSofieReader


def macro_refuses(path: Path, name: str = "", trusted: str = "") -> str:
    with pytest.raises((ROOT.std.runtime_error, TypeError)) as caught:
        reader()(str(path), name, trusted)
    return str(caught.value)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> rootfile.StoredModel:
    path = tmp_path_factory.mktemp("sound") / "higgs.root"
    sofie.load(DATA / "higgs.onnx").save(path)
    return rootfile.load(path)


def written(path: Path, name: str, held: Record) -> Path:
    header = held.header.encode("utf-8", "surrogateescape")
    path.write_bytes(root_file([model(name, held.json.encode(), header, held.weights)]))
    return path


def resealed(json_text: str) -> str:
    body = json_text[: json_text.rindex(',"sha256"')]
    return f'{body},"sha256":"{hashlib.sha256(body.encode()).hexdigest()}"}}'


# Trust --------------------------------------------------------------------------------------------


def changed(sound: rootfile.StoredModel, change: Callable[[str], str]) -> Record:
    """The model with another description, whose checksum says that all is well."""
    held = record.to_record(sound.graph, macro=sound.macro)
    text = change(held.json)
    assert text != held.json
    return replace(held, json=resealed(text))


HARM = 'x;}bool a=std::system(\\"touch HARM\\");namespace x{'


def _twice(text: str) -> str:
    """A second interface in front of the right one, which Python's dictionary would forget."""
    interface = json.dumps(json.loads(text)["interface"], sort_keys=True, separators=(",", ":"))
    other = interface.replace("TMVA_SOFIE_higgs", HARM)
    return text.replace('"interface":', f'"interface":{other},"interface":', 1)


def test_an_interface_that_is_there_twice(tmp_path: Path, sound: rootfile.StoredModel) -> None:
    """Python compared the last one, and the macro would have run the first one."""
    harm = tmp_path / "harm"
    held = changed(sound, lambda t: _twice(t).replace("HARM", str(harm)))
    path = written(tmp_path / "m.root", "higgs", held)
    with pytest.raises(sofie.CorruptFile, match="not as sofie_rdf writes it"):
        sofie.trust(path)
    with pytest.raises(sofie.CorruptFile, match="not as sofie_rdf writes it"):
        sofie.load(path)
    why = macro_refuses(path, trusted=record.sha256_of(held.json))
    assert "not as sofie_rdf writes it" in why
    assert not harm.exists()


@pytest.mark.parametrize(
    "namespace", [HARM, "", "9", "a b", "a\\nb", "a-b", "\\u00e4", "a::b", 'a\\"b', "a/**/"]
)
def test_a_namespace_is_a_name(tmp_path: Path, sound: rootfile.StoredModel, namespace: str) -> None:
    """Nothing of it becomes code, even if the user trusts the checksum."""
    harm = tmp_path / "harm"
    name = namespace.replace("HARM", str(harm))
    held = changed(
        sound, lambda t: t.replace('"namespace":"TMVA_SOFIE_higgs"', f'"namespace":"{name}"')
    )
    path = written(tmp_path / "m.root", "higgs", held)
    with pytest.raises(sofie.CorruptFile, match="namespace is no name"):
        sofie.trust(path)
    assert "namespace is no name" in macro_refuses(path, trusted=record.sha256_of(held.json))
    assert not harm.exists()


def _larger(arrays: Any) -> dict[str, Any]:
    return {name: np.asarray(a) * 3 + 1 for name, a in arrays.items()}


def _float(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: a.astype(np.float32) for name, a in arrays.items()}


def _interface(**more: Any) -> Callable[[Macro], Macro]:
    return lambda m: replace(m, interface={**m.interface, **more})


def _reference(**changes: Callable[[Any], Any]) -> Callable[[Macro], Macro]:
    """With the arrays of the reference changed."""

    def change(macro: Macro) -> Macro:
        known = macro.reference
        more = {key: change(getattr(known, key)) for key, change in changes.items()}
        return replace(macro, reference=replace(known, **more))

    return change


def _of_doubles(macro: Macro) -> Macro:
    (port,) = macro.interface["inputs"]
    return _interface(inputs=[{**port, "dtype": "float64"}])(macro)


def _of_other_axes(macro: Macro) -> Macro:
    (port,) = macro.interface["inputs"]
    return _interface(inputs=[{**port, "axes": ["M", 7]}])(macro)


FILLED = {"features": {"lengths": [2, 4], "mask": 0, "pads": ["0"]}}

LIES: dict[str, Callable[[Macro], Macro]] = {
    "header": lambda m: replace(m, header=m.header + "\n"),
    "header of one space": lambda m: replace(m, header=m.header.replace("{", " {", 1)),
    "entry": _interface(namespace="other"),
    "size": _interface(sizes=["M"]),
    "more": _interface(more=1),
    "axes": _of_other_axes,
    "features": _interface(features={"features": list("abcdefg")}),
    "labels": _interface(labels={"score": ["signal"]}),
    "sets": _interface(sets=FILLED),
    "type": _of_doubles,
    "weight": lambda m: replace(m, tensors=[np.array(m.tensors[0][::-1]), *m.tensors[1:]]),
    "no weight": lambda m: replace(m, tensors=m.tensors[:-1]),
    "no reference": lambda m: replace(m, reference=Reference()),
    "inputs": _reference(inputs=lambda a: _float(_larger(a))),
    "outputs": _reference(outputs=_larger),
    "bounds": _reference(bounds=_larger),
    "no bounds": _reference(bounds=lambda a: {k: np.full_like(v, -1) for k, v in a.items()}),
    "sizes": _reference(sizes=lambda _: {"N": 3}),
}


@pytest.mark.parametrize("lie", LIES)
def test_all_that_a_macro_takes_is_compared(
    tmp_path: Path, sound: rootfile.StoredModel, lie: str
) -> None:
    held = record.to_record(sound.graph, macro=LIES[lie](sound.macro))
    path = written(tmp_path / "m.root", "higgs", held)
    with pytest.raises(sofie.ModelError, match="is not what this version of sofie_rdf writes"):
        sofie.trust(path)
    assert not trust.is_trusted(record.sha256_of(held.json))
    assert "you have not said that you trust" in macro_refuses(path)


def test_a_model_without_a_lie_is_trusted(tmp_path: Path, sound: rootfile.StoredModel) -> None:
    path = written(tmp_path / "m.root", "higgs", record.to_record(sound.graph, macro=sound.macro))
    sofie.trust(path)
    assert list(reader()(str(path)).Compute([1.0] * 7))


def test_a_released_file_still_loads_and_can_be_trusted() -> None:
    """Of format 2, from before there was a canonical text; it was the same."""
    found = rootfile.load(DATA / "graph_network.root")
    assert len(found.graph.nodes) > 10


def test_a_name_is_no_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind a checksum in the list says nothing, in Python as in a macro."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "m.root"
    sofie.load(DATA / "higgs.onnx").save(path)
    sha256 = rootfile.load(path).sha256
    for line in (f"{'0' * 64} {sha256}", f" {sha256} higgs", f"{sha256}0 higgs", f"0{sha256} h"):
        trust.file().write_text(f"{line}\n")
        assert not trust.is_trusted(sha256), line
        assert "you have not said" in macro_refuses(path)
    for word in (f"{sha256}0", f"a{sha256}", sha256[:-1], sha256.upper()):
        monkeypatch.setenv("SOFIE_RDF_TRUSTED", word)
        assert not trust.is_trusted(sha256), word
        assert "you have not said" in macro_refuses(path)
    assert not trust.is_trusted("")
    monkeypatch.setenv("SOFIE_RDF_TRUSTED", "")
    sofie.trust(path)
    assert trust.file().read_text() == f"0{sha256} h\n{sha256} higgs\n"
    assert reader()(str(path))


def test_the_list_may_end_in_the_middle_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    trust.file().parent.mkdir()
    trust.file().write_bytes(b"0123\xff\xfe half a li")
    assert trust.trust("a" * 64, "m\n" + "b" * 64)
    assert trust.is_trusted("a" * 64)
    assert not trust.is_trusted("b" * 64)


def test_a_file_without_models_cannot_be_trusted(tmp_path: Path) -> None:
    from sofie_rdf.cli import main

    path = tmp_path / "m.root"
    path.write_bytes(root_file([Thing("h", text(b"hello"))]))
    with pytest.raises(sofie.ModelError, match="holds no model, but 'h'"):
        sofie.trust(path)
    assert main(["trust", str(path)]) == 1


# Both readers -------------------------------------------------------------------------------------


def checksums(path: Path, name: str = "") -> tuple[str, str]:
    """The checksum of the model that Python and a macro take, "" where they refuse."""
    try:
        python = rootfile.load(path, name or None).sha256
    except sofie.SofieError:
        python = ""
    try:
        macro = str(ROOT.sofie.StoredModels(str(path)).model(name).sha256)
    except ROOT.std.runtime_error:
        macro = ""
    return python, macro


def simple(name: str, number: float) -> Thing:
    held = record.to_record(_network(name, number))
    return model(name, held.json.encode(), b"", held.weights)


def _network(name: str, number: float) -> Any:
    from sofie_rdf.ir.builder import Builder
    from sofie_rdf.ir.types import DType, TensorType

    build = Builder(name)
    build.input("x", TensorType(DType.FLOAT32, (7,)))
    return build.graph(build.constant(np.full(3, number), "w"))


def _parts(thing: Thing, **more: Thing) -> Thing:
    assert thing.parts is not None
    return replace(thing, parts=[more.get(p.name, p) for p in thing.parts])


ONE, TWO, TWO_N = simple("m", 1), simple("m", 2), simple("n", 2)
WEIGHTS = text(record.to_record(_network("m", 1)).weights)
FILES: dict[str, Sequence[Thing]] = {
    "sound": [ONE],
    "a newer cycle": [replace(ONE, cycle=2), replace(TWO, cycle=12)],
    "an older cycle": [replace(ONE, cycle=12), replace(TWO, cycle=2)],
    "a large cycle": [replace(ONE, cycle=1), replace(TWO, cycle=40000)],
    "the same cycle": [ONE, TWO],
    "the same cycle inside": [replace(ONE, parts=[*(ONE.parts or ()), *(TWO.parts or ())])],
    "another class": [_parts(ONE, weights=Thing("weights", WEIGHTS, type="TNamed"))],
    "a newer one of another class": [
        replace(ONE, parts=[*(ONE.parts or ()), Thing("model", b"", type="TTree", cycle=2)])
    ],
    "a blob at its place": [Thing("m", text(b"hello"))],
    "no weights": [replace(ONE, parts=(ONE.parts or ())[:2])],
    "another one without weights": [ONE, replace(TWO_N, parts=(TWO_N.parts or ())[:2])],
    "another one whose weights are of another class": [
        ONE,
        _parts(TWO_N, weights=Thing("weights", b"", type="TNamed")),
    ],
    "a description of something else": [ONE, Thing("n", parts=[Thing("model", text(b"{}"))])],
    "a damaged description": [ONE, Thing("n", parts=[Thing("model", text(b'{"format":'))])],
    "no header": [replace(ONE, parts=[p for p in ONE.parts or () if p.name != "header"])],
    "packed": [
        _parts(ONE, weights=Thing("weights", blocks(b"x" * 9, 8, method=b"ZL\x08"), length=8))
    ],
    "length beyond": [_parts(ONE, weights=Thing("weights", WEIGHTS, length=2**31 - 1))],
    "a list at zero": [ONE, Thing("d", type="TDirectory", lies={"at": 0, "head": 0})],
    "itself": [ONE, Thing("d", type="TDirectory", lies={"at": 100, "head": 60})],
}


@pytest.mark.parametrize("kind", FILES)
def test_both_see_the_same_model(tmp_path: Path, kind: str) -> None:
    reader()
    path = tmp_path / "m.root"
    path.write_bytes(root_file(FILES[kind]))
    for name in ("", "m"):
        python, macro = checksums(path, name)
        assert python == macro
    assert bool(python) == (kind not in ("same", *REFUSED)), kind


REFUSED = (
    "the same cycle",
    "the same cycle inside",
    "another class",
    "a newer one of another class",
    "a blob at its place",
    "no weights",
    "no header",
    "packed",
    "length beyond",
)


def test_both_see_the_same_in_damaged_files(tmp_path: Path) -> None:
    reader()
    path = tmp_path / "m.root"
    graph = _network("m", 1)
    originals = [root_file([ONE])]
    for ntuple in (False, True):
        rootfile.save(graph, path, ntuple=ntuple, macro=Macro("int i;" * 100))
        originals.append(path.read_bytes())
        path.unlink()
    rng = np.random.default_rng(5)
    taken = 0
    for turn in range(600):
        damaged = bytearray(originals[turn % 3])
        at = int(rng.integers(len(damaged) - 8))
        if turn % 2:
            damaged[at] ^= 1 << rng.integers(8)
        else:
            damaged[at : at + 4] = struct.pack(">i", rng.choice([-1, 0, 1, 255, 2**31 - 1]))
        path.write_bytes(damaged)
        python, macro = checksums(path)
        assert python == macro or not python or not macro
        taken += bool(python)
    assert taken > 50


def test_a_macro_has_the_same_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader()
    path = tmp_path / "m.root"
    graph = _network("m", 1)
    rootfile.save(graph, path)
    monkeypatch.setenv("SOFIE_RDF_LIMITS", "seconds=9,bytes=1k")
    assert "SOFIE_RDF_LIMITS=bytes=" in macro_refuses(path)
    monkeypatch.setenv("SOFIE_RDF_LIMITS", "bytes=0.1G,seconds=9")
    assert checksums(path)[0] == checksums(path)[1] != ""


def test_a_name_means_the_same_model_in_both(tmp_path: Path) -> None:
    reader()
    path = tmp_path / "m.root"
    named = replace(simple("a%20b", 1), name="a%2520b")
    renamed = replace(simple("c", 2), name="a%20b")
    for things in ([named, renamed], [renamed, named], [renamed]):
        path.write_bytes(root_file(things))
        python, macro = checksums(path, "a%20b")
        assert python == macro != ""


@pytest.mark.parametrize("begin", [0, 63, 2**31])
def test_both_refuse_a_header_that_cannot_be_true(tmp_path: Path, begin: int) -> None:
    reader()
    path = tmp_path / "m.root"
    whole = bytearray(root_file([ONE]))
    struct.pack_into(">I", whole, 8, begin)
    struct.pack_into(">I", whole, 28, 160 - begin & 0xFFFFFFFF)
    path.write_bytes(whole)
    assert checksums(path) == ("", "")


@pytest.mark.parametrize("name", ["a\ud800b", "\udcff", "\U0001f600"])
def test_names_that_are_no_text_are_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.root"
    sofie.load(DATA / "higgs.onnx").save(path, name=name)
    assert rootfile.names(path) == [name]
    assert sofie.load(path, name).name == name
    assert sofie.trust(path, name) == rootfile.load(path).sha256
    assert list(reader()(str(path)).Compute([1.0] * 7))
