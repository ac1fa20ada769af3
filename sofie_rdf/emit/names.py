"""Identifiers: the model's own names where C++ allows them, and never two the same.

Where emitted code is compiled nobody knows which headers came before it, and a name that is a
macro there would be other text. So names that look like macros get a letter in front.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

__all__ = ["identifier", "identifiers"]

_KEYWORDS = frozenset(
    """alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t
    char32_t class compl concept const consteval constexpr constinit const_cast continue co_await
    co_return co_yield decltype default delete do double dynamic_cast else enum explicit export
    extern false float for friend goto if import inline int long module mutable namespace new
    noexcept not not_eq nullptr operator or or_eq private protected public register
    reinterpret_cast requires return short signed sizeof static static_assert static_cast struct
    switch template this thread_local throw true try typedef typeid typename union unsigned using
    virtual void volatile wchar_t while xor xor_eq assert errno major minor unix linux EOF NULL
    stdin stdout stderr NAN INFINITY main std sofie""".split()
)

# Macros are in capitals, as those of this package are; N, NJ and the like are sizes, and stay.
_CAPITALS = re.compile(r"[A-Z][A-Z0-9_]{2,}|I|HZ")
# Those of the standard headers and of ROOT's that are not.
_MACRO = re.compile(
    r"(PRI|SCN)[dioux]\w+|M_[A-Z0-9]\w*|L_(ctermid|cuserid|tmpnam)|P_tmpdir|[AP]F_DECnet|ROOT_\w+"
    r"|g(Directory|File|Interpreter|Pad|ROOT)|s[ai]_\w+|s6_\w+|st_[acm]time|sigev_\w+"
    r"|sched_priority|h_(addr|errno)|d_fileno|math_errhandling"
    # What emitted headers define themselves, with the name of a model in it.
    r"|\w+_HXX"
)


def identifier(name: str) -> str:
    """The C++ identifier nearest to ``name``; different names may give the same one."""
    text = re.sub(r"[^0-9A-Za-z]+", "_", name)
    text = re.sub(r"__+", "_", text).strip("_") or "value"
    # A leading digit is no identifier; a leading underscore is the implementation's.
    text = f"v{text}" if text[0].isdigit() else text
    return f"{text}_" if text in _KEYWORDS else text


def _no_macro(text: str) -> str:
    return f"v{text}" if _CAPITALS.fullmatch(text) or _MACRO.fullmatch(text) else text


def identifiers(names: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """An identifier for each name: all different, none of ``taken``, the same at every run.

    None of them is a keyword, or a macro of the standard headers, of ROOT's or of ours.
    """
    used = set(taken)
    found: dict[str, str] = {}
    # Where to look on among names that give the same identifier.
    numbers: dict[str, int] = {}
    for name in names:
        if name in found:
            continue
        stem = wanted = _no_macro(identifier(name))
        number = numbers.get(stem, 2)
        while wanted in used:
            wanted = f"{stem}_{number}"
            number += 1
        numbers[stem] = number
        used.add(wanted)
        found[name] = wanted
    return found
