"""Where the weights of Keras's layers are: in a .keras file, in an .h5 file, or in a live model.

A .keras file names a layer by its class and a number, ``layers/dense_1/vars/0``, and what a layer
has inside by the attribute, ``layers/bidirectional/forward_layer/cell/vars/2``. An .h5 file has for
each layer of the model one list, of trainable weights first, with those of all that is inside. A
live layer tells its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sofie_rdf.errors import CorruptFile, SofieError, UnsupportedOperator
from sofie_rdf.frontends.keras.hdf5 import Group
from sofie_rdf.ir.types import Array

if TYPE_CHECKING:
    from sofie_rdf.frontends.keras.layer import Layer, Variable

__all__ = ["ByName", "LiveWeights", "NoWeights", "PathWeights", "Unsorted", "Weights", "snake_case"]


# Layers that files know by another name than that of their class.
_CLASSES = {"GroupQueryAttention": "GroupedQueryAttention"}


def snake_case(name: str) -> str:
    """The name of a class as .keras files write it: ``Conv2DTranspose`` is conv2d_transpose."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


class Weights:
    """The weights of one layer and of what is inside it."""

    def own(self, names: Sequence[str] | None) -> list[Array]:
        """Those of the layer itself; ``names`` are what they should be, None where not known."""
        raise NotImplementedError

    def child(self, attribute: str) -> Weights:
        """Those of a layer that is an attribute of this one: ``cell``, ``cells/1``."""
        raise NotImplementedError

    def layers(self, classes: Sequence[str], names: Sequence[str]) -> list[Weights]:
        """Those of the layers of a model, given the classes and names of all."""
        raise NotImplementedError

    def resolved(self, layer: Layer) -> Weights:
        """The same, when it is known which layer it is."""
        return self

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there; a layer that stands in two places has weights in the first."""
        return False


class NoWeights(Weights):
    """Of what has none."""

    def own(self, names: Sequence[str] | None) -> list[Array]:
        return []

    def child(self, attribute: str) -> Weights:
        return self

    def layers(self, classes: Sequence[str], names: Sequence[str]) -> list[Weights]:
        return [self for _ in classes]

    @property
    def is_empty(self) -> bool:
        return True


def weight_of(found: Any, place: str) -> Array:
    """A member of a file as a weight; `CorruptFile` for a group."""
    if not isinstance(found, np.ndarray):
        raise CorruptFile("holds no array where a weight should be", place=place)
    return found


@dataclass(frozen=True)
class PathWeights(Weights):
    """A group of ``model.weights.h5``, the weights file in a .keras archive."""

    file: Group
    path: str = ""

    def _group(self, path: str) -> Group | None:
        found = self.file.get(path)
        return found if isinstance(found, Group) else None

    def own(self, names: Sequence[str] | None) -> list[Array]:
        group = self._group(f"{self.path}/vars".lstrip("/"))
        if group is None:
            return []
        count = len(group)
        found = []
        for number in range(count):
            place = f"{self.path}/vars/{number}"
            if str(number) not in group:
                raise CorruptFile(f"has {count} weights in {self.path!r}, none of number {number}")
            found.append(weight_of(group.get(str(number)), place))
        return found

    def child(self, attribute: str) -> Weights:
        return PathWeights(self.file, f"{self.path}/{attribute}".lstrip("/"))

    def layers(self, classes: Sequence[str], names: Sequence[str]) -> list[Weights]:
        # Keras 2.12 called the group otherwise.
        kinds = ("layers", "_layer_checkpoint_dependencies")
        roots = [f"{self.path}/{kind}".lstrip("/") for kind in kinds]
        root = next((r for r in roots if r in self.file), roots[0])
        used: dict[str, int] = {}
        found: list[Weights] = []
        for cls, name in zip(classes, names, strict=True):
            stem = snake_case(_CLASSES.get(cls, cls))
            number = used.get(stem, -1) + 1
            used[stem] = number
            path = f"{root}/{stem}_{number}" if number else f"{root}/{stem}"
            self._check_name(path, name)
            found.append(PathWeights(self.file, path))
        return found

    def _check_name(self, path: str, name: str) -> None:
        """Newer files say the name of the layer beside its weights."""
        group = self._group(f"{path}/vars")
        said = group.attrs.get("name", name) if group is not None else name
        if said != name:
            raise CorruptFile(f"has weights of the layer {said!r} where those of {name!r} belong")

    @property
    def is_empty(self) -> bool:
        group = self._group(self.path)
        if group is None:
            return True
        # Keras 2 makes groups for layers whose weights are elsewhere.
        return set(group) <= {"vars"} and not self._group(f"{self.path}/vars")


def _trained_first(variables: Sequence[Variable]) -> list[Variable]:
    return [v for v in variables if v.trainable] + [v for v in variables if not v.trainable]


@dataclass(frozen=True)
class Flat(Weights):
    """The list of one layer in an .h5 file, as far as it is this layer's."""

    arrays: Mapping[str, Array]
    prefix: str = ""

    @classmethod
    def of(cls, layer: Layer, names: Sequence[str], arrays: Sequence[Array]) -> Flat:
        """Whose weight is which, by the order in which Keras writes them."""
        declared = list(layer.declared())
        once: dict[str, Variable] = {}
        for one in declared:
            once.setdefault(one.alone or one.path, one)
        if len(once) == len(arrays) < len(declared):
            ordered = _trained_first(list(once.values()))
        else:
            ordered = _trained_first(declared)
        if len(ordered) != len(arrays):
            raise CorruptFile(f"has {len(arrays)} weights, not {len(ordered)}")
        for one, name in zip(ordered, names, strict=True):
            said = name.rpartition("/")[2].partition(":")[0]
            # Weights of equal shapes must not be exchanged.
            if said != one.name and said in {d.name for d in ordered}:
                raise CorruptFile(f"has the weight {name!r} where {one.path!r} belongs")
        found = {d.alone or d.path: a for d, a in zip(ordered, arrays, strict=True)}
        listed = {d.path: a for d, a in zip(ordered, arrays, strict=True)}
        return cls({d.path: listed.get(d.path, found[d.alone or d.path]) for d in declared})

    def own(self, names: Sequence[str] | None) -> list[Array]:
        if names is None:
            return []
        return [self.arrays[f"{self.prefix}{n}"] for n in names]

    def child(self, attribute: str) -> Weights:
        return Flat(self.arrays, f"{self.prefix}{attribute}/")

    def layers(self, classes: Sequence[str], names: Sequence[str]) -> list[Weights]:
        return [Flat(self.arrays, f"{self.prefix}{name}/") for name in names]


@dataclass(frozen=True)
class ByName(Weights):
    """The model of an .h5 file: the list of each of its layers."""

    lists: Mapping[str, Unsorted]

    def own(self, names: Sequence[str] | None) -> list[Array]:
        return []

    def child(self, attribute: str) -> Weights:
        return NoWeights()

    def layers(self, classes: Sequence[str], names: Sequence[str]) -> list[Weights]:
        return [self.lists.get(name, NoWeights()) for name in names]


@dataclass(frozen=True)
class Unsorted(NoWeights):
    """The list of a layer in an .h5 file, before it is looked at which weight is which."""

    names: Sequence[str]
    arrays: Sequence[Array]

    def own(self, names: Sequence[str] | None) -> list[Array]:
        return list(self.arrays)

    def resolved(self, layer: Layer) -> Weights:
        try:
            return Flat.of(layer, self.names, self.arrays)
        except UnsupportedOperator:
            # Whoever knows this layer knows the order of its weights.
            if layer.is_model:
                raise
            return self

    @property
    def is_empty(self) -> bool:
        return False


@dataclass(frozen=True)
class LiveWeights(Weights):
    """A layer of Keras in memory."""

    layer: Any

    def own(self, names: Sequence[str] | None) -> list[Array]:
        store: dict[str, Any] = {}
        # What Keras itself calls to save the layer.
        self.layer.save_own_variables(store)
        return [_numbers(store[str(i)]) for i in range(len(store))]

    def child(self, attribute: str) -> Weights:
        name, _, number = attribute.partition("/")
        found = getattr(self.layer, name, None)
        if number and found is not None:
            found = list(found)[_position(number, found)]
        return NoWeights() if found is None else LiveWeights(found)

    def layers(self, classes: Sequence[str], names: Sequence[str]) -> list[Weights]:
        known = {layer.name: layer for layer in self.layer.layers}
        return [LiveWeights(known[n]) if n in known else NoWeights() for n in names]


def _numbers(value: Any) -> Array:
    """A variable of Keras as an array of our own."""
    import warnings

    import keras

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array(keras.ops.convert_to_numpy(value))


def _position(name: str, items: Sequence[Any]) -> int:
    """Which of the items of a list it is that a file calls ``lstm_cell_1``."""
    used: dict[str, int] = {}
    for position, item in enumerate(items):
        stem = snake_case(type(item).__name__)
        number = used.get(stem, -1) + 1
        used[stem] = number
        if name == (f"{stem}_{number}" if number else stem):
            return position
    raise SofieError(f"has no {name!r}")
