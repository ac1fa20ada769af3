"""The C++ of a column that was computed before the event loop, many events at once.

A first loop over the events keeps their inputs until there are enough rows for a call of the
network, and its results under a key, which is a hash of the inputs. The column is what is found
under the key of the event. Where there is nothing, as under variations of the inputs, the network
runs for the event alone, which gives the same bits. Where it draws random numbers, the number of
the event is one of the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from sofie_rdf.errors import InputError
from sofie_rdf.ir.dims import Dim, evaluate
from sofie_rdf.ir.rows import COLUMNS
from sofie_rdf.runtime.rdataframe.columns import Plan
from sofie_rdf.runtime.rdataframe.functors import FunctorText

__all__ = ["RecordedText", "check_batch"]


def check_batch(batch: int, plan: Plan, rows: str) -> None:
    """`InputError` where several events cannot be one call; ``rows`` as in `Compiled`."""
    graph = plan.graph
    if plan.outer:
        raise InputError(
            f"batch={batch}: each object of an event has a set of its own, and is a call of model "
            f"{graph.name!r}"
        )
    if not plan.batch:
        raise InputError(
            f"batch={batch}: model {graph.name!r} takes one row at a time, by its inputs' shapes",
            remedy='Read it with an open first axis: load(..., shapes={"x": ("N", 7)})',
        )
    if rows != plan.batch:
        raise InputError(
            f"batch={batch}: whether one row of model {graph.name!r} changes what it gives for "
            "another one cannot be told from its operators"
        )
    for filled in plan.inputs:
        if filled.axis >= 0 and not isinstance(filled.type.shape[filled.axis], int):
            raise InputError(
                f"batch={batch}: sets of input {filled.name!r} have a length of their own in each "
                "event, and only equal ones could be one call",
                remedy="Take objects (per='object'), or a model whose sets have a fixed length",
            )


class RecordedText(FunctorText):
    """The text for a plan: what a slot records (Taken), and Work and Score, which look it up."""

    header: ClassVar[str] = "recorded.hxx"

    def text(self) -> str:
        told = "const std::vector<double> &numbers, const std::vector<std::string> &names"
        given = "[[maybe_unused]] std::uintptr_t table, [[maybe_unused]] std::uintptr_t weights"
        return "\n".join(
            [
                *self._taken(),
                *self.run_of("Take", "Taken", "0", self._take()),
                f"using Recorder = {self.functor('Taken', 'Take')};",
                *self._work(),
                *self.run_of("Score", "Work", self.results(self.default), self._look_up()),
                f"using Functor = {self.functor('Work', 'Score')};",
                *self.getters(),
                f"SOFIE_ENTRY Recorder record({given}, unsigned count,",
                f"                            {told}, std::size_t batch)",
                "{",
                f"   return Recorder(Taken({self.session}, {self.told}, batch), count);",
                "}",
                f"SOFIE_ENTRY Functor make({given}, unsigned count,",
                f"                         {told}, Recorder &recorder)",
                "{",
                "   const auto found = sofie::recorded_in(recorder.slots());",
                f"   Work work({self.session}, {self.told}, recorder.slots(), found);",
                "   return Functor(work, count);",
                "}",
                "",
            ]
        )

    def _of_a_row(self, size: Dim) -> int:
        """How many elements of an input or output belong to a row."""
        return evaluate(size, {self.plan.batch: 1})

    @property
    def _rows(self) -> str:
        """How many rows an event has."""
        return self.sizes[self.plan.batch]

    def _ins(self) -> Iterator[tuple[str, str, int]]:
        for i, filled in enumerate(self.plan.inputs):
            yield f"in{i}", filled.type.dtype.cxx, self._of_a_row(filled.type.size)
        if self.drawn is not None:
            yield "rows", "std::uint64_t", COLUMNS

    def _outs(self) -> Iterator[tuple[str, str, int]]:
        for i, name in enumerate(self.plan.graph.outputs):
            type_ = self.plan.graph.types[name]
            yield f"out{i}", type_.dtype.cxx, self._of_a_row(type_.size)

    def _taken(self) -> Iterator[str]:
        """The rows of a slot that wait for a call, and the results of those before."""
        yield "struct Taken {"
        yield from self.members()
        yield "   std::size_t batch, waiting = 0, done = 0;"
        yield "   std::vector<sofie::RecordedAt> events;"
        for name, kind, _ in (*self._ins(), *self._outs()):
            stored = "std::uint8_t" if kind == "bool" else kind
            yield f"   std::vector<{stored}> {name}_rows;"
        yield "   Taken(const Session &one, const sofie::Told &all, std::size_t rows)"
        yield "      : session(one), told(all), batch(rows) {}"
        yield "   void flush()"
        yield "   {"
        yield "      if (!waiting)"
        yield "         return;"
        arguments = ["waiting"]
        for name, kind, _ in self._ins():
            arguments.append(f"reinterpret_cast<const {kind} *>({name}_rows.data())")
        for name, kind, count in self._outs():
            yield f"      {name}_rows.resize((done + waiting) * {count});"
            arguments.append(f"reinterpret_cast<{kind} *>({name}_rows.data() + done * {count})")
        yield "      try {"
        yield f"         session.{self.computing}({', '.join(arguments)});"
        yield "         done += waiting;"
        yield "      } catch (const std::exception &) {"
        yield "         // The column comes to these events one by one, and names the one."
        yield "         sofie::forget_events(events, done);"
        yield "      }"
        for name, _, _ in self._ins():
            yield f"      {name}_rows.clear();"
        yield "      waiting = 0;"
        yield "   }"
        yield "};"

    def _key(self) -> Iterator[str]:
        yield "      sofie::Key key;"
        for name, _, count in self._ins():
            yield f"      key.add({name}_, {self._rows} * {count});"

    def _take(self) -> Iterator[str]:
        yield from self._key()
        yield "      work.events.push_back({key, work.done + work.waiting});"
        for name, _, count in self._ins():
            yield f"      sofie::add_row(work.{name}_rows, {name}_, {self._rows} * {count});"
        yield f"      work.waiting += {self._rows};"
        yield "      if (work.waiting >= work.batch)"
        yield "         work.flush();"
        yield "      return 0;"

    def _work(self) -> Iterator[str]:
        yield "struct Work {"
        yield from self.members()
        yield "   sofie::Slots<Taken> taken;"
        yield "   std::shared_ptr<const sofie::Recorded> recorded;"
        yield "   Work(const Session &one, const sofie::Told &all, const sofie::Slots<Taken> &from,"
        yield "        const std::shared_ptr<const sofie::Recorded> &table)"
        yield "      : session(one), told(all), taken(from), recorded(table) {}"
        yield "};"

    def _look_up(self) -> Iterator[str]:
        yield from self.out_arrays()
        yield from self._key()
        yield "      const sofie::RecordedAt &found = work.recorded->find(key);"
        yield "      if (found.there) {"
        yield "         const Taken &taken = work.taken.at(found.slot);"
        for name, _, count in self._outs():
            at = f"taken.{name}_rows.data() + found.row * {count}"
            yield f"         sofie::take_row({name}_, {at}, {self._rows} * {count});"
        yield "      } else"
        yield f"         {self.inference()};"
        yield f"      return {self.results(self.result)};"
