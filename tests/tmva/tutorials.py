"""ROOT's own tutorials of SOFIE, run as they are but for one line at the top.

They are part of ROOT (LGPL): a test takes the file from the ROOT that is installed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
BINARIES = Path(sys.executable).parent
# Those that train, or that show what another one shows, take minutes: `make conformance` runs them.
every = pytest.mark.skipif(
    not os.environ.get("SOFIE_RDF_TUTORIALS"), reason="SOFIE_RDF_TUTORIALS=1 runs all tutorials"
)
IN_PYTHON, IN_MACROS = "import sofie_rdf.tmva\n", '#include "sofie/rdf/tmva.hxx"\n'

# Keras as the tutorials import it, which were written for TensorFlow's; one epoch over few events
# stands for the training. Python imports this when it starts.
STAND_IN = """
import sys, types
import keras
from keras.src.utils.module_utils import tensorflow
assert not tensorflow.available
for name in ("", ".keras", ".keras.layers", ".keras.models", ".keras.optimizers"):
    module = sys.modules["tensorflow" + name] = types.ModuleType("tensorflow" + name)
    if name.count(".") == 2:
        module.__dict__.update(vars(getattr(keras, name.split(".")[-1])))
import torch
fit = keras.Model.fit
def brief(self, x, y, **options):
    torch.set_grad_enabled(True)
    fit(self, x[:100], y[:100], **{**options, "epochs": 1, "verbose": 0})
    torch.set_grad_enabled(False)
keras.Model.fit = brief
"""


def needs(*packages: str) -> None:
    """Skips the test where a package is missing. They are imported by what the test starts."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


def source(name: str) -> str:
    """The text of a tutorial of this ROOT; the test is skipped where it has none."""
    root = pytest.importorskip("ROOT")
    path = Path(str(root.gROOT.GetTutorialDir()), "machine_learning", name)
    if not path.is_file():
        pytest.skip(f"this ROOT comes without {name}")
    return path.read_text()


def run(
    folder: Path, command: list[str], *, python_path: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """The command in a folder, with our headers and our package in reach; it must succeed."""
    paths = [python_path, str(PROJECT), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PATH": f"{BINARIES}:{os.environ.get('PATH', '')}",
        "PYTHONPATH": ":".join(filter(None, paths)),
        "PYTHONWARNINGS": "ignore",
        "ROOT_INCLUDE_PATH": str(PROJECT / "cling"),
        "KERAS_BACKEND": "torch",
        **more,
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    return done


def tutorial(
    folder: Path, name: str, *, call: str = "", then: str = "", keras: bool = False
) -> str:
    """What a tutorial prints, in a folder with the files that it looks for.

    ``call`` are the arguments of a macro; ``then`` is run after it, in Python as part of the
    script, in C++ as a command of ROOT. ``keras`` gives it the stand-in for TensorFlow's.
    """
    text = source(name)
    python_path = ""
    if keras:
        python_path = str(folder / "stand-in")
        (folder / "stand-in").mkdir()
        (folder / "stand-in" / "sitecustomize.py").write_text(STAND_IN)
    if name.endswith(".py"):
        (folder / name).write_text(f"{IN_PYTHON}{text}\n{then}\n")
        return run(folder, [sys.executable, name], python_path=python_path).stdout
    if not (BINARIES / "root").exists():
        pytest.skip("no `root` beside this Python")
    (folder / name).write_text(IN_MACROS + text)
    commands = ["-e", f".x {name}{call}", *(["-e", then] if then else [])]
    return run(folder, ["root", "-l", "-b", "-q", *commands]).stdout
