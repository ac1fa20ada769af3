"""Headers that a macro includes by itself: the code is for the CPU on which it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.emit.session import include_directory
from sofie_rdf.runtime.compile.cpu import instruction_set
from tests.choice import some_of

pytest.importorskip("ROOT")

PROJECT = Path(__file__).resolve().parents[2]
HIGGS = PROJECT / "data" / "higgs.onnx"
X = np.linspace(-2, 2, 7, dtype=np.float32)

# What the code itself has been compiled for, and a score; `own` is our own way to run a model.
HEAD = f"""
import sys, numpy as np, ROOT
folder = sys.argv[1]
x = np.linspace(-2, 2, 7, dtype=np.float32)
ROOT.gInterpreter.AddIncludePath({str(include_directory())!r})
def own():
    import sofie_rdf as s
    print(float(s.load({str(HIGGS)!r})(x[np.newaxis]).item()).hex())
def by_itself():
    assert ROOT.gInterpreter.Declare('''
    #include "''' + folder + '''/higgs.hxx"
    #include "sofie/rdf/functor.hxx"
    double score(const std::string &weights, const std::vector<float> &x)
    {{
       TMVA_SOFIE_higgs::Session session(weights);
       auto copy = session;
       session = copy;
       auto moved = std::move(copy);
       const float y = moved.infer(x)[0];
       SofieFunctor<7, TMVA_SOFIE_higgs::Session> functor(2, weights);
       if (functor(1, x[0], x[1], x[2], x[3], x[4], x[5], x[6]) != y || session.infer(x)[0] != y)
          return -1;
       return y;
    }}
    ''')
    print(ROOT.score(folder + "/higgs.dat", ROOT.std.vector["float"](x)).hex())
    ROOT.gInterpreter.Declare('''
    SOFIE_BEGIN
    namespace probe {{ int bytes() {{ return SOFIE_SIMD_BYTES; }} }}
    const char *target() {{ return
    #ifdef SOFIE_TARGET
       SOFIE_TARGET
    #else
       ""
    #endif
    ; }}
    SOFIE_END
    ''')
    print(ROOT.probe.bytes(), ROOT.target())
"""


def run(text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HEAD + text, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
        check=False,
    )


def expected() -> str:
    score: str = float(sofie.load(HIGGS)(X[np.newaxis]).item()).hex()
    return score


@pytest.mark.parametrize("standalone", some_of([False, True], [True]))
def test_the_instruction_set_is_the_cpus(tmp_path: Path, standalone: bool) -> None:
    sofie.load(HIGGS).emit(tmp_path, standalone=standalone)
    chosen = instruction_set()
    found = run("by_itself()", tmp_path)
    score, simd, *target = found.stdout.split()
    assert (score, simd) == (expected(), str(chosen.simd_bytes)), found.stderr[-3000:]
    assert " ".join(target) == chosen.target


@pytest.mark.exhaustive
def test_the_instruction_set_can_be_chosen(tmp_path: Path) -> None:
    sofie.load(HIGGS).emit(tmp_path)
    score, simd, *target = run("by_itself()", tmp_path, SOFIE_RDF_SIMD="generic").stdout.split()
    assert (simd, target) == ("16", [])
    assert float.fromhex(score) == pytest.approx(float.fromhex(expected()), abs=1e-6)
    assert "is no instruction set" in run("by_itself()", tmp_path, SOFIE_RDF_SIMD="sse9").stderr


@pytest.mark.parametrize(
    "order", some_of(["own(); by_itself()", "by_itself(); own()"], ["own(); by_itself()"])
)
def test_beside_our_own_way(tmp_path: Path, order: str) -> None:
    sofie.load(HIGGS).emit(tmp_path)
    found = run(order, tmp_path)
    assert found.stdout.split().count(expected()) == 2, found.stderr[-3000:]
    assert f"\n{instruction_set().simd_bytes} " in found.stdout


PORTS = r"""
import sys, ROOT
folder = sys.argv[1]
ROOT.gInterpreter.AddIncludePath(folder)
ROOT.gInterpreter.AddIncludePath(sys.argv[2])
assert ROOT.gInterpreter.Declare(r'''
#include "nonzero.hxx"
#include "half.hxx"
#include "greater.hxx"
#include "sofie/rdf/functor.hxx"
void all(const std::string &folder)
{
   TMVA_SOFIE_nonzero::Session nonzero(folder + "/nonzero.dat");
   const auto found = nonzero.infer(5, std::vector<float>{0, 1, 0, -2, 5});
   const auto &where = std::get<0>(found);
   for (int i = 0; i < where.size(); ++i)
      printf("%d ", int(where.data()[i]));
   printf("%g\n", std::get<1>(found)[4]);
   SofieFunctor<2, TMVA_SOFIE_half::Session> half(1, folder + "/half.dat");
   for (float y : half(0, 0.5f, -3.f))
      printf("%g ", y);
   printf("\n");
   TMVA_SOFIE_greater::Session greater(folder + "/greater.dat");
   for (auto y : greater.infer(std::vector<float>{1, 2, 3}, std::vector<float>{3, 2, 1}))
      printf("%d ", int(y));
   printf("\n");
}
''')
ROOT.all(folder)
"""


def emit_onnx(
    folder: Path,
    name: str,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    *,
    standalone: bool,
) -> None:
    from onnx import helper

    ports = ([helper.make_tensor_value_info(*p) for p in listed] for listed in (inputs, outputs))
    graph = helper.make_graph(nodes, name, *ports)
    data = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    sofie.from_onnx(data).emit(folder, standalone=standalone)


@pytest.mark.parametrize("standalone", some_of([False, True], [False]))
def test_ports_of_all_kinds(tmp_path: Path, standalone: bool) -> None:
    """Outputs with memory of their own, elements that C++ lacks, names that the code uses."""
    from onnx import TensorProto as Kind
    from onnx.helper import make_node

    several = [make_node("NonZero", ["x"], ["y"]), make_node("Relu", ["x"], ["z"])]
    ports = [("y", Kind.INT64, [1, "found"]), ("z", Kind.FLOAT, ["N"])]
    x = ("x", Kind.FLOAT, ["N"])
    emit_onnx(tmp_path, "nonzero", several, [x], ports, standalone=standalone)
    ports = [(name, Kind.FLOAT16, ["N", 2]) for name in "xy"]
    relu = [make_node("Relu", ["x"], ["y"])]
    emit_onnx(tmp_path, "half", relu, ports[:1], ports[1:], standalone=standalone)
    ports = [("out_", Kind.FLOAT, ["N", 3]), ("in_", Kind.FLOAT, ["N", 3])]
    greater = [make_node("Greater", ["out_", "in_"], ["sizes_"])]
    result = [("sizes_", Kind.BOOL, ["N", 3])]
    emit_onnx(tmp_path, "greater", greater, ports, result, standalone=standalone)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PORTS, str(tmp_path), str(include_directory())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1 3 4 5\n0.5 0 \n0 0 1 \n", done.stderr[-3000:]


def test_weights_that_do_not_belong_to_it(tmp_path: Path) -> None:
    files = sofie.load(HIGGS).emit(tmp_path)
    data = bytearray(files.weights.read_bytes())
    data[len(data) // 2] ^= 1
    files.weights.write_bytes(data)
    assert "is truncated or damaged" in run("by_itself()", tmp_path).stderr
    files.weights.unlink()
    assert "cannot be opened" in run("by_itself()", tmp_path).stderr


MACRO = """
#include "higgs.hxx"
#include <cstdio>
void macro()
{
   TMVA_SOFIE_higgs::Session session("higgs.dat");
   std::vector<float> x;
   for (int i = 0; i < 7; ++i)
      x.push_back(-2 + 4 * i / 6.f);
   std::printf("score %a\\n", session.infer(x)[0]);
}
"""


@pytest.mark.parametrize(
    ("suffix", "flags"),
    some_of(
        [("", ""), ("+", ""), ("+O", "-O3 -march=native")], [("", ""), ("+O", "-O3 -march=native")]
    ),
    ids=["interpreted", "ACLiC", "ACLiC-native"],
)
def test_macros(tmp_path: Path, suffix: str, flags: str) -> None:
    program = Path(sys.executable).with_name("root")
    if not program.exists():
        program = Path(shutil.which("root") or "root")
    if not program.exists() or (suffix and not shutil.which("g++")):
        pytest.skip("needs the program root, and for ACLiC g++")
    sofie.load(HIGGS).emit(tmp_path, standalone=True)
    (tmp_path / "macro.C").write_text(MACRO)
    before = ["-e", f'gSystem->SetFlagsOpt("{flags}")'] if flags else []
    done = subprocess.run(
        [str(program), "-l", "-b", "-q", *before, f"macro.C{suffix}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("score ")]
    assert lines, done.stdout[-2000:] + done.stderr[-3000:]
    assert float.fromhex(lines[0].split()[1]) == pytest.approx(float.fromhex(expected()), abs=1e-6)
