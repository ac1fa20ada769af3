"""A graph beside the model of Keras in memory whose code was run on symbolic values.

What Python decided while it ran, and what it drew or counted outside of keras.ops, is the same for
all events in the graph. So both are asked at several inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sofie_rdf.errors import ModelError
from sofie_rdf.frontends.common.agreement import difference
from sofie_rdf.ir.dims import name_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType, concrete

__all__ = ["Beside", "compare"]

# Sizes of the batch, and of other open axes.
_BATCHES = (3, 1, 4)
_LENGTHS = (5, 6, 3)
# So many values of an integer input: what it is an index of has that many elements, often.
_INTEGERS = 2


@dataclass(frozen=True)
class Beside:
    """A model of Keras as a function of arrays, what the arrays are, and the outputs' names."""

    dtypes: Sequence[str]
    run: Callable[[Sequence[Array]], Sequence[Array]]
    outputs: Sequence[str]


def compare(graph: Graph, model: Beside) -> None:
    """`ModelError` where they differ by more than rounding, or Keras computes at none of these."""
    asked = 0
    for label, arrays in _trials(graph, model):
        try:
            wanted = model.run(arrays)
        except Exception:
            continue
        asked += 1
        given = dict(zip(graph.inputs, arrays, strict=True))
        try:
            text = difference(graph, given, wanted, "Keras", label)
        except Exception as error:
            text = f"Keras computes it with {label}, and the network does not: {error}"
        if text:
            raise ModelError(text, remedy=_REMEDY)
    if not asked:
        raise ModelError(
            "cannot be compared with Keras, which computes nothing with random inputs",
            remedy="Its code was run on symbolic values, and what it decided cannot be checked: "
            "write it with layers and keras.ops, or give a rule in custom_objects",
        )


_REMEDY = (
    "Something was fixed while its code ran on symbolic values: a branch, a random number, a size. "
    "Write it with keras.ops, or give a rule in custom_objects"
)


def _trials(graph: Graph, model: Beside) -> Iterator[tuple[str, list[Array]]]:
    random = np.random.default_rng(1)
    types = [graph.types[name].shape for name in graph.inputs]
    symbols = dict.fromkeys(name_of(d) for shape in types for d in shape if name_of(d))
    batch = {name_of(shape[0]) for shape in types if shape}
    for rows, length in zip(_BATCHES, _LENGTHS, strict=True):
        sizes = {name: rows if name in batch else length for name in symbols}
        where = ", ".join(f"{name} = {size}" for name, size in sizes.items()) or "its sizes"
        shapes = [concrete(shape, sizes) for shape in types]
        for scale, word in (
            (1.0, "random numbers"),
            (30.0, "large numbers"),
            (1e-3, "small numbers"),
        ):
            found = [_draw(s, t, scale, random) for s, t in zip(shapes, model.dtypes, strict=True)]
            yield f"{word} with {where}", found
        yield f"zeros with {where}", [np.zeros_like(a) for a in found]
        yield f"zeros at the end with {where}", [_cut(a) for a in found]
        yield (
            f"positive numbers with {where}",
            [np.abs(a) if a.dtype.kind == "f" else a for a in found],
        )


def _draw(shape: tuple[int, ...], dtype: str, scale: float, random: np.random.Generator) -> Array:
    kind = DType(dtype)
    if kind.is_float:
        return (scale * random.normal(size=shape)).astype(kind.numpy)
    return random.integers(0, _INTEGERS, shape).astype(kind.numpy)


def _cut(array: Array) -> Array:
    """Zeros in the second half of the first axis behind the batch, as padded sets have them."""
    found: Array = array.copy()
    if found.ndim > 1:
        found[:, (found.shape[1] + 1) // 2 :] = 0
    return found
