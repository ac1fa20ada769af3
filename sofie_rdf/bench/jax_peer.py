"""JAX as a contestant of gradients: the same weights in jax.numpy, compiled as one function."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sofie_rdf.bench.measure import Contestant, python_seconds
from sofie_rdf.bench.models import Task
from sofie_rdf.bench.nodes import Maker, Network, Node
from sofie_rdf.ir.types import Array

__all__ = ["jax_slopes"]

# Read when JAX starts. A call that returns at once would be waited for on another thread.
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def jax_slopes(task: Task) -> Contestant:
    """Value and gradient by jit(value_and_grad); `ModelError` for what is not built in JAX here."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_ONE_THREAD}".strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    network = Network(task.candidate.source, "JAX", _makers(), jax.numpy.asarray)
    return _Slopes(network, [task.feeds[name] for name in network.inputs])


class _Slopes:
    """A function of arrays, and the derivatives of the sum of its results by all floats."""

    def __init__(self, function: Callable[..., Any], arrays: Sequence[Array]) -> None:
        import jax

        def summed(*given: Any) -> tuple[Any, Any]:
            found = function(*given)
            return sum(y.sum() for y in found if y.dtype.kind == "f"), found

        self._inputs = [jax.numpy.asarray(a) for a in arrays]
        wrt = tuple(i for i, a in enumerate(arrays) if a.dtype.kind == "f")
        slopes = jax.value_and_grad(summed, argnums=wrt, has_aux=True)
        self._call = jax.jit(slopes).lower(*self._inputs).compile()

    def _ready(self) -> Any:
        import jax

        return jax.block_until_ready(self._call(*self._inputs))

    def seconds(self, calls: int) -> float:
        return python_seconds(self._ready, calls)

    def outputs(self) -> list[Array]:
        (_, found), slopes = self._ready()
        return [np.asarray(a) for a in (*found, *slopes)]


# Operators ----------------------------------------------------------------------------------------


def _makers() -> dict[str, Maker]:
    import jax
    from jax import nn
    from jax import numpy as jnp

    plain = {
        "Relu": nn.relu,
        "Sigmoid": nn.sigmoid,
        "Tanh": jnp.tanh,
        "Erf": jax.scipy.special.erf,
        "Exp": jnp.exp,
        "Sqrt": jnp.sqrt,
        "Neg": jnp.negative,
        "Add": jnp.add,
        "Sub": jnp.subtract,
        "Mul": jnp.multiply,
        "Div": jnp.divide,
        "MatMul": jnp.matmul,
        "Identity": lambda x: x,
    }
    return {
        **{name: _always(function) for name, function in plain.items()},
        "Gemm": _gemm,
        "Conv": _points,
        "Softmax": lambda node: lambda x: nn.softmax(x, node.get("axis", -1)),
        "BatchNormalization": _batch_normalization,
        "LayerNormalization": _layer_normalization,
        "Reshape": _reshape,
        "Transpose": lambda node: lambda x: x.transpose(node.get("perm")),
        "Concat": lambda node: lambda *xs: jnp.concatenate(xs, node.get("axis")),
        "ReduceSum": _reduced("sum"),
        "ReduceMean": _reduced("mean"),
        "Tile": _tile,
        "Slice": _slice,
        "TopK": _top_k,
        "GatherND": _gather_nd,
    }


def _always(function: Callable[..., Any]) -> Maker:
    return lambda _: function


def _gemm(node: Node) -> Callable[..., Any]:
    node.only(alpha=1.0, beta=1.0, transA=0)
    turned = node.get("transB", 0)

    def gemm(x: Any, w: Any, b: Any = None) -> Any:
        y = x @ (w.T if turned else w)
        return y if b is None else y + b

    return gemm


def _points(node: Node) -> Callable[..., Any]:
    """A convolution of single points."""
    from jax import numpy as jnp

    rank = node.array(1).ndim - 2
    node.only(auto_pad="NOTSET", group=1, kernel_shape=[1] * rank)
    node.only(strides=[1] * rank, pads=[0] * (2 * rank))

    def points(x: Any, w: Any, b: Any = None) -> Any:
        y = jnp.einsum("nc...,fc->nf...", x, w.reshape(w.shape[:2]))
        return y if b is None else y + b.reshape(-1, *[1] * rank)

    return points


def _batch_normalization(node: Node) -> Callable[..., Any]:
    from jax import numpy as jnp

    node.only(training_mode=0)
    epsilon = node.get("epsilon", 1e-5)

    def normalized(x: Any, *given: Any) -> Any:
        scale, bias, mean, variance = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in given)
        return (x - mean) / jnp.sqrt(variance + epsilon) * scale + bias

    return normalized


def _layer_normalization(node: Node) -> Callable[..., Any]:
    from jax import numpy as jnp

    node.only(axis=-1)
    epsilon = node.get("epsilon", 1e-5)

    def normalized(x: Any, scale: Any, bias: Any = None) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        y = centred / jnp.sqrt((centred * centred).mean(-1, keepdims=True) + epsilon) * scale
        return y if bias is None else y + bias

    return normalized


def _reshape(node: Node) -> Callable[..., Any]:
    wanted = node.number(1, "shape") or []
    node.only(allowzero=0)
    return lambda x, *_: x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(wanted)])


def _reduced(method: str) -> Maker:
    def make(node: Node) -> Callable[..., Any]:
        axes, keep = node.number(1, "axes"), bool(node.get("keepdims", 1))
        over = None if axes is None else tuple(axes)
        return lambda x, *_: getattr(x, method)(over, keepdims=keep)

    return make


def _tile(node: Node) -> Callable[..., Any]:
    from jax import numpy as jnp

    repeats = node.number(1) or []
    return lambda x, *_: jnp.tile(x, repeats)


def _slice(node: Node) -> Callable[..., Any]:
    return lambda x, *_: x[node.ranges(x.ndim)]


def _top_k(node: Node) -> Callable[..., Any]:
    from jax import lax

    (k,) = node.number(1) or (0,)
    node.only(axis=-1, sorted=1)
    sign = 1 if node.get("largest", 1) else -1

    def top_k(x: Any, *_: Any) -> Any:
        values, places = lax.top_k(sign * x, k)
        return sign * values, places

    return top_k


def _gather_nd(node: Node) -> Callable[..., Any]:
    import jax

    node.only(batch_dims=1)

    def gathered(x: Any, at: Any) -> Any:
        return x[tuple(at[..., axis] for axis in range(at.shape[-1]))]

    apply: Callable[..., Any] = jax.vmap(gathered)
    return apply
