"""PyTorch: modules, exported programs, TorchScript. torch writes ONNX, which is read as any other.

A module goes through ``torch.export``, TorchScript through torch's older exporter. The result is
then compared with torch, at other numbers and other sizes: see `torch.compare`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sofie_rdf.errors import InputError, ModelError, SofieError
from sofie_rdf.frontends.common.problems import Problems
from sofie_rdf.frontends.common.shapes import Shapes
from sofie_rdf.frontends.onnx import reader as onnx_frontend
from sofie_rdf.frontends.torch import files as torch_files
from sofie_rdf.frontends.torch.calls import as_in_evaluation, kept_buffers, quiet, repeated
from sofie_rdf.frontends.torch.compare import compare, compare_calls
from sofie_rdf.frontends.torch.export import Exported, of_program, require
from sofie_rdf.frontends.torch.inputs import (
    Dynamic,
    Inputs,
    Leaf,
    Signature,
    examples_of,
    inputs_of,
    random_arguments,
)
from sofie_rdf.frontends.torch.modules import of_module
from sofie_rdf.frontends.torch.programs import inputs_of_program, module_of_program
from sofie_rdf.frontends.torch.scripts import of_script
from sofie_rdf.ir import contents
from sofie_rdf.ir.graph import Graph

__all__ = ["check", "examine", "read"]


def read(source: Any, *, name: str = "", shapes: Shapes | None = None, **options: Any) -> Graph:
    """The graph of a file, a module, a script or an exported program.

    ``options`` are ``example_inputs``, ``input_shapes``, ``weights_only`` and ``dynamic``: see
    `sofie_rdf.from_torch` and `sofie_rdf.load`. ``shapes`` as for ONNX, by names of inputs.
    """
    place = source.name if isinstance(source, Path) else type(source).__name__
    try:
        with _Conversion(source, name, options) as conversion:
            return conversion.graph(shapes)
    except SofieError as error:
        raise error.at(place) from error.__cause__


def check(source: Any, *, shapes: Shapes | None = None, **options: Any) -> Problems:
    """Everything that is wrong, at once: what torch refuses, or all that cannot be read of it."""
    return examine(source, shapes=shapes, **options)[0]


def examine(
    source: Any, *, shapes: Shapes | None = None, **options: Any
) -> tuple[Problems, Graph | None]:
    """As `check`, with the graph where nothing is wrong: to ask torch for it again takes long."""
    place = source.name if isinstance(source, Path) else type(source).__name__
    try:
        with _Conversion(source, "", options) as conversion:
            problems = conversion.problems(shapes)
            return problems, None if problems else conversion.graph(shapes)
    except SofieError as error:
        return Problems([error.at(place)]), None


@dataclass(frozen=True)
class Options:
    """How torch is asked; `read` says which there are."""

    example_inputs: Any = None
    input_shapes: Sequence[Any] | None = None
    weights_only: bool | None = None
    dynamic: Dynamic | None = None


class _Conversion:
    """One model from torch to a graph; a context, in which the module is in evaluation mode."""

    def __init__(self, source: Any, name: str, options: dict[str, Any]) -> None:
        self.options, self.source = Options(**options), source
        # The graph, where it had to be compared with torch to choose one of torch's exporters.
        self.accepted: Graph | None = None
        self.provenance: dict[str, str] = {}
        if isinstance(source, Path):
            module, self.kind = torch_files.opened(source, self.options.weights_only)
            self.provenance["source"] = source.name
            self.provenance["sha256"] = contents.sha256_of(source).hex()
            self.name = name or source.stem
        else:
            require()
            source = _unwrapped(source)
            module, self.kind = source, _kind_of(source)
            self.provenance["source"] = f"{type(source).__name__} in memory"
            self.name = name or _name_of(source)
        self.module = module

    def __enter__(self) -> _Conversion:
        self.context = as_in_evaluation(_module_of(self.module, self.kind))
        self.running = self.context.__enter__()
        try:
            with quiet():
                self.exported = self._export()
        except BaseException as error:
            self.context.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self.context.__exit__(*error)

    def _export(self) -> Exported:
        """The ONNX model, under the name that stands in errors."""
        exported = self._as_onnx()
        exported.proto.graph.name = self.provenance["source"].removesuffix(" in memory")
        return exported

    def _as_onnx(self) -> Exported:
        if self.kind == "pt2":
            return of_program(self.module, self._inputs_of_program(), self.running)
        inputs = self._inputs()
        if self.kind == "torchscript":
            return of_script(self.running, inputs)
        return of_module(self.running, inputs, self._accept)

    def _accept(self, exported: Exported) -> None:
        """A `SofieError` where the model cannot be read, or is not what torch computes."""
        shapes = _open_axes(exported)
        graph = onnx_frontend.read(exported.proto, name=self.name, shapes=shapes)
        _require_open(graph, exported)
        _compare(graph, exported)
        self.accepted = graph

    def _inputs(self) -> Inputs:
        import torch

        given, module = self.options, self.running
        signature = Signature(module)
        dynamic = given.dynamic
        if given.example_inputs is not None:
            if given.input_shapes is not None:
                raise InputError("example_inputs= and input_shapes= are both given")
            return inputs_of(examples_of(given.example_inputs, signature), dynamic, signature)
        if given.input_shapes is None:
            raise InputError(
                f"a {_ABOUT[self.kind]} does not say what its inputs are "
                f"({', '.join(signature.names)})",
                remedy=_ASK[isinstance(self.source, Path)],
            )
        floats = (p.dtype for p in module.parameters() if p.is_floating_point())
        default = next(floats, torch.get_default_dtype())
        arguments, axes = random_arguments(
            given.input_shapes, signature, default, lambda arrays: module(*arrays)
        )
        return inputs_of(arguments, axes if dynamic is None else dynamic, signature)

    def _inputs_of_program(self) -> Inputs:
        return inputs_of_program(self.module)

    def _shapes(self, shapes: Shapes | None) -> Shapes:
        """Our names for open axes; what the user says goes before."""
        return {**_open_axes(self.exported), **(shapes or {})}

    def graph(self, shapes: Shapes | None) -> Graph:
        """The graph, after it was compared with torch."""
        if self.accepted is not None and not shapes:
            return replace(self.accepted, provenance=self._provenance(self.accepted))
        exported = self.exported
        graph = onnx_frontend.read(exported.proto, name=self.name, shapes=self._shapes(shapes))
        graph = replace(graph, provenance=self._provenance(graph))
        _compare(graph, exported)
        return graph

    def problems(self, shapes: Shapes | None) -> Problems:
        return onnx_frontend.check(self.exported.proto, name=self.name, shapes=self._shapes(shapes))

    def _provenance(self, graph: Graph) -> MappingProxyType[str, str]:
        import torch

        known = {
            **self.provenance,
            "producer": f"PyTorch {torch.__version__} by {self.exported.route}",
            "opset": graph.provenance.get("opset", ""),
        }
        return MappingProxyType(known)


_ABOUT = {
    "torch": "PyTorch module",
    "torchscript": "TorchScript file",
}


# What says which inputs there are, of a module in memory and of a file.
_ASK = (
    "Give example_inputs: the arguments of forward, as tensors",
    'Give input_shapes=[("N", 7)] (a name leaves an axis open), or example_inputs=',
)


def _open_axes(exported: Exported) -> Shapes:
    """Our names for the open axes of a model."""
    found: dict[str, Sequence[int | str | None]] = {}
    known = {i.name for i in exported.proto.graph.input}
    for leaf, name in zip(exported.inputs.tensors, exported.names, strict=True):
        if leaf.axes and name in known:
            found[name] = tuple(leaf.axes.get(a) for a in range(leaf.example.ndim))
    return found


def _compare(graph: Graph, exported: Exported) -> None:
    """`ModelError` where the graph and torch differ."""
    inputs, names = _as_in(graph, exported), exported.names
    try:
        compare(graph, exported.run, inputs, names, exported.traced)
    except ModelError as error:
        if not _hides_by_zeros(exported.module):
            raise
        raise ModelError(error.thing, place=error.place, remedy=_NESTED) from error
    with kept_buffers(exported.module) as changed:
        compare_calls(graph, repeated(exported.module, inputs), inputs, names, changed)


def _require_open(graph: Graph, exported: Exported) -> None:
    """`ModelError` where what is inside leaves one size alone for an axis that is to be open."""
    kept = _as_in(graph, exported).tensors
    for leaf, now, name in zip(exported.inputs.tensors, kept, exported.names, strict=True):
        for axis, label in leaf.axes.items():
            if name in graph.inputs and axis not in now.axes:
                raise ModelError(
                    f"the trace keeps axis {axis} ({label!r}) of input {name!r} at "
                    f"{graph.types[name].shape[axis]}",
                    remedy="Python computes with that size: dynamic={} keeps all sizes",
                )


_NESTED = (
    "nn.TransformerEncoder gives zeros where src_key_padding_mask is true, but only in evaluation: "
    "set its use_nested_tensor to False, and apply the mask to what it gives"
)


def _hides_by_zeros(module: Any) -> bool:
    """Whether a part of it has another result in evaluation, where masked elements are left out."""
    import torch

    encoder = torch.nn.TransformerEncoder
    return any(isinstance(m, encoder) and m.use_nested_tensor for m in module.modules())


def _as_in(graph: Graph, exported: Exported) -> Inputs:
    """The inputs with those axes open that are in the graph, which shapes= may have changed."""
    from sofie_rdf.ir.dims import name_of

    leaves = iter(exported.names)
    found: list[Leaf | None] = []
    for leaf in exported.inputs.leaves:
        if leaf is None:
            found.append(None)
            continue
        name = next(leaves)
        shape = graph.types[name].shape if name in graph.inputs else ()
        axes = {axis: name_of(d) for axis, d in enumerate(shape) if name_of(d)}
        found.append(replace(leaf, axes=axes))
    return replace(exported.inputs, leaves=tuple(found))


# What wraps a module, and where the module is in it.
_WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
}


def _unwrapped(source: Any) -> Any:
    """The module itself, of one that torch.compile or nn.DataParallel has made."""
    attribute = _WRAPPERS.get(type(source).__name__)
    return getattr(source, attribute, source) if attribute else source


def _kind_of(source: Any) -> str:
    import torch

    if isinstance(source, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        return "torchscript"
    if isinstance(source, torch.export.ExportedProgram):
        return "pt2"
    if isinstance(source, torch.nn.Module):
        return "torch"
    raise InputError(
        f"a {type(source).__name__} is no PyTorch model",
        remedy="Give a torch.nn.Module, a TorchScript module, or a torch.export.ExportedProgram",
    )


def _name_of(source: Any) -> str:
    found = getattr(source, "original_name", "") or type(source).__name__
    return "model" if found == "ExportedProgram" else str(found)


def _module_of(source: Any, kind: str) -> Any:
    """What can be called, put in evaluation mode, and asked for its parameters."""
    return module_of_program(source) if kind == "pt2" else source
