"""TMVA's Gauss and Uniform: a variable becomes the share of events with smaller ones.

The file has that share as a histogram with bins of any width. TMVA joins the middles of its bins by
straight lines, and takes these at the middles of 10000 bins of equal width, in float32. Between
those it joins them by straight lines again. For Gauss the share becomes a normal number.
"""

from __future__ import annotations

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import CorruptFile
from sofie_rdf.frontends.tmva.setup import unsupported
from sofie_rdf.frontends.tmva.xml import Element
from sofie_rdf.frontends.trees.files import MOST_OUTPUTS
from sofie_rdf.frontends.trees.table import MOST_FEATURES
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.activations import Floor, IsNaN
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import Add, Clip, Div, GreaterOrEqual, Min, Mul, Sub, Where
from sofie_rdf.ops.indexing import Gather
from sofie_rdf.ops.ml import Probit

__all__ = ["flattened"]

_BINS = 10_000
# What a share is at least where it is looked up, and what the transformation makes of the ends.
_LEAST = 1e-12
_FLAT = 1e-9
_GAUSS = 5e-9
# TMVA's root of 2, by ours.
_ROOT = 1.414213562 / np.sqrt(2.0)
_SPLINE1 = 1
_MOST_BINS = 2**24


def flattened(build: Builder, x: str, transform: Element, count: int) -> str:
    """float32[N, count]: the shares, or normal numbers where ``FlatOrGauss`` is Gauss."""
    kind = transform.get("FlatOrGauss")
    if kind not in ("Flat", "Gauss"):
        raise CorruptFile(f"has FlatOrGauss={kind[:50]!r}", place=transform.place)
    found = list(transform.all("Variable"))
    if [v.count("VarIndex", MOST_FEATURES) for v in found] != list(range(count)):
        raise CorruptFile("has no distribution for each variable", place=transform.place)
    classes = {len(v.children) for v in found}
    if len(classes) != 1 or classes == {0}:
        raise CorruptFile("has distributions of other classes", place=transform.place)
    limits.spend(bytes=12.0 * _BINS * count, what="the distributions of the variables")
    tables = [_table(v.children[-1].one("PDF")) for v in found]
    low, width = (np.array([t[i] for t in tables]) for i in (0, 1))
    values = np.stack([t[2] for t in tables])
    return _Formula(build, Origin(transform.place)).looked_up(x, low, width, values, kind)


# The histogram ------------------------------------------------------------------------------------


def _table(pdf: Element) -> tuple[float, float, Array]:
    """The middle of the first of TMVA's bins, their width, and what is in them."""
    asked = [pdf.count(name, MOST_OUTPUTS) for name in ("InterpolMethod", "MaxNSmooth")]
    if asked != [_SPLINE1, 0] or pdf.count("MinNSmooth", MOST_OUTPUTS):
        raise unsupported("a smoothed distribution", pdf, "TMVA writes none for Gauss and Uniform")
    edges, content = _histogram(pdf)
    middles = edges[:-1] + 0.5 * np.diff(edges)
    width = (edges[-1] - edges[0]) / _BINS
    with np.errstate(over="ignore", invalid="ignore"):
        x = edges[0] + (np.arange(_BINS) + 0.5) * width
        y = _straight(x, middles, content)
    if not (width > 0 and np.all(np.diff(x) > 0) and np.isfinite(y).all()):
        raise CorruptFile("has a histogram that is too narrow or too wide", place=pdf.place)
    own = content[np.clip(np.searchsorted(edges, x, "right") - 1, 0, len(content) - 1)]
    y = np.maximum(np.where(y <= _LEAST, own, y), _LEAST)
    return float(x[0]), float(width), y.astype(np.float32)


def _histogram(pdf: Element) -> tuple[Array, Array]:
    """The edges of the bins, and their contents as float32."""
    given = pdf.one("Histogram")
    count = given.count("NBins", _MOST_BINS)
    if count < 2:
        raise CorruptFile("has a histogram of fewer than 2 bins", place=given.place)
    content = given.numbers(count)
    if np.abs(content).max() > 1e30:
        raise CorruptFile("has a histogram that is no distribution", place=given.place)
    kind = given.get("HasEquidistantBins")
    if kind == "1":
        edges = np.linspace(given.number("XMin"), given.number("XMax"), count + 1)
    elif kind == "0":
        binning = pdf.one("HistogramBinning")
        if binning.count("NBins", _MOST_BINS) != count:
            raise CorruptFile("has other edges than bins", place=binning.place)
        edges = binning.numbers(count + 1)
    else:
        raise CorruptFile(f"has HasEquidistantBins={kind[:50]!r}", place=given.place)
    with np.errstate(over="ignore", invalid="ignore"):
        if not (np.isfinite(edges).all() and np.all(np.diff(edges) > 0)):
            raise CorruptFile("has bins without a width", place=given.place)
    return edges, content.astype(np.float32).astype(np.float64)


def _straight(x: Array, middles: Array, content: Array) -> Array:
    """Straight lines from middle to middle, and on beyond the ends."""
    last = len(middles) - 1
    at = np.clip(np.searchsorted(middles, x, "right") - 1, 0, last)
    other = np.where(((x > middles[at]) & (at != last)) | (at == 0), at + 1, at - 1)
    rise = content[at] - content[other]
    return np.asarray(content[at] + (x - middles[at]) * rise / (middles[at] - middles[other]))


# The formula --------------------------------------------------------------------------------------


class _Formula:
    """The nodes that look up a share."""

    def __init__(self, build: Builder, origin: Origin) -> None:
        self.build, self.origin = build, origin

    def of(self, op: Operator, *values: str | Array | float) -> str:
        names = (v if isinstance(v, str) else self.build.constant(np.asarray(v)) for v in values)
        return self.build(op, *names, origin=self.origin)

    def looked_up(self, x: str, low: Array, width: Array, values: Array, kind: str) -> str:
        """The lines of TMVA's bins in float64. NaN is less than everything."""
        of = self.of
        wide = of(Cast(DType.FLOAT64), x)
        steps = of(Div(), of(Sub(), wide, low), width)
        known = of(Where(), of(IsNaN(), steps), 0.0, steps)
        whole = of(Clip(), of(Floor(), known), 0.0, float(_BINS - 2))
        first = np.arange(len(low), dtype=np.int64) * _BINS
        place = of(Add(), of(Cast(DType.INT64), whole), first)
        flat = self.build.constant(values.reshape(-1))
        start, end = (
            of(Cast(DType.FLOAT64), of(Gather(0), flat, p))
            for p in (place, of(Add(), place, np.int64(1)))
        )
        behind = of(Sub(), wide, of(Add(), low, of(Mul(), whole, width)))
        slope = of(Div(), of(Sub(), end, start), width)
        share = of(Add(), start, of(Mul(), behind, slope))
        least = _GAUSS if kind == "Gauss" else _FLAT
        # NaN, also that of an infinite number where the line is level, is not at least anything.
        high = of(Min(), share, 1 - least)
        share = of(Where(), of(GreaterOrEqual(), share, least), high, least)
        if kind == "Gauss":
            share = of(Mul(), of(Probit(), share), float(_ROOT))
        return of(Cast(DType.FLOAT32), share)
