"""The bytes of an RNTuple whose only field is a vector of bytes, read with every number checked.

Such a field has two columns: where each vector ends, and the bytes of all of them. So what is
wanted are the pages of the second one. Checksums of pages are not compared: the description of a
model has that of all its weights.
"""

from __future__ import annotations

from collections.abc import Iterator

from sofie_rdf.ir.rootkeys import Cursor, Key, KeyFile

__all__ = ["bytes_in"]

_FOOTER, _PAGES = 2, 3


def bytes_in(file: KeyFile, key: Key, most: int) -> bytes:
    """The bytes, CorruptFile for more than ``most`` of them."""
    anchor = file.cursor(file.payload(key), 6)
    anchor.skip(8 + 3 * 8)  # Versions, and where the names of its fields are.
    at, stored, length = (anchor.number(8) for _ in range(3))
    parts: list[bytes] = []
    for page, elements in _pages(file, _envelope(file, _FOOTER, at, stored, length)):
        most -= elements
        if elements <= 0 or most < 0:
            file.fail("its weights are not those of its description")
        parts.append(file.unpacked(file.read(*page), elements, key.name))
    return b"".join(parts)


def _envelope(file: KeyFile, kind: int, at: int, stored: int, length: int) -> Cursor:
    """A list of that kind, behind what stands at its beginning."""
    cursor = file.cursor(file.unpacked(file.read(at, stored), length, "list of pages"))
    if cursor.little(8) & 0xFFFF != kind:
        file.fail()
    while kind == _FOOTER and cursor.little(8) >> 63:
        pass  # Flags, of which the last has no such bit.
    cursor.skip(8)  # The checksum of the header.
    cursor.frame()  # Fields that were added, or numbers of entries.
    return cursor


def _pages(file: KeyFile, footer: Cursor) -> Iterator[tuple[tuple[int, int], int]]:
    """Where the pages of bytes are, and how many bytes are in each of them."""
    groups, count = footer.frame()
    for _ in range(count):
        group, _ = groups.frame()
        group.skip(8 + 8 + 4)
        length = group.little(8)
        pages = _envelope(file, _PAGES, *_locator(file, group), length)
        clusters, clusters_count = pages.frame()
        for _ in range(clusters_count):
            cluster, columns = clusters.frame()
            if columns != 2:
                file.fail()
            cluster.frame()
            column, pages_count = cluster.frame()
            for _ in range(pages_count):
                # A negative number says that a checksum follows the page.
                elements = abs(column.little(4, signed=True))
                yield _locator(file, column), elements


def _locator(file: KeyFile, cursor: Cursor) -> tuple[int, int]:
    """Where something is, and how many bytes it has there."""
    size = cursor.little(4, signed=True)
    if size < 0:  # It is not in this file.
        file.fail()
    return cursor.little(8), size
