"""Steps over axes: sums, extrema, distributions, orders, running sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.fuzz.network import Net, Value
from tests.fuzz.steps import dropped, step

REDUCTIONS = (
    *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"),
    *("ReduceSumSquare", "ReduceLogSumExp", "ReduceProd", "ReduceLogSum", "ReduceMean"),
)


def span_of(op: str, x: Value, count: int) -> tuple[float, float]:
    """Between what the results lie, of ``count`` numbers each."""
    most = x.bound
    if op == "ReduceProd":
        return -(max(most, 1.0) ** count), max(most, 1.0) ** count
    return {
        "ReduceSum": (min(0.0, x.low) * count, max(0.0, x.high) * count),
        "ReduceMean": (x.low, x.high),
        "ReduceMax": (x.low, x.high),
        "ReduceMin": (x.low, x.high),
        "ReduceL1": (0.0, most * count),
        "ReduceL2": (0.0, most * math.sqrt(count)),
        "ReduceSumSquare": (0.0, most * most * count),
        "ReduceLogSumExp": (x.low, x.high + math.log(count)),
        "ReduceLogSum": (-7.0, math.log(max(most * count, 2))),
    }[op]


@step(6)
def reduction(net: Net) -> Any:
    x = net.pick_real()
    if x is None:
        return None
    op = net.choose.one(REDUCTIONS)
    axes = tuple(a for a in range(x.rank) if net.choose.chance(50))
    every = axes or tuple(range(x.rank))
    count = max(
        (math.prod(x.shape[a].sizes[c] for a in every) for c in range(net.calls)), default=1
    )
    if any(x.shape[a].least < 1 for a in every) and op not in ("ReduceSum", "ReduceL1"):
        return None
    if op == "ReduceProd":
        if count > 12:
            return None
        x = net.tame(x, 1.5)
    if op == "ReduceLogSum":
        x = net.within(x, 0.01, 40.0)
    keep = net.choose.chance(50)
    shape = dropped(x, every, keep=keep, net=net)
    named = [a - x.rank if net.opset >= 11 and net.choose.chance(30) else a for a in axes]
    since = 13 if op == "ReduceSum" else 18
    call = net.along(op, x, named, since) if axes else {"op": op, "inputs": [x]}
    more: dict[str, Any] = {} if keep and net.choose.chance(50) else {"keepdims": int(keep)}
    return net.add(**call, shape=shape, span=span_of(op, x, max(count, 1)), **more)


@step(2)
def reduced_integers(net: Net) -> Any:
    x = net.pick(lambda v: v.dtype in ("int32", "int64") and v.bound < 1e3 and v.rank >= 1)
    if x is None or x.shape[-1].least < 1:
        return None
    op = net.choose.one(("ReduceSum", "ReduceMax", "ReduceMin"))
    axis = x.rank - 1
    call = net.along(op, x, [axis], 13 if op == "ReduceSum" else 18)
    shape = (*x.shape[:-1], net.dim(1))
    return net.add(**call, shape=shape, span=span_of(op, x, max(x.shape[-1].sizes)))


@step(4)
def distribution(net: Net) -> Any:
    x = net.pick_real(lambda v: v.rank >= 1 and all(d.least > 0 for d in v.shape[1:]))
    if x is None:
        return None
    axis = net.choose.whole(0, x.rank - 1)
    if x.shape[axis].least < 1:
        return None
    if net.opset >= 13 and net.choose.chance(30):
        axis -= x.rank
    op = net.choose.one(("Softmax", "Softmax", "LogSoftmax", "Hardmax"))
    low = -2 * x.bound - 9 if op == "LogSoftmax" else 0.0
    high = 0.0 if op == "LogSoftmax" else 1.0
    return net.add(op, [x], x.shape, (low, high), axis=axis)


@step(2)
def place_of_best(net: Net) -> Any:
    x = net.pick_real(lambda v: v.rank >= 1)
    if x is None:
        return None
    axis = net.choose.whole(0, x.rank - 1)
    if x.shape[axis].least < 1:
        return None
    keep = net.choose.chance(50)
    shape = dropped(x, (axis,), keep=keep, net=net)
    more = {"select_last_index": 1} if net.opset >= 12 and net.choose.chance(30) else {}
    span = (0.0, float(max(x.shape[axis].sizes) - 1))
    op = net.choose.one(("ArgMax", "ArgMin"))
    return net.add(op, [x], shape, span, dtype="int64", axis=axis, keepdims=int(keep), **more)


@step(3, since=10)
def best(net: Net) -> Any:
    """TopK, by a constant number or by all there are."""
    x = net.pick_real(lambda v: v.rank >= 1)
    if x is None:
        return None
    axis = net.choose.whole(0, x.rank - 1)
    length = x.shape[axis]
    if length.least < 1:
        return None
    if net.choose.chance(20):
        k, count = net.sizes_of([length]), length
    else:
        count = net.dim(net.choose.whole(1, min(length.least, 9)))
        k = net.integers([count.static])
    if k is None:
        return None
    more: dict[str, Any] = {"axis": axis}
    if net.opset >= 11 and net.choose.chance(50):
        more["largest"] = 0
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    results = [
        (x.dtype, shape, (x.low, x.high)),
        ("int64", shape, (0.0, float(max(length.sizes) - 1))),
    ]
    return net.several("TopK", [x, k], results, **more)


@step(2, since=11)
def running_sum(net: Net) -> Any:
    x = net.pick_real(lambda v: v.rank >= 1)
    if x is None:
        return None
    axis = net.choose.whole(0, x.rank - 1)
    kind = net.choose.one((np.int32, np.int64))
    where = axis - x.rank if net.choose.chance(30) else axis
    more: dict[str, Any] = {a: 1 for a in ("exclusive", "reverse") if net.choose.chance(30)}
    most = x.bound * max(1, *x.shape[axis].sizes)
    return net.add("CumSum", [x, net.constant(kind(where))], x.shape, (-most, most), **more)


@step(1)
def unit_length(net: Net) -> Any:
    x = net.pick_real(lambda v: v.rank >= 1 and v.shape[-1].least > 0)
    if x is None:
        return None
    away = net.add("Exp", [net.within(x, -5, 2)], x.shape, (math.exp(-5), math.exp(2)))
    p = net.choose.one((1, 2))
    return net.add("LpNormalization", [away], x.shape, (0, 1), axis=x.rank - 1, p=p)


@step(1)
def shifted_and_scaled(net: Net) -> Any:
    x = net.pick_real(lambda v: v.rank == 4 and all(d.least > 0 for d in v.shape))
    if x is None:
        return None
    return net.add("MeanVarianceNormalization", [x], x.shape, (-80, 80), axes=[0, 2, 3])
