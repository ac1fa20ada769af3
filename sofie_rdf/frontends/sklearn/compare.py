"""A converted estimator beside scikit-learn: what was converted wrongly ends here.

Converters may compute in float32 what scikit-learn computes in float64, or lose an axis. So the
graph is asked at random rows, at rows near all thresholds of trees, at rows that the estimator
remembers, and at those of the user.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from sofie_rdf.errors import ModelError
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate

__all__ = ["difference"]

# What scikit-learn computes; an output of the graph is one of these.
METHODS = (
    *("predict", "predict_proba", "decision_function", "transform", "score_samples"),
    "predict_log_proba",
)
# Rows that an estimator keeps, by the attributes that hold them.
REMEMBERED = ("_fit_X", "X_train_", "X_fit_", "support_vectors_", "cluster_centers_")
MOST_ROWS = 400
RANDOM_ROWS = 100
# A deviation of so large a part of the largest number is rounding.
ROUNDING = 1e-5


@dataclass(frozen=True)
class _Asked:
    """What scikit-learn gives at some rows: by method, as far as it can be called."""

    label: str
    rows: Array
    results: dict[str, list[Array]]


def difference(graph: Graph, estimator: Any, rows: Any = None) -> str:
    """What differs, in words; an empty text where the graph gives what scikit-learn does.

    Raises `ModelError` where scikit-learn computes none of the rows.
    """
    asked = 0
    for label, array in _rows(graph, estimator, rows):
        for variant in _variants(array):
            results = _results(estimator, variant)
            if results:
                asked += 1
                given = _Asked(label, variant, results)
                if found := _wrong(graph, estimator, given):
                    return f"{found} at {label}"
                break
    if not asked:
        raise ModelError(
            f"{type(estimator).__name__} cannot be compared with scikit-learn, which computes none "
            "of the rows that were tried",
            remedy="Give rows that it takes: rows=",
        )
    return ""


# Rows ---------------------------------------------------------------------------------------------


def _rows(graph: Graph, estimator: Any, rows: Any) -> Iterator[tuple[str, Array]]:
    count = sum(_widths(graph, estimator))
    random = np.random.default_rng(1)
    if rows is not None:
        yield "the given rows", np.asarray(rows, np.float64).reshape(-1, count)
    plain = random.normal(size=(RANDOM_ROWS, count))
    yield "random rows", _before(estimator, plain)
    kept = [r for r in _remembered(estimator) if r.ndim == 2 and r.shape[0]]
    for array in kept:
        chosen = array[random.permutation(len(array))[:RANDOM_ROWS]]
        back = _before(estimator, chosen)
        if back.shape[1] == count:
            yield "rows that the estimator remembers", back
            noise = random.normal(size=back.shape) * back.std(axis=0) * 0.1
            yield "rows near those that the estimator remembers", back + noise
    near = _near_thresholds(graph, random)
    if near is not None:
        back = _before(estimator, near)
        if back.shape[1] == count:
            yield "rows at the thresholds of trees", back


def _widths(graph: Graph, estimator: Any) -> list[int]:
    """How many columns of rows each input takes: by default one input takes all."""
    shapes = [graph.types[name].shape for name in graph.inputs]
    known = [s[1] if len(s) == 2 else None for s in shapes]
    if len(known) == 1 and not isinstance(known[0], int):
        return [int(estimator.n_features_in_)]
    return [w if isinstance(w, int) else 1 for w in known]


def _variants(rows: Array) -> Iterator[Array]:
    """The rows as float32 holds them; some estimators take no negative or no broken numbers."""
    narrow = rows[:MOST_ROWS].astype(np.float32).astype(np.float64)
    yield narrow
    yield np.abs(narrow)
    yield np.minimum(np.rint(np.abs(narrow)), 1)


def _before(estimator: Any, rows: Array) -> Array:
    """Rows that the steps before the last one turn into these, as far as steps can be inverted."""
    for _, step in list(getattr(estimator, "steps", ()))[-2::-1]:
        with suppress(Exception):
            rows = np.asarray(step.inverse_transform(rows), np.float64)
    return rows


def _remembered(estimator: Any) -> Iterator[Array]:
    steps = list(getattr(estimator, "steps", ()))
    last = steps[-1][1] if steps else estimator
    for name in REMEMBERED:
        found = getattr(last, name, None)
        with suppress(TypeError, ValueError):
            if found is not None:
                yield np.asarray(found, np.float64)


def _near_thresholds(graph: Graph, random: Any) -> Array | None:
    """Rows of what the first trees read: at a threshold, and right above and below it."""
    for node in graph.nodes:
        if node.op.name == "Trees" and node.inputs[2] in graph.constants:
            count = graph.types[node.inputs[0]].shape[1]
            features, thresholds = (graph.constants[node.inputs[i]] for i in (2, 3))
            inner = graph.constants[node.inputs[4]] != 0
            inner &= np.isfinite(thresholds) & (features < count)
            places = np.flatnonzero(inner)
            if not len(places) or not isinstance(count, int):
                return None
            chosen = random.choice(places, MOST_ROWS)
            spread = thresholds[places].astype(np.float64)
            rows = random.normal(spread.mean(), spread.std() + 1e-9, (MOST_ROWS, count))
            at = thresholds[chosen].astype(np.float32)
            for part, to in enumerate((np.inf, -np.inf)):
                at[part::3] = np.nextafter(at[part::3], np.float32(to))
            rows[np.arange(MOST_ROWS), features[chosen]] = at
            return np.asarray(rows)
    return None


# What scikit-learn gives --------------------------------------------------------------------------


def _results(estimator: Any, rows: Array) -> dict[str, list[Array]]:
    found: dict[str, list[Array]] = {}
    named = getattr(estimator, "feature_names_in_", None)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for method in METHODS:
            with suppress(Exception):
                result = getattr(estimator, method)(_as_taken(rows, named))
                found[method] = _forms(estimator, method, result)
    # Without a prediction, the rows are none that it takes.
    return found if "predict" in found or not hasattr(estimator, "predict") else {}


def _as_taken(rows: Array, named: Any) -> Any:
    """A table with the names that the estimator was fitted with, where it was."""
    if named is not None:
        with suppress(ImportError):
            return import_module("pandas").DataFrame(rows, columns=list(named))
    return rows


def _forms(estimator: Any, method: str, result: Any) -> list[Array]:
    """The forms in which a converter may give a result."""
    if hasattr(result, "toarray"):
        result = result.toarray()
    if isinstance(result, list):  # One array for each target; sequences are elements and shapes.
        found = [np.concatenate([r.ravel() for r in result]), np.array([r.shape for r in result])]
        if len({r.shape for r in result}) == 1:
            found += [np.stack(result), np.stack(result, axis=1)]
        return found
    array = np.asarray(result)
    found = [array]
    if method == "predict":
        classes = getattr(estimator, "classes_", None)
        if array.dtype.kind in "OUS" and classes is not None:
            found = [np.searchsorted(np.asarray(classes), array)]
        elif array.dtype.kind == "b":
            found = [array.astype(np.int64)]
    if method in ("predict_proba", "predict_log_proba") and array.ndim == 2 and array.shape[1] == 2:
        found.append(array[:, 1])
    return found


# The comparison -----------------------------------------------------------------------------------


def _wrong(graph: Graph, estimator: Any, asked: _Asked) -> str:
    """What the graph gives otherwise at these rows."""
    ends = np.cumsum(_widths(graph, estimator))
    parts = zip(graph.inputs, np.split(asked.rows, ends[:-1], axis=1), strict=True)
    given = {name: part.astype(graph.types[name].dtype.numpy) for name, part in parts}
    with np.errstate(all="ignore"):
        outputs = evaluate(graph, given)
    tied = _tied(asked)
    predicted = not hasattr(estimator, "predict")
    for output, found in outputs.items():
        worst, right = [], set()
        for method, forms in asked.results.items():
            worst += [_deviation(found, form, tied) for form in forms]
            right |= {method} if 0 in worst[len(worst) - len(forms) :] else set()
        predicted |= bool(right - {"transform"})
        if not right:
            shapes = ", ".join(f"{m} {list(f[0].shape)}" for m, f in asked.results.items() if f)
            closest = min(worst, default=np.inf)
            by = f" by {closest:.2g}" if np.isfinite(closest) else f" ({shapes})"
            return (
                f"output {output!r} {found.dtype}{list(found.shape)} differs from all that "
                f"scikit-learn gives{by}"
            )
    return "" if predicted else "no output is a prediction, only what is transformed"


def _tied(asked: _Asked) -> Array:
    """Rows in which two classes are the best but for rounding."""
    tied = np.zeros(len(asked.rows), bool)
    for method, forms in asked.results.items():
        for form in forms:
            if method != "predict" and form.dtype.kind == "f" and len(form) == len(tied):
                tied |= _near_each_other(form)
    return tied


def _near_each_other(scores: Array) -> Array:
    limit = ROUNDING * max(1.0, float(np.max(np.abs(scores[np.isfinite(scores)]), initial=0.0)))
    if scores.ndim == 1:
        return np.asarray(np.abs(scores) <= limit)
    if scores.ndim != 2 or scores.shape[1] < 2:
        return np.zeros(len(scores), bool)
    ordered = np.sort(scores, axis=1)
    first, last = ordered[:, 1] - ordered[:, 0], ordered[:, -1] - ordered[:, -2]
    return np.asarray((first <= limit) | (last <= limit))


def _deviation(found: Array, wanted: Array, tied: Array) -> float:
    """By how much they differ, if that is more than rounding; infinite for another shape."""
    if found.shape != wanted.shape and (*wanted.shape, 1) == found.shape:
        wanted = wanted[..., None]
    if found.shape != wanted.shape or wanted.dtype.kind not in "fiub":
        return float("inf")
    if found.dtype.kind in "iub" and found.ndim and len(found) == len(tied):
        found, wanted = found[~tied], wanted[~tied]
    one, other = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    finite = np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        return float("inf")
    scale = float(np.max(np.abs(other[finite]), initial=0.0))
    deviation = float(np.max(np.abs(one[finite] - other[finite]), initial=0.0))
    if found.dtype.kind in "iub":
        return deviation
    return 0.0 if deviation <= scale * ROUNDING else deviation


def by_step(steps: Sequence[tuple[str, Any]], wrong: Any) -> str:
    """The first step whose results differ; ``wrong`` says whether those of the first n steps do."""
    for count in range(1, len(steps)):
        if wrong(count):
            break
    else:
        count = len(steps)
    name, step = steps[count - 1]
    return f"step {name!r} ({type(step).__name__})"
