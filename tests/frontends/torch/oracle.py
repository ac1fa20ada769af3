"""What torch says, beside a graph or a compiled model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from sofie_rdf.frontends.torch.inputs import Signature, array_of, examples_of, inputs_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate

__all__ = ["answers", "assert_same", "deviation", "feeds"]

LIMITS = {"float32": 3e-6, "float64": 1e-13, "float16": 4e-3, "bfloat16": 3e-2}


def answers(module: torch.nn.Module, example: Any) -> list[Array]:
    """The tensors that the module gives in evaluation mode."""
    arguments = examples_of(example, Signature(module))
    args, kwargs = Signature(module).call(arguments)
    mode = module.training
    module.eval()
    with torch.no_grad():
        result = module(*args, **kwargs)
    module.train(mode)
    return [array_of(t) for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]


def feeds(graph: Graph, module: torch.nn.Module, example: Any) -> dict[str, Array]:
    """The tensors among the arguments, as inputs of the graph; a trace may ignore some."""
    signature = Signature(module)
    leaves = inputs_of(examples_of(example, signature), False, signature).tensors
    if len(leaves) == len(graph.inputs):
        return {n: array_of(leaf.example) for n, leaf in zip(graph.inputs, leaves, strict=True)}
    return {leaf.name: array_of(leaf.example) for leaf in leaves if leaf.name in graph.inputs}


def deviation(found: Array, wanted: Array) -> float:
    """The largest one, relative to the largest number; infinite for other shapes and types."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return float("inf")
    one, other = (np.asarray(a, np.float64) for a in (found, wanted))
    finite = np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        return float("inf")
    scale = float(np.max(np.abs(other[finite]), initial=1e-30))
    return float(np.max(np.abs(one[finite] - other[finite]), initial=0.0)) / scale


def assert_same(graph: Graph, module: torch.nn.Module, example: Any) -> None:
    """The graph gives what the module gives, by NumPy."""
    found: Mapping[str, Array] = evaluate(graph, feeds(graph, module, example))
    wanted = answers(module, example)
    assert len(found) == len(wanted)
    for name, expected in zip(graph.outputs, wanted, strict=True):
        limit = LIMITS.get(expected.dtype.name, 0.0)
        assert deviation(found[name], expected) <= limit, name
