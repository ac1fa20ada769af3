"""Train the small Higgs classifier in `higgs.onnx`, and write it as a clean ONNX file.

The network separates heavy Higgs bosons that decay to W W b b from top-quark pairs, with the
seven invariant masses of the UCI HIGGS data set.  The events are the 10000 + 10000 in ROOT's
tutorial file `machine_learning/data/Higgs_data.root`:

    pip install torch==2.13.0 onnx onnxruntime numpy uproot
    python data/train_higgs.py --data path/to/Higgs_data.root

Without `--data` the file is looked for in the ROOT installation of this Python.  The run
takes less than a minute on one core and writes one file, the ONNX model (`--output`).

Three groups of events, fixed by `higgs_events.SPLIT_SEED`:

    training    60 %  the gradient steps
    validation  15 %  decides when the training stops
    held-out    25 %  never used in training; the quoted AUC is computed on it

The mean and standard deviation of each feature come from training plus validation events
and are part of the network, so the model takes the masses as they are in the tree.
"""

from __future__ import annotations

import argparse
import copy
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from higgs_events import (
    FEATURES,
    SPLIT_SEED,
    area_under_roc,
    find_higgs_data,
    read_events,
    split_events,
)
from onnx import TensorProto, helper, numpy_helper
from torch import nn

HIDDEN_LAYERS = [64, 64, 64, 64]

TRAINING_SEED = 1
MAX_EPOCHS = 60
PATIENCE = 20  # epochs without a better validation AUC before the training stops
BATCH_SIZE = 128
LEARNING_RATE = 2e-3  # highest value of the one-cycle schedule
WEIGHT_DECAY = 0.5
DROPOUT = 0.1

OPSET = 17
IR_VERSION = 8
LARGEST_DEVIATION = 1e-5  # allowed between torch and onnxruntime scores


class HiggsNetwork(nn.Module):
    """(x - mean) / std, four times Linear + BatchNorm + ReLU, and one last Linear layer.

    `forward` returns the logit, which the loss wants; `score` is its sigmoid.
    """

    def __init__(self, mean: np.ndarray, std: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("std", torch.from_numpy(std))
        widths = [len(mean), *HIDDEN_LAYERS]
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.norm = nn.ModuleList(nn.BatchNorm1d(width) for width in HIDDEN_LAYERS)
        self.dropout = nn.Dropout(DROPOUT)
        self.last = nn.Linear(widths[-1], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - self.mean) / self.std
        for dense, norm in zip(self.dense, self.norm, strict=False):
            x = self.dropout(torch.relu(norm(dense(x))))
        return self.last(x)

    @torch.no_grad()
    def score(self, features: np.ndarray) -> np.ndarray:
        """Return the scores [events, 1] of the network as it is after the training."""
        self.eval()
        return torch.sigmoid(self(torch.from_numpy(features))).numpy()


def train_epoch(
    network: HiggsNetwork,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    features: torch.Tensor,
    labels: torch.Tensor,
) -> None:
    """Go once through the training events in random order (the last part batch is left out)."""
    network.train()
    n_full = len(features) // BATCH_SIZE * BATCH_SIZE
    for batch in torch.randperm(len(features))[:n_full].split(BATCH_SIZE):
        logits = network(features[batch])[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def train(
    features: np.ndarray, labels: np.ndarray, training: np.ndarray, validation: np.ndarray
) -> HiggsNetwork:
    """Train with early stopping and return the network of the best validation AUC."""
    torch.manual_seed(TRAINING_SEED)
    torch.set_num_threads(1)  # one thread: the order of sums, so the result, is always the same
    torch.use_deterministic_algorithms(True)

    not_held_out = features[np.concatenate([training, validation])].astype(np.float64)
    mean = not_held_out.mean(axis=0).astype(np.float32)
    std = not_held_out.std(axis=0).astype(np.float32)
    network = HiggsNetwork(mean, std)

    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    n_steps = MAX_EPOCHS * (len(training) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=n_steps)
    x, y = torch.from_numpy(features[training]), torch.from_numpy(labels[training])

    best_auc, best_epoch, best_state = 0.0, 0, network.state_dict()
    for epoch in range(1, MAX_EPOCHS + 1):
        train_epoch(network, optimizer, schedule, x, y)
        auc = area_under_roc(network.score(features[validation])[:, 0], labels[validation])
        if auc > best_auc:
            best_auc, best_epoch = auc, epoch
            best_state = copy.deepcopy(network.state_dict())
        if epoch % 5 == 0:
            print(f"epoch {epoch:3d}  validation AUC {auc:.4f}  best {best_auc:.4f}")
        if epoch - best_epoch >= PATIENCE:
            break
    print(f"stopped after epoch {epoch}, keeping the network of epoch {best_epoch}")
    network.load_state_dict(best_state)
    return network


class GraphBuilder:
    """Collects the nodes and weights of a chain of ONNX operators."""

    def __init__(self, input_name: str) -> None:
        self.value = input_name  # name of the last value in the chain
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(
        self,
        op_type: str,
        name: str,
        weights: dict[str, torch.Tensor] | None = None,
        output: str | None = None,
        **attributes: float,
    ) -> None:
        """Append one operator; a weight called `w` gets the name `<name>/w`."""
        inputs = [self.value]
        for key, tensor in (weights or {}).items():
            inputs.append(f"{name}/{key}")
            array = tensor.detach().numpy().astype(np.float32)
            self.weights.append(numpy_helper.from_array(array, inputs[-1]))
        self.value = output or f"{name}/output"
        self.nodes.append(helper.make_node(op_type, inputs, [self.value], name=name, **attributes))


def build_onnx(network: HiggsNetwork) -> onnx.ModelProto:
    """Write the trained network, operator by operator, as an ONNX model."""
    graph = GraphBuilder("features")
    graph.add("Sub", "center", {"mean": network.mean})
    graph.add("Div", "scale", {"std": network.std})
    for i, (dense, norm) in enumerate(zip(network.dense, network.norm, strict=False), start=1):
        graph.add("Gemm", f"dense{i}", {"weight": dense.weight, "bias": dense.bias}, transB=1)
        norm_weights = {
            "scale": norm.weight,
            "bias": norm.bias,
            "mean": norm.running_mean,
            "variance": norm.running_var,
        }
        graph.add("BatchNormalization", f"norm{i}", norm_weights, epsilon=norm.eps)
        graph.add("Relu", f"relu{i}")
    last = {"weight": network.last.weight, "bias": network.last.bias}
    graph.add("Gemm", f"dense{len(HIDDEN_LAYERS) + 1}", last, transB=1)
    graph.add("Sigmoid", "sigmoid", output="score")

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "higgs",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", len(FEATURES)])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])],
            initializer=graph.weights,
        ),
        producer_name="train_higgs.py",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def score_onnx(model: onnx.ModelProto, features: np.ndarray) -> np.ndarray:
    """Return the scores [events, 1] that onnxruntime computes."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(["score"], {"features": features})[0]


def describe(model: onnx.ModelProto, held_out_auc: float) -> None:
    """Fill in the documentation fields of the model."""
    model.doc_string = (
        "Signal-background classifier on the seven high-level features of the UCI HIGGS data. "
        "score is near 1 for signal, near 0 for background. Input normalisation is in the graph."
    )
    properties = {
        "features": ", ".join(FEATURES),
        "training_data": "ROOT tutorials/machine_learning/data/Higgs_data.root "
        "(from UCI HIGGS, doi:10.24432/C5V312)",
        "held_out_auc": f"{held_out_auc:.4f}",
        "split_seed": str(SPLIT_SEED),
        "training_seed": str(TRAINING_SEED),
    }
    helper.set_model_props(model, properties)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="Higgs_data.root (default: the installed ROOT's)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_name("higgs.onnx"),
        help="the ONNX file to write (default: higgs.onnx beside this script)",
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    features, labels = read_events(arguments.data or find_higgs_data())
    training, validation, held_out = split_events(len(features))
    for name, group in (("training", training), ("validation", validation), ("held-out", held_out)):
        print(f"{name:10s} {len(group):6d} events")

    network = train(features, labels, training, validation)
    model = build_onnx(network)

    torch_scores = network.score(features[held_out])
    onnx_scores = score_onnx(model, features[held_out])
    deviation = float(np.abs(torch_scores - onnx_scores).max())
    print(f"largest deviation of onnxruntime from torch, held-out events: {deviation:.1e}")
    if not deviation < LARGEST_DEVIATION:
        raise SystemExit("onnxruntime and torch disagree: no file written")

    seen = np.concatenate([training, validation])
    seen_auc = area_under_roc(score_onnx(model, features[seen])[:, 0], labels[seen])
    held_out_auc = area_under_roc(onnx_scores[:, 0], labels[held_out])
    print(f"AUC from onnxruntime, training and validation events: {seen_auc:.4f}")
    print(f"AUC from onnxruntime, held-out events: {held_out_auc:.4f}")

    describe(model, held_out_auc)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, arguments.output)
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
