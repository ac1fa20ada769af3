"""What TMVA does with variables before a method sees them: one transformation after the other.

Each has parameters for every class and, behind those, for all events together. The application
takes the latter. Variables are float32 between two transformations, and float64 within one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sofie_rdf.errors import CorruptFile
from sofie_rdf.frontends.tmva.distributions import flattened
from sofie_rdf.frontends.tmva.setup import Variable, unsupported
from sofie_rdf.frontends.tmva.xml import Element
from sofie_rdf.frontends.trees.files import MOST_OUTPUTS
from sofie_rdf.frontends.trees.table import MOST_FEATURES
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import Mul, Sub
from sofie_rdf.ops.indexing import Gather
from sofie_rdf.ops.layout import Concat
from sofie_rdf.ops.linear import MatMul

__all__ = ["Ranges", "transformed"]


@dataclass(frozen=True)
class Ranges:
    """The least and the largest number of each variable or target, as float32."""

    low: Array
    scale: Array


def transformed(
    build: Builder, x: str, root: Element, variables: Sequence[Variable]
) -> tuple[str, Ranges | None]:
    """The variables after all transformations, and the ranges of targets that were normalised."""
    targets: Ranges | None = None
    for given in root.all("Transformations"):
        for transform in given.all("Transform"):
            chosen = _chosen(transform, variables)
            if chosen.targets and (targets is not None or transform.get("Name") != "Normalize"):
                raise unsupported(
                    "a transformation of targets other than one Normalize",
                    transform,
                    "Train it with variables alone in it: VarTransform=U(_V_)",
                )
            x, found = _one(build, x, transform, chosen)
            targets = found or targets
    return x, targets


@dataclass(frozen=True)
class _Chosen:
    """Which of ``count`` variables a transformation is of, and of how many targets."""

    variables: tuple[int, ...]
    count: int
    targets: int = 0

    @property
    def places(self) -> list[int]:
        """Where each variable is once the transformed ones stand behind all."""
        found = list(range(self.count))
        for place, number in enumerate(self.variables, self.count):
            found[number] = place
        return found


def _chosen(transform: Element, variables: Sequence[Variable]) -> _Chosen:
    """What the <Selection> says; `UnsupportedOperator` where variables move."""
    if not any(transform.all("Selection")):
        return _all_of_them(transform, len(variables))
    selection = transform.one("Selection")
    inputs = _listed(selection, "Input", variables)
    if _listed(selection, "Output", variables) not in ([], inputs):
        raise unsupported(
            "a transformation that moves variables", transform, "Train it without Rearrange"
        )
    found = tuple(i for i in inputs if i >= 0)
    if not found:
        raise unsupported("a transformation of no variable", transform, "Train it without it")
    if len(set(found)) != len(found) or list(found) != inputs[: len(found)]:
        raise CorruptFile("selects a variable twice, or behind targets", place=selection.place)
    return _Chosen(found, len(variables), len(inputs) - len(found))


def _all_of_them(transform: Element, count: int) -> _Chosen:
    """Before TMVA 4.1 a transformation was of all variables."""
    if transform.get("Name") != "Normalize" or transform.count("NTargets", MOST_OUTPUTS):
        raise unsupported(
            "a transformation of TMVA before 4.1", transform, "Train it with a newer TMVA"
        )
    if transform.count("NVariables", MOST_FEATURES) != count:
        raise CorruptFile("has another number of variables", place=transform.place)
    return _Chosen(tuple(range(count)), count)


def _listed(selection: Element, way: str, variables: Sequence[Variable]) -> list[int]:
    """The numbers of the variables that are selected, and -1 for each target."""
    listed = list(selection.one(way).all(way))
    if len(listed) != selection.one(way).count(f"N{way}s", MOST_FEATURES):
        raise CorruptFile("has another number of inputs than it says", place=selection.place)
    found = []
    for one in listed:
        kind = one.get("Type")
        if kind not in ("Variable", "Target"):
            raise unsupported(
                f"a transformation of a {kind.lower()[:50]}", one, "Train it with variables alone"
            )
        found.append(_number(one, variables) if kind == "Variable" else -1)
    return found


def _number(one: Element, variables: Sequence[Variable]) -> int:
    """TMVA takes the first variable with the same label or the same expression."""
    label, expression = one.attributes.get("Label") or None, one.get("Expression")
    for number, variable in enumerate(variables):
        if variable.label == label or variable.expression == expression:
            return number
    raise CorruptFile(f"transforms {expression[:50]!r}, which is no variable", place=one.place)


def _one(build: Builder, x: str, transform: Element, chosen: _Chosen) -> tuple[str, Ranges | None]:
    """All variables after one transformation of some of them."""
    kind, origin = transform.get("Name"), Origin(transform.place)
    part = x
    is_whole = chosen.variables == tuple(range(chosen.count))
    if not is_whole:
        part = build(Gather(1), x, build.constant(np.array(chosen.variables)), origin=origin)
    targets = None
    if kind == "Normalize":
        part, targets = _normalized(build, part, transform, chosen)
    elif kind in _OTHERS:
        part = _OTHERS[kind](build, part, transform, len(chosen.variables))
    else:
        raise unsupported(
            f"TMVA's transformation {kind[:50]!r}",
            transform,
            f"{_KNOWN} are read, and chains of them",
        )
    if is_whole:
        return part, targets
    both = build(Concat(1), x, part, origin=origin)
    places = build.constant(np.array(chosen.places))
    return build(Gather(1), both, places, origin=origin), targets


# Normalize ----------------------------------------------------------------------------------------


_NAMES = ("Ranges", "Range", "Index")
_OLD_NAMES = ("Variables", "Variable", "VarIndex")


def _normalized(
    build: Builder, x: str, transform: Element, chosen: _Chosen
) -> tuple[str, Ranges | None]:
    """(x - min) * scale * 2 - 1, where scale = 1 / (max - min) of all classes together."""
    classes = list(transform.all("Class"))
    if not classes:
        raise CorruptFile("has a transformation without ranges", place=transform.place)
    if chosen.targets and len(classes) > 1:
        raise unsupported(
            "targets of several classes", transform, "Train it with VarTransform=N(_V_)"
        )
    last = max(classes, key=lambda c: c.count("ClassIndex", MOST_OUTPUTS))
    is_old = not any(last.all("Ranges"))
    ranges = list(
        last.one("Variables").all("Variable") if is_old else last.one("Ranges").all("Range")
    )
    indices = [r.count("VarIndex" if is_old else "Index", MOST_FEATURES) for r in ranges]
    count = len(chosen.variables)
    if indices != list(range(count + chosen.targets)):
        raise CorruptFile("has no range for each variable", place=last.place)
    low, scale = _scales(ranges, last.place)
    origin = Origin(transform.place)
    shifted = build(Sub(), x, build.constant(low[:count]), origin=origin)
    scaled = build(Mul(), shifted, build.constant(2 * scale[:count]), origin=origin)
    found = build(Sub(), scaled, build.constant(np.float32(1)), origin=origin)
    return found, Ranges(low[count:], scale[count:]) if chosen.targets else None


def _scales(ranges: Sequence[Element], place: str) -> tuple[Array, Array]:
    """The least numbers, and 1 over the widths."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        low = np.array([r.number("Min") for r in ranges]).astype(np.float32)
        high = np.array([r.number("Max") for r in ranges]).astype(np.float32)
        width = high - low
        scale = 1 / width.astype(np.float64)
    if not np.all((width > 0) & (width < np.inf) & (2 * scale < np.finfo(np.float32).max)):
        raise CorruptFile("has a range that is empty, or no number", place=place)
    return low, scale.astype(np.float32)


# Matrices -----------------------------------------------------------------------------------------


def _decorrelated(build: Builder, x: str, transform: Element, count: int) -> str:
    """M x, where M is the root of the inverse covariance matrix: the last <Matrix>."""
    matrices = list(transform.all("Matrix"))
    if not matrices:
        raise CorruptFile("has a transformation without a matrix", place=transform.place)
    matrix = _matrix(matrices[-1], ("Rows", "Columns"), count)
    return _multiplied(build, x, np.zeros(count), matrix.T, transform)


def _principal(build: Builder, x: str, transform: Element, count: int) -> str:
    """(x - mean) V, where the columns of V are the principal components."""

    def last(name: str) -> tuple[int, Element]:
        found = {e.count("ClassIndex", MOST_OUTPUTS): e for e in transform.all(name)}
        if not found or len(found) != len(list(transform.all(name))):
            raise CorruptFile(f"has no <{name}> for each class", place=transform.place)
        return max(found.items(), key=lambda item: item[0])

    (index, means), (other, vectors) = last("Statistics"), last("Eigenvectors")
    if index != other or means.count("NRows", MOST_FEATURES) != count:
        raise CorruptFile("has means of other variables than vectors", place=means.place)
    return _multiplied(
        build, x, means.numbers(count), _matrix(vectors, ("NRows", "NCols"), count), transform
    )


def _matrix(element: Element, sizes: tuple[str, str], count: int) -> Array:
    if any(element.count(size, MOST_FEATURES) != count for size in sizes):
        raise CorruptFile(f"has a matrix that is not {count} x {count}", place=element.place)
    return element.numbers(count * count).reshape(count, count)


def _multiplied(build: Builder, x: str, mean: Array, matrix: Array, transform: Element) -> str:
    origin = Origin(transform.place)
    wide = build(Cast(DType.FLOAT64), x, origin=origin)
    if mean.any():
        wide = build(Sub(), wide, build.constant(mean), origin=origin)
    product = build(MatMul(), wide, build.constant(np.ascontiguousarray(matrix)), origin=origin)
    return build(Cast(DType.FLOAT32), product, origin=origin)


_OTHERS: Mapping[str, Callable[[Builder, str, Element, int], str]] = {
    "Decorrelation": _decorrelated,
    "PCA": _principal,
    "Gauss": flattened,
    "Uniform": flattened,
}
_KNOWN = "Normalize, Decorrelation, PCA, Gauss and Uniform"
