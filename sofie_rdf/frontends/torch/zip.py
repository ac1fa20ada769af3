"""Archives of torch: the members that are known are read, and an archive of ours is written.

What torch reads is not what a stranger wrote: readers of zip archives differ in what they make of
names, headers and attributes, so a file may be one thing for Python and another one for torch.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from sofie_rdf import limits
from sofie_rdf.errors import CorruptFile, UnsupportedFormat

__all__ = ["IGNORED", "byte_order", "members", "written"]

# What a member is: it is read, it is left out, or, if that is None, the archive is refused.
Choice = Callable[[str], "bool | None"]

# What torch writes beside a model, and does not need when it loads it.
IGNORED = re.compile(r"\.data/serialization_id|\.storage_alignment|\.format_version")
_NAME = re.compile(r"[\w.\- <>]+(/[\w.\- <>]+)*", re.ASCII)


def members(
    file: Path | IO[bytes], place: str, choice: Choice, *, rooted: bool
) -> dict[str, bytes]:
    """The content of the members of an archive, by their names below its one folder.

    Raises `UnsupportedFormat` for a member that is not known, `CorruptFile` for a damaged archive.
    """
    with limits.archive(file, place=place) as archive:
        found: dict[str, bytes] = {}
        seen: set[str] = set()
        roots: set[str] = set()
        for info in archive.infolist():
            name, root = info.filename, ""
            if rooted:
                root, _, name = name.partition("/")
            roots.add(root)
            wanted = choice(name) if _is_plain(name) and len(roots) == 1 else None
            if wanted is None:
                raise unknown(info.filename, place)
            # Some readers of archives take small and capital letters for the same.
            if name.lower() in seen:
                raise CorruptFile(f"holds {info.filename[:80]!r} twice", place=place)
            seen.add(name.lower())
            if wanted:
                found[name] = limits.unpacked(archive, info)
    return found


def _is_plain(name: str) -> bool:
    parts = name.split("/")
    return bool(_NAME.fullmatch(name)) and not {".", ".."}.intersection(parts)


def unknown(name: str, place: str) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"holds {name[:80]!r}, which belongs to no network that torch exports and which could run "
        "anything when torch loads it",
        place=place,
        remedy="Export the model again, with torch.export.save or torch.jit.save alone",
    )


def byte_order(content: bytes | None, place: str) -> None:
    """Nothing, if numbers are as this machine has them."""
    if content is not None and content != b"little":
        raise UnsupportedFormat(
            f"has numbers whose bytes are in the order {content[:10].decode('latin-1')!r}",
            place=place,
            remedy="Load it with torch on a machine with little-endian numbers, and save it again",
        )


def written(contents: Mapping[str, bytes], root: str = "") -> bytes:
    """An archive of these members, stored as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            info = zipfile.ZipInfo(f"{root}/{name}" if root else name)
            archive.writestr(info, content)
    return buffer.getvalue()
