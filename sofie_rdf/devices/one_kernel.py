"""Small networks as one kernel: the values of some events stay in the local memory of a work-group.

A kernel for each node reads its inputs from the memory of the device and writes its results there.
Here both stay on the chip, and one launch is waited for instead of many. The rows of the batch must
keep apart, each kernel must have a form for one work-item, and the values must fit.
"""

from __future__ import annotations

from collections.abc import Iterator

from sofie_rdf.devices.program import Program
from sofie_rdf.devices.spelling import Spelling
from sofie_rdf.emit.literals import comment
from sofie_rdf.emit.ports import Port
from sofie_rdf.ir.dims import Dim, evaluate, product
from sofie_rdf.ir.operator import Launch, Operand
from sofie_rdf.passes.rows import rows_of

__all__ = ["ITEMS", "events_of_a_group", "kernel_class", "launch", "share_of"]

# What CUDA gives a work-group without being asked for more, less what adapters may need.
LOCAL_BYTES = 47 * 1024
# How many events share what is read of the weights: the most that fit.
_EVENTS = (64, 32, 16, 8, 4, 2, 1)
# The work-items of a work-group, items_of_a_group in cling/sofie/device/base.hxx.
ITEMS = 256
# So many work-groups keep all of a large device busy.
_BUSY = 512


def events_of_a_group(program: Program) -> int:
    """How many events a work-group takes at most; 0 where each node has kernels of its own."""
    batch = rows_of(program.graph)
    if len(program.launches) < 2 or program.graph.symbols != (batch,):
        return 0
    if any(one.by != "items" and one.alone is None for one in program.launches):
        return 0
    needed = [evaluate(program.plan.nbytes, {batch: n}) for n in range(1, _EVENTS[0] + 1)]
    return next((n for n in _EVENTS if max(needed[:n]) <= LOCAL_BYTES), 0)


def share_of(events: int, most: int) -> int:
    """How many events a work-group takes of so many, as the Session decides it."""
    return min(max(1, -(-events // _BUSY)), most)


class _InKernel(Spelling):
    """Sizes by functions that devices have, which do not throw."""

    def size(self, dim: Dim) -> str:
        return super().size(dim).replace("sofie::", "sofie::device::")


def kernel_class(program: Program, most: int) -> Iterator[str]:
    """The class of the kernel, for at most so many events in a work-group."""
    spelling = _InKernel(program)
    (batch, events), *_ = spelling.sizes.items()
    nbytes = max(evaluate(program.plan.nbytes, {batch: n}) for n in range(1, most + 1))
    parameters = [
        f"{'' if p.output else 'const '}{p.type.dtype.on_device} *{p.name}"
        for p in _ordered(spelling)
    ]
    yield "/// The whole network for some events, whose values stay in local memory."
    yield "struct Network {"
    yield "   static constexpr int items = sofie::device::items_of_a_group;"
    yield "   struct Local {"
    yield f"      alignas(64) unsigned char bytes[{max(nbytes, 1)}];"
    yield "   };"
    yield "   sofie::device::Index events_, share_;"
    yield ""
    yield "   template <class Group>"
    yield f"   SOFIE_DEVICE void operator()(Group &group, {', '.join(parameters)},"
    yield "                                [[maybe_unused]] const char *weights) const"
    yield "   {"
    yield "      const sofie::device::Index first_ = group.index() * share_;"
    text = "sofie::device::minimum(share_, events_ - first_)"
    yield f"      const sofie::device::Index {events} = {text};"
    for port in _ordered(spelling):
        step = spelling.size(product(port.type.shape[1:]))
        yield f"      {port.name} += first_ * {step};"
    yield "      [[maybe_unused]] unsigned char *const local_ = group.local().bytes;"
    for value, place in spelling.buffers():
        cxx = program.types[value].dtype.on_device
        begin = f"local_ + {spelling.size(place.offset)}"
        yield f"      {cxx} *const {spelling.names[value]} = reinterpret_cast<{cxx} *>({begin});"
    for step_ in program.steps:
        if step_.launches:
            yield f"      // {comment(step_.label)}"
        for one in step_.launches:
            yield _call(spelling, one)
    yield "   }"
    yield "};"


def _ordered(spelling: Spelling) -> list[Port]:
    """Outputs, then inputs: kernels write their first arrays."""
    return sorted(spelling.ports, key=lambda port: not port.output)


def _call(spelling: Spelling, one: Launch) -> str:
    name, count = (one.kernel, one.count) if one.alone is None else one.alone
    kernel = f"{name}{{{', '.join(map(spelling.parameter, one.parameters))}}}"
    arrays = [_array(spelling, t, written=i < one.outputs) for i, t in enumerate(one.tensors)]
    joined = ",\n         ".join([f"group, {spelling.size(count)}", kernel, *arrays])
    return f"      sofie::device::share({joined});"


def _array(spelling: Spelling, operand: Operand, *, written: bool) -> str:
    """A pointer that a kernel is given; those that are read are of constants."""
    at, cxx = spelling.array(operand, written=written), operand.type.dtype.on_device
    if isinstance(at, int):
        at = f"reinterpret_cast<const {cxx} *>(weights + {at})"
    return at if written else f"static_cast<const {cxx} *>({at})"


def launch(spelling: Spelling, most: int) -> str:
    """The statements that enqueue it."""
    (events,) = spelling.sizes.values()
    arrays = [p.name if p.output else f"sofie::device::read({p.name})" for p in _ordered(spelling)]
    arrays += ["sofie::device::read(adapter_.template at<char>(weights_.memory(), 0))"]
    share = f"sofie::device::events_of_a_group({events}, {most}, {_BUSY})"
    count = f"sofie::device::divided_up({events}, share_)"
    return (
        f"      const sofie::device::Index share_ = {share};\n"
        f"      sofie::device::groups(adapter_, queue, {count},\n"
        f"         Network{{{events}, share_}}, {', '.join(arrays)});"
    )
