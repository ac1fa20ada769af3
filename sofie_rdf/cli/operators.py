"""The table of operators: what each one is, for which element types and opsets, how exact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sofie_rdf.frontends.onnx.catalogue import Entry
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import DType

__all__ = ["COLUMNS", "LEGEND", "Row", "as_json", "markdown", "row"]

COLUMNS = ("operator", "formula", "element types", "opsets", "accuracy", "notes")

LEGEND = """\
floats: float16, bfloat16, float32, float64. integers: int8 to int64, uint8 to uint64. numbers: \
both. small: what has fewer than 8 bits, and float8: it is moved and cast. any: all, and bool. \
float16 and bfloat16 are computed in float32 and rounded after each operator.
accuracy: how far a result may be from the exact one, in ulp (distances of neighbouring numbers) \
of the result; "2 sqrt(n) of the sum": where n numbers are added, in ulp of the sum of their \
magnitudes. Integers and bools are exact. No accuracy: it is made of other operators."""


class Row(NamedTuple):
    """One line of the table, as text."""

    operator: str
    formula: str
    types: str
    opsets: str
    accuracy: str
    notes: str


def row(entry: Entry) -> Row:
    """What the table says of an operator."""
    name = f"{entry.domain}.{entry.name}" if entry.domain else entry.name
    return Row(
        name,
        entry.formula.rstrip("."),
        _types(entry.types),
        entry.opsets,
        _accuracy(entry.operator) if entry.operator else "",
        "; ".join(_notes(entry.operator)) if entry.operator else "",
    )


def as_json(entry: Entry) -> dict[str, Any]:
    """The same for programs: element types one by one, and the numbers of the accuracy."""
    own = entry.operator
    accuracy = {"ulp": own.tolerance.ulp, "terms": own.tolerance.terms} if own else None
    return {
        "domain": entry.domain,
        "name": entry.name,
        "formula": entry.formula,
        "types": {
            name: [d.value for d in DType if d in found] for name, found in entry.types.items()
        },
        "opsets": entry.opsets,
        "accuracy": accuracy,
        "notes": list(_notes(own)) if own else [],
    }


def markdown(rows: Iterable[Row]) -> Iterable[str]:
    """The lines of a table in Markdown."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{' --- |' * len(COLUMNS)}"
    for one in rows:
        yield f"| {' | '.join(_escaped(text) for text in one)} |"


def _escaped(text: str) -> str:
    for mark in "\\|*_<`":
        text = text.replace(mark, f"\\{mark}")
    return text


# Element types ------------------------------------------------------------------------------------

_FLOATS = frozenset(d for d in DType if d.is_float)
_INTEGERS = frozenset(d for d in DType if d.is_integer)
_SMALL = frozenset(d for d in DType if d.is_storage)
# The larger first: a set of types is said in as few words as possible.
_WORDS: Mapping[str, frozenset[DType]] = {
    "any": frozenset(DType),
    "numbers": _FLOATS | _INTEGERS,
    "integers": _INTEGERS,
    "floats": _FLOATS,
    "small": _SMALL,
}


def _types(types: Mapping[str, frozenset[DType]]) -> str:
    """``floats``, or ``T: floats, int64; Tind: int32, int64`` where there are several."""
    said = {name: _set(found) for name, found in types.items() if found}
    if len(said) == 1:
        return next(iter(said.values()))
    return "; ".join(f"{name}: {text}" for name, text in said.items())


def _set(types: frozenset[DType]) -> str:
    rest, words = set(types), []
    for word, group in _WORDS.items():
        absent = group - rest
        # All, or all but one or two of many.
        if len(absent) <= min(2, len(group) // 4) and not absent & types:
            without = ", ".join(d.value for d in DType if d in absent)
            words.append(f"{word} but {without}" if absent else word)
            rest -= group
    return ", ".join([*words, *(d.value for d in DType if d in rest)])


# Accuracy and notes -------------------------------------------------------------------------------


def _accuracy(operator: type[Operator]) -> str:
    """The operator's own statement, which the tests hold it to."""
    ulp, terms = operator.tolerance.ulp, operator.tolerance.terms
    parts = [f"{ulp:g} ulp"] if ulp else []
    parts += [f"{terms:g} sqrt(n) of the sum"] if terms else []
    return " + ".join(parts) or "exact"


def _notes(operator: type[Operator]) -> Iterable[str]:
    folded = ", ".join(operator.folded_inputs().values())
    runtime = operator.runtime
    if folded and runtime:
        yield f"{folded}: constant or computed"
    elif folded:
        yield f"{folded}: constant, or sizes of the network"
    if operator.decides_sizes:
        yield "the data decide sizes"
    elif runtime and runtime.decides_sizes:
        yield "the data decide sizes where they are computed"
    if operator.is_random:
        yield "random"
    if not operator.is_rowwise:
        yield "an event may depend on others of the batch"
