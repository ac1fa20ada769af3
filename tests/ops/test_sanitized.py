"""Kernels in programs of g++: with warnings as errors, under its sanitizers; and where
memory ends, for this CPU or for the instruction set that SOFIE_RDF_SIMD names: sanitizers do not
see what assembler reads and writes.

Some of every family; those of all operators, which take minutes to compile, with
``SOFIE_RDF_ALL_KERNELS=1 python -m pytest -n auto tests/ops/test_sanitized.py``.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from sofie_rdf.emit import literals
from sofie_rdf.emit.ports import Interface, Port
from sofie_rdf.emit.session import emit, include_directory
from sofie_rdf.ir.dims import symbols_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import symbols_in
from sofie_rdf.ir.types import Array, DType, TensorType, concrete
from sofie_rdf.passes.formulas import by_formula
from sofie_rdf.passes.halves import widen_halves
from sofie_rdf.passes.memory import plan_memory
from sofie_rdf.runtime.compile.cpu import cpu_description, target_flags
from tests.ops.cases import Case
from tests.ops.test_contract import OPERATORS, Bench, Key, accepted_cases, bench_of, differences

Batch: TypeAlias = Mapping[str, Array]
Sizes: TypeAlias = Mapping[str, int]

# g++ speaks of the ABI of vectors at the end of a file, where the headers' own pragmas have ended;
# no function with vectors among its parameters is called from elsewhere.
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-Wno-psabi"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
CLEAN = ["-O0", *WARNINGS, *SANITIZERS]
GUARDED = ["-O1", "-w", "-DGUARDED"]
# Beside the first element type of an operator, these have a case each: half precision and what is
# only stored differ in how they are moved and cast; unsigned, short and long integers in what
# overflows.
OTHERS = (
    DType.FLOAT64,
    DType.FLOAT16,
    DType.INT8,
    DType.INT32,
    DType.INT64,
    DType.UINT8,
    DType.UINT64,
    DType.BOOL,
    DType.FLOAT8E4M3FN,
    DType.INT4,
)
# Programs, which are compiled side by side.
PARTS = 12
ALL = bool(os.environ.get("SOFIE_RDF_ALL_KERNELS"))
CHOSEN = range(PARTS) if ALL else (0, 2)
IN_ASSEMBLER = (
    "AveragePool",
    "Conv",
    "ConvTransposeLayer",
    "CumSum",
    "Dense",
    "DenseLayers",
    "DynamicQuantizeLinear",
    "Erf",
    "GatherElements",
    "Gelu",
    "InstanceNormalization",
    "IntegerDense",
    "LpNormalization",
    "MatMul",
    "MatMulInteger",
    "MaxPool",
    "Pad",
    "QLinearMatMul",
    "QuantizeLinear",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceSum",
    "Resize",
    "Softmax",
    "TopK",
    "Transpose",
)
# Those for which AVX2 has assembler as well.
IN_TILES = (
    "Attention",
    "AveragePool",
    "Conv",
    "ConvTransposeLayer",
    "Dense",
    "DenseLayers",
    "DynamicQuantizeLinear",
    "GRU",
    "Gelu",
    "InstanceNormalization",
    "IntegerDense",
    "LSTM",
    "LayerNormalization",
    "MatMul",
    "MatMulInteger",
    "MaxPool",
    "QLinearMatMul",
    "QuantizeLinear",
    "Softmax",
    "WinogradConv",
)

PROGRAM = """{includes}
#include "sofie/session/owned.hxx"
#include <cstdio>
#include <cstdlib>

// Each array stands by itself in memory of its own size, so that no access beside it goes unseen.
#ifdef GUARDED
#include <sys/mman.h>
// Up to the end of a page, or from its beginning on; the pages beside it cannot be accessed.
static void *take(std::size_t bytes)
{
   const std::size_t page = 4096, whole = (bytes + page - 1) / page * page;
   void *all = mmap(nullptr, whole + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
   char *memory = static_cast<char *>(all) + page;
   if (all == MAP_FAILED || (whole && mprotect(memory, whole, PROT_READ | PROT_WRITE)))
      std::abort();
   return std::getenv("AT_THE_BEGINNING") ? memory : memory + whole - bytes;
}
static void give(void *) {}
void *operator new(std::size_t bytes, std::align_val_t of) // What the kernels have.
{
   const std::size_t line = static_cast<std::size_t>(of);
   return take((bytes + line - 1) / line * line);
}
void operator delete(void *, std::align_val_t) noexcept {}
#else
static void *take(std::size_t bytes)
{
   return std::malloc(bytes);
}
static void give(void *memory)
{
   std::free(memory);
}
#endif

template <class T>
static T *read(std::FILE *from, std::size_t size)
{
   T *memory = static_cast<T *>(take(size * sizeof(T)));
   if (size && std::fread(memory, sizeof(T), size, from) != size)
      std::abort();
   return memory;
}

template <class T>
static void write(std::FILE *to, const T *memory, std::size_t size)
{
   if (size && std::fwrite(memory, sizeof(T), size, to) != size)
      std::abort();
}

// What decides its own size: the shape, and then the elements.
template <class T, int Rank>
[[maybe_unused]] static void write(std::FILE *to, const sofie::Owned<T, Rank> &result)
{
   std::size_t shape[Rank + 1];
   const void *memory = sofie::described(result, shape);
   write(to, shape, std::size_t(Rank));
   write(to, static_cast<const T *>(memory), static_cast<std::size_t>(result.size()));
}

{functions}

int main()
{
   std::FILE *in = std::fopen("in", "rb"), *out = std::fopen("out", "wb");
{calls}
   std::fclose(out);
   std::fclose(in);
}
"""

# The network of one operator, called once for each batch.
FUNCTION = """
static void run_{namespace}(std::FILE *in, [[maybe_unused]] std::FILE *out)
{
   {namespace}::Session session("{namespace}.dat");
   for (int run = 0; run < {runs}; ++run) {
      std::size_t *sizes = read<std::size_t>(in, {count});
{body}
      give(sizes);
   }
}
"""


def chosen(key: Key) -> Iterator[tuple[DType, Case]]:
    """All cases of the first element type, for which a row makes most, and one of some others."""
    seen: list[DType] = []
    for dtype, case in accepted_cases(key):
        if dtype in seen[:1] or not seen or (dtype in OTHERS and dtype not in seen):
            yield dtype, case
        seen.append(dtype)


def benches(keys: Sequence[Key]) -> list[Bench]:
    """The cases of these operators; every `PARTS`-th are some of every family."""
    return [bench_of("_".join(("kernels", *filter(None, key))), chosen(key)) for key in keys]


def alone(keys: Sequence[Key]) -> list[Bench]:
    """Each case as a network of its own, whose memory no other case needs.

    Where an attribute has a size that only other cases' inputs tell, they stay together.
    """
    found: list[Bench] = []
    for key in keys:
        (together,) = benches([key])
        name = together.graph.name
        each = [bench_of(f"{name}_{i}", [pair]) for i, pair in enumerate(chosen(key))]
        found += each if all(map(_knows_its_sizes, each)) else [together]
    return found


def _knows_its_sizes(bench: Bench) -> bool:
    graph = bench.graph
    return all(symbols_in(node.op) <= graph.known_symbols for node in graph.nodes)


def function_of(graph: Graph, namespace: str, runs: int) -> str:
    """Reads sizes and inputs, calls `infer`, writes the outputs, several times."""
    inputs = {f"x{i}": graph.types[name] for i, name in enumerate(graph.inputs)}
    outputs = {f"y{i}": port for i, port in enumerate(Interface(graph, "").outputs)}
    symbols = graph.symbols
    lines = [f"const std::size_t {s} = sizes[{i}];" for i, s in enumerate(symbols)]
    lines += [f"auto *{n} = read<{t.dtype.cxx}>(in, {size(t)});" for n, t in inputs.items()]
    lines += [declared(n, port) for n, port in outputs.items()]
    lines.append(f"session.infer({', '.join([*symbols, *inputs, *outputs])});")
    lines += [f"give({n});" for n in inputs]
    for name, port in outputs.items():
        lines += (
            [f"write(out, {name});"]
            if port.owned
            else [f"write(out, {name}, {size(port.type)});", f"give({name});"]
        )
    text = FUNCTION.replace("{namespace}", namespace).replace("{runs}", str(runs))
    text = text.replace("{count}", str(len(symbols)))
    return text.replace("{body}", "\n".join(f"      {x}" for x in lines))


def declared(name: str, port: Port) -> str:
    """The memory of an output; what decides its own size is a new object in each run."""
    if port.owned:
        return f"{port.vector_type} {name};"
    element = port.type.dtype.cxx
    memory = f"take({size(port.type)} * sizeof({element}))"
    return f"auto *{name} = static_cast<{element} *>({memory});"


def size(type_: TensorType) -> str:
    names = {s: s for d in type_.shape for s in symbols_of(d)}
    return " * ".join(f"std::size_t({literals.size(d, names)})" for d in type_.shape) or "1"


def build(
    graphs: Sequence[Graph],
    folder: Path,
    runs: int,
    flags: Sequence[str] = CLEAN,
    compiler: str = "g++",
) -> None:
    """The program, in the folder with its weights."""
    includes, functions, calls = [], [], []
    for graph in graphs:
        emission = emit(graph, plan_memory(graph))
        name = emission.namespace
        (folder / f"{name}.hxx").write_text(emission.header)
        (folder / f"{name}.dat").write_bytes(emission.weights)
        includes.append(f'#include "{name}.hxx"')
        functions.append(function_of(graph, name, runs))
        calls.append(f"   run_{name}(in, out);")
    text = PROGRAM.replace("{includes}", "\n".join(includes)).replace("{calls}", "\n".join(calls))
    (folder / "main.cxx").write_text(text.replace("{functions}", "".join(functions)))
    command = [compiler, "-std=c++17", *flags, f"-I{include_directory()}"]
    command += ["main.cxx", "-o", "kernels"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]


def run(
    graphs: Sequence[Graph],
    folder: Path,
    batches: Sequence[Sequence[Batch]],
    sizes: list[Sizes],
    emulator: Sequence[str] = (),
    **environment: str,
) -> list[list[Batch]]:
    """The outputs of each graph for each batch; fails with what the sanitizers say."""
    with (folder / "in").open("wb") as file:
        for graph, fed in zip(graphs, batches, strict=True):
            for feeds, known in zip(fed, sizes, strict=True):
                file.write(np.array([known[s] for s in graph.symbols], np.uint64).tobytes())
                for name in graph.inputs:
                    file.write(np.ascontiguousarray(feeds[name]).tobytes())
    variables = {**os.environ, **environment}
    done = subprocess.run(
        [*emulator, "./kernels"],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-6000:]}"
    content = io.BytesIO((folder / "out").read_bytes())
    found: list[list[Batch]] = []
    for graph in graphs:
        ports = Interface(graph, "").outputs
        found.append([{p.value: read(content, p, known) for p in ports} for known in sizes])
    assert not content.read()
    return found


def read(content: io.BytesIO, port: Port, sizes: Sizes) -> Array:
    """The next output of the program."""
    dtype = port.type.dtype
    if port.owned:
        shape = tuple(map(int, np.frombuffer(content.read(8 * port.type.rank), np.uint64)))
    else:
        shape = concrete(port.type.shape, sizes)
    elements = content.read(math.prod(shape) * dtype.nbytes)
    return np.frombuffer(elements, dtype.numpy).reshape(shape)


# From small to large: a Session has no more memory than the call needs, nor has it of no event.
SIZES: list[Sizes] = [{"N": n, "M": m} for n, m in [(0, 1), (1, 1), (3, 5), (37, 2), (100, 2)]]


def check(
    tested: Sequence[Bench],
    folder: Path,
    flags: Sequence[str],
    *runs: dict[str, str],
    compiler: str = "g++",
    emulator: Sequence[str] = (),
) -> None:
    """Run the program of these, in each environment; results are those of the reference."""
    graphs = [widen_halves(by_formula(bench.graph)) for bench in tested]
    batches = [[bench.feeds(s, i, extreme=i > 2) for i, s in enumerate(SIZES)] for bench in tested]
    build(graphs, folder, len(SIZES), flags, compiler)
    wrong = []
    for environment in runs:
        found = run(graphs, folder, batches, SIZES, emulator, **environment)
        for bench, fed, outputs in zip(tested, batches, found, strict=True):
            for feeds, given, known in zip(fed, outputs, SIZES, strict=True):
                wrong += differences(bench, feeds, given, known)
    assert not wrong, f"{len(wrong)} cases differ:\n" + "\n".join(wrong[:8])


needs_gcc = pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")


@pytest.mark.exhaustive
@needs_gcc
@pytest.mark.parametrize("number", CHOSEN)
def test_all_kernels_are_clean_and_right(number: int, tmp_path: Path) -> None:
    check(benches(OPERATORS[number::PARTS]), tmp_path, CLEAN, {})


@pytest.mark.exhaustive
@needs_gcc
@pytest.mark.parametrize("number", range(PARTS if ALL else 1))
def test_kernels_stay_in_their_memory(number: int, tmp_path: Path) -> None:
    few = [key for key in OPERATORS if key[1] in IN_ASSEMBLER]
    keys = OPERATORS[number::PARTS] if ALL else few
    check(alone(keys), tmp_path, [*GUARDED, *target_flags()], {}, {"AT_THE_BEGINNING": "1"})


@pytest.mark.exhaustive
@needs_gcc
@pytest.mark.skipif("avx2" not in cpu_description(), reason="needs a CPU with AVX2")
@pytest.mark.parametrize("simd", ["avx2", "generic"])
def test_tiles_without_avx512_stay_in_their_memory(simd: str, tmp_path: Path) -> None:
    keys = [key for key in OPERATORS if key[1] in IN_TILES]
    check(
        list(alone(keys)), tmp_path, [*GUARDED, *target_flags(simd)], {}, {"AT_THE_BEGINNING": "1"}
    )
