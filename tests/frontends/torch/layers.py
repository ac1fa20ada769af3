"""Layers of torch.nn and functions of torch with random options and shapes, as modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.frontends.torch.modules import Case, _trained

__all__ = ["FAMILIES", "layer", "more"]


class Random:
    """Choices that a seed decides."""

    def __init__(self, seed: int) -> None:
        self.numbers = np.random.default_rng(seed)
        self.state = torch.Generator().manual_seed(seed)

    def of(self, *options: Any) -> Any:
        return options[int(self.numbers.integers(len(options)))]

    def upto(self, low: int, high: int) -> int:
        return int(self.numbers.integers(low, high + 1))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.state)


class Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def more(case: Case, rows: int, seed: int) -> Any:
    """Other arguments with so many rows: normal numbers, and integers of the example."""
    state = torch.Generator().manual_seed(seed)
    axes = case.dynamic or [{0: "N"}] * 9

    def other(tensor: Tensor, number: int) -> Tensor:
        for axis in axes[number]:
            tensor = tensor.index_select(axis, torch.arange(rows) % tensor.shape[axis])
        if not tensor.is_floating_point():
            return tensor
        return torch.randn(tensor.shape, generator=state).to(tensor.dtype)

    given = case.example if isinstance(case.example, tuple) else (case.example,)
    return tuple(other(t, number) for number, t in enumerate(given))


# Dense and convolutions ---------------------------------------------------------------------------


def linear(r: Random) -> Case:
    inner = r.upto(1, 9)
    shape = (r.upto(2, 4), *(r.upto(1, 4) for _ in range(r.upto(0, 2))), inner)
    return Case(nn.Linear(inner, r.upto(1, 9), bias=r.of(True, False)), r.normal(*shape))


def convolution(r: Random) -> Case:
    axes = r.upto(1, 3)
    groups = r.of(1, 1, 2)
    channels, features = groups * r.upto(1, 3), groups * r.upto(1, 3)
    kernel = tuple(r.upto(1, 3) for _ in range(axes))
    options: dict[str, Any] = {
        "stride": r.upto(1, 2),
        "dilation": r.upto(1, 2),
        "padding": r.of(0, 1, 2),
        "padding_mode": r.of("zeros", "zeros", "reflect", "replicate", "circular"),
        "bias": r.of(True, False),
        "groups": groups,
    }
    if r.of(True, False, False):
        options |= {"stride": 1, "padding": r.of("same", "valid")}
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    sizes = tuple(r.upto(6, 8) for _ in range(axes))
    return Case(kind(channels, features, kernel, **options), r.normal(2, channels, *sizes))


def transposed(r: Random) -> Case:
    axes = r.upto(1, 3)
    groups, stride = r.of(1, 1, 2), r.upto(1, 3)
    channels, features = groups * r.upto(1, 3), groups * r.upto(1, 3)
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[axes - 1]
    made = kind(
        channels,
        features,
        r.upto(1, 3),
        stride=stride,
        padding=r.of(0, 0, 1),
        output_padding=r.upto(0, stride - 1),
        dilation=stride if stride > 1 else 1,
        groups=groups,
        bias=r.of(True, False),
    )
    return Case(made, r.normal(2, channels, *(r.upto(4, 6) for _ in range(axes))))


def pooling(r: Random) -> Case:
    axes = r.upto(1, 3)
    kernel = r.upto(2, 3)
    options: dict[str, Any] = {
        "stride": r.of(None, 1, 2),
        "padding": r.of(0, 1),
        "ceil_mode": r.of(True, False),
    }
    if r.of(True, False):
        kind: Any = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[axes - 1]
        options["dilation"] = r.of(1, 1, 2)
        options["return_indices"] = r.of(False, False, True)
    else:
        kind = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[axes - 1]
        options["count_include_pad"] = r.of(True, False)
        if axes > 1:
            options["divisor_override"] = r.of(None, None, 3)
    return Case(kind(kernel, **options), r.normal(2, 3, *(r.upto(6, 9) for _ in range(axes))))


def adaptive(r: Random) -> Case:
    axes = r.upto(1, 2)
    size = r.of(1, 2, 4)
    kinds = r.of(
        (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d), (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
    )
    return Case(kinds[axes - 1](size), r.normal(2, 3, *(8,) * axes))


def upsampling(r: Random) -> Case:
    axes = r.upto(1, 3)
    modes = (("nearest", "linear"), ("nearest", "bilinear", "bicubic"), ("nearest", "trilinear"))
    mode = r.of(*modes[axes - 1])
    options: dict[str, Any] = {"mode": mode}
    if mode != "nearest":
        options["align_corners"] = r.of(True, False, None)
    options |= r.of({"scale_factor": r.of(2, 1.5, 0.5)}, {"size": (r.upto(3, 9),) * axes})
    return Case(nn.Upsample(**options), r.normal(2, 2, *(r.upto(4, 6) for _ in range(axes))))


def borders(r: Random) -> Case:
    axes = r.upto(1, 2)
    kinds: Any = r.of(
        (nn.ConstantPad1d, nn.ConstantPad2d),
        (nn.ReflectionPad1d, nn.ReflectionPad2d),
        (nn.ReplicationPad1d, nn.ReplicationPad2d),
        (nn.CircularPad1d, nn.CircularPad2d),
    )
    width = tuple(r.upto(0, 2) for _ in range(2 * axes))
    options = {"value": 0.5} if kinds[0] is nn.ConstantPad1d else {}
    return Case(kinds[axes - 1](width, **options), r.normal(2, 3, *(r.upto(4, 6),) * axes))


def shuffling(r: Random) -> Case:
    made: Any = r.of(
        (nn.PixelShuffle(2), (2, 8, 3, 4)),
        (nn.PixelUnshuffle(2), (2, 2, 4, 6)),
        (nn.ChannelShuffle(2), (2, 4, 3, 3)),
        (nn.Unfold(2, stride=r.upto(1, 2), padding=r.upto(0, 1)), (2, 3, 5, 6)),
        (nn.Fold((4, 5), 2), (2, 8, 12)),
        (nn.Flatten(r.upto(1, 2)), (2, 3, 4)),
        (nn.Unflatten(1, (2, 3)), (2, 6, 4)),
    )
    return Case(made[0], r.normal(*made[1]))


# Normalisations and activations -------------------------------------------------------------------


def normalisation(r: Random) -> Case:
    channels, axes = 2 * r.upto(1, 3), r.upto(0, 3)
    sizes = tuple(r.upto(2, 5) for _ in range(axes))
    batch = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[axes]
    affine = r.of(True, False)
    options: list[nn.Module] = [
        batch(channels, eps=r.of(1e-5, 1e-3), affine=affine),
        nn.GroupNorm(r.of(1, 2, channels), channels, affine=affine),
        nn.LayerNorm((channels, *sizes)[r.upto(0, axes) :], elementwise_affine=affine),
    ]
    if axes:
        kind = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[axes - 1]
        options.append(kind(channels, affine=affine, track_running_stats=r.of(True, False)))
    if hasattr(nn, "RMSNorm"):
        options.append(nn.RMSNorm((channels, *sizes)[axes:], elementwise_affine=affine))
    made = _trained(r.of(*options))
    for weight in made.parameters():
        weight.data = r.normal(*weight.shape)
    return Case(made, r.normal(3, channels, *sizes))


def activation(r: Random) -> Case:
    number = float(r.numbers.uniform(0.1, 2))
    made = r.of(
        nn.ELU(number),
        nn.CELU(number),
        nn.LeakyReLU(number),
        nn.PReLU(r.of(1, 4), init=number),
        nn.Hardtanh(-number, 1),
        nn.Hardshrink(number),
        nn.Softshrink(number),
        nn.Softplus(r.of(1, 2), r.of(20, 2)),
        nn.Threshold(number, 0.3),
        nn.GELU(approximate=r.of("none", "tanh")),
        nn.Softmax(dim=r.of(1, -1)),
        nn.LogSoftmax(dim=r.of(1, -1)),
        nn.Softmin(dim=1),
        nn.GLU(dim=1),
        r.of(nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.LogSigmoid)(),
        r.of(nn.Tanh, nn.Tanhshrink, nn.Softsign, nn.Hardswish, nn.Hardsigmoid)(),
    )
    return Case(made, 2 * r.normal(3, 4, *(r.upto(1, 4) for _ in range(r.upto(0, 2)))))


# Sequences ----------------------------------------------------------------------------------------


class First(nn.Module):
    """A recurrent layer, with or without states."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, *states: Tensor) -> Any:
        if not states:
            return self.cell(x)
        return self.cell(x, states if len(states) > 1 else states[0])


def recurrent(r: Random) -> Case:
    first, both, layers = r.of(True, False), r.of(True, False), r.upto(1, 2)
    options = {
        "batch_first": first,
        "bidirectional": both,
        "num_layers": layers,
        "bias": r.of(True, True, False),
    }
    kind = r.of(nn.LSTM, nn.GRU, nn.RNN)
    if kind is nn.RNN:
        options["nonlinearity"] = r.of("tanh", "relu")
    hidden, rows, length = r.upto(1, 5), 3, r.upto(1, 5)
    cell = kind(4, hidden, **options)
    x = r.normal(rows, length, 4) if first else r.normal(length, rows, 4)
    batch = {0 if first else 1: "N"}
    if r.of(True, False):
        return Case(First(cell), x, [batch])
    state = (layers * (1 + both), rows, hidden)
    states = [r.normal(*state) for _ in range(2 if kind is nn.LSTM else 1)]
    return Case(First(cell), (x, *states), [batch, *({1: "N"} for _ in states)])


class Attend(nn.Module):
    """Attention with masks, which are arguments or constants."""

    def __init__(self, r: Random) -> None:
        super().__init__()
        self.first = r.of(True, False)
        options = {
            "batch_first": self.first,
            "bias": r.of(True, False),
            "add_bias_kv": r.of(False, False, True),
            "add_zero_attn": r.of(False, False, True),
        }
        if r.of(False, True):
            options |= {"kdim": 6, "vdim": 5}
        self.inner = nn.MultiheadAttention(8, r.of(1, 2, 4), **options)
        self.weights, self.average = r.of(True, False), r.of(True, False)
        causal = torch.ones(4, 6).triu(1).bool()
        floats = r.normal(4, 6)
        self.mask = r.of(None, causal, floats)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None = None) -> Any:
        found = self.inner(
            *(q, k, v, padding, self.weights),
            attn_mask=self.mask,
            average_attn_weights=self.average,
        )
        return found if self.weights else found[0]


def attention(r: Random) -> Case:
    made = Attend(r)
    kdim, vdim = made.inner.kdim or 8, made.inner.vdim or 8
    given = [r.normal(3, 4, 8), r.normal(3, 6, kdim), r.normal(3, 6, vdim)]
    if not made.first:
        given = [t.transpose(0, 1).contiguous() for t in given]
    axes: list[Mapping[int, str]] = [{0 if made.first else 1: "N"}] * 3
    if r.of(True, False):
        padding = torch.zeros(3, 6, dtype=torch.bool)
        padding[1:, 4:] = True
        boolean = made.mask is None or made.mask.dtype == torch.bool
        given.append(padding if boolean else padding.float().mul(-1e4))
        axes.append({0: "N"})
    return Case(made, tuple(given), axes)


class Decode(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.inner = layer

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        found: Tensor = self.inner(x, memory)
        return found


def transformer(r: Random) -> Case:
    options = {
        "dim_feedforward": 12,
        "activation": r.of("relu", "gelu"),
        "norm_first": r.of(True, False),
        "bias": r.of(True, True, False),
        "batch_first": True,
    }
    if r.of(True, False):
        return Case(nn.TransformerEncoderLayer(8, r.of(1, 2), **options), r.normal(3, 4, 8))
    layer = nn.TransformerDecoderLayer(8, r.of(1, 2), **options)
    return Case(Decode(layer), (r.normal(3, 4, 8), r.normal(3, 5, 8)))


class Bag(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.inner = nn.EmbeddingBag(10, 4, mode=mode)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.inner(ids)
        return found


def embedding(r: Random) -> Case:
    ids = torch.randint(0, 10, (3, r.upto(1, 4)), generator=r.state)
    made = r.of(nn.Embedding(10, 4), nn.Embedding(10, 4, padding_idx=r.upto(0, 9)), None)
    return Case(made or Bag(r.of("sum", "mean", "max")), ids)


# Functions ----------------------------------------------------------------------------------------


def _functions() -> list[Callable[[Tensor], Any]]:
    """Of a tensor [N, 4, 6]."""
    return [
        lambda x: x.cumsum(1),
        lambda x: x.abs().cumprod(2),
        lambda x: x.topk(3, dim=2),
        lambda x: x.topk(2, dim=1, largest=False),
        lambda x: x.sort(dim=2, descending=True),
        lambda x: x.argsort(dim=1),
        lambda x: (x.argmax(2), x.argmin(1)),
        lambda x: torch.einsum("nij,nkj->nik", x, x),
        lambda x: torch.einsum("nij->nji", x),
        lambda x: x.roll(2, 1),
        lambda x: x.flip(2),
        lambda x: (x.tril(), x.triu(1)),
        lambda x: x.gather(2, x.argsort(dim=2)),
        lambda x: x.scatter(2, x.argsort(dim=2), x.exp()),
        lambda x: x.scatter_add(1, (x > 0).long(), x),
        lambda x: x.index_select(1, torch.tensor([2, 0])),
        lambda x: x.masked_fill(x > 0, -1.0),
        lambda x: torch.where(x > 0, x, x.exp()),
        lambda x: (x.norm(dim=1), x.norm(p=1, dim=2), F.normalize(x, dim=2)),
        lambda x: (x.std(2), x.var(1, unbiased=False)),
        lambda x: x.logsumexp(2),
        lambda x: (x.amax(1), x.amin((1, 2)), x.max(2), x.min(1)),
        lambda x: (x.mean((1, 2)), x.sum(1, keepdim=True), x.prod(2)),
        lambda x: ((x > 1).any(2), (x > -2).all(1)),
        lambda x: F.one_hot((x > 0).long(), 3),
        lambda x: x.diff(dim=2),
        lambda x: x.unfold(2, 3, 2),
        lambda x: x.repeat_interleave(2, 1),
        lambda x: x.repeat(1, 2, 1),
        lambda x: x.tile(2),
        lambda x: torch.cat(x.chunk(3, 2)[::-1], 2),
        lambda x: torch.stack(x.unbind(1), 2),
        lambda x: x.split([1, 3], 1),
        lambda x: x.clamp(-0.5, 0.5),
        lambda x: (x.floor(), x.ceil(), x.round(), x.trunc(), x.frac(), x.sign()),
        lambda x: (x.fmod(0.7), x.remainder(0.7), (x * 5).long() // 3, (x * 5).long() % 3),
        lambda x: (x.abs().sqrt(), x.abs().rsqrt(), x.abs().pow(0.3), x.square(), x.reciprocal()),
        lambda x: (x.sin(), x.cos(), x.tan(), x.atan(), x.sinh(), x.cosh(), x.asinh()),
        lambda x: (x.erf(), x.expm1(), x.abs().log1p(), x.abs().log2(), x.abs().log10(), x.exp2()),
        lambda x: torch.atan2(x, x.flip(2)),
        lambda x: torch.hypot(x, x.flip(2)),
        lambda x: torch.maximum(x, x.flip(2)) - torch.minimum(x, x.flip(1)),
        lambda x: x.lerp(x.flip(2), 0.3),
        lambda x: torch.addcmul(x, x, x.flip(2), value=0.5),
        lambda x: torch.cdist(x, x.flip(2)),
        lambda x: F.cosine_similarity(x, x.flip(1), dim=2),
        lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
        lambda x: torch.baddbmm(x, x[:, :, :4], x, beta=0.5, alpha=2),
        lambda x: torch.linalg.vector_norm(x, dim=2),
        lambda x: x.float().double().mean(2),
        lambda x: (x.half().float(), x.bfloat16().float(), x.int(), x.bool()),
        lambda x: x.nan_to_num(0.0),
        lambda x: torch.logaddexp(x, x.flip(2)),
        lambda x: torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])),
        lambda x: torch.searchsorted(x.sort(2)[0], x.flip(2), right=True),
        lambda x: x[:, 1:, ::2],
        lambda x: x[:, [2, 0], -1],
        lambda x: x[..., None, 0] * x.new_ones(3),
        lambda x: torch.arange(x.shape[0]).unsqueeze(1) + x.long().sum(2),
        lambda x: x * torch.linspace(0, 1, x.shape[2]),
        lambda x: x.reshape(x.shape[0], -1),
        lambda x: x.flatten(0, 1).view(-1, 3, 8),
        lambda x: x.permute(2, 0, 1),
        lambda x: x.movedim(1, 2).swapaxes(0, 1),
        lambda x: x.expand(2, -1, -1, -1),
        lambda x: torch.meshgrid(x[0, 0], x[0, :, 1], indexing="ij"),
        lambda x: torch.block_diag(x[0], x[-1]),
        lambda x: x.scatter_reduce(1, (x > 0).long(), x, "mean", include_self=False),
        lambda x: x.scatter_reduce(1, (x > 0).long(), x, "amax"),
        lambda x: x.scatter_reduce(1, (x > 0).long(), x, "prod", include_self=False),
        lambda x: torch.zeros_like(x).index_add(1, torch.tensor([1, 1, 0, 3]), x),
        lambda x: x.index_copy(1, torch.tensor([1, 0]), x[:, 2:]),
        lambda x: x.median(2)[0],
        lambda x: x.kthvalue(2, 2)[0],
        lambda x: x.outer(x) if x.ndim == 1 else torch.kron(x[0], x[-1]),
        lambda x: torch.linalg.det(x[:, :, :4]),
        lambda x: torch.linalg.inv(x[:, :, :4] + 5 * torch.eye(4)),
        lambda x: torch.isnan(x) | torch.isinf(x),
        lambda x: (x.heaviside(x), x.copysign(-x), x.signbit()),
        lambda x: torch.cross(x[:, :3], x[:, 1:], dim=1),
        lambda x: torch.trapezoid(x, dim=2),
        lambda x: torch.count_nonzero(x > 0, dim=2),
        lambda x: x.diagonal(dim1=1, dim2=2),
        lambda x: torch.diag_embed(x[:, 0]),
        lambda x: torch.vander(x[0, 0], 3),
        lambda x: x.unflatten(2, (2, 3)),
        lambda x: torch.special.erfinv(x.tanh()),
        lambda x: (x.lgamma(), x.abs().digamma()),
        lambda x: x.quantile(0.5, dim=2),
        lambda x: torch.nonzero(x > 0),
        lambda x: x[x > 0],
        lambda x: torch.unique((x * 3).long()),
        lambda x: F.grid_sample(
            x.unsqueeze(1), x[:, :2, :4].reshape(-1, 2, 2, 2), align_corners=False
        ),
        lambda x: F.layer_norm(x, (6,)),
        lambda x: F.pad(x, (1, -1, 0, 2), value=0.5),
        lambda x: F.huber_loss(x, x.flip(2), reduction="none"),
        lambda x: torch.tensor_split(x, 3, dim=2),
        lambda x: torch.fft.rfft(x).abs(),
        lambda x: x.masked_scatter(x > 0, x.flatten()),
        lambda x: torch.histc(x, 5, -2, 2),
        lambda x: torch.cumulative_trapezoid(x, dim=2),
        lambda x: (x.cummax(2), x.cummin(1)),
        lambda x: x.logcumsumexp(2),
        lambda x: x.renorm(2, 1, 1.0),
    ]


def function(r: Random, number: int | None = None) -> Case:
    made = _functions()
    chosen = made[r.upto(0, len(made) - 1) if number is None else number]
    return Case(Function(chosen), r.normal(3, 4, 6))


FAMILIES: Mapping[str, Callable[[Random], Case]] = {
    made.__name__: made
    for made in (
        *(linear, convolution, transposed, pooling, adaptive, upsampling, borders, shuffling),
        *(normalisation, activation, recurrent, attention, transformer, embedding, function),
    )
}
FUNCTIONS = len(_functions())


def layer(family: str, seed: int) -> Case:
    """One layer of the family."""
    torch.manual_seed(seed)
    return FAMILIES[family](Random(seed))
