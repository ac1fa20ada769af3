"""A row of cases for every operator, by family; a new module is found by itself."""

from __future__ import annotations

import importlib
import pkgutil

from tests.ops.cases import Row

__all__ = ["ROWS"]

ROWS: dict[tuple[str, str], Row] = {}

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    ROWS.update(importlib.import_module(_module.name).ROWS)
