"""A fit with a neural likelihood ratio: Minuit2 with the gradients of the network.

A classifier (data/train_ratio.py) has learnt a ratio of densities that depends on mu and sigma.
-2 log of it is added up over events and minimised. Pulls of many toys say if the errors are right.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import ROOT
from matplotlib.figure import Figure

import sofie_rdf as sofie

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--toys", default=200, type=int, help="how many toys are fitted")
parser.add_argument("--out", default="out", type=Path, help="folder of the picture")
options = parser.parse_args()
options.out.mkdir(parents=True, exist_ok=True)
model = sofie.load(Path(__file__).resolve().parents[1] / "data/likelihood_ratio.onnx")
model = model.named(features=["x1", "x2", "mu", "sigma"])
ROOT.EnableImplicitMT()
EVENTS, TRUTH = 100_000, {"mu": 0.1, "sigma": 1.0}


def fit(toy: int, gradient: bool) -> tuple[list[float], int, float]:
    """The pulls of both parameters, how often the sum was computed, and how long that took."""
    random = np.random.default_rng(toy)
    z = random.normal(TRUTH["mu"], TRUTH["sigma"], EVENTS)  # It is measured twice.
    events = {"x1": random.normal(z, 0.5), "x2": random.normal(z, 0.8)}
    function = sofie.fit.function(model, events, ["mu", "sigma"], reduce="-2sum")
    value = lambda x: function(x[0], x[1])  # noqa: E731 (ROOT refers to it only)
    minimizer = ROOT.Math.Factory.CreateMinimizer("Minuit2", "Migrad")
    plain = ROOT.Math.Functor(value, 2)
    minimizer.SetFunction(function if gradient else plain)
    minimizer.SetStrategy(0)  # Others ask for second derivatives, by differences.
    minimizer.SetLimitedVariable(0, "mu", 0.0, 0.1, -0.5, 0.5)
    minimizer.SetLimitedVariable(1, "sigma", 1.2, 0.1, 0.75, 1.3)
    began = time.perf_counter()
    assert minimizer.Minimize()
    took, found, errors = time.perf_counter() - began, minimizer.X(), minimizer.Errors()
    pulls = [(found[i] - true) / errors[i] for i, true in enumerate(TRUTH.values())]
    return pulls, minimizer.NCalls(), took


axes = (figure := Figure((9, 4), layout="constrained")).subplots(1, 2)
for gradient, way in ((True, "with gradients"), (False, "without")):
    fits = [fit(toy, gradient) for toy in range(options.toys)]
    pulls, calls, times = (np.array(numbers) for numbers in zip(*fits, strict=True))
    print(f"{way}: {calls.mean():.1f} calls and {np.median(times):.3f} s for a fit")
    for pull, name, axis in zip(pulls.T, TRUTH, axes, strict=True):
        print(f"{way}: pull of {name} has mean {pull.mean():.3f} and width {pull.std(ddof=1):.3f}")
        axis.hist(pull, 24, (-4, 4), histtype="step", fill=gradient, label=way)
        axis.legend(title=f"pull of {name}", loc="upper left")
figure.savefig(options.out / "17_likelihood_fit.png", dpi=120)
