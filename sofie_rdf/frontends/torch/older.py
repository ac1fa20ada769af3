"""torch's older exporter, of traces and TorchScript, with what it gets wrong put right."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
    with _without_graphs(), _with_our_functions():
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

    torch.onnx.register_custom_op_symbolic("aten::atan2", _angle, _OPSET)
    try:
        yield
    finally:
        torch.onnx.unregister_custom_op_symbolic("aten::atan2", _OPSET)


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
