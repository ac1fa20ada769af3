"""What files are that no frontend reads: what they are called, and what to do with them.

Most are told by their first bytes. Those that cannot be told so are by their names.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["FOREIGN", "Foreign", "foreign"]


class Foreign(NamedTuple):
    """What such a file is, and what its user can do."""

    about: str
    remedy: str


_CATBOOST = 'Save it in CatBoost with save_model("m.onnx", format="onnx")'
_TENSORFLOW = "Convert it with tf2onnx: python -m tf2onnx.convert"
FOREIGN: Mapping[str, Foreign] = {
    "cbm": Foreign("a CatBoost .cbm file", _CATBOOST),
    "catboost": Foreign("a CatBoost .json file", _CATBOOST),
    "tflite": Foreign("a TensorFlow Lite file", f"{_TENSORFLOW} --tflite m.tflite --output m.onnx"),
    "savedmodel": Foreign(
        "a SavedModel of TensorFlow", f"{_TENSORFLOW} --saved-model FOLDER --output m.onnx"
    ),
    "graphdef": Foreign(
        "a frozen graph of TensorFlow",
        f"{_TENSORFLOW} --graphdef m.pb --inputs x:0 --outputs y:0 --output m.onnx",
    ),
    "safetensors": Foreign(
        "a safetensors file, which has weights but no network",
        "Load the weights into the PyTorch module that they belong to, and give from_torch that",
    ),
    "gguf": Foreign(
        "a GGUF file, which has weights but no network", "Export the model that it is from to ONNX"
    ),
    "pmml": Foreign("a PMML file", "Export the model to ONNX with the library that trained it"),
    "coreml": Foreign("a Core ML model", "Export the model that it was converted from to ONNX"),
    "numpy": Foreign("a NumPy array", "Load the file of the model"),
    "onnxdata": Foreign(
        "the weights of an ONNX file, without its network",
        "Load the .onnx file beside it, which reads the weights from here",
    ),
    "kerasjson": Foreign(
        "the architecture of a Keras model, without its weights",
        'Save the whole model in Keras: model.save("m.keras")',
    ),
    "page": Foreign("a web page", "Download the file itself, not the page that shows it"),
    "lfs": Foreign("a pointer of Git LFS, not the file", "Get the file with git lfs pull"),
    "xml": Foreign("an XML file of no kind that is known", "Export the model to ONNX"),
    "json": Foreign("a JSON file of no kind that is known", "Export the model to ONNX"),
}

_MAGIC = {
    b"CBM1": "cbm",
    b"GGUF": "gguf",
    b"\x93NUMPY": "numpy",
    b"version https://git-lfs": "lfs",
}
# Tables of categories, which may be long, come first.
_OF_CATBOOST = (b'"ctr_data"', b'"features_info"', b'"oblivious_trees"', b'"catboost_version')
_SUFFIXES = {
    ".mlmodel": "coreml",
    ".onnx.data": "onnxdata",
    ".onnx_data": "onnxdata",
    "saved_model.pb": "savedmodel",
}


def foreign(head: bytes, name: str) -> str | None:
    """The key in `FOREIGN` of a file with these first bytes and this name; None for any other."""
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[4:8] == b"TFL3":
        return "tflite"
    if _is_safetensors(head):
        return "safetensors"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        return _of_markup(text)
    if text.startswith(b"{") and text[1:].lstrip()[:1] in (b'"', b"}"):
        return _of_json(text)
    # A ModelProto of ONNX never begins so: its first field is a number.
    if head.startswith(b"\n") and any(op in head for op in (b"\x0bPlaceholder", b"\x05Const")):
        return "graphdef"
    return next((kind for end, kind in _SUFFIXES.items() if name.lower().endswith(end)), None)


def _is_safetensors(head: bytes) -> bool:
    """The length of a JSON object, and the object."""
    if len(head) < 10 or head[8:9] != b"{":
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return 2 <= length <= 100_000_000 and head[9:].lstrip(b" ")[:1] in (b'"', b"}")


def _of_markup(text: bytes) -> str:
    folded = text.lower()
    if b"<pmml" in folded:
        return "pmml"
    return "page" if b"<html" in folded or b"<!doctype html" in folded else "xml"


def _of_json(text: bytes) -> str:
    if any(key in text for key in _OF_CATBOOST):
        return "catboost"
    is_keras = b'"class_name"' in text and b'"config"' in text
    return "kerasjson" if is_keras else "json"
