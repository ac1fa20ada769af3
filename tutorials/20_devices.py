"""A network on a device: alpaka, in your own event loop.

The network becomes kernels that a C++ program enqueues. The program beside this script reads the
HIGGS events in batches, in two queues, and writes a score for each. It computes on a CPU here; two
lines of it choose a GPU instead, on which it was never run. SOFIE_RDF_ALPAKA is the folder of
alpaka 3 (https://github.com/alpaka-group/alpaka3); without it, the script only writes the header.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import numpy as np
import ROOT
import uproot

import sofie_rdf as sofie

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", default="out", type=Path, help="folder of all files")
out = parser.parse_args().out
here = Path(__file__).resolve().parent
FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]

# Every node that has no kernel for devices would be named here.
print("not on devices:", sofie.check(here / "../data/higgs.onnx", target="alpaka") or "nothing")
model = sofie.load(here / "../data/higgs.onnx")
files = model.emit(out, target="alpaka")
print(f"{files.header.name} and {files.weights.name} are written")

with uproot.open(f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root") as file:
    columns = file["sig_tree"].arrays(FEATURES, library="np")
events = np.stack([columns[name] for name in FEATURES], axis=1).astype(np.float32)
events.tofile(out / "events.bin")

if alpaka := os.environ.get("SOFIE_RDF_ALPAKA"):
    includes = [f"-I{folder}" for folder in (out, *files.include, f"{alpaka}/include")]
    command = ["g++", "-std=c++20", "-O2", *includes, str(here / "20_devices.cpp")]
    subprocess.run([*command, "-o", str(out / "program")], check=True)
    arguments = (files.weights, out / "events.bin", out / "scores.bin")
    subprocess.run([str(out / "program"), *map(str, arguments)], check=True)
    scores = np.fromfile(out / "scores.bin", np.float32)
    difference = np.max(np.abs(scores - model(events)[:, 0]))
    print(f"{len(scores)} scores, mean {scores.mean(dtype='f8'):.4f}")
    print(f"a CPU's differ by {difference:.1e} at most")
