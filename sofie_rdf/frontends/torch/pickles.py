"""Pickles, looked at without unpickling: which classes and functions they name."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Pickle", "is_legacy", "names_in", "parts"]

# What the pickles of torch.save name that hold weights, numbers and texts alone.
_PLAIN = (
    "torch._utils._rebuild_",
    "torch._tensor._rebuild_",
    "torch.storage.",
    "torch.serialization._get_layout",
    "collections.OrderedDict",
    "collections.defaultdict",
    "collections.Counter",
    "builtins.",
    "__builtin__.",
    "numpy.",
    "_codecs.encode",
    "argparse.Namespace",
    "pathlib.",
)
_HARMLESS = ("set", "dict", "list", "frozenset", "bytearray", "complex", "slice", "range", "object")


@dataclass(frozen=True)
class Pickle:
    """What a pickle names, in the order in which it does."""

    names: tuple[str, ...]
    is_torch: bool
    whole: bool

    @property
    def classes(self) -> tuple[str, ...]:
        """What is named that is no weight, number or text."""
        return tuple(n for n in self.names if not _is_plain(n))


def _is_plain(name: str) -> bool:
    module, _, last = name.rpartition(".")
    if module in ("builtins", "__builtin__"):
        return last in _HARMLESS
    if module == "torch":
        return (
            last.endswith(("Storage", "Tensor"))
            or last in ("Size", "device", "dtype")
            or (last[:1].islower())
        )
    return name.startswith(_PLAIN)


def names_in(content: bytes) -> tuple[tuple[str, ...], bool]:
    """The classes and functions that a pickle names, and whether it could be read to its end."""
    found: dict[str, None] = {}
    texts: list[str] = []
    memo: dict[int, str] = {}
    last, kept = "", 0
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name in ("GLOBAL", "INST"):
                found[str(argument).replace(" ", ".")] = None
            elif opcode.name == "STACK_GLOBAL":
                found[".".join(texts[-2:])] = None
            elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[int(argument or 0)] = last
            elif opcode.name == "MEMOIZE":
                memo[kept] = last
            if opcode.name in ("GET", "BINGET", "LONG_BINGET"):
                argument = memo.get(int(argument or 0), "")
            kept += opcode.name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT")
            if not opcode.name.endswith(("PUT", "MEMOIZE")):
                last = argument if isinstance(argument, str) else ""
                texts += [last] if last else []
    except Exception:
        return tuple(found), False
    return tuple(found), True


# What torch.save wrote first before version 1.6: four pickles before the one with the object.
_LEGACY = 0x1950A86A20F9469CFC6C


def is_legacy(content: bytes) -> bool:
    try:
        return any(argument == _LEGACY for _, argument, _ in pickletools.genops(content[:64]))
    except Exception:
        return _LEGACY.to_bytes(10, "little") in content[:64]


def parts(content: bytes) -> Iterator[bytes]:
    """The pickles that follow each other in an old file of torch.save."""
    start = 0
    for _ in range(4):
        try:
            end = max(p for o, _, p in pickletools.genops(content[start:]) if p is not None)
        except Exception:
            yield content[start:]
            return
        yield content[start : start + end + 1]
        start += end + 1
