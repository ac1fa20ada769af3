"""What is done with a mutant of each kind. `SofieError` is right, all else is a finding."""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from sofie_rdf.errors import CorruptFile, SofieError
from tests.fuzz_files import samples

__all__ = ["Lie"]

# What comes by new places may say so.
Target = Callable[[Path, bytes, int], object]
# Once in so many mutants all is done that can be done with a file.
_RARELY = 16
# What is loaded is emitted, and checked, more rarely yet, and another process started where `load`
# does so, which takes as long as hundreds of mutants.
_MORE_RARELY = 4 * _RARELY
_APART = 64 * _RARELY


class Lie(Exception):
    """What was loaded is not what was written, though the format has a checksum."""


def _emitted(graph: Any) -> None:
    import sofie_rdf as sofie

    _ = sofie.Model(graph).emission


def _checked(path: Path) -> None:
    """`check` must not call its own bugs problems of the file."""
    import sofie_rdf as sofie

    for problem in sofie.check(path):
        if "please report it" in str(problem):
            raise Lie(f"check says that it is our bug: {problem.thing[:150]}")


def _file(folder: Path, suffix: str, data: bytes) -> Path:
    path = folder / f"mutant{suffix}"
    path.write_bytes(data)
    return path


def _loader(
    kind: str, suffix: str, read: Callable[[bytes], Any] | None = None, **options: Any
) -> Target:
    """Load; now and then emit, and check, too. ``read`` needs no file, which takes longer."""
    import sofie_rdf as sofie
    from sofie_rdf import frontends, isolation

    started = isolation.call

    def run(folder: Path, data: bytes, number: int) -> None:
        stage = number % (_APART if options else _MORE_RARELY)
        isolation.call = started if number % _APART < 2 else copied
        if read and stage > 1:
            graph = read(data)
        else:
            path = _file(folder, suffix, data)
            # What has become a file of another kind, of torch for example, is another matter.
            if frontends.recognise(path) != kind:
                return
            if stage == 1:
                _checked(path)
            graph = sofie.load(path, **({} if stage < 2 else options)).graph
        if stage < 3:
            _emitted(graph)

    return run


def copied(function: str, *args: Any, place: str, **_: Any) -> Any:
    """As `isolation.call`, in a copy of this process, which takes milliseconds."""
    module, _, name = function.partition(":")
    answer, told = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.setitimer(signal.ITIMER_PROF, _SECONDS_OF_A_COPY)
            content = pickle.dumps(_result(getattr(import_module(module), name), args))
            with os.fdopen(told, "wb") as file:
                file.write(content)
        finally:
            os._exit(0)
    os.close(told)
    with os.fdopen(answer, "rb") as file:
        content = file.read()
    os.waitpid(child, 0)
    if not content:
        raise CorruptFile("ends the process that reads it", place=place)
    found = pickle.loads(content)
    if isinstance(found, SofieError):
        raise found
    return found


def _result(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        return function(*args)
    except Exception as error:
        return error if isinstance(error, SofieError) else CorruptFile(str(error))


_SECONDS_OF_A_COPY = 5.0


def onnx() -> Target:
    import sofie_rdf.frontends.onnx.reader

    return _loader("onnx", ".onnx", sofie_rdf.frontends.onnx.reader.read)


def keras() -> Target:
    import h5py  # noqa: F401

    from sofie_rdf.frontends.keras import hdf5

    # Mostly the config was changed: weights that are those of another mutant are not read again.
    hdf5.read_tree = lru_cache(16)(hdf5.read_tree)
    return _loader("keras", ".keras", isolated=False)


def h5() -> Target:
    import h5py  # noqa: F401

    return _loader("h5", ".h5", isolated=False)


def xgboost() -> Target:
    import sofie_rdf.frontends.trees.xgboost

    return _loader("xgboost", ".json", sofie_rdf.frontends.trees.xgboost.read)


def lightgbm() -> Target:
    import sofie_rdf.frontends.trees.lightgbm

    return _loader("lightgbm", ".txt", sofie_rdf.frontends.trees.lightgbm.read)


def tmva() -> Target:
    from sofie_rdf.frontends.tmva import reader

    return _loader("tmva", ".xml", reader.read)


def lwtnn() -> Target:
    from sofie_rdf.frontends.lwtnn import reader

    return _loader("lwtnn", ".json", reader.read)


def onnx_beside() -> Target:
    from sofie_rdf.frontends.onnx.reader import read

    secret = os.urandom(64)

    def run(folder: Path, data: bytes, number: int) -> None:
        first, second = samples.apart(data)
        inner = folder / "beside"
        if not inner.exists():
            inner.mkdir()
            (folder / "secret").write_bytes(secret)
        (inner / "net.bin").write_bytes(second)
        graph = read(_file(inner, ".onnx", first))
        for array in graph.constants.values():
            if secret in array.tobytes() or (array.tobytes() and array.tobytes() in secret):
                raise Lie("weights are read from outside of the folder")

    return run


def torch_files() -> Target:
    """What we do ourselves before torch is given what we have written anew."""
    from sofie_rdf.frontends import recognise
    from sofie_rdf.frontends.torch import archive as torch_archive
    from sofie_rdf.frontends.torch import files as torch_files
    from sofie_rdf.frontends.torch import script_archive as torch_script_archive
    from sofie_rdf.frontends.torch.zip import written

    def run(folder: Path, data: bytes, number: int) -> None:
        path = _file(folder, ".pt", data)
        kind = recognise(path)
        if kind in ("torch", "pickle"):
            torch_files._refusal(path, torch_files._pickle_in(path, kind))
        elif kind == "pt2":
            torch_archive.read(path)
        elif kind == "torchscript":
            written(torch_script_archive.read(path).members, "model")

    return run


def _described(stored: Any) -> tuple[Any, ...]:
    """All that numbers depend on."""
    from sofie_rdf.ir.text import graph_text

    graph = stored.graph
    tensors = tuple(
        (n, a.dtype.str, a.shape, a.tobytes()) for n, a in sorted(graph.constants.items())
    )
    return graph_text(graph), tensors, stored.macro.header


def root() -> Target:
    """A file loads as what was written; what has new checksums may be another model."""
    import sofie_rdf.ops  # noqa: F401 - the operators that the file names
    from sofie_rdf.ir import rootfile

    def run(folder: Path, data: bytes, number: int) -> None:
        path = _file(folder, ".root", data)
        for name in rootfile.names(path):
            stored = rootfile.load(path, name)
            if known.get(stored.sha256, _described(stored)) != _described(stored):
                raise Lie("another model with the checksum of the original")
            if number % _RARELY == 0:
                _emitted(stored.graph)
        if number % _RARELY == 1:
            _checked(path)

    known = dict(map(_original, (*samples.short_files(), *samples.ntuple_files())))
    return run


def _original(data: bytes) -> tuple[str, Any]:
    """The checksum of a sound file, and all that its numbers depend on."""
    from sofie_rdf.ir import rootfile

    with tempfile.TemporaryDirectory() as folder:
        stored = rootfile.load(_file(Path(folder), ".root", data))
    return stored.sha256, _described(stored)


def trust() -> Target:
    """Who is trusted has what we write for its network: the code, the interface, the weights."""
    import sofie_rdf as sofie
    from sofie_rdf.ir import rootfile
    from sofie_rdf.runtime.cache import trust as trusted
    from sofie_rdf.runtime.files.macro import macro_of

    def run(folder: Path, data: bytes, number: int) -> None:
        path = _file(folder, ".root", data)
        trusted.file().unlink(missing_ok=True)
        names = rootfile.names(path)
        sofie.trust(path, names[0] if len(names) == 1 else "")
        stored = rootfile.load(path)
        model = sofie.Model(stored.graph)
        ours = macro_of(model.optimized, model.emission)
        weights = [[t.tobytes() for t in macro.tensors] for macro in (stored.macro, ours)]
        if stored.macro.header != ours.header or weights[0] != weights[1]:
            raise Lie("code or weights are trusted that we did not write")
        if dict(stored.macro.interface) != dict(ours.interface):
            raise Lie("an interface is trusted that we did not write")

    return run


def normalization() -> Target:
    import sofie_rdf as sofie
    from sofie_rdf.ir.builder import Builder
    from sofie_rdf.ir.dims import symbol
    from sofie_rdf.ir.types import DType, TensorType
    from sofie_rdf.ops.layout import Identity

    def same(**inputs: tuple[Any, ...]) -> Any:
        build = Builder("net")
        for name, shape in inputs.items():
            build.input(name, TensorType(DType.FLOAT32, shape))
        outputs = [build(Identity(), n, outputs=[f"of_{n}"]) for n in inputs]
        return sofie.Model(build.graph(*outputs))

    n, p = symbol("N"), symbol("P")
    models = (same(points=(n, 2, p), jet=(n, 2)), same(x=(n, 4)))

    def run(folder: Path, data: bytes, number: int) -> None:
        found = models[number % 2].normalized(_file(folder, ".json", data))
        if number % _RARELY < 2:
            _ = found.emission

    return run


def text() -> Target:
    """A graph as text is read as what its own text says, or refused."""
    from sofie_rdf.ir import plugins
    from sofie_rdf.ir.text import graph_text, parse_graph
    from sofie_rdf.ir.verify import verify

    plugins.load_plugins()

    def run(folder: Path, data: bytes, number: int) -> None:
        written, held = samples.apart(data)
        constants = samples.constants_of(held) if held in known else {}
        graph = parse_graph(written.decode("utf-8", "surrogateescape"), constants)
        again = graph_text(graph)
        if graph_text(parse_graph(again, graph.constants)) != again:
            raise Lie("the text of a graph reads as another graph")
        verify(graph)
        if number % _RARELY == 0:
            _emitted(graph)

    known = {samples.apart(sample)[1] for sample in samples.texts()}
    return run


# The same in C++ ----------------------------------------------------------------------------------


def weights() -> Target:
    return _native("weights")


def embedded() -> Target:
    return _native("embedded")


def _native(mode: str) -> Target:
    """Damaged weights are refused: only what has a right checksum may give other numbers."""
    from tests.fuzz_files.native import Reader
    from tests.fuzz_files.weightfiles import DAMAGED

    read = Reader(mode)

    def run(folder: Path, data: bytes, number: int) -> bool:
        was_new, answer = read(data[1:])
        if data[:1] == DAMAGED and answer not in known:
            raise Lie("other numbers from a damaged file")
        return was_new

    files = samples.marked_texts() if mode == "embedded" else samples.marked_weights()
    known = {read(file[1:])[1] for file in files[:2]}
    return run


def reader() -> Target:
    """What C++ reads is what Python reads: the checksum, the code, the weights, each word."""
    import sofie_rdf.ops  # noqa: F401 - the operators that the file names
    from sofie_rdf.ir import rootfile
    from tests.fuzz_files.native import Reader
    from tests.fuzz_files.said import said

    read = Reader("reader")

    def run(folder: Path, data: bytes, number: int) -> bool:
        was_new, answer = read(data)
        path = _file(folder, ".root", data)
        names, ours = rootfile.names(path), []
        for name in names:
            # Python has more to say against a model: its graph, for example.
            with suppress(SofieError):
                ours.append(said(path, name))
        if not names:
            raise Lie("C++ reads a file in which Python finds no model")
        if ours and answer not in ours:
            raise Lie(f"C++ reads {_differing(answer, ours[0])} that Python does not")
        return was_new

    return run


def _differing(answer: str, ours: str) -> str:
    parts = ("a checksum", "a header", "weights", "a description")
    pairs = zip(parts, answer.split(), ours.split(), strict=True)
    return " and ".join(part for part, a, b in pairs if a != b)
