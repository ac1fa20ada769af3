"""Recurrent layers and attention with every option, beside Keras; by all three ways of reading."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.choice import some_of
from tests.frontends.keras.oracle import ALL, L, assert_agrees, keras, quiet, rng

Input, Model, Sequential = keras.Input, keras.Model, keras.Sequential


def agrees(make: Callable[[], Any], folder: Path, seed: int = 0, kinds: Any = ALL) -> None:
    with quiet():
        model = make()
    assert_agrees(model, folder, seed=seed, kinds=kinds, sizes=(6, 4))


RECURRENT: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {}),
    ("LSTM", {"activation": "gelu", "recurrent_activation": "hard_sigmoid"}),
    ("LSTM", {"activation": "relu", "recurrent_activation": "elu", "use_bias": False}),
    ("GRU", {}),
    ("GRU", {"reset_after": False, "activation": "leaky_relu"}),
    ("GRU", {"activation": "swish", "use_bias": False}),
    ("GRU", {"activation": "swish", "reset_after": False}),
    ("SimpleRNN", {}),
    ("SimpleRNN", {"activation": "mish"}),
    ("SimpleRNN", {"activation": None}),
]
BOTH = (False, True)


@pytest.mark.parametrize("number", some_of(range(len(RECURRENT)), [0, 4, 8]))
def test_recurrent(number: int, tmp_path: Path) -> None:
    name, options = RECURRENT[number]
    for case, (masked, sequences, backward) in enumerate(itertools.product(BOTH, BOTH, BOTH)):
        before = [L.Masking(0.0)] if masked else []
        layer = getattr(L, name)(
            4,
            return_sequences=sequences,
            go_backwards=backward,
            zero_output_for_mask=masked and bool((case + number) % 2),
            **options,
        )
        kinds = ALL if case == 7 else ("keras",)
        agrees(lambda: Sequential([Input((None, 3)), *before, layer]), tmp_path, case, kinds)  # noqa: B023


@pytest.mark.parametrize("merge", some_of(["concat", "sum", "ave", "mul"], ["concat", "mul"]))
def test_bidirectional(merge: str, tmp_path: Path) -> None:
    for case, (masked, sequences) in enumerate(itertools.product(BOTH, BOTH)):
        before = [L.Masking(0.0)] if masked else []
        layer = L.Bidirectional(L.LSTM(4, return_sequences=sequences), merge_mode=merge)
        agrees(lambda: Sequential([Input((None, 3)), *before, layer]), tmp_path, case)  # noqa: B023


def test_two_layers_that_differ_in_a_bidirectional(tmp_path: Path) -> None:
    backward = L.GRU(3, go_backwards=True, return_sequences=True)
    layer = L.Bidirectional(L.LSTM(4, return_sequences=True), backward_layer=backward)
    agrees(lambda: Sequential([Input((None, 3)), L.Masking(0.0), layer]), tmp_path)


@pytest.mark.parametrize("sequences", BOTH)
def test_stacked_cells(sequences: bool, tmp_path: Path) -> None:
    for functions in (("tanh", "tanh"), ("gelu", "tanh")):
        cells = [L.LSTMCell(3, activation=functions[0]), L.GRUCell(2), L.SimpleRNNCell(4)]
        layer = L.RNN(cells, return_sequences=sequences)
        agrees(lambda: Sequential([Input((None, 3)), L.Masking(0.0), layer]), tmp_path)  # noqa: B023


def test_states_go_from_layer_to_layer(tmp_path: Path) -> None:
    def model() -> Any:
        i = Input((None, 3))
        x, h, c = L.LSTM(4, return_state=True, return_sequences=True)(i)
        y = L.LSTM(4)(x, initial_state=[h, c])
        both = L.Bidirectional(L.GRU(4, return_state=True, return_sequences=True), merge_mode=None)
        return Model(i, [y, *both(x)])

    agrees(model, tmp_path)


def test_a_state_to_begin_with_and_a_mask(tmp_path: Path) -> None:
    def model() -> Any:
        i, s = Input((None, 3)), Input((4,))
        masked = L.Masking(0.0)(i)
        one = L.GRU(4)(masked, initial_state=s)
        other = L.GRU(4)(masked, initial_state=s, mask=masked[..., 0] > 0)
        return Model([i, s], [one, other])

    agrees(model, tmp_path)


def test_time_distributed(tmp_path: Path) -> None:
    agrees(
        lambda: Sequential(
            [
                Input((None, 3)),
                L.Masking(0.0),
                L.TimeDistributed(L.Dense(2, activation="relu")),
                L.LSTM(3),
            ]
        ),
        tmp_path,
    )
    convolution = L.TimeDistributed(Sequential([Input((5, 5, 3)), L.Conv2D(2, 3), L.Flatten()]))
    agrees(lambda: Sequential([Input((4, 5, 5, 3)), convolution, L.LSTM(3)]), tmp_path)


def test_embedding_makes_a_mask(tmp_path: Path) -> None:
    agrees(
        lambda: Sequential(
            [Input((None,), dtype="int32"), L.Embedding(5, 3, mask_zero=True), L.GRU(3)]
        ),
        tmp_path,
    )


@pytest.mark.parametrize("count", some_of([1, 2, 3], [2]))
def test_convolution_lstm(count: int, tmp_path: Path) -> None:
    options = itertools.cycle([(0, 0, 0), (1, 0, 1), (1, 1, 0), (0, 1, 1)])
    for layout in ("channels_last", "channels_first"):
        for _ in range(2):
            sequences, backward, masked = next(options)
            sizes = (5, 4, 4)[:count]
            shape = (3, *sizes, 2) if layout == "channels_last" else (3, 2, *sizes)

            def model() -> Any:
                i = Input(shape)  # noqa: B023
                layer = getattr(L, f"ConvLSTM{count}D")(
                    3,
                    2,
                    padding="same" if sequences else "valid",  # noqa: B023
                    strides=2 if backward else 1,  # noqa: B023
                    data_format=layout,  # noqa: B023
                    return_sequences=bool(sequences),  # noqa: B023
                    return_state=True,
                    go_backwards=bool(backward),  # noqa: B023
                    recurrent_activation="hard_sigmoid",
                )
                key = (slice(None), slice(None), *(0,) * (count + 1))
                return Model(i, list(layer(i, mask=i[key] > 0) if masked else layer(i)))  # noqa: B023

            agrees(model, tmp_path)


# Attention ----------------------------------------------------------------------------------------


def _heads(seed: int) -> Any:
    random = rng(seed)

    def one(*choices: Any) -> Any:
        return choices[int(random.integers(len(choices)))]

    i, j = Input((None, 6)), Input((None, 5))
    a = L.Masking(0.0)(i) if one(True, False) else i
    b = L.Masking(0.0)(j) if one(True, False) else j
    shape, scores = one(None, 4, (2, 3)), one(True, False)
    layer = L.MultiHeadAttention(
        2,
        4,
        value_dim=one(None, 5),
        output_shape=shape,
        dropout=one(0.0, 0.1),
        use_bias=one(True, False),
        use_gate=one(True, False),
        sliding_window=one(None, None, 2),
    )
    y = layer(a, b, return_attention_scores=scores, use_causal_mask=one(True, False))
    outputs = list(y) if scores else [y]
    if shape is None:
        outputs.append(L.GlobalAveragePooling1D()(L.Add()([outputs[0], a])))
    return Model([i, j], outputs)


@pytest.mark.parametrize("seed", some_of(range(12), [0, 1, 2]))
def test_multi_head_attention(seed: int, tmp_path: Path) -> None:
    agrees(lambda: _heads(seed), tmp_path, seed)


def test_attention_along_other_axes(tmp_path: Path) -> None:
    def model() -> Any:
        i = Input((3, 4, 6))
        y = L.MultiHeadAttention(2, 4, attention_axes=(2,))(i, i)
        both = L.MultiHeadAttention(2, 4, value_dim=3)(i, i, return_attention_scores=True)
        return Model(i, [y, *both])

    agrees(model, tmp_path)


def test_a_mask_of_attention(tmp_path: Path) -> None:
    """Rows that may see nothing included: they see the mean of all, or 0 beside their scores."""

    def model() -> Any:
        i, m = Input((5, 6)), Input((5, 5), dtype="bool")
        y = L.MultiHeadAttention(2, 4)(i, i, attention_mask=m)
        both = L.MultiHeadAttention(2, 4)(i, i, attention_mask=m, return_attention_scores=True)
        return Model([i, m], [y, *both])

    agrees(model, tmp_path)


@pytest.mark.parametrize("gate", BOTH)
def test_group_query_attention(gate: bool, tmp_path: Path) -> None:
    def model() -> Any:
        i = Input((None, 6))
        layer = L.GroupQueryAttention(4, 4, 2, use_gate=gate, sliding_window=3 if gate else None)
        both = layer(i, i, return_attention_scores=True, use_causal_mask=gate)
        return Model(i, [*both, L.GroupQueryAttention(4, 4, 2)(L.Masking(0.0)(i), i)])

    agrees(model, tmp_path)


@pytest.mark.parametrize("mode", ["dot", "concat"])
def test_attention_of_one_head(mode: str, tmp_path: Path) -> None:
    for scale, masked in itertools.product(BOTH, BOTH):

        def model() -> Any:
            i, j = Input((None, 6)), Input((None, 6))
            values = [L.Masking(0.0)(x) if masked else x for x in (i, j)]  # noqa: B023
            both = L.Attention(use_scale=scale, score_mode=mode)(  # noqa: B023
                values,
                return_attention_scores=True,
                use_causal_mask=scale,  # noqa: B023
            )
            additive = L.AdditiveAttention(use_scale=scale)(values)  # noqa: B023
            return Model([i, j], [*both, additive])

        agrees(model, tmp_path)
