"""From PyTorch to a column of an RDataFrame: a module in memory, an exported program, TorchScript.

`sofie.from_torch` takes a module and an example of its inputs. torch exports it, and what comes out
is compared with the module for other numbers and other sizes before it may be used: what Python
decided for the example alone, such as a branch, is found then. Files need no example if they are
exported programs (.pt2), and the shape of their inputs if they are TorchScript (.pt).
The events are those that come with ROOT's tutorials.
"""

from __future__ import annotations

from pathlib import Path

import ROOT
import torch
import uproot

import sofie_rdf as sofie

DATA = Path(__file__).resolve().parents[1] / "data"
EVENTS = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"
FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]

# A trained network, and the same as TorchScript, of which one has to know the inputs.
program = sofie.load(DATA / "higgs_residual.pt2")
script = sofie.load(DATA / "higgs_residual.pt", input_shapes=[("N", 7)])
print(program)

# A module in memory: here one that asks the network twice, for the change with the mass scale.
network = torch.export.load(DATA / "higgs_residual.pt2").module()


class Shifted(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = network

    def forward(self, masses: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        score = self.network(masses * scale)
        return {"score": score, "change": score - self.network(masses)}


# The first axis of every input is open by default; dynamic= says otherwise.
shifted = sofie.from_torch(Shifted(), (torch.rand(4, 7), torch.ones(4, 1)), name="shifted")

ROOT.EnableImplicitMT()
df = ROOT.RDataFrame("sig_tree", EVENTS).Define("scale", "1.02")
df = sofie.define(df, "program", program, FEATURES)
df = sofie.define(df, "script", script, FEATURES)
df = sofie.define(df, "change", shifted, {"masses": FEATURES, "scale": ["scale"]}, output="change")
means = {name: df.Mean(name) for name in ("program", "script", "change")}

# What PyTorch says.
x = uproot.open(EVENTS)["sig_tree"].arrays(FEATURES, library="np")
masses = torch.stack([torch.from_numpy(x[name]).float() for name in FEATURES], 1)
with torch.no_grad():
    wanted = [network(masses).mean(), (network(masses * 1.02) - network(masses)).mean()]
print("PyTorch:", *(f"{float(w):.6f}" for w in (wanted[0], *wanted)))
print("RDataFrame:", *(f"{m.GetValue():.6f}" for m in means.values()))
