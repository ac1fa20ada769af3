"""Rows of If, Loop, and what Scan needs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim, symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import DType, Shape, TensorType
from sofie_rdf.ops.assumptions import Assume
from sofie_rdf.ops.control_flow import If, Loop, Provided, Reversed, ScanSlice, SizeOfAxis
from sofie_rdf.ops.elementwise import Abs, Add
from sofie_rdf.ops.layout import Concat, Identity
from tests.ops.cases import Case, M, N, Row, layout, small


def _branch(name: str, dtype: DType, shape: Shape, *, twice: bool) -> Graph:
    build = Builder(name)
    x = build.input("x", TensorType(dtype, shape))
    y = build(Concat(0), x, x) if twice else build(Identity(), x)
    return build.graph(y, build(Abs(), x))


def _if(dtype: DType, full: bool) -> Iterator[Case]:
    if not (dtype.is_float or dtype.is_integer):
        return
    shapes: list[Shape] = [(N,), (N, 3), (2,)] if full else [(N,)]
    for shape in shapes:
        for condition in (True, False):
            bodies = (_branch(n, dtype, shape, twice=n == "then") for n in ("then", "else"))
            yield Case(If(*bodies), (np.array(condition), TensorType(dtype, shape)))


def _sum_of_rounds(dtype: DType, shape: Shape) -> Graph:
    """carried + x, and the carried value before it stacked, for as long as it is asked for."""
    build = Builder("sum")
    build.input("round", TensorType(DType.INT64))
    go = build.input("go", TensorType(DType.BOOL))
    state = build.input("state", TensorType(dtype, shape))
    x = build.input("x", TensorType(dtype, shape))
    return build.graph(build(Identity(), go), build(Add(), state, x), build(Identity(), state))


def _growing(dtype: DType, rest: Shape) -> Graph:
    """A carried value that is longer after each round."""
    build = Builder("growing")
    build.input("round", TensorType(DType.INT64))
    go = build.input("go", TensorType(DType.BOOL))
    state = build.input("state", TensorType(dtype, (symbol("state.0"), *rest)))
    x = build.input("x", TensorType(dtype, (N, *rest)))
    return build.graph(build(Identity(), go), build(Concat(0), state, x))


def _loop(dtype: DType, full: bool) -> Iterator[Case]:
    if dtype not in (DType.FLOAT32, DType.INT64, DType.FLOAT64):
        return
    shapes: list[Shape] = [(N,), (3,), (), (N, 2)] if full else [(N,)]
    go = np.array(True)
    for shape in shapes:
        types = TensorType(dtype, shape), TensorType(dtype, shape)
        body = _sum_of_rounds(dtype, shape)
        for rounds in (0, 1, 3):
            length: Dim = rounds
            yield Case(Loop(body, 1, length), (np.array(rounds), go, *types), (small,))
    types = TensorType(dtype, (2, 3)), TensorType(dtype, (N, 3))
    yield Case(Loop(_growing(dtype, (3,)), 1), (np.array(3), go, *types), (small,))
    yield Case(Loop(_growing(dtype, (3,)), 1), (np.array(3), np.array(False), *types), (small,))


def _slices(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: list[tuple[int, Shape]] = [(0, (3, N)), (1, (N, 4, 2)), (-1, (2, 3))]
    for axis, shape in shapes if full else shapes[:1]:
        for backward in (False, True):
            for number in (0, 2) if axis != -1 else (1,):
                x = TensorType(dtype, shape)
                yield Case(ScanSlice(axis, backward), (x, np.array(number)))


def _provided(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: list[Shape] = [(N, 3), (), (M, 2, 2)] if full else [(N,)]
    for shape in shapes:
        for holds in (True, False):
            yield Case(Provided(holds), (TensorType(dtype, shape), np.array([holds])))


ROWS = {
    ("", "If"): Row(_if),
    ("", "Loop"): Row(_loop),
    ("sofie", "Provided"): Row(_provided),
    ("sofie", "ScanSlice"): Row(_slices),
    ("sofie", "Reversed"): layout(
        (Reversed(), ((N,),)), (Reversed(), ((3, N),)), (Reversed(), ((1, 2, 3),))
    ),
    ("sofie", "SizeOfAxis"): layout(
        (SizeOfAxis(0), ((N, 2),)), (SizeOfAxis(-1), ((2, M),)), (SizeOfAxis(1), ((2, 7),))
    ),
    ("sofie", "Assume"): layout((Assume((N, 3)), ((N, 3),)), (Assume(()), ((),))),
}
