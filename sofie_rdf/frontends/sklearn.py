"""scikit-learn: fitted estimators and pipelines in memory, as skl2onnx exports them.

XGBoost's and LightGBM's models, alone or at the end of a pipeline, are read by their own frontends,
and so are scikit-learn's HistGradientBoosting.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from sofie_rdf.errors import InputError, MissingDependency, ModelError, UnsupportedOperator
from sofie_rdf.frontends import frontend, sklearn_boosting
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import with_names
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.casts import Cast

__all__ = ["read"]

INPUT = "features"
# What skl2onnx is asked for: its converters of trees write version 3.
_OPSETS = {"": 18, "ai.onnx.ml": 3}
# The frontends of estimators of other packages.
_FOREIGN = {"xgboost": "xgboost", "lightgbm": "lightgbm"}


def read(
    estimator: Any,
    *,
    name: str = "",
    initial_types: Any = None,
    options: Mapping[str, Any] | None = None,
) -> Graph:
    """The graph of a fitted estimator; ``initial_types`` and ``options`` are skl2onnx's.

    Classes that are texts are the labels of the output with a number for each.
    """
    graph = _graph(estimator, name or type(estimator).__name__, initial_types, options)
    classes: Any = getattr(estimator, "classes_", None)
    if getattr(classes, "ndim", 0) != 1 or not all(isinstance(c, str) for c in classes):
        return graph
    with suppress(ModelError):  # Of two classes, some models give one number.
        return with_names(graph, labels=list(map(str, classes)))
    return graph


def _graph(
    estimator: Any, name: str, initial_types: Any, options: Mapping[str, Any] | None
) -> Graph:
    if own := _reader(estimator):
        return own(estimator, name=name)
    steps = list(getattr(estimator, "steps", ()))
    if steps and (own := _reader(steps[-1][1])):
        second = own(steps[-1][1], name=name)
        if len(steps) == 1:
            return second
        before = copy.copy(estimator)
        before.steps = steps[:-1]
        return _joined(_converted(before, name, initial_types, options, wide=True), second)
    return _converted(estimator, name, initial_types, options)


def _reader(estimator: Any) -> Callable[..., Graph] | None:
    """What reads an estimator, unless that is skl2onnx."""
    kind = type(estimator)
    package = kind.__module__.partition(".")[0]
    if package == "sklearn" and kind.__name__.startswith("HistGradientBoosting"):
        return sklearn_boosting.read
    if package not in _FOREIGN:
        return None
    found: Callable[..., Graph] = frontend(_FOREIGN[package]).read
    return found


def _converted(
    estimator: Any,
    name: str,
    initial_types: Any,
    options: Mapping[str, Any] | None,
    *,
    wide: bool = False,
) -> Graph:
    """The graph that skl2onnx exports, by default for float32, or float64 if ``wide``."""
    try:
        import skl2onnx
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
        from sklearn.base import is_classifier
    except ImportError as error:
        raise MissingDependency(
            f"from_sklearn needs {error.name}", remedy="pip install 'sofie_rdf[trees]'"
        ) from None
    if initial_types is None:
        count = getattr(estimator, "n_features_in_", None)
        if count is None:
            raise InputError(
                f"{type(estimator).__name__} does not say how many features it takes",
                remedy="Fit it first, or give initial_types=",
            )
        kind = DoubleTensorType if wide else FloatTensorType
        initial_types = [(INPUT, kind([None, count]))]
    chosen = dict(options or {})
    if is_classifier(estimator):
        # Probabilities as a tensor, not as dictionaries.
        chosen = {"zipmap": False, **chosen}
    try:
        proto = skl2onnx.to_onnx(
            estimator,
            initial_types=initial_types,
            options={id(estimator): chosen},
            name=name,
            target_opset=_OPSETS,
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UnsupportedOperator(
            f"{type(estimator).__name__} cannot be exported: {type(error).__name__}: {reason}",
            place=name,
            remedy="See skl2onnx's documentation; models of other packages must be at the end of a "
            "pipeline, and be XGBoost's or LightGBM's",
        ) from error
    # It writes some opsets twice.
    opsets = {o.domain: o for o in proto.opset_import}
    kept = [type(o).FromString(o.SerializeToString()) for o in opsets.values()]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    found: Graph = frontend("onnx").read(proto, name=name)
    return found


def _joined(first: Graph, second: Graph) -> Graph:
    """One graph: the only output of the first is the only input of the second.

    The first is computed in float64, as scikit-learn does, where a rounding more would put numbers
    on the other side of thresholds: XGBoost's thresholds are numbers that it has seen.
    """
    build = Builder(first.name, {**first.provenance, **second.provenance})
    build.provenance.pop("features", None)
    inputs = {}
    for value in first.inputs:
        type_ = first.types[value]
        if type_.dtype is DType.FLOAT64:
            build.input(value, TensorType(DType.FLOAT32, type_.shape))
            inputs[value] = build(Cast(DType.FLOAT64), value)
        else:
            inputs[value] = build.input(value, type_)
    names = _copied(build, first, inputs)
    x, (wanted,) = names[first.outputs[0]], second.inputs
    given, type_ = build.types[x], second.types[wanted]
    if len(first.outputs) != 1 or given.rank != 2 or given.shape[1] != type_.shape[1]:
        raise InputError(
            f"the steps before the last one give {given}, and that takes {type_}", place=first.name
        )
    if given.dtype is not DType.FLOAT32:
        x = build(Cast(DType.FLOAT32), x)
    return build.graph(*(_copied(build, second, {wanted: x})[o] for o in second.outputs))


def _copied(build: Builder, graph: Graph, names: Mapping[str, str]) -> Mapping[str, str]:
    """All nodes of a graph, under names that are free; what its values are called now."""
    known = {"": "", **names}

    def free(value: str) -> str:
        return build.fresh(value) if build.has(value) else value

    for value, array in graph.constants.items():
        known[value] = build.constant(array, free(value))
    for node in graph.nodes:
        outputs = [free(o) if o else "" for o in node.outputs]
        build(node.op, *(known[i] for i in node.inputs), outputs=outputs, origin=node.origin)
        known.update(zip(node.outputs, outputs, strict=True))
    return known
