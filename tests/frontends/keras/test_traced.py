"""Lambda and custom layers of models in memory: what their code calls, beside Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sofie_rdf.errors import ModelError, UnsupportedOperator
from sofie_rdf.frontends.keras import reader as frontend
from sofie_rdf.frontends.keras.layer import flatten
from sofie_rdf.reference import evaluate
from tests.frontends.keras.oracle import L, keras, quiet, randomized, rng

o = keras.ops
Input, Model, Sequential = keras.Input, keras.Model, keras.Sequential


class Scale(L.Layer):  # type: ignore[misc]
    """A weight of its own, and functions."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), name="factor")

    def call(self, x: Any) -> Any:
        return x * self.factor + o.mean(x, axis=-1, keepdims=True)


class Block(L.Layer):  # type: ignore[misc]
    """Layers of Keras and another custom layer in it; it knows whether it is trained."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.dense, self.scale = L.Dense(units, activation="relu"), Scale()
        self.normal, self.drop = L.BatchNormalization(), L.Dropout(0.5)

    def call(self, x: Any, training: bool = True) -> Any:
        found = self.normal(self.scale(self.dense(x)), training=training)
        return self.drop(found * 2, training=True) if training else found


class Pool(L.Layer):  # type: ignore[misc]
    """The mean over what a mask keeps."""

    def call(self, x: Any, mask: Any = None) -> Any:
        kept = o.cast(mask, "float32")[..., None]
        return {"mean": o.sum(x * kept, 1) / (o.sum(kept, 1) + 0.1), "count": o.sum(kept, 1)}


class Doubled(L.Layer):  # type: ignore[misc]
    """It lets masks go through."""

    def __init__(self) -> None:
        super().__init__()
        self.supports_masking = True

    def call(self, x: Any) -> Any:
        return x * 2


class Attention(L.Layer):  # type: ignore[misc]
    def call(self, queries: Any, keys: Any, *, scale: float = 1.0) -> Any:
        size = o.shape(keys)[-1]
        weights = o.softmax(scale * (queries @ o.transpose(keys, (0, 2, 1))) / size**0.5)
        return o.reshape(weights @ keys, (-1, queries.shape[1] * size))


def chain() -> Any:
    return Sequential(
        [Input((4,)), L.Dense(5), L.Lambda(lambda x: x * 2 + o.sin(x)), Block(6), L.Dense(2)]
    )


def shared() -> Any:
    """A layer with code that is called twice, and a function of two values."""
    a, b = Input((4,), name="a"), Input((4,), name="b")
    scale = Scale()
    x, y = scale(a), scale(b)
    both = L.Lambda(lambda v: o.exp(-v[0]) + v[1], name="both")([x, L.Dot(1)([x, y])])
    return Model([a, b], [both, Block(3, name="block")(y)])


def nested() -> Any:
    x = Input((4,))
    return Model(x, L.Dense(2)(chain()(x)))


def masked() -> Any:
    x = L.Masking()(Input((6, 3), name="x"))
    return Model(x._keras_history.operation.input, [L.LSTM(4)(Doubled()(x)), Pool()(x)])


def attention() -> Any:
    x = Input((5, 4))
    return Model(x, L.Dense(1)(Attention()(L.Dense(4)(x), x, scale=0.5)))


def half() -> Any:
    return Sequential([Input((4,)), Block(3, dtype="float64"), L.Dense(2, dtype="float32")])


class Sub(keras.Model):  # type: ignore[misc]
    """A model with code, with layers with code in it."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.inner, self.last = Block(5), chain(), L.Dense(1)

    def call(self, x: Any) -> Any:
        return self.last(o.concatenate([self.block(x, training=False), self.inner(x)], -1))


def subclassed() -> Any:
    model = Sub()
    model(np.zeros((2, 4), np.float32))
    return model


@pytest.mark.parametrize("make", [chain, shared, nested, masked, attention, half, subclassed])
def test_code_is_traced(make: Callable[[], Any]) -> None:
    with quiet():
        model = randomized(make())
        graph = frontend.read(model)
    for rows in (1, 7):
        arrays = [
            rng(rows).normal(size=(rows, *graph.types[i].shape[1:])).astype(np.float32)
            for i in graph.inputs
        ]
        arrays[0][..., -1] = 0
        arrays[0][-1:] = 0
        found = evaluate(graph, dict(zip(graph.inputs, arrays, strict=True)))
        with quiet():
            results = flatten(model(arrays if len(arrays) > 1 else arrays[0], training=False))
            wanted = [keras.ops.convert_to_numpy(r) for r in results]
        for ours, expected in zip(found.values(), wanted, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-5)


def test_outputs_have_the_names_of_the_layers() -> None:
    with quiet():
        graph = frontend.read(shared())
    assert graph.inputs == ("a", "b")
    assert graph.outputs == ("both", "block")


def _lambda(function: Any, **options: Any) -> Callable[[], Any]:
    return lambda: Sequential(
        [Input((4,)), L.Lambda(function, output_shape=(4,), name="code", **options)]
    )


class Branch(L.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x if o.sum(x) > 0 else -x

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Sequential([Input((4,)), Branch(name="code")]), "is a Branch.* used as a bool"),
        (_lambda(lambda x: x.cpu()), "is a Lambda, whose code does not run.* no attribute 'cpu'"),
        (_lambda(lambda x: o.bincount(x)), "Bincount"),
    ],
)
def test_code_that_cannot_be_traced_is_named(make: Callable[[], Any], words: str) -> None:
    with quiet(), pytest.raises(UnsupportedOperator, match=words) as refused:
        frontend.read(make())
    assert "code" in str(refused.value) or "bincount" in str(refused.value)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * float(np.random.default_rng().random()),
        lambda x: x * keras.random.normal((4,)),
        lambda x: x * (2 if isinstance(x, keras.KerasTensor) else 3),
    ],
)
def test_what_python_decided_is_refused(function: Any) -> None:
    with quiet(), pytest.raises(ModelError, match=r"differs from Keras.*Something was fixed"):
        frontend.read(_lambda(function)())


def test_a_rule_goes_before_code() -> None:
    def rule(_build: Any, _layer: Any, inputs: Any) -> Any:
        return inputs.x

    with quiet():
        model = _lambda(lambda x: x.cpu())()
        graph = frontend.read(model, custom_objects={"Lambda": rule})
    assert graph.outputs == ("code",)
