"""Inputs for real models: changing sizes, masks of ones and of real padding, no particle at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType, TensorType, concrete

__all__ = ["FAMILIES", "Round", "edges", "families", "feeds", "rounds"]

BATCHES = (3, 1, 7, 0, 2, 4)
# What is behind the last particle of an event: nothing, zeros, numbers that a mask must hide; and
# zeros in events of which some have no particles.
PADDING = ("none", "zeros", "numbers", "none", "empty", "zeros")
# What the dynamic axes other than the batch are, one round after the other, by what a model is
# about. Two numbers are the height and the width of an image.
FAMILIES: Mapping[str, Sequence[tuple[int, ...]]] = {
    "particles": ((24,), (50,), (17,), (24,), (128,), (33,)),
    "images": ((64, 96), (96, 64), (32, 160), (64, 64), (128, 96), (32, 32)),
    "lines of text": ((48, 192), (48, 320), (48, 64), (48, 96), (48, 128), (48, 96)),
    "sound": ((512,), (576,), (512,), (512,), (256,), (576,)),
}


@dataclass(frozen=True)
class Round:
    """One call: what the dynamic axes are, what padding looks like, and which random numbers."""

    sizes: Mapping[str, int]
    padding: str
    seed: int


def rounds(graph: Graph, family: str) -> list[Round]:
    """The calls that a model gets, one after the other."""
    lengths = FAMILIES[family]
    return [
        Round(_sizes(graph, batch, length, number), padding, 100 * number)
        for number, (batch, length, padding) in enumerate(
            zip(BATCHES, lengths, PADDING, strict=True)
        )
        if graph.symbols or number < 3
    ]


def families(graph: Graph) -> tuple[str, ...]:
    """The keys of `FAMILIES` that a model can be about."""
    images = any(graph.types[i].rank == 4 for i in graph.inputs) and len(graph.symbols) > 1
    return ("lines of text", "images") if images else ("particles", "sound")


def edges(graph: Graph, family: str) -> list[Round]:
    """Two events with one particle, and with none."""
    if len(graph.symbols) < 2 or len(FAMILIES[family][0]) > 1:
        return []
    return [Round(_sizes(graph, 2, (length,), 0), "none", 1000 + length) for length in (1, 0)]


def _sizes(graph: Graph, batch: int, lengths: Sequence[int], number: int) -> dict[str, int]:
    batch_name, others = graph.symbols[:1], graph.symbols[1:]
    found = dict.fromkeys(batch_name, batch)
    for place, name in enumerate(others):
        length = lengths[place % len(lengths)]
        # Particles, tracks and vertices have sizes of their own.
        found[name] = length + (place % 3) * number if len(lengths) == 1 else length
    # In the Particle Transformer input_4 is the four-vectors of input_1, and so on.
    for name in others:
        if name in ("n_input_4", "n_input_5", "n_input_6"):
            found[name] = found[f"n_input_{int(name[-1]) - 3}"]
        if name == "state_1":  # The state of a recurrent layer: one for each event.
            found[name] = batch
    return found


def feeds(graph: Graph, one: Round, scale: float = 1.0) -> dict[str, Array]:
    """Random numbers for all inputs; ``scale`` is that of the numbers that are no masks."""
    found = {}
    for number, name in enumerate(graph.inputs):
        random = np.random.default_rng(one.seed + number)
        array = _numbers(name, graph.types[name], one.sizes, random, scale)
        is_mask = "mask" in name
        axis = _particle_axis(name, array)
        if axis is not None and one.padding != "none" and (is_mask or one.padding != "numbers"):
            array = np.where(_present(array, axis, one), array, array.dtype.type(0))
        found[name] = array
    return found


def _numbers(
    name: str,
    type_: TensorType,
    sizes: Mapping[str, int],
    random: np.random.Generator,
    scale: float,
) -> Array:
    shape, dtype = concrete(type_.shape, sizes), type_.dtype.numpy
    if name == "sr":  # Samples in a second: half as many in half as long a piece of sound.
        return np.full(shape, 8000 if 256 in sizes.values() else 16000, dtype)
    if name == "bytes":  # 256 is what is behind the end of a file.
        return np.asarray(random.integers(0, 257, shape)).astype(dtype)
    if type_.dtype is DType.BOOL or not type_.dtype.is_float:
        return np.asarray(random.integers(0, 2, shape)).astype(dtype)
    if "mask" in name:
        return np.ones(shape, dtype)
    if len(shape) == 4 and shape[1] == 3:
        return (scale * _writing(shape, random)).astype(dtype)
    return np.asarray(scale * random.normal(size=shape)).astype(dtype)


def _writing(shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Dark strokes on bright paper, and noise: a network that looks for text finds some."""
    image = np.ones(shape) + 0.1 * random.normal(size=shape)
    height, width = min(shape[2] // 3, 16), shape[3]
    for one in image:
        for left in range(4, width - 4, 6):
            top = random.integers(height, 2 * height + 1)
            one[:, height : 2 * height, left : left + random.integers(1, 4)] -= 2.0
            one[:, top : top + 2, left : left + 5] -= 2.0
    return np.asarray(image)


def _particle_axis(name: str, array: Array) -> int | None:
    """(N, features, particles) where there is a mask, else (N, particles, features)."""
    if array.ndim == 4:
        return None if array.shape[1] == 3 else 2
    if array.ndim != 3:
        return None
    with_mask = any(word in name for word in ("_mask", "_points", "_features"))
    return 2 if with_mask else 1


def _present(array: Array, axis: int, one: Round) -> Array:
    """Where particles are; how many is the same for all inputs with as many places."""
    batch, places = array.shape[0], array.shape[axis]
    random = np.random.default_rng((one.seed, places))
    least = 0 if one.padding == "empty" else (places + 1) // 2
    shape = [batch if a == 0 else 1 for a in range(array.ndim)]
    counts = random.integers(least, places + 1, batch)
    if one.padding == "empty":
        counts[:1] = 0
    order = [places if a == axis else 1 for a in range(array.ndim)]
    return np.asarray(np.arange(places).reshape(order) < counts.reshape(shape))


def each_symbol(graph: Graph, one: Round) -> Iterator[str]:
    """``N=3 n_pf=24``: what the axes are."""
    yield from (f"{name}={one.sizes[name]}" for name in graph.symbols)
