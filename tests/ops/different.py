"""Where ONNX's evaluator and onnxruntime give something else than our reference, and why."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import DType


def one_of(*dtypes: str) -> frozenset[DType]:
    return frozenset(map(DType, dtypes))


ALL = frozenset(DType)
FLOATS = one_of("float16", "bfloat16", "float32", "float64")
INTEGERS = one_of(*(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
DOUBLE = one_of("float64")


def _any(_: Operator) -> bool:
    return True


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the others say to a case: ``difference`` is empty where one of them agrees.

    ``size`` is how far the nearest is from ours, as a part of the number (or sum) itself.
    """

    compared: bool
    difference: str = ""
    size: float = 0.0


@dataclasses.dataclass(frozen=True)
class Difference:
    """Why ours is kept, and for which cases that is a reason."""

    reason: str
    dtypes: frozenset[DType] = ALL
    extreme_only: bool = False
    message: str = ""  # What the difference must say.
    within: float = math.inf  # How large it may be.
    where: Callable[..., bool] = _any

    def excuses(self, op: Operator, dtype: DType, verdict: Verdict, *, extreme: bool) -> bool:
        fits = dtype in self.dtypes and self.message in verdict.difference and self.where(op)
        return fits and verdict.size <= self.within and (extreme or not self.extreme_only)


UNCOMPARED: Mapping[str, str] = {
    "Bernoulli": "others have other random numbers",
    "If": "its graphs are no attributes of a file",
    "Loop": "its graphs are no attributes of a file",
    "Multinomial": "others have other random numbers",
    "RandomNormal": "others have other random numbers",
    "RandomNormalLike": "others have other random numbers",
    "RandomUniform": "others have other random numbers",
    "RandomUniformLike": "others have other random numbers",
}

# Reasons that several operators have.
_DROPS_NAN = Difference("others compare with NaN, and drop it", FLOATS, True, "nan")
_SINGLE = Difference("theirs computes in float32", DOUBLE, within=1e-4)
_SHIFTED = Difference("others have lost digits to the mean, which is far from 0", within=1e-2)
_EMPTY = Difference("the mean of nothing is no number, and not 0", message="nan and not")
_NO_ALPHA = Difference(
    "onnxruntime takes 0 for parameters of activations that are not given",
    where=lambda op: {"ScaledTanh", "Affine", "ThresholdedRelu"} & set(op.activations),
)
_NO_STEPS = Difference(
    "the last state of no steps is the first one, and not 0", message="and not np.float32(0.0)"
)
_RECURRENT_DOUBLE = Difference(
    "ONNX's evaluator ignores attributes and lengths, and onnxruntime has no float64",
    DOUBLE,
    message="onnx_evaluator",
)
_RECURRENT_NAN = Difference("onnxruntime clips NaN to a number", FLOATS, True, "nan")

DIFFERENT: Mapping[str, tuple[Difference, ...]] = {}
