"""The header for devices: a class `Session` that enqueues the kernels of a program."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from sofie_rdf.devices.program import Program, Step, headers_of, program_for
from sofie_rdf.devices.targets import Target, target_named
from sofie_rdf.emit.literals import comment, number, size, string
from sofie_rdf.emit.names import identifiers
from sofie_rdf.emit.ports import Port
from sofie_rdf.emit.session import Emission, namespace_of
from sofie_rdf.emit.sources import Source
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Functor, Launch, Operand, Sizes
from sofie_rdf.ir.types import Array
from sofie_rdf.passes.memory import Argument, Scratch, Weight

__all__ = ["emit_for_device", "emit_program"]

# Names that the class, its members and its functions use themselves.
RESERVED = frozenset(
    """adapter_ weights_ scratch_ bytes_ queue file path Session Queue Weights Array Adapter infer
    weights loaded scratch_bytes sofie device""".split()
)
_ALIGNMENT = 256

NEVER_RUN = "It was compiled for GPUs and run on CPUs. It was never run on a GPU."


def emit_for_device(graph: Graph, target: str, name: str, weights: str) -> Emission:
    """The header of a graph as it was read, for a target, and the weight file of that name.

    The same graph gives the same text. UnsupportedOperator for what has no kernel there.
    """
    return emit_program(program_for(graph), target, name, weights)


def emit_program(program: Program, target: str, name: str, weights: str) -> Emission:
    """The same for a program as it is."""
    writer = _Writer(program, target_named(target), name, weights)
    namespace = f"{namespace_of(name)}_{target}"
    text = "\n".join(writer.header(namespace))
    return Emission(name, namespace, text, writer.tensors, Source("file", weights))


@dataclass(frozen=True)
class _Writer:
    program: Program
    target: Target
    name: str
    weights: str

    # What there is to say ------------------------------------------------------------------------

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        return self.program.steps

    @cached_property
    def launches(self) -> list[Launch]:
        return [launch for step in self.steps for launch in step.launches]

    @cached_property
    def sizes(self) -> Mapping[str, str]:
        """A C++ name for every named size, in the order in which `infer` takes them."""
        return identifiers(self.program.graph.symbols, RESERVED)

    @cached_property
    def names(self) -> Mapping[str, str]:
        """A C++ name for every input, output, and value in scratch memory."""
        graph = self.program.graph
        begins = {f"begin{i}_" for i in range(len(graph.types))}
        most = {f"most_{s}" for s in self.sizes.values()}
        members = {f"{m}_" for m in most}
        roots = [v for v, p in self.program.plan.places.items() if isinstance(p, Scratch)]
        keys = [*graph.inputs, *map(self._output, graph.outputs), *roots]
        return identifiers(keys, {*RESERVED, *begins, *most, *members, *self.sizes.values()})

    @cached_property
    def ports(self) -> list[Port]:
        graph, known = self.program.graph, self.names
        return [
            *(Port(i, known[i], graph.types[i], False) for i in graph.inputs),
            *(Port(o, known[self._output(o)], graph.types[o], True) for o in graph.outputs),
        ]

    def _output(self, value: str) -> str:
        """The key of an output among the names: an input that is one, too, is two parameters."""
        return f"{value}\0output" if value in self.program.graph.inputs else value

    @cached_property
    def constants(self) -> Mapping[str, int]:
        """Where each constant that a kernel reads begins on the device, in bytes."""
        places = self.program.plan.places
        read = (places[t.name] for one in self.launches for t in one.tensors[one.outputs :])
        used = list(dict.fromkeys(p.name for p in read if isinstance(p, Weight)))
        arrays = (self.program.graph.constants[name] for name in used)
        ends = accumulate((-(-a.nbytes // _ALIGNMENT) * _ALIGNMENT for a in arrays), initial=0)
        return dict(zip((*used, ""), ends, strict=True))

    @property
    def tensors(self) -> tuple[Array, ...]:
        return tuple(self.program.graph.constants[name] for name in self.constants if name)

    # How it is said ------------------------------------------------------------------------------

    def size(self, dim: Dim) -> str:
        return size(dim, self.sizes)

    def most(self, dim: Dim) -> str:
        """The same for the largest sizes."""
        return size(dim, {name: f"most_{text}" for name, text in self.sizes.items()})

    def array(self, operand: Operand, *, written: bool) -> str:
        graph, place = self.program.graph, self.program.plan.places[operand.name]
        cxx = operand.type.dtype.cxx
        if written and operand.name in graph.given_names:
            return self.names[self._output(operand.name)]
        match place:
            case Weight(name):
                begin = self.constants[name]
                text = f"adapter_.template at<{cxx}>(weights_.memory(), {begin})"
            case Scratch(root):
                text = self.names[root]
            case Argument(name):
                text = self.names[name]
            case _:
                raise AssertionError("no device has memory that grows")
        return text if written else f"sofie::device::read({text})"

    def parameter(self, value: object) -> str:
        match value:
            case Functor() | float():
                return number(value)
            case Sizes(dims):
                inner = f"{{{', '.join(map(self.size, dims))}}}" if dims else ""
                return f"sofie::device::Sizes<{len(dims)}>{{{inner}}}"
            case tuple():
                return f"{{{', '.join(map(self.parameter, value))}}}"
            case _:
                return self.size(value)  # type: ignore[arg-type]

    # Sections of the header ----------------------------------------------------------------------

    def header(self, namespace: str) -> Iterator[str]:
        guard = f"{namespace}_HXX"
        yield f"// {comment(self.name)}: a network compiled by sofie_rdf for {self.target.name}."
        yield f"// {NEVER_RUN}"
        for port in self.ports:
            kind = "output" if port.output else "input "
            yield f"// {kind} {comment(port.value)}: {comment(str(port.type))}"
        yield from (f"#ifndef {guard}", f"#define {guard}", "")
        yield from (f'#include "{h}"' for h in (self.target.header, *headers_of(self.steps)))
        yield from ("", f"namespace {namespace} {{", "")
        yield from self._session()
        yield from ("", f"}} // namespace {namespace}", "", "#endif", "")

    def _session(self) -> Iterator[str]:
        most = "".join(f", sofie::device::Index most_{s}" for s in self.sizes.values())
        passed = "".join(f", most_{s}" for s in self.sizes.values())
        arguments = ", ".join([string(self.weights), *(f"most_{s}" for s in self.sizes.values())])
        yield "/// Evaluates the network on a device. It lives until all that it enqueued is done."
        yield f"/// {self.target.example.format(arguments=arguments)}"
        yield "template <class Adapter>"
        yield "class Session {"
        yield "public:"
        yield "   using Queue = typename Adapter::Queue;"
        yield "   using Weights = sofie::device::Weights<Adapter>;"
        yield "   template <class T>"
        yield "   using Array = typename Adapter::template Array<T>;"
        yield ""
        yield "   /// Reads the weight file and makes all buffers, for sizes up to these."
        yield f"   Session(const Adapter &adapter, const std::string &path{most})"
        yield f"      : Session(adapter, loaded(adapter, path){passed})"
        yield "   {"
        yield "   }"
        yield "   /// Shares the weights of another Session of the same device."
        yield f"   Session(const Adapter &adapter, const Weights &weights{most})"
        members = [
            f"most_{s}_(sofie::device::require_most(most_{s}, {string(f'{self.name}: {n}')}))"
            for n, s in self.sizes.items()
        ]
        listed = ", ".join(["adapter_(adapter)", "weights_(weights)", *members])
        yield f"      : {listed}, bytes_(scratch_bytes({passed.removeprefix(', ')})),"
        yield "        scratch_(adapter.allocate(sofie::device::bytes_of(bytes_)))"
        yield "   {"
        yield "   }"
        yield "   Session(const Session &) = delete;"
        yield "   Session(Session &&) = default;"
        yield "   const Weights &weights() const { return weights_; }"
        yield ""
        yield from self._infer()
        yield ""
        yield from self._on_host()
        yield ""
        yield from self._private(most.removeprefix(", "))
        yield "};"

    def _infer(self) -> Iterator[str]:
        body = list(self._body())
        words = set(re.findall(r"\w+", "\n".join(body)))
        parameters = [
            f"Array<{'' if p.output else 'const '}{p.type.dtype.cxx}> {p.name}" for p in self.ports
        ]
        parameters += [f"sofie::device::Index {s}" for s in self.sizes.values()]
        unused = ["" if p.split()[-1] in words else "[[maybe_unused]] " for p in parameters]
        texts = [f"{u}{p}" for u, p in zip(unused, parameters, strict=True)]
        yield "   /// Enqueues the kernels and returns. Arrays are memory of the device."
        yield f"   void infer({', '.join(['[[maybe_unused]] Queue &queue', *texts])})"
        yield "   {"
        yield from body
        yield "   }"

    def _body(self) -> Iterator[str]:
        yield from self._checks()
        yield from self._scratch()
        for step in self.steps:
            if step.launches:
                yield f"      // {comment(step.label)}"
            for launch in step.launches:
                yield self._launch(launch)

    def _checks(self) -> Iterator[str]:
        """What is refused before anything is enqueued."""
        for name, text in self.sizes.items():
            what = string(f"{self.name}: {name}")
            yield f"      sofie::device::require_size({text}, most_{text}_, {what});"
        for step in self.steps:
            for left, right in step.requirements:
                what = f"{self.name}: {step.label} needs {left} = {right}"
                condition = f"{self.size(left)} == {self.size(right)}"
                yield f"      sofie::device::require({condition}, {string(what)});"
        nbytes = self.program.plan.nbytes
        if not isinstance(nbytes, int):
            what = string(f"{self.name}: these sizes need more memory than those it was made for")
            yield f"      sofie::device::require({self.size(nbytes)} <= bytes_, {what});"

    def _scratch(self) -> Iterator[str]:
        """An array for each buffer in scratch memory, under the value's name."""
        read = {t.name for one in self.launches for t in one.tensors}
        places = self.program.plan.places
        roots = {p.root: p for v in read if isinstance(p := places[v], Scratch)}
        for value, place in places.items():
            if value in roots and isinstance(place, Scratch) and place.root == value:
                cxx = self.program.types[value].dtype.cxx
                begin = self.size(place.offset)
                array = f"adapter_.template at<{cxx}>(scratch_, {begin})"
                yield f"      const auto {self.names[value]} = {array};"

    def _launch(self, launch: Launch) -> str:
        parameters = ", ".join(map(self.parameter, launch.parameters))
        arrays = [self.array(t, written=i < launch.outputs) for i, t in enumerate(launch.tensors)]
        start = f"adapter_, queue, {self.size(launch.count)}"
        kernel = f"{launch.kernel}{{{parameters}}}"
        joined = ",\n         ".join([start, kernel, *arrays])
        return f"      sofie::device::{launch.by}({joined});"

    def _on_host(self) -> Iterator[str]:
        """The form that takes arrays of the host."""
        parameters = ["Queue &queue", *(p.vector for p in self.ports)]
        parameters += [f"sofie::device::Index {s}" for s in self.sizes.values()]
        yield "   /// The same for arrays of the host: copies there and back, and waits."
        yield f"   void infer({', '.join(parameters)})"
        yield "   {"
        for name, text in self.sizes.items():
            what = string(f"{self.name}: {name}")
            yield f"      sofie::device::require_size({text}, most_{text}_, {what});"
        for port in self.ports:
            elements = f"static_cast<std::size_t>({self.size(port.type.size)})"
            if port.output:
                yield f"      {port.name}.resize({elements});"
            else:
                what = string(f"{self.name}: input {port.value} has the wrong number of elements")
                yield f"      sofie::device::require({port.name}.size() == {elements}, {what});"
        for port in self.ports:
            kind = f"sofie::device::Staged<Adapter, {port.type.dtype.cxx}>"
            yield f"      {kind} on_{port.name}(adapter_, {port.name}.size());"
            if not port.output:
                yield f"      on_{port.name}.from({port.name});"
        arrays = [f"on_{p.name}.array()" for p in self.ports]
        yield f"      infer({', '.join(['queue', *arrays, *self.sizes.values()])});"
        for port in self.ports:
            if port.output:
                yield f"      on_{port.name}.to(queue, {port.name});"
        yield "   }"

    def _private(self, most: str) -> Iterator[str]:
        yield "private:"
        yield "   static Weights loaded(const Adapter &adapter, const std::string &path)"
        yield "   {"
        yield "      const sofie::WeightFile file(path);"
        yield f"      std::vector<char> bytes({self.constants['']});"
        for index, (name, begin) in enumerate(list(self.constants.items())[:-1]):
            type_ = self.program.graph.types[name]
            extents = "".join(f", {d}" for d in type_.shape)
            view = f"sofie::View<const {type_.dtype.cxx}{extents}>"
            place = f"file.tensor<{view}>({index})"
            yield f"      sofie::device::put(bytes, {begin}, {place}); // {comment(name)}"
        yield "      return Weights(adapter, bytes);"
        yield "   }"
        unused = "".join(f"      static_cast<void>(most_{s});\n" for s in self.sizes.values())
        yield f"   static sofie::device::Index scratch_bytes({most})"
        yield "   {"
        yield f"{unused}      return {self.most(self.program.plan.nbytes)};"
        yield "   }"
        yield ""
        yield "   Adapter adapter_;"
        yield "   Weights weights_;"
        for text in self.sizes.values():
            yield f"   sofie::device::Index most_{text}_;"
        yield "   sofie::device::Index bytes_;"
        yield "   typename Adapter::Memory scratch_;"
