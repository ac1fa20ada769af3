"""The passes in their order: a tuple, and one function that runs them and looks after each."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import TypeAlias

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
    functions,
    fuse,
    layers,
    pairs,
    points,
    simplify,
    small_convolutions,
    transposes,
    winograd,
)
from sofie_rdf.passes.rewrite import BUG, Refusal, Report, Rules

__all__ = ["DEFAULT", "FUSED", "Pass", "explain", "run"]

Pass: TypeAlias = Callable[[Graph], Graph]

logger = logging.getLogger("sofie_rdf")

# What decides which constants are the weights of which layer.
FUSED: tuple[Pass, ...] = (
    # As they are counted now they are, whatever becomes of the graph.
    draws.numbered,
    simplify.fold_sizes,
    simplify.fold_constants,
    simplify.remove_dead,
    simplify.remove_neutral,
    simplify.remove_identities,
    # Rules look for values that are used once: what is there twice would hide them.
    simplify.merge_equal,
    simplify.merge_transposes,
    simplify.scatter_columns,
    simplify.remove_dead,
    pairs.known_pairs,
    simplify.split_joined,
    simplify.remove_identities,
    pairs.pair_operators,
    simplify.remove_identities,
    simplify.remove_dead,
    simplify.merge_transposes,
    simplify.remove_identities,
    pairs.terms_of_pairs,
    simplify.split_joined,
    simplify.remove_identities,
    simplify.remove_dead,
    simplify.merge_equal,
    functions.known_functions,
    functions.rms_normalizations,
    functions.squares,
    attention.inner_transposes,
    transposes.split_axes,
    attention.fuse_attention,
    transposes.move_transposes,
    simplify.remove_identities,
    fuse.fuse_layers,
    convolutions.fuse_convolutions,
    convolutions.fuse_borders,
    fuse.fuse_normalizations,
    convolutions.fuse_convolution_inputs,
    copies.products_of_copies,
    simplify.remove_dead,
    simplify.merge_equal,
    points.pointwise_runs,
    # Once more, because what a Transpose stood between may now be neighbours.
    transposes.pointwise_convolutions,
    simplify.remove_identities,
    fuse.fuse_layers,
    convolutions.fuse_convolutions,
    fuse.fuse_normalizations,
    convolutions.fuse_convolution_inputs,
    chains.known_statistics,
    transposes.move_transposes,
    simplify.remove_identities,
    chains.fuse_chains,
    # Layers that share their weights were given a copy each.
    simplify.merge_equal,
)
DEFAULT: tuple[Pass, ...] = (
    *FUSED,
    convolutions.spread_points,
    small_convolutions.choose_matrices,
    winograd.choose_winograd,
    winograd.turn_transposed,
    transposes.as_reshapes,
    simplify.remove_identities,
    simplify.remove_dead,
    layers.join_layers,
    draws.with_rows,
)


def run(graph: Graph, passes: Iterable[Pass] = DEFAULT) -> Graph:
    """The same function in fewer nodes. If a pass breaks the graph, a GraphError that names it."""
    return explain(graph, passes)[0]


def explain(graph: Graph, passes: Iterable[Pass] = DEFAULT) -> tuple[Graph, Report]:
    """`run`, which rules were applied, and where in what is left they are refused, and why."""
    verify(graph)
    applied: Counter[str] = Counter()
    refused: dict[tuple[str, str], tuple[Refusal, ...]] = {}
    for one in passes:
        before, name = graph, _name(one)
        limits.spend(what=f"the pass {name!r}")
        try:
            graph, added = _result(one, before)
            if graph is not before:
                verify(graph, before)
        except (LimitExceeded, MemoryError):
            raise
        except Exception as error:
            # Whatever it is: the graph was legal before, so the pass is wrong.
            raise _broken(name, error) from error
        applied.update(added.applied)
        # What a pass refuses it may do the next time.
        refused.update(dict.fromkeys((key for key in refused if key[0] == name), ()))
        for each in {r.rule for r in added.refused}:
            refused[name, each] = tuple(r for r in added.refused if r.rule == each)
        logger.debug("%s: %d nodes -> %d", name, len(before.nodes), len(graph.nodes))
    left = {value for node in graph.nodes for value in node.outputs}
    last = dict.fromkeys(r for found in refused.values() for r in found if r.value in left)
    return graph, Report(MappingProxyType(dict(applied)), tuple(last))


def _name(one: Pass) -> str:
    return one.name if isinstance(one, Rules) else getattr(one, "__name__", repr(one))


def _result(one: Pass, graph: Graph) -> tuple[Graph, Report]:
    return one.explain(graph) if isinstance(one, Rules) else (one(graph), Report())


def _broken(name: str, error: Exception) -> GraphError:
    thing = error.thing if isinstance(error, SofieError) else f"{type(error).__name__}: {error}"
    place = error.place if isinstance(error, SofieError) else ""
    return GraphError(f"the pass {name!r} failed: {thing}", place=place, remedy=BUG)
