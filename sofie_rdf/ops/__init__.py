"""Which operators exist, by family; importing this package registers them all."""

from __future__ import annotations

from sofie_rdf.ops import elementwise, layout, linear, normalization

__all__ = ["elementwise", "layout", "linear", "normalization"]
