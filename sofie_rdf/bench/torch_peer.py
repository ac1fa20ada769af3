"""torch as a contestant: the same weights in torch's own operators.

torch reads no ONNX files, so the nodes are applied one by one. That is done for the operators of
usual networks; a network with another one has no torch beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np

from sofie_rdf.bench.measure import Contestant, python_seconds
from sofie_rdf.bench.models import Task
from sofie_rdf.bench.nodes import Maker, Network, Node
from sofie_rdf.errors import ModelError
from sofie_rdf.ir.types import Array

__all__ = ["Torch", "torch_slopes"]


class Torch:
    """Operator by operator from Python, and as a TorchScript that is frozen; on one thread."""

    name = "torch"
    overhead = True

    def absence(self) -> str:
        return "" if find_spec("torch") else "not installed"

    def version(self) -> str:
        import torch

        return str(torch.__version__)

    def forms(self, task: Task) -> Iterator[tuple[str, Contestant]]:
        network = _network(task)
        arrays = [task.feeds[name] for name in network.inputs]
        with _one_thread():
            yield "eager", _Call(network, arrays)
            yield "TorchScript", _Call(_script(network, arrays), arrays)


class _Call:
    """A function of tensors, called without gradients."""

    def __init__(self, function: Callable[..., Any], arrays: Sequence[Array]) -> None:
        import torch

        self._function = function
        self._inputs = [torch.from_numpy(np.array(a)) for a in arrays]

    def seconds(self, calls: int) -> float:
        import torch

        function, inputs = self._function, self._inputs
        with torch.inference_mode(), _one_thread():
            return python_seconds(lambda: function(*inputs), calls)

    def outputs(self) -> list[Array]:
        import torch

        with torch.inference_mode(), _one_thread():
            return [np.asarray(t.numpy()) for t in self._function(*self._inputs)]


class _Slopes:
    """A function of tensors, and the derivatives of the sum of its results by all floats."""

    def __init__(self, function: Callable[..., Any], arrays: Sequence[Array]) -> None:
        import torch

        self._function = function
        self._inputs = [torch.from_numpy(np.array(a)) for a in arrays]
        self._wrt = [t.requires_grad_() for t in self._inputs if t.is_floating_point()]

    def _call(self) -> list[Any]:
        import torch

        found = self._function(*self._inputs)
        total = sum(y.sum() for y in found if y.is_floating_point())
        return [*found, *torch.autograd.grad(total, self._wrt)]

    def seconds(self, calls: int) -> float:
        with _one_thread():
            return python_seconds(self._call, calls)

    def outputs(self) -> list[Array]:
        with _one_thread():
            return [np.asarray(t.detach().numpy()) for t in self._call()]


def torch_slopes(task: Task) -> Contestant:
    """Value and gradient by torch.autograd; `ModelError` for what is not built in torch here."""
    network = _network(task)
    return _Slopes(network, [task.feeds[name] for name in network.inputs])


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _script(network: Network, arrays: Sequence[Array]) -> Callable[..., Any]:
    import torch

    with torch.inference_mode(), warnings.catch_warnings():
        # torch would rather compile by g++ now, which takes half a minute for each network.
        warnings.simplefilter("ignore")
        module = torch.nn.Module()
        module.forward = network.__call__
        inputs = tuple(torch.from_numpy(np.array(a)) for a in arrays)
        traced = torch.jit.trace(module.eval(), inputs, check_trace=False)
        frozen: Callable[..., Any] = torch.jit.freeze(traced)
        return frozen


# The network --------------------------------------------------------------------------------------


def _network(task: Task) -> Network:
    import torch

    return Network(task.candidate.source, "torch", _MAKERS, torch.from_numpy)


_MAKERS: dict[str, Maker] = {}


def _maker(*names: str) -> Callable[[Maker], Maker]:
    def remember(maker: Maker) -> Maker:
        _MAKERS.update(dict.fromkeys(names, maker))
        return maker

    return remember


_PLAIN = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Erf": "erf",
    "Exp": "exp",
    "Sqrt": "sqrt",
    "Neg": "neg",
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Pow": "pow",
    "MatMul": "matmul",
}


@_maker(*_PLAIN)
def _plain(node: Node) -> Callable[..., Any]:
    import torch

    function: Callable[..., Any] = getattr(torch, _PLAIN[node.kind])
    return function


@_maker("Identity", "Dropout")
def _identity(_: Node) -> Callable[..., Any]:
    return lambda x, *_: x


@_maker("LeakyRelu", "Elu")
def _with_slope(node: Node) -> Callable[..., Any]:
    import torch

    name, usual = ("leaky_relu", 0.01) if node.kind == "LeakyRelu" else ("elu", 1.0)
    function, alpha = getattr(torch.nn.functional, name), node.get("alpha", usual)
    return lambda x: function(x, alpha)


@_maker("Gemm")
def _gemm(node: Node) -> Callable[..., Any]:
    import torch

    node.only(alpha=1.0, beta=1.0, transA=0)
    if node.get("transB", 0):
        linear: Callable[..., Any] = torch.nn.functional.linear
        return linear
    return lambda x, w, b=None: torch.addmm(b, x, w) if b is not None else torch.mm(x, w)


@_maker("Softmax")
def _softmax(node: Node) -> Callable[..., Any]:
    axis = node.get("axis", -1)
    return lambda x: x.softmax(axis)


@_maker("BatchNormalization")
def _batch_normalization(node: Node) -> Callable[..., Any]:
    import torch

    epsilon = node.get("epsilon", 1e-5)
    node.only(training_mode=0)
    return lambda x, scale, bias, mean, variance: torch.nn.functional.batch_norm(
        x, mean, variance, scale, bias, eps=epsilon
    )


@_maker("LayerNormalization")
def _layer_normalization(node: Node) -> Callable[..., Any]:
    import torch

    node.only(axis=-1)
    epsilon = node.get("epsilon", 1e-5)
    return lambda x, scale, bias=None: torch.nn.functional.layer_norm(
        x, scale.shape, scale, bias, eps=epsilon
    )


# Convolutions and pooling -------------------------------------------------------------------------


def _padding(node: Node, rank: int) -> tuple[int, ...]:
    """The same on both sides, which is all that torch knows."""
    node.only(auto_pad="NOTSET")
    pads = node.get("pads", [0] * (2 * rank))
    if pads[:rank] != pads[rank:]:
        raise ModelError(f"{node.kind} with pads={pads} is not built in torch here")
    return tuple(pads[:rank])


@_maker("Conv", "ConvTranspose")
def _convolution(node: Node) -> Callable[..., Any]:
    import torch

    rank = node.array(1).ndim - 2
    options: dict[str, Any] = {
        "stride": tuple(node.get("strides", [1] * rank)),
        "padding": _padding(node, rank),
        "dilation": tuple(node.get("dilations", [1] * rank)),
        "groups": node.get("group", 1),
    }
    name = f"conv{rank}d"
    if node.kind == "ConvTranspose":
        name = f"conv_transpose{rank}d"
        node.only(output_shape=None)
        options["output_padding"] = tuple(node.get("output_padding", [0] * rank))
    function = getattr(torch.nn.functional, name)
    return lambda x, w, b=None: function(x, w, b, **options)


@_maker("MaxPool")
def _max_pool(node: Node) -> Callable[..., Any]:
    import torch

    kernel = node.get("kernel_shape")
    rank = len(kernel)
    node.only(ceil_mode=0)
    options = {
        "stride": tuple(node.get("strides", [1] * rank)),
        "padding": _padding(node, rank),
        "dilation": tuple(node.get("dilations", [1] * rank)),
    }
    function = getattr(torch.nn.functional, f"max_pool{rank}d")
    return lambda x: function(x, tuple(kernel), **options)


@_maker("GlobalAveragePool")
def _global_average(_: Node) -> Callable[..., Any]:
    return lambda x: x.mean(dim=tuple(range(2, x.dim())), keepdim=True)


# Layout -------------------------------------------------------------------------------------------


@_maker("Flatten")
def _flatten(node: Node) -> Callable[..., Any]:
    node.only(axis=1)
    return lambda x: x.flatten(1)


@_maker("Reshape")
def _reshape(node: Node) -> Callable[..., Any]:
    wanted = node.number(1, "shape") or []
    node.only(allowzero=0)
    return lambda x, *_: x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(wanted)])


@_maker("Transpose")
def _transpose(node: Node) -> Callable[..., Any]:
    order = node.get("perm")
    return lambda x: x.permute(order or tuple(reversed(range(x.dim()))))


@_maker("Squeeze", "Unsqueeze")
def _squeeze(node: Node) -> Callable[..., Any]:
    axes = node.number(1, "axes")
    if axes is None or (node.kind == "Unsqueeze" and len(axes) != 1):
        raise ModelError(f"{node.kind} of these axes is not built in torch here")
    if node.kind == "Squeeze":
        return lambda x, *_: x.squeeze(tuple(axes))
    return lambda x, *_: x.unsqueeze(axes[0])


@_maker("Slice")
def _slice(node: Node) -> Callable[..., Any]:
    return lambda x, *_: x[node.ranges(x.dim())]


@_maker("Tile")
def _tile(node: Node) -> Callable[..., Any]:
    repeats = node.number(1) or []
    return lambda x, *_: x.repeat(repeats)


@_maker("TopK")
def _top_k(node: Node) -> Callable[..., Any]:
    (k,) = node.number(1) or (0,)
    axis, largest = node.get("axis", -1), bool(node.get("largest", 1))
    return lambda x, *_: tuple(x.topk(k, axis, largest))


@_maker("GatherND")
def _gather_nd(node: Node) -> Callable[..., Any]:
    import torch

    node.only(batch_dims=1)

    def gathered(x: Any, at: Any) -> Any:
        rows = torch.arange(x.shape[0]).reshape(-1, *[1] * (at.dim() - 2))
        place = rows, *at.unbind(-1)
        return x[place]

    return gathered


@_maker("Concat")
def _concat(node: Node) -> Callable[..., Any]:
    import torch

    axis = node.get("axis")
    return lambda *xs: torch.cat(xs, axis)


@_maker("ReduceSum", "ReduceMean")
def _reduce(node: Node) -> Callable[..., Any]:
    axes, keep = node.number(1, "axes"), bool(node.get("keepdims", 1))
    if not axes:
        raise ModelError(f"{node.kind} of all axes is not built in torch here")
    method = "sum" if node.kind == "ReduceSum" else "mean"
    return lambda x, *_: getattr(x, method)(dim=tuple(axes), keepdim=keep)


# Recurrent ----------------------------------------------------------------------------------------

# Where torch's gates stand among ONNX's: RNN; reset, update, new; input, forget, cell, output.
_GATES = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}
_ACTIVATIONS = {
    "RNN": ["Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
}


@_maker(*_GATES)
def _recurrent(node: Node) -> Callable[..., Any]:
    import torch

    node.only(direction="forward", layout=0, clip=None, input_forget=0)
    node.only(activations=_ACTIVATIONS[node.kind])
    resets_first = node.kind == "GRU" and not node.get("linear_before_reset")
    # Lengths and peepholes.
    if resets_first or node.has(4) or node.has(7):
        raise ModelError(f"{node.kind} of this kind is not built in torch here")
    hidden, order = node.get("hidden_size"), _GATES[node.kind]

    def in_order(array: Array) -> Any:
        parts = np.split(array, len(order))
        return torch.from_numpy(np.concatenate([parts[gate] for gate in order]))

    w, r = node.array(1)[0], node.array(2)[0]
    halves = np.split(node.array(3)[0], 2) if node.has(3) else [np.zeros(len(w), w.dtype)] * 2
    layer = getattr(torch.nn, node.kind)(w.shape[1], hidden).eval().requires_grad_(False)
    for name, array in zip(("weight_ih_l0", "weight_hh_l0"), (w, r), strict=True):
        getattr(layer, name).data = in_order(array)
    for name, array in zip(("bias_ih_l0", "bias_hh_l0"), halves, strict=True):
        getattr(layer, name).data = in_order(array)

    def apply(x: Any, *more: Any) -> tuple[Any, ...]:
        begin = [state for state in more[4:6] if state is not None]
        every, state = layer(x, (tuple(begin) if len(begin) > 1 else begin[0]) if begin else None)
        states = state if isinstance(state, tuple) else (state,)
        return (every.unsqueeze(1), *states)

    return apply
