"""Complex tensors inside of a module, beside torch; and what says that they are complex."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import sofie_rdf as sofie
from sofie_rdf.frontends.torch import reader as frontend
from sofie_rdf.frontends.torch.calls import quiet
from tests.choice import every, some_of
from tests.frontends.torch.oracle import assert_same


class Spectral1(nn.Module):
    """The lowest frequencies times a matrix of complex weights, as Fourier neural operators do."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        found = torch.fft.rfft(x)
        result = torch.zeros(*x.shape[:2], x.shape[-1] // 2 + 1, dtype=torch.cfloat)
        result[..., :3] = torch.einsum("bix,iox->box", found[..., :3], self.weight)
        return torch.fft.irfft(result, n=x.shape[-1])


class Spectral2(nn.Module):
    """Of pictures: low frequencies of both signs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        weights = torch.randn(2, channels, channels, 3, 3, dtype=torch.cfloat)
        self.first, self.second = nn.Parameter(weights[0]), nn.Parameter(weights[1])

    def forward(self, x: Tensor) -> Tensor:
        found, (rows, columns) = torch.fft.rfft2(x), x.shape[2:]
        result = torch.zeros(*x.shape[:2], rows, columns // 2 + 1, dtype=torch.cfloat)
        for place, weight in ((slice(None, 3), self.first), (slice(-3, None), self.second)):
            part = found[:, :, place, :3]
            result[:, :, place, :3] = torch.einsum("bixy,ioxy->boxy", part, weight)
        return torch.fft.irfft2(result, s=(rows, columns))


class Operator(nn.Module):
    """A Fourier neural operator of so many layers."""

    def __init__(self, spectral: Any, convolution: Any, layers: int) -> None:
        super().__init__()
        self.first, self.last = convolution(1, 4, 1), convolution(4, 1, 1)
        self.spectral = nn.ModuleList([spectral(4) for _ in range(layers)])
        self.local = nn.ModuleList([convolution(4, 4, 1) for _ in range(layers)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for spectral, local in zip(self.spectral, self.local, strict=True):
            x = F.gelu(spectral(x) + local(x))
        found: Tensor = self.last(x)
        return found


@pytest.mark.parametrize(
    ("module", "shape", "dynamic"),
    [
        (lambda: Operator(Spectral1, nn.Conv1d, 1), (2, 1, 16), {"x": {0: "N", 2: "L"}}),
        pytest.param(
            *(lambda: Operator(Spectral2, nn.Conv2d, 2), (2, 1, 8, 10), None),
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_fourier_neural_operators(module: Any, shape: tuple[int, ...], dynamic: Any) -> None:
    torch.manual_seed(0)
    operator = module()
    graph = frontend.read(operator, example_inputs=torch.randn(shape), dynamic=dynamic)
    for rows in (1, 5):
        assert_same(graph, operator, torch.randn(rows, *shape[1:]))
    if dynamic:
        assert_same(graph, operator, torch.randn(2, 1, 23))


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Layer(nn.Module):
    """A complex layer, and all that a complex number has."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3, dtype=torch.cfloat)

    def forward(self, x: Tensor) -> Tensor:
        z = self.inner(torch.complex(x, 1 - x))
        return torch.cat([z.real, z.imag, z.abs(), z.angle(), z.conj().imag], -1)


def z(x: Tensor) -> Tensor:
    return torch.complex(x, x.flip(-1) - 0.5)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "product in Fourier space": lambda x: torch.fft.ifft2(torch.fft.fft2(x).conj() * z(x)).real,
    "einsum of three": lambda x: torch.einsum("ni,nj,nk->ijk", z(x), x, z(x)[:, :2]).sum(0).real,
    "matmul": lambda x: (z(x) @ z(x).mT).abs().sum(-1),
    "polar": lambda x: (torch.polar(x.abs(), x) / z(x)).imag,
    "exp, log": lambda x: (torch.exp(z(x)) + torch.log(z(x))).imag,
    "sqrt": lambda x: torch.view_as_real(torch.sqrt(z(x))),
    "powers": lambda x: (z(x) ** 3 + z(x).square()).real,
    "moved": lambda x: torch.fft.fftshift(torch.cat([z(x), z(x)[:, [2, 0]]], -1), dim=-1).imag,
    "chosen": lambda x: torch.where(x > 0, z(x), torch.ones_like(z(x))).masked_fill(x > 1, 2).imag,
    "padded": lambda x: (F.pad(z(x), (1, 2), value=3.0).cumsum(-1) * (2 + 1j)).real,
    "written": lambda x: torch.zeros_like(z(x)).index_add(1, torch.tensor([0, 0, 3, 1]), z(x)).imag,
}


@pytest.mark.parametrize("name", some_of(sorted(FUNCTIONS), ["sqrt", "written"]))
def test_functions(name: str) -> None:
    torch.manual_seed(1)
    module = Function(FUNCTIONS[name])
    graph = frontend.read(module, example_inputs=torch.randn(3, 4))
    assert_same(graph, module, torch.randn(3, 4))
    assert_same(graph, module, -torch.ones(2, 4))


def test_a_complex_layer() -> None:
    module = Layer()
    assert_same(frontend.read(module, example_inputs=torch.randn(3, 4)), module, torch.randn(5, 4))


@pytest.mark.parametrize(
    "function",
    every(
        4,
        [
            lambda x: torch.tanh(z(x)).real,
            lambda x: torch.linalg.inv(z(x[:, :1, None] + 1)).real,
            lambda x: z(x).prod(-1).real,
            lambda x: z(x),
        ],
    ),
)
def test_what_is_missing_says_that_it_is_complex(function: Any) -> None:
    with pytest.raises(sofie.SofieError, match=r"of complex numbers|gives complex numbers"):
        frontend.read(Function(function), example_inputs=torch.randn(3, 4))


def test_a_trace_says_that_it_is_complex() -> None:
    with quiet():
        traced = torch.jit.trace(Function(lambda x: torch.tanh(z(x)).real), torch.randn(3, 4))
    with pytest.raises(sofie.SofieError, match="complex"):
        frontend.read(traced, example_inputs=torch.randn(3, 4))


def test_complex_inputs_are_refused() -> None:
    with pytest.raises(sofie.InputError, match="input 'x' has complex numbers"):
        frontend.read(Function(lambda x: x.real), example_inputs=z(torch.randn(3, 4)))
