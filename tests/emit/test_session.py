"""The emitted header: deterministic, golden, and right when g++ compiles it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.emit import session
from sofie_rdf.emit.session import include_directory
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.types import DType, Shape, TensorType
from sofie_rdf.ops.elementwise import Add, Cast, Greater, Mul, Relu, Tanh, Where
from sofie_rdf.ops.indexing import GatherND
from sofie_rdf.ops.layout import Concat, Identity, Reshape, Transpose
from sofie_rdf.ops.linear import Dense, MatMul
from sofie_rdf.ops.normalization import Softmax
from sofie_rdf.ops.selection import NonZero
from sofie_rdf.reference import evaluate
from tests.conftest import Golden

PROJECT = Path(__file__).resolve().parents[2]
HIGGS = PROJECT / "data" / "higgs.onnx"
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror"]
# clang's loop pragmas and vector extensions are what -Wpedantic knows nothing of.
WARNINGS = WARNINGS[:-2] + WARNINGS[-1:]


def mixed() -> sofie.Model:
    """Two inputs with dynamic axes each, three outputs of three types, most kinds of kernel."""
    random = np.random.default_rng(5)
    build = Builder("mixed model")
    n, k = symbol("N"), symbol("n pf")
    x = build.input("x", TensorType(DType.FLOAT32, (n, 6)))
    s = build.input("set/of particles", TensorType(DType.FLOAT32, (n, k, 4)))
    w = build.constant(random.normal(size=(6, 4)).astype(np.float32), "w.0")
    b = build.constant(random.normal(size=4).astype(np.float32), "b.0")
    h = build(Dense(Tanh()), x, w, b)
    query = build(Reshape((n, 4, 1)), h)
    logits = build(Reshape((n, k)), build(MatMul(), s, query))
    weights = build(Softmax(-1), logits, outputs=["weights"])
    picked = build(MatMul(), build(Reshape((n, 1, k)), weights), s)
    both = build(Concat(-1), build(Reshape((n, 4)), picked), h)
    positive = build(Greater(), both, build.constant(np.float32(0)), outputs=["positive"])
    half = build.constant(np.float32(0.5), "half")
    y = build(Where(), positive, both, build(Mul(), both, half))
    build(Cast(DType.INT64), build(Transpose((1, 0)), build(Add(), y, y)), outputs=["whole"])
    return sofie.Model(build.graph("weights", "positive", "whole"))


def feeds(n: int, k: int, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "x": random.normal(size=(n, 6)).astype(np.float32),
        "set/of particles": 4 * random.normal(size=(n, k, 4)).astype(np.float32),
    }


def body(header: str) -> str:
    """The part of a header that says what the network does."""
    return header[header.index("SOFIE_ENTRY") :]


@pytest.mark.parametrize("make", [lambda: sofie.load(HIGGS), mixed], ids=["higgs", "mixed"])
def test_goldens(make: Any, golden: Golden) -> None:
    model = make()
    golden(f"{model.name.split()[0]}.hxx", model.emission.header)


def test_the_text_does_not_depend_on_hashes() -> None:
    text = (
        f"import sofie_rdf as s; from hashlib import sha256; m = s.load({str(HIGGS)!r});"
        "print(sha256(m.emission.header.encode() + m.emission.weights).hexdigest())"
    )
    found = set()
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "-c", text]
        found.add(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)
    assert len(found) == 1


def test_no_number_of_the_weights_is_in_the_header() -> None:
    header = sofie.load(HIGGS).emission.header
    assert not re.findall(r"0x1\.[0-9a-f]{6,}p", header)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (3, 5), (2, 0), (0, 4), (17, 33), (1, 2)])
def test_cling_agrees_with_the_reference(n: int, k: int) -> None:
    pytest.importorskip("ROOT")
    model = mixed()
    given = feeds(n, k, seed=n)
    expected = evaluate(model.graph, given)
    for name, found in model(given).items():
        assert found.dtype == expected[name].dtype
        np.testing.assert_allclose(found, expected[name], rtol=2e-5, atol=1e-6)


# With g++ -----------------------------------------------------------------------------------------

MAIN = """
#include "{header}"
#include <cstdio>
template <class T> void dump(const std::vector<T> &v)
{{
   for (const auto &e : v) std::printf("%.9g ", double(e));
   std::printf("\\n");
}}
int main(int, char **argv)
{{
   {namespace}::Session first(argv[1]);
   {body}
}}
"""


def build_and_run(tmp_path: Path, text: str, weights: Path, *flags: str) -> list[list[float]]:
    source, program = tmp_path / "main.cxx", tmp_path / "main"
    source.write_text(text)
    command = ["g++", "-std=c++17", *WARNINGS, *flags, f"-I{tmp_path}", f"-I{include_directory()}"]
    built = subprocess.run(
        [*command, str(source), "-o", str(program)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr[-4000:]
    done = subprocess.run([program, str(weights)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return [[float(f) for f in line.split()] for line in done.stdout.splitlines()]


ONE_MODEL = """
   const std::vector<float> x = {x};
   auto copy = first;
   dump(first.infer(x));
   dump(copy.infer(2, std::vector<float>{two}));
   std::vector<float> y(2);
   first.infer(2, std::vector<float>{two}, y);
   dump(y);
   auto moved = std::move(first);
   dump(moved.infer(x.data()));
   float single = -1;
   moved.infer(x.data(), &single);
   std::printf("%.9g\\n", double(single));
   copy = moved;
   try {{ copy.infer(std::vector<float>(6)); }}
   catch (const std::invalid_argument &) {{ std::printf("1\\n"); }}
   try {{ std::string none("none.dat"); TMVA_SOFIE_higgs::Session absent(none); }}
   catch (const std::runtime_error &) {{ std::printf("2\\n"); }}
"""


def braces(array: Any) -> str:
    return "{" + ", ".join(f"{float(v).hex()}f" for v in array.ravel()) + "}"


@needs_compiler
@pytest.mark.parametrize(
    ("flags", "standalone"),
    [
        (["-O1", "-march=native"], False),
        (["-O1"], True),
        (["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"], False),
    ],
    ids=["native", "standalone", "sanitized"],
)
def test_gcc_gives_the_same_numbers(flags: list[str], standalone: bool, tmp_path: Path) -> None:
    model = sofie.load(HIGGS)
    x = np.random.default_rng(7).normal(size=(2, 7)).astype(np.float32)
    files = model.emit(tmp_path, standalone=standalone)
    text = MAIN.format(
        header=files.header.name,
        namespace=files.namespace,
        body=ONE_MODEL.format(x=braces(x[0]), two=braces(x)),
    )
    lines = build_and_run(tmp_path, text, files.weights, *flags)
    (expected,) = evaluate(model.graph, {"features": x}).values()
    one, two = [float(expected[0, 0])], [float(v) for v in expected.ravel()]
    for found, wanted in zip(lines, [one, two, two, one, one], strict=False):
        np.testing.assert_allclose(found, wanted, atol=3e-7)
    assert lines[5:] == [[1], [2]]


SEVERAL = """
   for (int round = 0; round < 2; ++round) {{
      const auto y = first.infer({n}, {k}, std::vector<float>{x}, std::vector<float>{s});
      dump(std::get<0>(y));
      dump(std::get<1>(y));
      dump(std::get<2>(y));
   }}
"""


@needs_compiler
@pytest.mark.parametrize(
    "flags",
    [
        ["-O2", "-march=native", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
        ["-O0"],
    ],
    ids=["sanitized", "unoptimized"],
)
def test_gcc_with_several_inputs_and_outputs(flags: list[str], tmp_path: Path) -> None:
    model = mixed()
    given = feeds(2, 3)
    files = model.emit(tmp_path)
    x, s = (braces(a) for a in given.values())
    text = MAIN.format(
        header=files.header.name,
        namespace=files.namespace,
        body=SEVERAL.format(n=2, k=3, x=x, s=s),
    )
    lines = build_and_run(tmp_path, text, files.weights, *flags)
    expected = [v.ravel().astype(float) for v in evaluate(model.graph, given).values()]
    for found, wanted in zip(lines, expected * 2, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6)


def test_a_network_without_weights_or_nodes() -> None:
    build = Builder("nothing")
    x = build.input("x", TensorType(DType.FLOAT32, (symbol("N"), 2)))
    build(Identity(), x, outputs=["y"])
    model = sofie.Model(build.graph("y", "x"))
    assert "struct Weights" in model.emission.header
    pytest.importorskip("ROOT")
    values = np.arange(4, dtype=np.float32).reshape(2, 2)
    for found in model(values).values():
        np.testing.assert_array_equal(found, values)


def test_values_named_like_our_own_variables() -> None:
    build = Builder("shadows")
    names = ["w", "scratch_", "weights_", "file", "infer", "N_", "N", "sofie", "std", "float"]
    n = symbol("N")
    inputs = [build.input(name, TensorType(DType.FLOAT32, (n, 1))) for name in names]
    total = inputs[0]
    for i, other in enumerate(inputs[1:]):
        total = build(Add(), total, other, outputs=[f"Session{i}" if i else "size_t"])
    build(Relu(), total, outputs=["result"])
    model = sofie.Model(build.graph("result"))
    pytest.importorskip("ROOT")
    given = {name: np.full((3, 1), i, np.float32) for i, name in enumerate(names)}
    np.testing.assert_array_equal(model(given), np.full((3, 1), 45, np.float32))


ALLOCATIONS = """
   static const std::vector<float> x(7 * 64, 0.5f);
   static std::vector<float> y(64);
   first.infer(64, x.data(), y.data());
   const long before = allocations;
   for (std::size_t n = 0; n <= 64; ++n)
      first.infer(n, x.data(), y.data());
   first.infer(x.data(), y.data());
   std::printf("%ld\\n", allocations - before);
   auto copy = first;
   copy.infer(x.data(), y.data());
   std::printf("%ld\\n", allocations - before);
"""

COUNTING = """
#include <cstdlib>
#include <new>
long allocations = 0;
void *operator new(std::size_t size) { ++allocations; return std::malloc(size); }
void *operator new(std::size_t size, std::align_val_t align)
{
   ++allocations;
   const auto to = static_cast<std::size_t>(align);
   return std::aligned_alloc(to, (size + to - 1) / to * to);
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void *memory, std::align_val_t) noexcept { std::free(memory); }
"""


@needs_compiler
def test_infer_allocates_nothing_after_the_first_call(tmp_path: Path) -> None:
    files = sofie.load(HIGGS).emit(tmp_path)
    text = COUNTING + MAIN.format(
        header=files.header.name, namespace=files.namespace, body=ALLOCATIONS.replace("\\\\", "\\")
    )
    # g++ takes our operator delete for a mismatch of the operator new that it has inlined.
    flags = "-O1", "-Wno-mismatched-new-delete"
    again, copied = build_and_run(tmp_path, text, files.weights, *flags)
    assert again == [0]
    # A copy has its own scratch, and nothing else.
    assert copied == [1]


def positive(shape: Shape, *, also: bool = False) -> str:
    """The header of a ReLU, and of another step where there is one."""
    build = Builder("positive")
    x = build.input("x", TensorType(DType.FLOAT32, shape))
    build(Relu(), x, outputs=["y"])
    if also:
        build(Tanh(), x, outputs=["z"])
    return sofie.Model(build.graph(*(["y", "z"] if also else ["y"]))).emission.header


def test_one_short_step_is_one_function_with_its_callers() -> None:
    header = positive((symbol("N"), 3))
    assert "inline void Session::infer(std::size_t N_" in header
    assert "SOFIE_INLINED session.infer(" in header
    assert "sofie::map_inlined(" in header
    assert "at_" not in header


def test_several_steps_are_functions_of_their_own() -> None:
    header = positive((symbol("N"), 3), also=True)
    assert "SOFIE_INLINED" not in header
    assert "map_inlined" not in header
    assert header.count("at_ = ") == 3


@needs_compiler
@pytest.mark.parametrize("many", [1, 400], ids=["parts", "whole"])
def test_long_functions_are_in_parts(
    many: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that a step binds are seen by the steps behind it."""
    monkeypatch.setattr(session, "_MANY_STEPS", many)
    monkeypatch.setattr(session, "_STEPS", 2)
    build = Builder("long")
    x = build.input("x", TensorType(DType.FLOAT32, (symbol("N"), 3)))
    h = build(Tanh(), build(Softmax(-1), build(Tanh(), build(Softmax(-1), x))))
    places = build(Transpose((1, 0)), build(NonZero(), h))
    found = build(GatherND(), build(Softmax(-1), h), places)
    build(Softmax(-1), build(Tanh(), found), outputs=["y"])
    model = sofie.Model(build.graph("y"))
    text = model.emission.header
    assert text.count("[&]() SOFIE_KERNEL {") == (0 if many > 1 else 5)
    given = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    (y,) = evaluate(model.graph.with_sizes({"N": 2}), given).values()
    assert np.allclose(model(given), y, atol=1e-6)
    model.emit(tmp_path)
    main = f'#include "{next(tmp_path.glob("*.hxx")).name}"\nint main() {{ return 0; }}\n'
    flags = [*WARNINGS, "-std=c++17", "-fsyntax-only", f"-I{include_directory()}", f"-I{tmp_path}"]
    command = ["g++", *flags, "-x", "c++", "-"]
    done = subprocess.run(command, input=main, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
