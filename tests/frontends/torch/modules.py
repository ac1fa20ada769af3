"""Modules as people write them, each with example inputs and the axes that are open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

__all__ = ["CASES", "Case", "Loop", "Sign", "mlp"]


class Case(NamedTuple):
    """A module, its arguments, and ``dynamic=``."""

    module: nn.Module
    example: Any
    dynamic: Any = None


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _trained(module: nn.Module) -> nn.Module:
    """Statistics of normalisations that are not those of the beginning."""
    for inner in module.modules():
        if isinstance(getattr(inner, "running_var", None), Tensor):
            inner.running_mean.copy_(_normal(*inner.running_mean.shape))
            inner.running_var.copy_(1 + _normal(*inner.running_var.shape).abs())
    return module


def mlp() -> Case:
    layers = (nn.Linear(7, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
    return Case(_trained(nn.Sequential(*layers)), _normal(4, 7))


def cnn() -> Case:
    first = (nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    second = (nn.Conv2d(8, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return Case(_trained(nn.Sequential(*first, *second)), _normal(2, 3, 16, 16))


# Recurrent ----------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self, cell: Any, **options: Any) -> None:
        super().__init__()
        self.cell = cell(5, 6, **options)

    def forward(self, x: Tensor) -> Any:
        return self.cell(x)


class FromStates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(5, 6, batch_first=True)

    def forward(self, x: Tensor, h0: Tensor, c0: Tensor) -> Tensor:
        found: Tensor = self.cell(x, (h0, c0))[0][:, -1]
        return found


def lstm() -> Case:
    options = {"bidirectional": True, "num_layers": 2, "batch_first": True}
    return Case(Recurrent(nn.LSTM, **options), _normal(3, 4, 5))


def lstm_of_any_length() -> Case:
    return Case(Recurrent(nn.LSTM), _normal(4, 3, 5), {"x": {0: "T", 1: "N"}})


def gru() -> Case:
    options = {"bidirectional": True, "batch_first": True}
    return Case(Recurrent(nn.GRU, **options), _normal(3, 4, 5), [{0: "N", 1: "T"}])


def rnn() -> Case:
    return Case(Recurrent(nn.RNN, nonlinearity="relu", bias=False), _normal(4, 3, 5), [{1: "N"}])


def states() -> Case:
    given = (_normal(3, 4, 5), _normal(1, 3, 6), _normal(1, 3, 6))
    return Case(FromStates(), given, [{0: "N"}, {1: "N"}, {1: "N"}])


# Attention ----------------------------------------------------------------------------------------


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        found: Tensor = self.encoder(x, src_key_padding_mask=mask).mean(1)
        return found


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, q: Tensor, k: Tensor, mask: Tensor) -> Any:
        return self.inner(q, k, k, key_padding_mask=mask)


def _mask(rows: int, length: int) -> Tensor:
    mask = torch.zeros(rows, length, dtype=torch.bool)
    mask[:, -1] = True
    return mask


def encoder() -> Case:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return Case(nn.TransformerEncoder(layer, 2), _normal(3, 5, 8))


def encoder_with_mask() -> Case:
    axes = {0: "N", 1: "T"}
    return Case(Masked(), (_normal(3, 5, 8), _mask(3, 5)), [axes, axes])


def attention() -> Case:
    return Case(Attention(), (_normal(3, 4, 8), _normal(3, 6, 8), _mask(3, 6)))


# Particles ----------------------------------------------------------------------------------------


class EdgeConvolution(nn.Module):
    def __init__(self, channels: int, features: int, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        first = (nn.Conv2d(2 * channels, features, 1, bias=False), nn.BatchNorm2d(features))
        second = (nn.Conv2d(features, features, 1, bias=False), nn.BatchNorm2d(features))
        self.edges = nn.Sequential(*first, nn.ReLU(), *second, nn.ReLU())
        self.shortcut = nn.Conv1d(channels, features, 1)

    def forward(self, points: Tensor, features: Tensor) -> Tensor:
        squares = (points**2).sum(1, keepdim=True)
        products = torch.matmul(points.transpose(2, 1), points)
        closeness = 2 * products - squares - squares.transpose(2, 1)
        nearest = closeness.topk(self.neighbours + 1, dim=-1)[1][:, :, 1:]
        _, channels, particles = features.shape
        index = nearest.unsqueeze(1).expand(-1, channels, -1, -1)
        others = features.unsqueeze(2).expand(-1, -1, particles, -1).gather(3, index)
        own = features.unsqueeze(-1).expand(-1, -1, -1, self.neighbours)
        edges = self.edges(torch.cat([own, others - own], 1)).mean(-1)
        return torch.relu(self.shortcut(features) + edges)


class ParticleNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.BatchNorm1d(4)
        self.first, self.second = EdgeConvolution(4, 8, 3), EdgeConvolution(8, 16, 3)
        self.last = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 5))

    def forward(self, points: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        far = (mask == 0) * 1e3
        x = self.first(points + far, self.scale(features) * mask) * mask
        x = self.second(x + far, x) * mask
        return torch.softmax(self.last(x.sum(-1) / mask.sum(-1).clamp(min=1)), 1)


class DeepSets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(3, 8), nn.GELU())
        self.all = nn.Linear(8, 2)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        h = self.each(x) * mask.unsqueeze(-1)
        largest = h.masked_fill(~mask.unsqueeze(-1), float("-inf")).amax(1)
        return self.all(h.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)), largest


def particlenet() -> Case:
    given = {
        "points": _normal(2, 2, 10),
        "features": _normal(2, 4, 10),
        "mask": torch.ones(2, 1, 10),
    }
    return Case(_trained(ParticleNet()), given, {name: {0: "N", 2: "P"} for name in given})


def deepsets() -> Case:
    axes = {0: "N", 1: "P"}
    return Case(DeepSets(), (_normal(3, 5, 3), _normal(3, 5) > -0.5), [axes, axes])


# Graphs -------------------------------------------------------------------------------------------


class Messages(nn.Module):
    """Sums, maxima and means over the edges that end at each node."""

    def __init__(self) -> None:
        super().__init__()
        self.node, self.edge = nn.Linear(3, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = self.node(x)
        source, target = edge_index[0], edge_index[1]
        sent = F.relu(self.edge(torch.cat([h[target], h[source] - h[target]], 1)))
        index = target.unsqueeze(1).expand_as(sent)
        none = torch.zeros_like(h)
        degree = torch.zeros(x.shape[0]).index_add(0, target, torch.ones(target.shape[0]))
        sums = none.index_add(0, target, sent) / degree.clamp(min=1).unsqueeze(1)
        largest = none.scatter_reduce(0, index, sent, "amax", include_self=False)
        means = none.scatter_reduce(0, index, sent, "mean", include_self=False)
        return sums + 2 * largest + 3 * means


class GraphAttention(nn.Module):
    """Softmax over the edges that end at each node, and one number for each of several graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.node, self.weight = nn.Linear(3, 4), nn.Linear(8, 1)

    def forward(self, x: Tensor, edge_index: Tensor, graph: Tensor, graphs: Tensor) -> Tensor:
        h = self.node(x)
        source, target = edge_index[0], edge_index[1]
        score = F.leaky_relu(self.weight(torch.cat([h[source], h[target]], 1)).squeeze(1), 0.2)
        largest = torch.zeros(x.shape[0]).scatter_reduce(
            0, target, score, "amax", include_self=False
        )
        part = (score - largest[target]).exp()
        total = torch.zeros(x.shape[0]).index_add(0, target, part)
        part = part / (total[target] + 1e-16)
        h = torch.zeros_like(h).index_add(0, target, part.unsqueeze(1) * h[source])
        return torch.zeros(graphs.shape[0], 4).index_add(0, graph, h)


def messages() -> Case:
    edges = torch.randint(0, 5, (2, 9), generator=torch.Generator().manual_seed(1))
    return Case(Messages(), (_normal(5, 3), edges), {"x": {0: "n"}, "edge_index": {1: "e"}})


def graph_attention() -> Case:
    edges = torch.randint(0, 5, (2, 9), generator=torch.Generator().manual_seed(1))
    given = (_normal(5, 3), edges, torch.tensor([0, 0, 1, 1, 1]), torch.zeros(2))
    axes = {"x": {0: "n"}, "edge_index": {1: "e"}, "graph": {0: "n"}, "graphs": {0: "N"}}
    return Case(GraphAttention(), given, axes)


# Flows and pictures -------------------------------------------------------------------------------


class Coupling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        nets = (nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4)) for _ in range(4))
        self.nets = nn.ModuleList(nets)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        log_det = torch.zeros(x.shape[0], dtype=x.dtype)
        for number, net in enumerate(self.nets):
            kept, moved = x.chunk(2, 1)[:: -1 if number % 2 else 1]
            scale, offset = net(kept).chunk(2, 1)
            moved = moved * torch.tanh(scale).exp() + offset
            log_det = log_det + torch.tanh(scale).sum(1)
            x = torch.cat([moved, kept] if number % 2 else [kept, moved], 1)
        return {"z": x, "log_det": log_det}


class Spline(nn.Module):
    """A rational quadratic spline, with as many bins between -3 and 3."""

    def __init__(self, bins: int = 5) -> None:
        super().__init__()
        self.bins, self.net = bins, nn.Linear(2, 2 * (3 * bins + 1))

    def forward(self, x: Tensor) -> Tensor:
        kept, moved = x[:, :2], x[:, 2:]
        bins, edge = self.bins, 3.0
        widths, heights, slopes = (
            self.net(kept).reshape(-1, 2, 3 * bins + 1).split([bins, bins, bins + 1], -1)
        )
        lines = [
            F.pad(torch.cumsum(F.softmax(t, -1) * (1 - 1e-3 * bins) + 1e-3, -1), (1, 0)) * 2 * edge
            - edge
            for t in (widths, heights)
        ]
        slopes = F.softplus(slopes) + 1e-3
        inside = (moved > -edge) & (moved < edge)
        at = moved.clamp(-edge + 1e-4, edge - 1e-4)
        index = torch.searchsorted(lines[0].contiguous(), at.unsqueeze(-1)) - 1
        index = index.clamp(0, bins - 1)
        x0, x1, y0, y1, d0, d1 = (
            t.gather(-1, index + k).squeeze(-1) for t in (*lines, slopes) for k in (0, 1)
        )
        t, slope = (at - x0) / (x1 - x0), (y1 - y0) / (x1 - x0)
        y = y0 + (y1 - y0) * (slope * t * t + d0 * t * (1 - t)) / (
            slope + (d0 + d1 - 2 * slope) * t * (1 - t)
        )
        return torch.cat([kept, torch.where(inside, y, moved)], 1)


class UNet(nn.Module):
    def __init__(self, up: nn.Module) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.up, self.last = up, nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.leaky_relu(self.first(x))
        b = F.silu(self.second(F.max_pool2d(a, 2)))
        return torch.sigmoid(self.last(torch.cat([a, self.up(b)], 1)))


def flow() -> Case:
    return Case(Coupling(), _normal(3, 4))


def spline() -> Case:
    return Case(Spline(), _normal(3, 4))


_PICTURE = {"x": {0: "N", 2: "H", 3: "W"}}


def unet() -> Case:
    return Case(UNet(nn.ConvTranspose2d(8, 4, 2, stride=2)), _normal(2, 1, 8, 8), _PICTURE)


def unet_bilinear() -> Case:
    up = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(8, 4, 1))
    return Case(UNet(up), _normal(2, 1, 8, 8), _PICTURE)


def unet_nearest() -> Case:
    up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 4, 1))
    return Case(UNet(up), _normal(2, 1, 8, 8))


# Types, arguments, control flow -------------------------------------------------------------------


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(20, 4, padding_idx=0), nn.Linear(4, 1)

    def forward(self, ids: Tensor, weight: Tensor) -> Tensor:
        found: Tensor = self.last((self.table(ids) * weight.unsqueeze(-1)).sum(1))
        return found


class Nested(nn.Module):
    """Arguments that are no tensors, lists and dicts of tensors, and outputs alike."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(7, 3)

    def forward(
        self,
        x: Tensor,
        twice: bool = False,
        more: Any = None,
        scale: float = 0.5,
        *,
        last: Tensor | None = None,
    ) -> Any:
        y = self.inner(x) * (2 * scale if twice else scale)
        if more is not None:
            y = y + more[0] - more[1]["k"]
        if last is not None:
            y = y * last
        return {"a": y, "b": (y.sum(1), None, x)}


class Sign(nn.Module):
    """A branch of Python that the numbers decide."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x * 2
        return x - 1


class Loop(nn.Module):
    """A loop of Python as long as the numbers say."""

    def forward(self, x: Tensor, rounds: Tensor) -> Tensor:
        for _ in range(int(rounds)):
            x = torch.tanh(x) + 1
        return x


def embedding() -> Case:
    ids = torch.randint(0, 20, (3, 6), generator=torch.Generator().manual_seed(1))
    return Case(Words(), (ids, _normal(3, 6)))


def nested() -> Case:
    more = [_normal(3, 3), {"k": _normal(3, 3)}]
    return Case(Nested(), {"x": _normal(3, 7), "twice": True, "more": more, "last": _normal(3, 1)})


def float64() -> Case:
    layers = (nn.Linear(7, 8), nn.ELU(), nn.Linear(8, 2))
    return Case(nn.Sequential(*layers).double(), _normal(4, 7).double())


def float16() -> Case:
    layers = (nn.Linear(7, 8), nn.GELU(), nn.Linear(8, 2))
    return Case(nn.Sequential(*layers).half(), _normal(4, 7).half())


def bfloat16() -> Case:
    layers = (nn.Linear(7, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    return Case(nn.Sequential(*layers).bfloat16(), _normal(4, 7).bfloat16())


def sign() -> Case:
    return Case(Sign(), _normal(3, 2))


def loop() -> Case:
    return Case(Loop(), (_normal(3, 2), torch.tensor(3)))


CASES: Mapping[str, Callable[[], Case]] = {
    made.__name__: made
    for made in (
        *(mlp, cnn, lstm, lstm_of_any_length, gru, rnn, states),
        *(encoder, encoder_with_mask, attention, particlenet, deepsets),
        *(messages, graph_attention, flow, spline, unet, unet_bilinear, unet_nearest),
        *(embedding, nested, float64, float16, bfloat16, sign, loop),
    )
}
