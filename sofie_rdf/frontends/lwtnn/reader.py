"""lwtnn's networks (.json): one layer after the other, and graphs of nodes.

A network of layers has one input ``features`` float32[N, F], or float32[N, T, F] where it begins
with layers of sequences, and one output ``prediction``. A graph has the inputs, sequences and
outputs of the file. Offsets, scales and defaults of the variables are part of the network. The
names of variables and labels are the model's ``features`` and ``labels``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sofie_rdf.errors import CorruptFile, UnsupportedFormat
from sofie_rdf.frontends.common.normalization import normalized
from sofie_rdf.frontends.common.problems import Problems
from sofie_rdf.frontends.lwtnn.fields import Object, known_as, parsed
from sofie_rdf.frontends.lwtnn.layers import RECURRENT, Layers
from sofie_rdf.frontends.trees.files import content_of, gathered
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.elementwise import Sum
from sofie_rdf.ops.layout import Concat, Identity
from sofie_rdf.ops.reduction import ReduceSum

__all__ = ["check", "read"]

INPUT, OUTPUT = "features", "prediction"


def read(source: Any, *, name: str = "") -> Graph:
    """The graph of a file, or of its bytes."""
    content, place, provenance = content_of(source)
    root = parsed(content, place)
    build = Builder(name or Path(place).stem, {**provenance, "producer": "lwtnn"})
    if "layers" not in root:
        raise UnsupportedFormat(
            "has variables of lwtnn, but no layers",
            place=place,
            remedy="Load the network, and give it this file: model.normalized(path)",
        )
    network = _network if "nodes" in root else _layers
    graph, variables = network(root, build)
    return normalized(graph, variables)


def check(source: Any, **_: Any) -> Problems:
    """Everything that is wrong with a file, as far as it can be told at once."""
    return gathered(lambda _: read(source))


def _checked(variable: Object) -> Mapping[str, Any]:
    """A variable, whose numbers are float32."""
    variable.only("name", "offset", "scale", "default")
    found = {"name": variable.text("name")}
    keys = ("offset", "scale", *(("default",) if "default" in variable else ()))
    return {**found, **{key: variable.number(key) for key in keys}}


def _variables(owner: Object, key: str) -> list[Mapping[str, Any]]:
    found = [_checked(v) for v in owner.objects(key)]
    if not found or len({v["name"] for v in found}) != len(found):
        raise CorruptFile("has no list of different variables", place=owner.place)
    return found


def _declared(build: Builder, name: str, count: int, steps: str = "") -> str:
    axes = (symbol("N"), symbol(steps), count) if steps else (symbol("N"), count)
    return build.input(name, TensorType(DType.FLOAT32, axes))


def _labelled(build: Builder, x: str, labels: Sequence[str], name: str, place: str) -> str:
    """An output of this name, of as many features as there are labels."""
    if build.types[x].shape[-1] != len(labels):
        raise CorruptFile(
            f"has {len(labels)} labels for {build.types[x].shape[-1]} outputs", place=place
        )
    return build(Identity(), x, outputs=[name], origin=Origin(place))


# One layer after the other ------------------------------------------------------------------------


def _layers(root: Object, build: Builder) -> tuple[Graph, Mapping[str, Any]]:
    root.only("inputs", "layers", "outputs", "defaults", "miscellaneous")
    variables = _variables(root, "inputs")
    labels = root.texts("outputs")
    layers = Layers(build, root.objects("layers"))
    count = sum(kind in RECURRENT for kind in layers.kinds)
    if any(kind not in RECURRENT for kind in layers.kinds[:count]):
        # lwtnn would move the layers of sequences to the front.
        raise UnsupportedFormat(
            "has a layer of sequences behind one that is none",
            place=root.place,
            remedy="Write it as a graph with kerasfunc2json.py",
        )
    x = last = _declared(build, INPUT, len(variables), "T" if count else "")
    for number in range(len(layers.kinds)):
        if number < count:
            x, last = layers.sequence(number, x)
        else:
            last = layers.forward(number, last)
    found = _labelled(build, last, labels, OUTPUT, root.place)
    defaults = {}
    if "defaults" in root:
        given = root.object("defaults")
        given.only(*(v["name"] for v in variables))
        defaults = {key: given.number(key) for key in given.found}
    return build.graph(found), {"inputs": variables, "defaults": defaults, "outputs": list(labels)}


# Graphs -------------------------------------------------------------------------------------------


def _network(root: Object, build: Builder) -> tuple[Graph, Mapping[str, Any]]:
    root.only("inputs", "input_sequences", "nodes", "layers", "outputs", "miscellaneous")
    plain, sequences = (_nodes_of(root, key) for key in ("inputs", "input_sequences"))
    names = [name for name, _ in plain]
    for name, variables in plain:
        _declared(build, name, len(variables))
    for number, (name, variables) in enumerate(sequences):
        # A sequence may be called as an input is.
        free = f"{name}_sequence" if name in names else name
        names.append(_declared(build, free, len(variables), f"T{number or ''}"))
    nodes = _Nodes(root, build, names[: len(plain)], names[len(plain) :])
    outputs, labels = [], []
    for name, given in root.object("outputs").found.items():
        output = Object(given, f"{root.place}: outputs: {name[:50]}")
        output.only("labels", "node_index")
        index = output.index("node_index", len(nodes.given))
        free = f"{name}_output" if name in names else name
        if not free:
            raise CorruptFile("has an output without a name", place=root.place)
        labels.append(output.texts("labels"))
        value = nodes.grown(index)
        outputs.append(_labelled(build, value, labels[-1], free, output.place))
    if not outputs:
        raise CorruptFile("has no outputs", place=root.place)
    listed = [{"name": n, "labels": list(t)} for n, t in zip(outputs, labels, strict=True)]
    named = zip(names, (v for _, v in (*plain, *sequences)), strict=True)
    held = [{"name": n, "variables": v} for n, v in named]
    graph = build.graph(*outputs)
    found = {"inputs": held[: len(plain)], "input_sequences": held[len(plain) :]}
    return graph, {**found, "outputs": listed}


def _nodes_of(root: Object, key: str) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """The inputs of one kind: their names, and their variables."""
    found = []
    for one in root.objects(key) if key in root else ():
        one.only("name", "variables")
        found.append((one.text("name"), _variables(one, "variables")))
    if len({name for name, _ in found}) != len(found):
        raise CorruptFile(f"has two {key} of one name", place=root.place)
    return found


@dataclass(frozen=True)
class _Value:
    """What a node gives: for the event, for each step of a sequence, or both."""

    event: str = ""
    steps: str = ""


_SEQUENCES = ("time_distributed", "sequence", "sum")
_WITH_LAYERS = ("feed_forward", "time_distributed", "sequence")
_KINDS = ("input", "input_sequence", "feed_forward", "concatenate", "add", *_SEQUENCES)


class _Nodes:
    """The nodes of a graph, each of which grows once its sources have."""

    def __init__(
        self, root: Object, build: Builder, plain: Sequence[str], sequences: Sequence[str]
    ) -> None:
        self.build, self.names = build, {"input": plain, "input_sequence": sequences}
        self.given = root.objects("nodes")
        self.layers = Layers(build, root.objects("layers"))
        self.kinds = [known_as(n.text("type"), _KINDS, "node", n.place) for n in self.given]
        self.values: dict[int, _Value] = {}

    def grown(self, number: int) -> str:
        """What the node gives: for the event where it gives that."""
        waiting, begun = [number], set[int]()
        while waiting:
            at = waiting[-1]
            missing = [s for s in self._sources(at) if s not in self.values]
            if at in self.values or not missing:
                waiting.pop()
                if at not in self.values:
                    self.values[at] = self._value(at)
            elif at in begun:
                raise CorruptFile("has a node that depends on itself", place=self.given[at].place)
            else:
                begun.add(at)
                waiting += missing
        value = self.values[number]
        return value.event or value.steps

    def _sources(self, number: int) -> tuple[int, ...]:
        """The nodes that a node reads."""
        if self.kinds[number] in self.names:
            return ()
        found = self.given[number].indices("sources", len(self.given))
        if not found or (len(found) != 1 and self.kinds[number] not in ("concatenate", "add")):
            raise CorruptFile(f"has {len(found)} sources", place=self.given[number].place)
        return found

    def _value(self, number: int) -> _Value:
        kind, node = self.kinds[number], self.given[number]
        if kind in self.names:
            return self._input(kind, node)
        node.only("type", "sources", *(("layer_index",) if kind in _WITH_LAYERS else ()))
        wanted = "steps" if kind in _SEQUENCES else "event"
        found = [getattr(self.values[s], wanted) for s in self._sources(number)]
        if not all(found):
            raise CorruptFile(f"reads a node that gives nothing for the {wanted}", place=node.place)
        origin = Origin(node.place)
        if kind in _WITH_LAYERS:
            index = node.index("layer_index", len(self.layers.given))
            if kind == "sequence":
                every, last = self.layers.sequence(index, found[0])
                return _Value(last, every)
            value = self.layers.forward(index, found[0])
            return _Value(value) if kind == "feed_forward" else _Value(steps=value)
        op = {"concatenate": Concat(1), "add": Sum(), "sum": ReduceSum((1,), keepdims=False)}
        if kind == "add" and len({self.build.types[f].shape[-1] for f in found}) != 1:
            raise CorruptFile("adds different numbers of features", place=node.place)
        return _Value(self.build(op[kind], *found, origin=origin))

    def _input(self, kind: str, node: Object) -> _Value:
        node.only("type", "sources", "size")
        names = self.names[kind]
        found = node.indices("sources", len(names))
        if len(found) != 1:
            raise CorruptFile(f"has {len(found)} sources", place=node.place)
        name = names[found[0]]
        if node.index("size", 2**31) != self.build.types[name].shape[-1]:
            raise CorruptFile("has another size than its variables", place=node.place)
        return _Value(name) if kind == "input" else _Value(steps=name)
