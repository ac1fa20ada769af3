"""Modules that neither torch.export nor TorchScript takes: a trace, and what it must not hide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import sofie_rdf as sofie
from sofie_rdf.frontends.common.agreement import rounding
from sofie_rdf.frontends.torch import reader as frontend
from sofie_rdf.frontends.torch.calls import quiet
from sofie_rdf.ir.graph import Graph
from sofie_rdf.reference import evaluate
from tests.frontends.torch.oracle import assert_same

SET = {"x": {0: "N", 1: "P"}, "mask": {0: "N", 1: "P"}}


def padded(rows: int, length: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sets of up to so many particles, the first one full and the last one empty."""
    state = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, length, 3, generator=state)
    lengths = torch.randint(1, length + 1, (rows, 1), generator=state)
    lengths[-1], lengths[0] = 0, length
    mask = (torch.arange(length) < lengths).float()
    return x * mask.unsqueeze(-1), mask


class Tagger(nn.Module):
    """The steps of a particle transformer that torch.export refuses.

    Its first calls are counted, then sets are cut to the longest one; features of pairs are those
    of real ones alone; and a set may be empty, so that its queries attend to nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pairs, self.last = nn.Linear(3, 4), nn.Linear(2, 2), nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(1, dtype=torch.long), persistent=False)

    def cut(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self.calls < 5:
            self.calls.add_(1)
            return x, mask
        longest = mask.sum(1).max().long().clamp(min=1)
        return (x[:, :longest], mask[:, :longest]) if longest < mask.shape[1] else (x, mask)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x, mask = self.cut(x, mask)
        rows, length, _ = x.shape
        (row, one, other) = (...,) * 3  # type: ignore[assignment]
        row, one, other = (mask.unsqueeze(1) * mask.unsqueeze(2)).nonzero(as_tuple=True)
        difference = x.unsqueeze(1) - x.unsqueeze(2)
        found = torch.stack([difference[..., 0] ** 2, difference[..., 1] * 2], -1)
        bias = torch.zeros(rows, length, length, 2)
        bias[row, one, other, :] = self.pairs(found[row, one, other, :])
        hidden = torch.zeros_like(mask).masked_fill_(mask == 0, -torch.inf)
        scores = bias.permute(0, 3, 1, 2) + hidden[:, None, None, :]
        heads = self.first(x).unflatten(-1, (2, 2)).transpose(1, 2)
        y = F.scaled_dot_product_attention(heads, heads, heads, scores).transpose(1, 2)
        far = difference.square().sum(-1).topk(1).indices.expand(-1, -1, 3)
        result: Tensor = self.last(y.flatten(2) + self.first(x.gather(1, far))).sum(1)
        return result


@pytest.fixture(scope="module")
def tagger() -> tuple[Tagger, Graph]:
    torch.manual_seed(0)
    module = Tagger()
    return module, frontend.read(module, example_inputs=padded(3, 5), dynamic=SET)


@pytest.mark.parametrize(("rows", "length"), [(3, 5), (2, 1), (7, 12)])
def test_a_particle_transformer(tagger: tuple[Tagger, Graph], rows: int, length: int) -> None:
    module, graph = tagger
    x, mask = padded(rows, length, 3)
    for given in ((x, mask), (torch.zeros_like(x), mask), (x, torch.ones_like(mask))):
        for calls in (0, 5):
            module.calls.fill_(calls)
            assert_same(graph, module, given)


def test_lines_that_decided_something_are_named(tagger: tuple[Tagger, Graph]) -> None:
    module, graph = tagger
    assert "by a trace" in graph.provenance["producer"]
    assert "stayed what Python decides in test_traces.py:" in graph.provenance["producer"]
    module.calls.zero_()
    frontend.read(module, example_inputs=padded(3, 5), dynamic={})
    assert module.calls.item() == 0


# A query that may attend to nothing ---------------------------------------------------------------


class Attending(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.kind == "bool":
            return F.scaled_dot_product_attention(x, x, x, mask > 0)
        if self.kind == "causal":
            return F.scaled_dot_product_attention(x, x, x, is_causal=True) * mask[..., :1]
        if self.kind == "heads":
            keys = x[:, :1]
            return F.scaled_dot_product_attention(x, keys, keys, torch.log(mask), enable_gqa=True)
        if self.kind == "no heads":
            x, mask = x[:, 0], mask[:, 2]
        if self.kind == "scale":
            return F.scaled_dot_product_attention(x, x, x, torch.log(mask), scale=0.3)
        return F.scaled_dot_product_attention(x, x, x, torch.log(mask))


KINDS = ("bool", "causal", "scale", "no heads", "plain", "heads")


class Several(nn.Module):
    """One module of these kinds: each export takes more than a second, a trace little."""

    def __init__(self, *kinds: str) -> None:
        super().__init__()
        self.kinds = nn.ModuleList(map(Attending, kinds))

    def forward(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        return [kind(x, mask) for kind in self.kinds]


@pytest.mark.parametrize("traced", [*KINDS[:-1], ""])
def test_attention_to_nothing_is_zero(traced: str) -> None:
    """torch's exporters gave NaN or the mean of all values where torch gives 0."""
    state = torch.Generator().manual_seed(1)
    x, mask = torch.randn(2, 3, 4, 4, generator=state), torch.ones(2, 3, 4, 4)
    module = Attending(traced) if traced else Several(*KINDS)
    with quiet():
        given = torch.jit.trace(module, (x, mask)) if traced else module
    graph = frontend.read(given, example_inputs=(x, mask))
    mask[1, 2, 1] = 0
    mask[0, :, :, 2:] = 0
    assert_same(graph, module, (x, mask))


def test_a_trace_of_grouped_heads_is_refused() -> None:
    x = torch.randn(2, 3, 4, 4)
    with quiet():
        traced = torch.jit.trace(Attending("heads"), (x, torch.ones_like(x)))
    with pytest.raises(sofie.UnsupportedOperator, match="enable_gqa=True"):
        frontend.read(traced, example_inputs=(x, torch.ones_like(x)))


class Encoder(nn.Module):
    def __init__(self, *, is_nested: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.inner = nn.TransformerEncoder(layer, 1, enable_nested_tensor=is_nested)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        found: Tensor = self.inner(x, src_key_padding_mask=mask).sum(1)
        return found


def test_what_a_mask_hides_is_compared() -> None:
    """In evaluation torch gives zeros where a mask is true: the example has no such mask."""
    example = torch.randn(3, 4, 4), torch.zeros(3, 4, dtype=torch.bool)
    with quiet():
        nested = Encoder(is_nested=True)
    with pytest.raises(sofie.ModelError, match=r"with masks of ones.*use_nested_tensor to False"):
        frontend.read(nested, example_inputs=example)


@pytest.mark.exhaustive
def test_what_the_error_on_masks_says_helps() -> None:
    example = torch.randn(3, 4, 4), torch.zeros(3, 4, dtype=torch.bool)
    with quiet():
        nested = Encoder(is_nested=True)
    nested.inner.use_nested_tensor = False
    graph = frontend.read(nested, example_inputs=example)
    example[1][:, 2:] = True
    assert_same(graph, nested, example)


# What a trace must not hide -----------------------------------------------------------------------


class Deciding(nn.Module):
    """A branch that the numbers decide, in words that TorchScript does not have."""

    def __init__(self, decide: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.decide = decide

    def forward(self, x: Tensor) -> Tensor:
        places = (...,)
        return x[places] * 2 if self.decide(x) else x[places] - 1


@pytest.mark.parametrize(
    "decide",
    [
        lambda x: x.sum() > 0,
        lambda x: x.abs().max() > 50,
        lambda x: x.abs().max() < 1e-2,
        lambda x: (x == 0).any(),
        lambda x: (x == 0).all(),
        lambda x: (x > 0).all(),
        lambda x: x.shape[0] < 13 and x.max() < 1e3,
    ],
)
def test_a_branch_that_is_missing_is_refused(decide: Callable[[Tensor], Any]) -> None:
    torch.manual_seed(0)
    with pytest.raises(sofie.ModelError, match="differs from torch") as refused:
        frontend.read(Deciding(decide), example_inputs=torch.randn(3, 4))
    assert "torch.export cannot export it" in str(refused.value)
    assert "also tried: torch.jit.script: " in str(refused.value)
    assert "a trace: " in str(refused.value)


class Normalised(nn.Module):
    def __init__(self, size: Any, **options: Any) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(size, **options)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(x)
        return found


@pytest.mark.parametrize(
    ("size", "options"),
    [(4, {}), ((3, 4), {"eps": 0.1}), (4, {"elementwise_affine": False, "dtype": torch.float64})],
)
def test_root_mean_squares_of_a_trace(size: Any, options: dict[str, Any]) -> None:
    x = torch.randn(2, 3, 4, dtype=options.get("dtype"))
    with quiet():
        traced = torch.jit.trace(Normalised(size, **options), x)
    assert_same(frontend.read(traced, example_inputs=x), Normalised(size, **options), x)


class Seen(nn.Module):
    """What it has seen changes what it gives, from its third call on."""

    def __init__(self, *, is_replaced: bool) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.is_replaced = is_replaced

    def forward(self, x: Tensor) -> Tensor:
        if self.is_replaced:
            self.seen = self.seen + 1
        else:
            self.seen += 1
        return x * (self.seen - 2).clamp(min=1)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_what_changes_from_call_to_call_is_refused(is_replaced: bool) -> None:
    module = Seen(is_replaced=is_replaced)
    with pytest.raises(sofie.ModelError, match=r"called again .*call 4"):
        frontend.read(module, example_inputs=torch.ones(2, 2))
    assert module.seen.item() == 0


class Derivative(nn.Module):
    """Of a network in it, as energies have forces and continuous flows have traces."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.requires_grad_()
            (found,) = torch.autograd.grad(self.inner(x).sum(-1), x, torch.ones(len(x)))
        return found


def test_derivatives_are_named() -> None:
    with pytest.raises(sofie.UnsupportedOperator, match=r"forward computes derivatives"):
        frontend.read(Derivative(), example_inputs=torch.randn(3, 4))


class Counted(nn.Module):
    """Python's len, which a trace keeps, and numbers that are drawn apart by words of its own."""

    def forward(self, x: Tensor) -> Tensor:
        places = (...,)
        return x[places].reshape(len(x), 2, -1).sum(-1) if x.sum() != 12345.0 else x


def test_a_size_that_a_trace_keeps_is_refused() -> None:
    """The network had that size alone, and nobody said so."""
    with pytest.raises(sofie.ModelError, match=r"keeps axis 0 \('N'\)|with N ="):
        frontend.read(Counted(), example_inputs=torch.randn(3, 4))
    graph = frontend.read(Counted(), example_inputs=torch.randn(3, 4), dynamic={})
    assert str(graph.types["x"]) == "float32[3, 4]"


class Exponential(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.matrix_exp(x)


@pytest.mark.exhaustive
def test_the_exponential_of_a_matrix() -> None:
    """A rotation, as Gaussianization flows have it; matrices with too large numbers are NaN."""
    x = torch.randn(3, 4, 4)
    graph = frontend.read(Exponential(), example_inputs=x - x.mT)
    assert_same(graph, Exponential(), 3 * (x - x.mT))
    assert_same(graph, Exponential(), torch.zeros(2, 4, 4))
    (found,) = evaluate(graph, {graph.inputs[0]: np.full((1, 4, 4), 9, np.float32)}).values()
    assert np.isnan(found).all()


def test_squares_of_negative_numbers_are_rounded() -> None:
    """An exponent that is no whole number made NaN of them, which explained nothing."""
    module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    graph = frontend.read(_Square(module), example_inputs=torch.randn(3, 4))
    given = {graph.inputs[0]: -np.ones((3, 4), np.float32)}
    assert 0 < rounding(graph, given, evaluate(graph, given))["output"] < 1e-3


class _Square(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner((x - 1) ** 2.0)
        return found
