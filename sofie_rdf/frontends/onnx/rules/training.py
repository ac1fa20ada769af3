"""ai.onnx.preview.training: one step of an optimiser, in element-wise operators.

The inputs are the learning rate r, the number t of steps before, and then for each tensor its
values x, their gradients g, and what the optimiser remembers of it; the outputs are the new x and
the new memory, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules._formula import Formula
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ops.elementwise import Add, Div, Equal, Mul, Pow, Sqrt, Sub, Where
from sofie_rdf.ops.layout import Identity

_TRAINING = "ai.onnx.preview.training"
_MOST = 10_000


# (formula, node, r, t, x, g, memory) -> (new x, new memory)
Step: TypeAlias = Callable[..., tuple[str, ...]]


def _optimizer(name: str, memory: int, attributes: Mapping[str, type]) -> Callable[[Step], Step]:
    """A rule for an optimiser that remembers ``memory`` tensors for each one."""
    each = 2 + memory

    def register(step: Step) -> Step:
        @onnx_rule(
            name,
            domain=_TRAINING,
            inputs=(2 + each, _MOST),
            outputs=_MOST,
            attributes=attributes,
        )
        def rule(node: OnnxNode, build: Builder, origin: Origin) -> None:
            count, rest = divmod(len(node.inputs) - 2, each)
            if rest or len(node.outputs) > count * (1 + memory):
                raise GraphError(f"{name} has {len(node.inputs)} inputs: 2, and {each} for each")
            rate, steps = node.inputs[:2]
            for number in range(count):
                own = [node.inputs[2 + number + kind * count] for kind in range(each)]
                formula = Formula(build, build.types[own[0]].dtype, origin)
                found = step(formula, node, formula.cast(rate), steps, *own)
                for kind, value in enumerate(found):
                    place = number + kind * count
                    if place < len(node.outputs) and node.outputs[place]:
                        build(Identity(), value, outputs=(node.outputs[place],), origin=origin)

        rule.__doc__ = step.__doc__  # The table of operators shows it.
        return step

    return register


def _regularized(f: Formula, node: OnnxNode, x: str, g: str) -> str:
    """The gradient of the loss with norm_coefficient / 2 * |x|^2 added."""
    factor = node.attributes.get("norm_coefficient", 0.0)
    return f(Add(), f(Mul(), factor, x), g) if factor else g


@_optimizer("Adagrad", 1, dict.fromkeys(("decay_factor", "epsilon", "norm_coefficient"), float))
def _adagrad(f: Formula, node: OnnxNode, r: str, t: str, x: str, g: str, h: str) -> tuple[str, ...]:
    """x - r / (1 + t * decay) * g / (sqrt(h) + epsilon) with h + g^2 for h"""
    decay = node.attributes.get("decay_factor", 0.0)
    g = _regularized(f, node, x, g)
    rate = f(Div(), r, f(Add(), 1.0, f(Mul(), f.cast(t), decay))) if decay else r
    h = f(Add(), h, f(Mul(), g, g))
    scale = f(Add(), f(Sqrt(), h), node.attributes.get("epsilon", 0.0))
    return f(Sub(), x, f(Div(), f(Mul(), rate, g), scale)), h


@_optimizer(
    "Adam",
    2,
    dict.fromkeys(("alpha", "beta", "epsilon", "norm_coefficient", "norm_coefficient_post"), float),
)
def _adam(
    f: Formula, node: OnnxNode, r: str, t: str, x: str, g: str, v: str, h: str
) -> tuple[str, ...]:
    """(1 - post) * (x - rate * v / (sqrt(h) + epsilon)), v and h running means of g and g^2

    The rate is r * sqrt(1 - beta^t) / (1 - alpha^t), and r before the first step.
    """
    alpha = node.attributes.get("alpha", 0.9)
    beta = node.attributes.get("beta", 0.999)
    g = _regularized(f, node, x, g)
    v = f.weighed(alpha, v, 1 - alpha, g)
    h = f.weighed(beta, h, 1 - beta, f(Mul(), g, g))
    root = f(Add(), f(Sqrt(), h), node.attributes.get("epsilon", 1e-6))
    steps = f.cast(t)
    shrunk = f(Sqrt(), f(Sub(), 1.0, f(Pow(), beta, steps)))
    grown = f(Div(), f(Mul(), r, shrunk), f(Sub(), 1.0, f(Pow(), alpha, steps)))
    rate = f(Where(), f(Equal(), steps, 0.0), r, grown)
    x = f(Sub(), x, f(Div(), f(Mul(), rate, v), root))
    post = node.attributes.get("norm_coefficient_post", 0.0)
    return (f(Mul(), 1 - post, x) if post else x), v, h


@_optimizer(
    "Momentum",
    1,
    {**dict.fromkeys(("alpha", "beta", "norm_coefficient"), float), "mode": str},
)
def _momentum(
    f: Formula, node: OnnxNode, r: str, t: str, x: str, g: str, v: str
) -> tuple[str, ...]:
    """x - r * v with alpha * v + beta * g for v (beta is 1 before the first step)

    Nesterov's: x - r * (g + alpha * v).
    """
    alpha, beta, mode = (node.attributes.get(n) for n in ("alpha", "beta", "mode"))
    if alpha is None or beta is None or "norm_coefficient" not in node.attributes:
        raise GraphError("Momentum lacks an attribute")
    if mode not in ("standard", "nesterov"):
        raise UnsupportedOperator(f"Momentum has no mode {mode!r}")
    g = _regularized(f, node, x, g)
    share = f(Where(), f(Equal(), f.cast(t), 0.0), 1.0, beta)
    v = f(Add(), f(Mul(), alpha, v), f(Mul(), share, g))
    step = v if mode == "standard" else f(Add(), g, f(Mul(), alpha, v))
    return f(Sub(), x, f(Mul(), r, step)), v
