"""A graph as SVG: boxes for nodes, lines for values. Names may be a stranger's: all are escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from sofie_rdf.cli.layout import Layout, Point, layout
from sofie_rdf.cli.origins import label
from sofie_rdf.errors import printable
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.text import operator_text

__all__ = ["Note", "document", "picture", "text"]

_LETTER, _LINE, _PADDING, _LONGEST = 6.7, 15.0, 9.0, 42
_STYLE = (
    "text{font:11.5px system-ui,sans-serif;fill:#222}.o{font-weight:600}.s{fill:#666}"
    ".n rect{fill:#fff;stroke:#666}.p rect{fill:#e8f1f8;stroke:#0072b2}"
    ".e{fill:none;stroke:#999;stroke-width:1.2}.c{font-size:15px;font-weight:600}"
)


@dataclass(frozen=True)
class Note:
    """What a box says besides: a line of text, and how warm it is, from 0 to 1."""

    text: str
    warmth: float


@dataclass(frozen=True)
class _Box:
    kind: str
    lines: tuple[str, ...]
    tip: str
    warmth: float = 0.0

    @property
    def size(self) -> tuple[float, float]:
        longest = max(len(line) for line in self.lines)
        return longest * _LETTER + 2 * _PADDING, len(self.lines) * _LINE + 2 * _PADDING - 4


def text(words: str) -> str:
    """A text as HTML and SVG have it, without characters that neither may have."""
    return escape(printable(words.replace("\n", " ")))


def document(pictures: Sequence[tuple[str, str, float, float]]) -> str:
    """An SVG file of pictures side by side: captions, elements, widths and heights."""
    left, parts = 20.0, []
    for caption, elements, width, _ in pictures:
        parts.append(f'<text class="c" x="{left:.0f}" y="28">{text(caption)}</text>')
        parts.append(f'<g transform="translate({left:.0f} 48)">{elements}</g>')
        left += max(width, 9.0 * len(caption)) + 50
    height = max((h for *_, h in pictures), default=0.0) + 68
    return _svg("\n".join(parts), left - 30, height) + "\n"


def _svg(elements: str, width: float, height: float) -> str:
    size = f"{width:.0f} {height:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{width:.0f}" '
        f'height="{height:.0f}"><style>{_STYLE}</style>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{elements}\n</svg>'
    )


def picture(graph: Graph, notes: Mapping[int, Note]) -> tuple[str, float, float]:
    """The elements of a graph, and how wide and high they are; notes by the number of a node."""
    boxes = [*(_port(graph, name, "input") for name in graph.inputs)]
    boxes += [_node(graph, node, notes.get(i)) for i, node in enumerate(graph.nodes)]
    boxes += [_port(graph, name, "output") for name in graph.outputs]
    edges, tips = _edges(graph)
    found = layout([box.size for box in boxes], edges)
    return "\n".join(_elements(boxes, found, edges, tips)), found.width, found.height


def _edges(graph: Graph) -> tuple[list[tuple[int, int]], list[str]]:
    """Which box gives another one a value, each pair once; and the values with their types."""
    made = {name: i for i, name in enumerate(graph.inputs)}
    first = len(graph.inputs)
    values: dict[tuple[int, int], dict[str, None]] = {}
    for i, node in enumerate(graph.nodes, first):
        for name in node.inputs:
            if name in made:
                values.setdefault((made[name], i), {})[name] = None
        made.update((name, i) for name in node.outputs)
    for i, name in enumerate(graph.outputs, first + len(graph.nodes)):
        if name in made:
            values.setdefault((made[name], i), {})[name] = None
    tips = [", ".join(f"{n}: {graph.types[n]}" for n in names) for names in values.values()]
    return list(values), tips


def _port(graph: Graph, name: str, kind: str) -> _Box:
    type_ = str(graph.types[name])
    return _Box("p", (_short(f"{kind} {name}"), _short(type_)), f"{kind} {name}: {type_}")


def _node(graph: Graph, node: Node, note: Note | None) -> _Box:
    types = ", ".join(str(graph.types[name]) for name in node.outputs)
    constants = [name for name in node.inputs if name in graph.constants]
    lines = [node.op.full_name(), label(node), types]
    whole = node.op.full_name() if node.op.bodies else operator_text(node.op)
    tip = [whole, f"node {label(node)}", f"gives {types}"]
    if constants:
        shapes = ", ".join(str(graph.types[name]) for name in constants)
        tip.append(f"constants {shapes}")
    if note:
        lines.append(note.text)
        tip.append(note.text)
    shown = tuple(map(_short, lines))
    return _Box("n", shown, "\n".join(tip), note.warmth if note else 0.0)


def _short(words: str) -> str:
    words = printable(words.replace("\n", " "))
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"


def _elements(
    boxes: Sequence[_Box],
    found: Layout,
    edges: Sequence[tuple[int, int]],
    tips: Sequence[str],
) -> Iterator[str]:
    for (start, end), points, tip in zip(edges, found.lines, tips, strict=True):
        first = Point(points[0].x, points[0].y + boxes[start].size[1] / 2)
        last = Point(points[-1].x, points[-1].y - boxes[end].size[1] / 2)
        path = _path([first, *points[1:-1], last])
        yield f'<path class="e" d="{path}"><title>{text(tip)}</title></path>'
    for box, middle in zip(boxes, found.boxes, strict=True):
        yield from _drawn(box, middle)


def _path(points: Sequence[Point]) -> str:
    """A line that leaves and enters boxes from above and below."""
    parts = [f"M{points[0].x:.1f} {points[0].y:.1f}"]
    for one, other in pairwise(points):
        half = (one.y + other.y) / 2
        bend = f"{one.x:.1f} {half:.1f} {other.x:.1f} {half:.1f}"
        parts.append(f"C{bend} {other.x:.1f} {other.y:.1f}")
    return "".join(parts)


def _drawn(box: _Box, middle: Point) -> Iterator[str]:
    width, height = box.size
    left, top = middle.x - width / 2, middle.y - height / 2
    fill = f' style="fill:{_colour(box.warmth)}"' if box.warmth else ""
    tip = "&#10;".join(text(line) for line in box.tip.split("\n"))
    yield f'<g class="{box.kind}"><title>{tip}</title>'
    yield (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5"'
        f"{fill}/>"
    )
    for i, line in enumerate(box.lines):
        kind = "o" if i == 0 else "s" if i == 2 else ""
        y = top + _PADDING + 8 + i * _LINE
        yield f'<text class="{kind}" x="{left + _PADDING:.1f}" y="{y:.1f}">{text(line)}</text>'
    yield "</g>"


def _colour(warmth: float) -> str:
    """From white to orange."""
    part = min(1.0, max(0.0, warmth))
    white, orange = (255, 255, 255), (240, 150, 40)
    mixed = (round(a + (b - a) * part) for a, b in zip(white, orange, strict=True))
    return f"rgb({','.join(map(str, mixed))})"
