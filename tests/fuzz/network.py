"""A random network while it grows: an ONNX graph that is valid by construction, and its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper, numpy_helper

__all__ = ["Case", "Choices", "Dim", "Net", "Value", "broadcast", "declared"]

T = TypeVar("T")

# No value has more elements in any call, so that all three oracles are quick.
MOST_ELEMENTS = 6000
# Numbers that are larger are made smaller before they are used again: nothing overflows.
TAME = 40.0


class Choices:
    """What a random network is made of: choices, each of which is one of hypothesis."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self._draw = draw

    def whole(self, least: int, most: int) -> int:
        """A number, ends included."""
        return int(self._draw(st.integers(least, most)))

    def one(self, of: Sequence[T]) -> T:
        return of[self.whole(0, len(of) - 1)]

    def chance(self, percent: int) -> bool:
        return self.whole(0, 99) >= 100 - percent

    def generator(self) -> np.random.Generator:
        """For weights and data, of whose single numbers nothing is chosen."""
        return np.random.default_rng(self.whole(0, 2**32 - 1))


@dataclass(frozen=True)
class Dim:
    """The size of an axis in each call. Sizes are known to be equal where their texts are."""

    text: str
    sizes: tuple[int, ...]
    # The sizes of which it is the product, where it is one.
    factors: tuple[Dim, ...] = ()

    @property
    def is_static(self) -> bool:
        return self.text.isdecimal()

    @property
    def least(self) -> int:
        return min(self.sizes)

    @property
    def static(self) -> int:
        assert self.is_static
        return self.sizes[0]

    def times(self, factor: int) -> Dim:
        return self if factor == 1 else self.map(f"({{}}*{factor})", lambda n: n * factor)

    def plus(self, number: int) -> Dim:
        return self if number == 0 else self.map(f"({{}}+{number})", lambda n: n + number)

    def map(self, text: str, function: Callable[[int], int]) -> Dim:
        """The size that is computed from this one; ``text`` has a place for the text of this."""
        sizes = tuple(function(s) for s in self.sizes)
        return Dim(str(sizes[0]) if self.is_static else text.format(self.text), sizes)


def combined(sign: str, function: Callable[[int, int], int], dims: Sequence[Dim]) -> Dim:
    """The sum or the product of sizes."""
    found = dims[0]
    for dim in dims[1:]:
        sizes = tuple(map(function, found.sizes, dim.sizes))
        static = found.is_static and dim.is_static
        found = Dim(str(sizes[0]) if static else f"({found.text}{sign}{dim.text})", sizes)
    return found


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the network; its numbers lie between ``low`` and ``high``."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    low: float
    high: float

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_real(self) -> bool:
        return self.dtype.startswith("float")

    @property
    def bound(self) -> float:
        return max(abs(self.low), abs(self.high))


def broadcast(*shapes: Sequence[Dim]) -> tuple[Dim, ...] | None:
    """NumPy's broadcasting of sizes that are known to fit; None where they are not."""
    rank = max(map(len, shapes))
    columns = []
    for axis in range(rank):
        found = None
        for shape in shapes:
            position = axis - rank + len(shape)
            if position < 0 or shape[position].text == "1":
                continue
            if found is not None and found.text != shape[position].text:
                return None
            found = shape[position]
        columns.append(found)
    ones = next(s[0].sizes for s in (*shapes, (Dim("1", (1,) * 8),)) if s)
    return tuple(c or Dim("1", (1,) * len(ones)) for c in columns)


def element_type(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def declared(value: Value) -> onnx.ValueInfoProto:
    """What a model says of its output, or of a body's."""
    sizes = [d.static if d.is_static else None for d in value.shape]
    return helper.make_tensor_value_info(value.name, element_type(value.dtype), sizes)


@dataclass(frozen=True, eq=False)
class Case:
    """A model and the inputs of each call, in the order in which they are made."""

    label: str
    model: bytes
    calls: tuple[dict[str, Any], ...]

    @property
    def proto(self) -> onnx.ModelProto:
        return onnx.load_from_string(self.model)


# Names as exporters write them, and such as are words of C++ or of ours.
_ODD_NAMES = ("/0/Conv:0", "double", "x", "n", "w", "a b", "infer", "N", "slot0_", "y.1", "grown0_")
_BATCHES = ("N", "batch", "batch_size", "n", "T")
_LENGTHS = ("L", "seq len", "time", "size", "w")


@dataclass(eq=False)
class Net:
    """The graph, the values that can be used, and what the calls feed."""

    choose: Choices
    opset: int
    real: str
    batch: Dim
    length: Dim
    values: list[Value] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    feeds: list[dict[str, Any]] = field(default_factory=list)
    heights: list[Dim] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    depth: int = 0
    decisions: int = 0
    # What inputs say: sizes that only the run knows are never broadcast, though numbers that are
    # inputs may make them 1. So a network has one or the other.
    told_what: str = ""

    @classmethod
    def start(cls, choose: Choices, calls: int) -> Net:
        """An empty network, with the sizes that its dynamic axes have in each call."""

        def sizes(usual: Sequence[int]) -> tuple[int, ...]:
            found: list[int] = []
            while len(found) < calls:
                size = choose.one(usual)
                found.append(size if size not in found else max(found) + 1)
            return tuple(found)

        def dim(names: Sequence[str], usual: Sequence[int]) -> Dim:
            if choose.chance(15):
                size = choose.one(usual)
                return Dim(str(size), (size,) * calls)
            return Dim(choose.one(names), sizes(usual))

        batch = dim(_BATCHES, (1, 2, 3, 4, 5, 8, 17, 67) + ((0,) if choose.chance(40) else ()))
        usual = choose.one(((1, 2, 3, 7), (4, 5, 6, 9, 16), (8, 9, 11, 15, 24)))
        return cls(
            choose,
            opset=choose.one((9, 11, 13, 14, 15, 17, 17, 18, 18, 20, 21, 22, 23, 24)),
            real=choose.one(("float32",) * 10 + ("float64", "float16")),
            batch=batch,
            length=dim([n for n in _LENGTHS if n != batch.text], usual),
            feeds=[{} for _ in range(calls)],
        )

    @property
    def calls(self) -> int:
        return len(self.feeds)

    def dim(self, size: int) -> Dim:
        return Dim(str(size), (size,) * self.calls)

    def dims(self, sizes: Sequence[int]) -> tuple[Dim, ...]:
        return tuple(map(self.dim, sizes))

    def height(self) -> Dim:
        """An open size beside that of the batch and the length."""
        if not self.heights:
            sizes = tuple(self.choose.one((4, 6, 7, 8, 13, 16)) for _ in self.feeds)
            self.heights.append(Dim("height", sizes))
        return self.heights[0]

    def product(self, dims: Sequence[Dim]) -> Dim:
        if not dims:
            return self.dim(1)
        whole = combined("*", int.__mul__, dims)
        return Dim(whole.text, whole.sizes, tuple(dims))

    def sum(self, dims: Sequence[Dim]) -> Dim:
        return combined("+", int.__add__, dims)

    def fits(self, shape: Sequence[Dim]) -> bool:
        """Whether a value of this shape is small in every call."""
        return all(
            int(np.prod([d.sizes[c] for d in shape])) <= MOST_ELEMENTS for c in range(self.calls)
        )

    # Values --------------------------------------------------------------------------------------

    def fresh(self) -> str:
        name = f"v{len(self.names)}"
        if self.choose.chance(4):
            name = self.choose.one(_ODD_NAMES)
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def input(self, dtype: str, shape: Sequence[Dim], low: float, high: float) -> Value:
        """An input of the model, and its numbers in every call."""
        value = Value(self.fresh(), dtype, tuple(shape), low, high)
        rng = self.choose.generator()
        ties = self.choose.chance(15)
        for call, feeds in enumerate(self.feeds):
            sizes = tuple(d.sizes[call] for d in shape)
            array = random_array(rng, dtype, sizes, low, high)
            feeds[value.name] = np.asarray(np.rint(array) if ties and value.is_real else array)
        # Without a name the first axis is the batch, which it must be in all inputs then.
        unnamed = shape and shape[0] == self.batch and self.choose.chance(15)
        texts: list[Any] = [d.static if d.is_static else d.text for d in shape]
        if unnamed and self.batch.text == "N":
            texts[0] = None
        self.inputs.append(helper.make_tensor_value_info(value.name, element_type(dtype), texts))
        self.values.append(value)
        return value

    def constant(self, array: Any, *, used_again: bool = False) -> Value:
        """A constant: a weight, or a node of its own."""
        array = np.asarray(array)
        numbers = array.astype(np.float64) if array.size else np.zeros(1)
        low, high = float(numbers.min()), float(numbers.max())
        value = Value(self.fresh(), array.dtype.name, self.dims(array.shape), low, high)
        if self.choose.chance(25):
            given = self._as_attribute(array)
            self.nodes.append(helper.make_node("Constant", [], [value.name], **given))
        else:
            self.initializers.append(numpy_helper.from_array(array, value.name))
        if used_again:
            self.values.append(value)
        return value

    def _as_attribute(self, array: Any) -> dict[str, Any]:
        """What a Constant of these elements has: a tensor, or numbers as they are."""
        kind = {"float32": "value_float", "int64": "value_int"}.get(array.dtype.name)
        is_tensor = array.ndim > 1 or not array.size or self.opset < 12
        if kind is None or is_tensor or self.choose.chance(50):
            return {"value": numpy_helper.from_array(array)}
        return {f"{kind}s": array.tolist()} if array.ndim else {kind: array.item()}

    def integers(self, numbers: Sequence[int]) -> Value:
        """Whole numbers, of which operators seldom are told only when the model runs."""
        array = np.array(numbers, np.int64)
        if not self.depth and self.told_what != "sizes" and self.choose.chance(2):
            self.told_what = "numbers"
            return self.fed(array)
        return self.constant(array)

    def fed(self, array: Any) -> Value:
        """An input that is the same in every call."""
        return self.told([array] * self.calls)

    def told(self, arrays: Sequence[Any]) -> Value:
        """An input that is these arrays, which have one shape, call by call."""
        every = np.stack(arrays)
        low, high = (float(every.min()), float(every.max())) if every.size else (0.0, 0.0)
        value = Value(self.fresh(), arrays[0].dtype.name, self.dims(arrays[0].shape), low, high)
        self.inputs.append(declared(value))
        for feeds, array in zip(self.feeds, arrays, strict=True):
            feeds[value.name] = array
        return value

    def scalar(self, number: float, dtype: str) -> Value:
        return self.constant(np.array(number, dtype))

    def weights(self, shape: Sequence[int], scale: float = 1.0, dtype: str = "") -> Value:
        """Normal numbers, among them zeros."""
        rng = self.choose.generator()
        numbers = rng.normal(scale=scale, size=tuple(shape)).clip(-3 * scale, 3 * scale)
        numbers = np.where(rng.random(tuple(shape)) < 0.05, 0, numbers)
        return self.constant(numbers.astype(dtype or self.real))

    def add(
        self,
        op: str,
        inputs: Sequence[Value | None],
        shape: Sequence[Dim],
        span: tuple[float, float],
        *,
        dtype: str = "",
        **attributes: Any,
    ) -> Value:
        """A node with one output, of the element type of its first input where none is given."""
        first = inputs[0]
        kind = dtype or (first.dtype if first else self.real)
        return self.several(op, inputs, [(kind, tuple(shape), span)], **attributes)[0]

    def several(
        self,
        op: str,
        inputs: Sequence[Value | None],
        results: Sequence[tuple[str, tuple[Dim, ...], tuple[float, float]]],
        **attributes: Any,
    ) -> list[Value]:
        """A node with these outputs."""
        values = [Value(self.fresh(), dtype, shape, *span) for dtype, shape, span in results]
        names = [i.name if i else "" for i in inputs]
        given = {k: v for k, v in attributes.items() if v is not None}
        outputs = [v.name for v in values]
        self.nodes.append(helper.make_node(op, names, outputs, **given))
        self.values += values
        return values

    def decided(self) -> Dim:
        """A size that only the data decide: what uses it must do so with these sizes."""
        self.decisions += 1
        return Dim(f"decided{self.decisions}", (0, 1, *range(5, 3 + self.calls)))

    # Choosing values -----------------------------------------------------------------------------

    def pick(self, wanted: Callable[[Value], bool] = lambda _: True) -> Value | None:
        """A value of that kind, more often one of the last."""
        found = [v for v in self.values if wanted(v)]
        if not found:
            return None
        return self.choose.one(found[-2:] if self.choose.chance(60) else found)

    def pick_real(
        self, wanted: Callable[[Value], bool] = lambda _: True, limit: float = TAME
    ) -> Value | None:
        """A value of the network's floating-point type whose numbers are not large."""
        found = self.pick(lambda v: v.dtype == self.real and wanted(v))
        return found and self.tame(found, limit)

    def tame(self, value: Value, limit: float = TAME) -> Value:
        """The value, or a smaller one of its shape."""
        if value.bound <= limit or not value.is_real:
            return value
        how = self.choose.one(("Tanh", "Sigmoid", "Softsign", "Div", "Mul", "Clip"))
        if how in ("Tanh", "Sigmoid", "Softsign") and limit >= 1:
            low = 0.0 if how == "Sigmoid" else -1.0
            return self.add(how, [value], value.shape, (low, 1.0))
        if how == "Clip":
            return self.within(value, -limit, limit)
        factor = value.bound / limit
        divisor = self.scalar(factor if how == "Div" else 1 / factor, value.dtype)
        span = value.low / factor, value.high / factor
        return self.add("Div" if how == "Div" else "Mul", [value, divisor], value.shape, span)

    def within(self, value: Value, low: float, high: float) -> Value:
        """The value, or its numbers clipped to these limits."""
        if low <= value.low and value.high <= high:
            return value
        span = max(low, min(value.low, high)), min(high, max(value.high, low))
        if self.opset < 11:
            return self.add("Clip", [value], value.shape, span, min=float(low), max=float(high))
        limits = [self.scalar(low, value.dtype), self.scalar(high, value.dtype)]
        return self.add("Clip", [value, *limits], value.shape, span)

    def cast(self, value: Value, dtype: str) -> Value:
        if value.dtype == dtype:
            return value
        span = (0.0, 1.0) if dtype == "bool" else (value.low, value.high)
        return self.add("Cast", [value], value.shape, span, dtype=dtype, to=element_type(dtype))

    # Shape arithmetic ----------------------------------------------------------------------------

    def along(
        self, op: str, value: Value, axes: Sequence[int], since: int, **attributes: Any
    ) -> dict[str, Any]:
        """``inputs`` and attributes of a node whose axes are an input from that opset on."""
        if self.opset < since:
            return {"op": op, "inputs": [value], "axes": list(axes), **attributes}
        return {"op": op, "inputs": [value, self.integers(axes)], **attributes}

    def sizes_of(self, shape: Sequence[Dim]) -> Value | None:
        """A vector with these sizes, computed from other values; None where none has them."""
        parts = [self._size(d) for d in shape]
        if not parts or any(p is None for p in parts):
            return None
        span = 0.0, float(MOST_ELEMENTS)
        vector = self.add("Concat", parts, [self.dim(len(parts))], span, axis=0)
        self.values.remove(vector)
        return vector

    def _size(self, dim: Dim) -> Value | None:
        """A vector of one number, the size."""
        if dim.is_static:
            return self.integers([dim.static])
        holders = [v for v in self.values if any(d.text == dim.text for d in v.shape)]
        span = float(dim.least), float(max(dim.sizes))
        if not holders:
            parts = [self._size(d) for d in dim.factors]
            if len(parts) != 2 or any(p is None for p in parts):
                return None
            found = self.add("Mul", parts, self.dims([1]), span)
        else:
            holder = self.choose.one(holders[-3:])
            axis = [d.text for d in holder.shape].index(dim.text)
            found = self._size_of_axis(holder, axis, span)
        self.values.remove(found)
        return found

    def _size_of_axis(self, holder: Value, axis: int, span: tuple[float, float]) -> Value:
        one = self.dims([1])
        if self.opset >= 15 and self.choose.chance(30):
            ends = {"start": axis, "end": axis + 1 if axis + 1 < holder.rank else None}
            return self.add("Shape", [holder], one, span, dtype="int64", **ends)
        whole = self.add("Shape", [holder], self.dims([holder.rank]), span, dtype="int64")
        self.values.remove(whole)
        if self.opset >= 10 and self.choose.chance(30):
            begin, end = (self.constant(np.array([n])) for n in (axis, axis + 1))
            return self.add("Slice", [whole, begin, end], one, span)
        return self.add("Gather", [whole, self.integers([axis])], one, span)

    # Graphs in attributes ------------------------------------------------------------------------

    @contextmanager
    def body(self) -> Iterator[list[onnx.NodeProto]]:
        """Nodes that are added now are those of a graph in an attribute, which sees all values."""
        nodes, values = self.nodes, list(self.values)
        self.nodes, self.depth = [], self.depth + 1
        try:
            yield self.nodes
        finally:
            self.nodes, self.values, self.depth = nodes, values, self.depth - 1

    # The model -----------------------------------------------------------------------------------

    def finish(self, label: str) -> Case:
        """The model, with the values as outputs that nothing uses, and with some others."""
        read = {i for n in every_node(self.nodes) for i in n.input}
        made = {o for n in self.nodes for o in n.output}
        sinks = [v for v in self.values if v.name in made and v.name not in read]
        others = [v for v in self.values if v.name in made and v.name in read]
        chosen = sinks[-4:]
        chosen += [v for v in others if self.choose.chance(12)][:3]
        if not chosen or self.choose.chance(3):
            # What nothing computes may be an output, too: an input or a constant.
            chosen.append(self.choose.one(self.values))
        outputs = {v.name: v for v in chosen}
        functions = []
        if self.choose.chance(10):
            functions = self._with_function(set(outputs))
        graph = helper.make_graph(
            self.nodes,
            label,
            self.inputs,
            list(map(declared, outputs.values())),
            self.initializers,
        )
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid("fuzz", 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=10, functions=functions)
        onnx.checker.check_model(model)
        # The first call once more at the end: a Session has no memory.
        calls = (*self.feeds, self.feeds[0])
        return Case(label, model.SerializeToString(), calls)

    def _with_function(self, outputs: set[str]) -> list[onnx.FunctionProto]:
        """Some neighbouring nodes become one that calls a function of the model."""
        last = len(self.nodes)
        begin = self.choose.whole(0, max(0, last - 2))
        end = min(last, begin + self.choose.whole(1, 5))
        part, rest = self.nodes[begin:end], [*self.nodes[:begin], *self.nodes[end:]]
        if any(a.HasField("g") for n in part for a in n.attribute):
            return []  # Functions do not see the values around them.
        made = [o for n in part for o in n.output if o]
        needed = outputs | {i for n in every_node(rest) for i in n.input}
        given = dict.fromkeys(i for n in part for i in n.input if i and i not in made)
        results = [o for o in made if o in needed]
        if not results or not given:
            return []
        imports = [helper.make_opsetid("", self.opset)]
        function = helper.make_function("fuzz", "Part", list(given), results, part, imports)
        call = helper.make_node("Part", list(given), results, domain="fuzz")
        self.nodes[begin:end] = [call]
        return [function]


def every_node(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of graphs in their attributes."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                # What a body gives counts as read.
                yield onnx.NodeProto(input=[o.name for o in attribute.g.output])
                yield from every_node(attribute.g.node)


def random_array(
    rng: np.random.Generator, dtype: str, sizes: tuple[int, ...], low: float, high: float
) -> Any:
    """Numbers of this type between the limits; among those of floating point are zeros."""
    if dtype == "bool":
        return np.asarray(rng.random(sizes) < 0.5)
    if not dtype.startswith("float"):
        return np.asarray(rng.integers(int(low), int(high) + 1, size=sizes)).astype(dtype)
    numbers = rng.normal(scale=max(abs(low), abs(high)) / 3, size=sizes).clip(low, high)
    return np.where(rng.random(sizes) < 0.03, 0 if low <= 0 else low, numbers).astype(dtype)
