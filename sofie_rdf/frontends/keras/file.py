"""Files of Keras, read without Keras: .keras archives, and .h5 files of Keras 3 and Keras 2.

A .keras file is a zip archive of metadata.json, config.json and model.weights.h5. An .h5 file has
the config in an attribute and a list of weights for each layer. Nothing in a file is ever run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sofie_rdf import limits
from sofie_rdf.errors import (
    CorruptFile,
    ModelError,
    SofieError,
    UnsupportedFormat,
)
from sofie_rdf.frontends.common import documents
from sofie_rdf.frontends.keras.compare import Beside
from sofie_rdf.frontends.keras.hdf5 import Group, contents
from sofie_rdf.frontends.keras.layer import Layer
from sofie_rdf.frontends.keras.weights import (
    ByName,
    NoWeights,
    PathWeights,
    Unsorted,
    weight_of,
)

__all__ = ["KerasModel", "open_file"]


@dataclass(frozen=True)
class KerasModel:
    """A model as it was found: its layer, where it was found, and what is known of its making."""

    layer: Layer
    place: str
    provenance: Mapping[str, str] = field(default_factory=dict)
    # The model itself, where its code was run on symbolic values.
    beside: Beside | None = None

    @property
    def version(self) -> str:
        """The version of Keras that wrote it."""
        return self.provenance.get("producer", "").removeprefix("keras").strip()


def open_file(path: Path, *, isolated: bool = True) -> KerasModel:
    """The model in a file; `CorruptFile` or `UnsupportedFormat` for what is none.

    ``isolated`` says whether HDF5 is read by another process: see `keras.hdf5.contents`.
    """
    try:
        with path.open("rb") as file:
            is_archive = file.read(2) == b"PK"
        return _archive(path, isolated) if is_archive else _hdf5(path, isolated)
    except SofieError as error:
        raise error.at(str(path)) from None
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", place=str(path)) from error
    except RecursionError as error:
        raise CorruptFile("is nested too deeply", place=str(path)) from error
    except MemoryError:
        raise
    except Exception as error:  # What is in the config may be anything.
        raise CorruptFile(f"cannot be read: {error}", place=str(path)) from error


# Archives ----------------------------------------------------------------------------------------

_WEIGHTS = "model.weights.h5"


def _archive(path: Path, isolated: bool) -> KerasModel:
    with limits.archive(path) as archive:
        names = set(archive.namelist())
        for needed in ("config.json", _WEIGHTS):
            if needed not in names:
                raise UnsupportedFormat(f"is no .keras file: it has no {needed}")
        config = _json(limits.unpacked(archive, "config.json"), "config.json")
        has_metadata = "metadata.json" in names
        metadata = limits.unpacked(archive, "metadata.json") if has_metadata else b"{}"
        weights = limits.unpacked(archive, _WEIGHTS)
    said = _json(metadata, "metadata.json")
    layer = Layer.of(config, PathWeights(contents(weights, str(path), isolated)))
    return KerasModel(layer, str(path), _provenance(path, layer, said))


def _json(text: bytes | str, what: str) -> Any:
    try:
        found = documents.parsed(text)
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


def _hdf5(path: Path, isolated: bool) -> KerasModel:
    file = contents(path, str(path), isolated)
    if "model_config" not in file.attrs:
        raise UnsupportedFormat(
            "holds weights without a model",
            remedy="Save the whole model: model.save(...), not model.save_weights(...)",
        )
    config = _json(file.attrs["model_config"], "its model_config")
    group = file.get("model_weights")
    if not isinstance(group, Group):
        raise CorruptFile("has no model_weights")
    layer = Layer.of(config, NoWeights())
    layer = Layer.of(config, ByName(_lists(layer, group)))
    said = {key: file.attrs.get(key) for key in ("keras_version", "backend")}
    return KerasModel(layer, str(path), _provenance(path, layer, said))


def _lists(layer: Layer, group: Group) -> dict[str, Unsorted]:
    """The weights of each layer of the model."""
    found = {}
    for inner in layer.model_layers() if layer.is_model else ():
        part = group.get(inner.name)
        if not isinstance(part, Group):
            continue
        names = _names(part, "weight_names")
        arrays = []
        for name in names:
            if name not in part:
                raise CorruptFile(f"has no weight {name!r} of layer {inner.name!r}")
            arrays.append(weight_of(part.get(name), f"{inner.name}: {name}"))
        found[inner.name] = Unsorted(names, arrays)
    return found


def _names(group: Group, name: str) -> list[str]:
    """A list in an attribute, or in several where it is long."""
    if name in group.attrs:
        return _listed(group.attrs[name])
    found: list[str] = []
    number = 0
    while f"{name}{number}" in group.attrs:
        found += _listed(group.attrs[f"{name}{number}"])
        number += 1
    return found


def _listed(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise CorruptFile("has no list of the names of weights")
    return value
