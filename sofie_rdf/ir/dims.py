"""Sizes of axes: numbers, or exact integer expressions over named sizes.

A :data:`Dim` is an ``int`` or a :class:`Size`. Expressions are kept as polynomials with integer
coefficients, so that equal sizes compare equal however they were computed: ``2*N - N == N``,
``(6*N)//3 == 2*N``. What is no polynomial (``//``, ``%``, ``min``, ``max``) is an atom of one.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import TypeAlias, Union

from sofie_rdf import limits
from sofie_rdf.errors import ShapeError

__all__ = [
    "UNKNOWN",
    "Dim",
    "Size",
    "SizesDiffer",
    "Undecided",
    "align",
    "ceil_div",
    "choose",
    "equal",
    "evaluate",
    "greater",
    "greater_or_equal",
    "largest",
    "less",
    "less_or_equal",
    "maximum",
    "minimum",
    "name_of",
    "number_of",
    "parse_dim",
    "product",
    "quoted",
    "quotient",
    "remainder",
    "require_equal",
    "symbol",
    "symbols_of",
    "total",
]

Dim: TypeAlias = Union[int, "Size"]
Atom: TypeAlias = Union[str, "Function"]
Monomial: TypeAlias = tuple[Atom, ...]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_FUNCTIONS: Mapping[str, Callable[[int, int], int]] = {
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "min": min,
    "max": max,
}


# What is not longer than this is not looked at: no file is needed to write it.
_LIGHT = 64
# Functions of functions: what reads and writes sizes calls itself for each of them.
_DEEPEST = 100


def _require_light(weight: int) -> None:
    """`LimitExceeded` for a size that would be longer than sizes may be."""
    if weight > _LIGHT:
        limits.require(terms=weight, what="a symbolic size")


def _weight_of(monomial: Monomial, factor: int) -> int:
    """As `Size.weight`; numbers of many digits count as several."""
    atoms = 0
    for atom in monomial:
        atoms += 1 if isinstance(atom, str) else atom.weight
    return (atoms or 1) + _digits(factor)


def _weight(dim: Dim) -> int:
    return dim.weight if isinstance(dim, Size) else 1 + _digits(dim)


def _depth(dim: Dim) -> int:
    return dim.depth if isinstance(dim, Size) else 0


def _digits(number: object) -> int:
    return number.bit_length() >> 6 if isinstance(number, int) else 0


@dataclass(frozen=True, slots=True)
class Function:
    """``left name right`` for what is no polynomial: ``//``, ``%`` (as in Python), min, max."""

    name: str
    left: Dim
    right: Dim
    # As `Size.weight` and `Size.depth`.
    weight: int = field(init=False, compare=False, repr=False)
    depth: int = field(init=False, compare=False, repr=False)
    # What `__str__` gives, once somebody has asked: terms are sorted by it.
    _text: str = field(init=False, compare=False, repr=False, default="")

    def __post_init__(self) -> None:
        depth = 1 + max(_depth(self.left), _depth(self.right))
        if depth > _DEEPEST:
            raise ShapeError(
                f"a symbolic size is more than {_DEEPEST} functions of each other",
                remedy="give the inputs known sizes, with shapes=",
            )
        object.__setattr__(self, "weight", 1 + _weight(self.left) + _weight(self.right))
        object.__setattr__(self, "depth", depth)

    def __str__(self) -> str:
        if not self._text:
            if self.name in ("min", "max"):
                text = f"{self.name}({self.left}, {self.right})"
            else:
                text = f"{_operand_text(self.left)}{self.name}{_operand_text(self.right)}"
            object.__setattr__(self, "_text", text)
        return self._text


def _order(atom: Atom) -> tuple[bool, str]:
    return (isinstance(atom, Function), str(atom))


def quoted(text: str) -> str:
    """``text`` as a JSON string on one line, as readable as it can be."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _atom_text(atom: Atom, *, factor: bool) -> str:
    if isinstance(atom, str):
        return atom if _NAME.fullmatch(atom) else quoted(atom)
    # 2*(N//3) is not 2*N//3.
    return f"({atom})" if factor and atom.name in ("//", "%") else str(atom)


def _operand_text(dim: Dim) -> str:
    text = str(dim)
    return text if _NAME.fullmatch(text) or text.isdecimal() else f"({text})"


@dataclass(frozen=True, slots=True)
class Size:
    """A sum of integer multiples of products of named sizes; never a plain number (see `_make`)."""

    terms: tuple[tuple[Monomial, int], ...]
    # How many names and numbers it takes to write it down, which is what work on it costs.
    weight: int = field(init=False, compare=False, repr=False)
    # How many functions (//, %, min and max) are in each other.
    depth: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.terms) == 1 and len(self.terms[0][0]) == 1:
            weight = _weight_of(*self.terms[0])
        else:
            weight = sum([_weight_of(monomial, factor) for monomial, factor in self.terms])
        depth = 0
        for monomial, _ in self.terms:
            for atom in monomial:
                if isinstance(atom, Function) and atom.depth > depth:
                    depth = atom.depth
        object.__setattr__(self, "depth", depth)
        _require_light(weight)
        object.__setattr__(self, "weight", weight)

    def __add__(self, other: Dim) -> Dim:
        return _sum(self, other, 1)

    __radd__ = __add__

    def __sub__(self, other: Dim) -> Dim:
        return _sum(self, other, -1)

    def __rsub__(self, other: Dim) -> Dim:
        return _sum(-1 * self, other, 1)

    def __neg__(self) -> Dim:
        return -1 * self

    def __mul__(self, other: Dim) -> Dim:
        if not isinstance(other, Size):
            return _scaled(self, other)
        _require_light(self.weight * len(other.terms) + other.weight * len(self.terms))
        found: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in other.terms:
                key = tuple(sorted(left + right, key=_order))
                found[key] = found.get(key, 0) + a * b
        return _make(found)

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return _function("//", self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return _function("//", other, self)

    def __mod__(self, other: Dim) -> Dim:
        return _function("%", self, other)

    def __rmod__(self, other: Dim) -> Dim:
        return _function("%", other, self)

    def __str__(self) -> str:
        text = ""
        for monomial, factor in self.terms:
            sign = ("-" if factor < 0 else "") if not text else (" - " if factor < 0 else " + ")
            lone = len(monomial) == 1 and (factor == 1 or (factor == -1 and text != ""))
            parts = [_atom_text(a, factor=not lone) for a in monomial]
            if abs(factor) != 1 or not parts:
                parts.insert(0, str(abs(factor)))
            text += sign + "*".join(parts)
        return text


def name_of(dim: Dim) -> str:
    """The name of a size that is nothing but a name; an empty string for any other."""
    if isinstance(dim, Size) and len(dim.terms) == 1:
        monomial, factor = dim.terms[0]
        if factor == 1 and len(monomial) == 1 and isinstance(monomial[0], str):
            return monomial[0]
    return ""


def symbol(name: str) -> Size:
    """The named size itself, e.g. ``N``."""
    if not name:
        raise ValueError("a named size needs a name")
    return Size((((name,), 1),))


# A size that only the data decides, in what an operator infers. Every occurrence is a size of its
# own: the graph gives each a name.
UNKNOWN = symbol("\0decided by the data")


class SizesDiffer(ShapeError):
    """Two sizes must be equal and are not, as far as is known: one may be a name for the other.

    ``more`` are pairs that must be equal besides, if the first one is.
    """

    def __init__(
        self,
        thing: str,
        *,
        place: str = "",
        remedy: str = "",
        pair: tuple[Dim, Dim],
        more: tuple[tuple[Dim, Dim], ...] = (),
    ) -> None:
        super().__init__(thing, place=place, remedy=remedy)
        self.pair, self.more = pair, more

    def rewritten(self, thing: str, place: str) -> SizesDiffer:
        return SizesDiffer(thing, place=place, remedy=self.remedy, pair=self.pair, more=self.more)


def require_equal(left: Dim, right: Dim, thing: str = "") -> Dim:
    """The one size that both are; `SizesDiffer` where that is not known."""
    if left != right:
        raise SizesDiffer(thing or f"the sizes {left} and {right} differ", pair=(left, right))
    return left


def _scaled(dim: Size, factor: int) -> Dim:
    """The product with a number: the terms stay in their order."""
    if factor == 1:
        return dim
    return Size(tuple((m, c * factor) for m, c in dim.terms)) if factor else 0


def _terms(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
    return dim.terms if isinstance(dim, Size) else (((), dim),)


def _make(found: Mapping[Monomial, int]) -> Dim:
    terms = [(m, c) for m, c in found.items() if c]
    if not terms:
        return 0
    if len(terms) == 1 and not terms[0][0]:
        return terms[0][1]
    # Constants last, as people write them.
    terms.sort(key=lambda t: (not t[0], [_order(a) for a in t[0]]))
    return Size(tuple(terms))


def _sum(left: Dim, right: Dim, sign: int) -> Dim:
    found = dict(_terms(left))
    for monomial, factor in _terms(right):
        found[monomial] = found.get(monomial, 0) + sign * factor
    return _make(found)


def _divides(dim: Size, divisor: Dim) -> Dim | None:
    """``dim / divisor`` where that is exact for every value of the symbols, else None."""
    if divisor == 0:
        return None
    atoms = {a for m, _ in (*dim.terms, *_terms(divisor)) for a in m}
    order = sorted(atoms, key=_order)

    def power(term: tuple[Monomial, int]) -> tuple[int, ...]:
        return tuple(term[0].count(atom) for atom in order)

    # As numbers are divided on paper: the leading term of what is left, again and again.
    leading, factor = max(_terms(divisor), key=power)
    left: Dim = dim
    quotient: Dim = 0
    while left != 0:
        monomial, c = max(_terms(left), key=power)
        rest = Counter(monomial)
        rest.subtract(leading)
        if c % factor or min(rest.values(), default=0) < 0:
            return None
        part = _make({tuple(sorted(rest.elements(), key=_order)): c // factor})
        quotient = quotient + part
        left = left - part * divisor
    return quotient


def _function(name: str, left: Dim, right: Dim) -> Dim:
    if isinstance(left, int) and isinstance(right, int):
        return _FUNCTIONS[name](left, right)
    if left == right:
        return {"//": 1, "%": 0}.get(name, left)
    if name in ("//", "%") and isinstance(left, Size):
        exact = _divides(left, right)
        if exact is not None:
            return exact if name == "//" else 0
        if isinstance(right, int) and right > 0:
            # Of a number what is left is not negative, so that one can see that of the quotient.
            parts = {m: c // right for m, c in left.terms if not m or c % right == 0}
            whole = _make(parts)
            if whole != 0:
                rest = _function(name, left - whole * right, right)
                return whole + rest if name == "//" else rest
            inner = _quotient_in(left) if name == "//" else None
            if inner is not None:
                return _function(name, inner[0], inner[1] * right)
    if name in ("//", "%") and left == 0:
        return 0
    if name in ("min", "max"):
        for larger, smaller in ((left, right), (right, left)):
            if never_negative(larger - smaller):
                return larger if name == "max" else smaller
        if str(right) < str(left):
            left, right = right, left
    return Size((((Function(name, left, right),), 1),))


def _quotient_in(dim: Size) -> tuple[Dim, int] | None:
    """Of a//b + c, with numbers b > 0 and c, the same as one fraction: a + b*c and b."""
    terms = {m: c for m, c in dim.terms if m}
    if len(terms) != 1:
        return None
    ((monomial, factor),) = terms.items()
    atom = monomial[0]
    if factor != 1 or len(monomial) != 1 or isinstance(atom, str) or atom.name != "//":
        return None
    if not isinstance(atom.right, int) or atom.right <= 0:
        return None
    number = sum(c for m, c in dim.terms if not m)
    return atom.left + atom.right * number, atom.right


def never_negative(dim: Dim) -> bool:
    """Whether that is certain, given that no named size is negative."""
    return all(c > 0 and all(map(_is_never_negative, m)) for m, c in _terms(dim) if c)


def _is_never_negative(atom: Atom) -> bool:
    if isinstance(atom, str):
        return True
    left, right = atom.left, atom.right
    match atom.name:
        case "//":
            return never_negative(left) and never_negative(right)
        case "%":
            return never_negative(right)
        case "max":
            return never_negative(left) or never_negative(right)
    return never_negative(left) and never_negative(right)


def maximum(left: Dim, right: Dim) -> Dim:
    """max(left, right)"""
    return _function("max", left, right)


def largest(dims: Iterable[Dim]) -> Dim:
    """The maximum of all, without those that are never above another one of them."""
    found: list[Dim] = []
    for dim in dims:
        if not any(never_negative(other - dim) for other in found):
            found = [other for other in found if not never_negative(dim - other)]
            found.append(dim)
    # In pairs, so that functions are not deep in each other.
    while len(found) > 1:
        found = [reduce(maximum, found[i : i + 2]) for i in range(0, len(found), 2)]
    return found[0]


def minimum(left: Dim, right: Dim) -> Dim:
    """min(left, right)"""
    return _function("min", left, right)


class Undecided(ArithmeticError):
    """What is asked depends on what the named sizes are."""


def less(left: Dim, right: Dim) -> bool:
    """left < right; `Undecided` where that depends on the named sizes."""
    if never_negative(right - left - 1):
        return True
    if never_negative(left - right):
        return False
    raise Undecided(f"{left} < {right}")


def equal(left: Dim, right: Dim) -> bool:
    """left == right; `Undecided` where that depends on the named sizes."""
    if left == right:
        return True
    if never_negative(left - right - 1) or never_negative(right - left - 1):
        return False
    raise Undecided(f"{left} == {right}")


def greater(left: Dim, right: Dim) -> bool:
    """left > right, as `less`."""
    return less(right, left)


def less_or_equal(left: Dim, right: Dim) -> bool:
    """left <= right, as `less`."""
    return not less(right, left)


def greater_or_equal(left: Dim, right: Dim) -> bool:
    """left >= right, as `less`."""
    return not less(left, right)


def choose(condition: object, yes: Dim, no: Dim) -> Dim:
    """``yes`` if the condition holds, else ``no``."""
    return yes if condition else no


def quotient(left: Dim, right: Dim) -> Dim:
    """left / right towards zero; `Undecided` where a sign depends on the named sizes."""
    if equal(right, 0):
        return 0
    sign = 1
    if less(right, 0):
        left, right = -1 * left, -1 * right
    if less(left, 0):
        left, sign = -1 * left, -1
    return sign * (left // right)


def remainder(left: Dim, right: Dim) -> Dim:
    """left - right * floor(left / right); 0 for right = 0."""
    return 0 if equal(right, 0) else left % right


def ceil_div(dim: Dim, divisor: int) -> Dim:
    """The smallest integer not below dim / divisor, for divisor > 0."""
    return (dim + (divisor - 1)) // divisor


def align(dim: Dim, to: int) -> Dim:
    """The size rounded up to a multiple of ``to``."""
    return ceil_div(dim, to) * to


def rounded_up(dim: Dim, to: int) -> Dim:
    """At least the size, with every factor a multiple of ``to``: so it can be compared."""
    return _make({monomial: -(-factor // to) * to for monomial, factor in _terms(dim)})


def total(dims: Iterable[Dim]) -> Dim:
    """The sum of all dims."""
    found: dict[Monomial, int] = {}
    for dim in dims:
        for monomial, factor in _terms(dim):
            found[monomial] = found.get(monomial, 0) + factor
    _require_light(len(found))
    return _make(found)


def product(dims: Iterable[Dim]) -> Dim:
    """The product of all dims; 1 for none."""
    one: Dim = 1
    return reduce(lambda a, b: a * b, dims, one)


def symbols_of(dim: Dim) -> frozenset[str]:
    """The names of the sizes that ``dim`` depends on."""
    found: set[str] = set()
    for monomial, _ in _terms(dim):
        for atom in monomial:
            if isinstance(atom, str):
                found.add(atom)
            else:
                found |= symbols_of(atom.left) | symbols_of(atom.right)
    return frozenset(found)


def evaluate(dim: Dim, sizes: Mapping[str, int]) -> int:
    """The number that ``dim`` is when its symbols have these sizes; KeyError for an unknown one."""
    if isinstance(dim, int):
        return dim
    total = 0
    for monomial, factor in dim.terms:
        for atom in monomial:
            if isinstance(atom, str):
                factor *= sizes[atom]
            else:
                function = _FUNCTIONS[atom.name]
                factor *= function(evaluate(atom.left, sizes), evaluate(atom.right, sizes))
        total += factor
    return total


def number_of(dim: Dim) -> int:
    """A size as the number that it must be by now: a reference knows all sizes."""
    if isinstance(dim, Size):
        raise TypeError(f"the size {dim} is not a number yet")
    return int(dim)


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """``dim`` with symbols replaced by other sizes; symbols not named stay."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for monomial, factor in dim.terms:
        term: Dim = factor
        for atom in monomial:
            if isinstance(atom, str):
                term = term * values.get(atom, symbol(atom))
            else:
                left, right = substitute(atom.left, values), substitute(atom.right, values)
                term = term * _function(atom.name, left, right)
        total = total + term
    return total


_TOKEN = re.compile(rf'\s*([0-9]+|{_NAME.pattern}|"(?:[^"\\]|\\.)*"|//|[-+*%(),])')
_MOST_FUNCTIONS = 1000
_MOST_TERMS = 1000


def parse_dim(text: str) -> Dim:
    """The inverse of ``str``: ``parse_dim("2*N + 1")``; ValueError for anything else."""
    try:
        return _Parser(text).whole()
    except (ValueError, RecursionError, ZeroDivisionError, ShapeError) as error:
        raise ValueError(f"{text!r} is no size") from error


class _Parser:
    """Recursive descent with Python's precedence; bounded, as the text may come from any file."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        end = 0
        while found := _TOKEN.match(text, end):
            self.tokens.append(found[1])
            end = found.end()
        if text[end:].strip():
            raise ValueError(text[end:])
        self.tokens.append("")
        self.at = 0
        self.functions = 0

    def next(self, *wanted: str) -> str:
        """The next token, taken if it is one of these (of any, without these); else ``""``."""
        token = self.tokens[self.at]
        if wanted and token not in wanted:
            return ""
        self.at += 1
        return token

    def whole(self) -> Dim:
        dim = self.sum()
        if self.at != len(self.tokens) - 1:
            raise ValueError(self.tokens[self.at])
        return dim

    def sum(self) -> Dim:
        dim = self.term()
        while sign := self.next("+", "-"):
            other = self.term()
            dim = dim + other if sign == "+" else dim - other
        return dim

    def term(self) -> Dim:
        dim = self.signed()
        while name := self.next("*", "//", "%"):
            dim = self.applied(name, dim, self.signed())
        return dim

    def signed(self) -> Dim:
        sign = 1
        while self.next("-"):
            sign = -sign
        return sign * self.atom()

    def atom(self) -> Dim:
        token = self.next()
        if token == "(":
            return self.closed(self.sum())
        if token in ("min", "max") and self.next("("):
            left = self.sum()
            if not self.next(","):
                raise ValueError("a comma is missing")
            return self.closed(self.applied(token, left, self.sum()))
        if token.startswith('"'):
            return symbol(json.loads(token))
        return symbol(token) if _NAME.fullmatch(token) else int(token)

    def closed(self, dim: Dim) -> Dim:
        if not self.next(")"):
            raise ValueError("a parenthesis is not closed")
        return dim

    def applied(self, name: str, left: Dim, right: Dim) -> Dim:
        if name == "*":
            if len(_terms(left)) * len(_terms(right)) > _MOST_TERMS:
                raise ValueError("too long")
            return left * right
        self.functions += 1
        if self.functions > _MOST_FUNCTIONS:
            raise ValueError("too many functions")
        return _function(name, left, right)
