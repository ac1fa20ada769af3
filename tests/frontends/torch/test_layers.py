"""Layers with random options, and functions that the exporter lacks or gets wrong.

``python -m tests.conformance.torch_models`` has many more of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import sofie_rdf as sofie
from sofie_rdf.frontends.torch import reader as frontend
from sofie_rdf.frontends.torch.calls import quiet
from sofie_rdf.frontends.torch.decompositions import decomposed
from tests.conformance.torch_models import Row, compare
from tests.frontends.torch import layers


def several(*functions: Callable[[Tensor], Any]) -> layers.Function:
    """One module with all of them: each export takes a second."""
    return layers.Function(lambda x: [f(x) for f in functions])


@pytest.mark.parametrize("family", ["attention", "recurrent", "convolution"])
def test_layers(family: str) -> None:
    row = Row(family)
    case = layers.layer(family, 1)
    case.module.eval()
    calls = [case.example, *(layers.more(case, rows, rows) for rows in (1, 2, 7))]
    options = {"example_inputs": case.example, "dynamic": case.dynamic}
    compare(row, family, lambda: frontend.read(case.module, **options), case.module, calls)
    assert (row.same, row.refused, row.wrong) == (1, [], [])


def test_functions_that_are_written_otherwise() -> None:
    one = torch.ones(4, 4).tril().bool()
    module = several(
        lambda x: torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0]), right=True),
        lambda x: torch.searchsorted(x.sort(2)[0], x.flip(2), out_int32=True),
        lambda x: torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0]), x, side="right"),
        lambda x: torch.searchsorted(x[0, 0], x[:, 0, :2], sorter=x[0, 0].argsort()),
        lambda x: x.scatter_reduce(1, (x > 0).long(), x, "mean"),
        lambda x: x.scatter_reduce(1, (x > 0).long(), x, "mean", include_self=False),
        lambda x: (3 * x).long().scatter_reduce(1, (x > 0).long(), (9 * x).long(), "mean"),
        lambda x: (x.cumprod(2), (3 * x).int().cumprod(1)),
        lambda x: torch.hypot(1e30 * x, x.flip(2)),
        lambda x: (torch.cdist(x, x[:, :3] + 1), torch.cdist(x, x.flip(2), p=1)),
        lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=2),
        lambda x: F.scaled_dot_product_attention(x, x.exp(), x, attn_mask=one, scale=0.3),
    )
    case = layers.Case(module, torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1)))
    row = Row("functions")
    calls = [case.example, *(layers.more(case, rows, rows) for rows in (1, 2, 7))]
    compare(row, "", lambda: frontend.read(module, example_inputs=case.example), module, calls)
    assert (row.same, row.refused, row.wrong) == (1, [], [])


def test_the_exporter_would_be_wrong() -> None:
    """These are here as long as torch's exporter needs them."""
    for function in (
        lambda x: F.avg_pool2d(x, 3, divisor_override=2),
        lambda x: x.scatter_reduce(1, (x > 0).long(), x, "mean"),
    ):
        module = layers.Function(function)
        with quiet():
            program = torch.export.export(module, (torch.ones(3, 4, 6),), strict=False)
            assert decomposed(program) is not program


def test_what_the_exporter_forgets_without_us_is_found() -> None:
    """Windows that hang over the edge, with a divisor of one's own."""
    module = layers.Function(lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True, divisor_override=2))
    with pytest.raises(sofie.ModelError, match="differs from torch by"):
        frontend.read(module, example_inputs=torch.ones(2, 4, 6))
