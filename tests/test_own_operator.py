"""Operators of other packages: registered by them, stored by name, with headers of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("unoptimized")

REPOSITORY = Path(__file__).resolve().parents[1]
TUTORIAL = REPOSITORY / "tutorials" / "02_own_operator.py"
HEADER = TUTORIAL.with_suffix(".hxx")
# What each process does before it does anything: the model is that of the tutorial.
SAVE = """
import own_operators, sofie_rdf as sofie
model = sofie.from_onnx(own_operators.ONNX)
model.save("z_boson.root")
"""
RUN = """
import numpy as np, sofie_rdf as sofie
model = sofie.load("z_boson.root")
x = np.array([[[44, 2, 10, 45.166], [-45, 1, -9, 45.902]]], np.float32)
print("score", model(x)[0])
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a module that registers the tutorial's operator, and its header."""
    source, _, rest = TUTORIAL.read_text().partition("# A model with such a node")
    source = source.replace("import ROOT\n", "")
    text = rest.partition('"""')[2].partition('"""')[0]
    source += f'ONNX = onnx.parser.parse_model("""{text}""")\n'
    (tmp_path / "own_operators.py").write_text(source)
    shutil.copy(HEADER, tmp_path)
    return tmp_path


def python(folder: Path, code: str, *, fails: bool = False, **more: str) -> str:
    """What a process of its own prints: that which knows nothing but this folder."""
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{folder}"} | more
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode != 0) == fails, f"{done.stdout}\n{done.stderr}"
    return done.stderr if fails else done.stdout


def install(folder: Path, module: str, name: str = "anything") -> None:
    """As if pip had installed a package with an entry point that names this module."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[sofie_rdf.operators]\n{name} = {module}\n")


def test_a_file_without_its_operator_says_what_to_do(package: Path) -> None:
    python(package, SAVE)
    words = (
        "z_boson.root: model 'z_boson': graph line",
        "operator tutorial.InvariantMass is not supported",
        "import the Python module that registers it",
        "@sofie_rdf.operator(domain='tutorial')",
        "entry point 'sofie_rdf.operators'",
    )
    error = python(package, "import sofie_rdf; sofie_rdf.load('z_boson.root')", fails=True)
    problems = python(package, "import sofie_rdf; print(*sofie_rdf.check('z_boson.root'))")
    code = "import own_operators, onnx; onnx.save(own_operators.ONNX, 'z_boson.onnx')"
    python(package, code)
    code = "import sofie_rdf; print(*sofie_rdf.check('z_boson.onnx'))"
    from_onnx = python(package, code)
    for word in words:
        assert word in error
        assert word in problems
    for word in words[1:]:
        assert word in from_onnx


def test_an_installed_package_is_found(package: Path) -> None:
    """Nobody imports its module, and the header is found beside it."""
    pytest.importorskip("ROOT")
    python(package, SAVE)
    install(package, "own_operators")
    assert python(package, RUN).startswith("score 0.9296")
    command = [sys.executable, "-m", "sofie_rdf.cli", "ops", "tutorial"]
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{package}", "COLUMNS": "250"}
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True)
    assert "tutorial.InvariantMass" in done.stdout
    assert "sqrt(E^2 - |p|^2)" in done.stdout
    assert "2 ulp" in done.stdout


def test_a_broken_package_is_named_and_stops_no_other(package: Path) -> None:
    python(package, SAVE)
    (package / "broken.py").write_text("raise ValueError('half installed')")
    install(package, "broken", "broken")
    load = "import sofie_rdf; sofie_rdf.load('z_boson.root')"
    error = python(package, load, fails=True)
    assert "broken does not load: ValueError: half installed" in error
    install(package, "own_operators")
    python(package, load)


def test_a_header_that_is_not_there(package: Path) -> None:
    pytest.importorskip("ROOT")
    python(package, SAVE)
    (package / HEADER.name).unlink()
    error = python(package, f"import own_operators\n{RUN}", fails=True)
    assert f"tutorial.InvariantMass needs the C++ header '{HEADER.name}'" in error
    assert f"beside {package / 'own_operators.py'}" in error
    assert "ROOT_INCLUDE_PATH" in error
    elsewhere = package / "include"
    elsewhere.mkdir()
    shutil.copy(HEADER, elsewhere)
    code = f"import own_operators\n{RUN}"
    assert python(package, code, ROOT_INCLUDE_PATH=str(elsewhere)).startswith("score 0.9296")


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")
@pytest.mark.parametrize("standalone", [False, True])
def test_emitted_code_compiles_with_the_header(package: Path, standalone: bool) -> None:
    code = (
        "import own_operators, sofie_rdf as sofie\n"
        f"files = sofie.from_onnx(own_operators.ONNX).emit('out', standalone={standalone})\n"
        "print(*files.include)"
    )
    folders = python(package, code).split()
    assert folders == ([] if standalone else [str(REPOSITORY / "cling"), str(package)])
    main = package / "main.cxx"
    main.write_text(
        '#include "z_boson.hxx"\n'
        "int main()\n{\n"
        '   TMVA_SOFIE_z_boson::Session session("out/z_boson.dat");\n'
        "   const std::vector<float> x{44, 2, 10, 45.166f, -45, 1, -9, 45.902f};\n"
        '   std::printf("%.4f", static_cast<double>(session.infer(x)[0]));\n'
        "}\n"
    )
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    includes = [f"-I{folder}" for folder in ("out", *folders)]
    subprocess.run(["g++", *flags, *includes, str(main), "-o", "main"], cwd=package, check=True)
    done = subprocess.run(["./main"], cwd=package, capture_output=True, text=True, check=True)
    assert np.isclose(float(done.stdout), 0.9296, atol=1e-3)
