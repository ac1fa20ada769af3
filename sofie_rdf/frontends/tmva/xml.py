"""XML of strangers: elements and attributes, without document types and entities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import CorruptFile, UnsupportedFormat
from sofie_rdf.ir.types import Array

__all__ = ["Element", "parsed"]

# More than any tree of decisions has.
_MOST_LEVELS = 2000


@dataclass
class Element:
    """An element, with the line of the file that it begins in."""

    name: str
    attributes: Mapping[str, str]
    place: str
    children: list[Element] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts).strip()

    def all(self, name: str) -> Iterator[Element]:
        """Its children of this name."""
        return (c for c in self.children if c.name == name)

    def one(self, name: str) -> Element:
        """Its child of this name; `CorruptFile` without one, or with several."""
        found = list(self.all(name))
        if len(found) != 1:
            count = len(found) or "no"
            raise CorruptFile(f"has {count} <{name}> in <{self.name}>", place=self.place)
        return found[0]

    def get(self, name: str) -> str:
        """An attribute; `CorruptFile` without it."""
        if name not in self.attributes:
            raise CorruptFile(f"<{self.name}> lacks the attribute {name!r}", place=self.place)
        return self.attributes[name]

    def number(self, name: str) -> float:
        """An attribute that is a finite number."""
        text = self.get(name)
        try:
            found = float(text)
        except ValueError:
            found = float("nan")
        if not abs(found) < float("inf"):
            raise CorruptFile(f"has {name}={text[:50]!r}, which is no number", place=self.place)
        return found

    def count(self, name: str, most: int) -> int:
        """An attribute that is a whole number from 0 to ``most``."""
        found = self.number(name)
        if not 0 <= found <= most or found != int(found):
            raise CorruptFile(f"has {name}={self.get(name)[:50]!r}", place=self.place)
        return int(found)

    def numbers(self, count: int) -> Array:
        """Its text, which is so many finite numbers, as float64."""
        text = self.text
        # Each number takes a character and a space at least, so a count that lies costs nothing.
        limits.spend(bytes=100 * min(count + 1, len(text)), what=f"the numbers of <{self.name}>")
        words = text.split(maxsplit=count)
        try:
            found = np.array(words, np.float64)
        except ValueError:
            found = np.array([np.nan])
        if len(words) != count or not np.isfinite(found).all():
            raise CorruptFile(f"<{self.name}> does not hold {count} numbers", place=self.place)
        return found


class _Parser:
    """Builds the elements; the budget pays for each."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.root = Element("", {}, place)
        self.open = [self.root]
        self.expat = expat.ParserCreate()
        self.expat.StartElementHandler = self.start
        self.expat.EndElementHandler = self.end
        self.expat.CharacterDataHandler = self.text
        # Entities are declared in a document type only.
        self.expat.StartDoctypeDeclHandler = self.refuse

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self.open) > _MOST_LEVELS:
            raise CorruptFile(f"has more than {_MOST_LEVELS} levels of XML", place=self.place)
        limits.spend(bytes=500 + 100 * len(attributes), what="the XML")
        place = f"{self.place}: line {self.expat.CurrentLineNumber}"
        element = Element(name, attributes, place)
        self.open[-1].children.append(element)
        self.open.append(element)

    def end(self, _: str) -> None:
        self.open.pop()

    def text(self, text: str) -> None:
        # A piece that is all spaces may stand between two numbers.
        found = self.open[-1].texts
        if not text.isspace():
            found.append(text)
        elif found:
            found.append(" ")

    def refuse(self, *_: object) -> None:
        raise UnsupportedFormat(
            "is XML with a document type, which could define entities",
            place=self.place,
            remedy="TMVA writes none: remove <!DOCTYPE ...> if you trust the file",
        )


def parsed(content: bytes, place: str) -> Element:
    """The outermost element; `CorruptFile` for what is no XML."""
    parser = _Parser(place)
    try:
        parser.expat.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise CorruptFile(f"is truncated or no XML: {error}", place=place) from None
    return parser.root.children[0]
