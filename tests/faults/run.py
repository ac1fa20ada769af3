"""Lets each system call of a scenario fail once: ``python run.py SCENARIO FOLDER ERRNO STAYS``.

Runs with the shim preloaded. Prints what failed, a line for each call; an AssertionError says that
something was lost, left behind, or raised that is no error of ours.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import sofie_rdf as sofie
from sofie_rdf.errors import SofieError
from sofie_rdf.ir import rootfile
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import DType, TensorType

PROJECT = Path(__file__).resolve().parents[2]
HIGGS = PROJECT / "data" / "higgs.onnx"
EVENT = np.ones((1, 7), np.float32)


def graph(name: str, number: float = 1.0) -> Graph:
    build = Builder(name)
    build.input("x", TensorType(DType.FLOAT32, (7,)))
    return build.graph(build.constant(np.full(99, number), "w"))


def number_in(path: Path, name: str) -> float:
    return float(rootfile.load(path, name).graph.constants["w"][0])


class Scenario:
    """What is done, what must be there afterwards, and what may be there."""

    # How the names of files that may be there begin.
    known: ClassVar[tuple[str, ...]] = ()

    def prepare(self, folder: Path) -> None:
        """What the user has."""

    def act(self, folder: Path) -> None:
        raise NotImplementedError

    def check(self, folder: Path, *, succeeded: bool) -> None:
        """AssertionError if something is missing."""

    def again(self, folder: Path) -> None:
        """The same without a fault: it must work, whatever happened before."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.act(folder)


class Save(Scenario):
    """A model into a file with a histogram and two other models, one of which it replaces."""

    known = ("models.root",)
    more: ClassVar[dict[str, Any]] = {}

    def save(self, model: Graph, path: Path) -> None:
        rootfile.save(model, path, **self.more)

    def prepare(self, folder: Path) -> None:
        import uproot

        path = folder / "models.root"
        with uproot.recreate(path) as file:
            file["h"] = np.histogram([1.0, 2.0, 2.5], bins=4)
        rootfile.save(graph("stays", 3), path)
        rootfile.save(graph("m", 1), path)
        path.chmod(0o640)

    def act(self, folder: Path) -> None:
        self.save(graph("m", 2), folder / "models.root")

    def check(self, folder: Path, *, succeeded: bool) -> None:
        import uproot

        path = folder / "models.root"
        assert number_in(path, "stays") == 3
        found = number_in(path, "m")
        assert found == 2 if succeeded else found in (1, 2), found
        with uproot.open(path) as file:
            assert file["h"].to_numpy()[0].sum() == 3
        assert path.stat().st_mode & 0o777 == 0o640


class SaveNew(Save):
    """A model into a file that is not there yet."""

    def prepare(self, folder: Path) -> None:
        pass

    def check(self, folder: Path, *, succeeded: bool) -> None:
        path = folder / "models.root"
        if succeeded or path.exists():
            assert number_in(path, "m") == 2


class SaveNtuple(Save):
    more: ClassVar[dict[str, Any]] = {"ntuple": True}


class SaveByRoot(Save):
    def save(self, model: Graph, path: Path) -> None:
        from sofie_rdf.runtime.files import rootio

        rootio.save(model, path)


class SaveNewByRoot(SaveByRoot, SaveNew):
    pass


class Emit(Scenario):
    """Code over older code; what is there is whole, header and weights."""

    weights = "file"
    known = ("higgs.hxx", "higgs.dat", "higgs.root")

    def __init__(self) -> None:
        self.model = sofie.load(HIGGS)
        self.old: dict[str, bytes] = {}
        self.new: dict[str, bytes] = {}

    def prepare(self, folder: Path) -> None:
        if not self.new:
            self.model.emit(folder, weights=self.weights)
            self.new = {p.name: p.read_bytes() for p in folder.iterdir()}
        for name, content in self.new.items():
            (folder / name).write_bytes(b"// Older.\n" if name.endswith("hxx") else content)
        self.old = {p.name: p.read_bytes() for p in folder.iterdir()}

    def act(self, folder: Path) -> None:
        self.model.emit(folder, weights=self.weights)

    def check(self, folder: Path, *, succeeded: bool) -> None:
        for name, content in self.new.items():
            found = (folder / name).read_bytes()
            if name.endswith(".root"):
                continue  # It has a date.
            assert found in ((content,) if succeeded else (content, self.old[name])), name


class EmitRoot(Emit):
    weights = "root"


class EmitHeader(Emit):
    weights = "header"


class Convert(Scenario):
    """`sofie-rdf convert`, as a user sees it: a line about the reason, and no traceback."""

    known = ("higgs.root", "config")

    def __init__(self) -> None:
        self.code = 0

    def act(self, folder: Path) -> None:
        from sofie_rdf.cli import main

        os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
        self.code = main(["convert", str(HIGGS), str(folder / "higgs.root")])
        if self.code:
            raise SofieError("as the command line has said")

    def check(self, folder: Path, *, succeeded: bool) -> None:
        if succeeded:
            assert sofie.load(folder / "higgs.root")(EVENT).shape == (1, 1)


class Trust(Convert):
    """`sofie-rdf trust`: the list keeps what is in it."""

    def prepare(self, folder: Path) -> None:
        os.environ["XDG_CONFIG_HOME"] = str(folder / "other")
        sofie.load(HIGGS).save(folder / "higgs.root")
        shutil.rmtree(folder / "other")
        os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
        (folder / "config" / "sofie_rdf").mkdir(parents=True)
        (folder / "config" / "sofie_rdf" / "trusted").write_text(f"{'0' * 64} mine\n")

    def act(self, folder: Path) -> None:
        sofie.trust(folder / "higgs.root")

    def check(self, folder: Path, *, succeeded: bool) -> None:
        from sofie_rdf.runtime.cache.trust import is_trusted

        assert is_trusted("0" * 64)
        if succeeded:
            assert is_trusted(rootfile.load(folder / "higgs.root").sha256)


class Cache(Scenario):
    """The cache never is a reason not to compute, and never gives other numbers."""

    known = ("cache",)

    def __init__(self) -> None:
        self.wanted = sofie.load(HIGGS)(EVENT)

    def prepare(self, folder: Path) -> None:
        os.environ["SOFIE_RDF_CACHE"] = str(folder / "cache")

    def act(self, folder: Path) -> None:
        assert str(folder) in os.environ["SOFIE_RDF_CACHE"]
        for _ in range(2):
            np.testing.assert_array_equal(sofie.load(HIGGS)(EVENT), self.wanted)

    def check(self, folder: Path, *, succeeded: bool) -> None:
        assert succeeded
        place = folder / "cache"
        assert not [p for p in place.glob(".making-*") if any(p.iterdir())]


class CacheFull(Cache):
    """The same with a cache that has the model."""

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        self.act(folder)


class Built(Cache):
    """A library that is built, kept and found again."""

    def __init__(self) -> None:
        super().__init__()
        from sofie_rdf.runtime.compile.library import Compiler, Library, find_compiler

        real = find_compiler("g++")
        assert real is not None
        text = "namespace n { static const void *entries() { static int x; return &x; } }"
        made = Library("n", text, real)
        self.folder = Path(os.environ["FAULTS_BESIDE"])
        os.environ["SOFIE_RDF_CACHE"] = str(self.folder / "first")
        made.built()
        (built,) = (self.folder / "first").glob("*.so")
        script = self.folder / "compiler"
        # It runs without the shim's faults, as they are counted in this process.
        script.write_text(f'#!/bin/sh\nfor last; do :; done\ncp {built} "$last"\n')
        script.chmod(0o755)
        self.library = lambda: Library("n", text, Compiler(str(script), "fake"))

    def act(self, folder: Path) -> None:
        assert str(folder) in os.environ["SOFIE_RDF_CACHE"]
        if self.library().cached() is None:
            self.library().built()

    def check(self, folder: Path, *, succeeded: bool) -> None:
        """A library that cannot be loaded is an error: it may be the model that is asked for."""
        super().check(folder, succeeded=succeeded or True)


class Apply(Convert):
    """`sofie-rdf apply`, over older scores: all entries, or an error and the older ones.

    ROOT works in a copy of the process, which may end there.
    """

    known = ("scores.root",)
    entries = 300

    def __init__(self) -> None:
        super().__init__()
        import ROOT

        self.events = Path(os.environ["FAULTS_BESIDE"]) / "events.root"
        df = ROOT.RDataFrame(self.entries)
        for i in range(7):
            df = df.Define(f"f{i}", f"(float)sin(rdfentry_ * {i + 1}.7)")
        df.Snapshot("Events", str(self.events))
        self.older = self.events.read_bytes()
        # Once in this process, whose copies then need not compile the model.
        from sofie_rdf.cli import apply

        apart, apply.apart = apply.apart, lambda job: job()
        self.act(self.events.parent)
        apply.apart = apart

    def prepare(self, folder: Path) -> None:
        (folder / "scores.root").write_bytes(self.older)

    def act(self, folder: Path) -> None:
        from sofie_rdf.cli import main

        columns = ",".join(f"f{i}" for i in range(7))
        words = ["apply", str(HIGGS), f"{self.events}:Events", "--columns", columns, "--friend"]
        self.code = main([*words, "-o", str(folder / "scores.root"), "--overwrite"])
        if self.code:
            raise SofieError("as the command line has said")

    def check(self, folder: Path, *, succeeded: bool) -> None:
        import uproot

        content = (folder / "scores.root").read_bytes()
        if not succeeded and content == self.older:
            return
        with uproot.open(folder / "scores.root") as file:
            scores = file["Events"]["score"].array(library="np")
        assert len(scores) == self.entries and len(set(scores)) > self.entries // 2


SCENARIOS: dict[str, type[Scenario]] = {
    c.__name__: c
    for c in (
        Save, SaveNew, SaveNtuple, SaveByRoot, SaveNewByRoot, Emit, EmitRoot, EmitHeader,
        Convert, Trust, Cache, CacheFull, Built, Apply,
    )
}  # fmt: skip


def left(folder: Path, known: tuple[str, ...]) -> list[str]:
    return [p.name for p in folder.iterdir() if not p.name.startswith(known)]


def attempt(scenario: Scenario, folder: Path, n: int, number: int, stays: int) -> str:
    """What the n-th fault was; "" if there are fewer calls."""
    shim = ctypes.CDLL(None)
    shim.fault_disarm.restype = ctypes.c_char_p
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    scenario.prepare(folder)
    succeeded = True
    shim.fault_arm(str(folder).encode(), ctypes.c_long(n), number, stays)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scenario.act(folder)
    except SofieError:
        succeeded = False
    finally:
        failed = str(shim.fault_disarm().decode())
    scenario.check(folder, succeeded=succeeded or not failed)
    # What cannot be removed is removed by the next one.
    can_remain = failed in ("unlink", "unlinkat", "rmdir")
    assert can_remain or not left(folder, scenario.known), left(folder, scenario.known)
    scenario.again(folder)
    scenario.check(folder, succeeded=True)
    assert not left(folder, scenario.known), left(folder, scenario.known)
    return f"{failed} {succeeded}" if failed else ""


def main(name: str, below: str, number: str, stays: str, most: str) -> None:
    folder = Path(below)
    scenario = SCENARIOS[name]()
    # The command line closes its own standard output where something cannot be written.
    said = os.fdopen(os.dup(1), "w", buffering=1)
    for n in range(int(most)):
        try:
            failed = attempt(scenario, folder, n, int(number), int(stays))
        except BaseException:
            sys.stderr.write(f"{name}: call {n}, errno {number}, stays {stays}\n")
            raise
        said.write(f"{failed or 'all'}\n")
        if not failed:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
