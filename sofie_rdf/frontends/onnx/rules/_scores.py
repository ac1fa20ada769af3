"""What ai.onnx.ml's models have in common: transformations of scores, and labels of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import Array
from sofie_rdf.ops.elementwise import Sigmoid
from sofie_rdf.ops.layout import Identity
from sofie_rdf.ops.ml import Labels, Probit, SoftmaxZero, TwoScores
from sofie_rdf.ops.normalization import Softmax

__all__ = ["arity_one", "class_labels", "label_of", "post_transformed", "two_scores"]

_POST_TRANSFORMS = {
    "NONE": Identity(),
    "LOGISTIC": Sigmoid(),
    "SOFTMAX": Softmax(),
    "SOFTMAX_ZERO": SoftmaxZero(),
    "PROBIT": Probit(),
}


def arity_one(node: OnnxNode, name: str) -> int:
    """An attribute that counts something: at least 1, which it is where it is absent."""
    count = node.attributes.get(name, 1)
    if not 1 <= count < 2**31:
        raise GraphError(f"has {name} = {count}")
    return int(count)


def post_transformed(build: Builder, scores: str, post: str, output: str, origin: Origin) -> str:
    """``output`` (or a fresh name): the scores after ONNX's ``post_transform``."""
    if post not in _POST_TRANSFORMS:
        raise UnsupportedOperator(f"the post_transform {post!r} is not known")
    outputs = (output,) if output else ()
    if len(build.types[scores].shape) == 2 and build.types[scores].shape[1] == 1:
        # onnxruntime leaves a single score as it is, where it would become the constant 1.
        post = "NONE" if post.startswith("SOFTMAX") else post
    return build(_POST_TRANSFORMS[post], scores, outputs=outputs, origin=origin)


def two_scores(
    build: Builder, score: str, post: str, certain: bool, output: str, origin: Origin
) -> str:
    """The scores of two classes from that of the second: as onnxruntime makes them.

    ``certain``: the score is a probability, whose complement is that of the first class.
    """
    if post == "PROBIT":
        score = build(Probit(), score, origin=origin)
    form = "complement" if certain and post != "PROBIT" else "opposite"
    form = "logistic" if post == "LOGISTIC" else form
    return build(TwoScores(form), score, outputs=(output,), origin=origin)


def class_labels(node: OnnxNode, integers: str) -> Array:
    """The labels of the classes as integers; of classes with names, their numbers 0, 1, ..."""
    names = node.attributes.get("classlabels_strings", ())
    given = node.attributes.get(integers, ())
    if bool(names) == bool(given):
        raise GraphError("needs labels for its classes, either integers or strings")
    return np.arange(len(names)) if names else np.asarray(given, np.int64)


def label_of(
    build: Builder,
    scores: str,
    labels: Array,
    threshold: float | None,
    outputs: Sequence[str],
    origin: Origin,
) -> None:
    """The label of the largest score, or of the last score against a threshold."""
    if outputs and outputs[0]:
        op = Labels() if threshold is None else Labels(threshold, True)
        build(op, scores, build.constant(labels), outputs=outputs, origin=origin)
