"""Modules in memory, by torch.export, and by TorchScript where that cannot write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sofie_rdf.errors import ModelError, SofieError
from sofie_rdf.frontends.torch.export import (
    Exported,
    advice,
    first_run,
    of_program,
    reason,
    run_of,
)
from sofie_rdf.frontends.torch.inputs import Inputs
from sofie_rdf.frontends.torch.scripts import of_script

if TYPE_CHECKING:
    import torch

__all__ = ["of_module"]


def of_module(module: torch.nn.Module, inputs: Inputs) -> Exported:
    """The ONNX model of a module in evaluation mode, by torch.export.

    A module whose flow depends on numbers is scripted instead, if that can be done.
    """
    import torch

    inputs = _large_enough(inputs, module)
    args, kwargs = inputs.with_tensors([leaf.example for leaf in inputs.tensors])
    open_axes = inputs.arguments_with(
        lambda leaf: dict.fromkeys(leaf.axes, torch.export.Dim.DYNAMIC) or None
    )
    try:
        program = torch.export.export(module, args, kwargs, dynamic_shapes=open_axes, strict=False)
        return of_program(program, inputs, module)
    except SofieError:
        raise
    except Exception as error:
        scripted = _scripted(module, inputs)
        if scripted is not None:
            return scripted
        raise ModelError(
            f"torch.export cannot export it: {reason(error)}", remedy=advice(inputs, str(error))
        ) from error


def _large_enough(inputs: Inputs, module: Callable[..., Any]) -> Inputs:
    """The same with open axes of at least 2: torch.export takes 0 and 1 for constants."""
    small = {name: 2 for name, size in inputs.sizes.items() if size < 2}
    larger = inputs.at(small)
    first_run(module, inputs)
    if small:
        try:
            run_of(module, larger)([leaf.example for leaf in larger.tensors])
        except Exception as error:
            raise ModelError(
                f"forward fails with {', '.join(f'{n} = 2' for n in small)}: {reason(error)}",
                remedy="Say which axes may have any size, dynamic={...}, or that none may: "
                "dynamic={}",
            ) from error
    return larger


def _scripted(module: torch.nn.Module, inputs: Inputs) -> Exported | None:
    """By way of TorchScript, which keeps the branches and loops of Python; None if it cannot."""
    import torch

    try:
        return of_script(torch.jit.script(module), inputs, module)
    except Exception:
        return None
