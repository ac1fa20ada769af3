"""TMVA's weight files (.weights.xml), by the formulas of TMVA: boosted trees and MLP.

One input ``features`` float32[N, F], whose columns are the expressions of the variables, and one
output ``prediction`` float32[N, K]: what ``TMVA::Reader`` gives for the event.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sofie_rdf.errors import UnsupportedFormat, UnsupportedOperator
from sofie_rdf.frontends.common.problems import Problems
from sofie_rdf.frontends.tmva import mlp, setup, trees
from sofie_rdf.frontends.tmva.transformations import transformed
from sofie_rdf.frontends.tmva.xml import parsed
from sofie_rdf.frontends.trees.files import content_of, declared, gathered
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import DType

__all__ = ["check", "read"]


def read(source: Any, *, name: str = "") -> Graph:
    """The graph of a weight file, or of its bytes."""
    content, place, provenance = content_of(source)
    root = parsed(content, place)
    if root.name != "MethodSetup":
        raise UnsupportedFormat("is no weight file of TMVA", place=place)
    stem = Path(place).name.removesuffix(".xml").removesuffix(".weights")
    producer = f"TMVA {setup.release(root)}".strip()
    build = Builder(name or stem, {**provenance, "producer": producer})
    method = root.get("Method").partition("::")[0]
    if method not in ("BDT", "MLP"):
        raise UnsupportedOperator(
            f"TMVA's method {method!r} is not supported",
            place=place,
            remedy="Of TMVA's methods BDT and MLP are read",
        )
    variables = setup.variables(root)
    names = [v.expression for v in variables]
    x = declared(build, len(names), names, DType.FLOAT32, place)
    x, targets = transformed(build, x, root, variables)
    if method == "MLP":
        return build.graph(mlp.network(build, x, root, targets))
    if targets is not None:
        raise setup.unsupported(
            "a transformation of the targets of trees", root, "Train it with VarTransform=N(_V_)"
        )
    return build.graph(trees.forest(build, x, root, trees.Setup.of(root, setup.classes(root))))


def check(source: Any, **_: Any) -> Problems:
    """Everything that is wrong with a file, as far as it can be told at once."""
    return gathered(lambda _: read(source))
