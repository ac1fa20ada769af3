"""Every layer with random options, beside Keras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.choice import some_of
from tests.frontends.keras.oracle import L, assert_agrees, keras, quiet, rng

ACTIVATIONS = (
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear "
    "log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus "
    "softsign sparse_plus sparse_sigmoid sparsemax squareplus tanh tanh_shrink"
).split()


class Options:
    """Random options of a layer: which one, by the number of the case."""

    def __init__(self, seed: int) -> None:
        self.random = rng(seed)

    def one(self, *choices: Any) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def number(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def real(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    @property
    def yes(self) -> bool:
        return bool(self.random.integers(2))

    @property
    def function(self) -> Any:
        return self.one(None, *(a for a in ACTIVATIONS if a not in ("glu", "sparsemax")))

    def sizes(self, count: int, low: int, high: int) -> Any:
        if self.yes:
            return self.number(low, high)
        return tuple(self.number(low, high) for _ in range(count))


Case = Callable[[Options], tuple[Any, tuple[int | None, ...]]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Registers how to draw a layer and the shape of its input, without the batch."""
    CASES[function.__name__] = function
    return function


def image(o: Options, count: int, least: int = 5, channels: int = 3) -> tuple[str, tuple[int, ...]]:
    """A data format and a shape."""
    sizes = [o.number(least, least + 4) for _ in range(count)]
    if o.yes:
        return "channels_last", (*sizes, channels)
    return "channels_first", (channels, *sizes)


@case
def dense(o: Options) -> Any:
    shape = o.one((4,), (3, 4), (2, 3, 4), (None, 4))
    return L.Dense(o.number(1, 6), activation=o.function, use_bias=o.yes), shape


@case
def einsum_dense(o: Options) -> Any:
    equation, size, bias, shape = o.one(
        ("ab,bc->ac", 5, "c", (4,)),
        ("abc,cd->abd", (None, 5), "d", (3, 4)),
        ("...x,xy->...y", 5, "y", (3, 4)),
        ("abc,cde->abde", (None, 2, 5), "de", (3, 4)),
        ("abc,bd->adc", (5, 4), "d", (3, 4)),
    )
    axes = o.one(None, bias) if equation != "abc,bd->adc" else None
    return L.EinsumDense(equation, size, bias_axes=axes, activation=o.function), shape


def _windows(o: Options, count: int, *, causal: bool = False) -> dict[str, Any]:
    strided = o.yes
    padding = o.one("valid", "same", *(["causal"] if causal else []))
    return {
        "kernel_size": o.sizes(count, 1, 3),
        "strides": o.number(1, 3) if strided else 1,
        "dilation_rate": 1 if strided else o.number(1, 2),
        "padding": padding,
        "activation": o.function,
        "use_bias": o.yes,
    }


def _conv(count: int) -> Case:
    def draw(o: Options) -> Any:
        layout, shape = image(o, count, 5, 4)
        groups = o.one(1, 2)
        kind = (L.Conv1D, L.Conv2D, L.Conv3D)[count - 1]
        given = _windows(o, count, causal=count == 1)
        return kind(2 * o.number(1, 2), groups=groups, data_format=layout, **given), shape

    return draw


def _transposed(count: int) -> Case:
    def draw(o: Options) -> Any:
        layout, shape = image(o, count, 3)
        kind = (L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose)[count - 1]
        given = _windows(o, count)
        stride = given["strides"]
        given["kernel_size"] = o.sizes(count, 1, 4)
        more = o.one(None, 0, stride - 1)
        return kind(o.number(1, 3), output_padding=more, data_format=layout, **given), shape

    return draw


def _depthwise(count: int) -> Case:
    def draw(o: Options) -> Any:
        layout, shape = image(o, count)
        kind = (L.DepthwiseConv1D, L.DepthwiseConv2D)[count - 1]
        times = o.number(1, 2)
        return kind(depth_multiplier=times, data_format=layout, **_windows(o, count)), shape

    return draw


def _separable(count: int) -> Case:
    def draw(o: Options) -> Any:
        layout, shape = image(o, count)
        kind = (L.SeparableConv1D, L.SeparableConv2D)[count - 1]
        given = _windows(o, count)
        times = o.number(1, 2)
        return kind(o.number(1, 4), depth_multiplier=times, data_format=layout, **given), shape

    return draw


for _count in (1, 2, 3):
    CASES[f"conv{_count}d"] = _conv(_count)
    CASES[f"conv{_count}d_transpose"] = _transposed(_count)
for _count in (1, 2):
    CASES[f"depthwise_conv{_count}d"] = _depthwise(_count)
    CASES[f"separable_conv{_count}d"] = _separable(_count)


@case
def pooling(o: Options) -> Any:
    count, kind = o.number(1, 3), o.one("Max", "Average")
    layout, shape = image(o, count)
    strides, sizes, padding = o.one(None, o.number(1, 3)), o.sizes(count, 1, 3), "valid"
    if kind == "Max":
        padding = o.one("valid", "same")
    elif o.yes:
        # Borders that are as wide before as behind; for others see test_documented.
        strides, sizes, padding = 1, o.one(1, 3), "same"
    return getattr(L, f"{kind}Pooling{count}D")(sizes, strides, padding, data_format=layout), shape


@case
def global_pooling(o: Options) -> Any:
    count = o.number(1, 3)
    layout, shape = image(o, count)
    kind = getattr(L, f"Global{o.one('Max', 'Average')}Pooling{count}D")
    return kind(data_format=layout, keepdims=o.yes), shape


@case
def adaptive_pooling(o: Options) -> Any:
    count = o.number(1, 3)
    layout, shape = image(o, count)
    kind = getattr(L, f"Adaptive{o.one('Max', 'Average')}Pooling{count}D")
    return kind(o.sizes(count, 1, 4), data_format=layout), shape


@case
def batch_normalization(o: Options) -> Any:
    shape = o.one((4,), (3, 4), (3, 2, 4))
    axis = o.one(-1, 1)
    return L.BatchNormalization(
        axis=axis, epsilon=o.real(1e-4, 1e-2), center=o.yes, scale=o.yes
    ), shape


@case
def layer_normalization(o: Options) -> Any:
    # Keras on torch cannot do axis 1 alone; see test_documented.
    shape, axis = o.one(((4,), -1), ((3, 4), -1), ((3, 4), [1, 2]), ((3, 4, 2), [1, 3]))
    return L.LayerNormalization(
        axis=axis, epsilon=o.real(1e-4, 1e-2), center=o.yes, scale=o.yes, rms_scaling=o.yes
    ), shape


@case
def group_normalization(o: Options) -> Any:
    shape = o.one((4,), (3, 4), (3, 2, 4))
    return L.GroupNormalization(
        o.one(1, 2, -1), epsilon=o.real(1e-4, 1e-2), center=o.yes, scale=o.yes
    ), shape


@case
def rms_normalization(o: Options) -> Any:
    shape, axis = o.one(((4,), -1), ((3, 4), -1), ((3, 4), [1, 2]))
    return L.RMSNormalization(axis=axis, epsilon=o.real(1e-6, 1e-2)), shape


@case
def unit_normalization(o: Options) -> Any:
    return L.UnitNormalization(axis=o.one(-1, 1, [1, 2])), (3, 4)


@case
def spectral_normalization(o: Options) -> Any:
    inner = o.one(L.Dense(3), L.Conv2D(2, 2))
    return L.SpectralNormalization(inner), (5, 5, 3)


@case
def normalization(o: Options) -> Any:
    axis, shape = o.one((-1, (4,)), (None, (3, 4)), ((1, 2), (3, 4)), (1, (3, 4)))
    size = {-1: (4,), None: (), (1, 2): (3, 4), 1: (3,)}[axis]
    given = {}
    if o.yes:
        given = {
            "mean": o.random.normal(size=size).astype("f"),
            "variance": o.random.uniform(0.1, 2, size).astype("f"),
        }
    return L.Normalization(axis=axis, invert=o.yes, **given), shape


@case
def rescaling(o: Options) -> Any:
    return L.Rescaling(o.real(0.1, 2), o.one(0.0, o.real(-1, 1))), (3, 4)


@case
def activation(o: Options) -> Any:
    return L.Activation(o.one(*ACTIVATIONS)), (3, 4)


@case
def relu(o: Options) -> Any:
    return L.ReLU(o.one(None, o.real(0.5, 2), 6.0), o.one(0.0, 0.3), o.one(0.0, 0.4)), (3, 4)


@case
def leaky_relu(o: Options) -> Any:
    return L.LeakyReLU(o.real(0.0, 0.7)), (3, 4)


@case
def elu(o: Options) -> Any:
    return L.ELU(o.real(0.1, 1.5)), (3, 4)


@case
def prelu(o: Options) -> Any:
    return L.PReLU(shared_axes=o.one(None, [1], [1, 2], [2])), (3, 4)


@case
def softmax(o: Options) -> Any:
    return L.Softmax(axis=o.one(-1, 1, [1, 2], [-1])), (3, 4)


@case
def flatten(o: Options) -> Any:
    return L.Flatten(o.one(None, "channels_first")), o.one((3,), (3, 4), (2, 3, 4), (None, 4))


@case
def reshape(o: Options) -> Any:
    return L.Reshape(o.one((-1,), (4, 3), (2, -1), (3, 4, 1))), (3, 4)


@case
def permute(o: Options) -> Any:
    return L.Permute(o.one((2, 1, 3), (3, 1, 2), (1, 2, 3))), (2, 3, 4)


@case
def repeat_vector(o: Options) -> Any:
    return L.RepeatVector(o.number(1, 4)), (4,)


@case
def cropping(o: Options) -> Any:
    count = o.number(1, 3)
    layout, shape = image(o, count)
    if count == 1:
        return L.Cropping1D(o.one(1, (0, 2), (2, 1))), (7, 3)
    pairs = o.one(1, tuple((o.number(0, 2), o.number(0, 2)) for _ in range(count)))
    kind = (L.Cropping2D, L.Cropping3D)[count - 2]
    return kind(pairs, data_format=layout), shape


@case
def zero_padding(o: Options) -> Any:
    count = o.number(1, 3)
    layout, shape = image(o, count)
    if count == 1:
        return L.ZeroPadding1D(o.one(1, (0, 2), (2, 1)), data_format=layout), shape
    pairs = o.one(1, tuple((o.number(0, 2), o.number(0, 2)) for _ in range(count)))
    kind = (L.ZeroPadding2D, L.ZeroPadding3D)[count - 2]
    return kind(pairs, data_format=layout), shape


@case
def up_sampling(o: Options) -> Any:
    count = o.number(1, 3)
    layout, shape = image(o, count, 3)
    if count == 1:
        return L.UpSampling1D(o.number(1, 3)), (4, 3)
    if count == 3:
        return L.UpSampling3D(o.sizes(3, 1, 3), data_format=layout), shape
    how = o.one("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
    return L.UpSampling2D(o.sizes(2, 1, 3), data_format=layout, interpolation=how), shape


@case
def only_trains(o: Options) -> Any:
    kind = o.one(
        L.Dropout(0.5),
        L.SpatialDropout1D(0.3),
        L.GaussianNoise(0.5),
        L.GaussianDropout(0.5),
        L.AlphaDropout(0.5),
        L.ActivityRegularization(0.1),
        L.Identity(),
    )
    return kind, (3, 4)


@pytest.mark.parametrize("name", some_of(sorted(CASES), sorted(CASES)[::5]))
def test_layer(name: str, tmp_path: Path) -> None:
    for seed in range(8):
        try:
            with quiet():
                layer, shape = CASES[name](Options(sum(map(ord, name)) + 1000 * seed))
                model = keras.Sequential([keras.Input(shape), layer])
        except ValueError:
            continue  # Options that Keras itself refuses together.
        try:
            assert_agrees(model, tmp_path, seed=seed)
        except Exception as error:
            dull = ("initializer", "regularizer", "constraint", "dtype")
            config = {k: v for k, v in layer.get_config().items() if not k.endswith(dull)}
            message = f"{config} on {shape}: {error}"
            raise AssertionError(message) from error
