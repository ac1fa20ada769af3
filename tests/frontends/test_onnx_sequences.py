"""Sequences and optionals of ONNX, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import sofie_rdf
from sofie_rdf.errors import InputError, SofieError
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.passes import pipeline

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD + text)


def compare(text: str, *feeds: dict[str, Any]) -> None:
    """The same lists and arrays as onnxruntime's, call after call."""
    proto = model(text)
    peer = onnxruntime.InferenceSession(proto.SerializeToString())
    ours = sofie_rdf.from_onnx(proto)
    for feed in feeds:
        found = ours(feed)
        for value, wanted in zip(peer.get_outputs(), peer.run(None, feed), strict=True):
            one = found[value.name] if isinstance(found, dict) else found
            same(one, wanted)


def same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            same(one, other)
        return
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def rows(n: int, width: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(n).normal(size=(n, width)).astype(np.float32)


def test_parts_that_are_known_are_no_sequence() -> None:
    """What torch.chunk and unbind become costs nothing at run time."""
    text = """chunk (float[N, 6] x) => (float[N, 2] y) {
        two = Constant <value_int: int = 2> ()
        parts = SplitToSequence <axis: int = 1> (x, two)
        first = Constant <value_int: int = 0> ()
        last = Constant <value_int: int = -1> ()
        a = SequenceAt (parts, first)
        b = SequenceAt (parts, last)
        y = Sub (b, a)
    }"""
    names = {n.op.name for n in pipeline.run(read(model(text))).nodes}
    assert names.isdisjoint({"SplitSequence", "SequenceAt"})
    compare(text, *({"x": rows(n, 6)} for n in (3, 1, 5)))


def test_parts_of_an_axis_whose_length_is_not_known() -> None:
    text = """split (float[N, 3] x, int64 part, int64 at)
              => (int64 count, float[A, B] y, float[C, D] again) {
        parts = SplitToSequence <axis: int = 0> (x, part)
        count = SequenceLength (parts)
        y = SequenceAt (parts, at)
        again = ConcatFromSequence <axis: int = 0> (parts)
    }"""
    proto = sofie_rdf.from_onnx(model(text))
    peer = onnxruntime.InferenceSession(model(text).SerializeToString())
    for n, part, at in ((7, 3, 0), (7, 3, -1), (2, 5, 0), (12, 4, 2), (1, 1, 0)):
        feed = {"x": rows(n), "part": np.int64(part), "at": np.int64(at)}
        feed = {k: np.asarray(v) for k, v in feed.items()}
        for one, other in zip(proto(feed).values(), peer.run(None, feed), strict=True):
            same(one, other)
    with pytest.raises(InputError, match="place"):
        proto({**feed, "at": np.asarray(np.int64(1))})
    with pytest.raises(InputError, match="no size"):
        proto({**feed, "part": np.asarray(np.int64(0))})


LOOP = """collect (float[N, 3] x, int64 rounds) => (float[A, 3] y) {
    none = SequenceEmpty <dtype: int = 1> ()
    true = Constant <value: tensor = bool {1}> ()
    all = Loop (rounds, true, none) <body = b (int64 i, bool go, seq(float[?, 3]) have)
        => (bool on, seq(float[?, 3]) more) {
        on = Identity (go)
        one = Constant <value: tensor = int64[1] {1}> ()
        zero = Constant <value: tensor = int64[1] {0}> ()
        next = Add (i, one)
        part = Slice (x, zero, next, zero)
        more = SequenceInsert (have, part)
    }>
    y = ConcatFromSequence <axis: int = 0> (all)
}"""


def test_a_loop_that_collects() -> None:
    feeds = [{"x": rows(n), "rounds": np.array(r, np.int64)} for n, r in ((4, 4), (2, 1), (3, 7))]
    compare(LOOP, *feeds)
    with pytest.raises(InputError, match="nothing to join"):
        sofie_rdf.from_onnx(model(LOOP))({"x": rows(2), "rounds": np.array(0, np.int64)})


def test_lists_go_in_and_come_out() -> None:
    text = """edit (seq(float[?, 3]) have, float[N, 3] x, int64 at)
              => (seq(float[?, 3]) longer, seq(float[?, 3]) shorter, seq(float[?, 3]) same) {
        longer = SequenceInsert (have, x, at)
        shorter = SequenceErase (have, at)
        same = Identity (have)
    }"""
    lists = [[rows(2), rows(0), rows(5)], [rows(1)], [rows(3), rows(1)]]
    feeds = [
        {"have": have, "x": rows(4), "at": np.array(at, np.int64)}
        for have, at in zip(lists, (1, 0, -1), strict=True)
    ]
    compare(text, *feeds)
    ours = sofie_rdf.from_onnx(model(text))
    with pytest.raises(InputError, match="has no output for the sizes"):
        ours({**feeds[0], "have": []})
    with pytest.raises(InputError, match="float32"):
        ours({**feeds[0], "have": [np.zeros((1, 3))]})


def test_branches_that_give_sequences_one_of_them_empty() -> None:
    text = """choose (bool full, float[N, 3] x) => (seq(float[?, 3]) y, int64 count) {
        y = If (full) <then_branch = t () => (seq(float[?, 3]) a) { a = SequenceConstruct (x, x) },
                       else_branch = e () => (seq(float[?, 3]) b)
                           { b = SequenceEmpty <dtype: int = 1> () }>
        count = SequenceLength (y)
    }"""
    compare(text, *({"full": np.array(f), "x": rows(n)} for f, n in ((True, 2), (False, 3))))


def test_an_optional_that_may_be_absent() -> None:
    text = """maybe (optional(float[3]) x) => (bool there, float[3] y) {
        there = OptionalHasElement (x)
        y = If (there) <then_branch = t () => (float[3] a) { a = OptionalGetElement (x) },
                        else_branch = e () => (float[3] b)
                            { b = Constant <value: tensor = float[3] {1, 2, 3}> () }>
    }"""
    ours = sofie_rdf.from_onnx(model(text))
    given = ours(x=np.array([7, 8, 9], np.float32))
    assert bool(given["there"])
    np.testing.assert_array_equal(given["y"], [7, 8, 9])
    absent = ours(x=None)
    assert not bool(absent["there"])
    np.testing.assert_array_equal(absent["y"], [1, 2, 3])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = SequenceAt (x, i)", "needs a sequence"),
        ("s = SequenceConstruct (x) y = Relu (s)", "takes no sequence"),
        (
            "s = SequenceConstruct (x) t = Constant <value_int: int = 1> () y = SequenceAt (s, t)",
            "no place 1",
        ),
        ("s = SequenceConstruct (x, i) y = SequenceAt (s, i)", "one element type"),
        ("s = SequenceEmpty <dtype: int = 1> () y = SequenceAt (s, i)", "number of axes"),
        (
            "t = Constant <value_int: int = 0> () s = SplitToSequence (x, t) y = SequenceAt (s, i)",
            "no size",
        ),
        ("s = SequenceConstruct (x) y = ConcatFromSequence (s)", "axis"),
    ],
)
def test_what_makes_no_sense_is_refused(body: str, reason: str) -> None:
    text = f"wrong (float[N, 6] x, int64 i) => (float[N, 6] y) {{ {body} }}"
    with pytest.raises(SofieError, match=reason):
        read(onnx.parser.parse_model(HEAD + text))


def test_tensors_that_do_not_fit_their_shapes() -> None:
    text = """first (seq(float[?]) x) => (float[A] y) {
        zero = Constant <value_int: int = 0> ()
        y = SequenceAt (x, zero)
    }"""
    ours = sofie_rdf.from_onnx(model(text))
    for shapes in ([[5]], [[1]], [[-2]], [[2**62], [2**62]]):
        with pytest.raises(InputError, match="sequence"):
            ours(
                {
                    "x.elements": np.zeros(3, np.float32),
                    "x.shapes": np.array(shapes, np.int64),
                }
            )
