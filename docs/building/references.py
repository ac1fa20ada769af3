"""What the pages of the reference show of a function: links in its docstring, and its options.

`Model` in a docstring is a link to the page that has `sofie_rdf.Model`.
"""

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
        owner = obj.parent.name if obj.parent and obj.parent.is_class else ""
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = _NAME.sub(lambda found: _linked(found, owner), text)
        if isinstance(obj, griffe.Function) and any(p.name == "options" for p in obj.parameters):
            _show_options(obj, getattr(sofie_rdf, owner, sofie_rdf))


def _show_options(function: griffe.Function, owner: object) -> None:
    """``**options`` of a TypedDict, one by one, with what they are by default."""
    found = getattr(owner, function.name, None)
    if not hasattr(found, "__signature__"):
        return
    del function.parameters["options"]
    for name, parameter in inspect.signature(found).parameters.items():
        if name not in function.parameters:
            kind = griffe.ParameterKind.keyword_only
            default, annotation = repr(parameter.default), parameter.annotation
            shown = griffe.Parameter(name, annotation=annotation, kind=kind, default=default)
            function.parameters.add(shown)


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
