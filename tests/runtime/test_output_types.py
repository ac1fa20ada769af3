"""What a model's outputs are as columns: types that files, NumPy, uproot and awkward all have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward
import numpy as np
import onnx.parser
import pytest
import uproot

import sofie_rdf as sofie

ROOT = pytest.importorskip("ROOT")

# The element type of ONNX, and the type of the column: C++'s and NumPy's.
TYPES = {
    "float": ("float", "float32"),
    "double": ("double", "float64"),
    "bfloat16": ("float", "float32"),
    # ROOT crashes on a signed char in a TTree, and AsNumpy on a char.
    "int8": ("short", "int16"),
    "int32": ("int", "int32"),
    "int64": ("long", "int64"),
    "uint8": ("unsigned char", "uint8"),
    "bool": ("bool", "bool"),
}


@pytest.fixture(scope="module")
def scored() -> Any:
    """s_TYPE is a number, v_TYPE an RVec of rdfentry_ numbers."""
    numbers = onnx.TensorProto.DataType
    outputs = ", ".join(f"{t}[N, 1] {t}_" for t in TYPES)
    nodes = "".join(f"{t}_ = Cast<to = {numbers.Value(t.upper())}>(x) " for t in TYPES)
    head = '<ir_version: 9, opset_import: ["": 17]>'
    df = ROOT.RDataFrame(3).Define("x", "float(rdfentry_)").Define("v", "ROOT::RVecF(rdfentry_, 1)")
    text = f"{head} casts (float[N, 1] x) => ({outputs}) {{ {nodes} }}"
    model = sofie.from_onnx(onnx.parser.parse_model(text))
    for prefix, column in (("s", "x"), ("v", "v")):
        df = sofie.define(df, {f"{prefix}_{t}": f"{t}_" for t in TYPES}, model, [column])
    return df


def test_types(scored: Any) -> None:
    table = scored.AsNumpy(["s_int8", "s_bool"])
    for name, (cxx, numpy) in TYPES.items():
        assert scored.GetColumnType(f"s_{name}") == cxx
        assert scored.GetColumnType(f"v_{name}") == f"ROOT::VecOps::RVec<{cxx}>"
        if f"s_{name}" in table:
            assert table[f"s_{name}"].dtype == numpy
            assert table[f"s_{name}"].tolist() == np.arange(3).astype(numpy).tolist()


@pytest.mark.parametrize("format", ["kTTree", "kRNTuple"])
def test_files(scored: Any, tmp_path: Path, format: str) -> None:
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = getattr(ROOT.RDF.ESnapshotOutputFormat, format)
    path = str(tmp_path / "scored.root")
    columns = [f"{prefix}_{name}" for name in TYPES for prefix in "sv"]
    again = scored.Filter("x != 1").Snapshot("t", path, columns, options)
    with uproot.open(path) as file:
        arrays = file["t"].arrays(columns)
    for name, (cxx, numpy) in TYPES.items():
        numbers = np.array([0, 2]).astype(numpy)
        assert arrays[f"s_{name}"].to_list() == numbers.tolist()
        assert arrays[f"v_{name}"].to_list() == [[], np.ones(2, numpy).tolist()]
        for prefix in "sv":
            found = arrays[f"{prefix}_{name}"]
            assert awkward.flatten(found, axis=None).type.content.primitive == numpy, prefix
        # What has been written is read by the next model.
        assert again.GetColumnType(f"v_{name}").startswith("ROOT::VecOps::RVec<"), cxx


def test_smallest_and_largest() -> None:
    """int8 in columns of short keep their numbers."""
    text = "same (int8[N, 2] x) => (int8[N, 2] y) { y = Identity(x) }"
    model = sofie.from_onnx(
        onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> {text}')
    )
    df = ROOT.RDataFrame(1).Define("a", "-128").Define("b", "char(127)")
    found = sofie.define(df, "y", model, ["a", "b"]).AsNumpy(["y"])["y"]
    assert list(found[0]) == [-128, 127]


def test_integers_take_integers() -> None:
    """A number that would be cut, and a default that no integer is, are errors before the loop."""
    text = "same (int32[N, 2] x) => (int32[N, 2] y) { y = Identity(x) }"
    model = sofie.from_onnx(
        onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> {text}')
    )
    df = ROOT.RDataFrame(2).Define("i", "int(rdfentry_)").Define("f", "i + 0.5f")
    df = df.Define("v", "ROOT::RVecD{1.5, 2}")

    def refused(columns: list[Any], **options: Any) -> str:
        with pytest.raises(sofie.ColumnError) as caught:
            sofie.define(df, "y", model, columns, output="y[1]", **options)
        return str(caught.value)

    assert "'f' is float, and input 'x' takes int32" in refused(["i", "f"])
    assert "'int(f)'" in refused(["i", "f"])
    assert "'ROOT::RVecI(v)'" in refused(["i", "v"])
    assert "takes int32, and 0.5 is none" in refused(["i", 0.5])
    assert "takes int32, and 3000000000.0 is none" in refused(["i", 3_000_000_000])
    assert "'y' is int32, and nan is none" in refused(["i", 1], where="i > 0")
    assert "'y' is int32, and 0.5 is none" in refused(["i", 1], where="i > 0", default=0.5)
    found = sofie.define(df, "y", model, ["i", "int(f)"], output="y[1]", where="i > 0", default=-7)
    assert found.AsNumpy(["y"])["y"].tolist() == [-7, 1]
    largest = sofie.define(df, "y", model, ["i", 0], output="argmax(y)", where="i < 1", default=-1)
    assert largest.AsNumpy(["y"])["y"].tolist() == [0, -1]
