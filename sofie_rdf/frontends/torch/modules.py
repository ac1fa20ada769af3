"""Modules in memory, by torch.export; where that refuses, by TorchScript, else by a trace."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sofie_rdf.errors import InputError, ModelError, SofieError, UnsupportedOperator
from sofie_rdf.frontends.torch.calls import run_of
from sofie_rdf.frontends.torch.export import (
    Exported,
    advice,
    first_run,
    of_program,
    reason,
)
from sofie_rdf.frontends.torch.inputs import Inputs
from sofie_rdf.frontends.torch.scripts import of_script
from sofie_rdf.frontends.torch.traces import of_trace

if TYPE_CHECKING:
    import torch

__all__ = ["of_module"]

# Functions of torch that compute derivatives, by their modules.
_DERIVING = (
    *(("torch.autograd", "grad"), ("torch.autograd", "backward")),
    ("torch._functorch.eager_transforms", "grad_impl"),
)


def of_module(
    module: torch.nn.Module, inputs: Inputs, accept: Callable[[Exported], None]
) -> Exported:
    """The ONNX model of a module in evaluation mode, by torch.export.

    A module that torch.export refuses is scripted instead, or else traced. ``accept`` raises a
    `SofieError` where such a model cannot be read or is not what torch computes; if all do, the
    error says so for each of them.
    """
    inputs = _large_enough(inputs, module)
    try:
        return _by_export(module, inputs)
    except _Refused as refused:
        attempts = [("torch.export", refused.error)]
    for route, write in (("torch.jit.script", _scripted), ("a trace", of_trace)):
        found = _attempted(write, module, inputs, accept)
        if isinstance(found, Exported):
            return found
        attempts.append((route, found))
    raise _of_all(attempts, inputs) from attempts[0][1]


def _attempted(
    write: Callable[[torch.nn.Module, Inputs], Exported],
    module: torch.nn.Module,
    inputs: Inputs,
    accept: Callable[[Exported], None],
) -> Exported | Exception:
    """The model that one of torch's exporters writes, or why there is none."""
    try:
        exported = write(module, inputs)
        accept(exported)
    except Exception as error:
        return error
    return exported


class _Refused(Exception):
    """What torch.export says to a module that another way may lead to a network."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _by_export(module: torch.nn.Module, inputs: Inputs) -> Exported:
    import torch

    args, kwargs = inputs.with_tensors([leaf.example for leaf in inputs.tensors])
    open_axes = inputs.arguments_with(
        lambda leaf: dict.fromkeys(leaf.axes, torch.export.Dim.DYNAMIC) or None
    )
    try:
        program = torch.export.export(module, args, kwargs, dynamic_shapes=open_axes, strict=False)
        return of_program(program, inputs, module)
    except (UnsupportedOperator, InputError):
        raise
    except Exception as error:
        raise _Refused(error) from error


def _of_all(attempts: Sequence[tuple[str, Exception]], inputs: Inputs) -> SofieError:
    """The error that names all attempts, with the class and the advice of the first one."""
    (_, first), *others = attempts
    if any(_derives(error) for _, error in attempts):
        return UnsupportedOperator(
            "forward computes derivatives (torch.autograd.grad), which torch's exporters do not "
            "write",
            remedy="Write their formula; Model.gradient has those of a model that is read",
        )
    also = "; ".join(f"{route}: {_short(error)}" for route, error in others)
    if isinstance(first, SofieError):
        return first.rewritten(f"{first.thing} (also tried: {also})", first.place)
    return ModelError(
        f"torch.export cannot export it: {reason(first)} (also tried: {also})",
        remedy=advice(inputs, str(first)),
    )


def _derives(error: BaseException | None) -> bool:
    """Whether torch.autograd.grad has failed."""
    while error is not None:
        frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
        if any((f.f_globals.get("__name__"), f.f_code.co_name) in _DERIVING for f in frames):
            return True
        error = error.__cause__
    return False


def _short(error: Exception) -> str:
    if not isinstance(error, SofieError):
        return reason(error)
    return f"{error.place}: {error.thing}" if error.place else error.thing


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


def _scripted(module: torch.nn.Module, inputs: Inputs) -> Exported:
    """By way of TorchScript, which keeps the branches and loops of Python."""
    import torch

    return of_script(torch.jit.script(module), inputs, module)
