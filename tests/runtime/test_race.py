"""Generated code in several threads under g++'s race detector, with results that are the same bits.

A race that is there on purpose must be seen, or the detector says nothing.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.emit.code import include_directory
from tests.emit.test_own_memory import everything
from tests.frontends.models import initializer, model, node

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
PROGRAM = Path(__file__).with_name("race.cxx")
FLAGS = [
    "-std=c++17",
    "-O1",
    "-g1",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-psabi",
    "-fsanitize=thread",
]


def layers() -> sofie.Model:
    """A recurrent layer, attention, a convolution and a dense layer: scratch and workspaces."""
    random = np.random.default_rng(3)

    def weights(name: str, *shape: int) -> object:
        return initializer(name, random.normal(scale=0.4, size=shape))

    nodes = [
        node("Transpose", "x", "steps", perm=[1, 0, 2]),
        node("LSTM", "steps w r b", "all", hidden_size=5),
        node("Squeeze", "all axis", "states"),
        node("Transpose", "states", "rows", perm=[1, 0, 2]),
        node("Transpose", "rows", "keys", perm=[0, 2, 1]),
        node("MatMul", "rows keys", "products"),
        node("Softmax", "products", "weights", axis=-1),
        node("MatMul", "weights rows", "attended"),
        node("Conv", "attended kernel", "convolved", kernel_shape=[3], pads=[1, 1]),
        node("Flatten", "convolved", "flat", axis=1),
        node("MatMul", "flat dense", "y"),
        node("TopK", "y two", "top places", axis=1),
    ]
    constants = [
        weights("w", 1, 20, 8),
        weights("r", 1, 20, 5),
        weights("b", 1, 40),
        weights("kernel", 4, 6, 3),
        weights("dense", 20, 7),
        initializer("axis", [1], np.int64),
        initializer("two", [2], np.int64),
    ]
    return sofie.from_onnx(model(nodes, {"x": ["N", 6, 8]}, "y top places", constants, opset=18))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("race")
    for name, built in (("layers", layers()), ("decided", everything())):
        sofie.Model(replace(built.graph, name=name)).emit(folder)
    command = ["g++", *FLAGS, f"-I{include_directory()}", "-I.", str(PROGRAM), "-o", "race"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program, at addresses that are always the same where that is allowed: newer kernels
    choose others than the detector of an older g++ knows ("unexpected memory mapping").
    """
    fixed = ["setarch", platform.machine(), "-R"]
    can = shutil.which("setarch") and not subprocess.run([*fixed, "true"], check=False).returncode
    command = [*(fixed if can else []), "./race", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=200
    )


def test_slots_share_weights_and_nothing_else(program: Path) -> None:
    done = run(program)
    assert "WARNING: ThreadSanitizer" not in done.stderr, done.stderr[:6000]
    assert (done.returncode, done.stdout, done.stderr) == (0, "480", "")


def test_a_slot_for_two_threads_is_seen(program: Path) -> None:
    assert "WARNING: ThreadSanitizer: data race" in run(program, "shared").stderr
