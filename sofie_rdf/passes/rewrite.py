"""Local rules as equations: what a piece of a graph looks like, and the one node it becomes.

::

    @rule("Relu(Dense(x, w, b))")
    def dense_relu(m: Match) -> Rewrite:
        m.require(m.op(Dense).activation == NoActivation(), "the Dense has an activation already")
        return m.becomes(Dense(m.op(Relu)), "x", "w", "b")

An equation is a Python expression. Operators are called by name, those of ``sofie`` and of other
domains too (``sofie.Dense``); the name of a base class such as ``Unary`` stands for all of its
operators. Lower-case names are values, the same name the same value; a number is a constant with
no other element than this (``-0.0`` is not ``0.0``). Add and Mul match in both orders.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NoReturn, TypeAlias, TypeVar

import numpy as np

from sofie_rdf.errors import GraphError, LimitExceeded, SofieError, UnsupportedOperator, nearest
from sofie_rdf.ir.builder import infer_node
from sofie_rdf.ir.graph import Graph, Node, Origin
from sofie_rdf.ir.operator import REGISTRY, Operator
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.elementwise import Add, Mul

__all__ = [
    "Made",
    "Match",
    "New",
    "NoMatch",
    "Refusal",
    "Report",
    "Rewrite",
    "Rule",
    "Rules",
    "is_all",
    "rule",
]

COMMUTATIVE = (Add, Mul)
BUG = "This is a bug in sofie_rdf: please report it"

O = TypeVar("O", bound=Operator)  # noqa: E741


class NoMatch(Exception):
    """A rule that does not apply, and why; no reason where nobody would ask for one."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


# Equations ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pattern:
    """One operator of an equation: its class or family, and what its inputs look like."""

    kind: type[Operator]
    operands: tuple[Operand, ...]
    # The operators of the operands that are patterns themselves.
    inner: tuple[Kind, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        inner = tuple(o.kind for o in self.operands if isinstance(o, Pattern))
        object.__setattr__(self, "inner", inner)


Operand: TypeAlias = Pattern | str | float
Kind: TypeAlias = type[Operator]


def parse(equation: str) -> Pattern:
    """The pattern of an equation; ValueError or UnsupportedOperator for what is none."""
    found = _parsed(ast.parse(equation, mode="eval").body)
    if not isinstance(found, Pattern):
        raise ValueError(f"{equation!r} applies no operator")
    return found


def _parsed(tree: ast.expr) -> Operand:
    match tree:
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            return Pattern(_kind(name), tuple(map(_parsed, args)))
        case ast.Call(func=ast.Attribute(), args=args, keywords=[]):
            domain, _, name = ast.unparse(tree.func).rpartition(".")
            return Pattern(_kind(name, domain), tuple(map(_parsed, args)))
        case ast.Name(id=name) if name[0].islower():
            return name
        case ast.Constant(value=float() | int() as number):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=float() | int() as number)):
            return -float(number)
    raise ValueError(f"{ast.unparse(tree)!r} has no meaning in an equation")


def _kind(name: str, domain: str | None = None) -> type[Operator]:
    """The operator of that name, ours before the families of them."""
    for known in ("", "sofie") if domain is None else (domain,):
        if (known, name) in REGISTRY:
            return REGISTRY[known, name]
    if domain is None:
        if name not in _families:  # Somebody's own may have come since.
            _families.update((kind.__name__, kind) for kind in _descendants(Operator))
        if name in _families:
            return _families[name]
    remedy = nearest(name, [*_families, *(n for _, n in REGISTRY)])
    raise UnsupportedOperator(f"no operator or family is called {name}", remedy=remedy)


_families: dict[str, type[Operator]] = {}


def _descendants(kind: type[Operator]) -> Iterator[type[Operator]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _descendants(child)


# A place where an equation holds ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class New:
    """A constant that is to be made, and the name it gets if that is free."""

    stem: str
    array: Array


@dataclass(frozen=True, slots=True)
class Made:
    """A node that is to be made, and that only the one behind it reads."""

    op: Operator
    inputs: tuple[Source, ...]


Source: TypeAlias = str | New | Made


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Nodes (the outermost first) and the one that replaces them under the same outputs."""

    nodes: tuple[Node, ...]
    op: Operator
    inputs: tuple[Source, ...]


@dataclass(frozen=True)
class Match:
    """The left side of an equation found in a graph: the outermost node comes first."""

    graph: Canvas
    nodes: tuple[Node, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Node:
        return self.nodes[0]

    def op(self, kind: type[O]) -> O:
        """The first operator of this class or family, in the order of the equation."""
        found = self._node(kind).op
        assert isinstance(found, kind)
        return found

    def value(self, what: str | Kind = Operator) -> str:
        """The name of a variable, or of the result of an operator; by default the outermost."""
        return self.values[what] if isinstance(what, str) else self._node(what).outputs[0]

    def type(self, what: str | Kind = Operator) -> TensorType:
        """The type of a variable, or of the result of an operator; by default the outermost."""
        return self.graph.types[self.value(what)]

    def constant(self, variable: str) -> Array:
        """The elements of a variable; NoMatch unless they are known."""
        value = self.values[variable]
        if value not in self.graph.constants:
            raise NoMatch(f"{variable} = {value!r} is not a constant")
        return self.graph.constants[value]

    def require(self, condition: object, reason: str) -> None:
        """NoMatch with this reason unless the condition holds."""
        if not condition:
            raise NoMatch(reason)

    def maker(self, value: str) -> Node | None:
        """The node whose first output this value is."""
        return self.graph.nodes.get(value)

    def require_private(self, node: Node) -> None:
        """NoMatch if the node's result is used elsewhere too, or by nobody, or is an output.

        Nodes of the match may use it more than once.
        """
        for value in node.outputs:
            self.require(value not in self.graph.given, f"{value!r} is an output of the model")
            uses = self.graph.uses[value]
            inside = sum(n.inputs.count(value) for n in self.nodes)
            wanted = max(1, inside) if value == node.outputs[0] else 0
            self.require(uses == wanted, f"{value!r} is used {uses} times")

    def changed(self, variable: str, array: Array) -> New:
        """A constant that takes the place of this one, and its name if nobody else needs that."""
        return New(self.values[variable], array)

    def absorb(self, nodes: Iterable[Node], **values: str) -> Match:
        """The match with more nodes in it, and variables that now stand for other values."""
        return replace(self, nodes=(*self.nodes, *nodes), values={**self.values, **values})

    def becomes(self, op: Operator, *inputs: Source) -> Rewrite:
        """All matched nodes become this operator, of variables, new constants and new nodes."""
        return Rewrite(self.nodes, op, self._sources(inputs))

    def made(self, op: Operator, *inputs: Source) -> Made:
        """A new node for `becomes`, of the same things."""
        return Made(op, self._sources(inputs))

    def _sources(self, inputs: Iterable[Source]) -> tuple[Source, ...]:
        return tuple(self.values[i] if isinstance(i, str) else i for i in inputs)

    def _node(self, kind: Kind) -> Node:
        return next(n for n in self.nodes if isinstance(n.op, kind))


def _inputs(node: Node) -> tuple[str, ...]:
    """The inputs without the optional ones that are absent at the end."""
    present = [i for i, name in enumerate(node.inputs, start=1) if name]
    return node.inputs[: max(present, default=0)]


def _unify(pattern: Operand, value: str, found: Match) -> Iterator[Match]:
    """Every way in which ``value`` is what the pattern says, given what has been found."""
    graph = found.graph
    if isinstance(pattern, str):
        if value and found.values.get(pattern, value) == value:
            yield replace(found, values={**found.values, pattern: value})
    elif isinstance(pattern, Pattern):
        if value in graph.nodes:
            yield from _unify_node(pattern, graph.nodes[value], found)
    elif value in graph.constants and is_all(graph.constants[value], pattern):
        yield found


def _may_fit(pattern: Pattern, makers: Sequence[type[Operator]]) -> bool:
    """Whether there is, for each inner operator of the pattern, an input that it computes."""
    return all(any(issubclass(maker, kind) for maker in makers) for kind in pattern.inner)


def _unify_node(pattern: Pattern, node: Node, found: Match) -> Iterator[Match]:
    inputs = _inputs(node)
    if not isinstance(node.op, pattern.kind) or len(inputs) != len(pattern.operands):
        return
    swapped = isinstance(node.op, COMMUTATIVE) and inputs != inputs[::-1]
    # What an equation says twice may be one node.
    if not any(node is other for other in found.nodes):
        found = replace(found, nodes=(*found.nodes, node))
    for order in (inputs, inputs[::-1])[: 1 + swapped]:
        ways = [found]
        for operand, value in zip(pattern.operands, order, strict=True):
            ways = [new for way in ways for new in _unify(operand, value, way)]
        yield from ways


def is_all(array: Array, number: float) -> bool:
    """Whether no element is another number than this, zeros with their sign."""
    if array.size > 1 and not is_all(array.reshape(-1)[:1], number):
        return False
    wanted = np.full(array.shape, number)
    if DType.of(array).is_float:
        return bool(array.size) and wanted.astype(array.dtype).tobytes() == array.tobytes()
    return bool(array.size) and np.array_equal(array, wanted)


# Rules --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """Equations with the same left side up to names, and the function that gives the right one."""

    name: str
    equations: tuple[str, ...]
    patterns: tuple[Pattern, ...]
    function: Callable[[Match], Rewrite]

    @property
    def meaning(self) -> str:
        """What it does, in a line."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]


def rule(*equations: str) -> Callable[[Callable[[Match], Rewrite]], Rule]:
    """Decorator: the function says what becomes of a match of any of these equations."""
    patterns = tuple(map(parse, equations))
    return lambda function: Rule(function.__name__, equations, patterns, function)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A place where an equation holds, and why it was left as it is."""

    rule: str
    origin: Origin
    value: str
    reason: str

    def __str__(self) -> str:
        place = str(self.origin) if self.origin.name else f"value {self.value!r}"
        return f"{self.rule}: {place}: {self.reason}"


@dataclass(frozen=True)
class Report:
    """How often each rule was applied, and every refusal that still stands."""

    applied: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    refused: tuple[Refusal, ...] = ()

    def __add__(self, other: Report) -> Report:
        total = Counter(self.applied) + Counter(other.applied)
        refused = dict.fromkeys((*self.refused, *other.refused))
        return Report(MappingProxyType(dict(total)), tuple(refused))


@dataclass(frozen=True)
class Rules:
    """A pass: the rules applied, the first that fits first, until none applies any more."""

    name: str
    rules: tuple[Rule, ...]
    known: dict[Kind, list[tuple[Rule, Pattern]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __call__(self, graph: Graph) -> Graph:
        return self.explain(graph)[0]

    def explain(self, graph: Graph) -> tuple[Graph, Report]:
        """The rewritten graph, and what was applied and refused."""
        canvas = Canvas(graph)
        applied: Counter[str] = Counter()
        while True:
            before, refused = applied.copy(), list[Refusal]()
            for value in tuple(canvas.nodes):
                self._rewrite(canvas, value, applied, refused)
            if applied == before:
                # What nothing was done about in this round will never be.
                report = Report(MappingProxyType(dict(applied)), tuple(dict.fromkeys(refused)))
                return (canvas.painted() if applied else graph), report

    def _rewrite(
        self, canvas: Canvas, value: str, applied: Counter[str], refused: list[Refusal]
    ) -> None:
        """Apply rules to the node that computes this value, unless a match before took it in."""
        while value in canvas.nodes:
            found = self._first(canvas, canvas.nodes[value], refused)
            if not found:
                return
            one, rewrite = found
            canvas.apply(one, rewrite)
            applied[one.name] += 1
            if applied.total() > 100 * (1 + len(canvas.graph.nodes)):
                raise GraphError(f"the rules of {self.name!r} have no end", remedy=BUG)

    def _first(
        self, canvas: Canvas, node: Node, refused: list[Refusal]
    ) -> tuple[Rule, Rewrite] | None:
        """The first rule that takes this node as the outermost, and what it makes of it."""
        starting = self._starting_with(type(node.op))
        if not starting:
            return None
        makers = [type(canvas.nodes[i].op) for i in node.inputs if i in canvas.nodes]
        for one, pattern in starting:
            if not _may_fit(pattern, makers):
                continue
            for match in _unify_node(pattern, node, Match(canvas)):
                rewrite = _tried(one, match, refused)
                if rewrite:
                    return one, rewrite
        return None

    def _starting_with(self, kind: Kind) -> list[tuple[Rule, Pattern]]:
        """The equations whose outermost operator may be of this class."""
        if kind not in self.known:
            every = ((one, pattern) for one in self.rules for pattern in one.patterns)
            self.known[kind] = [pair for pair in every if issubclass(kind, pair[1].kind)]
        return self.known[kind]


def _tried(one: Rule, match: Match, refused: list[Refusal]) -> Rewrite | None:
    """What the rule makes of the match; a refusal that has a reason is added to the others."""
    try:
        for inner in match.nodes[1:]:
            match.require_private(inner)
        rewrite = one.function(match)
        gone = {value for node in rewrite.nodes[1:] for value in node.outputs}
        match.require(gone.isdisjoint(_names(rewrite.inputs)), "it reads the same result twice")
        return rewrite
    except NoMatch as no:
        if no.reason:
            root = match.root
            refused.append(Refusal(one.name, root.origin, root.outputs[0], no.reason))
        return None


class Canvas:
    """A graph while it is rewritten; the nodes are found by their first outputs, in order."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.given = graph, graph.given_names
        self.nodes = {node.outputs[0]: node for node in graph.nodes}
        self.types = dict(graph.types)
        # Where `_free` looks first, so that many names of one stem are not looked for again.
        self.numbers: dict[str, int] = {}
        self.made: dict[str, tuple[str, int]] = {}
        self.constants = dict(graph.constants)
        self.uses = Counter([*graph.outputs, *(i for node in graph.nodes for i in node.inputs)])

    def apply(self, one: Rule, rewrite: Rewrite) -> None:
        """Put the new node in the place of the outermost one."""
        root = rewrite.nodes[0]
        self._remove(rewrite)
        node = self._node(rewrite, Made(rewrite.op, rewrite.inputs), root.outputs)
        self._check(one, node)
        self.nodes[root.outputs[0]] = node

    def _node(self, rewrite: Rewrite, made: Made, outputs: tuple[str, ...]) -> Node:
        """A new node, and before it the new nodes that it reads."""
        root = rewrite.nodes[0]
        inputs = tuple(self._value(rewrite, i) for i in made.inputs)
        main = next((n for n in rewrite.nodes if type(n.op) is type(made.op)), root)
        self.uses.update(inputs)
        return Node(made.op, inputs, outputs, main.origin)

    def _value(self, rewrite: Rewrite, source: Source) -> str:
        """The name of what a new node reads, which is part of the graph from now on."""
        if isinstance(source, New):
            return self._named(source)
        if isinstance(source, str):
            return source
        node = self._node(rewrite, source, ())
        # Only now, because what it reads may be another node of this kind.
        name = self._free(f"{rewrite.nodes[0].outputs[0]}_{source.op.name.lower()}")
        node = replace(node, outputs=(name,))
        types = [self.types[i] if i else None for i in node.inputs]
        self.types[name] = infer_node(source.op, types)[0]
        self.nodes[name] = node
        return name

    def _remove(self, rewrite: Rewrite) -> None:
        for node in rewrite.nodes:
            self.uses.subtract(node.inputs)
        for node in rewrite.nodes[1:]:
            del self.nodes[node.outputs[0]]
            for value in node.outputs:
                self._forget(value)
        kept = set(_names(rewrite.inputs))
        for value in {i for node in rewrite.nodes for i in node.inputs}:
            if value in self.constants and not self.uses[value] and value not in kept:
                del self.constants[value]
                self._forget(value)

    def _named(self, new: New) -> str:
        """The name under which the constant is now part of the graph."""
        own = np.array(new.array, order="C", copy=True)
        own.setflags(write=False)
        name = self._free(new.stem)
        self.constants[name], self.types[name] = own, TensorType(DType.of(own), own.shape)
        return name

    def _free(self, stem: str) -> str:
        """A name that nothing has."""
        number = self.numbers.get(stem, 1)
        name = stem if number == 1 else f"{stem}_{number}"
        while name in self.types:
            number += 1
            name = f"{stem}_{number}"
        self.numbers[stem] = number
        self.made[name] = stem, number
        return name

    def _forget(self, value: str) -> None:
        """A value is no more: its name is free."""
        del self.types[value]
        stem, number = self.made.pop(value, (value, 1))
        if stem in self.numbers:
            self.numbers[stem] = min(number, self.numbers[stem])

    def _check(self, one: Rule, node: Node) -> None:
        """The new node computes values of the types that were there."""

        def fail(why: object) -> NoReturn:
            thing = f"the rule {one.name} made {node.op.name} of {node.outputs[0]!r}: {why}"
            raise GraphError(thing, place=str(node.origin), remedy=BUG)

        try:
            found = infer_node(node.op, [self.types[i] if i else None for i in node.inputs])
        except LimitExceeded:
            raise
        except SofieError as error:
            fail(error)
        wanted = tuple(self.types[o] for o in node.outputs)
        if found[: len(wanted)] != wanted:
            fail(f"it is {', '.join(map(str, found))} and was {', '.join(map(str, wanted))}")

    def painted(self) -> Graph:
        """The graph as it is now."""
        return replace(
            self.graph,
            nodes=tuple(self._in_order()),
            types=MappingProxyType(self.types),
            constants=MappingProxyType(self.constants),
        )

    def _in_order(self) -> Iterator[Node]:
        """Each node behind those whose results it reads: new ones stand at the end."""
        makers = {value: node for node in self.nodes.values() for value in node.outputs}
        done: set[str] = set()
        waiting = list(reversed(self.nodes.values()))
        while waiting:
            node = waiting[-1]
            before = [makers[i] for i in node.inputs if i in makers]
            missing = [m for m in before if m.outputs[0] not in done]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if node.outputs[0] not in done:
                done.add(node.outputs[0])
                yield node


def _names(sources: Iterable[Source]) -> Iterator[str]:
    """The values that are read, by new nodes as well."""
    for source in sources:
        if isinstance(source, Made):
            yield from _names(source.inputs)
        elif isinstance(source, str):
            yield source
