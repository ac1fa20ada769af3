"""Normalisation that is given beside a model, as operators in front of its inputs.

weaver's JSON (``input_names``, and for each input ``var_names`` and ``var_infos``), as the software
of CMS reads it, in float32:

    y = min(max((x - median) * norm_factor, lower_bound), upper_bound)

where ``replace_inf_value`` stands for every x that is NaN, infinite or beyond 1e32. Padding is put
in behind that, so what `define` pads with is the number that becomes ``pad``.

lwtnn's variables (``inputs``, ``input_sequences``): y = (x + offset) * scale, where ``default``
stands for NaN. Its ``inputs`` are those of the model with one axis for each event, in their order,
and its ``input_sequences`` those with two, unless the names are the model's.

Means and scales: ``{"mean": m, "std": s}`` is (x - m) / s, ``{"offset": o, "scale": s}`` as lwtnn,
by input where there are several; ``lower`` and ``upper`` bound the result, ``default`` stands for
NaN, ``names`` are those of the features. And the scalers of scikit-learn, fitted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sofie_rdf.arguments import require_plain
from sofie_rdf.errors import CorruptFile, InputError, ModelError, UnsupportedFormat, nearest
from sofie_rdf.frontends.common import documents
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import Filling, features_of, with_names
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.elementwise import (
    Abs,
    Add,
    Div,
    Equal,
    IsNaN,
    LessOrEqual,
    Max,
    Min,
    Mul,
    Sub,
    Where,
)

__all__ = ["normalized"]

# Larger numbers are taken for what is not finite; rounded down, as 1e32 is no float32.
_LARGEST = 1e32
# What padding is where no number becomes the pad: larger than all that counts as finite.
_PADDING = 3e38
_FLOATS = (DType.FLOAT32, DType.FLOAT64)


@dataclass(frozen=True)
class _Step:
    """One operation, with a number for each feature."""

    kind: str
    numbers: tuple[float, ...]


@dataclass(frozen=True)
class _Input:
    """What becomes of an input: its steps, the names of its features, how its sets are filled.

    ``count`` is the number of features, 0 where one number is for all. ``features_first``: their
    axis is the one behind the batch, else the last one.
    """

    names: tuple[str, ...]
    steps: tuple[_Step, ...]
    count: int
    features_first: bool = False
    filling: Filling | None = None
    pads: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Found:
    """All that a source says, by input; ``labels`` of the outputs."""

    place: str
    inputs: Mapping[str, _Input]
    labels: Sequence[str] | Mapping[str, Sequence[str]] | None = None


def normalized(graph: Graph, source: Any) -> Graph:
    """The graph behind the normalisation that ``source`` says: a file, its JSON, or a scaler."""
    held, place = _source(source)
    found = _recognised(graph, held, place)
    build = Builder(graph.name)
    taken = {**graph.types}
    replaced: dict[str, str] = {}
    fillings: dict[str, Filling] = {}
    names: dict[str, tuple[str, ...]] = {}
    for name in graph.inputs:
        build.input(name, graph.types[name])
        if name not in found.inputs:
            continue
        one = _in_order(graph, name, found.inputs[name], place)
        if name in graph.outputs:
            raise ModelError(f"input {name!r} is an output as well, and cannot be normalised")
        pads = one.pads
        if one.filling is not None:
            one, pads = _with_padding(one, graph.types[name].dtype)
            fillings[name] = replace(one.filling or Filling(), pads=pads)
        value = _grow(build, name, one, place, taken)
        if value != name:
            replaced[name] = value
        if one.names:
            names[name] = one.names
    made = _joined(graph, build, replaced)
    return with_names(made, features=names or None, labels=found.labels, fillings=fillings)


def _joined(graph: Graph, build: Builder, replaced: Mapping[str, str]) -> Graph:
    """The graph, which reads other values for these inputs."""
    nodes = [replace(n, inputs=tuple(replaced.get(i, i) for i in n.inputs)) for n in graph.nodes]
    return replace(
        graph,
        nodes=(*build.nodes, *nodes),
        types=MappingProxyType({**graph.types, **build.types}),
        constants=MappingProxyType({**graph.constants, **build.constants}),
    )


# Steps --------------------------------------------------------------------------------------------

_OPERATORS: Mapping[str, Operator] = {
    "add": Add(),
    "sub": Sub(),
    "mul": Mul(),
    "div": Div(),
    "max": Max(),
    "min": Min(),
}
# The number with which an operation changes nothing.
_NEUTRAL = {"sub": 0.0, "add": 0.0, "mul": 1.0, "div": 1.0, "max": -math.inf, "min": math.inf}


def _grow(
    build: Builder, name: str, one: _Input, place: str, taken: Mapping[str, TensorType]
) -> str:
    """The name of the input behind its steps, which are added to the graph."""
    type_ = build.types[name]
    shape = _vector_shape(name, type_, one, place)
    steps = [s for s in one.steps if not _is_neutral(s)]
    if steps and type_.dtype not in _FLOATS:
        if all(s.kind == "finite" for s in steps):
            return name  # Whole numbers are finite.
        raise ModelError(f"input {name!r} is {type_}, which cannot be normalised", place=place)

    def free(stem: str) -> str:
        value, number = stem, 1
        while value in taken or build.has(value):
            number += 1
            value = f"{stem}_{number}"
        return value

    def constant(numbers: Sequence[float], stem: str) -> str:
        array = np.asarray(numbers, np.float64)
        array = array.reshape(shape) if (array != array[0]).any() else array[:1].reshape(())
        with np.errstate(over="ignore"):
            return build.constant(array.astype(type_.dtype.numpy), free(f"{name}.{stem}"))

    def apply(op: Operator, *values: str) -> str:
        return build(op, *values, outputs=[free(f"{name}.normalised")])

    value = name
    for step in steps:
        numbers = constant(step.numbers, step.kind)
        if step.kind == "finite":
            limit = np.nextafter(np.float32(_LARGEST), np.float32(0))
            small = apply(LessOrEqual(), apply(Abs(), value), constant([float(limit)], "largest"))
            value = apply(Where(), small, value, numbers)
        elif step.kind == "nan":
            value = apply(Where(), apply(IsNaN(), value), numbers, value)
        elif step.kind == "padding":
            # NaN: numbers that become the pad were found for the other features.
            marks = [math.nan if math.isnan(p) else _PADDING for p in step.numbers]
            padded = apply(Equal(), name, constant(marks, "mark"))
            value = apply(Where(), padded, numbers, value)
        else:
            value = apply(_OPERATORS[step.kind], value, numbers)
    return value


def _is_neutral(step: _Step) -> bool:
    if step.kind in ("nan", "padding"):
        return all(map(math.isnan, step.numbers))
    return step.kind in _NEUTRAL and all(n == _NEUTRAL[step.kind] for n in step.numbers)


def _vector_shape(name: str, type_: TensorType, one: _Input, place: str) -> tuple[int, ...]:
    """The shape of a constant with a number for each feature."""
    rank, count = type_.rank, one.count
    axes = list(range(1, rank)) if rank > 1 else list(range(rank))
    order = axes if one.features_first else axes[::-1]
    axis = next((a for a in order if type_.shape[a] == count), None)
    if not count:
        return ()
    if axis is None:
        raise ModelError(
            f"there are {count} features for input {name!r}, which is {type_}", place=place
        )
    return (count, *[1] * (rank - axis - 1))


def _in_order(graph: Graph, name: str, one: _Input, place: str) -> _Input:
    """The same with the features in the order in which the model is known to have them."""
    known = features_of(graph).get(name, ())
    if not (known and one.names) or known == one.names:
        return one
    there = set(known)
    if sorted(known) != sorted(one.names) or len(there) != len(known):
        other = next((n for n in one.names if n not in there), one.names[0])
        raise ModelError(
            f"the model's features of {name!r} are not those of the normalisation: {other!r}",
            place=place,
            remedy=f"The model has {', '.join(known[:20])}",
        )
    places = {name: place for place, name in enumerate(one.names)}
    order = [places[name] for name in known]

    def sort(numbers: Sequence[float]) -> tuple[float, ...]:
        return tuple(numbers[i] for i in order) if numbers else ()

    steps = tuple(replace(s, numbers=sort(s.numbers)) for s in one.steps)
    return replace(one, names=known, steps=steps, pads=sort(one.pads))


# Padding ------------------------------------------------------------------------------------------


def _with_padding(one: _Input, dtype: DType) -> tuple[_Input, tuple[float, ...]]:
    """What to pad with, for each feature, so that the steps make the pad of it.

    Where rounding leaves no such number, it is one that no data have, and a step looks for that.
    """
    kind = dtype.numpy.type if dtype in _FLOATS else np.float32
    raws = [_raw(one, k, pad, kind) for k, pad in enumerate(one.pads)]
    wanted = tuple(
        math.nan if raw is not None else p for raw, p in zip(raws, one.pads, strict=True)
    )
    found = tuple(float(kind(_PADDING)) if raw is None else raw for raw in raws)
    return replace(one, steps=(*one.steps, _Step("padding", wanted))), found


def _raw(one: _Input, k: int, pad: float, kind: Any) -> float | None:
    """The number of feature k that becomes ``pad``."""
    numbers = {s.kind: s.numbers[k] for s in one.steps}
    centre, scale = kind(numbers.get("sub", 0.0)), kind(numbers.get("mul", 1.0))
    with np.errstate(all="ignore"):
        near = kind(kind(pad) / scale + centre) if scale else centre
        tried = [kind(0), centre, near, kind(-0.9 * _LARGEST), kind(0.9 * _LARGEST)]
        for direction in (-math.inf, math.inf):
            tried += [near := np.nextafter(near, kind(direction)) for _ in range(4)]
        low, high = (kind(numbers.get(n, s)) for n, s in (("max", -math.inf), ("min", math.inf)))
        for x in tried:
            y = np.minimum(np.maximum(kind(kind(x - centre) * scale), low), high)
            if abs(x) < _LARGEST and y == kind(pad):
                return float(x)
    return None


# What a source says -------------------------------------------------------------------------------

_PLAIN = frozenset({"mean", "std", "offset", "scale", "lower", "upper", "default", "names"})


def _source(source: Any) -> tuple[Any, str]:
    """What it holds, and what it is called in errors."""
    if not isinstance(source, (str, PathLike)):
        return source, "normalisation"
    path = Path(fspath(source))
    require_plain(path)
    try:
        text = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"cannot be read: {reason}", place=str(path)) from error
    try:
        held = documents.parsed(text)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"is no JSON: {error}", place=path.name) from error
    if not isinstance(held, dict):
        raise CorruptFile("is no JSON object", place=path.name)
    return held, path.name


def _recognised(graph: Graph, held: Any, place: str) -> _Found:
    if not isinstance(held, Mapping):
        return _scaler(graph, held)
    if "input_names" in held:
        return _weaver(graph, held, place)
    if any(isinstance(held.get(key), list) for key in ("inputs", "input_sequences")):
        return _lwtnn(graph, held, place)
    if held and held.keys() <= _PLAIN:
        if len(graph.inputs) != 1:
            example = ", ".join(f"{i!r}: {{...}}" for i in graph.inputs)
            raise InputError(
                f"model {graph.name!r} has {len(graph.inputs)} inputs",
                remedy=f"Say which: {{{example}}}",
            )
        held = {graph.inputs[0]: held}
    elif not held or not all(
        isinstance(v, Mapping) and v and v.keys() <= _PLAIN for v in held.values()
    ):
        raise UnsupportedFormat(
            "is no normalisation that is known",
            place=place,
            remedy="weaver's has 'input_names', lwtnn's 'inputs'; else means and scales, "
            "{'mean': [...], 'std': [...]}, by input where there are several",
        )
    _check_inputs(graph, held, place)
    return _Found(place, {n: _plain(n, v, place) for n, v in held.items()})


def _check_inputs(graph: Graph, names: Iterator[str] | Any, place: str) -> None:
    for name in names:
        if name not in graph.inputs:
            raise ModelError(
                f"names an input {name!r}, which model {graph.name!r} does not have",
                place=place,
                remedy=nearest(name, graph.inputs) or f"It has {', '.join(graph.inputs)}",
            )


@dataclass(frozen=True)
class _Fields:
    """An object of a JSON file, whose fields are looked at before they are believed."""

    held: Any
    place: str
    known: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if not isinstance(self.held, Mapping):
            raise CorruptFile(f"has no object but {self.held!r:.60}", place=self.place)
        for key in self.held:
            if self.known and key not in self.known:
                raise UnsupportedFormat(
                    f"has {key!r}, which is not known", place=self.place, remedy="Leave it out"
                )

    def number(self, key: str, default: float | None = None) -> float:
        found = self.held.get(key, default)
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            thing = f"has no number in {key!r} but {found!r:.60}"
            raise CorruptFile(thing if key in self.held else f"lacks {key!r}", place=self.place)
        # Whole numbers of JSON may be too large for any other.
        number = float(found) if abs(found) < 2**1000 else math.nan
        if not math.isfinite(number):
            raise CorruptFile(f"has {found!r:.60} in {key!r}", place=self.place)
        return number

    def list(self, key: str) -> Sequence[Any]:
        found = self.held.get(key)
        if not isinstance(found, list):
            raise CorruptFile(f"has no list in {key!r}", place=self.place)
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        found = self.list(key)
        if not all(isinstance(f, str) and f for f in found) or len(set(found)) != len(found):
            raise CorruptFile(f"has no list of different names in {key!r}", place=self.place)
        return tuple(found)


# weaver -------------------------------------------------------------------------------------------

_GROUP = frozenset({"var_names", "var_infos", "var_length", "min_length", "max_length", "pad_mode"})
# What older files say besides; newer ones leave it to the model.
_GROUP |= {"input_shape"}
_INFO = frozenset(
    {"median", "norm_factor", "replace_inf_value", "lower_bound", "upper_bound", "pad", "pad_mode"}
)


def _weaver(graph: Graph, held: Mapping[str, Any], place: str) -> _Found:
    names = _Fields(held, place).texts("input_names")
    _check_inputs(graph, names, place)
    missing = [i for i in graph.inputs if i not in names]
    if missing:
        raise ModelError(f"says nothing of input {missing[0]!r}", place=place)
    labels = held.get("output_names", held.get("flav_names"))
    if isinstance(labels, Mapping):  # Labels that weaver computes, by name.
        labels = list(labels)
    if labels is not None:
        labels = _Fields({"output_names": labels}, place).texts("output_names")
    inputs = {name: _group(graph, name, held.get(name), place) for name in names}
    return _Found(place, inputs, labels or None)


def _group(graph: Graph, name: str, held: Any, place: str) -> _Input:
    """An input of weaver's JSON."""
    where = f"{place}: {name}"
    group = _Fields(held, where, _GROUP)
    _refuse_wrapping(group)
    variables = group.texts("var_names")
    if not variables:
        raise CorruptFile("has no names in 'var_names'", place=where)
    infos = _Fields(held.get("var_infos"), where)
    found = []
    for variable in variables:
        info = _Fields(infos.held.get(variable, {}), f"{where}: {variable}", _INFO)
        _refuse_wrapping(info)
        found.append(info)

    def numbers(key: str, default: float | None = None) -> tuple[float, ...]:
        return tuple(info.number(key, default) for info in found)

    low, high = numbers("lower_bound"), numbers("upper_bound")
    for info, least, most in zip(found, low, high, strict=True):
        if least > most:
            raise CorruptFile(f"has bounds that cross, {least} and {most}", place=info.place)
    steps = [_Step("finite", numbers("replace_inf_value"))]
    shift = [_Step("sub", numbers("median")), _Step("mul", numbers("norm_factor"))]
    bounds = [_Step("max", low), _Step("min", high)]
    # Numbers as they are are within 1e32 already.
    unbounded = max(low) <= -_LARGEST and min(high) >= _LARGEST
    if not (unbounded and all(map(_is_neutral, shift))):
        steps += [*shift, *bounds]
    is_mask = name.endswith("_mask") and len(variables) == 1
    filling = _filling(graph, name, group, len(variables), is_mask=is_mask)
    pads = numbers("pad", 0.0)
    return _Input(variables, tuple(steps), len(variables), True, filling, pads)


def _refuse_wrapping(fields: _Fields) -> None:
    mode = fields.held.get("pad_mode", "constant")
    if mode != "constant":
        raise UnsupportedFormat(
            f"pads with pad_mode={mode!r}, which is not there",
            place=fields.place,
            remedy="Train with pad_mode='constant', or fill the sets up before",
        )


def _filling(
    graph: Graph, name: str, group: _Fields, count: int, *, is_mask: bool
) -> Filling | None:
    """How many objects the input takes; None where it has no axis for them."""
    type_ = graph.types[name]
    if type_.rank < 3:
        return None
    keys = ("var_length",) * 2 if "var_length" in group.held else ("min_length", "max_length")
    least, most = (int(group.number(key)) for key in keys)
    if not 0 <= least <= most < 2**31:
        raise CorruptFile(f"has lengths from {least} to {most}", place=group.place)
    others = list(type_.shape[1:])
    if count in others:
        others.remove(count)
    fixed = [d for d in others if isinstance(d, int)]
    if len(others) == len(fixed) and fixed != [most]:
        raise ModelError(f"fills up to {most} objects; the model takes {type_}", place=group.place)
    return Filling(least, most, (), is_mask)


# lwtnn --------------------------------------------------------------------------------------------


def _lwtnn(graph: Graph, held: Mapping[str, Any], place: str) -> _Found:
    fields = _Fields(held, place)
    given = (fields.list(k) if held.get(k) else () for k in ("inputs", "input_sequences"))
    plain, sequences = ([_Fields(v, place) for v in values] for values in given)
    if plain and not any("variables" in v.held for v in plain):
        # One network after the other has one input; its variables stand in the list themselves.
        whole = {"name": graph.inputs[0], "variables": [v.held for v in plain]}
        plain = [_Fields({**whole, "defaults": held.get("defaults", {})}, place)]
    by_name = {str(v.held.get("name")): v for v in (*plain, *sequences)}
    if by_name.keys() == set(graph.inputs):
        pairs = by_name
    else:
        pairs = {}
        for kind, listed, rank in (("inputs", plain, 2), ("input_sequences", sequences, 3)):
            own = [i for i in graph.inputs if graph.types[i].rank == rank]
            if len(own) != len(listed):
                raise ModelError(
                    f"has {len(listed)} {kind}; model {graph.name!r} has {len(own)} such inputs"
                    + (f": {', '.join(own)}" if own else ""),
                    place=place,
                )
            pairs.update(zip(own, listed, strict=True))
    return _Found(
        place, {n: _variables(v, place) for n, v in pairs.items()}, _lwtnn_labels(graph, held)
    )


def _variables(node: _Fields, place: str) -> _Input:
    """An input of lwtnn's file."""
    listed = [_Fields(v, f"{place}: {node.held.get('name')}") for v in node.list("variables")]
    names = _Fields({"name": [v.held.get("name") for v in listed]}, place).texts("name")
    defaults = _Fields(node.held.get("defaults") or {}, place)

    def default(variable: _Fields, name: str) -> float:
        source = variable if "default" in variable.held else defaults
        key = "default" if source is variable else name
        return source.number(key) if source.held.get(key) is not None else math.nan

    steps = (
        _Step("nan", tuple(default(v, n) for v, n in zip(listed, names, strict=True))),
        _Step("add", tuple(v.number("offset") for v in listed)),
        _Step("mul", tuple(v.number("scale") for v in listed)),
    )
    return _Input(names, steps, len(names))


def _lwtnn_labels(graph: Graph, held: Mapping[str, Any]) -> Any:
    """The labels, of outputs by name or in the model's order."""
    found = held.get("class_labels") or held.get("outputs")
    if isinstance(found, Mapping):
        found = [{"name": n, **v} for n, v in found.items() if isinstance(v, Mapping)]
    if not isinstance(found, list) or not found:
        return None
    if all(isinstance(f, str) for f in found):
        return found
    nodes = [f for f in found if isinstance(f, Mapping) and isinstance(f.get("labels"), list)]
    if len(nodes) != len(found) or len(nodes) != len(graph.outputs):
        return None
    named = {str(n.get("name")): n["labels"] for n in nodes}
    if named.keys() == set(graph.outputs):
        return named
    return dict(zip(graph.outputs, (n["labels"] for n in nodes), strict=True))


# Means and scales ---------------------------------------------------------------------------------


def _plain(name: str, held: Mapping[str, Any], place: str) -> _Input:
    where = f"{place}: {name}"
    if ("mean" in held or "std" in held) == ("offset" in held or "scale" in held):
        raise InputError("needs either 'mean' and 'std' or 'offset' and 'scale'", place=where)
    given = {key: _numbers(held, key, where) for key in _PLAIN - {"names"} if key in held}
    called = held.get("names", ())
    if isinstance(called, (str, bytes, Mapping)) or not isinstance(called, Iterable):
        raise InputError(f"needs a list in 'names', not {called!r:.60}", place=where)
    names = tuple(called)
    counts = {len(v) for k, v in given.items() if np.ndim(held[k])}
    counts |= {len(names)} if names else set()
    if len(counts) > 1:
        raise InputError(f"has lists of {' and '.join(map(str, sorted(counts)))}", place=where)
    # A number alone is that of all features.
    count = counts.pop() if counts else 0
    wide = {key: v if np.ndim(held[key]) else v * max(count, 1) for key, v in given.items()}
    if not all(wide.get("std", (1,))):
        raise InputError("has a 'std' of 0", place=where)
    order = [("default", "nan"), ("mean", "sub"), ("std", "div"), ("offset", "add")]
    order += [("scale", "mul"), ("lower", "max"), ("upper", "min")]
    steps = tuple(_Step(kind, wide[key]) for key, kind in order if key in wide)
    return _Input(names, steps, count)


def _numbers(held: Mapping[str, Any], key: str, place: str) -> tuple[float, ...]:
    try:
        found: Array = np.atleast_1d(np.asarray(held[key], np.float64))
    except (TypeError, ValueError):
        found = np.zeros((0, 0))
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise InputError(f"needs numbers in {key!r}, not {held[key]!r:.60}", place=place)
    return tuple(map(float, found))


def _scaler(graph: Graph, scaler: Any) -> _Found:
    """A fitted scaler of scikit-learn, told by the fields that fitting has made."""
    place = type(scaler).__name__

    def fitted(name: str) -> Any:
        return getattr(scaler, f"{name}_", None)

    steps: list[tuple[str, Any]] = []
    if fitted("data_min") is not None and fitted("min") is not None:
        steps = [("mul", fitted("scale")), ("add", fitted("min"))]
        if getattr(scaler, "clip", False):
            low, high = scaler.feature_range
            count = len(fitted("scale"))
            steps += [("max", [low] * count), ("min", [high] * count)]
    else:
        centre = fitted("mean") if fitted("mean") is not None else fitted("center")
        steps = [("sub", centre), ("div", fitted("scale"))]
    found = tuple(_Step(k, _numbers({k: v}, k, place)) for k, v in steps if v is not None)
    if not hasattr(scaler, "scale_"):
        raise UnsupportedFormat(
            "is no normalisation that is known",
            place=place,
            remedy="Give a file, {'mean': ..., 'std': ...}, or a fitted StandardScaler, "
            "RobustScaler, MinMaxScaler or MaxAbsScaler",
        )
    if len(graph.inputs) != 1:
        raise InputError(f"model {graph.name!r} has {len(graph.inputs)} inputs", place=place)
    names = tuple(map(str, getattr(scaler, "feature_names_in_", ())))
    count = int(getattr(scaler, "n_features_in_", len(found[0].numbers) if found else 1))
    return _Found(place, {graph.inputs[0]: _Input(names, found, count)})
