"""Sums of products over named axes, and determinants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_letters
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch, UnsupportedOperator
from sofie_rdf.ir.dims import Dim, product, require_equal
from sofie_rdf.ir.operator import (
    Call,
    Launch,
    Operand,
    Operator,
    Sizes,
    Tensor,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops._device import require_known
from sofie_rdf.ops.elementwise import FLOATS, NUMBERS

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


__all__ = ["Det", "Einsum", "Equation"]

_MOST_TENSORS = 16
_MOST_LABELS = 64


@dataclass(frozen=True)
class Equation:
    """The label of each axis of each tensor and of the result.

    A label is a letter, or for an axis that an ellipsis stands for its number from the back.
    """

    inputs: tuple[tuple[str, ...], ...]
    output: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, ranks: Sequence[int]) -> Equation:
        """The equation for tensors with so many axes; `ShapeError` where it has no meaning."""
        left, arrow, right = text.replace(" ", "").partition("->")
        terms = left.split(",")
        if len(terms) != len(ranks):
            raise ShapeError(f"{text!r} is for {len(terms)} tensors, not {len(ranks)}")
        inputs = tuple(_labels(t, r) for t, r in zip(terms, ranks, strict=True))
        axes = max((sum(len(n) > 1 for n in i) for i in inputs), default=0)
        counts = Counter(label for labels in inputs for label in labels)
        if arrow:
            shown = axes if "..." in right else 0
            if shown < axes:
                raise ShapeError(f"{text!r} does not say where the axes of ... go")
            output = _labels(right, len(right.replace("...", "")) + shown)
        else:
            single = sorted(n for n, c in counts.items() if c == 1 and len(n) == 1)
            output = (*_ellipsis(axes), *single)
        if len(set(output)) != len(output) or set(output) - set(counts):
            raise ShapeError(f"{text!r} has a result that does not follow from it")
        return cls(inputs, output)

    @property
    def summed(self) -> tuple[str, ...]:
        """The labels that are not in the result, those of the last tensor's last axes last."""
        found = dict.fromkeys(n for labels in self.inputs for n in labels)
        last = [n for n in self.inputs[-1] if n in found]
        order = [n for n in found if n not in last] + list(dict.fromkeys(last))
        return tuple(n for n in order if n not in self.output)

    @property
    def joined(self) -> tuple[tuple[str, ...], ...]:
        """The labels of each tensor behind a sum over those that it has alone.

        Where there are several, products of all elements overflow, and the sums may not.
        """
        if len(self.inputs) == 1:
            return self.inputs
        counts = Counter(n for own in self.inputs for n in set(own))
        return tuple(
            own
            if all(counts[n] > 1 or n in self.output for n in own)
            else tuple(dict.fromkeys(n for n in own if counts[n] > 1 or n in self.output))
            for own in self.inputs
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, those of the result first."""
        return self.output + self.summed

    def sizes(self, shapes: Sequence[Shape]) -> Mapping[str, Dim]:
        """The size of each label; an axis of size 1 is as long as it must be."""
        sizes: dict[str, Dim] = {}
        for labels, shape in zip(self.inputs, shapes, strict=True):
            for name, dim in zip(labels, shape, strict=True):
                known = sizes.get(name, 1)
                sizes[name] = (
                    dim if known == 1 else known if dim == 1 else require_equal(known, dim)
                )
        return sizes


def _ellipsis(axes: int) -> tuple[str, ...]:
    return tuple(f".{i}" for i in reversed(range(axes)))


def _labels(term: str, rank: int) -> tuple[str, ...]:
    """The labels of a term of an equation for a tensor with so many axes."""
    before, dots, after = term.partition("...")
    letters = before + after
    if not all(c.isascii() and c.isalpha() for c in letters):
        raise ShapeError(f"cannot read the term {term!r}")
    rest = rank - len(letters)
    if rest < 0 or (rest and not dots):
        raise ShapeError(f"the term {term!r} is not for a tensor with {rank} axes")
    return (*before, *_ellipsis(rest), *after)


@operator(since=28, terms=2)
class Einsum(Operator):
    """y[labels of y] = the sum over all other labels of the product of all x[labels of x]"""

    equation: str
    header: ClassVar[str] = "sofie/kernels/contraction.hxx"
    dtypes: ClassVar[frozenset[DType]] = NUMBERS

    def infer(self, *inputs: TensorType) -> TensorType:
        dtype = require_same_dtype(*inputs)
        if dtype not in self.dtypes:
            raise TypeMismatch(f"is not defined for {dtype}")
        equation = self._parsed(inputs)
        if len(inputs) > _MOST_TENSORS or len(equation.labels) > _MOST_LABELS:
            raise UnsupportedOperator("an Einsum of so many tensors or labels is not supported")
        sizes = equation.sizes([t.shape for t in inputs])
        return TensorType(dtype, tuple(sizes[n] for n in equation.output))

    def _parsed(self, inputs: Sequence[TensorType]) -> Equation:
        return Equation.parse(self.equation, [t.rank for t in inputs])

    def reference(self, *inputs: Array) -> Array:
        return np.asarray(np.einsum(self.equation, *inputs, optimize=True), order="C")

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        types = [t for t in inputs if t is not None]
        equation = self._parsed(types)
        sizes = equation.sizes([t.shape for t in types])
        return product(sizes.values()) if len(types) > 1 else 0

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        present = [i for i in inputs if i is not None]
        equation = self._parsed([i.type for i in present])
        sizes = equation.sizes([i.type.shape for i in present])
        strides: list[Dim] = []
        for labels, x in zip(equation.inputs, present, strict=True):
            strides += _strides(equation.labels, labels, x.type.shape)
        dims = Sizes(tuple(sizes[n] for n in equation.labels))
        views = (Tensor(o, (o.type.size,)) for o in (outputs[0], *present))
        y, *x_views = views
        kept = len(equation.output)
        return Call("sofie::einsum", (y, kept, dims, Sizes(tuple(strides)), *x_views))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        present = [i for i in inputs if i is not None]
        require_known(*outputs, *present)
        equation = self._parsed([i.type for i in present])
        sizes = equation.sizes([i.type.shape for i in present])
        y, *sums = outputs
        terms, launches = [], []
        for own, rest, x in zip(equation.inputs, equation.joined, present, strict=True):
            if rest != own:
                launches.append(_contracted(sums[0], rest, [(own, x)], sizes))
                x = sums.pop(0)
            terms.append((rest, x))
        return (*launches, _contracted(y, equation.output, terms, sizes))

    def device_workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        types = [t for t in inputs if t is not None]
        equation = self._parsed(types)
        sizes = equation.sizes([t.shape for t in types])
        pairs = zip(equation.inputs, equation.joined, strict=True)
        return tuple(
            TensorType(types[0].dtype, tuple(sizes[n] for n in rest))
            for own, rest in pairs
            if rest != own
        )

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        xs = [back.input(n) for n in range(len(back.inputs))]
        equation = self._parsed([x.type for x in xs])
        letters = dict(zip(equation.labels, ascii_letters, strict=False))
        diagonal = any(len(set(n)) < len(n) for n in equation.inputs)
        if diagonal or len(letters) < len(equation.labels):
            super().pullback(back)
        sizes = equation.sizes([x.shape for x in xs])

        def term(labels: Sequence[str]) -> str:
            return "".join(letters[n] for n in labels)

        found: list[Value | None] = []
        for number, own in enumerate(equation.inputs):
            others = [x for n, x in enumerate(xs) if n != number]
            terms = [term(n) for k, n in enumerate(equation.inputs) if k != number]
            held = {n for k, ns in enumerate(equation.inputs) if k != number for n in ns}
            there = [n for n in own if n in held or n in equation.output]
            if not back.needs(number):
                found.append(None)
                continue
            left = ",".join([term(equation.output), *terms])
            part = back.g.through(Einsum(f"{left}->{term(there)}"), *others)
            # Of what is summed up alone each element has the same derivative.
            part = part.reshape(tuple(part.shape[there.index(n)] if n in there else 1 for n in own))
            found.append(part.expand(tuple(sizes[n] for n in own)))
        return tuple(found)


def _contracted(
    y: Operand,
    kept: Sequence[str],
    terms: Sequence[tuple[Sequence[str], Operand]],
    sizes: Mapping[str, Dim],
) -> Launch:
    """The kernel that sums up the products of all terms, each with its labels."""
    summed = dict.fromkeys(n for labels, _ in terms for n in labels if n not in kept)
    walks = (
        tuple(Sizes(tuple(_strides(tuple(wanted), labels, x.type.shape))) for labels, x in terms)
        for wanted in (kept, summed)
    )
    extents = (Sizes(tuple(sizes[n] for n in names)) for names in (kept, summed))
    kernel = f"sofie::device::Contract<{len(kept)}, {len(summed)}, {len(terms)}>"
    parameters = *extents, *walks, product(sizes[n] for n in summed)
    tensors = (y, *(x for _, x in terms))
    return Launch(kernel, parameters, tensors, y.type.size, "sofie/device/contract.hxx")


def _strides(wanted: Sequence[str], labels: Sequence[str], shape: Shape) -> list[Dim]:
    """How far apart neighbours along each label are; a label that occurs twice is a diagonal."""
    found: dict[str, Dim] = {}
    for axis, (name, dim) in enumerate(zip(labels, shape, strict=True)):
        if dim != 1:
            found[name] = found.get(name, 0) + product(shape[axis + 1 :])
    return [found.get(n, 0) for n in wanted]


# A determinant for each element of a matrix is its derivative.
_MOST_COFACTORS = 6


@operator(since=22, ulp=1, terms=4)
class Det(Operator):
    """det x[..., :, :]"""

    header: ClassVar[str] = "sofie/kernels/contraction.hxx"
    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype not in self.dtypes:
            raise TypeMismatch(f"is not defined for {x.dtype}")
        if x.rank < 2:
            raise ShapeError("needs matrices, which have two axes")
        require_equal(x.shape[-2], x.shape[-1])
        return TensorType(x.dtype, x.shape[:-2])

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        (x,) = inputs
        assert x is not None
        return (TensorType(DType.FLOAT64, x.shape[-2:]),)

    def reference(self, x: Array) -> Array:
        count = int(np.prod(x.shape[:-2], dtype=np.int64))
        a = x.reshape(count, *x.shape[-2:]).copy()
        n, rows = a.shape[-1], np.arange(len(a))
        result = np.ones(len(a), a.dtype)
        for k in range(n):
            pivot = k + np.argmax(np.abs(a[:, k:, k]), axis=1)
            a[rows, k], a[rows, pivot] = a[rows, pivot], a[rows, k]
            result *= np.where(pivot == k, 1, -1).astype(a.dtype) * a[:, k, k]
            safe = np.where(a[:, k, k] == 0, a.dtype.type(1), a[:, k, k])
            factors = a[:, k + 1 :, k] / safe[:, None]
            a[:, k + 1 :, k:] -= factors[:, :, None] * a[:, None, k, k:]
        return result.reshape(x.shape[:-2])

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        y, work = outputs
        count, sides = product(x.type.shape[:-2]), x.type.shape[-2:]
        tensors = Tensor(y, (count,)), Tensor(work), Tensor(x, (count, *sides))
        return Call("sofie::det", tensors, outputs=2)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        require_known(x)
        count, parameters = product(x.type.shape[:-2]), (x.type.shape[-1],)
        tensors, header = (*outputs, x), "sofie/device/contract.hxx"
        kernel = "sofie::device::Determinant"
        return (Launch(kernel, parameters, tensors, count, header, outputs=2),)

    def device_workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        (x,) = inputs
        assert x is not None
        return (x,)

    def pullback(self, back: Backward) -> Value:
        x, n = back.x, back.x.shape[-1]
        if not isinstance(n, int) or n > _MOST_COFACTORS:
            raise UnsupportedOperator(
                f"Det has a gradient here of at most {_MOST_COFACTORS} rows, and not of {n}",
                remedy="Differentiate outputs that do not depend on it",
            )
        g = back.g.reshape((*back.g.shape, 1, 1))
        if n < 2:
            return g.expand(x.shape)
        rows = [
            self._cofactor(x, i, 0).concat(
                [self._cofactor(x, i, j) for j in range(1, n)], x.rank - 1
            )
            for i in range(n)
        ]
        return g * rows[0].concat(rows[1:], x.rank - 2)

    @staticmethod
    def _cofactor(x: Value, i: int, j: int) -> Value:
        """The determinant without a row and a column, with its sign, as a matrix of one element."""
        n, rank = x.shape[-1], x.rank
        assert isinstance(n, int)
        for axis, left_out in ((rank - 2, i), (rank - 1, j)):
            kept = np.array([k for k in range(n) if k != left_out], np.int64)
            x = x.apply("Gather", x.tape.constant(kept), axis=axis)
        found = x.apply("Det")
        found = found.reshape((*found.shape, 1, 1))
        return -found if (i + j) % 2 else found
