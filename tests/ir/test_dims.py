"""Sizes: exact arithmetic, and text that reads back."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofie_rdf.errors import ShapeError
from sofie_rdf.ir.dims import (
    Dim,
    align,
    ceil_div,
    evaluate,
    largest,
    maximum,
    minimum,
    never_negative,
    parse_dim,
    product,
    substitute,
    symbol,
    symbols_of,
)

N, M = symbol("N"), symbol("M")

NAMES = st.sampled_from(
    ["N", "M", "min", "if", "None", "odd name", "é", 'q"\\', "😀\n", "ﬁ", "n.b"]
)

# Each size with what it must be in numbers: a Python expression over `sizes`.
Pair = tuple[Dim, str]


def _leaves() -> st.SearchStrategy[Pair]:
    numbers = st.integers(-3, 9).map(lambda n: (n, f"({n})"))
    names = NAMES.map(lambda n: (symbol(n), f"sizes[{n!r}]"))
    return numbers | names


def _grown(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    def sums(p: Pair, q: Pair) -> list[Pair]:
        return [
            (p[0] + q[0], f"({p[1]} + {q[1]})"),
            (p[0] - q[0], f"({p[1]} - {q[1]})"),
            (p[0] * q[0], f"({p[1]} * {q[1]})"),
            (maximum(p[0], q[0]), f"max({p[1]}, {q[1]})"),
            (minimum(p[0], q[0]), f"min({p[1]}, {q[1]})"),
        ]

    def quotients(p: Pair, q: Pair) -> list[Pair]:
        # A divisor must not be zero: sizes are at least 1.
        return [
            (p[0] // q[0], f"({p[1]} // {q[1]})"),
            (p[0] % q[0], f"({p[1]} % {q[1]})"),
        ]

    positive = st.integers(1, 9).map(lambda n: (n, f"({n})")) | NAMES.map(
        lambda n: (symbol(n), f"sizes[{n!r}]")
    )
    both = st.tuples(inner, inner).flatmap(lambda pq: st.sampled_from(sums(*pq)))
    divided = st.tuples(inner, positive).flatmap(lambda pq: st.sampled_from(quotients(*pq)))
    return both | divided


DIMS = st.recursive(_leaves(), _grown, max_leaves=8)
SIZES = st.fixed_dictionaries(
    {name: st.integers(1, 12) for name in NAMES.elements}  # type: ignore[attr-defined]
)


@given(DIMS, SIZES)
def test_a_size_is_the_number_that_python_computes(pair: Pair, sizes: Mapping[str, int]) -> None:
    dim, expression = pair
    assert evaluate(dim, sizes) == eval(expression, {"sizes": sizes, "min": min, "max": max})


@given(DIMS)
def test_the_text_of_a_size_reads_back(pair: Pair) -> None:
    assert parse_dim(str(pair[0])) == pair[0]


@given(DIMS, SIZES)
def test_substituting_all_symbols_evaluates(pair: Pair, sizes: Mapping[str, int]) -> None:
    dim = pair[0]
    assert symbols_of(dim) <= set(sizes)
    assert substitute(dim, sizes) == evaluate(dim, sizes)


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (2 * N + 1, "2*N + 1"),
        (1 - N, "-N + 1"),
        (N // 3, "N//3"),
        (2 * (N // 3), "2*(N//3)"),
        (-1 * (N // 3), "-(N//3)"),
        (M - N // 3, "M - N//3"),
        ((N - 3) // 2 + 1, "(N + 1)//2 - 1"),
        ((N // 2) // M % 7, "((N//2)//M)%7"),
        (minimum(N, 2 * M) * 2, "2*min(2*M, N)"),
        (symbol("odd name") * N, 'N*"odd name"'),
        (symbol("a\nb"), '"a\\nb"'),
        (symbol("é"), '"é"'),
    ],
)
def test_sizes_print_as_people_write_them(dim: Dim, text: str) -> None:
    assert str(dim) == text
    assert parse_dim(text) == dim


def test_equal_sizes_are_equal_however_they_were_computed() -> None:
    assert 2 * N - N == N
    assert (N + 1) * (N - 1) == N * N - 1
    assert 6 * N // 3 == 2 * N
    assert (N * M) // N == M
    assert (4 * N) % 2 == 0
    assert (N * N + 2 * N * M + M * M) // (N + M) == N + M
    assert (8 * N * N * M + 8 * N * M * M) % (N * N + N * M) == 0
    assert (64 * N + M + 3) // 64 == N + (M + 3) // 64
    assert (64 * N + 63) // 64 == N
    assert (64 * N + 63) % 64 == 63
    assert evaluate((6 * N * M) // (4 * N), {"N": 2, "M": 3}) == 4
    assert N - N == 0
    assert maximum(N, M) == maximum(M, N)
    assert hash(N + M) == hash(M + N)
    assert N // 2 != N


def test_the_largest_of_many() -> None:
    """What is never above another one is left out."""
    assert largest([8, 4 * N, 16, N, 5 * N]) == maximum(16, 5 * N)
    assert largest([N, N + M, M]) == N + M
    assert largest([3]) == 3


def test_helpers() -> None:
    assert product([]) == 1
    assert product([2, N, 3]) == 6 * N
    assert ceil_div(7, 2) == 4
    assert align(17, 16) == 32
    assert evaluate(align(N, 16), {"N": 17}) == 32
    with pytest.raises(KeyError):
        evaluate(N, {})
    with pytest.raises(ValueError, match="name"):
        symbol("")


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "N +", "(N", "N)", "N M", "2N", "N**2", "N/2", "1//0", "N if N else 1", "+N"),
        *('"a', '""', '"\\x"', "'N'", "min(N)", "min(N, 2, 3)", "max N", "f(N)", "N.b", "N[0]"),
        *("0x10", "1_0", "1.5", "ﬁ", "lambda: 0", "[N]", "N#", "N\x00", "9" * 5000),
        *("(" * 500 + "N" + ")" * 500, "(" * 99999, "-" * 99999, "N" + "//2" * 5000),
    ],
    ids=lambda text: text[:12],
)
def test_other_text_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_dim(text)


def test_what_is_never_negative_is_seen() -> None:
    """Sizes of layers with strides, which plans of memory compare."""
    halves, quarters = (N - 1) // 2 + 1, (M - 1) // 4 + 1
    certain = [N // 2, halves * quarters - 0, N % 3, maximum(N - 5, 2), minimum(N, M // 3), 0]
    assert all(map(never_negative, certain))
    assert not any(map(never_negative, [N - 1, (N - 1) // 2, N % (M - 1), minimum(N, M - 1)]))


def test_quotients_of_quotients_are_one() -> None:
    size: Dim = N
    for _ in range(5):
        size = (size - 1) // 2 + 1
    assert str(size) == "(N + 31)//32"
    assert str((N // 2 - 3) // 5) == "(N + 4)//10 - 1"
    assert str((N // M) // 2) == "(N//M)//2"


def test_the_largest_of_many_sizes_is_not_deep() -> None:
    many = [symbol(f"a{i}") for i in range(500)]
    found = largest(many)
    assert evaluate(found, {f"a{i}": i % 77 for i in range(500)}) == 76
    assert parse_dim(str(found)) == found


def test_functions_of_functions_end() -> None:
    """What reads and writes sizes calls itself for each of them."""
    size: Dim = N
    for step in range(100):
        size = (size + M) % (1000 + step)
    with pytest.raises(ShapeError, match="more than 100 functions of each other"):
        size % 7
    assert parse_dim(str(size)) == size


def test_a_text_cannot_make_a_size_explode() -> None:
    began = time.perf_counter()
    with pytest.raises(ValueError, match="is no size"):
        parse_dim("*".join(f"(a{i} + b{i})" for i in range(60)))
    assert time.perf_counter() - began < 1


@given(st.text(alphabet='NM 019+-*/%(),"\\minax', max_size=30))
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    try:
        dim = parse_dim(text)
    except ValueError:
        return
    assert parse_dim(str(dim)) == dim
