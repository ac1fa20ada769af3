"""What layers of Keras mean in terms of our operators.

One module for each family; a new one is found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil

from sofie_rdf.frontends.keras.registry import rule_for, rules
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, Rule, keras_rule, operation_rule

__all__ = [
    "LayerBuilder",
    "Rule",
    "keras_rule",
    "operation_rule",
    "rule_for",
    "rules",
]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
