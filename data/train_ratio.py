"""Train `likelihood_ratio.onnx`, a likelihood ratio that depends on two parameters.

    pip install torch==2.13.0 onnx onnxruntime numpy
    python data/train_ratio.py

A quantity z with mean mu and spread sigma is measured twice, x1 and x2, with errors of 0.5 and 0.8.
The classifier tells events of (mu, sigma), which are drawn anew for each event and are features of
it, from events of mu = 0 and sigma = 1.2; its logarithm of odds is that of the ratio of densities.
The simulation knows the probability of each class, which is in the place of the label (ALICE,
arXiv:1808.00973). The network is a sum of quadratic functions of x1 and x2, each multiplied with a
function of the parameters: a fit of 10^5 events needs a ratio that is exact to 10^-3.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnx_graph import Graph
from torch import nn

ERRORS, REFERENCE = (0.5, 0.8), (0.0, 1.2)
LOW, HIGH = torch.tensor([-0.5, 0.75]), torch.tensor([0.5, 1.3])
SCALE, MIDDLE, HALF = 1.5, (LOW + HIGH) / 2, (HIGH - LOW) / 2
EVENTS, STEPS, QUADRATIC, SEED = 8_000, 250, 4, 1


def log_density(x: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Of x1 and x2, whose covariance is sigma^2 and the squares of the errors on the diagonal."""
    precision = torch.tensor(ERRORS) ** -2
    distance, variance = x - theta[:, :1], theta[:, 1] ** 2
    common = 1 + variance * precision.sum()
    square = (distance**2 * precision).sum(1)
    return -0.5 * (square - variance / common * (distance * precision).sum(1) ** 2 + common.log())


def draw(count: int, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Events, the parameters that are features of them, and the logarithm of the ratio."""
    theta = LOW + (HIGH - LOW) * torch.rand(count, 2, generator=random)
    reference = torch.tensor(REFERENCE).expand(count, 2)
    drawn = torch.where(torch.arange(count)[:, None] % 2 == 0, theta, reference)
    z = drawn[:, :1] + drawn[:, 1:] * torch.randn(count, 1, generator=random)
    x = z + torch.tensor(ERRORS) * torch.randn(count, 2, generator=random)
    ratio = log_density(x, theta) - log_density(x, reference)
    return torch.cat([x, theta], 1), ratio


class Ratio(nn.Module):
    """Linear functions of what is measured, their squares, and how much of each there is."""

    def __init__(self) -> None:
        super().__init__()
        self.measured = nn.Sequential(nn.Linear(2, QUADRATIC))
        self.amounts = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh())
        self.amounts.append(nn.Linear(12, 2 * QUADRATIC))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        linear = self.measured(x[:, :2] / SCALE)
        factors = self.amounts((x[:, 2:] - MIDDLE) / HALF)
        return (torch.cat([linear, linear * linear], 1) * factors).sum(1)

    def save(self, path: Path) -> None:
        grow = Graph()
        ends = [grow.constant([n], np.int64) for n in (0, 2, 4, 1)]
        measured = grow("Slice", "features", ends[0], ends[1], ends[3])
        theta = grow("Slice", "features", ends[1], ends[2], ends[3])
        linear = grow.layers(grow("Div", measured, grow.constant(SCALE)), self.measured)
        theta = grow("Div", grow("Sub", theta, grow.constant(MIDDLE)), grow.constant(HALF))
        both = grow("Concat", linear, grow("Mul", linear, linear), axis=1)
        terms = grow("Mul", both, grow.layers(theta, self.amounts))
        grow("ReduceSum", terms, ends[3], keepdims=1, output="log_ratio")
        grow.save(path, {"features": ["N", 4]}, {"log_ratio": ["N", 1]})


def train(x: torch.Tensor, ratio: torch.Tensor) -> Ratio:
    """The classifier, whose cross-entropy is brought to its minimum by damped Newton steps."""
    network, wanted = Ratio(), torch.sigmoid(ratio)
    names, shapes = zip(*((n, p.shape) for n, p in network.named_parameters()), strict=True)
    vector = nn.utils.parameters_to_vector(network.parameters()).detach()

    def one(vector: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
        parts = vector.split([shape.numel() for shape in shapes])
        named = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return torch.func.functional_call(network, named, (event[None],))[0]

    def loss(vector: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs(vector, x), wanted)

    outputs = torch.func.vmap(one, (None, 0))
    slopes = torch.func.vmap(torch.func.grad(one), (None, 0))
    damping, known = 1e-2, loss(vector)
    for _ in range(STEPS):
        jacobian, score = slopes(vector, x), torch.sigmoid(outputs(vector, x))
        slope = jacobian.T @ (score - wanted) / len(x)
        curvature = jacobian.T @ (jacobian * (score * (1 - score))[:, None]) / len(x)
        curvature += damping * curvature.diag().diag() + 1e-14 * torch.eye(len(vector))
        moved = vector - torch.linalg.solve(curvature, slope)
        new = loss(moved)
        if new < known:
            vector, known, damping = moved, new, damping / 3
        else:
            damping *= 4
    nn.utils.vector_to_parameters(vector, network.parameters())
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="a folder")
    options = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(SEED)
    x, ratio = draw(EVENTS, random)
    network = train(x, ratio)
    network.save(path := options.output / "likelihood_ratio.onnx")

    x, ratio = draw(100_000, random)
    features = {"features": x.numpy().astype(np.float32)}
    found = onnxruntime.InferenceSession(path).run(None, features)[0][:, 0]
    print(f"logarithm of the ratio of other events: off by {np.std(found - ratio.numpy()):.6f}")


if __name__ == "__main__":
    main()
