"""The keys and strings of a ROOT file, read with every number checked.

What a file says about its own sizes may be anything. Neither uproot nor ROOT's classes mind: they
take the memory that a file asks for, or read beyond their buffers. This reader knows what the
objects of a model need and no more; cling/sofie/rdf/stored_file.hxx is the same reader in C++, and
takes and refuses the same files.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from sofie_rdf import limits
from sofie_rdf.errors import CorruptFile, SofieError

__all__ = ["DIRECTORIES", "NTUPLE", "STRING", "Cursor", "Key", "KeyFile", "reading"]

STRING, NTUPLE = "TObjString", "ROOT::RNTuple"
DIRECTORIES = ("TDirectory", "TDirectoryFile")
# Above this version of a file's header its positions have 8 bytes; above the other one, those of
# a key or of a directory.
_BIG_FILE, _BIG_RECORD = 1_000_000, 1000
# The largest buffer that ROOT takes.
_LARGEST = 2**30
# A bit of a TObject, which then has two more bytes.
_IS_REFERENCED = 1 << 4
_XZ_MEMORY = 2**28


@dataclass(frozen=True)
class Key:
    """An object in the file: where its ``nbytes`` are, with ``head`` bytes in front of it."""

    type: str
    name: str
    cycle: int
    at: int
    nbytes: int
    head: int
    length: int


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Whatever a reader raises on a damaged file becomes CorruptFile."""
    try:
        yield
    except (SofieError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        # A panic in the decompression library is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise CorruptFile(f"cannot be read: {reason}", place=place) from error


class Cursor:
    """Numbers and texts, one after the other."""

    def __init__(self, data: bytes, fail: Callable[[], NoReturn], at: int = 0) -> None:
        self.data, self.at, self._fail = data, at, fail

    def _next(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            self._fail()
        self.at += count
        return self.data[self.at - count : self.at]

    def skip(self, count: int) -> None:
        self._next(count)

    def number(self, width: int) -> int:
        """An unsigned number, most significant byte first."""
        return int.from_bytes(self._next(width), "big")

    def little(self, width: int, *, signed: bool = False) -> int:
        """A number of an RNTuple, least significant byte first."""
        return int.from_bytes(self._next(width), "little", signed=signed)

    def text(self) -> bytes:
        """The bytes of a TString: their number has one byte, or four behind a byte 255."""
        length = self.number(1)
        return self._next(self.number(4) if length == 255 else length)

    def key(self) -> Key:
        nbytes = self.number(4)
        width = 8 if self.number(2) > _BIG_RECORD else 4
        length = self.number(4)
        self.skip(4)
        head, cycle = self.number(2), self.number(2)
        at = self.number(width)
        self.skip(width)
        type_, name, _ = (self.text().decode("utf-8", "surrogateescape") for _ in range(3))
        return Key(type_, name, cycle, at, nbytes, head, length)

    def frame(self) -> tuple[Cursor, int]:
        """A frame of an RNTuple, and how many items it lists; it is stepped over."""
        size = self.little(8, signed=True)
        body = Cursor(self._next(abs(size) - 8), self._fail)
        return body, body.little(4) if size < 0 else 0


class KeyFile:
    """A ROOT file that is open for reading; CorruptFile for whatever cannot be true."""

    def __init__(self, file: BinaryIO, place: str) -> None:
        self.place = place
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        # The lists of a sound file do not overlap, so all of them are no longer than the file.
        self._listed = 0

    def fail(self, thing: str = "is damaged") -> NoReturn:
        raise CorruptFile(thing, place=self.place)

    def read(self, at: int, count: int) -> bytes:
        if not (0 <= at <= self._size and 0 <= count <= min(self._size - at, _LARGEST)):
            self.fail()
        limits.spend(bytes=count, what="what is read of it")
        self._file.seek(at)
        found = self._file.read(count)
        if len(found) != count:
            self.fail()
        return found

    def cursor(self, data: bytes, at: int = 0) -> Cursor:
        return Cursor(data, self.fail, at)

    # Keys -----------------------------------------------------------------------------------------

    def top(self) -> dict[str, Key]:
        """The newest object of each name at the top of the file."""
        head = self.cursor(self.read(0, min(self._size, 64)), 4)
        width = 8 if head.number(4) >= _BIG_FILE else 4
        begin, end = head.number(4), head.number(width)
        if end > self._size:
            self.fail("is truncated")
        head.skip(width + 8)
        return self._keys(begin + head.number(4))

    def inside(self, directory: Key) -> dict[str, Key]:
        """The same in a directory; nothing in what is none."""
        if directory.type not in DIRECTORIES:
            return {}
        return self._keys(directory.at + directory.head)

    def _keys(self, at: int) -> dict[str, Key]:
        record = self.cursor(self.read(at, min(self._size - at, 50)))
        width = 8 if record.number(2) > _BIG_RECORD else 4
        record.skip(8)
        nbytes = record.number(4)
        record.skip(4 + 2 * width)
        self._listed += nbytes
        if self._listed > self._size:
            self.fail()
        entries = self.cursor(self.read(record.number(width), nbytes))
        entries.key()
        found: dict[tuple[str, int], Key] = {}
        for _ in range(entries.number(4)):
            key = entries.key()
            if found.setdefault((key.name, key.cycle), key) is not key:
                self.fail(f"has two objects {key.name!r} of the same cycle")
        newest = {name: found[name, cycle] for name, cycle in sorted(found)}
        return {key.name: newest[key.name] for key in found.values()}

    # Contents -------------------------------------------------------------------------------------

    def payload(self, key: Key) -> bytes:
        """What an object consists of."""
        stored = self.read(key.at + key.head, key.nbytes - key.head)
        return self.unpacked(stored, key.length, key.name)

    def unpacked(self, stored: bytes, length: int, what: str) -> bytes:
        """So many bytes, of blocks that ROOT has compressed, or as they are."""
        if len(stored) == length:
            return stored
        if length > _LARGEST:
            self.fail()
        limits.spend(bytes=length, what=f"the unpacked {what!r}")
        parts: list[bytes] = []
        left, at = length, 0
        while left:
            # Algorithm, method, both lengths.
            block = stored[at : at + 9]
            taken = 9 + int.from_bytes(block[3:6], "little")
            given = int.from_bytes(block[6:9], "little")
            unpack = _METHODS.get(block[:2])
            if len(block) < 9 or unpack is None or not 0 < given <= left:
                self.fail()
            if taken > len(stored) - at:
                self.fail()
            with reading(self.place):
                parts.append(unpack(stored[at + 9 : at + taken], given))
            if len(parts[-1]) != given:
                self.fail()
            left -= given
            at += taken
        return b"".join(parts)

    def string(self, keys: Mapping[str, Key], name: str) -> bytes:
        """The bytes of the TObjString of that name.

        The object is a version, a TObject (longer if something refers to it), and the text.
        """
        key = keys.get(name)
        if key is None:
            self.fail(f"its {name!r} is missing")
        if key.type != STRING:
            self.fail(f"its {name!r} is a {key.type}")
        cursor = self.cursor(self.payload(key), 12)
        cursor.skip(2 if cursor.number(4) & _IS_REFERENCED else 0)
        found = cursor.text()
        if cursor.at != len(cursor.data):
            self.fail(f"its {name!r} is no TObjString")
        return found

    def strings(self, keys: Mapping[str, Key], names: Sequence[str]) -> bytes:
        """The bytes of these strings, one behind the other."""
        return b"".join(self.string(keys, name) for name in names)


def _plain(data: bytes, most: int) -> bytes:
    return zlib.decompressobj().decompress(data, most)


def _xz(data: bytes, most: int) -> bytes:
    import lzma

    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY).decompress(data, most)


def _zstandard(data: bytes, most: int) -> bytes:
    import cramjam

    whole = bytearray(most)
    return bytes(whole[: cramjam.zstd.decompress_into(data, whole)])


def _lz4(data: bytes, most: int) -> bytes:
    import cramjam

    # A checksum comes first.
    whole = bytearray(most)
    return bytes(whole[: cramjam.lz4.decompress_block_into(data[8:], whole)])


# What a block says about its algorithm, and what unpacks it to at most so many bytes.
_METHODS = {b"ZL": _plain, b"XZ": _xz, b"ZS": _zstandard, b"L4": _lz4}
