"""Graph <-> readable text, without loss; only the elements of the constants are kept beside it.

::

    model higgs
      @ producer = "pytorch 2.4"
    input  features: float32[N, 7]
    const  "dense.weight": float32[7, 64]
    h: float32[N, 64] = Dense(activation=Relu())(features, "dense.weight") @ "Gemm" in "higgs.onnx"
    output h
    end

Names that are no plain identifiers are JSON strings, ``-`` is an absent optional input, sizes are
those of `sofie_rdf.ir.dims`. The words behind ``@`` of a node are its `Origin`. The text is written
by `sofie_rdf.ir.printing`, and read here.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, NoReturn, TypeVar, Union

from sofie_rdf.errors import CorruptFile, LimitExceeded, SofieError, UnsupportedOperator
from sofie_rdf.ir.dims import Dim, Size, parse_dim
from sofie_rdf.ir.graph import Graph, Node, Origin
from sofie_rdf.ir.operator import Operator, lookup
from sofie_rdf.ir.printing import (
    NAME,
    PLAIN,
    SECTIONS,
    WORDS,
    graph_text,
    operator_text,
    value_text,
)
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ir.verify import verify

__all__ = ["graph_text", "operator_text", "parse_graph", "parse_operator"]

_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_STRING = r'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(rf"[ \t\r]*({NAME}|{_NUMBER}|{_STRING}|//|[-+*%(),.:=@\[\]])")
_FLOAT = re.compile(r"inf|nan|[0-9]+(\.[0-9]+|e[+-]?[0-9]+|\.[0-9]+e[+-]?[0-9]+)")
_DTYPES = {d.value: d for d in DType}
_DEEPEST = 40
_DEEPEST_GRAPH = 8

T = TypeVar("T")


class _Line:
    """The tokens of one line, taken from left to right."""

    def __init__(self, text: str, number: int) -> None:
        self.number = number
        self.tokens: list[str] = []
        self.at = 0
        end = 0
        while found := _TOKEN.match(text, end):
            self.tokens.append(found[1])
            end = found.end()
        if rest := text[end:].strip(" \t\r"):
            self.fail(f"cannot read {rest[:40]!r}")

    @property
    def place(self) -> str:
        return f"line {self.number}"

    def fail(self, thing: str) -> NoReturn:
        raise CorruptFile(thing, place=self.place)

    def peek(self, ahead: int = 0) -> str:
        """The token there, ``""`` behind the last one."""
        index = self.at + ahead
        return self.tokens[index] if index < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def maybe(self, token: str) -> bool:
        if self.peek() != token:
            return False
        self.at += 1
        return True

    def expect(self, *tokens: str) -> None:
        for token in tokens:
            if not self.maybe(token):
                found = repr(self.peek()) if self.peek() else "the end of the line"
                self.fail(f"expected {token!r}, found {found}")

    def end(self) -> None:
        if self.at < len(self.tokens):
            self.fail(f"{self.peek()!r} is too much here")

    def string(self) -> str:
        token = self.take()
        try:
            found = json.loads(token) if token.startswith('"') else None
        except ValueError:
            found = None
        if not isinstance(found, str):
            self.fail(f"expected a string, found {token!r}")
        return found

    def name(self) -> str:
        """A plain or a quoted name; never an empty one."""
        if self.peek().startswith('"'):
            name = self.string()
        else:
            name = self.take()
            if not PLAIN.fullmatch(name):
                self.fail(f"expected a name, found {name!r}")
        return name or self.fail("a name is empty")

    def listed(self, item: Callable[[], T], close: str) -> list[T]:
        """Items separated by commas up to the closing token; a last comma is allowed."""
        found: list[T] = []
        while not self.maybe(close):
            found.append(item())
            if not self.maybe(","):
                self.expect(close)
                break
        return found

    @cached_property
    def closing(self) -> Mapping[int, int]:
        """Where each parenthesis that is open closes."""
        found, open_ = dict[int, int](), list[int]()
        for index, token in enumerate(self.tokens):
            if token == "(":
                open_.append(index)
            elif token == ")" and open_:
                found[open_.pop()] = index
        return found

    @property
    def holds_tuple(self) -> bool:
        """Whether the parenthesis here closes where the value ends; ``(N - 3)//2`` goes on."""
        after = self.closing.get(self.at, len(self.tokens)) + 1 - self.at
        return self.peek(after) in ("", ",", ")")

    def dim(self) -> Dim:
        """A size: all tokens up to the comma or bracket that ends it."""
        start, depth = self.at, 0
        while (token := self.peek()) and (depth or token not in (",", ")", "]")):
            depth += (token == "(") - (token == ")")
            self.at += 1
        try:
            return parse_dim(" ".join(self.tokens[start : self.at]))
        except ValueError as error:
            self.fail(str(error))


def _tensor_type(line: _Line) -> TensorType:
    name = line.take()
    if name not in _DTYPES:
        line.fail(f"{name!r} is no element type")
    line.expect("[")
    return TensorType(_DTYPES[name], tuple(line.listed(line.dim, "]")))


def _parsed_value(line: _Line, depth: int) -> Any:
    if depth > _DEEPEST:
        line.fail("is nested too deeply")
    token, after = line.peek(), line.peek(1)
    if token == "(" and line.holds_tuple:
        line.take()
        return tuple(line.listed(lambda: _parsed_value(line, depth + 1), ")"))
    if token.startswith('"') and after != ".":
        return line.string()
    if _FLOAT.fullmatch(token):
        return float(line.take())
    if token == "-" and _FLOAT.fullmatch(after):
        line.take()
        return -float(line.take())
    if token in WORDS:
        line.take()
        return WORDS[token]
    if token == "size" and after == "(":
        line.expect("size", "(")
        found = _quoted_size(line)
        line.expect(")")
        return found
    if token == "graph" and after == "(":
        line.expect("graph", "(")
        body = _inner_graph(line, depth)
        line.expect(")")
        return body
    if after == "." or (after == "(" and token not in ("min", "max") and PLAIN.match(token)):
        return _operator(line, depth + 1)
    return line.dim()


def _inner_graph(line: _Line, depth: int) -> Graph:
    """A graph in an attribute of a node: its text as a string."""
    if depth > _DEEPEST_GRAPH:
        line.fail("is nested too deeply")
    try:
        return parse_graph(line.string(), {})
    except CorruptFile as error:
        line.fail(f"in a graph inside: {error.thing}")
    except UnsupportedOperator as error:
        raise error.rewritten(error.thing, line.place) from None


def _quoted_size(line: _Line) -> Dim:
    try:
        return parse_dim(line.string())
    except ValueError as error:
        line.fail(str(error))


def _operator(line: _Line, depth: int = 0) -> Operator:
    parts = [line.name()]
    while line.maybe("."):
        parts.append(line.name())
    *domain, name = parts
    try:
        found = lookup(".".join(domain), name)
    except UnsupportedOperator as error:
        raise error.at(line.place) from None
    known = {f.name for f in dataclasses.fields(found)}
    hints = {} if line.peek(1) == ")" else _hints(found)
    values: dict[str, Any] = {}

    line.expect("(")

    def attribute() -> None:
        key = line.name()
        if key not in known or key in values:
            line.fail(f"{found.name} has no attribute {key!r}, or it is here twice")
        line.expect("=")
        values[key] = _parsed_value(line, depth)
        if not _fits(values[key], hints.get(key, Any)):
            line.fail(f"{found.name}: {value_text(values[key])} is no value for {key!r}")

    line.listed(attribute, ")")
    try:
        return found(**values)
    except LimitExceeded:
        raise
    except Exception as error:
        # An operator refuses values in its own way, which may be any exception.
        line.fail(f"{found.name} refuses its attributes: {error}")


def _hints(cls: type[Operator]) -> Mapping[str, Any]:
    """The declared types of the fields; empty where they are not known outside of their file."""
    try:
        return typing.get_type_hints(cls, localns={"Size": Size})
    except (NameError, TypeError):
        return {}


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of the declared type; True for declarations that say little."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, a) for a in args)
    if origin is Literal:
        return value in args
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(args) == 2 and args[1] is ...:
            return all(_fits(v, args[0]) for v in value)
        return len(value) == len(args) and all(map(_fits, value, args))
    if hint is float:
        return isinstance(value, (int, float))
    known = isinstance(hint, type) and hint is not Any
    return isinstance(value, hint) if known else True


def parse_operator(text: str) -> Operator:
    """The inverse of `operator_text`; CorruptFile or UnsupportedOperator for anything else."""
    line = _Line(text, 1)
    op = _operator(line)
    line.end()
    return op


class _Reader:
    """Grows the parts of a graph line by line."""

    def __init__(self, constants: Mapping[str, Array]) -> None:
        self.given = constants
        self.name = ""
        self.provenance: dict[str, str] = {}
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.constants: dict[str, Array] = {}
        self.types: dict[str, TensorType] = {}
        self.nodes: list[Node] = []
        self.places: list[str] = []
        self.ended = False

    def read(self, line: _Line) -> None:
        first = line.peek()
        if not self.name and first != "model":
            line.fail("the text does not begin with 'model'")
        if self.ended:
            line.fail("the text goes on after its end")
        if first == "@":
            self.read_provenance(line)
        elif first == "end":
            self.ended = line.maybe("end")
        elif first in SECTIONS:
            line.take()
            name = line.name()
            if first == "model" and self.name:
                line.fail("a second model begins")
            match first:
                case "model":
                    self.name = name
                case "input":
                    self.inputs.append(self.declare(line, name))
                case "const":
                    self.constants[name] = self.array(line, self.declare(line, name))
                case "output":
                    self.outputs.append(name)
        else:
            self.read_node(line)
        line.end()

    def read_provenance(self, line: _Line) -> None:
        line.expect("@")
        key = line.name()
        line.expect("=")
        if key in self.provenance:
            line.fail(f"{key!r} is said twice")
        self.provenance[key] = line.string()

    def read_node(self, line: _Line) -> None:
        outputs = [self.declare(line, line.name())]
        while line.maybe(","):
            outputs.append(self.declare(line, line.name()))
        line.expect("=")
        op = _operator(line)
        line.expect("(")
        inputs = line.listed(lambda: "" if line.maybe("-") else line.name(), ")")
        name = file = ""
        if line.maybe("@"):
            name = line.string() if line.peek().startswith('"') else ""
            file = line.string() if line.maybe("in") else ""
        self.nodes.append(Node(op, tuple(inputs), tuple(outputs), Origin(file, name)))
        self.places.append(line.place)

    def declare(self, line: _Line, name: str) -> str:
        line.expect(":")
        if name in self.types:
            line.fail(f"value {name!r} is defined twice")
        self.types[name] = _tensor_type(line)
        return name

    def array(self, line: _Line, name: str) -> Array:
        if name not in self.given:
            line.fail(f"the elements of constant {name!r} are missing")
        array, type_ = self.given[name], self.types[name]
        if (array.dtype, array.shape) != (type_.dtype.numpy, type_.shape):
            line.fail(f"the elements of constant {name!r} are no {type_}")
        return array

    def graph(self, last: int) -> Graph:
        end = f"line {last}"
        if not self.name:
            raise CorruptFile("no model is here", place=end)
        if not self.ended:
            raise CorruptFile("the text has no end", place=end)
        strange = sorted(self.given.keys() - self.constants.keys())
        if strange:
            raise CorruptFile(f"no constant is named {strange[0]!r}", place=end)
        graph = Graph(
            name=self.name,
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            nodes=tuple(self.nodes),
            types=MappingProxyType(self.types),
            constants=MappingProxyType(self.constants),
            provenance=MappingProxyType(self.provenance),
        )
        self.check(graph, end)
        return graph

    def check(self, graph: Graph, end: str) -> None:
        """`verify`, with the lines of the text in the place of the nodes' origins."""
        placed = [
            dataclasses.replace(node, origin=Origin(file=place))
            for node, place in zip(graph.nodes, self.places, strict=True)
        ]
        try:
            verify(dataclasses.replace(graph, nodes=tuple(placed)))
        except LimitExceeded:
            raise
        except SofieError as error:
            raise CorruptFile(error.thing, place=error.place or end) from None
        except Exception as error:
            # A rule of an operator that meets what no frontend would give it.
            raise CorruptFile(f"makes no sense: {error}", place=end) from error


def parse_graph(text: str, constants: Mapping[str, Array]) -> Graph:
    """The inverse of `graph_text`, verified; CorruptFile or UnsupportedOperator with the line."""
    reader = _Reader(constants)
    lines = text.rstrip().split("\n")
    absent: dict[str, UnsupportedOperator] = {}
    for number, row in enumerate(lines, start=1):
        line = _Line(row, number)
        try:
            if line.tokens:
                reader.read(line)
        except UnsupportedOperator as error:
            absent.setdefault(error.thing, error)
    if absent:
        raise _all_of(list(absent.values()))
    return reader.graph(len(lines))


def _all_of(absent: list[UnsupportedOperator]) -> UnsupportedOperator:
    """One error that names all operators which are not there."""
    first, *others = absent
    if not others:
        return first
    thing = "; ".join([first.thing, *(f"{e.place}: {e.thing}" for e in others)])
    remedies = dict.fromkeys(e.remedy for e in absent if e.remedy)
    return UnsupportedOperator(thing, place=first.place, remedy=". ".join(remedies))
