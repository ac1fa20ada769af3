"""ONNX: files, bytes and ModelProtos. The nodes are our operators; here they are looked up."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sofie_rdf.errors import (
    CorruptFile,
    GraphError,
    InputError,
    SofieError,
    UnsupportedFormat,
    nearest,
)
from sofie_rdf.frontends.common.builders import FrontendBuilder
from sofie_rdf.frontends.common.problems import Problems
from sofie_rdf.frontends.common.shapes import Shapes, check_shape
from sofie_rdf.frontends.onnx.functions import with_functions_inlined
from sofie_rdf.frontends.onnx.proto import Source, open_model
from sofie_rdf.frontends.onnx.scope import Scope
from sofie_rdf.frontends.onnx.sequences import declare_input, write_output
from sofie_rdf.frontends.onnx.values import dtype_of, weights_of
from sofie_rdf.ir.dims import Dim, symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import TensorType

if TYPE_CHECKING:
    import onnx

__all__ = ["check", "read"]

OLDEST_OPSET = 1
# What an axis without name or size is called where it is the first of an input: the batch.
BATCH = "N"


def read(source: Source, *, name: str = "", shapes: Shapes | None = None) -> Graph:
    """The graph of an ONNX model; the first thing that is wrong with it is raised.

    ``shapes`` gives axes of inputs another size (``int``), a name (``str``), or none (``None``
    keeps what the file says). ``name`` is the model's, by default the file's.
    """
    branches: dict[str, int] = {}
    first: SofieError | None = None
    while True:
        try:
            return _Reader(source, name, shapes or {}, None, branches).graph()
        except SofieError as error:  # noqa: PERF203
            first = first or error
            if not _other_branches(branches):
                raise first from None


def check(source: Source, *, name: str = "", shapes: Shapes | None = None) -> Problems:
    """Everything that is wrong with an ONNX model, at once; never raises for it."""
    branches: dict[str, int] = {}
    first: Problems | None = None
    while True:
        problems = Problems()
        try:
            _Reader(source, name, shapes or {}, problems, branches).graph()
        except SofieError as error:
            problems.append(error)
        first = problems if first is None else first
        if not problems or not _other_branches(branches):
            return problems if not problems else first


# Of more nodes If of which only one branch can be read, the other ones' are not tried.
_MOST_CHOICES = 6


def _other_branches(branches: dict[str, int]) -> bool:
    """Change the last choice that can be another one; whether there is such."""
    for place in list(branches)[_MOST_CHOICES:]:
        del branches[place]
    while branches:
        place, number = branches.popitem()
        if number == 0:
            branches[place] = 1
            return True
    return False


class _Reader:
    def __init__(
        self,
        source: Source,
        name: str,
        shapes: Shapes,
        problems: Problems | None,
        branches: dict[str, int],
    ) -> None:
        self.file = open_model(source)
        self.problems = problems
        self.branches = branches
        self.shapes = shapes
        stem = Path(source).stem if isinstance(source, (str, Path)) else self.file.proto.graph.name
        self.build = FrontendBuilder(name or stem or "model", self._provenance())

    def _provenance(self) -> dict[str, str]:
        model = self.file.proto
        producer = f"{model.producer_name} {model.producer_version}".strip()
        opset = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
        known = {**self.file.provenance, "producer": producer, "opset": opset}
        return {key: value for key, value in known.items() if value}

    def graph(self) -> Graph:
        """Inputs, constants, nodes, outputs, in that order."""
        self.proto = self.file.proto.graph
        self.opsets: dict[str, int] = {}
        scope = Scope(
            self.file.place,
            self.proto,
            self.opsets,
            self.build,
            self.problems,
            branches=self.branches,
        )
        scope.attempt(self._refuse_features)
        scope.attempt(self._inline_functions, scope)
        self.build.taken = {o for n in self.proto.node for o in n.output}
        scope.attempt(self._unknown_inputs)
        initializers = {name for name, _ in weights_of(self.proto)}
        for value in self.proto.input:
            if value.name not in initializers:
                scope.attempt(self._input, value, scope, names=(value.name,))
        scope.run()
        scope.attempt(scope.refuse_doubles, [o.name for o in self.proto.output])
        outputs: list[str] = []
        for value in self.proto.output:
            if value.name not in scope.broken:
                scope.attempt(lambda v=value: outputs.extend(self._output(v, scope)))
        return self.build.graph(*(() if self.problems else outputs))

    def _inline_functions(self, scope: Scope) -> None:
        self.proto = scope.proto = with_functions_inlined(self.file.proto, self.file.place).graph

    def _refuse_features(self) -> None:
        import onnx

        newest = onnx.defs.onnx_opset_version()
        # Exporters of scikit-learn's trees say the same twice.
        imports = {(o.domain or "ai.onnx", o.version) for o in self.file.proto.opset_import}
        said = dict(imports)
        self.opsets.update({"ai.onnx": newest, **said})
        if len(imports) > len(said):
            raise CorruptFile("says that it uses two versions of one opset", place=self.file.place)
        # A model of nothing but ai.onnx.ml need not say which one.
        nodes = self.file.proto.graph.node
        needed = not imports or any(n.domain in ("", "ai.onnx") for n in nodes)
        if "ai.onnx" not in said and needed:
            raise CorruptFile("does not say which opset it uses", place=self.file.place)
        version = self.opsets["ai.onnx"]
        if version < OLDEST_OPSET:
            raise UnsupportedFormat(
                f"uses opset {version}; the oldest one that there is, is {OLDEST_OPSET}",
                place=self.file.place,
                remedy="Export the model again",
            )
        if version > newest:
            raise UnsupportedFormat(
                f"uses opset {version}, which is newer than the onnx package knows ({newest})",
                place=self.file.place,
                remedy="pip install --upgrade onnx",
            )

    def _unknown_inputs(self) -> None:
        weights = {name for name, _ in weights_of(self.proto)}
        known = [i.name for i in self.proto.input if i.name not in weights]
        for name in self.shapes:
            if name not in known:
                raise InputError(
                    f"shapes= names {name!r}, which is no input",
                    place=self.file.place,
                    remedy=nearest(name, known) or f"The inputs are {known}",
                )

    def _input(self, value: onnx.ValueInfoProto, scope: Scope) -> None:
        if not value.type.HasField("tensor_type"):
            scope.sequences[value.name] = declare_input(self.build, value)
            return
        tensor = value.type.tensor_type
        given = self.shapes.get(value.name)
        if not tensor.HasField("shape") and given is None:
            raise UnsupportedFormat(
                f"input {value.name!r} has no shape",
                remedy=f"Give one: shapes={{{value.name!r}: (None, 7)}}",
            )
        if given is not None:
            check_shape(value.name, given)
        dims = list(tensor.shape.dim) if tensor.HasField("shape") else [None] * len(given or ())
        if given is not None and len(given) != len(dims):
            raise InputError(
                f"shapes= gives input {value.name!r} {len(given)} axes; it has {len(dims)}"
            )
        shape = tuple(
            self._dim(value.name, axis, dim, given[axis] if given is not None else None)
            for axis, dim in enumerate(dims)
        )
        self.build.input(value.name, TensorType(dtype_of(tensor.elem_type, value.name), shape))

    def _dim(self, name: str, axis: int, dim: Any, given: int | str | None) -> Dim:
        if isinstance(given, str):
            return symbol(given)
        if given is not None:
            return int(given)
        if dim is not None and dim.HasField("dim_value") and dim.dim_value >= 0:
            return int(dim.dim_value)
        if dim is not None and _is_name(dim.dim_param):
            return symbol(dim.dim_param)
        return symbol(self._unnamed(BATCH if axis == 0 else f"{name}_{axis}", axis))

    def _unnamed(self, wanted: str, axis: int) -> str:
        """A name for an axis that has none: not one that the file uses for another axis."""
        while wanted in self._used_names[axis == 0]:
            wanted += "_"
        return wanted

    @cached_property
    def _used_names(self) -> tuple[set[str], set[str]]:
        """The names of all axes in the file, and of those that are not the first of an input."""
        shapes = [v.type.tensor_type.shape.dim for v in self.proto.input]
        return tuple({d.dim_param for dims in shapes for d in dims[n:]} for n in (0, 1))  # type: ignore[return-value]

    def _output(self, output: onnx.ValueInfoProto, scope: Scope) -> tuple[str, ...]:
        """The tensors that an output of the file is: more than one for a sequence."""
        name = output.name
        if name in scope.sequences:
            return write_output(self.build, output, scope.sequences[name])
        if name not in self.build.types:
            remedy = nearest(name, self.build.types)
            raise GraphError(f"nothing computes the output {name!r}", remedy=remedy)
        return (name,)


def _is_name(text: str) -> bool:
    """Whether it names an axis: some exporters write ``?`` for every axis of unknown size."""
    return any(c.isalnum() for c in text)
