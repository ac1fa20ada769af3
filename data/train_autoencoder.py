"""Train `higgs_autoencoder.onnx` with top-quark pairs only, of the events of `higgs.onnx`.

    pip install torch==2.13.0 onnx onnxruntime numpy uproot
    python data/train_autoencoder.py --data path/to/Higgs_data.root

Without `--data` the file is looked for in the ROOT installation of this Python. The network brings
the logarithms of seven masses down to three numbers and gives the masses back, and how much they
differ. The held-out events say what the error is for what it knows, and for the signal.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from higgs_events import area_under_roc, find_higgs_data, read_events, split_events
from onnx_graph import Graph
from torch import nn

BATCH, EPOCHS, SEED = 128, 40, 1


def train(z: torch.Tensor) -> nn.Sequential:
    """The network that gives back what it is given, through a layer of three."""
    layers = [nn.Linear(7, 24), nn.Tanh(), nn.Linear(24, 3), nn.Linear(3, 24), nn.Tanh()]
    network = nn.Sequential(*layers, nn.Linear(24, 7))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(z)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(z[batch]), z[batch]).backward()
            optimizer.step()
        schedule.step()
    return network


def save(network: nn.Sequential, mean: np.ndarray, std: np.ndarray, path: Path) -> None:
    """The network from masses to masses, and the error as an output of its own."""
    grow = Graph()
    mean, std = grow.constant(mean), grow.constant(std)
    z = grow("Div", grow("Sub", grow("Log", "features"), mean), std)
    again = grow.layers(z, network)
    grow("Exp", grow("Add", grow("Mul", again, std), mean), output="reconstruction")
    difference = grow("Sub", again, z)
    square = grow("Mul", difference, difference)
    grow("ReduceMean", square, axes=[1], keepdims=1, output="error")
    outputs = {"reconstruction": ["N", 7], "error": ["N", 1]}
    grow.save(path, {"features": ["N", 7]}, outputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="Higgs_data.root")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="a folder")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    x, y = read_events(options.data or find_higgs_data())
    training, validation, held_out = split_events(len(y))
    known = np.concatenate([training, validation])
    logarithms = np.log(x[known[y[known] == 0]])
    mean, std = logarithms.mean(axis=0), logarithms.std(axis=0)
    network = train(torch.from_numpy((logarithms - mean) / std))
    save(network, mean, std, path := options.output / "higgs_autoencoder.onnx")
    error = onnxruntime.InferenceSession(path).run(["error"], {"features": x[held_out]})[0][:, 0]
    for kind, name in ((0, "background"), (1, "signal")):
        print(f"{name}: mean error {error[y[held_out] == kind].mean():.4f}")
    print(f"AUC on held-out events: {area_under_roc(error, y[held_out]):.4f}")


if __name__ == "__main__":
    main()
