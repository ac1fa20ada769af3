"""ConvLSTM1D to ConvLSTM3D: an LSTM whose products are convolutions, as a loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Nested, Value
from sofie_rdf.frontends.keras.rules._loops import looped
from sofie_rdf.frontends.keras.rules._tools import (
    at,
    channels_first,
    channels_last,
    flip,
    is_channels_last,
    part,
    transposed,
)
from sofie_rdf.frontends.keras.rules.activations import activated
from sofie_rdf.frontends.keras.rules.convolution import (
    Windows,
    convolve,
    kernel_first,
    windows_of,
)
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, keras_rule
from sofie_rdf.frontends.keras.rules.recurrent import masks_of, sequences_of, zeros_of
from sofie_rdf.frontends.keras.rules.reshaping import reshaped
from sofie_rdf.ops.elementwise import Add, Mul


def _cell(layer: Layer) -> dict[str, Layer]:
    data = {"class_name": "ConvLSTMCell", "config": layer.config, "module": "keras"}
    return {"cell": layer.child("cell", data)}


@keras_rule("ConvLSTMCell", weights="kernel recurrent_kernel bias?use_bias")
def cell_alone(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """A cell alone; only ConvLSTM1D to 3D have it"""
    raise UnsupportedOperator("is a ConvLSTMCell, which stands in ConvLSTM1D to 3D alone")


def _first(build: LayerBuilder, layer: Layer, x: str) -> Value:
    """A state with channels first."""
    return channels_first(build, x) if is_channels_last(layer.config) else Value(x)


def _last(build: LayerBuilder, layer: Layer, x: str) -> Value:
    return channels_last(build, x) if is_channels_last(layer.config) else Value(x)


def _all_inputs(build: LayerBuilder, layer: Layer, x: str, windows: Windows) -> Value:
    """The convolutions of all steps at once: [N, T, 4 * filters, ...]."""
    cell, filters = _cell(layer)["cell"], int(layer.config["filters"])
    if is_channels_last(layer.config):
        rank = build.rank(x)
        x = transposed(build, x, (0, 1, rank - 1, *range(2, rank - 1)))
    batch, steps, channels, *sizes = build.shape(x)
    if not isinstance(channels, int):
        raise UnsupportedOperator("reads an unknown number of channels")
    kernel = kernel_first(cell.weight("kernel", (*windows.sizes, channels, 4 * filters)))
    bias = cell.weight("bias", (4 * filters,)) if layer.config.get("use_bias", True) else None
    flat = reshaped(build, x, (batch * steps, channels, *sizes))
    y = convolve(build, flat, kernel, bias, windows)
    return reshaped(build, y, (batch, steps, *build.shape(y)[1:]))


@keras_rule(
    "ConvLSTM1D",
    "ConvLSTM2D",
    "ConvLSTM3D",
    children=_cell,
    parameters="sequences initial_state mask training",
    mask=masks_of,
)
def conv_lstm(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """c = f * c + i * g(..), h = o * g(c), whose gates are convolutions"""
    count, filters = int(layer.class_name[-2]), int(layer.config["filters"])
    spec = sequences_of_conv(layer)
    x, *given = inputs.tensors
    given += [v for v in _flat(inputs.get("initial_state")) if isinstance(v, Value)]
    mask = inputs.value("mask")
    windows = windows_of(layer.config, count)
    gates = _all_inputs(build, layer, x, windows)
    if spec.backward:
        gates = flip(build, gates, 1)
        mask = None if mask is None else flip(build, mask, 1)
    sizes = [build.size(gates, a) for a in range(3, 3 + count)]
    if given:
        states = [_first(build, layer, s) for s in given]
    else:
        states = [zeros_of(build, gates, (filters, *sizes))] * 2
    cell = _cell(layer)["cell"]
    kernel = kernel_first(cell.weight("recurrent_kernel", (*windows.sizes, filters, 4 * filters)))
    ones = (1,) * count
    same = Windows(windows.sizes, ones, ones, "same")

    def step(inside: LayerBuilder, now: Value, old: Sequence[Value]) -> Any:
        h, c = old
        sums = inside(Add(), now, convolve(inside, h, kernel, None, same))
        parts = [part(inside, sums, 1, n * filters, (n + 1) * filters) for n in range(4)]
        i, f, o = (activated(inside, layer, parts[n], "recurrent_activation") for n in (0, 1, 3))
        new = inside(Mul(), i, activated(inside, layer, parts[2]))
        c = inside(Add(), inside(Mul(), f, c), new)
        h = inside(Mul(), o, activated(inside, layer, c))
        return h, [h, c]

    every, last = looped(build, gates, mask, states, step, zeros=spec.zeros)
    if spec.return_sequences:
        output = every
        if is_channels_last(layer.config):
            output = transposed(build, every, (0, 1, *range(3, build.rank(every)), 2))
    else:
        output = _last(build, layer, at(build, every, 1, -1))
    return [output, *(_last(build, layer, s) for s in last)] if spec.return_state else output


def sequences_of_conv(layer: Layer) -> Any:
    """How the layer is read; its cell is its own."""
    data = {"class_name": "LSTM", "config": {**layer.config, "units": 0}, "module": "keras"}
    return sequences_of(Layer.of(data, layer.store))


def _flat(nested: Nested) -> list[Any]:
    from sofie_rdf.frontends.keras.layer import flatten

    return flatten(nested)
