"""A network as columns of an RDataFrame: `define`, and the `SofieFunctor` object."""

from __future__ import annotations

import ctypes
import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from itertools import count
from typing import Any, NoReturn

import numpy as np

from sofie_rdf.emit.names import identifier
from sofie_rdf.errors import ColumnError, InputError, JitError, nearest
from sofie_rdf.ir.given import constant, in_order
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import names_in
from sofie_rdf.runtime.compile.interpreter import declare, import_cppyy, import_root, quietly
from sofie_rdf.runtime.compile.session import Compiled
from sofie_rdf.runtime.rdataframe import cluster
from sofie_rdf.runtime.rdataframe.columns import (
    INTEGERS,
    Column,
    Columns,
    Plan,
    Shown,
    by_input,
    check_single,
    completed,
    depth_of,
    is_row,
    is_vector_type,
    masks_of,
    plan,
    plan_of_objects,
    scalar_type,
    shown_as,
    with_elements,
)
from sofie_rdf.runtime.rdataframe.functors import FunctorText, ObjectsText, number_type
from sofie_rdf.runtime.rdataframe.notes import decided
from sofie_rdf.runtime.rdataframe.options import DEFAULTS, DefineOptions, check, check_order
from sofie_rdf.runtime.rdataframe.recorded import RecordedText, check_batch
from sofie_rdf.runtime.rdataframe.shipped import Parcel

__all__ = ["Columns", "define", "make_functor"]


def define(
    df: Any,
    column: str | Mapping[str, str],
    compiled: Compiled,
    columns: Columns,
    *,
    options: DefineOptions,
    parcel: Callable[[], Parcel],
    seed: int,
) -> Any:
    """The data frame with outputs of the model as new columns; see `sofie_rdf.define`.

    ``parcel`` makes what the workers of a distributed data frame need.
    """
    check(options)
    check_order(options["order_by"])
    redefine, batch = options["redefine"], options["batch"]
    options = completed(compiled.graph, options, columns)
    _refuse_decided(compiled)
    shown = _shown(compiled.graph, column, options["output"])
    for one in shown:
        _there(df, one.column) if redefine else _free(df, one.column)
    frame = _Frame(df, shown[0].column, names_in(compiled.graph))
    made = _plan(frame, compiled.graph, columns, shown, options)
    where = frame.hidden(options["where"], "bool") if options["where"] else ""
    if batch:
        check_batch(batch, made, compiled.rows)
    if made.outer and compiled.drawn is not None:
        raise ColumnError(
            f"model {compiled.graph.name!r} draws random numbers, which would be the same for all "
            "objects of an event",
            remedy="Give columns of vectors of numbers",
        )
    kind = RecordedText if batch else ObjectsText if made.outer else FunctorText
    event = _event(frame, compiled, options["entry"])
    told = compiled.drawn, seed, event
    text = kind(made, options, compiled.session, where, True, *told)
    df = frame.df
    if cluster.is_distributed(df):
        if batch:
            raise InputError("batch= needs an event loop of its own, and this one is distributed")
        return cluster.define(df, parcel(), text, frame.free_name(), redefine=redefine)
    scope = _declared(compiled, text)
    known = [_record(frame, scope, compiled, text, batch)] if batch else []
    functor = _functor(scope, compiled, text, int(df.GetNSlots()), *known)
    way = "Redefine" if redefine else "Define"
    if len(shown) == 1:
        return _new(df, f"{way}SlotEntry", shown[0].column, functor, text.arguments)
    # Several columns: one hidden one with all results, and what takes each out of them.
    hidden = frame.free_name()
    df = df.DefineSlotEntry(hidden, functor, text.arguments)
    for i, one in enumerate(shown):
        df = _new(df, way, one.column, getattr(scope, f"Get{i}")(), [hidden])
    return df


# Of which ROOT numbers the entries in every event loop alike, on threads too.
_NUMBERED = frozenset({"EmptyDS", "RVecDS", "RNumpyDS", "RNTupleDS"})


def _event(frame: _Frame, compiled: Compiled, entry: str) -> str:
    """The column that says for random numbers which event it is, "" for ROOT's own number of it.

    `ColumnError` where that is not always the same one.
    """
    if entry:
        return frame.event(entry)
    if compiled.drawn is None:
        return ""
    distributed = cluster.is_distributed(frame.df)
    source = _source(cluster.local(frame.df))
    numbered = {"EmptyDS"} if distributed else _NUMBERED
    if (distributed or _has_threads(frame.df)) and source not in numbered:
        where = "the tasks of a cluster" if distributed else "several threads"
        raise ColumnError(
            f"model {compiled.graph.name!r} draws random numbers for each event, and ROOT numbers "
            f"the entries of this source ({source}) anew in {where}, in another order each time",
            remedy='Say what tells events apart: entry="event", or an expression of columns',
        )
    return ""


def _has_threads(df: Any) -> bool:
    """Whether the event loop may have threads; of one slot it may be the only one of a pool."""
    root = import_root()
    return int(df.GetNSlots()) > 1 or (
        bool(root.IsImplicitMTEnabled()) and int(root.GetThreadPoolSize()) == 1
    )


def _source(df: Any) -> str:
    """What kind of source a data frame has: ROOT's name for it."""
    root = import_root()
    return str(root.Internal.RDF.GetDataSourceLabel(root.RDF.AsRNode(df)))


def _record(frame: _Frame, scope: Any, compiled: Compiled, text: FunctorText, batch: int) -> Any:
    """What a loop over the events has recorded, which is made now."""
    df, hidden = frame.df, frame.free_name()
    arguments = compiled.table, compiled.weights, int(df.GetNSlots()), text.numbers, text.names
    recorder = scope.record(*arguments, batch)
    _new(df, "DefineSlotEntry", hidden, recorder, text.arguments).Sum(hidden).GetValue()
    return recorder


def _new(df: Any, way: str, column: str, *arguments: Any) -> Any:
    """The data frame with that column; `ColumnError` where ROOT cannot make it."""
    made, error = _attempt(lambda: getattr(df, way)(column, *arguments))
    if error:
        reason = str(error).strip().splitlines()[-1]
        raise ColumnError(f"ROOT refuses the column {column!r}: {reason}") from error
    return made


def _refuse_decided(compiled: Compiled) -> None:
    """`ColumnError` for outputs of which the data decide the size."""
    for name in compiled.owned:
        raise decided(compiled.graph, name)


def _shown(graph: Graph, column: str | Mapping[str, str], output: str) -> list[Shown]:
    if not isinstance(column, Mapping):
        return [shown_as(graph, str(column), output or "")]
    if output or not column:
        raise InputError("columns by name say themselves which output each is")
    return [shown_as(graph, name, said) for name, said in column.items()]


def _free(df: Any, column: str) -> None:
    """Nothing, if there can be a new column of this name."""
    if identifier(column) != column:
        raise ColumnError(f"{column!r} cannot be the name of a column: it is no C++ identifier")
    if cluster.local(df).HasColumn(column):
        raise ColumnError(
            f"the data frame has a column {column!r} already",
            remedy="redefine=True puts the model's output in its place",
        )


def _there(df: Any, column: str, said: str = "") -> None:
    """Nothing, if there is a column of this name; ``said`` is where it was named."""
    local = cluster.local(df)
    if local.HasColumn(column):
        return
    known = [str(c) for c in local.GetColumnNames()]
    listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    raise ColumnError(
        f"the data frame has no column {column!r}" + (f", in {said!r}" if said else ""),
        remedy=nearest(column, known) or f"It has {listed}",
    )


# Columns of the data frame ------------------------------------------------------------------------


# What can only be a name.
_NAME = re.compile(r"[\w.]*")
# What the compiler says about an expression.
_REASON = re.compile(r"error: (.+)")
_UNKNOWN = re.compile(r"error: use of undeclared identifier '(\w+)'")


class _Frame:
    """A data frame, to which expressions are added as hidden columns when they are first used.

    They are used for one new column only, ``owner``: later, what they are made of may have been
    redefined or varied. Texts that ``foreign`` has are from the model, and no expressions.
    """

    def __init__(self, df: Any, owner: str, foreign: Collection[str]) -> None:
        self.df = df
        self._owner = owner
        self._foreign = foreign
        self._known: dict[str, Column] = {}

    def column(self, said: Any) -> Column:
        """The column of that name, or of that expression."""
        if not isinstance(said, str):
            raise ColumnError(f"{said!r} is no column name")
        if said not in self._known:
            self._known[said] = self._found(said)
        return self._known[said]

    def _found(self, said: str) -> Column:
        name = said
        if not self._local.HasColumn(said):
            if _NAME.fullmatch(said):
                _there(self.df, said)
            name = self.hidden(said)
        type_ = str(self._local.GetColumnType(name))
        column = Column(name, said, type_)
        if depth_of(type_) not in (0, 1, 2):
            _refuse_type(column)
        return column

    def hidden(self, expression: str, as_type: str = "") -> str:
        """The name of a new hidden column; `ColumnError` with what the compiler says.

        What a model calls its features is no expression: its author may be a stranger, and an
        expression is code that runs.
        """
        if expression in self._foreign and not _NAME.fullmatch(expression):
            raise ColumnError(
                f"the data frame has no column {expression!r}, which is a name in the model and "
                "never taken as an expression",
                remedy="Say which column or expression it is: columns={'FEATURE': 'COLUMN', ...}. "
                "If it should be computed as it stands, write it in parentheses",
            )
        name = self.free_name()
        text = f"static_cast<{as_type}>({expression})" if as_type else expression
        (made, error), message = quietly(lambda: _attempt(lambda: self._defined(name, text)))
        if error is None:
            self.df = made
            return name
        unknown = _UNKNOWN.search(message)
        if unknown:
            _there(self.df, unknown[1], expression)
        reason = _REASON.search(message)
        why = reason[1] if reason else str(error).strip().splitlines()[-1]
        raise ColumnError(f"{expression!r} is no column and no expression: {why}")

    def event(self, said: str) -> str:
        """A hidden column with the number of the event, which these columns say."""
        column = self.column(said)
        if column.is_vector or column.type not in INTEGERS:
            raise ColumnError(
                f"entry={said!r} is {column.type}; a whole number for each event is needed"
            )
        return self.hidden(said, "ULong64_t")

    def free_name(self) -> str:
        """A name of the kind that is ROOT's own: nobody sees it, and Snapshot leaves it out."""
        owner = re.sub(r"\W", "_", self._owner)
        names = (f"rdf_sofie_{owner}_{n}_" for n in count())
        return next(name for name in names if not self._local.HasColumn(name))

    @property
    def _local(self) -> Any:
        return cluster.local(self.df)

    def _defined(self, name: str, expression: str) -> Any:
        if cluster.is_distributed(self.df):
            # An operation that fails would stay in its graph, and end each later event loop.
            self._local.Define(name, expression)
        return self.df.Define(name, expression)


def _refuse_type(column: Column) -> NoReturn:
    raise ColumnError(
        f"column {column.said!r} is {column.type}; numbers or RVecs of numbers are needed",
        remedy=_advice(column.said, column.type),
    )


def _advice(said: str, type_: str) -> str:
    """An expression that makes a number of such a column, if there is one."""
    way = _way_out(type_)
    # A name with points and nothing else would be that of a column.
    text = f"{said}{way}" if re.search(r"\W", way.replace(".", "")) else f"({said}{way})"
    return f"An expression can make one of it, such as '{text}'" if way else ""


_COLLECTION = re.compile(
    r"(?:ROOT::VecOps::RVec|ROOT::RVec|(?:std::)?(?:vector|span|array|deque|list))<\s*(.+)>\s*"
)
# What classes of numbers have, the most telling first.
_NUMBERS = ("Pt", "pt", "E", "energy", "Mag", "R", "Px", "X", "x", "size")


def _way_out(type_: str) -> str:
    """What stands behind a value of this type in an expression with a number of it."""
    if "optional<" in type_:
        return ".value_or(-1)"
    collection = _COLLECTION.fullmatch(type_)
    if collection:
        element = collection[1].strip().rstrip(",0123456789 ")
        is_number = scalar_type(element) or is_vector_type(element)
        behind = "[0]" if is_vector_type(element) else "" if is_number else _way_out(element)
        return f"[0]{behind}"
    known = import_root().TClass.GetClass(type_)
    if not known:
        return ""
    for name in _NUMBERS:
        if known.GetMethodWithPrototype(name, "", True):
            return f".{name}()"
    field = next(iter(known.GetListOfDataMembers() or ()), None)
    if field is None or not field.Property() & import_root().kIsPublic:
        return ""
    return f".{field.GetName()}" if scalar_type(str(field.GetTypeName())) else ""


def _attempt(action: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """The result, or what went wrong."""
    try:
        return action(), None
    except Exception as error:
        return None, error


def _plan(
    frame: _Frame, graph: Graph, columns: Columns, shown: Sequence[Shown], options: DefineOptions
) -> Plan:
    masks = masks_of(graph, options)
    features = {
        name: with_elements(graph, name, [_feature(frame, f) for f in listed])
        for name, listed in by_input(graph, columns, list(masks)).items()
    }
    order_by = options["order_by"]
    by_name = order_by if isinstance(order_by, Mapping) else {"": order_by} if order_by else {}
    orders = {name: frame.column(said) for name, said in by_name.items()}
    told = graph, features, shown, options, orders, masks
    nested = {name: _nested(listed) for name, listed in features.items()}
    for name, found in nested.items():
        if found and is_row(graph, name, features[name]):
            _refuse_type(found[0])
    if any(nested.values()) or _nested(list(orders.values())):
        return plan_of_objects(*told)
    made = plan(*told)
    check_single(made)
    return made


def _nested(features: Sequence[Column | float]) -> list[Column]:
    """The columns of vectors of vectors."""
    return [f for f in features if isinstance(f, Column) and depth_of(f.type) > 1]


def _feature(frame: _Frame, said: Any) -> Column | float:
    """A column, or a number that is the same for all events."""
    is_number = isinstance(said, (int, float, np.number)) and not isinstance(said, bool)
    return constant(said, "columns=") if is_number else frame.column(said)


# The C++ functor ----------------------------------------------------------------------------------


def make_functor(
    compiled: Compiled,
    nslots: int,
    *,
    output: str = "",
    types: Sequence[str] = (),
    name: str = "",
    seed: int = 0,
) -> Any:
    """The C++ object for ``df.DefineSlot``; see `sofie_rdf.SofieFunctor`."""
    graph = compiled.graph
    _refuse_decided(compiled)
    if type(nslots) is not int or nslots < 1:
        raise InputError(f"nslots must be a positive number, not {nslots!r}")
    types = in_order(types, "types=")
    for kind in types:
        if not (isinstance(kind, str) and scalar_type(kind)):
            raise InputError(f"types= names {kind!r}, which is no arithmetic type of C++")
    shown = [shown_as(graph, "y", output)]
    features: dict[str, list[Column | float]] = {}
    given = iter(types)
    taken = 0
    for port in graph.inputs:
        own = number_type(graph.types[port].dtype)
        size = _per_event(graph, port)
        features[port] = [
            Column(f"c{taken + i}", f"c{taken + i}", next(given, "") if types else own)
            for i in range(size)
        ]
        taken += size
    if types and len(types) != taken:
        raise InputError(f"types= names {len(types)} column types; the model takes {taken}")
    made = plan(graph, features, shown, {**DEFAULTS, "per": "event"}, {}, {})
    told = compiled.drawn is not None
    text = FunctorText(made, DEFAULTS, compiled.session, "", told, compiled.drawn, seed)
    functor = _functor(_declared(compiled, text), compiled, text, nslots)
    return _variable(name, functor) if name else functor


def _variable(name: str, functor: Any) -> Any:
    """A copy of the functor as a variable of C++, which strings and macros see."""
    if identifier(name) != name:
        raise InputError(f"{name!r} cannot be the name of a function: it is no C++ identifier")
    if name in _variables:
        raise InputError(f"there is a SofieFunctor of the name {name!r} already")
    kind = type(functor).__cpp_name__
    address = import_cppyy().ll.addressof(functor)
    try:
        declare(f"{kind} {name} = *reinterpret_cast<const {kind} *>({address}ul);\n")
    except JitError as error:
        raise InputError(f"C++ has something else of the name {name!r}") from error
    _variables.add(name)
    return getattr(import_root(), name)


# The functors that C++ knows by name.
_variables: set[str] = set()


def _per_event(graph: Graph, name: str) -> int:
    """How many numbers of an input belong to one event; 0 where they have no fixed number."""
    size = 1
    for dim in graph.types[name].shape:
        size *= dim if isinstance(dim, int) else 1 if str(dim) == graph.leading_symbol else 0
    return size


def _functor(scope: Any, compiled: Compiled, text: FunctorText, nslots: int, *recorded: Any) -> Any:
    told = text.numbers, text.names
    return scope.make(compiled.table, compiled.weights, nslots, *told, *recorded)


def _declared(compiled: Compiled, text: FunctorText) -> Any:
    """The namespace with the functor, which the interpreter knows from now on."""
    _listen()
    content = text.text()
    name = f"columns_{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    namespace = compiled.namespace
    declare(
        f'#include "sofie/rdf/{text.header}"\nSOFIE_BEGIN\n'
        f"namespace {namespace}::{name} {{\n{content}}} // namespace {name}\nSOFIE_END\n"
    )
    return getattr(getattr(import_root(), namespace), name)


@cache
def _listen() -> None:
    """Ctrl-C ends event loops with a model in them; see cling/sofie/rdf/interrupt.hxx."""
    declare('#include "sofie/rdf/interrupt.hxx"\n')
    python = (ctypes.pythonapi.PyGILState_Check, ctypes.pythonapi.PyErr_CheckSignals)
    addresses = (ctypes.cast(function, ctypes.c_void_p).value for function in python)
    import_root().sofie.listen_to_python(*addresses)
