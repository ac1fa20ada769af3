"""Equations, matches, and the engine that applies rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.operator import REGISTRY
from sofie_rdf.ir.text import graph_text
from sofie_rdf.ir.types import DType
from sofie_rdf.ir.verify import verify
from sofie_rdf.ops.elementwise import (
    Abs,
    Add,
    Exp,
    Floor,
    IsNaN,
    Mul,
    Neg,
    Relu,
    Sub,
    Tanh,
    Unary,
)
from sofie_rdf.ops.linear import Dense, Gemm, MatMul
from sofie_rdf.passes.rewrite import (
    Match,
    New,
    NoMatch,
    Report,
    Rewrite,
    Rule,
    Rules,
    is_all,
    parse,
    rule,
)
from tests.passes.graphs import N, Net, floats, identical, operators, summary


def applied(graph: Graph, *rules: Rule) -> tuple[Graph, Report]:
    found = Rules("test", rules).explain(graph)
    verify(found[0])
    return found


def places(graph: Graph, equation: str) -> list[dict[str, str]]:
    """The values of the variables wherever the equation holds, in order."""
    found = []

    @rule(equation)
    def look(m: Match) -> Rewrite:
        found.append(dict(m.values))
        raise NoMatch

    applied(graph, look)
    return found


# Equations ----------------------------------------------------------------------------------------


def test_an_equation_is_parsed_into_operators_variables_and_numbers() -> None:
    pattern = parse("Add(MatMul(x, w), -0.5)")
    assert pattern.kind is Add
    inner, number = pattern.operands
    assert number == -0.5
    assert inner == parse("MatMul(x, w)")
    assert parse("MatMul(x, w)").operands == ("x", "w")


def test_operators_of_other_domains_and_families_have_names_too() -> None:
    assert parse("Dense(x, w, b)").kind is REGISTRY["sofie", "Dense"]
    assert parse("sofie.Dense(x, w, b)").kind is Dense
    assert parse("Unary(x)").kind is Unary


@pytest.mark.parametrize(
    ("equation", "says"),
    [("Rleu(x)", "Did you mean 'Relu'"), ("other.Relu(x)", "no operator or family"), ("X(x)", "X")],
)
def test_an_unknown_operator_is_named(equation: str, says: str) -> None:
    with pytest.raises(UnsupportedOperator, match=says):
        parse(equation)


@pytest.mark.parametrize("equation", ["x", "1", "Relu(x=1)", "Relu('x')", "Relu(X)", "x + y"])
def test_what_is_no_equation_is_refused(equation: str) -> None:
    with pytest.raises(ValueError, match=r"no meaning|applies no"):
        parse(equation)


@pytest.mark.parametrize(
    ("values", "number", "expected"),
    [
        ([1.0, 1.0], 1.0, True),
        ([1.0, 2.0], 1.0, False),
        ([], 1.0, False),
        (0.0, -0.0, False),
        ([-0.0, 0.0], -0.0, False),
        (-0.0, -0.0, True),
        (np.float32(0.1), 0.1, True),
        (np.float64(np.float32(0.1)), 0.1, False),
        (np.array(0, DType.BFLOAT16.numpy), -0.0, False),
        (np.array([1, 1], DType.BFLOAT16.numpy), 1.0, True),
        (np.int64(0), -0.0, True),
        (np.int64(1), 1.5, False),
        (True, 1.0, True),
    ],
)
def test_a_number_in_an_equation(values: object, number: float, expected: bool) -> None:
    assert is_all(np.asarray(values), number) is expected


# Matches ------------------------------------------------------------------------------------------


def test_variables_are_bound_to_values() -> None:
    b = Net(N, 2)
    y = b.op(Relu(), b.op(Sub(), "x", b.c("m", [1, 2]), name="d"), name="y")
    assert places(b.graph(y), "Relu(Sub(a, m))") == [{"a": "x", "m": "m"}]
    assert places(b.graph(y), "Sub(a, m)") == [{"a": "x", "m": "m"}]
    assert places(b.graph(y), "Sub(m, Relu(a))") == []


@pytest.mark.parametrize("op", [Add(), Mul()])
def test_commutative_operators_match_in_both_orders(op: Add | Mul) -> None:
    b = Net(N, 2)
    y = b.op(op, b.c("c", [1, 2]), b.op(Relu(), "x", name="r"), name="y")
    name = type(op).__name__
    assert places(b.graph(y), f"{name}(Relu(x), c)") == [{"x": "x", "c": "c"}]
    assert places(b.graph(y), f"{name}(c, Relu(x))") == [{"x": "x", "c": "c"}]


def test_other_operators_do_not() -> None:
    b = Net(N, 2)
    y = b.op(Sub(), b.c("c", [1, 2]), b.op(Relu(), "x"))
    assert places(b.graph(y), "Sub(Relu(x), c)") == []


def test_the_same_variable_is_the_same_value() -> None:
    b = Net(N, 2)
    b.input("z", floats(N, 2))
    b.op(Mul(), "x", b.op(Tanh(), "x"), name="same")
    b.op(Mul(), "z", b.op(Tanh(), "x"), name="other")
    assert places(b.graph("same", "other"), "Mul(x, Tanh(x))") == [{"x": "x"}]
    assert places(b.graph("same"), "Mul(Tanh(x), x)") == [{"x": "x"}]


def test_a_variable_is_never_an_absent_input() -> None:
    b = Net(N, 2)
    y = b.op(Gemm(), "x", b.c("w", np.eye(2)), "", name="y")
    assert len(places(b.graph(y), "Gemm(x, w)")) == 1
    assert places(b.graph(y), "Gemm(x, w, c)") == []


def test_all_ways_are_tried_until_one_is_taken() -> None:
    b = Net(N, 2)
    left, right = b.op(Relu(), "x", name="left"), b.op(Relu(), "x", name="right")
    y = b.op(Add(), left, b.op(Add(), right, b.c("c", [1, 2]), name="inner"), name="y")

    @rule("Add(Relu(x), Add(Relu(z), c))")
    def with_constant(m: Match) -> Rewrite:
        m.constant("c")
        return m.becomes(Add(), "x", "c")

    graph, report = applied(b.graph(y), with_constant)
    assert summary(graph) == ["y = Add()(x, c)"]
    assert report.applied == {"with_constant": 1}


def test_a_match_knows_operators_types_and_constants() -> None:
    b = Net(N, 2)
    b.op(Relu(), b.op(Sub(), "x", b.c("m", 1.5), name="d"), name="y")
    seen = []

    @rule("Unary(Sub(a, m))")
    def look(m: Match) -> Rewrite:
        seen.append((m.op(Sub), m.op(Unary), m.root.op, m.value(), m.value("a"), m.value(Sub)))
        assert m.type() == m.type("a") == m.type(Sub) == floats(N, 2)
        assert m.constant("m") == 1.5
        m.constant("a")
        raise AssertionError

    _, report = applied(b.graph("y"), look)
    assert seen == [(Sub(), Relu(), Relu(), "y", "x", "d")]
    assert [str(r) for r in report.refused] == [
        "look: net.onnx: node 'y': a = 'x' is not a constant"
    ]


# Refusals of the engine ---------------------------------------------------------------------------


@rule("Exp(Relu(x))")
def exp_relu(m: Match) -> Rewrite:
    return m.becomes(Tanh(), "x")


def reasons(graph: Graph, *rules: Rule) -> list[str]:
    return [r.reason for r in applied(graph, *rules)[1].refused]


def test_an_inner_node_that_is_used_elsewhere_stays() -> None:
    b = Net(N)
    r = b.op(Relu(), "x", name="r")
    graph = b.graph(b.op(Exp(), r, name="y"), b.op(Neg(), r, name="z"))
    assert summary(applied(graph, exp_relu)[0]) == summary(graph)
    assert reasons(graph, exp_relu) == ["'r' is used 2 times"]


def test_an_inner_node_that_is_an_output_stays() -> None:
    b = Net(N)
    r = b.op(Relu(), "x", name="r")
    graph = b.graph(b.op(Exp(), r, name="y"), r)
    assert reasons(graph, exp_relu) == ["'r' is an output of the model"]


def test_what_an_equation_says_twice_may_be_one_node() -> None:
    @rule("Add(Relu(x), Relu(x))")
    def twice(m: Match) -> Rewrite:
        assert len(m.nodes) == 2
        return m.becomes(Abs(), "x")

    b = Net(N)
    r = b.op(Relu(), "x", name="r")
    y = b.op(Add(), r, r)
    assert operators(applied(b.graph(y), twice)[0]) == [str(Abs())]
    assert reasons(b.graph(y, r), twice) == ["'r' is an output of the model"]
    shown = b.op(Neg(), r)
    assert reasons(b.graph(y, shown), twice) == ["'r' is used 3 times"]


def test_refusals_name_rule_and_place_and_are_told_once() -> None:
    @rule("Relu(x)", "Unary(x)")
    def never(_: Match) -> Rewrite:
        raise NoMatch("it is Tuesday")

    b = Net(N)
    _, report = applied(b.graph(b.op(Relu(), "x", name="y")), never)
    (refusal,) = report.refused
    assert (refusal.rule, refusal.origin) == ("never", Origin("net.onnx", "y"))
    assert str(replace(refusal, origin=Origin())) == "never: value 'y': it is Tuesday"


def test_a_refusal_does_not_stand_when_the_node_was_rewritten_after_all() -> None:
    @rule("Relu(x)")
    def impatient(_: Match) -> Rewrite:
        raise NoMatch("not yet")

    @rule("Relu(x)")
    def patient(m: Match) -> Rewrite:
        return m.becomes(Tanh(), "x")

    b = Net(N)
    graph, report = applied(b.graph(b.op(Relu(), "x")), impatient, patient)
    assert (report.applied, report.refused) == ({"patient": 1}, ())
    assert isinstance(graph.nodes[0].op, Tanh)


# Rewriting ----------------------------------------------------------------------------------------


@rule("Neg(Sub(a, b))")
def flipped(m: Match) -> Rewrite:
    return m.becomes(Sub(), "b", "a")


def test_the_outputs_keep_their_names_and_the_main_operator_its_origin() -> None:
    b = Net(N)
    b.op(Neg(), b.op(Sub(), "x", b.c("c", 2), name="d"), name="y")
    before = b.graph("y")
    graph, _ = applied(before, flipped)
    assert summary(graph) == ["y = Sub()(c, x)"]
    assert graph.nodes[0].origin == Origin("net.onnx", "d")
    assert set(graph.types) == {"x", "c", "y"}
    identical(before, graph)


def test_without_a_main_operator_the_origin_is_that_of_the_outer_one() -> None:
    b = Net(N)
    b.op(Exp(), b.op(Relu(), "x", name="r"), name="y")
    graph, _ = applied(b.graph("y"), exp_relu)
    assert graph.nodes[0].origin == Origin("net.onnx", "y")


def test_rules_apply_until_none_does() -> None:
    b, value = Net(N), "x"
    for i in range(6):
        value = b.op(Neg(), b.op(Sub(), value, b.c(f"c{i}", i)))
    before = b.graph(value)
    graph, report = applied(before, flipped)
    assert report.applied == {"flipped": 6}
    assert {n.op for n in graph.nodes} == {Sub()}
    identical(before, graph)


def test_a_rewrite_can_make_room_for_one_further_up() -> None:
    @rule("Abs(Neg(x))")
    def even(m: Match) -> Rewrite:
        return m.becomes(Abs(), "x")

    @rule("Neg(Abs(x))")
    def strange(m: Match) -> Rewrite:
        m.require(m.maker(m.value("x")) is None, "something comes before it")
        return m.becomes(Floor(), "x")

    b = Net(N)
    b.op(Abs(), b.op(Neg(), b.op(Abs(), b.op(Neg(), "x"), name="a")), name="y")
    graph, report = applied(b.graph("y"), strange, even)
    # Only when Abs(Neg(x)) has become Abs(x) is there nothing before it.
    assert [type(n.op) for n in graph.nodes] == [Floor, Abs]
    assert report.applied == {"even": 1, "strange": 1}


def test_a_result_that_is_read_twice_is_not_taken_away() -> None:
    @rule("Add(Relu(x), y)")
    def one(m: Match) -> Rewrite:
        return m.becomes(Add(), "x", "y")

    b = Net(N)
    relu = b.op(Relu(), "x")
    graph = b.graph(b.op(Add(), relu, relu, name="y"))
    after, report = Rules("test", (one,)).explain(graph)
    assert after.nodes == graph.nodes
    assert [r.reason for r in report.refused] == ["it reads the same result twice"]


def test_a_rule_makes_several_nodes() -> None:
    @rule("Relu(Neg(x))")
    def both(m: Match) -> Rewrite:
        inner = m.made(Abs(), m.made(Neg(), "x"))
        return m.becomes(Add(), inner, New("x", np.ones(1, np.float32)))

    b = Net(N)
    b.op(Neg(), b.op(Relu(), b.op(Neg(), "x"), name="y"), name="z")
    graph = Rules("test", (both,))(b.graph("z", "y"))
    verify(graph)
    assert summary(graph) == [
        "y_neg = Neg()(x)",
        "y_abs = Abs()(y_neg)",
        "y = Add()(y_abs, x_2)",
        "z = Neg()(y)",
    ]


def test_rules_that_never_end_are_an_error() -> None:
    @rule("Relu(x)")
    def forth(m: Match) -> Rewrite:
        return m.becomes(Abs(), "x")

    @rule("Abs(x)")
    def back(m: Match) -> Rewrite:
        return m.becomes(Relu(), "x")

    b = Net(N)
    with pytest.raises(GraphError, match="'test' have no end"):
        applied(b.graph(b.op(Relu(), "x")), forth, back)


@pytest.mark.parametrize(
    ("op", "says"), [(IsNaN(), "it is bool.* and was float32"), (MatMul(), "takes 2 inputs")]
)
def test_a_rule_that_makes_another_type_is_a_bug(op: IsNaN | MatMul, says: str) -> None:
    @rule("Relu(x)")
    def wrong(m: Match) -> Rewrite:
        return m.becomes(op, "x")

    b = Net(N)
    with pytest.raises(GraphError, match=f"'y'.*the rule wrong made {op.name} of 'y': .*{says}"):
        applied(b.graph(b.op(Relu(), "x", name="y")), wrong)


def test_errors_in_a_rule_are_not_hidden() -> None:
    @rule("Relu(x)")
    def wrong(_: Match) -> Rewrite:
        raise KeyError("oops")

    b = Net(N)
    with pytest.raises(KeyError):
        applied(b.graph(b.op(Relu(), "x")), wrong)


# New constants ------------------------------------------------------------------------------------


@rule("Add(x, c)")
def doubled(m: Match) -> Rewrite:
    return m.becomes(Sub(), "x", m.changed("c", m.constant("c") * -1))


def test_a_new_constant_takes_the_name_of_a_dead_one() -> None:
    b = Net(N)
    b.op(Add(), "x", b.c("c", [3]), name="y")
    before = b.graph("y")
    graph, _ = applied(before, doubled)
    assert summary(graph) == ["y = Sub()(x, c)"]
    assert graph.constants["c"].tolist() == [-3]
    assert not graph.constants["c"].flags.writeable
    assert before.constants["c"].tolist() == [3]
    identical(before, graph)


@pytest.mark.parametrize("other", ["node", "output"])
def test_and_a_name_of_its_own_beside_a_living_one(other: str) -> None:
    b = Net(N)
    b.op(Add(), "x", b.c("c", [3]), name="y")
    b.c("c_2", [7])
    used = b.op(Mul(), "x", "c", name="z") if other == "node" else "c"
    before = b.graph("y", used)
    graph, _ = applied(before, doubled)
    assert summary(graph)[0] == "y = Sub()(x, c_3)"
    assert graph.constants["c"].tolist() == [3]
    identical(before, graph)


def test_constants_that_are_used_twice_get_two_names() -> None:
    b = Net(N)
    b.op(Add(), b.op(Add(), "x", b.c("c", [3])), "c", name="y")
    before = b.graph("y")
    graph, _ = applied(before, doubled)
    assert sorted(graph.constants) == ["c", "c_2"]
    identical(before, graph)


def test_new_constants_may_have_any_name_and_layout() -> None:
    @rule("Relu(x)")
    def product(m: Match) -> Rewrite:
        return m.becomes(MatMul(), "x", New("x", np.arange(4, dtype=np.float32).reshape(2, 2).T))

    b = Net(N, 2)
    graph, _ = applied(b.graph(b.op(Relu(), "x", name="y")), product)
    assert summary(graph) == ["y = MatMul()(x, x_2)"]
    assert graph.constants["x_2"].tolist() == [[0, 2], [1, 3]]


def test_scalar_constants_stay_scalars() -> None:
    b = Net(N)
    graph, _ = applied(b.graph(b.op(Add(), "x", b.c("c", 3))), doubled)
    assert graph.constants["c"].shape == ()


# The whole ----------------------------------------------------------------------------------------


def test_rewriting_is_deterministic_and_leaves_its_argument_alone() -> None:
    b = Net(N, 2)
    value = "x"
    for i in range(5):
        value = b.op(Neg(), b.op(Sub(), value, b.c(f"c{i}", [i, 1])))
    graph = b.graph(value)
    text = graph_text(graph)
    first, second = (applied(graph, flipped, doubled) for _ in range(2))
    assert graph_text(first[0]) == graph_text(second[0]) != text
    assert first[1] == second[1]
    assert graph_text(graph) == text


def test_reports_add_up() -> None:
    b = Net(N)
    graph = b.graph(b.op(Neg(), b.op(Sub(), "x", b.c("c", 2))))
    _, one = applied(graph, flipped)
    assert (one + one + Report()).applied == {"flipped": 2}


def test_a_large_graph_is_rewritten_in_reasonable_time() -> None:
    b, value = Net(N), "x"
    b.c("c", 2)
    for i in range(3000):
        value = b.op(Neg(), b.op(Sub(), value, "c", name=f"d{i}"), name=f"y{i}")
    _, report = Rules("test", (flipped,)).explain(b.graph(value))
    assert report.applied == {"flipped": 3000}


def test_rules_are_a_pass() -> None:
    b = Net(N)
    graph = b.graph(b.op(Neg(), b.op(Sub(), "x", b.c("c", 2)), name="y"))
    assert summary(Rules("test", (flipped,))(graph)) == ["y = Sub()(c, x)"]
    assert summary(Rules("test", ())(graph)) == summary(graph)


def test_new_nodes_of_one_kind_behind_each_other_have_names_of_their_own() -> None:
    @rule("Abs(x)")
    def spelled_out(m: Match) -> Rewrite:
        """= |-(-x)|, where nothing else has names like these"""
        twice = m.made(Neg(), m.made(Neg(), "x"))
        return m.becomes(Relu(), m.made(Mul(), twice, twice))

    b = Net(N)
    after, _ = applied(b.graph(b.op(Abs(), "x", name="y")), spelled_out)
    assert operators(after) == ["Neg()", "Neg()", "Neg()", "Neg()", "Mul()", "Relu()"]
    assert len({n.outputs[0] for n in after.nodes}) == 6
