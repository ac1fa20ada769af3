"""Models in fits: sums over events, with their gradients, for Minuit2, iminuit and RooFit."""

from __future__ import annotations

from sofie_rdf.fit.likelihood import Function, function
from sofie_rdf.fit.rooreal import roofit

__all__ = ["Function", "function", "roofit"]
