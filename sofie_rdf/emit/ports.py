"""`Session::infer` as its callers see it: one function that computes, and overloads around it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sofie_rdf.emit.literals import size, string
from sofie_rdf.emit.names import identifiers
from sofie_rdf.ir.dims import substitute
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.rows import ROWS
from sofie_rdf.ir.types import DType, TensorType

__all__ = ["Interface", "Port"]

# Names that infer, its class, or its parameters use themselves.
RESERVED = frozenset(
    """weights_ scratch_ code_ sizes_ in_ out_ mutex_ session_ lock_ w file weights infer entries
    events_ infer_rows seed entry is_random at at_ gradient Gradient found_ row_ rows_ piece_
    embedded_weights Session Weights Input Output input_size output_size""".split()
)


# What else the emitted code calls thing1_, thing2_, ...
_NUMBERED = ("slot", "owned", "body", "round", "stack")


@dataclass(frozen=True)
class Port:
    """An input or output of the network as a parameter of `infer`."""

    value: str
    name: str
    type: TensorType
    output: bool
    # Whether the data decide its size, so that it brings memory of its own.
    owned: bool = False

    @property
    def pointer(self) -> str:
        if self.owned:
            return f"{self.vector_type} &{self.name}"
        return f"{'' if self.output else 'const '}{self.type.dtype.cxx} *{self.name}"

    @property
    def vector_type(self) -> str:
        if self.owned:
            return f"sofie::Owned<{self.type.dtype.cxx}, {self.type.rank}>"
        return self.vector_of(self.type.dtype.cxx)

    @property
    def vector(self) -> str:
        return self.reference(self.vector_type)

    def vector_of(self, element: str) -> str:
        """The std::vector of these elements; there is no array of bool in one of bool."""
        return f"std::vector<{'std::uint8_t' if self.type.dtype is DType.BOOL else element}>"

    def reference(self, type_: str) -> str:
        """The parameter of this type."""
        return f"{'' if self.output else 'const '}{type_} &{self.name}"

    @property
    def data(self) -> str:
        if self.owned:
            return self.name
        if self.type.dtype is not DType.BOOL:
            return f"{self.name}.data()"
        return f"reinterpret_cast<{'' if self.output else 'const '}bool *>({self.name}.data())"


@dataclass(frozen=True)
class Interface:
    """The inputs, outputs and dynamic sizes of a network under their C++ names."""

    graph: Graph
    model: str
    # A graph inside another one gives out tensors with memory of their own.
    is_body: bool = False

    @cached_property
    def names(self) -> Mapping[str, str]:
        """A C++ name for every value that the graph computes or takes."""
        graph = self.graph
        computed = (o for n in graph.nodes for o in n.outputs)
        spaces = (w for n in graph.nodes for w in graph.workspace(n))
        values = (*graph.inputs, *map(self._output_key, graph.outputs), *computed, *spaces)
        # In the body of infer, N is the signed form of the parameter N_.
        sizes = (n for s in self.sizes.values() for n in (s, f"{s}_"))
        slots = (f"{kind}{i}_" for kind in _NUMBERED for i in range(len(graph.types)))
        return identifiers(values, {*RESERVED, *sizes, *slots, *self.data_sizes.values()})

    def _output_key(self, value: str) -> str:
        # An input that is an output too is two parameters; what is copied at the end has two names.
        is_other = value in self._taken or self.is_copied(value)
        return f"{value}\0output" if is_other else value

    @cached_property
    def _taken(self) -> frozenset[str]:
        return frozenset(self.graph.inputs)

    def output_name(self, value: str) -> str:
        """The name of the parameter that an output is written to."""
        return self.names[self._output_key(value)]

    @cached_property
    def sizes(self) -> Mapping[str, str]:
        """A C++ name for every named size, in the order in which `infer` takes them."""
        return identifiers(self.graph.symbols, RESERVED)

    @cached_property
    def data_sizes(self) -> Mapping[str, str]:
        """A C++ name for every named size that the data decide."""
        parameters = (n for s in self.sizes.values() for n in (s, f"{s}_"))
        slots = (f"{k}{i}_" for k in _NUMBERED for i in range(len(self.graph.types)))
        return identifiers(self.graph.data_symbols, {*RESERVED, *parameters, *slots})

    @cached_property
    def ports(self) -> tuple[Port, ...]:
        graph, known = self.graph, self.names
        seen = (i for i in graph.inputs if self.is_body or i != ROWS)
        ins = (Port(i, known[i], graph.types[i], False) for i in seen)
        outs = (
            Port(o, self.output_name(o), graph.types[o], True, self.is_owned(o))
            for o in graph.outputs
        )
        return (*ins, *outs)

    def is_owned(self, value: str) -> bool:
        """Whether an output is handed out as a `sofie::Owned`."""
        return self.is_body or self.graph.is_decided_by_data(value)

    def is_copied(self, value: str) -> bool:
        """Whether an output of a known size is computed in a `sofie::Owned`, as by a Loop."""
        return not self.is_body and self.graph.grows_to_known_size(value)

    @property
    def inputs(self) -> list[Port]:
        return [p for p in self.ports if not p.output]

    @property
    def rows(self) -> Port | None:
        """What says which rows random numbers are for, which callers need not know of."""
        if self.is_body or ROWS not in self.graph.inputs:
            return None
        return Port(ROWS, self.names[ROWS], self.graph.types[ROWS], False)

    @property
    def computing(self) -> str:
        """The function that computes, of which `infer` is a form."""
        return "infer_rows" if self.rows else "infer"

    @property
    def outputs(self) -> list[Port]:
        return [p for p in self.ports if p.output]

    def signature(self, scope: str = "", suffix: str = "") -> str:
        """``void infer(std::size_t N, const float *x, float *y)``; sizes end in ``suffix``."""
        sizes = [f"std::size_t {s}{suffix}" for s in self.sizes.values()]
        parameters = [*sizes, *(p.pointer for p in self.passed)]
        return f"void {scope}{self.computing}({', '.join(parameters)})"

    @property
    def passed(self) -> list[Port]:
        """What the function that computes takes behind the sizes."""
        return [*self.inputs, *([self.rows] if self.rows else []), *self.outputs]

    # One event -----------------------------------------------------------------------------------

    def traits(self) -> Iterable[str]:
        """What `SofieFunctor` must know, for a network with one input, one output and one event."""
        one = {self.graph.leading_symbol: 1} if self.graph.leading_symbol else {}
        if len(self.ports) != 2 or set(self.graph.symbols) - one.keys() or self.ports[1].owned:
            return
        yield "   /// One event: so many numbers in, so many out."
        for role, port in zip(("input", "output"), self.ports, strict=True):
            yield f"   using {role.title()} = {port.type.dtype.cxx};"
            elements = size(substitute(port.type.size, one), {})
            yield f"   static constexpr sofie::Size {role}_size = {elements};"
        yield ""

    # Overloads -----------------------------------------------------------------------------------

    def overloads(self) -> Iterable[str]:
        """Every way to call `infer`: with or without the batch, into memory or vectors."""
        yield "   /// Evaluates into the caller's memory; input and output must not overlap."
        yield f"   {self.signature()};"
        if self.rows:
            yield from self._random_numbers()
        # Whoever wants the entry points calls that one, and std::vector costs ROOT's interpreter
        # 40 ms.
        yield "#ifndef SOFIE_ENTRIES"
        yield from self.variants()
        yield from self._gradients()
        yield "#endif"

    def _random_numbers(self) -> Iterable[str]:
        """How a Session is told of events, and `infer` for the next ones."""
        assert self.rows is not None
        sizes = [f"std::size_t {s}" for s in self.sizes.values()]
        given = ", ".join([*sizes, *(p.pointer for p in self.ports)])
        names = {s: f"static_cast<sofie::Size>({v})" for s, v in self.sizes.items()}
        count = f"static_cast<std::size_t>({size(self.rows.type.shape[0], names)})"
        rows = f"events_.next({count})"
        outs = [p.name for p in self.outputs]
        passed = [*self.sizes.values(), *(p.name for p in self.inputs), rows, *outs]
        yield "   /// Random numbers are of this seed, and of the events from this one on (0):"
        yield "   /// each row of a call is the next one. A copy goes on with the same."
        yield "   void seed(std::uint64_t seed) { events_.seed = seed; }"
        yield "   void entry(std::uint64_t first) { events_.entry = first; }"
        yield "   static constexpr bool is_random = true;"
        yield f"   void infer({given}) {{ infer_rows({', '.join(passed)}); }}"

    def variants(self, prefix: str = "   ") -> Iterable[str]:
        """All overloads but the one that computes; ``prefix`` begins each declaration."""
        yield from self._variant(list(self.sizes.values()), None, prefix)
        if self.graph.leading_symbol:
            (batch,) = self.sizes.values()
            arguments = ", ".join(["1", *(p.name for p in self.ports)])
            yield f"   /// One event: {batch} is 1."
            pointers = ", ".join(p.pointer for p in self.ports)
            yield f"{prefix}void infer({pointers}) {{ infer({arguments}); }}"
            yield from self._variant([], batch, prefix)

    def _variant(self, given: Sequence[str], batch: str | None, prefix: str) -> Iterable[str]:
        """The overloads that take these sizes; ``batch`` names the one that is 1 instead."""
        sizes = [f"std::size_t {s}" for s in given]
        start = [f"      const std::size_t {batch} = 1;"] if batch else []
        ins, outs = self.inputs, self.outputs
        yield from self._function(
            f"{prefix}{self._result}",
            [*sizes, *(p.pointer for p in ins)],
            [*start, *self._into_vectors()],
        )
        if ins and all(p.type.dtype is not DType.BOOL for p in ins):
            yield "   /// The same for vectors, whose sizes are checked."
            yield from self._function(
                f"{prefix}{self._result}",
                [*sizes, *(p.vector for p in ins)],
                [*start, *self._checks(), f"      return infer({self._call(ins)});"],
            )
            yield from self._function(
                f"{prefix}void",
                [*sizes, *(p.vector for p in (*ins, *outs))],
                [
                    *start,
                    *self._checks(),
                    *self._resizes(),
                    f"      infer({self._call(self.ports)});",
                ],
            )

    def _is_derivative(self, name: str) -> bool:
        """Whether an output is called d_OUTPUT/d_INPUT."""
        bars = (i for i in range(len(name)) if name.startswith("/d_", i))
        of, by = self._given_out, self._taken
        return name.startswith("d_") and any(name[2:i] in of and name[i + 3 :] in by for i in bars)

    @cached_property
    def _given_out(self) -> frozenset[str]:
        return frozenset(self.graph.outputs)

    def _gradients(self) -> Iterable[str]:
        """`gradient`, for the outputs of `Model.gradient`: what `infer` gives, by names."""
        boolean = any(p.type.dtype is DType.BOOL for p in self.inputs)
        if boolean or not any(map(self._is_derivative, self.graph.outputs)):
            return
        yield "   /// Outputs, and their derivatives by inputs."
        yield "   struct Gradient {"
        for port in self.outputs:
            yield f"      {port.vector_type} {port.name};"
        yield "   };"
        yield "   /// Evaluates outputs and derivatives; the sizes of vectors are checked."
        ins = [p.vector for p in self.inputs]
        starts = [list(self.sizes.values())] + ([[]] if self.graph.leading_symbol else [])
        for sizes in starts:
            names = [*sizes, *(p.name for p in self.inputs)]
            names += [f"found_.{p.name}" for p in self.outputs]
            parameters = ", ".join([*(f"std::size_t {s}" for s in sizes), *ins])
            yield f"   Gradient gradient({parameters})"
            yield "   {"
            yield "      Gradient found_;"
            yield f"      infer({', '.join(names)});"
            yield "      return found_;"
            yield "   }"

    @staticmethod
    def _function(result: str, parameters: Sequence[str], body: Sequence[str]) -> Iterable[str]:
        yield f"{result} infer({', '.join(parameters)})"
        yield "   {"
        yield from body
        yield "   }"

    @property
    def _result(self) -> str:
        types = [p.vector_type for p in self.outputs]
        return types[0] if len(types) == 1 else f"std::tuple<{', '.join(types)}>"

    def _call(self, vectors: Sequence[Port]) -> str:
        return ", ".join([*self.sizes.values(), *(p.data for p in vectors)])

    @cached_property
    def _signed(self) -> Mapping[str, str]:
        return {s: f"static_cast<sofie::Size>({v})" for s, v in self.sizes.items()}

    def elements(self, port: Port) -> str:
        """The C++ expression for how many elements it has."""
        elements = size(port.type.size, self._signed)
        return elements if elements.isdigit() else f"static_cast<std::size_t>({elements})"

    def _into_vectors(self) -> Iterable[str]:
        for port in self.outputs:
            begin = "" if port.owned else f"({self.elements(port)})"
            yield f"      {port.vector_type} {port.name}{begin};"
        ins = [p.name for p in self.inputs]
        outs = [p.data for p in self.outputs]
        yield f"      infer({', '.join([*self.sizes.values(), *ins, *outs])});"
        if len(outs) == 1:
            yield f"      return {self.outputs[0].name};"
        else:
            moved = ", ".join(f"std::move({p.name})" for p in self.outputs)
            yield f"      return {{{moved}}};"

    def _checks(self) -> Iterable[str]:
        for port in self.inputs:
            message = f"{self.model}: input {port.value} has the wrong number of elements"
            yield f"      if ({port.name}.size() != {self.elements(port)})"
            yield f"         throw std::invalid_argument({string(message)});"

    def _resizes(self) -> Iterable[str]:
        for port in self.outputs:
            if not port.owned:
                yield f"      {port.name}.resize({self.elements(port)});"
