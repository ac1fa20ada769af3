"""find_package(sofie_rdf): emitted headers in programs that CMake builds, with ROOT and without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sofie_rdf as sofie

DATA = Path(__file__).resolve().parents[1] / "data"
TOOLS = shutil.which("cmake") and shutil.which("g++")
pytestmark = pytest.mark.skipif(not TOOLS, reason="needs CMake and g++")

PROJECT = """\
cmake_minimum_required(VERSION 3.16)
project(analysis LANGUAGES CXX)
find_package(sofie_rdf REQUIRED)
add_executable(analysis analysis.cpp)
{model}
target_compile_options(analysis PRIVATE -Wall -Wextra -Werror -O1)
"""

PROGRAM = """\
#include "higgs.hxx"
#include <iostream>
int main()
{
   TMVA_SOFIE_higgs::Session session(SOFIE_RDF_WEIGHTS "/higgs.dat");
   const std::vector<float> x(7, 1.f);
   std::cout << session.infer(x)[0] << "\\n";
}
"""

READER = """\
#include "sofie/rdf/RSofieReader.hxx"
int main(int, char **arguments)
{
   RSofieReader model(arguments[1]);
   std::cout << model.Compute(std::vector<float>(7, 1.f))[0] << "\\n";
}
"""


def tool_in(folder: Path) -> str:
    """The option that names the command sofie-rdf."""
    tool = folder / "sofie-rdf"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m sofie_rdf.cli "$@"\n')
    tool.chmod(0o755)
    return f"-DSOFIE_RDF_EXECUTABLE={tool}"


def build(folder: Path, program: str, *flags: str, model: str) -> Path:
    """The executable of this program."""
    command = [sys.executable, "-m", "sofie_rdf.cli", "--cmake-dir"]
    cmake = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    (folder / "CMakeLists.txt").write_text(PROJECT.format(model=model))
    (folder / "analysis.cpp").write_text(program)
    for step in (
        ["cmake", "-B", "build", f"-Dsofie_rdf_DIR={cmake}", *flags],
        ["cmake", "--build", "build"],
    ):
        done = subprocess.run(step, cwd=folder, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return folder / "build" / "analysis"


def run(*command: str) -> float:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def expected() -> float:
    return float(sofie.load(DATA / "higgs.onnx")(np.ones((1, 7), np.float32))[0, 0])


@pytest.mark.exhaustive
def test_a_program_without_root(tmp_path: Path) -> None:
    shutil.copy(DATA / "higgs.onnx", tmp_path)
    model = "sofie_rdf_add_model(analysis higgs.onnx)"
    program = build(tmp_path, PROGRAM, tool_in(tmp_path), model=model)
    assert run(str(program)) == pytest.approx(expected(), rel=1e-5)


def test_a_program_with_root(tmp_path: Path) -> None:
    home = Path(pytest.importorskip("ROOT").__file__).parent
    sofie.load(DATA / "higgs.onnx").save(tmp_path / "models.root")
    # The CMake package in ROOT's wheel names folders that do not exist.
    model = "target_link_libraries(analysis PRIVATE sofie_rdf::root)"
    program = build(tmp_path, READER, f"-DSOFIE_RDF_ROOT={home}", model=model)
    assert run(str(program), str(tmp_path / "models.root")) == pytest.approx(expected(), rel=1e-5)


SCALED = """\
#include "scaled.hxx"
#include <iostream>
int main()
{
   TMVA_SOFIE_scaled::Session session(SOFIE_RDF_WEIGHTS "/scaled.dat");
   const std::vector<float> x(2, 1.f);
   std::cout << session.infer(x)[0] << "\\n";
}
"""


def scaled(path: Path, factor: float) -> None:
    """y = (x w), w and x of 2 numbers, with the weights in a file beside the model's."""
    w = numpy_helper.from_array(np.full((2, 1), factor, np.float32), "w")
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])
        for name, size in (("x", 2), ("y", 1))
    )
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [w])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (path.parent / "other.bin").unlink(missing_ok=True)  # onnx would append to it.
    onnx.save(model, path, save_as_external_data=True, location="other.bin", size_threshold=0)


@pytest.mark.exhaustive
@pytest.mark.parametrize("generator", ["Unix Makefiles", "Ninja"])
def test_weights_in_another_file_are_emitted_anew_when_they_change(
    tmp_path: Path, generator: str
) -> None:
    if generator == "Ninja" and not shutil.which("ninja"):
        pytest.skip("needs Ninja")
    scaled(tmp_path / "scaled.onnx", 3)
    before = (tmp_path / "scaled.onnx").read_bytes()
    model = "sofie_rdf_add_model(analysis scaled.onnx)"
    program = build(tmp_path, SCALED, "-G", generator, tool_in(tmp_path), model=model)
    assert run(str(program)) == 6
    time.sleep(1.1)  # Some file systems know whole seconds only.
    scaled(tmp_path / "new.onnx", 5)
    assert (tmp_path / "new.onnx").read_bytes() == before
    # The model's own file is older than what was emitted.
    shutil.move(tmp_path / "new.onnx", tmp_path / "scaled.onnx")
    os.utime(tmp_path / "scaled.onnx", (1e9, 1e9))
    again("build", tmp_path)
    assert run(str(program)) == 10
    assert "Emitting" not in again("build", tmp_path)


def again(folder: str, where: Path) -> str:
    command = ["cmake", "--build", folder]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.exhaustive
def test_options_of_the_emission(tmp_path: Path) -> None:
    shutil.copy(DATA / "higgs.onnx", tmp_path / "a-file.v2.onnx")
    options = 'NAME tagger SHAPES "features=1,7" PRECISION bfloat16 WEIGHTS header'
    model = f"sofie_rdf_add_model(analysis a-file.v2.onnx {options})"
    source = PROGRAM.replace("higgs", "tagger").replace('SOFIE_RDF_WEIGHTS "/tagger.dat"', "")
    source = source.replace("session();", "session;")
    program = build(tmp_path, source, tool_in(tmp_path), model=model)
    small = sofie.load(DATA / "higgs.onnx", shapes={"features": (1, 7)}, precision="bfloat16")
    right = float(np.ravel(small(np.ones((1, 7), np.float32)))[0])
    assert run(str(program)) == pytest.approx(right, rel=1e-5)
    assert right != expected()


@pytest.mark.parametrize(
    ("wanted", "found"), [("0.1", True), ("0.1.0", True), ("0.2", False), ("1", False)]
)
def test_versions(tmp_path: Path, wanted: str, found: bool) -> None:
    cmake = Path(sofie.__file__).resolve().parents[1] / "cling" / "cmake"
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(p LANGUAGES NONE)\n"
        f"find_package(sofie_rdf {wanted})\n"
        'message(STATUS "FOUND ${sofie_rdf_FOUND} ${sofie_rdf_VERSION}")\n'
    )
    command = ["cmake", "-B", "build", f"-Dsofie_rdf_DIR={cmake}", "-Wno-dev"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    said = f"FOUND 1 {sofie.__version__}" if found else "FOUND 0"
    assert said in done.stdout
