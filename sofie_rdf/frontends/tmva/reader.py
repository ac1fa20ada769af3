"""TMVA's weight files of boosted decision trees (.weights.xml), by the formulas of TMVA.

One input ``features`` float32[N, F], whose columns are the expressions of the variables, and one
output ``prediction`` float32[N, K]: what ``TMVA::Reader`` gives for the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.errors import CorruptFile, UnsupportedFormat, UnsupportedOperator
from sofie_rdf.frontends.common.problems import Problems
from sofie_rdf.frontends.tmva import trees
from sofie_rdf.frontends.tmva.xml import Element, parsed
from sofie_rdf.frontends.trees.files import MOST_OUTPUTS, content_of, declared, gathered
from sofie_rdf.frontends.trees.table import MOST_FEATURES
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.types import DType
from sofie_rdf.ops.elementwise import Mul, Sub

__all__ = ["check", "read"]


def read(source: Any, *, name: str = "") -> Graph:
    """The graph of a weight file, or of its bytes."""
    content, place, provenance = content_of(source)
    root = parsed(content, place)
    if root.name != "MethodSetup":
        raise UnsupportedFormat("is no weight file of TMVA", place=place)
    stem = Path(place).name.removesuffix(".xml").removesuffix(".weights")
    build = Builder(name or stem, {**provenance, "producer": _producer(root)})
    method = root.get("Method").partition("::")[0]
    if method != "BDT":
        raise UnsupportedOperator(
            f"TMVA's method {method!r} is not supported",
            place=place,
            remedy="Of TMVA's methods BDT is read",
        )
    variables = list(root.one("Variables").all("Variable"))
    if len(variables) != root.one("Variables").count("NVar", MOST_FEATURES - 1):
        raise CorruptFile("has another number of variables than it says", place=place)
    names = [v.get("Expression") for v in variables]
    x = declared(build, len(names), names, DType.FLOAT32, place)
    x = _transformed(build, x, root, names)
    return build.graph(trees.forest(build, x, root, trees.Setup.of(root, _classes(root))))


def check(source: Any, **_: Any) -> Problems:
    """Everything that is wrong with a file, as far as it can be told at once."""
    return gathered(lambda _: read(source))


def _producer(root: Element) -> str:
    release = next(_infos(root, "TMVA Release"), "")
    return f"TMVA {release}".strip()


def _infos(root: Element, name: str) -> Any:
    found = root.one("GeneralInfo").all("Info")
    return (i.get("value") for i in found if i.get("name") == name)


def _classes(root: Element) -> int:
    classes = list(root.all("Classes"))
    return classes[0].count("NClass", MOST_OUTPUTS) if classes else 0


# Transformations ----------------------------------------------------------------------------------


def _transformed(build: Builder, x: str, root: Element, names: Sequence[str]) -> str:
    """The variables after all transformations, in their order."""
    for given in root.all("Transformations"):
        for transform in given.all("Transform"):
            kind = transform.get("Name")
            if kind != "Normalize":
                raise UnsupportedOperator(
                    f"TMVA's transformation {kind!r} is not supported",
                    place=transform.place,
                    remedy='Train it with VarTransform=None or "N" (Normalize)',
                )
            x = _normalized(build, x, transform, names)
    return x


def _normalized(build: Builder, x: str, transform: Element, names: Sequence[str]) -> str:
    """(x - min) * scale * 2 - 1, where scale = 1 / (max - min) of all classes together."""
    chosen = list(transform.one("Selection").one("Input").all("Input"))
    kinds = {c.get("Type") for c in chosen}
    if kinds != {"Variable"} or [c.get("Expression") for c in chosen] != list(names):
        raise UnsupportedOperator(
            "a transformation of some of the variables, or of targets, is not supported",
            place=transform.place,
            remedy="Train it with all variables transformed, or none",
        )
    classes = list(transform.all("Class"))
    if not classes:
        raise CorruptFile("has a transformation without ranges", place=transform.place)
    last = max(classes, key=lambda c: c.count("ClassIndex", MOST_OUTPUTS))
    ranges = list(last.one("Ranges").all("Range"))
    indices = [r.count("Index", MOST_FEATURES) for r in ranges]
    if indices != list(range(len(names))):
        raise CorruptFile("has no range for each variable", place=last.place)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        low = np.array([r.number("Min") for r in ranges]).astype(np.float32)
        high = np.array([r.number("Max") for r in ranges]).astype(np.float32)
        width = high - low
        scale = 1 / width.astype(np.float64)
    if not np.all((width > 0) & (width < np.inf) & (2 * scale < np.finfo(np.float32).max)):
        raise CorruptFile("has a range that is empty, or no number", place=last.place)
    scale = scale.astype(np.float32)
    origin = Origin(transform.place)
    shifted = build(Sub(), x, build.constant(low), origin=origin)
    scaled = build(Mul(), shifted, build.constant(2 * scale), origin=origin)
    return build(Sub(), scaled, build.constant(np.float32(1)), origin=origin)
