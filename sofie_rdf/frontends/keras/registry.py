"""The rules for layers of Keras by the names of classes: `sofie_rdf.frontends.keras.rules`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sofie_rdf.frontends.keras.layer import Layer
    from sofie_rdf.frontends.keras.rules.engine import Rule

__all__ = ["LAYERS", "OPERATIONS", "is_function", "rule_for", "rules"]

# The modules of rules fill them when they are imported.
LAYERS: dict[str, Rule] = {}
OPERATIONS: dict[str, Rule] = {}


def rule_for(layer: Layer) -> Rule | None:
    """The rule for a layer, or for a function of keras.ops; None for what Keras does not have."""
    if layer.is_operation:
        return OPERATIONS.get(layer.class_name)
    # A class of somebody else may have the name of one of Keras's.
    theirs = layer.module and layer.module.partition(".")[0] not in ("keras", "tf_keras")
    if theirs or "package>" in layer.registered:
        return None
    return LAYERS.get(layer.class_name)


def is_function(name: str, *, has_dtype: bool) -> bool:
    """Whether a class, of which no more is known, is a function of keras.ops and not a layer."""
    if name in LAYERS or name == "InputLayer":
        return name in OPERATIONS and not has_dtype
    return name in OPERATIONS or not has_dtype


def rules() -> Mapping[str, Rule]:
    """All rules, those of keras.ops as ``ops.Name``."""
    return {**LAYERS, **{f"ops.{name}": rule for name, rule in OPERATIONS.items()}}
