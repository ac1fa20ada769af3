"""Cling and g++ give the same bits: `compiler="auto"` takes now the one, now the other.

Some operators of each kind whose sums and products g++ would join to FMAs, left to itself; all
operators, which takes minutes, with
``SOFIE_RDF_ALL_KERNELS=1 python -m pytest -n auto tests/ops/test_same_bits.py``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import islice

import pytest

from sofie_rdf.ir.text import operator_text
from sofie_rdf.ir.types import DType
from sofie_rdf.runtime.compile.session import compile_graph
from tests.choice import some_of
from tests.ops.accuracy import identical
from tests.ops.cases import Case
from tests.ops.test_contract import OPERATORS, Key, accepted_cases, bench_of, sizes_of

pytest.importorskip("ROOT")

SOFIE = "sofie"
# Products that leave a function or a statement before they meet a sum, and sums of two products.
SOME: dict[str, list[Key]] = {
    "elements": [
        (SOFIE, "Then"),
        ("", "Gelu"),
        ("", "RotaryEmbedding"),
        ("", "DFT"),
        ("", "LogSoftmax"),
    ],
    "sums": [
        ("", "ReduceSumSquare"),
        ("", "ReduceLogSumExp"),
        ("", "LpNormalization"),
        ("", "LayerNormalization"),
        ("", "GroupNormalization"),
        ("", "Einsum"),
        ("", "SoftmaxCrossEntropyLoss"),
    ],
    "layers": [
        ("", "DeformConv"),
        ("", "LSTM"),
        (SOFIE, "Dense"),
        (SOFIE, "SmallConv"),
        (SOFIE, "WinogradConv"),
    ],
    "integers": [
        ("", "DynamicQuantizeLinear"),
        ("", "QuantizeLinear"),
        ("", "QLinearMatMul"),
        ("", "QLinearConv"),
        (SOFIE, "IntegerDense"),
    ],
}
ALL = {".".join(filter(None, key)): [key] for key in OPERATORS}
CHOSEN = ALL if os.environ.get("SOFIE_RDF_ALL_KERNELS") else SOME


def cases_of(key: Key) -> Iterator[tuple[DType, Case]]:
    """Its cases of these types; where only some operators are tested, only some of them."""
    types = {DType.FLOAT32: 8, DType.FLOAT64: 1, DType.INT8: 2, DType.UINT8: 2}
    for dtype, most in types.items():
        cases = [case for d, case in accepted_cases(key) if d is dtype]
        step = 1 if CHOSEN is ALL else -(-len(cases) // most)
        yield from ((dtype, case) for case in islice(cases, 0, None, max(step, 1)))


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
@pytest.mark.parametrize("name", some_of(CHOSEN, ["elements"]))
def test_cling_and_gxx_give_the_same_bits(name: str) -> None:
    keys = CHOSEN[name]
    pairs = [pair for key in keys for pair in cases_of(key)]
    if not pairs:
        return  # It has none of these types.
    tested = bench_of("bits_" + "_".join(op for _, op in keys), pairs)
    by_cling, by_gxx = (compile_graph(tested.graph, name) for name in ("cling", "g++"))
    wrong = set()
    for seed, batch in enumerate((1, 3, 17, 33)):
        sizes = sizes_of(tested.graph, batch)
        feeds = tested.feeds(sizes, seed, extreme=bool(seed % 2))
        left, right = by_cling.infer(feeds, sizes), by_gxx.infer(feeds, sizes)
        for node in tested.graph.nodes:
            if not all(identical(left[name], right[name]) for name in node.outputs):
                wrong.add(f"{operator_text(node.op)} -> {tested.graph.types[node.outputs[0]]}")
    assert not wrong, f"{len(wrong)} of {len(pairs)} cases differ:\n" + "\n".join(sorted(wrong))
