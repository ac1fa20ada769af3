"""Files of Keras from strangers: what libhdf5 does with them, another process does."""

from __future__ import annotations

import base64
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from sofie_rdf.errors import CorruptFile
from sofie_rdf.frontends.keras.hdf5 import Group, contents
from tests.hostile.child import opened

CORPUS = Path(__file__).parent / "corpus"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with an attribute, names and two arrays."""
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "{}"
        group = file.create_group("layers/dense/vars")
        group.attrs["weight_names"] = [b"kernel", b"bias"]
        group.attrs["else"] = np.zeros(10)
        group["0"] = np.arange(6, dtype=np.float32).reshape(2, 3)
        group["1"] = np.arange(3, dtype=np.float16)
        file["optimizer/vars/0"] = np.zeros(5)
    return path


@pytest.mark.parametrize("isolated", [True, False])
def test_groups_arrays_and_some_attributes_are_read(path: Path, isolated: bool) -> None:
    for source in (path, path.read_bytes()):
        found = contents(source, "place", isolated)
        assert found.attrs == {"model_config": "{}"}
        assert "optimizer" not in found and "layers/dense/vars/1" in found
        group = found.get("layers/dense/vars")
        assert isinstance(group, Group)
        assert group.attrs == {"weight_names": ["kernel", "bias"]}
        kernel, bias = group.get("0"), group.get("1")
        assert isinstance(kernel, np.ndarray) and isinstance(bias, np.ndarray)
        assert kernel.tolist() == [[0, 1, 2], [3, 4, 5]] and bias.dtype == np.float16
        assert found.get("layers/dense/vars/0/x") is None


def test_links_are_not_followed(path: Path) -> None:
    for link in (h5py.ExternalLink("/etc/passwd", "/"), h5py.SoftLink("/layers")):
        with h5py.File(path, "a") as file:
            file["layers/other"] = link
        with pytest.raises(CorruptFile, match="layers/other: keeps a weight in another file"):
            contents(path, "place")
        with h5py.File(path, "a") as file:
            del file["layers/other"]


def test_a_group_that_holds_itself_has_an_end(path: Path) -> None:
    """Two links to itself were 2^64 ways through the file, until the budget was spent."""
    with h5py.File(path, "a") as file:
        file["layers/again"] = file["layers/more"] = file["layers"]
    with pytest.raises(CorruptFile, match="layers/again: has one group in several places"):
        contents(path, "place", isolated=False)


def test_a_crash_of_the_library_is_an_error(tmp_path: Path) -> None:
    """A file that crashed libhdf5 2.0; another version may just read it."""
    damaged = tmp_path / "damaged.h5"
    text = (CORPUS / "segv.h5.txt").read_text()
    damaged.write_bytes(zlib.decompress(base64.b64decode(text)))
    with suppress(CorruptFile):
        contents(damaged, str(damaged))


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_members_that_unpack_to_gigabytes(member: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            content = b" " * 2**28 if name == member else b"{}"
            archive.writestr(name, content)
    found = opened(path, "bytes=64M")
    assert found.startswith("LimitExceeded"), found
    assert f"the unpacked {member!r}" in found


def test_each_changed_byte_of_an_archive_is_an_error_of_ours(tmp_path: Path) -> None:
    """zipfile raises NotImplementedError, UnicodeDecodeError and others."""
    from sofie_rdf import check

    path = tmp_path / "small.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", b"[]")
        archive.writestr("model.weights.h5", b"")
    whole = path.read_bytes()
    for position in range(len(whole)):
        for byte in {0, 0x7F, 0x80, 0xFF, whole[position] ^ 1} - {whole[position]}:
            path.write_bytes(whole[:position] + bytes([byte]) + whole[position + 1 :])
            (problem,) = check(path)
            assert "please report it" not in str(problem)
