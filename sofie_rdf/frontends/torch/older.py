"""torch's older exporter, of traces and TorchScript, with what it gets wrong put right."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.frontends.torch.calls import kept_buffers
from sofie_rdf.frontends.torch.inputs import Inputs

if TYPE_CHECKING:
    import onnx

__all__ = ["older_export"]

# The newest opset that it writes.
_OPSET = 20


def older_export(
    module: Any, args: tuple[Any, ...], inputs: Inputs, outputs: Sequence[str]
) -> onnx.ModelProto:
    """The ONNX model of a script, or of a module, which is traced. Errors are those of torch."""
    import onnx
    import torch

    buffer = io.BytesIO()
    with _without_graphs(), _with_our_functions(), kept_buffers(module):
        torch.onnx.export(
            module,
            args,
            buffer,  # type: ignore[arg-type, unused-ignore]
            dynamo=False,
            verbose=False,
            input_names=[leaf.name for leaf in inputs.tensors],
            output_names=list(outputs),
            dynamic_axes={n.name: dict(n.axes) for n in inputs.tensors if n.axes},
            opset_version=_OPSET,
        )
    return onnx.load_from_string(buffer.getvalue())


@contextmanager
def _without_graphs() -> Iterator[None]:
    """The exporter of TorchScript writes whole graphs to the terminal when it fails."""
    import torch

    write = getattr(torch._C, "_jit_onnx_log", None)
    if write is None:
        yield
        return
    torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = write


@contextmanager
def _with_our_functions() -> Iterator[None]:
    import torch

    parse = torch.onnx.symbolic_helper.parse_args
    ours = {
        "aten::atan2": _angle,
        "aten::rms_norm": parse("v", "is", "v", "f")(_root_mean_square),
        "aten::scaled_dot_product_attention": parse(*"vvvvfbvb")(_attention),
    }
    for name, function in ours.items():
        torch.onnx.register_custom_op_symbolic(name, function, _OPSET)
    try:
        yield
    finally:
        for name in ours:
            torch.onnx.unregister_custom_op_symbolic(name, _OPSET)


def _root_mean_square(g: Any, x: Any, shape: Any, weight: Any, epsilon: Any) -> Any:
    """x / sqrt(mean(x^2) + epsilon) * weight, which the exporter does not have."""
    import torch

    kind = x.type().dtype()
    least = torch.finfo(kind).eps if epsilon is None else epsilon
    axes = g.op("Constant", value_t=torch.arange(-len(shape), 0))
    mean = g.op("ReduceMean", g.op("Mul", x, x), axes)
    small = g.op("Constant", value_t=torch.tensor(least, dtype=kind))
    found = g.op("Div", x, g.op("Sqrt", g.op("Add", mean, small)))
    return found if _is_none(weight) else g.op("Mul", found, weight)


def _attention(
    g: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    dropout: float = 0.0,  # noqa: ARG001
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Any:
    """With 0 for a query that may attend to nothing, as torch has it: the exporter's is NaN."""
    import torch

    if enable_gqa:
        raise UnsupportedOperator(
            "scaled_dot_product_attention with enable_gqa=True is not written by torch's exporter",
            remedy="Repeat keys and values with repeat_interleave",
        )

    def number(value: float) -> Any:
        return g.op("CastLike", g.op("Constant", value_t=torch.tensor(value)), query)

    if _is_none(scale):
        scale = g.op("Div", number(1.0), g.op("Sqrt", _length(g, query, query)))
    part = g.op("Sqrt", g.op("CastLike", scale, query))
    axes = list(range(key.type().dim()))
    turned = g.op("Transpose", key, perm_i=[*axes[:-2], axes[-1], axes[-2]])
    scores = g.op("MatMul", g.op("Mul", query, part), g.op("Mul", turned, part))
    if is_causal:
        every = g.op("Expand", g.op("Constant", value_t=torch.tensor(True)), g.op("Shape", scores))
        mask = g.op("Trilu", every, upper_i=0)
    if _is_none(mask):
        return g.op("MatMul", g.op("Softmax", scores, axis_i=-1), value)
    least = number(-math.inf)
    if is_causal or mask.type().scalarType() == "Bool":
        mask = g.op("Where", mask, number(0.0), least)
    weights = g.op("Softmax", g.op("Add", scores, mask), axis_i=-1)
    last = g.op("Constant", value_t=torch.tensor([-1]))
    hidden = g.op("Equal", g.op("ReduceMax", mask, last), least)
    return g.op("Where", hidden, number(0.0), g.op("MatMul", weights, value))


def _length(g: Any, x: Any, like: Any) -> Any:
    """The size of the last axis, as a number of another type."""
    return g.op("CastLike", g.op("Shape", x, start_i=-1), like)


def _is_none(value: Any) -> bool:
    return value is None or value.node().mustBeNone()


def _angle(g: Any, y: Any, x: Any) -> Any:
    """atan2 as `decompositions` has it: the exporter's is NaN at (0, 0) and -pi at (0, -1)."""
    import torch

    def number(value: float) -> Any:
        constant = g.op("Constant", value_t=torch.tensor(value))
        return g.op("CastLike", constant, x)

    def is_negative(value: Any) -> Any:
        inverse = g.op("Less", g.op("Div", number(1.0), value), zero)
        return g.op("Or", g.op("Less", value, zero), inverse)

    def chosen(condition: Any, one: Any, other: Any) -> Any:
        return g.op("Where", condition, one, other)

    zero = number(0.0)
    both = g.op("And", g.op("IsInf", y), g.op("IsInf", x))
    up, ahead = chosen(both, g.op("Sign", y), y), chosen(both, g.op("Sign", x), x)
    steep = g.op("Greater", g.op("Abs", up), g.op("Abs", ahead))
    base = chosen(steep, up, chosen(g.op("Equal", ahead, zero), number(math.inf), ahead))
    found = g.op("Atan", g.op("Div", chosen(steep, g.op("Neg", ahead), up), base))
    turn = chosen(steep, number(math.pi / 2), chosen(is_negative(x), number(math.pi), zero))
    return chosen(is_negative(y), g.op("Sub", found, turn), g.op("Add", found, turn))
