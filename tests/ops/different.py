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
_DROPS_NAN = Difference("others compare with NaN, and drop it", FLOATS, True, "nan) and not")
_SINGLE = Difference("theirs computes in float32", DOUBLE, within=1e-4)
_SHIFTED = Difference("others have lost digits to the mean, which is far from 0", within=1e-2)
_EMPTY = Difference("the mean of nothing is no number, and not 0", message="nan) and not")
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

DIFFERENT: Mapping[str, tuple[Difference, ...]] = {
    "AffineGrid": (
        Difference("an axis of one place has it in the middle, as in PyTorch; others differ"),
        Difference("ONNX's evaluator gives float32", DOUBLE, message="and not float32"),
    ),
    "Attention": (
        Difference("theirs takes the root of the scale", where=lambda op: (op.scale or 0) < 0),
        Difference(
            "ONNX's evaluator takes a mask that is broadcast for that of the first query",
            where=lambda op: op.is_causal and op.qk_matmul_output_mode in (2, 3),
        ),
        Difference("theirs multiplies what is masked: 0 * NaN is NaN", FLOATS, True, "nan"),
    ),
    "Cast": (
        Difference(
            "theirs goes through float32, and does not do what ONNX's table says of what is too"
            " small or infinite",
            extreme_only=True,
            where=lambda op: op.to is DType.FLOAT8E8M0,
        ),
    ),
    "CausalConvWithState": (_SINGLE,),
    "Conv": (
        Difference(
            "theirs multiplies by the zeros between dilated weights: 0 * inf is NaN",
            FLOATS,
            True,
            "not np.float32(nan)",
            where=lambda op: op.dilations is not None,
        ),
    ),
    "DequantizeLinear": (
        Difference("theirs ignores zero points of few bits", one_of("float4_e2m1fn")),
        Difference("theirs subtracts in other types", one_of("int32"), extreme_only=True),
    ),
    "DynamicQuantizeLinear": (Difference("the scale of nothing is 0, and not 1"),),
    "Erf": (Difference("theirs is rounded to float32", DOUBLE),),
    "GRU": (_NO_ALPHA, _NO_STEPS, _RECURRENT_DOUBLE, _RECURRENT_NAN),
    "Gelu": (
        Difference("theirs adds 1 + erf, which cancels, and has constants in float32", FLOATS),
    ),
    "Gemm": (
        Difference("theirs multiplies integers as floats, and rounds once behind both", INTEGERS),
    ),
    "GlobalMaxPool": (
        Difference("theirs reduces another axis", message="onnx_evaluator"),
        _DROPS_NAN,
    ),
    "GridSample": (
        _SINGLE,
        Difference(
            "theirs has weights of cubic polynomials in integers",
            INTEGERS,
            where=lambda op: op.mode == "cubic",
        ),
        Difference("positions are no numbers, or beyond all integers", FLOATS, extreme_only=True),
    ),
    "GroupNormalization": (_SHIFTED,),
    "HardSwish": (Difference("theirs has 1/6 in float32", DOUBLE, within=1e-6),),
    "LRN": (Difference("onnxruntime has no even sizes, and ONNX's evaluator other bounds"),),
    "LSTM": (
        _NO_ALPHA,
        _NO_STEPS,
        _RECURRENT_DOUBLE,
        _RECURRENT_NAN,
        Difference(
            "onnxruntime does not clip the input of the last activation",
            where=lambda op: op.clip is not None,
        ),
    ),
    "LayerNormalization": (
        _SHIFTED,
        Difference("the statistics of float64 are float64, and not float32", DOUBLE),
    ),
    "LinearAttention": (_SINGLE,),
    "LpNormalization": (
        Difference("theirs squares numbers whose squares are no numbers", FLOATS, True),
    ),
    "LpPool": (_DROPS_NAN,),
    "MaxPool": (
        _DROPS_NAN,
        Difference("theirs counts from the beginning of the channel", message="onnx_evaluator"),
    ),
    "MaxRoiPool": (_DROPS_NAN,),
    "NegativeLogLikelihoodLoss": (_EMPTY,),
    "NonMaxSuppression": (
        Difference("a number of boxes that is not there is 0", message="int64[0, 3] and not"),
        Difference("scores of NaN have no order", extreme_only=True),
    ),
    "OneHot": (
        Difference("theirs adds on to what is off, which rounds", FLOATS, extreme_only=True),
    ),
    "Pow": (Difference("theirs goes through float64, which does not wrap around", INTEGERS),),
    "QLinearMatMul": (Difference("theirs rounds another product of scales", within=0.1),),
    "QuantizeLinear": (
        Difference(
            "theirs ignores zero points of 8-bit floats",
            where=lambda op: not op.saturate,
        ),
        Difference("theirs divides in another type", one_of("int32"), within=0.1),
        Difference("theirs goes through 32 bits", extreme_only=True),
    ),
    "RNN": (_NO_ALPHA, _NO_STEPS, _RECURRENT_DOUBLE),
    "ReduceL2": (Difference("theirs squares numbers whose squares are no numbers", FLOATS, True),),
    "ReduceMean": (
        _EMPTY,
        Difference("theirs is rounded to float64", one_of("int64", "uint64"), True),
    ),
    "ReduceSumSquare": (
        Difference("theirs has 64 bits, or stays at the largest number", INTEGERS),
    ),
    "Resize": (
        _SINGLE,
        Difference(
            "ONNX's evaluator multiplies sizes in float64 by scales of float32",
            message="onnx_evaluator",
            where=lambda op: op.antialias and op.scales is not None,
        ),
        Difference(
            "ONNX's evaluator has a place of -0.5 in a result of one element",
            message="onnx_evaluator",
            where=lambda op: op.coordinate_transformation_mode == "pytorch_half_pixel",
        ),
        Difference("theirs multiplies by weights of 0: 0 * inf is NaN", FLOATS, True),
        Difference("theirs goes through float64", one_of("int64", "uint64"), True),
    ),
    "ScatterElements": (Difference("theirs loses NaN that is not first", FLOATS, True, "nan"),),
    "Shrink": (Difference("theirs makes 0 of NaN", FLOATS, True, "nan"),),
    "SwiGLU": (Difference("theirs takes an exponential that is no number", FLOATS, True),),
    "ThresholdedRelu": (Difference("theirs makes 0 of NaN", FLOATS, True, "nan"),),
    "Unique": (Difference("each NaN of theirs is another one", FLOATS, True),),
}
