"""What takes long to load before a file of torch can be read, in a process that reads none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
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


def _exported_operators() -> Any:
    registry = import_module("torch.onnx._internal.exporter._registration")
    return registry.ONNXRegistry.from_torchlib()


def _decompositions() -> Any:
    found: Callable[[], Any] = import_module("torch.export").default_decompositions
    return dict(found())
