"""Showers of a calorimeter that are made up, and a network that is trained to draw them.

Flow matching (Lipman et al. 2022): on a straight way from a normal number to a shower the network
learns the velocity, for any point on the way and any energy.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

__all__ = ["LAYERS", "compared", "toy", "trained"]

LAYERS = 8


def toy(energy: np.ndarray, seed: int) -> np.ndarray:
    """GeV in each layer: a gamma distribution in depth that fluctuates, and a sampling term."""
    random = np.random.default_rng(seed)
    peak = 1.6 + 0.55 * np.log(energy / 10) + 0.35 * random.normal(size=energy.shape)
    width = np.exp(0.12 * random.normal(size=energy.shape))
    depth = np.arange(LAYERS) + 0.5
    log = (peak / width)[:, None] * np.log(depth) - depth / width[:, None]
    share = np.exp(log - log.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    seen = energy * (0.9 + 0.1 / np.sqrt(energy) * random.normal(size=energy.shape))
    noise = np.exp(0.12 * random.normal(size=share.shape))
    return (seen[:, None] * share * noise).astype(np.float32)


def _examples() -> tuple[torch.Tensor, torch.Tensor]:
    """The condition, log(E / 30 GeV), and the logarithm of each layer's part of E."""
    energy = np.exp(np.random.default_rng(2).uniform(np.log(10), np.log(100), 50_000))
    parts = np.log(toy(energy, 3) / energy[:, None]).astype(np.float32)
    condition = np.log(energy / 30).astype(np.float32)[:, None]
    return torch.from_numpy(condition), torch.from_numpy(parts)


def trained(steps: int = 1000) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """The velocity, a network of [x, condition, time] side by side, and the mean and the spread of
    the logarithms: x is (logarithm - mean) / spread. They are the same each time.
    """
    torch.manual_seed(1)
    condition, parts = _examples()
    mean, spread = parts.mean(0), parts.std(0)
    target, silu = (parts - mean) / spread, torch.nn.SiLU()
    sizes = ((LAYERS + 2, 64), (64, 64), (64, LAYERS))
    first, second, last = (torch.nn.Linear(*pair) for pair in sizes)
    velocity = torch.nn.Sequential(first, silu, second, silu, last)
    adam = torch.optim.Adam(velocity.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        chosen = torch.randint(0, len(target), (512,))
        noise, time = torch.randn(512, LAYERS), torch.rand(512, 1)
        way = noise + time * (target[chosen] - noise)
        found = velocity(torch.cat([way, condition[chosen], time], 1))
        loss = ((found - (target[chosen] - noise)) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    return velocity, mean, spread


def compared(energy: np.ndarray, drawn: np.ndarray) -> Figure:
    """Energy sums and profiles beside those of made-up showers; their numbers are printed."""
    depth, style = np.arange(LAYERS) + 0.5, {"toy": "k", "drawn": "C1"}
    left, right = (figure := Figure((9, 3.6), layout="constrained")).subplots(1, 2)
    for name, showers in (("toy", toy(energy, 4)), ("drawn", drawn)):
        for low, high, line in ((10, 15, "-"), (80, 100, "--")):
            chosen = (energy >= low) & (energy < high)
            response = showers[chosen].sum(1) / energy[chosen]
            profile = (showers[chosen] / energy[chosen, None]).mean(0)
            look = {"ls": line, "color": style[name]}
            left.hist(response, 60, range=(0.6, 1.2), density=True, histtype="step", **look)
            right.plot(depth, profile, label=f"{name}, {low} to {high} GeV", **look)
            numbers = response.mean(), response.std(), profile @ depth / profile.sum()
            text = "{} showers, response {:.4f} +- {:.4f}, mean depth {:.3f}"
            print(f"{name}, {low} to {high} GeV:", text.format(chosen.sum(), *numbers))
    left.set(xlabel="energy sum / E", ylabel="showers (normalised)")
    right.set(xlabel="depth in layers", ylabel="energy in the layer / E")
    right.legend(fontsize=8)
    return figure
