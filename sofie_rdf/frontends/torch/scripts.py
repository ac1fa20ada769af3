"""TorchScript, traced or scripted, by torch's older exporter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sofie_rdf.errors import SofieError
from sofie_rdf.frontends.torch.calls import tensors_in
from sofie_rdf.frontends.torch.export import (
    Exported,
    checked,
    export_error,
    first_run,
    of_program,
    output_names,
)
from sofie_rdf.frontends.torch.inputs import Inputs
from sofie_rdf.frontends.torch.older import older_export
from sofie_rdf.frontends.torch.programs import program_as_function

__all__ = ["of_script"]

_NO_SCRIPT = (
    "Export the module itself (torch.export.save, or sofie_rdf.from_torch), or trace it "
    "(torch.jit.trace)"
)


def of_script(script: Any, inputs: Inputs, module: Callable[..., Any] | None = None) -> Exported:
    """The ONNX model of a traced or scripted module."""
    module = module or script
    first_run(module, inputs)
    args, _ = inputs.with_tensors([leaf.example for leaf in inputs.tensors])
    try:
        outputs = output_names(module, inputs)
        proto = older_export(_with_flat_outputs(script, args), args, inputs, outputs)
    except SofieError:
        raise
    except Exception as error:
        converted = _converted(script, inputs, module)
        if converted is not None:
            return converted
        raise export_error(error, _NO_SCRIPT) from error
    names = tuple(leaf.name for leaf in inputs.tensors)
    return checked(proto, inputs, names, module, "TorchScript")


def _with_flat_outputs(script: Any, args: tuple[Any, ...]) -> Any:
    """A script that gives no dict: the exporter writes none. Its control flow stays."""
    import torch

    with torch.no_grad():
        result = script(*args)
    if not isinstance(result, dict):
        return script

    class Flat(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = script

        def forward(self, *given: Any) -> Any:
            return tuple(tensors_in(self.inner(*given)))

    return torch.jit.trace(Flat(), args)


def _converted(script: Any, inputs: Inputs, module: Callable[..., Any]) -> Exported | None:
    """By way of an exported program, which knows more functions; None if that cannot be done.

    Only a trace without control flow: torch's converter would keep the branches of the example.
    """
    import torch

    if _has_control_flow(script):
        return None
    args, _ = inputs.with_tensors([leaf.example for leaf in inputs.tensors])
    dynamic = torch.export.Dim.DYNAMIC
    axes = inputs.arguments_with(lambda leaf: dict.fromkeys(leaf.axes, dynamic) or None)
    try:
        from torch._export.converter import TS2EPConverter

        fixed = program_as_function(TS2EPConverter(script, args).convert())
        program = torch.export.export(
            fixed, args, dynamic_shapes=tuple(axes.values()), strict=False
        )
        return of_program(program, inputs, module)
    except Exception:
        return None


def _has_control_flow(script: Any) -> bool:
    kinds = {node.kind() for node in script.inlined_graph.nodes()}
    return bool(kinds & {"prim::If", "prim::Loop"})
