"""Which operators are read, for which element types and opsets: found out by reading examples."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from sofie_rdf.errors import SofieError
from sofie_rdf.frontends.onnx import reader as frontend
from sofie_rdf.frontends.onnx.control import CONTROL
from sofie_rdf.frontends.onnx.examples import (
    Example,
    element_of,
    examples,
    kinds_of,
    model_of,
    with_kind,
    written,
)
from sofie_rdf.frontends.onnx.functions import sound_models
from sofie_rdf.frontends.onnx.rules import rules
from sofie_rdf.frontends.onnx.sequences import handled
from sofie_rdf.frontends.onnx.values import dtype_of
from sofie_rdf.ir.builder import infer_node
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.operator import REGISTRY, Operator
from sofie_rdf.ir.plugins import load_plugins
from sofie_rdf.ir.types import DType, TensorType

__all__ = ["Entry", "catalogue"]

Types: TypeAlias = "dict[str, frozenset[DType]]"
Key: TypeAlias = "tuple[str, str]"


@dataclass(frozen=True)
class Entry:
    """What can be said of an operator that is read.

    ``types`` are the element types of each type variable in ONNX's definition; ``opsets`` the
    versions of its domain, such as ``7+``; ``operator`` the class of that name, if there is one.
    Of rules for operators that ONNX does not define no types are known.
    """

    domain: str
    name: str
    formula: str
    types: Mapping[str, frozenset[DType]]
    opsets: str
    operator: type[Operator] | None


def catalogue(pattern: str = "", *, own: bool = False) -> Iterator[Entry]:
    """All operators in whose name the regular expression is found, ONNX's first.

    ``own``: also those of the domain ``sofie``, which stand in no file but are made of others.
    """
    load_plugins()
    wanted = re.compile(pattern, re.IGNORECASE)
    versions, said = _versions(), _formulas()
    for key in sorted(said, key=lambda k: (k not in versions, *k)):
        if not wanted.search(".".join(filter(None, key))) or (key[0] == "sofie" and not own):
            continue
        operator = REGISTRY.get(key)
        if key not in versions:
            types = _inferred(operator) if operator else {}
            yield Entry(*key, said[key], types, "" if operator else "1+", operator)
        elif found := _tried(versions[key]):
            yield Entry(*key, said[key], *found, operator)


@cache
def _versions() -> Mapping[Key, Mapping[int, Any]]:
    """ONNX's definitions of each operator, by version."""
    from onnx import defs

    found: dict[Key, dict[int, Any]] = {}
    for schema in defs.get_all_schemas_with_history():
        found.setdefault((schema.domain, schema.name), {})[schema.since_version] = schema
    return found


def _formulas() -> Mapping[Key, str]:
    """What each operator is, in a line: of all that are classes, rules, or functions of ONNX."""
    from onnx import defs

    schemas: Sequence[Any] = defs.get_all_schemas()
    control = {("", name): _first_line(read) for name, read in CONTROL.items()}
    sequences = {("", name): text for name, text in handled().items()}
    classes = {key: _first_line(operator) for key, operator in REGISTRY.items()}
    functions: dict[Key, str] = {}
    for schema in schemas:
        if schema.has_function:
            used = dict.fromkeys(n.op_type for n in schema.function_body.node)
            functions[schema.domain, schema.name] = f"Written out as {', '.join(used)}"
        elif schema.has_context_dependent_function:
            functions[schema.domain, schema.name] = "Written out as ONNX defines it"
    return {**functions, **control, **sequences, **rules(), **classes}


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]


# Operators of ONNX --------------------------------------------------------------------------------


def _tried(versions: Mapping[int, Any]) -> tuple[Types, str] | None:
    """Element types and opsets; None if no example is read."""
    newest = max(v for v, schema in versions.items() if not schema.deprecated)
    schema = versions[newest]
    with sound_models():
        example = _first_read(schema, newest, examples(schema))
        if example is None:
            return None
        return _types(schema, newest, example), _opsets(versions, example)


def _first_read(schema: Any, version: int, listed: Iterator[Example]) -> Example | None:
    return next((e for e in listed if _is_read(schema, version, e, {})), None)


def _is_read(schema: Any, version: int, example: Example, chosen: Mapping[str, str]) -> bool:
    """Whether the frontend reads the example with these types of its variables."""
    if example.shapes and not schema.inputs:
        return False
    variables = _variables(schema, len(example.shapes))
    types = [chosen.get(v) or _likeliest(_allowed(schema, v)) for v in variables]
    model = model_of(schema, example, types, version)
    return model is not None and not frontend.check(model)


def _variables(schema: Any, count: int) -> list[str]:
    """The type of each input: the name of a variable, or a type; the last input may be many."""
    inputs = [schema.inputs[min(i, len(schema.inputs) - 1)] for i in range(count)]
    return [i.type_str for i in inputs]


def _allowed(schema: Any, variable: str) -> Sequence[str]:
    """What ONNX allows, in its own words: ``tensor(float)``, ``seq(tensor(int64))``, ..."""
    constraints = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    found: Sequence[str] = constraints.get(variable, (variable,))
    return found


_LIKELY = ("float", "int64", "int32", "bool")


def _likeliest(allowed: Sequence[str]) -> str:
    def order(text: str) -> tuple[bool, int, int, str]:
        element = text.rpartition("(")[2].rstrip(")")
        known = _dtype(text) is not None
        likely = _LIKELY.index(element) if element in _LIKELY else len(_LIKELY)
        return not known, text.count("("), likely, text

    return min(allowed, key=order)


def _dtype(text: str) -> DType | None:
    """The element type in ONNX's words as ours, if it is one."""
    try:
        return dtype_of(element_of(text), text)
    except (SofieError, ValueError):
        return None


def _types(schema: Any, version: int, example: Example) -> Types:
    """The element types that are read, for each variable and attribute that has a choice."""
    listed = written(schema.name) or (example,)
    kinds = kinds_of(schema)
    variables = list(dict.fromkeys(_variables(schema, len(example.shapes))))
    found: Types = {}
    for name in (*variables, *kinds):
        texts = _EVERY if name in kinds else _allowed(schema, name)
        known = {text: dtype for text in texts if (dtype := _dtype(text))}
        read = (
            dtype
            for text, dtype in known.items()
            if any(
                _is_read(schema, version, e, chosen)
                for tried in listed
                for e, chosen in _choices(schema, tried, variables, kinds, name, text)
            )
        )
        found[name] = frozenset(read)
    # What cannot be chosen says nothing, unless there is no choice at all.
    choices = {name: types for name, types in found.items() if len(types) > 1}
    return choices or dict([*found.items()][:1])


def _choices(
    schema: Any,
    example: Example,
    variables: Sequence[str],
    kinds: Sequence[str],
    name: str,
    text: str,
) -> Iterator[tuple[Example, dict[str, str]]]:
    """One variable or attribute of this type: and the others as usual, or of this type as well."""
    same = {v: t for v in variables for t in _allowed(schema, v) if _dtype(t) is _dtype(text)}
    alone = {name: text} if name in variables else {}
    first = with_kind(example, name, text) if name in kinds else example
    yield first, alone
    if len(same) > len(alone):
        yield first, {**same, **alone}
    for kind in kinds:
        if kind != name:
            yield with_kind(first, kind, text), {**same, **alone}


_EVERY = tuple(
    f"tensor({name})"
    for name in (
        "float double float16 bfloat16 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool "
        "float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz float8e8m0 float4e2m1 "
        "float6e2m3 float6e3m2 int4 uint4 int2 uint2"
    ).split()
)


def _opsets(versions: Mapping[int, Any], example: Example) -> str:
    """``7+``, or ``7-9`` for what has become another operator, or several such ranges."""
    ranges: list[tuple[int, int | None]] = []
    listed = sorted(versions)
    for version, after in zip(listed, [*listed[1:], None], strict=True):
        schema = versions[version]
        if any(_is_read(schema, version, e, {}) for e in (example, *examples(schema))):
            last = None if after is None else after - 1
            joined = bool(ranges) and ranges[-1][1] == version - 1
            ranges.append((ranges.pop()[0] if joined else version, last))
    return ", ".join(_range(*r) for r in ranges)


def _range(first: int, last: int | None) -> str:
    if last is None:
        return f"{first}+"
    return f"{first}-{last}" if last > first else str(first)


# Operators of others, and our own -----------------------------------------------------------------


def _inferred(operator: type[Operator]) -> Types:
    """The element types of the first input, where the operator needs no attributes."""
    try:
        op = operator()
    except Exception:
        return {}
    found = frozenset(dtype for dtype in DType if _takes(op, dtype))
    return {"": found} if found else {}


def _takes(op: Operator, dtype: DType) -> bool:
    """Whether the first input may have this type: the others have it too, or are positions."""
    others = (op.arity()[0] - 1) * [0]
    for rank, less, other in itertools.product(range(5), range(5), (dtype, DType.INT64)):
        types = [_open(dtype, rank), *(_open(other, less) for _ in others)]
        try:
            infer_node(op, types)
        except Exception:
            continue
        return True
    return False


def _open(dtype: DType, rank: int) -> TensorType:
    return TensorType(dtype, tuple(symbol(f"s{axis}") for axis in range(rank)))
