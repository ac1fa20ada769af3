"""Random numbers of torch beside those of a graph: both are asked what they make of known draws.

Two that draw cannot be compared by their results. So every uniform number is one and the same, q,
in torch and in the graph, and every normal one is the quantile of q; for several q. What is left is
a function of the inputs, and compared like any other. That the graph draws as often as torch does
is counted: an exporter may take two draws for one, as they look alike.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf.errors import ModelError
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Operator, family
from sofie_rdf.ir.types import Array
from sofie_rdf.ops.draws import drawing
from sofie_rdf.ops.random import Bernoulli, Multinomial, RandomDropout, RandomOperator

if TYPE_CHECKING:
    import torch

__all__ = ["QUANTILES", "draws", "graph_at", "require_as_many", "run_at"]

# No probability that somebody writes down: at that one a draw would be either.
QUANTILES = (0.471, 0.863, 0.117)


def draws(graph: Graph) -> bool:
    """Whether the graph draws random numbers."""
    return next(drawing(graph), None) is not None


class _Count:
    """How many operators have drawn."""

    def __init__(self) -> None:
        self.draws = 0


@family
class _Known(Operator):
    """An operator whose uniform numbers are all the same."""

    op: Any
    u: float
    v: float
    count: Any
    is_random: ClassVar[bool] = False

    def infer(self, *inputs: Any) -> Any:
        return self.op.infer(*inputs)

    def reference(self, *inputs: Any) -> Any:
        self.count.draws += 1
        known = copy.copy(self.op)
        known.__dict__["uniforms"] = self._uniforms
        return known.reference(*inputs)

    def _uniforms(self, shape: Sequence[int], _: Array | None) -> tuple[Array, Array]:
        return np.full(shape, self.u), np.full(shape, self.v)


def graph_at(graph: Graph, q: float, count: _Count | None = None) -> Graph:
    """The graph with this quantile in place of every draw."""
    nodes = []
    for node in graph.nodes:
        op: Any = node.op
        if isinstance(op, RandomOperator):
            op = _known(op, q, count or _Count())
        elif op.bodies:
            bodies = {name: graph_at(body, q, count) for name, body in op.bodies.items()}
            op = dataclasses.replace(op, **bodies)
        nodes.append(dataclasses.replace(node, op=op))
    return dataclasses.replace(graph, nodes=tuple(nodes))


def _known(op: RandomOperator, q: float, count: _Count) -> _Known:
    if isinstance(op, RandomDropout):
        return _Known(op, 1 - q, 0.0, count)  # torch keeps what is below the probability to stay.
    if isinstance(op, Bernoulli | Multinomial) or hasattr(op, "low"):
        return _Known(op, q, 0.0, count)
    z = NormalDist().inv_cdf(q)
    return _Known(op, -math.expm1(-z * z / 2), 0.0 if z > 0 else 0.5, count)


def require_as_many(
    graph: Graph,
    run: Callable[[Sequence[torch.Tensor]], Any],
    examples: Sequence[torch.Tensor],
    evaluated: Callable[[Graph], Any],
) -> None:
    """`ModelError` if the graph draws less often than torch does for the example inputs."""
    q, count = QUANTILES[0], _Count()
    evaluated(graph_at(graph, q, count))
    mode = _mode(q)
    with mode:
        run(examples)
    if count.draws < mode.draws:
        raise ModelError(
            f"torch draws random numbers {mode.draws} times, and the exported network "
            f"{count.draws} times",
            remedy="Two draws that look alike became one: draw all numbers at once, and split them",
        )


def run_at(
    run: Callable[[Sequence[torch.Tensor]], list[Array]], q: float
) -> Callable[[Sequence[torch.Tensor]], list[Array]]:
    """torch with this quantile in place of every draw."""

    def known(tensors: Sequence[torch.Tensor]) -> list[Array]:
        with _mode(q):
            return run(tensors)

    return known


# torch --------------------------------------------------------------------------------------------


def _mode(q: float) -> Any:
    """A context in which every draw of torch is this quantile; it counts them."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Known(TorchDispatchMode):  # type: ignore[misc]
        draws = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            name = func.overloadpacket.__name__ if hasattr(func, "overloadpacket") else ""
            found = getattr(_Torch, name.removesuffix("_functional").rstrip("_"), None)
            if torch.Tag.nondeterministic_seeded not in func.tags or found is None:
                return func(*args, **(kwargs or {}))
            self.draws += 1
            given = {k: v for k, v in (kwargs or {}).items() if k != "generator"}
            result = found(q, func._overloadname, *args, **given)
            return args[0].copy_(result) if name.endswith("_") else result

    return Known()


class _Torch:
    """Functions of torch at a quantile: ``(q, overload, arguments of the function)``."""

    @staticmethod
    def rand(q: float, _: str, size: Any, **options: Any) -> Any:
        return _full(size, q, options)

    @staticmethod
    def randn(q: float, _: str, size: Any, **options: Any) -> Any:
        return _full(size, NormalDist().inv_cdf(q), options)

    @staticmethod
    def randint(q: float, overload: str, *arguments: Any, **options: Any) -> Any:
        import torch

        low, high, size = arguments if "low" in overload else (0, *arguments)
        return _full(size, math.floor(low + (high - low) * q), {"dtype": torch.int64, **options})

    @staticmethod
    def rand_like(q: float, _: str, x: Any, **options: Any) -> Any:
        return _full_like(x, q, options)

    @staticmethod
    def randn_like(q: float, _: str, x: Any, **options: Any) -> Any:
        return _full_like(x, NormalDist().inv_cdf(q), options)

    @staticmethod
    def randint_like(q: float, _: str, x: Any, *bounds: Any, **options: Any) -> Any:
        low, high = bounds if len(bounds) == 2 else (0, *bounds)
        return _full_like(x, math.floor(low + (high - low) * q), options)

    @staticmethod
    def normal(q: float, overload: str, *arguments: Any, **options: Any) -> Any:
        import torch

        z = NormalDist().inv_cdf(q)
        if overload in ("Tensor_float", "float_Tensor", "Tensor_Tensor"):
            mean, std = (*arguments, options.get("std", 1.0))[:2]
            return mean + std * z
        if overload == "float_float":
            mean, std, size = arguments
            return _full(size, mean + std * z, options)
        x, *given = arguments
        mean, std = _filled(given, (0.0, 1.0), options, ("mean", "std"))
        return torch.full_like(x, mean + std * z)

    @staticmethod
    def uniform(q: float, _: str, x: Any, *bounds: Any, **options: Any) -> Any:
        import torch

        low, high = _filled(bounds, (0.0, 1.0), options, ("from", "to"))
        return torch.full_like(x, low + (high - low) * q)

    @staticmethod
    def exponential(q: float, _: str, x: Any, rate: float = 1.0, **options: Any) -> Any:
        import torch

        return torch.full_like(x, -math.log(q) / options.get("lambd", rate))

    @staticmethod
    def bernoulli(q: float, overload: str, x: Any, p: Any = None, **options: Any) -> Any:
        import torch

        p = options.get("p", 0.5 if p is None and overload == "float" else p)
        chance = x if p is None else torch.as_tensor(p, dtype=torch.float64)
        return (q < chance).to(x.dtype).expand(x.shape).clone()

    @staticmethod
    def native_dropout(q: float, _: str, x: Any, p: float, train: bool | None) -> Any:
        import torch

        kept = torch.full(x.shape, train is False or q < 1 - p)
        return x * kept / (1 - p if train is not False else 1), kept

    @staticmethod
    def multinomial(
        q: float, _: str, p: Any, count: int, replacement: bool = False, **_options: Any
    ) -> Any:
        if count > 1 and not replacement:
            raise ModelError(
                "draws several samples without replacement, of which ONNX has no operator",
                remedy="torch.multinomial(..., replacement=True), or one sample at a time",
            )
        below = p.double().cumsum(-1)
        found = (below > q * below[..., -1:]).int().argmax(-1, keepdim=True)
        return found.expand(*found.shape[:-1], count).clone()


def _filled(
    given: Sequence[Any],
    defaults: Sequence[float],
    options: dict[str, Any],
    names: Sequence[str],
) -> list[Any]:
    """Arguments by place, by name, or by default."""
    places = [*given, *list(defaults)[len(given) :]]
    return [options.get(name, value) for name, value in zip(names, places, strict=True)]


def _options(options: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if k in ("dtype", "device") and v is not None}


def _full(size: Any, value: float, options: dict[str, Any]) -> Any:
    import torch

    given = {"dtype": torch.get_default_dtype(), **_options(options)}
    return torch.full(tuple(size), value, **given)


def _full_like(x: Any, value: float, options: dict[str, Any]) -> Any:
    import torch

    return torch.full_like(x, value, **_options(options))
