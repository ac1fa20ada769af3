"""TorchScript files, read by us; torch gets an archive that is written anew from what was checked.

Members that a script has are its code (`torch.code`), the pickles with its objects and constants,
of which only known steps and names are accepted (`torch.objects`), and the bytes of its tensors.
Notes on where the code comes from are left out; everything else is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sofie_rdf.errors import CorruptFile
from sofie_rdf.frontends.torch import objects as torch_objects
from sofie_rdf.frontends.torch.code import checked
from sofie_rdf.frontends.torch.objects import ObjectOf, TensorOf
from sofie_rdf.frontends.torch.zip import IGNORED, byte_order, members

__all__ = ["Script", "read"]

_CODE = re.compile(r"code/__torch__(/[\w<>.\-]+)*\.py", re.ASCII)
_MEMBER = re.compile(r"(data|constants)(\.pkl|/\d+)|version|\.data/version|byteorder", re.ASCII)
_NOTES = re.compile(r"extra/.*|traced_inputs[/.].*|code/.*\.debug_pkl")
_NUMBER = re.compile(rb"\d{1,4}\n?")
_CLASS = re.compile(r"__torch__(\.[A-Za-z_]\w*)+", re.ASCII)
_TYPE = re.compile(r"[\w.\[\], ]*", re.ASCII)


@dataclass(frozen=True)
class Script:
    """What a file says: members as they are written anew, and the tensors of its modules."""

    members: dict[str, bytes]
    weights: dict[str, tuple[TensorOf, bytes]]


def _chosen(name: str) -> bool | None:
    if IGNORED.fullmatch(name) or _NOTES.fullmatch(name):
        return False
    return True if _CODE.fullmatch(name) or _MEMBER.fullmatch(name) else None


def read(path: Path) -> Script:
    """What the file says; `UnsupportedFormat` or `CorruptFile` if that is more than a network."""
    place = path.name
    found = members(path, place, _chosen, rooted=True)
    byte_order(found.get("byteorder"), place)
    version = found.get("version") or found.get(".data/version", b"")
    if not _NUMBER.fullmatch(version):
        raise CorruptFile(f"has the version {version[:20]!r}", place=place)
    code = {name: content for name, content in found.items() if _CODE.fullmatch(name)}
    made = checked(code, place)
    made |= {name: found[name] for name in ("version", ".data/version") if name in found}
    made["byteorder"] = b"little"
    trees = {}
    for kind in ("data", "constants"):
        trees[kind], made[f"{kind}.pkl"] = _objects(found, kind, place)
        made |= {n: c for n, c in found.items() if n.startswith(f"{kind}/")}
    weights = {
        name: (tensor, found[f"data/{tensor.storage.key}"])
        for name, tensor in _tensors(trees["data"], "", set())
    }
    return Script(made, weights)


def _objects(found: dict[str, bytes], kind: str, place: str) -> tuple[Any, bytes]:
    def size_of(key: str) -> int:
        if f"{kind}/{key}" not in found:
            raise CorruptFile(f"has no tensor {kind}/{key[:20]}", place=place)
        return len(found[f"{kind}/{key}"])

    if f"{kind}.pkl" not in found:
        raise CorruptFile(f"has no {kind}.pkl", place=place)
    return torch_objects.read(found[f"{kind}.pkl"], size_of, place, _maker)


def _maker(name: str) -> Callable[..., Any] | None:
    """What stands for a class of the archive, or for a function of torch's pickles."""
    if _CLASS.fullmatch(name) and not name.startswith("__torch__.torch.classes"):
        return lambda *args: ObjectOf(name, args)
    return _HELPERS.get(name)


def _same_list(values: list[Any]) -> list[Any]:
    if type(values) is not list:
        raise ValueError("no list")
    return values


def _tagged(value: Any, kind: str) -> Any:
    if not _TYPE.fullmatch(kind):
        raise ValueError(f"the type {kind[:40]!r}")
    return value


def _device(name: str) -> tuple[str]:
    if not re.fullmatch(r"[a-z]+(:\d+)?", name):
        raise ValueError(f"the device {name[:40]!r}")
    return (name,)


_HELPERS: dict[str, Callable[..., Any]] = {
    **{
        f"torch.jit._pickle.build_{kind}list": _same_list
        for kind in ("int", "double", "bool", "tensor", "complex")
    },
    "torch.jit._pickle.restore_type_tag": _tagged,
    "torch.device": _device,
}


def _tensors(value: Any, name: str, seen: set[int]) -> Iterator[tuple[str, TensorOf]]:
    """The tensors that are attributes of modules, by their dotted names."""
    if isinstance(value, TensorOf):
        yield name, value
    elif isinstance(value, ObjectOf) and type(value.state) is dict and id(value) not in seen:
        seen.add(id(value))
        for key, inner in value.state.items():
            yield from _tensors(inner, f"{name}.{key}" if name else str(key), seen)
