"""LightGBM: its text files, read without lightgbm.

One input ``features`` float[N, F] and one output ``prediction`` float[N, K]: what
``Booster.predict`` gives. The formula is transform(sum of the leaves). Numbers up to 1e-35 are 0
for LightGBM; whether 0 or NaN is a value that is missing, each node says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.errors import CorruptFile, InputError, UnsupportedOperator, nearest
from sofie_rdf.frontends.common.problems import Problems
from sofie_rdf.frontends.trees.files import MOST_OUTPUTS, Reader, declared, gathered, written
from sofie_rdf.frontends.trees.table import (
    MOST_FEATURES,
    Ranges,
    Tree,
    below,
    categories,
    checked,
    evaluated,
)
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import Abs, Equal, Exp, IsNaN, Mul, Sigmoid, Softplus, Where
from sofie_rdf.ops.layout import Concat, Expand, Identity, Reshape, Unsqueeze
from sofie_rdf.ops.normalization import Softmax
from sofie_rdf.ops.reduction import ReduceSum

__all__ = ["check", "read"]

OUTPUT = "prediction"
_DTYPES = {"float32": DType.FLOAT32, "float64": DType.FLOAT64}
# What is not larger than this is 0.
_ZERO = float(np.float32(1e-35))
_BELOW_ZERO = float(below(-_ZERO))
# A node's decision_type: is it categorical, does what is missing go to the left, and what is.
_CATEGORICAL, _LEFT = 1, 2
_NONE, _ZERO_MISSING, _NAN_MISSING = 0, 1, 2


def read(source: Any, *, name: str = "", dtype: str = "float32") -> Graph:
    """The graph of a file, its bytes, a Booster, or a model with scikit-learn's interface.

    With ``dtype`` "float64", x and the sum are of that type, as in LightGBM. All trees count that
    the file has: LightGBM writes those up to the best round.
    """
    if dtype not in _DTYPES:
        raise InputError(f"dtype={dtype!r} is unknown", remedy='Use "float32" or "float64"')
    return _Reader(_file_of(source), name, None).graph(_DTYPES[dtype])


def check(source: Any, **_: Any) -> Problems:
    """Everything that is wrong with a model, at once; never raises for it."""
    return gathered(lambda problems: _Reader(_file_of(source), "", problems).graph(DType.FLOAT32))


def _file_of(source: Any) -> Path | bytes:
    """A file; an object in memory as one, up to its best round."""
    if isinstance(source, (Path, bytes)):
        return source
    wrapped = hasattr(type(source), "booster_")

    def write() -> bytes:
        booster = source.booster_ if wrapped else source
        return bytes(booster.model_to_string().encode())

    return written(source, "LightGBM", wrapped or hasattr(source, "model_to_string"), write)


# Objectives ---------------------------------------------------------------------------------------

_SAME: tuple[Operator, ...] = (Identity(),)
_TRANSFORMS: Mapping[str, tuple[Operator, ...]] = {
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "quantile", "mape"), _SAME),
    **dict.fromkeys(("lambdarank", "rank_xendcg", "custom"), _SAME),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), (Exp(),)),
    **dict.fromkeys(("binary", "multiclassova", "cross_entropy"), (Sigmoid(),)),
    "multiclass": (Softmax(-1),),
    "cross_entropy_lambda": (Softplus(),),
}
# Those whose sigmoid has a slope.
_SLOPES = ("binary", "multiclassova")
_KNOWN_WORDS = ("sqrt",)
_KNOWN_PARAMETERS = ("sigmoid", "num_class", "tweedie_variance_power", "alpha")


# The file -----------------------------------------------------------------------------------------


class _Lines:
    """A part of the file: lines ``key=value``."""

    def __init__(self, lines: Sequence[str], place: str) -> None:
        pairs = [line.partition("=") for line in lines]
        self.found = {key.strip(): value for key, sign, value in pairs if sign}
        self.words = {key.strip() for key, sign, _ in pairs if not sign and key.strip()}
        self.place = place

    def __contains__(self, key: str) -> bool:
        return key in self.found

    def text(self, key: str) -> str:
        if key not in self.found:
            raise CorruptFile(f"lacks {key!r}", place=self.place)
        return self.found[key].strip()

    def count(self, key: str, default: int = -1, most: int = 2**31) -> int:
        """A whole number from 0 on, which must be there unless it has a default."""
        if key not in self and default >= 0:
            return default
        text = self.text(key)
        if not text.isascii() or not text.isdigit() or not int(text[:20]) <= most:
            shown = f"{key}={text[:50]}"
            raise CorruptFile(f"has no number that can be in {shown!r}", place=self.place)
        return int(text)

    def array(self, key: str, dtype: type, count: int) -> Array:
        """So many numbers."""
        words = self.text(key).split()
        if len(words) != count:
            raise CorruptFile(f"has {len(words)} numbers in {key!r}, not {count}", place=self.place)
        try:
            return np.array([dtype(w) for w in words], dtype)
        except (ValueError, OverflowError):
            raise CorruptFile(f"has no numbers in {key!r}", place=self.place) from None


def _parts(content: bytes, place: str) -> Iterator[_Lines]:
    """The header and the trees."""
    try:
        lines = [line.strip("\r") for line in content.decode().split("\n")]
    except UnicodeDecodeError:
        raise CorruptFile("is no text", place=place) from None
    if lines[0].strip() != "tree":
        raise CorruptFile("is no text file of LightGBM", place=place)
    if "end of trees" not in lines:
        raise CorruptFile("is truncated: it lacks its end of trees", place=place)
    lines = lines[1 : lines.index("end of trees")]
    starts = [i for i, line in enumerate(lines) if line.startswith("Tree=")]
    for number, (start, end) in enumerate(
        zip([0, *starts], [*starts, len(lines)], strict=True), -1
    ):
        yield _Lines(lines[start:end], place if number < 0 else f"{place}: tree {number}")


class _Reader(Reader):
    def __init__(self, source: Path | bytes, name: str, problems: Problems | None) -> None:
        self.header, *self.listed = _parts(self.opened(source, name, problems), self.place)
        self.features = self.header.count("max_feature_idx", most=MOST_FEATURES - 2) + 1
        self.outputs = max(1, self.header.count("num_tree_per_iteration", most=MOST_OUTPUTS))
        if "tree_sizes" in self.header:
            said = len(self.header.text("tree_sizes").split())
            if said != len(self.listed):
                raise CorruptFile(f"has {len(self.listed)} trees, not {said}", place=self.place)
        if len(self.listed) % self.outputs:
            raise CorruptFile(
                f"has {len(self.listed)} trees for {self.outputs} outputs", place=self.place
            )
        version = self.header.text("version")
        self.build.provenance["producer"] = f"LightGBM, file format {version}"

    def graph(self, dtype: DType) -> Graph:
        """The sum of the leaves, and its transform."""
        names = self.header.text("feature_names").split() if "feature_names" in self.header else ()
        x = declared(self.build, self.features, names, dtype, self.place)
        objective = self.attempt(self._objective) or []
        linear = any(lines.count("is_linear", 0) for lines in self.listed)
        width = self.features + 1 if linear else 1
        if width * self.outputs > MOST_FEATURES:
            raise CorruptFile("has more lines than can be", place=self.place)
        trees = [
            self.attempt(self._tree, number, lines, width)
            for number, lines in enumerate(self.listed)
        ]
        found = [t for t in trees if t]
        y = self._linear(x, found) if linear else self._sum(x, found)
        for number, op in enumerate(objective or [*_SAME], 1):
            last = (OUTPUT,) if number == max(1, len(objective)) else ()
            y = self._apply(op, y, last)
        return self.build.graph(y)

    def _apply(self, op: Operator | float | str, y: str, last: Sequence[str]) -> str:
        """A step of the transform; a number is a factor, and "sqrt" the inverse of a root."""
        build, origin = self.build, self.origin
        if op == "sqrt":
            return build(Mul(), build(Abs(), y, origin=origin), y, outputs=last, origin=origin)
        if isinstance(op, Operator):
            return build(op, y, outputs=last, origin=origin)
        factor = build.constant(np.asarray(op, build.types[y].dtype.numpy))
        return build(Mul(), y, factor, outputs=last, origin=origin)

    def _objective(self) -> list[Operator | float | str]:
        """The steps from the sum to the prediction."""
        if "objective" not in self.header:
            return [*_SAME]
        kind, *words = self.header.text("objective").split() or ["custom"]
        parameters = dict(w.split(":", 1) for w in words if ":" in w)
        flags = [w for w in words if ":" not in w]
        if kind not in _TRANSFORMS:
            remedy = nearest(kind, _TRANSFORMS)
            raise UnsupportedOperator(
                f"the objective {kind!r} is not supported", place=self.place, remedy=remedy
            )
        unknown = [*set(flags).difference(_KNOWN_WORDS), *set(parameters) - set(_KNOWN_PARAMETERS)]
        if unknown:
            raise UnsupportedOperator(
                f"the objective {kind!r} has the unknown option {unknown[0]!r}", place=self.place
            )
        if "sqrt" in flags and kind.startswith("regression"):
            return ["sqrt"]
        try:
            slope = float(parameters.get("sigmoid", 1))
        except ValueError:
            raise CorruptFile("has a sigmoid that is no number", place=self.place) from None
        scaled: list[Operator | float | str] = [slope] if kind in _SLOPES and slope != 1 else []
        return scaled + list(_TRANSFORMS[kind])

    # Trees ---------------------------------------------------------------------------------------

    def _sum(self, x: str, trees: Sequence[Tree]) -> str:
        return evaluated(self.build, x, trees, np.zeros(self.outputs), self.origin)

    def _linear(self, x: str, trees: Sequence[Tree]) -> str:
        """y[n, k] = c[n, k, F] + sum_f c[n, k, f] x[n, f], where leaves add to c; in float64."""
        build, origin = self.build, self.origin
        dtype, width = build.types[x].dtype, self.features + 1
        x = build(Cast(DType.FLOAT64), x, origin=origin) if dtype is DType.FLOAT32 else x
        found = evaluated(build, x, trees, np.zeros(self.outputs * width), origin)
        batch = build.types[x].shape[0]
        c = build(Reshape((batch, self.outputs, width)), found, origin=origin)
        zero, one = build.constant(np.zeros(())), build.constant(np.ones((1, 1)))
        # NaN has led to a leaf without coefficients; 0 times infinity is not meant.
        absent = build(IsNaN(), x, origin=origin)
        x = build(Where(), absent, zero, x, origin=origin)
        one = build(Expand((batch, 1)), one, origin=origin)
        x = build(Unsqueeze((1,)), build(Concat(1), x, one, origin=origin), origin=origin)
        terms = build(Mul(), c, x, origin=origin)
        unused = build(Equal(), c, zero, origin=origin)
        terms = build(Where(), unused, zero, terms, origin=origin)
        y = build(ReduceSum((2,), keepdims=False), terms, origin=origin)
        return build(Cast(dtype), y, origin=origin) if dtype is DType.FLOAT32 else y

    def _tree(self, number: int, lines: _Lines, width: int) -> Tree:
        leaves = lines.count("num_leaves", most=2**28)
        if not leaves:
            raise CorruptFile("has no leaves", place=lines.place)
        values = lines.array("leaf_value", float, leaves)
        scale = 1.0
        if "average_output" in self.header.words:
            scale = self.outputs / len(self.listed)
        target = number % self.outputs * width + width - 1
        inner = leaves - 1
        splits = _Splits(lines, inner)
        children = np.concatenate([splits.children, np.full((leaves, 2), -1)])
        behind = (0, leaves)
        tree = Tree(
            lines.place,
            np.pad(splits.features, behind),
            np.pad(splits.thresholds, behind),
            np.pad(splits.missing, behind),
            children,
            inner + np.arange(leaves),
            np.full(leaves, target),
            values * scale,
            splits.ranges,
        )
        if lines.count("is_linear", 0):
            tree = _with_lines(tree, lines, values, target - width + 1, scale)
        return checked(tree, self.features, self.outputs * width)


class _Splits:
    """The inner nodes of a tree."""

    def __init__(self, lines: _Lines, count: int) -> None:
        self.lines, self.place = lines, lines.place
        self.ranges: dict[int, Ranges] = {}
        if not count:
            self.features, self.thresholds = np.zeros(0, np.int64), np.zeros(0)
            self.missing, self.children = np.zeros(0, bool), np.zeros((0, 2), np.int64)
            return
        self.features = lines.array("split_feature", int, count)
        given = lines.array("threshold", float, count)
        kinds = lines.array("decision_type", int, count)
        sides = [lines.array(f"{side}_child", int, count) for side in ("left", "right")]
        self.children = np.stack(sides, axis=1)
        if np.any((self.children < -count - 1) | (self.children >= count)):
            raise CorruptFile("has a child that does not exist", place=self.place)
        self.children = np.where(self.children < 0, count + ~self.children, self.children)
        if np.any((kinds < 0) | (kinds > 11)):
            raise CorruptFile("has an unknown decision_type", place=self.place)
        self.left, self.rule = kinds & _LEFT != 0, kinds >> 2
        # Bounds that no number is equal to once small numbers have become 0.
        near = np.abs(given) <= _ZERO
        self.thresholds = np.where(near, np.where(given < 0, _BELOW_ZERO, _ZERO), given)
        self.missing = np.where(self.rule == _NONE, self.thresholds >= 0, self.left)
        self._zeros()
        self._categories(np.flatnonzero(kinds & _CATEGORICAL), given)

    def _zeros(self) -> None:
        """Where 0 is missing and would go the other way, that is three intervals."""
        own = (self.rule == _ZERO_MISSING) & (self.left != (self.thresholds >= 0))
        for node in np.flatnonzero(own & ~np.isnan(self.thresholds)).tolist():
            bound, side = float(self.thresholds[node]), 0 if self.left[node] else 1
            bounds = [bound, _BELOW_ZERO, _ZERO] if side == 0 else [_BELOW_ZERO, _ZERO, bound]
            self.ranges[node] = Ranges(tuple(bounds), (0, 1, 0, 1), side)

    def _categories(self, nodes: Array, given: Array) -> None:
        """Nodes whose threshold is the number of a set of bits; what is in it goes to the left."""
        if not len(nodes):
            return
        count = self.lines.count("num_cat", most=2**28)
        ends = self.lines.array("cat_boundaries", int, count + 1)
        wrong = ends[0] != 0 or np.any(np.diff(ends) < 0) or ends[-1] > 2**28
        if wrong or np.any((given[nodes] < 0) | (given[nodes] >= count) | (given[nodes] % 1 != 0)):
            raise CorruptFile("has categories that do not exist", place=self.place)
        words = self.lines.array("cat_threshold", int, int(ends[-1]))
        if np.any((words < 0) | (words >= 2**32)):
            raise CorruptFile("has categories that cannot be", place=self.place)
        for node in nodes.tolist():
            number = int(given[node])
            bits = words[ends[number] : ends[number + 1]].astype("<u4").view(np.uint8)
            members = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
            self.thresholds[node] = 0
            self.ranges[node] = categories(members, 0, 1, -1.0)


# Leaves with a linear model -----------------------------------------------------------------------


def _with_lines(tree: Tree, lines: _Lines, values: Array, first: int, scale: float) -> Tree:
    """The tree with lines in its leaves; where a number that one needs is NaN, with plain leaves.

    A leaf with k coefficients becomes k nodes that ask for NaN, k plain leaves, and a leaf that
    adds coefficient f to target ``first + f`` and its constant to the last.
    """
    leaves = len(values)
    counts = lines.array("num_features", int, leaves)
    if np.any((counts < 0) | (counts > 2**24)):
        raise CorruptFile("has a leaf with features that cannot be", place=tree.place)
    total = int(counts.sum())
    used = lines.array("leaf_features", int, total)
    factors = lines.array("leaf_coeff", float, total) * scale
    constants = lines.array("leaf_const", float, leaves) * scale
    inner, ends = len(tree.features) - leaves, np.cumsum(counts)
    size = len(tree.features)
    # The checks of a leaf: the first one stands in the leaf's place.
    leaf = np.repeat(np.arange(leaves), counts)
    step = np.arange(total) - np.repeat(ends - counts, counts)
    plain = size + np.arange(total)
    onward = size + total + np.arange(total)
    own = np.where(step == 0, inner + leaf, onward - 1)
    features = np.zeros(size + 2 * total, np.int64)
    thresholds = np.zeros(len(features))
    children = np.full((len(features), 2), -1)
    features[: len(tree.features)] = tree.features
    thresholds[: len(tree.features)] = tree.thresholds
    children[: len(tree.features)] = tree.children
    features[own], thresholds[own] = used, np.inf
    children[own] = np.stack([onward, plain], axis=1)
    final = inner + np.arange(leaves)
    final[counts > 0] = onward[ends[counts > 0] - 1]
    target = tree.targets[0]
    return replace(
        tree,
        features=features,
        thresholds=thresholds,
        missing=np.pad(tree.missing, (0, 2 * total)),
        children=children,
        leaves=np.concatenate([final, np.repeat(final, counts), plain]),
        targets=np.concatenate([np.full(leaves, target), first + used, np.full(total, target)]),
        weights=np.concatenate([constants, factors, values[leaf] * scale]),
    )
