"""The engine of rules: what a node of a file means in terms of our operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from sofie_rdf.errors import GraphError, UnsupportedOperator, nearest
from sofie_rdf.frontends.onnx.values import Listed
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin

__all__ = ["OnnxNode", "Rule", "has_rule", "lists_of", "onnx_rule", "rule_for", "rules"]


@dataclass(frozen=True)
class OnnxNode:
    """A node of a file: attributes as Python values, ``version`` that of its operator set."""

    name: str
    domain: str
    op_type: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    # Values of the graphs around it that graphs in its attributes read.
    captured: tuple[str, ...] = ()


Rule: TypeAlias = Callable[[OnnxNode, Builder, Origin], None]
_NEWEST = 10_000


@dataclass(frozen=True)
class _Form:
    """For which nodes a rule is: below which version, with what inputs, outputs and attributes."""

    rule: Rule
    below: int
    inputs: tuple[int, int]
    outputs: int
    attributes: Mapping[str, type]
    lists: frozenset[str]

    def check(self, node: OnnxNode) -> None:
        """`GraphError` or `UnsupportedOperator` for a node that is not of this form."""
        least, most = self.inputs
        if not least <= len(node.inputs) <= most or "" in node.inputs[:least]:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise GraphError(f"{node.op_type} takes {wanted} inputs, not {list(node.inputs)}")
        if not 1 <= len(node.outputs) <= self.outputs or not node.outputs[0]:
            raise GraphError(f"{node.op_type} cannot have the outputs {list(node.outputs)}")
        for name, value in node.attributes.items():
            if name not in self.attributes:
                raise UnsupportedOperator(
                    f"{node.op_type} has no attribute {name!r}",
                    remedy=nearest(name, self.attributes),
                )
            if not isinstance(value, self.attributes[name]):
                raise GraphError(f"attribute {name!r} of {node.op_type} has the wrong type")


_RULES: dict[tuple[str, str], _Form] = {}


def rule_for(node: OnnxNode) -> Rule | None:
    """The rule for nodes of this operator and version, if there is one; it checks them first."""
    form = _RULES.get((node.domain, node.op_type))
    if form is None or node.version >= form.below:
        return None

    def checked(node: OnnxNode, build: Builder, origin: Origin) -> None:
        form.check(node)
        form.rule(node, build, origin)

    return checked


def lists_of(domain: str, op_type: str) -> frozenset[str]:
    """The attributes of this operator that its rule wants as `Listed`."""
    form = _RULES.get((domain, op_type))
    return form.lists if form else frozenset()


def has_rule(domain: str, op_type: str) -> bool:
    """Whether there is a rule for this operator, in whatever version."""
    return (domain, op_type) in _RULES


def rules() -> Mapping[tuple[str, str], str]:
    """The operators, as domain and name, for which there are rules, and what the rules say."""
    return {key: (form.rule.__doc__ or "").partition("\n")[0] for key, form in _RULES.items()}


def onnx_rule(
    op_type: str,
    *,
    domain: str = "",
    below: int = _NEWEST,
    inputs: tuple[int, int] = (1, 1),
    outputs: int = 1,
    attributes: Mapping[str, type] = MappingProxyType({}),
) -> Callable[[Rule], Rule]:
    """Decorator: the rule for nodes of this operator in versions ``below`` (default: in all).

    ``inputs`` is the least and largest number of inputs, ``outputs`` the largest number of outputs,
    ``attributes`` what it may have. The rule writes the node through the Builder.
    """

    def register(rule: Rule) -> Rule:
        if (domain, op_type) in _RULES:
            raise TypeError(f"there is a rule for {op_type} already")
        lists = frozenset(name for name, kind in attributes.items() if kind is Listed)
        _RULES[domain, op_type] = _Form(rule, below, inputs, outputs, attributes, lists)
        return rule

    return register
