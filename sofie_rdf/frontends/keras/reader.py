"""Keras: .keras and .h5 files, read without Keras, and models in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sofie_rdf.errors import (
    GraphError,
    InputError,
    SofieError,
    UnsupportedFormat,
    UnsupportedOperator,
    nearest,
)
from sofie_rdf.frontends.common.builders import FrontendBuilder
from sofie_rdf.frontends.common.problems import Problems
from sofie_rdf.frontends.common.shapes import Shapes, check_shape
from sofie_rdf.frontends.keras.compare import compare
from sofie_rdf.frontends.keras.file import KerasModel, open_file
from sofie_rdf.frontends.keras.graph import Broken, Models, dims_of, structure_of
from sofie_rdf.frontends.keras.layer import Layer, Value, flatten
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.layout import Identity

__all__ = ["CustomObjects", "check", "read"]

CustomObjects = Mapping[str, Callable[..., Any]]


def read(
    source: Any,
    *,
    name: str = "",
    shapes: Shapes | None = None,
    custom_objects: CustomObjects | None = None,
    isolated: bool = True,
) -> Graph:
    """The graph of a .keras or .h5 file (a Path), or of a model of Keras in memory.

    ``name`` is the model's, by default the file's. ``shapes`` as in `sofie_rdf.from_onnx`;
    ``custom_objects`` and ``isolated`` as in `sofie_rdf.from_keras`. The first thing that is wrong
    is raised.
    """
    return _Reader(source, name, shapes or {}, custom_objects or {}, None, isolated).graph()


def check(
    source: Any,
    *,
    name: str = "",
    shapes: Shapes | None = None,
    custom_objects: CustomObjects | None = None,
    isolated: bool = True,
) -> Problems:
    """Everything that is wrong with a model of Keras, at once; never raises for it."""
    problems = Problems()
    try:
        _Reader(source, name, shapes or {}, custom_objects or {}, problems, isolated).graph()
    except Broken:
        pass
    except SofieError as error:
        problems.append(error)
    return problems


@dataclass(frozen=True)
class _Input:
    """An input of the network, as its input layer has it."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class _Reader:
    def __init__(
        self,
        source: Any,
        name: str,
        shapes: Shapes,
        custom: CustomObjects,
        problems: Problems | None,
        isolated: bool,
    ) -> None:
        self.model = _opened(source, shapes, isolated, custom)
        self.shapes, self.problems = shapes, problems
        stem = Path(source).stem if isinstance(source, Path) else self.model.layer.name
        self.build = FrontendBuilder(name or stem or "model", self.model.provenance)
        for key, rule in custom.items():
            if not callable(rule):
                raise InputError(
                    f"custom_objects= gives {key!r} {rule!r}, which is no function",
                    remedy="Give a function of (build, layer, inputs); see from_keras",
                )
        old = self.model.version.startswith(("1.", "2."))
        backend = self.model.provenance.get("backend", "")
        self.models = Models(
            self.model.place,
            self.build,
            problems,
            dict(custom),
            is_keras_2=old,
            backend=backend,
        )

    def graph(self) -> Graph:
        """Inputs, layers, outputs, in that order."""
        try:
            return self._graph()
        except Broken:
            raise
        except SofieError as error:
            raise error.at(self.model.place) from None
        except RecursionError as error:
            raise GraphError("is nested too deeply", place=self.model.place) from error
        except Exception as error:
            # What Keras does not write; HDF5's errors have many types.
            raise GraphError(f"makes no sense: {error}", place=self.model.place) from error

    def _graph(self) -> Graph:
        layer = self.model.layer
        if not layer.is_model:
            raise UnsupportedFormat(
                f"holds a {layer.class_name}, which is no Sequential and no Functional",
                remedy="Its class has Python code, which no file has: give the model itself to "
                "sofie_rdf.from_keras",
            )
        structure = self._inputs(layer)
        known = [i.name for i in flatten(structure)]
        for given in self.shapes:
            if given not in known:
                remedy = nearest(given, known) or f"The inputs are {known}"
                raise InputError(f"shapes= names {given!r}, which is no input", remedy=remedy)
        for one in flatten(structure):
            self._declare(one)
        self._find_shared(layer)
        found = self.models.run(layer, [Value(i.name) for i in flatten(structure)])
        if self.problems:
            return self.build.graph()
        outputs = flatten(found)
        names = self._output_names(layer, found)
        graph = self._named(self.build.graph(*outputs), outputs, names)
        if self.model.beside is not None:
            compare(graph, self.model.beside)
        return graph

    def _find_shared(self, layer: Layer) -> None:
        # What is wrong with a layer is said when it is called.
        with contextlib.suppress(SofieError, AttributeError, KeyError, TypeError, ValueError):
            self.models.find_shared(layer)

    # Inputs --------------------------------------------------------------------------------------

    def _inputs(self, layer: Layer) -> list[_Input]:
        inner = layer.model_layers()
        if layer.class_name != "Sequential":
            by_name = {i.name: i for i in inner}
            refs = flatten(structure_of(layer.config.get("input_layers")))
            return [_input_of(by_name[r.layer]) for r in refs if r.layer in by_name]
        first = inner[0] if inner else layer
        if first.class_name == "InputLayer":
            return [_input_of(first)]
        # A Sequential may begin with a model, which has inputs of its own.
        if first.is_model:
            return _Reader._inputs(self, first)
        shape = (
            first.config.get("batch_input_shape")
            or layer.config.get("build_input_shape")
            or layer.built.get("input_shape")
            or first.built.get("input_shape")
        )
        name = f"{first.name}_input"
        if shape is None and len(self.shapes) == 1:
            name, given = next(iter(self.shapes.items()))
            shape = (None,) * len(given)
        if not isinstance(shape, (list, tuple)) or not all(_is_size(s) for s in shape):
            raise UnsupportedFormat(
                "does not say the shape of its input",
                remedy=f'Give it: shapes={{"{name}": (None, 7)}}',
            )
        dtype = first.config.get("dtype") if first.class_name == "Embedding" else None
        return [_Input(name, tuple(shape), "int32" if dtype else "float32")]

    def _declare(self, given: _Input) -> None:
        if given.dtype not in {d.value for d in DType}:
            raise UnsupportedOperator(
                f"input {given.name!r} has the element type {given.dtype!r}",
                remedy="Do what works on texts before the network",
            )
        sizes = self.shapes.get(given.name)
        if sizes is not None:
            check_shape(given.name, sizes)
            if len(sizes) != len(given.shape):
                raise InputError(
                    f"shapes= gives input {given.name!r} {len(sizes)} axes; "
                    f"it has {len(given.shape)}"
                )
        dims = dims_of(given.name, given.shape, sizes)
        self.build.input(given.name, TensorType(DType(given.dtype), dims))

    # Outputs -------------------------------------------------------------------------------------

    def _output_names(self, layer: Layer, found: Any) -> list[str]:
        """The names of the layers that give the outputs."""
        if self.model.beside is not None:
            names = [*self.model.beside.outputs]
        elif layer.class_name == "Sequential":
            inner = layer.model_layers()
            names = [inner[-1].name if inner else layer.name] * len(flatten(found))
        else:
            names = [r.layer for r in flatten(structure_of(layer.config["output_layers"]))]
        unique: list[str] = []
        taken = {*self.build.inputs}
        for name in names:
            wanted, number = name, 1
            while wanted in taken:
                wanted, number = f"{name}_{number}", number + 1
            taken.add(wanted)
            unique.append(wanted)
        return unique

    def _named(self, graph: Graph, outputs: Sequence[str], names: Sequence[str]) -> Graph:
        """The graph whose outputs have these names."""
        computed: dict[str, str] = {}
        final = []
        for value, name in zip(outputs, names, strict=True):
            if value not in graph.producers or value in computed:
                # An input, a weight, or an output that is there twice.
                value = self.build(Identity(), value)
            computed[value] = name
            final.append(value)
        graph = self.build.graph(*final)
        # Other values that happen to have such a name.
        others = {v for v in graph.types if v in names and v not in computed}
        changed = {**{v: self.build.fresh(f"{v}/value") for v in others}, **computed}
        return _renamed(graph, changed)


def _renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The same graph with other names for some values."""
    from types import MappingProxyType

    def new(value: str) -> str:
        return names.get(value, str(value))

    nodes = tuple(
        replace(n, inputs=tuple(map(new, n.inputs)), outputs=tuple(map(new, n.outputs)))
        for n in graph.nodes
    )
    return replace(
        graph,
        outputs=tuple(map(new, graph.outputs)),
        nodes=nodes,
        types=MappingProxyType({new(v): t for v, t in graph.types.items()}),
        constants=MappingProxyType({new(v): c for v, c in graph.constants.items()}),
    )


def _input_of(layer: Layer) -> _Input:
    config = layer.config
    if config.get("sparse") or config.get("ragged"):
        raise UnsupportedOperator(
            f"input {layer.name!r} is sparse or ragged", remedy="Give it dense arrays"
        )
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    if not isinstance(shape, (list, tuple)) or not all(_is_size(s) for s in shape):
        raise UnsupportedFormat(f"does not say the shape of its input {layer.name!r}")
    if config.get("optional"):
        raise UnsupportedOperator(
            f"input {layer.name!r} is optional", remedy="Make the model with or without it"
        )
    return _Input(layer.name, tuple(shape), str(config.get("dtype") or "float32"))


def _is_size(size: Any) -> bool:
    return size is None or (isinstance(size, int) and not isinstance(size, bool) and size >= 0)


def _opened(source: Any, shapes: Shapes, isolated: bool, custom: CustomObjects) -> KerasModel:
    if isinstance(source, Path):
        return open_file(source, isolated=isolated)
    from sofie_rdf.frontends.keras.memory import open_model

    return open_model(source, shapes, custom)
