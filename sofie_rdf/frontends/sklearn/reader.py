"""scikit-learn: fitted estimators and pipelines in memory, as skl2onnx exports them.

XGBoost's and LightGBM's models, alone or at the end of a pipeline, are read by their own frontends,
and so are scikit-learn's HistGradientBoosting. What comes out is compared with scikit-learn; where
float32 is too narrow, it is computed in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from sofie_rdf.errors import (
    GraphError,
    InputError,
    MissingDependency,
    ModelError,
    SofieError,
    UnsupportedOperator,
)
from sofie_rdf.frontends import frontend
from sofie_rdf.frontends.sklearn import boosting as sklearn_boosting
from sofie_rdf.frontends.sklearn.compare import by_step, difference
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
    rows: Any = None,
) -> Graph:
    """The graph of a fitted estimator; ``initial_types`` and ``options`` are skl2onnx's.

    Classes that are texts are the labels of the output with a number for each. Raises `ModelError`,
    with the step's name, where the results are not scikit-learn's.
    """
    name = name or type(estimator).__name__
    graph = _graph(estimator, name, initial_types, options)
    if hasattr(estimator, "get_params"):  # A Booster has no methods of scikit-learn.
        wanted = partial(_graph, name=name, initial_types=initial_types, options=options)
        graph = _compared(graph, estimator, wanted, rows)
    classes: Any = getattr(estimator, "classes_", None)
    if getattr(classes, "ndim", 0) != 1 or not all(isinstance(c, str) for c in classes):
        return graph
    with suppress(ModelError):  # Of two classes, some models give one number.
        return with_names(graph, labels=list(map(str, classes)))
    return graph


def _compared(graph: Graph, estimator: Any, converted: Callable[..., Graph], rows: Any) -> Graph:
    """The graph that gives what scikit-learn does: this one, or one that computes in float64."""
    wrong = difference(graph, estimator, rows)
    if not wrong:
        return graph
    for wide in ("all", "before"):
        with suppress(UnsupportedOperator, GraphError, InputError):
            other = converted(estimator, wide=wide)
            if not difference(other, estimator, rows):
                return other
    steps = list(getattr(estimator, "steps", ())) or [(graph.name, estimator)]

    def is_wrong(count: int) -> bool:
        before = _first_steps(estimator, count)
        with suppress(SofieError):
            return bool(difference(converted(before, wide="all"), before))
        return False

    raise ModelError(
        f"{by_step(steps, is_wrong)}: {wrong}",
        place=graph.name,
        remedy="skl2onnx converts it wrongly: use another estimator, or compute that step outside",
    )


def _first_steps(pipeline: Any, count: int) -> Any:
    before = copy.copy(pipeline)
    before.steps = pipeline.steps[:count]
    return before


def _graph(
    estimator: Any,
    name: str,
    initial_types: Any,
    options: Mapping[str, Any] | None,
    *,
    wide: str = "",
) -> Graph:
    """The graph of an estimator, whose input and outputs are float32.

    What is ``wide`` is computed in float64: nothing, "all", or what is "before" the last step.
    """
    if own := _reader(estimator):
        return own(estimator, name=name)
    steps = list(getattr(estimator, "steps", ()))
    last = steps[-1][1] if steps else None
    own = _reader(last) if steps else None
    if own and len(steps) == 1:
        return own(last, name=name)
    if len(steps) > 1 and (own or wide == "before"):
        before = _first_steps(estimator, len(steps) - 1)
        first = _converted(before, name, initial_types, options, wide=True)
        second = _of_float64(last, own, name) if own else _converted(last, name, None, options)
        return in_float32(_joined(first, second))
    found = _converted(estimator, name, initial_types, options, wide=wide == "all")
    return in_float32(found) if wide else found


def _of_float64(estimator: Any, own: Callable[..., Graph], name: str) -> Graph:
    """The last step's graph, which takes what its library takes of float64 numbers."""
    package = type(estimator).__module__.partition(".")[0]
    return own(estimator, name=name, **({} if package == "xgboost" else {"dtype": "float64"}))


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
    export = partial(
        skl2onnx.to_onnx,
        estimator,
        initial_types=initial_types,
        name=name,
        target_opset=_OPSETS,
    )
    chosen = dict(options or {})
    try:
        # Probabilities as a tensor, not as dictionaries, where a converter has the choice.
        proto = None
        if is_classifier(estimator):
            with suppress(NameError):
                proto = export(options={id(estimator): {"zipmap": False, **chosen}})
        proto = proto or export(options={id(estimator): chosen})
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UnsupportedOperator(
            f"{type(estimator).__name__} cannot be exported: {type(error).__name__}: {reason}",
            place=name,
            remedy="See skl2onnx's documentation; models of other packages must be at the end of a "
            "pipeline, and be XGBoost's or LightGBM's",
        ) from error
    _keep_targets(proto, estimator)
    # It writes some opsets twice.
    opsets = {o.domain: o for o in proto.opset_import}
    kept = [type(o).FromString(o.SerializeToString()) for o in opsets.values()]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    found: Graph = frontend("onnx").read(proto, name=name)
    return found


def _keep_targets(proto: Any, estimator: Any) -> None:
    """All targets of a network for regression, which skl2onnx writes below each other."""
    steps = list(getattr(estimator, "steps", ()))
    last = steps[-1][1] if steps else estimator
    if type(last).__name__ != "MLPRegressor" or last.n_outputs_ < 2:
        return
    (output,) = (o.name for o in proto.graph.output)
    for node in proto.graph.node:
        if node.op_type == "Reshape" and list(node.output) == [output]:
            node.op_type = "Identity"
            del node.input[1:]
            del node.attribute[:]
            for port in proto.graph.output:
                port.type.tensor_type.ClearField("shape")


def _joined(first: Graph, second: Graph) -> Graph:
    """One graph: the only output of the first is the only input of the second.

    The first is computed in float64, as scikit-learn does, where a rounding more would put numbers
    on the other side of thresholds: XGBoost's thresholds are numbers that it has seen.
    """
    build = Builder(first.name, {**first.provenance, **second.provenance})
    build.provenance.pop("features", None)
    inputs = {v: build.input(v, first.types[v]) for v in first.inputs}
    names = _copied(build, first, inputs, taken=second.types.keys())
    x, (wanted,) = names[first.outputs[0]], second.inputs
    given, type_ = build.types[x], second.types[wanted]
    if len(first.outputs) != 1 or given.rank != 2 or given.shape[1] != type_.shape[1]:
        raise InputError(
            f"the steps before the last one give {given}, and that takes {type_}", place=first.name
        )
    if given.dtype is not type_.dtype:
        x = build(Cast(type_.dtype), x)
    results = _copied(build, second, {wanted: x})
    return build.graph(*(results[o] for o in second.outputs))


def in_float32(graph: Graph) -> Graph:
    """The graph with float32 where its inputs and outputs are float64."""
    build = Builder(graph.name, dict(graph.provenance))
    inputs = {}
    for value in graph.inputs:
        type_ = graph.types[value]
        if type_.dtype is DType.FLOAT64:
            build.input(value, TensorType(DType.FLOAT32, type_.shape))
            inputs[value] = build(Cast(DType.FLOAT64), value)
        else:
            inputs[value] = build.input(value, type_)
    wide = {o for o in graph.outputs if graph.types[o].dtype is DType.FLOAT64}
    names = _copied(build, graph, inputs, taken=wide)
    for output in wide:
        build(Cast(DType.FLOAT32), names[output], outputs=[output])
    return build.graph(*(o if o in wide else names[o] for o in graph.outputs))


def _copied(
    build: Builder, graph: Graph, names: Mapping[str, str], taken: Collection[str] = ()
) -> Mapping[str, str]:
    """All nodes of a graph, under names that are free; what its values are called now."""
    known = {"": "", **names}

    def free(value: str) -> str:
        if value in taken:
            return build.fresh(f"{value}.wide")
        return build.fresh(value) if build.has(value) else value

    for value, array in graph.constants.items():
        known[value] = build.constant(array, free(value))
    for node in graph.nodes:
        outputs = [free(o) if o else "" for o in node.outputs]
        build(node.op, *(known[i] for i in node.inputs), outputs=outputs, origin=node.origin)
        known.update(zip(node.outputs, outputs, strict=True))
    return known
