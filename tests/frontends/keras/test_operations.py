"""Functions of keras.ops in a Functional, and layers that merge and prepare, beside Keras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sofie_rdf.frontends.keras.rules import rules
from tests.choice import some_of
from tests.frontends.keras.oracle import ALL, L, assert_agrees, keras, quiet, rng

Input, Model = keras.Input, keras.Model
o = keras.ops

# By the name of the operation: what is done to a tensor [N, 3, 4], and to another one.
ONE: dict[str, Callable[[Any], Any]] = {
    name: getattr(o, called)
    for name, called in {
        "Abs": "abs",
        "Absolute": "absolute",
        "Arcsinh": "arcsinh",
        "Arctan": "arctan",
        "Ceil": "ceil",
        "Cos": "cos",
        "Cosh": "cosh",
        "Deg2rad": "deg2rad",
        "Erf": "erf",
        "Exp": "exp",
        "Exp2": "exp2",
        "Expm1": "expm1",
        "Floor": "floor",
        "HardSigmoid": "hard_sigmoid",
        "HardSilu": "hard_silu",
        "HardTanh": "hard_tanh",
        "Isfinite": "isfinite",
        "Isinf": "isinf",
        "Isnan": "isnan",
        "LogSigmoid": "log_sigmoid",
        "Negative": "negative",
        "Rad2deg": "rad2deg",
        "Ravel": "ravel",
        "Relu": "relu",
        "Relu6": "relu6",
        "Selu": "selu",
        "Sigmoid": "sigmoid",
        "Sign": "sign",
        "Silu": "silu",
        "Sin": "sin",
        "Sinh": "sinh",
        "Softplus": "softplus",
        "Softsign": "softsign",
        "SparsePlus": "sparse_plus",
        "SparseSigmoid": "sparse_sigmoid",
        "Square": "square",
        "Tan": "tan",
        "Tanh": "tanh",
        "TanhShrink": "tanh_shrink",
        "Trunc": "trunc",
        "ZerosLike": "zeros_like",
        "OnesLike": "ones_like",
    }.items()
}
ONE |= {
    "Add": lambda x: 1 + x + 2.5,
    "All": lambda x: o.all(x > -1, axis=-1),
    "Amax": lambda x: o.amax(x, axis=1),
    "Amin": lambda x: o.amin(x, axis=-1, keepdims=True),
    "Any": lambda x: o.any(x > 0.5, axis=(1, 2)),
    "Arccos": lambda x: o.arccos(o.tanh(x)),
    "Arccosh": lambda x: o.arccosh(1.5 + x * x),
    "Arcsin": lambda x: o.arcsin(o.tanh(x)),
    "Arctanh": lambda x: o.arctanh(0.9 * o.tanh(x)),
    "Argmax": lambda x: o.argmax(x, axis=-1),
    "Argmin": lambda x: o.argmin(x, axis=1, keepdims=True),
    "Argsort": lambda x: o.argsort(x + o.arange(12.0).reshape((3, 4)), axis=-1),
    "Average": lambda x: o.average(x, axis=1),
    "BroadcastTo": lambda x: o.broadcast_to(x[:, :1], (2, 3, 4)) if x.shape[0] == 2 else x,
    "Cast": lambda x: o.cast(x, "int32"),
    "Celu": lambda x: o.celu(x, 0.7),
    "Clip": lambda x: o.clip(x, -0.5, 0.8),
    "Cumprod": lambda x: o.cumprod(x, axis=1),
    "Cumsum": lambda x: o.cumsum(x, axis=-1),
    "Divide": lambda x: 2 / (3 + x * x) / 7,
    "DivideNoNan": lambda x: o.divide_no_nan(x, o.relu(x)),
    "Einsum": lambda x: o.einsum("nij,nkj->nik", x, x),
    "Elu": lambda x: o.elu(x, 0.3),
    "Equal": lambda x: o.equal(x, 0.0),
    "ExpandDims": lambda x: o.expand_dims(x, (1, -1)),
    "Flip": lambda x: o.flip(x, axis=1),
    "FloorDivide": lambda x: x // 0.3,
    "FullLike": lambda x: o.full_like(x, 3.0),
    "Gelu": lambda x: o.gelu(x, approximate=False),
    "GetItem": lambda x: x[..., 1:3][:, 1:, None, ::2],
    "Glu": lambda x: o.glu(x, axis=-1),
    "Greater": lambda x: x > 0.0,
    "GreaterEqual": lambda x: x >= 0,
    "HardShrink": lambda x: o.hard_shrink(x, 0.3),
    "Hstack": lambda x: o.hstack([x, x]),
    "LayerNorm": lambda x: o.layer_normalization(x, axis=-1),
    "LeakyRelu": lambda x: o.leaky_relu(x, 0.4),
    "Less": lambda x: x < 0.2,
    "LessEqual": lambda x: x <= 0.0,
    "Log": lambda x: o.log(1.5 + x * x),
    "Log10": lambda x: o.log10(1.5 + x * x),
    "Log1p": lambda x: o.log1p(0.1 * o.tanh(x)),
    "Log2": lambda x: o.log2(1.5 + x * x),
    "LogSoftmax": lambda x: o.log_softmax(x, axis=1),
    "LogicalNot": lambda x: o.logical_not(x > 0),
    "Logsumexp": lambda x: o.logsumexp(x, axis=(1, 2)),
    "Max": lambda x: o.max(x, axis=1),
    "Mean": lambda x: o.mean(x, axis=(1, 2), keepdims=True),
    "Min": lambda x: o.min(x),
    "Mod": lambda x: x % 0.7,
    "Moments": lambda x: list(o.moments(x, axes=[1])),
    "Moveaxis": lambda x: o.moveaxis(x, 1, -1),
    "Multiply": lambda x: 2 * x * 0.3,
    "NanToNum": lambda x: o.nan_to_num(o.log(x)),
    "Norm": lambda x: o.norm(x, axis=-1),
    "Normalize": lambda x: o.normalize(x, axis=1, order=3),
    "NotEqual": lambda x: o.not_equal(x, 0.0),
    "OneHot": lambda x: o.one_hot(o.cast(x, "int32"), 3),
    "Pad": lambda x: o.pad(x, ((0, 0), (1, 2), (0, 1))),
    "Power": lambda x: o.abs(x) ** 1.7,
    "Prod": lambda x: o.prod(x, axis=-1),
    "Ptp": lambda x: o.ptp(x, axis=-1) if hasattr(o, "ptp") else x,
    "RMSNorm": lambda x: o.rms_normalization(x, axis=-1),
    "Reciprocal": lambda x: o.reciprocal(1.5 + x * x),
    "Repeat": lambda x: o.repeat(x, 3, axis=1),
    "Reshape": lambda x: o.reshape(x, (-1, 2, 6)),
    "Roll": lambda x: o.roll(x, 3, axis=-1),
    "Round": lambda x: o.round(x, 1),
    "Rsqrt": lambda x: o.rsqrt(1.5 + x * x),
    "SoftShrink": lambda x: o.soft_shrink(x, 0.3),
    "Softmax": lambda x: o.softmax(x, axis=1),
    "Sort": lambda x: o.sort(x, axis=1),
    "Sparsemax": lambda x: o.sparsemax(x, axis=-1),
    "Split": lambda x: list(o.split(x, [1, 2], axis=1)) + list(o.split(x, 2, axis=-1)),
    "Sqrt": lambda x: o.sqrt(x * x),
    "Squareplus": lambda x: o.squareplus(x, 3),
    "Squeeze": lambda x: o.squeeze(x[:, :, :1], axis=-1),
    "Stack": lambda x: o.stack([x, x + 1], axis=1),
    "Std": lambda x: o.std(x, axis=1),
    "Subtract": lambda x: 3 - x - 1,
    "Sum": lambda x: o.sum(x, axis=-1),
    "Swapaxes": lambda x: o.swapaxes(x, 1, 2),
    "Take": lambda x: o.take(x, [2, 0, 0], axis=1),
    "Tensordot": lambda x: o.tensordot(x, np.ones((4, 2), "f"), axes=1),
    "Threshold": lambda x: o.threshold(x, 0.2, -1.0),
    "Tile": lambda x: o.tile(x, (1, 2, 3)),
    # Keras on torch gives places of int64, where Keras says int32.
    "TopK": lambda x: [o.cast(y, "float32") for y in o.top_k(x + o.arange(4.0) * 1e-3, 2)],
    "Transpose": lambda x: o.transpose(x, (0, 2, 1)),
    "Tril": lambda x: o.tril(x, -1),
    "Triu": lambda x: o.triu(x, 1),
    "Unstack": lambda x: list(o.unstack(x, 3, axis=1)),
    "Var": lambda x: o.var(x, axis=(1, 2)),
    "Vstack": lambda x: o.vstack([x, x]),
}
TWO: dict[str, Callable[[Any, Any], Any]] = {
    "Concatenate": lambda x, y: o.concatenate([x, y], axis=1),
    "Dot": lambda x, y: o.dot(x, o.transpose(y, (0, 2, 1))[0]),
    "DotProductAttention": lambda x, y: o.dot_product_attention(
        x[:, :, None], y[:, :, None], x[:, :, None]
    ),
    "Fmod": lambda x, y: o.fmod(x, y) if hasattr(o, "fmod") else x,
    "Hypot": lambda x, y: o.hypot(x, y),
    "Inner": lambda x, y: o.inner(x, y),
    "Logaddexp": lambda x, y: o.logaddexp(x, y),
    "LogicalAnd": lambda x, y: o.logical_and(x > 0, y > 0),
    "LogicalOr": lambda x, y: o.logical_or(x > 0, y > 0),
    "LogicalXor": lambda x, y: o.logical_xor(x > 0, y > 0),
    "Matmul": lambda x, y: o.matmul(x, o.transpose(y, (0, 2, 1))),
    "Maximum": lambda x, y: o.maximum(x, y),
    "Minimum": lambda x, y: o.minimum(x, y),
    "Outer": lambda x, y: o.outer(x[0, 0], y[0, 0]),
    "TakeAlongAxis": lambda x, y: o.take_along_axis(x, o.argsort(y, axis=-1), axis=-1),
    "TrueDivide": lambda x, y: o.true_divide(x, 2 + o.abs(y)),
    "Where": lambda x, y: o.where(x > y, x, 2.0),
}


def agrees(make: Callable[[], Any], folder: Path, kinds: Any = ("keras",)) -> None:
    with quiet():
        model = make()
    assert_agrees(model, folder, kinds=kinds)


@pytest.mark.parametrize("name", some_of(sorted(ONE), sorted(ONE)[::4]))
def test_function_of_one(name: str, tmp_path: Path) -> None:
    def model() -> Any:
        x = Input((3, 4))
        return Model(x, ONE[name](x))

    agrees(model, tmp_path)


@pytest.mark.parametrize("name", some_of(sorted(TWO), sorted(TWO)[::4]))
def test_function_of_two(name: str, tmp_path: Path) -> None:
    def model() -> Any:
        x, y = Input((3, 4)), Input((3, 4))
        return Model([x, y], TWO[name](x, y))

    agrees(model, tmp_path)


def test_whole_numbers_become_what_keras_makes_of_them(tmp_path: Path) -> None:
    def model() -> Any:
        i, x = Input((4,), dtype="int32"), Input((4,))
        outputs = [i + 1, i * 2.5, i / 2, i // 2, i % 3, i + x, o.sum(i, axis=-1), o.mean(i), i > x]
        return Model([i, x], [*outputs, o.sqrt(i), i - 1, -i])

    agrees(model, tmp_path, ALL)


# What needs no case of its own: aliases, and those that are tested in models elsewhere.
ELSEWHERE = {
    "Array",
    "BitwiseAnd",
    "BitwiseInvert",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Conj",
    "Conjugate",
    "ConvertToTensor",
    "Copy",
    "CountNonzero",
    "Isneginf",
    "Isposinf",
    "Mish",
    "ReLU",
    "Real",
    "Resize",
    "SaturateCast",
    "Slice",
    "StopGradient",
}


def test_every_function_has_a_case() -> None:
    known = {name.removeprefix("ops.") for name in rules() if name.startswith("ops.")}
    assert known - set(ONE) - set(TWO) == ELSEWHERE


# Merging ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    some_of(
        ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"],
        ["Subtract", "Average", "Concatenate"],
    ),
)
def test_merging(name: str, tmp_path: Path) -> None:
    for masked in (False, True):
        for shapes in (((3, 4), (3, 4)), ((3, 4), (3, 1)), ((4,), (3, 4))):
            if name == "Concatenate" and shapes[0] != shapes[1]:
                continue
            if masked and (shapes[0] != (3, 4) or name == "Subtract"):
                continue

            def model() -> Any:
                inputs = [Input(s) for s in shapes]  # noqa: B023
                given = [L.Masking(0.0)(x) if masked else x for x in inputs]  # noqa: B023
                y = getattr(L, name)()(given)
                return Model(inputs, [y, L.LSTM(3)(y)] if masked else y)  # noqa: B023

            agrees(model, tmp_path, ALL)


def test_dot(tmp_path: Path) -> None:
    for seed in range(6):
        random = rng(seed)
        shapes, axes = [
            (((4,), (4,)), 1),
            (((3, 4), (3, 4)), (2, 2)),
            (((3, 4), (4, 5)), (2, 1)),
            (((3, 4), (5, 4)), -1),
            (((2, 3, 4), (4, 5)), (3, 1)),
            (((4,), (4, 5)), (1, 1)),
        ][seed]
        normal = bool(random.integers(2))

        def model() -> Any:
            inputs = [Input(s) for s in shapes]  # noqa: B023
            return Model(inputs, L.Dot(axes, normalize=normal)(inputs))  # noqa: B023

        agrees(model, tmp_path)


# Preparing ----------------------------------------------------------------------------------------

LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...], str]] = {
    "count": (lambda: L.CategoryEncoding(5, output_mode="count"), (3,), "int32"),
    "multi_hot": (lambda: L.CategoryEncoding(5), (3,), "int32"),
    "one_hot": (lambda: L.CategoryEncoding(5, output_mode="one_hot"), (1,), "int32"),
    "one_hot_of_many": (lambda: L.CategoryEncoding(5, output_mode="one_hot"), (3,), "int32"),
    "bins": (lambda: L.Discretization([-0.5, 0.0, 0.7]), (3,), "float32"),
    "bins_counted": (
        lambda: L.Discretization([-0.5, 0.0, 0.7], output_mode="count"),
        (3,),
        "float32",
    ),
    "center_crop": (lambda: L.CenterCrop(3, 4), (6, 7, 2), "float32"),
    "center_crop_enlarges": (lambda: L.CenterCrop(8, 4), (6, 7, 2), "float32"),
    "random_flip": (lambda: L.RandomFlip(), (6, 7, 2), "float32"),
    "resizing": (lambda: L.Resizing(5, 9), (6, 7, 2), "float32"),
    "resizing_crops": (lambda: L.Resizing(5, 9, crop_to_aspect_ratio=True), (6, 7, 2), "float32"),
    "resizing_pads": (
        lambda: L.Resizing(5, 9, pad_to_aspect_ratio=True, fill_value=0.5),
        (6, 7, 2),
        "float32",
    ),
    "resizing_antialiased": (lambda: L.Resizing(3, 4, antialias=True), (6, 7, 2), "float32"),
}


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_preparing(name: str, tmp_path: Path) -> None:
    make, shape, dtype = LAYERS[name]

    def model() -> Any:
        x = Input(shape, dtype=dtype)
        return Model(x, make()(x))

    agrees(model, tmp_path)


@pytest.mark.parametrize("how", ["nearest", "bicubic"])
def test_resizing_as_the_backend_does_it(how: str, tmp_path: Path) -> None:
    """Only .h5 files and models in memory say which backend they had; the backends differ."""

    def model() -> Any:
        x = Input((6, 7, 2))
        return Model(x, L.Resizing(5, 9, interpolation=how)(x))

    agrees(model, tmp_path, ("h5", "memory"))
