"""Emitted code as text, and the headers that it includes. Imports nothing that is slow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Code", "include_directory", "inlined"]


@dataclass(frozen=True)
class Code:
    """The code of an emitted model: the text of its header."""

    name: str
    namespace: str
    header: str


def include_directory() -> Path:
    """The folder that holds ``sofie/``, the headers that emitted code includes."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "cling"
    return installed if installed.is_dir() else package.parent / "cling"


_INCLUDE = re.compile(r'^#include "([^"]+)"\n', re.MULTILINE)


def inlined(header: str, folders: Sequence[Path]) -> str:
    """The header with all headers of these folders in it: one file that needs but a compiler."""
    seen: set[str] = set()

    def text_of(match: re.Match[str]) -> str:
        found = next((f / match[1] for f in folders if (f / match[1]).is_file()), None)
        if match[1] in seen or found is None:
            return "" if found else match[0]
        seen.add(match[1])
        return _INCLUDE.sub(text_of, found.read_text())

    return _INCLUDE.sub(text_of, header)
