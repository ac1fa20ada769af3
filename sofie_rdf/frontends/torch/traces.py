"""Modules that torch.export refuses, as a trace: what a call with the example inputs computes.

A trace has no branches and loops of Python, and keeps what Python computed from numbers. So torch
is asked which lines of Python did that, `torch.compare` compares it at more inputs than others,
and the model says both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sofie_rdf.errors import SofieError
from sofie_rdf.frontends.torch.calls import tensors_in
from sofie_rdf.frontends.torch.export import Exported, checked, export_error, output_names
from sofie_rdf.frontends.torch.inputs import Inputs
from sofie_rdf.frontends.torch.older import older_export

if TYPE_CHECKING:
    import torch

__all__ = ["of_trace"]

_ROUTE = "a trace (torch's older exporter)"
# So many lines of Python that decided something are named.
_NAMED = 5


def of_trace(module: Callable[..., Any], inputs: Inputs) -> Exported:
    """The ONNX model of a call with the example inputs, by torch's older exporter.

    Errors are a `SofieError` where torch cannot trace the module or write the trace.
    """
    import torch

    examples = tuple(leaf.example.clone() for leaf in inputs.tensors)
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", torch.jit.TracerWarning)
        try:
            outputs = output_names(module, inputs)
            proto = older_export(_of_tensors(module, inputs), examples, inputs, outputs)
        except SofieError:
            raise
        except Exception as error:
            raise export_error(error) from error
    names = tuple(leaf.name for leaf in inputs.tensors)
    found = checked(proto, inputs, names, module, _ROUTE + _decided(noted))
    return replace(found, traced=True)


def _of_tensors(module: Callable[..., Any], inputs: Inputs) -> torch.nn.Module:
    """The module as one of tensors to tensors: all else among its arguments is fixed."""
    import torch

    class Flat(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = module
            self.eval()

        def forward(self, *tensors: Any) -> Any:
            args, kwargs = inputs.with_tensors(tensors)
            found = tensors_in(self.inner(*args, **kwargs))
            return found[0] if len(found) == 1 else tuple(found)

    return Flat()


def _decided(noted: list[warnings.WarningMessage]) -> str:
    """The lines of Python that computed with the example's numbers or sizes, in words."""
    import torch

    lines = dict.fromkeys(
        f"{note.filename.replace(chr(92), '/').rsplit('/', 1)[-1]}:{note.lineno}"
        for note in noted
        if issubclass(note.category, torch.jit.TracerWarning)
    )
    if not lines:
        return ""
    named = [*lines][:_NAMED] + ([f"{len(lines) - _NAMED} more"] if len(lines) > _NAMED else [])
    return f"; as for the example stayed what Python decides in {', '.join(named)}"
