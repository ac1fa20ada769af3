"""What older opsets, and nodes that are no operators, mean in terms of the newest operators.

One module for each family; a new one is found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil

from sofie_rdf.frontends.onnx.rules.engine import (
    OnnxNode,
    Rule,
    has_rule,
    lists_of,
    onnx_rule,
    rule_for,
    rules,
)

__all__ = ["OnnxNode", "Rule", "has_rule", "lists_of", "onnx_rule", "rule_for", "rules"]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
