"""Everything that sofie_rdf raises: each error names the thing, the place and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "ColumnError",
    "CorruptFile",
    "GraphError",
    "InputError",
    "JitError",
    "LimitExceeded",
    "MissingDependency",
    "ModelError",
    "ShapeError",
    "SofieError",
    "TypeMismatch",
    "UnsupportedFormat",
    "UnsupportedOperator",
    "doubled",
    "nearest",
    "printable",
]


class SofieError(Exception):
    """Base of all errors of this package: ``place: thing. remedy``."""

    def __init__(self, thing: str, *, place: str = "", remedy: str = "") -> None:
        self.thing = thing
        self.place = place
        self.remedy = remedy
        super().__init__(thing, place, remedy)

    def __str__(self) -> str:
        text = f"{self.place}: {self.thing}" if self.place else self.thing
        if self.remedy:
            text = f"{text.rstrip('.')}. {self.remedy}"
        return printable(text)

    def __reduce__(self) -> tuple[Any, ...]:
        """How it travels between processes: its arguments are named ones."""
        return _made, (type(self), self.thing, self.place, self.remedy)

    def at(self, place: str) -> SofieError:
        """The same error with its place filled in, if it did not know it yet."""
        return self if self.place else self.rewritten(self.thing, place)

    def rewritten(self, thing: str, place: str) -> SofieError:
        """The same error in other words."""
        return type(self)(thing, place=place, remedy=self.remedy)


def _made(kind: type[SofieError], thing: str, place: str, remedy: str) -> SofieError:
    return kind(thing, place=place, remedy=remedy)


class GraphError(SofieError):
    """A graph that breaks a law: a cycle, an undefined or doubly defined value."""


class ShapeError(SofieError):
    """Shapes that do not fit together."""


class TypeMismatch(SofieError):
    """Element types that do not fit together."""


class UnsupportedOperator(SofieError):
    """An operator, or an option of one, that sofie_rdf does not have."""


class UnsupportedFormat(SofieError):
    """A file that is no model of a kind that sofie_rdf reads."""


class CorruptFile(SofieError):
    """A file that is truncated, damaged, or says things that cannot be true."""


class ModelError(SofieError):
    """Something asked of a model that it does not have, or a file that cannot be written."""


class InputError(SofieError):
    """Arrays of the wrong number, name, shape or type given to a model."""


class ColumnError(SofieError):
    """Columns of an RDataFrame that do not fit the model's inputs."""


class JitError(SofieError):
    """The emitted C++ was not compiled, not linked, or gave a wrong first result."""


class LimitExceeded(SofieError):
    """A file that takes more memory, nodes or time than files may: see `sofie_rdf.limits`."""


class MissingDependency(SofieError, ImportError):
    """A package that is needed for this, with what to install."""


def printable(text: str) -> str:
    """The text without characters that steer a terminal: files say what they like."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def doubled(names: Iterable[str]) -> str:
    """The first name that stands twice; "" where none does."""
    from collections import Counter

    return next((name for name, count in Counter(names).items() if count > 1), "")


def nearest(name: str, known: Iterable[str], most: int = 3) -> str:
    """``Did you mean 'a', 'b'?`` for a misspelt name, or an empty string."""
    from difflib import get_close_matches

    folded = {k.lower(): k for k in known}
    close = get_close_matches(name.lower(), folded, n=most, cutoff=0.6)
    if not close:
        return ""
    return f"Did you mean {', '.join(repr(folded[c]) for c in close)}?"
