"""Functions that torch's exporter to ONNX does not have or gets wrong, in terms of others.

They are applied to an exported program before it is written as ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sofie_rdf.errors import UnsupportedOperator

if TYPE_CHECKING:
    import torch

__all__ = ["decomposed"]


def decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same program without the functions that are written in terms of others here."""
    table = _table()
    targets = [node.target for node in program.graph.nodes]
    _refuse_projections(program)
    found: Mapping[Any, Any] = {op: make for op, make in table.items() if op in targets}
    return program.run_decompositions(dict(found)) if found else program


def _table() -> Mapping[Any, Callable[..., Any]]:
    import torch

    aten = torch.ops.aten
    return {
        aten.searchsorted.Tensor: _searchsorted,
        aten.searchsorted.Scalar: _searchsorted,
        aten.bucketize.Tensor: _bucketize,
        aten.scatter_reduce.two: _scatter_reduce,
    }


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
