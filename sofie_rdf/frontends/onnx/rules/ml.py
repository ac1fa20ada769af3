"""ai.onnx.ml but for its trees: the lists of attributes become constants, sums become products.

What onnxruntime computes is what is meant here, too, where the specification leaves it open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sofie_rdf.errors import GraphError, ShapeError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules._scores import (
    arity_one,
    class_labels,
    label_of,
    post_transformed,
    two_scores,
)
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import Equal, Exp, Greater, IsNaN, Mul, Pow, Sub, Tanh, Where
from sofie_rdf.ops.indexing import Gather, Pad, Slice
from sofie_rdf.ops.layout import Concat, Identity, Reshape
from sofie_rdf.ops.linear import Gemm, MatMul
from sofie_rdf.ops.ml import (
    Categories,
    Labels,
    Lookup,
    NGrams,
    Normalizer,
    PairwiseProbabilities,
    PairwiseVotes,
    SquaredDistances,
)

_ML = "ai.onnx.ml"


def _floats(node: OnnxNode, name: str) -> Array:
    return np.asarray(node.attributes.get(name, ()), np.float32)


def _integers(node: OnnxNode, name: str) -> Array:
    return np.asarray(node.attributes.get(name, ()), np.int64)


def _as_float(build: Builder, x: str, origin: Origin) -> str:
    """x in float32, in which ONNX gives the results of these models."""
    if build.types[x].dtype is DType.FLOAT32:
        return x
    return build(Cast(DType.FLOAT32), x, origin=origin)


def _matrix(build: Builder, x: str, origin: Origin) -> tuple[str, int]:
    """x[n, f] in float32, and f; a list is one event."""
    shape = build.types[x].shape
    if len(shape) == 1:
        x = build(Reshape((1, shape[0])), x, origin=origin)
        shape = build.types[x].shape
    if len(shape) != 2 or not isinstance(shape[1], int):
        raise ShapeError(f"needs a known number of features, not {build.types[x]}")
    return _as_float(build, x, origin), shape[1]


def _divided(array: Array, parts: int, what: str) -> Array:
    """A list as a matrix of so many rows."""
    if parts < 1 or len(array) % parts:
        raise GraphError(f"cannot divide its {len(array)} {what} among {parts}")
    return array.reshape(parts, -1)


# Features -----------------------------------------------------------------------------------------


@onnx_rule("Scaler", domain=_ML, attributes={"scale": tuple, "offset": tuple})
def _scaler(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """(x - offset) * scale"""
    x = _as_float(build, node.inputs[0], origin)
    offset, scale = (build.constant(_per_feature(build, x, node, n)) for n in ("offset", "scale"))
    y = build(Sub(), x, offset, origin=origin)
    build(Mul(), y, scale, outputs=node.outputs, origin=origin)


def _per_feature(build: Builder, x: str, node: OnnxNode, name: str) -> Array:
    values = _floats(node, name)
    features = build.types[x].shape[-1] if build.types[x].rank else 1
    if len(values) not in (1, features):
        raise GraphError(f"has {len(values)} numbers in {name!r} for {features} features")
    return values


@onnx_rule("Normalizer", domain=_ML, attributes={"norm": str})
def _normalizer(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """x / max |x|, x / sum |x| or x / sqrt(sum x^2), by the norm, of each row"""
    x = _as_float(build, node.inputs[0], origin)
    op = Normalizer(node.attributes.get("norm", "MAX"))
    build(op, x, outputs=node.outputs, origin=origin)


@onnx_rule("Binarizer", domain=_ML, attributes={"threshold": float})
def _binarizer(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """1 where x > threshold, else 0; NaN gives 0."""
    (x,) = node.inputs
    dtype = build.types[x].dtype
    threshold: Any = node.attributes.get("threshold", 0.0)
    if not dtype.is_float:
        threshold = np.floor(threshold)  # Of an integer, x > 1.5 says the same as x > 1.
        info = np.iinfo(dtype.value)
        threshold = int(min(max(threshold, info.min), info.max))
    limit = build.constant(np.array(threshold, dtype.numpy))
    above = build(Greater(), x, limit, origin=origin)
    build(Cast(dtype), above, outputs=node.outputs, origin=origin)


_IMPUTER = {
    "imputed_value_floats": tuple,
    "imputed_value_int64s": tuple,
    "replaced_value_float": float,
    "replaced_value_int64": int,
}


@onnx_rule("Imputer", domain=_ML, attributes=_IMPUTER)
def _imputer(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """One value becomes another one, for each feature its own or for all the same."""
    (x,) = node.inputs
    dtype = build.types[x].dtype
    suffix, default = ("float", 0.0) if dtype.is_float else ("int64", 0)
    given = node.attributes.get(f"imputed_value_{suffix}s", ())
    replaced = node.attributes.get(f"replaced_value_{suffix}", default)
    features = build.types[x].shape[-1] if build.types[x].rank else 1
    if len(given) not in (1, features):
        raise GraphError(f"has {len(given)} values for {features} features")
    if replaced != replaced:
        wanted = build(IsNaN(), x, origin=origin)
    else:
        value = build.constant(np.array(replaced, dtype.numpy))
        wanted = build(Equal(), x, value, origin=origin)
    imputed = build.constant(np.asarray(given, dtype.numpy))
    build(Where(), wanted, imputed, x, outputs=node.outputs, origin=origin)


@onnx_rule(
    "OneHotEncoder",
    domain=_ML,
    attributes={"cats_int64s": tuple, "cats_strings": tuple, "zeros": int},
)
def _one_hot(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """y[..., i] = 1 where x is category i, else 0"""
    if node.attributes.get("cats_strings"):
        raise _strings("OneHotEncoder")
    (x,) = node.inputs
    if build.types[x].dtype is not DType.INT64:
        x = build(Cast(DType.INT64), x, origin=origin)
    known = build.constant(_integers(node, "cats_int64s"))
    op = Categories(bool(node.attributes.get("zeros", 1)))
    build(op, x, known, outputs=node.outputs, origin=origin)


def _strings(name: str) -> UnsupportedOperator:
    return UnsupportedOperator(
        f"{name} with strings is not supported: a network computes with numbers",
        remedy="Encode strings before the network",
    )


@onnx_rule(
    "FeatureVectorizer", domain=_ML, inputs=(1, 10_000), attributes={"inputdimensions": tuple}
)
def _feature_vectorizer(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """The inputs as matrices side by side, each with as many columns as it should have."""
    given = node.attributes.get("inputdimensions", ())
    if given and len(given) != len(node.inputs):
        raise GraphError(f"has {len(given)} sizes for {len(node.inputs)} inputs")
    parts = []
    for number, x in enumerate(node.inputs):
        part = _rows(build, _as_float(build, x, origin), origin)
        parts.append(_widened(build, part, given[number], origin) if given else part)
    build(Concat(1), *parts, outputs=node.outputs, origin=origin)


def _rows(build: Builder, x: str, origin: Origin) -> str:
    shape = build.types[x].shape
    if len(shape) == 2:
        return x
    rows: tuple[Dim, ...] = (1, -1) if len(shape) < 2 else (shape[0], -1)
    return build(Reshape(rows), x, origin=origin)


def _widened(build: Builder, x: str, columns: int, origin: Origin) -> str:
    """x with so many columns: the first ones, or with zeros behind."""
    present = build.types[x].shape[1]
    if present == columns:
        return x
    if not isinstance(present, int) or columns < 0:
        raise GraphError(f"cannot give {build.types[x]} {columns} columns")
    if columns < present:
        return build(Slice((0,), (columns,), (1,)), x, origin=origin)
    return build(Pad((0, 0, 0, columns - present)), x, origin=origin)


@onnx_rule("ArrayFeatureExtractor", domain=_ML, inputs=(2, 2))
def _array_feature_extractor(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Elements along the last axis; a list is one row."""
    x, indices = node.inputs
    if build.types[indices].rank != 1:
        indices = build(Reshape((-1,)), indices, origin=origin)
    if build.types[x].rank < 2:
        x = build(Reshape((1, -1)), x, origin=origin)
    build(Gather(-1), x, indices, outputs=node.outputs, origin=origin)


@onnx_rule(
    "ZipMap",
    domain=_ML,
    attributes={"classlabels_int64s": tuple, "classlabels_strings": tuple},
)
def _zip_map(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """The scores as they are, in the order of the labels: an array, not a list of dictionaries."""
    build(Identity(), node.inputs[0], outputs=node.outputs, origin=origin)


@onnx_rule(
    "CategoryMapper",
    domain=_ML,
    attributes={
        **dict.fromkeys(("cats_int64s", "cats_strings"), tuple),
        "default_int64": int,
        "default_string": str,
    },
)
def _category_mapper(node: OnnxNode, build: Builder, origin: Origin) -> None:  # noqa: ARG001
    """A number for each text, or the other way round."""
    raise _strings("CategoryMapper")


@onnx_rule(
    "DictVectorizer",
    domain=_ML,
    attributes={"int64_vocabulary": tuple, "string_vocabulary": tuple},
)
def _dict_vectorizer(node: OnnxNode, build: Builder, origin: Origin) -> None:  # noqa: ARG001
    """The values of a dictionary in the order of its keys."""
    raise UnsupportedOperator("DictVectorizer takes dictionaries, which are no tensors")


# Label encoder ------------------------------------------------------------------------------------

_ENCODER: Mapping[str, type] = {
    **{f"{k}_{t}": tuple for k in ("keys", "values") for t in ("floats", "int64s", "strings")},
    **{f"{k}_tensor": np.ndarray for k in ("keys", "values", "default")},
    "classes_strings": tuple,
    "default_float": float,
    "default_int64": int,
    "default_string": str,
}


@onnx_rule("LabelEncoder", domain=_ML, attributes=_ENCODER)
def _label_encoder(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """The value that belongs to the key x; the default for others."""
    keys, values = (_encoder_list(node, kind) for kind in ("keys", "values"))
    if len(keys) != len(values):
        raise GraphError(f"has {len(keys)} keys and {len(values)} values")
    (x,) = node.inputs
    if DType.of(keys) is not build.types[x].dtype:
        raise GraphError(f"has keys of {keys.dtype} for {build.types[x]}")
    default = _encoder_default(node, values.dtype)
    # Of equal keys the last one counts; before version 4 it was the first.
    order = np.arange(len(keys))[:: -1 if node.version >= 4 else 1]
    order = order[np.argsort(keys[order], kind="stable")]
    keys, values = keys[order], values[order]
    again = (keys[1:] == keys[:-1]) | (
        np.isnan(keys[1:].astype(np.float64)) & np.isnan(keys[:-1].astype(np.float64))
    )
    kept = np.concatenate([np.ones(min(1, len(keys)), bool), ~again])
    constants = keys[kept], np.append(values[kept], default).astype(values.dtype)
    build(Lookup(), x, *map(build.constant, constants), outputs=node.outputs, origin=origin)


def _encoder_list(node: OnnxNode, kind: str) -> Array:
    forms = {"floats": np.float32, "int64s": np.int64}
    given = {form for form in (*forms, "strings", "tensor") if f"{kind}_{form}" in node.attributes}
    if "classes_strings" in node.attributes or "strings" in given:
        raise _strings("LabelEncoder")
    if len(given) != 1:
        raise GraphError(f"needs one list of {kind}, not {len(given)}")
    (form,) = given
    value = node.attributes[f"{kind}_{form}"]
    return np.asarray(value, forms.get(form)).reshape(-1)


def _encoder_default(node: OnnxNode, dtype: Any) -> Any:
    tensor = node.attributes.get("default_tensor")
    if tensor is not None:
        if tensor.size != 1:
            raise GraphError(f"has {tensor.size} default values")
        return tensor.reshape(())
    kind, absent = ("float", -0.0) if dtype.kind == "f" else ("int64", -1)
    return node.attributes.get(f"default_{kind}", absent)


# Linear models ------------------------------------------------------------------------------------


def _linear(
    build: Builder, x: str, weights: Array, offset: Array, origin: Origin, output: str = ""
) -> str:
    """x @ weights.T + offset"""
    outputs = (output,) if output else ()
    w = build.constant(np.ascontiguousarray(weights.T))
    if not len(offset):
        return build(MatMul(), x, w, outputs=outputs, origin=origin)
    return build(Gemm(), x, w, build.constant(offset), outputs=outputs, origin=origin)


def _offsets(node: OnnxNode, count: int) -> Array:
    given = _floats(node, "intercepts")
    if len(given) not in (0, count):
        raise GraphError(f"has {len(given)} intercepts for {count} scores")
    return given


@onnx_rule(
    "LinearRegressor",
    domain=_ML,
    attributes={
        **dict.fromkeys(("coefficients", "intercepts"), tuple),
        "post_transform": str,
        "targets": int,
    },
)
def _linear_regressor(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """post_transform(x @ coefficients^T + intercepts)"""
    x, _ = _matrix(build, node.inputs[0], origin)
    count = arity_one(node, "targets")
    weights = _divided(_floats(node, "coefficients"), count, "coefficients")
    y = _linear(build, x, weights, _offsets(node, count), origin)
    post = node.attributes.get("post_transform", "NONE")
    post_transformed(build, y, post, node.outputs[0], origin)


@onnx_rule(
    "LinearClassifier",
    domain=_ML,
    outputs=2,
    attributes={
        **dict.fromkeys(("coefficients", "intercepts"), tuple),
        **dict.fromkeys(("classlabels_ints", "classlabels_strings"), tuple),
        "multi_class": int,
        "post_transform": str,
    },
)
def _linear_classifier(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """The scores post_transform(x @ coefficients^T + intercepts), and the label of the best."""
    x, features = _matrix(build, node.inputs[0], origin)
    labels = class_labels(node, "classlabels_ints")
    coefficients = _floats(node, "coefficients")
    rows = len(coefficients) // features if features else len(labels)
    weights = _divided(coefficients, max(1, rows), "coefficients")
    post = node.attributes.get("post_transform", "NONE")
    scores = _linear(build, x, weights, _offsets(node, rows), origin)
    single = rows == 1 and len(labels) == 2
    label_of(build, scores, labels, 0.0 if single else None, node.outputs[:1], origin)
    if len(node.outputs) < 2 or not node.outputs[1]:
        return
    if single:
        two_scores(build, scores, post, True, node.outputs[1], origin)
    else:
        post_transformed(build, scores, post, node.outputs[1], origin)


# Support vectors ----------------------------------------------------------------------------------

_SVM: Mapping[str, type] = {
    **dict.fromkeys(("coefficients", "kernel_params", "rho", "support_vectors"), tuple),
    "kernel_type": str,
    "post_transform": str,
}
_KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")


def _kernel(
    node: OnnxNode, build: Builder, x: str, features: int, count: int, origin: Origin
) -> str:
    """k[n, s]: how near event n is to support vector s."""
    vectors = _divided(_floats(node, "support_vectors"), count, "support vectors")
    if vectors.shape[1] != features:
        raise ShapeError(f"has support vectors of {vectors.shape[1]} features for {features}")
    kind = node.attributes.get("kernel_type", "LINEAR")
    if kind not in _KERNELS:
        raise UnsupportedOperator(f"{node.op_type} has no kernel {kind!r}")
    # float32, as the file has them.
    gamma, offset, degree = np.append(_floats(node, "kernel_params"), np.zeros(3))[:3].tolist()
    if kind == "RBF":
        distance = build(SquaredDistances(), x, build.constant(vectors), origin=origin)
        factor = build.constant(np.array(-gamma, np.float32))
        return build(Exp(), build(Mul(), distance, factor, origin=origin), origin=origin)
    if kind == "LINEAR":
        return _linear(build, x, vectors, np.zeros(0, np.float32), origin)
    scaled = (vectors * np.float32(gamma)).astype(np.float32)
    product = _linear(build, x, scaled, np.full(count, offset, np.float32), origin)
    if kind == "SIGMOID":
        return build(Tanh(), product, origin=origin)
    power = build.constant(np.array(degree, np.float32))
    return build(Pow(), product, power, origin=origin)


def _rho(node: OnnxNode, count: int) -> Array:
    given = _floats(node, "rho")
    if len(given) != count:
        raise GraphError(f"has {len(given)} numbers in 'rho', not {count}")
    return given


@onnx_rule("SVMRegressor", domain=_ML, attributes={**_SVM, "n_supports": int, "one_class": int})
def _svm_regressor(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """sum_i coefficients[i] * kernel(x, support_vectors[i]) + rho"""
    x, features = _matrix(build, node.inputs[0], origin)
    count = node.attributes.get("n_supports", 0)
    if count > 0:
        x = _kernel(node, build, x, features, count, origin)
    weights = _divided(_floats(node, "coefficients"), 1, "coefficients")
    y = _linear(build, x, weights, _rho(node, 1), origin)
    if node.attributes.get("one_class", 0):
        signs = build.constant(np.array([-1, 1], np.int64))
        sign = build(Labels(0.0, True), y, signs, origin=origin)
        column = build(Reshape((-1, 1)), sign, origin=origin)
        build(Cast(DType.FLOAT32), column, outputs=node.outputs, origin=origin)
        return
    post = node.attributes.get("post_transform", "NONE")
    post_transformed(build, y, post, node.outputs[0], origin)


@onnx_rule(
    "SVMClassifier",
    domain=_ML,
    outputs=2,
    attributes={
        **_SVM,
        **dict.fromkeys(("classlabels_ints", "classlabels_strings"), tuple),
        **dict.fromkeys(("prob_a", "prob_b", "vectors_per_class"), tuple),
    },
)
def _svm_classifier(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """One score for each class, or for each pair of classes; the label is that of most votes."""
    x, features = _matrix(build, node.inputs[0], origin)
    labels = class_labels(node, "classlabels_ints")
    per_class = _integers(node, "vectors_per_class")
    post = node.attributes.get("post_transform", "NONE")
    output = node.outputs[1] if len(node.outputs) > 1 else ""
    if not per_class.any():
        weights = _divided(_floats(node, "coefficients"), len(labels), "coefficients")
        offsets = np.repeat(_floats(node, "rho")[:1], len(labels))
        scores = _linear(build, x, weights, offsets, origin)
        label_of(build, scores, labels, None, node.outputs[:1], origin)
        post_transformed(build, scores, post, output, origin)
        return
    classes = len(per_class)
    if classes != len(labels) or classes < 2 or np.any(per_class < 0):
        raise GraphError(f"has support vectors of {classes} classes and {len(labels)} labels")
    kernel = _kernel(node, build, x, features, int(per_class.sum()), origin)
    pairs = classes * (classes - 1) // 2
    weights = _pairwise_weights(_floats(node, "coefficients"), per_class)
    scores = _linear(build, kernel, weights, _rho(node, pairs), origin)
    votes = build(PairwiseVotes(classes), scores, origin=origin)
    label_of(build, votes, labels, None, node.outputs[:1], origin)
    if not output:
        return
    if node.attributes.get("prob_a"):
        sigmoids = [build.constant(_floats(node, n)) for n in ("prob_a", "prob_b")]
        chances = build(PairwiseProbabilities(classes), scores, *sigmoids, origin=origin)
        post_transformed(build, chances, post, output, origin)
    elif classes == 2:
        two_scores(build, scores, post, False, output, origin)
    else:
        post_transformed(build, scores, post, output, origin)


def _pairwise_weights(coefficients: Array, per_class: Array) -> Array:
    """w[pair, vector]: what each vector says of each pair of classes, of which two have vectors."""
    classes, vectors = len(per_class), int(per_class.sum())
    given = _divided(coefficients, classes - 1, "coefficients")
    if given.shape[1] != vectors:
        raise GraphError(f"has {given.shape[1]} coefficients for {vectors} support vectors")
    ends = np.cumsum(per_class)
    rows = []
    for i in range(classes):
        for j in range(i + 1, classes):
            row = np.zeros(vectors, np.float32)
            for own, other in ((i, j - 1), (j, i)):
                part = slice(ends[own] - per_class[own], ends[own])
                row[part] = given[other, part]
            rows.append(row)
    return np.stack(rows)


# N-grams ------------------------------------------------------------------------------------------

_TFIDF: Mapping[str, type] = {
    **dict.fromkeys(("max_gram_length", "max_skip_count", "min_gram_length"), int),
    **dict.fromkeys(("ngram_counts", "ngram_indexes", "pool_int64s", "pool_strings"), tuple),
    "mode": str,
    "weights": tuple,
}


@onnx_rule("TfIdfVectorizer", attributes=_TFIDF)
def _tf_idf(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """How often each n-gram of a pool is in x, or whether it is, weighed.

    The n-grams become a table: length, output, tokens.
    """
    if node.attributes.get("pool_strings"):
        raise _strings("TfIdfVectorizer")
    least, most, skip = (
        node.attributes.get(n, 1) for n in ("min_gram_length", "max_gram_length", "max_skip_count")
    )
    if not 1 <= least <= most <= 64:
        raise GraphError(f"counts n-grams of {least} to {most} tokens")
    places = _integers(node, "ngram_indexes")
    table = _n_gram_table(node, places, most)
    weights = _floats(node, "weights") if node.attributes.get("weights") else np.ones(len(places))
    if len(table) != len(places) or len(weights) < len(places) or np.any(places < 0):
        raise GraphError(f"has {len(table)} n-grams and {len(places)} numbers of outputs")
    (x,) = node.inputs
    if build.types[x].dtype is not DType.INT64:
        x = build(Cast(DType.INT64), x, origin=origin)
    op = NGrams(
        int(places.max(initial=-1)) + 1, least, most, skip, node.attributes.get("mode", "TF")
    )
    constants = table, weights[: len(places)].astype(np.float32)
    build(op, x, *map(build.constant, constants), outputs=node.outputs, origin=origin)


def _n_gram_table(node: OnnxNode, places: Array, most: int) -> Array:
    pool, starts = _integers(node, "pool_int64s"), _integers(node, "ngram_counts")
    ends = np.append(starts[1:], len(pool))
    if np.any(starts < 0) or np.any(ends < starts) or np.any(ends > len(pool)):
        raise GraphError("has n-grams that begin where there are none")
    rows: list[list[int]] = []
    for length, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True), 1):
        if (end - start) % length:
            raise GraphError(f"has {end - start} tokens in n-grams of {length}")
        for at in range(start, end, length):
            place = int(places[len(rows)]) if len(rows) < len(places) else 0
            tokens = pool[at : at + length].tolist()[:most]
            rows.append([length, place, *tokens, *[0] * (most - len(tokens))])
    return np.asarray(rows, np.int64).reshape(-1, most + 2)
