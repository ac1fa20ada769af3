"""Graph <-> text: nothing is lost, and no text makes the reader fail in an unforeseen way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofie_rdf.errors import CorruptFile, UnsupportedOperator
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim, Size, parse_dim, symbol
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.operator import REGISTRY, Operator, operator
from sofie_rdf.ir.text import graph_text, operator_text, parse_graph, parse_operator
from sofie_rdf.ir.types import DType, TensorType


@operator(domain="test")
class Act(Operator):
    """x"""

    alpha: float = 1.0

    def infer(self, x: TensorType) -> TensorType:
        return x


@operator(domain="test")
class Layer(Operator):
    """activation(x w + b)"""

    activation: Operator = Act()

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> TensorType:
        assert b is None or b.dtype.is_float
        return TensorType(x.dtype, (*x.shape[:-1], w.shape[-1]))


@operator(domain="test")
class Everything(Operator):
    """x, and fields of every type"""

    axis: int
    scale: float = 0.0
    keep: bool = True
    mode: str = "linear"
    axes: tuple[int, ...] | None = None
    shape: tuple[Dim, ...] = ()
    to: DType = DType.FLOAT32
    nested: tuple[tuple[str, ...], ...] = ()
    inner: Operator | None = None

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        return x, TensorType(self.to, self.shape)


@operator(domain="test")
class Fragile(Operator):
    """x, with a type rule that nobody taught manners"""

    count: Any = 0

    def __post_init__(self) -> None:
        if self.count == 13:
            raise ZeroDivisionError("thirteen")

    def infer(self, x: TensorType) -> TensorType:
        found: TensorType = [x][self.count]
        return found


@operator(domain="my-own.domain")
class Odd(Operator):
    """x"""

    def infer(self, x: TensorType) -> TensorType:
        return x


# Other tests look at all operators there are; ours are there only while these tests run.
_OPERATORS = {
    key: REGISTRY.pop(key) for key in list(REGISTRY) if key[0] in ("test", "my-own.domain")
}


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    REGISTRY.update(_OPERATORS)
    yield
    for key in _OPERATORS:
        del REGISTRY[key]


N = symbol("N")
ODD = symbol('odd, "name"]')


def example() -> Graph:
    build = Builder("higgs", {"producer": 'pytorch "2.4"\n', "a key": ""})
    x = build.input("features", TensorType(DType.FLOAT32, (N, 7)))
    odd = build.input("input", TensorType(DType.INT64, (ODD, 2 * N + 1, N // 3)))
    w = build.constant(np.ones((7, 64), np.float32), "dense1.weight")
    b = build.constant(np.float64(2.0), "bias")
    origin = Origin("higgs.onnx", "/dense 1/Gemm")
    h = build(Layer(Act(0.5)), x, w, b, outputs=["h"], origin=origin)
    build(Layer(), h, w, "", outputs=["h 2"], origin=Origin(name="only a name"))
    every = Everything(axis=-1, shape=(N, 7), nested=(("a",), ()))
    build(every, odd, outputs=["left", "right"], origin=Origin("only a file"))
    return build.graph("h", "right")


TEXT = r"""
model higgs
  @ producer = "pytorch \"2.4\"\n"
  @ "a key" = ""
input  features: float32[N, 7]
input  "input":  int64["odd, \"name\"]", 2*N + 1, N//3]
const  "dense1.weight": float32[7, 64]
const  bias:            float64[]
h:     float32[N, 64] = test.Layer(activation=test.Act(alpha=0.5))(features, "dense1.weight", bias) @ "/dense 1/Gemm" in "higgs.onnx"
"h 2": float32[N, 64] = test.Layer()(h, "dense1.weight", -) @ "only a name"
left:  int64["odd, \"name\"]", 2*N + 1, N//3], right: float32[N, 7] = test.Everything(axis=-1, shape=(N, 7), nested=(("a",), ()))("input") @ in "only a file"
output h
output right
end
""".lstrip()  # noqa: E501


def assert_same(a: Graph, b: Graph) -> None:
    for field in ("name", "inputs", "outputs", "nodes"):
        # As text, for NaN differs from itself.
        assert repr(getattr(a, field)) == repr(getattr(b, field))
    for field in ("types", "provenance"):
        assert dict(getattr(a, field)) == dict(getattr(b, field))
    assert list(a.constants) == list(b.constants)
    assert all(a.constants[c] is b.constants[c] for c in a.constants)


def test_a_graph_prints_as_people_would_write_it() -> None:
    assert graph_text(example()) == TEXT
    assert str(example()) == TEXT


def test_the_text_of_a_graph_reads_back() -> None:
    graph = example()
    assert_same(parse_graph(graph_text(graph), graph.constants), graph)


def test_spaces_empty_lines_and_line_ends_do_not_matter() -> None:
    graph = example()
    loose = "\r\n\n".join(f"\t {line}  " for line in TEXT.split("\n"))
    assert_same(parse_graph(loose, graph.constants), graph)


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (Act(), "test.Act()"),
        (Act(alpha=0.1), "test.Act(alpha=0.1)"),
        (Act(alpha=math.inf), "test.Act(alpha=inf)"),
        (Act(alpha=-math.inf), "test.Act(alpha=-inf)"),
        (Act(alpha=math.nan), "test.Act(alpha=nan)"),
        (Act(alpha=-5e-324), "test.Act(alpha=-5e-324)"),
        (Act(alpha=1), "test.Act(alpha=1)"),
        (Everything(0), "test.Everything(axis=0)"),
        (Everything(0, scale=-0.0), "test.Everything(axis=0, scale=-0.0)"),
        (Everything(-(2**63)), "test.Everything(axis=-9223372036854775808)"),
        (Everything(0, keep=False), "test.Everything(axis=0, keep=False)"),
        (Everything(0, mode='a"b\n'), r'test.Everything(axis=0, mode="a\"b\n")'),
        (Everything(0, axes=(1,), to=DType.BOOL), "test.Everything(axis=0, axes=(1,), to=bool)"),
        (Everything(0, axes=()), "test.Everything(axis=0, axes=())"),
        (
            Everything(0, shape=((N - 3) // 2, (N // 2) * 3, 4)),
            "test.Everything(axis=0, shape=((N + 1)//2 - 2, 3*(N//2), 4))",
        ),
        (
            Everything(0, shape=(symbol("inf"), symbol("a b") + 1)),
            r'test.Everything(axis=0, shape=(size("inf"), size("\"a b\" + 1")))',
        ),
        (Everything(0, inner=Layer(Act(2.0))),
         "test.Everything(axis=0, inner=test.Layer(activation=test.Act(alpha=2.0)))"),
        (Odd(), '"my-own.domain".Odd()'),
    ],
)  # fmt: skip
def test_operators(op: Operator, text: str) -> None:
    assert operator_text(op) == text
    back = parse_operator(text)
    assert repr(back) == repr(op)
    assert operator_text(back) == text


DIMS = st.sampled_from(
    [N, 3, N * 2 - 1, N // 3, -1 * (N // 3), (N % 5) * N, symbol("min"), symbol("float32"), ODD]
)
OPERATORS: st.SearchStrategy[Operator] = st.recursive(
    st.builds(Act, st.floats() | st.integers()),
    lambda inner: (
        st.builds(Layer, inner)
        | st.builds(
            Everything,
            axis=st.integers(),
            scale=st.floats(),
            keep=st.booleans(),
            mode=st.text(),
            axes=st.none() | st.lists(st.integers()).map(tuple),
            shape=st.lists(DIMS).map(tuple),
            to=st.sampled_from(DType),
            nested=st.lists(st.lists(st.text()).map(tuple)).map(tuple),
            inner=st.none() | inner,
        )
    ),
    max_leaves=3,
)


@given(OPERATORS)
def test_any_operator_reads_back(op: Operator) -> None:
    assert repr(parse_operator(operator_text(op))) == repr(op)


@given(
    names=st.lists(st.text(min_size=1), min_size=4, max_size=4, unique=True),
    symbols=st.lists(st.text(min_size=1), min_size=2, max_size=2),
    words=st.lists(st.text(), min_size=4, max_size=4),
    op=OPERATORS,
)
def test_any_name_reads_back(
    names: list[str], symbols: list[str], words: list[str], op: Operator
) -> None:
    build = Builder(names[0], {words[0] or "key": words[1]})
    sizes = symbol(symbols[0]) * 2 + symbol(symbols[1])
    shape = (symbol(symbols[0]), symbol(symbols[1]), *([sizes] if isinstance(sizes, Size) else []))
    x = build.input(names[0], TensorType(DType.INT8, shape))
    build.constant(np.zeros((0, 2)), names[1])
    y = build(Act(), x, outputs=[names[2]], origin=Origin(words[2], words[3]))
    y = build(Layer(op), y, names[1], outputs=[names[3]])
    graph = build.graph(y)
    assert_same(parse_graph(graph_text(graph), graph.constants), graph)


def test_the_size_of_an_attribute_is_no_string() -> None:
    op = Everything(0, shape=(symbol("abc"), symbol("a b")), nested=(("abc", "a b"),))
    back = parse_operator(operator_text(op))
    assert isinstance(back, Everything)
    assert back.shape == (symbol("abc"), symbol("a b"))
    assert back.nested == (("abc", "a b"),)


def test_what_is_no_attribute_value_prints_but_does_not_read() -> None:
    op = Fragile(count=[1])
    assert str(op) == "test.Fragile(count=<list>)"
    with pytest.raises(CorruptFile):
        parse_operator(str(op))


@pytest.mark.parametrize(
    ("old", "new", "line", "thing"),
    [
        ("model higgs", "", 2, "does not begin with 'model'"),
        ("model higgs", "model higgs 2", 1, "'2' is too much"),
        ("model higgs", "model", 1, "expected a name"),
        ("model higgs", 'model ""', 1, "a name is empty"),
        ("model higgs", "model $", 1, "cannot read '$'"),
        ("output h", "model h", 11, "a second model"),
        ('"a key"', "producer", 3, "said twice"),
        ('"a key" = ""', '"a key" = 1', 3, "expected a string"),
        ("N, 7]\ninput", "N, 7\ninput", 4, "expected ']'"),
        ("N, 7]\ninput", "N; 7]\ninput", 4, "cannot read '; 7]'"),
        ("N, 7]\ninput", "N +, 7]\ninput", 4, "is no size"),
        ("features: float32", "features: complex64", 4, "'complex64' is no element type"),
        ("features:", "features", 4, "expected ':'"),
        ('"input":', '"features":', 5, "defined twice"),
        ("float32[7, 64]", "float32[7, 63]", 6, "are no float32[7, 63]"),
        ("float32[7, 64]", "int32[7, 64]", 6, "are no int32[7, 64]"),
        ("bias:", "bias2:", 7, "elements of constant 'bias2' are missing"),
        ("const  bias:            float64[]\n", "", 12, "no constant is named 'bias'"),
        ("alpha=0.5", "alpha=0.5.1", 8, "expected ')', found '.'"),
        ("alpha=0.5", "alpha=", 8, "is no size"),
        ("alpha=0.5", 'alpha="0.5"', 8, "no value for 'alpha'"),
        ("alpha=0.5", "alpha=(0.5,)", 8, "no value for 'alpha'"),
        ("alpha=0.5", "beta=0.5", 8, "no attribute 'beta'"),
        ("alpha=0.5", "alpha=0.5, alpha=0.5", 8, "here twice"),
        ("alpha=0.5", "alpha=0x5", 8, "is no size"),
        ("test.Act(", "test.Act[", 8, "expected '('"),
        ("features, ", "feature, ", 8, "'feature' is used but nothing computes it"),
        ("features, ", '"h 2", ', 8, "'h 2' is used before it is computed"),
        ("weight\", bias)", "weight\", bias, bias)", 8, "takes 2 to 3 inputs, not 4"),
        ('(features, "dense1.weight", bias)', "(features)", 8, "takes 2 to 3 inputs, not 1"),
        ("weight\", bias)", 'weight", bias', 8, "expected ')'"),
        ('h:     float32[N, 64]', "h:     float32[N, 65]", 8, "'h' is float32[N, 64], not"),
        ("-) @", "-) @ 7", 9, "'7' is too much"),
        ("axis=-1, ", "", 10, "refuses its attributes"),
        ('"a",), ()', '"a",), (1,)', 10, "no value for 'nested'"),
        ("output right", "output wrong", 13, "'wrong' is no value"),
        ("output right", "output h", 13, "declared 2 times"),
        ("\noutput h\noutput right", "", 11, "has no output"),
        ("\nend", "", 12, "has no end"),
        ("\nend", "\nend\noutput h", 14, "goes on after its end"),
        ("\nend", "\nend 1", 13, "'1' is too much"),
    ],
)  # fmt: skip
def test_a_damaged_text_names_its_line(old: str, new: str, line: int, thing: str) -> None:
    assert TEXT.count(old) >= 1
    with pytest.raises(CorruptFile) as caught:
        parse_graph(TEXT.replace(old, new, 1), example().constants)
    assert thing in caught.value.thing
    assert caught.value.place == f"line {line}"


def test_an_unknown_operator_names_its_line_and_near_names() -> None:
    with pytest.raises(UnsupportedOperator, match=r"^line 8: .*test.Layr.*Did you mean 'Layer'"):
        parse_graph(TEXT.replace("test.Layer", "test.Layr", 1), example().constants)
    with pytest.raises(UnsupportedOperator, match=r"strange\.Act"):
        parse_operator("strange.Act()")


@pytest.mark.parametrize("value", ["1", "-9", "13", '"a"', "None", "(1, 2)"])
def test_an_operator_that_fails_in_its_own_way_is_a_corrupt_file(value: str) -> None:
    text = f"model m\ninput x: int8[]\ny: int8[] = test.Fragile(count={value})(x)\noutput y\nend\n"
    with pytest.raises(CorruptFile, match="line "):
        parse_graph(text, {})


@pytest.mark.parametrize(
    "text",
    ["", "\n", "x", "(" * 99999, "test.Act(" * 9999, "test.Everything(axis=" + "(" * 9999,
     "test.Act(alpha=" + "9" * 5000 + ")", 'test.Act(alpha=size("(")))', "test.Act() x"],
)  # fmt: skip
def test_no_operator(text: str) -> None:
    with pytest.raises((CorruptFile, UnsupportedOperator)):
        parse_operator(text)
    with pytest.raises((CorruptFile, UnsupportedOperator)):
        parse_graph(text, {})


SPLICES = st.sampled_from(
    ["", "(", ")", "[", "]", ",", '"', "\\", "@", "=", ":", ".", "-", "1", "N", "\n", "\x00", "é",
     "inf", "size(", "None", "model", "output", "input", "test.Fragile(count=13)", "//0", "e9"]
)  # fmt: skip


@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(TEXT)), st.integers(0, 12), SPLICES), min_size=1, max_size=3
    )
)
def test_a_mutated_text_is_a_graph_or_a_corrupt_file(edits: list[tuple[int, int, str]]) -> None:
    text = TEXT
    for start, length, new in edits:
        text = text[:start] + new + text[start + length :]
    constants = example().constants
    try:
        graph = parse_graph(text, constants)
    except (CorruptFile, UnsupportedOperator) as error:
        raised = error
    else:
        assert_same(parse_graph(graph_text(graph), constants), graph)
        return
    assert raised.place.startswith("line ")


@given(st.integers(0, len(TEXT) - 2))
def test_a_truncated_text_is_no_graph(length: int) -> None:
    with pytest.raises((CorruptFile, UnsupportedOperator)):
        parse_graph(TEXT[:length], example().constants)


def test_sizes_in_types_are_those_of_dims() -> None:
    assert str(TensorType(DType.FLOAT32, (N, ODD))) == 'float32[N, "odd, \\"name\\"]"]'
    assert parse_dim(str(ODD)) == ODD
