"""Files of other programs are called by their names, with what to do."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from onnx import TensorProto, helper

import sofie_rdf as sofie
from sofie_rdf.frontends.foreign import FOREIGN

_HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
FILES = {
    "cbm": ("m.cbm", b"CBM1\x10\0\0\0rest"),
    "catboost": ("m.json", b'{\n"features_info":{},"oblivious_trees":[]}'),
    "tflite": ("m.tflite", b"\x1c\0\0\0TFL3\x14\0"),
    "savedmodel": ("saved_model.pb", b"\x08\x01\x12\x04\x0a\x02\x0a\0"),
    "graphdef": ("frozen.pb", b"\n\x12\n\x01x\x12\x0bPlaceholder*\0"),
    "safetensors": ("m.safetensors", struct.pack("<Q", len(_HEADER)) + _HEADER + bytes(4)),
    "gguf": ("m.gguf", b"GGUF\x03\0\0\0"),
    "pmml": ("m.pmml", b'<?xml version="1.0"?>\n<PMML version="4.4"></PMML>'),
    "coreml": ("m.mlmodel", b"\x08\x04\x12\x02\x0a\0"),
    "numpy": ("m.npy", b"\x93NUMPY\x01\0"),
    "onnxdata": ("m.onnx.data", bytes(range(64))),
    "kerasjson": ("m.json", b'{"class_name": "Sequential", "config": {}}'),
    "page": ("m.onnx", b"\n<!DOCTYPE html><html></html>"),
    "lfs": ("m.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "xml": ("m.xml", b"<other/>"),
    "json": ("m.json", b'{"something": 1}'),
}


def test_each_kind_has_a_file() -> None:
    assert FILES.keys() == FOREIGN.keys()


@pytest.mark.parametrize("kind", FOREIGN)
def test_they_are_named_with_advice(tmp_path: Path, kind: str) -> None:
    name, content = FILES[kind]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(sofie.UnsupportedFormat) as error:
        sofie.load(path)
    about, remedy = FOREIGN[kind]
    assert about in str(error.value)
    assert remedy in str(error.value)
    assert name in str(error.value)
    (problem,) = sofie.check(path)
    assert about in str(problem)


@pytest.mark.parametrize("name", ["m.pb", "m.data", "m.json", "m.tflite"])
def test_onnx_under_other_names_is_read(tmp_path: Path, name: str) -> None:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    (tmp_path / name).write_bytes(helper.make_model(graph).SerializeToString())
    assert sofie.load(tmp_path / name).name == "m"


def test_catboost_with_categories(tmp_path: Path) -> None:
    """Their tables fill what is looked at of the file."""
    path = tmp_path / "m.json"
    path.write_bytes(b'{"ctr_data":{"a":{"hash_map":[' + b"1," * 9000 + b"1]}}}")
    with pytest.raises(sofie.UnsupportedFormat, match=r"CatBoost.*onnx"):
        sofie.load(path)
