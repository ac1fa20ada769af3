"""What layers of Keras mean in terms of our operators.

One module for each family; a new one is found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil

from sofie_rdf.frontends.keras.rules.engine import (
    LayerBuilder,
    Rule,
    is_function,
    keras_rule,
    operation_rule,
    rule_for,
    rules,
)

__all__ = [
    "LayerBuilder",
    "Rule",
    "is_function",
    "keras_rule",
    "operation_rule",
    "rule_for",
    "rules",
]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
