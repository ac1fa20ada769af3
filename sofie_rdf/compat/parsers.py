"""SOFIE's parsers: `RModelParser_ONNX`, `PyKeras`, `PyTorch`; each gives an `RModel`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from sofie_rdf.compat.options import ETensorType, dtype_of
from sofie_rdf.compat.rmodel import RModel, fixed
from sofie_rdf.errors import InputError
from sofie_rdf.model import check, load

__all__ = ["PyKeras", "PyTorch", "RModelParser_ONNX"]


def _text(value: Any) -> str:
    """A path as a str, whatever kind of string PyROOT was given."""
    return str(value)


class RModelParser_ONNX:  # noqa: N801 (SOFIE's name)
    """``RModelParser_ONNX().Parse("model.onnx")``"""

    def Parse(self, filename: Any, verbose: bool = False) -> RModel:
        """The model in an ONNX file; raises the first thing that is wrong."""
        model = RModel(load(_text(filename)))
        if verbose:
            model.PrintSummary()
        return model

    def CheckModel(self, filename: Any, verbose: bool = False) -> bool:
        """Whether the model can run; else every reason is printed."""
        problems = check(_text(filename))
        for problem in problems:
            sys.stdout.write(f"{problem}\n")
        if verbose and not problems:
            sys.stdout.write(f"{_text(filename)}: everything in it is supported\n")
        return not problems

    def IsRegisteredOperator(self, name: str) -> bool:
        return str(name) in self.GetRegisteredOperators()

    def GetRegisteredOperators(self) -> list[str]:
        """The operators of ONNX that there are; `sofie-rdf ops` says more about each."""
        from sofie_rdf.frontends.onnx.catalogue import catalogue

        return sorted({entry.name for entry in catalogue("")})


class PyKeras:
    """``PyKeras.Parse("model.keras")``, also for .h5."""

    @staticmethod
    def Parse(filename: Any, batch_size: int = 1) -> RModel:
        """The model in a Keras file; ``batch_size`` is that of a batch that the file leaves open.

        0 or less leaves it open, too.
        """
        return RModel(fixed(load(_text(filename)), batch_size))


class PyTorch:
    """``PyTorch.Parse("model.pt", [[1, 7]])``"""

    @staticmethod
    def Parse(
        filename: Any,
        inputShapes: Iterable[Iterable[int]],
        inputDTypes: Sequence[int] = (),
    ) -> RModel:
        """The model in a TorchScript or torch.export file, for inputs of these shapes."""
        shapes = [",".join(str(int(size)) for size in shape) for shape in inputShapes]
        types = [dtype_of(ETensorType(int(kind))) for kind in inputDTypes]
        if types and len(types) != len(shapes):
            raise InputError(f"{len(shapes)} shapes and {len(types)} types are given")
        named = [f"{s}:{t}" for s, t in zip(shapes, types, strict=True)] if types else shapes
        return RModel(load(_text(filename), input_shapes=named))
