"""Exported programs: what they are called with, and which of their axes are open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sofie_rdf.errors import UnsupportedFormat
from sofie_rdf.frontends.torch.inputs import BATCH, Inputs, Leaf

if TYPE_CHECKING:
    import torch

__all__ = ["inputs_of_program", "module_of_program", "program_as_function"]

# A size for an open axis of which the program does not say what it was in the example.
_SIZE = 3
# Where normalisations say that they are in training mode.
_TRAINING = {
    "aten.batch_norm.default": 5,
    "aten._native_batch_norm_legit.default": 5,
    "aten._native_batch_norm_legit_functional.default": 5,
    "aten.native_batch_norm.default": 5,
    "aten.dropout.default": 2,
    "aten.feature_dropout.default": 2,
    "aten.alpha_dropout.default": 2,
    "aten.native_dropout.default": 2,
}


def module_of_program(program: torch.export.ExportedProgram) -> Any:
    """The program as a function, without its own checks of sizes: other ones are to be tried."""
    _refuse_training(program)
    return program_as_function(program)


def program_as_function(program: torch.export.ExportedProgram) -> Any:
    """As `module_of_program`, whatever mode it is in."""
    try:
        return program.module(check_guards=False)
    except TypeError:  # Before torch 2.9.
        return program.module()


def _refuse_training(program: torch.export.ExportedProgram) -> None:
    for node in program.graph.nodes:
        place = _TRAINING.get(str(node.target), 99)
        if place < len(node.args) and node.args[place] is True:
            raise UnsupportedFormat(
                f"was exported in training mode: {node.name!r} is {node.target}",
                remedy="Call eval() on the module before torch.export.export",
            )


def inputs_of_program(program: torch.export.ExportedProgram) -> Inputs:
    """The inputs of a program, with the examples that it has, or random ones."""
    from torch.utils import _pytree as pytree

    spec = program.call_spec.in_spec
    names = program.graph_signature.user_inputs
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    given = program.example_inputs
    examples = pytree.tree_leaves(given) if given is not None else [None] * len(names)
    symbols: dict[str, str] = {}
    leaves: list[Leaf | None] = []
    found = []
    for name, example in zip(names, examples, strict=True):
        value = values.get(name) if isinstance(name, str) else None
        if not hasattr(value, "shape"):
            leaves.append(None)
            found.append(example if isinstance(name, str) else name)
            continue
        axes = _axes(str(name), value, symbols)
        leaf = Leaf(str(name), example if example is not None else _random(value), axes)
        leaves.append(leaf)
        found.append(leaf.example)
    args, kwargs = pytree.tree_unflatten(found, spec)
    arguments: Mapping[str, Any] = {"args": args, "kwargs": kwargs}
    return Inputs(arguments, tuple(leaves), lambda a: (tuple(a["args"]), dict(a["kwargs"])))


def _axes(name: str, value: Any, symbols: dict[str, str]) -> dict[int, str]:
    """Names for the axes whose size is a symbol: the same one, wherever it is."""
    found = {}
    for axis, size in enumerate(value.shape):
        text = str(size)
        if isinstance(size, int) or not text.isidentifier():
            continue
        if text not in symbols:
            first = axis == 0 and BATCH not in symbols.values()
            symbols[text] = BATCH if first else f"{name}_{axis}"
        found[axis] = symbols[text]
    return found


def _random(value: Any) -> torch.Tensor:
    import torch

    shape = [s if isinstance(s, int) else int(s.node.hint or _SIZE) for s in value.shape]
    made = torch.Generator().manual_seed(0)
    if value.dtype.is_floating_point:
        return torch.randn(shape, generator=made, dtype=torch.float64).to(value.dtype)
    return torch.randint(0, 2, shape, generator=made).to(value.dtype)
