"""The picture: how many times as long each peer takes, and the networks under the roofline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.bench.cases import Case
from sofie_rdf.bench.peers import REFERENCE, Rival
from sofie_rdf.bench.report import short_name
from sofie_rdf.bench.results import Results
from sofie_rdf.errors import InputError, MissingDependency

__all__ = ["draw", "ensure_possible"]

# Okabe and Ito's colours, which differ for all eyes; the darkest is ours.
_OURS, _OTHERS = "#000000", ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_GREY = "#777777"
_INCH_PER_BAR, _ROOFLINE_HEIGHT = 0.13, 6.5


def ensure_possible(file: str) -> None:
    """An error if there is no matplotlib, or if it does not write such files."""
    formats = _pyplot().gcf().canvas.get_supported_filetypes()
    _pyplot().close("all")
    if Path(file).suffix.lstrip(".").lower() not in formats:
        raise InputError(
            f"{file}: this kind of picture is not known", remedy="Use .png, .svg or .pdf"
        )


def draw(results: Results, file: str) -> None:
    """Write the picture. What was not measured is left out."""
    pyplot, cases = _pyplot(), results.cases
    colours = _colours(cases)
    numbered, left = list(enumerate(cases, 1)), _in_left_column(cases)
    rows = max(_height(cases[:left]), _ROOFLINE_HEIGHT + _height(cases[left:]))
    with pyplot.rc_context({"font.size": 9, "svg.fonttype": "none", "pdf.fonttype": 42}):
        figure = pyplot.figure(figsize=(16, rows + 1), layout="constrained")
        # However many bars there are, the roofline keeps its shape.
        split = [_ROOFLINE_HEIGHT, max(0.01, rows - _ROOFLINE_HEIGHT)]
        grid = figure.add_gridspec(2, 2, height_ratios=split)
        bars = figure.add_subplot(grid[:, 0])
        ratios = [case.ratio(rival) for case in cases for rival in _present(case)]
        bars.set(xscale="log", xlim=(min(0.8, *ratios) / 2, max(2.0, *ratios) * 2.5))
        _draw_bars(bars, numbered[:left], colours)
        roofline = _Roofline(figure.add_subplot(grid[0, 1]), results, colours)
        if numbered[left:]:
            more = figure.add_subplot(grid[1, 1], sharex=bars)
            _draw_bars(more, numbered[left:], colours)
        figure.suptitle(_title(results), fontsize=9, color=_GREY)
        figure.draw_without_rendering()
        roofline.label()
        figure.savefig(file, dpi=150)
        pyplot.close(figure)


def _height(cases: Sequence[Case]) -> float:
    return _INCH_PER_BAR * sum(1 + len(_present(case)) for case in cases)


def _in_left_column(cases: Sequence[Case]) -> int:
    """How many: the others stand below the roofline, so that both columns are as high."""
    total = _ROOFLINE_HEIGHT + _height(cases)
    enough = max(total / 2, _ROOFLINE_HEIGHT)
    return next((n for n in range(len(cases)) if _height(cases[:n]) >= enough), len(cases))


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise MissingDependency(
            "--plot needs matplotlib, which is not installed", remedy="pip install matplotlib"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _colours(cases: Sequence[Case]) -> dict[str, str]:
    """Of those that took part anywhere; the same ones, whoever else did."""
    known = dict.fromkeys(rival.name for case in cases for rival in case.rivals)
    present = {rival.name for case in cases for rival in _present(case)}
    pairs = zip(known, _OTHERS, strict=False)
    return {name: colour for name, colour in pairs if name in present}


def _present(case: Case) -> list[Rival]:
    return [rival for rival in case.rivals if not rival.absent]


def _title(results: Results) -> str:
    machine = results.machine
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v)
    return f"{machine['cpu']}, {machine['instruction_set']}, one thread; {versions}"


# Bars ---------------------------------------------------------------------------------------------


def _draw_bars(axes: Any, cases: Sequence[tuple[int, Case]], colours: dict[str, str]) -> None:
    """Ratios to our time on a logarithmic scale, so that twice and half are equally far from 1."""
    place, ticks = 0.0, []
    for _, case in cases:
        rivals = _present(case)
        places = [place + i for i in range(len(rivals))]
        for at, rival in zip(places, rivals, strict=True):
            ratio = case.ratio(rival)
            axes.barh(at, ratio - 1, left=1, height=0.9, color=colours[rival.name])
            axes.annotate(
                f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}",
                (ratio, at),
                xytext=(3 if ratio >= 1 else -3, 0),
                textcoords="offset points",
                ha="left" if ratio >= 1 else "right",
                va="center",
                fontsize=7,
            )
        ticks.append(float(np.mean(places)))
        place = places[-1] + 2
    axes.set_yticks(ticks, [f"{short_name(case)}, batch {case.batch}  [{i}]" for i, case in cases])
    axes.set_ylim(place - 1, -1)
    axes.axvline(1, color=_OURS, linewidth=1.5)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("time of the peer / time of sofie_rdf   (right of the line: we are faster)")
    axes.grid(axis="x", which="both", alpha=0.25)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    handles = [axes.barh([0], [0], color=colour) for colour in colours.values()]
    _legend(axes, handles, list(colours))


def _legend(axes: Any, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Above the axes, where nothing is hidden by it."""
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.3}
    axes.legend(handles, names, ncols=len(names), frameon=False, **place)


# Roofline -----------------------------------------------------------------------------------------


class _Roofline:
    """Operations in a second over operations for each byte, under what the machine can do.

    Of the peers only onnxruntime: more points would hide each other.
    """

    def __init__(self, axes: Any, results: Results, colours: dict[str, str]) -> None:
        self._axes, self._machine = axes, results.roofline
        counted = [(i, c) for i, c in enumerate(results.cases, 1) if c.work.flops]
        self._labels = [str(number) for number, _ in counted]
        x = [case.work.intensity for _, case in counted]
        ours = [_rate(case, case.ours.median) for _, case in counted]
        theirs = [_rate(case, case.best.times.median) for _, case in counted]
        self._points = [*zip(x, ours, strict=True), *zip(x, theirs, strict=True)]
        peak = self._machine.flops / 1e9
        axes.set(xscale="log", yscale="log", xlim=(min([0.2, *x]) / 2, max([100.0, *x]) * 2))
        axes.set_ylim(min([peak / 100, *ours, *theirs]) / 2, peak * 1.6)
        self._draw_roofs(peak)
        for at, *rates in zip(x, ours, theirs, strict=True):
            axes.plot((at, at), rates, color=_GREY, linewidth=0.7, zorder=2)
        handles = []
        for rates, colour in ((theirs, colours.get(REFERENCE.name, _GREY)), (ours, _OURS)):
            handles += axes.plot(x, rates, "o", color=colour, markersize=5, zorder=3)
        axes.set_xlabel("operations for each byte of weights and values (flop/byte)")
        axes.set_ylabel("operations in a second (GFLOP/s)")
        axes.grid(which="both", alpha=0.2)
        _legend(axes, handles[::-1], ["sofie_rdf [number of its bars]", REFERENCE.name])

    def _draw_roofs(self, peak: float) -> None:
        """The peak, and below it what each cache can deliver."""
        low, high = self._axes.get_xlim()
        x = np.geomspace(low, high, 200)
        for level, style in zip(self._machine.levels, ("-", "--", "-.", ":"), strict=False):
            y = np.minimum(peak, level.bandwidth / 1e9 * x)
            self._axes.plot(x, y, style, color=_GREY, linewidth=1.2, zorder=1)

    def label(self) -> None:
        """Numbers and names, when the place of the axes in the picture is known."""
        _, high = self._axes.get_xlim()
        peak = self._machine.flops / 1e9
        named = {"textcoords": "offset points", "fontsize": 8, "color": _GREY}
        text = f"{peak:.0f} GFLOP/s"
        self._axes.annotate(text, (high / 1.1, peak), xytext=(0, 4), ha="right", **named)
        self._name_levels(named)
        self._number_points()

    def _name_levels(self, named: dict[str, Any]) -> None:
        """The name and rate of each level along its line, where no other name stands."""
        low, bottom = self._axes.get_xlim()[0], self._axes.get_ylim()[0]
        per_point = self._axes.figure.dpi / 72
        taken: list[tuple[float, float, float]] = []
        for level in self._machine.levels[:4]:
            rate = level.bandwidth / 1e9
            text = f"{level.name} {rate:.0f} GB/s"
            # Where the line enters the picture.
            start = max(low, bottom / rate) * 1.25
            ends = [(x, x * rate) for x in (start, 2 * start)]
            place, ahead = self._axes.transData.transform(ends)
            direction = (ahead - place) / np.hypot(*(ahead - place))
            along = float(place @ direction) / per_point
            across = float(place @ (-direction[1], direction[0])) / per_point
            length = len(text) * _LETTER_WIDTH
            shift = _free_place(taken, along, across, length)
            taken.append((along + shift, across, length))
            angle = np.degrees(np.arctan2(direction[1], direction[0]))
            at = self._axes.transData.inverted().transform(place + direction * shift * per_point)
            turned = {"rotation": angle, "rotation_mode": "anchor"}
            self._axes.annotate(text, at, xytext=(-3, 2), **named, **turned)

    def _number_points(self) -> None:
        """Each number where it hides no other one and no point, if there is such a place."""
        where = self._axes.transData.transform(self._points or np.empty((0, 2)))
        where = where * 72 / self._axes.figure.dpi
        taken: list[Any] = []

        def is_free(corner: Any) -> bool:
            middle = corner + np.divide(_LABEL_SIZE, 2)
            hidden = [abs(corner - other) < _LABEL_SIZE for other in taken]
            hidden += [abs(middle - point) < np.divide(_LABEL_SIZE, 2) + 2 for point in where]
            return not any(both.all() for both in hidden)

        named = {"textcoords": "offset points", "fontsize": 8, "zorder": 4}
        for label, point, at in zip(self._labels, self._points, where, strict=False):
            place = next((p for p in _LABEL_PLACES if is_free(at + p)), _LABEL_PLACES[0])
            taken.append(at + place)
            self._axes.annotate(label, point, xytext=place, **named)


def _free_place(
    taken: Sequence[tuple[float, float, float]], along: float, across: float, length: float
) -> float:
    """How far a text moves along its line until no other text touches it, in points of a font."""
    near = [(a, n) for a, c, n in taken if abs(c - across) < _LINE_HEIGHT]
    shift = 0.0
    for start, size in sorted(near):
        if start < along + shift + length and along + shift < start + size:
            shift = start + size - along
    return shift


# The size of a text of eight points: the width of a letter, and from line to line.
_LETTER_WIDTH, _LINE_HEIGHT = 5.2, 12.0
# From a point to its number, in points of a font; and how large a number is.
_LABEL_PLACES = ((5, 3), (5, -10), (-13, 3), (-13, -10), (-4, 8), (-4, -16), (13, -3), (-21, -3))
_LABEL_SIZE = (13, 10)


def _rate(case: Case, seconds: float) -> float:
    return case.work.flops / seconds / 1e9
