"""Names in docstrings become links: `Model` is one to the page that has `sofie_rdf.Model`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import griffe

import sofie_rdf

__all__ = ["Names"]

_API = Path(__file__).resolve().parents[1] / "api"
_NAME = re.compile(r"(?<![`\w\[])`([A-Za-z_][\w.]*)`(?!`)")
_SHOWN = frozenset(
    name
    for page in _API.glob("*.md")
    for name in re.findall(r"^::: sofie_rdf\.(\w+)", page.read_text(), re.MULTILINE)
)
# Those that mkdocs.yml leaves out.
_HIDDEN = frozenset({"plan", "emission", "compiled", "parcel"})


class Names(griffe.Extension):
    """Called for each object whose docstring is shown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Link the names in its docstring that are on a page."""
        if obj.docstring:
            owner = obj.parent.name if obj.parent and obj.parent.is_class else ""
            text = obj.docstring.value
            obj.docstring.value = _NAME.sub(lambda found: _linked(found, owner), text)


def _linked(found: re.Match[str], owner: str) -> str:
    """The name as a link, if it is there, or is that of another member of the same class."""
    name = found[1].removeprefix("sofie_rdf.")
    target = next((x for x in (f"{owner}.{name}", name) if _is_shown(x)), "")
    return f"[`{name}`][sofie_rdf.{target}]" if target else found[0]


def _is_shown(name: str) -> bool:
    first, _, member = name.partition(".")
    if first not in _SHOWN or not hasattr(sofie_rdf, first):
        return False
    if not member:
        return True
    found = inspect.getattr_static(getattr(sofie_rdf, first), member, None)
    named = member.isidentifier() and not member.startswith("_") and member not in _HIDDEN
    return first == "Model" and named and bool(getattr(found, "__doc__", ""))
