"""Cling: compiled once, and every way in which it fails becomes an exception."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir.operator import REGISTRY, Functor, operator
from sofie_rdf.ir.types import Array
from sofie_rdf.ops.elementwise import Unary
from sofie_rdf.runtime.compile import interpreter
from sofie_rdf.runtime.compile.interpreter import declare, instruction_set
from sofie_rdf.runtime.compile.session import compile_graph
from tests.choice import some_of

ROOT = pytest.importorskip("ROOT")

PROJECT = Path(__file__).resolve().parents[2]
HIGGS = PROJECT / "data" / "higgs.onnx"


def run_python(
    text: str, *, before: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, optionally under a shell command that ends in ``exec``."""
    command = [sys.executable, "-W", "ignore", "-c", text]
    if before:
        command = ["unshare", "-m", "sh", "-c", f'{before}; exec "$@"', "sh", *command]
    known = {**os.environ, "PYTHONPATH": str(PROJECT), **environment}
    return subprocess.run(
        command, capture_output=True, text=True, env=known, cwd=PROJECT, check=False
    )


def test_text_is_declared_once() -> None:
    text = "namespace declared_once { int answer() { return 42; } }"
    declare(text)
    declare(text)  # A second definition would be an error.
    assert ROOT.declared_once.answer() == 42


def test_a_compiler_error_is_an_exception_with_its_message() -> None:
    with pytest.raises(sofie.JitError, match="no_such_function"):
        declare("int broken() { return no_such_function(); }")
    with pytest.raises(sofie.JitError, match="no_such_function"):
        declare("int broken() { return no_such_function(); }")


@pytest.fixture
def functor_text() -> Iterator[dict[str, str]]:
    """A user's operator whose C++ functor is whatever the test puts here."""
    text = {"cxx": "sofie::Identity"}

    class Doubled(Unary):
        """2 x"""

        def functor(self) -> Functor:
            return Functor(text["cxx"])

        def reference(self, x: Array) -> Array:
            return np.asarray(2 * x)

    operator(domain="test")(Doubled)
    yield text
    del REGISTRY["test", "Doubled"]


def doubled() -> sofie.Model:
    from sofie_rdf.ir.builder import Builder
    from sofie_rdf.ir.dims import symbol
    from sofie_rdf.ir.operator import lookup
    from sofie_rdf.ir.types import DType, TensorType

    build = Builder("doubled")
    x = build.input("x", TensorType(DType.FLOAT32, (symbol("N"), 3)))
    return sofie.Model(build.graph(build(lookup("test", "Doubled")(), x, outputs=["y"])))


def test_a_wrong_first_result_is_an_exception(functor_text: dict[str, str]) -> None:
    functor_text["cxx"] = "sofie::Abs"
    with pytest.raises(sofie.JitError, match="differs from the reference"):
        doubled()(np.ones((1, 3), np.float32))


def test_a_missing_symbol_is_an_exception(
    functor_text: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    declare(
        '#include "sofie/kernels/elementwise/map.hxx"\nSOFIE_BEGIN\n'
        "namespace missing {\nfloat nowhere(float);\n"
        "struct Doubled { template <class V> V operator()(V x) const"
        " { for (int i = 0; i < sofie::width<V>; ++i) x[i] = nowhere(x[i]); return x; } };\n"
        "}\nSOFIE_END\n"
    )
    functor_text["cxx"] = "missing::Doubled"
    with pytest.raises(sofie.JitError) as error:
        doubled()(np.ones((1, 3), np.float32))
    assert "nowhere" in str(error.value)
    assert "nowhere" not in capfd.readouterr().err


def test_code_that_does_not_compile_names_the_reason(functor_text: dict[str, str]) -> None:
    functor_text["cxx"] = "sofie::NoSuchFunctor"
    with pytest.raises(sofie.JitError, match="NoSuchFunctor"):
        doubled()(np.ones((1, 3), np.float32))


def test_weights_of_another_model_are_refused() -> None:
    model = sofie.load(HIGGS)
    data = model.emission.weights
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    for weights, reason in (
        (data[:-64], b"is truncated or damaged"),
        (bytes(damaged), b"is truncated or damaged"),
        (b"", b"is no weight file of sofie_rdf"),
    ):
        message = ctypes.create_string_buffer(100)
        given = (weights, len(weights), b"mine.dat", message, len(message))
        assert not model.compiled.entries["load"](*given)
        assert message.value == b"mine.dat: " + reason


def test_the_instruction_set_is_the_cpus() -> None:
    chosen = instruction_set()
    assert chosen.simd_bytes in (16, 32, 64)
    found = run_python(
        "import sofie_rdf, numpy as np;"
        "from sofie_rdf.runtime.compile.interpreter import instruction_set as i;"
        "x = np.linspace(-2, 2, 35, dtype=np.float32).reshape(5, 7);"
        f"m = sofie_rdf.load({str(HIGGS)!r});"
        "print(i().simd_bytes, *m(x).ravel().tolist())",
        SOFIE_RDF_SIMD="generic",
    )
    assert found.returncode == 0, found.stderr
    simd_bytes, *scores = found.stdout.split()
    assert simd_bytes == "16"
    x = np.linspace(-2, 2, 35, dtype=np.float32).reshape(5, 7)
    here = sofie.load(HIGGS)(x).ravel()
    np.testing.assert_allclose([float(s) for s in scores], here, atol=1e-6)


def test_an_unknown_instruction_set_is_refused() -> None:
    found = run_python(
        "from sofie_rdf.runtime.compile.interpreter import instruction_set as i; i()",
        SOFIE_RDF_SIMD="sse9",
    )
    assert "avx2" in found.stderr
    assert "JitError" in found.stderr


NO_ROOT = "import sys; sys.modules['ROOT'] = None; import sofie_rdf as s, numpy as np; "


def test_without_root_the_error_says_what_to_install(tmp_path: Path) -> None:
    text = NO_ROOT + (
        f"m = s.load({str(HIGGS)!r}); m.save({str(tmp_path / 'm.root')!r});"
        f"m.emit({str(tmp_path)!r});"
        f"print(s.load({str(tmp_path / 'm.root')!r}).name); m(np.zeros((1, 7), np.float32))"
    )
    found = run_python(text)
    assert found.stdout == "higgs\n"
    assert "MissingDependency" in found.stderr
    assert "pip install root" in found.stderr


OTHER_ROOT = """
import importlib.util
import ROOT
# A ROOT that was found otherwise than by Python's finders, as older wheels and builds make it.
vars(ROOT)['__spec__'] = None
type(ROOT).__spec__ = property(lambda self: None)
try:
    importlib.util.find_spec('ROOT')
except ValueError:
    print('no spec')
import sofie_rdf as s, numpy as np
model = s.load({higgs!r})
df = s.define(ROOT.RDataFrame(3).Define('x', '1.f'), 'y', model, ['x'] * 7)
same = model(np.ones((1, 7), np.float32))[0, 0] == df.Take['float']('y').GetValue()[0]
print(same, model.compiled.compiler)
"""


@pytest.mark.exhaustive
def test_a_root_without_a_spec() -> None:
    found = run_python(OTHER_ROOT.format(higgs=str(HIGGS)), SOFIE_RDF_COMPILER="")
    assert found.stdout == "no spec\nTrue cling\n", found.stderr


def test_importing_is_quiet_and_light() -> None:
    found = run_python(
        "import sofie_rdf, sys;"
        "heavy = {'ROOT', 'onnx', 'uproot', 'torch', 'rich', 'importlib.metadata'};"
        "heavy |= {'sofie_rdf.' + p for p in ('ops', 'passes', 'frontends.onnx', 'ir.rootfile')};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert found.stdout == "[]\n"
    assert found.stderr == ""


def can_unshare() -> bool:
    if not shutil.which("unshare") or os.geteuid() != 0:
        return False
    return (
        subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0
    )


@pytest.mark.exhaustive
@pytest.mark.skipif(
    ROOT.gROOT.GetVersionInt() < 64000, reason="FromNumpy needs the headers in an older ROOT"
)
@pytest.mark.skipif(not can_unshare(), reason="hiding the headers needs a mount namespace (root)")
def test_without_the_systems_headers() -> None:
    """ROOT starts without them, and its modules have what the emitted code needs."""
    hide = "mount -t tmpfs none /usr/include; mount -t tmpfs none /usr/lib/gcc"
    found = run_python(
        "import os; assert not os.path.exists('/usr/include/stdio.h')\n"
        "import ROOT, numpy as np, sofie_rdf as s\n"
        f"m = s.load({str(HIGGS)!r})\n"
        "x = np.linspace(-2, 2, 35, dtype=np.float32).reshape(5, 7)\n"
        "df = ROOT.RDF.FromNumpy({f'c{i}': x[:, i].copy() for i in range(7)})\n"
        "df = s.define(df, 'y', m, [f'c{i}' for i in range(7)])\n"
        # AsNumpy is one of the things of ROOT that need the headers.
        "print(*m(x).ravel().tolist(), *df.Take['float']('y').GetValue())\n",
        before=hide,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    x = np.linspace(-2, 2, 35, dtype=np.float32).reshape(5, 7)
    here = sofie.load(HIGGS)(x).ravel()
    np.testing.assert_array_equal(np.float32(found.stdout.split()), np.tile(here, 2))


def test_the_error_stream_is_given_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(sofie.JitError):
        declare("this is no C++")
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_a_copied_graph_compiles_to_the_same_code() -> None:
    model = sofie.load(HIGGS)
    compiled = compile_graph(replace(model.optimized))
    assert compiled.emission.namespace == model.compiled.emission.namespace
    assert interpreter.instruction_set() is instruction_set()


def test_a_model_after_one_that_failed() -> None:
    """What a failed declaration has instantiated must not be missing in the next one."""
    found = run_python(
        "import sofie_rdf as s, numpy as np\n"
        "from sofie_rdf.runtime.compile.interpreter import declare\n"
        f"m = s.load({str(HIGGS)!r})\n"
        "try: declare(m.emission.header + '\\nint broken() { return nothing; }')\n"
        "except s.JitError: print('failed')\n"
        "print(m(np.zeros((1, 7), np.float32)).shape)\n"
    )
    assert found.stdout == "failed\n(1, 1)\n", found.stderr


# The error stream ---------------------------------------------------------------------------------

THREADS = """
import os, sys, threading
import ROOT, sofie_rdf as s
model = s.load(sys.argv[1])
before = os.stat(2)
def work(k):
    for n in range(2):
        df = ROOT.RDataFrame(2)
        model.define(df, f"y{k}", [f"0.{k}{n}{i} * rdfentry_" for i in range(7)])
        try:
            model.define(df, "z", [f"no_such_{k}_{n} + 1"] * 7)
        except s.ColumnError as error:
            assert f"no_such_{k}_{n}" in str(error), error
        else:
            raise SystemExit("no error")
failed = []
threading.excepthook = lambda args: failed.append(args.exc_value)
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
after = os.stat(2)
assert not failed, failed
assert (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino), "the error stream is lost"
assert len(os.listdir("/proc/self/fd")) < 100
os.write(2, b"still here")
"""


def test_threads_keep_the_error_stream(tmp_path: Path) -> None:
    """Four threads that define expressions, right ones and wrong ones."""
    script, errors = tmp_path / "threads.py", tmp_path / "errors"
    script.write_text(THREADS)
    with errors.open("w") as file:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(script), str(HIGGS)],
            stderr=file,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "SOFIE_RDF_CACHE": "off"},
            check=False,
        )
    said = errors.read_text()
    assert done.returncode == 0, said[-2000:]
    assert said.endswith("still here")


STREAMS = """
import io, sys
import numpy as np
import ROOT, sofie_rdf as s
kind, seen = sys.argv[2], sys.argv[3]
if kind == "none":
    sys.stderr = None
elif kind == "notebook":
    sys.stderr = io.StringIO()
elif kind == "closed":
    sys.stderr.close()
model = s.load(sys.argv[1])
df = ROOT.RDataFrame(2)
words = []
try:
    model.define(df, "z", ["no_such + 1"] * 7)
except s.ColumnError as error:
    words.append(type(error).__name__)
found = model.define(df, "y", ["0.5 * rdfentry_"] * 7).AsNumpy(["y"])["y"]
same = np.allclose(found, model(np.float32([[0] * 7, [0.5] * 7])).ravel(), rtol=1e-5)
open(seen, "w").write(" ".join([*words, str(bool(same))]))
"""


@pytest.mark.parametrize(
    ("kind", "closed"),
    some_of(
        [
            *(("as it is", c) for c in ("2>&-", "1>&-", "0<&- 1>&- 2>&-")),
            *((k, "") for k in ("none", "notebook", "closed")),
        ],
        [("as it is", "2>&-")],
    ),
)
def test_any_streams_will_do(tmp_path: Path, kind: str, closed: str) -> None:
    script, seen = tmp_path / "streams.py", tmp_path / "seen"
    script.write_text(STREAMS)
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-W", "ignore"]
    subprocess.run(
        [*command, str(script), str(HIGGS), kind, str(seen)],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "SOFIE_RDF_CACHE": "off"},
        check=False,
        capture_output=True,
    )
    assert seen.read_text() == "ColumnError True"
