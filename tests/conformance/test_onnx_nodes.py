"""ONNX's own tests through the whole pipeline: a part of them, and that the harness can be trusted.

``make conformance`` runs all of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import pytest

from sofie_rdf.errors import SofieError
from sofie_rdf.frontends.onnx.reader import check, read
from sofie_rdf.ir.types import Array
from sofie_rdf.runtime.compile.session import compile_graph
from tests.conformance import workers
from tests.conformance.nodes import as_array, optimized, run_together
from tests.conformance.suite import (
    EXCLUDED,
    Case,
    Exclusion,
    excluded,
    included,
    inputs_of,
    operators_of,
    shortened,
    suite,
)
from tests.frontends.models import model, node, value

PARTS = 4
RANDOM, DFT, ATTENTION = (
    next(e for e in EXCLUDED if word in e.reason)
    for word in ("random numbers", "imaginary", "float16")
)


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(PARTS))
def test_part(part: int, record_property: Callable[[str, object], None]) -> None:
    """Frontend, passes, emission, Cling: within the suite's own tolerance."""
    names = shortened()
    chosen = names[len(names) * part // PARTS : len(names) * (part + 1) // PARTS]
    found = workers.outcomes([suite()[n] for n in chosen])
    record_property("onnx tests", len(chosen))
    assert not {name: message for name, message in found.items() if message}


@pytest.mark.exhaustive
def test_the_passes_come_to_an_end_on_every_model(caplog: pytest.LogCaptureFixture) -> None:
    """Two passes undid each other's work on one of these models, so that it was never loaded."""
    for name in included():
        if suite()[name].kind != "light models":
            optimized(suite()[name])
    assert "were not enough" not in caplog.text


@pytest.mark.exhaustive
def test_every_operator_has_a_test_in_the_part() -> None:
    whole, part = (frozenset().union(*map(operators_of, n)) for n in (included(), shortened()))
    assert whole == part
    assert len(shortened()) > 1500


def with_random_weights(case: Case) -> onnx.ModelProto:
    """A light model in which weights are no longer all equal, and the softmax is left out."""
    proto, random = onnx.ModelProto(), np.random.default_rng(1)
    proto.CopyFrom(case.model)
    shapes = {i.name: onnx.numpy_helper.to_array(i) for i in proto.graph.initializer}
    kept = []
    for one in proto.graph.node:
        if one.op_type == "ConstantOfShape":
            shape = tuple(shapes[one.input[0]])
            fan = max(1, int(np.prod(shape[1:])))
            # Positive where it may be a variance, of the scale that keeps that of the activations.
            array = random.uniform(0.5, 1.5, shape) if len(shape) < 2 else random.normal(size=shape)
            array *= np.sqrt(2 / fan) if len(shape) > 1 else 1
            weight = onnx.numpy_helper.from_array(array.astype(np.float32), one.output[0])
            proto.graph.initializer.append(weight)
        elif one.op_type == "Softmax":
            proto.graph.output[0].name = one.input[0]
            proto.graph.output[0].type.tensor_type.ClearField("shape")
        else:
            kept.append(one)
    proto.graph.ClearField("node")
    proto.graph.node.extend(kept)
    return proto


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["test_resnet50", "test_shufflenet", "test_squeezenet"])
def test_light_models_with_other_weights_agree_with_onnxruntime(name: str) -> None:
    """Their own weights make all outputs equal, whatever the layers do."""
    ort = pytest.importorskip("onnxruntime")
    proto = with_random_weights(suite()[name])
    x = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {v.name: x for v in inputs_of(proto)}
    (wanted,) = session.run(None, inputs)
    case = replace(suite()[name], model=proto)
    (found,) = compile_graph(optimized(case)).infer(inputs, {}).values()
    assert np.std(wanted) > 0.01 * np.max(np.abs(wanted)), "says nothing"
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.max(np.abs(wanted)))


# Tests that are left out --------------------------------------------------------------------------


def names_of(entry: Exclusion) -> list[str]:
    return [n for n in suite() if re.fullmatch(entry.names, n)]


@pytest.mark.parametrize("entry", EXCLUDED, ids=lambda e: e.reason[:30])
def test_every_exclusion_is_for_tests_of_its_own(entry: Exclusion) -> None:
    assert names_of(entry), "matches nothing"
    assert all(excluded(n) is entry for n in names_of(entry)), "another entry is for these"


@pytest.mark.parametrize("entry", [e for e in EXCLUDED if e.refusal], ids=lambda e: e.reason[:30])
def test_what_is_excluded_is_refused_for_the_reason_that_is_given(entry: Exclusion) -> None:
    for name in names_of(entry):
        with pytest.raises(SofieError, match=entry.refusal):
            read(suite()[name].model)
        assert re.search(entry.refusal, "\n".join(map(str, check(suite()[name].model)))), name


def test_the_others_would_fail_for_their_numbers_alone() -> None:
    cases = [suite()[n] for e in EXCLUDED if not e.refusal for n in names_of(e)]
    for name, message in workers.outcomes(cases).items():
        assert "Not equal to tolerance" in message, name


def results(case: Case) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """The inputs of a test, what it wants and what we have found, by name."""
    given, wanted = case.data_sets[0]
    inputs = {v.name: as_array(a) for v, a in zip(inputs_of(case.model), given, strict=True)}
    outputs = {v.name: as_array(a) for v, a in zip(case.model.graph.output, wanted, strict=True)}
    return inputs, outputs, compile_graph(optimized(case)).infer(inputs, {})


def test_random_numbers_are_what_their_operator_says() -> None:
    """Types, shapes and values are right, and how many are kept within four deviations."""
    for name in names_of(RANDOM):
        inputs, outputs, found = results(suite()[name])
        for key, wanted in outputs.items():
            assert (found[key].dtype, found[key].shape) == (wanted.dtype, wanted.shape)
        (x, *given), y = inputs.values(), found["y"]
        if "bernoulli" in name:
            kept, chance = y, x
            assert set(np.unique(y)) <= {0, 1}
        else:
            ratio = float(given[0]) if given and given[0].dtype.kind == "f" else 0.5
            kept, chance = found.get("z", y != 0), np.full(x.shape, 1 - ratio)
            np.testing.assert_allclose(y, np.where(kept, x / (1 - ratio), 0), rtol=1e-6)
        assert abs(kept.sum() - chance.sum()) < 4 * np.sqrt((chance * (1 - chance)).sum())


def exact_inverse_dft(inputs: dict[str, Array]) -> Array:
    z = inputs["x"].astype(np.float64) @ np.array([1, 1j])
    y = np.fft.ifft(z, axis=1)
    return np.stack([y.real, y.imag], -1)


def exact_causal_attention(inputs: dict[str, Array]) -> Array:
    q, k, v = (a.astype(np.float64) for a in inputs.values())
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    scores[..., ~np.tril(np.ones(scores.shape[-2:], bool))] = -np.inf
    grown = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True) @ v)


@pytest.mark.parametrize(
    ("entry", "exact_result"), [(DFT, exact_inverse_dft), (ATTENTION, exact_causal_attention)]
)
def test_where_ours_differ_they_are_nearer_to_the_exact_result(
    entry: Exclusion, exact_result: Callable[[dict[str, Array]], Array]
) -> None:
    """The exact result is within the tolerance of ours, and where we differ nearer to ours."""
    for case in (suite()[n] for n in names_of(entry)):
        inputs, outputs, found = results(case)
        ((name, suites),) = outputs.items()
        ours, suites = found[name].astype(np.float64), suites.astype(np.float64)
        exact = exact_result(inputs)
        np.testing.assert_allclose(ours, exact, rtol=case.rtol, atol=case.atol)
        differ = np.abs(ours - suites) > case.atol + case.rtol * np.abs(suites)
        assert differ.any(), "agrees: it need not be left out"
        assert (np.abs(ours - exact) < np.abs(suites - exact))[differ].all()


# The harness --------------------------------------------------------------------------------------


def case_of(name: str, op_type: str = "Add", **changes: Any) -> Case:
    """A test of x + y, with rtol 1e-3 and atol 1e-7."""
    x, y = np.array([1, -2, 300], np.float32), np.array([0.5, 0.25, 8], np.float32)
    proto = model([node(op_type, "x y", "z")], {"x": [3], "y": [3]}, [value("z", [3])])
    return replace(Case(name, "node", proto, [([x, y], [x + y])], 1e-3, 1e-7), **changes)


def wrong_with(case: Case) -> str:
    return run_together("one", {case.name: case})[case.name]


def wanting(*wanted: Any) -> str:
    """What is wrong where x + y ought to be this."""
    case = case_of("a")
    return wrong_with(replace(case, data_sets=[(case.data_sets[0][0], list(wanted))]))


def test_right_numbers_are_right() -> None:
    z = case_of("a").data_sets[0][1][0]
    assert not wanting(z)
    assert not wanting(z * np.float32(1.0009))


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("factor", [1.0011, 0.9989, -1, np.nan, np.inf, 0])
def test_a_wrong_number_is_found_wherever_it_is(place: int, factor: float) -> None:
    z = case_of("a").data_sets[0][1][0].copy()
    z[place] *= np.float32(factor)
    assert "Not equal to tolerance" in wanting(z)


def test_wrong_types_and_shapes_are_found() -> None:
    z = case_of("a").data_sets[0][1][0]
    for other in (z.astype(np.float64), z[None], z[:2], z.astype(np.int64)):
        assert f"not {other.dtype}{other.shape}" in wanting(other)


def test_the_wrong_operator_is_found() -> None:
    assert wrong_with(case_of("a", "Sub"))
    assert not wrong_with(case_of("a"))


def test_a_later_data_set_is_compared() -> None:
    first = case_of("a").data_sets[0]
    second = ([2 * a for a in first[0]], first[1])
    assert wrong_with(case_of("a", data_sets=[first, second]))
    assert not wrong_with(case_of("a", data_sets=[first, first]))


def test_tests_beside_each_other_do_not_mix() -> None:
    cases = {n: case_of(n, op) for n, op in (("a", "Add"), ("b", "Sub"), ("c", "Add"))}
    found = run_together("three", cases)
    assert [bool(found[n]) for n in "abc"] == [False, True, False]


@dataclass(frozen=True)
class Deadly(Case):
    """Ends the process that it is sent to."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


@pytest.mark.exhaustive
def test_a_test_that_ends_the_process_fails_alone() -> None:
    first, last = case_of("first"), case_of("last")
    deadly = Deadly(**{**vars(first), "name": "deadly"})
    inputs = [value("x", [3]), value("i", [1], onnx.TensorProto.INT64)]
    proto = model([node("Gather", "x i", "z")], inputs, [value("z", [1])])
    data = [([np.arange(3, dtype=np.float32), np.array([7])], [np.zeros(1, np.float32)])]
    throws = case_of("throws", model=proto, data_sets=data)
    found = workers.outcomes([first, deadly, throws, last], jobs=2)
    assert list(found) == ["first", "deadly", "throws", "last"]
    assert not found["first"] and not found["last"]
    assert "the process ended (3)" in found["deadly"]
    assert "InputError" in found["throws"]


def test_a_test_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LIMIT", 0.0)
    monkeypatch.setattr(workers, "LIMIT_OF_ONE", 0.0)
    assert "too long" in workers.outcomes([case_of("a")])["a"]
