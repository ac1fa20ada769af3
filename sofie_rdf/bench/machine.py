"""Where it was measured: the CPU, what else runs on it, and the versions of everything."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from sofie_rdf.runtime.compile.cpu import instruction_set
from sofie_rdf.runtime.compile.interpreter import import_root

__all__ = ["cpu_name", "describe", "load"]


def describe(peers: Mapping[str, str]) -> dict[str, Any]:
    """The machine and the versions, those of the peers too, as JSON."""
    import sofie_rdf

    return {
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "instruction_set": instruction_set().name,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_before": load(),
        "versions": {
            "sofie_rdf": sofie_rdf.__version__,
            "ROOT": str(import_root().gROOT.GetVersion()),
            **peers,
            "onnx": _installed("onnx"),
            "numpy": _installed("numpy"),
            "Python": platform.python_version(),
        },
    }


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The model name of the first CPU, or what else is known of it."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in lines)
    named = (value.strip() for key, _, value in pairs if key.strip() in ("model name", "Model"))
    return next(named, platform.processor() or platform.machine())


def load() -> float:
    """How many threads have been running, as the mean of the last minute."""
    return round(os.getloadavg()[0], 2)


def _installed(package: str) -> str:
    try:
        return installed(package)
    except PackageNotFoundError:
        return ""
