"""What an HDF5 file of Keras holds, read by another process: groups, arrays, and few attributes.

libhdf5 loops, crashes or takes all memory on damaged files. Here it gives what it reads away, and
whatever decides what that means has no HDF5 in it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from math import prod
from pathlib import Path
from typing import Any, TypeAlias, Union

import numpy as np

from sofie_rdf import isolation, limits
from sofie_rdf.errors import CorruptFile, MissingDependency, SofieError
from sofie_rdf.ir.types import Array

__all__ = ["Group", "contents", "read_tree"]

Member: TypeAlias = Union["Group", Array]

# The memory of a process that reads a file, besides what the file may take.
_MEMORY = 2 * 2**30
# The attributes that are read; names of weights are in several, where there are many.
_ATTRIBUTES = ("model_config", "keras_version", "backend", "name")
_NAMES = "weight_names"
# What nothing here needs: the state of the training.
_SKIPPED = ("optimizer", "optimizer_weights")
# More than any layer or model has, and fewer than a damaged number says.
_MOST_NAMES = 100_000
_DEEPEST = 64


@dataclass(frozen=True)
class Group:
    """A group: texts and lists of texts by name, and groups and arrays by name or by path."""

    attrs: Mapping[str, Any]
    members: Mapping[str, Member]

    @classmethod
    def of(cls, tree: Any, depth: int = 0) -> Group:
        """What `read_tree` gives, as a group; `CorruptFile` for what it never gives.

        A file that has taken over the other process could have it say anything.
        """
        match tree:
            case (dict() as attrs, dict() as members) if depth <= _DEEPEST:
                texts = (t for v in attrs.values() for t in (v if type(v) is list else [v]))
                found = {
                    name: m if isinstance(m, np.ndarray) else cls.of(m, depth + 1)
                    for name, m in members.items()
                }
                if all(type(text) is str for text in (*attrs, *found, *texts)):
                    return cls(attrs, found)
        raise isolation.unexpected()

    def get(self, path: str) -> Member | None:
        """The member of that path, if there is one."""

        def step(found: Any, name: str) -> Any:
            return found.members.get(name) if isinstance(found, Group) else None

        found: Member | None = reduce(step, (part for part in path.split("/") if part), self)
        return found

    def __contains__(self, path: str) -> bool:
        return self.get(path) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)


def contents(source: Path | bytes, place: str, isolated: bool = True) -> Group:
    """All that is in a file, or in its bytes; `CorruptFile` for one that cannot be read.

    ``isolated`` says whether another process reads it, where a crash of libhdf5 does no harm.
    """
    given = str(source.absolute()) if isinstance(source, Path) else source
    if isolated:
        where = f"{__name__}:{read_tree.__name__}"
        tree: Any = isolation.call(where, given, place=place, memory=_MEMORY)
    else:
        tree = read_tree(given)
    try:
        return Group.of(tree)
    except CorruptFile as error:
        raise error.at(place) from None


# In the other process -----------------------------------------------------------------------------


def read_tree(source: str | bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes and members of the outermost group; a group among these is such a pair itself."""
    h5py = _h5py()
    try:
        with h5py.File(io.BytesIO(source) if isinstance(source, bytes) else source, "r") as file:
            return _group(h5py, file, "", 0, set())
    except SofieError:
        raise
    except Exception as error:  # HDF5's errors have many types.
        raise CorruptFile(
            f"its weights cannot be read: {error}", remedy="Copy or download it again"
        ) from error


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependency(
            "reading a file of Keras needs h5py", remedy="pip install 'sofie_rdf[keras]'"
        ) from error
    return h5py


def _group(
    h5py: Any, group: Any, path: str, depth: int, seen: set[int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A group that is none of those ``seen``: one that is in itself has no end."""
    if depth > _DEEPEST:
        raise CorruptFile(f"has more than {_DEEPEST} groups in one another", place=path)
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        raise CorruptFile("has one group in several places", place=path)
    seen.add(address)
    members: dict[str, Any] = {}
    for name in group:
        if not depth and name in _SKIPPED:
            continue
        limits.spend(nodes=1, what="the groups and arrays of the file")
        place = f"{path}/{name}".lstrip("/")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise CorruptFile("keeps a weight in another file", place=place)
        found = group[name]
        is_group = isinstance(found, h5py.Group)
        members[name] = (
            _group(h5py, found, place, depth + 1, seen) if is_group else _dataset(found, place)
        )
    return _attributes(group, path), members


def _attributes(group: Any, path: str) -> dict[str, Any]:
    known = [n for n in group.attrs if n in _ATTRIBUTES or n.startswith(_NAMES)]
    found: dict[str, Any] = {}
    for name in known:
        if prod(group.attrs.get_id(name).shape or ()) > _MOST_NAMES:
            raise CorruptFile(f"says that {name} has too many names", place=path)
        value = group.attrs[name]
        limits.spend(bytes=getattr(value, "nbytes", 0), what=f"the attribute {name!r}")
        listed = isinstance(value, np.ndarray) and value.ndim
        found[name] = [_text(v) for v in value.ravel()] if listed else _text(value)
    return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _dataset(found: Any, place: str) -> Array:
    """An array of an HDF5 file; `CorruptFile` for one that lies about its size or is elsewhere."""
    shape = getattr(found, "shape", None)
    if shape is None or not hasattr(found, "dtype"):
        raise CorruptFile("holds no array where a weight should be", place=place)
    if found.external or found.is_virtual:
        raise CorruptFile("keeps a weight in another file", place=place)
    stored = found.id.get_storage_size()
    wanted = prod(map(int, shape)) * max(found.dtype.itemsize, 1)
    # Deflate makes nothing smaller than a thousandth.
    if wanted > 1100 * stored:
        raise CorruptFile(f"says it has {wanted} bytes, and stores {stored}", place=place)
    limits.spend(bytes=wanted, what=f"the weight {place!r}")
    try:
        array = np.asarray(found[()])
    except Exception as error:  # HDF5's errors have many types.
        raise CorruptFile(f"a weight cannot be read: {error}", place=place) from error
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        import ml_dtypes

        array = array.view(ml_dtypes.bfloat16)
    if array.dtype.kind not in "biufcV" or (array.dtype.kind == "V" and array.dtype.names):
        # Layers of texts keep them as bytes; what they mean is said elsewhere.
        return np.zeros(0)
    return array
