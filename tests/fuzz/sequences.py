"""Steps with a state: recurrent layers, and graphs in attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from tests.fuzz.linear import has_features
from tests.fuzz.network import Net, Value, declared
from tests.fuzz.pointwise import arithmetic, beside, unary
from tests.fuzz.steps import STEPS, step

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@step(3)
def recurrent(net: Net) -> Any:
    x = net.pick_real(lambda v: v.rank == 3 and has_features(v) and v.shape[0].least > 0, 5.0)
    if x is None:
        return None
    choose, op = net.choose, net.choose.one(tuple(GATES))
    if x.shape[1].least > 0 and choose.chance(30):
        x = net.add(
            "Transpose", [x], [x.shape[i] for i in (1, 0, 2)], (x.low, x.high), perm=[1, 0, 2]
        )
    steps, batch, features = x.shape
    hidden, way = choose.one((1, 3, 4, 9, 20)), choose.one(("forward", "reverse", "bidirectional"))
    both = 2 if way == "bidirectional" else 1
    rows = GATES[op] * hidden
    inputs: list[Value | None] = [
        x,
        net.weights((both, rows, features.static), 0.4),
        net.weights((both, rows, hidden), 0.4),
    ]
    if choose.chance(70):
        inputs.append(net.weights((both, 2 * rows), 0.3))
    more: dict[str, Any] = {"hidden_size": hidden, "direction": way}
    d, h = net.dims([both, hidden])
    if choose.chance(20) and not net.depth:
        inputs += [None] * (4 - len(inputs))
        inputs.append(net.input("int32", (batch,), 1, steps.least) if choose.chance(50) else None)
        inputs.append(net.input(x.dtype, (d, batch, h), -1, 1))
    if choose.chance(20):
        known = {"LSTM": ("Sigmoid", "Tanh", "Relu"), "GRU": ("HardSigmoid", "Softsign")}
        more["activations"] = list(known.get(op, ("Relu",))) * both
    if op == "GRU" and choose.chance(60):
        more["linear_before_reset"] = 1
    results = [(x.dtype, (steps, d, batch, h), (-1.0, 1.0)), (x.dtype, (d, batch, h), (-1.0, 1.0))]
    if op == "LSTM" and choose.chance(60):
        most = float(max(steps.sizes))
        results.append((x.dtype, (d, batch, h), (-most, most)))
    whole, *_ = net.several(op, inputs, results, **more)
    if choose.chance(60):
        rest = (steps, batch, h)
        if both == 1:
            call = net.along("Squeeze", whole, [1], 13)
            return net.add(**call, shape=rest, span=(-1, 1))
        turned = (steps, batch, d, h)
        y = net.add("Transpose", [whole], turned, (-1, 1), perm=[0, 2, 1, 3])
        words = net.integers([0, 0, 2 * hidden])
        return net.add("Reshape", [y, words], (steps, batch, net.dim(2 * hidden)), (-1, 1))
    return whole


# Graphs in attributes -----------------------------------------------------------------------------


def steps_inside(net: Net, x: Value) -> Value:
    """Some nodes that end in a value of x's shape: functions of x, and numbers from elsewhere."""
    for _ in range(net.choose.whole(0, 2)):
        net.choose.one(STEPS)(net)
    other = net.pick_real(lambda v: all(d.least > 0 for d in v.shape))
    y = unary(net, net.tame(x))
    if other is not None and other is not x and net.choose.chance(50):
        number = net.add("ReduceMean", [other], (), (other.low, other.high), keepdims=0)
        y = net.add("Add", [y, number], x.shape, (y.low + number.low, y.high + number.high))
    elif net.choose.chance(50):
        z = arithmetic(net, net.choose.one(("Add", "Mul")), y, beside(net, x))
        y = z if z is not None and z.shape == x.shape else y
    return net.tame(y, 20.0)


@step(2, since=11)
def branches(net: Net) -> Any:
    """If, by the data or by a size."""
    x = net.pick_real()
    if x is None or net.depth > 1:
        return None
    condition = _condition(net, x)
    graphs, span, shape = [], [0.0, 0.0], x.shape
    differ = x.rank > 0 and net.choose.chance(25)
    for name in ("then", "else"):
        with net.body() as nodes:
            y = steps_inside(net, x) if net.choose.chance(80) else x
            if y is x:
                y = net.add("Identity", [x], x.shape, (x.low, x.high))
            if differ and name == "else":
                double = (net.sum([y.shape[0]] * 2), *y.shape[1:])
                y = net.add("Concat", [y, y], double, (y.low, y.high), axis=0)
                shape = (net.decided(), *x.shape[1:])
            graphs.append(helper.make_graph(nodes, f"{name}_{net.depth}", [], [declared(y)]))
            span = [min(span[0], y.low), max(span[1], y.high)]
    return net.several(
        "If",
        [condition],
        [(x.dtype, shape, (span[0], span[1]))],
        then_branch=graphs[0],
        else_branch=graphs[1],
    )


def _condition(net: Net, x: Value) -> Value:
    """One truth value."""
    how = net.choose.whole(0, 2)
    if how == 0 and x.rank:
        size = net.sizes_of([x.shape[0]])
        if size is not None:
            call = net.along("Squeeze", size, [0], 13)
            number = net.add(**call, shape=(), span=(0, 6000))
            net.values.remove(number)
            limit = net.constant(np.array(3, np.int64))
            return net.add("Greater", [number, limit], (), (0, 1), dtype="bool")
    if how == 1:
        return net.input("bool", (), 0, 1) if not net.depth else net.constant(np.array(True))
    total = net.add("ReduceSum", [x], (), (-6000 * x.bound, 6000 * x.bound), keepdims=0)
    return net.add("Less", [total, net.scalar(0.5, x.dtype)], (), (0, 1), dtype="bool")


@step(2, since=11)
def rounds(net: Net) -> Any:
    """Loop with one carried value, one that is stacked, and a known number of rounds."""
    x = net.pick_real(limit=10.0)
    if x is None or net.depth:
        return None
    trips = net.dim(net.choose.whole(0, 3))
    limit = net.constant(np.array(trips.static, np.int64))
    if x.rank and net.choose.chance(30):
        size = net.sizes_of([x.shape[0]])
        if size is not None:
            trips = x.shape[0]
            limit = net.add(**net.along("Squeeze", size, [0], 13), shape=(), span=(0, 6000))
            net.values.remove(limit)
    if not net.fits((trips, *x.shape)):
        return None
    go = net.constant(np.array(True)) if net.choose.chance(50) else None
    with net.body() as nodes:
        number = Value(net.fresh(), "int64", (), 0.0, float(max(trips.sizes)))
        on = Value(net.fresh(), "bool", (), 0.0, 1.0)
        state = Value(net.fresh(), x.dtype, x.shape, -20.0, 20.0)
        net.values += [number, on, state]
        y = steps_inside(net, state)
        item = net.add("Identity", [y], y.shape, (y.low, y.high))
        still = net.add("Identity", [on], (), (0, 1))
        if x.rank and all(d.least for d in x.shape) and net.choose.chance(30):
            # Until the numbers are so large; after how many rounds, only the data decide.
            mean = net.add("ReduceMean", [y], (), (y.low, y.high), keepdims=0)
            still = net.add("Less", [mean, net.scalar(0.1, x.dtype)], (), (0, 1), dtype="bool")
            trips = net.decided()
        outputs = [declared(v) for v in (still, y, item)]
        inputs = [declared(v) for v in (number, on, state)]
        body = helper.make_graph(nodes, f"round_{net.depth}", inputs, outputs)
    results = [
        (x.dtype, x.shape, (-20.0, 20.0)),
        (x.dtype, (trips, *x.shape), (-20.0, 20.0)),
    ]
    return net.several("Loop", [limit, go, x], results, body=body)


@step(1, since=11)
def scanned(net: Net) -> Any:
    """Scan over the first axis, with a running sum."""
    x = net.pick_real(lambda v: v.rank >= 2 and v.shape[0].least > 0, 5.0)
    if x is None or net.depth or not all(d.is_static for d in x.shape[1:]):
        return None
    begin = net.constant(np.zeros([d.static for d in x.shape[1:]], x.dtype))
    with net.body() as nodes:
        state = Value(net.fresh(), x.dtype, x.shape[1:], -20.0, 20.0)
        row = Value(net.fresh(), x.dtype, x.shape[1:], x.low, x.high)
        net.values += [state, row]
        total = net.add("Add", [state, row], row.shape, (-40, 40))
        y = steps_inside(net, net.add("Tanh", [total], row.shape, (-1, 1)))
        after = net.add("Tanh", [y], row.shape, (-1, 1))
        inputs, outputs = [declared(v) for v in (state, row)], [declared(v) for v in (after, y)]
        body = helper.make_graph(nodes, f"row_{net.depth}", inputs, outputs)
    results = [(x.dtype, x.shape[1:], (-1.0, 1.0)), (x.dtype, x.shape, (-20.0, 20.0))]
    return net.several("Scan", [begin, x], results, body=body, num_scan_inputs=1)
