"""SOFIE itself, as the package ``sofie`` on PyPI has it: its generator, g++ and a BLAS library.

It reads and generates in a process of its own, which also calls the result once: what goes wrong
there cannot end the measurement.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from ctypes import c_double, c_size_t, c_void_p
from ctypes.util import find_library
from importlib.metadata import version as installed
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from sofie_rdf.bench.measure import Contestant
from sofie_rdf.bench.models import Task
from sofie_rdf.bench.ort import results
from sofie_rdf.bench.ours import stopwatch
from sofie_rdf.errors import ModelError
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.runtime.compile.library import find_compiler
from sofie_rdf.runtime.compile.session import pointers

__all__ = ["SofiePackage"]

_NAME = "sofie_bench"
_FLAGS = "-std=c++17 -O3 -march=native -w -shared -fPIC -fvisibility=hidden".split()
_PATIENCE = 600.0


class SofiePackage:
    """SOFIE's standalone code, called in the same C++ loop as ours."""

    name = "SOFIE"
    overhead = False

    def absence(self) -> str:
        if not find_spec("sofie"):
            return "the package sofie is not installed"
        if not find_compiler("g++"):
            return "there is no g++ on the PATH"
        return "" if _blas() else "there is no BLAS library"

    def version(self) -> str:
        return f"{installed('sofie')} with {_blas()}"

    def forms(self, task: Task) -> Iterator[tuple[str, Contestant]]:
        yield "C++", _Call(task)


def _blas() -> str:
    """The file of a BLAS library of the system, the fastest kind first."""
    found = (find_library(name) for name in ("openblas", "mkl_rt", "blis", "blas"))
    return next(filter(None, found), "")


class _Call:
    """The generated code in a library, in the memory of which a Session lives."""

    def __init__(self, task: Task) -> None:
        # On one thread: BLAS libraries look at this when they are loaded.
        os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1"))
        folder = tempfile.TemporaryDirectory(prefix="sofie-rdf-bench-")
        weakref.finalize(self, folder.cleanup)
        place = Path(folder.name)
        self._out = [np.zeros_like(result) for result in results(task.candidate.source, task.feeds)]
        _write(task, self._out, place)
        _in_new_process(place)
        order = json.loads((place / "order.json").read_text())
        self._in = [np.ascontiguousarray(task.feeds[name]) for name in order]
        self._addresses = pointers(self._in), pointers(self._out)
        self._library, self._session = _opened(place)

    def seconds(self, calls: int) -> float:
        return float(self._library.seconds(self._session, calls, *self._addresses))

    def outputs(self) -> list[Array]:
        return self._out


def _write(task: Task, out: Sequence[Array], place: Path) -> None:
    """The model with all sizes of its inputs and outputs as they are in this task, and inputs."""
    import onnx

    source = task.candidate.source
    model = onnx.load(source) if isinstance(source, Path) else onnx.load_from_string(source)
    outputs = dict(zip((o.name for o in model.graph.output), out, strict=True))
    for port in (*model.graph.input, *model.graph.output):
        array = {**task.feeds, **outputs}.get(port.name)
        if array is not None:
            del port.type.tensor_type.shape.dim[:]
            for size in array.shape:
                port.type.tensor_type.shape.dim.add().dim_value = size
    # Sizes in between that are known by name would not agree with those.
    del model.graph.value_info[:]
    onnx.save(model, place / "model.onnx")
    (place / "order.json").write_text(json.dumps(list(task.feeds)))
    np.savez(place / "inputs.npz", *task.feeds.values())
    np.savez(place / "outputs.npz", *out)


def _command(place: Path) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", __name__, str(place)]


def _in_new_process(place: Path) -> None:
    path = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    try:
        done = subprocess.run(
            _command(place),
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"takes more than {_PATIENCE:.0f} s") from error
    if done.returncode < 0:
        raise ModelError(f"crashes with signal {-done.returncode}")
    if done.returncode:
        raise ModelError((done.stderr.strip().splitlines() or ["fails without a word"])[-1])


def _opened(place: Path) -> tuple[ctypes.CDLL, int]:
    """The library, and a Session that has read its weights."""
    library = ctypes.CDLL(str(place / "model.so"), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    library.create.restype, library.create.argtypes = c_void_p, [ctypes.c_char_p]
    library.seconds.restype = c_double
    library.seconds.argtypes = [c_void_p, c_size_t, c_void_p, c_void_p]
    _use_one_thread()
    session = library.create(str(place / "model.dat").encode())
    if not session:
        raise ModelError("its Session cannot be made")
    return library, int(session)


def _use_one_thread() -> None:
    """Also where somebody else has loaded the BLAS library before it was told by the variables."""
    blas = ctypes.CDLL(_blas())
    if hasattr(blas, "openblas_set_num_threads"):
        blas.openblas_set_num_threads(1)


# In the new process -------------------------------------------------------------------------------


def _main(place: Path) -> None:
    """Generate, compile, and call once."""
    given: list[str] = json.loads((place / "order.json").read_text())
    arrays, out = (_arrays(place / f"{name}.npz") for name in ("inputs", "outputs"))
    os.chdir(place)
    named = dict(zip(given, arrays, strict=True))
    order = _generate(given)
    inputs = [np.ascontiguousarray(named[name]) for name in order]
    (place / "order.json").write_text(json.dumps(order))
    (place / "wrapper.cxx").write_text(_wrapper(inputs, out))
    _compile()
    library, session = _opened(place)
    library.seconds(session, 1, pointers(inputs), pointers(out))


def _arrays(file: Path) -> list[Array]:
    with np.load(file) as read:
        return [read[f"arr_{i}"] for i in range(len(read.files))]


def _generate(given: Sequence[str]) -> list[str]:
    """Write model.hxx and model.dat; the names of the inputs in the order of the C++ function."""
    import sofie

    model = sofie.onnx.parse("model.onnx")
    model.generate()
    model.output_generated("model.hxx")
    names = [str(name) for name in model.get_input_tensor_names()]
    # It changes names that are none in C++.
    return names if set(names) == set(given) else list(given)


def _wrapper(inputs: Sequence[Array], out: Sequence[Array]) -> str:
    """C functions around the Session and its `doInfer`, which writes to the caller's memory."""
    arguments = [f"static_cast<const {_cxx(a)} *>(in[{i}])" for i, a in enumerate(inputs)]
    arguments += [f"static_cast<{_cxx(a)} *>(out[{i}])" for i, a in enumerate(out)]
    return f"""{stopwatch()}
#include "model.hxx"
#define EXPORTED extern "C" __attribute__((visibility("default")))
using Session = SOFIE_model::Session;
EXPORTED void *create(const char *weights)
{{
   try {{
      return new Session(weights);
   }} catch (...) {{
      return nullptr;
   }}
}}
EXPORTED double seconds(void *session, std::size_t calls, const void *const *in, void *const *out)
{{
   const Session &own = *static_cast<const Session *>(session);
   return sofie::bench::seconds_of(calls, [&] {{
      doInfer(own, {", ".join(arguments)});
   }});
}}
"""


def _cxx(array: Array) -> str:
    return DType.of(array).cxx


def _compile() -> None:
    compiler = find_compiler("g++")
    command = [compiler.path if compiler else "g++", *_FLAGS, "wrapper.cxx", "-o", "model.so"]
    done = subprocess.run(
        [*command, f"-l:{_blas()}"], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        sys.exit(f"g++ refuses its code: {errors[0] if errors else done.stderr[:200]}")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
