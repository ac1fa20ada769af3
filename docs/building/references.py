"""Names in docstrings become links: `Model` is one to the page that has `sofie_rdf.Model`."""

from __future__ import annotations

import re
from typing import Any

import griffe

import sofie_rdf

__all__ = ["Names"]

_NAME = re.compile(r"(?<![`\w\[])`([A-Za-z_][\w.]*)`(?!`)")


class Names(griffe.Extension):
    """Called for each object whose docstring is shown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Link the public names in its docstring, and in the text of its members."""
        if obj.docstring:
            obj.docstring.value = _NAME.sub(lambda found: _linked(found, obj), obj.docstring.value)


def _linked(found: re.Match[str], obj: griffe.Object) -> str:
    name = found[1].removeprefix("sofie_rdf.")
    first, _, member = name.partition(".")
    if obj.parent is not None and obj.parent.is_class and obj.parent.name in sofie_rdf.__all__:
        inside = f"{obj.parent.name}.{name}"
        if not member and name not in sofie_rdf.__all__ and _is_public(inside):
            return f"[`{name}`][sofie_rdf.{inside}]"
    return (
        f"[`{name}`][sofie_rdf.{name}]"
        if _is_public(name) and first in sofie_rdf.__all__
        else found[0]
    )


def _is_public(name: str) -> bool:
    first, _, member = name.partition(".")
    thing = getattr(sofie_rdf, first, None)
    return thing is not None and (not member or hasattr(thing, member))
