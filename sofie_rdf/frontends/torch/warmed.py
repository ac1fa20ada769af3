"""What takes long to load before a file of torch can be read, in a process that reads none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import copy
from importlib import import_module
from inspect import signature
from typing import Any

__all__ = ["load"]

_OURS = ("sofie_rdf.frontends.torch.reader", "sofie_rdf.frontends.torch.rebuilt", "sofie_rdf.ops")
# Parts of torch that are loaded only when they are used. Other versions have others.
_THEIRS = (
    "torch.onnx._internal.exporter._compat",
    "torch._dynamo",
    "torch._export.serde.serialize",
    "torch._functorch.aot_autograd",
    "torch.export._trace",
    "torch.export.pt2_archive._package",
    "onnxscript.function_libs.torch_lib.ops",
    "onnxscript.rewriter.onnx_fusions._onnx_fusions",
    "onnxscript.version_converter",
)


def load() -> None:
    """Load the modules, and make the tables of operators that torch keeps; no error if one fails.

    Nothing is computed: threads that compute would not be there in copies of this process.
    """
    for name in _OURS:
        import_module(name)
    for name in _THEIRS:
        with suppress(Exception):
            import_module(name)
    for make in (_exported_operators, _decompositions):
        with suppress(Exception):
            make()


def _exported_operators() -> None:
    """What torch's exporter writes for each operator: torch would make this table for each file."""
    table = import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
    make = table.from_torchlib
    said = signature(make)
    made: dict[Any, Any] = {}

    def from_torchlib(*args: Any, **given: Any) -> Any:
        bound = said.bind(*args, **given)
        bound.apply_defaults()
        key = tuple(bound.arguments.items())
        if key not in made:
            made[key] = make(*args, **given)
        found = copy(made[key])  # Others may be added to it.
        found.functions = {name: list(ways) for name, ways in found.functions.items()}
        return found

    from_torchlib()
    table.from_torchlib = staticmethod(from_torchlib)


def _decompositions() -> Any:
    found: Callable[[], Any] = import_module("torch.export").default_decompositions
    return dict(found())
