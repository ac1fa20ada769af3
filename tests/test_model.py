"""Model: evaluating, naming, saving and emitting, and what it refuses."""

from __future__ import annotations

import gc
import re
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sofie_rdf as sofie
from sofie_rdf import frontends
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.naming import with_names
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.elementwise import Relu
from sofie_rdf.reference import evaluate

HIGGS = Path(__file__).resolve().parents[1] / "data" / "higgs.onnx"
FLOAT = TensorProto.FLOAT


def events(n: int, features: int = 7, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(n, features)).astype(np.float32)


def network(*, scale: float = 1.0, name: str = "net", batch: Any = "N", wide: int = 5) -> bytes:
    """y = relu(x @ w + b) * x, of which w depends on ``scale`` and nothing else does."""
    random = np.random.default_rng(3)
    w = (random.normal(size=(wide, wide)) * scale).astype(np.float32)
    b = random.normal(size=wide).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Mul", ["r", "x"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", FLOAT, [batch, wide])],
        [helper.make_tensor_value_info("y", FLOAT, [batch, wide])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def expected(content: bytes, x: Any) -> Any:
    ort = pytest.importorskip("onnxruntime")
    (y,) = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    return y


@pytest.fixture(scope="module")
def higgs() -> sofie.Model:
    return sofie.load(HIGGS)


def test_inputs_outputs_and_name(higgs: sofie.Model) -> None:
    assert higgs.name == "higgs"
    assert {n: str(t) for n, t in higgs.inputs.items()} == {"features": "float32[N, 7]"}
    assert {n: str(t) for n, t in higgs.outputs.items()} == {"score": "float32[N, 1]"}


def test_the_passes_leave_five_dense_layers(higgs: sofie.Model) -> None:
    (node,) = higgs.optimized
    assert node.op.name == "DenseLayers"
    assert len(node.inputs) == 1 + 2 * 5


def test_summary_says_what_there_is(higgs: sofie.Model) -> None:
    text = str(higgs)
    for part in ("features: float32[N, 7]", "score: float32[N, 1]", "14,095", "12,800", "opset"):
        assert part in text, part


def test_numbers_are_those_of_onnxruntime(higgs: sofie.Model) -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(HIGGS), providers=["CPUExecutionProvider"])
    for n in (1, 3, 0, 64, 5, 1000, 1):
        x = events(n, seed=n)
        (y,) = session.run(None, {"features": x})
        found = higgs(x)
        assert found.shape == (n, 1)
        np.testing.assert_allclose(found, y, atol=3e-7)


def test_a_result_does_not_depend_on_the_batch(higgs: sofie.Model) -> None:
    x = events(100)
    together = higgs(x)
    for i in (0, 1, 50, 99):
        np.testing.assert_array_equal(higgs(x[i : i + 1])[0], together[i])
    np.testing.assert_array_equal(higgs(x[:7]), together[:7])


def test_ways_to_give_inputs(higgs: sofie.Model) -> None:
    x = events(4)
    for y in (higgs(features=x), higgs({"features": x}), higgs(x[::1]), higgs(x.tolist())):
        np.testing.assert_array_equal(y, higgs(x))
    strided = np.asfortranarray(x)
    np.testing.assert_array_equal(higgs(strided), higgs(x))


def test_a_call_reads_nothing_of_the_model_again(
    higgs: sofie.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.ones((2, 7), np.float32)
    expected = higgs(x)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a call of a model parses or inspects")

    monkeypatch.setattr("json.loads", refuse)
    monkeypatch.setattr("inspect.Signature.bind", refuse)
    np.testing.assert_array_equal(higgs(x), expected)
    np.testing.assert_array_equal(higgs({higgs.graph.inputs[0]: x}), expected)


def test_threads_get_the_same_numbers(higgs: sofie.Model) -> None:
    batches = [events(n, seed=n) for n in (1, 17, 64, 3)] * 4
    wanted = [higgs(x) for x in batches]
    found: list[Any] = [None] * len(batches)

    def work(start: int) -> None:
        for _ in range(20):
            for i in range(start, len(batches), 4):
                found[i] = higgs(batches[i])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "named", "words"),
    [
        ((np.zeros(7, np.float32),), {}, "x[np.newaxis]"),
        ((np.zeros((2, 6), np.float32),), {}, "axis 1 is 6 and not 7"),
        ((np.zeros((2, 7)),), {}, ".astype('float32')"),
        ((np.zeros((2, 7), np.int64),), {}, "int64"),
        ((np.zeros((2, 7), complex),), {}, "complex128"),
        ((["a"],), {}, "float32 is needed"),
        (([[1.0], [1.0, 2.0]],), {}, "no array"),
        ((), {}, "missing"),
        ((1, 2), {}, "takes 1 arrays, not 2"),
        ((), {"featurs": 1}, "Did you mean 'features'?"),
        ((1,), {"features": 1}, "given twice"),
    ],
)
def test_wrong_inputs(higgs: sofie.Model, arguments: Any, named: Any, words: str) -> None:
    with pytest.raises(sofie.InputError) as error:
        higgs(*arguments, **named)
    assert words in str(error.value)


def test_two_models_of_one_name_in_one_process() -> None:
    first, second = network(scale=1), network(scale=2)
    models = [sofie.from_onnx(c, name="net") for c in (first, second)]
    other = sofie.from_onnx(network(scale=1, wide=6), name="net")
    x = events(3, 5)
    for model, content in zip(models, (first, second), strict=True):
        np.testing.assert_allclose(model(x), expected(content, x), rtol=1e-5, atol=1e-6)
    assert other(events(2, 6)).shape == (2, 6)
    # The same code with other weights is compiled once.
    assert models[0].compiled.emission.namespace == models[1].compiled.emission.namespace
    assert models[0].compiled.emission.namespace != other.compiled.emission.namespace


@pytest.mark.parametrize("name", ["my-model 2", "class", "1x", "模型", "a/b", "x" * 300, "std"])
def test_names_that_are_no_identifiers(name: str, tmp_path: Path) -> None:
    content = network()
    model = sofie.from_onnx(content, name=name)
    x = events(2, 5)
    np.testing.assert_allclose(model(x), expected(content, x), rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "m.root")
    assert sofie.load(tmp_path / "m.root").name == name


def test_a_fixed_batch_is_compiled_fixed() -> None:
    content = network(batch=3)
    model = sofie.from_onnx(content)
    assert "N" not in model.graph.symbols
    assert "sofie::dyn" not in model.emission.header
    x = events(3, 5)
    np.testing.assert_allclose(model(x), expected(content, x), rtol=1e-5, atol=1e-6)
    with pytest.raises(sofie.InputError, match="axis 0 is 2 and not 3"):
        model(events(2, 5))


def test_shapes_free_or_fix_an_axis() -> None:
    freed = sofie.from_onnx(network(batch=3), shapes={"x": ("N", 5)})
    assert freed(events(2, 5)).shape == (2, 5)
    fixed = sofie.from_onnx(network(), shapes={"x": (2, None)})
    assert str(fixed.inputs["x"]) == "float32[2, 5]"
    with pytest.raises(sofie.InputError, match="no input"):
        sofie.from_onnx(network(), shapes={"y": (2, 5)})


def test_several_outputs_come_by_name() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Greater", ["a", "b"], ["more"]),
            helper.make_node("Identity", ["a"], ["same"]),
        ],
        "two",
        [
            helper.make_tensor_value_info("a", FLOAT, ["N", 2]),
            helper.make_tensor_value_info("b", FLOAT, ["N", 2]),
        ],
        [
            helper.make_tensor_value_info("sum", FLOAT, ["N", 2]),
            helper.make_tensor_value_info("more", TensorProto.BOOL, ["N", 2]),
            helper.make_tensor_value_info("same", FLOAT, ["N", 2]),
        ],
    )
    model = sofie.from_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    a, b = events(3, 2), events(3, 2, seed=1)
    found = model(a, b=b)
    np.testing.assert_array_equal(found["sum"], a + b)
    np.testing.assert_array_equal(found["more"], a > b)
    np.testing.assert_array_equal(found["same"], a)
    with pytest.raises(sofie.InputError, match=r"with the sizes|N = 3"):
        model(a, events(2, 2))


@pytest.mark.parametrize(
    ("op", "attributes", "refused"),
    [
        ("MaxPool", {"kernel_shape": [3], "strides": [2]}, range(3)),
        ("AveragePool", {"kernel_shape": [2], "pads": [1, 0], "strides": [2]}, range(1)),
        ("Conv", {"dilations": [2]}, range(5)),
        # 2 is fine, and gives nothing.
        ("ConvTranspose", {"pads": [2, 2]}, range(2)),
    ],
)
def test_windows_that_do_not_fit_into_a_dynamic_axis(
    op: str, attributes: dict[str, Any], refused: range
) -> None:
    """Never a result that is not there: a mean of nothing would look like one."""
    weights = [numpy_helper.from_array(np.ones((2, 2, 3), np.float32), "w")] if "Conv" in op else []
    graph = helper.make_graph(
        [
            helper.make_node(op, ["x", *(w.name for w in weights)], ["y"], **attributes),
            helper.make_node("GlobalAveragePool", ["y"], ["mean"]),
        ],
        "pool",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 2, "n"])],
        [helper.make_tensor_value_info("mean", FLOAT, None)],
        weights,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model = sofie.from_onnx(proto)
    for size in (len(refused) + 1, len(refused) + 5):
        x = np.ones((3, 2, size), np.float32)
        np.testing.assert_allclose(model(x), evaluate(model.graph, {"x": x})["mean"], rtol=1e-6)
    for size in refused:
        with pytest.raises(sofie.InputError, match="needs"):
            model(np.ones((3, 2, size), np.float32))


def test_sources_of_every_kind() -> None:
    content = network()
    proto = onnx.load_from_string(content)
    x = events(2, 5)
    for model in (sofie.from_onnx(content), sofie.from_onnx(proto), sofie.from_onnx(str(HIGGS))):
        assert model.graph.nodes
    np.testing.assert_array_equal(sofie.from_onnx(content)(x), sofie.from_onnx(proto)(x))


def test_load_recognises_by_content(tmp_path: Path) -> None:
    renamed = tmp_path / "model.root"
    renamed.write_bytes(HIGGS.read_bytes())
    assert sofie.load(renamed).name == "model"
    stored = tmp_path / "higgs.onnx"
    sofie.load(HIGGS).save(stored)
    assert sofie.load(stored).name == "higgs"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"PK\x03\x04 no archive", "damaged zip"),
        (b"root of all evil" * 9, "truncated"),
        (b"just text", "no ONNX file"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises((sofie.CorruptFile, sofie.UnsupportedFormat)) as error:
        sofie.load(path)
    assert words in str(error.value)
    assert "model.onnx" in str(error.value)
    (problem,) = sofie.check(path)
    assert words in str(problem)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"root....", "root"),
        (b"\x89HDF\r\n\x1a\n....", "h5"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b'{"learner":{"attributes":{}', "xgboost"),
        (b"{L\0\0\0\0\0\0\0\x07learner{", "xgboost"),
        (b"tree\nversion=v4\n", "lightgbm"),
        (b"\x08\x0a\x12\x07pytorch", "onnx"),
    ],
)
def test_formats_by_content(tmp_path: Path, head: bytes, kind: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(head)
    assert frontends.recognise(path) == kind


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        (["config.json", "model.weights.h5"], "keras"),
        (["m/data.pkl", "m/code/__torch__.py", "m/constants.pkl"], "torchscript"),
        (["m/models/model.json", "m/data/weights/weight_0"], "pt2"),
        (["m/data.pkl", "m/data/0"], "torch"),
    ],
)
def test_archives_by_their_members(tmp_path: Path, members: list[str], kind: str) -> None:
    path = tmp_path / "model"
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, "")
    assert frontends.recognise(path) == kind


def test_options_are_for_some_formats() -> None:
    with pytest.raises(sofie.InputError, match="custom_objects= means nothing for an ONNX file"):
        sofie.load(HIGGS, custom_objects={"MyLayer": lambda: None})


def test_a_missing_file() -> None:
    with pytest.raises(sofie.ModelError, match="No such file"):
        sofie.load("nothing.onnx")
    (problem,) = sofie.check("nothing.onnx")
    assert "nothing.onnx" in str(problem)


def test_check_lists_everything() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("GridSampel", ["x", "x"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["b"], name="between"),
            helper.make_node("Sofmax", ["b"], ["c"], name="second"),
            helper.make_node("Elu", ["x"], ["d"], apha=1.0, name="third"),
            helper.make_node("Add", ["x", "nowhere"], ["y"], name="fourth"),
        ],
        "bad",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    texts = [str(p) for p in sofie.check(model)]
    assert len(texts) == 4, texts
    for words in (
        "'first'",
        "'second'",
        "'third'",
        "'fourth'",
        "Did you mean 'Softmax'",
        "'alpha'",
    ):
        assert any(words in t for t in texts), words
    assert sofie.check(HIGGS) == []


@pytest.mark.parametrize("via", ["uproot", "ROOT"])
def test_root_files_give_the_same_model(higgs: sofie.Model, tmp_path: Path, via: str) -> None:
    path = tmp_path / "models.root"
    higgs.save(path, via=via)
    higgs.save(path, name="again", via=via)
    x = events(5)
    for name in ("higgs", "again"):
        loaded = sofie.load(path, name)
        assert loaded.name == name
        np.testing.assert_array_equal(loaded(x), higgs(x))
        assert sofie.check(path) == []
    with pytest.raises(sofie.ModelError, match="again"):
        sofie.load(path)
    with pytest.raises(sofie.ModelError):
        higgs.save(path, overwrite=False, via=via)
    with pytest.raises(sofie.InputError, match="via="):
        higgs.save(path, via="xrootd")


def test_emit_writes_two_files(higgs: sofie.Model, tmp_path: Path) -> None:
    files = higgs.emit(tmp_path / "deep" / "out")
    assert files.header.name == "higgs.hxx"
    assert files.weights.name == "higgs.dat"
    assert files.namespace == "TMVA_SOFIE_higgs"
    assert '#include "sofie/' in files.header.read_text()
    alone = higgs.emit(tmp_path, standalone=True)
    assert '#include "sofie/' not in alone.header.read_text()
    # 14095 numbers, less what folding saves, plus a table of a few lines.
    assert files.weights.stat().st_size < 1.02 * 4 * 13000 + 1024
    with pytest.raises(sofie.ModelError, match="cannot be written"):
        higgs.emit(files.header / "below_a_file")


def test_weights_are_released() -> None:
    model = sofie.from_onnx(network(scale=5))
    model(events(1, 5))
    released = []
    entries: Any = model.compiled.entries
    original = entries["unload"]
    entries["unload"] = lambda weights: (released.append(weights), original(weights))
    del model, entries
    gc.collect()
    assert len(released) == 1


def test_the_type_of_a_value_is_public(higgs: sofie.Model) -> None:
    assert higgs.inputs["features"].dtype is DType.FLOAT32


def test_a_model_shows_its_inputs_and_outputs() -> None:
    model = sofie.load(HIGGS)
    assert repr(model) == "<Model higgs: features: float32[N, 7] -> score: float32[N, 1]>"
    assert repr(model.inputs) == "features: float32[N, 7]"
    assert model.inputs == {"features": TensorType(DType.FLOAT32, (symbol("N"), 7))}


def test_a_notebook_shows_names_as_text() -> None:
    """They are a stranger's, and no HTML."""
    build = Builder("<script>m</script>")
    x = build.input("<b>x</b>", TensorType(DType.FLOAT32, (3,)))
    graph = with_names(build.graph(build(Relu(), x)), features=["<i>", "b", "c"])
    shown = sofie.Model(graph)._repr_html_()
    assert "float32[3]" in shown
    assert "&lt;script&gt;m&lt;/script&gt;" in shown
    assert "&lt;i&gt;, b, c" in shown
    assert not re.search("<(script|b|i)>", shown)
