"""What a file may cost: bytes, nodes, terms of symbolic sizes, and seconds.

A file of 100 bytes may ask for a tensor of a terabyte, or for a loop of a billion rounds. Whoever
reads a file, or works on what was read, does so within a budget, and says what it spends::

    with limits.budget(given, size=file_size, place=str(path)):
        limits.spend(bytes=array.nbytes, what="the constant 'w'")

What exceeds the budget is `LimitExceeded`. Without a budget nothing is counted: who builds a graph
in Python knows what it costs.
"""

from __future__ import annotations

import builtins
import math
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO

from sofie_rdf.arguments import checked
from sofie_rdf.errors import CorruptFile, InputError, LimitExceeded, doubled

__all__ = [
    "VARIABLE",
    "Budget",
    "Limits",
    "archive",
    "budget",
    "enlarge",
    "remaining",
    "require",
    "spend",
    "unpacked",
]

# The environment variable with the user's own limits.
VARIABLE = "SOFIE_RDF_LIMITS"
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_PIECE = 2**20


@dataclass(frozen=True)
class Limits:
    """What the reading of one file may cost; None is what `for_size` says.

    ``bytes`` is the memory for constants, unpacked members and trial inputs, all together.
    ``nodes`` are the operators of the graph with those that functions and loops are spelled out
    to. ``terms`` is how many names and numbers one symbolic size may have. ``seconds`` is how long
    each step may take: the reading, the optimization, the emission.
    """

    bytes: float | None = None
    nodes: float | None = None
    terms: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not (isinstance(value, (int, float)) and value >= 0):
                thing = f"Limits takes a number from 0 on as {field.name}=, not {value!r:.60}"
                raise InputError(thing, remedy="A text may have units: limits='bytes=8G'")

    @classmethod
    def for_size(cls, size: float, given: Limits | str | None = None) -> Limits:
        """The limits for a file of ``size`` bytes: ``given``, else the environment's, else ours.

        Raises `InputError` for a text that is none of ``"bytes=8G,nodes=1e6,terms=..."``.
        """
        ours = cls(2**30 + 64 * size, 100_000 + size / 4, 4096, 300 + size / 1e6)
        chosen = (cls.parse(given), cls.parse(os.environ.get(VARIABLE, "")), ours)
        return cls(
            *(
                next(v for limits in chosen if (v := getattr(limits, field.name)) is not None)
                for field in fields(cls)
            )
        )

    @classmethod
    def parse(cls, given: Limits | str | None) -> Limits:
        """The limits that a text says, ``"bytes=8G,seconds=60"``; None for what it does not say."""
        if isinstance(given, cls):
            return given
        if not isinstance(given, str) and given is not None:
            raise _no_limits(given)
        parts = [part.partition("=") for part in (given or "").split(",") if part.strip()]
        names = {field.name for field in fields(cls)}
        found = {name.strip(): _number(value, given) for name, _, value in parts}
        if not found.keys() <= names:
            raise _no_limits(given)
        return cls(**found)


# What all functions say of arguments that they do not have.
Limits.__init__ = checked(Limits.__init__)  # type: ignore[method-assign]


def _number(text: str, given: object) -> float:
    text = text.strip().lower()
    unit = text[-1:] if text[-1:] in _UNITS else ""
    try:
        number = float(text[: len(text) - len(unit)]) * _UNITS[unit]
    except ValueError:
        raise _no_limits(given) from None
    if not number > 0:
        raise _no_limits(given)
    return number


def _no_limits(given: object) -> InputError:
    return InputError(
        f"{given!r} are no limits",
        remedy=f"As limits= or in {VARIABLE}: bytes=8G,nodes=1e6,terms=10000,seconds=600",
    )


class Budget:
    """What is left of the limits of one file of ``size`` bytes."""

    def __init__(self, given: Limits | str | None, size: float, place: str) -> None:
        self.given, self.size, self.place = given, size, place
        self.allowed = _as_dict(Limits.for_size(size, given))
        self.left = dict(self.allowed)
        self.end = time.monotonic() + self.allowed["seconds"]

    def enlarge(self, size: float) -> None:
        """The file has parts elsewhere, of so many bytes."""
        self.size += size
        allowed = _as_dict(Limits.for_size(self.size, self.given))
        for kind, more in allowed.items():
            self.left[kind] += _difference(more, self.allowed[kind])
        self.end += _difference(allowed["seconds"], self.allowed["seconds"])
        self.allowed = allowed

    def take(self, kind: str, amount: float, what: str) -> None:
        """Spend that much."""
        self.fits(kind, amount, what)
        self.left[kind] -= amount

    def fits(self, kind: str, amount: float, what: str) -> None:
        """Raise `LimitExceeded` unless there is so much left."""
        if amount > self.left[kind]:
            wanted = f"{what or 'it'} would take {_text(kind, amount)}"
            raise self.exceeded(kind, wanted, amount)

    def in_time(self, what: str) -> None:
        """Raise `LimitExceeded` if the time is over."""
        if time.monotonic() > self.end:
            wanted = f"{what or 'it'} takes too long"
            raise self.exceeded("seconds", wanted, self.allowed["seconds"])

    def exceeded(self, kind: str, wanted: str, amount: float) -> LimitExceeded:
        allowed, left = self.allowed[kind], self.left[kind]
        enough = allowed - left + min(amount, 1e300)
        rest = (
            "" if left > 0.9 * allowed or kind == "seconds" else f", {_text(kind, left)} of it left"
        )
        return LimitExceeded(
            f"{wanted}, and the limit for this file is {_text(kind, allowed)}{rest}",
            place=self.place,
            remedy=f"If you trust the file, raise the limit: limits={_remedy(kind, enough)!r} "
            f"where it is loaded, --limits, or {VARIABLE} in the environment",
        )


def _as_dict(limits: Limits) -> dict[str, float]:
    values = ((field.name, getattr(limits, field.name)) for field in fields(limits))
    return {name: math.inf if value is None else value for name, value in values}


def _difference(more: float, less: float) -> float:
    return 0.0 if math.isinf(less) else more - less


def _remedy(kind: str, enough: float) -> str:
    """A limit that lets this pass, and some of what comes behind it."""
    if kind == "bytes":
        return f"bytes={math.ceil(2 * enough / 2**30):.4g}G"
    return f"{kind}={math.ceil(2 * enough):.6g}"


def _text(kind: str, amount: float) -> str:
    amount = min(amount, 1e300)  # Sizes may be integers that no float can be.
    if kind != "bytes":
        return f"{amount:.6g} {kind}"
    units = ["TiB", "GiB", "MiB", "KiB", "bytes"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop()
    return f"{amount:.4g} {units[-1]}"


_current: ContextVar[Budget | None] = ContextVar("sofie_rdf.limits", default=None)


@contextmanager
def budget(
    given: Limits | str | None = None, *, size: float = 0, place: str = ""
) -> Iterator[Budget]:
    """A budget for a file of ``size`` bytes while this context lasts.

    Within another one the outer one stays in charge, unless there are limits ``given``.
    """
    outer = _current.get()
    if given is None and outer is not None:
        yield outer
        return
    made = Budget(given, size, place)
    token = _current.set(made)
    try:
        yield made
    except MemoryError as error:
        raise _out_of_memory(error, place) from error
    finally:
        _current.reset(token)


def _out_of_memory(error: MemoryError, place: str) -> LimitExceeded:
    return LimitExceeded(
        f"takes more memory than there is: {error}".rstrip(": "),
        place=place,
        remedy="Load it on a machine with more memory, if you trust the file",
    )


def enlarge(size: float) -> None:
    """The file that is read has parts in other files, of so many bytes."""
    current = _current.get()
    if current is not None:
        current.enlarge(size)


def spend(bytes: float = 0, nodes: float = 0, what: str = "") -> None:
    """Count what is about to be made; `LimitExceeded` if that is too much or the time is over."""
    current = _current.get()
    if current is None:
        return
    current.take("bytes", bytes, what)
    current.take("nodes", nodes, what)
    current.in_time(what)


def require(bytes: float = 0, nodes: float = 0, terms: float = 0, what: str = "") -> None:
    """Like `spend`, of what does not stay: it must fit, and counts no more afterwards."""
    current = _current.get()
    if current is None:
        return
    for kind, amount in (("bytes", bytes), ("nodes", nodes), ("terms", terms)):
        current.fits(kind, amount, what)
    current.in_time(what)


def remaining() -> Limits:
    """What is left of the budget; infinitely much where there is none."""
    current = _current.get()
    if current is None:
        return Limits(math.inf, math.inf, math.inf, math.inf)
    left = current.left
    seconds = max(current.end - time.monotonic(), 0.0)
    return Limits(left["bytes"], left["nodes"], left["terms"], seconds)


# Zip archives -------------------------------------------------------------------------------------

# What zipfile and zlib raise for damaged archives. RuntimeError is for encrypted members, of which
# NotImplementedError is for methods of compression that nobody has; ValueError for names.
_TROUBLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    OverflowError,
)
# Others unpack a large block at once, however little of it is read.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextmanager
def archive(path: Path | IO[builtins.bytes], place: str = "") -> Iterator[zipfile.ZipFile]:
    """A zip archive that is open while this context lasts; `CorruptFile` for a damaged one."""
    place = place or str(path)
    try:
        opened = zipfile.ZipFile(path)
    except _TROUBLE as error:
        raise _damaged(error, place) from error
    with opened:
        names = opened.namelist()
        if len(set(names)) != len(names):
            # Of two, some readers take the first one and others the last one.
            raise CorruptFile(f"holds {doubled(names)[:80]!r} twice", place=place)
        yield opened


def unpacked(opened: zipfile.ZipFile, member: str | zipfile.ZipInfo) -> builtins.bytes:
    """The content of a member, which the budget pays as it is unpacked.

    Raises `CorruptFile` for a member that is damaged, or not there.
    """
    place = str(opened.filename or "")
    name = member if isinstance(member, str) else member.filename
    pieces = []
    try:
        info = opened.getinfo(member) if isinstance(member, str) else member
        if info.compress_type not in _METHODS:
            raise NotImplementedError(f"{name!r} is compressed by method {info.compress_type}")
        with opened.open(info) as file:
            while piece := file.read(_PIECE):
                spend(bytes=len(piece), what=f"the unpacked {name!r}")
                pieces.append(piece)
    except _TROUBLE as error:
        raise _damaged(error, place, name) from error
    return b"".join(pieces)


def _damaged(error: Exception, place: str, member: str = "") -> CorruptFile:
    thing = f"its member {member!r} cannot be read" if member else "is no zip archive, or damaged"
    return CorruptFile(f"{thing}: {error}", place=place, remedy="Copy or download it again")
