"""ONNX files that are damaged, or not all there: each is read as it is meant, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import sofie_rdf as sofie
from sofie_rdf.errors import (
    CorruptFile,
    LimitExceeded,
    ModelError,
    SofieError,
    UnsupportedOperator,
)
from sofie_rdf.frontends.onnx.reader import check, read
from sofie_rdf.ir.types import concrete
from sofie_rdf.ir.verify import verify
from sofie_rdf.reference import evaluate
from tests.choice import some_of
from tests.frontends.models import (
    FLOAT,
    NEWEST,
    initializer,
    model,
    node,
    numbers,
    refuse,
    value,
)

HIGGS = Path(__file__).resolve().parents[2] / "data" / "higgs.onnx"


# Weights ------------------------------------------------------------------------------------------


def scaled(weight: Any) -> onnx.ModelProto:
    return model([node("Mul", "x w", "y")], {"x": ["N", 4]}, "y", [weight])


def test_weights_that_hold_nan_or_too_few_bytes() -> None:
    error = refuse(scaled(initializer("w", [1, np.nan, 2, 3])), CorruptFile, "'w'", "NaN")
    assert "diverged" in error.remedy
    short = initializer("w", [1, 2, 3, 4])
    short.raw_data = short.raw_data[:-3]
    refuse(scaled(short), CorruptFile, "'w'", "[4]")
    long = initializer("w", [1, 2, 3, 4])
    long.raw_data = long.raw_data + b"\0" * 4
    refuse(scaled(long), CorruptFile, "'w'")
    negative = initializer("w", [1, 2, 3, 4])
    negative.dims[0] = -4
    refuse(scaled(negative), CorruptFile, "'w'")
    huge = initializer("w", [1, 2, 3, 4])
    huge.dims[0] = 2**62
    refuse(scaled(huge), CorruptFile, "'w'")
    typed = TensorProto(name="w", data_type=FLOAT, dims=[4], float_data=[1, 2])
    refuse(scaled(typed), CorruptFile, "'w'")
    nameless = initializer("", [1, 2, 3, 4])
    refuse(scaled(nameless), SofieError)
    strange = TensorProto(name="w", data_type=77, dims=[4])
    refuse(scaled(strange), UnsupportedOperator, "'w'", "77")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64", "uint8", "bool"])
def test_weights_of_every_storage(dtype: str) -> None:
    array = np.array([0, 1, 1, 0]).astype(dtype)
    raw = numpy_helper.from_array(array, "w")
    listed = helper.make_tensor("w", raw.data_type, [4], array.tolist())
    for tensor in (raw, listed):
        graph = read(model([node("Identity", "w", "y")], {}, "y", [tensor]))
        np.testing.assert_array_equal(graph.constants["w"], array)
        assert graph.constants["w"].dtype == array.dtype
        assert not graph.constants["w"].flags.writeable


def stored_beside(folder: Path) -> Path:
    proto = scaled(initializer("w", np.arange(4)))
    path = folder / "net.onnx"
    onnx.save_model(
        proto,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="net.bin",
        size_threshold=0,
    )
    return path


def test_weights_in_a_file_beside(tmp_path: Path) -> None:
    graph = read(stored_beside(tmp_path))
    np.testing.assert_array_equal(graph.constants["w"], np.arange(4, dtype=np.float32))


def test_two_weights_in_one_file_beside(tmp_path: Path) -> None:
    """The second one begins at an offset."""
    weights = {"v": numbers(7), "w": numbers(3, 7)}
    proto = model([node("Add", "v w", "y")], {}, "y", weights)
    path = tmp_path / "net.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location="two.bin", size_threshold=0)
    graph = read(path)
    for name, array in weights.items():
        np.testing.assert_array_equal(graph.constants[name], array)


def test_weights_in_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = stored_beside(tmp_path)
    content = path.read_bytes()
    (tmp_path / "net.bin").unlink()
    error = refuse(path, CorruptFile, "net.bin", "net.onnx")
    assert "beside" in error.remedy
    # Bytes have no folder in which other files could be.
    refuse(content, CorruptFile, "'w'")
    refuse(onnx.load(path, load_external_data=False), CorruptFile, "'w'")


def test_weights_in_a_file_that_is_too_short(tmp_path: Path) -> None:
    path = stored_beside(tmp_path)
    (tmp_path / "net.bin").write_bytes(b"\0" * 5)
    refuse(path, CorruptFile)


def test_weights_outside_of_the_folder(tmp_path: Path) -> None:
    path = stored_beside(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    (tmp_path / "secret").write_bytes(b"\0" * 16)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../secret"
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "net.onnx").write_bytes(proto.SerializeToString())
    refuse(inner / "net.onnx", CorruptFile)


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("offset", "4"),
        ("offset", "-4"),
        ("offset", "x"),
        ("offset", str(2**70)),
        ("length", "4"),
        ("length", "-9"),
        ("length", str(2**50)),
        ("offset", str(2**63)),
        ("length", str(2**70)),
        ("location", ""),
        ("location", "/etc/passwd"),
        ("location", "."),
        # These were read, as what the C library or Python makes of them.
        ("location", "net.bin\0x"),
        ("offset", " 0"),
        ("offset", "+0"),
        ("length", "١٦"),
        ("length", "1_6"),
    ],
)
def test_odd_descriptions_of_a_file_beside(tmp_path: Path, key: str, content: str) -> None:
    path = stored_beside(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    entries = proto.graph.initializer[0].external_data
    (entry,) = [e for e in entries if e.key == key]
    entry.value = content
    path.write_bytes(proto.SerializeToString())
    refuse(path, CorruptFile)


@pytest.mark.parametrize("key", ["location", "offset", "length"])
def test_a_file_beside_that_is_described_twice(tmp_path: Path, key: str) -> None:
    path = stored_beside(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    entries = proto.graph.initializer[0].external_data
    entries.add().CopyFrom(next(entry for entry in entries if entry.key == key))
    path.write_bytes(proto.SerializeToString())
    refuse(path, CorruptFile, "unclear", "'w'")


# Files --------------------------------------------------------------------------------------------


def test_files_that_are_not_there(tmp_path: Path) -> None:
    refuse(tmp_path / "none.onnx", ModelError, "none.onnx")
    refuse(tmp_path, ModelError)


@pytest.mark.parametrize("content", [b"", b"\0", b"ONNX", b"\x08\x09", b"root", bytes(1000)])
def test_bytes_that_are_no_model(content: bytes) -> None:
    refuse(content, CorruptFile)


def test_a_proto_without_graph() -> None:
    refuse(onnx.ModelProto(), CorruptFile, "no ONNX graph")
    refuse(model([node("Neg", "x", "y")], {"x": [1]}, ""), CorruptFile, "no ONNX graph")


def test_names_that_are_no_text() -> None:
    proto = model([node("Neg", "x", "yyyy", "nnnn")], {"x": [1]}, "yyyy")
    for name in (b"yyyy", b"nnnn", b"test"):
        damaged = proto.SerializeToString().replace(name, b"\xff\xfe" + name[2:])
        refuse(damaged, CorruptFile, "no text")
        refuse(onnx.ModelProto.FromString(damaged), CorruptFile, "no text")


def survives(content: bytes) -> None:
    """Whatever the bytes are: a graph, or a SofieError; `check` never raises."""
    try:
        verify(read(content))
    except SofieError:
        assert check(content)
    else:
        assert not check(content)


def test_truncated_files() -> None:
    content = HIGGS.read_bytes()
    for length in range(0, len(content), 997):
        with pytest.raises(SofieError):
            read(content[:length])
        survives(content[:length])


@pytest.mark.parametrize("share", some_of([1, 4], [4]))
def test_flipped_bits(share: int) -> None:
    """All over the file, and densely where it describes the graph; or a fourth of that."""
    content, random = HIGGS.read_bytes(), np.random.default_rng(4)
    described = content.find(b"features")
    near = np.arange(len(content) - 1500, len(content))
    for place in [
        *random.integers(0, len(content), 160 // share),
        *random.choice(near, 400 // share),
        *range(0, described, share),
    ]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        survives(bytes(damaged))


def test_bytes_in_the_place_of_others() -> None:
    proto = model(
        [
            node("Gemm", "x w b", "h", alpha=0.5, transB=0),
            node("Clip", "h lo hi", "c"),
            node("Reshape", "c s", "r"),
            node("Transpose", "r", "t", perm=[1, 0]),
            node("Concat", "t t", "k", axis=1),
            node("Constant", "", "f", value_floats=[1.0, 2.0]),
            node("Softmax", "k", "y", axis=0),
        ],
        {"x": ["N", 3]},
        "y f",
        {
            "w": numbers(3, 2),
            "b": numbers(2),
            "lo": np.array(0, np.float32),
            "hi": np.array(1, np.float32),
            "s": np.array([-1, 2]),
        },
    )
    content, random = proto.SerializeToString(), np.random.default_rng(5)
    verify(read(content))
    for _ in range(500):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), random.integers(1, 4)):
            damaged[place] = int(random.integers(256))
        survives(bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(content: bytes) -> None:
    survives(content)


ATTRIBUTES: st.SearchStrategy[Any] = st.one_of(
    st.integers(-(2**40), 2**40),
    st.floats(width=32),
    st.text(max_size=5),
    st.lists(st.integers(-9, 9), max_size=4),
    st.lists(st.floats(width=32), min_size=1, max_size=3),
    st.lists(st.text(max_size=3), min_size=1, max_size=2),
    st.just(numpy_helper.from_array(np.ones((2, 2), np.float32))),
)


NAMES = (
    "Clip Softmax Dropout Constant BatchNormalization Gemm Reshape Squeeze Unsqueeze Transpose "
    "Concat Cast Elu Mod BitShift Gelu Where Flatten Max Pow IsInf LogSoftmax MatMul If"
).split()


KEYS = [
    *"axis axes alpha perm to shape min max epsilon value value_ints value_float".split(),
    *"direction approximate spatial transA ratio allowzero".split(),
    "",
]


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    inputs=st.lists(st.sampled_from(["x", "i", "c", "s", "t", "", "z"]), max_size=6),
    outputs=st.lists(st.sampled_from(["y", "z", "", "x"]), max_size=3),
    attributes=st.dictionaries(st.sampled_from(KEYS), ATTRIBUTES, max_size=3),
    opset=st.sampled_from([7, 9, 11, 13, 17, NEWEST]),
)
def test_any_node_is_read_or_refused(
    name: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any], opset: int
) -> None:
    made = helper.make_node(name, inputs, outputs)
    for key, given_ in attributes.items():
        kind = onnx.AttributeProto.INTS if given_ == [] else None
        made.attribute.append(helper.make_attribute(key, given_, attr_type=kind))
    weights = {"c": np.array([1, 2]), "s": np.array(1.5, np.float32), "t": numbers(2, 3)}
    proto = model(
        [made],
        [value("x", ["N", 3]), value("i", [2, 3], TensorProto.INT32)],
        "y",
        weights,
        opset=opset,
    )
    survives(proto.SerializeToString())
    survives_as_proto(proto)


def survives_as_proto(proto: onnx.ModelProto) -> None:
    try:
        read(proto)
    except SofieError:
        assert check(proto)


def test_what_is_left_of_a_damaged_file_can_be_evaluated() -> None:
    """No exception but SofieError, when reading nor when evaluating."""
    content, random = HIGGS.read_bytes(), np.random.default_rng(6)
    loaded, refusals = 0, list[str]()
    near = len(content) - 1500
    for place in [
        *random.integers(0, len(content), 150),
        *random.integers(near, len(content), 150),
    ]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        try:
            graph = read(bytes(damaged))
            shapes = {
                i: concrete(graph.types[i].shape, dict.fromkeys(graph.symbols, 2))
                for i in graph.inputs
            }
            feeds = {i: np.ones(s, graph.types[i].dtype.numpy) for i, s in shapes.items()}
            assert len(evaluate(graph, feeds)) == len(graph.outputs)
            loaded += 1
        except SofieError as error:
            refusals.append(str(error))
    assert 100 < loaded < 300
    assert refusals
    assert not [r for r in refusals if "makes no sense" in r], "accidents, not refusals"


def test_files_with_weights_enlarge_what_a_model_may_cost(tmp_path: Path) -> None:
    """A model of a gigabyte may be a file of a kilobyte with another one beside it."""
    path, wide = tmp_path / "m.onnx", np.zeros((1000, 1000), np.float32)
    proto = model([node("MatMul", "x w", "y")], {"x": ["N", 1000]}, "y", {"w": wide})
    onnx.save_model(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert sofie.load(path)._file.allowed.size >= wide.nbytes


def test_weights_that_all_are_the_same_bytes_of_a_file_are_paid_for(tmp_path: Path) -> None:
    path, wide = tmp_path / "m.onnx", np.zeros((1000, 1000), np.float32)
    proto = model([node("Identity", "x", "y")], {"x": ["N", 1000]}, "y", {"w": wide})
    onnx.save_model(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    for number in range(100):
        again = proto.graph.initializer.add()
        again.CopyFrom(proto.graph.initializer[0])
        again.name = f"w{number}"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(LimitExceeded, match="weights in other files would take"):
        sofie.load(path, limits="bytes=100M")
