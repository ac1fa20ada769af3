"""A network as columns of an RDataFrame: `define`, and the `SofieFunctor` object."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sofie_rdf.emit.names import identifier
from sofie_rdf.errors import ColumnError, InputError, nearest
from sofie_rdf.ir.graph import Graph
from sofie_rdf.runtime import cluster
from sofie_rdf.runtime.columns import (
    Column,
    Columns,
    Options,
    Plan,
    Shown,
    by_input,
    element_type,
    masks_of,
    plan,
    scalar_type,
    shown_as,
)
from sofie_rdf.runtime.functors import FunctorText, column_type
from sofie_rdf.runtime.interpreter import declare, import_root
from sofie_rdf.runtime.session import Compiled
from sofie_rdf.runtime.shipped import Parcel

__all__ = ["Columns", "Options", "define", "make_functor"]


def define(
    df: Any,
    column: str | Mapping[str, str],
    compiled: Compiled,
    columns: Columns,
    *,
    parcel: Callable[[], Parcel],
    output: str = "",
    options: Options = Options(),  # noqa: B008
) -> Any:
    """The data frame with outputs of the model as new columns; see `sofie_rdf.define`.

    ``parcel`` makes what the workers of a distributed data frame need.
    """
    options.check()
    _refuse_decided(compiled)
    shown = _shown(compiled.graph, column, output)
    for one in shown:
        _free(df, one.column)
    frame = _Frame(df)
    made = _plan(frame, compiled.graph, columns, shown, options)
    text = FunctorText(made, options, compiled.session)
    if options.where:
        where = f"static_cast<bool>({options.where})"
        frame.define(f"rdf_sofie_where_{shown[0].column}_", where)
    df = frame.df
    if cluster.is_distributed(df):
        return cluster.define(df, parcel(), text)
    scope = _declared(compiled, text)
    functor = scope.make(compiled.table, compiled.weights, int(df.GetNSlots()))
    if len(shown) == 1:
        return df.DefineSlot(shown[0].column, functor, text.arguments)
    # Several columns: one hidden one with all results, and what takes each out of them.
    hidden = f"rdf_sofie_{shown[0].column}_"
    df = df.DefineSlot(hidden, functor, text.arguments)
    for i, one in enumerate(shown):
        df = df.Define(one.column, getattr(scope, f"Get{i}")(), [hidden])
    return df


def _refuse_decided(compiled: Compiled) -> None:
    """`ColumnError` for outputs of which the data decide the size."""
    for name in compiled.owned:
        raise ColumnError(
            f"the data decide the size of output {name!r} of model {compiled.graph.name!r}, which "
            "no column can have",
            remedy="Take the output out of the model",
        )


def _shown(graph: Graph, column: str | Mapping[str, str], output: str) -> list[Shown]:
    if not isinstance(column, Mapping):
        return [shown_as(graph, str(column), output)]
    if output or not column:
        raise InputError("columns by name say themselves which output each is")
    return [shown_as(graph, name, said) for name, said in column.items()]


def _free(df: Any, column: str) -> None:
    """Nothing, if there can be a new column of this name."""
    if identifier(column) != column:
        raise ColumnError(f"{column!r} cannot be the name of a column: it is no C++ identifier")
    if cluster.local(df).HasColumn(column):
        raise ColumnError(f"the data frame has a column {column!r} already")


# Columns of the data frame ------------------------------------------------------------------------


class _Frame:
    """A data frame, to which expressions are added as hidden columns when they are first used."""

    def __init__(self, df: Any) -> None:
        self.df = df
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
            if re.fullmatch(r"[\w.]*", said):
                self._unknown(said)
            # Names of this kind are ROOT's own: nobody sees them, and Snapshot leaves them out.
            name = f"rdf_sofie_{hashlib.sha256(said.encode()).hexdigest()[:12]}_"
            if not self._local.HasColumn(name):
                self._define(name, said)
        type_ = str(self._local.GetColumnType(name))
        if not (scalar_type(type_) or element_type(type_)):
            raise ColumnError(
                f"column {said!r} is {type_}; numbers or RVecs of numbers are needed",
                remedy=f"Define one first: df.Define('first', '{said}[0]')",
            )
        return Column(name, said, type_)

    @property
    def _local(self) -> Any:
        return cluster.local(self.df)

    def define(self, name: str, expression: str) -> None:
        """Add a column; what ROOT says of the expression is raised as it is."""
        if cluster.is_distributed(self.df):
            # An operation that fails would stay in its graph, and end each later event loop.
            self._local.Define(name, expression)
        self.df = self.df.Define(name, expression)

    def _define(self, name: str, expression: str) -> None:
        try:
            self.define(name, expression)
        except Exception as error:
            reason = str(error).strip().splitlines()[-1]
            raise ColumnError(f"{expression!r} is no column and no expression: {reason}") from None

    def _unknown(self, said: str) -> None:
        known = [str(c) for c in self._local.GetColumnNames()]
        listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        raise ColumnError(
            f"the data frame has no column {said!r}",
            remedy=nearest(said, known) or f"It has {listed}",
        )


def _plan(
    frame: _Frame, graph: Graph, columns: Columns, shown: Sequence[Shown], options: Options
) -> Plan:
    masks = masks_of(graph, options)
    features = {
        name: [_feature(frame, f) for f in listed]
        for name, listed in by_input(graph, columns, list(masks)).items()
    }
    order_by = options.order_by
    by_name = order_by if isinstance(order_by, Mapping) else {"": order_by} if order_by else {}
    orders = {name: frame.column(said) for name, said in by_name.items()}
    return plan(graph, features, shown, options, orders, masks)


def _feature(frame: _Frame, said: Any) -> Column | float:
    """A column, or a number that is the same for all events."""
    is_number = isinstance(said, (int, float)) and not isinstance(said, bool)
    return float(said) if is_number else frame.column(said)


# The C++ functor ----------------------------------------------------------------------------------


def make_functor(
    compiled: Compiled, nslots: int, *, output: str = "", types: Sequence[str] = ()
) -> Any:
    """The C++ object for ``df.DefineSlot``; see `sofie_rdf.SofieFunctor`."""
    graph = compiled.graph
    _refuse_decided(compiled)
    if type(nslots) is not int or nslots < 1:
        raise InputError(f"nslots must be a positive number, not {nslots!r}")
    for kind in types:
        if not scalar_type(kind):
            raise InputError(f"types= names {kind!r}, which is no arithmetic type of C++")
    shown = [shown_as(graph, "y", output)]
    features: dict[str, list[Column | float]] = {}
    given = iter(types)
    count = 0
    for name in graph.inputs:
        own = column_type(graph.types[name].dtype)
        size = _per_event(graph, name)
        features[name] = [
            Column(f"c{count + i}", f"c{count + i}", next(given, "") if types else own)
            for i in range(size)
        ]
        count += size
    if types and len(types) != count:
        raise InputError(f"types= names {len(types)} column types; the model takes {count}")
    made = plan(graph, features, shown, Options(per="event"), {}, {})
    text = FunctorText(made, Options(), compiled.session)
    return _declared(compiled, text).make(compiled.table, compiled.weights, nslots)


def _per_event(graph: Graph, name: str) -> int:
    """How many numbers of an input belong to one event; 0 where they have no fixed number."""
    count = 1
    for dim in graph.types[name].shape:
        count *= dim if isinstance(dim, int) else 1 if str(dim) == graph.leading_symbol else 0
    return count


def _declared(compiled: Compiled, text: FunctorText) -> Any:
    """The namespace with the functor, which the interpreter knows from now on."""
    content = text.text()
    name = f"columns_{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    namespace = compiled.namespace
    declare(
        '#include "sofie/rdf/columns.hxx"\nSOFIE_BEGIN\n'
        f"namespace {namespace}::{name} {{\n{content}}} // namespace {name}\nSOFIE_END\n"
    )
    return getattr(getattr(import_root(), namespace), name)
