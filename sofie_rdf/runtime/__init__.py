"""Where emitted code runs: in ROOT's interpreter and RDataFrame. Only here is ROOT imported."""

from __future__ import annotations
