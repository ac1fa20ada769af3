"""Train the small residual Higgs classifier in `higgs_residual.pt2` and `higgs_residual.pt`.

The events, their split and the quoted numbers are those of `train_higgs.py`; the network is another
one: three residual blocks with LayerNorm and SiLU. It is written as PyTorch writes it: an exported
program (.pt2) and TorchScript (.pt).

    pip install torch==2.13.0 onnx onnxruntime numpy uproot
    python data/train_higgs_torch.py --data path/to/Higgs_data.root

Without `--data` the file is looked for in the ROOT installation of this Python.
"""

from __future__ import annotations

import argparse
import copy
import zipfile
from pathlib import Path

import numpy as np
import torch
from higgs_events import FEATURES, area_under_roc, find_higgs_data, read_events, split_events
from torch import nn

WIDTH, BLOCKS = 32, 3
SEED, EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 3, 40, 128, 3e-3, 0.3


class Block(nn.Module):
    """x + Linear(SiLU(Linear(LayerNorm(x))))"""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.dropout(nn.functional.silu(self.first(self.norm(x)))))


class Classifier(nn.Module):
    """(x - mean) / std, a dense layer, residual blocks, and a score between 0 and 1."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.enter = nn.Linear(len(FEATURES), WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.leave = nn.Linear(WIDTH, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.enter((features - self.mean) / self.std))
        return torch.sigmoid(self.leave(x))


def auc(network: nn.Module, features: torch.Tensor, labels: np.ndarray) -> float:
    network.eval()
    with torch.no_grad():
        return area_under_roc(network(features)[:, 0].numpy(), labels)


def train(
    features: torch.Tensor, labels: np.ndarray, training: np.ndarray, validation: np.ndarray
) -> Classifier:
    """The network of the epoch with the best validation AUC."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # one thread: the order of sums, so the result, is always the same
    known = features[np.concatenate([training, validation])].double()
    network = Classifier(known.mean(0).float(), known.std(0).float())
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * (len(training) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    x, y = features[training], torch.from_numpy(labels[training])
    best, state = 0.0, network.state_dict()
    for _ in range(EPOCHS):
        network.train()
        for batch in torch.randperm(len(x))[: len(x) // BATCH_SIZE * BATCH_SIZE].split(BATCH_SIZE):
            loss = nn.functional.binary_cross_entropy(network(x[batch])[:, 0], y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        now = auc(network, features[validation], labels[validation])
        if now > best:
            best, state = now, copy.deepcopy(network.state_dict())
    print(f"validation AUC {best:.4f}")
    network.load_state_dict(state)
    return network.eval()


def save(network: Classifier, folder: Path) -> None:
    """Both files, without the names of files on this machine."""
    batch = torch.export.Dim("batch")
    example = (torch.ones(2, len(FEATURES)),)
    program = torch.export.export(network, example, dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    torch.export.save(program, folder / "higgs_residual.pt2")
    script = folder / "higgs_residual.pt"
    torch.jit.script(network).save(str(script))
    with zipfile.ZipFile(script) as archive:
        members = {m: archive.read(m) for m in archive.namelist() if not m.endswith(".debug_pkl")}
    with zipfile.ZipFile(script, "w") as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member), content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="Higgs_data.root (default: the installed ROOT's)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="the folder")
    arguments = parser.parse_args()
    events, labels = read_events(arguments.data or find_higgs_data())
    features = torch.from_numpy(events)
    training, validation, held_out = split_events(len(features))
    network = train(features, labels, training, validation)
    print(f"held-out AUC {auc(network, features[held_out], labels[held_out]):.4f}")
    save(network, arguments.output)


if __name__ == "__main__":
    main()
