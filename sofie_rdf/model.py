"""Model: what a user holds. A façade without logic of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from sofie_rdf import frontends, ops
from sofie_rdf.emit.names import identifier
from sofie_rdf.emit.session import Emission, emit, inlined
from sofie_rdf.errors import InputError, ModelError, SofieError, nearest
from sofie_rdf.frontends import onnx as onnx_frontend
from sofie_rdf.frontends.onnx import Problems, Shapes
from sofie_rdf.ir import rootfile
from sofie_rdf.ir.dims import Dim, Size, evaluate, symbols_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, TensorType, concrete
from sofie_rdf.passes.memory import MemoryPlan, plan_memory
from sofie_rdf.passes.pipeline import run
from sofie_rdf.runtime.dataframe import Columns
from sofie_rdf.runtime.session import Compiled, compile_graph

if TYPE_CHECKING:
    import onnx

__all__ = ["EmittedFiles", "Model", "SofieFunctor", "check", "define", "from_onnx", "load", "ops"]

FilePath: TypeAlias = Union[str, "PathLike[str]"]


@dataclass(frozen=True)
class EmittedFiles:
    """Where `Model.emit` has written: the header, the weight file, and the C++ namespace."""

    header: Path
    weights: Path
    namespace: str


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network: evaluate it, define it as a column, save it, emit it as C++."""

    graph: Graph
    extras: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def name(self) -> str:
        return self.graph.name

    @property
    def inputs(self) -> dict[str, TensorType]:
        """The name and type of each input, in the model's order."""
        return {name: self.graph.types[name] for name in self.graph.inputs}

    @property
    def outputs(self) -> dict[str, TensorType]:
        """The name and type of each output, in the model's order."""
        return {name: self.graph.types[name] for name in self.graph.outputs}

    @cached_property
    def optimized(self) -> Graph:
        """The graph after all passes: what is emitted and run."""
        return run(self.graph)

    @cached_property
    def plan(self) -> MemoryPlan:
        """Where the values of the optimized graph live."""
        return plan_memory(self.optimized)

    @cached_property
    def emission(self) -> Emission:
        """The emitted header and weight file, as text and bytes."""
        return emit(self.optimized, self.plan)

    @cached_property
    def compiled(self) -> Compiled:
        """The model in ROOT's interpreter; compiled when it is first needed."""
        return compile_graph(self.optimized)

    def __call__(self, *arrays: Any, **named: Any) -> Array | dict[str, Array]:
        """The outputs for these inputs, computed by the compiled Session.

        Inputs are arrays in the model's order, keywords, or one mapping by name. A model with one
        output gives one array, else a dict by output name. Raises `InputError` for wrong names,
        shapes or element types. May be called from several threads.
        """
        feeds, sizes = bind_inputs(self.graph, arrays, named)
        outputs = self.compiled.infer(feeds, sizes)
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def define(self, df: Any, column: str, columns: Columns, *, output: str = "") -> Any:
        """See `sofie_rdf.define`."""
        return define(df, column, self, columns, output=output)

    def save(
        self, path: FilePath, *, name: str = "", overwrite: bool = True, via: str = "uproot"
    ) -> None:
        """Store the model in a new or existing .root file; what else is in it stays.

        ``via`` chooses who writes: ``"uproot"`` (no ROOT needed) or ``"ROOT"``. Several models
        may live in one file, by name. Interrupted writing leaves the old file as it was.
        """
        backend = _backend(via)
        header = self.emission.header
        stored = name or self.name
        backend.save(
            self.graph, path, name=stored, header=header, extras=self.extras, overwrite=overwrite
        )

    def emit(self, directory: FilePath = ".", *, standalone: bool = False) -> EmittedFiles:
        """Write ``NAME.hxx`` and ``NAME.dat``; a ``standalone`` header includes nothing of ours.

        The header compiles with ``g++ -std=c++17`` (and ``-I`` of ``sofie-rdf --include-dir``,
        unless standalone); the weights are read by its Session.
        """
        folder, stem = Path(directory), identifier(self.name)
        text = inlined(self.emission.header) if standalone else self.emission.header
        header, weights = folder / f"{stem}.hxx", folder / f"{stem}.dat"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            header.write_text(text)
            weights.write_bytes(self.emission.weights)
        except OSError as error:
            raise ModelError(f"cannot be written: {error.strerror}", place=str(folder)) from error
        return EmittedFiles(header, weights, self.emission.namespace)

    def __str__(self) -> str:
        return summary(self)


# Ways in ------------------------------------------------------------------------------------------


def load(path: FilePath, name: str = "", *, shapes: Shapes | None = None) -> Model:
    """The model in a file, whose kind is told by its content: ONNX or .root.

    ``name`` chooses a model of a .root file, or names that of another file. ``shapes`` as in
    `from_onnx`.
    """
    file = Path(path)
    if frontends.recognise(file) == "root":
        if shapes:
            raise InputError("shapes= is for files that are converted, not for .root files")
        stored = rootfile.load(file, name or None)
        return Model(stored.graph, stored.extras)
    return from_onnx(file, name=name, shapes=shapes)


def from_onnx(
    source: FilePath | bytes | onnx.ModelProto, *, name: str = "", shapes: Shapes | None = None
) -> Model:
    """The model of an ONNX file, of its bytes, or of a ModelProto.

    ``shapes`` gives axes of inputs another size: ``{"features": ("N", 7)}``; a number fixes an
    axis, a name makes it dynamic, ``None`` keeps what the file says. Raises the first thing that
    is wrong; `check` lists all.
    """
    given: Any = Path(source) if isinstance(source, (str, PathLike)) else source
    return Model(onnx_frontend.read(given, name=name, shapes=shapes))


def check(source: FilePath | bytes | onnx.ModelProto, *, shapes: Shapes | None = None) -> Problems:
    """Every reason why a model cannot run, at once, without raising; empty if there is none."""
    try:
        if isinstance(source, (str, PathLike)) and frontends.recognise(Path(source)) == "root":
            for name in rootfile.names(source):
                _ = load(source, name).emission
            return Problems()
        given: Any = Path(source) if isinstance(source, (str, PathLike)) else source
        problems = onnx_frontend.check(given, shapes=shapes)
        if not problems:
            _ = from_onnx(source, shapes=shapes).emission
    except SofieError as error:
        return Problems([error])
    return problems


# Ways out -----------------------------------------------------------------------------------------


def define(df: Any, column: str, model: Model, columns: Columns, *, output: str = "") -> Any:
    """The data frame with the model's score as a new column, in all slots and on all threads.

    ``columns`` are the features in the model's order, or a mapping from each input to its own.
    They may have any arithmetic type. The new column is a number where the model gives one for
    an event, else an RVec. ``output`` chooses one of several outputs. Raises `ColumnError` before
    the event loop for unknown columns and for wrong numbers or types of them.
    """
    from sofie_rdf.runtime import dataframe

    return dataframe.define(df, column, model.compiled, columns, output=output)


def SofieFunctor(model: Model, nslots: int, *, output: str = "", types: Sequence[str] = ()) -> Any:
    """The C++ function object for ``df.DefineSlot(column, SofieFunctor(model, nslots), columns)``.

    ``nslots`` is ``df.GetNSlots()``. Its arguments have the model's element type; ``types`` names
    the C++ types of the columns where they are others. One functor belongs to one data frame.
    """
    from sofie_rdf.runtime import dataframe

    return dataframe.make_functor(model.compiled, nslots, output=output, types=types)


def _backend(via: str) -> Any:
    if via == "uproot":
        return rootfile
    if via == "ROOT":
        from sofie_rdf.runtime import rootio

        return rootio
    raise InputError(f"via={via!r} is unknown", remedy='Use "uproot" or "ROOT"')


# Arrays -------------------------------------------------------------------------------------------


def bind_inputs(
    graph: Graph, arrays: Sequence[Any], named: Mapping[str, Any]
) -> tuple[dict[str, Array], dict[str, int]]:
    """The arrays by input, in the types of the graph, and the sizes that they give dynamic axes."""
    given = _by_name(graph, arrays, named)
    sizes: dict[str, int] = {}
    feeds = {}
    for name in graph.inputs:
        feeds[name] = _as_input(name, graph.types[name], given[name])
        _bind(name, graph.types[name], feeds[name].shape, sizes)
    for name in graph.inputs:
        wanted = concrete(graph.types[name].shape, sizes)
        if wanted != feeds[name].shape:
            raise InputError(
                f"input {name!r} has the shape {list(feeds[name].shape)}; with the sizes of the "
                f"other inputs {list(wanted)} is needed"
            )
    return feeds, sizes


def _by_name(graph: Graph, arrays: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    if len(arrays) == 1 and isinstance(arrays[0], Mapping):
        named, arrays = {**arrays[0], **named}, ()
    if len(arrays) > len(graph.inputs):
        raise InputError(
            f"model {graph.name!r} takes {len(graph.inputs)} arrays, not {len(arrays)}",
            remedy=f"Its inputs are {', '.join(graph.inputs)}",
        )
    given = dict(zip(graph.inputs, arrays, strict=False))
    for name, array in named.items():
        if name not in graph.inputs:
            raise InputError(
                f"model {graph.name!r} has no input {name!r}",
                remedy=nearest(name, graph.inputs) or f"Its inputs are {', '.join(graph.inputs)}",
            )
        if name in given:
            raise InputError(f"input {name!r} is given twice")
        given[name] = array
    missing = [name for name in graph.inputs if name not in given]
    if missing:
        raise InputError(f"input {missing[0]!r} of model {graph.name!r} is missing")
    return given


def _as_input(name: str, type_: TensorType, array: Any) -> Array:
    dtype = type_.dtype.numpy
    try:
        found = np.asarray(array)
    except ValueError as error:
        raise InputError(f"input {name!r} is no array: {error}") from None
    # Numbers in lists have no type of their own; an array's is a decision that we do not change.
    listed = not isinstance(array, np.ndarray) and np.can_cast(found.dtype, dtype, "same_kind")
    if not listed and not np.can_cast(found.dtype, dtype, "safe"):
        raise InputError(
            f"input {name!r} has the element type {found.dtype}; {dtype} is needed",
            remedy=f"Convert it: .astype({dtype.name!r})",
        )
    if found.ndim != type_.rank:
        lacks_batch = found.ndim + 1 == type_.rank
        raise InputError(
            f"input {name!r} has the shape {list(found.shape)}; {type_} is needed",
            remedy="One event needs a batch axis: x[np.newaxis]" if lacks_batch else "",
        )
    return found.astype(dtype, copy=False)


def _bind(name: str, type_: TensorType, shape: Sequence[int], sizes: dict[str, int]) -> None:
    for axis, (dim, size) in enumerate(zip(type_.shape, shape, strict=True)):
        if isinstance(dim, Size) and symbols_of(dim) == {str(dim)}:
            size = sizes.setdefault(str(dim), size)
        known = isinstance(dim, int) or symbols_of(dim) <= sizes.keys()
        if known and evaluate(dim, sizes) != shape[axis]:
            text = f"{dim} = {evaluate(dim, sizes)}" if isinstance(dim, Size) else str(dim)
            raise InputError(
                f"input {name!r} has the shape {list(shape)}; {type_} is needed: axis {axis} is "
                f"{shape[axis]} and not {text}"
            )


# Summary ------------------------------------------------------------------------------------------


def summary(model: Model) -> str:
    """The model in a few lines: inputs, outputs, nodes, parameters, multiply-adds, memory."""
    graph, optimized = model.graph, model.optimized
    source = ", ".join(
        f"{key} {value}" if key == "opset" else value
        for key, value in graph.provenance.items()
        if key in ("source", "producer", "opset")
    )
    rows = [("input", f"{n}: {t}") for n, t in model.inputs.items()]
    rows += [("output", f"{n}: {t}") for n, t in model.outputs.items()]
    rows += [
        ("nodes", f"{len(graph.nodes)} as read, {len(optimized.nodes)} to run"),
        ("parameters", f"{graph.parameters:,}"),
        ("multiply-adds", _amount(optimized.multiply_adds, "")),
        ("weights", _amount(len(model.emission.weights), " bytes, shared by all Sessions")),
        ("scratch", _amount(model.plan.nbytes, " bytes in each Session")),
    ]
    lines = [f"{label:14}{text}" for label, text in rows]
    return "\n".join(
        [f"{graph.name}{f' ({source})' if source else ''}", *(f"  {x}" for x in lines)]
    )


def _amount(dim: Dim, unit: str) -> str:
    if isinstance(dim, int):
        return f"{dim:,}{unit}"
    one = evaluate(dim, dict.fromkeys(symbols_of(dim), 1))
    return f"{one:,}{unit} where {', '.join(sorted(symbols_of(dim)))} = 1"
