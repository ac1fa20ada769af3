"""Numbers that Python and C++ share: a compiler compares them."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from itertools import product as product_of
from pathlib import Path
from types import ModuleType

import pytest

from sofie_rdf.ir.types import DType
from sofie_rdf.kernels import (
    attention,
    columns,
    convolution_problem,
    dense,
    grouped,
    lanes,
    matmul,
    pooling,
    recurrent,
    reduction,
    transpose,
    transposed,
    trees,
    winograd,
)
from sofie_rdf.kernels.choice import AVX2, AVX512, SETS
from sofie_rdf.runtime.compile.cpu import target_flags

CLING = Path(__file__).parents[2] / "cling"

HEADERS = (
    "attention",
    "convolution/columns",
    "convolution/grouped",
    "convolution/winograd_lanes",
    "convolution/transposed",
    "dense/from_memory",
    "dense/layers",
    "layout",
    "pooling",
    "products",
    "products/requantized",
    "recurrent",
    "reduction",
    "trees",
)
# By module: the name there, and what it is in C++ with AVX-512.
SHARED: dict[ModuleType, dict[str, str]] = {
    attention: {"_BLOCK": "block_packs<float> * lanes<float>"},
    convolution_problem: {
        "_DEPTH": "conv_depth",
        "_TILES": "conv_tiles",
        "_BUDGET": "conv_budget",
        "_SHORT": "conv_short",
        "_BETWEEN": "conv_gap + 32",
    },
    columns: {
        "_TILE": "dense_tile_width",
        "_PACK": "lanes<float>",
        "_LAST": "conv_last_most",
    },
    grouped: {"LANES": "lanes<float>"},
    lanes: {
        "MOST_HALVES": "lanes_most",
        "_HALF_STEPS": "lanes_half_steps",
        "_FEATURES": "lanes_features",
        "_BUDGET": "conv_budget",
        "_BETWEEN": "conv_gap + 32",
    },
    matmul: {
        "INTEGER_ROWS": "integer_rows",
        "_BYTES": "SOFIE_SIMD_BYTES",
        "_UNIT": "requantized_unit",
    },
    transpose: {
        "_REGISTER": "picked_lanes<4> * 4",
        "_SQUARE": "least_square",
    },
    transposed: {"_WIDTH": "ConvTile<float, 8>::width"},
    winograd: {
        "_TILE": "winograd_outputs",
        "_COLUMNS": "ConvTile<float, 8>::width",
        "_LANES": "lanes<float>",
        "_FEATURES": "winograd_features",
        "_LANES_BUDGET": "winograd_lanes_budget",
        "_NEAR": "winograd_near",
        "_STREAM": "winograd_stream",
        "_NEAREST": "winograd_nearest",
        "_LOAD": "winograd_load",
        "_TO_FEW": "winograd_to_few",
        "_FROM_FEW": "winograd_from_few",
        "_ONE": "winograd_one",
    },
    pooling: {"_BUFFER": "pool_buffer"},
    dense: {
        "LANES": "lanes<float>",
        "TILE_ROWS": "dense_tile_rows",
        "LAYERS_ROWS": "layers_rows",
        "_MOST_PACKS": "DenseShape<float, 1>::most",
        "_TILE_PACKS": "dense_tile_packs",
        "_LANES_ROWS": "lanes_together",
    },
    recurrent: {"_ROWS": "recurrent_rows"},
    reduction: {"_COLUMNS": "least_columns"},
    trees: {"_WALKS": "most_walks"},
}


def _dense(layer: dense.DenseProblem) -> Iterator[tuple[int, str, str]]:
    """How a layer is cut, and how its rows and columns are computed together."""
    shape, name = f"DenseShape<float, {layer.columns}>", f"dense, {layer.depth} x {layer.columns}"
    yield layer.width, f"{shape}::width", f"{name}: width"
    yield layer.chains, f"{shape}::chains", f"{name}: chains"
    together = f"dense_together<float, {layer.depth}, {layer.columns}>"
    yield dense.least_rows(layer), together, f"{name}: least_rows"


def pairs() -> Iterator[tuple[int, str, str]]:
    """Those of AVX-512."""
    for module, names in SHARED.items():
        for name, cxx in names.items():
            yield getattr(module, name), cxx, f"{module.__name__}.{name}"
    for rows, number in convolution_problem._ROW_BYTES.items():
        cxx = f"ConvTile<float, {rows}>::width * int{{sizeof(float)}}"
        yield number, cxx, f"convolution_problem._ROW_BYTES[{rows}]"
    for columns_, depth in product_of((1, 16, 17, 40, 50, 64, 100, 224, 225, 230, 300), (7, 200)):
        yield from _dense(dense.DenseProblem(DType.FLOAT32, None, depth, columns_))
    for dtype, number in trees._BLOCK.items():
        assert dtype in (DType.FLOAT32, DType.FLOAT64)
        yield number, f"tree_block<{dtype.cxx}>", f"trees._BLOCK[{dtype}]"


def pairs_of(simd: str) -> Iterator[tuple[int, str, str]]:
    """Those that each instruction set has its own of."""
    yield transpose._LANES[simd], "lanes<float>", f"transpose._LANES[{simd}]"
    if simd == AVX2:
        yield pooling._SMALL_PACK, "lanes<float>", "pooling._SMALL_PACK"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are sets of x86-64")
@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
@pytest.mark.parametrize("simd", SETS)
def test_they_are_the_same(simd: str) -> None:
    lines = [f'#include "sofie/kernels/{header}.hxx"' for header in HEADERS]
    lines += ["namespace sofie {"]
    found = [*pairs_of(simd), *(pairs() if simd == AVX512 else ())]
    lines += [f'static_assert({cxx} == {number}, "{name}");' for number, cxx, name in found]
    command = ["g++", "-std=c++17", "-w", "-fsyntax-only", *target_flags(simd), f"-I{CLING}"]
    done = subprocess.run(
        [*command, "-x", "c++", "-"],
        input="\n".join([*lines, "}", ""]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
