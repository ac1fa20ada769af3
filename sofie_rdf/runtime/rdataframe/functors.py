"""The C++ of a function object that evaluates a network for the columns of an event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import ClassVar

from sofie_rdf.emit.literals import size, string
from sofie_rdf.ir.dims import Dim, evaluate, name_of, symbols_of
from sofie_rdf.ir.types import DType
from sofie_rdf.runtime.rdataframe.columns import (
    Column,
    Filled,
    Plan,
    Shown,
    rows,
    scalar_type,
)
from sofie_rdf.runtime.rdataframe.options import DefineOptions

__all__ = ["FunctorText", "ObjectsText", "column_type", "number_type"]

# Inputs and outputs of so many elements are arrays on the stack, if their size is known.
_SMALL = 1024


def number_type(dtype: DType) -> str:
    """The type of C++ for such an element: `sofie::NumberOf`."""
    return "float" if dtype.is_half or dtype.is_storage else dtype.cxx


def column_type(dtype: DType) -> str:
    """What a new column of such elements holds: `sofie::ColumnOf`."""
    return "short" if dtype is DType.INT8 else number_type(dtype)


def _parameter(column: Column) -> str:
    """The type in which a function takes an element of a column."""
    return column.cxx if scalar_type(column.type) else f"const {column.cxx} &"


@dataclass(frozen=True)
class FunctorText:
    """The text for a plan: structs Work (a Session and its memory) and Score, and `make`.

    ``columns`` are those of the data frame, in the order of the parameters; ``where`` is the one
    that says whether the model runs, if there is one. ``numbers`` and ``names`` are told to `make`:
    the text is the same for other ones, and compiled once.
    """

    plan: Plan
    options: DefineOptions
    session: str
    where: str = ""
    # Whether the entry is told, which ROOT's DefineSlot does not do.
    knows_entry: bool = True
    # The random numbers of an event: which rows the network is told of, the seed, and the column
    # that says which event it is, if that is not the entry.
    drawn: Dim | None = None
    seed: int = 0
    event: str = ""
    header: ClassVar[str] = "columns.hxx"

    # Parameters ----------------------------------------------------------------------------------

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        found: dict[str, Column] = {}
        for filled in self.plan.inputs:
            for feature in (*filled.features, filled.order_by):
                if isinstance(feature, Column):
                    found.setdefault(feature.name, feature)
        return tuple(found.values())

    @cached_property
    def _constants(self) -> dict[str, float]:
        """The numbers that the user has given, by what they are."""
        found = {"default": self.options["default"]}
        if self.drawn is not None:
            # A double has no 64 bits.
            seed = self.seed % 2**64
            found |= {"seed_high": float(seed >> 32), "seed_low": float(seed & 0xFFFFFFFF)}
        if not isinstance(self.options["nan"], str):
            found["nan"] = self.options["nan"]
        for i, filled in enumerate(self.plan.inputs):
            found |= {f"pad{i}_{k}": pad for k, pad in enumerate(filled.pads)}
            for k, feature in enumerate(filled.features):
                if not isinstance(feature, Column):
                    found[f"in{i}_{k}"] = feature
        return {name: float(value) for name, value in found.items()}

    @property
    def numbers(self) -> list[float]:
        return list(self._constants.values())

    @property
    def names(self) -> list[str]:
        """What the user calls each column."""
        return [column.said for column in self.columns]

    def _number(self, name: str) -> str:
        return f"work.told.numbers[{list(self._constants).index(name)}]"

    def _name(self, column: Column) -> str:
        return f"work.told.names[{self._index(column)}]"

    @property
    def arguments(self) -> list[str]:
        """The columns that the function object is called with, behind the entry."""
        first = [self.where] if self.where else []
        event = [self.event] if self.event else []
        return [*first, *event, *(c.name for c in self.columns)]

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """Their types and names in C++."""
        found = [("bool", "where")] if self.where else []
        found += [("ULong64_t", "event")] if self.event else []
        for i, column in enumerate(self.columns):
            found.append((_parameter(column), f"c{i}"))
        return found

    def _index(self, column: Column) -> int:
        return [c.name for c in self.columns].index(column.name)

    def _c(self, column: Column) -> str:
        element = f"[{column.element}]" if column.element >= 0 else ""
        return f"c{self._index(column)}{element}"

    # Sizes ---------------------------------------------------------------------------------------

    @cached_property
    def sizes(self) -> Mapping[str, str]:
        """The C++ expression for each named size."""
        found = {}
        if self.plan.batch:
            found[self.plan.batch] = "objects" if self.plan.per == "object" else "1"
        for i, filled in enumerate(self.plan.inputs):
            dim = filled.type.shape[filled.axis] if filled.axis >= 0 else 0
            if name_of(dim):
                found.setdefault(name_of(dim), f"length{i}")
                if found[name_of(dim)] == "1":
                    found[name_of(dim)] = f"length{i}"
        return found

    def _elements(self, dim: Dim) -> str:
        if isinstance(dim, int):
            return str(dim)
        names = {n: f"static_cast<sofie::Size>({c})" for n, c in self.sizes.items()}
        return f"static_cast<std::size_t>({size(dim, names)})"

    def _is_small(self, dim: Dim) -> bool:
        """Whether so many elements are an array on the stack."""
        known = {s for s in symbols_of(dim) if self.sizes.get(s) == "1"}
        if set(symbols_of(dim)) - known:
            return False
        return evaluate(dim, dict.fromkeys(known, 1)) <= _SMALL

    # The text ------------------------------------------------------------------------------------

    def text(self) -> str:
        return "\n".join(
            [
                *self.structs(),
                f"using Functor = {self.functor('Work', 'Score')};",
                *self.getters(),
                "SOFIE_ENTRY Functor make([[maybe_unused]] std::uintptr_t table,",
                "                         [[maybe_unused]] std::uintptr_t weights, unsigned count,",
                "                         const std::vector<double> &numbers,",
                "                         const std::vector<std::string> &names)",
                "{",
                f"   return Functor(Work({self.session}, {self.told}), count);",
                "}",
                "",
            ]
        )

    def functor(self, work: str, score: str) -> str:
        """The type of the function object that calls ``score`` with the ``work`` of a slot."""
        kind = "EntryFunctor" if self.knows_entry else "SlotFunctor"
        return f"sofie::{kind}<{', '.join([work, score, *(t for t, _ in self.parameters)])}>"

    @property
    def told(self) -> str:
        """A `sofie::Told` of the arguments of `make`."""
        return f"{{numbers, names, {string(self.plan.graph.name)}}}"

    def structs(self, score: str = "Score") -> Iterator[str]:
        """Work and Score alone, which need a class Session before them."""
        yield "struct Work {"
        yield from self.members()
        yield "   Work(const Session &one, const sofie::Told &all) : session(one), told(all) {}"
        yield "};"
        yield from self.run_of(score, "Work", self.results(self.default), self._score())

    def members(self) -> Iterator[str]:
        """What each slot has to fill the inputs and to run."""
        yield "   Session session;"
        yield "   sofie::Told told;"
        for name, dtype, elements in self._memory():
            if not self._is_small(elements):
                yield f"   std::vector<{self.stored(dtype)}> {name};"
        for i, filled in enumerate(self.plan.inputs):
            if filled.order_by:
                yield f"   std::vector<std::size_t> order{i};"
        if self.drawn is not None:
            yield "   std::vector<std::uint64_t> rows;"

    def _memory(self) -> Iterator[tuple[str, DType, Dim]]:
        for i, filled in enumerate(self.plan.inputs):
            yield f"in{i}", filled.type.dtype, filled.type.size
        for i, name in enumerate(self.plan.graph.outputs):
            type_ = self.plan.graph.types[name]
            yield f"out{i}", type_.dtype, type_.size

    @staticmethod
    def stored(dtype: DType) -> str:
        """The elements of a std::vector of this type."""
        # There is no array of bool in a std::vector<bool>.
        return "std::uint8_t" if dtype is DType.BOOL else dtype.cxx

    def run_of(self, name: str, work: str, default: str, body: Iterable[str]) -> Iterator[str]:
        """A struct with the function for an event: ``body`` finds the inputs filled."""
        entry = ["[[maybe_unused]] ULong64_t entry"] if self.knows_entry else []
        parameters = [f"{work} &work", *entry, *(f"{t} {c}" for t, c in self.parameters)]
        yield f"struct {name} {{"
        yield f"   static auto run({', '.join(parameters)})"
        yield "   {"
        if self.where:
            yield "      if (!where)"
            yield f"         return {default};"
        yield from self._fill_all()
        yield from self._rows_drawn()
        yield from body
        yield "   }"
        yield "};"

    def _rows_drawn(self) -> Iterator[str]:
        """What the network is told of the event, whose objects are its rows."""
        if self.drawn is not None:
            seed = f"sofie::seed_of({self._number('seed_high')}, {self._number('seed_low')})"
            event = "event" if self.event else "entry"
            yield f"      const std::size_t drawn_ = {self._elements(self.drawn)};"
            yield "      const std::uint64_t *const rows_ ="
            yield f"         sofie::rows_of_event(work.rows, {seed}, {event}, drawn_);"

    @property
    def computing(self) -> str:
        """The function of the Session that computes."""
        return "infer" if self.drawn is None else "infer_rows"

    def _score(self) -> Iterator[str]:
        yield from self.out_arrays()
        yield f"      {self.inference()};"
        yield f"      return {self.results(self.result)};"

    def out_arrays(self) -> Iterator[str]:
        for i, name in enumerate(self.plan.graph.outputs):
            type_ = self.plan.graph.types[name]
            yield from self._array(f"out{i}", type_.dtype, type_.size)

    def inference(self) -> str:
        """The call of the network."""
        sizes = [f"static_cast<std::size_t>({self.sizes[s]})" for s in self.plan.graph.symbols]
        ins = [f"in{i}_" for i in range(len(self.plan.inputs))]
        ins += [] if self.drawn is None else ["rows_"]
        outs = [f"out{i}_" for i in range(len(self.plan.graph.outputs))]
        return f"work.session.{self.computing}({', '.join([*sizes, *ins, *outs])})"

    def _array(self, name: str, dtype: DType, elements: Dim) -> Iterator[str]:
        if self._is_small(elements):
            one = dict.fromkeys(symbols_of(elements), 1)
            yield f"      {dtype.cxx} {name}_[{max(evaluate(elements, one), 1)}];"
            return
        yield f"      work.{name}.resize({self._elements(elements)});"
        yield f"      auto *const {name}_ = reinterpret_cast<{dtype.cxx} *>(work.{name}.data());"

    # Inputs --------------------------------------------------------------------------------------

    def _fill_all(self) -> Iterator[str]:
        if self.plan.per == "object":
            first = next(f.vectors[0] for f in self.plan.inputs if f.vectors)
            yield f"      const std::size_t objects = {self._c(first)}.size();"
            for column in dict.fromkeys(c for f in self.plan.inputs for c in f.vectors):
                yield from self._same_length(column, first)
            yield "      const sofie::Objects all{objects, nullptr};"
        for i, filled in enumerate(self.plan.inputs):
            if filled.axis >= 0 and not filled.follows:
                yield from self._count(i, filled)
        for i, filled in enumerate(self.plan.inputs):
            if filled.follows:
                yield from self._count_of_mask(i, filled)
        for i, filled in enumerate(self.plan.inputs):
            yield from self._array(f"in{i}", filled.type.dtype, filled.type.size)
            if filled.axis < 0:
                yield from self._fill_row(i, filled)
            else:
                yield from self._fill_set(i, filled)

    def _same_length(self, column: Column, first: Column) -> Iterator[str]:
        if column.name != first.name:
            yield (
                f"      sofie::require_length({self._name(column)}, "
                f"{self._c(column)}.size(), {self._name(first)}, {self._c(first)}.size());"
            )

    def _count(self, i: int, filled: Filled) -> Iterator[str]:
        """How many objects an input has, in which order, and how long it is with its padding."""
        first = filled.vectors[0]
        for column in dict.fromkeys(filled.vectors):
            yield from self._same_length(column, first)
        shared = self._shares(i, filled)
        if shared != i:
            other = self.plan.inputs[shared].vectors[0]
            yield from self._same_length(first, other)
        most = "static_cast<std::size_t>(-1)" if filled.most < 0 else str(filled.most)
        open_ends = not isinstance(filled.type.shape[filled.axis], int)
        truncates = "true" if self.options["truncate"] or open_ends else "false"
        yield (
            f"      const std::size_t count{i} = sofie::kept_objects({self._name(first)}, "
            f"{self._c(first)}.size(), {most}, {truncates});"
        )
        yield (
            f"      const std::size_t length{i} = count{i} < {filled.least} ? "
            f"{filled.least} : count{i};"
        )
        order = "nullptr"
        if filled.order_by:
            yield f"      sofie::sort_objects(work.order{i}, {self._c(filled.order_by)});"
            order = f"work.order{i}.data()"
        yield f"      const sofie::Objects objects{i}{{count{i}, {order}}};"

    def _shares(self, i: int, filled: Filled) -> int:
        """The first input whose number of objects has the same name; the input itself at last."""
        name = name_of(filled.type.shape[filled.axis])
        same = (
            k
            for k, other in enumerate(self.plan.inputs)
            if name
            and other.axis >= 0
            and not other.follows
            and name_of(other.type.shape[other.axis]) == name
        )
        return next(same, i)

    def _count_of_mask(self, i: int, filled: Filled) -> Iterator[str]:
        other = next(k for k, f in enumerate(self.plan.inputs) if f.name == filled.follows)
        is_open = not isinstance(filled.type.shape[filled.axis], int)
        length = f"length{other}" if is_open else str(filled.most)
        yield f"      const std::size_t count{i} = count{other};"
        yield f"      const std::size_t length{i} = {length};"

    def _nan(self, column: Column) -> str:
        wanted = self.options["nan"]
        kind = column.type
        if wanted == "propagate" or not any(w in kind.lower() for w in ("float", "double")):
            return "sofie::KeepNan{}"
        if wanted == "error":
            return f"sofie::RefuseNan{{{self._name(column)}}}"
        return f"sofie::ReplaceNan{{{self._number('nan')}}}"

    def _value(self, i: int, k: int) -> str:
        """A number of an event as feature k of input i."""
        filled = self.plan.inputs[i]
        dtype = filled.type.dtype
        if filled.follows:
            return f"static_cast<{dtype.cxx}>(1)"
        feature = filled.features[k]
        if not isinstance(feature, Column):
            return f"static_cast<{dtype.cxx}>({self._number(f'in{i}_{k}')})"
        value, nan = self._c(feature), self._nan(feature)
        return f"static_cast<{dtype.cxx}>({value if 'Keep' in nan else f'{nan}({value})'})"

    def _fill_row(self, i: int, filled: Filled) -> Iterator[str]:
        count = len(filled.features)
        for k, feature in enumerate(filled.features):
            if self.plan.per != "object":
                yield f"      in{i}_[{k}] = {self._value(i, k)};"
            elif isinstance(feature, Column) and feature.is_vector:
                yield self._column(f"in{i}_ + {k}", count, feature, "all")
            else:
                value = self._value(i, k)
                yield f"      sofie::fill_number(in{i}_ + {k}, {count}, {value}, objects);"

    def _column(self, to: str, step: int | str, column: Column, objects: str) -> str:
        nan = self._nan(column)
        return f"      sofie::fill_column({to}, {step}, {self._c(column)}, {objects}, {nan});"

    def _fill_set(self, i: int, filled: Filled) -> Iterator[str]:
        """Feature k of object j is element (k // behind, j, k % behind) of the input."""
        shape, axis, dtype = filled.type.shape, filled.axis, filled.type.dtype
        behind = 1
        for dim in shape[axis + 1 :]:
            assert isinstance(dim, int)
            behind *= dim
        features: Iterable[Column | float] = filled.features or (1.0,)
        for k, feature in enumerate(features):
            before, rest = divmod(k, behind)
            to = f"in{i}_ + {before} * length{i} * {behind} + {rest}"
            if isinstance(feature, Column) and feature.is_vector:
                yield self._column(to, behind, feature, f"objects{i}")
            else:
                value = self._value(i, k)
                yield f"      sofie::fill_number({to}, {behind}, {value}, count{i});"
            pad = f"static_cast<{dtype.cxx}>({self._number(f'pad{i}_{k}')})"
            yield (
                f"      sofie::fill_number({to} + count{i} * {behind}, {behind}, {pad}, "
                f"length{i} - count{i});"
            )

    # Outputs -------------------------------------------------------------------------------------

    def results(self, one: object) -> str:
        made = [one(shown) for shown in self.plan.shown]  # type: ignore[operator]
        if len(made) == 1:
            return str(made[0])
        return f"std::make_tuple({', '.join(made)})"

    def _row_size(self, shown: Shown) -> Dim:
        total: Dim = 1
        for dim in rows(self.plan, shown):
            total = total * dim
        return total

    def result(self, shown: Shown) -> str:
        index = self.plan.graph.outputs.index(shown.output)
        dtype = self.plan.graph.types[shown.output].dtype
        kind, memory = column_type(dtype), f"out{index}_"
        row = self._row_size(shown)
        count = self._elements(row)
        if self.plan.per == "object":
            if shown.is_largest:
                return f"sofie::largest_of_rows({memory}, objects, {count})"
            begin = f"{memory} + {shown.element}" if shown.element > 0 else memory
            return f"sofie::as_rvec<{kind}>({begin}, objects, {count})"
        if shown.is_largest:
            return f"sofie::largest_of({memory}, {count})"
        if shown.element >= 0 or row == 1:
            return f"static_cast<{kind}>({memory}[{max(shown.element, 0)}])"
        return f"sofie::as_rvec<{kind}>({memory}, {count})"

    def default(self, shown: Shown) -> str:
        dtype = self.plan.graph.types[shown.output].dtype
        kind = "int" if shown.is_largest else column_type(dtype)
        value = f"static_cast<{kind}>({self._number('default')})"
        row = self._row_size(shown)
        if self.plan.per == "object":
            return f"ROOT::RVec<{kind}>()"
        if shown.is_largest or shown.element >= 0 or row == 1:
            return value
        return (
            f"ROOT::RVec<{kind}>({row}, {value})"
            if isinstance(row, int)
            else f"ROOT::RVec<{kind}>()"
        )

    def getters(self) -> Iterator[str]:
        """Function objects that take one of several results."""
        if len(self.plan.shown) == 1:
            return
        yield "using Results = decltype(std::declval<Functor &>()("
        entry = ", ULong64_t()" if self.knows_entry else ""
        given = "".join(f", std::declval<{t}>()" for t, _ in self.parameters)
        yield f"   0u{entry}{given}));"
        for i in range(len(self.plan.shown)):
            yield f"struct Get{i} {{"
            yield f"   auto operator()(const Results &all) {{ return std::get<{i}>(all); }}"
            yield "};"


class ObjectsText(FunctorText):
    """The text for a plan of one object: the network runs for each object of an event.

    The columns of `Plan.outer` have an element for each object, and results are RVecs of numbers.
    """

    @property
    def parameters(self) -> list[tuple[str, str]]:
        outer = {f"c{i}": self.plan.outer.get(c.name) for i, c in enumerate(self.columns)}
        found = []
        for kind, name in super().parameters:
            column = outer.get(name)
            found.append((_parameter(column) if column else kind, name))
        return found

    def structs(self, score: str = "Score") -> Iterator[str]:
        told = {f.name: getattr(self, f.name) for f in fields(self)} | {"where": ""}
        yield from FunctorText(**told).structs("OfObject")
        entry = ["[[maybe_unused]] ULong64_t entry"] if self.knows_entry else []
        parameters = ["Work &work", *entry, *(f"{t} {c}" for t, c in self.parameters)]
        yield f"struct {score} {{"
        yield f"   static auto run({', '.join(parameters)})"
        yield "   {"
        yield from self._for_each_object()
        yield "   }"
        yield "};"

    def _for_each_object(self) -> Iterator[str]:
        vectors = [c for c in self.columns if c.name in self.plan.outer]
        for i, shown in enumerate(self.plan.shown):
            kind = "int" if shown.is_largest else column_type(self._dtype(shown))
            yield f"      ROOT::RVec<{kind}> all{i};"
        made = ", ".join(f"all{i}" for i in range(len(self.plan.shown)))
        results = made if len(self.plan.shown) == 1 else f"std::make_tuple({made})"
        if self.where:
            yield "      if (!where)"
            yield f"         return {results};"
        yield f"      const std::size_t objects = {self._c(vectors[0])}.size();"
        for column in vectors[1:]:
            yield from self._same_length(column, vectors[0])
        given = ["work", *(["entry"] if self.knows_entry else [])]
        ends = ["[object]" if column in vectors else "" for column in self.columns]
        given += [f"c{i}{end}" for i, end in enumerate(ends)]
        for i in range(len(self.plan.shown)):
            yield f"      all{i}.resize(objects);"
        yield "      sofie::for_each_object(objects, [&](std::size_t object) {"
        yield f"         const auto one = OfObject::run({', '.join(given)});"
        for i in range(len(self.plan.shown)):
            taken = "one" if len(self.plan.shown) == 1 else f"std::get<{i}>(one)"
            yield f"         all{i}[object] = {taken};"
        yield "      });"
        yield f"      return {results};"

    def _dtype(self, shown: Shown) -> DType:
        return self.plan.graph.types[shown.output].dtype
