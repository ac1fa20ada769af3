"""Which columns of a data frame fill which input of a network, and what its outputs become.

    per event    numbers                       -> one row
    per object   RVecs: jets, tracks, ...      -> a row for each object, in one call for each event
    per set      RVecs: the particles of a jet -> one row, with an axis of particles
    sets of objects   RVecs of RVecs: the particles of each jet -> a set for each object

All that can be wrong without looking at an event is found here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from sofie_rdf.errors import ColumnError, InputError, nearest
from sofie_rdf.ir.dims import Dim, name_of, symbols_of
from sofie_rdf.ir.given import constant, in_order, short
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import features_of, fillings_of
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.runtime.rdataframe.named import by_feature, label_of
from sofie_rdf.runtime.rdataframe.options import DEFAULTS, DefineOptions, bounds

__all__ = [
    "INTEGERS",
    "Column",
    "Columns",
    "Filled",
    "Plan",
    "Shown",
    "by_input",
    "check_single",
    "completed",
    "depth_of",
    "how_to_open",
    "is_row",
    "is_vector_type",
    "masks_of",
    "plan",
    "plan_of_objects",
    "rest_of",
    "rows",
    "scalar_type",
    "shown_as",
    "with_elements",
]

# A column by name, an expression of columns, or a number that is the same for all events.
Feature: TypeAlias = "str | int | float"
Features: TypeAlias = "Feature | Sequence[Feature] | Mapping[str, Feature]"
# Of one input in its order; by input, or by feature; None: what the features are called.
Columns: TypeAlias = "Sequence[Feature] | Mapping[str, Features] | None"

_SCALARS = frozenset(
    f"{sign}{kind}"
    for sign in ("", "unsigned ")
    for kind in ("char", "short", "int", "long", "long long")
) | frozenset(
    f"{scope}{sign}int{bits}_t"
    for scope in ("", "std::")
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
)
_SCALARS |= {"float", "double", "long double", "bool", "signed char", "size_t", "std::size_t"}
_SCALARS |= {f"{t}_t" for t in ("Float", "Double", "Bool", "Float16", "Double32")}
_SCALARS |= {f"{u}{t}_t" for u in ("", "U") for t in ("Char", "Short", "Int", "Long", "Long64")}
# Those of whole numbers.
INTEGERS = frozenset(s for s in _SCALARS if not re.search("float|double", s, re.IGNORECASE))
_VECTOR = re.compile(
    r"(?:ROOT::VecOps::RVec|ROOT::RVec|(?:std::)?(?:vector|span))<\s*(.+?)\s*>"
    r"|(?:std::)?array<\s*(.+?)\s*,\s*(\d+)\s*>"
)
# ROOT's names for numbers that are shorter in files; templates of them are others than C++'s.
_SHORTER = {"Float16_t": "float", "Double32_t": "double"}


@dataclass(frozen=True)
class Column:
    """A column: its name in the data frame, what the user called it, and its C++ type.

    ``element`` is the one that is meant of a column of arrays.
    """

    name: str
    said: str
    type: str
    element: int = -1

    @property
    def is_vector(self) -> bool:
        return self.element < 0 and self.type not in _SCALARS

    @property
    def cxx(self) -> str:
        """The type as C++ knows it."""
        return re.sub("|".join(_SHORTER), lambda found: _SHORTER[found[0]], self.type)


@dataclass(frozen=True)
class Filled:
    """An input of the network, and its features: columns or numbers, in order.

    Of an input per set, ``axis`` is that of the objects, and ``least`` and ``most`` bound how many
    there are (-1: any number). ``follows`` is the input whose objects a mask counts.
    """

    name: str
    type: TensorType
    features: tuple[Column | float, ...]
    axis: int = -1
    least: int = 0
    most: int = -1
    # What stands for an object that there is not, for each feature.
    pads: tuple[float, ...] = ()
    order_by: Column | None = None
    follows: str = ""

    @property
    def vectors(self) -> list[Column]:
        found = [f for f in self.features if isinstance(f, Column) and f.is_vector]
        return found + ([self.order_by] if self.order_by else [])


@dataclass(frozen=True)
class Shown:
    """A new column: an output, or one of its elements, or which of them is the largest."""

    column: str
    output: str
    element: int = -1
    is_largest: bool = False


@dataclass(frozen=True)
class Plan:
    """How a network becomes columns."""

    graph: Graph
    per: str
    inputs: tuple[Filled, ...]
    shown: tuple[Shown, ...]
    # The named size of the batch, "" where the network has none.
    batch: str
    # The columns, by name, that have an element for each object, where each has a set of its own.
    outer: Mapping[str, Column] = field(default_factory=dict)


def scalar_type(kind: str) -> bool:
    """Whether it is an arithmetic type of C++."""
    return kind in _SCALARS


def element_type(kind: str) -> str:
    """The type of the elements of a vector or array, an empty string for other types."""
    match = _VECTOR.fullmatch(kind)
    return (match[1] or match[2]) if match else ""


def depth_of(kind: str) -> int:
    """0 for numbers, 1 for vectors of them, 2 for vectors of vectors; -1 for other types."""
    if kind in _SCALARS:
        return 0
    element = element_type(kind)
    below = depth_of(element) if element else -1
    return below + 1 if below >= 0 else -1


def is_vector_type(kind: str) -> bool:
    """Whether it is a vector of numbers."""
    return depth_of(kind) == 1


# Inputs -------------------------------------------------------------------------------------------


def by_input(graph: Graph, columns: Columns, masks: Sequence[str]) -> dict[str, list[Feature]]:
    """The features of each input, of which masks have none."""
    open_inputs = [i for i in graph.inputs if i not in masks]
    columns = by_feature(graph, columns, open_inputs)
    if not isinstance(columns, Mapping):
        if len(open_inputs) > 1:
            example = ", ".join(f"{i!r}: [...]" for i in open_inputs)
            mask = _likely_mask(graph, open_inputs)
            raise ColumnError(
                f"model {graph.name!r} has {len(open_inputs)} inputs, so columns must say which",
                remedy=f"Give a mapping: {{{example}}}"
                + (f". If {mask!r} is a mask: mask={mask!r}" if mask else ""),
            )
        columns = dict.fromkeys(open_inputs, columns)
    for name in (*columns, *masks):
        if name not in graph.inputs:
            raise ColumnError(
                f"model {graph.name!r} has no input {name!r}", remedy=nearest(name, graph.inputs)
            )
    given: dict[str, Any] = {name: columns.get(name, ()) for name in open_inputs}
    return {name: list(c) for name, c in given.items()}


def plan(
    graph: Graph,
    features: Mapping[str, Sequence[Column | float]],
    shown: Sequence[Shown],
    options: DefineOptions,
    orders: Mapping[str, Column],
    masks: Mapping[str, str],
) -> Plan:
    """The plan for these columns; `ColumnError` where they cannot fill the model's inputs."""
    batch = graph.batch_symbol
    per = options["per"] or _guess(graph, features)
    inputs = []
    for name in graph.inputs:
        type_ = graph.types[name]
        if name in masks:
            inputs.append(_mask(graph, name, masks[name], features, options))
            continue
        _check_given(graph, name, features[name], options)
        filled = Filled(name, type_, tuple(features[name]))
        if per == "set" and filled.vectors:
            filled = _set(graph, filled, options, orders)
        else:
            _row(graph, filled, per)
        inputs.append(filled)
    if any(i.axis == 0 and name_of(i.type.shape[0]) == batch for i in inputs):
        batch = ""  # It is the number of objects of one event.
    made = Plan(graph, per, tuple(inputs), tuple(shown), batch)
    _check_sizes(made)
    for filled in inputs:
        _check_constants(filled)
    _check_default(made, options)
    _check_options(made, options, orders)
    _check_sets(made)
    for one in shown:
        if one.element >= 0 and per != "object" and not _elements(rows(made, one)):
            raise ColumnError(
                f"output {one.output!r} has an open number of numbers, and none of number "
                f"{one.element}"
            )
    return made


def plan_of_objects(
    graph: Graph,
    features: Mapping[str, Sequence[Column | float]],
    shown: Sequence[Shown],
    options: DefineOptions,
    orders: Mapping[str, Column],
    masks: Mapping[str, str],
) -> Plan:
    """The plan for one object of an event, which has a set of its own in vectors of vectors.

    A column of vectors has a number for each object then.
    """
    if options["per"] not in ("", "object"):
        nested = next(c for c in _columns_of(features, orders) if depth_of(c.type) > 1)
        raise ColumnError(
            f"column {nested.said!r} is {nested.type}: it has a set for each object of an event",
            remedy='per="object", or no per=, gives a score for each object',
        )
    outer = {c.name: c for c in _columns_of(features, orders) if c.is_vector}
    inner = {k: [_inside(f) for f in listed] for k, listed in features.items()}
    sorting = {k: replace(c, type=element_type(c.type) or c.type) for k, c in orders.items()}
    made = plan(graph, inner, shown, {**options, "per": "set"}, sorting, masks)
    for one in shown:
        _check_one_number(one, _elements(rows(made, one)), "more than one number")
    return replace(made, outer=outer)


def _columns_of(
    features: Mapping[str, Sequence[Column | float]], orders: Mapping[str, Column]
) -> list[Column]:
    found = [f for listed in features.values() for f in listed if isinstance(f, Column)]
    return [*found, *orders.values()]


def _inside(feature: Column | float) -> Column | float:
    """What one object has of a column."""
    if isinstance(feature, Column) and feature.is_vector:
        return replace(feature, type=element_type(feature.type))
    return feature


def with_elements(
    graph: Graph, name: str, features: Sequence[Column | float]
) -> Sequence[Column | float]:
    """The features of an input; the elements of arrays where the input has a number for each."""
    sizes = [_array_size(f) for f in features]
    if not any(sizes) or any(
        isinstance(f, Column) and f.is_vector and not n
        for f, n in zip(features, sizes, strict=True)
    ):
        return features
    wanted = _elements(rest_of(graph.types[name], graph))
    if wanted == len(features) or wanted != sum(n or 1 for n in sizes):
        return features
    found: list[Column | float] = []
    for feature, count in zip(features, sizes, strict=True):
        if isinstance(feature, Column) and count:
            found += [replace(feature, element=k) for k in range(count)]
        else:
            found.append(feature)
    return found


def is_row(graph: Graph, name: str, features: Sequence[Column | float]) -> bool:
    """Whether an input has one number for each of the features, and no axis of objects."""
    return _elements(rest_of(graph.types[name], graph)) == len(features)


def _array_size(feature: Column | float) -> int:
    """The size of a column of arrays of numbers; 0 for other columns."""
    match = _VECTOR.fullmatch(feature.type) if isinstance(feature, Column) else None
    return int(match[3]) if match and match[3] and match[2] in _SCALARS else 0


def _elements(dims: Sequence[Dim]) -> int:
    """Their product; 0 where one has a name."""
    return math.prod(d if isinstance(d, int) else 0 for d in dims)


def rest_of(type_: TensorType, graph: Graph) -> tuple[Dim, ...]:
    """The axes behind that of the batch; all of them where there is none."""
    if not type_.rank:
        return ()
    first, batch = type_.shape[0], graph.batch_symbol
    if batch and name_of(first) == batch:
        return type_.shape[1:]
    if type_.rank == 1 or not isinstance(first, int):
        return type_.shape
    if first != 1:
        raise ColumnError(
            f"model {graph.name!r} has a fixed batch of {first}; an RDataFrame gives one event at "
            "a time",
            remedy=how_to_open(graph, type_),
        )
    return type_.shape[1:]


def how_to_open(graph: Graph, type_: TensorType) -> str:
    """How to read the model with an open first axis of the inputs of this type.

    torch.export writes down which axes are open, and nobody can change that later.
    """
    name = next((i for i in graph.inputs if graph.types[i] is type_), graph.inputs[0])
    source = graph.provenance.get("source", "")
    if source.endswith(".pt2") or source.startswith("ExportedProgram"):
        return (
            "Export it anew with an open first axis: torch.export.export(module, args, "
            f'dynamic_shapes={{"{name}": {{0: torch.export.Dim("N")}}}})'
        )
    return f"Read the model with an open one: {_shapes(name, ('N', *type_.shape[1:]))}"


def _fixed(graph: Graph, name: str) -> str:
    """What fixes the open axes of an input, behind that of the batch, when the model is read."""
    shape, batch = graph.types[name].shape, graph.batch_symbol
    fixed = [d if isinstance(d, int) or name_of(d) == batch else 8 for d in shape]
    return f"read the model with numbers for them, as in {_shapes(name, fixed)}"


def _with_size(graph: Graph, size: str) -> str:
    """The first input that has this named size."""
    return next(i for i in graph.inputs if any(size in symbols_of(d) for d in graph.types[i].shape))


def _shapes(name: str, shape: Sequence[Dim | str]) -> str:
    said = ", ".join(str(d) if isinstance(d, int) else f"'{d}'" for d in shape)
    return f"shapes={{'{name}': ({said}{',' if len(shape) == 1 else ''})}}"


def _could_be_mask(graph: Graph, name: str, options: DefineOptions) -> str:
    """The input whose objects it could count, if it could be a mask; else an empty string."""
    masked = masks_of(graph, {**options, "mask": name})[name]
    try:
        rest = rest_of(graph.types[name], graph)
    except ColumnError:
        return ""
    return masked if len([a for a in _axes_beside(rest, 1) if rest[a] != 1]) == 1 else ""


def _likely_mask(graph: Graph, inputs: Sequence[str]) -> str:
    """Which of these could be a mask: one of truth values, or called so, before others."""
    could = [i for i in inputs if _could_be_mask(graph, i, DEFAULTS)]
    could.sort(key=lambda i: (graph.types[i].dtype != DType.BOOL, "mask" not in i.lower()))
    return could[0] if could else ""


def _check_given(
    graph: Graph, name: str, features: Sequence[object], options: DefineOptions
) -> None:
    """`ColumnError` for an input without columns that could be a mask."""
    other = "" if features else _could_be_mask(graph, name, options)
    if other:
        raise ColumnError(
            f"no columns are given for input {name!r} of model {graph.name!r}, which is "
            f"{graph.types[name]}",
            remedy=f"If it is the mask of the objects of {other!r}, say so: mask={name!r}",
        )


def _guess(graph: Graph, features: Mapping[str, Sequence[Column | float]]) -> str:
    vectors = {
        name: any(isinstance(f, Column) and f.is_vector for f in listed)
        for name, listed in features.items()
    }
    if not any(vectors.values()):
        return "event"
    rows = (
        _elements(rest_of(graph.types[name], graph)) == len(listed)
        for name, listed in features.items()
    )
    return "object" if graph.batch_symbol and all(rows) else "set"


def _row(graph: Graph, filled: Filled, per: str) -> None:
    """Nothing, if these features are a row of the input."""
    rest = rest_of(filled.type, graph)
    wanted, given = _elements(rest), len(filled.features)
    missing = sorted(set().union(*(symbols_of(d) for d in rest)))
    if missing:
        raise ColumnError(
            f"{filled.name!r} of model {graph.name!r} has axes of varying size "
            f"({', '.join(missing)}), which columns of single numbers cannot fill",
            remedy=f"Give columns of RVecs, or fix them: {_fixed(graph, filled.name)}",
        )
    if wanted != given:
        listed = f": {[_said(f) for f in filled.features]}" if given else ""
        raise ColumnError(
            f"input {filled.name!r} of model {graph.name!r} takes {wanted} numbers; "
            f"{given} columns are given{listed}"
        )
    if per == "event" and filled.vectors:
        column = filled.vectors[0]
        raise ColumnError(
            f"column {column.said!r} is {column.type}; one number for each event is needed",
            remedy=f"Define a scalar first: df.Define('first', '{column.said}[0]')",
        )
    if per == "object" and not graph.batch_symbol:
        raise ColumnError(
            f"model {graph.name!r} takes one row only, and cannot be called per object",
            remedy=how_to_open(graph, filled.type),
        )


def _said(feature: Column | float) -> str:
    return feature.said if isinstance(feature, Column) else str(feature)


def _set(
    graph: Graph, filled: Filled, options: DefineOptions, orders: Mapping[str, Column]
) -> Filled:
    """The input with the axis of its objects, and how many there may be."""
    count = len(filled.features)
    axes: list[int] = []
    first = 0
    # If no other axis can be that of the objects, the first one may, and is no batch then.
    for rest in (rest_of(filled.type, graph), filled.type.shape):
        first = filled.type.rank - len(rest)
        axes = axes or _axes_beside(rest, count)
        if axes:
            break
    if len(axes) != 1:
        why = "more than one axis can be" if axes else "no axis is left to be"
        raise ColumnError(
            f"input {filled.name!r} of model {graph.name!r} is {filled.type}; with {count} columns "
            f"{why} that of the objects",
            remedy="" if axes else "Give as many columns as there are features",
        )
    axis = first + axes[0]
    least, most = _bounds(graph, filled.name, filled.type.shape[axis], options)
    order = orders.get(filled.name) or orders.get("")
    return replace(
        filled, axis=axis, least=least, most=most, pads=_pads(filled, options), order_by=order
    )


def _pads(filled: Filled, options: DefineOptions) -> tuple[float, ...]:
    """What stands for objects that an event lacks, for each feature."""
    given = options["pad"]
    pad = given.get(filled.name, 0.0) if isinstance(given, Mapping) else given
    single = pad is None or isinstance(pad, (int, float, np.number))
    pads = [pad or 0.0] * len(filled.features) if single else in_order(pad, "pad=")
    if len(pads) != len(filled.features):
        raise ColumnError(
            f"pad= has {len(pads)} numbers for the {len(filled.features)} features of input "
            f"{filled.name!r}"
        )
    return tuple(constant(one, "pad=") for one in pads)


def completed(graph: Graph, options: DefineOptions, columns: Columns) -> DefineOptions:
    """The options with what the model says itself of its sets, where nothing else is asked for.

    These are the lengths of open axes, what pads each feature, and which inputs are masks (of the
    input whose name begins alike), unless ``columns`` has them.
    """
    known = fillings_of(graph)
    if not known:
        return options
    by_name = columns if isinstance(columns, Mapping) else {}
    named = features_of(graph)
    masks = [
        name
        for name, filling in known.items()
        if filling.is_mask and not {name, *named.get(name, ())} & by_name.keys()
    ]
    chosen = dict.fromkeys(masks, "") if not options["mask"] else {}
    for mask in chosen:
        stem = mask.removesuffix("mask")
        sizes = set(graph.types[mask].shape[1:]) - {1}
        alike = (i for i in known if i.startswith(stem) and not known[i].is_mask)
        fitting = [i for i in alike if sizes & set(graph.types[i].shape[1:])]
        chosen[mask] = fitting[0] if fitting else masks_of(graph, {**options, "mask": mask})[mask]
    lengths = dict(options["lengths"] or {})
    for name, filling in known.items():
        for dim in graph.types[name].shape[1:]:
            if name_of(dim) and filling.least <= filling.most:
                lengths.setdefault(name_of(dim), (filling.least, filling.most))
    own = {name: f.pads for name, f in known.items() if not f.is_mask}
    pad = {**own, **options["pad"]} if isinstance(options["pad"], Mapping) else options["pad"]
    return {
        **options,
        "lengths": lengths,
        "pad": own if pad is None else pad,
        "truncate": options["truncate"] or pad is None,
        "mask": chosen or options["mask"],
    }


def _axes_beside(dims: Sequence[Dim], count: int) -> list[int]:
    """The axes beside which ``count`` elements are left; of these, open ones if there are any."""
    axes = [a for a in range(len(dims)) if _elements((*dims[:a], *dims[a + 1 :])) == count]
    return [a for a in axes if not isinstance(dims[a], int)] or axes


def _bounds(graph: Graph, name: str, dim: Dim, options: DefineOptions) -> tuple[int, int]:
    """The least and the largest number of objects; -1 where there is none."""
    if isinstance(dim, int):
        if options["pad"] is None:
            whole = _elements(rest_of(graph.types[name], graph))
            each = (
                f". For a score of each object give {whole} columns" if graph.batch_symbol else ""
            )
            raise ColumnError(
                f"input {name!r} of model {graph.name!r} takes exactly {dim} objects",
                remedy="Say what stands for those that an event lacks: pad=0.0; and truncate=True "
                f"if others may be left out{each}",
            )
        return dim, dim
    least, most = bounds(options, name_of(dim))
    return least, -1 if most is None else most


def _mask(
    graph: Graph,
    name: str,
    follows: str,
    features: Mapping[str, Sequence[Column | float]],
    options: DefineOptions,
) -> Filled:
    """A mask: 1 for each object of the input that it follows, and 0 for what is padding."""
    type_ = graph.types[name]
    rest = rest_of(type_, graph)
    axes = [a for a in _axes_beside(rest, 1) if rest[a] != 1]
    if len(axes) != 1 or follows not in features:
        raise ColumnError(
            f"mask {name!r} of model {graph.name!r} is {type_}, which is no mask of the objects of "
            f"one input" + (f" {follows!r}" if follows else ""),
            remedy="mask={'MASK': 'INPUT'} says of which",
        )
    axis = type_.rank - len(rest) + axes[0]
    least, most = _bounds(graph, name, type_.shape[axis], options)
    return Filled(name, type_, (), axis, least, most, (0.0,), follows=follows)


def masks_of(graph: Graph, options: DefineOptions) -> dict[str, str]:
    """Each mask, and the input whose objects it counts: one whose axis has the same size."""
    given = options["mask"]
    if isinstance(given, Mapping):
        return dict(given)
    names = [given] if isinstance(given, str) else list(given)
    found = {}
    for name in names:
        sizes = set(graph.types[name].shape[1:]) - {1} if name in graph.inputs else set()
        others = [
            i for i in graph.inputs if i not in names and sizes & set(graph.types[i].shape[1:])
        ]
        found[name] = others[0] if others else ""
    return found


def _check_sizes(made: Plan) -> None:
    """`ColumnError` for a named size that no column decides."""
    graph = made.graph
    known = {made.batch, *(name_of(i.type.shape[i.axis]) for i in made.inputs if i.axis >= 0)}
    missing = [s for s in graph.symbols if s not in known]
    if missing:
        raise ColumnError(
            f"no column says what {', '.join(missing)} of model {graph.name!r} is",
            remedy=f"Fix it: {_fixed(graph, _with_size(graph, missing[0]))}",
        )
    if made.per == "object":
        _check_objects(made)


def _check_constants(filled: Filled) -> None:
    """`ColumnError` for numbers that an input of integers cannot have."""
    dtype = filled.type.dtype
    numbers = list(filled.pads)
    for feature in filled.features:
        if not isinstance(feature, Column):
            numbers.append(feature)
        elif not _takes_floats(dtype) and any(w in feature.cxx for w in ("loat", "ouble")):
            whole = "ROOT::RVecI" if feature.is_vector else "int"
            raise ColumnError(
                f"column {feature.said!r} is {feature.type}, and input {filled.name!r} takes "
                f"{dtype}",
                remedy=f"Say how it is to be converted: '{whole}({feature.said})'",
            )
    for value in numbers:
        if not _has(dtype, value):
            raise ColumnError(f"input {filled.name!r} takes {dtype}, and {value!r} is none")


def _check_default(made: Plan, options: DefineOptions) -> None:
    """`ColumnError` for a default that a column of integers cannot have."""
    default = options["default"]
    for shown in made.shown if options["where"] and made.per != "object" else ():
        dtype = DType.INT32 if shown.is_largest else made.graph.types[shown.output].dtype
        if not _has(dtype, default):
            raise ColumnError(
                f"column {shown.column!r} is {dtype}, and {default!r} is none",
                remedy="Say what it is where the model does not run: default=-1",
            )


def _takes_floats(dtype: DType) -> bool:
    return not (dtype.is_integer or dtype is DType.BOOL)


def _has(dtype: DType, value: float) -> bool:
    """Whether the type has this number, as a whole one if it is a type of integers."""
    if _takes_floats(dtype):
        return True
    if dtype is DType.BOOL:
        return value in (0, 1)
    limits = np.iinfo(dtype.value)
    return float(value).is_integer() and int(limits.min) <= value <= int(limits.max)


def _check_objects(made: Plan) -> None:
    if not any(filled.vectors for filled in made.inputs):
        raise ColumnError('per="object" needs a column with objects, an RVec')
    for filled in made.inputs:
        if not filled.type.rank or name_of(filled.type.shape[0]) != made.batch:
            raise ColumnError(
                f"input {filled.name!r} of model {made.graph.name!r} is {filled.type}, and has no "
                "row for each object"
            )
    for shown in made.shown:
        type_ = made.graph.types[shown.output]
        if not type_.rank or name_of(type_.shape[0]) != made.batch:
            raise ColumnError(
                f"output {shown.output!r} is {type_}, and has no row for each object",
                remedy='per="set" has all objects of an event as one input',
            )


def check_single(made: Plan) -> None:
    """`ColumnError` for outputs with more than one number for each object, which no column has."""
    for shown in made.shown if made.per == "object" else ():
        elements = _elements(rest_of(made.graph.types[shown.output], made.graph))
        _check_one_number(shown, elements, f"{elements} numbers")


def _check_one_number(shown: Shown, elements: int, said: str) -> None:
    """`ColumnError` where a column would have several numbers for each object."""
    if elements != 1 and shown.element < 0 and not shown.is_largest:
        raise ColumnError(
            f"output {shown.output!r} has {said} for each object",
            remedy=f"Choose one, '{shown.output}[0]', or 'argmax({shown.output})'",
        )


def _check_sets(made: Plan) -> None:
    """`ColumnError` for inputs that do not have the same objects, though they should."""
    inputs = {filled.name: filled for filled in made.inputs}
    order: dict[str, Filled] = {}
    for filled in made.inputs:
        if filled.axis < 0:
            continue
        dim = filled.type.shape[filled.axis]
        if filled.follows:
            other = inputs[filled.follows]
            theirs = other.type.shape[other.axis] if other.axis >= 0 else 0
            if dim != theirs and (isinstance(dim, int) or isinstance(theirs, int)):
                raise ColumnError(
                    f"mask {filled.name!r} of model {made.graph.name!r} is {filled.type}; input "
                    f"{other.name!r}, which it should count, is {other.type}"
                )
        elif name_of(dim) and order.setdefault(name_of(dim), filled).order_by != filled.order_by:
            raise ColumnError(
                f"inputs {order[name_of(dim)].name!r} and {filled.name!r} of model "
                f"{made.graph.name!r} have the same objects, in another order",
                remedy="order_by='COLUMN' is for all of them",
            )


def _check_options(made: Plan, options: DefineOptions, orders: Mapping[str, Column]) -> None:
    """`ColumnError` for options that mean nothing here."""
    sets = [i for i in made.inputs if i.axis >= 0]
    sizes = {name_of(i.type.shape[i.axis]) for i in sets} - {""}
    for name in options["lengths"] or ():
        if name not in sizes:
            listed = ", ".join(map(repr, sorted(sizes))) or "none"
            raise ColumnError(
                f"lengths= names {name!r}, which is no open number of objects; these are {listed}"
            )
    if not sets and (
        options["pad"] is not None or options["truncate"] or options["mask"] or orders
    ):
        raise ColumnError("pad=, truncate=, mask= and order_by= are for models per set of objects")


# Outputs ------------------------------------------------------------------------------------------

_ELEMENT = re.compile(r"(.+)\[(\d+)\]")
_LARGEST = re.compile(r"argmax\((.+)\)")


def shown_as(graph: Graph, column: str, output: str) -> Shown:
    """What ``output`` means: a name, ``name[2]``, ``name[label]``, a label, or ``argmax(name)``.

    "" is the only one.
    """
    if not isinstance(output, str):
        raise InputError(f"output= is {short(output)}", remedy="It is the name of an output")
    output = label_of(graph, output)
    if not output and len(graph.outputs) == 1:
        return Shown(column, graph.outputs[0])
    if output in graph.outputs:
        return Shown(column, output)
    element, largest = _ELEMENT.fullmatch(output), _LARGEST.fullmatch(output)
    found = element or largest
    name = found[1] if found else output
    if name not in graph.outputs:
        listed = ", ".join(map(repr, graph.outputs))
        raise InputError(
            f"model {graph.name!r} has no output {name!r}"
            if output
            else f"model {graph.name!r} has several outputs",
            remedy=nearest(name, graph.outputs) or f"Choose one with output=: {listed}",
        )
    row = _elements(rest_of(graph.types[name], graph))
    if element and int(element[2]) >= row:
        count = f"{row} numbers" if row else "an open number of numbers"
        raise InputError(f"output {name!r} has {count}, and none of number {element[2]}")
    return Shown(column, name, int(element[2]) if element else -1, bool(largest))


def rows(made: Plan, shown: Shown) -> tuple[Dim, ...]:
    """The axes of an output behind that of the batch."""
    type_ = made.graph.types[shown.output]
    if not made.batch and type_.rank and name_of(type_.shape[0]):
        return type_.shape
    return rest_of(type_, made.graph)
