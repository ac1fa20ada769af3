"""com.microsoft: weights of few bits, several of which share a byte, as numbers in float32."""

from __future__ import annotations

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import GraphError, ShapeError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules.contrib_fused import MICROSOFT, formula_of, optional
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import Array
from sofie_rdf.ops.elementwise import Add
from sofie_rdf.ops.linear import MatMul

_BITS = (2, 4, 8)
_MOST = 2**31


@onnx_rule(
    "MatMulNBits",
    domain=MICROSOFT,
    inputs=(3, 6),
    attributes=dict.fromkeys(
        ("K", "N", "accuracy_level", "bits", "block_size", "weight_prepacked"), int
    ),
)
def _matmul(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """x @ ((b - zero) * scale)^T + bias, where b has few bits, and each block of K its scale

    x stays as it is: an ``accuracy_level`` lets onnxruntime round x as well, but does not ask for
    it.
    """
    f = formula_of(node, build, origin)
    columns = _unpacked(node, build)
    weights = build.constant(columns.T.astype(f.dtype.numpy))
    y = f(MatMul(), node.inputs[0], weights)
    if bias := optional(node, 5):
        if build.type_of(bias).shape != (len(columns),):
            raise ShapeError(f"MatMulNBits has a bias {build.type_of(bias)} for {len(columns)}")
        y = f(Add(), y, bias)
    f.give(y, node)


def _size(node: OnnxNode, name: str) -> int:
    found = node.attributes.get(name)
    if not isinstance(found, int) or not 0 < found < _MOST:
        raise GraphError(f"MatMulNBits needs a positive {name!r}, not {found}")
    return found


def _known(node: OnnxNode, build: Builder, number: int, what: str) -> Array:
    """An input whose numbers stand in the file."""
    found = build.value_of(node.inputs[number])
    if found is None or found.dtype == object:
        raise UnsupportedOperator(
            f"MatMulNBits with {what} that are computed is not supported",
            remedy="Store them in the model, as onnxruntime's quantisation tools do",
        )
    return found


def _unpacked(node: OnnxNode, build: Builder) -> Array:
    """The weights, float32[N, K]."""
    n, k, block = (_size(node, name) for name in ("N", "K", "block_size"))
    bits = node.attributes.get("bits", 4)
    if bits not in _BITS:
        raise UnsupportedOperator(
            f"MatMulNBits with {bits} bits is not supported", remedy="2, 4 and 8 are"
        )
    if node.attributes.get("weight_prepacked", 0):
        raise UnsupportedOperator(
            "MatMulNBits with packed weights of one processor is not supported",
            remedy="Save the model without weight_prepacked",
        )
    blocks = -(-k // block)
    limits.require(bytes=12 * n * blocks * block, what="the unpacked weights of MatMulNBits")
    packed = _known(node, build, 1, "weights")
    scales = _known(node, build, 2, "scales")
    wanted = n * blocks * (block * bits // 8)
    if packed.dtype != np.uint8 or packed.size != wanted or block * bits % 8:
        raise ShapeError(f"MatMulNBits needs {wanted} bytes of weights, not {packed.size}")
    if scales.size != n * blocks:
        raise ShapeError(f"MatMulNBits needs {n * blocks} scales, not {scales.size}")
    numbers = _numbers(packed.reshape(n, -1), bits)[:, :k].astype(np.float32)
    scale = scales.reshape(n, blocks).astype(np.float32)
    zero = _zeros(node, build, (n, blocks), bits)
    groups = _groups(node, build, k, blocks, block)
    return np.asarray((numbers - zero[:, groups]) * scale[:, groups])


def _numbers(packed: Array, bits: int) -> Array:
    """Each row of bytes as whole numbers, of which the first one has the lowest bits."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    spread = (packed[:, :, None] >> shifts) & (2**bits - 1)
    return np.asarray(spread.reshape(len(packed), -1))


def _zeros(node: OnnxNode, build: Builder, shape: tuple[int, int], bits: int) -> Array:
    """The zero point of each block: packed as the weights are, or numbers as the scales."""
    if not optional(node, 3):
        return np.full(shape, 2 ** (bits - 1), np.float32)
    found = _known(node, build, 3, "zero points")
    rows = -(-shape[1] * bits // 8)
    if found.dtype != np.uint8:
        if found.size != shape[0] * shape[1]:
            raise ShapeError(f"MatMulNBits needs {shape[0] * shape[1]} zero points")
        return found.reshape(shape).astype(np.float32)
    if found.size != shape[0] * rows:
        raise ShapeError(f"MatMulNBits needs {shape[0] * rows} bytes of zero points")
    numbers = _numbers(found.reshape(shape[0], rows), bits)
    return np.asarray(numbers[:, : shape[1]].astype(np.float32))


def _groups(node: OnnxNode, build: Builder, k: int, blocks: int, block: int) -> Array:
    """Which block's scale each row of the weights has."""
    if not optional(node, 4):
        return np.arange(k) // block
    found = _known(node, build, 4, "groups")
    # Some tools fill the list up to whole blocks.
    if found.size not in (k, blocks * block) or not np.all((found >= 0) & (found < blocks)):
        raise ShapeError(f"MatMulNBits needs {k} groups below {blocks}")
    return np.asarray(found.reshape(-1)[:k].astype(np.int64))
