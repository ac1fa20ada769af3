"""Functions of complex tensors that torch's exporter does not have, by real and imaginary parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["complex_operators", "complex_table"]

# The largest exponent of a power that is written as a product.
_MOST_FACTORS = 8


def complex_table() -> Mapping[Any, Callable[..., Any]]:
    """Functions of torch in terms of others; what has no complex argument stays as it is."""
    import torch

    aten = torch.ops.aten
    moving = (
        *(aten.copy.default, aten.slice_scatter.default, aten.select_scatter.default),
        *(aten.index_put.default, aten.index_select.default, aten.gather.default),
        *(aten.index.Tensor, aten.where.self, aten.scatter.src),
        *(aten.repeat.default, aten.roll.default, aten.flip.default, aten.scatter_add.default),
        *(aten.index_add.default, aten.cumsum.default),
    )
    filling = (
        *(aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default),
        *(aten.ones.default, aten.ones_like.default, aten.new_ones.default),
        *(aten.full.default, aten.full_like.default, aten.new_full.default),
        *(aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default),
    )
    return {
        **{function: _moved(function) for function in moving},
        **{function: _filling(function) for function in filling},
        aten.einsum.default: _einsum,
        aten.linear.default: _linear,
        aten.exp.default: _exp,
        aten.log.default: _log,
        aten.sqrt.default: _sqrt,
        aten.square.default: _square,
        aten.pow.Tensor_Scalar: _power,
        aten.pad.default: _pad,
        aten._neg_view.default: _negative,
        aten.masked_fill.Scalar: _filled,
    }


def complex_operators(nodes: Iterable[Any]) -> frozenset[str]:
    """The names of the functions in a graph that read or give complex numbers: ``aten.mul``."""
    found = set()
    for node in nodes:
        values = [n.meta.get("val") for n in (*node.all_input_nodes, node)]
        if any(getattr(v, "is_complex", bool)() for v in values):
            found.add(str(node.target).rpartition(".")[0] or str(node.target))
    return frozenset(found)


def _parts(
    function: Callable[..., torch.Tensor], tensors: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The real and the imaginary part of a function that is linear in each of its arguments."""
    for number, tensor in enumerate(tensors):
        if tensor.is_complex():
            others = tensors[:number], tensors[number + 1 :]
            one = _parts(function, [*others[0], tensor.real, *others[1]])
            other = _parts(function, [*others[0], tensor.imag, *others[1]])
            real = one[0] if other[1] is None else one[0] - other[1]
            return real, other[0] if one[1] is None else one[1] + other[0]
    return function(*tensors), None


def _multilinear(function: Callable[..., torch.Tensor], tensors: Sequence[torch.Tensor]) -> Any:
    import torch

    if not any(t.is_complex() for t in tensors):
        return NotImplemented
    real, imaginary = _parts(function, tensors)
    return torch.complex(real, torch.zeros_like(real) if imaginary is None else imaginary)


def _moved(function: Any) -> Callable[..., Any]:
    """A function that puts numbers elsewhere, or adds them up: of both parts alike."""
    import torch
    from torch.utils import _pytree as pytree

    def part(value: Any, which: str) -> Any:
        if isinstance(value, torch.Tensor) and value.is_complex():
            return getattr(value, which)
        is_number = isinstance(value, torch.Tensor) and value.is_floating_point()
        return torch.zeros_like(value) if which == "imag" and is_number else value

    def moved(*args: Any, **kwargs: Any) -> Any:
        given = pytree.tree_leaves((args, kwargs))
        if not any(isinstance(v, torch.Tensor) and v.is_complex() for v in given):
            return NotImplemented
        found = []
        for which in ("real", "imag"):
            arguments, named = pytree.tree_map(lambda v, w=which: part(v, w), (args, kwargs))
            found.append(function(*arguments, **named))
        return torch.complex(*found)

    return moved


def _filling(function: Any) -> Callable[..., Any]:
    """A function that gives one real number everywhere, as a complex one."""
    import torch

    def filled(*args: Any, dtype: Any = None, **options: Any) -> Any:
        like = args[0] if isinstance(args[0], torch.Tensor) else None
        kind = dtype or (like.dtype if like is not None else torch.get_default_dtype())
        if not kind.is_complex or any(isinstance(a, complex) for a in args):
            return NotImplemented
        if like is not None and like.is_complex():
            args = (like.real, *args[1:])
        real = function(*args, dtype=kind.to_real(), **options)
        return torch.complex(real, torch.zeros_like(real))

    return filled


def _einsum(equation: str, tensors: Sequence[torch.Tensor], *, path: Any = None) -> Any:
    import torch

    del path
    return _multilinear(lambda *given: torch.einsum(equation, *given), tensors)


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
    found = _multilinear(lambda a, b: a @ b.transpose(0, 1), [x, weight])
    return found if bias is None or found is NotImplemented else found + bias


def _exp(x: torch.Tensor) -> Any:
    import torch

    if not x.is_complex():
        return NotImplemented
    size = x.real.exp()
    return torch.complex(size * x.imag.cos(), size * x.imag.sin())


def _log(x: torch.Tensor) -> Any:
    import torch

    return torch.complex(x.abs().log(), x.angle()) if x.is_complex() else NotImplemented


def _sqrt(x: torch.Tensor) -> Any:
    """The root whose real part is not negative; the larger part is not a difference."""
    import torch

    if not x.is_complex():
        return NotImplemented
    size = ((x.real.abs() + x.abs()) / 2).sqrt()
    other = torch.where(size > 0, x.imag.abs() / (2 * size), size)
    real = torch.where(x.real >= 0, size, other)
    imaginary = torch.where(x.real >= 0, other, size)
    return torch.complex(real, torch.where(x.imag < 0, -imaginary, imaginary))


def _pad(
    x: torch.Tensor, sizes: Sequence[int], mode: str = "constant", value: float | None = None
) -> Any:
    import torch

    if not x.is_complex() or isinstance(value, complex):
        return NotImplemented
    pad = torch.nn.functional.pad
    return torch.complex(pad(x.real, sizes, mode, value), pad(x.imag, sizes, mode))


def _negative(x: torch.Tensor) -> torch.Tensor:
    """The imaginary part of a conjugate, of which torch has a view."""
    return -x


def _filled(x: torch.Tensor, mask: torch.Tensor, value: float) -> Any:
    import torch

    if not x.is_complex() or isinstance(value, complex):
        return NotImplemented
    return torch.complex(x.real.masked_fill(mask, value), x.imag.masked_fill(mask, 0.0))


def _power(x: torch.Tensor, exponent: Any) -> Any:
    """x x x ..., of which no sum of logarithms is made."""
    if not x.is_complex() or exponent not in range(1, _MOST_FACTORS + 1):
        return NotImplemented
    found = x
    for _ in range(int(exponent) - 1):
        found = found * x
    return found


def _square(x: torch.Tensor) -> Any:
    return x * x if x.is_complex() else NotImplemented
