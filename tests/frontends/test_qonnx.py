"""QONNX: Quant, BipolarQuant and Trunc, beside their documented formulas in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sofie_rdf.errors import SofieError, UnsupportedOperator
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.types import Array
from tests.frontends.models import model, node
from tests.frontends.trees.events import computed

DOMAIN = "qonnx.custom_op.general"
ROUND = {"ROUND": np.round, "CEIL": np.ceil, "FLOOR": np.floor}


def proto(operator: str, weights: dict[str, Any], **attributes: Any) -> Any:
    constants = {name: np.asarray(w, np.float32) for name, w in weights.items()}
    made = node(operator, " ".join(["x", *weights]), "y", domain=DOMAIN, **attributes)
    return model([made], {"x": ["N", 3]}, "y", constants, domains={DOMAIN: 1})


def numbers() -> Array:
    """Halves of steps, zeros of both signs, and numbers beyond all bounds, too."""
    random = np.random.default_rng(2)
    x = random.normal(scale=3, size=(300, 3)).astype(np.float32)
    x[:100] = np.round(x[:100] * 8) / 8
    x[0] = 0.0, -0.0, 1e30
    return x


def limits(bits: int, signed: int, narrow: int) -> tuple[float, float]:
    if signed:
        return -(2.0 ** (bits - 1)) + narrow, 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1 - narrow


@pytest.mark.parametrize("mode", ROUND)
@pytest.mark.parametrize("bits", [1, 2, 8])
@pytest.mark.parametrize(("signed", "narrow"), [(1, 0), (1, 1), (0, 0), (0, 1)])
@pytest.mark.parametrize("scale", [0.25, [0.25, 0.5, 0.125]])
@pytest.mark.parametrize("zero", [0.0, 3.0])
def test_quant(mode: str, bits: int, signed: int, narrow: int, scale: Any, zero: float) -> None:
    weights = {"scale": scale, "zero": zero, "bits": float(bits)}
    given = proto("Quant", weights, signed=signed, narrow=narrow, rounding_mode=mode)
    x, step = numbers(), np.float32(scale)
    y = x / step + np.float32(zero)
    if bits == 1 and signed:
        y = np.where(y >= 0, 1, -1).astype(np.float32)
    else:
        y = ROUND[mode](np.clip(y, *limits(bits, signed, narrow)))
    wanted = (y - np.float32(zero)) * step
    np.testing.assert_array_equal(computed(read(given), x), wanted)


@pytest.mark.parametrize("scale", [0.3, [0.25, 0.5, 2.0]])
def test_bipolar(scale: Any) -> None:
    x = numbers()
    wanted = np.where(x >= 0, np.float32(scale), -np.float32(scale))
    np.testing.assert_array_equal(
        computed(read(proto("BipolarQuant", {"scale": scale})), x), wanted
    )


@pytest.mark.parametrize("mode", ROUND)
@pytest.mark.parametrize("signed", [0, 1])
def test_trunc(mode: str, signed: int) -> None:
    weights = {"a": 0.125, "zero": 0.0, "from": 8.0, "b": 0.5, "to_zero": 0.0, "to": 4.0}
    given = proto("Trunc", weights, signed=signed, narrow=0, rounding_mode=mode)
    x = numbers()
    y = np.round(x / np.float32(0.125)) / 4
    wanted = ROUND[mode](np.clip(y, *limits(4, signed, 0))) * np.float32(0.5)
    np.testing.assert_array_equal(computed(read(given), x), wanted)


QUANT = {"scale": 1.0, "zero": 0.0, "bits": 8.0}
REFUSED = {
    "FloatQuant": proto("FloatQuant", QUANT),
    "HALF_UP": proto("Quant", QUANT, signed=1, narrow=0, rounding_mode="HALF_UP"),
    "2.5 bits": proto("Quant", {**QUANT, "bits": 2.5}, signed=1, narrow=0),
    "numbers of bits": proto("Quant", {**QUANT, "bits": [1, 2, 3]}, signed=1, narrow=0),
    "5 inputs": proto("Trunc", {**QUANT, "to": 4.0}, rounding_mode="FLOOR"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_not_read_is_named(words: str) -> None:
    with pytest.raises(UnsupportedOperator, match=words):
        read(REFUSED[words])


def test_ranges_must_be_said() -> None:
    with pytest.raises(SofieError, match="lacks its attribute 'signed'"):
        read(proto("Quant", QUANT, narrow=0))
