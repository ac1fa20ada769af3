"""Model: what a user holds. A façade without logic of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from sofie_rdf import arguments, frontends
from sofie_rdf.brief import Listed, brief
from sofie_rdf.emit.names import identifier
from sofie_rdf.errors import InputError, ModelError, SofieError, printable
from sofie_rdf.frontends.common.shapes import check_shapes
from sofie_rdf.gradients.methods import Differentiable
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.naming import features_of, labels_of, seed_of, with_names, with_seed
from sofie_rdf.ir.rows import ROWS, check_entries, check_seed, rows_for
from sofie_rdf.ir.types import PRECISIONS, Ports
from sofie_rdf.pickling import Portable
from sofie_rdf.reading import (
    NOT_SAID,
    Allowed,
    Content,
    File,
    FileOptions,
    layered,
    optimized,
    path_or_object,
)
from sofie_rdf.runtime.arrays import jagged, lazy
from sofie_rdf.runtime.arrays.inputs import bind_inputs, each_array, with_sequences
from sofie_rdf.runtime.arrays.jagged import is_jagged
from sofie_rdf.runtime.compile import records
from sofie_rdf.runtime.compile.interpreter import tell_of_headers
from sofie_rdf.runtime.compile.library import check_compiler
from sofie_rdf.runtime.compile.program import Program
from sofie_rdf.runtime.compile.repeated import learn, outputs_of
from sofie_rdf.runtime.compile.session import Compiled, DamagedWeights, compile_program
from sofie_rdf.runtime.files.via import backend
from sofie_rdf.runtime.rdataframe.options import (
    DEFAULTS,
    SCORE_DEFAULTS,
    DefineOptions,
    ScoreOptions,
)

if TYPE_CHECKING:
    import onnx
    from typing_extensions import Unpack

    from sofie_rdf.emit.session import Emission
    from sofie_rdf.frontends.common.problems import Problems
    from sofie_rdf.frontends.common.shapes import Shapes
    from sofie_rdf.frontends.torch.inputs import Dynamic
    from sofie_rdf.ir.record import StoredModel
    from sofie_rdf.limits import Limits
    from sofie_rdf.passes.memory import MemoryPlan
    from sofie_rdf.passes.precision import Weights
    from sofie_rdf.runtime.arrays.accuracy import PrecisionLoss
    from sofie_rdf.runtime.rdataframe.define import Columns
    from sofie_rdf.runtime.rdataframe.shipped import Parcel

__all__ = [
    "EmittedFiles",
    "Model",
    "check",
    "from_graph_nets",
    "from_keras",
    "from_lightgbm",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "from_xgboost",
    "load",
    "trust",
]

FilePath: TypeAlias = Union[str, "PathLike[str]"]


@dataclass(frozen=True)
class EmittedFiles:
    """Where `Model.emit` has written: the header, the weight file, and the C++ namespace.

    ``weights`` is None where the header has them in it. ``include`` are the folders of the headers
    that the header includes: one ``-I`` for each.
    """

    header: Path
    weights: Path | None
    namespace: str
    include: tuple[Path, ...] = ()


@brief
class Model(Portable, Differentiable, metaclass=Listed):
    """A trained network: call it with arrays, define it as a column, save it, emit it as C++.

    ``compiler`` is who compiles it: ``"cling"``, ``"g++"`` or ``"clang++"`` (a library in the
    cache), or ``"auto"``: such a library if there is one, else Cling now and a library in the
    background. By default SOFIE_RDF_COMPILER says it; else it is Cling for a new model, and
    ``"auto"`` for one that is used again. All give the same bits.
    """

    @arguments.checked
    def __init__(
        self, graph: Graph, extras: Mapping[str, str] | None = None, compiler: str = ""
    ) -> None:
        if not isinstance(graph, Graph):
            raise arguments.refused("Model", "a Graph", graph)
        check_compiler(compiler)
        self._file = File(lambda: (graph, extras or {}), Allowed())
        self.compiler = compiler
        self._seed: int | None = None

    @classmethod
    def _of(cls, file: File, compiler: str, seed: int | None = None) -> Model:
        """The model of a file, which has been read if no record of it is in the cache."""
        check_compiler(compiler)
        made = cls.__new__(cls)
        made._file, made.compiler, made._seed = file, compiler, seed
        return made

    def _changed(self, change: Callable[[], Graph]) -> Model:
        """The model of another graph that is made of this one; both may cost the same."""
        with self._file.allowed.budget():
            content = change(), self.extras
        return Model._of(File(lambda: content, self._file.allowed), self.compiler, self._seed)

    @staticmethod
    def _meeting(graph: Graph, output: str) -> Node | None:
        """The node before an output in which events may meet; None if none is known."""
        from sofie_rdf.passes.rows import meeting
        from sofie_rdf.reading import optimized

        found = meeting(graph, output)
        # Passes write in other words what has no rule.
        return found if found and meeting(optimized(graph), output) else None

    _layered = staticmethod(layered)

    @property
    def graph(self) -> Graph:
        """The network as it was read."""
        return self._file.graph

    @property
    def extras(self) -> Mapping[str, str]:
        """What else a .root file says about the model."""
        return MappingProxyType(dict(self._file.extras))

    @property
    def name(self) -> str:
        """What it is called: in .root files, in headers, in errors."""
        return self._file.face.name

    @property
    def seed(self) -> int:
        """The seed of its random numbers; of one seed, an event has the same ones everywhere."""
        return self._known_seed

    @cached_property
    def _known_seed(self) -> int:
        return seed_of(self._file.face) if self._seed is None else self._seed

    @arguments.checked
    def with_seed(self, seed: int | None) -> Model:
        """The same model with the random numbers of this seed.

        None stands for the seed that its file has.
        """
        return Model._of(self._file, self.compiler, None if seed is None else check_seed(seed))

    @property
    def inputs(self) -> Ports:
        """The name and type of each input, in the model's order: ``features: float32[N, 7]``."""
        return Ports((name, self._file.face.types[name]) for name in self._file.face.inputs)

    @property
    def outputs(self) -> Ports:
        """The name and type of each output, in the model's order."""
        return Ports((name, self._file.face.types[name]) for name in self._file.face.outputs)

    @property
    def features(self) -> dict[str, tuple[str, ...]]:
        """The names of the features of each input that has them, in the model's order."""
        return features_of(self._file.face)

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The names of the classes of each output that has them, in the model's order."""
        return labels_of(self._file.face)

    @cached_property
    def optimized(self) -> Graph:
        """The graph after all passes: what is emitted and run."""
        with self._file.allowed.budget():
            return optimized(self.graph)

    @cached_property
    def plan(self) -> MemoryPlan:
        """Where the values of the optimized graph live."""
        from sofie_rdf.passes.memory import plan_memory

        with self._file.allowed.budget():
            return plan_memory(self.optimized)

    @cached_property
    def emission(self) -> Emission:
        """The emitted header and weight file, as text and bytes."""
        from sofie_rdf.emit.session import emit

        with self._file.allowed.budget():
            return emit(with_seed(self.optimized, self.seed), self.plan)

    @cached_property
    def compiled(self) -> Compiled:
        """The model as code that runs; compiled when it is first needed."""
        with self._file.allowed.budget():
            return self._compiled()

    def _compiled(self) -> Compiled:
        record = self._file.record
        if record:
            try:
                return compile_program(record.program, self.compiler)
            except DamagedWeights:
                records.forget(self._file.key)
        program = self._made()
        compiled = compile_program(program, self.compiler)
        records.keep(self._file.key, program, self._file.extras)
        return compiled

    def _made(self) -> Program:
        """The program of the graph."""
        from sofie_rdf.runtime.compile.prepare import program_of

        # Not `self.optimized`: nobody may want to see it, and it is as large as the weights.
        return program_of(self.__dict__.get("optimized") or optimized(self.graph))

    @cached_property
    def parcel(self) -> Parcel:
        """What the workers of a distributed data frame need of the model."""
        from sofie_rdf.runtime.compile.trial import try_out
        from sofie_rdf.runtime.rdataframe.shipped import parcel_of

        record = self._file.record
        with self._file.allowed.budget():
            is_kept = record is not None and records.is_whole(self._file.key)
            program = record.program if record and is_kept else self._made()
            trial = try_out(self.name, self.compiled.infer, program.trials())
            return parcel_of(program, trial)

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """The outputs for these inputs: arrays in order, keywords, or a mapping.

        Arrays come in the order of the model's inputs. One output is an array, several are a dict
        by name. Sequences are lists of arrays; optional values may be None; awkward arrays may be
        jagged. ``seed`` and ``entry`` are for random numbers: row i is event ``entry`` + i, or
        ``entry[i]``. Raises `InputError` for wrong names, shapes or element types. May be called
        from several threads.
        """
        given = arrays, named
        if (known := outputs_of(self.__dict__.get("compiled"), *given)) is not None:
            return known
        named, seed, entry = self._drawn(named)
        lazy.refuse((arrays, named))
        if any(map(is_jagged, each_array(arrays, named))):
            return jagged.called(self.compiled, arrays, named, seed, entry)
        feeds, sizes = bind_inputs(self._file.face, arrays, named)
        if self.compiled.drawn is not None:
            entries = check_entries(entry, self.compiled.rows_drawn(sizes))
            feeds = {**feeds, ROWS: rows_for(entries, seed)}
        outputs = with_sequences(self.compiled.infer(feeds, sizes))
        learn(self.compiled, *given, sizes, outputs)
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def _drawn(self, named: Mapping[str, Any]) -> tuple[dict[str, Any], int, Any]:
        """The inputs among these keywords, the seed, and the entry."""
        own = {key: named[key] for key in ("seed", "entry") if key in named}
        own = {key: value for key, value in own.items() if key not in self._file.face.inputs}
        inputs = {key: value for key, value in named.items() if key not in own}
        seed = self.with_seed(own["seed"]).seed if "seed" in own else self.seed
        return inputs, seed, own.get("entry", 0)

    @arguments.with_options(DefineOptions, DEFAULTS)
    def define(
        self,
        df: Any,
        column: str | Mapping[str, str],
        columns: Columns = None,
        **options: Unpack[DefineOptions],
    ) -> Any:
        """The data frame with the model's score as a new column.

        `sofie_rdf.define` is the same function, and has the description of each option.
        """
        from sofie_rdf.defining import define

        return define(df, column, self, columns, **options)

    @arguments.with_options(ScoreOptions, SCORE_DEFAULTS)
    def score(
        self, events: Any = None, columns: Any = None, **options: Unpack[ScoreOptions]
    ) -> Any:
        """What `define` makes of a data frame, from arrays and without ROOT.

        ``events`` are records, or a mapping from names to arrays; ``columns`` are their fields,
        arrays and numbers, by default the features by name, else all fields. Options and numbers
        are those of `sofie_rdf.define`; but ``where`` is a bool for each event, ``entry`` the
        number of the first event, or of each, and ``output`` may be a mapping from new fields to
        texts. The result is an awkward array, as jagged as the columns, and lazy where these are
        arrays of dask-awkward. Raises `ColumnError`, `InputError`.
        """
        told: ScoreOptions = {**SCORE_DEFAULTS, **options}
        if lazy.is_lazy((events, columns, told["where"], told["entry"])):
            return lazy.scored(self, events, columns, told)
        arguments.require_events(events, columns)
        seed = told["seed"]
        seed = (self if seed is None else self.with_seed(seed)).seed
        return jagged.score(self.compiled, events, columns, told, seed)

    @arguments.checked
    def normalized(self, source: Any) -> Model:
        """The model behind a normalisation, which becomes operators in front of it.

        ``source`` is a file of weaver or lwtnn, a mapping, ``{"mean": [...], "std": [...]}`` or
        ``{"offset": [...], "scale": [...]}`` (by input where there are several), or a fitted scaler
        of scikit-learn. Raises `ModelError`, `UnsupportedFormat`, `CorruptFile`.
        """
        from sofie_rdf.frontends.common import normalization

        if self.precision != PRECISIONS[0]:
            raise ModelError(
                f"has its weights in {self.precision}, into which no normalization can be folded",
                place=self.name,
                remedy="First model.normalized(...), then .with_precision(...)",
            )
        return self._changed(lambda: normalization.normalized(self.graph, source))

    @arguments.checked
    def with_precision(self, precision: str) -> Model:
        """The model whose layers have their weights in fewer bits.

        Activations and sums stay as they are. ``precision`` is ``"bfloat16"``, ``"float16"``,
        ``"int8"`` (with a scale for each output) or ``"float32"``. The result is that of the
        float32 network with the rounded weights, to the last bit. Raises `ModelError` where no
        weights can be rounded, `InputError` for another precision.
        """
        from sofie_rdf.passes import precision as precisions

        return self._changed(lambda: precisions.with_precision(self.graph, precision))

    @property
    def precision(self) -> str:
        """In which precision the weights are, as far as they can be: see `with_precision`."""
        from sofie_rdf.passes.precision import precision_of

        return precision_of(self.graph)

    @arguments.checked
    def precision_loss(
        self,
        *arrays: Any,
        columns: Any = None,
        precisions: Sequence[str] = PRECISIONS[1:],
        labels: Any = None,
        cuts: Sequence[float] = (),
        **named: Any,
    ) -> PrecisionLoss:
        """What weights in fewer bits change on these events, and what they save.

        The result can be printed. Events are given as for a call, or, with ``columns``, as for
        `score`. ``cuts`` are those at which they may change sides; ``labels`` (0 or 1, or the
        number of the class) add the area under the ROC curve, or the accuracy. Raises `InputError`.
        """
        from sofie_rdf.runtime.arrays import accuracy

        events = accuracy.Events(arrays, named, columns)
        return accuracy.precision_loss(self, events, precisions, cuts, labels)

    @property
    def weights(self) -> tuple[Weights, ...]:
        """How the weights of each layer are stored, and why some are not in `precision`."""
        from sofie_rdf.passes.precision import weights_of

        return weights_of(self.graph)

    @arguments.checked
    def named(
        self,
        *,
        features: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        labels: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    ) -> Model:
        """The same model with these names of its features or classes.

        `sofie_rdf.define` takes columns of these names where no others are given.
        """
        return self._changed(lambda: with_names(self.graph, features=features, labels=labels))

    @arguments.checked
    def save(
        self,
        path: FilePath,
        *,
        name: str = "",
        overwrite: bool = True,
        via: str = "uproot",
        ntuple: bool = False,
    ) -> None:
        """Store the model in a new or existing .root file; what else is in it stays.

        Several models may live in one file, by ``name``. Interrupted writing leaves it as it was.
        ``via`` is who writes: ``"uproot"`` (no ROOT needed) or ``"ROOT"``. ``ntuple`` stores the
        weights as an RNTuple, for ROOT 6.36 and newer. Your macros may run it: see
        `sofie_rdf.trust`. Raises `ModelError` where it cannot be written, or is there and
        ``overwrite`` is False.
        """
        from sofie_rdf.runtime.cache import trust
        from sofie_rdf.runtime.files.macro import macro_of

        arguments.require_file("save", path)
        graph = with_seed(self.graph, self.seed)
        named = self._changed(lambda: replace(graph, name=name or self.name))
        macro = macro_of(named.optimized, named.emission)
        if ntuple and via != "uproot":
            raise InputError("ntuple=True is for via='uproot'")
        more = {"ntuple": True} if ntuple else {}
        sha256 = backend(via).save(
            named.graph, path, extras=self.extras, macro=macro, overwrite=overwrite, **more
        )
        trust.trust(sha256, named.name)

    @arguments.checked
    def emit(
        self,
        directory: FilePath = ".",
        *,
        standalone: bool = False,
        weights: str = "file",
        session: bool = True,
        target: str = "cpu",
    ) -> EmittedFiles:
        """Write ``NAME.hxx`` and its weights: C++ that needs no Python.

        It compiles with ``g++ -std=c++17``. A ``standalone`` header includes nothing of ours.
        ``weights`` are in a ``"file"``, NAME.dat; in ``"root"``, NAME.root, which needs ROOT; or in
        the ``"header"``, for small models. Without a ``session`` there are functions ``infer``
        besides, which keep none: one computes at a time. ``target="alpaka"`` or ``"sycl"`` gives
        NAME_TARGET.hxx for devices (never run on a GPU).
        """
        from sofie_rdf.emit import files
        from sofie_rdf.emit.session import include_directories

        arguments.require_file("emit", directory, "the path of a folder")
        if target != "cpu":
            from sofie_rdf.devices.files import write_for_device

            given = self.graph, Path(directory), target, weights if session else "", standalone
            with self._file.allowed.budget():
                return EmittedFiles(*write_for_device(*given))
        header = Path(directory) / f"{identifier(self.name)}.hxx"
        include = include_directories(self.optimized)
        if weights == "file" and session:
            emission = self.emission
        else:
            emission = files.emission_for(
                with_seed(self.optimized, self.seed), self.plan, header, weights, session=session
            )
        path = files.write(emission, header, weights, standalone=include if standalone else ())
        tell_of_headers(() if standalone else include)
        return EmittedFiles(header, path, emission.namespace, () if standalone else include)

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(repr(p).split("\n")) for p in (self.inputs, self.outputs))
        return f"<Model {printable(self.name)}: {inputs} -> {outputs}>"

    def _repr_html_(self) -> str:
        from sofie_rdf.summary import table

        return table(self._file.face)

    def __str__(self) -> str:
        from sofie_rdf.summary import summary

        return summary(with_seed(self.graph, self.seed), self.optimized, self.plan, self.emission)


# Ways in ------------------------------------------------------------------------------------------


@arguments.with_options(FileOptions, NOT_SAID)
def load(
    path: FilePath,
    name: str = "",
    *,
    precision: str = "",
    compiler: str = "",
    limits: Limits | str | None = None,
    seed: int | None = None,
    **options: Unpack[FileOptions],
) -> Model:
    """The model in a file, whose kind is told by its content: `sofie_rdf.frontends.FORMATS`.

    ``name`` chooses a model of a .root file, or names that of another file. ``shapes`` as in
    `from_onnx`, ``precision`` as in `Model.with_precision` (by default weights are what the file
    has), ``compiler`` as in `Model`, ``seed`` as in `Model.seed`. ``custom_objects`` is for Keras,
    see `from_keras`; ``example_inputs``, ``input_shapes``, ``weights_only`` and ``dynamic`` are for
    PyTorch, see `from_torch`.

    ``limits`` is what the file may cost: `sofie_rdf.Limits`, or a text as ``"bytes=8G,nodes=1e6"``.
    By default that is much more than what such a file needs (see `Limits.for_size`), or what the
    environment variable SOFIE_RDF_LIMITS says. It holds for whatever is done with the model, but
    for its evaluation; what exceeds it is `LimitExceeded`.

    .pt2, TorchScript, .keras and .h5 files are read in a process of their own, as a stranger's file
    may crash torch or HDF5; it can neither write files nor use the network where the system is
    Linux. ``isolated=False`` reads them in this one, which saves loading torch or h5py again.
    """
    arguments.require_file("load", path)
    file = Path(path)
    kind = frontends.recognise(file)
    given = frontends.options_for(kind, **options)
    if kind == "root":
        read = partial(_read_root, file, name)
        made = Model._of(_file(read, precision, file, name, {}, limits), compiler)
    else:
        made = _from(kind, file, name, compiler, limits, precision, is_told=True, **given)
    return made.with_seed(seed)


def _from(
    kind: str,
    source: Any,
    name: str,
    compiler: str,
    limits: Limits | str | None,
    precision: str = "",
    is_told: bool = False,
    **options: Any,
) -> Model:
    """The model of a file, of bytes, or of an object in memory.

    ``is_told``: the kind is what the file's content says, which is not looked at again.
    """
    found = source if is_told else frontends.accepted(kind, path_or_object(source))
    given = {option: value for option, value in options.items() if value is not None}
    check_shapes(given.get("shapes"))

    def read() -> Content:
        return frontends.frontend(kind).read(found, name=name, **given), {}

    # What is no other file may be an ONNX file, or whatever it has been said to be.
    key = given if is_told or frontends.is_of(kind, found) else {**given, "kind": kind}
    return Model._of(_file(read, precision, found, name, key, limits), compiler)


def _in_memory(read: Callable[[], Graph], compiler: str, limits: Limits | str | None) -> Model:
    """The model of an object of the user's own, which may cost what it costs."""
    return Model._of(File(lambda: (read(), {}), Allowed(limits)), compiler)


def _file(
    read: Callable[[], Content],
    precision: str,
    source: Any,
    name: str,
    options: Mapping[str, Any],
    limits: Limits | str | None,
) -> File:
    """What is read from there, with its weights in that precision."""
    allowed = Allowed(limits, source)
    if not precision:
        return File(read, allowed, records.key_of(source, name, options), source)

    def rounded() -> Content:
        from sofie_rdf.passes.precision import with_precision

        graph, extras = read()
        return with_precision(graph, precision), extras

    key = records.key_of(source, name, {**options, "precision": precision})
    return File(rounded, allowed, key, source)


def _read_root(file: Path, name: str) -> Content:
    stored = _stored(file, name)
    return stored.graph, stored.extras


def _stored(file: FilePath, name: str) -> StoredModel:
    """What a .root file holds under that name, or the only thing that it holds."""
    from sofie_rdf.ir import rootfile

    import_module("sofie_rdf.ops")  # It registers the operators that the file names.
    return rootfile.load(file, name or None)


@arguments.checked
def from_onnx(
    source: FilePath | bytes | onnx.ModelProto,
    *,
    name: str = "",
    shapes: Shapes | None = None,
    compiler: str = "",
    limits: Limits | str | None = None,
    seed: int | None = None,
) -> Model:
    """The model of an ONNX file, of its bytes, or of a ModelProto.

    ``shapes`` gives axes of inputs another size: ``{"features": ("N", 7)}``; a number fixes an
    axis, a name makes it dynamic, ``None`` keeps what the file says. ``compiler`` as in `Model`,
    ``limits`` as in `load`, ``seed`` as in `Model.seed`. Raises the first thing that is wrong;
    `check` lists all.
    """
    return _from("onnx", source, name, compiler, limits, shapes=shapes).with_seed(seed)


@arguments.checked
def from_torch(
    module: Any,
    example_inputs: Any = None,
    *,
    dynamic: Dynamic | None = None,
    name: str = "",
    shapes: Shapes | None = None,
    compiler: str = "",
    limits: Limits | str | None = None,
    seed: int | None = None,
) -> Model:
    """The model of a torch.nn.Module, a TorchScript module, or an ExportedProgram.

    ``example_inputs`` are the arguments of ``forward``: a tensor, a tuple of them, or a dict by
    name; an ExportedProgram has its own. ``dynamic`` says which axes may have any size and what
    they are called, ``{"x": {0: "N", 1: "n_pf"}}`` or the same in the order of the inputs; by
    default the first of every input, ``{}`` for none. The module is exported in evaluation mode
    and left as it was. The result is compared with torch for other numbers and sizes: `ModelError`
    where they differ. Random numbers that ``forward`` draws in evaluation mode (randn, bernoulli, a
    dropout that is on) are drawn for each event, see `Model.seed`, which is ``seed``.

    `load` reads .pt2 files of ``torch.export.save``, which say what their inputs are, and
    TorchScript files of ``torch.jit.save``: with ``example_inputs``, or with ``input_shapes``, one
    for each input, as ``[("N", 7), "N,20:int64"]``, where names are open axes. TorchScript is
    compiled by torch and run, but no Python in it. What torch.save writes is not opened:
    ``weights_only=False`` does so for a whole module and RUNS WHATEVER THE FILE SAYS.
    """
    from sofie_rdf.frontends.torch import reader as torch_frontend

    arguments.require_torch(module, example_inputs)
    check_shapes(shapes)
    options = {"example_inputs": example_inputs, "dynamic": dynamic}
    read = partial(torch_frontend.read, module, name=name, shapes=shapes, **options)
    return _in_memory(read, compiler, limits).with_seed(seed)


@arguments.checked
def from_keras(
    model: Any,
    *,
    name: str = "",
    shapes: Shapes | None = None,
    custom_objects: Mapping[str, Callable[..., Any]] | None = None,
    compiler: str = "",
    limits: Limits | str | None = None,
    seed: int | None = None,
    isolated: bool | None = None,
) -> Model:
    """The model of a keras.Model in memory, or of a .keras or .h5 file.

    ``custom_objects`` says what layers and functions are that are not Keras's, by class or name:
    ``{"Square": rule}`` with ``rule(build, layer, inputs)``. ``build(op, *values)`` adds one of our
    operators and gives the name of its output, ``build.constant(array)`` a constant; ``layer`` has
    ``config`` and ``weights``; ``inputs.x`` is the first value, ``inputs.tensors`` are all. The
    rule gives the names of the layer's outputs.

    A model with a ``call`` of its own is called with symbolic values; the shapes of its inputs are
    those it was built with, or ``shapes``, by the names of the call's parameters. ``shapes``,
    ``compiler``, ``limits`` and ``seed`` as in `from_onnx`, ``isolated`` as in `load`.
    """
    own: dict[str, Any] = {"shapes": shapes or None, "custom_objects": custom_objects or None}
    own["isolated"] = isolated
    return _from("keras", model, name, compiler, limits, **own).with_seed(seed)


@arguments.checked
def from_xgboost(
    source: Any,
    *,
    name: str = "",
    missing: float | None = None,
    iteration_range: tuple[int, int] | None = None,
    compiler: str = "",
    limits: Limits | str | None = None,
) -> Model:
    """The model of an XGBoost file (.json, .ubj), its bytes, a Booster, or an XGBClassifier etc.

    ``missing`` is a number that is missing, besides NaN; an XGBClassifier says its own.
    ``iteration_range`` as in ``Booster.predict``: (0, 0) for all rounds. By default these are all
    of a Booster's, and those up to the best one of an XGBClassifier that was stopped early, also
    where it has written the file. ``compiler`` as in `Model`, ``limits`` as in `load`. The output
    is what ``Booster.predict`` gives.
    """
    return _from(
        "xgboost", source, name, compiler, limits, missing=missing, iteration_range=iteration_range
    )


@arguments.checked
def from_lightgbm(
    source: Any,
    *,
    name: str = "",
    dtype: str = "float32",
    compiler: str = "",
    limits: Limits | str | None = None,
) -> Model:
    """The model of a LightGBM text file, its bytes, a Booster, or an LGBMClassifier etc.

    ``dtype`` is that of the features: "float32", or "float64" as LightGBM has them; a feature
    that is rounded may be on the other side of a threshold. ``compiler`` as in `Model`, ``limits``
    as in `load`. The output is what ``Booster.predict`` gives.
    """
    return _from("lightgbm", source, name, compiler, limits, dtype=dtype)


@arguments.checked
def from_sklearn(
    estimator: Any,
    *,
    name: str = "",
    initial_types: Any = None,
    options: Mapping[str, Any] | None = None,
    rows: Any = None,
    compiler: str = "",
    limits: Limits | str | None = None,
) -> Model:
    """The model of a fitted scikit-learn estimator or pipeline, by skl2onnx.

    Its input is ``features`` float32[N, F], unless ``initial_types`` says otherwise, which is
    skl2onnx's, like ``options``. XGBoost's and LightGBM's models may stand at the end of a
    pipeline. The results are compared with scikit-learn's at random rows, at the thresholds of
    trees, and at ``rows``, and are computed in float64 where float32 is too narrow; raises
    `ModelError`, with the name of the step, where they differ. Classes that are texts are the
    labels of the output. ``compiler`` as in `Model`, ``limits`` as in `load`.
    """
    from sofie_rdf.frontends.sklearn import reader as sklearn

    arguments.require_estimator(estimator)
    read = partial(
        sklearn.read,
        estimator,
        name=name,
        initial_types=initial_types,
        options=options,
        rows=rows,
    )
    return _in_memory(read, compiler, limits)


@arguments.checked
def from_graph_nets(
    module: Any,
    example_graph: Any,
    *arguments: Any,
    name: str = "",
    compiler: str = "",
    limits: Limits | str | None = None,
    seed: int | None = None,
) -> Model:
    """The model ``module(graph, *arguments)`` of Graph Nets, for graphs of any size.

    ``module`` is any callable that takes a GraphsTuple like ``example_graph`` and returns one, or a
    list of them: a module of graph_nets, or one of your own that is made of them. The inputs are
    the fields nodes [n_nodes, F], edges [n_edges, E], globals [1, G], senders and receivers
    [n_edges], as far as they are not None; the outputs those that it computes, as ``nodes_out``
    etc. (``nodes_out_0`` etc. of a list). Numbers of nodes and edges are open, and may be 0.
    Of an example of several graphs, n_node and n_edge [n_graphs] are inputs, too.
    ``compiler`` as in `Model`, ``limits`` as in `load`, ``seed`` as in `Model.seed`. Raises
    `UnsupportedOperator` with the place of an operation that is not there, and `ModelError` if the
    results are not TensorFlow's.
    """
    from sofie_rdf.frontends.tensorflow import graph_nets

    read = partial(graph_nets.read, module, example_graph, *arguments, name=name)
    return _in_memory(read, compiler, limits).with_seed(seed)


# What is in a file --------------------------------------------------------------------------------


@arguments.with_options(FileOptions, NOT_SAID)
def check(
    source: FilePath | bytes | onnx.ModelProto,
    *,
    limits: Limits | str | None = None,
    gradient: bool = False,
    target: str = "cpu",
    **options: Unpack[FileOptions],
) -> Problems:
    """Every reason why a model cannot run, at once, without raising; empty if there is none.

    The ``notes`` of what is returned say what a model that runs cannot be used for: one with a
    fixed batch is no column of a data frame.

    Of a .root file, the reasons of all models. With ``gradient``, the reasons why its outputs
    cannot be differentiated by its inputs, too; with a ``target``, why it cannot be emitted for
    that. ``limits`` and ``options`` as in `load`.
    """
    from sofie_rdf.devices.targets import target_named
    from sofie_rdf.frontends.common.problems import Problems
    from sofie_rdf.ir import rootfile

    if target != "cpu":
        target_named(target)
    problems = Problems()
    found = path_or_object(source)
    try:
        kind = frontends.recognise(found) if isinstance(found, Path) else frontends.owner(found)
        if kind == "onnx":
            found = frontends.accepted(kind, found, "check")
        given = frontends.options_for(kind, **options)
        if kind == "root":
            for name in rootfile.names(found):
                one = _trouble(partial(load, found, name, limits=limits), gradient, target)
                problems += one
                problems.notes += one.notes
            return problems
        frontend, allowed, graph = frontends.frontend(kind), Allowed(limits, found), None
        with allowed.budget():
            if hasattr(frontend, "examine"):
                problems, graph = frontend.examine(found, **given)
            else:
                problems = frontend.check(found, **given)
    except SofieError as error:
        return Problems([error])
    read = partial(load if isinstance(found, Path) else from_onnx, found, limits=limits, **given)
    if graph is not None:
        read = partial(Model._of, File(lambda: (graph, {}), allowed), "")
    return problems or _trouble(read, gradient, target)


def _trouble(read: Callable[[], Model], gradient: bool, target: str) -> Problems:
    """What goes wrong when a model is read, compiled to C++ and, if wanted, differentiated."""
    from sofie_rdf.frontends.common.problems import Problems
    from sofie_rdf.passes.rewrite import BUG
    from sofie_rdf.runtime.rdataframe.notes import notes_on_columns

    try:
        model = read()
        if target != "cpu":
            from sofie_rdf.devices.program import problems_on_device

            with model._file.allowed.budget():
                return Problems(problems_on_device(model.graph, target))
        _ = model.emission
        notes = notes_on_columns(model.graph)
        if gradient:
            from sofie_rdf.gradients.reverse import problems

            with model._file.allowed.budget():
                return Problems(problems(model.graph), notes)
        return Problems((), notes)
    except SofieError as error:
        return Problems([error])
    except Exception as error:
        thing = f"cannot be compiled: {type(error).__name__}: {error}"
        return Problems([ModelError(thing, remedy=BUG)])


@arguments.checked
def trust(path: FilePath, name: str = "") -> str:
    """Let macros run a model in a .root file: its checksum, which is now in the user's list.

    The header in such a file is code. Here it is compared with what this version of sofie_rdf emits
    for the stored network, as all else that a macro reads; `ModelError` if anything differs, or if
    there is no such model.
    """
    from sofie_rdf.runtime.cache import trust as trusted
    from sofie_rdf.runtime.files.macro import difference, macro_of

    arguments.require_file("trust", path)
    stored = _stored(path, name)
    model = Model(stored.graph)
    changed = difference(stored.macro, macro_of(model.optimized, model.emission))
    if changed:
        raise ModelError(
            f"{changed} of model {model.name!r} is not what this version of sofie_rdf writes",
            place=str(path),
            remedy="Store the model again: `sofie-rdf convert`, or load it in Python and save it",
        )
    if not trusted.trust(stored.sha256, model.name):
        raise ModelError("the list of trusted models cannot be written", place=str(path))
    return stored.sha256
