"""Convolutions by tiles: all geometries, and which are direct."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sofie_rdf.devices.program import program_for, program_of
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops import _device_windows
from sofie_rdf.ops.convolution import Conv
from sofie_rdf.ops.convolution_transposed import ConvTranspose
from sofie_rdf.ops.elementwise import Add, Relu
from tests.choice import some_of
from tests.devices.harness import WAYS, compiled_program
from tests.devices.test_contract import _name, _pairs
from tests.devices.test_models import compare
from tests.ops.test_contract import OPERATORS, Key, bench_of, differences, sizes_of


def geometries() -> Graph:
    """One, two and three axes of space; groups; strides, dilations and borders; both directions."""
    build, n = Builder("geometries"), symbol("N")
    random = np.random.default_rng(7)

    def constant(*shape: int) -> str:
        return build.constant(random.normal(size=shape).astype(np.float32))

    plane = build.input("plane", TensorType(DType.FLOAT32, (n, 6, 9, 11)))
    line = build.input("line", TensorType(DType.FLOAT32, (n, 4, 23)))
    box = build.input("box", TensorType(DType.FLOAT32, (n, 3, 5, 4, 6)))
    # 70 features are two tiles, and 54 products four steps, of which the last is a part of one.
    first = Conv(strides=(2, 1), dilations=(1, 2), pads=(1, 2, 0, 1))
    wide = build(Relu(), build(first, plane, constant(70, 6, 3, 3), constant(70)))
    grouped = build(Conv(group=2, pads=(1, 1, 1, 1)), plane, constant(24, 3, 3, 3))
    same = build(Conv(pads=(1, 1, 1, 1)), plane, constant(6, 6, 3, 3), constant(6))
    added = build(Add(), same, plane)
    narrow = build(Conv(strides=(3,), pads=(2, 2)), line, constant(5, 4, 5), constant(5))
    deep = build(Conv(pads=(1, 0, 1, 1, 0, 1)), box, constant(33, 3, 3, 2, 3))
    depthwise = build(Conv(group=6), plane, constant(6, 1, 3, 3))
    spread = ConvTranspose(strides=(2, 3), pads=(1, 0, 0, 2), output_padding=(1, 2), group=2)
    larger = build(spread, plane, constant(6, 20, 3, 2), constant(40))
    dilated = build(ConvTranspose(dilations=(3,), pads=(2, 1)), line, constant(4, 9, 3))
    sparse = build(ConvTranspose(strides=(5,)), line, constant(4, 7, 2))
    both = build(ConvTranspose(strides=(2,), dilations=(2,)), line, constant(4, 8, 3))
    cube = build(ConvTranspose(strides=(1, 2, 2)), box, constant(3, 4, 2, 3, 2), constant(4))
    forwards = wide, grouped, added, narrow, deep, depthwise
    return build.graph(*forwards, larger, dilated, sparse, both, cube)


def test_groups_of_few_features_are_direct() -> None:
    kernels = [one.kernel for one in program_for(geometries()).launches]
    counts = {
        "Forward": sum("ConvTiles<sofie::device::Forward" in k for k in kernels),
        "Transposed": sum("ConvTiles<sofie::device::Transposed" in k for k in kernels),
        "direct": sum("::Conv<" in k for k in kernels),
        # A stride and a dilation of one axis.
        "direct transposed": sum("::ConvTranspose<" in k for k in kernels),
    }
    assert counts == {"Forward": 5, "Transposed": 4, "direct": 1, "direct transposed": 1}


@pytest.mark.parametrize("way", some_of(WAYS, ["serial"]))
def test_all_geometries(way: str, tmp_path: Path) -> None:
    compare(geometries(), way, tmp_path, [{"N": n} for n in (3, 1, 0, 17)], whole=False)


# Products of integers have other kernels, and deformed windows are gathers and a product.
OTHERS = ("ConvInteger", "QLinearConv", "DeformConv")
KEYS = [k for k in OPERATORS if "Conv" in _name(k) and _name(k) not in OTHERS and _pairs(k)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("key", KEYS, ids=_name)
def test_every_case_by_tiles(key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases of the operators, most of which have few features."""
    monkeypatch.setattr(_device_windows, "_FEW", 0)
    tested = bench_of("tiles", _pairs(key))
    program = compiled_program(program_of(tested.graph), WAYS["serial"], tmp_path, ("-O0",))
    assert any("ConvTiles" in one.kernel for one in program.program.launches)
    batches = []
    for seed, (batch, other) in enumerate([(3, 5), (1, 5), (0, 5), (17, 2)]):
        sizes = sizes_of(tested.graph, batch, other)
        batches.append((sizes, tested.feeds(sizes, seed, extreme=seed == 3)))
    for (sizes, feeds), found in zip(batches, program.run(batches, 1), strict=True):
        wrong = differences(tested, feeds, found, sizes)
        assert not wrong, f"{len(wrong)} differ:\n" + "\n".join(wrong[:8])
