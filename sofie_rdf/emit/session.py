"""The header: a planned graph as a C++ class `Session` that reads like a summary of the model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain, groupby
from pathlib import Path
from textwrap import indent

import numpy as np

from sofie_rdf.emit import bodies
from sofie_rdf.emit.code import Code, include_directory, inlined
from sofie_rdf.emit.entries import entry_points, free_functions, linked_infer, linked_session
from sofie_rdf.emit.literals import comment, number, size, string
from sofie_rdf.emit.names import identifier, identifiers
from sofie_rdf.emit.narrow import HEADER as NARROW
from sofie_rdf.emit.narrow import READ_FROM, Tensors, tensors_of
from sofie_rdf.emit.pieces import NO_PIECES, Pieces
from sofie_rdf.emit.ports import Interface
from sofie_rdf.emit.sources import Source
from sofie_rdf.emit.weights import weight_file
from sofie_rdf.ir.dims import UNKNOWN, Dim, evaluate, name_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.naming import seed_of
from sofie_rdf.ir.operator import (
    Argument,
    Call,
    Functor,
    Operand,
    Operator,
    Packed,
    Sizes,
    Struct,
    Tensor,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.passes.memory import (
    NOMINAL,
    MemoryPlan,
    Owned,
    Scratch,
    Weight,
    plan_memory,
)
from sofie_rdf.passes.memory import Argument as Parameter
from sofie_rdf.passes.precision import precision_of
from sofie_rdf.passes.rows import rows_of

__all__ = [
    "Code",
    "Emission",
    "emit",
    "include_directories",
    "include_directory",
    "inlined",
    "namespace_of",
    "operators_in",
]


@dataclass(frozen=True)
class Emission(Code):
    """An emitted model: its code, and the tensors in its weight file."""

    tensors: tuple[Array, ...] = field(repr=False, compare=False)
    source: Source
    pieces: Pieces = NO_PIECES

    @property
    def code(self) -> Code:
        """The code alone, for who is to live longer than the tensors."""
        return Code(self.name, self.namespace, self.header)

    @property
    def weights(self) -> bytes:
        """The bytes of the weight file; they are made anew, so that nobody keeps two copies."""
        return weight_file(self.tensors)


def namespace_of(name: str) -> str:
    """The namespace of a model's Session, as SOFIE has it: a prefix and the model's name."""
    return f"TMVA_SOFIE_{re.sub('[^0-9A-Za-z_]', '_', name)}"


# Stands for the namespace, which may depend on the text: no text of a model has this character.
_NAMESPACE = "\0"


def emit(
    graph: Graph,
    plan: MemoryPlan,
    *,
    name: str = "",
    unique: bool = False,
    source: Source | None = None,
    session: bool = True,
    kind: type[Emitter] | None = None,
) -> Emission:
    """The header and the weight file of a planned graph. The same graph gives the same text.

    A ``unique`` namespace ends in the hash of the text: different code, different namespaces.
    ``source`` is where a Session finds its weights: by default, a file of the model's name. Without
    a ``session`` there are functions besides, for callers that keep none. ``kind`` writes it.
    """
    name = name or graph.name
    source = source or Source("file", f"{identifier(name)}.dat")
    writer = kind or Emitter
    emitter = writer(graph, plan, name, _NAMESPACE, source=source, free=not session)
    header, namespace = emitter.header(), namespace_of(name)
    if unique:
        namespace += f"_{hashlib.sha256(header.encode()).hexdigest()[:12]}"
    text = header.replace(_NAMESPACE, namespace)
    return Emission(name, namespace, text, emitter.weight_tensors, source, emitter.pieces)


def operators_in(graph: Graph) -> Iterator[Operator]:
    """All operators, those in attributes and in graphs in attributes too."""
    for node in graph.nodes:
        yield from node.op.nested
        for body in node.op.bodies.values():
            yield from operators_in(body)


def include_directories(graph: Graph) -> tuple[Path, ...]:
    """The folders of all headers: ours, and those of the operators of others."""
    sources = (op.source() for op in operators_in(graph))
    own = dict.fromkeys(source.parent for source in sources if source)
    return (include_directory(), *own)


@dataclass(frozen=True)
class _Step:
    """A kernel call (none for an alias), the values that it writes, and what must hold before."""

    label: str
    call: Call | None
    outputs: tuple[str, ...]
    requirements: tuple[tuple[Dim, Dim], ...] = ()
    decides_sizes: bool = False
    control: Node | None = None

    @property
    def written(self) -> tuple[str, ...]:
        """The outputs, and the workspaces of the call."""
        names = (t.operand.name for t in (self.call.written if self.call else ()))
        return tuple(dict.fromkeys((*self.outputs, *names)))


# Of a graph inside another one, which has no Session.
_NOWHERE = Source("file", "")


# From so many steps on they are functions of so many each: a compiler takes more than twice as long
# for a function of twice the length.
_MANY_STEPS, _STEPS = 400, 100


# Kernels of a few nanoseconds, in the form that is inlined where they are the whole network. None
# throws.
_INLINED = {"sofie::map": "sofie::map_inlined"}


def _in_parts(steps: Iterable[tuple[_Step, list[str]]]) -> Iterable[str]:
    """The statements, in functions; those that bind a name stay outside, where others see it."""
    for binds, run in groupby(steps, lambda s: s[0].decides_sizes or s[0].control is not None):
        texts = [text for _, text in run]
        if binds:
            yield from chain.from_iterable(texts)
            continue
        for first in range(0, len(texts), _STEPS):
            yield "   [&]() SOFIE_KERNEL {"
            for text in chain.from_iterable(texts[first : first + _STEPS]):
                yield indent(text, "   ")
            yield "   }();"


@dataclass(frozen=True)
class Emitter:
    graph: Graph
    plan: MemoryPlan
    name: str
    namespace: str
    # The struct that it writes, and its name as a member, for a graph inside another one.
    struct: str = ""
    member: str = ""
    source: Source = _NOWHERE
    # Whether there are functions that need no Session of the caller's.
    free: bool = False

    # What there is to say ------------------------------------------------------------------------

    @cached_property
    def interface(self) -> Interface:
        return Interface(self.graph, self.name, is_body=bool(self.struct))

    @cached_property
    def bodies(self) -> Mapping[str, tuple[Emitter, ...]]:
        """What writes the graphs in attributes, by the first output of their node."""
        found: dict[str, tuple[Emitter, ...]] = {}
        number = 0
        for node in self.graph.nodes:
            emitters = []
            for graph in node.op.bodies.values():
                names = f"{self.struct or 'Body'}_{number}", f"body{number}_"
                plan = plan_memory(graph, is_body=True)
                emitters.append(Emitter(graph, plan, self.name, self.namespace, *names))
                number += 1
            if emitters:
                found[node.outputs[0]] = tuple(emitters)
        return found

    @cached_property
    def steps(self) -> tuple[_Step, ...]:
        """What `infer` does, in order: every kernel call, and the checks around it."""
        return (*(self._step(n) for n in self.graph.nodes), *self._copies())

    def _step(self, node: Node) -> _Step:
        types = [self.graph.types[i] if i else None for i in node.inputs]
        label = node.origin.name or node.outputs[0]
        if node.op.is_alias:
            return _Step(label, None, (), node.op.requires(types))
        call = self.graph.call(node)
        control = node if node.op.bodies else None
        return _Step(
            label, call, node.outputs, node.op.requires(types), node.op.decides_sizes, control
        )

    def _copies(self) -> Iterable[_Step]:
        for source, output in self.plan.copies:
            shape = (self.graph.types[output].size,)
            to = Tensor(Operand(output, self.graph.types[output]), shape)
            call = Call("sofie::copy", (to, Tensor(self.graph.operand(source), shape)))
            yield _Step(output, call, (output,))

    @cached_property
    def members(self) -> Mapping[Packed | str, str]:
        """What `Weights` holds: packed constants, and by name those that are used as they are."""
        found: dict[Packed | str, str] = {}
        for argument in (a for s in self.steps if s.call for a in s.call.flat):
            if isinstance(argument, Packed):
                found.setdefault(argument, argument.sources[0].operand.name)
            elif isinstance(argument, Tensor) and (name := self._constant(argument.operand)):
                found.setdefault(name, name)
        # A constant that is used in two forms is two members.
        labels: dict[str, None] = {}
        for name in found.values():
            label = f"{name} {len(labels)}" if name in labels else name
            while label in labels:
                label += "_"
            labels[label] = None
        return dict(zip(found, identifiers(labels).values(), strict=True))

    @cached_property
    def owned(self) -> Mapping[str, str]:
        """The members that hold what the data decide the size of, and their values."""
        places = self.plan.places
        roots = (v for v, p in places.items() if isinstance(p, Owned) and p.root == v)
        return {f"owned{i}_": value for i, value in enumerate(roots)}

    @cached_property
    def types(self) -> Mapping[str, TensorType]:
        """The types of all values and of all workspaces."""
        found = dict(self.graph.types)
        for node in self.graph.nodes:
            found.update(self.graph.workspace(node))
        return found

    def _owned_type(self, value: str) -> str:
        type_ = self.types[value]
        return f"sofie::Owned<{type_.dtype.cxx}, {type_.rank}>"

    def _constant(self, operand: Operand) -> str:
        """The constant whose memory an operand is, or an empty string."""
        place = self.plan.places[operand.name]
        return place.name if isinstance(place, Weight) else ""

    @cached_property
    def pieces(self) -> Pieces:
        """How large batches are cut."""
        packed = (key for key in self.members if isinstance(key, Packed))
        names = dict.fromkeys(s.operand.name for key in packed for s in key.sources)
        weights = sum(self.graph.constants[name].nbytes for name in names)
        apart = not (self.struct or any(p.owned for p in self.interface.ports))
        return Pieces(rows_of(self.graph) if apart else "", self.plan.nbytes, weights)

    @cached_property
    def is_short(self) -> bool:
        """Whether functions that call each other would take longer than what they compute."""
        steps = [step for step in self.steps if step.call or step.requirements]
        return (
            len(steps) == 1
            and self.plan.nbytes == 0
            and not (self.struct or self.owned or any(p.owned for p in self.interface.ports))
            and all(s.call and s.call.kernel in _INLINED and not s.requirements for s in steps)
        )

    @cached_property
    def stored(self) -> Mapping[str, Tensors]:
        """The constants in the weight file, by name, and the tensors that each is there."""
        found: dict[str, None] = {}
        for key in self.members:
            sources = [s.operand.name for s in key.sources] if isinstance(key, Packed) else [key]
            found.update(dict.fromkeys(sources))
        precision = precision_of(self.graph)
        return {name: tensors_of(self.graph.constants[name], precision) for name in found}

    @property
    def weight_tensors(self) -> tuple[Array, ...]:
        """The tensors of the weight file; the last one says in how many bits others are, if any."""
        found = [array for tensors in self.stored.values() for array in tensors.arrays]
        name = np.frombuffer(precision_of(self.graph).encode(), np.uint8)
        return (*found, name) if self._is_narrow else tuple(found)

    @cached_property
    def _is_narrow(self) -> bool:
        return any(tensors.is_narrow for tensors in self.stored.values())

    @cached_property
    def tensors(self) -> Mapping[str, int]:
        """The number of the first tensor of each constant."""
        counts = [len(tensors.arrays) for tensors in self.stored.values()]
        return dict(zip(self.stored, accumulate(counts, initial=0), strict=False))

    # How it is said ------------------------------------------------------------------------------

    def size(self, dim: Dim) -> str:
        return size(dim, self._sizes)

    @cached_property
    def _sizes(self) -> Mapping[str, str]:
        return {**self.interface.sizes, **self.interface.data_sizes}

    def view_type(self, dtype: DType, shape: Shape, *, const: bool) -> str:
        extents = "".join(f", {d if isinstance(d, int) else 'sofie::dyn'}" for d in shape)
        return f"sofie::View<{'const ' if const else ''}{dtype.cxx}{extents}>"

    def view(self, tensor: Tensor, *, const: bool) -> str:
        known = tuple(d if tensor.is_static(d) else UNKNOWN for d in tensor.extents)
        kind = self.view_type(tensor.operand.type.dtype, known, const=const)
        dynamic = [self.size(d) for d in tensor.extents if not tensor.is_static(d)]
        return f"{kind}({', '.join([self.pointer(tensor.operand, const), *dynamic])})"

    def pointer(self, operand: Operand, const: bool) -> str:
        # What is copied to an output is read where it lives and written where the caller wants it.
        if not const and operand.name in self.graph.given_names:
            owned = ".data()" if self.interface.is_owned(operand.name) else ""
            return f"{self.interface.output_name(operand.name)}{owned}"
        match self.plan.places[operand.name]:
            case Weight(name):
                return f"w.{self.members[name]}.data()"
            case Scratch(root):
                return self.interface.names[root]
            case Owned(root):
                return f"{self.interface.names[root]}.data()"
            case Parameter(name):
                is_owned = name in self.graph.given_names and self.interface.is_owned(name)
                return f"{self.interface.names[name]}{'.data()' if is_owned else ''}"

    def argument(self, argument: Argument, written: Sequence[Tensor], owned: Sequence[str]) -> str:
        """The C++ of an argument; the kernel decides the sizes of what is ``owned``."""
        match argument:
            case Functor(cxx, values):
                return f"{cxx}{{{', '.join(map(number, values))}}}"
            case Tensor(operand) if operand.name in owned:
                return self._owned(operand.name)
            case Tensor():
                # A copy may read a value of the name that it writes.
                return self.view(argument, const=all(argument is not w for w in written))
            case Packed():
                return f"w.{self.members[argument]}"
            case Sizes(dims):
                return f"sofie::Sizes<{len(dims)}>{self.sizes(dims)}"
            case Struct(cxx, fields):
                return f"{cxx}{{{', '.join(self._field(f, written) for f in fields)}}}"
            case _:
                return self.size(argument)

    def _field(self, field: Sizes | Functor | Tensor, written: Sequence[Tensor]) -> str:
        """A field of a struct; a list of sizes finds its type there."""
        if isinstance(field, Sizes):
            return self.sizes(field.dims)
        return self.argument(field, written, ())

    def sizes(self, dims: Iterable[Dim]) -> str:
        """The members of a `sofie::Sizes`."""
        return f"{{{{{', '.join(map(self.size, dims))}}}}}"

    def statements(self, step: _Step, known: set[str]) -> Iterable[str]:
        """The lines of one step; ``known`` are the sizes that have been bound before."""
        if step.call and not self.is_short:
            yield f"   at_ = {string(step.label)};"
        elif step.call or step.requirements:
            yield f"   // {comment(step.label)}"
        for left, right in step.requirements:
            what = f"{self.name}: {step.label} needs {left} = {right}"
            yield self._check(f"{self.size(left)} == {self.size(right)}", what)
        if step.call is None:
            return
        yield from self._resizes(step)
        if step.control is not None:
            yield from bodies.statements(self, step.control, list(map(self._owned, step.outputs)))
        else:
            yield self._kernel_call(step, step.call)
        if step.decides_sizes:
            yield from self._bound(step, known)

    def _kernel_call(self, step: _Step, call: Call) -> str:
        written, owned = call.written, step.outputs if step.decides_sizes else ()
        texts = (self.argument(a, written, owned) for a in call.arguments)
        joined = ",\n      ".join(texts)
        kernel = _INLINED[call.kernel] if self.is_short else call.kernel
        return f"   {kernel}(\n      {joined});"

    def read(self, value: str) -> str:
        """A pointer to the elements of a value."""
        return self.pointer(self.graph.operand(value), True)

    def assignment(self, owned: str, value: str) -> str:
        """Copies a value, with its shape, into a `sofie::Owned`."""
        extents = ", ".join(map(self.size, self.types[value].shape))
        return f"sofie::assign({owned}, {self.read(value)}, {{{{{extents}}}}});"

    def step_name(self, node: Node) -> str:
        """The struct of one round of a Loop."""
        return f"Round{self.bodies[node.outputs[0]][0].struct.removeprefix('Body')}"

    def _check(self, condition: str, what: str) -> str:
        return f"   sofie::require({condition}, {string(what)});"

    def _owned(self, value: str) -> str:
        """The `sofie::Owned` that holds a value."""
        if value in self.graph.given_names and not self.interface.is_copied(value):
            return self.interface.output_name(value)
        return self.interface.names[value]

    def _resizes(self, step: _Step) -> Iterable[str]:
        for output in step.written:
            if step.decides_sizes and output in step.outputs:
                continue
            is_output = output in self.graph.given_names
            is_owned = not is_output and isinstance(self.plan.places[output], Owned)
            if is_owned or (is_output and self.interface.is_owned(output)):
                extents = ", ".join(map(self.size, self.types[output].shape))
                yield f"   {self._owned(output)}.resize({{{{{extents}}}}});"

    def _bound(self, step: _Step, known: set[str]) -> Iterable[str]:
        """The sizes that the kernel has decided: those that are new, and a check of the others."""
        for output in step.outputs:
            for axis, dim in enumerate(self.graph.types[output].shape):
                extent, name = f"{self._owned(output)}.extent({axis})", name_of(dim)
                if name and name not in known:
                    known.add(name)
                    bound = self.interface.data_sizes[name]
                    yield f"   [[maybe_unused]] const sofie::Size {bound} = {extent};"
                else:
                    what = f"{self.name}: axis {axis} of {output} is not {dim}"
                    yield self._check(f"{extent} == {self.size(dim)}", what)

    # Sections of the header ----------------------------------------------------------------------

    def header(self) -> str:
        """The whole text. Where SOFIE_LINKED is defined, the Session has its code elsewhere."""
        guard = f"{self.namespace}_HXX"
        sections = [*self._title(), f"#ifndef {guard}", f"#define {guard}", "", *self._includes()]
        sections += ["", "SOFIE_BEGIN", "", f"namespace {self.namespace} {{"]
        sections += [*_if("SOFIE_NATIVE", ["namespace native {"]), ""]
        sections += self._embedded()
        sections += _if_not("SOFIE_LINKED", [*self._weights(), "", *self.structs()])
        sections += ["", *self._session(), ""]
        sections += _if("SOFIE_LINKED", linked_infer(self.interface), self._infer())
        if self.free:
            sections += _if_not("SOFIE_NATIVE", ["", *free_functions(self.interface)])
        sections += ["", *entry_points(self.interface, inlined=self.is_short), ""]
        sections += _if("SOFIE_NATIVE", ["} // namespace native"])
        sections += [f"}} // namespace {self.namespace}", "", "SOFIE_END", "", "#endif", ""]
        return "\n".join(sections)

    def _embedded(self) -> Iterable[str]:
        if self.source.kind != "header":
            return ()
        text = self.source.embedded(self.name, weight_file(self.weight_tensors))
        return [*_if_not("SOFIE_NATIVE", text), ""]

    def _title(self) -> Iterable[str]:
        yield f"// {comment(self.name)}: a network compiled by sofie_rdf."
        for port in self.interface.ports:
            kind = "output" if port.output else "input "
            yield f"// {kind} {comment(port.value)}: {comment(str(port.type))}"

    def _includes(self) -> Iterable[str]:
        # What both kinds of Session need comes first: `inlined` writes each header out once.
        yield _include("sofie/target.hxx")
        yield _include("sofie/session/entries.hxx")
        shared = sorted(self._port_headers())
        yield from map(_include, shared)
        if self.source.header:
            yield _include(self.source.header)
        kernels = ("sofie/session/arena.hxx", *sorted(self.headers() - {*shared}))
        yield from _if("SOFIE_LINKED", [_include("sofie/rdf/native.hxx")], map(_include, kernels))
        yield from _if("SOFIE_ENTRIES", [_include("sofie/session/runtime.hxx")])

    def _port_headers(self) -> set[str]:
        """The headers of the types of the parameters of `infer`."""
        ports = self.interface.ports
        stored = any(p.type.dtype.is_half or p.type.dtype.is_storage for p in ports)
        found = {"sofie/storage.hxx"} if stored else set[str]()
        found |= {"sofie/session/events.hxx"} if self.interface.rows else set()
        return found | ({"sofie/session/owned.hxx"} if any(p.owned for p in ports) else set())

    def headers(self) -> set[str]:
        """The headers of all kernels, in bodies too."""
        used = {h for n in self.graph.nodes if not n.op.is_alias for h in n.op.headers}
        used |= {s.call.header for s in self.steps if s.call and s.call.header}
        for emitter in (e for emitters in self.bodies.values() for e in emitters):
            used |= emitter.headers()
        if self.plan.copies:
            used.add("sofie/kernels/layout.hxx")
        if self.owned or any(p.owned for p in self.interface.ports):
            used.add("sofie/session/owned.hxx")
        if any(t.dtype.is_half or t.dtype.is_storage for t in self.types.values()):
            used.add("sofie/storage.hxx")
        if self._is_narrow:
            used.add(NARROW)
        keys = (key for key in self.members if isinstance(key, Packed))
        used |= {key.narrow_header for key in keys if self._is_read_narrow(key)}
        return used

    def structs(self) -> Iterable[str]:
        """The structs of all bodies, those inside them first."""
        for node in self.graph.nodes:
            for emitter in self.bodies.get(node.outputs[0], ()):
                yield from emitter.structs()
                yield from emitter.body_struct(node)
        yield from bodies.step_structs(self)

    def body_struct(self, node: Node) -> Iterable[str]:
        """The struct of this graph, which is a body of the node."""
        sizes = [f"[[maybe_unused]] sofie::Size {s}" for s in self.interface.sizes.values()]
        ports = (f"[[maybe_unused]] {p.pointer}" for p in self.interface.ports)
        parameters = ", ".join([*sizes, *ports])
        yield f"/// A graph in {comment(node.origin.name or node.outputs[0])}."
        yield f"struct {self.struct} {{"
        yield from self._members()
        yield from bodies.loop_members(node.op)
        yield f"   void run({parameters});"
        yield "};"
        yield ""
        yield f"inline SOFIE_KERNEL void {self.struct}::run({parameters})"
        yield "{"
        yield from self._body()
        yield "}"
        yield ""

    def _weights(self) -> Iterable[str]:
        yield "/// The constants as the kernels want them; all Sessions share one copy."
        yield "struct Weights {"
        starts = []
        for key, member in self.members.items():
            if isinstance(key, Packed):
                sources = [self._tensor(s.operand.name) for s in key.sources]
                cxx = key.cxx
                if self._is_read_narrow(key):
                    cxx = key.narrow.format(self._narrow_type(key))
                    sources[0] = ", ".join(self._parts(key.sources[0].operand.name))
                yield f"   {cxx} {member};"
            else:
                sources = [self._tensor(key)]
                yield f"   sofie::Constant<{self._constant_view(key)}> {member};"
            starts.append(f"{member}({', '.join(sources)})")
        yield ""
        unused = "" if starts else "[[maybe_unused]] "
        listed = ",\n      ".join(starts)
        begin = f" :\n      {listed}" if starts else ""
        yield f"   SOFIE_ONCE explicit Weights({unused}const sofie::WeightFile &file){begin}"
        yield "   {"
        if self._is_narrow:
            # Which has another length for each type, so that no file is read as another one.
            name = self.weight_tensors[-1]
            view = self.view_type(DType.UINT8, name.shape, const=True)
            place = len(self.weight_tensors) - 1
            yield f"      file.tensor<{view}>({place}); // Weights are {bytes(name).decode()}."
        yield "   }"
        yield "};"

    def _constant_view(self, name: str) -> str:
        type_ = self.graph.types[name]
        return self.view_type(type_.dtype, type_.shape, const=True)

    def _tensor(self, name: str) -> str:
        """A view of a constant; of one that is stored in fewer bits, while it is packed."""
        parts, stored = self._parts(name), self.stored[name]
        if not stored.is_narrow:
            return parts[0]
        run = [str(stored.run)] if len(parts) > 1 else []
        return f"sofie::Widened<{self._constant_view(name)}>({', '.join([*parts, *run])}).view()"

    def _parts(self, name: str) -> list[str]:
        """Views of the tensors that a constant is in the weight file."""
        found = []
        for index, array in enumerate(self.stored[name].arrays, self.tensors[name]):
            view = self.view_type(DType.of(array), array.shape, const=True)
            found.append(f"file.tensor<{view}>({index})")
        return found

    def _is_read_narrow(self, key: Packed) -> bool:
        """Whether a kernel reads weights in the form in which they are stored."""
        stored = self.stored[key.sources[0].operand.name]
        return bool(key.narrow) and stored.run == 1 and self._reads_narrow

    @cached_property
    def _reads_narrow(self) -> bool:
        narrow = [
            key.sources[0].operand.name
            for key in self.members
            if isinstance(key, Packed) and key.narrow
        ]
        wide = sum(self.graph.constants[n].nbytes for n in narrow if self.stored[n].is_narrow)
        return wide >= READ_FROM.get(precision_of(self.graph), wide + 1)

    def _narrow_type(self, key: Packed) -> str:
        return DType.of(self.stored[key.sources[0].operand.name].arrays[0]).cxx

    def _session(self) -> Iterable[str]:
        yield "/// Evaluates the network. Each thread needs its own; copies share the weights."
        yield "class Session {"
        if self.interface.rows:
            yield f"   sofie::Events events_{{{seed_of(self.graph) % 2**64}u, 0, {{}}}};"
        yield from _if(
            "SOFIE_LINKED", linked_session(self.namespace, self.source), self._own_session()
        )
        yield ""
        yield from self.interface.traits()
        yield from self.interface.overloads()
        yield "};"

    def _own_session(self) -> Iterable[str]:
        """How a Session begins that has its code here."""
        yield "   sofie::Shared<Weights> weights_;"
        yield from self._members()
        yield ""
        yield "public:"
        yield f"   /// {self.source.about}"
        yield f"   explicit Session({self.source.parameter}) :"
        weights = f"sofie::WeightFile({self.source.expression})"
        yield f"      weights_(sofie::Shared<Weights>::made({weights}))"
        yield "   {"
        yield "   }"
        yield "   /// Shares the weights of others."
        yield "   explicit Session(const sofie::Shared<Weights> &weights) : weights_(weights) {}"

    def _members(self) -> Iterable[str]:
        yield "   sofie::Arena scratch_;"
        for member, value in self.owned.items():
            yield f"   {self._owned_type(value)} {member};"
        for emitter in (e for emitters in self.bodies.values() for e in emitters):
            yield f"   {emitter.struct} {emitter.member};"

    def _body(self) -> Iterable[str]:
        """The statements of `infer`. Whatever they throw says at which node they were."""
        if self.is_short or not any(step.call for step in self.steps):
            yield from self._statements()
            return
        # In memory: Cling's register allocator loses what changes just before a call that throws.
        yield '   const char *volatile at_ = "";'
        yield "   try {"
        yield from (indent(text, "   ") for text in self._statements())
        yield "   } catch (...) {"
        yield f"      sofie::throw_at({string(self.name)}, at_);"
        yield "   }"

    def _statements(self) -> Iterable[str]:
        yield from self._scratch()
        for member, value in self.owned.items():
            yield f"   {self._owned_type(value)} &{self.interface.names[value]} = {member};"
        known = set(self.interface.sizes)
        steps = [(step, list(self.statements(step, known))) for step in self.steps]
        if len(steps) <= _MANY_STEPS:
            yield from (text for _, texts in steps for text in texts)
        else:
            yield from _in_parts(steps)

    def _infer(self) -> Iterable[str]:
        body = "\n".join(self._body())
        words = set(re.findall(r"\w+", body))
        # Inside, sizes are signed, so that arithmetic on them means what it says.
        signature = self.interface.signature("Session::", "_")
        yield f"{'inline' if self.is_short else 'SOFIE_ENTRY'} {signature}"
        yield "{"
        for name in self.interface.sizes.values():
            unused = "" if name in words else "[[maybe_unused]] "
            yield f"   {unused}const sofie::Size {name} = static_cast<sofie::Size>({name}_);"
        rows = [self.interface.rows] if self.interface.rows else []
        for port in (*self.interface.inputs, *rows):
            if port.name not in words:
                yield f"   static_cast<void>({port.name}); // No kernel reads it."
        if self.members:
            yield "   const Weights &w = *weights_;"
        yield body
        yield "   SOFIE_LEAVE_PACKS;"
        yield "}"

    def _scratch(self) -> Iterable[str]:
        """The scratch memory, and a pointer to each buffer in it under the value's name."""
        places = [p for v, p in self.plan.places.items() if isinstance(p, Scratch) and p.root == v]
        offsets: dict[Dim, str] = {}
        for offset in (place.offset for place in places):
            offsets.setdefault(offset, f"slot{len(offsets)}_")
        begins = dict(self._begins(offsets))
        for begin, text in begins.values():
            if text:
                yield f"   const sofie::Size {begin} = {text};"
        if self.pieces.is_cut:
            yield from self.pieces.lines(self.interface, begins[self.plan.nbytes][0])
        if self.plan.nbytes != 0:
            yield f"   scratch_.require({begins[self.plan.nbytes][0]});"
        for offset, name in offsets.items():
            yield f"   char *const {name} = scratch_.at({begins[offset][0]});"
        for place in places:
            dtype = self.types[place.root].dtype.cxx
            begin = f"reinterpret_cast<{dtype} *>({offsets[place.offset]})"
            yield f"   {dtype} *const {self.interface.names[place.root]} = {begin};"

    def _begins(self, offsets: Iterable[Dim]) -> Iterable[tuple[Dim, tuple[str, str]]]:
        """All offsets, the end too: each as C++ says it, and what that is where it is a variable.

        A slot of symbolic size begins where the one before ends, whose begin is not said again.
        """
        every = dict.fromkeys((*offsets, self.plan.nbytes))
        nominal = dict.fromkeys(self.graph.symbols, NOMINAL)
        before: Dim = 0
        text = ""
        for index, offset in enumerate(sorted(every, key=lambda o: evaluate(o, nominal))):
            if isinstance(offset, int):
                yield offset, (str(offset), "")
                continue
            yield offset, (f"begin{index}_", f"{text}{self.size(offset - before)}")
            before, text = offset, f"begin{index}_ + "


def _include(header: str) -> str:
    return f'#include "{header}"'


def _if(macro: str, then: Iterable[str], otherwise: Iterable[str] = ()) -> list[str]:
    """Lines for the preprocessor: these where the macro is defined, else those."""
    rest = list(otherwise)
    return [f"#ifdef {macro}", *then, *(["#else", *rest] if rest else []), "#endif"]


def _if_not(macro: str, then: Iterable[str]) -> list[str]:
    return [f"#ifndef {macro}", *then, "#endif"]
