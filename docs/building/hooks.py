"""What mkdocs calls: pages that are made from the code, and links that hold in the repository."""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from docs.building import cli, tables, tutorials

_log = logging.getLogger("mkdocs.hooks.docs")

# Texts at the top of the repository that are pages of the site as well.
_TEXTS = {
    "ARCHITECTURE.md": "develop/map.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "develop/contributing.md",
    "PERFORMANCE.md": "develop/performance.md",
    "SECURITY.md": "security.md",
    "data/README.md": "data.md",
}
_PAGES = {
    **_TEXTS,
    "README.md": "index.md",
    "tutorials": "tutorials/index.md",
    "tutorials/": "tutorials/index.md",
}
_LINK = re.compile(r"(\[[^\]]*\]\()([^)\s]+)(\))")
_MADE = re.compile(r"<!-- generated: (\w+) -->")


_tutorials: list[tutorials.Page] = []


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are no files of the folder docs."""
    _tutorials[:] = tutorials.pages()
    for page in _tutorials:
        files.append(_made(config, f"tutorials/{page.name}.md", page.text))
        for name, content in page.pictures.items():
            files.append(_made(config, f"tutorials/{name}", content))
    root = Path(config["config_file_path"]).parent
    for source, name in _TEXTS.items():
        files.append(_made(config, name, (root / source).read_text()))
    return files


def _made(config: Any, name: str, content: str | bytes) -> File:
    return File.generated(config, name, content=content)


def _gallery() -> str:
    """The pictures of all tutorials, each of which leads to its page."""
    shown = [(page.name, picture) for page in _tutorials for picture in page.pictures]
    return "\n".join(f"[![{name}]({picture})]({name}.md)" for name, picture in shown)


_MAKERS = {
    "cli": cli.reference,
    "devices": tables.devices,
    "gallery": _gallery,
    "gradients": tables.gradients,
    "headers": tables.headers,
    "keras": tables.keras_layers,
    "operators": tables.operators,
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what is made from the code, and turn links to files of the repository into pages."""
    own = page.file.src_uri
    source = next((text for text, name in _PAGES.items() if name == own), f"docs/{own}")
    if own.startswith("tutorials/") and own != "tutorials/index.md":
        source = own
    elif own in ("index.md", "tutorials/index.md"):
        source = f"docs/{own}"
    made = _MADE.sub(lambda found: _MAKERS[found[1]](), markdown)
    return _LINK.sub(lambda found: found[1] + _linked(found[2], source, own) + found[3], made)


def _linked(link: str, source: str, own: str) -> str:
    """A link as the site has it. A file that is no page is a warning, which ends the build."""
    path, hash_, anchor = link.partition("#")
    if not path or ":" in path or not hash_ + path:
        return link
    if own.startswith("tutorials/") and own != "tutorials/index.md":
        return link
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if target.startswith("docs/"):
        found = target.removeprefix("docs/")
    elif target in _PAGES:
        found = _PAGES[target]
    elif target.startswith("tutorials/"):
        found = f"tutorials/{posixpath.splitext(posixpath.basename(target))[0]}.md"
    else:
        _log.warning("%s links to %s, which is no page", source, target)
        return link
    return posixpath.relpath(found, posixpath.dirname(own) or ".") + hash_ + anchor
