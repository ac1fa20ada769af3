"""How foreign files become a Graph: one module for each format, recognised by content."""

from __future__ import annotations

import zipfile
from pathlib import Path

from sofie_rdf.errors import ModelError, UnsupportedFormat

__all__ = ["recognise"]

_MAGIC = {
    b"root": "root",
    b"\x89HDF\r\n\x1a\n": "a Keras .h5 file",
    b"\x80\x02": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
}


def recognise(path: Path) -> str:
    """``"root"`` or ``"onnx"``, by what the file holds; `UnsupportedFormat` names other kinds."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", place=str(path)) from error
    if not head:
        raise UnsupportedFormat("is empty", place=str(path))
    kinds = (kind for magic, kind in _MAGIC.items() if head.startswith(magic))
    kind = _archive(path) if head.startswith(b"PK") else next(kinds, "onnx")
    if kind not in ("root", "onnx"):
        raise UnsupportedFormat(
            f"is {kind}, which is not read", place=str(path), remedy="Export the model to ONNX"
        )
    return kind


def _archive(path: Path) -> str:
    try:
        members = zipfile.ZipFile(path).namelist()
    except (OSError, zipfile.BadZipFile):
        return "a damaged zip archive"
    if "model.weights.h5" in members:
        return "a .keras file"
    if any("/code/" in m for m in members):
        return "a TorchScript file"
    if any("/models/" in m for m in members):
        return "a torch.export .pt2 file"
    if any(m.endswith("data.pkl") for m in members):
        return "a torch.save file"
    return "a zip archive"
