"""The table of operators says what is true: all that are read, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import pytest
from onnx import defs

import sofie_rdf as sofie
from sofie_rdf import isolation
from sofie_rdf.frontends.onnx.catalogue import Entry, catalogue
from sofie_rdf.frontends.onnx.rules import rules
from sofie_rdf.frontends.onnx.values import dtype_of
from sofie_rdf.ir.operator import REGISTRY
from sofie_rdf.ir.types import DType
from sofie_rdf.ops.elementwise import Elementwise

# ONNX's operators that no network of numbers needs.
ABSENT = {
    "CastMap",
    "CategoryMapper",
    "DictVectorizer",
    "ImageDecoder",
    "RegexFullMatch",
    "StringConcat",
    "StringNormalizer",
    "StringSplit",
}


_DEFINED = {(s.domain, s.name) for s in defs.get_all_schemas_with_history()}


@pytest.fixture(scope="module")
def entries() -> Mapping[tuple[str, str], Entry]:
    found = {(e.domain, e.name): e for e in catalogue(own=True)}
    # Other tests make operators, too.
    return {key: entry for key, entry in found.items() if not key[0].startswith("test")}


def only(pattern: str) -> Entry:
    (entry,) = catalogue(pattern, own=True)
    return entry


@pytest.mark.exhaustive
def test_all_operators_are_there(entries: Mapping[tuple[str, str], Entry]) -> None:
    """Each has an example that is read: one that is not would be absent from the table."""
    schemas = {(s.domain, s.name) for s in defs.get_all_schemas()}
    assert {name for domain, name in schemas - entries.keys()} == ABSENT
    known = {key for key in {*REGISTRY, *rules()} if key[1] not in ABSENT}
    assert {key for key in known if not key[0].startswith("test")} <= entries.keys()


@pytest.mark.exhaustive
def test_all_is_said(entries: Mapping[tuple[str, str], Entry]) -> None:
    for entry in entries.values():
        assert 0 < len(entry.formula) <= 100, entry
        if entry.domain != "sofie":
            assert entry.opsets.endswith("+"), entry
            is_defined = (entry.domain, entry.name) in _DEFINED
            assert entry.types or not is_defined or entry.name == "OptionalHasElement", entry


@pytest.mark.exhaustive
def test_types_are_those_that_classes_declare(
    entries: Mapping[tuple[str, str], Entry],
) -> None:
    """As far as ONNX allows them; all others are tried out alone."""
    checked = 0
    for (domain, name), operator in REGISTRY.items():
        if domain or not issubclass(operator, Elementwise):
            continue
        schema: Any = defs.get_schema(name)
        inputs = dict.fromkeys(i.type_str for i in schema.inputs)
        if len(inputs) > 1:
            continue
        allowed = {t for c in schema.type_constraints for t in c.allowed_type_strs}
        wanted = {
            dtype
            for text in allowed
            if (dtype := _dtype(text)) in operator.dtypes and text in _texts(schema)
        }
        assert entries[domain, name].types == {next(iter(inputs)): wanted}, name
        checked += 1
    assert checked > 60


def _texts(schema: Any) -> set[str]:
    variable = schema.inputs[0].type_str
    (found,) = (
        c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == variable
    )
    return set(found)


def _dtype(text: str) -> DType | None:
    import onnx

    name = text.removeprefix("tensor(").rstrip(")").upper()
    try:
        return dtype_of(onnx.TensorProto.DataType.Value(name), text)
    except (sofie.SofieError, ValueError):
        return None


def test_versions_are_tried_one_by_one() -> None:
    assert only("^Relu$").opsets == "1+"
    assert only("^Acosh$").opsets == "9+"
    # Before that, Scan had a batch of its own, and GroupNormalization did not exist.
    assert only("^Scan$").opsets == "9+"
    assert only("^GroupNormalization$").opsets == "18+"


def test_types_of_several_variables() -> None:
    gather = only("^Gather$").types
    assert gather["Tind"] == {DType.INT32, DType.INT64}
    assert DType.BOOL in gather["T"] and DType.FLOAT16 in gather["T"]
    norm = only("^BatchNormalization$").types
    assert norm["T"] == norm["T1"] == {d for d in DType if d.is_float}


@pytest.mark.exhaustive
def test_rules_and_functions_have_a_line_of_their_own() -> None:
    assert only("^ConstantOfShape$").operator is None
    assert only("LinearRegressor").formula.startswith("post_transform(x @ coefficients^T")
    assert only("^SequenceMap$").formula.startswith("Written out")


def test_operators_of_others_are_listed() -> None:
    registry = dict(REGISTRY)

    @sofie.operator(domain="physics", ulp=3)
    class Squared(sofie.Operator):
        """x * x"""

        def infer(self, x: sofie.TensorType) -> sofie.TensorType:
            if not x.dtype.is_float:
                raise sofie.TypeMismatch("floats only")
            return x

    try:
        entry = only("^physics[.]Squared$")
    finally:
        REGISTRY.clear()
        REGISTRY.update(registry)
    assert (entry.formula, entry.operator) == ("x * x", Squared)
    assert entry.types == {"": {d for d in DType if d.is_float}}
    assert entry.opsets == ""


def test_our_own_are_listed_on_request() -> None:
    assert list(catalogue("^sofie[.]Dense$")) == []
    assert only("^sofie[.]Dense$").name == "Dense"


def test_no_process_is_started_for_examples_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred of them took half a minute."""

    def call(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a process of its own")

    monkeypatch.setattr(isolation, "call", call)
    (entry,) = catalogue("[.]FlexAttention$")
    assert DType.FLOAT32 in set().union(*entry.types.values())
