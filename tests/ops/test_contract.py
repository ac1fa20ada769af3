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
from sofie_rdf.ir.dims import name_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import REGISTRY, Operator, with_sizes
from sofie_rdf.ir.text import graph_text, operator_text, parse_graph, parse_operator
from sofie_rdf.ir.types import Array, DType, TensorType, concrete
from sofie_rdf.ir.verify import verify
from sofie_rdf.reference import evaluate_node
from sofie_rdf.runtime.compile.session import Compiled, compile_graph
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

# Batches for one Session, one after the other: up, down, none, and all tails of a register.
HISTORY = (3, 1, 17, 0, 2, 8, 15, 16, 33, 70)
# How many events have edges among them: so many that edges meet, where they are taken in pairs;
# operators that mix many numbers meet all there are in fewer.
EXTREMES, FEWER = 3000, 200


def accepted_cases(key: Key) -> Iterator[tuple[DType, Case]]:
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
    pairs = accepted_cases(key)
    if not ROWS[key].thorough:
        pairs = ((d, c) for d, c in pairs if not d.is_storage or d in _STORED)
    return bench_of("_".join(("contract", *filter(None, key))), pairs)


# Of the types that are only stored, those that stand for all in the tests of most operators.
_STORED = (DType.FLOAT8E4M3FN, DType.INT4)


def bench_of(name: str, pairs: Iterable[tuple[DType, Case]]) -> Bench:
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


@cache
def compiled(key: Key) -> Compiled:
    return compile_graph(bench(key).graph)


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


def check_against_reference(key: Key, sizes: Sizes, seed: int, *, extreme: bool) -> None:
    tested = bench(key)
    feeds = tested.feeds(sizes, seed, extreme=extreme)
    wrong = differences(tested, feeds, compiled(key).infer(feeds, sizes), sizes)
    assert not wrong, f"{len(wrong)} cases differ from the reference:\n" + "\n".join(wrong[:8])


def differences(
    tested: Bench, feeds: Mapping[str, Array], found: Mapping[str, Array], sizes: Sizes
) -> list[str]:
    """The cases whose results are further from the exact ones than the operator promises."""
    graph, wrong = tested.graph, []
    for node, case in zip(graph.nodes, tested.cases.values(), strict=True):
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
            error = sum_error(tolerance, row.sum_for(number, op, *inputs), count, real)
            largest = row.sum_for(number, op, *map(finite, inputs)) * count
            overflows = largest > np.finfo(real).max
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


def test_infers_the_type_of_the_result(key: Key) -> None:
    tested = bench(key)
    verify(tested.graph)
    for batch, other in [(3, 2), (0, 1), (1, 4), (6, 6)]:
        sizes = sizes_of(tested.graph, batch, other)
        feeds = tested.feeds(sizes, 7, extreme=False)
        for node in tested.graph.nodes:
            found = results(tested.graph, node, feeds, exact=False, sizes=sizes)
            given = [str(tested.graph.types[i]) for i in node.inputs if i]
            text = f"{operator_text(node.op)} of {given}"
            known = dict(sizes)
            for name, result in zip(node.outputs, found, strict=True):
                type_ = tested.graph.types[name]
                for dim, size in zip(type_.shape, result.shape, strict=True):
                    if name_of(dim) in tested.graph.data_symbols:
                        known[name_of(dim)] = size
                assert result.dtype == type_.dtype.numpy, f"{text}: {result.dtype}, not {type_}"
                assert result.shape == concrete(type_.shape, known), (
                    f"{text}: {result.shape}, not {type_}"
                )


def test_kernel_is_the_reference(key: Key) -> None:
    for seed, batch in enumerate(HISTORY):
        check_against_reference(key, sizes_of(bench(key).graph, batch), seed, extreme=False)


def test_kernel_is_the_reference_at_the_edges(key: Key) -> None:
    mixes = ROWS[key].magnitude is not None
    for seed, batch in enumerate((FEWER if mixes else EXTREMES, 3, 1)):
        check_against_reference(key, sizes_of(bench(key).graph, batch, 2), seed, extreme=True)


def test_results_have_no_history(key: Key) -> None:
    """One Session for many batches gives what a fresh Session gives, bit for bit."""
    one = compiled(key)
    for seed, batch in enumerate((3, 1, 17, 0, 40)):
        sizes = sizes_of(one.graph, batch)
        feeds = bench(key).feeds(sizes, 100 + seed, extreme=bool(seed % 2))
        before = {name: array.copy() for name, array in feeds.items()}
        found = one.infer(feeds, sizes)
        fresh = dataclasses.replace(one, idle=[]).infer(feeds, sizes)
        for node in bench(key).graph.nodes:
            for name in node.outputs:
                assert identical(found[name], fresh[name]), f"{operator_text(node.op)}: {name}"
        assert all(identical(feeds[name], before[name]) for name in feeds), "an input was changed"


def test_an_event_does_not_know_its_batch(key: Key) -> None:
    """Row i of a batch is what the row gives by itself, bit for bit."""
    tested, batch = bench(key), 23
    sizes = sizes_of(tested.graph, batch)
    feeds = tested.feeds(sizes, 5, extreme=True)
    whole = compiled(key).infer(feeds, sizes)
    rowwise = {n for n in tested.cases if _is_rowwise(tested.graph, n)}
    if not rowwise:
        return  # Its rows depend on each other, or its sizes on the data.
    for i in range(0, batch, 4):
        row = {n: a[i : i + 1] if _leads(tested.graph.types[n]) else a for n, a in feeds.items()}
        alone = {
            n: a if _fits(tested.graph, n, a) else _one(tested.graph, n) for n, a in row.items()
        }
        found = compiled(key).infer(alone, sizes_of(tested.graph, 1))
        for name in rowwise:
            text = f"{operator_text(tested.cases[name].op)} -> {tested.graph.types[name]}, row {i}"
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


def test_is_text_and_back(key: Key) -> None:
    tested = bench(key)
    for case in tested.cases.values():
        assert parse_operator(operator_text(case.op)) == case.op
    again = parse_graph(graph_text(tested.graph), tested.graph.constants)
    assert again.nodes == tested.graph.nodes and dict(again.types) == dict(tested.graph.types)
    assert graph_text(again) == graph_text(tested.graph)


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
