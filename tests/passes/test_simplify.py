"""Dead and useless nodes, folded constants, equal values, and functions that files spell out."""

from __future__ import annotations

import numpy as np
import pytest

from sofie_rdf.errors import InputError
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.text import graph_text
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ir.verify import verify
from sofie_rdf.model import Model
from sofie_rdf.ops.creation import Shape
from sofie_rdf.ops.elementwise import (
    Abs,
    Add,
    Cast,
    Ceil,
    Clip,
    Div,
    Exp,
    Floor,
    LeakyRelu,
    Max,
    Mean,
    Min,
    Mul,
    Neg,
    Relu,
    Round,
    Sqrt,
    Sub,
    Sum,
)
from sofie_rdf.ops.indexing import Gather, ScatterND, Slice
from sofie_rdf.ops.layout import (
    Concat,
    Dropout,
    Expand,
    Flatten,
    Identity,
    Reshape,
    Split,
    Squeeze,
    Transpose,
    Unsqueeze,
)
from sofie_rdf.ops.linear import Gemm, MatMul
from sofie_rdf.ops.selection import NonZero
from sofie_rdf.passes import functions, simplify
from sofie_rdf.passes.simplify import (
    fold_constants,
    fold_sizes,
    merge_equal,
    merge_transposes,
    remove_dead,
    remove_identities,
    remove_neutral,
    scatter_columns,
    split_joined,
)
from sofie_rdf.reference import evaluate
from tests.passes.graphs import N, Net, batch, floats, identical, operators, summary

# remove_dead --------------------------------------------------------------------------------------


def test_nodes_and_constants_that_no_output_needs_vanish() -> None:
    b = Net(N, 2)
    b.input("unused", floats(N, 3))
    b.op(Add(), b.op(Relu(), "x", name="dead1"), b.c("c1", [1, 2]), name="dead2")
    b.op(Mul(), "x", b.c("c2", [1, 2]), name="y")
    before = b.graph("y")
    after = remove_dead(before)
    assert summary(after) == ["y = Mul()(x, c2)"]
    assert set(after.types) == {"x", "unused", "c2", "y"}
    assert after.inputs == ("x", "unused")
    identical(before, after)


def test_nodes_stay_in_order_and_outputs_may_be_inputs_or_constants() -> None:
    b = Net(N)
    b.c("c", [1])
    b.op(Relu(), b.op(Exp(), "x", name="e"), name="y")
    before = b.graph("c", "e", "y", "x")
    after = remove_dead(before)
    assert summary(after) == summary(before)
    identical(before, after)


def test_what_decides_a_size_that_is_used_stays() -> None:
    """Of these places only the number matters; another size nobody asks for."""
    b = Net(N)
    places = b.op(NonZero(), "x", name="places")
    b.op(NonZero(), b.op(Neg(), "x", name="a"), name="others")
    b.op(Expand((b.types[places].shape[1],)), b.c("c", [2.0]), name="y")
    before = b.graph("y")
    after = remove_dead(before)
    verify(after)
    assert [n.op.name for n in after.nodes] == ["NonZero", "Expand"]
    identical(before, after)


# remove_identities --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "op",
    [
        Identity(),
        Dropout(),
        Cast(to=DType.FLOAT32),
        Transpose(perm=(0, 1, 2)),
        Transpose(perm=(0, -2, -1)),
        Reshape((0, 2, 3)),
        Reshape((-1, 2, 3)),
        Max(),
        Min(),
        Sum(),
        Mean(),
        Concat(axis=1),
        Clip(),
        Expand((1, 2, 1)),
        Slice((0, -9), (3, 9), (2, 1), (1, 1)),
        Slice((0,), (3,), (2,)),
    ],
    ids=str,
)
def test_operators_that_do_nothing(op: Operator) -> None:
    b = Net(N, 2, 3)
    b.op(Exp(), b.op(op, b.op(Relu(), "x", name="r")), name="y")
    before = b.graph("y")
    after = remove_identities(before)
    assert summary(after) == ["r = Relu()(x)", "y = Exp()(r)"]
    assert set(after.types) == {"x", "r", "y"}
    identical(before, after)


@pytest.mark.parametrize(
    "op",
    [
        Cast(to=DType.FLOAT64),
        Transpose(perm=(0, 2, 1)),
        Reshape((-1, 3, 2)),
        Flatten(),
        Unsqueeze((0,)),
        Relu(),
        Slice((2,), (-9,), (2,), (-1,)),
        Slice((0,), (2,), (2,)),
        Expand((4, 1, 1, 1)),
    ],
    ids=str,
)
def test_and_operators_that_do_something(op: Operator) -> None:
    b = Net(N, 2, 2) if op == Transpose(perm=(0, 2, 1)) else Net(N, 2, 3)
    before = b.graph(b.op(op, "x", name="y"))
    assert summary(remove_identities(before)) == summary(before)


def test_a_clip_with_a_bound_and_a_concat_of_two_stay() -> None:
    b = Net(N)
    b.op(Clip(), "x", "", b.c("c", 1), name="clipped")
    b.op(Max(), "x", "x", name="same")
    before = b.graph("clipped", "same")
    assert summary(remove_identities(before)) == summary(before)


def test_flatten_of_a_matrix_is_nothing_and_squeeze_of_nothing_too() -> None:
    b = Net(N, 3)
    b.op(Exp(), b.op(Squeeze(()), b.op(Flatten(), "x")), name="y")
    assert summary(remove_identities(b.graph("y"))) == ["y = Exp()(x)"]


def test_an_output_gives_its_name_to_the_node_that_computes_it() -> None:
    b = Net(N)
    r = b.op(Relu(), "x", name="r")
    b.op(Identity(), b.op(Identity(), r), name="y")
    b.op(Exp(), r, name="z")
    before = b.graph("y", "z")
    after = remove_identities(before)
    assert summary(after) == ["y = Relu()(x)", "z = Exp()(y)"]
    assert after.nodes[0].origin == Origin("net.onnx", "r")
    identical(before, after)


def test_an_output_that_is_an_input_or_a_constant_stays_an_identity() -> None:
    b = Net(N)
    b.op(Dropout(), "x", name="y")
    b.op(Identity(), b.c("c", [1]), name="k")
    before = b.graph("y", "k", "x")
    after = remove_identities(before)
    assert summary(after) == ["y = Identity()(x)", "k = Identity()(c)"]
    identical(before, after)
    assert graph_text(remove_identities(after)) == graph_text(after)


def test_two_outputs_of_one_value() -> None:
    b = Net(N)
    r = b.op(Relu(), "x", name="r")
    b.op(Identity(), r, name="y1")
    b.op(Identity(), "y1", name="y2")
    before = b.graph("y2", "y1")
    after = remove_identities(before)
    assert sorted(summary(after)) == ["y1 = Identity()(y2)", "y2 = Relu()(x)"]
    identical(before, after)
    both = b.graph("y2", "r", "y1")
    assert summary(remove_identities(both)) == [
        "r = Relu()(x)",
        "y1 = Identity()(r)",
        "y2 = Identity()(r)",
    ]
    identical(both, remove_identities(both))


@pytest.mark.parametrize(
    ("steps", "one"),
    [
        ((Reshape((-1, 6)), Reshape((0, 3, 2))), "Reshape(shape=(0, 3, 2))"),
        ((Flatten(), Unsqueeze((2,)), Squeeze((2,))), "Reshape(shape=(0, 6))"),
        ((Unsqueeze((0,)), Reshape((-1, 3))), "Reshape(shape=(-1, 3))"),
        ((Flatten(), Dropout(), Flatten(0)), "Reshape(shape=(1, -1))"),
    ],
    ids=str,
)
def test_aliases_of_aliases(steps: tuple[Operator, ...], one: str) -> None:
    b, value = Net(N, 2, 3), "x"
    for step in steps:
        value = b.op(step, value)
    before = b.graph(b.op(Exp(), value, name="y"))
    after = remove_dead(remove_identities(before))
    assert operators(after) == [one, "Exp()"]
    identical(before, after)


def test_aliases_that_come_back_are_nothing() -> None:
    b = Net(N, 2, 3)
    b.op(Exp(), b.op(Reshape((-1, 2, 3)), b.op(Flatten(), "x")), name="y")
    before = b.graph("y")
    after = remove_dead(remove_identities(before))
    assert summary(after) == ["y = Exp()(x)"]
    identical(before, after)


def test_an_alias_that_is_needed_itself_stays() -> None:
    b = Net(N, 2, 3)
    flat = b.op(Flatten(), "x", name="flat")
    b.op(Reshape((-1, 3)), flat, name="y")
    before = b.graph("flat", "y")
    after = remove_identities(before)
    assert summary(after) == ["flat = Flatten()(x)", "y = Reshape(shape=(-1, 3))(x)"]
    identical(before, after)


def test_shapes_that_a_reshape_cannot_say_stay_as_they_are() -> None:
    b = Net(N, N + 1, 4)
    moved = b.op(Unsqueeze((0,)), b.op(Unsqueeze((3,)), "x"), name="y")
    before = b.graph(moved)
    assert summary(remove_identities(before)) == summary(before)
    identical(before, remove_identities(before), {"x": np.ones((2, 3, 4), np.float32)})
    b = Net(N, 0, 3)
    before = b.graph(b.op(Reshape((0, 3, 0)), b.op(Unsqueeze((0,)), b.op(Squeeze(()), "x"))))
    identical(before, remove_identities(before))


# merge_transposes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ((1, 2, 0), (0, 2, 1), (1, 0, 2)),
        ((2, 0, 1), (2, 1, 0), (1, 0, 2)),
        (None, (1, 0, 2), (1, 2, 0)),
        ((0, 2, -2), None, (1, 2, 0)),
    ],
)
def test_two_transposes_are_one(
    first: tuple[int, ...] | None, second: tuple[int, ...] | None, both: tuple[int, ...]
) -> None:
    b = Net(2, 3, 4)
    before = b.graph(b.op(Transpose(second), b.op(Transpose(first), "x"), name="y"))
    after = merge_transposes(before)
    assert summary(after) == [f"y = {Transpose(both)}(x)"]
    identical(before, after)


def test_a_transpose_and_its_inverse_are_nothing() -> None:
    b, value = Net(2, 3, 4), "x"
    for perm in ((2, 0, 1), (0, 2, 1), (0, 2, 1), (1, 2, 0)):
        value = b.op(Transpose(perm), value)
    before = b.graph(b.op(Relu(), value, name="y"))
    after = remove_identities(merge_transposes(before))
    assert summary(after) == ["y = Relu()(x)"]
    identical(before, after)


# fold_constants -----------------------------------------------------------------------------------


def test_constants_are_folded_as_the_model_would_have_computed_them() -> None:
    b = Net(N, 2)
    third = b.op(Div(), b.c("one", [1, 1]), b.c("three", [3, 7]), name="third")
    b.op(Mul(), "x", b.op(Mul(), third, "three"), name="y")
    before = b.graph("y")
    after = remove_dead(fold_constants(before))
    (node,) = after.nodes
    folded = after.constants[node.inputs[1]]
    assert folded.dtype == np.float32
    assert folded.tolist() == [np.float32(1) / 3 * 3, np.float32(1) / np.float32(7) * 7]
    assert not folded.flags.writeable
    identical(before, after)


def test_overflow_is_a_result() -> None:
    b = Net(N)
    before = b.graph(b.op(Mul(), "x", b.op(Div(), b.c("a", [1]), b.c("z", [0]))))
    after = fold_constants(before)
    assert len(after.nodes) == 1
    assert np.isinf(after.constants[after.nodes[0].inputs[1]])


def test_a_folded_output_is_a_constant_and_inputs_are_never_folded() -> None:
    b = Net(N, 2)
    b.op(Transpose(), b.c("w", [[1, 2], [3, 4], [5, 6]]), name="wt")
    b.op(MatMul(), "x", "wt", name="y")
    before = b.graph("y", "wt")
    after = fold_constants(before)
    assert summary(after) == ["y = MatMul()(x, wt)"]
    assert after.constants["wt"].flags.c_contiguous
    identical(before, after)


def test_optional_inputs_that_are_absent_are_no_obstacle() -> None:
    b = Net(N)
    b.op(Add(), "x", b.op(Clip(), b.c("c", [5]), "", b.c("high", 2)), name="y")
    before = b.graph("y")
    after = fold_constants(before)
    assert len(after.nodes) == 1
    identical(before, after)


def test_what_would_grow_a_lot_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    b = Net(N, 100)
    b.op(Add(), b.c("column", np.ones((100, 1))), b.c("row", np.ones((1, 100))), name="table")
    b.op(MatMul(), "x", "table", name="y")
    before = b.graph("y")
    grown, given = 4 * 100 * 100, 4 * 200
    monkeypatch.setattr(simplify, "GROWTH", grown - given)
    assert len(fold_constants(before).nodes) == 1
    monkeypatch.setattr(simplify, "GROWTH", grown - given - 1)
    assert fold_constants(before).nodes == before.nodes


def test_nothing_of_an_open_size_stays() -> None:
    b = Net(N)
    b.op(Expand((symbol("n"), 0)), b.c("one", 1), name="y")
    before = b.graph("y")
    assert fold_constants(before).nodes == before.nodes


def test_integers_are_folded_as_integers() -> None:
    b = Net(N)
    b.constant(np.array([7, -7], np.int64), "a")
    b.constant(np.array([2, 2], np.int64), "b")
    b.op(Cast(to=DType.FLOAT32), b.op(Div(), "a", "b"), name="y")
    after = fold_constants(b.graph("y"))
    assert after.nodes == ()
    assert after.constants["y"].tolist() == [3.0, -3.0]


def test_an_index_that_does_not_exist_is_refused_by_the_call() -> None:
    """As where the index is no constant; it was called a bug of sofie_rdf's own."""
    b = Net(N)
    b.constant(np.array([9], np.int64), "i")
    b.op(Add(), "x", b.op(Gather(), b.c("w", [1, 2, 3]), "i"), name="y")
    before = b.graph("y")
    assert fold_constants(before).nodes == before.nodes
    with pytest.raises(InputError, match="index 9 does not exist among 3 elements"):
        Model(before)(np.zeros(2, np.float32))


# fold_sizes ---------------------------------------------------------------------------------------


def test_sizes_that_are_numbers_are_constants() -> None:
    b = Net(N, 3, 4)
    last = b.op(Gather(), b.op(Shape(), "x"), b.c64("i", 2))
    root = b.op(Sqrt(), b.op(Cast(DType.FLOAT32), b.op(Mul(), last, last)))
    before = b.graph(b.op(Div(), "x", root, name="y"))
    after = remove_dead(fold_constants(fold_sizes(before)))
    assert operators(after) == ["Div()"]
    identical(before, after)


def test_sizes_that_only_the_run_knows_stay() -> None:
    b = Net(N, 3, 4)
    first = b.op(Gather(), b.op(Shape(), "x"), b.c64("i", 0))
    before = b.graph(b.op(Mul(), first, first, name="y"))
    assert summary(fold_sizes(before)) == summary(before)


# merge_equal --------------------------------------------------------------------------------------


def test_equal_nodes_are_there_once() -> None:
    b = Net(N)
    left = b.op(Exp(), b.op(Relu(), "x", name="r1"), name="e1")
    right = b.op(Exp(), b.op(Relu(), "x", name="r2"), name="e2")
    b.op(Add(), left, right, name="y")
    before = b.graph("y")
    after = merge_equal(before)
    assert summary(after) == ["r1 = Relu()(x)", "e1 = Exp()(r1)", "y = Add()(e1, e1)"]
    identical(before, after)


def test_nodes_that_differ_in_an_attribute_or_an_input_or_their_order_do_not() -> None:
    b = Net(N)
    e = b.op(Exp(), "x")
    outputs = [
        b.op(LeakyRelu(0.0), "x"),
        b.op(LeakyRelu(-0.0), "x"),
        b.op(LeakyRelu(0.5), "x"),
        b.op(LeakyRelu(0.5), e),
        b.op(Sub(), "x", e),
        b.op(Sub(), e, "x"),
    ]
    before = b.graph(*outputs)
    assert merge_equal(before).nodes == before.nodes


def test_equal_outputs_keep_both_names() -> None:
    b = Net(N)
    b.op(Relu(), "x", name="y1")
    b.op(Relu(), "x", name="y2")
    before = b.graph("y1", "y2")
    after = merge_equal(before)
    assert summary(after) == ["y1 = Relu()(x)", "y2 = Identity()(y1)"]
    identical(before, after)
    one = remove_identities(merge_equal(b.graph("y2")))
    assert summary(one) == ["y2 = Relu()(x)"]


def test_equal_sizes_that_the_data_decide_have_one_name() -> None:
    b = Net(N, 3)
    first, second = b.op(NonZero(), "x", name="n1"), b.op(NonZero(), "x", name="n2")
    b.op(Transpose((1, 0)), second, name="t")
    b.op(Cast(DType.FLOAT32), first, name="c")
    before = b.graph("n1", "n2", "t", "c")
    after = merge_equal(before)
    verify(after)
    assert len({after.types[n].shape[1] for n in ("n1", "n2", "c")}) == 1
    old, new = (evaluate(g, batch(before)) for g in (before, after))
    assert all(old[n].tobytes() == new[n].tobytes() for n in before.outputs)


def test_equal_constants_are_there_once() -> None:
    b = Net(N)
    for name, value in {"a": [0.0], "b": [0.0], "c": [-0.0], "d": 0.0}.items():
        b.op(Add(), "x", b.c(name, value), name=f"y{name}")
    b.constant(np.zeros(1, np.int32), "e")
    before = b.graph("ya", "yb", "yc", "yd", "e", "b")
    after = remove_dead(merge_equal(before))
    assert summary(after) == [
        "ya = Add()(x, a)",
        "yb = Identity()(ya)",
        "yc = Add()(x, c)",
        "yd = Add()(x, d)",
    ]
    assert "b" in after.constants
    identical(before, after)


# remove_neutral -----------------------------------------------------------------------------------


def applied_to(op: Operator, value: object, *, dtype: DType = DType.FLOAT32) -> Graph:
    b = Net(N, 3, dtype=dtype)
    return b.graph(b.op(op, "x", b.c("c", value), name="y"))


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT64, DType.INT32])
@pytest.mark.parametrize(
    ("op", "value"),
    [(Mul(), 1), (Mul(), [1, 1, 1]), (Div(), [[1]]), (Sub(), 0), (Add(), -0.0)],
    ids=str,
)
def test_neutral_elements(op: Operator, value: object, dtype: DType) -> None:
    before = applied_to(op, value, dtype=dtype)
    feeds = batch(before)
    if dtype.is_float:
        feeds["x"][0] = [np.inf, -np.inf, np.nan]
    after = remove_neutral(before)
    assert summary(after) == ["y = Identity()(x)"]
    identical(before, after, feeds)


@pytest.mark.parametrize(
    ("op", "value"),
    [(Add(), 0.0), (Sub(), -0.0), (Mul(), [1, 1, 2]), (Mul(), -1), (Div(), 2), (Add(), 1)],
    ids=str,
)
def test_what_is_nearly_neutral_stays(op: Operator, value: object) -> None:
    before = applied_to(op, value)
    assert remove_neutral(before).nodes == before.nodes


def test_a_neutral_element_that_broadcasts_is_refused() -> None:
    before = applied_to(Mul(), np.ones((2, 1, 1)))
    after, report = remove_neutral.explain(before)
    assert after.nodes == before.nodes
    assert [r.reason for r in report.refused] == ["it gives x another shape"]


def test_the_order_of_sub_and_div_matters() -> None:
    b = Net(N)
    y = b.op(Sub(), b.c("zero", 0), b.op(Div(), b.c("one", 1), "x"))
    assert remove_neutral(b.graph(y)).nodes == b.graph(y).nodes


@pytest.mark.parametrize("op", [Relu(), Abs(), Floor(), Ceil(), Round()], ids=str)
def test_twice_is_as_good_as_once(op: Operator) -> None:
    b = Net(N)
    before = b.graph(b.op(op, b.op(op, b.op(op, "x")), name="y"))
    after = remove_neutral(before)
    assert summary(after) == [f"y = {op}(x)"]
    identical(before, after)


def test_but_not_everything_twice() -> None:
    b = Net(N)
    before = b.graph(b.op(Exp(), b.op(Exp(), b.op(LeakyRelu(), b.op(LeakyRelu(), "x")))))
    assert remove_neutral(before).nodes == before.nodes


def test_minus_minus() -> None:
    b = Net(N)
    before = b.graph(b.op(Neg(), b.op(Neg(), "x"), name="y"))
    after = remove_neutral(before)
    assert summary(after) == ["y = Identity()(x)"]
    identical(before, after)


# All ----------------------------------------------------------------------------------------------

PASSES = (
    remove_dead,
    remove_identities,
    merge_transposes,
    fold_constants,
    merge_equal,
    remove_neutral,
    functions.known_functions,
)


@pytest.mark.parametrize("one", PASSES, ids=lambda p: getattr(p, "__name__", "rules"))
def test_a_pass_does_nothing_twice_and_to_nothing(one: object) -> None:
    assert callable(one)
    b = Net(N, 2)
    value = b.op(Reshape((-1, 2)), b.op(Flatten(), b.op(Identity(), "x")))
    value = b.op(Gemm(), value, b.op(Transpose(), b.c("w", np.eye(2))))
    value = b.op(Relu(), b.op(Relu(), b.op(Mul(), value, b.c("one", 1))))
    graph = b.graph(b.op(Add(), value, b.op(Relu(), value)))
    once = one(graph)
    assert graph_text(one(once)) == graph_text(once)
    identical(graph, once)
    empty = Net(N).graph("x")
    assert one(empty).nodes == ()
    identical(empty, one(empty))


def test_types_are_kept_for_values_only() -> None:
    b = Net(N, 2)
    b.op(Relu(), b.op(Identity(), "x", name="i"), name="y")
    after = remove_identities(b.graph("y"))
    assert after.types["y"] == TensorType(DType.FLOAT32, (N, 2))
    assert "i" not in after.types
    assert evaluate(after, batch(after))["y"].shape == (64, 2)


def test_indices_that_are_repeated_and_joined() -> None:
    b = Net(3, 2, 6, 6)
    all_of = Expand((N, 2, 5))
    constants = [[[0]], [[2]], [[1]]], [[[1], [0]]], [0, 1, 2, 5, 5], [3] * 5
    places = [b.op(all_of, b.c64(f"i{a}", c)) for a, c in enumerate(constants)]
    b.input("updates", floats(N, 2, 5))
    at = b.op(Concat(-1), *(b.op(Unsqueeze((3,)), p) for p in places))
    before = b.graph(b.op(ScatterND(), "x", at, "updates", name="y"))
    after = remove_dead(scatter_columns(before))
    assert [o.partition("(")[0] for o in operators(after)][-1] == "sofie.ScatterAt"
    assert not any("Expand" in o or "Concat" in o for o in operators(after))
    identical(before, after, batch(before, 3))


def test_indices_of_which_each_place_has_its_own() -> None:
    b = Net(3, 2, 6, 6)
    rng = np.random.default_rng(2)
    sizes = (3, 2, 6, 6)
    places = [b.c64(f"i{a}", rng.integers(-n, n, (3, 2, 5))) for a, n in enumerate(sizes)]
    b.input("updates", floats(3, 2, 5))
    at = b.op(Concat(-1), *(b.op(Unsqueeze((3,)), p) for p in places))
    before = b.graph(b.op(ScatterND(), "x", at, "updates", name="y"))
    after = remove_dead(scatter_columns(before))
    assert operators(after) == ["sofie.ScatterAt()"]
    identical(before, after)


def test_indices_that_are_joined_otherwise_stay() -> None:
    def reasons(graph: Graph) -> list[str]:
        after, report = scatter_columns.explain(graph)
        assert after is graph
        return [r.reason for r in report.refused]

    b = Net(4, 4)
    pairs = b.op(Concat(0), b.c64("a", [[0, 1]]), b.c64("b", [[2, 3]]))
    b.input("updates", floats(2))
    graph = b.graph(b.op(ScatterND(), "x", pairs, "updates", name="y"))
    assert reasons(graph) == ["it is not one tensor of indices for each axis"]
    b = Net(4, 4)
    pairs = b.op(Concat(1), b.c64("a", [[0], [1]]), b.c64("b", [[2], [3]]))
    b.input("updates", floats(2))
    graph = b.graph(b.op(ScatterND("add"), "x", pairs, "updates", name="y"))
    assert reasons(graph) == ["what is there counts as well"]


# split_joined -------------------------------------------------------------------------------------


def test_what_was_joined_is_not_copied_to_be_cut_again() -> None:
    b = Net(N, 2)
    both = b.op(Concat(1), b.op(Relu(), "x", name="r"), b.op(Exp(), "x", name="e"))
    b(Split(-1, split=(2, 2)), both, outputs=("p", "q"))
    b.op(Sub(), "p", "q", name="y")
    before = b.graph("y")
    after = remove_dead(remove_identities(split_joined(before)))
    assert summary(after) == ["r = Relu()(x)", "e = Exp()(x)", "y = Sub()(r, e)"]
    identical(before, after)


@pytest.mark.parametrize(("axis", "split"), [(1, (1, 3)), (1, (1, 1, 2)), (0, (4, 4))])
def test_what_was_joined_is_cut_elsewhere(axis: int, split: tuple[int, ...]) -> None:
    b = Net(8, 2)
    both = b.op(Concat(1), "x", b.op(Exp(), "x"))
    names = "pqr"[: len(split)]
    b(Split(axis, split=split), both, outputs=names)
    before = b.graph(*names)
    assert split_joined(before) is before
