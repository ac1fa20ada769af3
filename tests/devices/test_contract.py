"""The cases of all operators on the serial adapter: many in one program, against the reference."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from sofie_rdf.devices.program import has_no_kernel, problems, program_of
from sofie_rdf.ir.types import DType
from tests.choice import some_of
from tests.devices.harness import SANITIZED, WAYS, Compiled, compiled_program, require
from tests.ops.cases import Case
from tests.ops.test_contract import (
    OPERATORS,
    Bench,
    Key,
    accepted_cases,
    bench_of,
    differences,
    sizes_of,
)

# With kernels for devices. What leaves this list is a loss, what joins it a line here.
SUPPORTED = Path(__file__).with_name("supported.txt").read_text().split()
PARTS = 16
# Of element types other than the first two of an operator, so many cases each.
FEW = 2
ALL = bool(os.environ.get("SOFIE_RDF_ALL_KERNELS"))
# Of operators that are spelled out, which are hundreds of kernels, so many.
SPELLED_OUT = 12 if ALL else 3


def _chosen(key: Key) -> Iterator[tuple[DType, Case]]:
    """Cases whose element types devices know."""
    counts: dict[DType, int] = {}
    for dtype, case in accepted_cases(key):
        # Half precision is float32 between casts.
        if dtype.is_storage or (dtype.is_half and not (ALL or case.op.moves)):
            continue
        counts[dtype] = counts.get(dtype, 0) + 1
        few = dtype is not DType.FLOAT32 and not ALL
        if not few or counts[dtype] <= FEW:
            yield dtype, case


@cache
def _pairs(key: Key) -> tuple[tuple[DType, Case], ...]:
    """Of these, the cases that have kernels for devices."""
    pairs = list(_chosen(key))
    tested = bench_of("device", pairs)
    places = {error.place for error in problems(tested.graph)}
    nodes = tested.graph.nodes
    kept = [f"node {n.outputs[0]!r}" not in places for n in nodes]
    found = tuple(pair for pair, is_kept in zip(pairs, kept, strict=True) if is_kept)
    several = any(has_no_kernel(type(case.op)) for _, case in found)
    return found[:: -(-len(found) // SPELLED_OUT)] if several else found


def _name(key: Key) -> str:
    return ".".join(filter(None, key))


def test_the_list_of_supported_operators_is_true() -> None:
    found = [_name(key) for key in OPERATORS if _pairs(key)]
    assert found == SUPPORTED


def _bench(keys: Sequence[Key]) -> Bench:
    return bench_of("device", (pair for key in keys for pair in _pairs(key)))


@pytest.fixture(scope="module", params=some_of(range(PARTS), [14]))
def part(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bench, Compiled]:
    """Every so-many-th operator, in one program.

    AddressSanitizer and UBSan watch it, but not all cases: g++ would take ten minutes.
    """
    names = SUPPORTED[request.param :: PARTS]
    keys = [key for key in OPERATORS if _name(key) in names]
    tested = _bench(keys)
    folder = tmp_path_factory.mktemp(f"part{request.param}")
    return tested, compiled_program(
        program_of(tested.graph), WAYS["serial"], folder, ("-O0", *(() if ALL else SANITIZED))
    )


def test_kernel_is_the_reference(part: tuple[Bench, Compiled]) -> None:
    tested, program = part
    batches = []
    for seed, (batch, other, extreme) in enumerate(
        [(3, 5, False), (1, 5, False), (17, 5, False), (0, 5, False), (70, 2, True), (2, 1, True)]
    ):
        sizes = sizes_of(tested.graph, batch, other)
        batches.append((sizes, tested.feeds(sizes, seed, extreme=extreme)))
    for seed in (0, 5):
        for (sizes, feeds), found in zip(batches, program.run(batches, seed), strict=True):
            wrong = differences(tested, feeds, found, sizes)
            assert not wrong, f"{len(wrong)} differ:\n" + "\n".join(wrong[:8])


# Some of each operator in one program, for slower compilers and adapters that are not ours;
# and all cases of every so-many-th operator.
_SOME = 2
_PORTIONS = [*range(PARTS)] if ALL else [None]


def _portion(number: int | None) -> Bench:
    if number is not None:
        names = SUPPORTED[number::PARTS]
        return _bench([key for key in OPERATORS if _name(key) in names])
    supported = [key for key in OPERATORS if _name(key) in SUPPORTED]
    return bench_of("some", [pair for key in supported for pair in _pairs(key)[-_SOME:]])


@pytest.mark.exhaustive
@pytest.mark.parametrize("portion", _PORTIONS)
@pytest.mark.parametrize("way", [*WAYS][1:] if ALL else ["alpaka-serial", "alpaka-omp", "sycl"])
def test_other_adapters_run_the_same_kernels(way: str, portion: int | None, tmp_path: Path) -> None:
    require(WAYS[way])
    tested = _portion(portion)
    program = compiled_program(program_of(tested.graph), WAYS[way], tmp_path, ("-O0",))
    batches = []
    for seed, (batch, other) in enumerate([(3, 5), (1, 2), (0, 5), (70, 2)]):
        sizes = sizes_of(tested.graph, batch, other)
        batches.append((sizes, tested.feeds(sizes, seed, extreme=False)))
    for seed in range(1, 4):
        for (sizes, feeds), found in zip(batches, program.run(batches, seed), strict=True):
            wrong = differences(tested, feeds, found, sizes)
            assert not wrong, f"{len(wrong)} differ:\n" + "\n".join(wrong[:8])
