"""Operators beside torch.autograd, compiled, in batches of several sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest

import sofie_rdf.ops as _ops
from sofie_rdf import Model
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.operator import lookup
from sofie_rdf.ir.types import Array, DType, TensorType
from tests.choice import some_of

assert _ops
torch = pytest.importorskip("torch")
f = torch.nn.functional
N = symbol("N")

# The operator, its fields, the shape of x behind the batch, what else it reads, and torch's name.
Case = tuple[str, dict[str, Any], tuple[int, ...], Sequence[Any], Callable[..., Any]]


def _fourier(x: Any, **how: Any) -> Any:
    return torch.view_as_real(torch.fft.fft(torch.view_as_complex(x), dim=1, **how))


def _inverse(x: Any) -> Any:
    return torch.view_as_real(torch.fft.ifft(torch.view_as_complex(x), n=7, dim=1))


def _half(x: Any) -> Any:
    return torch.view_as_real(torch.fft.rfft(x[..., 0], dim=1))


def _real(x: Any, n: int) -> Any:
    return torch.fft.irfft(torch.view_as_complex(x), n=n, dim=1)[..., None]


def _unpooled(x: Any) -> Any:
    zeros = x.new_zeros(x.shape[0] * 2 * 16)
    return zeros.index_put((_places(x.shape[0]).flatten(),), x.flatten()).reshape(-1, 2, 4, 4)


def _places(count: int) -> Any:
    base = torch.arange(count * 2).reshape(-1, 2, 1, 1) * 16
    return base + torch.tensor([[0, 7], [9, 10]])


def _scattered(how: str) -> Callable[..., Any]:
    return lambda x, at, u: torch.scatter_reduce(x, 1, at, u, how)


def _stft(x: Any, window: Any) -> Any:
    return torch.view_as_real(
        torch.stft(x[..., 0], 6, 3, window=window, center=False, return_complex=True)
    ).transpose(1, 2)


def _cut(x: Any) -> Any:
    return f.pad(x, (1, 1, -1, -1))


def _loss(ignored: int = -1, reduction: str = "mean", log: bool = True) -> Callable[..., Any]:
    """torch's own has no derivative by the weights."""

    def loss(x: Any, target: Any, weight: Any = None) -> Any:
        log_p = torch.log_softmax(x, 1) if log else x
        weight = torch.ones(x.shape[1]) if weight is None else weight
        factor = weight[target] * (target != ignored)
        each = -log_p.gather(1, target[:, None])[:, 0] * factor
        if reduction == "none":
            return each
        return each.sum() / (factor.sum() if reduction == "mean" else 1)

    return loss


def _recalled(x: Any, k: Any, v: Any, past: Any, decay: Any, beta: Any) -> Any:
    """One head of keys for two of queries, by the gated delta rule; of x the first two heads."""
    state, found = past[:, 0], []
    for t in range(x.shape[1]):
        state = state * torch.exp(decay[:, t])[:, :, None]
        stored = beta[:, t] * (v[:, t] - (state * k[:, t, :, None]).sum(1))
        state = state + k[:, t, :, None] * stored[:, None]
        parts = [(state * q[..., None]).sum(1) for q in x[:, t].chunk(2, -1)]
        found.append(torch.cat(parts, 1) / 3**0.5)
    return torch.stack(found, 1)


AT = "at"  # Indices below 4, three for each row.
TARGET = "target"  # Classes below 4.
MIXED = "mixed"  # Zeros and ties among numbers.
CASES: dict[str, Case] = {
    "maximum": (
        "ScatterElements",
        {"axis": 1, "reduction": "max"},
        (4,),
        [AT, MIXED],
        _scattered("amax"),
    ),
    "minimum": (
        "ScatterElements",
        {"axis": 1, "reduction": "min"},
        (4,),
        [AT, MIXED],
        _scattered("amin"),
    ),
    "product": (
        "ScatterElements",
        {"axis": 1, "reduction": "mul"},
        (4,),
        [AT, MIXED],
        _scattered("prod"),
    ),
    "entropy": ("SoftmaxCrossEntropyLoss", {}, (4, 3), [TARGET], _loss()),
    "ignored": (
        "SoftmaxCrossEntropyLoss",
        {"ignore_index": 1},
        (4, 3),
        [TARGET, (4,)],
        _loss(1),
    ),
    "summed": (
        "SoftmaxCrossEntropyLoss",
        {"reduction": "sum"},
        (4, 3),
        [TARGET, (4,)],
        _loss(reduction="sum"),
    ),
    "each": (
        "SoftmaxCrossEntropyLoss",
        {"reduction": "none"},
        (4, 3),
        [TARGET, (4,)],
        _loss(reduction="none"),
    ),
    "likelihood": (
        "NegativeLogLikelihoodLoss",
        {"ignore_index": 2},
        (4, 3),
        [TARGET, (4,)],
        _loss(2, log=False),
    ),
    "fourier": ("DFT", {"axis": 1}, (6, 2), [], _fourier),
    "longer": ("DFT", {"axis": 1, "dft_length": 8}, (6, 2), [], lambda x: _fourier(x, n=8)),
    "shorter": ("DFT", {"axis": 1, "dft_length": 5}, (6, 2), [], lambda x: _fourier(x, n=5)),
    "inverse": ("DFT", {"axis": 1, "inverse": True, "dft_length": 7}, (6, 2), [], _inverse),
    "half": ("DFT", {"axis": 1, "onesided": True}, (7, 1), [], _half),
    "real": (
        "DFT",
        {"axis": 1, "onesided": True, "inverse": True},
        (5, 2),
        [],
        lambda x: _real(x, 8),
    ),
    "odd": (
        "DFT",
        {"axis": 1, "onesided": True, "inverse": True, "dft_length": 7},
        (5, 2),
        [],
        lambda x: _real(x, 7),
    ),
    "frames": ("STFT", {"frame_step": 3}, (12, 1), [(6,)], _stft),
    "determinant": ("Det", {}, (3, 3), [], torch.det),
    "image": (
        "Col2Im",
        {"image_shape": (5, 6), "block_shape": (2, 3), "strides": (2, 1), "pads": (1, 0, 1, 0)},
        (12, 12),
        [],
        lambda x: f.fold(x, (5, 6), (2, 3), stride=(2, 1), padding=(1, 0)),
    ),
    "unpooled": (
        "MaxUnpool",
        {"kernel_shape": (2, 2), "strides": (2, 2)},
        (2, 2, 2),
        ["places"],
        lambda x, _: _unpooled(x),
    ),
    "recalled": (
        "LinearAttention",
        {"kv_num_heads": 1, "q_num_heads": 2},
        (4, 6),
        [[4, 3], [4, 2], [1, 3, 2], [4, 3], [4, 1]],
        _recalled,
    ),
    "centred": ("CenterCropPad", {"shape": (3, 5), "axes": (1, 2)}, (5, 3), [], _cut),
    "compressed": (
        "Compress",
        {"axis": 1},
        (4, 2),
        [np.array([True, False, True])],
        lambda x, _: x[:, [0, 2]],
    ),
    "batches": (
        "GatherND",
        {"batch_dims": 1},
        (4, 3),
        ["pairs"],
        lambda x, at: x.gather(1, at[:, :, :1].expand(-1, -1, 3)),
    ),
}


def _given(kind: Any, count: int, x: Array, random: np.random.Generator) -> Array:
    if isinstance(kind, np.ndarray):
        return kind
    if isinstance(kind, list):
        return random.normal(size=(count, *kind)).astype(np.float32)
    if isinstance(kind, tuple):
        return random.uniform(0.5, 2, kind).astype(np.float32)
    if kind == MIXED:
        return random.choice([0.0, 0.5, 0.5, -1.0, 2.0], (count, 3)).astype(np.float32)
    if kind == "places":
        return np.asarray(_places(count).numpy())
    if kind == "pairs":
        return random.integers(0, 4, (count, 2, 1))
    return random.integers(0, 4, (count, *((3,) if kind == AT else x.shape[2:])))


@pytest.mark.parametrize("name", some_of(CASES, ["product", "ignored", "fourier", "compressed"]))
def test_operators_have_torchs_gradients_when_compiled(name: str) -> None:
    op, fields, shape, kinds, theirs = CASES[name]
    random = np.random.default_rng(11)
    model = None
    for count in (3, 1, 8):
        x = random.choice([0.0, 0.5, -1.0, 1.5], (count, *shape))
        x = (x if any(k is MIXED for k in kinds) else x + random.normal(size=x.shape)).astype(
            np.float32
        )
        arrays = [x, *(_given(kind, count, x, random) for kind in kinds)]
        tensors = [torch.tensor(a, requires_grad=a.dtype == np.float32) for a in arrays]
        wrt = [f"x{i}" for i, a in enumerate(arrays) if a.dtype == np.float32]
        if "Loss" in op and fields.get("reduction", "mean") == "mean":
            wrt = ["x0"]
        y = theirs(*tensors)
        v = random.normal(size=y.shape).astype(np.float32)
        (y * torch.tensor(v)).sum().backward()
        model = model or _model(op, fields, arrays, kinds, wrt)
        names = [f"x{i}" for i in range(len(arrays))]
        found = model(**dict(zip(names, arrays, strict=True)), v=v)
        np.testing.assert_allclose(found["y"], y.detach().numpy(), rtol=1e-4, atol=1e-5)
        for own, tensor in zip(names, tensors, strict=True):
            if own in wrt:
                wanted = tensor.grad.numpy()
                np.testing.assert_allclose(found[f"d_y/d_{own}"], wanted, rtol=1e-4, atol=2e-5)


def _model(
    op: str,
    fields: dict[str, Any],
    arrays: Sequence[Array],
    kinds: Sequence[Any],
    wrt: Sequence[str],
) -> Model:
    build = Builder("one")
    names = []
    for number, array in enumerate(arrays):
        fixed = number and isinstance(kinds[number - 1], tuple | np.ndarray)
        form = array.shape if fixed else (N, *array.shape[1:])
        names.append(build.input(f"x{number}", TensorType(DType.of(array), form)))
    made = build(lookup("", op)(**fields), *names, outputs=["y"])
    return Model(build.graph(made)).gradient(wrt=wrt, vjp="v")


@pytest.mark.exhaustive
def test_places_that_are_computed() -> None:
    """Slices, pads, parts and elements of sequences, of which inputs say where they are."""
    text = """(float[N, 6] x, int64[1] first, int64[1] last, int64[2] pads, int64 at,
        int64[2] sizes, int64[2] shape) => (float[N, 1] y)
        <int64[1] axis = {1}, int64[1] every = {1}, int64[1] two = {2}> {
        cut = Slice (x, first, last, axis)
        wide = Pad <mode = "constant"> (cut, pads, , axis)
        left, right = Split <axis = 1> (x, sizes)
        parts = SplitToSequence <axis = 1> (x, sizes)
        one = SequenceAt (parts, at)
        column = Slice (x, every, two, axis)
        repeated = Expand (column, shape)
        all = Concat <axis = 1> (wide, left, one, right)
        squares = Mul (all, all)
        sum = ReduceSum (squares, axis)
        cubes = Mul (repeated, repeated)
        more = ReduceSum (cubes)
        y = Add (sum, more)
    }"""
    head = '<ir_version: 10, opset_import: ["" : 20]> g '
    model = Model(read(onnx.parser.parse_model(head + text))).gradient("y", "x", vjp="v")
    random = np.random.default_rng(3)
    for count, first, last, at in ((3, 1, 4, 1), (1, 0, 6, 0), (5, 2, 3, 1)):
        x = random.normal(size=(count, 6)).astype(np.float32)
        v = random.normal(size=(count, 1)).astype(np.float32)
        given = torch.tensor(x, requires_grad=True)
        wide = f.pad(given[:, first:last], (1, 2))
        left, right = given.split([4, 2], 1)
        parts = torch.cat([wide, left, (left, right)[at], right], 1)
        repeated = given[:, 1:2].expand(count, 2)
        y = (parts**2).sum(1, keepdim=True) + (repeated**2).sum()
        (y * torch.tensor(v)).sum().backward()
        lists = {"first": [first], "last": [last], "pads": [1, 2], "sizes": [4, 2]}
        arrays = {name: np.array(numbers) for name, numbers in lists.items()}
        arrays |= {"at": np.array(at), "shape": np.array([count, 2])}
        found = model(x=x, v=v, **arrays)["d_y/d_x"]
        np.testing.assert_allclose(found, given.grad.numpy(), rtol=1e-4, atol=1e-5)
