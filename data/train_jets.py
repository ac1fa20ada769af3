"""Train `jet_tagger.onnx` and `jet_energy.onnx` with events of tutorials/made_up_nanoaod.py.

    pip install torch==2.13.0 onnx onnxruntime numpy awkward uproot
    python tutorials/made_up_nanoaod.py jets.root --events 20000 --seed 2
    python data/train_jets.py jets.root

The tagger tells H -> bb from other jets of a large radius by at most 32 particles of each; the
other network gives the factor that corrects the pt of a jet of a small radius. The last fifth of
the events is left out of the training, and says how good they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import awkward as ak
import numpy as np
import onnxruntime
import torch
import uproot
from higgs_events import area_under_roc
from onnx_graph import Graph
from torch import nn

PARTICLES, BATCH, SEED = 32, 128, 1
TAGGER_EPOCHS, ENERGY_EPOCHS = 12, 30


def particles(events: ak.Array) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The tagger's inputs for all jets, and whether each is H -> bb."""
    jet = events.FatJetPFCands_jetIdx
    index = events.FatJetPFCands_pFCandsIdx
    pt = events.PFCands_pt[index]
    deta = events.PFCands_eta[index] - events.FatJet_eta[jet]
    dphi = events.PFCands_phi[index] - events.FatJet_phi[jet]
    dphi = (dphi + np.pi) % (2 * np.pi) - np.pi
    columns = {
        "pf_points": [deta, dphi],
        "pf_features": [np.log(pt), pt / events.FatJet_pt[jet], np.hypot(deta, dphi)],
    }
    counts = ak.flatten(ak.run_lengths(jet))  # The particles of a jet follow each other.
    hardest = ak.argsort(ak.unflatten(ak.flatten(pt), counts), ascending=False)[:, :PARTICLES]

    def padded(column: ak.Array) -> np.ndarray:
        found = ak.unflatten(ak.flatten(column), counts)[hardest]
        filled = ak.fill_none(ak.pad_none(found, PARTICLES, clip=True), 0.0)
        return ak.to_numpy(filled).astype("f4")

    feeds = {name: np.stack([padded(c) for c in listed], 1) for name, listed in columns.items()}
    feeds["pf_mask"] = padded(ak.ones_like(pt))[:, None]
    return feeds, ak.to_numpy(ak.flatten(events.FatJet_nBHadrons)) == 2


def energies(events: ak.Array) -> tuple[np.ndarray, np.ndarray]:
    """What is known of each jet, and generated over measured pt, of jets that have the former."""
    jets = {k: events[f"Jet_{k}"] for k in ("pt", "eta", "chHEF", "nConstituents", "genJetIdx")}
    known = jets["genJetIdx"] >= 0
    jets = {k: v[known] for k, v in jets.items()}
    rho = ak.broadcast_arrays(jets["pt"], events.fixedGridRhoFastjetAll)[1]
    columns = [np.log(jets["pt"]), abs(jets["eta"]), jets["chHEF"], jets["nConstituents"], rho]
    x = np.stack([ak.to_numpy(ak.flatten(c)).astype("f4") for c in columns], 1)
    ratio = events.GenJet_pt[jets["genJetIdx"]] / jets["pt"]
    return x, ak.to_numpy(ak.flatten(ratio)).astype("f4")


class Tagger(nn.Module):
    """The same layers for each particle, the mean over them, and layers for the jet."""

    def __init__(self) -> None:
        super().__init__()
        self.particle = nn.Sequential(nn.Conv1d(5, 32, 1), nn.ReLU(), nn.Conv1d(32, 32, 1))
        self.particle.append(nn.ReLU())
        self.jet = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(
        self, points: torch.Tensor, features: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        x = self.particle(torch.cat([points, features], 1)) * mask
        return self.jet(x.sum(2) / mask.sum(2).clamp(1))

    def save(self, path: Path) -> None:
        grow = Graph()
        x = grow.layers(grow("Concat", "pf_points", "pf_features", axis=1), self.particle)
        axis = grow.constant([2], np.int64)
        total = grow("ReduceSum", grow("Mul", x, "pf_mask"), axis, keepdims=0)
        count = grow("Max", grow("ReduceSum", "pf_mask", axis, keepdims=0), grow.constant(1))
        grow("Softmax", grow.layers(grow("Div", total, count), self.jet), axis=1, output="softmax")
        sizes = {"pf_points": 2, "pf_features": 3, "pf_mask": 1}
        inputs = {name: ["N", size, PARTICLES] for name, size in sizes.items()}
        grow.save(path, inputs, {"softmax": ["N", 2]})


class Energy(nn.Module):
    """(x - mean) / std, dense layers, and the exponential function."""

    def __init__(self, x: np.ndarray) -> None:
        super().__init__()
        self.mean, self.std = (torch.from_numpy(f(x, axis=0)) for f in (np.mean, np.std))
        self.dense = nn.Sequential(nn.Linear(5, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh())
        self.dense.append(nn.Linear(24, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(self.dense((x - self.mean) / self.std))

    def save(self, path: Path) -> None:
        grow = Graph()
        x = grow("Sub", "jet", grow.constant(self.mean))
        x = grow.layers(grow("Div", x, grow.constant(self.std)), self.dense)
        grow("Exp", x, output="factor")
        grow.save(path, {"jet": ["N", 5]}, {"factor": ["N", 1]})


def fit(network: nn.Module, loss: nn.Module, x: list, y: np.ndarray, epochs: int) -> None:
    """Adam with a learning rate that falls to zero."""
    x, y = [torch.from_numpy(a) for a in x], torch.from_numpy(y)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            loss(network(*(a[batch] for a in x)), y[batch]).backward()
            optimizer.step()
        schedule.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", help="what made_up_nanoaod.py has written")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="a folder")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    with uproot.open(options.file) as file:
        events = file["Events"].arrays()
    training, rest = events[: len(events) * 4 // 5], events[len(events) * 4 // 5 :]

    tagger = Tagger()
    feeds, labels = particles(training)
    fit(tagger, nn.CrossEntropyLoss(), list(feeds.values()), labels.astype("i8"), TAGGER_EPOCHS)
    tagger.save(path := options.output / "jet_tagger.onnx")
    feeds, labels = particles(rest)
    scores = onnxruntime.InferenceSession(path).run(None, feeds)[0][:, 1]
    print(f"AUC of {len(labels)} jets: {area_under_roc(scores, labels):.4f}")

    x, ratio = energies(training)
    energy = Energy(x)
    fit(energy, nn.HuberLoss(delta=0.1), [x], ratio[:, None], ENERGY_EPOCHS)
    energy.save(path := options.output / "jet_energy.onnx")
    x, ratio = energies(rest)
    factor = onnxruntime.InferenceSession(path).run(None, {"jet": x})[0][:, 0]
    for what, response in (("measured", 1 / ratio), ("corrected", factor / ratio)):
        low, middle, high = np.percentile(response, (16, 50, 84))
        print(f"{what} over generated pt: {middle:.3f}, spread {(high - low) / 2:.3f}")


if __name__ == "__main__":
    main()
