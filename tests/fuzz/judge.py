"""Whether a model's results are right: against our reference, onnxruntime, and onnx's evaluator.

How exact a result must be is measured: the graph is evaluated in float64 a few times, each time
with small random errors in what every node reads and gives, as rounding makes them in float32.
Where these results lie apart the errors are large, and where they differ altogether (an index of
the largest of two that are nearly equal) nothing can be said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sofie_rdf.errors import InputError, ShapeError, SofieError
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.text import graph_text, parse_graph
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.model import Model
from sofie_rdf.reference import evaluate
from sofie_rdf.runtime.arrays.inputs import bind_inputs
from tests.fuzz.network import Case, every_node
from tests.ops.accuracy import identical

__all__ = ["Bound", "Verdict", "judged"]

RUNS = 6
# How many times farther than any run with random errors a result may be.
MARGIN = 8
# The same for other evaluators, which are not as exact everywhere.
FOREIGN_MARGIN = 32 * MARGIN

Feeds = Mapping[str, Array]


@dataclass
class Verdict:
    """What is wrong with a case; what else there is to say; how many numbers were compared."""

    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbers: int = 0
    settled: int = 0


# How exact ----------------------------------------------------------------------------------------


class Errors:
    """Random errors of the size of rounding in all that a graph computes."""

    def __init__(self, graph: Graph, seed: int | None, *, coarse: bool = False) -> None:
        self.graph, self.coarse = graph, coarse
        self.met_nothing = False
        self.rng = None if seed is None else np.random.default_rng(seed)

    def __call__(self, node: Node, value: str, array: Array) -> Array:
        dtype = self.graph.types[value].dtype
        self.met_nothing |= not array.size
        if not dtype.is_float:
            return array
        if dtype is DType.FLOAT32:
            # A Cast makes float32 of anything, in this evaluation as well.
            array = _as_float32_can_hold(array)
        size = _error_of(node, written=value in node.outputs)
        if self.rng is None or not size:
            return array
        # Attributes are float32 whatever the network is.
        spacing = _spacing_at_1(DType.FLOAT32 if self.coarse and not dtype.is_half else dtype)
        signs = self.rng.uniform(-1, 1, array.shape)
        # Less than half a spacing is none, where numbers are rounded to so few bits.
        noise = size * spacing * (np.copysign(1, signs) if dtype.is_half else signs)
        # Others compute what is near 0 as the difference of two numbers near 1.
        own = self.coarse and value in node.outputs and _has_differences(node)
        with np.errstate(all="ignore"):
            scale = np.maximum(np.abs(array), 1) if own else array
            return np.asarray(array + scale * noise).astype(array.dtype)


_DIFFERENCES = (
    *("Elu", "Celu", "Selu", "Sinh", "Asinh", "Atanh", "Mish", "Gelu", "LogSoftmax", "Sigmoid"),
    *("Tanh", "Swish", "Softplus"),
)


def _has_differences(node: Node) -> bool:
    """Whether others compute it as such a difference, or something in its bodies."""
    inside = (n for body in node.op.bodies.values() for n in body.nodes)
    return node.op.name in _DIFFERENCES or any(map(_has_differences, inside))


def _as_float32_can_hold(array: Array) -> Array:
    """float64 numbers, infinite where they are beyond float32's largest."""
    wide = array.astype(np.float64)
    beyond = np.abs(wide) > np.finfo(np.float32).max
    return np.where(beyond, np.copysign(np.inf, wide), wide)


def _error_of(node: Node, *, written: bool) -> float:
    """By how many spacings a node's results are uncertain, or what it reads is."""
    tolerance = node.op.tolerance
    if node.op.bodies:
        return 4.0
    if "Quantize" in node.op.name:
        return 1.0
    if node.op.name == "Cast":
        return 1.0 if written else 0.0
    if not tolerance.ulp and not tolerance.terms:
        return 0.0
    # Sums of rounded products are the exact sums of numbers that are a little different.
    return tolerance.ulp + 1 if written else max(1.0, tolerance.terms)


def _spacing_at_1(dtype: DType) -> float:
    import ml_dtypes

    info: Any = ml_dtypes.finfo(dtype.numpy)  # type: ignore[no-untyped-call]
    return float(info.eps)


@dataclass
class Bound:
    """The exact outputs of one call, and how far from them results may be."""

    exact: dict[str, Array]
    runs: list[dict[str, Array]]
    # Whether something that was computed or read has no elements.
    met_nothing: bool

    @classmethod
    def of(cls, graph: Graph, feeds: Feeds, *, coarse: bool = False) -> Bound:
        """With ``coarse`` the numbers of the model are taken to be float32 in a float64 one."""
        none = Errors(graph, None)
        exact = evaluate(graph, feeds, wide=True, disturb=none)
        runs = [
            evaluate(graph, feeds, wide=True, disturb=Errors(graph, seed, coarse=coarse))
            for seed in range(RUNS)
        ]
        # What overflows on the way in float32 does so here.
        return cls(exact, [*runs, evaluate(graph, feeds)], none.met_nothing)

    def wrong(self, name: str, found: Array, margin: float) -> tuple[Array, Array]:
        """Which elements are wrong, and of which nothing can be said."""
        exact = self.exact[name]
        if found.dtype.kind not in "fV" and found.dtype.name != "bfloat16":
            settled = np.all([r[name] == exact for r in self.runs], axis=0)
            return np.asarray(settled & (found != exact)), ~settled
        allowed = self.allowed(name, found.dtype, margin)
        return _apart(found, exact) > allowed, ~np.isfinite(allowed)

    def allowed(self, name: str, dtype: Any, margin: float) -> Array:
        """The largest difference that rounding explains; infinite where that may be any."""
        exact = self.exact[name].astype(np.float64)
        apart = [_apart(run[name], exact) for run in self.runs]
        information = _spacing_at_1(DType(dtype.name))
        with np.errstate(all="ignore"):
            own = 4 * information * np.where(np.isfinite(exact), np.abs(exact), 0)
        return np.asarray(margin * np.max(apart, axis=0) + own + 1e-37)


def _apart(left: Array, right: Array) -> Array:
    """|left - right|; 0 for equal infinities and for two NaN, infinite for one."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(all="ignore"):
        difference = np.abs(a - b)
    return np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))


# Comparing ----------------------------------------------------------------------------------------


def difference(bound: Bound, name: str, found: Array, margin: float) -> tuple[str, int]:
    """What is wrong with an output, if anything, and how many of its elements were compared."""
    exact = bound.exact[name]
    if any(run[name].shape != exact.shape for run in bound.runs):
        return "", 0
    if found.shape != exact.shape:
        return f"{name} has the shape {found.shape}, not {exact.shape}", 0
    wrong, unsettled = bound.wrong(name, found, margin)
    settled = int(np.size(unsettled) - np.count_nonzero(unsettled))
    if not np.any(wrong):
        return "", settled
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    text = f"{name}: {np.count_nonzero(wrong)} of {wrong.size} differ, first at {list(first)}: "
    return f"{text}{found[first]!r} for {exact[first]!r}", settled


class Foreign:
    """Another evaluator of the model, made when it is needed; its errors are no verdict."""

    def __init__(self, name: str, make: Callable[[], Callable[[Feeds], list[Any]]]) -> None:
        self.name, self._make = name, make
        self._run: Callable[[Feeds], list[Any]] | None = None
        self.error = ""

    def __call__(self, feeds: Feeds) -> list[Array] | None:
        """The outputs in their order; None where it cannot do it."""
        try:
            self._run = self._run or self._make()
            with np.errstate(all="ignore"):
                return [np.asarray(a) for a in self._run(feeds)]
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
            return None


def _onnxruntime(case: Case) -> Callable[[Feeds], list[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(case.model, options, providers=["CPUExecutionProvider"])
    recurrent = any(n.op_type in ("LSTM", "GRU", "RNN") for n in every_node(case.proto.graph.node))

    def run(feeds: Feeds) -> list[Any]:
        if recurrent and any(a.size == 0 for a in feeds.values()):
            raise NotImplementedError("a recurrent layer without a batch ends the process")
        return list(session.run(None, dict(feeds)))

    return run


# What onnx's evaluator does otherwise than the specification, below these opsets: it joins what a
# Loop stacks, normalises by the statistics of the batch, reads every sequence forward and to its
# end, pads both sides of a window as the first, and leaves out the last channel of one.
_EVALUATOR_IS_WRONG = {"Loop": 99, "BatchNormalization": 14, "MaxPool": 99, "LRN": 99}
_EVALUATOR_IS_WRONG |= dict.fromkeys(("LSTM", "GRU", "RNN"), 99)


def _onnx_evaluator(case: Case) -> Callable[[Feeds], list[Any]]:
    from onnx.reference import ReferenceEvaluator

    opset = case.proto.opset_import[0].version
    for node in every_node(case.proto.graph.node):
        if opset < _EVALUATOR_IS_WRONG.get(node.op_type, 0):
            raise NotImplementedError(f"its {node.op_type} is not ONNX's")
    evaluator = ReferenceEvaluator(case.proto)
    return lambda feeds: list(evaluator.run(None, dict(feeds)))


# One event ----------------------------------------------------------------------------------------


def _batched(graph: Graph) -> set[str]:
    """The inputs and outputs whose first axis is the batch; none where there is no batch."""
    name = graph.leading_symbol
    first = (symbol(name),) if name else ()
    values = (*graph.inputs, *graph.outputs) if name else ()
    return {v for v in values if graph.types[v].shape[:1] == first}


def _batch(feeds: Feeds, batched: set[str]) -> int:
    return min((len(a) for i, a in feeds.items() if i in batched), default=0)


def _near(left: Array, right: Array) -> bool:
    """Whether float64 results are equal but for the order of summation, zeros in their sign too."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    near = a.shape == b.shape and np.allclose(a, b, rtol=1e-12, atol=0, equal_nan=True)
    return bool(near) and not np.any((a == 0) & (np.signbit(a) != np.signbit(b)))


# The verdict --------------------------------------------------------------------------------------


class _Judge:
    def __init__(self, case: Case, stage: Callable[[str], object], cling: bool) -> None:
        self.case, self.stage, self.cling, self.verdict = case, stage, cling, Verdict()
        self.outputs = [o.name for o in case.proto.graph.output]
        self.ort = Foreign("onnxruntime", lambda: _onnxruntime(case))
        self.onnx = Foreign("onnx's evaluator", lambda: _onnx_evaluator(case))

    @property
    def refusals(self) -> tuple[type[Exception], ...]:
        """How a model says that sizes do not fit."""
        return (InputError,) if self.cling else (ShapeError, ValueError)

    def fail(self, text: str) -> None:
        self.verdict.failures.append(text)

    def note(self, text: str) -> None:
        self.verdict.notes.append(text)

    def run(self) -> Verdict:
        self.stage("reading")
        try:
            model = Model(read(self.case.model, name="fuzz"))
        except SofieError as error:
            return self.refused(error)
        self.stage("compiling")
        try:
            self.same_as_text(model)
            _ = model.compiled if self.cling else model.emission
        except Exception as error:
            self.fail(f"compiling: {type(error).__name__}: {error}")
            return self.verdict
        found = self.found(model)
        for number, feeds in enumerate(self.case.calls[:-1]):
            if found[number] is not None:
                self.compared(model.graph, number, feeds, found[number])
        if self.cling and not self.verdict.failures:
            self.stage("one event")
            self.alone(model, found)
        return self.verdict

    def alone(self, model: Model, found: list[dict[str, Array] | None]) -> None:
        """The last event of the largest batch gives the same bits alone, if it may."""
        batched = _batched(model.graph)
        call = max(range(len(found)), key=lambda c: _batch(self.case.calls[c], batched))
        feeds, together = self.case.calls[call], found[call]
        if together is None or _batch(feeds, batched) < 2:
            return
        one = {i: a[-1:] if i in batched else a for i, a in feeds.items()}
        try:
            rows, exact = (evaluate(model.graph, f, wide=True) for f in (feeds, one))
        except Exception:
            return  # One event is not enough, e.g. for indices.
        try:
            result = self.call(model, one)
        except self.refusals:
            return  # Inputs say how many events there are.
        for name in batched.intersection(self.outputs):
            matter = not _near(rows[name][-1:], exact[name])
            if not matter and not identical(together[name][-1:], result[name]):
                self.fail(f"{name} has other bits for one event alone than in its batch")

    def refused(self, error: SofieError) -> Verdict:
        """A model that is not read is a failure if others read it."""
        self.stage("asking others")
        results = [self.ort(feeds) for feeds in self.case.calls[:-1]]
        text = f"refused: {type(error).__name__}: {error}"
        if all(r is None for r in results):
            self.note(text)
        else:
            self.fail(text)
        return self.verdict

    def same_as_text(self, model: Model) -> None:
        """The text of a graph is the graph."""
        graph = model.optimized
        if parse_graph(graph_text(graph), graph.constants) != graph:
            self.fail("the text of the graph is another graph")

    def found(self, model: Model) -> list[dict[str, Array] | None]:
        """The outputs of each call; the last, which is the first once more, must be as it was."""
        found: list[dict[str, Array] | None] = []
        for number, feeds in enumerate(self.case.calls):
            self.stage(f"call {number}")
            try:
                found.append(self.call(model, feeds))
            except self.refusals as error:
                found.append(None)
                self.stage("asking others")
                if self.ort(feeds) is None and self.onnx(feeds) is None:
                    self.note(f"call {number}: nobody runs this: {error}")
                else:
                    self.fail(f"call {number}: {error}")
        first, last = found[0], found[-1]
        if first is not None and last is not None:
            for name in self.outputs:
                if first[name].tobytes() != last[name].tobytes():
                    self.fail(f"{name} is not the same when the first call is made again")
        return found

    def call(self, model: Model, feeds: Feeds) -> dict[str, Array]:
        if not self.cling:
            inputs, _ = bind_inputs(model.graph, (), feeds)
            return evaluate(model.optimized, inputs)
        result = model(dict(feeds))
        return result if isinstance(result, dict) else {self.outputs[0]: result}

    def compared(
        self, graph: Graph, number: int, feeds: Feeds, found: Mapping[str, Array] | None
    ) -> None:
        assert found is not None
        self.stage("reference")
        try:
            bound = Bound.of(graph, feeds)
        except Exception as error:
            self.fail(f"call {number}: the reference: {type(error).__name__}: {error}")
            return
        for name in self.outputs:
            text, settled = difference(bound, name, found[name], MARGIN)
            self.verdict.numbers += found[name].size
            self.verdict.settled += settled
            if text:
                self.fail(f"call {number}: {text} (the reference)")
        self.stage("onnxruntime")
        self.others(bound, graph, number, feeds)

    def others(self, bound: Bound, graph: Graph, number: int, feeds: Feeds) -> None:
        """Whether the reference is what others compute: onnxruntime; else onnx's evaluator."""
        results = self.ort(feeds)
        if self.disagreement(bound, results) == {}:
            return
        bound = Bound.of(graph, feeds, coarse=True)
        first = self.disagreement(bound, results)
        if first == {}:
            return
        self.stage("onnx")
        second = self.disagreement(bound, self.onnx(feeds))
        if first is None and second is None:
            self.note(f"no oracle: {self.ort.error[:200]} | {self.onnx.error[:200]}")
        elif second is None and bound.met_nothing:
            # onnxruntime keeps axes that it should reduce where there is nothing along them, and
            # a product of nothing is what was in its memory.
            self.note(f"onnxruntime alone, of nothing: {first}")
        else:
            self.outvoted(number, first, second)

    def outvoted(
        self, number: int, first: dict[str, str] | None, second: dict[str, str] | None
    ) -> None:
        """A failure for each output in which all disagree that could compute it."""
        present = [d for d in (first, second) if d is not None]
        # Each evaluator has errors of its own.
        names = set.intersection(*(set(d) for d in present))
        for name in names:
            texts = " | ".join(d[name] for d in present)
            errors = f"{self.ort.error[:200]} {self.onnx.error[:200]}"
            self.fail(f"call {number}: others: {texts} {errors}".rstrip())
        if not names and first:
            self.note(f"onnxruntime alone: {first}")

    def disagreement(self, bound: Bound, results: list[Array] | None) -> dict[str, str] | None:
        """The outputs in which the reference and these results differ by more than rounding."""
        if results is None:
            return None
        found = {}
        for name, array in zip(self.outputs, results, strict=True):
            exact = bound.exact[name]
            if array.dtype.kind != exact.dtype.kind:
                found[name] = f"{name} is {array.dtype}, not {exact.dtype}"
            elif array.size or exact.size or array.ndim != exact.ndim:
                text, _ = difference(bound, name, array, FOREIGN_MARGIN)
                found |= {name: text} if text else {}
            # Else it is what a Loop has stacked in no round, whose sizes mean nothing.
        return found


def judged(
    case: Case, stage: Callable[[str], object] = lambda _: None, *, cling: bool = True
) -> Verdict:
    """The verdict on a case; ``stage`` is told what is being done, in case the process ends.

    Without ``cling`` the optimized graph is evaluated with NumPy, which takes a tenth of the time:
    all but the emitted code and the kernels.
    """
    return _Judge(case, stage, cling).run()
