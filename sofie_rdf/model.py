"""Model: what a user holds. A façade without logic of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from sofie_rdf import frontends, ops
from sofie_rdf.emit.names import identifier
from sofie_rdf.emit.session import Emission, emit, include_directories, inlined
from sofie_rdf.errors import InputError, ModelError, SofieError
from sofie_rdf.frontends import onnx as onnx_frontend
from sofie_rdf.frontends.onnx import Problems, Shapes
from sofie_rdf.ir import rootfile
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, TensorType
from sofie_rdf.passes.halves import widen_halves
from sofie_rdf.passes.memory import MemoryPlan, plan_memory
from sofie_rdf.passes.pipeline import run
from sofie_rdf.runtime.arrays import bind_inputs, with_sequences
from sofie_rdf.runtime.dataframe import Columns
from sofie_rdf.runtime.session import Compiled, compile_graph
from sofie_rdf.summary import summary

if TYPE_CHECKING:
    import onnx

__all__ = ["EmittedFiles", "Model", "SofieFunctor", "check", "define", "from_onnx", "load", "ops"]

FilePath: TypeAlias = Union[str, "PathLike[str]"]


@dataclass(frozen=True)
class EmittedFiles:
    """Where `Model.emit` has written: the header, the weight file, and the C++ namespace.

    ``include`` are the folders of the headers that the header includes: one ``-I`` for each.
    """

    header: Path
    weights: Path
    namespace: str
    include: tuple[Path, ...] = ()


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network: evaluate it, define it as a column, save it, emit it as C++.

    ``compiler`` is who compiles it where it is evaluated here: ``"cling"`` (ROOT's interpreter),
    ``"g++"`` or ``"clang++"`` (into a library in the cache on disk), or ``"auto"``: such a library
    if the cache has one, else Cling now, and a library in the background for later processes. By
    default the environment variable SOFIE_RDF_COMPILER decides.
    """

    graph: Graph
    extras: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    compiler: str = ""

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
        return widen_halves(run(self.graph))

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
        """The model as code that runs; compiled when it is first needed."""
        return compile_graph(self.optimized, self.compiler)

    def __call__(self, *arrays: Any, **named: Any) -> Array | dict[str, Array]:
        """The outputs for these inputs, computed by the compiled Session.

        Inputs are arrays in the model's order, keywords, or one mapping by name. A model with one
        output gives one array, else a dict by output name. A sequence is a list of arrays, an
        optional value may be None; such inputs are given by name. Raises `InputError` for wrong
        names, shapes or element types. May be called from several threads.
        """
        feeds, sizes = bind_inputs(self.graph, arrays, named)
        outputs = with_sequences(self.compiled.infer(feeds, sizes))
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
        named = Model(replace(self.graph, name=name or self.name), self.extras)
        _backend(via).save(
            named.graph,
            path,
            header=named.emission.header,
            extras=self.extras,
            overwrite=overwrite,
        )

    def emit(self, directory: FilePath = ".", *, standalone: bool = False) -> EmittedFiles:
        """Write ``NAME.hxx`` and ``NAME.dat``; a ``standalone`` header includes nothing of ours.

        The header compiles with ``g++ -std=c++17`` (and ``-I`` of each folder in ``include`` of the
        result, unless standalone); the weights are read by its Session.
        """
        folder, stem = Path(directory), identifier(self.name)
        include = include_directories(self.optimized)
        text = inlined(self.emission.header, include) if standalone else self.emission.header
        header, weights = folder / f"{stem}.hxx", folder / f"{stem}.dat"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            header.write_text(text)
            weights.write_bytes(self.emission.weights)
        except OSError as error:
            raise ModelError(f"cannot be written: {error.strerror}", place=str(folder)) from error
        return EmittedFiles(header, weights, self.emission.namespace, () if standalone else include)

    def __str__(self) -> str:
        return summary(self.graph, self.optimized, self.plan, self.emission)


# Ways in ------------------------------------------------------------------------------------------


def load(
    path: FilePath, name: str = "", *, shapes: Shapes | None = None, compiler: str = ""
) -> Model:
    """The model in a file, whose kind is told by its content: ONNX or .root.

    ``name`` chooses a model of a .root file, or names that of another file. ``shapes`` as in
    `from_onnx`, ``compiler`` as in `Model`.
    """
    file = Path(path)
    if frontends.recognise(file) == "root":
        if shapes:
            raise InputError("shapes= is for files that are converted, not for .root files")
        stored = rootfile.load(file, name or None)
        return Model(stored.graph, stored.extras, compiler)
    return from_onnx(file, name=name, shapes=shapes, compiler=compiler)


def from_onnx(
    source: FilePath | bytes | onnx.ModelProto,
    *,
    name: str = "",
    shapes: Shapes | None = None,
    compiler: str = "",
) -> Model:
    """The model of an ONNX file, of its bytes, or of a ModelProto.

    ``shapes`` gives axes of inputs another size: ``{"features": ("N", 7)}``; a number fixes an
    axis, a name makes it dynamic, ``None`` keeps what the file says. ``compiler`` as in `Model`.
    Raises the first thing that is wrong; `check` lists all.
    """
    return Model(onnx_frontend.read(_source(source), name=name, shapes=shapes), compiler=compiler)


def _source(source: Any) -> Any:
    """Whatever names a file as a Path; bytes and ModelProtos as they are."""
    return Path(source) if isinstance(source, (str, PathLike)) else source


def check(source: FilePath | bytes | onnx.ModelProto, *, shapes: Shapes | None = None) -> Problems:
    """Every reason why a model cannot run, at once, without raising; empty if there is none.

    Of a .root file, the reasons of all models.
    """
    problems = Problems()
    try:
        if isinstance(source, (str, PathLike)) and frontends.recognise(Path(source)) == "root":
            for name in rootfile.names(source):
                problems += _trouble(partial(load, source, name))
            return problems
        problems += onnx_frontend.check(_source(source), shapes=shapes)
    except SofieError as error:
        return Problems([error])
    return problems or _trouble(partial(from_onnx, source, shapes=shapes))


def _trouble(read: Callable[[], Model]) -> Problems:
    """What goes wrong when a model is read and compiled to C++."""
    try:
        _ = read().emission
    except SofieError as error:
        return Problems([error])
    except Exception as error:
        thing = f"cannot be compiled: {type(error).__name__}: {error}"
        return Problems([ModelError(thing, remedy="This is a bug of sofie_rdf: please report it")])
    return Problems()


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
