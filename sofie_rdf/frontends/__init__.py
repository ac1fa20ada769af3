"""How foreign files become a Graph: one folder for each kind, recognised by content.

Such a module has ``read(source, *, name="", **options)``, which gives the Graph or raises the first
thing that is wrong, and ``check(source, **options)``, which gives all of it. Where reading takes
long, ``examine(source, **options)`` gives both: what is wrong, and the Graph or None. ``source`` is
a Path, or whatever the module's own ``from_...`` of `sofie_rdf.model` takes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from sofie_rdf.arguments import require_plain, require_source
from sofie_rdf.errors import CorruptFile, InputError, ModelError, UnsupportedFormat
from sofie_rdf.frontends.foreign import FOREIGN, foreign

__all__ = [
    "FORMATS",
    "Format",
    "accepted",
    "frontend",
    "is_of",
    "options_for",
    "owner",
    "recognise",
]


class Format(NamedTuple):
    """A kind of file: what it is called, which module reads it, and what that can be told."""

    about: str
    module: str = ""
    options: tuple[str, ...] = ()
    remedy: str = "Export the model to ONNX"


_KERAS = ("shapes", "custom_objects", "isolated")
_TORCH = ("shapes", "example_inputs", "input_shapes", "weights_only", "dynamic", "isolated")
FORMATS: Mapping[str, Format] = {
    "root": Format("a .root file"),
    "onnx": Format("an ONNX file", "onnx.reader", ("shapes",)),
    "keras": Format("a .keras file", "keras.reader", _KERAS),
    "h5": Format("a Keras .h5 file", "keras.reader", _KERAS),
    "torchscript": Format("a TorchScript file", "torch.isolated", _TORCH),
    "pt2": Format("a torch.export .pt2 file", "torch.isolated", ("shapes", "isolated")),
    "torch": Format("a torch.save file", "torch.isolated", _TORCH),
    "pickle": Format("a pickle", "torch.isolated", _TORCH),
    "xgboost": Format("an XGBoost model", "trees.xgboost"),
    "lightgbm": Format("a LightGBM model", "trees.lightgbm"),
    "tmva": Format("a weight file of TMVA", "tmva.reader"),
    "lwtnn": Format("a network of lwtnn", "lwtnn.reader"),
    "compressed": Format(
        "a compressed file",
        remedy="Uncompress it; a compressed pickle of joblib: convert the model to ONNX",
    ),
    "zip": Format("a zip archive"),
    "damaged": Format("a damaged zip archive", remedy="Copy or download it again"),
}

_MAGIC = {
    b"root": "root",
    b"\x89HDF\r\n\x1a\n": "h5",
    b"\x80\x02": "pickle",
    b"\x80\x03": "pickle",
    b"\x80\x04": "pickle",
    b"\x80\x05": "pickle",
    b"binf": "xgboost",
    b"\x1f\x8b": "compressed",
    b"\xfd7zXZ": "compressed",
    b"x\x01": "compressed",
    b"x^": "compressed",
    b"x\x9c": "compressed",
    b"x\xda": "compressed",
    b"tree\n": "lightgbm",
    b"tree\r\n": "lightgbm",
}
# How much of a file is looked at for what stands somewhere near its beginning.
_HEAD = 4096


def recognise(path: Path) -> str:
    """The key in `FORMATS` of what a file holds; `UnsupportedFormat` for what is not read."""
    require_plain(path)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except (OSError, ValueError) as error:  # ValueError: a name with a byte 0.
        why = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"cannot be read: {why}", place=str(path)) from error
    if not head:
        raise UnsupportedFormat("is empty", place=str(path))
    kinds = (kind for magic, kind in _MAGIC.items() if head.startswith(magic))
    if head.startswith(b"PK"):
        kind = _archive(path)
    elif head.lstrip().startswith(b"{") and b"learner" in head:  # JSON, and UBJSON alike
        kind = "xgboost"
    elif head.lstrip().startswith(b"<") and b"<MethodSetup" in head:
        kind = "tmva"
    elif _is_lwtnn(head):
        kind = "lwtnn"
    else:
        kind = next(kinds, "") or _known(head, path)
    found = FORMATS[kind]
    if kind == "damaged":
        raise CorruptFile(f"is {found.about}", place=str(path), remedy=found.remedy)
    if kind != "root" and not found.module:
        raise UnsupportedFormat(
            f"is {found.about}, which is not read", place=str(path), remedy=found.remedy
        )
    return kind


def _is_lwtnn(head: bytes) -> bool:
    """Variables with offsets, in JSON that is none of Keras."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text.startswith(b"{") or text[1:].lstrip()[:1] != b'"' or b'"class_name"' in text:
        return False
    told = (b'"defaults"', b'"layers"', b'"offset"')
    return b'"input_sequences"' in text or (b'"inputs"' in text and any(t in text for t in told))


def _known(head: bytes, path: Path) -> str:
    """ONNX, unless it is known to be something that is not read."""
    other = foreign(head, path.name)
    if other is None:
        return "onnx"
    about, remedy = FOREIGN[other]
    raise UnsupportedFormat(f"is {about}, which is not read", place=str(path), remedy=remedy)


# Objects are told by the package that one of their classes is from; bytes and the like are ONNX.
_OBJECTS = {"torch": "torch"}


def owner(source: object) -> str:
    """The key in `FORMATS` of an object that is no file."""
    packages = (cls.__module__.split(".")[0] for cls in type(source).__mro__)
    return next((_OBJECTS[p] for p in packages if p in _OBJECTS), "onnx")


# What each `from_...` takes beside objects of a package: paths, and of some the file's bytes.
_SOURCES: Mapping[str, tuple[str, str, bool]] = {
    "onnx": ("onnx", "the path of an ONNX file, its bytes, or an onnx.ModelProto", True),
    "keras": ("keras", "the path of a .keras or .h5 file, or a keras.Model", False),
    "xgboost": ("xgboost", "the path of an XGBoost file, its bytes, or a booster", True),
    "lightgbm": ("lightgbm", "the path of a LightGBM file, its bytes, or a booster", True),
}


def is_of(kind: str, source: Any) -> bool:
    """Whether it is no file, or one that the module of this kind reads, by its content."""
    same = FORMATS[kind].module
    return not isinstance(source, Path) or FORMATS[recognise(source)].module == same


def accepted(kind: str, source: Any, function: str = "") -> Any:
    """What the module of this kind reads; `InputError` for what another function takes."""
    function = function or f"from_{kind}"
    if isinstance(source, Path):
        found = recognise(source)
        if FORMATS[found].module != FORMATS[kind].module and found != "onnx":
            raise InputError(
                f"{source.name} is {FORMATS[found].about}, which {function} does not read",
                remedy="sofie_rdf.load(path) reads files of all kinds",
            )
        return source
    if kind not in _SOURCES:
        return source
    package, wanted, has_bytes = _SOURCES[kind]
    if has_bytes and isinstance(source, (bytearray, memoryview)):
        return bytes(source)
    is_proto = type(source).__name__ == "ModelProto"
    packages = [package] if is_proto or kind != "onnx" else []
    require_source(function, source, packages, wanted, takes=(bytes,) if has_bytes else ())
    return source


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            # An archive inside one that was cut off would be taken for the whole file.
            if min((m.header_offset for m in archive.infolist()), default=0) > 0:
                return "damaged"
    # A ValueError is a name that is no UTF-8, NotImplementedError a version that nobody has.
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, LookupError):
        return "damaged"
    if "model.weights.h5" in members:
        return "keras"
    if any("/code/" in m for m in members):
        return "torchscript"
    if any("/models/" in m or m == "serialized_exported_program.json" for m in members):
        return "pt2"
    if any(m.endswith("data.pkl") for m in members):
        return "torch"
    return "zip"


def frontend(kind: str) -> Any:
    """The module that reads files of this kind."""
    return import_module(f"{__name__}.{FORMATS[kind].module}")


# What says nothing where it is empty.
_OF_SOME = ("shapes", "custom_objects")


def options_for(kind: str, **given: Any) -> dict[str, Any]:
    """The options that were given; `InputError` for one that means nothing for such files."""
    found = FORMATS[kind]
    options = {
        key: value
        for key, value in given.items()
        if value is not None and (key not in _OF_SOME or value)
    }
    for key in options:
        if key not in found.options:
            readers = sorted({f.about for f in FORMATS.values() if key in f.options})
            raise InputError(
                f"{key}= means nothing for {found.about}", remedy=f"It is for {', '.join(readers)}"
            )
    return options
