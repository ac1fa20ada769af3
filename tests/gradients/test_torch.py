"""Derivatives beside torch.autograd: functions at their kinks, and networks of several sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import sofie_rdf
from sofie_rdf.gradients.derived import gradient
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops import elementwise as e
from sofie_rdf.passes.rows import rows_of
from sofie_rdf.reference import evaluate
from tests.choice import some_of

torch = pytest.importorskip("torch")
nn, f = torch.nn, torch.nn.functional

KINKS = [-np.inf, -4.0, -3.0, -1.0, -0.5, -0.0, 0.0, 0.25, 0.5, 1.0, 3.0, 4.0, np.inf, np.nan]
ONE: list[tuple[Operator, Callable[..., Any]]] = [
    (e.Abs(), torch.abs),
    (e.Sign(), torch.sign),
    (e.Floor(), torch.floor),
    (e.Ceil(), torch.ceil),
    (e.Round(), torch.round),
    (e.Relu(), torch.relu),
    (e.LeakyRelu(0.1), lambda x: f.leaky_relu(x, 0.1)),
    (e.ThresholdedRelu(0.5), lambda x: f.threshold(x, 0.5, 0)),
    (e.Elu(1.3), lambda x: f.elu(x, 1.3)),
    (e.Celu(1.3), lambda x: f.celu(x, 1.3)),
    (e.Selu(), torch.selu),
    (e.HardSigmoid(1 / 6, 0.5), f.hardsigmoid),
    (e.HardSwish(), f.hardswish),
    (e.Softsign(), f.softsign),
    (e.Shrink(0.5, 0.5), lambda x: f.softshrink(x, 0.5)),
    (e.Shrink(0.0, 0.5), lambda x: f.hardshrink(x, 0.5)),
    (e.Between(-1.0, 3.0), lambda x: torch.clamp(x, -1.0, 3.0)),
    (e.Sqrt(), torch.sqrt),
    (e.Log(), torch.log),
    (e.Exp(), torch.exp),
    (e.Tanh(), torch.tanh),
    (e.Sigmoid(), torch.sigmoid),
    (e.Reciprocal(), torch.reciprocal),
    (e.Gelu(), f.gelu),
    (e.Gelu("tanh"), lambda x: f.gelu(x, approximate="tanh")),
    (e.Swish(), f.silu),
    (e.Mish(), f.mish),
    (e.Asin(), torch.asin),
    (e.Acosh(), torch.acosh),
    (e.Atanh(), torch.atanh),
]
PAIRS: list[tuple[Operator, Callable[..., Any]]] = [
    (e.Max(), torch.maximum),
    (e.Min(), torch.minimum),
    (e.Mul(), torch.mul),
    (e.Div(), torch.div),
    (e.Pow(), torch.pow),
    (e.Mod(), torch.remainder),
    (e.Mod(fmod=True), torch.fmod),
    (e.PRelu(), lambda x, a: f.prelu(x[None], a)),
]


def _slopes(op: Operator, *arrays: np.ndarray) -> list[np.ndarray]:
    build = Builder("one")
    names = [
        build.input(f"x{i}", TensorType(DType.of(a), (symbol("N"),))) for i, a in enumerate(arrays)
    ]
    graph = build.graph(build(op, *names, outputs=["y"]))
    found = evaluate(gradient(graph, None, None, vjp=False), dict(zip(names, arrays, strict=True)))
    return [found[f"d_y/d_{n}"] for n in names]


@pytest.mark.parametrize(("op", "theirs"), ONE, ids=[str(op) for op, _ in ONE])
def test_functions_have_torchs_slopes_at_their_kinks(
    op: Operator, theirs: Callable[..., Any]
) -> None:
    # torch divides infinity by infinity in Softsign.
    array = np.array([k for k in KINKS if not (np.isinf(k) and isinstance(op, e.Softsign))])
    x = torch.tensor(array, requires_grad=True)
    theirs(x).sum().backward()
    (found,) = _slopes(op, array)
    # torch has some constants in float32.
    np.testing.assert_allclose(found, x.grad.numpy(), rtol=2e-7, atol=1e-300)


@pytest.mark.parametrize(("op", "theirs"), PAIRS, ids=[str(op) for op, _ in PAIRS])
def test_functions_of_two_have_torchs_slopes_where_they_meet(
    op: Operator, theirs: Callable[..., Any]
) -> None:
    values = [-3.0, -1.5, -0.0, 0.0, 0.5, 1.0, 2.0, 3.0, np.nan]
    if op.name != "Mod":
        values.append(np.inf)
    arrays = [a.ravel() for a in np.meshgrid(values, values)]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    theirs(*tensors).sum().backward()
    for found, tensor in zip(_slopes(op, *arrays), tensors, strict=True):
        np.testing.assert_allclose(found, tensor.grad.numpy(), rtol=1e-12, atol=1e-300)


# Networks -----------------------------------------------------------------------------------------


class Function(nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


def _mlp(*between: Any) -> Any:
    return nn.Sequential(nn.Linear(6, 8), *between, nn.Linear(8, 1))


def _residual(m: Any, x: Any) -> Any:
    y = torch.relu(m.a(x))
    return m.c(y + torch.tanh(m.b(y)))


def _sets(m: Any, x: Any) -> Any:
    points = torch.relu(m.a(x))
    pooled = [points.sum(1), points.amax(1), points.mean(1), torch.logsumexp(points, 1)]
    return m.b(torch.cat(pooled, -1))


def _attention(m: Any, x: Any) -> Any:
    q, k, v = m.a(x).chunk(3, -1)
    weights = torch.softmax(q @ k.transpose(-1, -2) / 2.0, -1)
    return m.b((weights @ v).mean(1))


def _pairs(m: Any, x: Any) -> Any:
    difference = x[:, :, None] - x[:, None]
    distance = (difference * difference).sum(-1).clamp(min=1e-3).sqrt()
    return torch.log(distance + 1).mean((1, 2), keepdim=False)[:, None] * m.a.weight.sum()


def _by_first(m: Any, x: Any) -> Any:
    """Ones that a sum spreads, times what is repeated along them."""
    return (m.a(x) * x[:, :1]).sum(1, keepdim=True)


def _parts(m: Any, x: Any) -> Any:
    left, right = x[:, ::2], x[:, 1::2]
    padded = f.pad(left * right, (1, 2))
    chosen = padded[:, [0, 2, 2, 3]]
    return m.a(torch.cat([chosen, left.flip(1), x.repeat(1, 2)[:, 3:5]], 1))


def _image(*between: Any, features: int = 4) -> Any:
    first = nn.Conv2d(2, 4, 3, padding=1)
    return nn.Sequential(
        first, *between, nn.Flatten(), nn.LazyLinear(features), nn.Linear(features, 1)
    )


def _recurrent(m: Any, x: Any) -> Any:
    every, _ = m.a(x)
    return m.b(every[:, -1])


def _topk(m: Any, x: Any) -> Any:
    values, _ = torch.topk(m.a(x), 3)
    return values.prod(-1, keepdim=True) + x.cumsum(-1).max(-1, keepdim=True)[0]


def _einsum(m: Any, x: Any) -> Any:
    scores = torch.einsum("nik,njk->nij", x, m.a(x))
    return torch.einsum("nij,njk->n", scores.sigmoid(), x)[:, None]


def _dot(m: Any, x: Any) -> Any:
    q, k, v = m.a(x)[:, None].chunk(3, -1)
    return m.b(f.scaled_dot_product_attention(q, k, v, is_causal=True)[:, 0].sum(1))


def _knn(m: Any, x: Any) -> Any:
    """As ParticleNet: the features of the nearest points."""
    inner = -2 * torch.matmul(x, x.transpose(2, 1))
    squares = (x**2).sum(-1, keepdim=True)
    nearest = (-squares - inner - squares.transpose(2, 1)).topk(3, -1)[1]
    index = nearest.flatten(1)[:, :, None].expand(-1, -1, x.shape[-1])
    near = torch.gather(x, 1, index).unflatten(1, (x.shape[1], 3))
    edges = torch.cat([x[:, :, None].expand_as(near), near - x[:, :, None]], -1)
    return m.b(torch.relu(m.a(edges)).mean(2).mean(1))


NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "relu": (lambda: _mlp(nn.ReLU()), (6,)),
    "gelu": (lambda: _mlp(nn.GELU()), (6,)),
    "silu": (lambda: _mlp(nn.SiLU()), (6,)),
    "mish": (lambda: _mlp(nn.Mish()), (6,)),
    "elu": (lambda: _mlp(nn.ELU()), (6,)),
    "selu": (lambda: _mlp(nn.SELU()), (6,)),
    "softplus": (lambda: _mlp(nn.Softplus()), (6,)),
    "hardswish": (lambda: _mlp(nn.Hardswish()), (6,)),
    "leaky": (lambda: _mlp(nn.LeakyReLU()), (6,)),
    "prelu": (lambda: _mlp(nn.PReLU()), (6,)),
    "softmax": (lambda: _mlp(nn.Softmax(-1)), (6,)),
    "logsoftmax": (lambda: _mlp(nn.LogSoftmax(-1)), (6,)),
    "residual": (
        lambda: Function(_residual, a=nn.Linear(6, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 1)),
        (6,),
    ),
    "sets": (lambda: Function(_sets, a=nn.Linear(4, 5), b=nn.Linear(20, 1)), (3, 4)),
    "attention": (
        lambda: Function(_attention, a=nn.Linear(4, 12), b=nn.Linear(4, 1)),
        (3, 4),
    ),
    "by_first": (lambda: Function(_by_first, a=nn.Linear(6, 6)), (6,)),
    "pairs": (lambda: Function(_pairs, a=nn.Linear(2, 1)), (4, 3)),
    "convolution": (lambda: _image(nn.ReLU(), nn.MaxPool2d(2)), (2, 6, 6)),
    "strided": (lambda: _image(nn.Conv2d(4, 3, 3, 2, dilation=2), nn.ELU()), (2, 8, 7)),
    "grouped": (lambda: _image(nn.Conv2d(4, 4, 3, groups=2, padding=1), nn.SiLU()), (2, 5, 5)),
    "depthwise": (lambda: _image(nn.Conv2d(4, 4, 3, groups=4), nn.GELU()), (2, 5, 5)),
    "transposed": (lambda: _image(nn.ConvTranspose2d(4, 3, 3, 2, 1, 1), nn.ReLU()), (2, 4, 4)),
    "average": (lambda: _image(nn.AvgPool2d(3, 2, 1), nn.Tanh()), (2, 7, 7)),
    "maximum": (lambda: _image(nn.MaxPool2d(3, 2, 1, ceil_mode=True)), (2, 6, 6)),
    "adaptive": (lambda: _image(nn.AdaptiveAvgPool2d(1)), (2, 5, 5)),
    "batchnorm": (lambda: _image(nn.BatchNorm2d(4), nn.ReLU()), (2, 4, 4)),
    "groupnorm": (lambda: _image(nn.GroupNorm(2, 4), nn.ReLU()), (2, 4, 4)),
    "instancenorm": (lambda: _image(nn.InstanceNorm2d(4, affine=True), nn.ReLU()), (2, 4, 4)),
    "upsampled": (lambda: _image(nn.Upsample(scale_factor=2, mode="bilinear")), (2, 3, 3)),
    "shuffled": (lambda: _image(nn.PixelShuffle(2), nn.Tanh()), (2, 3, 3)),
    "layernorm": (lambda: _mlp(nn.LayerNorm(8), nn.ReLU()), (6,)),
    "rmsnorm": (lambda: _mlp(nn.RMSNorm(8, eps=1e-5), nn.ReLU()), (6,)),
    "signal": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 3, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(9, 1)
        ),
        (2, 8),
    ),
    "lstm": (
        lambda: Function(
            _recurrent, a=nn.LSTM(3, 4, bidirectional=True, batch_first=True), b=nn.Linear(8, 1)
        ),
        (5, 3),
    ),
    "gru": (
        lambda: Function(_recurrent, a=nn.GRU(3, 4, 2, batch_first=True), b=nn.Linear(4, 1)),
        (5, 3),
    ),
    "rnn": (
        lambda: Function(_recurrent, a=nn.RNN(3, 4, batch_first=True), b=nn.Linear(4, 1)),
        (5, 3),
    ),
    "topk": (lambda: Function(_topk, a=nn.Linear(6, 8)), (6,)),
    "einsum": (lambda: Function(_einsum, a=nn.Linear(4, 4)), (3, 4)),
    "causal": (lambda: Function(_dot, a=nn.Linear(4, 12), b=nn.Linear(4, 1)), (3, 4)),
    "encoder": (
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Flatten(), nn.Linear(12, 1)
        ),
        (3, 4),
    ),
    "nearest": (lambda: Function(_knn, a=nn.Linear(6, 5), b=nn.Linear(5, 1)), (7, 3)),
    "parts": (lambda: Function(_parts, a=nn.Linear(9, 1)), (6,)),
}


@pytest.mark.parametrize("name", some_of(NETWORKS, sorted(NETWORKS)[::10]))
def test_networks_have_torchs_gradients_in_every_batch(name: str) -> None:
    torch.manual_seed(5)
    make, shape = NETWORKS[name]
    net = make().eval()
    net(torch.zeros(1, *shape))
    model = sofie_rdf.from_torch(net, torch.randn(2, *shape)).gradient()
    random = np.random.default_rng(3)
    slope = list(model.outputs)[-1]
    for count in (1, 3, 17):
        array = random.normal(size=(count, *shape)).astype(np.float32)
        x = torch.tensor(array, requires_grad=True)
        net(x).sum().backward()
        found = model(array)[slope]
        wanted = x.grad.numpy()
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-6 * np.abs(wanted).max())
        rows = [model(array[i : i + 1])[slope] for i in range(count)]
        np.testing.assert_array_equal(np.concatenate(rows), found)


@pytest.mark.parametrize(
    "name", some_of(["nearest", "topk", "causal", "encoder", "sets"], ["topk", "sets"])
)
def test_rows_of_gradients_are_known_to_keep_apart(name: str) -> None:
    """So that a batch is cut into pieces as that of the network itself."""
    torch.manual_seed(5)
    make, shape = NETWORKS[name]
    model = sofie_rdf.from_torch(make().eval(), torch.randn(2, *shape)).gradient()
    batch = str(next(iter(model.graph.types[i].shape[0] for i in model.graph.inputs)))
    assert rows_of(model.optimized) == batch
