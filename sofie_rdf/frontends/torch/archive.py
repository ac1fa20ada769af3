""".pt2 files, read by us; torch gets an archive that is written anew from what was understood.

``torch.export.load`` promises nothing for files of others: it unpickles, evaluates expressions over
sizes as Python, finds functions by their dotted names, and loads libraries that lie in the archive.
So only members that programs have are read: the program (`torch.schema`), weights, which are bytes,
and pickles of tensors (`torch.objects`). Everything else is refused by its name.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sofie_rdf import limits
from sofie_rdf.errors import CorruptFile, UnsupportedFormat
from sofie_rdf.frontends.common import documents
from sofie_rdf.frontends.torch import objects as torch_objects
from sofie_rdf.frontends.torch.objects import ITEM_BYTES, StorageOf, TensorOf
from sofie_rdf.frontends.torch.schema import (
    TENSOR_META,
    Wrong,
    mapped,
    program,
    record,
    refusal,
    truth,
    words,
)
from sofie_rdf.frontends.torch.zip import IGNORED, byte_order, members

__all__ = ["Archive", "Objects", "read", "read_objects"]

# torch's numbers of element types.
_TYPES = dict(
    enumerate(
        """uint8 int8 int16 int32 int64 float16 float32 float64 complex32 complex64 complex128 bool
        bfloat16""".split(),
        1,
    )
)
_TYPES |= dict(
    enumerate(
        """uint16 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu uint32
        uint64""".split(),
        28,
    )
)
_STRIDED = 7


@dataclass(frozen=True)
class Objects:
    """A tree of tensors, and the bytes of their storages."""

    tree: Any
    storages: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Archive:
    """What a .pt2 file says: members as they are written anew, and pickles as what is in them.

    ``weights`` are the tensors that the program must have when it is loaded, by name, and the bytes
    in which they are.
    """

    members: dict[str, bytes]
    pickles: dict[str, Objects]
    weights: dict[str, tuple[TensorOf, bytes]]
    root: str


def read(path: Path) -> Archive:
    """What the file says; `UnsupportedFormat` or `CorruptFile` if that is not a program alone."""
    place = path.name
    with limits.archive(path, place=place) as archive:
        is_old = _PROGRAM in archive.namelist()
    return _old(path, place) if is_old else _new(path, place)


# As torch 2.8 and later write it ------------------------------------------------------------------

_NEW = re.compile(
    r"models/model\.json|data/weights/(model_weights_config\.json|weight_\d+|model\.pt)"
    r"|data/constants/(model_constants_config\.json|tensor_\d+|model\.pt)"
    r"|data/sample_inputs/model\.pt|archive_format|archive_version|byteorder|version"
    r"|\.data/version"
)
_NUMBER = re.compile(rb"\d{1,4}(\.\d{1,4})*\n?")


def _chosen_of_new(name: str) -> bool | None:
    if name.startswith("extra/") or IGNORED.fullmatch(name):
        return False
    return True if _NEW.fullmatch(name) else None


def _new(path: Path, place: str) -> Archive:
    found = members(path, place, _chosen_of_new, rooted=True)
    byte_order(found.get("byteorder"), place)
    if found.get("archive_format") != b"pt2":
        raise CorruptFile("does not say that it is a .pt2 archive", place=place)
    made: dict[str, bytes] = {}
    for name in ("archive_version", ".data/version", "version"):
        if name in found:
            made[name] = _version(found[name], place)
    made |= {"archive_format": b"pt2", "byteorder": b"little"}
    pickles: dict[str, Objects] = {}
    weights: dict[str, tuple[TensorOf, bytes]] = {}
    for kind, prefix in (("weights", "weight_"), ("constants", "tensor_")):
        folder = f"data/{kind}/"
        if folder + "model.pt" in found:
            objects = read_objects(found[folder + "model.pt"], place)
            pickles[folder + "model.pt"] = objects
            weights |= _tensors(objects, place)
            continue
        config = folder + f"model_{kind}_config.json"
        payload = _Payload(found, folder, prefix, place)
        made[config] = payload.written(_json(found, config, place))
        made |= payload.used
        weights |= payload.weights
    made[_NEW_PROGRAM] = _program(found, _NEW_PROGRAM, place)
    examples = found.get("data/sample_inputs/model.pt", b"")
    pickles["data/sample_inputs/model.pt"] = read_objects(examples, place)
    return Archive(made, pickles, weights, "model")


_NEW_PROGRAM = "models/model.json"


def _version(content: bytes, place: str) -> bytes:
    if not _NUMBER.fullmatch(content):
        raise CorruptFile(f"has the version {content[:20]!r}", place=place)
    return content


def _json(found: Mapping[str, bytes], name: str, place: str) -> Any:
    if name not in found:
        raise CorruptFile(f"has no member {name!r}", place=place)
    limits.require(nodes=len(found[name]) // 64, what=f"the text in {name!r}")
    try:
        return documents.parsed(found[name])
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{name!r} in it is no JSON: {error}", place=place) from error


def _program(found: Mapping[str, bytes], name: str, place: str) -> bytes:
    value = _json(found, name, place)
    try:
        return json.dumps(program(value)).encode()
    except Wrong as wrong:
        raise refusal(wrong, place) from None
    except RecursionError:
        raise CorruptFile("has a program that is too deep", place=place) from None


def _no_pickle(value: Any) -> bool:
    if value is not False:
        raise Wrong("use_pickle")
    return False


_CONFIG = record(
    config=mapped(
        words,
        record(
            path_name=words,
            is_param=truth,
            use_pickle=_no_pickle,
            tensor_meta=TENSOR_META,
        ),
    )
)


class _Payload:
    """Weights, or constants: the table of them, and the members that it names."""

    def __init__(self, found: Mapping[str, bytes], folder: str, prefix: str, place: str) -> None:
        self.found, self.folder, self.place = found, folder, place
        self.name = re.compile(rf"{prefix}\d+", re.ASCII)
        self.used: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.weights: dict[str, tuple[TensorOf, bytes]] = {}

    def written(self, config: Any) -> bytes:
        """The table as it is written anew."""
        try:
            table = _CONFIG(config)
            for name, row in table.get("config", {}).items():
                self._take(name, row)
        except Wrong as wrong:
            raise refusal(wrong, self.place) from None
        return json.dumps(table).encode()

    def _take(self, name: str, row: dict[str, Any]) -> None:
        file, meta = row.get("path_name", ""), row.get("tensor_meta", {})
        if not self.name.fullmatch(file) or self.folder + file not in self.found:
            raise CorruptFile(f"has no {file[:80]!r} for {name[:80]!r}", place=self.place)
        content = self.found[self.folder + file]
        dtype = _TYPES.get(meta.get("dtype", 0), "")
        sizes, strides = (_numbers(meta.get(key, [])) for key in ("sizes", "strides"))
        (offset,) = _numbers([meta.get("storage_offset", {})])
        wrong = ""
        if not dtype or meta.get("layout") != _STRIDED or self.types.get(file, dtype) != dtype:
            wrong = "an element type or layout that cannot be true"
        elif len(content) % ITEM_BYTES[dtype] or len(sizes) != len(strides):
            wrong = "a size that cannot be true"
        else:
            count = len(content) // ITEM_BYTES[dtype]
            last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
            if math.prod(sizes) and last >= count:
                wrong = f"more numbers than the {count} in {file!r}"
            if not math.prod(sizes) and content and offset > count:
                wrong = "an offset that cannot be true"
        if wrong:
            raise CorruptFile(f"says that {name[:80]!r} has {wrong}", place=self.place)
        self.types[file] = dtype
        self.used[self.folder + file] = content
        tensor = TensorOf(StorageOf(file, dtype, count), offset, sizes, strides)
        limits.require(bytes=tensor.nbytes, what=f"the weight {name[:80]!r}")
        self.weights[name] = tensor, content


def _numbers(sizes: list[dict[str, Any]]) -> tuple[int, ...]:
    found = [size.get("as_int", -1) for size in sizes]
    for size, number in zip(sizes, found, strict=True):
        if not 0 <= number < 2**48 or len(found) > 64:
            raise Wrong(size)
    return tuple(found)


# As torch 2.7 and before write it -----------------------------------------------------------------

_PROGRAM = "serialized_exported_program.json"
_OLD = re.compile(r"version|serialized_(state_dict|constants|example_inputs)\.pt|" + _PROGRAM)


def _chosen_of_old(name: str) -> bool | None:
    if name.startswith("extra_files/"):
        return False
    return True if _OLD.fullmatch(name) else None


def _old(path: Path, place: str) -> Archive:
    found = members(path, place, _chosen_of_old, rooted=False)
    made = {"version": _version(found.get("version", b""), place)}
    made[_PROGRAM] = _program(found, _PROGRAM, place)
    pickles = {
        name: read_objects(found.get(name, b""), place)
        for name in (f"serialized_{n}.pt" for n in ("state_dict", "constants", "example_inputs"))
    }
    weights = _tensors(pickles["serialized_state_dict.pt"], place)
    weights |= _tensors(pickles["serialized_constants.pt"], place)
    return Archive(made, pickles, weights, "")


# What torch.save has written ----------------------------------------------------------------------

_SAVED = re.compile(r"data\.pkl|data/\d+|byteorder|version|\.data/version")


def _chosen_of_saved(name: str) -> bool | None:
    if IGNORED.fullmatch(name):
        return False
    return True if _SAVED.fullmatch(name) else None


def read_objects(content: bytes, place: str) -> Objects:
    """What torch.save has written, if it is tensors, numbers and texts alone."""
    if not content:
        return Objects({})
    if not content.startswith(b"PK"):
        raise UnsupportedFormat(
            "has a pickle in it, which could run anything when torch loads it", place=place
        )
    found = members(io.BytesIO(content), place, _chosen_of_saved, rooted=True)
    byte_order(found.get("byteorder"), place)

    def size_of(key: str) -> int:
        if f"data/{key}" not in found:
            raise CorruptFile(f"has no storage {key[:20]!r}", place=place)
        return len(found[f"data/{key}"])

    tree, _ = torch_objects.read(found.get("data.pkl", b""), size_of, place)
    storages = {n.removeprefix("data/"): c for n, c in found.items() if n.startswith("data/")}
    return Objects(tree, storages)


def _tensors(objects: Objects, place: str) -> dict[str, tuple[TensorOf, bytes]]:
    """The tensors of a dict by name."""
    if type(objects.tree) is not dict:
        raise CorruptFile("has weights without names", place=place)
    found = {}
    for name, tensor in objects.tree.items():
        if not isinstance(tensor, TensorOf) or not isinstance(name, str):
            raise UnsupportedFormat(
                f"has {name!r:.80} among its weights, which is no tensor", place=place
            )
        found[name] = tensor, objects.storages[tensor.storage.key]
    return found
