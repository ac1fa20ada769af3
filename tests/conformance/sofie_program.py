"""SOFIE's test program, read as data: what each of its models is given, and what SOFIE expects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sofie_rdf.ir.types import Array

__all__ = ["Case", "cases"]

_PROGRAM = "inputs_TestCustomModelsFromONNX.cxx.txt"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# std::vector<float> x({1, 2}), = {1, 2}, (9, 0.), (9); float x[] = {1}; float x = 1.;
_VECTOR = re.compile(
    r"std::vector<\s*(?:std::vector<)?[\w ]+>+\s+(\w+)\s*"
    r"(?:=\s*\{(.*?)\}\s*;|\{(.*?)\}\s*;|\((.*?)\)\s*;)",
    re.S,
)
_ARRAY = re.compile(r"\b(?:float|double|bool|int|int64_t)\s+(\w+)\s*\[\]\s*=\s*\{(.*?)\}", re.S)
_SCALAR = re.compile(rf"\b(?:float|double|int|int64_t)\s+(\w+)\s*=\s*({_NUMBER})f?\s*;")
_POINTER = re.compile(
    r"\b(?:float|bool|double|int|size_t|int64_t)\s*\*\s*(\w+)\s*=\s*(\w+)::(\w+)\s*;"
)
_COPY = re.compile(r"std::vector<[\w ]+>\s+(\w+)\s*=\s*(\w+)::(\w+)\s*;")
_ALIAS = re.compile(r"\bfloat\s*\*\s*(\w+)\s*=\s*(\w+)\.data\(\)\s*;")
_COMPARED = re.compile(r"\b(\w+)\[i\](?:\[j\])?\s*(?:-|==|,)\s*(\w+)\[i\]")
_FUNCTION = re.compile(r"std::abs\((\w+)\[i\] - (std::\w+)\((\w+)\[i\]\)\)")
_PART = re.compile(r"(\w+)\s*=\s*(?:\w+\[(\d)\]|std::get<(\d)>\(\w+\))\s*;")
_FUNCTIONS = {"std::sin": np.sin, "std::cos": np.cos, "std::abs": np.abs}


@dataclass(frozen=True)
class Case:
    """The numbers of the inputs in order, and those that are expected of outputs by their place."""

    model: str
    inputs: tuple[Array, ...]
    expected: tuple[tuple[int, Array], ...]


def cases(folder: Path) -> Iterator[Case]:
    """What SOFIE's test program does with each model in a folder."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", (folder / _PROGRAM).read_text(), flags=re.S)
    for block in re.split(r"\bTEST\w*\s*\(", text)[1:]:
        session = re.search(r"SOFIE_(\w+)::Session", block)
        assert session is not None
        yield _case(session[1], block, folder)


def _case(model: str, block: str, folder: Path) -> Case:
    known = dict(_values(block))
    for name, scope, member in _COPY.findall(block):
        known[name] = _references(folder, scope)[member]
    called = re.search(r"s\.infer\(((?:[^()]|\([^()]*\))*)\)", block)
    assert called is not None
    names = [n for n in re.split(r"\.data\(\)|[\s,&]+", called[1]) if n]
    given = tuple(known[n] for n in names)
    return Case(model, given, tuple(_expected(block, known, folder)))


def _values(block: str) -> Iterator[tuple[str, Array]]:
    for name, listed, braced, bracketed in _VECTOR.findall(block):
        if listed or braced or bracketed.lstrip().startswith("{"):
            yield name, _numbers(listed or braced or bracketed)
        elif re.fullmatch(rf"\s*(\d+)\s*(?:,\s*(?:{_NUMBER})f?\s*)?", bracketed):
            size, *value = re.findall(_NUMBER, bracketed)
            yield name, _filled(block, name, int(size), value)
    for name, listed in _ARRAY.findall(block):
        yield name, _numbers(listed)
    for name, value in _SCALAR.findall(block):
        yield name, _numbers(value)


def _filled(block: str, name: str, size: int, value: list[str]) -> Array:
    """A vector of that size, which a line behind it may fill."""
    filled = re.search(rf"fill_n\(\s*{name}\.data\(\)[^;]*?,\s*({_NUMBER})f?\s*\)\s*;", block)
    counted = re.search(rf"iota\(\s*{name}\.begin\(\)[^;]*?,\s*({_NUMBER})f?\s*\)\s*;", block)
    if counted:
        return np.arange(size) + float(counted[1])
    return np.full(size, float(filled[1] if filled else value[0] if value else 0))


def _numbers(text: str) -> Array:
    """The numbers of a list, whose entries may be sums of numbers."""
    entries = re.split(r"[,{}]", text.replace("true", "1").replace("false", "0"))
    found = [re.findall(_NUMBER, entry) for entry in entries]
    return np.array([sum(map(float, numbers)) for numbers in found if numbers])


def _references(folder: Path, scope: str) -> dict[str, Array]:
    """The arrays of one namespace in the reference files."""
    # A file may have the namespace of another one, which it was copied from.
    own = f"{scope.removesuffix('_ExpectedOutput')}.ref.hxx"
    for file in sorted((folder / "references").iterdir(), key=lambda f: f.name != own):
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", file.read_text(), flags=re.S)
        found = re.search(rf"namespace\s+{scope}\s*\{{(.*)\}}", text, re.S)
        if found:
            return dict(_values(found[1]))
    raise AssertionError(f"no reference has a namespace {scope}")


def _expected(block: str, known: dict[str, Array], folder: Path) -> Iterator[tuple[int, Array]]:
    """Which outputs are compared with what; -1 stands for all of them, one after the other."""
    parts = {name: int(one or other) for name, one, other in _PART.findall(block)}
    function = _FUNCTION.search(block)
    if function:
        yield 0, _FUNCTIONS[function[2]](known[function[3]])
        return
    # A pointer may stand for another array later in the block.
    for piece in re.split(r"(?=\b(?:float|bool|double|int|size_t|int64_t)\s*\*\s*\w+\s*=)", block):
        for name, scope, member in _POINTER.findall(piece):
            known[name] = _references(folder, scope)[member]
        for name, other in _ALIAS.findall(piece):
            known[name] = known[other]
        for one, other in _COMPARED.findall(piece):
            output, right = (other, one) if one.startswith("correct") else (one, other)
            yield (-1 if "[i][j]" in piece else parts.get(output, 0)), known[right]
