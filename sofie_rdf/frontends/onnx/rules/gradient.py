"""Gradient of ai.onnx.preview.training: the derivatives are nodes of the graph like all others."""

from __future__ import annotations

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.gradients.reverse import Reverse
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ops.layout import Identity

_MANY = 1000


@onnx_rule(
    "Gradient",
    domain="ai.onnx.preview.training",
    inputs=(1, _MANY),
    outputs=_MANY,
    attributes={"xs": tuple, "zs": tuple, "y": str},
)
def _gradient(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """dy/dx for each of xs, where y is summed over its elements; the inputs stand for xs and zs."""
    xs, zs = node.attributes.get("xs", ()), node.attributes.get("zs", ())
    y = node.attributes.get("y", "")
    names = (*xs, *zs)
    if len(names) != len(node.inputs) or not build.has(y) or not all(map(build.has, names)):
        raise GraphError(f"Gradient of {y!r} by {list(names)} for {list(node.inputs)}")
    if names != node.inputs:
        raise UnsupportedOperator(
            "Gradient at other values than those that y is computed from",
            remedy="Name the values that it is taken at in xs and zs",
        )
    value = build.type_of(y)
    if not value.dtype.is_float:
        raise UnsupportedOperator(f"Gradient of {y!r}, which is {value}")
    sweep = Reverse(build)
    seed = sweep.tape.value(y).like(1)
    # They are taken as they are, however they were computed.
    nodes = [n for n in build.nodes if not set(xs).intersection(n.outputs)]
    found = sweep.walked(nodes, {y: seed}, list(xs))
    for x, slope, output in zip(xs, found, node.outputs, strict=False):
        if output:
            whole = sweep.tape.value(x).like() if slope is None else slope
            build(Identity(), whole.name, outputs=(output,), origin=origin)
