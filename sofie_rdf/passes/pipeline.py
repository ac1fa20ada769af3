"""The passes in their order: phases, and one function that runs them and looks after each pass."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from sofie_rdf import limits
from sofie_rdf.errors import GraphError, LimitExceeded, SofieError
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.verify import verify
from sofie_rdf.ops import draws
from sofie_rdf.passes import (
    attention,
    chains,
    convolutions,
    copies,
    formulas,
    functions,
    fuse,
    layers,
    pairs,
    points,
    sequences,
    simplify,
    small_convolutions,
    transposes,
    winograd,
)
from sofie_rdf.passes.rewrite import BUG, Refusal, Report, Rules

__all__ = ["DEFAULT", "FUSED", "Pass", "Phase", "clean", "explain", "repeated", "run", "tidy"]

Pass: TypeAlias = Callable[[Graph], Graph]

logger = logging.getLogger("sofie_rdf")

# Rounds of passes that are repeated until they find nothing; three is the most that was seen.
ROUNDS = 50


class Phase(NamedTuple):
    """Passes with one aim, and what is true of the graph behind the last of them.

    Behind it, none of its passes has anything left to do, and neither has `tidy`.
    """

    name: str
    promise: str
    passes: tuple[Pass, ...]


NORMALISE = Phase(
    "normalise",
    "What is known is a constant, and no two nodes compute the same.",
    (
        # The numbers of random nodes are those of the graph as it was read.
        draws.numbered,
        formulas.by_formula,
        simplify.fold_sizes,
        simplify.fold_constants,
        simplify.remove_neutral,
        # Rules look for values that are used once: what is there twice would hide them.
        simplify.merge_equal,
        simplify.merge_transposes,
        simplify.scatter_columns,
        # Sizes of equal nodes are equal, so that more of them are known now.
        simplify.fold_sizes,
        simplify.fold_constants,
    ),
)
RECOGNISE = Phase(
    "recognise",
    "Functions that were spelled out are operators: pairs, normalizations, activations, attention.",
    (
        pairs.known_pairs,
        simplify.split_joined,
        pairs.pair_operators,
        simplify.merge_transposes,
        pairs.terms_of_pairs,
        simplify.split_joined,
        simplify.merge_equal,
        functions.known_functions,
        functions.rms_normalizations,
        functions.squares,
        attention.inner_transposes,
        transposes.split_axes,
        attention.fuse_attention,
    ),
)
FUSE = Phase(
    "fuse",
    "A layer has its bias, its normalization and its activation, and a chain of passes is one.",
    (
        transposes.move_transposes,
        fuse.fuse_layers,
        convolutions.fuse_convolutions,
        convolutions.fuse_borders,
        fuse.fuse_normalizations,
        convolutions.fuse_convolution_inputs,
        copies.products_of_copies,
        simplify.merge_equal,
        points.pointwise_runs,
        # Once more, because what a Transpose stood between may now be neighbours.
        transposes.pointwise_convolutions,
        fuse.fuse_layers,
        convolutions.fuse_convolutions,
        fuse.fuse_normalizations,
        convolutions.fuse_convolution_inputs,
        chains.known_statistics,
        transposes.move_transposes,
        fuse.fuse_integers,
        chains.fuse_chains,
    ),
)
CHOOSE = Phase(
    "choose",
    "Convolutions have the form that takes fewest operations.",
    (
        convolutions.spread_points,
        small_convolutions.choose_matrices,
        winograd.choose_winograd,
        winograd.turn_transposed,
    ),
)
LAY_OUT = Phase(
    "lay out",
    "Sequences are read in place, transposes that move nothing are Reshapes, "
    "and layers in a row are one.",
    (
        sequences.read_in_place,
        transposes.as_reshapes,
        layers.join_layers,
        draws.with_rows,
    ),
)
# What decides which constants are the weights of which layer.
FUSED = (NORMALISE, RECOGNISE, FUSE)
DEFAULT = (*FUSED, CHOOSE, LAY_OUT)


def run(graph: Graph, phases: Iterable[Phase] = DEFAULT) -> Graph:
    """The same function in fewer nodes. If a pass breaks the graph, a GraphError that names it."""
    return explain(graph, phases)[0]


def explain(graph: Graph, phases: Iterable[Phase] = DEFAULT) -> tuple[Graph, Report]:
    """`run`, which rules were applied, and where in what is left they are refused, and why."""
    verify(graph)
    applied: Counter[str] = Counter()
    refused: dict[tuple[str, str], tuple[Refusal, ...]] = {}
    for phase in phases:
        for one in (clean, *phase.passes, tidy):
            name = _name(one)
            before, (graph, added) = graph, _checked(one, graph)
            if graph is not before:
                graph, _ = _checked(clean, graph)
            applied.update(added.applied)
            # What a pass refuses it may do the next time.
            refused.update(dict.fromkeys((key for key in refused if key[0] == name), ()))
            for each in {r.rule for r in added.refused}:
                refused[name, each] = tuple(r for r in added.refused if r.rule == each)
            logger.debug("%s: %d nodes -> %d", name, len(before.nodes), len(graph.nodes))
    left = {value for node in graph.nodes for value in node.outputs}
    last = dict.fromkeys(r for found in refused.values() for r in found if r.value in left)
    return graph, Report(MappingProxyType(dict(applied)), tuple(last))


def clean(graph: Graph) -> Graph:
    """Without identities, and without what no output needs; after each pass that did something."""
    return repeated(graph, simplify.remove_identities, simplify.remove_dead)


def tidy(graph: Graph) -> Graph:
    """`clean`, and without nodes that compute the same; the end of each phase.

    Layers that share their weights are given a copy each by passes that fuse them.
    """
    return repeated(graph, simplify.merge_equal, simplify.remove_identities, simplify.remove_dead)


def repeated(graph: Graph, *passes: Pass) -> Graph:
    """These passes until none of them does anything.

    Each of them makes the graph smaller or leaves it alone, so few rounds are enough. Two that undo
    each other's work would go round for ever: the graph is right after each, so that one is taken.
    """
    for _ in range(ROUNDS):
        before = graph
        for one in passes:
            graph = one(graph)
        if graph is before:
            return graph
    logger.warning("%d rounds of %s were not enough", ROUNDS, ", ".join(map(_name, passes)))
    return graph


def _checked(one: Pass, before: Graph) -> tuple[Graph, Report]:
    """What a pass makes of a graph; a GraphError that names it if that is no legal graph."""
    limits.spend(what=f"the pass {_name(one)!r}")
    try:
        graph, report = _result(one, before)
        if graph is not before:
            verify(graph, before)
    except (LimitExceeded, MemoryError):
        raise
    except Exception as error:
        # Whatever it is: the graph was legal before, so the pass is wrong.
        raise _broken(_name(one), error) from error
    return graph, report


def _name(one: Pass) -> str:
    return one.name if isinstance(one, Rules) else getattr(one, "__name__", repr(one))


def _result(one: Pass, graph: Graph) -> tuple[Graph, Report]:
    return one.explain(graph) if isinstance(one, Rules) else (one(graph), Report())


def _broken(name: str, error: Exception) -> GraphError:
    thing = error.thing if isinstance(error, SofieError) else f"{type(error).__name__}: {error}"
    place = error.place if isinstance(error, SofieError) else ""
    return GraphError(f"the pass {name!r} failed: {thing}", place=place, remedy=BUG)
