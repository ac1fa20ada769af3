"""Files of Keras, read without Keras: .keras archives, and .h5 files of Keras 3 and Keras 2.

A .keras file is a zip archive of metadata.json, config.json and model.weights.h5. An .h5 file has
the config in an attribute and a list of weights for each layer. Nothing in a file is ever run.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from sofie_rdf.errors import (
    CorruptFile,
    MissingDependency,
    ModelError,
    SofieError,
    UnsupportedFormat,
)
from sofie_rdf.frontends.keras_layer import Layer
from sofie_rdf.frontends.keras_weights import (
    ByName,
    NoWeights,
    PathWeights,
    Unsorted,
    read_dataset,
)

__all__ = ["KerasModel", "open_file"]


@dataclass(frozen=True)
class KerasModel:
    """A model as it was found: its layer, where it was found, and what is known of its making."""

    layer: Layer
    place: str
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The version of Keras that wrote it."""
        return self.provenance.get("producer", "").removeprefix("keras").strip()


def open_file(path: Path) -> KerasModel:
    """The model in a file; `CorruptFile` or `UnsupportedFormat` for what is none."""
    try:
        with path.open("rb") as file:
            is_archive = file.read(2) == b"PK"
        return _archive(path) if is_archive else _hdf5(path)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", place=str(path)) from error
    except SofieError as error:
        raise error.at(str(path)) from None
    except RecursionError as error:
        raise CorruptFile("is nested too deeply", place=str(path)) from error
    except Exception as error:  # HDF5's errors have many types.
        raise CorruptFile(f"cannot be read: {error}", place=str(path)) from error


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependency(
            "reading a file of Keras needs h5py", remedy="pip install 'sofie_rdf[keras]'"
        ) from error
    return h5py


# Archives ----------------------------------------------------------------------------------------

# Keras stores without compression, and deflate makes nothing smaller than this.
_MOST_EXPANSION = 1100
_WEIGHTS = "model.weights.h5"


def _archive(path: Path) -> KerasModel:
    h5py = _h5py()
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            for needed in ("config.json", _WEIGHTS):
                if needed not in names:
                    raise UnsupportedFormat(f"is no .keras file: it has no {needed}")
            config = _json(_member(archive, "config.json"), "config.json")
            has_metadata = "metadata.json" in names
            metadata = _member(archive, "metadata.json") if has_metadata else b"{}"
            weights = _member(archive, _WEIGHTS)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CorruptFile(f"is a damaged archive: {error}") from error
    said = _json(metadata, "metadata.json")
    file = _opened(h5py, io.BytesIO(weights))
    layer = Layer.of(config, PathWeights(file))
    return KerasModel(layer, str(path), _provenance(path, layer, said))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > _MOST_EXPANSION * (info.compress_size + 1):
        raise CorruptFile(f"{name} says it is larger than it can be")
    return archive.read(name)


def _opened(h5py: Any, source: Any) -> Any:
    try:
        return h5py.File(source, "r")
    except Exception as error:  # HDF5's errors have many types.
        raise CorruptFile(f"its weights cannot be read: {error}") from error


def _json(text: bytes | str, what: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{what} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise CorruptFile(f"{what} is no dictionary")
    return found


def _provenance(path: Path, layer: Layer, said: Mapping[str, Any]) -> dict[str, str]:
    version, backend = said.get("keras_version"), said.get("backend")
    known = {
        "source": path.name,
        "producer": f"keras {version}" if version else "keras",
        "backend": backend,
        "class": layer.class_name,
    }
    return {key: str(value) for key, value in known.items() if value}


# .h5 ---------------------------------------------------------------------------------------------


def _hdf5(path: Path) -> KerasModel:
    h5py = _h5py()
    file = _opened(h5py, path)
    with file:
        try:
            text = file.attrs.get("model_config")
            said = {k: _text(file.attrs.get(k)) for k in ("keras_version", "backend")}
            group = file.get("model_weights")
        except Exception as error:
            raise CorruptFile(f"cannot be read: {error}") from error
        if text is None:
            raise UnsupportedFormat(
                "holds weights without a model",
                remedy="Save the whole model: model.save(...), not model.save_weights(...)",
            )
        config = _json(_text(text), "its model_config")
        if group is None or not hasattr(group, "keys"):
            raise CorruptFile("has no model_weights")
        layer = Layer.of(config, NoWeights())
        layer = Layer.of(config, ByName(_lists(layer, group)))
    return KerasModel(layer, str(path), _provenance(path, layer, said))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _lists(layer: Layer, group: Any) -> dict[str, Unsorted]:
    """The weights of each layer of the model."""
    found = {}
    for inner in layer.model_layers() if layer.is_model else ():
        part = group.get(inner.name)
        if part is None:
            continue
        try:
            names = _names(part, "weight_names")
        except Exception as error:
            raise CorruptFile(f"cannot be read: {error}", place=inner.name) from error
        arrays = []
        for name in names:
            if name not in part:
                raise CorruptFile(f"has no weight {name!r} of layer {inner.name!r}")
            arrays.append(read_dataset(part[name], f"{inner.name}: {name}"))
        found[inner.name] = Unsorted(names, arrays)
    return found


# More weights than any layer has, and fewer than a damaged number says.
_MOST_NAMES = 100_000


def _names(group: Any, name: str) -> list[str]:
    """A list in an attribute, or in several where it is long."""
    if name in group.attrs:
        parts = [name]
    else:
        parts = []
        while f"{name}{len(parts)}" in group.attrs:
            parts.append(f"{name}{len(parts)}")
    found: list[str] = []
    for part in parts:
        if prod(group.attrs.get_id(part).shape) > _MOST_NAMES:
            raise CorruptFile(f"says that {part} has too many names")
        found += [_text(n) for n in group.attrs[part]]
    return found
