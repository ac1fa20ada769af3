"""HDF5 files whose attributes, datasets and links are changed, by h5py: the rest stays sound."""

from __future__ import annotations

import io
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np

from tests.fuzz_files.damage import damaged
from tests.fuzz_files.values import mutated_json

__all__ = ["mutated"]


def mutated(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Bytes of the file, or what is in it."""
    if rng.randrange(3) == 0:
        return damaged(data, rng, others)
    import h5py

    image = io.BytesIO(data)
    try:
        with h5py.File(image, "r+") as file:
            for _ in range(1 + (rng.randrange(3) == 0)):
                _change(h5py, file, rng)
    except Exception:  # What cannot be changed is damaged instead.
        return damaged(data, rng, others)
    made = image.getvalue()
    return damaged(made, rng, ()) if rng.randrange(10) == 0 else made


def _change(h5py: Any, file: Any, rng: Random) -> None:
    found: list[str] = []
    file.visit(found.append)
    place = rng.choice(["/", *found])
    target = file[place]
    attributes = list(target.attrs)
    if "model_config" in file.attrs and rng.randrange(3) == 0:
        target, attributes = file, ["model_config"]
    if attributes and rng.randrange(2):
        _change_attribute(target, rng.choice(attributes), rng)
        return
    if place == "/":
        return
    parent, name = target.parent, place.rsplit("/", 1)[-1]
    match rng.randrange(7):
        case 0:
            del parent[name]
        case 1:
            parent.move(name, rng.choice(("0", "1", "vars", name + "_", "x" * 300)))
        case 2:
            del parent[name]
            parent[name] = h5py.SoftLink(
                rng.choice(("/", "/" + place, "/nowhere", "..", "/layers"))
            )
        case 3:
            del parent[name]
            parent[name] = h5py.ExternalLink(rng.choice(("/etc/passwd", "x.h5", "")), "/x")
        case 4:
            parent[name + "_"] = target
        case _:
            del parent[name]
            _odd_dataset(h5py, parent, name, rng)


def _change_attribute(target: Any, name: str, rng: Random) -> None:
    value = target.attrs[name]
    match rng.randrange(5):
        case 0:
            del target.attrs[name]
        case 1:
            target.attrs[name] = rng.choice(
                (0, 1.5, np.zeros((3, 0)), "", np.bytes_(b"\xff"), [1, 2])
            )
        case 2 if isinstance(value, np.ndarray):
            target.attrs[name] = np.array([b"x", b"\xff", *value.ravel()[:-1]], dtype=object)[
                :-1
            ].astype("S9")
        case _ if isinstance(value, (str, bytes)):
            held = value.encode() if isinstance(value, str) else value
            new = mutated_json(held, rng) if held[:1] == b"{" else damaged(held, rng, ())
            target.attrs[name] = (
                np.bytes_(new) if rng.randrange(4) == 0 else new.decode("utf-8", "replace")
            )
        case _:
            target.attrs[name] = value


def _odd_dataset(h5py: Any, parent: Any, name: str, rng: Random) -> None:
    """One that is large, of another type or shape, or somewhere else."""
    shape = rng.choice(((), (0,), (3,), (2**20,), (2**40,), (3, 0, 2), (1,) * 12))
    match rng.randrange(6):
        case 0:
            parent.create_dataset(
                name, shape, rng.choice(("f4", "f2", "f8", "i8", "c8", "S5", "V3", "?"))
            )
        case 1:
            parent.create_dataset(
                name, (2**14,), "f4", compression="gzip", data=np.zeros(2**14, "f4")
            )
        case 2:
            parent.create_dataset(name, (2,), h5py.string_dtype(), data=[b"a", b"\xff"])
        case 3:
            parent.create_dataset(name, (2,), np.dtype([("a", "f4"), ("b", "S3")]))
        case 4:
            parent.create_dataset(name, (2,), "f4", external=[("/etc/passwd", 0, 8)])
        case _:
            parent.create_dataset(
                name, (7, 32), "f4", data=np.full((7, 32), rng.choice((np.nan, 1e38)))
            )
