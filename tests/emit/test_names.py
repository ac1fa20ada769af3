"""Identifiers and literals: legal, injective, exact."""

from __future__ import annotations

import math
import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofie_rdf.devices.session import emit_for_device
from sofie_rdf.emit.literals import comment, number, size, string
from sofie_rdf.emit.names import identifier, identifiers
from sofie_rdf.emit.session import emit
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import evaluate, maximum, minimum, symbol
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.activations import Relu
from sofie_rdf.ops.normalization import Softmax
from sofie_rdf.passes.memory import plan_memory

LEGAL = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
PROJECT = Path(__file__).resolve().parents[2]
# Names as models have them, many of which become the same identifier.
NAMES = st.lists(st.text(alphabet="ab.1_/ é:", min_size=1, max_size=6) | st.text(min_size=1))


def test_five_names_that_look_alike() -> None:
    found = identifiers(["a.b", "a/b", "ab", "int", "1x"])
    assert found == {"a.b": "a_b", "a/b": "a_b_2", "ab": "ab", "int": "int_", "1x": "v1x"}


@given(NAMES)
def test_different_names_get_different_identifiers(names: list[str]) -> None:
    found = identifiers(names, {"taken"})
    assert set(found) == set(names)
    assert len(set(found.values())) == len(set(names))
    assert "taken" not in found.values()
    assert all(LEGAL.match(i) for i in found.values())


@given(st.text(min_size=1))
def test_no_identifier_is_reserved(name: str) -> None:
    found = identifier(name)
    # A double underscore belongs to the implementation, everywhere in C++.
    assert LEGAL.match(found)
    assert "__" not in found
    assert found not in ("int", "class", "std", "sofie", "NULL")


HEADERS = "algorithm cmath cinttypes csignal cstdio limits.h sys/stat.h unistd.h".split()


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_no_identifier_is_a_macro() -> None:
    """Neither of the standard headers, nor of ours."""
    text = "".join(f"#include <{header}>\n" for header in HEADERS)
    command = ["g++", "-std=c++17", "-E", "-dM", "-x", "c++", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    macros = set(re.findall(r"^#define (\w+)(?= )", done.stdout, re.MULTILINE))
    for header in (PROJECT / "cling").rglob("*.hxx"):
        macros |= set(re.findall(r"^\s*#\s*define (\w+)", header.read_text(), re.MULTILINE))
    macros |= {"SOFIE_ENTRIES", "I", "gROOT", "gDirectory", "gPad", "ROOT_TFile"}
    assert len(macros) > 500
    assert {"SOFIE_SIMD_BYTES", "EOF", "M_PI"} <= macros
    found = identifiers(sorted(macros))
    assert {i for i in found.values() if i in macros} == set()
    assert len(set(found.values())) == len(macros)


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
@pytest.mark.parametrize("target", ["cpu", "serial"])
def test_values_and_sizes_may_have_any_name_in_the_header(target: str, tmp_path: Path) -> None:
    """A model in which values, sizes and nodes are called like all that its own header names."""

    def header(names: Sequence[str], symbols: Sequence[str]) -> tuple[str, str]:
        build = Builder("m")
        shapes = [(symbol(symbols[i % len(symbols)]), 3) for i in range(len(names))]
        for name, shape in zip(names, shapes, strict=True):
            build.input(name, TensorType(DType.FLOAT32, shape))
        inner = [build(Softmax(axis=-1), name) for name in names]
        outputs = [build(Relu(), x, outputs=[f"{n}/o"]) for n, x in zip(names, inner, strict=True)]
        graph = build.graph(*outputs)
        if target == "cpu":
            emission = emit(graph, plan_memory(graph))
        else:
            emission = emit_for_device(graph, target, graph.name, "m.dat")
        return emission.namespace, emission.header

    words = sorted(set(re.findall(r"[A-Za-z]\w*", header(["x", "y"], ["N", "K"])[1])))
    assert len(words) > 100
    for names, symbols in ((words, ["N"]), (words[::2], words[1::2])):
        namespace, text = header(names, symbols)
        if target == "serial":
            text += f"template class {namespace}::Session<sofie::device::Serial>;\n"
        file = tmp_path / f"{target}.cpp"
        file.write_text(text)
        flags = ["-std=c++17", "-fsyntax-only", f"-I{PROJECT / 'cling'}"]
        done = subprocess.run(["g++", *flags, file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:3000]


def test_sizes_and_scores_keep_their_names() -> None:
    names = ["N", "T", "NJ", "n_pf", "p_b", "Jet_pt", "L1_x", "res_2", "MEt"]
    assert identifiers(names) == {name: name for name in names}


@given(st.floats(allow_nan=False))
def test_floats_are_exact(value: float) -> None:
    text = number(value)
    if math.isinf(value):
        assert text.endswith("__builtin_inf()")
        assert text.startswith("-") == (value < 0)
    else:
        assert struct.pack("d", float.fromhex(text)) == struct.pack("d", value)


def test_other_numbers() -> None:
    assert number(True) == "true"
    assert number(3) == "3"
    assert "nan" in number(math.nan)


@pytest.mark.parametrize(
    "text",
    ["a\\", "a??/", "a????/", "a???", "a\n#define x", "a\\ \\", "a\u2028b", "\ud800", "*/ int x;"],
)
def test_a_comment_ends_at_the_end_of_its_line(text: str, tmp_path: Path) -> None:
    """Whatever a model is called; also where ??/ is a backslash, as in older C++."""
    found = comment(text)
    assert found.isprintable()
    assert not found.endswith("\\")
    assert "??" not in found
    if shutil.which("g++"):
        (tmp_path / "a.cxx").write_text(f"// {found}\nint wanted = 1;\n", encoding="utf-8")
        command = ["g++", "-std=c++11", "-trigraphs", "-c", "a.cxx"]
        subprocess.run(command, cwd=tmp_path, check=True)
        assert b"wanted" in (tmp_path / "a.o").read_bytes()


@pytest.mark.parametrize(
    "text", ['a"b', "back\\slash", "line\nbreak", "tab\t", "é☃", "??/", "\x01"]
)
def test_strings_are_safe(text: str) -> None:
    literal = string(text)
    assert literal[0] == literal[-1] == '"'
    assert literal.isascii()
    assert "\n" not in literal
    assert "??" not in literal
    decoded = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), literal[1:-1])
    for plain, escaped in (
        ("\\\\", "\\"),
        ('\\"', '"'),
        ("\\n", "\n"),
        ("\\t", "\t"),
        ("\\?", "?"),
    ):
        decoded = decoded.replace(plain, escaped)
    assert decoded.encode("latin-1", "ignore").decode("utf-8", "ignore") == text


def test_comments_stay_on_their_line() -> None:
    assert comment("one\ntwo\\") == "one two"


def test_sizes_as_expressions() -> None:
    n, m = symbol("N"), symbol("n pf")
    names = {"N": "N", "n pf": "n_pf"}
    assert size(7, names) == "7"
    assert size(2 * n * m - n + 3, names) == "-N + 2 * N * n_pf + 3"
    assert size((n + 1) // 2, names) == "sofie::floor_div(N + 1, 2)"
    assert size(maximum(n, m) % 3, names) == "sofie::modulo(sofie::larger(n_pf, N), 3)"
    assert size(minimum(n, m), names) == "sofie::smaller(n_pf, N)"
    assert evaluate((n + 1) // 2, {"N": 4}) == 2
