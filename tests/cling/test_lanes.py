"""The scratch memory that is planned for convolutions in lanes is enough for what they lay out.

Their assembler writes where no sanitizer looks.
"""

from __future__ import annotations

import platform
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sofie_rdf.errors import ShapeError
from sofie_rdf.ir.dims import evaluate, symbol
from sofie_rdf.ir.operator import Operand
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.kernels.convolution_problem import half_of
from sofie_rdf.ops.convolution import ConvLayer
from sofie_rdf.ops.convolution_winograd import WinogradConv

CLING = Path(__file__).parents[2] / "cling"
PROBE = Path(__file__).with_name("lanes_probe.cxx")
AVX2 = ["-mavx2", "-mfma"]
ISA = {"avx2": AVX2, "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", *AVX2]}
CHANNELS, FEATURES = (1, 3, 16, 48, 64, 80, 128, 512, 700), (12, 28, 48, 64, 128)
SIZES = (1, 2, 3, 4, 5, 7, 8, 14, 28, 31, 56, 112, 224, 500, 900, 1000)


def setup(pick: random.Random, fewer: bool) -> list[tuple[list[int], int]]:
    """What the probe is told of a convolution, and the memory that the operator plans."""
    batch, channels = pick.choice((1, 2, 7, 64)), pick.choice(CHANNELS)
    features = pick.choice(FEATURES)
    kernel, strides, dilations = (
        (pick.choice((1, 2, 3, 7)), pick.choice((1, 2, 3))) for _ in "abc"
    )
    if fewer:
        kernel, strides, dilations = (3, pick.choice((2, 3))), (1, 1), (1, 1)
    pads = tuple(pick.choice((0, 1, 3)) for _ in range(4))
    height = pick.choice(SIZES)
    if not fewer and pick.random() < 0.4:
        # A row, of which those of all events are one image.
        height, kernel, pads = 1, (1, kernel[1]), (0, pads[1], 0, pads[3])
    sizes = {"N": batch, "H": height, "W": pick.choice(SIZES)}
    # Open sizes are told to nobody but the kernel.
    is_open = pick.random() < 0.4
    shape = map(symbol, sizes) if is_open else sizes.values()
    known = TensorType(DType.FLOAT32, (batch, channels, sizes["H"], sizes["W"]))
    events, *image = shape
    x = TensorType(DType.FLOAT32, (events, channels, *image))
    w = TensorType(DType.FLOAT32, (features, channels, *kernel))
    given = x, w, TensorType(DType.FLOAT32, (features,))
    kind = WinogradConv if fewer else ConvLayer
    op = kind(strides=strides, dilations=dilations, pads=pads)
    try:
        y = op.infer(known, *given[1:])
    except ShapeError:
        return []
    half, size = half_of(op.problem(given)), evaluate(op.workspace(given)[0].shape[0], sizes)
    choice = op.choice([Operand("", t, constant=True) for t in given], [])
    empty = not all(isinstance(d, int) and d > 0 for d in y.shape)
    in_lanes = re.match(r"convolution_(lanes|winograd)", choice.kernel)
    if not half or not in_lanes or empty:
        return []
    axes = list(
        zip(known.shape[2:], kernel, y.shape[2:], strides, dilations, pads[:2], strict=True)
    )
    # An image of one column is told to the kernel as a row.
    if (axes[1][0], axes[1][2], axes[1][1], axes[1][5]) == (1, 1, 1, 0):
        axes.reverse()
    numbers = [batch, channels, features, *(n for both in zip(*axes, strict=True) for n in both)]
    told = [int(str(n)) for n in numbers]
    if is_open:
        winograd = [([*told, inputs, 0], size) for inputs in (4, 6)]
        return [([*told, 0, 0], size), *(winograd if "winograd_lanes<0," in choice.kernel else [])]
    form = re.match(r"convolution_winograd_lanes<(\d), (\d),", choice.kernel)
    more = [([*told, int(form[1]), int(form[2])], size)] if form else []
    return [([*told, 0, half], size), *more]


@pytest.mark.exhaustive
@pytest.mark.skipif(platform.machine() != "x86_64", reason="there is assembler for x86-64 only")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("simd", ISA)
def test_the_memory_is_enough(simd: str, tmp_path: Path) -> None:
    program = tmp_path / "probe"
    command = ["g++", "-std=c++17", *ISA[simd], f"-I{CLING}", str(PROBE), "-o", str(program)]
    subprocess.run(command, check=True)
    pick = random.Random(7)
    rows = [row for i in range(4000) for row in setup(pick, i % 2 == 0)]
    text = "\n".join(" ".join(map(str, told)) for told, _ in rows)
    answer = subprocess.run([str(program)], input=text, text=True, capture_output=True, check=True)
    needed = [int(line) for line in answer.stdout.split()]
    assert len(needed) == len(rows) > 2000
    assert [r for r, most in zip(rows, needed, strict=True) if most > r[1]] == []
