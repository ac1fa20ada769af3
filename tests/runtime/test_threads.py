"""Event loops of several threads: the same bits as one thread's, errors that arrive, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from tests.choice import some_of
from tests.runtime.conftest import Threads
from tests.runtime.counted import Counting

ROOT = pytest.importorskip("ROOT")

REPOSITORY = Path(__file__).resolve().parents[2]
PARTICLENET = REPOSITORY / "data" / "particlenet.onnx"
PARTICLES = {"pf_points": ["eta", "phi"], "pf_features": ["pt", "eta", "phi", "charge"]}


def jets(events: int = 120) -> Any:
    """Up to 40 particles in each event, other ones in each, whichever thread makes them."""
    df = ROOT.RDataFrame(events).Define("n", "int(rdfentry_ * 7 % 41)")
    for i, name in enumerate(("pt", "eta", "phi", "charge")):
        loop = f"for (int i = 0; i < n; ++i) v[i] = std::sin(rdfentry_ + {i} + i * 1.7f);"
        df = df.Define(name, f"ROOT::RVecF v(n); {loop} return v;")
    return df


def scored(model: sofie.Model) -> dict[int, bytes]:
    options = {"mask": "pf_mask", "lengths": {"n_pf": (24, None)}, "order_by": "pt"}
    df = sofie.define(jets(), "p", model, PARTICLES, **options)
    table = df.AsNumpy(["rdfentry_", "p"])
    pairs = zip(table["rdfentry_"], table["p"], strict=True)
    return {int(entry): np.array(p, np.float32).tobytes() for entry, p in pairs}


def compare_threads() -> None:
    """In a process that ROOT has not given fewer threads before, which it would keep."""
    model = sofie.load(PARTICLENET)
    wanted = scored(model)
    # Three events have no particles.
    assert len(set(wanted.values())) == 118
    ROOT.EnableImplicitMT(8)
    assert jets().GetNSlots() > 1
    for _ in range(3):
        assert scored(model) == wanted
    ROOT.DisableImplicitMT()
    assert scored(model) == wanted


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell without job control has its children ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_the_same_bits_with_any_number_of_threads() -> None:
    """Threads that come after the model, as many as ROOT makes, and none again."""
    code = "from tests.runtime.test_threads import compare_threads; compare_threads()"
    process = python(code)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


def test_a_functor_with_more_slots_than_threads(counting: Counting, threads: Threads) -> None:
    with threads(2):
        df = ROOT.RDataFrame(500).Define("x", "float(rdfentry_)")
        df = df.DefineSlot("y", sofie.SofieFunctor(counting.model, 16), ["x"])
        assert df.Sum("y").GetValue() == 124750
    assert counting.calls() == 500


def test_errors_come_out_of_threads(counting: Counting, threads: Threads) -> None:
    """As in one thread: the entry and the columns, and the process goes on."""
    for count in (0, 2):
        with threads(count):
            df = ROOT.RDataFrame(300).Define("a", "rdfentry_ == 77 ? NAN : 1.f")
            df = sofie.define(df, "y", counting.model, ["a"], nan="error")
            with pytest.raises(Exception, match="entry 77: column 'a' is NaN"):
                df.Sum("y").GetValue()
            again = ROOT.RDataFrame(3).Define("a", "1.f")
            assert sofie.define(again, "y", counting.model, ["a"]).Sum("y").GetValue() == 3


def test_frames_keep_the_threads_that_they_were_made_with(
    counting: Counting, threads: Threads
) -> None:
    """ROOT refuses the loop itself; nothing runs in slots that are not there."""
    df = ROOT.RDataFrame(10).Define("x", "float(rdfentry_)")
    df = sofie.define(df, "y", counting.model, ["x"])
    with threads(2), pytest.raises(Exception, match="number of slots required was 1"):
        df.Sum("y").GetValue()
    assert counting.calls() == 0
    assert df.Sum("y").GetValue() == 45


# Ctrl-C -------------------------------------------------------------------------------------------

LOOP = """
import sys
import ROOT
from tests.runtime.counted import Counting
import sofie_rdf as sofie

if int(sys.argv[1]):
    ROOT.EnableImplicitMT(int(sys.argv[1]))
ROOT.gInterpreter.Declare('''
#include <cstdio>
#include <unistd.h>
float slowly(unsigned long long entry)
{
   if (entry == 0) {
      std::puts("loop");
      std::fflush(stdout);
   }
   usleep(1000);
   return entry;
}''')
model = Counting(ROOT).model
df = ROOT.RDataFrame(120000).Define("x", "slowly(rdfentry_)")
total = sofie.define(df, "y", model, ["x"]).Sum("y")
try:
    total.GetValue()
except KeyboardInterrupt:
    again = sofie.define(ROOT.RDataFrame(4).Define("x", "1.f"), "y", model, ["x"])
    print("interrupted;", again.Sum("y").GetValue(), flush=True)
    raise
print("over", flush=True)
"""


@pytest.mark.parametrize("count", some_of(["0", "2"], ["2"]))
def test_ctrl_c_ends_the_loop(count: str) -> None:
    """Python by itself would raise KeyboardInterrupt two minutes later, when the loop is over."""
    process = python(LOOP, count)
    try:
        assert process.stdout
        assert process.stdout.readline() == "loop\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert out == "interrupted; 4.0\n"
    assert "KeyboardInterrupt" in err.splitlines()[-1]
    assert "segmentation" not in err.lower()
    # Python's own way to end by this signal.
    assert process.returncode == -signal.SIGINT
