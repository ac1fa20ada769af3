"""What `sofie_rdf.define`, `Model.define`, `Model.score` and `DefineModel` can be told.

Each option is stated here alone: its type in a TypedDict, what it is by default in `DEFAULTS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, TypedDict, cast

import numpy as np

from sofie_rdf.errors import InputError
from sofie_rdf.ir.given import constant, in_order, short

__all__ = [
    "DEFAULTS",
    "SCORE_DEFAULTS",
    "DefineOptions",
    "ScoreOptions",
    "Uncertainty",
    "bounds",
    "check",
    "check_order",
    "for_columns",
]


# A matrix, or columns: standard deviations by feature, covariances by pairs of features.
Uncertainty: TypeAlias = Sequence[Sequence[float]] | Mapping[str | tuple[str, str], str | float]


class _Options(TypedDict, total=False):
    """What all of them can be told."""

    per: str
    lengths: Mapping[str, int | tuple[int | None, int | None]] | None
    pad: float | Mapping[str, float | Sequence[float]] | None
    truncate: bool
    mask: str | Sequence[str] | Mapping[str, str]
    default: float
    nan: str | float
    seed: int | None


class DefineOptions(_Options, total=False):
    """The options of `sofie_rdf.define`."""

    output: str
    order_by: str | Mapping[str, str]
    where: str
    entry: str
    redefine: bool
    batch: int
    uncertainty: Uncertainty | None


class ScoreOptions(_Options, total=False):
    """The options of `Model.score`: arrays stand where `define` takes names of columns."""

    output: str | Mapping[str, str]
    order_by: Any
    where: Any
    entry: int | str | Sequence[int]


DEFAULTS: Final[DefineOptions] = {
    "output": "",
    "per": "",
    "lengths": None,
    "pad": None,
    "truncate": False,
    "mask": (),
    "order_by": "",
    "where": "",
    "default": math.nan,
    "nan": "propagate",
    "redefine": False,
    "batch": 0,
    "seed": None,
    "entry": "",
    "uncertainty": None,
}
SCORE_DEFAULTS: Final = cast(
    "ScoreOptions",
    {k: v for k, v in DEFAULTS.items() if k in ScoreOptions.__annotations__}
    | {"where": None, "entry": 0},
)

_PER = ("event", "object", "set")
_NAN = ("propagate", "error")
# What options may be where they are used as they are; None says nothing.
_TEXT: tuple[tuple[type, ...], str] = (str, type(None)), "a text"
_SWITCH: tuple[tuple[type, ...], str] = (bool, np.bool_, int, type(None)), "True or False"
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "output": _TEXT,
    "per": _TEXT,
    "where": _TEXT,
    "entry": _TEXT,
    "truncate": _SWITCH,
    "redefine": _SWITCH,
    "lengths": ((Mapping, type(None)), "a mapping: lengths={'n_pf': (24, 128)}"),
}


def for_columns(options: ScoreOptions) -> DefineOptions:
    """The same as options of columns; `order_by` may still be an array."""
    texts = dict.fromkeys(("output", "where", "entry"), "")
    return cast("DefineOptions", {**DEFAULTS, **options, **texts})


def check(options: DefineOptions) -> None:
    """`InputError` for what no option can be."""
    for name, (kinds, wanted) in _KINDS.items():
        _require(name, options.get(name), wanted, *kinds)
    _require_texts("mask", options["mask"])
    batch = options["batch"]
    if type(batch) is not int or not 0 <= batch < 2**31:
        raise InputError(f"batch={short(batch)} is no number of rows")
    per, nan = options["per"], options["nan"]
    if per and per not in _PER:
        raise InputError(f"{per=} is none of {', '.join(map(repr, _PER))}")
    if isinstance(nan, str) and nan not in _NAN:
        raise InputError(f'{nan=} is neither a number nor "propagate" nor "error"')
    if not isinstance(nan, str):
        constant(nan, "nan=")
    constant(options["default"], "default=")
    for name, length in (options["lengths"] or {}).items():
        least, most = bounds(options, name)
        if least < 0 or not (most is None or least <= most):
            raise InputError(f"lengths= gives {name!r} {length!r}, which is no range of sizes")


def check_order(order_by: Any) -> None:
    """`InputError` for what is no column, nor a mapping from inputs to columns."""
    _require_texts("order_by", "" if order_by is None else order_by)


def _require_texts(name: str, given: Any) -> None:
    """`InputError` for what is neither a text nor has texts in it."""
    texts = [given]
    if isinstance(given, Mapping):
        texts = [*given, *given.values()]
    elif not isinstance(given, str):
        texts = in_order(given, f"{name}=")
    for text in texts:
        _require(name, text, "a text, or several", str)


def _require(name: str, given: Any, wanted: str, *kinds: type) -> None:
    if not isinstance(given, kinds):
        raise InputError(f"{name}= takes {wanted}, not {short(given)}")


def bounds(options: DefineOptions, name: str) -> tuple[int, int | None]:
    """The least and the largest number of objects of an axis of that name."""
    wanted = (options["lengths"] or {}).get(name, (None, None))
    ends = [wanted, wanted] if isinstance(wanted, int) else in_order(wanted, f"lengths={name!r}")
    known = (e is None or (isinstance(e, int) and not isinstance(e, bool)) for e in ends)
    if len(ends) != 2 or not all(known):
        raise InputError(
            f"lengths= gives {name!r} {wanted!r}",
            remedy="A number, or two: the least and the largest; None where there is no bound",
        )
    return ends[0] or 0, ends[1]
