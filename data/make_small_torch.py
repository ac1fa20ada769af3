"""Write small_program.pt2, small_script.pt and small_trace.pt: what `make fuzz-files` damages.

Networks of two layers with random weights, which have what files of torch may have: buffers,
constants and an open size in the program, a branch and a loop in the script, a constant in the
trace. In an environment with torch==2.13.0:

    python data/make_small_torch.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent


class Program(nn.Module):
    """With buffers, of which one is not stored, constants, dropout and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(3)
        self.one = nn.Linear(3, 2)
        self.two = nn.Linear(2, 3)
        self.drop = nn.Dropout(0.1)
        self.register_buffer("shift", torch.tensor([0.5, -1.0, 2.0]))
        self.register_buffer("gone", torch.tensor(2.0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.two(self.drop(nn.functional.gelu(self.one(self.norm(x)))))
        constant = torch.tensor([1.0, 2.0]).expand(x.shape[0], 2)
        return torch.cat([(x + y) * self.shift * self.gone, constant], 1)


class Script(nn.Module):
    """With a branch and a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 2)
        self.register_buffer("shift", torch.tensor([0.5, -1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.relu(self.one(x))
        if x.dim() > 2:
            y = y.mean(1)
        for _ in range(2):
            y = y * self.shift
        return y


class Trace(nn.Module):
    """With a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 2), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) * torch.tensor([1.0, 2.0])


def main() -> None:
    torch.manual_seed(1)
    program, x = Program().eval(), torch.randn(2, 3)
    rows = ({0: torch.export.Dim("n", max=4096)},)
    exported = torch.export.export(program, (x,), dynamic_shapes=rows)
    torch.export.save(exported, HERE / "small_program.pt2")
    torch.jit.save(torch.jit.script(Script().eval()), HERE / "small_script.pt")
    torch.jit.save(torch.jit.trace(Trace().eval(), (x,)), HERE / "small_trace.pt")


if __name__ == "__main__":
    main()
