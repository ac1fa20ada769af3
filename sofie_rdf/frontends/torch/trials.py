"""Inputs at which a graph is compared with torch: other numbers, other sizes, other cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from sofie_rdf.frontends.torch.inputs import BATCH, Inputs
from sofie_rdf.ir.types import Array

if TYPE_CHECKING:
    import torch

__all__ = ["DRAWS", "Run", "Trial", "other_masks", "other_numbers", "other_sizes", "unlike"]

_Change: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"
Run: TypeAlias = Callable[[Sequence[Any]], "list[Array]"]

# How many random inputs of each kind there are.
DRAWS = 4


@dataclass(frozen=True)
class Trial:
    """Inputs at which both are asked, and how to call them."""

    label: str
    tensors: tuple[torch.Tensor, ...]


def other_numbers(examples: Sequence[torch.Tensor]) -> Iterator[Trial]:
    """The same sizes: the example with opposite signs, and random numbers like it."""
    import torch

    negative = tuple(-e if e.is_floating_point() else e for e in examples)
    yield Trial("the negative of the example inputs", negative)
    made = torch.Generator().manual_seed(1)
    yield Trial("random inputs", tuple(_like(e, made) for e in examples))


def other_masks(examples: Sequence[torch.Tensor]) -> Iterator[Trial]:
    """The example with other masks: Python or a kernel of torch may look at those."""
    import torch

    made = torch.Generator().manual_seed(5)
    changes: tuple[tuple[str, _Change], ...] = (
        ("random masks", lambda e: _coins(e, 0.7, made)),
        ("masks of zeros at the end", lambda e: _cut(torch.ones_like, 0.5, e)),
        ("masks of ones at the end", lambda e: _cut(torch.ones_like, 0.5, e) == 0),
    )
    for label, change in changes if any(map(_may_be_mask, examples)) else ():
        masks = (change(e).to(e.dtype) if _may_be_mask(e) else e for e in examples)
        yield Trial(label, tuple(masks))


def _may_be_mask(example: torch.Tensor) -> bool:
    import torch

    return example.dtype == torch.bool or (_is_mask(example) and bool(example.any()))


def _like(example: torch.Tensor, made: torch.Generator) -> torch.Tensor:
    """Random numbers as wide as the example's; integers and booleans are those of the example."""
    import torch

    if not example.numel():
        return example
    if not example.is_floating_point():
        order = torch.randperm(example.numel(), generator=made)
        return example.flatten()[order].reshape(example.shape)
    wide = example.double()
    finite = wide[wide.isfinite()]
    spread = float(finite.std()) if finite.numel() > 1 else 0.0
    middle = float(finite.mean()) if finite.numel() else 0.0
    noise = torch.randn(example.shape, generator=made, dtype=torch.float64)
    return (middle + (spread or 1.0) * noise).to(example.dtype)


def other_sizes(inputs: Inputs, symbol: str, run: Run, most: int) -> Iterator[Trial]:
    """Other sizes of one axis with which torch runs; 1 is among them for the batch."""
    import torch

    size, made = inputs.sizes[symbol], torch.Generator().manual_seed(2)
    listed = (size + 1, 4 * size + 1, size - 1, 2 * size, size // 2, 4 * size, 1, 8, 16, 32, 64)
    wanted = dict.fromkeys((1, *listed) if symbol == BATCH else listed)
    found = 0
    for other in wanted:
        if other < 1 or other == size or found == most:
            continue
        tensors = tuple(leaf.example for leaf in inputs.at({symbol: other}).tensors)
        random = tuple(_like(t, made) if t.is_floating_point() else t for t in tensors)
        if _runs(run, random):
            found += 1
            yield Trial(f"{symbol} = {other}", random)


def _runs(run: Run, tensors: Sequence[torch.Tensor]) -> bool:
    try:
        run(tensors)
    except Exception:
        return False
    return True


def unlike(examples: Sequence[torch.Tensor], where: str, draws: int = DRAWS) -> Iterator[Trial]:
    """Inputs that Python may take for another case than the examples."""
    import torch

    made = torch.Generator().manual_seed(4)
    random = partial(_draw, made=made)
    for label, change in _changes(random, made, draws):
        tensors = tuple(change(e) for e in examples)
        yield Trial(f"{label} ({where})" if where else label, tensors)


def _changes(random: _Change, made: torch.Generator, draws: int) -> Iterator[tuple[str, _Change]]:
    """What is made of each example, and what it is called."""
    import torch

    for scale in (1.0, 1e-4, 0.1, 10.0, 1e3):
        yield f"{scale:g} times the example", partial(_times, scale)
        yield f"{-scale:g} times the example", partial(_times, -scale)
        yield f"{scale:g} times random inputs", partial(_times, scale, change=random)
    for sign, word in ((1.0, "positive"), (-1.0, "negative")):
        yield f"{word} random inputs", partial(_times, sign, change=lambda e: _absolute(random(e)))
    for value in (0, 1):
        yield f"inputs of {value}", partial(torch.full_like, fill_value=value)
        yield f"masks of {value}", partial(_masks_of, value)
    for _ in range(draws):
        kept = float(torch.rand((), generator=made))
        yield "random inputs", random
        yield "inputs with zeros", partial(_sparse, random, kept, made)
        yield "inputs with zeros at the end", partial(_cut, random, kept)


def _times(scale: float, example: torch.Tensor, change: _Change | None = None) -> torch.Tensor:
    """A multiple of it, or of what it is changed to; masks and integers stay."""
    found = change(example) if change else example
    return found * scale if example.is_floating_point() and not _is_mask(example) else found


def _absolute(draw: torch.Tensor) -> torch.Tensor:
    return draw.abs() if draw.is_floating_point() else draw


def _masks_of(value: int, example: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.full_like(example, value) if _is_mask(example) else example


def _is_mask(example: torch.Tensor) -> bool:
    """Whether it has zeros and ones only."""
    return bool(((example == 0) | (example == 1)).all())


def _coins(example: torch.Tensor, kept: float, made: torch.Generator) -> torch.Tensor:
    import torch

    return (torch.rand(example.shape, generator=made) < kept).to(example.dtype)


def _sparse(
    random: _Change, kept: float, made: torch.Generator, example: torch.Tensor
) -> torch.Tensor:
    return random(example) * _coins(example, kept, made)


def _cut(random: _Change, kept: float, example: torch.Tensor) -> torch.Tensor:
    """Zeros behind a part of the last axis, as padded sets have them."""
    found = random(example).clone()
    if found.ndim:
        found[..., int(kept * found.shape[-1]) :] = 0
    return found


def _draw(example: torch.Tensor, made: torch.Generator) -> torch.Tensor:
    """Random numbers of the example's kind: masks are masks, integers lie among its integers."""
    import torch

    if not example.numel():
        return example
    if _is_mask(example):
        return _coins(example, float(torch.rand((), generator=made)), made)
    if example.is_floating_point():
        return _like(example, made)
    low, high = int(example.min()), int(example.max())
    return torch.randint(low, high + 1, example.shape, generator=made).to(example.dtype)
