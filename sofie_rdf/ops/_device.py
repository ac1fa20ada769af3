"""How operators name the kernels of devices: element-wise functions, copies, and products."""

from __future__ import annotations

from collections.abc import Sequence

from sofie_rdf.errors import TypeMismatch
from sofie_rdf.ir.dims import Dim, ceil_div, product
from sofie_rdf.ir.operator import Call, Functor, Launch, Operand, Sizes, Tensor
from sofie_rdf.ir.types import Shape

__all__ = [
    "TILE_ALONE",
    "device_functor",
    "device_gemm",
    "gemm_tile",
    "identity",
    "mapped",
    "mapped_copy",
    "require_known",
    "strides",
    "tile_class",
]

FUNCTIONS = "sofie/device/functions.hxx"


def identity() -> Functor:
    """The function object that changes nothing."""
    return Functor("sofie::Identity")


def device_functor(functor: Functor) -> Functor:
    """The function object of numbers that is called as this one of packs."""
    fields = (device_functor(f) if isinstance(f, Functor) else f for f in functor.fields)
    return Functor(functor.cxx.replace("sofie::", "sofie::device::"), tuple(fields))


def tile_class(tile: Sequence[int]) -> str:
    """The class of a tile."""
    return f"sofie::device::Tile<{', '.join(map(str, tile))}>"


def require_known(*operands: Operand) -> None:
    """TypeMismatch for element types that devices do not compute with."""
    for operand in operands:
        dtype = operand.type.dtype
        if dtype.is_storage:
            raise TypeMismatch(f"devices know no {dtype}", remedy="Convert the model to float32")


def strides(shape: Shape) -> Sizes:
    """How far apart neighbours along each axis are; 0 where there is one element to repeat."""
    found: list[Dim] = []
    step: Dim = 1
    for size in reversed(shape):
        found.append(0 if size == 1 else step)
        step = step * size
    return Sizes(tuple(reversed(found)))


def mapped(call: Call) -> tuple[Launch, ...]:
    """The kernel that does what this call of `sofie::map` does."""
    functor, y, *inputs = call.arguments
    assert call.kernel == "sofie::map" and isinstance(functor, Functor) and isinstance(y, Tensor)
    tensors = [t for t in inputs if isinstance(t, Tensor)]
    shape = y.extents
    listed = tuple(strides(t.extents) for t in tensors)
    operands = (y.operand, *(t.operand for t in tensors))
    require_known(*operands)
    named = device_functor(functor)
    kernel = f"sofie::device::Map<{named.cxx}, {len(shape)}, {len(tensors)}>"
    parameters = named, Sizes(shape), listed
    return (Launch(kernel, parameters, operands, product(shape), "sofie/device/map.hxx"),)


def mapped_copy(y: Operand, x: Operand) -> tuple[Launch, ...]:
    """The kernel that copies elements as they are."""
    size = (y.type.size,)
    return mapped(Call("sofie::map", (identity(), Tensor(y, size), Tensor(x, size))))


# Rows and columns of a tile, its depth, and the rows and columns of an item: for products with
# many columns, and with few. What an item does alone are some rows of a column.
_WIDE, _NARROW, TILE_ALONE = (64, 64, 16, 4, 4), (128, 8, 16, 4, 1), (8, 1, 1, 8, 1)


def gemm_tile(columns: Dim) -> tuple[int, ...]:
    """The tile of a product with so many columns."""
    return _NARROW if isinstance(columns, int) and columns <= _NARROW[1] else _WIDE


def device_gemm(
    functor: Functor,
    y: Operand,
    operands: Sequence[Operand],
    sizes: tuple[Dim, Dim, Dim],
    *,
    batch: tuple[Shape, Shape, Shape] = ((), (), ()),
    turned: tuple[bool, bool] = (False, False),
    scale: tuple[float, float] = (1.0, 1.0),
) -> tuple[Launch, ...]:
    """y = functor(alpha * a @ b + beta * c) for a, b and maybe c, of m x n elements in k products.

    ``batch`` has the sizes of the batch, of y, a and b. a and b are ``turned`` if their columns are
    the rows that are multiplied.
    """
    require_known(y, *operands)
    m, n, k = sizes
    outer, *each = batch
    named, dtype = device_functor(functor), y.type.dtype.on_device
    tile = gemm_tile(n)
    offset = Sizes((0, 0))
    if len(operands) == 3:
        shape = operands[2].type.shape
        offset = strides((*(1,) * (2 - len(shape)), *shape))
    parameters = (
        named,
        *scale,
        m,
        n,
        k,
        Sizes((1, m) if turned[0] else (k, 1)),
        Sizes((1, k) if turned[1] else (n, 1)),
        offset,
        Sizes(outer),
        *(
            Sizes(tuple(0 if s == 0 else s * size for s in strides(shape).dims))
            for shape, size in zip(each, (m * k, k * n), strict=True)
        ),
    )

    def cut(tile: tuple[int, ...]) -> tuple[str, Dim]:
        kernel = f"sofie::device::Gemm<{dtype}, {named.cxx}, {tile_class(tile)}, {len(outer)}>"
        return kernel, product(outer) * ceil_div(m, tile[0]) * ceil_div(n, tile[1])

    kernel, count = cut(tile)
    header, alone = "sofie/device/gemm.hxx", cut(TILE_ALONE)
    return (Launch(kernel, parameters, (y, *operands), count, header, "gemm", alone=alone),)
