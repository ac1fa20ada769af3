"""Files and models as a whole: names, sharing, what is damaged, what is refused, what it costs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import (
    CorruptFile,
    GraphError,
    InputError,
    SofieError,
    UnsupportedFormat,
    UnsupportedOperator,
)
from sofie_rdf.frontends.keras import reader as frontend
from sofie_rdf.ops.elementwise import Mul
from sofie_rdf.reference import evaluate
from tests.frontends.keras.oracle import (
    L,
    agree,
    arrays,
    assert_agrees,
    graphs,
    keras,
    quiet,
    randomized,
    values,
)

Input, Model, Sequential = keras.Input, keras.Model, keras.Sequential


def small(name: str = "net") -> Any:
    with quiet():
        layers = [Input((4,), name="x"), L.Dense(3, "relu", name="first"), L.Dense(2, name="last")]
        return randomized(Sequential(layers, name=name))


def saved(model: Any, path: Path) -> Path:
    with quiet():
        model.save(path)
    return path


def many() -> Any:
    """Two inputs, two outputs, a residual connection, a layer in two models, functions."""
    with quiet():
        a, b = Input((4,), name="a"), Input((4,), name="b")
        shared = L.Dense(4, "tanh", name="shared")
        inner = Sequential([Input((4,)), shared, L.LayerNormalization(), L.Dense(4)], name="inner")
        deep = Model(a, [inner(a), shared(a)], name="deep")
        one, other = deep(b)
        again = deep(shared(a))
        x = L.Add(name="sum")([inner(a), shared(b), one * 2.0, again[0]])
        y = keras.ops.concatenate([x, other, again[1]], axis=-1)[:, 1:9]
        outputs = {"z": L.Dense(2, name="score")(y), "w": x}
        return randomized(Model([a, b], outputs, name="many"))


def test_a_graph_of_models_is_the_same_by_all_ways(tmp_path: Path) -> None:
    model = many()
    found = graphs(model, tmp_path)
    for graph in found:
        assert graph.inputs == ("a", "b")
        assert graph.outputs == ("sum", "score")
        assert str(graph.types["a"]) == "float32[N, 4]"
        for batch in (3, 1):
            agree(graph, (x := arrays(model, batch)), values(model, x), 3e-6)
    structures = [[(type(n.op).__name__, n.op) for n in g.nodes] for g in found]
    assert structures[0] == structures[1] == structures[2]


def test_names_and_provenance(tmp_path: Path) -> None:
    graph = frontend.read(saved(small(), tmp_path / "some.keras"))
    assert (graph.name, graph.inputs, graph.outputs) == ("some", ("x",), ("last",))
    assert graph.provenance["source"] == "some.keras"
    assert graph.provenance["producer"] == f"keras {keras.__version__}"
    assert graph.nodes[0].origin.name == "first"
    assert frontend.read(small("other")).name == "other"
    old = frontend.read(saved(small(), tmp_path / "some.h5"), name="mine")
    assert old.name == "mine"
    assert old.provenance["backend"] == "torch"


def test_outputs_that_are_one_value_or_an_input(tmp_path: Path) -> None:
    with quiet():
        a = Input((4,), name="a")
        x = L.Dense(4, name="d")(a)
        model = randomized(Model(a, [x, x, a]))
    graph = frontend.read(saved(model, tmp_path / "m.keras"))
    assert graph.outputs == ("d", "d_1", "a_1")
    agree(graph, (x := arrays(model, 3)), values(model, x), 1e-6)


def test_shapes_name_and_fix_sizes(tmp_path: Path) -> None:
    with quiet():
        model = Sequential([Input((None, 4), name="x"), L.LSTM(3)])
    path = saved(randomized(model), tmp_path / "m.keras")
    assert str(frontend.read(path).types["x"]) == "float32[N, x_1, 4]"
    fixed = frontend.read(path, shapes={"x": ("events", 7, None)})
    assert str(fixed.types["x"]) == "float32[events, 7, 4]"
    with pytest.raises(InputError, match="which is no input"):
        frontend.read(path, shapes={"y": (None, 7)})
    with pytest.raises(InputError, match="gives input 'x' 2 axes"):
        frontend.read(path, shapes={"x": (None, 7)})


def test_a_sequential_without_input(tmp_path: Path) -> None:
    with quiet():
        model = Sequential([L.Dense(3), L.Dense(2)])
        model(np.zeros((1, 4), "f"))
        randomized(model)
    x = np.ones((2, 4), np.float32)
    for graph in graphs(model, tmp_path):
        (y,) = evaluate(graph, {graph.inputs[0]: x}).values()
        np.testing.assert_allclose(y, values(model, [x])[0], atol=1e-6)


# Weights ------------------------------------------------------------------------------------------


def rewritten(path: Path, change: Callable[[dict[str, Any]], None], name: str) -> Path:
    """A .keras file with another config."""
    members = {n: zipfile.ZipFile(path).read(n) for n in zipfile.ZipFile(path).namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    return written(members, path.with_name(name))


def written(members: dict[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def reweighted(path: Path, change: Callable[[h5py.File], None], name: str) -> Path:
    """A .keras file with other weights."""
    members = {n: zipfile.ZipFile(path).read(n) for n in zipfile.ZipFile(path).namelist()}
    memory = io.BytesIO(members["model.weights.h5"])
    with h5py.File(memory, "r+") as file:
        change(file)
    members["model.weights.h5"] = memory.getvalue()
    return written(members, path.with_name(name))


def _nan(file: h5py.File) -> None:
    file["layers/dense/vars/0"][0, 0] = np.nan


def _gone(file: h5py.File) -> None:
    del file["layers/dense_1/vars/1"]


def _other_shape(file: h5py.File) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = np.zeros((5, 3), np.float32)


def _exchanged(file: h5py.File) -> None:
    file.move("layers/dense", "layers/other")
    file.move("layers/dense_1", "layers/dense")
    file.move("layers/other", "layers/dense_1")


def _elsewhere(file: h5py.File) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (4, 3), "f4", external=[("/etc/hostname", 0, 48)])


def _huge(file: h5py.File) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (2**40, 3), "f4", chunks=(1024, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_nan, "node 'first': weight 'kernel' holds NaN"),
        (_gone, "node 'last': Dense has 1 weights, not 2"),
        (_other_shape, r"node 'first': weight 'kernel' has the shape \(5, 3\), not \[4, 3\]"),
        (_exchanged, "has weights of the layer 'last' where those of 'first' belong"),
        (_elsewhere, "keeps a weight in another file"),
        (_huge, "says it has"),
    ],
)
def test_weights_that_cannot_be(change: Any, message: str, tmp_path: Path) -> None:
    path = reweighted(saved(small(), tmp_path / "m.keras"), change, "other.keras")
    with pytest.raises(CorruptFile, match=message):
        frontend.read(path)
    assert len(frontend.check(path)) == 1


def test_weights_of_an_h5_file_that_cannot_be(tmp_path: Path) -> None:
    with quiet():
        model = Sequential([Input((4,)), L.BatchNormalization(name="bn")])
    path = saved(randomized(model), tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/bn"]
        names = list(group.attrs["weight_names"])
        group.attrs["weight_names"] = [names[1], names[0], *names[2:]]
    with pytest.raises(CorruptFile, match="beta' where 'gamma' belongs"):
        frontend.read(path)
    with h5py.File(path, "r+") as file:
        file["model_weights/bn"].attrs["weight_names"] = names[:3]
    with pytest.raises(CorruptFile, match="has 3 weights, not 4"):
        frontend.read(path)


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_truncated_files(kind: str, tmp_path: Path) -> None:
    path = saved(small(), tmp_path / f"m.{kind}")
    data = path.read_bytes()
    for part in (1, 2, 3, 10, 50, 90, 99):
        path.write_bytes(data[: len(data) * part // 100])
        with pytest.raises(SofieError):
            sofie.load(path)
        assert sofie.check(path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_damaged_bytes_never_crash(kind: str, tmp_path: Path) -> None:
    """Most damage is found; where only a weight changes there may be nothing to find."""
    path = saved(small(), tmp_path / f"m.{kind}")
    data, random = path.read_bytes(), np.random.default_rng(1)
    for _ in range(100):
        broken = bytearray(data)
        for place in random.integers(0, len(data), 4):
            broken[place] = random.integers(256)
        path.write_bytes(broken)
        try:
            frontend.read(path)
        except SofieError:
            assert frontend.check(path)


def test_configs_that_make_no_sense(tmp_path: Path) -> None:
    path = saved(many(), tmp_path / "m.keras")

    def cycle(config: dict[str, Any]) -> None:
        layers = {d["name"]: d for d in config["config"]["layers"]}
        data = layers["shared"]["inbound_nodes"][0]["args"][0]["config"]
        data["keras_history"] = ["sum", 0, 0]

    def missing(config: dict[str, Any]) -> None:
        config["config"]["output_layers"] = [["nobody", 0, 0]]

    def listless(config: dict[str, Any]) -> None:
        config["config"]["layers"] = 3

    def nameless(config: dict[str, Any]) -> None:
        config["config"]["layers"][2]["class_name"] = None

    for change in (cycle, missing, listless, nameless):
        broken = rewritten(path, change, "broken.keras")
        with pytest.raises((CorruptFile, GraphError, UnsupportedFormat)):
            frontend.read(broken)
        assert frontend.check(broken)


def test_what_is_no_model(tmp_path: Path) -> None:
    weights = tmp_path / "m.weights.h5"
    with quiet():
        small().save_weights(weights)
    with pytest.raises(UnsupportedFormat, match="holds weights without a model"):
        frontend.read(weights)
    with pytest.raises(InputError, match="is a int, which is no model of Keras 3"):
        frontend.read(3)


# What is refused, and what the user says about it -------------------------------------------------


@keras.saving.register_keras_serializable("theirs")
class Scale(keras.layers.Layer):
    """A layer of the user's with a weight."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x: Any) -> Any:
        return x * self.factor


def scale_rule(build: Any, layer: Any, inputs: Any) -> Any:
    (factor,) = layer.weights
    return build(Mul(), inputs.x, build.constant(factor))


def custom() -> Any:
    with quiet():
        layers = [Input((4,)), L.Dense(3), Scale(name="mine"), L.Dense(2, "tanh")]
        return randomized(Sequential(layers))


def test_custom_layers(tmp_path: Path) -> None:
    model = custom()
    x = arrays(model, 3)
    for kind in ("keras", "h5"):
        path = saved(model, tmp_path / f"m.{kind}")
        with pytest.raises(UnsupportedOperator, match=r"node 'mine': is .*Scale, .*custom_objects"):
            frontend.read(path)
        graph = frontend.read(path, custom_objects={"Scale": scale_rule})
        agree(graph, x, values(model, x), 1e-6)
        assert sofie.check(path, custom_objects={"Scale": scale_rule}) == []
    graph = frontend.read(model, custom_objects={"Scale": scale_rule})
    agree(graph, x, values(model, x), 1e-6)
    with pytest.raises(InputError, match="which is no function"):
        frontend.read(model, custom_objects={"Scale": 3})
    with pytest.raises(GraphError, match="gives 'nothing', not a value"):
        frontend.read(model, custom_objects={"Scale": lambda *_: "nothing"})


def test_lambda_layers_are_not_run(tmp_path: Path) -> None:
    with quiet():
        model = Sequential([Input((4,)), L.Lambda(lambda x: x * 2, name="code")])
    path = saved(model, tmp_path / "m.keras")
    with pytest.raises(UnsupportedOperator, match="node 'code': is a Lambda layer, whose code"):
        frontend.read(path)

    def twice(build: Any, _: Any, inputs: Any) -> Any:
        return build(Mul(), inputs.x, build.constant(np.float32(2)))

    graph = frontend.read(path, custom_objects={"Lambda": twice})
    agree(graph, (x := arrays(model, 3)), values(model, x), 1e-6)


def test_a_custom_activation(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("theirs")
    def cubed(x: Any) -> Any:
        return x * x * x

    def rule(build: Any, _: Any, inputs: Any) -> Any:
        return build(Mul(), inputs.x, build(Mul(), inputs.x, inputs.x))

    with quiet():
        model = randomized(Sequential([Input((4,)), L.Dense(3, cubed)]))
    path = saved(model, tmp_path / "m.keras")
    with pytest.raises(UnsupportedOperator, match=r"activation 'cubed'.*custom_objects"):
        frontend.read(path)
    graph = frontend.read(path, custom_objects={"cubed": rule})
    agree(graph, (x := arrays(model, 3)), values(model, x), 1e-6)


def test_check_lists_everything(tmp_path: Path) -> None:
    with quiet():
        a = Input((8, 4), name="a")
        x = L.LSTM(3, return_sequences=True, name="fine")(L.Lambda(lambda x: x, name="one")(a))
        y = Scale(name="two")(x)
        z = L.Lambda(lambda x: x, name="three")(a)
        model = Model(a, [L.Dense(2, name="end")(y), z])
    path = saved(model, tmp_path / "m.keras")
    found = [p.place for p in frontend.check(path)]
    assert found == [f"{path}: node {n!r}" for n in ("one", "three", "two")]
    assert frontend.check(saved(small(), tmp_path / "good.keras")) == []


def test_check_goes_on_in_a_sequential(tmp_path: Path) -> None:
    path = saved(custom(), tmp_path / "m.keras")
    path = reweighted(path, _nan, "nan.keras")
    with h5py.File(io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5"))) as file:
        assert np.isnan(file["layers/dense/vars/0"][0, 0])
    found = [str(p) for p in frontend.check(path)]
    assert len(found) == 2
    assert "holds NaN" in found[0]
    assert "node 'mine': is the custom layer Scale" in found[1]


def test_inputs_and_outputs_by_name(tmp_path: Path) -> None:
    """Keras orders dictionaries by their keys."""
    with quiet():
        inputs = {"b": Input((4,), name="b"), "a": Input((3,), name="a")}
        x = L.Concatenate()([inputs["b"], inputs["a"]])
        outputs = {"z": L.Dense(2, name="one")(x), "y": [L.Dense(3, name="two")(x)]}
        model = randomized(Model(inputs, outputs))
    for graph in graphs(model, tmp_path):
        assert graph.inputs == ("a", "b")
        assert graph.outputs == ("two", "one")
        x = {"a": np.ones((2, 3), "f"), "b": np.full((2, 4), 0.5, "f")}
        with quiet():
            wanted = model({k: keras.ops.convert_to_tensor(v) for k, v in x.items()})
            wanted = [np.array(w.detach()) for w in keras.tree.flatten(wanted)]
        agree(graph, [x[n] for n in graph.inputs], wanted, 1e-6)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: L.LSTM(3, stateful=True), "is stateful"),
        (lambda: L.RandomCrop(2, 2), "is RandomCrop"),
        (lambda: L.Solarization(), "is Solarization"),
    ],
)
def test_layers_that_are_refused(layer: Any, message: str, tmp_path: Path) -> None:
    with quiet():
        shape = (2, 5, 3) if "LSTM" in message or "stateful" in message else (2, 6, 6, 3)
        i = Input(batch_shape=shape)
        model = Model(i, layer()(i))
    with pytest.raises(UnsupportedOperator, match=message):
        frontend.read(saved(model, tmp_path / "m.keras"))


def test_quantised_layers_are_refused(tmp_path: Path) -> None:
    model = small()
    with quiet():
        model.quantize("int8")
    with pytest.raises(UnsupportedOperator, match="before it is quantised"):
        frontend.read(saved(model, tmp_path / "m.keras"))


# On torch Keras has float32's digits where an input of float32 meets a kernel of float64.
@pytest.mark.parametrize(("policy", "tolerance"), [("float64", 1e-6), ("mixed_float16", 4e-3)])
def test_other_policies(policy: str, tolerance: float, tmp_path: Path) -> None:
    with quiet():
        layers = [
            Input((6, 4), dtype="float32"),
            L.LSTM(5, return_sequences=True, dtype=policy),
            L.LayerNormalization(dtype=policy),
            L.Dense(3, "tanh", dtype=policy),
        ]
        model = Sequential(layers)
    assert_agrees(model, tmp_path, tolerance=tolerance, kinds=("keras", "h5", "memory"))


# Models with code ---------------------------------------------------------------------------------


class Residual(keras.Model):
    """A model with a call of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = L.Dense(4, "relu"), L.Dense(4)

    def call(self, inputs: Any) -> Any:
        return keras.ops.tanh(inputs + self.two(self.one(inputs)))


def test_a_model_with_code_is_traced() -> None:
    model = Residual()
    with pytest.raises(UnsupportedOperator, match="whose inputs are not known"):
        frontend.read(model)
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    with quiet():
        model(x)
        randomized(model)
    graph = frontend.read(model)
    assert graph.inputs == ("inputs",)
    agree(graph, [x], values(model, [x]), 1e-6)


def test_a_model_with_code_is_no_file(tmp_path: Path) -> None:
    model = Residual()
    with quiet():
        model(np.zeros((1, 4), "f"))
    path = saved(model, tmp_path / "m.keras")
    with pytest.raises(UnsupportedFormat, match=r"Its class has Python code.*from_keras"):
        frontend.read(path)


# What it costs ------------------------------------------------------------------------------------


def test_neither_keras_nor_h5py_is_imported_for_nothing(tmp_path: Path) -> None:
    path = saved(small(), tmp_path / "m.keras")
    code = f"""
import sys, sofie_rdf
assert "h5py" not in sys.modules
sofie_rdf.load({str(path)!r})
assert "h5py" not in sys.modules
sofie_rdf.load({str(path)!r}, isolated=False)
found = {{"keras", "tensorflow", "torch", "onnx", "ROOT"}} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
