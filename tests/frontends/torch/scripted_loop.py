"""A module whose loop TorchScript keeps; in a file, because it reads the source."""

from __future__ import annotations

import torch


class Rounds(torch.nn.Module):
    """A layer three times, and the inputs each time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x
        for _ in range(3):
            h = torch.tanh(self.layer(h)) + x
        return h
