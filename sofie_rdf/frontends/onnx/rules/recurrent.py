"""What files say of recurrent layers that is no ONNX, and that has one meaning all the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ops.recurrent import Recurrent

__all__ = ["with_whole_lengths"]

_LENGTHS = 4


def with_whole_lengths(op: Operator, inputs: Sequence[str], build: Builder) -> tuple[str, ...]:
    """The inputs, with lengths of sequences as int32 where a constant has them as floats.

    Exporters have written such constants, SOFIE's own test models among them. Lengths that are not
    whole, or that are computed, stay floats, which the operator refuses.
    """
    if not isinstance(op, Recurrent) or len(inputs) <= _LENGTHS or not inputs[_LENGTHS]:
        return tuple(inputs)
    value = build.value_of(inputs[_LENGTHS])
    if value is None or value.dtype.kind != "f":
        return tuple(inputs)
    with np.errstate(invalid="ignore"):
        whole = value.astype(np.int32)
    if not (whole == value).all():
        return tuple(inputs)
    return (*inputs[:_LENGTHS], build.constant(whole), *inputs[_LENGTHS + 1 :])
