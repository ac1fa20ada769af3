"""ONNX files, bytes and ModelProtos, opened: what is no whole ONNX model ends here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from sofie_rdf import limits
from sofie_rdf.errors import CorruptFile, ModelError
from sofie_rdf.ir import contents

if TYPE_CHECKING:
    import onnx

__all__ = ["ProtoFile", "Source", "data_files", "open_model"]

Source: TypeAlias = "str | Path | bytes | onnx.ModelProto"


@dataclass(frozen=True)
class ProtoFile:
    """A model as protobuf holds it, and where it is from."""

    proto: onnx.ModelProto
    place: str
    provenance: Mapping[str, str]


def open_model(source: Source) -> ProtoFile:
    """The model, with its weights; `CorruptFile` or `ModelError` for what is none."""
    import onnx

    if isinstance(source, onnx.ModelProto):
        place = str(source.graph.name or "model")
        _refuse_empty(source, place)
        return ProtoFile(source, place, {"source": "a ModelProto in memory"})
    if isinstance(source, bytes):
        return ProtoFile(_parse(source, "bytes"), "bytes", _provenance(source, "bytes in memory"))
    path = Path(source)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", place=str(path)) from error
    proto = _parse(content, path.name)
    if b"location" in content:  # ONNX says with this word that weights are in other files.
        _load_external_data(proto, path)
    return ProtoFile(proto, path.name, _provenance(content, path.name, path))


def _provenance(content: bytes, source: str, path: Path | None = None) -> dict[str, str]:
    return {"source": source, "sha256": contents.sha256_of(path, content).hex()}


def _parse(content: bytes, place: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except (DecodeError, RuntimeError, ValueError) as error:
        raise CorruptFile("is truncated or no ONNX file", place=place) from error
    _refuse_empty(proto, place)
    return proto


def _refuse_empty(proto: onnx.ModelProto, place: str) -> None:
    if not proto.graph.output:
        raise CorruptFile("holds no ONNX graph", place=place)
    _refuse_undecodable(proto, place)


def _refuse_undecodable(message: Any, place: str) -> None:
    """`CorruptFile` where a name is no text: protobuf leaves such names as they are."""
    for field, value in message.ListFields():
        values = value if _is_repeated(value) else (value,)
        if field.type == field.TYPE_STRING and any(isinstance(v, bytes) for v in values):
            raise CorruptFile(f"holds a {field.name!r} that is no text", place=place)
        if field.type == field.TYPE_MESSAGE:
            for inner in values:
                _refuse_undecodable(inner, place)


def _is_repeated(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def data_files(path: Path) -> list[str]:
    """The names of the files beside a model that hold weights of it, as the model has them."""
    proto = _parse(path.read_bytes(), path.name)
    return sorted(dict.fromkeys(place.name for place in _places(proto, path.name)))


class _Place(NamedTuple):
    """Where a tensor says that its numbers are; a length of 0 is all of the file."""

    name: str
    length: int


_NUMBER = re.compile(r"[0-9]{1,19}")


def _place(tensor: Any, place: str) -> _Place:
    """Where a tensor says that its numbers are.

    `CorruptFile` where others could understand something else: a key that stands twice, a name
    that the C library cuts at a NUL, and numbers in digits of other scripts.
    """
    said = {entry.key: entry.value for entry in tensor.external_data}
    name, length = said.get("location", ""), said.get("length", "0")
    is_clear = len(said) == len(tensor.external_data) and "\0" not in name
    if not is_clear or not all(map(_NUMBER.fullmatch, (length, said.get("offset", "0")))):
        raise CorruptFile(f"is unclear about the file that holds {tensor.name!r}", place=place)
    return _Place(name, int(length))


def _places(message: Any, place: str) -> Iterator[_Place]:
    """Of all tensors, anywhere in a message, that have their numbers in other files."""
    if getattr(message, "data_location", 0) == 1 and hasattr(message, "external_data"):
        yield _place(message, place)
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in value if _is_repeated(value) else (value,):
                yield from _places(inner, place)


def _pay_for(places: Sequence[_Place], folder: Path) -> None:
    """The other files enlarge the budget of the model's; what is read of them must fit into it."""
    sizes = {}
    for name in {place.name for place in places}:
        with suppress(OSError, ValueError):
            sizes[name] = (folder / name).stat().st_size
    limits.enlarge(sum(sizes.values()))
    read = sum(place.length or sizes.get(place.name, 0) for place in places)
    limits.require(bytes=read, what="weights in other files")


def _load_external_data(proto: onnx.ModelProto, path: Path) -> None:
    import onnx
    from onnx.external_data_helper import load_external_data_for_model

    _pay_for(list(_places(proto, path.name)), path.parent)
    try:
        load_external_data_for_model(proto, str(path.parent))
    # A RuntimeError is what onnx makes of a name that the file system refuses.
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise CorruptFile(
            f"keeps weights in other files, which cannot be read: {error}",
            place=path.name,
            remedy="Put those files beside it",
        ) from error
