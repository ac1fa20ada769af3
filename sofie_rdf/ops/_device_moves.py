"""The kernels of devices that put elements elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from sofie_rdf.ir.dims import Dim, maximum, product
from sofie_rdf.ir.operator import Call, Launch, Operand, Sizes, Tensor
from sofie_rdf.ir.types import Shape
from sofie_rdf.ops._device import require_known

__all__ = [
    "copied",
    "dense",
    "diagonal",
    "gathered",
    "gathered_elements",
    "one_hot",
    "padded",
    "parts",
    "strided",
    "triangle",
    "written",
]

HEADER = "sofie/device/copy.hxx"


def dense(shape: Shape) -> Shape:
    """How far apart neighbours along each axis are."""
    return tuple(product(shape[axis + 1 :]) for axis in range(len(shape)))


def copied(
    y: Operand,
    x: Operand,
    shape: Shape,
    steps: tuple[Shape, Shape],
    begins: tuple[Dim, Dim] = (0, 0),
) -> Launch:
    """The elements of a shape, from x to y, with ``steps`` and first elements of x and of y."""
    require_known(y, x)
    kernel = f"sofie::device::Copy<{len(shape)}>"
    parameters = Sizes(shape), *map(Sizes, steps), *begins
    return Launch(kernel, parameters, (y, x), product(shape), HEADER)


def strided(call: Call) -> tuple[Launch, ...] | None:
    """The kernel that does what a call of those in `READS` does; None for other calls."""
    if not call.kernel.startswith(("sofie::read_planes<", "sofie::read_strided")):
        return None
    shape, steps, start, y, x = call.arguments
    assert isinstance(shape, Sizes) and isinstance(steps, Sizes)
    assert isinstance(y, Tensor) and isinstance(x, Tensor)
    walk = steps.dims, dense(shape.dims)
    return (copied(y.operand, x.operand, shape.dims, walk, (start, 0)),)  # type: ignore[arg-type]


def parts(
    whole: Operand, listed: Sequence[Operand], rows: Dim, counts: Sequence[Dim], *, joined: bool
) -> tuple[Launch, ...]:
    """Tensors side by side in the rows of a whole, which they are ``joined`` to or are of."""
    total = sum(counts, start=0 * rows)
    found, begin = [], 0 * rows
    for one, count in zip(listed, counts, strict=True):
        part: tuple[Shape, Dim] = (count, 1), 0
        inside: tuple[Shape, Dim] = (total, 1), begin
        source, target = (part, inside) if joined else (inside, part)
        ends = (whole, one) if joined else (one, whole)
        steps, begins = (source[0], target[0]), (source[1], target[1])
        found.append(copied(*ends, (rows, count), steps, begins))
        begin = begin + count
    return tuple(found)


def gathered(
    y: Operand, x: Operand, indices: Operand, sizes: tuple[Dim, Dim, Dim]
) -> tuple[Launch, ...]:
    """y[o, m, i] = x[o, indices[m], i] for x of these sizes."""
    require_known(y, x)
    outer, size, inner = sizes
    count = indices.type.size
    parameters = size, inner, count
    total = outer * count * inner
    return (Launch("sofie::device::Gather", parameters, (y, x, indices), total, HEADER),)


def gathered_elements(y: Operand, x: Operand, indices: Operand, axis: int) -> tuple[Launch, ...]:
    """y[i, j, ...] = x[i, ..., indices[i, j, ...], ...] along an axis."""
    require_known(y, x)
    shape, steps = y.type.shape, list(dense(x.type.shape))
    step, steps[axis] = steps[axis], 0
    parameters = Sizes(shape), Sizes(tuple(steps)), x.type.shape[axis], step
    kernel = f"sofie::device::GatherElements<{len(shape)}>"
    return (Launch(kernel, parameters, (y, x, indices), product(shape), HEADER),)


def written(y: Operand, numbers: Sequence[Dim]) -> tuple[Launch, ...]:
    """These sizes as numbers."""
    kernel = f"sofie::device::Write<{len(numbers)}>"
    return (Launch(kernel, (Sizes(tuple(numbers)),), (y,), len(numbers), HEADER),)


def diagonal(y: Operand, k: int) -> tuple[Launch, ...]:
    """Ones where j - i = k, and zeros."""
    require_known(y)
    parameters = y.type.shape[1], k
    return (Launch("sofie::device::Diagonal", parameters, (y,), y.type.size, HEADER),)


def triangle(y: Operand, x: Operand, k: int, *, upper: bool) -> tuple[Launch, ...]:
    """The elements of matrices on one side of a diagonal, and zeros."""
    require_known(y, x)
    parameters = int(upper), *x.type.shape[-2:], k
    return (Launch("sofie::device::Triangle", parameters, (y, x), y.type.size, HEADER),)


def one_hot(
    y: Operand, indices: Operand, values: Operand, depth: Dim, inner: Dim
) -> tuple[Launch, ...]:
    """The second of two values where an index is, and the first elsewhere."""
    require_known(y, indices)
    tensors = y, indices, values
    return (Launch("sofie::device::OneHot", (depth, inner), tensors, y.type.size, HEADER),)


def padded(
    y: Operand, x: Operand, value: Operand | None, widths: Sequence[tuple[Dim, Dim]], mode: int
) -> tuple[Launch, ...]:
    """x with borders of these widths, before and behind; negative ones cut off first."""
    given = () if value is None else (value,)
    require_known(y, x, *given)
    shape = y.type.shape
    steps = dense(x.type.shape)
    before = tuple(maximum(begin, 0) for begin, _ in widths)
    cut = [maximum(0 - begin, 0) for begin, _ in widths]
    ends = [maximum(0 - end, 0) for _, end in widths]
    kept = tuple(n - b - e for n, b, e in zip(x.type.shape, cut, ends, strict=True))
    first = sum((c * s for c, s in zip(cut, steps, strict=True)), start=0 * product(shape))
    kernel = f"sofie::device::Pad<{len(shape)}, {mode}>"
    parameters = *map(Sizes, (shape, before, kept, steps)), first
    return (Launch(kernel, parameters, (y, x, *given), product(shape), HEADER),)
