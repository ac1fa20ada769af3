"""A network in layers, each of which has a derivative: the form in which it is differentiated.

The way back through a dense layer of rows is a dense layer, that through a gather of rows adds
rows. So what the passes find in a network pays twice if they find it before it is differentiated:
products that are done before rows are copied, channels that are last, functions that were spelled
out. An activation is apart from its layer here, as its derivative may ask for what it was of; the
passes behind the derivatives join those again that nobody else reads.
"""

from __future__ import annotations

from dataclasses import fields

from sofie_rdf.ir.graph import Graph
from sofie_rdf.ops import draws
from sofie_rdf.ops.convolution import Conv, ConvLayer
from sofie_rdf.ops.convolution_transposed import ConvTranspose, ConvTransposeLayer
from sofie_rdf.ops.elementwise import Add
from sofie_rdf.ops.linear import Dense, NoActivation
from sofie_rdf.passes import convolutions, copies, functions, fuse, points, simplify, transposes
from sofie_rdf.passes.pipeline import Phase, run
from sofie_rdf.passes.rewrite import Match, Rewrite, Rules, rule

__all__ = ["layered"]


@rule("sofie.Dense(x, w, b)")
def dense_apart(m: Match) -> Rewrite:
    """f(x @ w + b) in two steps"""
    op = m.op(Dense)
    m.require(op.activation != NoActivation(), "")
    return m.becomes(op.activation, m.made(Dense(), "x", "w", "b"))


@rule(
    "sofie.ConvLayer(x, w, b)",
    "sofie.ConvLayer(x, w, b, added)",
    "sofie.ConvTransposeLayer(x, w, b)",
)
def convolution_apart(m: Match) -> Rewrite:
    """f(Conv(x, w, b) + added) in up to three steps"""
    op = m.root.op
    assert isinstance(op, ConvLayer | ConvTransposeLayer)
    kind = Conv if isinstance(op, ConvLayer) else ConvTranspose
    sums = kind(**{f.name: getattr(op, f.name) for f in fields(kind)})
    if "added" not in m.values and op.activation == NoActivation():
        return m.becomes(sums, "x", "w", "b")
    if "added" not in m.values:
        return m.becomes(op.activation, m.made(sums, "x", "w", "b"))
    if op.activation == NoActivation():
        return m.becomes(Add(), m.made(sums, "x", "w", "b"), "added")
    return m.becomes(op.activation, m.made(Add(), m.made(sums, "x", "w", "b"), "added"))


# Those whose derivative is the same everywhere: HardSwish has another one at NaN than its formula.
_SMOOTH = Rules(
    "smooth_functions",
    (
        functions.swish,
        functions.mish,
        functions.gelu,
        functions.gelu_by_tanh,
        functions.softmax,
        functions.layer_normalization,
    ),
)
LAYERS = Phase(
    "layers",
    "What is known is a constant, rows have their channels last, and copies are made late.",
    (
        draws.numbered,
        simplify.fold_sizes,
        simplify.fold_constants,
        simplify.remove_neutral,
        simplify.merge_equal,
        simplify.merge_transposes,
        simplify.fold_sizes,
        simplify.fold_constants,
        _SMOOTH,
        transposes.move_transposes,
        fuse.fuse_layers,
        convolutions.fuse_convolutions,
        fuse.fuse_normalizations,
        convolutions.fuse_convolution_inputs,
        copies.products_of_copies,
        simplify.merge_equal,
        points.pointwise_runs,
        transposes.pointwise_convolutions,
        fuse.fuse_layers,
        convolutions.fuse_convolutions,
    ),
)
APART = Phase(
    "apart",
    "A layer has no activation, and adds nothing.",
    (Rules("activations_apart", (dense_apart, convolution_apart)),),
)


def layered(graph: Graph) -> Graph:
    """The same function, of which derivatives are cheap."""
    return run(graph, (LAYERS, APART))
