"""A model as a .root file holds it: description, weights, header. `rootfile` has the files.

* ``model``: JSON (see `sofie_rdf.ir.canonical`), with ``format``, ``writer``, ``date``, ``name``,
  ``extras``, ``graph`` (see `sofie_rdf.ir.text`); the table ``tensors`` (constants) of ``name,
  dtype, shape, offset`` each; of ``weights`` and ``header`` the number of ``bytes`` and the
  ``sha256``. For macros ``interface`` (what the code takes and gives, how that is called, and how
  sets are filled), ``program`` (``[offset, bytes]`` of the tensors of its weight file) and
  ``reference`` (inputs, the outputs for them, how far results may be from these). Last comes
  ``sha256``, of all text before it: it stands for the whole model.
* ``weights``: the little-endian bytes of all tensors, each at a multiple of 64; equal ones once.
* ``header``: the emitted C++, with all kernels in it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import (
    CorruptFile,
    ModelError,
    SofieError,
    UnsupportedFormat,
    UnsupportedOperator,
)
from sofie_rdf.ir.canonical import canonical, parsed
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.text import graph_text, operator_text, parse_graph, parse_operator
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ir.verify import verify

__all__ = [
    "FORMAT",
    "Macro",
    "Record",
    "Reference",
    "StoredModel",
    "about",
    "directory_name",
    "from_record",
    "is_description",
    "sha256_of",
    "to_record",
    "true_name",
    "weight_bytes",
]

FORMAT = 2

_ALIGNMENT = 64
_LONGEST_NAME = 150
_DTYPES = frozenset(d.value for d in DType)


@dataclass(frozen=True)
class Record:
    """A model as it is stored."""

    json: str
    weights: bytes
    header: str


@dataclass(frozen=True)
class Reference:
    """Inputs, their sizes, the outputs for them, and the largest difference of a right result."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    inputs: Mapping[str, Array] = field(default_factory=dict)
    outputs: Mapping[str, Array] = field(default_factory=dict)
    bounds: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Macro:
    """What a macro needs, as it has no Python: the code, the tensors of its weight file, how to
    call it, and what it must give first.
    """

    header: str = ""
    tensors: Sequence[Array] = ()
    interface: Mapping[str, Any] = field(default_factory=dict)
    reference: Reference = field(default_factory=Reference)


@dataclass(frozen=True)
class StoredModel:
    """What a file holds of one model."""

    graph: Graph
    extras: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    macro: Macro = field(default_factory=Macro)
    sha256: str = ""


# ---------------------------------------------------------------- names


def directory_name(name: str) -> str:
    """The directory of the model of that name: injective, and safe in every ROOT path."""
    if not name:
        raise ModelError("a model in a file needs a name", remedy="Pass name='...'")
    data = name.encode("utf-8", "surrogatepass")
    safe = re.sub(rb"[^A-Za-z0-9_.-]|^\.", lambda m: b"".join(b"%%%02X" % c for c in m[0]), data)
    if len(safe) > _LONGEST_NAME:
        # No other name contains %~.
        safe = safe[:_LONGEST_NAME] + b"%~" + hashlib.sha256(data).hexdigest().encode()
    return safe.decode("ascii")


def true_name(directory: str, text: str) -> str:
    """The name of the model in this directory; that of the directory, if it was renamed."""
    with suppress(ModelError):
        name = _any_document(text).get("name")
        if isinstance(name, str) and directory_name(name) == directory:
            return name
    return directory


def is_description(text: object) -> bool:
    """Whether this is the JSON of a model, of whatever version, damaged or not.

    cling/sofie/rdf/stored.hxx has the same rule.
    """
    return isinstance(text, str) and '"format":' in text


def _any_document(text: str) -> dict[str, Any]:
    """The JSON object of a text that another version may have written; {} if it is none."""
    limits.require(bytes=40 * len(text), what="its description")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


# ---------------------------------------------------------------- writing


class _Weights:
    """The bytes of all tensors, as they are added; equal ones once."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self._known: dict[bytes, int] = {}

    def add(self, array: Array) -> int:
        """The offset of the tensor."""
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        content = data.tobytes()
        key = hashlib.sha256(content).digest()
        if key not in self._known:
            self._known[key] = self.size
            padding = -len(content) % _ALIGNMENT
            self.parts += [content, bytes(padding)]
            self.size += len(content) + padding
        return self._known[key]

    def table(self, tensors: Mapping[str, Array]) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = []
        for name, array in tensors.items():
            try:
                dtype = str(DType.of(array))
            except ValueError:
                raise ModelError(f"{name!r} has the element type {array.dtype}") from None
            shape = [int(n) for n in array.shape]
            offset = self.add(array)
            listed.append({"name": name, "dtype": dtype, "shape": shape, "offset": offset})
        return listed


def _storable(op: Operator) -> None:
    """Nothing, if the operator's text reads back as the same operator; else ModelError."""
    text = operator_text(op)
    try:
        back = parse_operator(text)
    except SofieError as error:
        raise ModelError(f"{text} cannot be stored: {error.thing}", remedy=error.remedy) from None
    if operator_text(back) != text or type(back) is not type(op):
        raise ModelError(f"{text} cannot be stored: it reads back as {back}")


def _writer() -> str:
    with suppress(importlib.metadata.PackageNotFoundError):
        return f"sofie_rdf {importlib.metadata.version('sofie_rdf')}"
    return "sofie_rdf"


def _date() -> str:
    """Now, or when SOURCE_DATE_EPOCH says, for files that must not differ."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    try:
        now = datetime.fromtimestamp(int(epoch), timezone.utc) if epoch.isdecimal() else None
    except (ValueError, OverflowError, OSError):
        thing = f"SOURCE_DATE_EPOCH={epoch[:40]} is no time that has a date"
        raise ModelError(thing, remedy="Seconds since 1970, as 1700000000, or unset it") from None
    return (now or datetime.now(timezone.utc)).isoformat(timespec="seconds")


def _strings(what: str, given: Mapping[str, str]) -> dict[str, str]:
    for key, value in given.items():
        if {type(key), type(value)} != {str}:
            raise ModelError(f"{what} maps strings to strings, not {key!r} to {value!r}")
    return dict(given)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _described(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": _sha256(data)}


def _sealed(document: Mapping[str, Any]) -> str:
    """The text of the document, which ends in the checksum of what stands before that."""
    text = canonical(document)[:-1]
    return f'{text},"sha256":"{_sha256(text.encode())}"}}'


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SEAL = re.compile(r',"sha256":"([0-9a-f]{64})"\}\Z')


def sha256_of(text: str) -> str:
    """The checksum that a description ends in, "" if it has none."""
    found = _SEAL.search(text)
    return found[1] if found else ""


def to_record(
    graph: Graph,
    *,
    name: str | None = None,
    extras: Mapping[str, str] = MappingProxyType({}),
    macro: Macro = Macro(),
) -> Record:
    """The model as it is stored; ModelError for what cannot be, the error of an illegal graph."""
    verify(graph)
    for node in graph.nodes:
        _storable(node.op)
    weights = _Weights()
    tensors = weights.table(graph.constants)
    program = [[weights.add(tensor), tensor.nbytes] for tensor in macro.tensors]
    known = macro.reference
    reference = {
        "sizes": dict(known.sizes),
        "inputs": weights.table(known.inputs),
        "outputs": weights.table(known.outputs),
        "bounds": weights.table(known.bounds),
    }
    held = b"".join(weights.parts)
    document: dict[str, Any] = {
        "date": _date(),
        "extras": _strings("extras", extras),
        "format": FORMAT,
        "graph": graph_text(graph),
        "header": _described(macro.header.encode()),
        "interface": dict(macro.interface),
        "name": graph.name if name is None else name,
        "program": program,
        "reference": reference,
        "tensors": tensors,
        "weights": _described(held),
        "writer": _writer(),
    }
    directory_name(document["name"])
    return Record(_sealed(document), held, macro.header)


# ---------------------------------------------------------------- reading


def _are_sizes(numbers: Sequence[object]) -> bool:
    sizes = [n for n in numbers if type(n) is int and 0 <= n < 2**62]
    return len(sizes) == len(numbers) <= 34


class _Document:
    """The JSON of a model, every part of it checked when it is asked for."""

    def __init__(self, text: str, place: str) -> None:
        self.place = place
        body = _SEAL.sub("", text)
        found = parsed(body + "}")
        if found is None or found.get("format") != FORMAT:
            self._require_format(text)
        if found is None:
            self.fail("its description is not as sofie_rdf writes it, or was changed by hand")
        self.items: dict[str, Any] = found
        self.sha256 = sha256_of(text)
        self.sound = bool(self.sha256) and self.sha256 == _sha256(body.encode())

    def _require_format(self, text: str) -> None:
        """Nothing, for the format that this version writes."""
        found = _any_document(text)
        if not found:
            self.fail("its description is no JSON")
        written = self.part(found, "format", int)
        if written > FORMAT:
            thing = f"was written by a newer sofie_rdf (format {written}; this one reads {FORMAT})"
            raise UnsupportedFormat(f"{thing}: upgrade", place=self.place)
        if written < FORMAT:
            raise UnsupportedFormat(
                f"has the format {written}, which no release has written",
                place=self.place,
                remedy="Convert the model again",
            )

    def fail(self, thing: str) -> NoReturn:
        raise CorruptFile(thing, place=self.place)

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        return self.part(self.items, key, kind, default)

    def part(self, items: Mapping[str, Any], key: str, kind: type, default: Any = None) -> Any:
        value = items.get(key, default)
        if not isinstance(value, kind) or isinstance(value, bool):
            self.fail(f"its description has no {key!r}, or a wrong one")
        return value

    def strings(self, key: str) -> Mapping[str, str]:
        found = self.get(key, dict, {})
        if not all(isinstance(value, str) for value in found.values()):
            self.fail(f"{key!r} in its description holds more than strings")
        return MappingProxyType(found)

    def sizes(self) -> Mapping[str, int]:
        """The sizes of the reference."""
        found = self.part(self.get("reference", dict, {}), "sizes", dict, {})
        if not _are_sizes(list(found.values())[:33]) or len(found) > 33:
            self.fail("the sizes of its reference cannot be true")
        return MappingProxyType(found)

    def bytes_of(self, key: str) -> int:
        """How many bytes ``weights`` or ``header`` has."""
        found = int(self.part(self.get(key, dict), "bytes", int))
        if not 0 <= found < 2**40:
            self.fail(f"the number of bytes of its {key} cannot be true")
        return found

    def arrays(self, rows: Sequence[object], weights: bytes, what: str) -> dict[str, Array]:
        """The tensors of a table, views of the weights."""
        found = dict(self._tensor(row, weights, what) for row in rows)
        if len(found) != len(rows):
            self.fail(f"two {what} have the same name")
        return found

    def _tensor(self, row: object, weights: bytes, what: str) -> tuple[str, Array]:
        match row:
            case {"name": str(name), "dtype": str(text), "shape": list(shape), "offset": offset}:
                if text in _DTYPES and _are_sizes([*shape, offset]):
                    dtype, size = DType(text), math.prod(shape)
                    self.inside(offset, size * dtype.nbytes, weights)
                    little = dtype.numpy.newbyteorder("<")
                    flat = np.frombuffer(weights, little, size, offset if size else 0)
                    if dtype is DType.BOOL and size and flat.view(np.uint8).max() > 1:
                        self.fail(f"tensor {name!r} holds what is no bool")
                    array = flat.astype(dtype.numpy, copy=False).reshape(shape)
                    array.setflags(write=False)
                    return name, array
        return self.fail(f"the table of {what} has a row that cannot be true")

    def inside(self, offset: object, size: object, weights: bytes) -> None:
        """Nothing, if this part of the weights is there and aligned."""
        if not _are_sizes([offset, size]):
            self.fail("a place in its weights cannot be true")
        assert isinstance(offset, int) and isinstance(size, int)
        if offset % _ALIGNMENT or offset + size > len(weights):
            self.fail("its description names weights that are not there")

    def interface(self) -> Mapping[str, Any]:
        """How the code is called; its namespace is a name and no other code."""
        found = self.get("interface", dict, {})
        if not _NAME.fullmatch(self.part(found, "namespace", str, "_")):
            self.fail("its namespace is no name")
        return MappingProxyType(found)

    def program(self, weights: bytes) -> tuple[Array, ...]:
        """The tensors of the weight file, as bytes."""
        found = []
        for row in self.get("program", list, []):
            match row:
                case [offset, size]:
                    self.inside(offset, size, weights)
                    found.append(np.frombuffer(weights, np.uint8, size, offset if size else 0))
                case _:
                    self.fail("the table of its weight file has a row that cannot be true")
        return tuple(found)


def about(text: str, place: str) -> Mapping[str, str]:
    """When and by which version the model was stored, and its checksum."""
    document = _Document(text, place)
    said = {key: document.get(key, str) for key in ("date", "writer")}
    return MappingProxyType({**said, "sha256": document.sha256})


def weight_bytes(text: str, place: str) -> int:
    """How long ``weights`` must be, after the text of ``model``.

    CorruptFile for a text that cannot be true, UnsupportedFormat for one of another version.
    """
    return _Document(text, place).bytes_of("weights")


def from_record(record: Record, place: str) -> StoredModel:
    """The inverse of `to_record`: a verified graph; CorruptFile for a record that is damaged."""
    document = _Document(record.json, place)
    header = record.header.encode("utf-8", "surrogateescape")
    for key, data in (("weights", record.weights), ("header", header)):
        if document.get(key, dict) != _described(data) or not document.sound:
            document.fail("the checksum is wrong: the model is damaged, or was changed by hand")
    weights = record.weights
    constants = document.arrays(document.get("tensors", list), weights, "tensors")
    text = document.get("graph", str)
    try:
        graph = parse_graph(text, constants)
    except (CorruptFile, UnsupportedOperator) as error:
        where = f"{place}: graph {error.place}" if error.place else place
        raise type(error)(error.thing, place=where, remedy=error.remedy) from None
    known = document.get("reference", dict, {})
    tables = (
        document.arrays(document.part(known, key, list, []), weights, key)
        for key in ("inputs", "outputs", "bounds")
    )
    reference = Reference(document.sizes(), *tables)
    return StoredModel(
        graph=graph,
        extras=document.strings("extras"),
        macro=Macro(record.header, document.program(weights), document.interface(), reference),
        sha256=document.sha256,
    )
