"""The header for devices: a class `Session` that enqueues the kernels of a program."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from sofie_rdf.devices import one_kernel
from sofie_rdf.devices.program import Program, Step, headers_of, program_for
from sofie_rdf.devices.spelling import Spelling
from sofie_rdf.devices.targets import Target, target_named
from sofie_rdf.emit.literals import comment, string
from sofie_rdf.emit.ports import Port
from sofie_rdf.emit.session import Emission, namespace_of
from sofie_rdf.emit.sources import Source
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Launch, Operand
from sofie_rdf.ir.types import Array

__all__ = ["emit_for_device", "emit_program"]

NEVER_RUN = "It was compiled for GPUs and run on CPUs. It was never run on a GPU."


def emit_for_device(graph: Graph, target: str, name: str, weights: str) -> Emission:
    """The header of a graph as it was read, for a target, and the weight file of that name.

    The same graph gives the same text. UnsupportedOperator for what has no kernel there.
    """
    return emit_program(program_for(graph), target, name, weights)


def emit_program(
    program: Program, target: str, name: str, weights: str, *, whole: bool = True
) -> Emission:
    """The same for a program as it is; ``whole=False`` gives each node kernels of its own."""
    writer = _Writer(Spelling(program), target_named(target), name, weights, whole)
    namespace = f"{namespace_of(name)}_{target}"
    text = "\n".join(writer.header(namespace))
    return Emission(name, namespace, text, writer.tensors, Source("file", weights))


@dataclass(frozen=True)
class _Writer:
    spelling: Spelling
    target: Target
    name: str
    weights: str
    # Whether a small network is one kernel.
    whole: bool

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.program.steps

    @property
    def program(self) -> Program:
        return self.spelling.program

    @property
    def sizes(self) -> Mapping[str, str]:
        return self.spelling.sizes

    @property
    def ports(self) -> list[Port]:
        return self.spelling.ports

    @property
    def names(self) -> Mapping[str, str]:
        return self.spelling.names

    @property
    def tensors(self) -> tuple[Array, ...]:
        constants = self.program.graph.constants
        return tuple(constants[name] for name in self.spelling.constants if name)

    @cached_property
    def events(self) -> int:
        """How many events a work-group of the one kernel takes, or 0: there are several kernels."""
        return one_kernel.events_of_a_group(self.program) if self.whole else 0

    @property
    def nbytes(self) -> Dim:
        """The scratch memory on the device."""
        return 0 if self.events else self.program.plan.nbytes

    def array(self, operand: Operand, *, written: bool) -> str:
        """An array of the adapter, as a kernel is given it."""
        at = self.spelling.array(operand, written=written)
        if isinstance(at, int):
            at = f"adapter_.template at<{operand.type.dtype.on_device}>(weights_.memory(), {at})"
        return at if written else f"sofie::device::read({at})"

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
        if self.events:
            yield from (*one_kernel.kernel_class(self.program, self.events), "")
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
            f"Array<{'' if p.output else 'const '}{p.type.dtype.on_device}> {p.name}"
            for p in self.ports
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
        if self.events:
            yield one_kernel.launch(self.spelling, self.events)
            return
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
                condition = f"{self.spelling.size(left)} == {self.spelling.size(right)}"
                yield f"      sofie::device::require({condition}, {string(what)});"
        nbytes = self.nbytes
        if not isinstance(nbytes, int):
            what = string(f"{self.name}: these sizes need more memory than those it was made for")
            yield f"      sofie::device::require({self.spelling.size(nbytes)} <= bytes_, {what});"

    def _scratch(self) -> Iterator[str]:
        """An array for each buffer in scratch memory, under the value's name."""
        for value, place in self.spelling.buffers():
            cxx = self.program.types[value].dtype.on_device
            begin = self.spelling.size(place.offset)
            array = f"adapter_.template at<{cxx}>(scratch_, {begin})"
            yield f"      const auto {self.names[value]} = {array};"

    def _launch(self, launch: Launch) -> str:
        parameters = ", ".join(map(self.spelling.parameter, launch.parameters))
        arrays = [self.array(t, written=i < launch.outputs) for i, t in enumerate(launch.tensors)]
        start = f"adapter_, queue, {self.spelling.size(launch.count)}"
        kernel = f"{launch.kernel}{{{parameters}}}"
        joined = ",\n         ".join([start, kernel, *arrays])
        return f"      sofie::device::{launch.by}({joined});"

    def _on_host(self) -> Iterator[str]:
        """The form that takes arrays of the host."""
        vectors = (p.reference(p.vector_of(p.type.dtype.on_device)) for p in self.ports)
        parameters = ["Queue &queue", *vectors]
        parameters += [f"sofie::device::Index {s}" for s in self.sizes.values()]
        yield "   /// The same for arrays of the host: copies there and back, and waits."
        yield f"   void infer({', '.join(parameters)})"
        yield "   {"
        for name, text in self.sizes.items():
            what = string(f"{self.name}: {name}")
            yield f"      sofie::device::require_size({text}, most_{text}_, {what});"
        for port in self.ports:
            elements = f"static_cast<std::size_t>({self.spelling.size(port.type.size)})"
            if port.output:
                yield f"      {port.name}.resize({elements});"
            else:
                what = string(f"{self.name}: input {port.value} has the wrong number of elements")
                yield f"      sofie::device::require({port.name}.size() == {elements}, {what});"
        # No name of a model ends in this way.
        staged = [(port, f"staged{i}_") for i, port in enumerate(self.ports)]
        for port, name in staged:
            kind = f"sofie::device::Staged<Adapter, {port.type.dtype.on_device}>"
            yield f"      {kind} {name}(adapter_, {port.name}.size());"
            if not port.output:
                yield f"      {name}.from({port.name});"
        arrays = [f"{name}.array()" for _, name in staged]
        yield f"      infer({', '.join(['queue', *arrays, *self.sizes.values()])});"
        for port, name in staged:
            if port.output:
                yield f"      {name}.to(queue, {port.name});"
        yield "   }"

    def _private(self, most: str) -> Iterator[str]:
        yield "private:"
        yield "   static Weights loaded(const Adapter &adapter, const std::string &path)"
        yield "   {"
        yield "      const sofie::WeightFile file(path);"
        yield f"      std::vector<char> bytes({self.spelling.constants['']});"
        for index, (name, begin) in enumerate(list(self.spelling.constants.items())[:-1]):
            type_ = self.program.graph.types[name]
            extents = "".join(f", {d}" for d in type_.shape)
            view = f"sofie::View<const {type_.dtype.on_device}{extents}>"
            place = f"file.tensor<{view}>({index})"
            yield f"      sofie::device::put(bytes, {begin}, {place}); // {comment(name)}"
        yield "      return Weights(adapter, bytes);"
        yield "   }"
        unused = "".join(f"      static_cast<void>(most_{s});\n" for s in self.sizes.values())
        yield f"   static sofie::device::Index scratch_bytes({most})"
        yield "   {"
        yield f"{unused}      return {self.spelling.most(self.nbytes)};"
        yield "   }"
        yield ""
        yield "   Adapter adapter_;"
        yield "   Weights weights_;"
        for text in self.sizes.values():
            yield f"   sofie::device::Index most_{text}_;"
        yield "   sofie::device::Index bytes_;"
        yield "   typename Adapter::Memory scratch_;"
