"""ROOT as conda, LCG and builds of one's own have it: ROOTSYS and PYTHONPATH, and no wheel.

The wheel's files are linked into another folder in that layout: libraries and Python's packages in
``lib``, headers in ``include``. What runs there is a Python that has all packages but the wheel.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
HIGGS = PROJECT / "data" / "higgs.onnx"
# Of the wheel, in the folder of installed packages. Older ones are called ROOT where newer ones are
# called root.
LIBRARIES = "[Rr][Oo][Oo][Tt].libs"
PARTS = ("ROOT", "cppyy*", LIBRARIES, "[Rr][Oo][Oo][Tt]-*.dist-info")
FOLDERS = ("bin", "cmake", "etc", "fonts", "icons", "include", "lib", "macros")
SECONDS = 300


@dataclass(frozen=True)
class Moved:
    """A build of ROOT, and a Python beside it."""

    root: Path
    python: Path
    environment: Mapping[str, str]

    def run(self, *command: object, folder: Path, **more: str) -> str:
        """What a program prints; its errors are ours."""
        done = subprocess.run(
            list(map(str, command)), cwd=folder, env={**self.environment, **more},
            capture_output=True, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


def link(source: Path, target: Path) -> None:
    """The same file in another place: a second name of it where the disk is the same."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Moved:
    found = importlib.util.find_spec("cppyy")
    packages = Path(found.origin).parents[1] if found and found.origin else None
    if packages is None or not (packages / "ROOT" / "lib" / "libCore.so").exists():
        pytest.skip("needs the wheel of ROOT, whose files are moved")
    root = tmp_path_factory.mktemp("opt") / "root"
    wheel = packages / "ROOT"
    skipped = shutil.ignore_patterns(*FOLDERS, "tutorials", "__pycache__")
    for name in FOLDERS:
        shutil.copytree(wheel / name, root / name, copy_function=link)
    shutil.copytree(wheel, root / "lib" / "ROOT", copy_function=link, ignore=skipped)
    shutil.copytree(packages / "cppyy", root / "lib" / "cppyy", copy_function=link)
    for others in packages.glob(LIBRARIES):
        shutil.copytree(others, root / "lib" / "others", copy_function=link)
    # A Python that the walk from ROOT upwards must not take for the one that has the packages.
    other = root.parent / "bin" / "python3"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho wrong python >&2\nexit 1\n")
    other.chmod(0o755)
    folder = root.parents[1] / "python"
    venv.create(folder, with_pip=False, symlinks=True)
    inside = next(folder.glob("lib/python3*/site-packages"))
    gone = {p for pattern in PARTS for p in packages.glob(pattern)}
    for one in packages.iterdir():
        if one not in gone and one.name != "__pycache__" and not one.name.startswith("sofie_rdf"):
            (inside / one.name).symlink_to(one)
    # As thisroot.sh sets them.
    environment = {
        k: v for k, v in os.environ.items()
        if not k.startswith(("SOFIE_RDF_", "PYTHON", "VIRTUAL_ENV", "ROOT"))
    } | {
        "ROOTSYS": str(root),
        "PATH": f"{folder / 'bin'}:{root / 'bin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{root / 'lib'}:{root / 'lib' / 'others'}",
        "PYTHONPATH": f"{root / 'lib'}:{PROJECT}",
        "XDG_CACHE_HOME": str(root.parent / "cache"),
        "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    return Moved(root, folder / "bin" / "python", environment)


COLUMNS = """
import importlib.metadata, pathlib, sys
import numpy as np
import sofie_rdf as sofie
root, higgs = pathlib.Path(sys.argv[1]), sys.argv[2]
try:
    importlib.metadata.version("root")
except importlib.metadata.PackageNotFoundError:
    pass
else:
    raise SystemExit("the wheel is here")
import ROOT
own = pathlib.Path(str(ROOT.gROOT.GetRootSys()))
assert own.resolve() == root.resolve(), own
x = np.random.default_rng(1).normal(size=(50, 7)).astype(np.float32)
names = [f"x{i}" for i in range(7)]
scores = []
for compiler in ("cling", *sys.argv[3:]):
    model = sofie.load(higgs, compiler=compiler)
    df = ROOT.RDF.FromNumpy({n: x[:, i].copy() for i, n in enumerate(names)})
    df = sofie.define(df, "dnn", model, names)
    df = df.Define("many", "ROOT::RVecF{dnn, 2 * dnn}")
    scores += [df.AsNumpy(["dnn"])["dnn"], model(x)[:, 0]]
model.save("models.root")
scores.append(sofie.load("models.root", "higgs")(x)[:, 0])
df.Snapshot("Events", "events.root", [*names, "dnn"])
df = ROOT.RDataFrame("Events", "events.root")
scores.append(sofie.load(higgs).define(df, "again", names).AsNumpy(["again"])["again"])
assert all(np.array_equal(s, scores[0]) for s in scores)
assert np.isfinite(scores[0]).all() and len(set(scores[0].tolist())) > 40
print("columns agree")
"""


@pytest.mark.exhaustive
def test_columns(moved: Moved, tmp_path: Path) -> None:
    """Through Cling, a library, .root files and trees."""
    compilers = ["g++"] if shutil.which("g++") else []
    script = tmp_path / "script.py"
    script.write_text(COLUMNS)
    said = moved.run(moved.python, script, moved.root, HIGGS, *compilers, folder=tmp_path)
    assert "columns agree" in said


MACRO = """
#include "sofie/rdf/RSofieReader.hxx"
#include "sofie/rdf/tmva.hxx"
void macro()
{
   TMVA::Experimental::SOFIE::RModelParser_ONNX parser;
   auto model = parser.Parse("higgs.onnx");
   model.Generate();
   model.OutputGenerated("higgs.hxx");
   std::cout << "name " << model.GetName() << std::endl;
   sofie::RSofieReader reader("models.root", "higgs");
   std::cout << "score " << reader.Compute(std::vector<float>(7, 0.5f))[0] << std::endl;
}
"""


@pytest.mark.exhaustive
def test_a_macro(moved: Moved, tmp_path: Path) -> None:
    """`root` runs the Python in PATH, not any that lies in a folder above ROOT."""
    shutil.copy(HIGGS, tmp_path / "higgs.onnx")
    save = "import sofie_rdf; sofie_rdf.load('higgs.onnx').save('models.root')"
    moved.run(moved.python, "-c", save, folder=tmp_path)
    (tmp_path / "macro.C").write_text(MACRO)
    headers = str(PROJECT / "cling")
    said = moved.run(
        moved.root / "bin" / "root.exe", "-l", "-b", "-q", "macro.C",
        folder=tmp_path, ROOT_INCLUDE_PATH=headers,
    )  # fmt: skip
    assert "name higgs" in said
    assert "score " in said
    assert "namespace TMVA_SOFIE_higgs" in (tmp_path / "higgs.hxx").read_text()
