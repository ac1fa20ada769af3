"""com.microsoft: QAttention and MatMulNBits of random shapes, beside onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sofie_rdf.errors import GraphError, LimitExceeded, ShapeError, UnsupportedOperator
from sofie_rdf.limits import budget
from tests.frontends.models import refuse

pytest.importorskip("onnxruntime")
from sofie_rdf.model import from_onnx
from tests.choice import every
from tests.frontends.test_onnx_contrib import Case, compare

SEEDS = range(24)


def attention(seed: int) -> Case:
    """Heads, sizes, masks, types of weights and scales by chance. onnxruntime takes bytes as x."""
    random = np.random.default_rng(seed)
    heads, each, width = (int(random.integers(1, 4)) for _ in range(3))
    columns = 3 * heads * each
    w_type = np.dtype(random.choice([np.uint8, np.int8]))
    many = bool(random.integers(2))
    low, high = (0, 256) if w_type == np.uint8 else (-128, 128)
    weights: dict[str, Any] = {
        "w": random.integers(low, high, (2 * width, columns)).astype(w_type),
        "b": random.normal(size=columns).astype(np.float32),
        "s": np.float32(random.uniform(0.005, 0.02)),
        "t": random.uniform(0.005, 0.01, columns if many else ()).astype(np.float32),
        "o": np.array(random.integers(0, 256), np.uint8),
        "p": random.integers(0, 100, columns if many else ()).astype(w_type),
    }
    mask = random.choice(["", "lengths", "keys", "all"])
    shapes = {"": (), "lengths": ("N",), "keys": ("N", "L"), "all": ("N", "L", "L")}
    order = f"x w b s t {'m' if mask else '-'} o p"
    if random.random() < 0.3:
        order = order.rsplit(" ", 2)[0] + (" o" if random.integers(2) else "")
    attributes: dict[str, Any] = {"num_heads": heads}
    if random.random() < 0.3:
        attributes["unidirectional"] = 1
    inputs: dict[str, Any] = {"x": ("N", "L", 2 * width)}
    integers: dict[str, Any] = {"x": (np.uint8, 256)}
    if mask:
        inputs["m"] = shapes[str(mask)]
        integers["m"] = (np.int32, 3 if mask == "lengths" else 2)
    weights = {n: v for n, v in weights.items() if n in order.split()}
    return Case("QAttention", inputs, weights, attributes, order, integers=integers, seed=seed)


@pytest.mark.parametrize("seed", every(3, SEEDS))
def test_quantized_attention(seed: int) -> None:
    compare(attention(seed), rtol=1e-4, atol=1e-5)


def matmul(seed: int, **changes: Any) -> Case:
    """Sizes that are no multiple of a block, bits, zero points and groups by chance."""
    random = np.random.default_rng(seed)
    n, k = int(random.integers(1, 20)), int(random.integers(1, 150))
    bits, block = int(random.choice([4, 8])), int(random.choice([16, 32, 64]))
    blocks = -(-k // block)
    # onnxruntime takes floats as zero points of 4 bits only.
    zeros = random.choice(["", "packed", *(["floats"] if bits == 4 else [])])
    weights: dict[str, Any] = {
        "w": random.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8),
        "s": random.uniform(0.01, 0.1, (n, blocks)).astype(np.float32),
    }
    if zeros == "packed":
        packed = (n, -(-blocks * bits // 8))
        weights["z"] = random.integers(0, 256, packed).astype(np.uint8)
    elif zeros:
        weights["z"] = random.uniform(0, 2**bits, (n, blocks)).astype(np.float32)
    if random.random() < 0.3:
        weights["b"] = random.normal(size=n).astype(np.float32)
    order = "x w s" + (" z" if zeros else " -" if "b" in weights else "")
    order += " - b" if "b" in weights else ""
    attributes = {"K": k, "N": n, "bits": bits, "block_size": block, **changes}
    return Case("MatMulNBits", {"x": ("N", "L", k)}, weights, attributes, order, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_weights_of_few_bits(seed: int) -> None:
    compare(matmul(seed), rtol=1e-4, atol=1e-3)


def test_groups_in_any_order() -> None:
    random = np.random.default_rng(2)
    groups = random.integers(0, 3, 48).astype(np.int32)
    weights: Mapping[str, Any] = {
        "w": random.integers(0, 256, (5, 3, 8)).astype(np.uint8),
        "s": random.uniform(0.01, 0.1, (5, 3)).astype(np.float32),
        "g": groups,
    }
    attributes = {"K": 48, "N": 5, "bits": 4, "block_size": 16}
    compare(Case("MatMulNBits", {"x": ("N", 48)}, weights, attributes, "x w s - g"), atol=1e-4)


def test_an_accuracy_level_lets_onnxruntime_round_its_input() -> None:
    """We do not: they differ by what 8 bits of each block of the input are."""
    case = matmul(3, accuracy_level=4)
    compare(case, rtol=0.02, atol=0.3)


def changed(case: Case, **weights: Any) -> Any:
    return replace(case, weights={**case.weights, **weights}).proto()


def test_what_is_not_supported_is_named() -> None:
    case = attention(1)
    more = {**case.attributes, "do_rotary": 1}
    refuse(replace(case, attributes=more).proto(), UnsupportedOperator, "'do_rotary'")
    refuse(replace(case, outputs="y p").proto(), UnsupportedOperator, "'present'")
    refuse(changed(case, s=np.ones(3, np.float32)), ShapeError, "one scale")
    whole = matmul(1)
    attributes = whole.attributes
    refuse(
        replace(whole, attributes={**attributes, "bits": 3}).proto(), UnsupportedOperator, "3 bits"
    )
    refuse(replace(whole, attributes={**attributes, "K": 0}).proto(), GraphError, "positive 'K'")
    refuse(changed(whole, w=np.zeros(3, np.uint8)), ShapeError, "bytes of weights, not 3")
    refuse(changed(whole, s=np.zeros(1000, np.float32)), ShapeError, "scales, not 1000")
    computed = replace(whole, inputs={**whole.inputs, "s": whole.weights["s"].shape})
    computed = replace(computed, weights={n: v for n, v in whole.weights.items() if n != "s"})
    refuse(computed.proto(), UnsupportedOperator, "scales that are computed")


def test_sizes_that_lie_are_paid_for() -> None:
    case = matmul(1)
    huge = {**case.attributes, "K": 2**30, "N": 2**30}
    with budget("bytes=1G"), pytest.raises((LimitExceeded, ShapeError)):
        _ = from_onnx(replace(case, attributes=huge).proto()).graph
