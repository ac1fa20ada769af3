"""The functions of math.hxx against numpy in twice the precision, as g++ and as Cling compile them.

The probe (math_probe.cxx) maps arrays; here are the inputs, the exact results and the tolerances.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.choice import some_of

Array = NDArray[Any]

# NaN, infinities and overflow are what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

CLING = Path(__file__).parents[2] / "cling"
PROBE = Path(__file__).with_name("math_probe.cxx")
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Werror"]

TYPES: dict[str, tuple[Any, Any]] = {
    "float": (np.float32, np.float64),
    "double": (np.float64, np.longdouble),
}

# The bytes of a pack, and the instruction set that has such registers: without FMA and with it.
TARGETS = {16: "", 32: "avx2,fma", 64: "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"}

# The largest distance from the exact result, in ULP, for float and for double.
TOLERANCE = {
    "exp": (1.0, 1.0),
    "expm1": (1.5, 2.0),
    "log": (1.0, 1.0),
    "log1p": (1.5, 1.5),
    "tanh": (2.5, 2.7),
    "sigmoid": (2.5, 2.5),
    "erf": (1.5, 1.5),
    "gelu": (5.0, 6.0),
    "softplus": (2.1, 2.2),
}
FROM_C_LIBRARY = ["sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh"]
FROM_C_LIBRARY += ["asinh", "acosh", "atanh", "pow"]
TOLERANCE |= dict.fromkeys(FROM_C_LIBRARY, (2.0, 2.0))
# Where x P(x) underflows on the left, and is x on the right; where it is 0 between layers.
GELU_IS_0, GELU_IS_X, INNER_GELU_IS_0 = (14.5, 38.5), (5.8, 8.5), (13.0, 37.5)
IN_NUMPY = {name: "arc" + name[1:] for name in FROM_C_LIBRARY if name.startswith("a")}

EXACT: dict[str, Callable[..., Any]] = {
    "sqrt": np.sqrt,
    "abs": np.abs,
    "floor": np.floor,
    "ceil": np.ceil,
    "round_even": np.rint,
    "trunc": np.trunc,
    "copysign": np.copysign,
    "fmod": np.fmod,
}
OF_SEVERAL = ("pow", "copysign", "fmod", "multiply_add")
FUNCTIONS = [*TOLERANCE, *EXACT, "multiply_add", "inner_gelu", "swish"]
# What has a form in assembler for whole arrays of floats.
IN_ARRAYS = ["exp", "tanh", "sigmoid", "swish", "gelu", "inner_gelu"]


def names(target: str) -> list[str]:
    return target.split(",") if target else []


def runnable() -> list[int]:
    """The pack sizes whose instruction sets this CPU has."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    return [size for size, target in TARGETS.items() if flags.issuperset(names(target))]


BUILDS = [*(f"g++ {size}" for size in runnable()), f"Cling {max(runnable())}"]
# With the widest packs; the others are exhaustive.
WIDEST = some_of(BUILDS, BUILDS[-2:])
TAIL = 15  # single elements after the packs, for each number of lanes


@functools.cache
def inputs(type_name: str) -> Array:
    """Three operands: edges, all kinds of bit patterns, numbers about 1, the first edges again."""
    dtype, wide = TYPES[type_name]
    info = np.finfo(dtype)
    random = np.random.default_rng(20)
    if type_name == "float":
        patterns = np.arange(0, 2**32, 8209, dtype=np.uint64).astype(np.uint32).view(dtype)
        words = random.integers(0, 2**32, 200_000, dtype=np.uint32)
        exponents = random.integers(115, 136, words.size, dtype=np.uint32) << np.uint32(23)
        near = (words & np.uint32(0x807FFFFF) | exponents).view(dtype)
    else:
        patterns = random.integers(0, 2**64, 50_000, dtype=np.uint64).view(dtype)
        words = random.integers(0, 2**64, 150_000, dtype=np.uint64)
        exponents = random.integers(1011, 1034, words.size, dtype=np.uint64) << np.uint64(52)
        near = (words & np.uint64(0x800FFFFFFFFFFFFF) | exponents).view(dtype)
    # The limits of the type, where e^x, e^x - 1, tanh x, erf x, x P(x) reach theirs, octaves' ends.
    limits = [info.max, info.tiny, info.smallest_subnormal, info.eps, 2.0**info.nmant]
    halves = [0.5, 1.5, 2.5, 2.0 ** (info.nmant - 1) + 0.5]
    lost = np.log(wide(info.eps) / 4)
    turns = [lost, lost / 2, 3.92, 5.92, *np.array(GELU_IS_0) - 0.04]
    turns += [*np.log([wide(info.max), wide(info.tiny), wide(info.smallest_subnormal) / 2])]
    octaves = [np.sqrt(0.5), np.sqrt(2), *np.log(2) * np.arange(6) / 2]
    others = [0, 1, 100, 1e-30, 1e30, np.inf, np.nan]
    edges = np.array([*others, *limits, *halves, *turns, *octaves], dtype)
    below, above = (np.nextafter(edges, dtype(end)) for end in (-np.inf, np.inf))
    edges = np.concatenate([edges, below, above])
    edges = np.concatenate([edges, -edges])
    first = np.concatenate([edges, patterns, near])
    first = np.concatenate([first[: first.size // 64 * 64], edges[:TAIL]])
    operands: Array = np.stack([first, random.permutation(first), random.permutation(first)])
    return operands


def thinned(values: Array) -> Array:
    """All edges and an eighth of the rest: what Cling gets."""
    thin: Array = np.concatenate([values[..., :1000], values[..., 1000::8]], axis=-1)
    return thin


def map_array(function: Any, operands: Array) -> Array:
    """What a function of the probe makes of up to three operands."""
    out: Array = np.empty_like(operands[0])
    function(
        ctypes.c_void_p(operands.ctypes.data),
        ctypes.c_void_p(out.ctypes.data),
        ctypes.c_long(out.size),
    )
    return out


class Reference:
    """Exact results, in twice the precision; the last one is kept for the next build's test."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.of = functools.lru_cache(maxsize=1)(self._of)

    def _of(self, name: str, type_name: str) -> Array:
        _, wide = TYPES[type_name]
        x, y, _ = inputs(type_name).astype(wide)
        power = np.exp(-np.abs(x))
        if name == "sigmoid":
            result = np.where(x < 0, power, 1) / (1 + power)
        elif name == "softplus":
            result = np.maximum(x, 0) + np.log1p(power)
        elif name in ("erf", "gelu"):
            function = getattr(self._library, f"reference_{name}")
            result = map_array(function, x.astype(np.longdouble)[np.newaxis])
        elif name == "pow":
            result = np.power(x, y)
        else:
            result = getattr(np, IN_NUMPY.get(name, name))(x)
        return np.asarray(result, wide)


class Probe:
    """The probe's functions in all builds, each compiled when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.library = functools.cache(self._library)
        self._cling = functools.cache(self._run_cling)

    def _library(self, size: int) -> ctypes.CDLL:
        path = self._folder / f"math_{size}.so"
        target = [f"-m{name}" for name in names(TARGETS[size])]
        command = ["g++", "-std=c++17", "-O3", *WARNINGS, "-shared", "-fPIC", *target]
        command += [f"-DSOFIE_SIMD_BYTES={size}", f"-I{CLING}", str(PROBE), "-o", str(path)]
        subprocess.run(command, check=True)
        return ctypes.CDLL(str(path))

    def _run_cling(self, size: int) -> None:
        """Leave a file per function, in a process of its own: Cling compiles for one target."""
        for type_name in TYPES:
            np.save(self._folder / f"{type_name}.npy", thinned(inputs(type_name)))
        arguments = [str(CLING), str(PROBE), str(size), TARGETS[size], str(self._folder)]
        arguments += [f"{name}_{type_name}" for name in FUNCTIONS for type_name in TYPES]
        arguments += [f"{name}_array_float" for name in IN_ARRAYS]
        command = [sys.executable, "-W", "ignore", "-c", CLING_SCRIPT, *arguments]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert "warning:" not in run.stderr

    def run(self, build: str, name: str, type_name: str) -> Array:
        """All results; of Cling, those of `thinned` inputs."""
        compiler, size = build.split()
        if compiler == "g++":
            function = getattr(self.library(int(size)), f"{name}_{type_name}")
            return map_array(function, inputs(type_name))
        self._cling(int(size))
        return np.asarray(np.load(self._folder / f"{name}_{type_name}.npy"))


CLING_SCRIPT = """
import sys
import numpy as np
import ROOT
include, probe, size, target, folder, *names = sys.argv[1:]
ROOT.gInterpreter.AddIncludePath(include)
macros = [f"#define SOFIE_SIMD_BYTES {size}"] + [f'#define SOFIE_TARGET "{target}"'] * bool(target)
assert ROOT.gInterpreter.Declare(chr(10).join([*macros, f'#include "{probe}"']))
for name in names:
    operands = np.load(f"{folder}/{name.rsplit('_', 1)[1]}.npy")
    out = np.empty_like(operands[0])
    getattr(ROOT, name)(operands.reshape(-1), out, out.size)
    np.save(f"{folder}/{name}.npy", out)
"""


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    return Probe(tmp_path_factory.mktemp("math"))


@pytest.fixture(scope="session")
def reference(probe: Probe) -> Reference:
    return Reference(probe.library(16))


def operands_of(build: str, values: Array) -> Array:
    return thinned(values) if build.startswith("Cling") else values


def ulps(actual: Array, exact: Array) -> Array:
    """Distances in units of the last place of the exact result.

    Infinite where a NaN, an infinity or a sign is wrong.
    """
    info = np.finfo(actual.dtype)
    rounded = exact.astype(actual.dtype)
    exponent = np.maximum(np.frexp(exact)[1], info.minexp + 1)
    unit = np.ldexp(exact.dtype.type(1), exponent - info.nmant - 1)
    distance = np.abs(actual.astype(exact.dtype) - exact) / unit
    both_nan = np.isnan(actual) & np.isnan(exact)
    same_sign = np.signbit(actual) == np.signbit(exact)
    finite = np.isfinite(actual) & np.isfinite(rounded)
    distance = np.where(finite & same_sign, distance, np.inf)
    return np.where(both_nan | ((actual == rounded) & ~finite), 0, distance)


@pytest.mark.parametrize("build", some_of(BUILDS, BUILDS[-1:]))
@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("name", TOLERANCE)
def test_accuracy(
    probe: Probe, reference: Reference, name: str, type_name: str, build: str
) -> None:
    exact = operands_of(build, reference.of(name, type_name))
    distance = ulps(probe.run(build, name, type_name), exact)
    worst = int(np.argmax(distance))
    at = operands_of(build, inputs(type_name))[:2, worst]
    allowed = TOLERANCE[name][list(TYPES).index(type_name)]
    assert distance[worst] <= allowed, f"{distance[worst]} ULP at {at!r}"


@pytest.mark.parametrize("build", WIDEST)
@pytest.mark.parametrize("type_name", TYPES)
def test_gelu_ends_where_it_must(probe: Probe, type_name: str, build: str) -> None:
    x = operands_of(build, inputs(type_name))[0]
    actual = probe.run(build, "gelu", type_name)
    of_type = list(TYPES).index(type_name)
    right, left = x >= GELU_IS_X[of_type], x <= -GELU_IS_0[of_type]
    np.testing.assert_array_equal(actual[right], x[right])
    finite = left & np.isfinite(x)
    assert np.all(actual[finite] == 0) and np.all(np.signbit(actual[finite]))
    np.testing.assert_array_equal(np.signbit(actual[x == 0]), np.signbit(x[x == 0]))
    assert np.all(actual[(x < -1e-3) & (x > -GELU_IS_0[of_type] + 0.4)] < 0)
    # As (-inf) * 0, which is what the formula says.
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(x) | (x == -np.inf))


@pytest.mark.parametrize("build", WIDEST)
@pytest.mark.parametrize("type_name", TYPES)
def test_between_layers_gelu_has_no_denormal_results(
    probe: Probe, type_name: str, build: str
) -> None:
    x = operands_of(build, inputs(type_name))[0]
    actual, inner = (probe.run(build, name, type_name) for name in ("gelu", "inner_gelu"))
    low = (x < -INNER_GELU_IS_0[list(TYPES).index(type_name)]) & np.isfinite(x)
    np.testing.assert_array_equal(inner, np.where(low, np.copysign(0, x), actual))
    np.testing.assert_array_equal(np.signbit(inner), np.signbit(actual))
    ordinary = np.abs(x) > 1e-3
    least = np.finfo(actual.dtype).tiny
    assert np.any((actual != 0) & (np.abs(actual) < least) & ordinary)
    assert not np.any((inner != 0) & (np.abs(inner) < least) & ordinary)


@pytest.mark.parametrize("build", WIDEST)
@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("name", EXACT)
def test_exact(probe: Probe, name: str, type_name: str, build: str) -> None:
    actual = probe.run(build, name, type_name)
    function = EXACT[name]
    x, y, _ = operands_of(build, inputs(type_name))
    expected = function(x, y) if name in OF_SEVERAL else function(x)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(np.signbit(actual)[number], np.signbit(expected)[number])


@pytest.mark.parametrize("build", WIDEST)
@pytest.mark.parametrize("type_name", TYPES)
def test_multiply_add_is_fused_where_the_target_can(
    probe: Probe, type_name: str, build: str
) -> None:
    _, wide = TYPES[type_name]
    a, b, c = operands = operands_of(build, inputs(type_name))
    separate = a * b + c
    exact = np.prod(operands[:2].astype(wide), axis=0) + c
    # Where twice the precision is enough: no cancellation, no denormals.
    usual = np.isfinite(separate) & (np.abs(separate) > np.finfo(a.dtype).tiny)
    usual &= np.signbit(a * b) == np.signbit(c)
    actual = probe.run(build, "multiply_add", type_name)
    if TARGETS[int(build.split()[1])]:
        assert np.max(ulps(actual[usual], exact[usual])) <= 0.51
        assert np.any(actual[usual] != separate[usual])
    else:
        np.testing.assert_array_equal(actual, separate)


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in OF_SEVERAL])
def test_single_elements_are_as_in_packs(probe: Probe, name: str, type_name: str) -> None:
    actual = probe.run(f"g++ {max(runnable())}", name, type_name)
    np.testing.assert_array_equal(actual[-TAIL:], actual[:TAIL])


@pytest.mark.parametrize("build", some_of(BUILDS, BUILDS[1:2]))
@pytest.mark.parametrize("name", IN_ARRAYS)
def test_arrays_have_the_bits_of_packs(probe: Probe, name: str, build: str) -> None:
    packs = probe.run(build, name, "float")
    arrays = probe.run(build, f"{name}_array", "float")
    number = ~np.isnan(packs)
    np.testing.assert_array_equal(np.isnan(arrays), ~number)
    np.testing.assert_array_equal(arrays[number].view(np.int32), packs[number].view(np.int32))
