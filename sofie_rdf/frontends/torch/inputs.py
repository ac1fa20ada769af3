"""What a torch module is called with: example inputs, their names, and which axes are open."""

from __future__ import annotations

import inspect
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sofie_rdf.errors import InputError
from sofie_rdf.ir.types import Array

if TYPE_CHECKING:
    import torch

__all__ = [
    "BATCH",
    "Dynamic",
    "InputShape",
    "Inputs",
    "Leaf",
    "Signature",
    "array_of",
    "examples_of",
    "inputs_of",
    "random_arguments",
    "resized",
    "signature_of",
]

# What the first axis of the inputs is called, as for ONNX.
BATCH = "N"
# Axes of each input that are open, by its name or in the order of the inputs; see `from_torch`.
Dynamic: TypeAlias = "Mapping[str, Any] | Sequence[Any] | bool"
InputShape: TypeAlias = "str | Sequence[Any]"


@dataclass(frozen=True)
class Leaf:
    """A tensor among the arguments: its name, an example, and the names of its open axes."""

    name: str
    example: torch.Tensor
    axes: Mapping[int, str]


@dataclass(frozen=True)
class Inputs:
    """All arguments of a call. ``leaves`` are the tensors in them, None anything else."""

    arguments: Mapping[str, Any]
    leaves: tuple[Leaf | None, ...]
    # Makes of tensors, in the order of the leaves, what the module is called with.
    call: Callable[[Mapping[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]

    @property
    def tensors(self) -> tuple[Leaf, ...]:
        return tuple(leaf for leaf in self.leaves if leaf is not None)

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each open axis in the examples."""
        return {
            name: leaf.example.shape[axis]
            for leaf in self.tensors
            for axis, name in leaf.axes.items()
        }

    def with_tensors(
        self, tensors: Sequence[torch.Tensor]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments with these tensors for the examples."""
        from torch.utils import _pytree as pytree

        values, spec = pytree.tree_flatten(dict(self.arguments))
        given = iter(tensors)
        found = [
            v if leaf is None else next(given) for v, leaf in zip(values, self.leaves, strict=True)
        ]
        return self.call(pytree.tree_unflatten(found, spec))

    def arguments_with(self, make: Callable[[Leaf], Any]) -> dict[str, Any]:
        """The arguments with something else for each tensor, and None for all others."""
        from torch.utils import _pytree as pytree

        spec = pytree.tree_flatten(dict(self.arguments))[1]
        found = [None if leaf is None else make(leaf) for leaf in self.leaves]
        made: dict[str, Any] = pytree.tree_unflatten(found, spec)
        return made

    def at(self, sizes: Mapping[str, int]) -> Inputs:
        """The same with other sizes of open axes: the examples are cut, or repeat themselves."""
        leaves = tuple(n and replace(n, example=resized(n, sizes)) for n in self.leaves)
        from torch.utils import _pytree as pytree

        values, spec = pytree.tree_flatten(dict(self.arguments))
        found = [v if n is None else n.example for v, n in zip(values, leaves, strict=True)]
        return replace(self, arguments=pytree.tree_unflatten(found, spec), leaves=leaves)


def resized(leaf: Leaf, sizes: Mapping[str, int]) -> torch.Tensor:
    """The example with these sizes of open axes."""
    import torch

    tensor = leaf.example
    for axis, name in leaf.axes.items():
        before, size = tensor.shape[axis], sizes.get(name, tensor.shape[axis])
        if size != before:
            if before == 0:
                shape = [size if a == axis else s for a, s in enumerate(tensor.shape)]
                tensor = torch.zeros(shape, dtype=tensor.dtype)
            else:
                tensor = tensor.index_select(axis, torch.arange(size) % before)
    return tensor


def array_of(tensor: torch.Tensor) -> Array:
    """The numbers of a tensor; bfloat16 is that of ml_dtypes."""
    import torch

    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        import ml_dtypes

        return np.asarray(plain.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(plain.numpy())


# Arguments ----------------------------------------------------------------------------------------


class Signature:
    """The names of the arguments of ``forward``."""

    def __init__(self, module: Any) -> None:
        import torch

        self.schema = None
        if isinstance(module, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
            function: Any = getattr(module, "forward", module)
            # The first one is the module, whatever its author calls it.
            is_method = isinstance(module, torch.jit.ScriptModule)
            self.schema = list(function.schema.arguments)[int(is_method) :]
            self.names = [a.name for a in self.schema]
            self.needed = [a.name for a in self.schema if not a.has_default_value()]
        else:
            self.python = inspect.signature(module.forward)
            parameters = self.python.parameters.values()
            self.names = [p.name for p in parameters]
            self.needed = [
                p.name
                for p in parameters
                if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            ]

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name, in the order of the parameters."""
        if self.schema is None:
            try:
                return dict(self.python.bind(*args, **kwargs).arguments)
            except TypeError as error:
                raise InputError(
                    f"the example inputs do not fit forward{self.python}: {error}"
                ) from None
        if len(args) > len(self.names) or not set(kwargs) <= set(self.names[len(args) :]):
            wrong = sorted(set(kwargs) - set(self.names)) or f"{len(args)} of them"
            raise InputError(
                f"the example inputs do not fit forward({', '.join(self.names)}): {wrong}"
            )
        given = {**dict(zip(self.names, args, strict=False)), **kwargs}
        missing = [n for n in self.needed if n not in given]
        if missing:
            raise InputError(
                f"the example inputs do not fit forward({', '.join(self.names)}): "
                f"{', '.join(missing)} is missing"
            )
        found: dict[str, Any] = {}
        for argument in self.schema:
            if argument.name not in given and len(found) < len(given):
                given[argument.name] = argument.default_value
            if argument.name in given:
                found[argument.name] = given[argument.name]
        return found

    def positional(self, values: Sequence[Any]) -> dict[str, Any]:
        """Values for the first arguments, by name; TypeError if there are too many."""
        if self.schema is None:
            return dict(self.python.bind_partial(*values).arguments)
        if len(values) > len(self.names):
            raise TypeError("too many")
        return dict(zip(self.names, values, strict=False))

    def call(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments, of arguments by name."""
        if self.schema is not None:
            return tuple(arguments.values()), {}
        bound = inspect.BoundArguments(self.python, OrderedDict(arguments))
        return bound.args, dict(bound.kwargs)


def signature_of(module: Any) -> Signature:
    """The signature of a module, a script or an exported program's module."""
    return Signature(module)


def examples_of(given: Any, signature: Signature) -> dict[str, Any]:
    """The arguments of forward by name: of one tensor, a tuple of arguments, or a dict by name."""
    import torch

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(given, Mapping):
        kwargs = dict(given)
    elif isinstance(given, (torch.Tensor, np.ndarray)):
        args = (given,)
    elif isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        args = tuple(given)
    else:
        raise InputError(
            f"example_inputs is {type(given).__name__}",
            remedy="Give the arguments of forward: a tensor, a tuple of them, or a dict by name",
        )
    return {name: _tensors(value) for name, value in signature.bind(args, kwargs).items()}


def _tensors(value: Any) -> Any:
    """The same with tensors on the CPU for arrays."""
    import torch
    from torch.utils import _pytree as pytree

    def tensor(leaf: Any) -> Any:
        if isinstance(leaf, (np.ndarray, np.generic)):
            return torch.from_numpy(np.array(leaf))
        return leaf.detach().cpu() if isinstance(leaf, torch.Tensor) else leaf

    return pytree.tree_map(tensor, value)


def inputs_of(
    arguments: Mapping[str, Any], dynamic: Dynamic | None, signature: Signature
) -> Inputs:
    """The arguments with names, and with the axes that are open.

    By default that is the first axis of every tensor: `BATCH` where it has the size of the first
    one's, else with a name of its own. Of edges [2, n] as PyTorch Geometric has them it is the
    second one, whose name other tensors with a row for each edge share.
    """
    from torch.utils import _pytree as pytree

    paths, _ = pytree.tree_flatten_with_path(dict(arguments))
    names = ["_".join(str(_step(key)) for key in path) for path, _ in paths]
    tensors = {
        name: value for name, (_, value) in zip(names, paths, strict=True) if hasattr(value, "ndim")
    }
    specs = _specifications(dynamic, arguments, signature)
    found: list[Leaf | None] = []
    for (path, value), name in zip(paths, names, strict=True):
        if not hasattr(value, "shape"):
            found.append(None)
            continue
        if value.is_complex():
            raise InputError(
                f"input {name!r} has complex numbers",
                remedy="Give forward real ones, of which torch.view_as_complex makes complex ones",
            )
        if specs is None:
            axes = _batch(name, value, tensors)
        else:
            axes = _axes(name, value, _specification(specs, path))
        found.append(Leaf(name, value, axes))
    inputs = Inputs(arguments, tuple(found), signature.call)
    _refuse_conflicts(inputs)
    return inputs


def _step(key: Any) -> Any:
    """The index, key or attribute that a step of a path into nested arguments has."""
    return next(getattr(key, n) for n in ("idx", "key", "name") if hasattr(key, n))


def _batch(name: str, value: torch.Tensor, tensors: Mapping[str, Any]) -> dict[int, str]:
    if not value.ndim:
        return {}
    first = next(v for v in tensors.values() if v.ndim)
    if _are_edges(name, value, first):
        return {1: f"{name}_1"}
    for other, edges in tensors.items():
        if _are_edges(other, edges, first) and edges.shape[1] == value.shape[0] != first.shape[0]:
            return {0: f"{other}_1"}
    return {0: BATCH if value.shape[0] == first.shape[0] else f"{name}_0"}


def _are_edges(name: str, value: torch.Tensor, first: torch.Tensor) -> bool:
    """Whether it is the numbers of two nodes for each edge."""
    if value.is_floating_point() or value.ndim != 2 or value.shape[0] != 2 or value is first:
        return False
    return name.endswith("edge_index") or first.shape[0] != 2


def _specifications(
    dynamic: Any, arguments: Mapping[str, Any], signature: Signature
) -> Mapping[str, Any] | None:
    """What ``dynamic=`` says about each argument; None if it leaves all to us."""
    if dynamic is None or dynamic is True:
        return None
    if dynamic is False:
        return {}
    if isinstance(dynamic, Mapping):
        unknown = [n for n in dynamic if n not in arguments]
        if unknown:
            raise InputError(
                f"dynamic= names {unknown[0]!r}, which is no input",
                remedy=f"The inputs are {list(arguments)}",
            )
        return dynamic
    if isinstance(dynamic, str) or not isinstance(dynamic, Sequence):
        raise InputError(
            f"dynamic= is {dynamic!r}", remedy='Say which axes are open: {"x": {0: "N", 1: "n_pf"}}'
        )
    try:
        found = signature.positional(dynamic)
        if found.keys() <= arguments.keys():
            return found
    except TypeError:
        pass
    raise InputError(
        f"dynamic= is for {len(dynamic)} inputs, which are more than {list(arguments)}"
    )


def _specification(specs: Mapping[str, Any], path: Sequence[Any]) -> Any:
    """What is said about the tensor at the end of the path."""
    found: Any = specs.get(_step(path[0]))
    for key in path[1:]:
        if found is None or _is_axes(found):
            break
        try:
            found = found[_step(key)]
        except (KeyError, IndexError, TypeError):
            found = None
    return found


def _is_axes(spec: Any) -> bool:
    return isinstance(spec, (Mapping, Sequence, set, frozenset)) and all(
        isinstance(axis, int) for axis in spec
    )


def _axes(name: str, value: torch.Tensor, spec: Any) -> dict[int, str]:
    if spec is None:
        return {}
    if not _is_axes(spec):
        raise InputError(
            f"dynamic= gives input {name!r} {spec!r}",
            remedy=f'Say which axes are open: {{"{name}": {{0: "N", 1: "n_pf"}}}}',
        )
    given = dict(spec) if isinstance(spec, Mapping) else dict.fromkeys(spec)
    found: dict[int, str] = {}
    for axis, wanted in given.items():
        if not -value.ndim <= axis < value.ndim:
            raise InputError(
                f"dynamic= names axis {axis} of input {name!r}, which has {value.ndim}"
            )
        place = axis % value.ndim
        label = wanted if wanted is not None else (BATCH if place == 0 else f"{name}_{place}")
        label = getattr(label, "__name__", label)  # A torch.export.Dim.
        if not isinstance(label, str) or not label.isidentifier():
            raise InputError(f"dynamic= calls axis {axis} of input {name!r} {label!r}")
        found[place] = label
    return found


def _refuse_conflicts(inputs: Inputs) -> None:
    sizes = inputs.sizes
    for leaf in inputs.tensors:
        for axis, name in leaf.axes.items():
            if leaf.example.shape[axis] != sizes[name]:
                raise InputError(
                    f"the example inputs give {name!r} the sizes {leaf.example.shape[axis]} "
                    f"(axis {axis} of {leaf.name!r}) and {sizes[name]}",
                    remedy="Give these axes different names",
                )


# Inputs by their shapes alone ---------------------------------------------------------------------


_SHAPE = re.compile(r"^\s*(?P<sizes>[^:]*?)\s*(?::\s*(?P<dtype>\w+)\s*)?$")


@dataclass(frozen=True)
class _Wanted:
    """A shape that was asked for: numbers, names of open axes, None for those without a name."""

    sizes: tuple[Any, ...]
    dtype: str


def _wanted(shape: InputShape) -> _Wanted:
    """``"N,20:int64"``, ``("N", 20)`` or ``(("N", 20), "int64")``."""
    dtype = ""
    sizes: Any = shape
    if isinstance(shape, str):
        match = _SHAPE.match(shape)
        if not match:
            raise InputError(f"{shape!r} is no shape", remedy="Write it as N,7 or N,20:int64")
        dtype = match["dtype"] or ""
        parts = [p.strip() for p in match["sizes"].split(",")] if match["sizes"] else []
        sizes = [int(p) if p.isdecimal() else (None if p == "?" else p) for p in parts]
    elif len(shape) == 2 and not isinstance(shape[0], (str, int)) and shape[0] is not None:
        sizes, dtype = shape[0], str(shape[1]).removeprefix("torch.")
    for size in sizes:
        name = isinstance(size, str) and size.isidentifier()
        number = isinstance(size, int) and not isinstance(size, bool) and size >= 0
        if not (name or number or size is None):
            raise InputError(
                f"input_shapes= has the size {size!r}",
                remedy="A size is a number, or the name of an open axis",
            )
    return _Wanted(tuple(sizes), dtype)


def random_arguments(
    shapes: Any,
    signature: Signature,
    default: torch.dtype,
    runs: Callable[[tuple[Any, ...]], Any],
) -> tuple[dict[str, Any], dict[str, dict[int, str]]]:
    """Arguments of these shapes for which the module runs, and which of their axes are open.

    Open axes get the first of a few sizes with which the module runs: not every network takes any
    number of particles, or a picture of any size.
    """
    if isinstance(shapes, (str, Mapping)) or not isinstance(shapes, Sequence):
        raise InputError(
            f"input_shapes= is {shapes!r}",
            remedy='Give a list with the shape of each input: [("N", 7)]',
        )
    listed = [_wanted(s) for s in shapes]
    names = signature.names[: len(listed)]
    if len(listed) > len(signature.names) or len(listed) < len(signature.needed):
        raise InputError(
            f"input_shapes= has {len(listed)} shapes; the inputs are {', '.join(signature.names)}"
        )
    dynamic = {
        name: {axis: size for axis, size in enumerate(w.sizes) if not isinstance(size, int)}
        for name, w in zip(names, listed, strict=True)
    }
    trouble: Exception | None = None
    for scale in (5, 16, 64, 128, 224, 512):
        arrays = [_random(w, scale, default) for w in listed]
        try:
            runs(tuple(arrays))
        except Exception as error:
            trouble = trouble or error
        else:
            return dict(zip(names, arrays, strict=True)), dynamic
    first = str(trouble).strip().splitlines()[-1:] or [""]
    raise InputError(
        f"the module does not run with random inputs of these shapes: {first[0][:200]}",
        remedy="Check input_shapes= (integers are N,20:int64), or example_inputs=",
    )


def _random(wanted: _Wanted, scale: int, default: torch.dtype) -> torch.Tensor:
    import torch

    dtype = getattr(torch, wanted.dtype, None) if wanted.dtype else default
    if not isinstance(dtype, torch.dtype):
        raise InputError(f"input_shapes= has the element type {wanted.dtype!r}")
    shape = [
        size if isinstance(size, int) else (3 if axis == 0 and size in (BATCH, None) else scale)
        for axis, size in enumerate(wanted.sizes)
    ]
    made = torch.Generator().manual_seed(len(shape))
    if dtype.is_floating_point:
        return torch.randn(shape, generator=made, dtype=torch.float64).to(dtype)
    return torch.randint(0, 2, shape, generator=made).to(dtype)
