"""The kernels of convolutions: which one computes which."""

from __future__ import annotations

from sofie_rdf.ir.dims import align
from sofie_rdf.ir.operator import Sizes, flag
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ir.windows import positions_of, taps_of
from sofie_rdf.kernels.choice import (
    AVX2,
    GENERIC,
    IS_ASSEMBLER,
    IS_AVX512,
    NO_FLOATS,
    Candidate,
    Choice,
    Elsewhere,
    Table,
)
from sofie_rdf.kernels.columns import COLUMNS_HEADER, columns_of
from sofie_rdf.kernels.convolution_problem import ConvProblem, half_of, half_or_reason
from sofie_rdf.kernels.depthwise import DEPTHWISE_HEADER, DEPTHWISE_LANES_HEADER, channel_lanes
from sofie_rdf.kernels.grouped import GROUPED_HEADER, group_lanes
from sofie_rdf.kernels.lanes import LANES_HEADER, is_short, scratch_of_lanes
from sofie_rdf.kernels.winograd import why_no_winograd

__all__ = ["CONVOLUTIONS", "HEADER"]

HEADER = "sofie/kernels/convolution.hxx"
# The features of one register, and the columns of outputs from which that is better filled in
# another way.
_NARROW, _WIDE = 16, 20


# Depthwise ----------------------------------------------------------------------------------------


def _not_depthwise(problem: ConvProblem) -> str:
    """Why the kernels for single channels do not take it; "" if they do."""
    _, channels, features, groups = problem.counts
    if groups == 1 or (groups, groups, 1) != (channels, features, problem.group_channels):
        return "its features are not of one channel each"
    if problem.added:
        return "a tensor is added to its sums"
    slides = problem.slides
    if len(slides) > 2 or slides[-1].stride > 2:
        return "it has three axes, or a stride along rows of more than 2"
    return ""


def _depthwise_table(problem: ConvProblem) -> TensorType:
    """What the kernel says about each pack of outputs, of 16 bytes at least."""
    slides, bytes_ = problem.slides, problem.dtype.nbytes
    across = align(slides[-1].count, 16 // bytes_) * bytes_ // 16
    packs = across * positions_of(slides[:-1])
    return TensorType(DType.INT32, (3 * packs * (taps_of(slides) + 1),))


def _depthwise_lanes(problem: ConvProblem) -> Choice | str:
    reason = _not_depthwise(problem)
    if reason or problem.dtype is not DType.FLOAT32:
        return reason or NO_FLOATS
    found = channel_lanes(problem.counts[1], problem.slides)
    if isinstance(found, str):
        return found
    memory = TensorType(problem.dtype, (found.elements,))
    return Choice(
        f"depthwise_lanes<{found.columns}, {found.stride}>",
        DEPTHWISE_LANES_HEADER,
        "sixteen channels lie side by side in the lanes",
        told=(Sizes((found.lines, 0)),),
        scratch=(_depthwise_table(problem), memory),
        elsewhere=(
            Elsewhere((AVX2, GENERIC), "depthwise_convolution", DEPTHWISE_HEADER, IS_AVX512),
        ),
    )


def _depthwise(problem: ConvProblem) -> Choice | str:
    return _not_depthwise(problem) or Choice(
        "depthwise_convolution",
        DEPTHWISE_HEADER,
        "each feature is a sum of rows of one channel, which are read where they are",
        scratch=(_depthwise_table(problem),),
    )


# Fewer multiplications ----------------------------------------------------------------------------


def _winograd(problem: ConvProblem) -> str:
    """Why no pass made a `WinogradConv` of it: that is another operator, as it promises less."""
    return why_no_winograd(problem) or _NOT_BY_SHAPE


_NOT_BY_SHAPE = (
    "its weights are computed, of a feature few of them are not near 0, or SOFIE_RDF_WINOGRAD is 0"
)


# Products -----------------------------------------------------------------------------------------

_COMPUTED = "its weights are computed, and not packed beforehand"


def _columns(problem: ConvProblem) -> Choice | str:
    if not problem.constant:
        return _COMPUTED
    if problem.groups > 1 or problem.dtype is not DType.FLOAT32:
        return "its channels are in groups" if problem.groups > 1 else NO_FLOATS
    found = columns_of(problem.features, problem.group_channels, problem.slides, half_of(problem))
    if isinstance(found, str):
        return found
    return Choice(
        f"convolution_columns<{found.stride}>",
        COLUMNS_HEADER,
        "few products for each output, or points: a matrix of what each tap reads pays",
        packed="ConvWeights<float, 8, 1>",
        told=(Sizes((found.lines, found.width)),),
        scratch=problem.scratch(found.copied, found.masks),
        elsewhere=(Elsewhere((GENERIC,), "convolution<8>", HEADER, IS_ASSEMBLER),),
    )


def _grouped(problem: ConvProblem) -> Choice | str:
    if not problem.constant or problem.dtype is not DType.FLOAT32:
        return NO_FLOATS if problem.constant else _COMPUTED
    if problem.groups == 1 and not _is_narrow(problem):
        return "it has one group, whose features do not fill one register of long rows"
    slides, each = problem.slides, problem.features // problem.groups
    found = group_lanes(problem.groups, problem.group_channels, each, slides)
    if isinstance(found, str):
        return found
    rows = problem.rows
    template = f"{found.columns}, {found.stride}, {found.together}, {rows}"
    return Choice(
        f"grouped_convolution<{template}>",
        GROUPED_HEADER,
        "features of several groups fill a register together",
        packed=f"GroupedWeights<{problem.groups}, {found.together}, {rows}>",
        told=(Sizes((found.lines, 0)),),
        scratch=problem.scratch(found.elements, found.taps),
        elsewhere=(Elsewhere((AVX2, GENERIC), f"convolution<{rows}>", HEADER, IS_AVX512),),
    )


def _is_narrow(problem: ConvProblem) -> bool:
    """Whether features in lanes fill one register, for which alone each input would be read."""
    last, features = problem.windows[-1], problem.features
    narrow = isinstance(features, int) and features <= _NARROW and last.stride == 1
    wide = isinstance(last.count, int) and last.count >= _WIDE
    return narrow and wide and half_of(problem) > 0


def _lanes(problem: ConvProblem) -> Choice | str:
    if not problem.constant:
        return _COMPUTED
    half = half_or_reason(problem)
    if isinstance(half, str):
        return half
    events, channels = problem.counts[0], problem.group_channels
    short = flag(is_short(problem.features))
    known = isinstance(problem.slides[-1].count, int)
    return Choice(
        f"convolution_lanes<{half if known else 0}, {short}>",
        LANES_HEADER,
        "features lie side by side in the lanes, so that rows of any length fill its tiles",
        packed="ConvLanesWeights",
        scratch=problem.scratch(scratch_of_lanes(events, channels, problem.slides, half)),
        elsewhere=(Elsewhere((GENERIC,), "convolution<8>", HEADER, IS_ASSEMBLER),),
    )


def _product(problem: ConvProblem) -> Choice:
    rows = problem.rows
    if not problem.constant:
        why = "it packs its weights at each call"
        return Choice(f"convolution_computed<{rows}>", HEADER, why, scratch=problem.scratch())
    return Choice(
        f"convolution<{rows}>",
        HEADER,
        "it takes every convolution: channels are copied with their padding",
        packed=f"ConvWeights<{problem.dtype.cxx}, {rows}, {problem.groups}>",
        scratch=problem.scratch(),
    )


CONVOLUTIONS: Table[ConvProblem] = Table(
    "convolution",
    (
        Candidate("depthwise_lanes", _depthwise_lanes),
        Candidate("depthwise_convolution", _depthwise),
        Candidate("convolution_winograd", _winograd),
        Candidate("convolution_columns", _columns),
        Candidate("grouped_convolution", _grouped),
        Candidate("convolution_lanes", _lanes),
        Candidate("convolution", _product),
    ),
)
