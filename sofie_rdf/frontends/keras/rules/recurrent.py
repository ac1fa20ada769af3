"""Networks that read a sequence: SimpleRNN, GRU, LSTM, cells, and layers around layers.

A masked step changes nothing: so the steps that are not masked are moved to the front, our operator
reads as many as there are, and its outputs go where they belong. Cells whose functions our
operators do not have go step by step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Nested, Value, flatten
from sofie_rdf.frontends.keras.registry import rule_for
from sofie_rdf.frontends.keras.rules._loops import looped
from sofie_rdf.frontends.keras.rules._tools import add, at, flip, part
from sofie_rdf.frontends.keras.rules.activations import activated, function_name
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, Rule, keras_rule
from sofie_rdf.frontends.keras.rules.reshaping import reshaped
from sofie_rdf.frontends.keras.weights import snake_case
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.creation import Shape
from sofie_rdf.ops.elementwise import Add, And, Div, Greater, Max, Mul, Sub, Where
from sofie_rdf.ops.indexing import GatherND, ScatterElements
from sofie_rdf.ops.layout import Concat, Expand, RuntimeExpand, Unsqueeze
from sofie_rdf.ops.linear import Gemm, MatMul
from sofie_rdf.ops.recurrent import GRU, LSTM, RNN, Recurrent
from sofie_rdf.ops.reduction import CumSum, ReduceSum

__all__ = ["Sequences", "masks_of", "sequences_of", "zeros_of"]

# Keras's functions as our operators name them, with the numbers that they have there.
_GATES: Mapping[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "linear": ("Affine", (1.0,), (0.0,)),
    "relu": ("Relu", (), ()),
    "tanh": ("Tanh", (), ()),
    "sigmoid": ("Sigmoid", (), ()),
    "softsign": ("Softsign", (), ()),
    "softplus": ("Softplus", (), ()),
    "elu": ("Elu", (1.0,), ()),
    "leaky_relu": ("LeakyRelu", (0.2,), ()),
    "hard_sigmoid": ("HardSigmoid", (1 / 6,), (0.5,)),
    "sparse_sigmoid": ("HardSigmoid", (0.5,), (0.5,)),
}
# The order of our gates among Keras's.
_ORDER = {"SimpleRNNCell": (0,), "GRUCell": (0, 1, 2), "LSTMCell": (0, 3, 1, 2)}
_OPERATORS: Mapping[str, type[Recurrent]] = {"SimpleRNNCell": RNN, "GRUCell": GRU, "LSTMCell": LSTM}
_DEFAULTS = {"activation": "tanh", "recurrent_activation": "sigmoid"}


def _function(cell: Layer, key: str) -> Any:
    return cell.config.get(key, _DEFAULTS[key])


def _gate_names(cell: Layer) -> list[str]:
    """The functions of a cell in the order of our operators."""
    names = [function_name(_function(cell, "activation"))]
    if cell.class_name != "SimpleRNNCell":
        names.insert(0, function_name(_function(cell, "recurrent_activation")))
    return [*names, names[1]] if cell.class_name == "LSTMCell" else names


def _is_ours(build: LayerBuilder, cell: Layer) -> bool:
    """Whether one of our operators is this cell."""
    if cell.class_name not in _OPERATORS or cell.class_name in build.custom:
        return False
    return all(n in _GATES and n not in build.custom for n in _gate_names(cell))


def _states(cell: Layer) -> int:
    return 2 if cell.class_name == "LSTMCell" else 1


# Weights -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Matrices:
    """The weights of one direction as our operators have them, without the axis of directions."""

    w: Array
    r: Array
    b: Array | None


def _matrices(cell: Layer, features: int) -> _Matrices:
    units, order = int(cell.config["units"]), _ORDER[cell.class_name]
    count = len(order)
    kernel = cell.weight("kernel", (features, count * units))
    recurrent = cell.weight("recurrent_kernel", (units, count * units))

    def gates(array: Array) -> Array:
        """[..., gates * units] as [gates * units, ...] in the other order."""
        parts = np.split(array, count, axis=-1)
        return np.ascontiguousarray(np.concatenate([parts[i] for i in order], axis=-1).T)

    if not cell.config.get("use_bias", True):
        return _Matrices(gates(kernel), gates(recurrent), None)
    bias = cell.weight("bias")
    both = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
    if both.shape != (2, count * units):
        cell.weight("bias", (count * units,))  # An error that says both.
    return _Matrices(
        gates(kernel), gates(recurrent), np.concatenate([gates(both[0]), gates(both[1])])
    )


def _operator(build: LayerBuilder, cells: Sequence[Layer], direction: str) -> Recurrent:
    names = [n for cell in cells for n in _gate_names(cell)]
    numbers = [_GATES[n] for n in names]
    if build.is_keras_2:
        old = ("HardSigmoid", (0.2,), (0.5,))
        numbers = [old if n == "hard_sigmoid" else g for n, g in zip(names, numbers, strict=True)]
    options: dict[str, Any] = {
        "activations": tuple(g[0] for g in numbers),
        "activation_alpha": tuple(a for g in numbers for a in g[1]),
        "activation_beta": tuple(b for g in numbers for b in g[2]),
        "direction": direction,
        "hidden_size": int(cells[0].config["units"]),
        "layout": True,
    }
    kind = cells[0].class_name
    if kind == "GRUCell":
        # Keras before 2.2 had no such argument.
        options["linear_before_reset"] = bool(cells[0].config.get("reset_after", False))
    return _OPERATORS[kind](**options)


def _run(
    build: LayerBuilder,
    cells: Sequence[Layer],
    direction: str,
    x: str,
    lengths: str | None,
    initial: Sequence[Sequence[str]],
) -> tuple[Value, list[Value]]:
    """One of our operators: all outputs [N, T, directions, units] and the last states."""
    parts = [_matrices(cell, build.size(x, 2)) for cell in cells]
    w = build.constant(np.stack([p.w for p in parts]), "kernel")
    r = build.constant(np.stack([p.r for p in parts]), "recurrent_kernel")
    has_bias = any(p.b is not None for p in parts)
    width = 2 * parts[0].w.shape[0]
    none = np.zeros(width, parts[0].w.dtype)
    biases = [none if p.b is None else p.b for p in parts]
    b = build.constant(np.stack(biases), "bias") if has_bias else ""
    first = []
    for states in zip(*initial, strict=True):
        wide = [build(Unsqueeze((1,)), s) for s in states]
        first.append(wide[0] if len(wide) == 1 else build(Concat(1), *wide))
    op = _operator(build, cells, direction)
    every, *last = build.all(
        op, 3 if cells[0].class_name == "LSTMCell" else 2, x, w, r, b, lengths or "", *first
    )
    return every, last


# Masks -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Packed:
    """A sequence whose masked steps are at its end."""

    x: Value
    lengths: Value
    mask: Value
    # For each step how many are not masked up to it, and from it on.
    until: Value
    total: Value


def _pack(build: LayerBuilder, x: str, mask: str) -> _Packed:
    number = build(Cast(DType.INT64), mask)
    total = build(ReduceSum((1,)), number)
    until = build(CumSum(1), number)
    masked = build(CumSum(1), build(Sub(), build.constant(np.int64(1)), number))
    place = build(Where(), mask, until, build(Add(), total, masked))
    time = add(build, build(Add(), until, masked), -1)
    order = build(ScatterElements(1), time, add(build, place, -1), time)
    packed = build(GatherND(1), x, build(Unsqueeze((2,)), order))
    lengths = reshaped(build, build(Cast(DType.INT32), total), (build.shape(x)[0],))
    return _Packed(packed, lengths, Value(mask), until, total)


def _unpack(build: LayerBuilder, packed: _Packed, y: str, *, backward: bool, zeros: bool) -> Value:
    """Outputs where they belong; a masked step has that of the step before, or 0."""
    if backward:
        number = build(Cast(DType.INT64), packed.mask)
        # Of those from here on the first: before it are total - (those from here on).
        place = build(Sub(), packed.until, number)
        some = build(Greater(), packed.total, place)
        place = build(Where(), some, place, build.constant(np.int64(0)))
    else:
        place = add(build, packed.until, -1)
        some = build(Greater(), packed.until, build.constant(np.int64(0)))
        place = build(Max(), place, build.constant(np.int64(0)))
    found = build(GatherND(1), y, build(Unsqueeze((2,)), place))
    shown = build(And(), some, packed.mask) if zeros else some
    return build(Where(), build(Unsqueeze((2,)), shown), found, build.like(0, found))


# Layers ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sequences:
    """What a recurrent layer is: its cells, one behind the other, and how it is read."""

    cells: tuple[Layer, ...]
    backward: bool
    zeros: bool
    return_sequences: bool
    return_state: bool


def _cells(layer: Layer) -> dict[str, Layer]:
    """The cell in a layer, by attribute."""
    named = {"SimpleRNN": "SimpleRNNCell", "GRU": "GRUCell", "LSTM": "LSTMCell"}
    if layer.class_name in named:
        data = {"class_name": named[layer.class_name], "config": layer.config, "module": "keras"}
        return {"cell": layer.child("cell", data)}
    given = layer.config.get("cell")
    # Keras 2 wrote a list of cells so as well.
    return {"cell": layer.child("cell", given)}


def _stacked(layer: Layer) -> dict[str, Layer]:
    """The cells of StackedRNNCells, by the names that files have for them."""
    used: dict[str, int] = {}
    found = {}
    for data in layer.config.get("cells", ()):
        stem = snake_case(str(data.get("class_name")))
        number = used.get(stem, -1) + 1
        used[stem] = number
        attribute = f"cells/{stem}_{number}" if number else f"cells/{stem}"
        found[attribute] = layer.child(attribute, data)
    return found


def _leaves(cell: Layer) -> tuple[Layer, ...]:
    if cell.class_name != "StackedRNNCells":
        return (cell,)
    return tuple(leaf for inner in _stacked(cell).values() for leaf in _leaves(inner))


def sequences_of(layer: Layer) -> Sequences:
    """What a recurrent layer is; `UnsupportedOperator` for one that remembers the last batch."""
    config = layer.config
    if config.get("stateful"):
        raise UnsupportedOperator(
            "is stateful: what it gives depends on the call before",
            remedy="Give it initial_state and return_state instead",
        )
    cells = _leaves(_cells(layer)["cell"])
    return Sequences(
        cells,
        bool(config.get("go_backwards")),
        bool(config.get("zero_output_for_mask")),
        bool(config.get("return_sequences")),
        bool(config.get("return_state")),
    )


def zeros_of(build: LayerBuilder, x: str, shape: Sequence[Any]) -> Value:
    """Zeros of the type of x: [N, *shape], for its batch."""
    nothing = build.constant(np.zeros((1, *shape)), "zeros", build.type(x).dtype.numpy)
    batch = build.shape(x)[0]
    if isinstance(batch, int):
        return build(Expand((batch, *shape)), nothing)
    size = build(Shape(0, 1), x)
    rest = build.constant(np.array(shape, np.int64), "sizes")
    return build(RuntimeExpand(), nothing, build(Concat(0), size, rest))


def _initial(
    build: LayerBuilder, cells: Sequence[Layer], given: Sequence[str], x: str, *, needed: bool
) -> list[list[Value]]:
    """The states with which each cell begins; none at all for zeros that need not be made."""
    counts = [_states(cell) for cell in cells]
    if not given and not needed:
        return [[] for _ in cells]
    if given and len(given) != sum(counts):
        raise GraphError(f"has {len(given)} states to begin with, not {sum(counts)}")
    found, values = [], list(given)
    for cell, count in zip(cells, counts, strict=True):
        if given:
            found.append([build.cast(v, build.type(x).dtype) for v in values[:count]])
            values = values[count:]
        else:
            zero = zeros_of(build, x, (_units(build, cell),))
            found.append([zero] * count)
    return found


def _units(build: LayerBuilder, cell: Layer) -> int:
    units = cell.config.get("units")
    if not isinstance(units, int):
        raise UnsupportedOperator(
            f"has the cell {cell.class_name}, of which the size of the state is not known",
            remedy="Give initial_state",
        )
    return units


@dataclass(frozen=True)
class _Result:
    """All outputs in the order of time, the last output, and the last states."""

    every: Value
    last: Value
    states: list[Value]


def run_sequences(
    build: LayerBuilder, spec: Sequences, x: str, mask: str | None, given: Sequence[str]
) -> _Result:
    """What the cells give for a sequence [N, T, F]."""
    if not all(_is_ours(build, cell) for cell in spec.cells):
        return _by_steps(build, spec, x, mask, given)
    packed = _pack(build, x, mask) if mask is not None else None
    y = packed.x if packed else Value(x)
    direction = "reverse" if spec.backward else "forward"
    states: list[Value] = []
    initial = _initial(build, spec.cells, given, x, needed=False)
    for cell, first in zip(spec.cells, initial, strict=True):
        lengths = packed.lengths if packed else None
        every, last = _run(build, [cell], direction, y, lengths, [first])
        batch, steps, _, units = build.shape(every)
        y = reshaped(build, every, (batch, steps, units))
        states += [reshaped(build, s, (batch, units)) for s in last]
    end = states[-_states(spec.cells[-1])]
    if packed is None:
        return _Result(y, end, states)
    if spec.return_sequences:
        y = _unpack(build, packed, y, backward=spec.backward, zeros=spec.zeros)
    return _Result(y, _shown(build, spec, packed, end, begun=bool(given)), states)


def _shown(
    build: LayerBuilder, spec: Sequences, packed: _Packed, last: Value, begun: bool
) -> Value:
    """The last output, which is 0 where nothing was read or the last step must show nothing."""
    if not spec.zeros and not begun:
        return last
    if spec.zeros:
        end = at(build, packed.mask, 1, 0 if spec.backward else -1)
        shown = build(Unsqueeze((1,)), end)
    else:
        shown = build(Greater(), packed.total, build.constant(np.int64(0)))
    return build(Where(), shown, last, build.like(0, last))


def _by_steps(
    build: LayerBuilder, spec: Sequences, x: str, mask: str | None, given: Sequence[str]
) -> _Result:
    """A loop around the cells."""
    if spec.backward:
        x = flip(build, x, 1)
        mask = None if mask is None else flip(build, mask, 1)
    initial = _initial(build, spec.cells, given, x, needed=True)
    # The first state of a loop has the shape of the output: the last cell's.
    order = [len(initial) - 1, *range(len(initial) - 1)]
    turned = [s for n in order for s in initial[n]]

    def step(inside: LayerBuilder, now: Value, states: Sequence[Value]) -> Any:
        values, rest = {}, list(states)
        for n in order:
            values[n], rest = rest[: len(initial[n])], rest[len(initial[n]) :]
        after = {}
        for n, cell in enumerate(spec.cells):
            now, after[n] = _stepped(inside, cell, now, values[n])
        return now, [s for n in order for s in after[n]]

    every, last = looped(build, x, mask, turned, step, zeros=spec.zeros)
    count = len(initial[-1])
    states = [*last[count:], *last[:count]]
    output = at(build, every, 1, -1)
    return _Result(flip(build, every, 1) if spec.backward else every, output, states)


def _stepped(
    build: LayerBuilder, cell: Layer, x: Value, states: Sequence[Value]
) -> tuple[Value, list[Value]]:
    found = flatten(build.run(cell, {"inputs": x, "states": list(states)}))
    if len(found) != 1 + len(states):
        raise GraphError(f"cell {cell.class_name} gives {len(found) - 1} states")
    return found[0], found[1:]


def masks_of(build: LayerBuilder, layer: Layer, inputs: Inputs, mask: Nested) -> Nested:
    """A sequence has the mask of the first input; states have none."""
    found = flatten(mask)
    first = found[0] if found and layer.config.get("return_sequences") else None
    return [first] if layer.config.get("return_state") else first


def _arguments(inputs: Inputs) -> tuple[Value, Value | None, list[Value]]:
    """The sequence, its mask, and the states to begin with. Keras 2 gave them in one list."""
    sequence, *states = inputs.tensors
    given = [v for v in flatten(inputs.get("initial_state")) if isinstance(v, Value)]
    masks = [m for m in flatten(inputs.get("mask")) if isinstance(m, Value)]
    return sequence, masks[0] if masks else None, [*states, *given]


@keras_rule(
    "GRU",
    "LSTM",
    "RNN",
    "SimpleRNN",
    children=_cells,
    parameters="sequence initial_state mask training",
    mask=masks_of,
)
def recurrent(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """A cell that goes along a sequence"""
    spec = sequences_of(layer)
    x, mask, given = _arguments(inputs)
    found = run_sequences(build, spec, x, mask, given)
    output = found.last
    if spec.return_sequences:
        output = flip(build, found.every, 1) if spec.backward else found.every
    return [output, *found.states] if spec.return_state else output


# Cells, one step at a time -----------------------------------------------------------------------


def _product(build: LayerBuilder, x: str, weight: Array, bias: Array | None = None) -> Value:
    constants = [build.constant(a, "weight") for a in (weight, bias) if a is not None]
    return build(Gemm(), x, *constants) if bias is not None else build(MatMul(), x, *constants)


def _named(build: LayerBuilder, cell: Layer, x: Value, key: str) -> Value:
    filled = replace(cell, config={**cell.config, key: _function(cell, key)})
    return activated(build, filled, x, key)


def _arrays(cell: Layer, features: int) -> tuple[Array, Array, Array | None]:
    units, count = int(cell.config["units"]), len(_ORDER[cell.class_name])
    bias = cell.weight("bias") if cell.config.get("use_bias", True) else None
    return (
        cell.weight("kernel", (features, count * units)),
        cell.weight("recurrent_kernel", (units, count * units)),
        bias,
    )


@keras_rule(
    "SimpleRNNCell", weights="kernel recurrent_kernel bias?use_bias", parameters="inputs states"
)
def simple_rnn_cell(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """h = f(x kernel + h recurrent_kernel + bias)"""
    (h,) = flatten(inputs.get("states"))
    kernel, recurrent_kernel, bias = _arrays(layer, build.size(inputs.x, -1))
    sums = build(
        Add(), _product(build, inputs.x, kernel, bias), _product(build, h, recurrent_kernel)
    )
    found = _named(build, layer, sums, "activation")
    return [found, found]


@keras_rule("LSTMCell", weights="kernel recurrent_kernel bias?use_bias", parameters="inputs states")
def lstm_cell(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """c = f * c + i * g(..), h = o * g(c)"""
    h, c = flatten(inputs.get("states"))
    units = int(layer.config["units"])
    kernel, recurrent_kernel, bias = _arrays(layer, build.size(inputs.x, -1))
    sums = build(
        Add(), _product(build, inputs.x, kernel, bias), _product(build, h, recurrent_kernel)
    )
    gates = [part(build, sums, 1, n * units, (n + 1) * units) for n in range(4)]
    i, f, o = (_named(build, layer, gates[n], "recurrent_activation") for n in (0, 1, 3))
    new = _named(build, layer, gates[2], "activation")
    c = build(Add(), build(Mul(), f, c), build(Mul(), i, new))
    h = build(Mul(), o, _named(build, layer, c, "activation"))
    return [h, h, c]


@keras_rule("GRUCell", weights="kernel recurrent_kernel bias?use_bias", parameters="inputs states")
def gru_cell(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """h = z * h + (1 - z) * g(..)"""
    (h,) = flatten(inputs.get("states"))
    units, after = int(layer.config["units"]), bool(layer.config.get("reset_after", False))
    kernel, recurrent_kernel, bias = _arrays(layer, build.size(inputs.x, -1))
    outer = None if bias is None else (bias[0] if after else bias)
    inner = bias[1] if after and bias is not None else None
    sums = _product(build, inputs.x, kernel, outer)
    x_z, x_r, x_h = (part(build, sums, 1, n * units, (n + 1) * units) for n in range(3))
    two = _product(
        build, h, recurrent_kernel[:, : 2 * units], None if inner is None else inner[: 2 * units]
    )
    r_z, r_r = (part(build, two, 1, n * units, (n + 1) * units) for n in range(2))
    z = _named(build, layer, build(Add(), x_z, r_z), "recurrent_activation")
    r = _named(build, layer, build(Add(), x_r, r_r), "recurrent_activation")
    last = recurrent_kernel[:, 2 * units :]
    if after:
        own = None if inner is None else inner[2 * units :]
        r_h = build(Mul(), r, _product(build, h, last, own))
    else:
        r_h = _product(build, build(Mul(), r, h), last)
    new = _named(build, layer, build(Add(), x_h, r_h), "activation")
    rest = build(Sub(), build.like(1, z), z)
    h = build(Add(), build(Mul(), z, h), build(Mul(), rest, new))
    return [h, h]


@keras_rule("StackedRNNCells", children=_stacked, parameters="inputs states")
def stacked_cells(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """One cell behind the other"""
    x, rest, states = inputs.x, flatten(inputs.get("states")), []
    for cell in _stacked(layer).values():
        own, rest = rest[: _states(cell)], rest[_states(cell) :]
        x, after = _stepped(build, cell, x, own)
        states += after
    return [x, *states]


# Bidirectional -----------------------------------------------------------------------------------


def _directions(layer: Layer) -> dict[str, Layer]:
    config = layer.config
    forward = layer.child("forward_layer", config.get("layer"))
    given = config.get("backward_layer")
    if given is None:
        # Keras 2 wrote it only where it is no copy of the other.
        given = {
            "class_name": forward.class_name,
            "module": forward.module,
            "config": {**forward.config, "go_backwards": not forward.config.get("go_backwards")},
        }
    return {"forward_layer": forward, "backward_layer": layer.child("backward_layer", given)}


def _both_masks(build: LayerBuilder, layer: Layer, inputs: Inputs, mask: Nested) -> Nested:
    """A sequence has the mask; two sequences have it both."""
    found = flatten(mask)
    inner = layer.config.get("layer", {}).get("config", {})
    if not found or not inner.get("return_sequences"):
        return None
    return [found[0], found[0]] if not layer.config.get("merge_mode", "concat") else found[0]


@keras_rule(
    "Bidirectional",
    children=_directions,
    parameters="sequences initial_state mask training",
    mask=_both_masks,
)
def bidirectional(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """A layer that reads the sequence forward and one that reads it backward"""
    specs = [_direction(one) for one in _directions(layer).values()]
    x, mask, given = _arguments(inputs)
    half = len(given) // 2
    if specs[0].backward == specs[1].backward:
        raise GraphError("has two layers that read in one direction")
    merge = layer.config.get("merge_mode", "concat")
    if merge == "concat" and _is_one_operator(build, specs):
        both, states = _one_operator(build, specs, x, mask, given)
        outputs = [both]
    else:
        found = [
            run_sequences(build, spec, x, mask, part_)
            for spec, part_ in zip(specs, (given[:half], given[half:]), strict=True)
        ]
        sequences = specs[0].return_sequences
        pair = [f.every if sequences else f.last for f in found]
        if sequences and specs[0].backward:
            # Keras turns what the second layer gives, whichever way that reads.
            pair = [flip(build, y, 1) for y in pair]
        outputs = _merged(build, merge, pair)
        states = [s for f in found for s in f.states]
    if specs[0].return_state:
        return [*outputs, *states]
    return outputs if len(outputs) > 1 else outputs[0]


def _direction(layer: Layer) -> Sequences:
    rule: Rule | None = rule_for(layer)
    if rule is None or layer.class_name not in ("GRU", "LSTM", "RNN", "SimpleRNN"):
        raise UnsupportedOperator(f"is Bidirectional around {layer.class_name}")
    spec = sequences_of(layer)
    return replace(spec, zeros=spec.return_sequences)


def _merged(build: LayerBuilder, merge: Any, pair: Sequence[Value]) -> list[Value]:
    if merge is None:
        return list(pair)
    if merge == "concat":
        return [build(Concat(build.rank(pair[0]) - 1), *pair)]
    if merge == "mul":
        return [build(Mul(), *pair)]
    if merge not in ("sum", "ave"):
        raise UnsupportedOperator(f"has the merge_mode {merge!r}, which is not known")
    total = build(Add(), *pair)
    return [total if merge == "sum" else build(Div(), total, build.like(2, total))]


def _is_one_operator(build: LayerBuilder, specs: Sequence[Sequences]) -> bool:
    """Whether one of our operators is both directions."""
    cells = [spec.cells for spec in specs]
    if any(len(c) != 1 for c in cells) or specs[0].backward:
        return False
    one, other = cells[0][0], cells[1][0]
    same = one.class_name == other.class_name and all(
        one.config.get(k) == other.config.get(k) for k in ("units", "reset_after")
    )
    return same and all(_is_ours(build, c) for c in (one, other))


def _one_operator(
    build: LayerBuilder, specs: Sequence[Sequences], x: str, mask: str | None, given: Sequence[str]
) -> tuple[Value, list[Value]]:
    cells = [spec.cells[0] for spec in specs]
    packed = _pack(build, x, mask) if mask is not None else None
    half = len(given) // 2
    initial = [list(given[:half]), list(given[half:])]
    y = packed.x if packed else Value(x)
    lengths = packed.lengths if packed else None
    every, last = _run(build, cells, "bidirectional", y, lengths, initial)
    batch, steps, count, units = build.shape(every)
    split = [
        reshaped(build, part(build, s, 1, n, n + 1), (batch, units))
        for n in range(2)
        for s in last
        if specs[0].return_state
    ]
    if specs[0].return_sequences:
        output = reshaped(build, every, (batch, steps, count * units))
        if packed:
            output = _unpack(build, packed, output, backward=False, zeros=True)
        return output, split
    output = reshaped(build, last[0], (batch, count * units))
    if packed:
        output = _shown(build, specs[0], packed, output, begun=bool(given))
    return output, split


# TimeDistributed ---------------------------------------------------------------------------------


def _layer_inside(layer: Layer) -> dict[str, Layer]:
    return {"layer": layer.child("layer")}


def _same_mask(build: LayerBuilder, layer: Layer, inputs: Inputs, mask: Nested) -> Nested:
    return mask


# Layers that treat the last axis alone, so that steps may stay where they are.
_LAST_AXIS = ("Activation", "Dense", "Dropout", "ELU", "Identity", "LeakyReLU", "ReLU", "Rescaling")


@keras_rule(
    "TimeDistributed",
    children=_layer_inside,
    parameters="inputs training mask",
    mask=_same_mask,
)
def time_distributed(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """A layer for each step by itself"""
    inner, x = layer.child("layer"), Value(inputs.x)
    if inner.class_name in _LAST_AXIS and rule_for(inner) and inner.class_name not in build.custom:
        return build.run(inner, {"inputs": x})
    batch, steps, *rest = build.shape(x)
    arguments: dict[str, Nested] = {"inputs": reshaped(build, x, (batch * steps, *rest))}
    rule = rule_for(inner)
    mask = inputs.value("mask")
    if mask is not None and rule is not None and "mask" in rule.parameters:
        sizes = build.shape(mask)[2:]
        arguments["mask"] = reshaped(build, mask, (batch * steps, *sizes))
    if rule is not None and rule.parameters:
        arguments[rule.parameters[0]] = arguments.pop("inputs")
    found = build.run(inner, dict(sorted(arguments.items(), key=lambda item: item[0] == "mask")))
    outputs = flatten(found)
    if len(outputs) != 1:
        raise UnsupportedOperator(f"is TimeDistributed around {inner.class_name} of many outputs")
    return reshaped(build, outputs[0], (batch, steps, *build.shape(outputs[0])[1:]))
