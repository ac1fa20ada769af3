"""What the threads do, and what memory does meanwhile."""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

import sofie_rdf as sofie
from sofie_rdf.runtime.compile.interpreter import import_root

__all__ = ["Soak", "resident"]

# Events of one call, and of one data frame.
BATCH, ENTRIES = 20_000, 500
FEATURES = 6
# MB at which the process ends itself.
_MOST = 3000.0


def resident() -> float:
    """The memory of this process, in MB."""
    words = Path("/proc/self/statm").read_text().split()
    return int(words[1]) * 4096 / 1e6


def written(folder: Path, count: int) -> list[Path]:
    """Files of networks that differ in their sizes and weights, as .onnx and as .root."""
    paths = []
    for number in range(count):
        rng = np.random.default_rng(number)
        width = 4 + number
        shapes = {"v": (FEATURES, width), "a": (width,), "w": (width, 1)}
        weights = [
            helper.make_tensor(n, TensorProto.FLOAT, s, rng.normal(size=int(np.prod(s))))
            for n, s in shapes.items()
        ]
        nodes = [
            helper.make_node("MatMul", ["x", "v"], ["h"]),
            helper.make_node("Add", ["h", "a"], ["i"]),
            helper.make_node("Tanh" if number % 2 else "Relu", ["i"], ["j"]),
            helper.make_node("MatMul", ["j", "w"], ["y"]),
        ]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", FEATURES])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])
        graph = helper.make_graph(nodes, f"soak{number}", [x], [y], weights)
        opsets = [helper.make_opsetid("", 18)]
        path = folder / f"soak{number}.onnx"
        path.write_bytes(
            helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
        )
        if number % 3 == 0:
            stored = path.with_suffix(".root")
            sofie.load(path).save(stored)
            path = stored
        paths.append(path)
    return paths


@dataclass
class Soak:
    """So many models in all, and so many events, by so many threads; ``seconds`` at most.

    ``frames`` is how many data frames are defined; Cling compiles for each, and keeps that.
    """

    folder: Path
    threads: int = 8
    models: int = 500
    events: float = 1e8
    frames: int = 64
    kinds: int = 12
    seconds: float = 3600.0
    say: Callable[[str], object] = sys.stdout.write
    wrong: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    loaded: int = 0
    computed: int = 0
    defined: int = 0

    def __call__(self) -> Soak:
        # Nobody calls EnableThreadSafety here: that is done where there are threads.
        self.paths = written(self.folder, self.kinds)
        self.x = np.random.default_rng(9).normal(size=(BATCH, FEATURES)).astype(np.float32)
        self.wanted = [np.asarray(sofie.load(path)(self.x)) for path in self.paths]
        self.lock = threading.Lock()
        self._round(0)
        self.end = time.monotonic() + self.seconds
        running = [threading.Thread(target=self._work, args=(i,)) for i in range(self.threads)]
        for thread in running:
            thread.start()
        while any(thread.is_alive() for thread in running):
            time.sleep(2.0)
            self._note()
        for thread in running:
            thread.join()
        gc.collect()
        self._note()
        return self

    def _note(self) -> None:
        self.memory.append(resident())
        if self.memory[-1] > _MOST:
            # Threads may stand still in somebody's loop: nothing else ends them.
            sys.stderr.write(f"{self.memory[-1]:.0f} MB are too many: the process ends\n")
            faulthandler.dump_traceback()
            os._exit(3)
        self.say(
            f"{self.loaded} models, {self.computed:.3g} events, {self.defined} frames, "
            f"{self.memory[-1]:.0f} MB"
        )

    def _work(self, thread: int) -> None:
        try:
            number = thread
            while self._goes_on():
                self._round(number)
                number += 1
        except Exception as error:
            self.wrong.append(f"{type(error).__name__}: {error}")

    def _goes_on(self) -> bool:
        enough = self.loaded >= self.models and self.computed >= self.events
        return not enough and not self.wrong and time.monotonic() < self.end

    def _round(self, number: int) -> None:
        """Load, call, perhaps define, drop."""
        which = number % len(self.paths)
        model = sofie.load(self.paths[which])
        calls = max(1, round(self.events / self.models / BATCH))
        for _ in range(calls):
            found = np.asarray(model(self.x))
            if found.tobytes() != self.wanted[which].tobytes():
                self.wrong.append(f"other numbers from {self.paths[which].name}")
        with self.lock:
            self.loaded += 1
            self.computed += calls * BATCH
            defines = self.defined < self.frames
            self.defined += defines
        if defines:
            self._define(model, which)

    def _define(self, model: Any, which: int) -> None:
        root = import_root()
        given = {f"x{i}": np.ascontiguousarray(self.x[:ENTRIES, i]) for i in range(FEATURES)}
        frame = sofie.define(root.RDF.FromNumpy(given), "y", model, list(given))
        found = np.asarray(frame.AsNumpy(["y"])["y"], np.float32).ravel()
        if found.tobytes() != self.wanted[which][:ENTRIES].tobytes():
            self.wrong.append(f"other numbers in a data frame from {self.paths[which].name}")
