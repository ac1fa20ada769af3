"""find_package(sofie_rdf): emitted headers in programs that CMake builds, with ROOT and without."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sofie_rdf as sofie

DATA = Path(__file__).resolve().parents[1] / "data"
TOOLS = shutil.which("cmake") and shutil.which("g++")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not TOOLS, reason="needs CMake and g++")]

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


def test_a_program_without_root(tmp_path: Path) -> None:
    tool = tmp_path / "sofie-rdf"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m sofie_rdf.cli "$@"\n')
    tool.chmod(0o755)
    shutil.copy(DATA / "higgs.onnx", tmp_path)
    model = "sofie_rdf_add_model(analysis higgs.onnx)"
    program = build(tmp_path, PROGRAM, f"-DSOFIE_RDF_EXECUTABLE={tool}", model=model)
    assert run(str(program)) == pytest.approx(expected(), rel=1e-5)


def test_a_program_with_root(tmp_path: Path) -> None:
    home = Path(pytest.importorskip("ROOT").__file__).parent
    sofie.load(DATA / "higgs.onnx").save(tmp_path / "models.root")
    # The CMake package in ROOT's wheel names folders that do not exist.
    model = "target_link_libraries(analysis PRIVATE sofie_rdf::root)"
    program = build(tmp_path, READER, f"-DSOFIE_RDF_ROOT={home}", model=model)
    assert run(str(program), str(tmp_path / "models.root")) == pytest.approx(expected(), rel=1e-5)
