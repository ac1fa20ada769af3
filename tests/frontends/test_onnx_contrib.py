"""com.microsoft: what onnxruntime's tools write, beside onnxruntime itself."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import GraphError, ShapeError, TypeMismatch, UnsupportedOperator
from sofie_rdf.ir.types import Array
from tests.choice import every, some_of
from tests.frontends.models import model, node, refuse, value

ort = pytest.importorskip("onnxruntime")
MICROSOFT = "com.microsoft"
# The sizes of the open axes in the three calls.
CALLS = ({"N": 3, "L": 4}, {"N": 1, "L": 7}, {"N": 5, "L": 2})


@dataclass(frozen=True)
class Case:
    """One node: open inputs by name and shape, and constants; ``-`` stands for an absent input."""

    operator: str
    inputs: Mapping[str, Sequence[int | str]]
    weights: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    order: str = ""
    outputs: str = "y"
    domain: str = MICROSOFT
    # Of which element type inputs are that are no floats, and how large their elements may be.
    integers: Mapping[str, tuple[type, int]] = field(default_factory=dict)
    seed: int = 1

    @property
    def name(self) -> str:
        return f"{self.operator}-{'-'.join(map(str, self.attributes))}-{self.order or 'all'}"

    def element(self, name: str) -> int:
        """The element type of an input or an output."""
        quantized = self.operator.startswith("QLinear") or "u" in self.weights
        if name == "y" and quantized:
            name = "x"
        kinds = {n: kind for n, (kind, _) in self.integers.items()} | {"n": np.int32}
        return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kinds.get(name, np.float32)))

    def proto(self) -> onnx.ModelProto:
        random = np.random.default_rng(self.seed)
        weights = {
            name: np.asarray(random.normal(size=w), np.float32) if isinstance(w, tuple) else w
            for name, w in self.weights.items()
        }
        order = self.order or " ".join((*self.inputs, *self.weights))
        made = node(self.operator, order, self.outputs, domain=self.domain, **self.attributes)
        inputs = [value(n, s, self.element(n)) for n, s in self.inputs.items()]
        outputs = [value(n, None, self.element(n)) for n in self.outputs.split() if n != "-"]
        return model([made], inputs, outputs, weights, domains={MICROSOFT: 1})

    def feeds(self, sizes: Mapping[str, int]) -> dict[str, Array]:
        random = np.random.default_rng([self.seed, *sizes.values()])
        found: dict[str, Array] = {}
        for name, shape in self.inputs.items():
            numbers = [sizes[s] if isinstance(s, str) else s for s in shape]
            found[name] = np.asarray(random.normal(size=numbers) * 2, np.float32)
            if name in self.integers:
                dtype, limit = self.integers[name]
                low = -limit if np.dtype(dtype).kind == "i" and limit > 100 else 0
                found[name] = random.integers(low, limit, numbers).astype(dtype)
        return found


def session(proto: onnx.ModelProto | str) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = proto if isinstance(proto, str) else proto.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def compare(case: Case, rtol: float = 2e-5, atol: float = 2e-6) -> None:
    proto = case.proto()
    theirs, ours = session(proto), sofie.from_onnx(proto)
    for sizes in CALLS:
        feeds = case.feeds(sizes)
        expected = theirs.run(None, feeds)
        found = ours(feeds)
        results = [*found.values()] if isinstance(found, dict) else [found]
        for y, wanted in zip(results, expected, strict=True):
            assert y.dtype == wanted.dtype and y.shape == wanted.shape
            np.testing.assert_allclose(y, wanted, rtol=rtol, atol=atol)


X = {"x": ("N", 5)}
IMAGE = {"x": ("N", 3, 8, 7)}
KERNEL = {"w": (4, 3, 3, 3), "b": (4,)}


def conv(activation: str, *numbers: float, **attributes: Any) -> Case:
    extra = {"activation_params": list(numbers)} if numbers else {}
    return Case("FusedConv", IMAGE, KERNEL, {"activation": activation, **extra, **attributes})


def gemm(activation: str, *numbers: float, **attributes: Any) -> Case:
    names = ("activation_alpha", "activation_beta")
    extra = dict(zip(names, numbers, strict=False))
    return Case(
        "FusedGemm", X, {"w": (5, 4), "c": (4,)}, {"activation": activation, **extra, **attributes}
    )


FUSED = [
    conv("Relu"),
    conv("Tanh", pads=[1, 0, 1, 2], strides=[2, 1]),
    conv("Sigmoid", auto_pad="SAME_UPPER"),
    conv("LeakyRelu", 0.3, dilations=[2, 1]),
    conv("Clip", -0.5, 1.5),
    conv("HardSigmoid", 0.3, 0.4),
    Case("FusedConv", {**IMAGE, "z": ("N", 4, 6, 5)}, KERNEL, {"activation": "Relu"}, "x w b z"),
    Case("FusedConv", {"x": ("N", 4, 9)}, {"w": (6, 2, 3)}, {"activation": "Relu", "group": 2}),
    *map(gemm, ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign")),
    gemm("LeakyRelu", 0.2, alpha=0.7, beta=1.3),
    gemm("Elu", 0.7),
    gemm("ThresholdedRelu", 0.7),
    gemm("HardSigmoid", 0.3, 0.4),
    Case("FusedGemm", X, {"w": (4, 5)}, {"activation": "Relu", "transB": 1}),
    Case("FusedMatMul", X, {"w": (5, 4)}, {"alpha": 0.3}),
    Case("FusedMatMul", {"x": ("N", 4, 5)}, {"w": (2, 4)}, {"transA": 1, "transB": 1}),
    Case(
        "FusedMatMul", {"x": ("N", 2, 4, 5), "w": ("N", 2, 3, 5)}, {}, {"transB": 1, "alpha": 2.0}
    ),
    Case("FusedMatMul", {"x": (3, "N", 2, 5), "w": ("N", 2, 5, 4)}, {}, {"transBatchA": 1}),
    Case("FusedMatMul", {"x": ("N", 2, 3, 5), "w": (5, "N", 2, 4)}, {}, {"transBatchB": 1}),
    Case(
        "FusedMatMul",
        {"x": (5, "N", 2, 3), "w": (4, "N", 2, 5)},
        {},
        {"transBatchA": 1, "transA": 1, "transBatchB": 1, "transB": 1},
    ),
    Case("FusedMatMul", {"x": ("N", 4, 5)}, {"w": (5,)}, {"transB": 1}),
    Case("Gelu", X),
    Case("QuickGelu", X),
    Case("QuickGelu", X, {}, {"alpha": 0.8}),
    Case("BiasGelu", {"x": ("N", "L", 5)}, {"b": (5,)}),
    Case("FastGelu", {"x": ("N", "L", 5)}, {"b": (5,)}),
    Case("FastGelu", X),
]
H = {"x": ("N", "L", 6)}
NORMALIZED = [
    Case("LayerNormalization", H, {"g": (6,), "b": (6,)}, {"epsilon": 1e-3}, domain=""),
    Case("LayerNormalization", H, {"g": (6,)}, {"axis": 2}, domain="", outputs="y m d"),
    Case("SimplifiedLayerNormalization", H, {"g": (6,)}, {"epsilon": 1e-3}, domain=""),
    Case(
        "SimplifiedLayerNormalization",
        {"x": ("N", 3, 6)},
        {"g": (3, 6)},
        {"axis": 1, "stash_type": 1},
        domain="",
    ),
    Case(
        "SkipLayerNormalization",
        {**H, "s": ("N", "L", 6)},
        {"g": (6,), "b": (6,), "c": (6,)},
        {"epsilon": 1e-3},
        outputs="y - - t",
    ),
    Case("SkipLayerNormalization", {**H, "s": ("N", "L", 6)}, {"g": (6,)}),
    Case("SkipLayerNormalization", {**H, "s": ("L", 6)}, {"g": (6,), "b": (6,)}),
    Case(
        "SkipLayerNormalization", {**H, "s": (1, "L", 6)}, {"g": (6,), "c": (6,)}, order="x s g - c"
    ),
    Case(
        "SkipSimplifiedLayerNormalization",
        {**H, "s": ("N", "L", 6)},
        {"g": (6,), "c": (6,)},
        {"epsilon": 1e-3},
        outputs="y - - t",
    ),
    Case("SkipSimplifiedLayerNormalization", {**H, "s": ("N", "L", 6)}, {"g": (6,)}),
]
IDS: dict[str, Any] = {"i": ("N", "L"), "s": ("N", "L"), "m": ("N", "L"), "p": ("N", "L")}
TABLES = {"w": (9, 6), "q": (8, 6), "t": (2, 6), "g": (6,), "b": (6,)}
SMALL = {"i": (np.int32, 9), "s": (np.int32, 2), "m": (np.int32, 2), "p": (np.int32, 8)}


def embed(order: str, outputs: str = "y n", **attributes: Any) -> Case:
    used = order.split()
    return Case(
        "EmbedLayerNormalization",
        {n: s for n, s in IDS.items() if n in used},
        {n: s for n, s in TABLES.items() if n in used},
        attributes,
        order,
        outputs,
        integers={n: k for n, k in SMALL.items() if n in used},
    )


EMBEDDED = [
    embed("i s w q t g b m"),
    embed("i s w q t g b", epsilon=1e-3),
    embed("i - w q - g b m"),
    embed("i - w q - g b - p", "y n e"),
]
LENGTHS = {"m": (np.int32, 3)}
MASK = {"m": (np.int32, 2)}
QKV = {"w": (6, 24), "b": (24,)}


def attention(order: str = "x w b", mask: Sequence[Any] = (), **attributes: Any) -> Case:
    inputs: dict[str, Any] = {**H, "m": mask, "a": (1, 2, "L", "L")}
    used = order.split()
    return Case(
        "Attention",
        {n: s for n, s in inputs.items() if n in used},
        QKV if "b" in used else {"w": (6, 24)},
        {"num_heads": 2, **attributes},
        order,
        integers=(LENGTHS if len(mask) == 1 else MASK) if mask else {},
    )


def heads(order: str, keys: str = "L", mask: Sequence[Any] = (), **attributes: Any) -> Case:
    inputs: dict[str, Any] = {"q": ("N", "L", 8), "k": ("N", keys, 8), "v": ("N", keys, 4)}
    inputs |= {"m": mask, "a": ("N", 1, "L", keys)}
    used = order.split()
    return Case(
        "MultiHeadAttention",
        {n: s for n, s in inputs.items() if n in used},
        {"b": (20,)} if "b" in used else {},
        {"num_heads": 2, **attributes},
        order,
        integers=(LENGTHS if len(mask) == 1 else MASK) if mask else {},
    )


ATTENTIONS = [
    attention(),
    attention("x w"),
    attention(scale=0.3),
    attention(unidirectional=1),
    attention(qkv_hidden_sizes=[4, 4, 16]),
    attention("x w b m", ("N",)),
    attention("x w b m", ("N", "L")),
    attention("x w b m", ("N", "L", "L"), mask_filter_value=-500.0),
    attention("x w b m", ("N", "L"), unidirectional=1),
    attention("x w b - - a"),
    attention("x w b m - a", ("N", "L")),
    heads("q k v"),
    heads("q k v b", scale=0.4),
    heads("q k v", "N"),
    heads("q k v", unidirectional=1),
    heads("q k v - m", mask=("N",)),
    heads("q k v b m", mask=("N", "L")),
    heads("q k v - m", mask=("N", "L", "L")),
    heads("q k v - - a", "N"),
    heads("q k v b m a", mask=("N", "L")),
]


@pytest.mark.parametrize(
    "case", every(2, [*FUSED, *NORMALIZED, *EMBEDDED, *ATTENTIONS]), ids=lambda case: case.name
)
def test_float_operators_are_those_of_onnxruntime(case: Case) -> None:
    compare(case)


# Whole numbers ------------------------------------------------------------------------------------


def one(number: float, dtype: Any = np.float32) -> Array:
    return np.array(number, dtype)


def wholes(shape: tuple[int, ...], dtype: Any, seed: int = 3) -> Array:
    range_ = np.iinfo(dtype)
    low, high = (-900, 900) if dtype is np.int32 else (range_.min, range_.max + 1)
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


BYTES = {"x": (np.uint8, 256), "z": (np.uint8, 256)}
SIGNED = {"x": (np.int8, 127), "z": (np.int8, 127)}


def unary(operator: str, shape: Sequence[Any] = ("N", 5), **attributes: Any) -> list[Case]:
    """On uint8 and on int8."""
    weights = {"s": one(0.04), "o": one(131, np.uint8), "t": one(0.013), "p": one(7, np.uint8)}
    signed = {**weights, "o": one(-3, np.int8), "p": one(-50, np.int8)}
    made = Case(operator, {"x": shape}, weights, attributes, outputs="y", integers=BYTES)
    return [made, replace(made, weights=signed, integers=SIGNED)]


def softmax(shape: Sequence[Any], **attributes: Any) -> list[Case]:
    """With scales of which 1 is a whole number of steps, and others."""
    cases = unary("QLinearSoftmax", shape, **attributes)
    found = list(cases)
    for case, lowest in zip(cases, (0, -128), strict=True):
        zero = np.asarray(lowest, case.weights["p"].dtype)
        found += [
            replace(case, weights={**case.weights, "t": one(scale), "p": zero})
            for scale in (1 / 256, 0.0039215684, 0.0037)
        ]
    return found


def binary(operator: str, other: Sequence[Any] = ("N", 5)) -> list[Case]:
    scales = {"s": one(0.04), "t": one(0.03), "u": one(0.11)}
    order = "x s o z t p u q"
    found = []
    for dtype, integers in ((np.uint8, BYTES), (np.int8, SIGNED)):
        zeros = {"o": one(100, dtype), "p": one(70, dtype), "q": one(90, dtype)}
        inputs = {"x": ("N", 5), "z": other}
        found.append(Case(operator, inputs, {**scales, **zeros}, {}, order, integers=integers))
    return found


def qgemm(order: str = "x s o w t p c u q", columns: int = 1, **attributes: Any) -> Case:
    used = order.split()
    zero = one(7, np.int8) if columns == 1 else wholes((columns,), np.int8)
    scale = one(0.01) if columns == 1 else np.linspace(0.01, 0.02, columns, dtype=np.float32)
    shape = (4, 5) if attributes.get("transB") else (5, 4)
    weights = {
        "s": one(0.02), "o": one(120, np.uint8), "w": wholes(shape, np.int8), "t": scale,
        "p": zero, "c": wholes((4,), np.int32), "u": one(0.13), "q": one(100, np.uint8),
    }  # fmt: skip
    inputs = {"x": (5, "N") if attributes.get("transA") else ("N", 5)}
    used_weights = {n: w for n, w in weights.items() if n in used}
    return Case("QGemm", inputs, used_weights, attributes, order, integers=BYTES)


def to_float(order: str = "x w s t o p b", dtype: Any = np.int8, columns: int = 1) -> Case:
    used = order.split()
    zero = one(7, dtype) if columns == 1 else wholes((columns,), dtype)
    scale = one(0.01) if columns == 1 else np.linspace(0.01, 0.02, columns, dtype=np.float32)
    weights = {
        "w": wholes((5, 4), dtype), "s": one(0.02), "t": scale, "o": one(120, np.uint8),
        "p": zero, "b": (4,),
    }  # fmt: skip
    weights = {n: w for n, w in weights.items() if n in used}
    inputs = {"x": ("N", 3, 5)}
    return Case("MatMulIntegerToFloat", inputs, weights, {}, order, integers=BYTES)


def dynamic(order: str = "x w t p b", dtype: Any = np.int8, columns: int = 1) -> Case:
    made = to_float(order, dtype, columns)
    return replace(made, operator="DynamicQuantizeMatMul", integers={})


IMAGES = ("N", 3, 8, 7)
QUANTIZED = [
    *binary("QLinearAdd"),
    *binary("QLinearMul"),
    *binary("QLinearAdd", (5,)),
    *unary("QLinearLeakyRelu", alpha=0.3),
    *unary("QLinearLeakyRelu"),
    *unary("QLinearSigmoid"),
    *softmax(("N", 5), axis=-1, opset=13),
    *softmax(("N", 3, 4), axis=1, opset=13),
    *softmax(("N", 3, 4), axis=1, opset=11),
    *unary("QLinearGlobalAveragePool", IMAGES),
    *unary("QLinearGlobalAveragePool", IMAGES, channels_last=1),
    *unary("QLinearAveragePool", IMAGES, kernel_shape=[3, 2], pads=[1, 0, 1, 1]),
    *unary("QLinearAveragePool", IMAGES, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    *unary("QLinearAveragePool", IMAGES, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
    *unary("QLinearAveragePool", IMAGES, kernel_shape=[2, 2], channels_last=1),
    Case(
        "QLinearConcat",
        {"x": ("N", 5), "z": ("N", 3)},
        {"s": one(0.04), "o": one(120, np.uint8), "t": one(0.03), "p": one(90, np.uint8)},
        {"axis": 1},
        "s o x t p z s o",
        integers=BYTES,
    ),
    Case(
        "QLinearConcat",
        {"x": (2, "N", 5)},
        {"s": one(0.04), "o": one(120, np.uint8)},
        {"axis": 0},
        "s o x s o x s o",
        integers=BYTES,
    ),
    Case(
        "QLinearWhere",
        {"c": ("N", 5), "x": ("N", 5), "z": ("N", 5)},
        {"s": one(0.04), "o": one(120, np.uint8), "t": one(0.03), "p": one(90, np.uint8)},
        {},
        "c x s o z t p s o",
        integers={**BYTES, "c": (np.bool_, 2)},
    ),
    qgemm(),
    qgemm("x s o w t p - u q"),
    qgemm("x s o w t p c"),
    qgemm(alpha=0.7, transB=1),
    qgemm(transA=1),
    qgemm(columns=4),
    qgemm(columns=4, transB=1),
    to_float(),
    to_float("x w s t"),
    to_float("x w s t o - b"),
    to_float(dtype=np.uint8),
    to_float(columns=4),
    dynamic(),
    dynamic("x w t"),
    dynamic("x w t - b"),
    dynamic(dtype=np.uint8),
    dynamic(columns=4),
]


@pytest.mark.parametrize("case", every(2, QUANTIZED), ids=lambda case: case.name)
def test_quantized_operators_are_those_of_onnxruntime(case: Case) -> None:
    compare(case, atol=1e-5)


@pytest.mark.parametrize(
    ("case", "absent"),
    [
        (binary("QLinearAdd")[0], "opq"),
        (binary("QLinearMul")[1], "q"),
        (unary("QLinearSigmoid")[0], "o"),
        (unary("QLinearLeakyRelu")[1], "p"),
        (unary("QLinearGlobalAveragePool", IMAGES)[1], "op"),
    ],
    ids=lambda given: given.operator if isinstance(given, Case) else given,
)
def test_zero_points_that_are_absent_are_zero(case: Case, absent: str) -> None:
    """onnxruntime, which has them optional, takes no such file: here they are zeros for it."""
    order = (case.order or " ".join((*case.inputs, *case.weights))).split()
    without = replace(case, order=" ".join("-" if n in absent else n for n in order))
    zeros = {n: np.zeros_like(w) if n in absent else w for n, w in case.weights.items()}
    theirs, ours = session(replace(case, weights=zeros).proto()), sofie.from_onnx(without.proto())
    for sizes in CALLS:
        feeds = case.feeds(sizes)
        np.testing.assert_array_equal(ours(feeds), theirs.run(None, feeds)[0])


def changed(case: Case, **changes: Any) -> onnx.ModelProto:
    return replace(case, **changes).proto()


def test_what_is_not_supported_is_named() -> None:
    past = attention("x w b m p", ("N", "L"))
    inputs = {**past.inputs, "p": (2, "N", 2, 3, 4)}
    wrong = "is not supported"
    refuse(changed(past, inputs=inputs), UnsupportedOperator, "'past'", wrong, "without a cache")
    refuse(changed(attention(), outputs="y p"), UnsupportedOperator, "'present'", "node 'y'")
    refuse(attention(do_rotary=1).proto(), UnsupportedOperator, "'do_rotary'", wrong)
    ends = attention("x w b m", ("M",))
    refuse(ends.proto(), UnsupportedOperator, "mask int32[M]", "[batch, keys]", "0 and 1")
    refuse(attention("x w b - - a", num_heads=0).proto(), GraphError, "number of heads")
    refuse(attention(qkv_hidden_sizes=[8, 8, 9]).proto(), ShapeError, "24 columns")
    packed = Case("MultiHeadAttention", {"q": ("N", "L", 2, 3, 4)}, {}, {"num_heads": 2})
    refuse(packed.proto(), UnsupportedOperator, "packed", "[batch, sequence, hidden]")
    cached = changed(heads("q k v"), outputs="y p")
    refuse(cached, UnsupportedOperator, "'present_key'", "without a cache")
    far = heads("q k v - - a")
    refuse(changed(far, inputs={**far.inputs, "a": ("N", 1, "L", 9)}), ShapeError, "attention_bias")
    refuse(conv("Gelu").proto(), UnsupportedOperator, "no activation 'Gelu'", "optimization_level")
    refuse(conv("LeakyRelu").proto(), GraphError, "lacks", "LeakyRelu")
    refuse(gemm("Softmax").proto(), UnsupportedOperator, "no activation 'Softmax'")
    skip = Case("SkipLayerNormalization", {**H, "s": ("N", "L", 6)}, {"g": (6,)}, outputs="y m")
    refuse(skip.proto(), UnsupportedOperator, "'mean'", "optimization_level")
    one = changed(skip, outputs="y", inputs={"x": (1, "L", 6), "s": ("N", "L", 6)})
    refuse(one, ShapeError, "which has other sizes")
    refuse(changed(embed("i - w q t g b"), outputs="y"), GraphError, "together")
    refuse(changed(embed("i - w q - g"), outputs="y"), GraphError, "lacks an input")


def test_quantized_operators_that_are_not_supported_are_named() -> None:
    add = binary("QLinearAdd")[0]
    many = {**add.weights, "s": np.ones(5, np.float32)}
    refuse(changed(add, weights=many), ShapeError, "one scale", "node 'y'")
    refuse(changed(add, order="x - o z t p u q"), GraphError, "lacks an input")
    concat = next(c for c in QUANTIZED if c.operator == "QLinearConcat")
    refuse(changed(concat, attributes={}), GraphError, "an axis")
    refuse(changed(concat, order="s o x t p z s"), GraphError, "scale and zero point")
    pool = unary("QLinearAveragePool", IMAGES)[0]
    refuse(pool.proto(), GraphError, "'kernel_shape'")
    refuse(unary("QLinearSoftmax")[0].proto(), GraphError, "'opset'")
    product = qgemm()
    floats = {**product.weights, "c": np.zeros(4, np.float32)}
    refuse(changed(product, weights=floats), TypeMismatch, "int32 for c")
    without = changed(product, order="x s o w t p c - q")
    refuse(without, GraphError, "a zero point of y, but no scale")
    layer = Case("DynamicQuantizeGRU", {"x": ("N", 2, 5)}, {"w": (1, 5, 16), "r": (1, 4, 16)})
    refuse(layer.proto(), UnsupportedOperator, "op_types_to_quantize", "node 'y'")
    mean = Case("QLinearReduceMean", {"x": ("N", 5)}, {"s": (1,)})
    refuse(mean.proto(), UnsupportedOperator, "quantize_static", "QuantFormat.QDQ")


# Whole networks -----------------------------------------------------------------------------------


def exported(module: Any, x: Array, path: Path) -> Path:
    """The file that PyTorch's exporter writes of a module, with an open batch."""
    torch = pytest.importorskip("torch")
    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # This exporter is an old one, and says so.
        torch.onnx.export(
            module.eval(),
            (torch.from_numpy(x[:2]),),
            path,
            dynamo=False,
            opset_version=17,
            dynamic_axes={"x": {0: "N"}},
            **names,
        )
    return path


def network(name: str, folder: Path) -> tuple[Path, Array]:
    """A file of a network, and events for it."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(1)
    random = np.random.default_rng(2)
    if name == "mlp":
        module = nn.Sequential(
            nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 3)
        )
        x = random.normal(size=(64, 9))
    elif name == "cnn":
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(8, 8, 3), nn.LeakyReLU(0.1), nn.Conv2d(8, 4, 1), nn.Sigmoid(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2), nn.Softmax(-1),
        )  # fmt: skip
        x = random.normal(size=(64, 3, 12, 12))
    else:
        layer = nn.TransformerEncoderLayer(
            16, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True
        )
        encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        module = nn.Sequential(nn.Linear(5, 16), encoder, nn.LayerNorm(16), nn.Linear(16, 2))
        x = random.normal(size=(64, 7, 5))
    events = x.astype(np.float32)
    return exported(module, events, folder / f"{name}.onnx"), events


def optimized(path: Path, level: str) -> Path:
    """The file that onnxruntime saves when it has optimised this one."""
    result = path.with_name(f"{path.stem}-{level}.onnx")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(result)
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return result


def operators_of(path: Path) -> set[str]:
    return {n.op_type for n in onnx.load(path).graph.node if n.domain == MICROSOFT}


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("mlp", {"FusedGemm", "Gelu"}),
        ("cnn", {"FusedConv"}),
        ("transformer", {"BiasGelu"}),
    ],
)
def test_optimized_networks(name: str, written: set[str], tmp_path: Path) -> None:
    path, x = network(name, tmp_path)
    faster = optimized(path, "ORT_ENABLE_EXTENDED")
    assert operators_of(faster) >= written
    ours, theirs = sofie.load(faster), session(str(faster))
    for rows in (x[:3], x[3:4], x[4:]):
        (expected,) = theirs.run(None, {"x": rows})
        np.testing.assert_allclose(ours(rows), expected, rtol=2e-5, atol=2e-6)


def quantized(path: Path, x: Array, how: str) -> Path:
    """The file that onnxruntime's tools write of this one."""
    tools = pytest.importorskip("onnxruntime.quantization")
    out = path.with_name(f"{path.stem}-{how}.onnx")

    class Calibration(tools.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.given = iter([{"x": x[i : i + 8]} for i in range(0, len(x), 8)])

        def get_next(self) -> Any:
            return next(self.given, None)

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        if how in ("QInt8", "QUInt8"):
            tools.quantize_dynamic(path, out, weight_type=tools.QuantType[how])
        else:
            options: dict[str, Any] = {
                "quant_format": tools.QuantFormat[how.split("-")[0].removesuffix("16")]
            }
            if how == "QDQ16":
                options["activation_type"] = tools.QuantType.QInt16
                options["weight_type"] = tools.QuantType.QInt8
                options["extra_options"] = {"UseQDQContribOps": True}
            options["per_channel"] = how.endswith("each")
            tools.quantize_static(path, out, Calibration(), **options)
    finally:
        logging.getLogger().setLevel(level)
    return out


QUANTIZERS = ["QInt8", "QUInt8", "QDQ", "QDQ16", "QOperator", "QOperator-each"]


# Each in one form of each network.
SOME_QUANTIZED = [
    *(("mlp", "QUInt8", "ORT_ENABLE_EXTENDED"), ("mlp", "QDQ", "")),
    *(("cnn", "QUInt8", ""), ("cnn", "QDQ", "ORT_ENABLE_EXTENDED")),
]


@pytest.mark.parametrize(
    ("name", "how", "level"),
    some_of(product(["mlp", "cnn"], QUANTIZERS, ["", "ORT_ENABLE_EXTENDED"]), SOME_QUANTIZED),
)
def test_quantized_networks(name: str, how: str, level: str, tmp_path: Path) -> None:
    """Static ones agree to the last bit: every number on the way is whole or rounded once."""
    path, x = network(name, tmp_path)
    path = quantized(path, x, how)
    if level:
        path = optimized(path, level)
    used = operators_of(path)
    expected_ones = {"QDQ16": {"QuantizeLinear", "DequantizeLinear"}, "QOperator": {"QGemm"}}
    assert used >= expected_ones.get(how.removesuffix("-each"), set())
    if level and "Int8" in how:
        assert "DynamicQuantizeMatMul" in used
    ours, theirs = sofie.load(path), session(str(path))
    for rows in (x[:3], x[3:4], x[4:]):
        (expected,) = theirs.run(None, {"x": rows})
        atol = 1e-6 if "Int8" in how else 0
        np.testing.assert_allclose(ours(rows), expected, rtol=0, atol=atol)


def everything(folder: Path) -> tuple[Path, Array]:
    """A network of all operators that quantize_static writes in quantised form in one file."""
    torch = pytest.importorskip("torch")
    nn, F = torch.nn, torch.nn.functional  # noqa: N806

    class Everything(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
            self.last = nn.Linear(24, 3)

        def forward(self, x: Any) -> Any:
            a = torch.clip(self.first(F.pad(x, (1, 1, 1, 1))), -2, 2)
            b = F.leaky_relu(self.second(F.relu(a)), 0.1)
            c = F.interpolate(F.avg_pool2d(a, 2), scale_factor=2.0) * torch.sigmoid(b)
            pooled = torch.cat([F.max_pool2d(a + c, 2), F.max_pool2d(b, 2)], 1)
            one, other = torch.split(pooled, 4, 1)
            product = one.flatten(2) @ other.flatten(2).transpose(1, 2)
            mean = F.adaptive_avg_pool2d(other, 1).flatten(1)
            parts = [product.flatten(1), mean, x[:, 0, 0, torch.tensor([3, 1, 1, 0])]]
            return torch.softmax(self.last(torch.cat(parts, 1)), -1)

    torch.manual_seed(3)
    events = np.random.default_rng(3).normal(size=(64, 3, 12, 12)).astype(np.float32)
    return exported(Everything(), events, folder / "everything.onnx"), events


def test_all_that_quantize_static_writes_as_operators(tmp_path: Path) -> None:
    path, x = everything(tmp_path)
    path = quantized(path, x, "QOperator")
    used = {n.op_type for n in onnx.load(path).graph.node}
    assert used >= {
        *("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QGemm"),
        *("QLinearLeakyRelu", "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearSoftmax"),
        "QLinearConcat",
    }
    ours, theirs = sofie.load(path), session(str(path))
    for rows in (x[:3], x[3:4], x[4:]):
        (expected,) = theirs.run(None, {"x": rows})
        np.testing.assert_allclose(ours(rows), expected, rtol=0, atol=0)


def test_an_optimized_quantized_transformer(tmp_path: Path) -> None:
    """What onnxruntime makes of QDQ files has a softmax of whole steps, in which they agree."""
    path, x = network("transformer", tmp_path)
    path = optimized(quantized(path, x, "QDQ"), "ORT_ENABLE_EXTENDED")
    assert "QLinearSoftmax" in operators_of(path)
    (expected,) = session(str(path)).run(None, {"x": x})
    np.testing.assert_allclose(sofie.load(path)(x), expected, rtol=0, atol=1e-6)
