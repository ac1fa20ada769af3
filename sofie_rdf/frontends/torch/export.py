"""torch's own exporters to ONNX, called quietly: what they were given stays as it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sofie_rdf.errors import (
    InputError,
    MissingDependency,
    ModelError,
    SofieError,
    UnsupportedFormat,
    UnsupportedOperator,
)
from sofie_rdf.frontends.torch.calls import kept_buffers, run_of
from sofie_rdf.frontends.torch.complexes import complex_operators
from sofie_rdf.frontends.torch.decompositions import decomposed
from sofie_rdf.frontends.torch.inputs import Inputs
from sofie_rdf.frontends.torch.trials import Run

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = [
    "Exported",
    "advice",
    "first_run",
    "of_program",
    "reason",
    "require",
]


@dataclass(frozen=True)
class Exported:
    """An ONNX model, and torch beside it."""

    proto: onnx.ModelProto
    inputs: Inputs
    # The ONNX inputs for the tensors of `inputs`.
    names: tuple[str, ...]
    module: Callable[..., Any]
    route: str
    # Whether branches that Python did not take for the example are missing in it.
    traced: bool = False

    @property
    def run(self) -> Run:
        """torch, as a function of tensors that gives arrays."""
        return run_of(self.module, self.inputs)


def require() -> None:
    """`MissingDependency` where torch or onnxscript is not installed."""
    missing = [name for name in ("torch", "onnxscript") if not find_spec(name)]
    if missing:
        raise MissingDependency(
            f"PyTorch models need {' and '.join(missing)}",
            remedy="pip install torch onnxscript (or sofie_rdf[torch])",
        )


def output_names(module: Callable[..., Any], inputs: Inputs) -> list[str]:
    """``output``, ``output_0`` and so on, or the keys of a dict; none of an input's name."""
    import torch
    from torch.utils import _pytree as pytree

    args, kwargs = inputs.with_tensors([leaf.example.clone() for leaf in inputs.tensors])
    with torch.no_grad(), kept_buffers(module):
        result = module(*args, **kwargs)
    found = []
    for path, leaf in pytree.tree_flatten_with_path(result)[0]:
        if not isinstance(leaf, torch.Tensor):
            if leaf is not None:
                raise UnsupportedFormat(
                    f"forward gives a {type(leaf).__name__}, which is no tensor",
                    remedy="Return tensors, alone or in tuples, lists and dicts",
                )
            continue
        if leaf.is_complex():
            raise UnsupportedFormat(
                "forward gives complex numbers", remedy="Return torch.view_as_real of them"
            )
        steps = [getattr(k, n) for k in path for n in ("key", "name", "idx") if hasattr(k, n)]
        text = re.sub(r"\W", "_", "_".join(map(str, steps)))
        found.append(f"output_{text}" if text[:1].isdecimal() else text or "output")
    if not found:
        raise InputError("forward gives no tensor")
    taken = {leaf.name for leaf in inputs.tensors}
    names: list[str] = []
    for name in found:
        while name in taken or name in names:
            name += "_"
        names.append(name)
    return names


def reason(error: BaseException) -> str:
    """What torch says, in a line: that of the innermost error."""
    while error.__cause__ is not None and str(error.__cause__).strip():
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:3]) or type(error).__name__
    return f"{type(error).__name__}: {text[:400]}"


# Exported programs --------------------------------------------------------------------------------


def advice(inputs: Inputs, text: str) -> str:
    """What to do when an export has failed."""
    named = ", ".join(f"{n!r}" for n in inputs.sizes)
    if re.search(r"specializ|Constraints violated|marked .*dynamic|DYNAMIC", text):
        return (
            f"The module keeps a size that was to be open ({named}): say which axes may change, "
            'dynamic={"x": {0: "N"}}, or none, dynamic={}'
        )
    return (
        "Where Python decides by numbers, write torch.where or torch.cond, or script the module "
        "(torch.jit.script); dynamic={} keeps all sizes as in the example"
    )


def first_run(module: Callable[..., Any], inputs: Inputs) -> None:
    try:
        run_of(module, inputs)([leaf.example for leaf in inputs.tensors])
    except Exception as error:
        raise InputError(
            f"forward fails for the example inputs: {reason(error)}",
            remedy="Give arguments with which the module can be called",
        ) from error


def of_program(
    program: torch.export.ExportedProgram, inputs: Inputs, module: Callable[..., Any]
) -> Exported:
    """The ONNX model of an exported program, whose tensors are those of ``inputs``."""
    import torch

    given = zip(program.graph_signature.user_inputs, inputs.leaves, strict=True)
    placeholders = [str(name) for name, leaf in given if leaf]
    names = tuple(leaf.name for leaf in inputs.tensors)
    outputs = output_names(module, inputs)
    try:
        made = torch.onnx.export(
            decomposed(program),
            (),
            dynamo=True,
            verbose=False,
            output_names=outputs,
            external_data=False,
        )
    except SofieError:
        raise
    except Exception as error:
        raise export_error(error, among=complex_operators(program.graph.nodes)) from error
    assert made is not None
    proto = made.model_proto
    _rename_inputs(proto, placeholders, names)
    return checked(proto, inputs, names, module, "torch.export")


def _rename_inputs(
    proto: onnx.ModelProto, placeholders: Sequence[str], names: Sequence[str]
) -> None:
    """Names as they are in `forward`: torch gives others to some, and to inputs that it returns."""
    given = [i.name for i in proto.graph.input]
    pairs = zip(given if len(given) == len(names) else placeholders, names, strict=True)
    renamed = {old: new for old, new in pairs if old != new and old in given}
    if not renamed:
        return
    # A value inside may have such a name, too.
    values = {o for node in proto.graph.node for o in node.output}
    for name in (values | {w.name for w in proto.graph.initializer}) & set(renamed.values()):
        renamed[name] = f"{name}/value"
    for listed in (proto.graph.input, proto.graph.initializer, proto.graph.value_info):
        for value in listed:
            value.name = renamed.get(value.name, value.name)
    _rename_in_nodes(proto.graph, renamed)


def _rename_in_nodes(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename_in_nodes(inner, renamed)


def export_error(
    error: Exception,
    remedy: str = "Use a newer torch and onnxscript, or export it to ONNX yourself",
    among: Collection[str] = (),
) -> SofieError:
    """What an exporter cannot write, in our words; ``among`` are functions of complex numbers."""
    text = f"{error}\n{error.__cause__ or ''}"
    operators = dict.fromkeys(re.findall(r"op='([\w.:]+)'", text))
    operators |= dict.fromkeys(re.findall(r"operator '?(aten::\w+)'?", text))
    if operators and among:
        return UnsupportedOperator(
            f"torch's exporter to ONNX has no {', '.join(operators)} of complex numbers",
            remedy="Write it with real and imaginary parts: x.real, x.imag, torch.complex",
        )
    if operators:
        return UnsupportedOperator(
            f"torch's exporter to ONNX has no {', '.join(operators)}",
            remedy=f"Write it with other functions. {remedy}",
        )
    return UnsupportedFormat(f"torch's exporter to ONNX fails: {reason(error)}", remedy=remedy)


def checked(
    proto: onnx.ModelProto,
    inputs: Inputs,
    names: tuple[str, ...],
    module: Callable[..., Any],
    route: str,
) -> Exported:
    """The model, if what was to be open is open."""
    known: Mapping[str, Any] = {i.name: i.type.tensor_type.shape.dim for i in proto.graph.input}
    for leaf, name in zip(inputs.tensors, names, strict=True):
        for axis, label in leaf.axes.items():
            dims = known.get(name, ())
            if axis < len(dims) and dims[axis].HasField("dim_value"):
                raise ModelError(
                    f"torch keeps axis {axis} ({label!r}) of input {name!r} at "
                    f"{dims[axis].dim_value}",
                    remedy=advice(inputs, "specialized"),
                )
    return Exported(proto, inputs, names, module, route)
