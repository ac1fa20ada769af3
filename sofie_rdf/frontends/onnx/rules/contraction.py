"""Einsum: two tensors at a time, as a matrix product or element by element where it is that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_letters

from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder, infer_node
from sofie_rdf.ir.dims import Dim, SizesDiffer, product
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ops.contraction import Einsum, Equation
from sofie_rdf.ops.elementwise import Mul
from sofie_rdf.ops.layout import Reshape, Transpose
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.ops.reduction import SUMMED, ReduceSum

Labels = tuple[str, ...]


@dataclass(frozen=True)
class _Term:
    """A value, and the label of each of its axes."""

    value: str
    labels: Labels


@onnx_rule("Einsum", inputs=(1, 1000), attributes={"equation": str})
def _einsum(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Products of two, from left to right."""
    whole = Einsum(node.attributes.get("equation", ""))
    types = [build.type_of(i) for i in node.inputs]
    try:
        if len(types) <= 2:
            infer_node(whole, types)
        equation = Equation.parse(whole.equation, [t.rank for t in types])
        equation.sizes([t.shape for t in types])
    except SizesDiffer:
        # The Builder will know whether they are equal.
        build(whole, *node.inputs, outputs=node.outputs, origin=origin)
        return
    writer = _Writer(build, origin)
    first, *rest = map(_Term, node.inputs, equation.inputs)
    if not rest:
        writer.single(first, equation.output, node.outputs)
    while rest:
        second, *rest = rest
        wanted = {n for t in rest for n in t.labels} | set(equation.output)
        kept = tuple(n for n in dict.fromkeys(first.labels + second.labels) if n in wanted)
        if rest:
            first = writer.product(first, second, kept, ())
        else:
            writer.product(first, second, equation.output, node.outputs)


@dataclass(frozen=True)
class _Writer:
    build: Builder
    origin: Origin

    def single(self, x: _Term, kept: Labels, outputs: Sequence[str]) -> None:
        """One tensor: a sum over axes and a transposition, unless it is a diagonal."""
        gone = tuple(i for i, n in enumerate(x.labels) if n not in kept)
        dtype = self.build.type_of(x.value).dtype
        if len(set(x.labels)) < len(x.labels) or (gone and dtype not in SUMMED):
            self.einsum((x,), kept, outputs)
            return
        if gone:
            left = tuple(n for n in x.labels if n in kept)
            last = outputs if left == kept else ()
            op = ReduceSum(gone, keepdims=False)
            x = _Term(self.build(op, x.value, outputs=last, origin=self.origin), left)
            if last:
                return
        perm = tuple(x.labels.index(n) for n in kept)
        self.build(Transpose(perm), x.value, outputs=outputs, origin=self.origin)

    def product(self, a: _Term, b: _Term, kept: Labels, outputs: Sequence[str]) -> _Term:
        """Two tensors: a matrix product with what is needed around it, if it is one."""
        sizes = self.sizes(a, b)
        shared = [n for n in a.labels if n in b.labels]
        batch = tuple(n for n in kept if n in shared)
        inner = tuple(n for n in shared if n not in kept)
        rows = tuple(n for n in kept if n not in b.labels)
        columns = tuple(n for n in kept if n not in a.labels)
        is_matrix = rows and columns and inner
        is_plain = len(set(a.labels)) == len(a.labels) and len(set(b.labels)) == len(b.labels)
        is_whole = set(a.labels) | set(b.labels) == {*batch, *rows, *columns, *inner}
        if is_plain and is_whole and not is_matrix:
            return self.elements(a, b, kept, inner, outputs)
        if not (is_matrix and is_plain and is_whole and self.have(sizes, a, b)):
            return self.einsum((a, b), kept, outputs)
        # Without a batch the rows may stay several axes, of which none has to be moved.
        many = tuple((n,) for n in rows) if not batch else (rows,)
        left = self.arranged(a, (*((n,) for n in batch), *many, inner), sizes)
        right = self.arranged(b, (*((n,) for n in batch), inner, columns), sizes)
        result = batch + rows + columns
        is_last = result == kept and (not batch or len(rows) == 1) and len(columns) == 1
        y = self.build(
            MatMul(), left, right, outputs=outputs if is_last else (), origin=self.origin
        )
        if is_last:
            return _Term(y, kept)
        shape = tuple(sizes[n] for n in result)
        last = outputs if result == kept else ()
        y = self.build(Reshape(shape, allowzero=True), y, outputs=last, origin=self.origin)
        if result != kept:
            perm = tuple(result.index(n) for n in kept)
            y = self.build(Transpose(perm), y, outputs=outputs, origin=self.origin)
        return _Term(y, kept)

    def elements(
        self, a: _Term, b: _Term, kept: Labels, inner: Labels, outputs: Sequence[str]
    ) -> _Term:
        """Two tensors of which no two rows meet: their elements are multiplied, then summed."""
        dtype = self.build.type_of(a.value).dtype
        if inner and dtype not in SUMMED:
            return self.einsum((a, b), kept, outputs)
        # One of them has all labels where there is a sum: it stays as it is.
        order = kept if not inner else max(a.labels, b.labels, key=len)
        factors = []
        for x in (a, b):
            own = dict(zip(x.labels, self.build.type_of(x.value).shape, strict=True))
            groups = [(n,) if n in own else () for n in order]
            factors.append(self.arranged(x, groups, own))
        y = self.build(Mul(), *factors, outputs=() if inner else outputs, origin=self.origin)
        if not inner:
            return _Term(y, kept)
        left = tuple(n for n in order if n in kept)
        op = ReduceSum(tuple(order.index(n) for n in inner), keepdims=False)
        last = outputs if left == kept else ()
        y = self.build(op, y, outputs=last, origin=self.origin)
        if left != kept:
            perm = tuple(left.index(n) for n in kept)
            y = self.build(Transpose(perm), y, outputs=outputs, origin=self.origin)
        return _Term(y, kept)

    def sizes(self, *terms: _Term) -> Mapping[str, Dim]:
        shapes = [self.build.type_of(t.value).shape for t in terms]
        return Equation(tuple(t.labels for t in terms), ()).sizes(shapes)

    def have(self, sizes: Mapping[str, Dim], *terms: _Term) -> bool:
        """Whether all axes have the sizes of their labels: none is 1 where others are longer."""
        shapes = ((t.labels, self.build.type_of(t.value).shape) for t in terms)
        return all(sizes[n] == d for names, s in shapes for n, d in zip(names, s, strict=True))

    def arranged(self, x: _Term, groups: Sequence[Labels], sizes: Mapping[str, Dim]) -> str:
        """The value with its axes in this order, and those of a group as one axis."""
        order = tuple(n for group in groups for n in group)
        value = x.value
        if order != x.labels:
            perm = tuple(x.labels.index(n) for n in order)
            value = self.build(Transpose(perm), value, origin=self.origin)
        if any(len(group) != 1 for group in groups):
            shape = tuple(product(sizes[n] for n in group) for group in groups)
            value = self.build(Reshape(shape, allowzero=True), value, origin=self.origin)
        return value

    def einsum(self, terms: Sequence[_Term], kept: Labels, outputs: Sequence[str]) -> _Term:
        """As it stands, with a letter for each label."""
        names = dict.fromkeys(n for t in terms for n in t.labels)
        letters = dict(zip(names, ascii_letters, strict=False))
        texts = [
            "".join(letters[n] for n in labels) for labels in (*(t.labels for t in terms), kept)
        ]
        op = Einsum(f"{','.join(texts[:-1])}->{texts[-1]}")
        values = (t.value for t in terms)
        return _Term(self.build(op, *values, outputs=outputs, origin=self.origin), kept)
