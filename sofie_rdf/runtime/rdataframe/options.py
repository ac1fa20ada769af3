"""What `sofie_rdf.define`, `Model.define`, `Model.score` and `DefineModel` can be told.

Each option is stated here alone: its type in a TypedDict, what it is by default in `DEFAULTS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, TypedDict, cast

from sofie_rdf.errors import InputError
from sofie_rdf.ir.given import constant, in_order

__all__ = [
    "DEFAULTS",
    "SCORE_DEFAULTS",
    "DefineOptions",
    "ScoreOptions",
    "bounds",
    "check",
    "for_columns",
]

Length: TypeAlias = "int | tuple[int | None, int | None]"
Pad: TypeAlias = "float | Mapping[str, float | Sequence[float]]"
Mask: TypeAlias = "str | Sequence[str] | Mapping[str, str]"


class _Options(TypedDict, total=False):
    """What all of them can be told."""

    per: str
    lengths: Mapping[str, Length] | None
    pad: Pad | None
    truncate: bool
    mask: Mask
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
}
SCORE_DEFAULTS: Final = cast(
    "ScoreOptions",
    {k: v for k, v in DEFAULTS.items() if k in ScoreOptions.__annotations__}
    | {"where": None, "entry": 0},
)

_PER = ("event", "object", "set")
_NAN = ("propagate", "error")


def for_columns(options: ScoreOptions) -> DefineOptions:
    """The same as options of columns; `order_by` may still be an array."""
    return cast("DefineOptions", {**options, "output": "", "where": "", "entry": ""})


def check(options: DefineOptions) -> None:
    """`InputError` for what no option can be."""
    per, nan = options["per"], options["nan"]
    if per and per not in _PER:
        raise InputError(f"{per=} is none of {', '.join(map(repr, _PER))}")
    if isinstance(nan, str) and nan not in _NAN:
        raise InputError(f'{nan=} is neither a number nor "propagate" nor "error"')
    if not isinstance(nan, str):
        constant(nan, "nan=")
    constant(options["default"], "default=")
    for name, wanted in (options["lengths"] or {}).items():
        least, most = bounds(options, name)
        if least < 0 or not (most is None or least <= most):
            raise InputError(f"lengths= gives {name!r} {wanted!r}, which is no range of sizes")


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
