"""What a user asks a model for: gradients, Jacobians, Hessians, weights as inputs, and refusals."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import sofie_rdf
from sofie_rdf import Model
from sofie_rdf.bench.models import candidates
from sofie_rdf.errors import ModelError, UnsupportedOperator
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.types import Array
from sofie_rdf.passes.rows import rows_of

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
WEIGHTS = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)


def proto(body: str, face: str = "(float[N, 3] x) => (float[N, 1] y)") -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEAD} g {face} {{ {body} }}")


def model(body: str, face: str = "(float[N, 3] x) => (float[N, 1] y)") -> Model:
    return Model(read(proto(body, face)))


def two_outputs() -> Model:
    given = proto(
        "a = MatMul (x, w) p = Softmax (a) t = Tanh (a) y = ReduceSum (t, axes)",
        "(float[N, 3] x) => (float[N, 4] p, float[N, 1] y)",
    )
    given.graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(WEIGHTS, "w"),
            onnx.numpy_helper.from_array(np.array([1], np.int64), "axes"),
        ]
    )
    return Model(read(given))


def events(count: int = 5) -> Array:
    return np.random.default_rng(2).normal(size=(count, 3)).astype(np.float32)


def test_a_gradient_is_a_model_with_the_outputs_that_there_were() -> None:
    plain, x = two_outputs(), events()
    found = plain.gradient(of="y", wrt="x")
    assert list(found.outputs) == ["p", "y", "d_y/d_x"]
    assert str(found.outputs["d_y/d_x"]) == "float32[N, 3]"
    outputs, own = found(x), plain(x)
    for name in plain.outputs:
        np.testing.assert_allclose(outputs[name], own[name], rtol=1e-6)
    slopes = 1 - np.tanh(x.astype(np.float64) @ WEIGHTS) ** 2
    np.testing.assert_allclose(outputs["d_y/d_x"], slopes @ WEIGHTS.T, rtol=1e-5, atol=1e-6)


def test_outputs_of_several_numbers_need_to_be_asked_otherwise() -> None:
    with pytest.raises(ModelError, match=r"'p' is float32\[N, 4\].*jacobian.*vjp"):
        two_outputs().gradient(of="p")
    with pytest.raises(ModelError, match="'p'"):
        two_outputs().gradient()


def test_a_jacobian_has_a_row_for_each_element() -> None:
    x = events()
    found = two_outputs().jacobian(of="p", wrt="x")(x)
    p = found["p"].astype(np.float64)
    wanted = np.einsum("nc,kc->nck", p, WEIGHTS) - np.einsum("nc,nd,kd->nck", p, p, WEIGHTS)
    assert found["d_p/d_x"].shape == (5, 4, 3)
    np.testing.assert_allclose(found["d_p/d_x"], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("vjp", [True, "weights", {"p": "weights"}])
def test_cotangents_are_inputs(vjp: object) -> None:
    x = events()
    weights = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    derived = two_outputs().gradient("p", "x", vjp=vjp)  # type: ignore[arg-type]
    assert list(derived.inputs) == ["x", "v_p" if vjp is True else "weights"]
    found = derived(x, weights)["d_p/d_x"]
    rows = two_outputs().jacobian("p", "x")(x)["d_p/d_x"]
    np.testing.assert_allclose(found, np.einsum("nc,nck->nk", weights, rows), rtol=1e-4, atol=1e-6)


def test_second_derivatives() -> None:
    x = events()
    found = two_outputs().hessian("y", "x")(x)
    t = np.tanh(x.astype(np.float64) @ WEIGHTS)
    wanted = np.einsum("nc,kc,lc->nkl", -2 * t * (1 - t * t), WEIGHTS, WEIGHTS)
    np.testing.assert_allclose(found["d2_y/d_x/d_x"], wanted, rtol=1e-4, atol=1e-5)
    again = two_outputs().gradient("y", "x").gradient("d_y/d_x", "x", vjp="v")
    ones = np.ones((5, 3), np.float32)
    np.testing.assert_allclose(again(x, ones)["d2_y/d_x/d_x"], wanted.sum(1), rtol=1e-4, atol=1e-5)


def test_weights_become_inputs_and_have_derivatives() -> None:
    x = events()
    free = two_outputs().parametrised(["w"])
    assert list(free.inputs) == ["x", "w"]
    np.testing.assert_allclose(free(x, WEIGHTS)["y"], two_outputs()(x)["y"], rtol=1e-5)
    derived = free.gradient("y", ["x", "w"])
    found = derived(x, WEIGHTS)
    slopes = 1 - np.tanh(x.astype(np.float64) @ WEIGHTS) ** 2
    np.testing.assert_allclose(found["d_y/d_w"], x.T @ slopes, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["d_y/d_x"], slopes @ WEIGHTS.T, rtol=1e-4, atol=1e-6)


def test_wrong_names_are_told() -> None:
    with pytest.raises(ModelError, match="of='z' is no output"):
        two_outputs().gradient(of="z")
    with pytest.raises(ModelError, match=r"wrt='w' is no input.*parametrised\(\['w'\]\)"):
        two_outputs().gradient("y", wrt="w")
    with pytest.raises(ModelError, match="no initializer 'v'"):
        two_outputs().parametrised("v")
    with pytest.raises(ModelError, match="vjp names 'y'"):
        two_outputs().gradient("p", vjp={"y": "v"})
    with pytest.raises(ModelError, match="name of a value of the model already"):
        two_outputs().gradient("p", vjp="x")
    whole = model("y = Cast <to: int = 7> (x)", "(float[N, 3] x) => (int64[N, 3] y)")
    with pytest.raises(ModelError, match="no output of floating-point"):
        whole.gradient()
    with pytest.raises(ModelError, match="only floating-point numbers have derivatives"):
        whole.gradient("y")


def test_what_does_not_depend_has_zeros() -> None:
    face = "(float[N, 1] x, float[N, 2] z) => (float[N, 1] y)"
    free = model("a = ArgMax <axis = 1> (z) f = Cast <to: int = 1> (a) y = Add (x, f)", face)
    found = free.gradient()(np.ones((4, 1), np.float32), np.ones((4, 2), np.float32))
    np.testing.assert_array_equal(found["d_y/d_z"], np.zeros((4, 2)))
    np.testing.assert_array_equal(found["d_y/d_x"], np.ones((4, 1)))


def test_what_has_no_derivative_is_refused_by_name_with_a_way_out(tmp_path: Path) -> None:
    body = "a = MaxRoiPool <pooled_shape = [1, 1]> (z, q) y = Add (x, a)"
    face = "(float[N, 1, 1, 1] x, float[N, 1, 2, 2] z, float[N, 5] q) => (float[N, 1, 1, 1] y)"
    refused = model(body, face)
    with pytest.raises(UnsupportedOperator, match=r"MaxRoiPool has no gradient here.*pullback"):
        refused.gradient()
    # By an input that does not go through it there is one.
    assert "d_y/d_x" in refused.gradient(wrt="x").outputs
    given = proto(body, face)
    path = tmp_path / "regions.onnx"
    path.write_bytes(given.SerializeToString())
    assert sofie_rdf.check(path) == []
    (problem,) = sofie_rdf.check(path, gradient=True)
    assert "MaxRoiPool has no gradient here" in str(problem)


def test_numbers_that_are_rounded_to_few_bits_are_refused() -> None:
    rounded = model(
        "q = QuantizeLinear (x, s) d = DequantizeLinear (q, s) y = ReduceSum <keepdims = 1> (d)",
        "(float[N, 3] x, float s) => (float[A, B] y)",
    )
    with pytest.raises(UnsupportedOperator, match=r"rounded to few bits.*before it was quantized"):
        rounded.gradient(wrt="x")


def test_derivatives_have_the_names_of_features() -> None:
    named = two_outputs().named(features=["pt", "eta", "m_jj"], labels={"p": list("abcd")})
    found = named.gradient("y", "x")
    assert found.features == {"x": ("pt", "eta", "m_jj")}
    assert found.labels == {"p": tuple("abcd"), "d_y/d_x": ("pt", "eta", "m_jj")}
    assert named.parametrised("w").features == {"x": ("pt", "eta", "m_jj")}


def test_a_gradient_is_stored_and_read_again(tmp_path: Path) -> None:
    x = events()
    derived = two_outputs().gradient("y", "x")
    derived.save(tmp_path / "g.root")
    again = sofie_rdf.load(tmp_path / "g.root")
    np.testing.assert_array_equal(again(x)["d_y/d_x"], derived(x)["d_y/d_x"])
    with pytest.raises(ModelError, match="First take the gradient"):
        two_outputs().with_precision("bfloat16").gradient("y")


def test_columns_have_derivatives_by_the_names_of_features() -> None:
    root = pytest.importorskip("ROOT")
    derived = two_outputs().named(features=["pt", "eta", "m_jj"]).gradient("y", "x")
    df = root.RDataFrame(4).Define("pt", "0.1f * rdfentry_")
    df = df.Define("eta", "-0.5f").Define("m_jj", "0.3f")
    columns = {"dnn": "y", "d_m_jj": "d_y/d_x[m_jj]"}
    found = sofie_rdf.define(df, columns, derived).AsNumpy(["dnn", "d_m_jj"])
    x = np.array([[np.float32(0.1) * i, -0.5, 0.3] for i in range(4)], np.float32)
    np.testing.assert_array_equal(found["d_m_jj"], derived(x)["d_y/d_x"][:, 2])
    np.testing.assert_array_equal(found["dnn"], derived(x)["y"][:, 0])


def test_rows_of_a_gradient_keep_apart() -> None:
    derived = two_outputs().gradient("y", "x")
    assert rows_of(derived.graph) == "N"
    assert rows_of(derived.optimized) == "N"


def test_what_is_too_large_is_refused_before_it_is_made() -> None:
    large = model("s = Shape (x) y = Expand (x, s)", "(float[N, 300000] x) => (float[N, 300000] y)")
    with pytest.raises(ModelError, match="at most 4096 elements"):
        large.jacobian()


def test_numbers_of_elements_that_are_open_have_no_jacobian() -> None:
    open_size = model("y = Tanh (x)", "(float[N, M] x) => (float[N, M] y)")
    with pytest.raises(ModelError, match="number of elements is open"):
        open_size.jacobian()
    with pytest.raises(ModelError, match="no gradient but a Jacobian"):
        open_size.gradient()


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("y = Softmax <axis = 0> (x)", "Softmax"),
        ("y = CumSum (x, zero)", "CumSum"),
        ("m = ReduceMean (x, axes) y = Sub (x, m)", "ReduceMean"),
        ("m = Gather (x, zero) y = Mul (x, m)", "Gather"),
        ("t = Transpose <perm = [1, 0]> (x) p = MatMul (x, t) y = MatMul (p, x)", "MatMul"),
        (
            (
                "i = Unsqueeze (x, front) t = Transpose <perm = [0, 2, 1]> (i) s = "
                "InstanceNormalization (t, k, k) u = Transpose <perm = [0, 2, 1]> (s) "
                "y = Squeeze (u, front)"
            ),
            "InstanceNormalization",
        ),
    ],
)
def test_events_that_meet_have_a_gradient_of_their_weighed_sum_alone(body: str, name: str) -> None:
    given = proto(body, "(float[N, 1] x) => (float[N, 1] y)")
    constants = {
        "zero": np.array(0, np.int64),
        "axes": np.array([0], np.int64),
        "k": np.ones(1, np.float32),
        "front": np.array([0], np.int64),
    }
    used = {i for node in given.graph.node for i in node.input}
    given.graph.initializer.extend(
        onnx.numpy_helper.from_array(a, n) for n, a in constants.items() if n in used
    )
    meeting = Model(read(given))
    for ask in (meeting.gradient, meeting.jacobian, meeting.hessian):
        with pytest.raises(ModelError, match=rf"events meet in {name}.*vjp=True"):
            ask()
    assert [str(p) for p in sofie_rdf.check(given, gradient=True)] != []
    weighed, x = meeting.gradient(vjp="v"), events()[:, :1]
    v = np.array([[1], [2], [4], [8], [16]], np.float32)
    found = weighed(x=x, v=v)["d_y/d_x"].astype(np.float64)
    step = np.float32(1e-2)
    for number in range(5):
        moved = [x.copy(), x.copy()]
        moved[0][number] += step
        moved[1][number] -= step
        high, low = (meeting(m).astype(np.float64) for m in moved)
        np.testing.assert_allclose(
            found[number, 0], np.sum(v * (high - low)) / 0.02, rtol=1e-2, atol=1e-2
        )


ALONG = "s = Shape (x) n = Gather <axis = 0> (s, zero) v, i = TopK <axis = 0> (x, n)"
TURNED = "t = Transpose <perm = [1, 0]> (x) s = Shape (x)"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("a = Slice (x, zero, last, zero) p = Pad (a, pads) y = Sub (x, p)", "Slice"),
        ("r = Slice (x, last, least, zero, last) y = Mul (x, r)", "Slice"),
        ("p = Pad (x, pads) q = Slice (p, zero, last, zero) y = Mul (x, q)", "Pad"),
        (f"{ALONG} f = Squeeze (i, one) r = Gather (x, f) y = Mul (x, r)", "TopK"),
        (f"{ALONG} r = GatherElements <axis = 0> (x, i) y = Mul (x, r)", "TopK"),
        (f"{ALONG} r = GatherND (x, i) y = Mul (x, r)", "TopK"),
        ("y = MeanVarianceNormalization <axes = [0]> (x)", "MeanVarianceNormalization"),
        ("i = Unsqueeze (x, zero) l = LRN <size = 3> (i) y = Squeeze (l, zero)", "LRN"),
        (
            (
                "s = Shape (x) n = Gather <axis = 0> (s, zero) r = "
                "ReverseSequence <time_axis = 0, batch_axis = 1> (x, n) y = Mul (x, r)"
            ),
            "ReverseSequence",
        ),
        (f"{TURNED} r = Reshape (t, s) q = Mul (x, r) y = ReduceSum (q, one)", "Reshape"),
    ],
)
def test_events_that_are_put_into_others_have_no_gradient_of_their_own(
    body: str, name: str
) -> None:
    width = 2 if "Reshape" in body else 1
    given = proto(body, f"(float[N, {width}] x) => (float[N, 1] y)")
    constants = {"zero": [0], "one": [1], "last": [-1], "least": [-(2**62)], "pads": [1, 0, 0, 0]}
    used = {i for node in given.graph.node for i in node.input}
    given.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(a, np.int64), n)
        for n, a in constants.items()
        if n in used
    )
    mixing = Model(read(given))
    for ask in (mixing.gradient, mixing.jacobian, mixing.hessian):
        with pytest.raises(ModelError, match=rf"events (may )?meet in {name}.*vjp=True"):
            ask()
    assert "d_y/d_x" in mixing.gradient(vjp=True).outputs


def test_events_that_keep_apart_in_operators_without_a_rule_have_gradients() -> None:
    body = "f = Unsqueeze (x, one) d = Det (f) r = Mul (d, d) y = Unsqueeze (r, one)"
    given = proto(body, "(float[N, 1] x) => (float[N, 1] y)")
    given.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "one"))
    x = events()[:, :1]
    np.testing.assert_allclose(Model(read(given)).gradient()(x)["d_y/d_x"], 2 * x, rtol=1e-5)


def test_what_is_summed_over_events_is_differentiated_where_it_is_no_number_of_an_event() -> None:
    total = model("y = ReduceSum <keepdims = 0> (x)", "(float[N, 3] x) => (float y)")
    np.testing.assert_array_equal(total.gradient()(events())["d_y/d_x"], np.ones((5, 3)))


def square() -> Model:
    """Three layers: products with weights whose transposes have their shape, and a bias."""
    given = proto("a = MatMul (x, w) b = Add (a, c) t = Tanh (b) d = MatMul (t, w) y = Gemm (d, u)")
    random = np.random.default_rng(3)
    for name, shape in {"w": (3, 3), "c": (3,), "u": (3, 1)}.items():
        array = random.normal(size=shape).astype(np.float32)
        given.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return Model(read(given))


@pytest.mark.parametrize("kind", ["gradient", "jacobian", "hessian"])
@pytest.mark.parametrize("names", [["w"], ["c"], ["u", "w"]], ids="-".join)
def test_weights_become_inputs_of_derivatives_that_are_there(kind: str, names: list[str]) -> None:
    plain, x = square(), events()
    first = getattr(plain, kind)().parametrised(names)
    assert list(first.inputs) == ["x", *names]
    assert list(first.outputs) == list(getattr(plain, kind)().outputs)
    one_by_one = getattr(plain, kind)()
    for name in names:
        one_by_one = one_by_one.parametrised(name)
    random = np.random.default_rng(4)
    given = {n: random.normal(size=plain.graph.constants[n].shape).astype("f4") for n in names}
    found, wanted = first({"x": x, **given}), getattr(plain.parametrised(names), kind)(wrt="x")
    for name, array in wanted({"x": x, **given}).items():
        np.testing.assert_array_equal(found[name], array)
        np.testing.assert_array_equal(one_by_one({"x": x, **given})[name], array)
    # What they were before is what the derivatives were.
    own = first({"x": x, **{n: plain.graph.constants[n] for n in names}})
    for name, array in getattr(plain, kind)()(x).items():
        np.testing.assert_allclose(own[name], array, rtol=1e-5, atol=1e-6)


def test_cotangents_stay_before_weights_that_become_inputs() -> None:
    slopes = square().gradient(vjp=True).parametrised("w")
    assert list(slopes.inputs) == ["x", "v_y", "w"]


def test_weights_of_derivatives_that_were_stored_are_refused(tmp_path: Path) -> None:
    slopes = square().gradient()
    slopes.save(tmp_path / "slopes.root")
    loaded = sofie_rdf.load(tmp_path / "slopes.root")
    renamed = slopes.named(features=["a", "b", "c"])
    for one in (
        loaded,
        renamed,
        loaded.gradient("d_y/d_x", vjp=True),
        pickle.loads(pickle.dumps(slopes)),
    ):
        with pytest.raises(
            ModelError, match=r"gives the derivatives d_y/d_x.*parametrised\(\['w'\]\)"
        ):
            one.parametrised(["w"])


@pytest.mark.parametrize("name", ["particlenet", "transformer", "gru64", "mobilenet_v3_small"])
def test_events_of_a_gradient_are_known_to_keep_apart(name: str) -> None:
    """So that large batches are computed in pieces, in Python and in `infer`."""
    (one,) = candidates([name])
    assert rows_of(one.model.gradient(vjp=True).optimized)


@pytest.mark.parametrize(
    ("x", "at"),
    [
        # One axis, which is counted from its end as well, and two; behind one axis and two.
        ((3, 4, 5), [[[0], [-1]], [[3], [3]], [[-4], [1]]]),
        ((2, 3, 4, 5), [[[2, -1], [-3, 0], [2, 3]], [[0, 0], [-2, -2], [0, 0]]]),
        ((2, 2, 4, 3), [[[[1], [-1]], [[0], [0]]], [[[3], [2]], [[-4], [0]]]]),
    ],
    ids=["slices", "elements", "matrices"],
)
def test_what_is_gathered_within_batches_comes_back_to_its_place(
    x: tuple[int, ...], at: list[Any]
) -> None:
    places, given = np.array(at), np.random.default_rng(1).normal(size=x).astype(np.float32)
    batch, depth = places.ndim - 2, places.shape[-1]
    shape = (*places.shape[:-1], *x[batch + depth :])
    names = ["N", *map(str, x[1:])], ["N", *map(str, places.shape[1:])], ["N", *map(str, shape[1:])]
    ports = [",".join(listed) for listed in names]
    gathering = model(
        f"y = GatherND <batch_dims = {batch}> (x, i)",
        f"(float[{ports[0]}] x, int64[{ports[1]}] i) => (float[{ports[2]}] y)",
    )
    slopes = gathering.gradient("y", "x", vjp=True)
    assert rows_of(slopes.optimized) == "N"
    v = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    wanted = np.zeros(x, np.float32)
    for index in np.ndindex(*places.shape[:-1]):
        wanted[(*index[:batch], *places[index])] += v[index]
    found = slopes({"x": given, "i": places, "v_y": v})["d_y/d_x"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
