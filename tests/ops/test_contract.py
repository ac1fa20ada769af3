"""The contract of operators, over the registry: a new operator is tested the moment it exists."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

import sofie_rdf.ops  # noqa: F401 - registers all operators
from sofie_rdf.errors import TypeMismatch, UnsupportedOperator
from sofie_rdf.frontends.onnx.values import construct
from sofie_rdf.ir.builder import Builder, infer_node
from sofie_rdf.ir.dims import evaluate, name_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import REGISTRY, Operator, with_sizes
from sofie_rdf.ir.text import graph_text, operator_text, parse_graph, parse_operator
from sofie_rdf.ir.types import Array, DType, TensorType, concrete
from sofie_rdf.ir.verify import verify
from sofie_rdf.reference import evaluate_node
from sofie_rdf.runtime.compile.session import Compiled, compile_graph
from tests.choice import some_of
from tests.ops.accuracy import (
    computed,
    difference,
    finite,
    identical,
    is_computed,
    is_half,
    sum_error,
    widest,
)
from tests.ops.cases import Case, Row
from tests.ops.rows import ROWS

# Of every domain; not those that other tests register as a user's own.
OPERATORS = sorted(k for k, cls in REGISTRY.items() if cls.__module__.startswith("sofie_rdf."))
Sizes = Mapping[str, int]
Key = tuple[str, str]
Pair = tuple[DType, Case]

# Batches for one Session, one after the other: up, down, none, and all tails of a register.
HISTORY = (3, 1, 17, 0, 2, 8, 15, 16, 33, 70)
# How many events have edges among them: so many that edges meet where functions take them in pairs;
# operators that move or mix many numbers meet all there are in fewer, and in fewest if an event of
# all cases has more numbers than this.
EXTREMES, FEWER, FEWEST = 3000, 200, 50
MANY_NUMBERS = 10_000
# How many cases of the first element type `make test` takes: so many, or a sixth if that is more;
# and how many of each further one, in thorough rows and in others.
OF_THE_FIRST_TYPE, OF_A_TYPE, OF_A_THOROUGH_TYPE = 4, 2, 4
# Multiples of the golden ratio are spread evenly, also over cases that repeat with any period.
GOLDEN = (math.sqrt(5) - 1) / 2


def accepted_cases(key: Key) -> Iterator[Pair]:
    """All cases whose element types the operator takes."""
    full, row = True, ROWS[key]
    for dtype in DType:
        cases = [c for c in row.make(dtype, full) if _accepts(c)]
        # Half precision is float32 between casts; what is only stored, is moved like bytes.
        few = dtype.is_half or dtype.is_storage
        yield from ((dtype, case) for case in (cases[:2] if few and not row.thorough else cases))
        full = full and not cases


def _accepts(case: Case) -> bool:
    try:
        case.op.infer(*(_type(i) for i in case.inputs))
    except TypeMismatch:
        return False
    return True


def _type(given: TensorType | Array | None) -> TensorType | None:
    return TensorType(DType.of(given), given.shape) if isinstance(given, np.ndarray) else given


@dataclass(frozen=True, eq=False)
class Bench:
    """All cases of one operator as the nodes of one graph."""

    graph: Graph
    cases: Mapping[str, Case]

    def feeds(self, sizes: Sizes, seed: int, *, extreme: bool) -> dict[str, Array]:
        random = np.random.default_rng(seed)
        found = {}
        for node, case in zip(self.graph.nodes, self.cases.values(), strict=True):
            for position, name in enumerate(node.inputs):
                if name in self.graph.inputs:
                    type_ = self.graph.types[name]
                    fill = case.fill(position)
                    found[name] = fill(random, type_.dtype, concrete(type_.shape, sizes), extreme)
        return found


@cache
def bench(key: Key) -> Bench:
    """The cases of an operator; `ROWS` must have some."""
    return bench_of("_".join(("contract", *filter(None, key))), _pairs(key))


def _pairs(key: Key) -> Iterator[Pair]:
    for dtype, case in accepted_cases(key):
        if ROWS[key].thorough or not dtype.is_storage or dtype in _STORED:
            yield dtype, case


# Of the types that are only stored, those that stand for all in the tests of most operators.
_STORED = (DType.FLOAT8E4M3FN, DType.INT4)


@cache
def part(key: Key, *, rest: bool = False) -> Bench:
    """The cases that `make test` compiles, or the rest of them.

    These are some of the first element type, and some of
    double and of a quarter of the further types: other ones for each type, and other types for each
    operator, so that together they are of all kinds. All cases of a short row are among them.
    """
    turn = OPERATORS.index(key)
    of_a_type = OF_A_THOROUGH_TYPE if ROWS[key].thorough else OF_A_TYPE
    by_type: dict[DType, list[Case]] = {}
    for dtype, case in _pairs(key):
        by_type.setdefault(dtype, []).append(case)
    chosen: list[Pair] = []
    for number, (dtype, cases) in enumerate(by_type.items()):
        few = of_a_type if number else max(OF_THE_FIRST_TYPE, len(cases) // 6)
        share = few / len(cases)
        is_left_type = dtype is not DType.FLOAT64 and number > 0 and (number + turn) % 4 != 0
        for position, case in enumerate(cases):
            is_left = is_left_type or case.exhaustive or GOLDEN * (position + number) % 1 >= share
            chosen += [(dtype, case)] if is_left == rest else []
    return bench_of("_".join(("rest" if rest else "part", *filter(None, key))), chosen)


def bench_of(name: str, pairs: Iterable[Pair]) -> Bench:
    build = Builder(name)
    cases = {}
    for number, (dtype, case) in enumerate(pairs):
        stem = f"{dtype}.{number}"
        names = [_grow(build, f"{stem}.{i}", given) for i, given in enumerate(case.inputs)]
        types = infer_node(case.op, [_type(i) for i in case.inputs])
        count = 1 if case.only_first_output else len(types)
        outputs = [f"{stem}.y", *(f"{stem}.y{i}" for i in range(1, count))]
        cases[build(case.op, *names, outputs=outputs)] = case
    return Bench(build.graph(*(o for n in build.nodes for o in n.outputs)), cases)


def _grow(build: Builder, name: str, given: TensorType | Array | None) -> str:
    if given is None:
        return ""
    return (
        build.constant(given, name) if isinstance(given, np.ndarray) else build.input(name, given)
    )


@dataclass(frozen=True, eq=False)
class CompiledCases:
    """Cases, and the program of all of them."""

    bench: Bench
    compiled: Compiled


def sizes_of(graph: Graph, batch: int, other: int = 5) -> dict[str, int]:
    return {name: other if name == "M" else batch for name in graph.symbols}


def results(
    graph: Graph, node: Node, feeds: Mapping[str, Array], *, exact: bool, sizes: Sizes | None = None
) -> tuple[Array, ...]:
    """All outputs of one node, as the reference computes them."""
    known = {i: feeds[i] if i in feeds else graph.constants[i] for i in node.inputs if i}
    values = {name: widest(array) if exact else array for name, array in known.items()}
    if sizes and not node.op.is_alias:
        node = dataclasses.replace(node, op=with_sizes(node.op, sizes))
    return evaluate_node(node, values)[: len(node.outputs)]


def check_against_reference(
    tested: CompiledCases, batches: Iterable[int], other: int, *, extreme: bool
) -> None:
    """One batch after the other. Cases without an open size are the same in all of them."""
    graph = tested.bench.graph
    for seed, batch in enumerate(batches):
        sizes = sizes_of(graph, batch, other)
        feeds = tested.bench.feeds(sizes, seed, extreme=extreme)
        found = tested.compiled.infer(feeds, sizes)
        wrong = differences(tested.bench, feeds, found, sizes, open_only=seed > 1)
        assert not wrong, f"{len(wrong)} cases differ from the reference:\n" + "\n".join(wrong[:8])


def differences(
    tested: Bench,
    feeds: Mapping[str, Array],
    found: Mapping[str, Array],
    sizes: Sizes,
    *,
    open_only: bool = False,
) -> list[str]:
    """The cases whose results are further from the exact ones than the operator promises."""
    graph, wrong = tested.graph, []
    for node, case in zip(graph.nodes, tested.cases.values(), strict=True):
        if open_only and not _is_open(graph, node):
            continue
        given = inputs_of(graph, node, feeds)
        inputs = [None if a is None else widest(a) for a in given]
        row = ROWS[case.op.domain, case.op.name]
        computed_exactly = results(graph, node, feeds, exact=row.widened, sizes=sizes)
        for number, exact in enumerate(computed_exactly):
            array = found[node.outputs[number]]
            message = _difference(row, case, array, exact, inputs, number)
            if message:
                types = ", ".join(str(graph.types[i]) for i in node.inputs if i)
                text = f"{operator_text(case.op)}({types}) with {dict(sizes)}"
                output = f"output {number} " if number else ""
                wrong.append(f"{text}: {output}{message}{_arguments(message, node, feeds)}")
    return wrong


def _is_open(graph: Graph, node: Node) -> bool:
    """Whether a size of what it reads or gives is open."""
    shapes = (graph.types[v].shape for v in (*node.inputs, *node.outputs) if v)
    return any(not isinstance(dim, int) for shape in shapes for dim in shape)


def inputs_of(graph: Graph, node: Node, feeds: Mapping[str, Array]) -> list[Array | None]:
    """The inputs of a node by position; None for those that are absent."""
    known = {**graph.constants, **feeds}
    return [known[i] if i else None for i in node.inputs]


def _difference(
    row: Row, case: Case, found: Array, exact: Array, inputs: list[Array | None], number: int
) -> str:
    op, tolerance = case.op, case.op.tolerance
    inexact = is_computed(found.dtype) or is_half(found.dtype)
    if not inexact or found.shape != exact.shape:
        return difference(found, exact, tolerance)
    real = computed(found.dtype)
    error: Any = 0.0
    overflows: Any = False
    with np.errstate(all="ignore"):
        if tolerance.terms:
            assert row.magnitude, (
                f"{op.name} sums (terms={tolerance.terms}): its row needs a magnitude"
            )
            count = row.count(*inputs)
            magnitude = row.sum_for(number, op, *inputs)
            error = sum_error(tolerance, magnitude, count, real)
            if not all(a is None or np.isfinite(a).all() for a in inputs):
                magnitude = row.sum_for(number, op, *map(finite, inputs))
            overflows = magnitude * count > np.finfo(real).max
        error = row.error_for(number, op, error, real, *inputs)
    return difference(found, exact, tolerance, error, overflows, signed_zeros=row.signed_zeros)


def _arguments(message: str, node: Node, feeds: Mapping[str, Array]) -> str:
    """The inputs of an element-wise case at the first element that is wrong."""
    shapes = {feeds[i].shape for i in node.inputs if i in feeds}
    if "first at [" not in message or len(shapes) != 1:
        return ""
    index = tuple(int(i) for i in message.split("first at [")[1].split("]")[0].split(",") if i)
    if len(index) != len(next(iter(shapes))):
        return ""
    try:
        return f" of {[feeds[i][index] for i in node.inputs if i in feeds]}"
    except IndexError:
        return ""


# The contract -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=OPERATORS, ids=lambda key: ".".join(filter(None, key)))
def key(request: pytest.FixtureRequest) -> Key:
    """Every operator; of this scope, so that all tests of one operator follow each other."""
    found: Key = request.param
    return found


def test_every_operator_has_a_row() -> None:
    missing = [key for key in OPERATORS if key not in ROWS]
    assert not missing, f"tests/ops/rows needs a row in ROWS for {missing}"
    assert not set(ROWS) - set(REGISTRY), "rows of operators that do not exist"


def test_says_what_it_is(key: Key) -> None:
    cls = REGISTRY[key]
    assert cls.__doc__ and cls.__doc__.strip() and "\n" not in cls.__doc__.split("\n\n")[0].strip()
    assert cls.header.startswith("sofie/") and cls.name == key[1]
    assert not cls.name.startswith("_") and not cls.__doc__.startswith(f"{cls.__name__}(")


def test_takes_the_element_types_it_says(key: Key) -> None:
    found = {dtype for dtype, _ in accepted_cases(key)}
    assert found, "no case has an element type that the operator takes"
    said = getattr(REGISTRY[key], "dtypes", None)
    if said is not None and key not in _OTHER_TYPES:
        assert found == said


# Their `infer` is their own; `dtypes` is inherited and not used.
_OTHER_TYPES = {("", "BatchNormalization")}


@pytest.fixture(scope="module", params=some_of(["part", "rest"], ["part"]))
def chosen(request: pytest.FixtureRequest, key: Key) -> Bench:
    """The cases of an operator; and apart from them those that are exhaustive."""
    is_rest = request.param == "rest"
    found = part(key, rest=is_rest)
    if is_rest and not found.cases:
        pytest.skip("all cases of this operator are in make test")
    return found


@pytest.fixture(scope="module")
def tested(chosen: Bench) -> CompiledCases:
    return CompiledCases(chosen, compile_graph(chosen.graph))


def test_infers_the_type_of_the_result(chosen: Bench) -> None:
    graph = chosen.graph
    verify(graph)
    for batch, other in [(3, 2), (0, 1), (1, 4), (6, 6)]:
        sizes = sizes_of(graph, batch, other)
        feeds = chosen.feeds(sizes, 7, extreme=False)
        for node in graph.nodes:
            found = results(graph, node, feeds, exact=False, sizes=sizes)
            given = [str(graph.types[i]) for i in node.inputs if i]
            text = f"{operator_text(node.op)} of {given}"
            known = dict(sizes)
            for name, result in zip(node.outputs, found, strict=True):
                type_ = graph.types[name]
                for dim, size in zip(type_.shape, result.shape, strict=True):
                    if name_of(dim) in graph.data_symbols:
                        known[name_of(dim)] = size
                assert result.dtype == type_.dtype.numpy, f"{text}: {result.dtype}, not {type_}"
                assert result.shape == concrete(type_.shape, known), (
                    f"{text}: {result.shape}, not {type_}"
                )


def test_kernel_is_the_reference(tested: CompiledCases) -> None:
    check_against_reference(tested, HISTORY, 5, extreme=False)


def test_kernel_is_the_reference_at_the_edges(key: Key, tested: CompiledCases) -> None:
    is_function = hasattr(REGISTRY[key], "functor")
    events = EXTREMES if is_function else _events_that_meet_edges(tested.bench.graph)
    check_against_reference(tested, (events, 3, 1), 2, extreme=True)


def _events_that_meet_edges(graph: Graph) -> int:
    sizes = sizes_of(graph, 1, 2)
    numbers = sum(evaluate(graph.types[name].size, sizes) for name in graph.inputs)
    return FEWEST if numbers > MANY_NUMBERS else FEWER


def test_results_have_no_history(tested: CompiledCases) -> None:
    """One Session for many batches gives what a fresh Session gives, bit for bit."""
    one = tested.compiled
    for seed, batch in enumerate((3, 1, 17, 0, 40)):
        sizes = sizes_of(one.graph, batch)
        feeds = tested.bench.feeds(sizes, 100 + seed, extreme=bool(seed % 2))
        before = {name: array.copy() for name, array in feeds.items()}
        found = one.infer(feeds, sizes)
        fresh = dataclasses.replace(one, idle=[]).infer(feeds, sizes)
        for node in tested.bench.graph.nodes:
            for name in node.outputs:
                assert identical(found[name], fresh[name]), f"{operator_text(node.op)}: {name}"
        assert all(identical(feeds[name], before[name]) for name in feeds), "an input was changed"


def test_an_event_does_not_know_its_batch(tested: CompiledCases) -> None:
    """Row i of a batch is what the row gives by itself, bit for bit."""
    bench, batch = tested.bench, 23
    sizes = sizes_of(bench.graph, batch)
    feeds = bench.feeds(sizes, 5, extreme=True)
    whole = tested.compiled.infer(feeds, sizes)
    rowwise = {n for n in bench.cases if _is_rowwise(bench.graph, n)}
    if not rowwise:
        return  # Its rows depend on each other, or its sizes on the data.
    for i in range(0, batch, 4):
        row = {n: a[i : i + 1] if _leads(bench.graph.types[n]) else a for n, a in feeds.items()}
        alone = {n: a if _fits(bench.graph, n, a) else _one(bench.graph, n) for n, a in row.items()}
        found = tested.compiled.infer(alone, sizes_of(bench.graph, 1))
        for name in rowwise:
            text = f"{operator_text(bench.cases[name].op)} -> {bench.graph.types[name]}, row {i}"
            assert identical(found[name], whole[name][i : i + 1]), text


def _leads(type_: TensorType) -> bool:
    return bool(type_.shape) and str(type_.shape[0]) == "N"


def _is_rowwise(graph: Graph, output: str) -> bool:
    """Whether N is the first axis of all that depends on it, and the operator keeps rows apart."""
    node = graph.producers[output]
    axes = getattr(node.op, "axis", None), getattr(node.op, "perm", None)
    types = [graph.types[v] for v in (*node.inputs, output) if v]
    first = all(_leads(t) or "N" not in str(t) for t in types) and _leads(types[-1])
    inner = all("N" not in str(TensorType(t.dtype, t.shape[1:])) for t in types)
    mixes = axes[0] == 0 or (axes[1] is not None and axes[1][0] != 0)
    dims = {len(t.shape) for t in types if _leads(t)} == {len(types[-1].shape)}
    elementwise = hasattr(node.op, "functor") and node.op.name != "Dense"
    if node.op.decides_sizes or not node.op.is_rowwise:
        return False
    return (
        first and inner and not mixes and (dims or not elementwise) and node.op.name != "Transpose"
    )


def _fits(graph: Graph, name: str, array: Array) -> bool:
    return array.shape == concrete(graph.types[name].shape, sizes_of(graph, 1))


def _one(graph: Graph, name: str) -> Array:
    type_ = graph.types[name]
    return np.zeros(concrete(type_.shape, sizes_of(graph, 1)), type_.dtype.numpy)


def test_refuses_attributes_that_it_does_not_have(key: Key) -> None:
    with pytest.raises(UnsupportedOperator, match="no attribute 'nonsense'"):
        construct(REGISTRY[key], {**_needed(REGISTRY[key]), "nonsense": 1})


def _needed(cls: type[Operator]) -> dict[str, Any]:
    required = (f for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING)
    return {f.name: 0 for f in required}


def test_is_text_and_back(chosen: Bench) -> None:
    graph = chosen.graph
    for case in chosen.cases.values():
        assert parse_operator(operator_text(case.op)) == case.op
    again = parse_graph(graph_text(graph), graph.constants)
    assert again.nodes == graph.nodes and dict(again.types) == dict(graph.types)
    assert graph_text(again) == graph_text(graph)


def test_is_a_value(key: Key) -> None:
    """Operators compare, hash, and cannot be changed."""
    for case in bench(key).cases.values():
        again = dataclasses.replace(case.op)
        assert again == case.op and hash(again) == hash(case.op) and again is not case.op
        with pytest.raises(dataclasses.FrozenInstanceError):
            case.op.anything = 1  # type: ignore[attr-defined]


def test_tolerances_are_finite() -> None:
    for key in OPERATORS:
        tolerance = REGISTRY[key].tolerance
        assert 0 <= tolerance.ulp <= 16 and 0 <= tolerance.terms <= 16
        assert math.isfinite(tolerance.ulp + tolerance.terms)
