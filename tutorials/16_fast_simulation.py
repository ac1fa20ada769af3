"""Fast simulation: flow matching draws the showers of a calorimeter, one for each event.

toy_showers.py makes showers up and trains a network; the model integrates its velocity in a Loop,
from torch.randn on. Each event of an RDataFrame without any file draws a shower of its own, the
same one on any number of threads. Energy sums and profiles of 10^5 showers stand beside the truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import ROOT
import torch
from toy_showers import compared, trained

import sofie_rdf as sofie

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", default="out", type=Path, help="folder of the picture")
options = parser.parse_args()
options.out.mkdir(parents=True, exist_ok=True)


class Shower(torch.nn.Module):
    def __init__(self, velocity: torch.nn.Module, mean: torch.Tensor, spread: torch.Tensor) -> None:
        super().__init__()
        self.velocity, self.mean, self.spread = velocity, mean, spread
        self.steps = torch.tensor(12)

    def forward(self, energy: torch.Tensor) -> torch.Tensor:
        condition, x = torch.log(energy / 30), torch.randn(energy.shape[0], 8)
        for step in range(int(self.steps)):  # The midpoint rule.
            time, half = torch.ones_like(condition) * step / self.steps, 0.5 / self.steps
            middle = x + half * self.velocity(torch.cat([x, condition, time], 1))
            x = x + 2 * half * self.velocity(torch.cat([middle, condition, time + half], 1))
        return energy * torch.exp(x * self.spread + self.mean)


script = torch.jit.script(Shower(*trained()).eval())
model = sofie.from_torch(script, torch.full((4, 1), 20.0), name="shower", seed=7)
print(model)

# Events out of nothing: rdfentry_ says whose numbers are drawn.
ROOT.EnableImplicitMT()
df = ROOT.RDataFrame(100_000).Define("E", "10 * std::pow(10, (rdfentry_ % 1000) / 999.)")
drawn = sofie.define(df, "shower", model, ["E"]).AsNumpy(["E", "shower"])
figure = compared(drawn["E"], np.stack(drawn["shower"]))
figure.savefig(options.out / "16_fast_simulation.png", dpi=120)
