"""What stands at the beginning of all weight files: options, variables, and by which TMVA."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sofie_rdf.errors import CorruptFile, UnsupportedOperator
from sofie_rdf.frontends.tmva.xml import Element
from sofie_rdf.frontends.trees.files import MOST_OUTPUTS
from sofie_rdf.frontends.trees.table import MOST_FEATURES

__all__ = [
    "Variable",
    "analysis",
    "classes",
    "options",
    "release",
    "release_code",
    "unsupported",
    "variables",
]


@dataclass(frozen=True)
class Variable:
    """A variable, which a transformation may call by its expression or by its label."""

    expression: str
    label: str


def unsupported(what: str, root: Element, remedy: str) -> UnsupportedOperator:
    """The error for something that a weight file asks for and that is not read."""
    return UnsupportedOperator(f"{what} is not supported", place=root.place, remedy=remedy)


def variables(root: Element) -> list[Variable]:
    """The variables in the order of the file."""
    given = root.one("Variables")
    found = [
        Variable(v.get("Expression"), v.attributes.get("Label", "")) for v in given.all("Variable")
    ]
    if len(found) != given.count("NVar", MOST_FEATURES - 1):
        raise CorruptFile("has another number of variables than it says", place=given.place)
    return found


def options(root: Element) -> Mapping[str, str]:
    """The options by their names, each of which stands there once."""
    given = list(root.one("Options").all("Option"))
    found = {o.get("name"): o.text for o in given}
    if len(found) != len(given):
        raise CorruptFile("has an option twice", place=root.one("Options").place)
    return found


def analysis(root: Element) -> str:
    """Classification, Regression or Multiclass; empty where nothing is said."""
    return next(_infos(root, "AnalysisType"), "")


def release(root: Element) -> str:
    """The release of TMVA that wrote the file, as it stands there."""
    return next(_infos(root, "TMVA Release"), "")


def release_code(root: Element) -> int:
    """The number of that release; `CorruptFile` where it is not said."""
    found = re.search(r"\[([0-9]{1,9})\]", release(root))
    if found is None:
        raise CorruptFile("does not say which release of TMVA wrote it", place=root.place)
    return int(found[1])


def _infos(root: Element, name: str) -> Iterator[str]:
    found = root.one("GeneralInfo").all("Info")
    return (i.get("value") for i in found if i.get("name") == name)


def classes(root: Element) -> int:
    """How many classes there are; 0 where nothing is said."""
    found = list(root.all("Classes"))
    return found[0].count("NClass", MOST_OUTPUTS) if found else 0
