"""Normalisation beside a model: weaver's, lwtnn's, means and scales, and scikit-learn's scalers."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.naming import Filling, fillings_of
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.elementwise import Mul
from sofie_rdf.ops.layout import Identity
from sofie_rdf.ops.reduction import ReduceMean
from sofie_rdf.reference import evaluate

N, P = symbol("N"), symbol("n_pf")
F4 = np.float32
ODD = [math.nan, math.inf, -math.inf, 3e33, -3e33, 1e32, -1e32, 9.9e31, -0.0, 1e-42]


def same(dtype: DType = DType.FLOAT32, **inputs: tuple[Any, ...]) -> sofie.Model:
    """Every output ``of_x`` is the input x, so that one sees what the network is given."""
    build = Builder("net")
    outputs = []
    for name, shape in inputs.items():
        build.input(name, TensorType(dtype, shape))
        outputs.append(build(Identity(), name, outputs=[f"of_{name}"]))
    return sofie.Model(build.graph(*outputs))


def seen(model: sofie.Model, **feeds: Any) -> dict[str, Any]:
    """What the reference gives, for the graph as it was made and after the passes."""
    found = evaluate(model.graph, feeds)
    again = evaluate(model.optimized, feeds)
    for name, array in found.items():
        np.testing.assert_array_equal(again[name], array)
    return dict(found)


# weaver -------------------------------------------------------------------------------------------


def info(**changed: Any) -> dict[str, Any]:
    own = {"median": 0, "norm_factor": 1, "replace_inf_value": 0}
    return {**own, "lower_bound": -1e32, "upper_bound": 1e32, "pad": 0, **changed}


def weaver(**changed: Any) -> dict[str, Any]:
    """What weaver writes for points, features and a mask of particles, and two numbers of a jet."""
    features = {
        "pt_log": info(median=1.3, norm_factor=0.5, lower_bound=-5, upper_bound=5),
        "dz": info(norm_factor=150, lower_bound=-5, upper_bound=4, pad=0.3),
        "drminsv": info(median=0.8, replace_inf_value=0.8, lower_bound=-0.8, upper_bound=0),
        "deta": info(),
    }
    jet = {"jet_pt": info(median=300, norm_factor=0.01, lower_bound=-5, upper_bound=5)}

    def group(infos: dict[str, Any], **lengths: int) -> dict[str, Any]:
        return {"var_names": list(infos), "var_infos": infos, **lengths}

    return {
        "output_names": ["label_b", "label_g"],
        "input_names": ["pf_points", "pf_features", "pf_mask", "jet"],
        "pf_points": group({"deta": info()}, min_length=3, max_length=6),
        "pf_features": group(features, min_length=3, max_length=6),
        "pf_mask": group({"pf_mask": info()}, min_length=3, max_length=6),
        "jet": group(jet, var_length=1),
        **changed,
    }


SHAPES: dict[str, tuple[Any, ...]] = {
    "pf_points": (N, 1, P),
    "pf_features": (N, 4, P),
    "pf_mask": (N, 1, P),
    "jet": (N, 1),
}


def as_cms(one: dict[str, Any], x: Any) -> Any:
    """The formula of CMS's software, in float32 throughout."""
    x = np.asarray(x, F4)
    finite = np.isfinite(x) & (np.abs(x.astype(np.float64)) <= 1e32)
    x = np.where(finite, x, F4(one["replace_inf_value"]))
    y = (x - F4(one["median"])) * F4(one["norm_factor"])
    return np.minimum(np.maximum(y, F4(one["lower_bound"])), F4(one["upper_bound"]))


def network() -> sofie.Model:
    """Particles and a jet to two probabilities that depend on all numbers and on the mask."""
    build = Builder("tagger")
    for name, shape in SHAPES.items():
        build.input(name, TensorType(DType.FLOAT32, shape))
    kept = build(Mul(), "pf_features", "pf_mask")
    means = build(ReduceMean(axes=(2,), keepdims=False), kept)
    outputs = [build(Identity(), i, outputs=[f"of_{i}"]) for i in SHAPES]
    return sofie.Model(build.graph(build(Identity(), means, outputs=["means"]), *outputs))


def test_weaver_bit_for_bit() -> None:
    config = weaver(output_names=None)
    model = same(**SHAPES).normalized(config)
    rng = np.random.default_rng(1)
    x = rng.normal(1, 3, (40, 4, 7)).astype(F4)
    x[:10, :, 0] = np.array(ODD, F4)[:, None]
    jet = rng.normal(300, 300, (40, 1)).astype(F4)
    ones = np.ones((40, 1, 7), F4)
    found = seen(model, pf_points=x[:, 3:], pf_features=x, pf_mask=ones, jet=jet)
    for i, one in enumerate(config["pf_features"]["var_infos"].values()):
        np.testing.assert_array_equal(found["of_pf_features"][:, i], as_cms(one, x[:, i]))
    np.testing.assert_array_equal(found["of_pf_points"][:, 0], as_cms(info(), x[:, 3]))
    wanted = as_cms(config["jet"]["var_infos"]["jet_pt"], jet)
    np.testing.assert_array_equal(found["of_jet"], wanted)
    np.testing.assert_array_equal(found["of_pf_mask"], ones)


def test_what_the_model_knows_of_weavers_file(tmp_path: Path) -> None:
    path = tmp_path / "preprocess.json"
    path.write_text(json.dumps(weaver(output_names={"label_b": "a & b", "label_g": "c"})))
    build = Builder("net")
    for name, shape in SHAPES.items():
        build.input(name, TensorType(DType.FLOAT32, shape))
    build.input("two", TensorType(DType.FLOAT32, (N, 2)))
    two = build(Identity(), "two", outputs=["softmax"])
    with pytest.raises(sofie.ModelError, match="says nothing of input 'two'"):
        sofie.Model(build.graph(two)).normalized(path)
    config = weaver(input_names=[*SHAPES, "two"])
    config["two"] = {"var_names": ["a", "b"], "var_infos": {"a": info(), "b": info()}}
    path.write_text(json.dumps(config))
    model = sofie.Model(build.graph(two)).normalized(str(path))
    assert model.labels == {"softmax": ("label_b", "label_g")}
    assert model.features["pf_features"] == ("pt_log", "dz", "drminsv", "deta")
    model.save(tmp_path / "model.root")
    again = sofie.load(tmp_path / "model.root")
    assert again.features == model.features
    assert again.labels == model.labels
    filled = fillings_of(again.graph)
    assert filled["pf_mask"] == Filling(3, 6, (0.0,), is_mask=True)
    assert filled["pf_features"].least == 3
    assert "jet" not in filled
    shown = str(model)
    assert "pf_features: pt_log, dz" in shown
    assert "label_b, label_g" in shown


@pytest.mark.parametrize("pad", [0.0, 0.3, -5.0, 5.0, 0.1234567, -99.0])
@pytest.mark.parametrize(("median", "norm"), [(0, 1), (1.3, 0.5), (1000.1, 7.3), (0, 0)])
def test_padding_becomes_the_pad(pad: float, median: float, norm: float) -> None:
    """What `define` pads with is a number that the steps make the pad of, in spite of rounding."""
    one = info(median=median, norm_factor=norm, lower_bound=-5, upper_bound=5, pad=pad)
    group = {"var_names": ["x", "y"], "var_infos": {"x": one, "y": info()}, "var_length": 4}
    model = same(x=(N, 2, 4)).normalized({"input_names": ["x"], "x": group})
    pads = fillings_of(model.graph)["x"].pads
    x = np.tile(np.array(pads, F4)[:, None], (3, 1, 4))
    assert np.isfinite(x).all()
    np.testing.assert_array_equal(seen(model, x=x)["of_x"][:, 0], F4(pad))
    # Beside padding all numbers are what they were.
    data = np.random.default_rng(3).normal(median, 3, (8, 2, 4)).astype(F4)
    data[:6, 0] = np.reshape(
        [0, 0.5, 1, -1, pad, median, 100, -99, *ODD, 3.4e38, 2e38, 7, 8, 9, 10], (6, 4)
    )
    np.testing.assert_array_equal(seen(model, x=data)["of_x"][:, 0], as_cms(one, data[:, 0]))


def changed(*path: str, to: Any) -> dict[str, Any]:
    config = copy.deepcopy(weaver(output_names=None))
    place = config
    for key in path[:-1]:
        place = place[key]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return config


PT = ("pf_features", "var_infos", "pt_log")


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        (changed("input_names", to=["pf_pionts", *list(SHAPES)[1:]]), "ModelError", "'pf_points'"),
        (changed("input_names", to="pf_points"), "CorruptFile", "no list in 'input_names'"),
        (changed(*PT, "median", to=None), "CorruptFile", "pt_log: lacks 'median'"),
        (changed(*PT, "median", to="1"), "CorruptFile", "no number in 'median'"),
        (changed(*PT, "median", to=math.nan), "CorruptFile", "nan in 'median'"),
        (changed(*PT, "median", to=10**400), "CorruptFile", "in 'median'"),
        (changed(*PT, "lower_bound", to=6), "CorruptFile", "bounds that cross"),
        (changed(*PT, "pad_mode", to="wrap"), "UnsupportedFormat", "pad_mode='wrap'"),
        (changed("pf_features", "pad_mode", to="wrap"), "UnsupportedFormat", "pad_mode='wrap'"),
        (changed(*PT, "power", to=2), "UnsupportedFormat", "'power', which is not known"),
        (changed(*PT, to=None), "CorruptFile", "pt_log: lacks"),
        (changed("pf_features", to=None), "CorruptFile", "no object"),
        (changed("pf_features", "var_names", to=["dz"]), "ModelError", "1 features for input"),
        (changed("pf_features", "var_names", to=["dz", "dz"]), "CorruptFile", "different names"),
        (changed("pf_features", "max_length", to=2), "CorruptFile", "lengths from 3 to 2"),
    ],
)
def test_weavers_files_that_are_refused(config: Any, kind: str, words: str) -> None:
    with pytest.raises(getattr(sofie, kind)) as caught:
        same(**SHAPES).normalized(config)
    assert words in str(caught.value)


def test_a_fixed_axis_of_another_length() -> None:
    group = {"var_names": ["x"], "var_infos": {"x": info()}, "var_length": 50}
    with pytest.raises(sofie.ModelError, match="fills up to 50 objects; the model takes"):
        same(x=(N, 1, 40)).normalized({"input_names": ["x"], "x": group})


# lwtnn --------------------------------------------------------------------------------------------


def variable(name: str, offset: float, scale: float, **more: float) -> dict[str, Any]:
    return {"name": name, "offset": offset, "scale": scale, **more}


JETS = [variable("pt", -20.5, 0.01), variable("d0", 0.25, 3, default=-1), variable("z", 0, 1)]


def as_lwtnn(x: Any) -> Any:
    x = np.asarray(x, F4)
    x = np.where(np.isnan(x) & [False, True, False], F4(-1), x)
    return (x + np.array([-20.5, 0.25, 0], F4)) * np.array([0.01, 3, 1], F4)


def test_lwtnn_of_one_network_after_the_other() -> None:
    config = {"inputs": JETS, "class_labels": ["b", "c", "light"], "keras_version": "1.0.0"}
    model = same(x=(N, 3)).normalized(config)
    x = np.random.default_rng(2).normal(0, 30, (50, 3)).astype(F4)
    x[:3] = math.nan
    np.testing.assert_array_equal(seen(model, x=x)["of_x"], as_lwtnn(x))
    assert model.features == {"x": ("pt", "d0", "z")}
    assert model.labels == {"of_x": ("b", "c", "light")}
    # The network file itself has its defaults at one place.
    plain = [{k: v for k, v in j.items() if k != "default"} for j in JETS]
    whole = {"inputs": plain, "defaults": {"d0": -1}, "outputs": ["b", "c", "light"], "layers": []}
    again = same(x=(N, 3)).normalized(whole)
    np.testing.assert_array_equal(seen(again, x=x)["of_x"], as_lwtnn(x))
    assert again.labels == model.labels


@pytest.mark.parametrize("names", [("node_0", "node_0"), ("jets", "event")])
def test_lwtnn_of_graphs(names: tuple[str, str]) -> None:
    """Its inputs and sequences are those of the model by name, or by their kind and order."""
    config = {
        "inputs": [{"name": names[1], "variables": [variable("met", -100, 0.1)]}],
        "input_sequences": [{"name": names[0], "variables": JETS}],
        "outputs": [{"name": "a", "labels": ["x", "y", "z"]}, {"name": "b", "labels": ["all"]}],
    }
    model = same(jets=(N, symbol("T"), 3), event=(N, 1)).normalized(config)
    x = np.random.default_rng(2).normal(0, 30, (4, 5, 3)).astype(F4)
    met = np.arange(4, dtype=F4)[:, None]
    found = seen(model, jets=x, event=met)
    np.testing.assert_array_equal(found["of_jets"], as_lwtnn(x))
    np.testing.assert_array_equal(found["of_event"], (met + F4(-100)) * F4(0.1))
    assert model.labels == {"of_jets": ("x", "y", "z"), "of_event": ("all",)}
    config["inputs"] = []
    with pytest.raises(sofie.ModelError, match="0 inputs; model 'net' has 1 such inputs: event"):
        same(jets=(N, symbol("T"), 3), event=(N, 1)).normalized(config)


# Means and scales ---------------------------------------------------------------------------------


def test_means_and_scales() -> None:
    x = np.random.default_rng(4).normal(3, 2, (20, 3)).astype(F4)
    x[0, 1] = math.nan
    m, s = np.array([1, 2.5, 3], F4), np.array([0.3, 7, 1], F4)
    one = {"mean": m.tolist(), "std": s, "upper": 4, "default": [9, 2, 9], "names": ["a", "b", "c"]}
    model = same(x=(N, 3)).normalized(one)
    clean = np.where(np.isnan(x), F4(2), x)
    np.testing.assert_array_equal(seen(model, x=x)["of_x"], np.minimum((clean - m) / s, 4))
    assert model.features == {"x": ("a", "b", "c")}
    two = same(x=(N, 3), y=(N, 2))
    model = two.normalized({"x": {"offset": -m, "scale": 2}})
    found = seen(model, x=clean, y=x[:, :2])
    np.testing.assert_array_equal(found["of_x"], (clean - m) * 2)
    np.testing.assert_array_equal(found["of_y"], x[:, :2])
    wide = same(DType.FLOAT64, x=(N, 3)).normalized({"mean": 0.1, "std": 0.3})
    np.testing.assert_array_equal(
        seen(wide, x=clean.astype(float))["of_x"], (clean.astype(float) - 0.1) / 0.3
    )


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ({"mean": [1, 2], "std": 1}, "ModelError", "2 features for input 'x'"),
        ({"mean": [1, 2], "std": [1]}, "InputError", "lists of 1 and 2"),
        ({"mean": [1], "std": [1]}, "ModelError", "1 features for input 'x'"),
        ({"mean": [1, 2, 3], "std": [1, 0, 1]}, "InputError", "'std' of 0"),
        ({"mean": 1, "scale": 2}, "InputError", "either 'mean' and 'std' or"),
        ({"lower": 1}, "InputError", "either 'mean' and 'std' or"),
        ({"mean": "many"}, "InputError", "needs numbers in 'mean'"),
        ({"mean": [[1, 2, 3]]}, "InputError", "needs numbers in 'mean'"),
        ({"mean": math.inf}, "InputError", "needs numbers in 'mean'"),
        ({"y": {"mean": 1}}, "ModelError", "names an input 'y'"),
        ({"mean": 1, "sdt": 1}, "UnsupportedFormat", "no normalisation that is known"),
        ({}, "UnsupportedFormat", "no normalisation that is known"),
        (7, "UnsupportedFormat", "StandardScaler"),
    ],
)
def test_what_is_no_normalisation(source: Any, kind: str, words: str) -> None:
    with pytest.raises(getattr(sofie, kind)) as caught:
        same(x=(N, 3)).normalized(source)
    assert words in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe{}", b"[" * 100000])
def test_files_that_are_no_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "preprocess.json"
    path.write_bytes(content)
    with pytest.raises(sofie.CorruptFile, match=r"preprocess\.json"):
        same(x=(N, 3)).normalized(path)
    with pytest.raises(sofie.ModelError, match="cannot be read"):
        same(x=(N, 3)).normalized(tmp_path / "none.json")


def test_whole_numbers_cannot_be_normalised() -> None:
    with pytest.raises(sofie.ModelError, match=r"int64.*cannot be normalised"):
        same(DType.INT64, x=(N, 3)).normalized({"mean": 1, "std": 2})


@pytest.mark.parametrize("name", ["StandardScaler", "RobustScaler", "MinMaxScaler", "MaxAbsScaler"])
def test_scalers(name: str) -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = np.random.default_rng(5).normal(3, 2, (50, 3)).astype(F4)
    options = {"clip": True, "feature_range": (-1, 2)} if name == "MinMaxScaler" else {}
    scaler = getattr(preprocessing, name)(**options)
    with pytest.raises(sofie.UnsupportedFormat, match="fitted"):
        same(x=(N, 3)).normalized(scaler)
    scaler.fit(x[:25])
    found = seen(same(x=(N, 3)).normalized(scaler), x=x)["of_x"]
    np.testing.assert_allclose(found, scaler.transform(x), rtol=0, atol=3e-7)
    with pytest.raises(sofie.ModelError, match="3 features for input 'x'"):
        same(x=(N, 4)).normalized(scaler)


# Names --------------------------------------------------------------------------------------------


def test_features_stand_in_the_models_order() -> None:
    model = same(x=(N, 2)).named(features=["b", "a"])
    scaled = model.normalized({"mean": [1, 2], "std": 1, "names": ["a", "b"]})
    x = np.zeros((1, 2), F4)
    np.testing.assert_array_equal(seen(scaled, x=x)["of_x"], [[-2, -1]])
    with pytest.raises(sofie.ModelError, match="are not those of the normalisation: 'c'"):
        model.normalized({"mean": [1, 2], "std": 1, "names": ["a", "c"]})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"features": ["a"]}, "none has 1 names"),
        ({"features": ["a", "b"]}, "more than one takes 2 names"),
        ({"features": {"z": ["a", "b"]}}, "no input 'z'"),
        ({"features": {"x": "ab"}}, "must be a list, not"),
        ({"features": {"x": ["a", "a"]}}, "'a' twice"),
        ({"features": {"x": ["a", "b", "c"]}}, "no axis of 3"),
        ({"labels": {"of_x": ["a", 2]}}, "list of texts"),
    ],
)
def test_names_that_do_not_fit(given: dict[str, Any], words: str) -> None:
    with pytest.raises((sofie.ModelError, sofie.InputError)) as caught:
        same(x=(N, 2), y=(N, 2)).named(**given)
    assert words in str(caught.value)


def test_the_same_through_the_compiled_session() -> None:
    """Once through Cling: what runs is what the reference says."""
    config = weaver(output_names=None)
    model = network().normalized(config)
    rng = np.random.default_rng(6)
    x = rng.normal(1, 3, (5, 4, 5)).astype(F4)
    x[0, :, 0] = [math.nan, math.inf, -math.inf, 3e33]
    feeds = {"pf_points": x[:, 3:], "pf_features": x, "pf_mask": np.ones((5, 1, 5), F4)}
    feeds["jet"] = rng.normal(300, 300, (5, 1)).astype(F4)
    found = model(feeds)
    assert isinstance(found, dict)
    for name, wanted in evaluate(model.graph, feeds).items():
        tolerance = 1e-6 if name == "means" else 0
        np.testing.assert_allclose(found[name], wanted, rtol=tolerance, atol=tolerance)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sofie_rdf.cli import main

    file, source = str(tmp_path / "scaled.root"), tmp_path / "scales.json"
    source.write_text(json.dumps({"mean": [1, 2], "std": [3, 4], "names": ["a", "b"]}))
    same(x=(N, 2)).save(tmp_path / "plain.root")
    plain = str(tmp_path / "plain.root")
    assert main(["convert", plain, file, "--normalization", str(source)]) == 0
    assert sofie.load(file).features == {"x": ("a", "b")}
    assert main(["inspect", plain, "--normalization", str(source), "--graph"]) == 0
    assert "Sub" in capsys.readouterr().out
    assert main(["emit", plain, "-o", str(tmp_path), "--normalization", "none.json"]) != 0


@pytest.mark.parametrize(
    "source",
    [
        {"inputs": 5, "input_sequences": []},
        {"inputs": [], "input_sequences": True},
        {"mean": [1.0] * 4, "std": [1.0] * 4, "names": 5},
        {"mean": [1.0] * 4, "std": [1.0] * 4, "names": "abcd"},
        {"input_names": ["x"], "x": {"var_names": [], "var_infos": {}, "var_length": 3}},
        weaver(pf_mask={"var_names": ["pf_mask"], "var_infos": {"pf_mask": info()}})
        | {"pf_mask": {"var_names": ["m"], "var_infos": {"m": info()}, "var_length": 1e300}},
    ],
)
def test_what_is_no_list_and_no_length_is_refused(source: dict[str, Any]) -> None:
    model = network() if "jet" in source else same(x=(N, 4))
    with pytest.raises(sofie.SofieError):
        model.normalized(source)
