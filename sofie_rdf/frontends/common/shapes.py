"""What the user says about the shapes of inputs: ``shapes=`` of all frontends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sofie_rdf.arguments import described
from sofie_rdf.errors import InputError

__all__ = ["Shapes", "check_shape", "check_shapes"]

# The axes of inputs, by name: a number, a name, or None for what the file says.
Shapes: TypeAlias = Mapping[str, Sequence["int | str | None"]]


def check_shapes(shapes: Any) -> None:
    """`InputError` for what is no mapping from inputs to shapes."""
    if shapes is not None and not isinstance(shapes, Mapping):
        raise InputError(
            f"shapes= is {described(shapes)}; a mapping from inputs to their shapes is needed",
            remedy="shapes={'features': ('N', 7)}",
        )


def check_shape(name: str, shape: Any) -> None:
    """`InputError` for what cannot be a shape."""
    if not isinstance(shape, Sequence) or isinstance(shape, (str, bytes)):
        raise InputError(f"shapes= gives input {name!r} {shape!r}, which is no list of sizes")
    for size in shape:
        number = isinstance(size, int) and not isinstance(size, bool) and size >= 0
        if not (number or size is None or (isinstance(size, str) and size)):
            raise InputError(
                f"shapes= gives input {name!r} the size {size!r}",
                remedy="A size is a number, a name, or None for what the file says",
            )
