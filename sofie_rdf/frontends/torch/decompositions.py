"""Functions that torch's exporter to ONNX does not have or gets wrong, in terms of others.

They are applied to an exported program before it is written as ONNX.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.frontends.torch.complexes import complex_operators, complex_table

if TYPE_CHECKING:
    import torch

__all__ = ["decomposed"]

# The exponential of a matrix: a series of so many terms for a matrix of at most this norm has the
# precision of float64, and is squared so often.
_TERMS = 24
_LARGEST = 2.0
_SQUARINGS = 4


def decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same program without the functions that are written in terms of others here."""
    table = _table()
    # Decompositions see functions that write to no argument: copy for copy_.
    targets = {str(node.target).replace("_.", ".") for node in program.graph.nodes}
    _refuse_projections(program)
    found: dict[Any, Any] = {op: make for op, make in table.items() if str(op) in targets}
    if complex_operators(program.graph.nodes):
        # More of them come when nothing is written to arguments.
        found |= complex_table()
    return program.run_decompositions(found) if found else program


def _table() -> Mapping[Any, Callable[..., Any]]:
    import torch

    aten = torch.ops.aten
    return {
        aten.searchsorted.Tensor: _searchsorted,
        aten.searchsorted.Scalar: _searchsorted,
        aten.bucketize.Tensor: _bucketize,
        aten.scatter_reduce.two: _scatter_reduce,
        aten.avg_pool2d.default: _average_pool,
        aten.avg_pool3d.default: _average_pool,
        aten.cumprod.default: _cumulative_product,
        aten.embedding_bag.padding_idx: _embedding_bag,
        aten.embedding_bag.default: _embedding_bag,
        aten._embedding_bag.default: _embedding_bag,
        aten._embedding_bag_forward_only.default: _embedding_bag,
        aten.hypot.default: _hypotenuse,
        aten.atan2.default: _angle,
        aten.xlogy.Tensor: _times_log,
        aten.special_xlogy.default: _times_log,
        aten.logaddexp.default: _added_as_logarithms,
        aten.cdist.default: _distances,
        aten.scaled_dot_product_attention.default: _attention,
        aten.uniform.default: _uniform,
        aten.linalg_matrix_exp.default: _matrix_exponential,
    }


def _matrix_exponential(x: torch.Tensor) -> torch.Tensor:
    """The series of exp(x / 16), squared four times; NaN where it has not enough terms."""
    import torch

    part = x / 2**_SQUARINGS
    one = torch.eye(x.shape[-1], dtype=x.dtype).expand(x.shape)
    found = one
    for number in range(_TERMS, 0, -1):
        found = one + part @ found / number
    for _ in range(_SQUARINGS):
        found = found @ found
    size = part.abs().sum(-2, keepdim=True).amax(-1, keepdim=True)
    return found + torch.where(size < _LARGEST, 1.0, -1.0).log()


def _uniform(
    x: torch.Tensor,
    low: float = 0.0,
    high: float = 1.0,
    generator: Any = None,  # noqa: ARG001
) -> torch.Tensor:
    import torch

    return low + (high - low) * torch.rand_like(x)


def _searchsorted(
    sorted_sequence: torch.Tensor,
    values: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: torch.Tensor | None = None,
) -> torch.Tensor:
    """How many elements of each sorted row are less than the value, or (right) not above it."""
    import torch

    if sorter is not None:
        sorted_sequence = sorted_sequence.gather(-1, sorter)
    right = right or side == "right"
    if not isinstance(values, torch.Tensor):
        passed = sorted_sequence > values if right else sorted_sequence >= values
    else:
        rows = sorted_sequence.unsqueeze(-2) if sorted_sequence.ndim > 1 else sorted_sequence
        wanted = values.unsqueeze(-1)
        passed = rows > wanted if right else rows >= wanted
    count = passed.logical_not().sum(-1)  # A NaN is above all.
    return count.to(torch.int32) if out_int32 else count


def _bucketize(
    values: torch.Tensor, boundaries: torch.Tensor, *, out_int32: bool = False, right: bool = False
) -> torch.Tensor:
    """`_searchsorted` with one row."""
    return _searchsorted(boundaries, values, out_int32=out_int32, right=right)


def _scatter_reduce(
    base: torch.Tensor,
    dim: int,
    index: torch.Tensor,
    values: torch.Tensor,
    reduce: str,
    *,
    include_self: bool = True,
) -> Any:
    """Means as sums over counts: the exporter writes the last value for them."""
    import torch

    if reduce != "mean":
        return NotImplemented
    counts, sums = torch.ones_like(base), base
    if not include_self:
        none = torch.zeros_like(values)
        sums = sums.scatter(dim, index, none)
        counts = counts.scatter(dim, index, none)
    sums = sums.scatter_add(dim, index, values)
    counts = counts.scatter_add(dim, index, torch.ones_like(values)).clamp(min=1)
    return sums / counts if base.is_floating_point() else sums.div(counts, rounding_mode="floor")


def _average_pool(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """A divisor of one's own, which the exporter forgets: a sum is a mean times the window."""
    import torch

    del count_include_pad  # With a divisor, zeros are added and not counted.
    if divisor_override is None or ceil_mode:
        return NotImplemented
    axes = len(kernel) if len(kernel) > 1 else x.ndim - 2
    window = math.prod(kernel) if len(kernel) > 1 else kernel[0] ** axes
    pool = torch.nn.functional.avg_pool2d if axes == 2 else torch.nn.functional.avg_pool3d
    mean = pool(x, kernel, stride or None, padding, False, True)
    return mean * (window / divisor_override)


def _cumulative_product(x: torch.Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    """x0, x0 x1, x0 x1 x2, ...: one product after the other, if their number is known."""
    import torch

    if not x.ndim or not isinstance(x.shape[dim], int) or not x.shape[dim]:
        return NotImplemented
    if dtype is not None:
        x = x.to(dtype)
    elif not x.is_floating_point():
        x = x.to(torch.int64)
    found = [x.select(dim, 0)]
    for place in range(1, x.shape[dim]):
        found.append(found[-1] * x.select(dim, place))
    return torch.stack(found, dim)


def _embedding_bag(
    table: torch.Tensor,
    indices: torch.Tensor,
    offsets: torch.Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = -1,
) -> Any:
    """Sums (mode 0), means (1) or maxima (2) of the rows of each bag, which begins at its offset.

    What else is given back only the training reads.
    """
    import torch

    del scale_grad_by_freq, sparse
    if include_last_offset:
        offsets = offsets[:-1]
    place = torch.arange(indices.shape[0], dtype=offsets.dtype)
    bag = _searchsorted(offsets, place, right=True) - 1
    rows = table[indices]
    present = torch.ones_like(indices, dtype=table.dtype)
    if padding_idx is not None and padding_idx >= 0:
        present = (indices != padding_idx).to(table.dtype)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    none = torch.zeros(offsets.shape[0], table.shape[1], dtype=table.dtype)
    counts = torch.zeros(offsets.shape[0], dtype=table.dtype).index_add(0, bag, present)
    if mode == 2:
        least = torch.finfo(table.dtype).min
        rows = torch.where(present.unsqueeze(-1) > 0, rows, least)
        index = bag.unsqueeze(-1).expand_as(rows)
        found = none.add(least).scatter_reduce(0, index, rows, "amax")
        found = torch.where(counts.unsqueeze(-1) > 0, found, 0.0)
    else:
        found = none.index_add(0, bag, rows * present.unsqueeze(-1))
        found = found / counts.clamp(min=1).unsqueeze(-1) if mode == 1 else found
    return found, bag, counts.to(indices.dtype), counts.to(indices.dtype)


def _hypotenuse(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """sqrt(x^2 + y^2), of numbers that are divided by the larger one first."""
    import torch

    x, y = x.abs(), y.abs()
    large, small = torch.maximum(x, y), torch.minimum(x, y)
    part = torch.where(large > 0, small / torch.where(large > 0, large, 1.0), small)
    found: torch.Tensor = torch.where(large.isinf(), large, large * (1 + part * part).sqrt())
    return found


def _angle(y: torch.Tensor, x: torch.Tensor) -> Any:
    """atan2 with zeros, their signs and infinities: the exporter's is -pi at (0, -1).

    The derivative of the exporter's by y is 1 at (0, x), which is 1 / x, and NaN at (y, 0).
    """
    import torch

    if not (y.is_floating_point() and x.is_floating_point()):
        return NotImplemented
    both = y.isinf() & x.isinf()
    up, ahead = torch.where(both, torch.sign(y), y), torch.where(both, torch.sign(x), x)
    # The smaller one over the larger one: derivatives are finite on the axes, and zeros at (0, 0).
    steep = up.abs() > ahead.abs()
    base = torch.where(steep, up, torch.where(ahead == 0, math.inf, ahead))
    found = torch.atan(torch.where(steep, -ahead, up) / base)
    below, left = (y < 0) | (1 / y < 0), (x < 0) | (1 / x < 0)
    turn = torch.where(left, math.pi, torch.zeros_like(base))
    turn = torch.where(steep, math.pi / 2, turn)
    return torch.where(below, found - turn, found + turn)


def _times_log(x: torch.Tensor, y: Any) -> Any:
    """x * log(y), and 0 for x = 0: the exporter's has the derivative 1 there, which is log(y)."""
    import torch

    if not (isinstance(y, torch.Tensor) and x.is_floating_point() and y.is_floating_point()):
        return NotImplemented
    absent = (x == 0) & ((y <= 0) | y.isinf())
    found = x * torch.log(torch.where(absent, 1.0, y))
    return torch.where(absent, torch.zeros_like(found), found)


def _added_as_logarithms(x: torch.Tensor, y: torch.Tensor) -> Any:
    """log(e^x + e^y), which the exporter writes so: infinity above 88."""
    import torch

    if not (x.is_floating_point() and y.is_floating_point()):
        return NotImplemented
    apart = torch.where(x == y, torch.zeros_like(x + y), x - y).abs()
    return torch.maximum(x, y) + torch.nn.functional.softplus(-apart)


def _distances(
    x: torch.Tensor, y: torch.Tensor, p: float = 2.0, compute_mode: int | None = None
) -> Any:
    """The p-norm of the difference of each row of x and each row of y."""
    del compute_mode
    difference = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    if p == 2:
        return difference.square().sum(-1).sqrt()
    if p == 1:
        return difference.sum(-1)
    return difference.amax(-1) if math.isinf(p) else difference.pow(p).sum(-1).pow(1 / p)


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """With 0 for a query that may attend to nothing, where the exporter has means or NaN.

    Without a mask only what the exporter refuses is written here: no axis of heads, and fewer heads
    of keys than of queries.
    """
    import torch

    is_plain = query.ndim == 4 and key.ndim == 4 and value.ndim == 4 and not enable_gqa
    if mask is None and is_plain:
        return NotImplemented
    if enable_gqa:
        heads = query.shape[-3]
        key, value = (t.repeat_interleave(heads // t.shape[-3], -3) for t in (key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = query @ key.transpose(-2, -1) * scale
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.where(mask, 0.0, -torch.inf).to(query.dtype)
    weights = (scores if mask is None else scores + mask).softmax(-1)
    found = (torch.dropout(weights, dropout, True) if dropout else weights) @ value
    if mask is None:
        return found
    return torch.where(mask.amax(-1, keepdim=True) == -torch.inf, torch.zeros_like(found), found)


def _refuse_projections(program: torch.export.ExportedProgram) -> None:
    """ONNX's LSTM has none, and the exporter ignores them."""
    for node in program.graph.nodes:
        if str(node.target) == "aten.lstm.input":
            _, _, weights, biases, layers, _, _, both = node.args[:8]
            if len(weights) != layers * (1 + bool(both)) * (4 if biases else 2):
                raise UnsupportedOperator(
                    "LSTM with proj_size is not supported: ONNX has none",
                    remedy="Use an LSTM without it and a Linear layer",
                )
