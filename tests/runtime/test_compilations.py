"""How often `define` has the interpreter compile: once for each model and types of columns."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import onnx.parser
import pytest

import sofie_rdf as sofie
from sofie_rdf.runtime.compile import interpreter
from tests.runtime.counted import Counting

ROOT = pytest.importorskip("ROOT")

PAIR = """
<ir_version: 9, opset_import: ["": 17]>
pair (float[N, 2] x) => (float[N, 2] y, float[N, 2] z) { y = Neg(x) z = Exp(x) }"""


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the interpreter is told from now on."""
    told: list[str] = []
    own = interpreter._declare_quietly

    def noted(text: str) -> tuple[bool, str]:
        told.append(text)
        return own(text)

    monkeypatch.setattr(interpreter, "_declare_quietly", noted)
    return told


def frame() -> Any:
    df = ROOT.RDataFrame(4).Define("a", "float(rdfentry_)").Define("b", "a + 1")
    df = df.Define("d", "double(a)").Define("va", "ROOT::RVecF{a, b}").Define("vb", "va + 1")
    return df.Define("vd", "ROOT::RVecD(2)")


def resident() -> float:
    """The memory of this process, in megabytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def test_once_for_each_model_and_types(compiled: list[str]) -> None:
    model = sofie.from_onnx(onnx.parser.parse_model(PAIR))
    _ = model.compiled
    sofie.define(frame(), "y", model, ["a", "a"], output="y[0]")
    compiled.clear()

    def texts(columns: list[Any], column: Any = "y", **options: Any) -> int:
        before = len(compiled)
        output = {} if isinstance(column, dict) else {"output": "y[0]"}
        sofie.define(frame(), column, model, columns, **output, **options)
        return len(compiled) - before

    assert texts(["a", "b"]) == 1
    # Other columns of these types, in other frames, under other names, and another model of the
    # same code.
    assert texts(["b", "a"]) == 0
    assert texts(["a + 1", "b * 2"], "z") == 0
    again = sofie.from_onnx(onnx.parser.parse_model(PAIR))
    sofie.define(frame(), "y", again, ["a", "b"], output="y[0]")
    assert len(compiled) == 1
    # Constants, defaults and names for messages are no part of the code.
    assert [texts(["a", value]) for value in (1, 2.5, float("nan"))] == [1, 0, 0]
    assert [texts(["a", "b"], where="a > 1", default=value) for value in (0, -1)] == [1, 0]
    assert [texts([v, "vb"], nan="error") for v in ("va", "vb * 2", "va + 1")] == [1, 0, 0]
    assert [texts(["va", "vb"], nan=value) for value in (0, 7)] == [1, 0]
    # Other types are other code.
    assert [texts(["a", "d"]), texts(["a", "d"]), texts(["va", "vd"])] == [1, 0, 1]
    both = [texts(["a", "b"], {f"y{k}": "y[0]", f"z{k}": "argmax(z)"}) for k in range(3)]
    assert both == [1, 0, 0]
    assert len(compiled) == 8


def test_a_hundred_columns_of_a_model_need_no_memory(
    counting: Counting, compiled: list[str]
) -> None:
    model = counting.model

    def many(count: int) -> Any:
        df = frame()
        for i in range(count):
            where = {"where": "a < 2", "default": i}
            df = sofie.define(df, f"s{i}", model, ["a"], **where)
            df = sofie.define(df, f"v{i}", model, ["va"])
            df = sofie.define(df, {f"p{i}": "y", f"q{i}": "y[0]"}, model, ["a + b"])
        return df

    for _ in range(2):
        assert many(2).Sum("s1").GetValue() == 1 + 2
    texts, before = len(compiled), resident()
    for i in range(100):
        df = many(1)
        if i % 10 == 0:
            assert df.Define("s", "s0 + p0").Sum("s").GetValue() == 17
    # Not more in one frame, which ROOT itself keeps in mind.
    assert many(15).Sum("s14").GetValue() == 1 + 2 * 14
    assert len(compiled) == texts
    # To compile one column again takes about 1 MB.
    assert resident() - before < 4
