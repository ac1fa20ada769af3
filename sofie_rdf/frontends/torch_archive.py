""".pt2 files, looked through before torch loads them.

``torch.export.load`` promises nothing for files of others: it unpickles, evaluates expressions over
sizes as Python, finds functions by their dotted names below ``torch``, and writes names into Python
code. So the file must say nothing but what exported programs say: plain pickles, arithmetic,
operators, and names that are names.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sofie_rdf.errors import CorruptFile, SofieError, UnsupportedFormat
from sofie_rdf.frontends.torch_pickles import beyond_tensors

__all__ = ["refuse_hostile"]

# Operators below torch.ops that have no effect but their result.
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prim|prims|torchvision|quantized_decomposed)\.(\w+)\.\w+"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|wrap_with_set_grad_enabled)"
    r"|_operator\.(\w+)|math\.\w+|torch\._?sym_\w+|torch\._check(_is_size)?"
)
_SPECIAL = frozenset(f"__{n}__" for n in ("and", "or", "xor", "lshift", "rshift"))
_EFFECTS = frozenset(("from_file", "save", "call", "attrgetter", "methodcaller", "setitem"))
_WORD = re.compile(r"[\w.:#<>*/ \-]*")
# Functions of sizes, as torch writes them.
_FUNCTIONS = frozenset(
    """Abs Add And CeilDiv CeilToInt CleanDiv Eq Equality Float FloatPow FloatTrueDiv FloorDiv
    FloorToInt Ge Gt Identity IntTrueDiv Integer IsNonOverlappingAndDenseIndicator LShift Le Lt Max
    Min Mod ModularIndexing Mul Ne Not Or Pow PowByNatural PythonMod RShift Rational RoundDecimal
    RoundToInt Symbol ToFloat TruncToFloat TruncToInt Where ceiling floor isinstance len sqrt
    abs max min GreaterThan LessThan StrictGreaterThan StrictLessThan Unequality""".split()
)
_METHODS = frozenset(("size", "stride", "storage_offset", "dim", "numel", "floor", "ceil", "trunc"))
_ATTRIBUTES = _METHODS | {"shape", "ndim", "dtype", "device", "layout"}
_SYNTAX = (
    *(ast.Expression, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Call, ast.Subscript),
    *(ast.Attribute, ast.Name, ast.Constant, ast.Load, ast.keyword),
    *(ast.boolop, ast.unaryop, ast.operator, ast.cmpop),
)


def refuse_hostile(path: Path) -> None:
    """`UnsupportedFormat` for a .pt2 file that says more than a network does."""
    try:
        with zipfile.ZipFile(path) as archive:
            twice = [n for n, times in Counter(archive.namelist()).items() if times > 1]
            if twice:
                raise CorruptFile(f"holds {twice[0]!r} twice", place=path.name)
            for member in archive.namelist():
                _member(member, archive.read(member), path.name)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"is damaged: {error}", place=path.name) from error


def _refusal(place: str, what: str) -> SofieError:
    return UnsupportedFormat(
        f"says {what[:80]!r}, which could run anything when torch loads it", place=place
    )


def _member(member: str, content: bytes, place: str) -> None:
    folders = member.split("/")
    if member.endswith(".json"):
        config = json.loads(content)
        if "data" in folders:
            _payload(config, place)
        else:
            _program(config, place)
    elif "constants" in folders and not folders[-1].startswith("tensor_"):
        raise _refusal(place, member)
    elif member.endswith(".pt") or content.startswith(b"PK"):
        # The examples, or all of a file of torch 2.7 and before; weights are bytes.
        _pickles(content, member, place)


def _payload(config: Any, place: str) -> None:
    """Which files hold weights: none as a pickle."""
    for part in _dicts(config):
        if part.get("use_pickle"):
            raise _refusal(place, f"use_pickle for {part.get('path_name')}")


def _pickles(content: bytes, member: str, place: str) -> None:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise _refusal(place, member)
    with zipfile.ZipFile(io.BytesIO(content)) as inner:
        for name in inner.namelist():
            if name.endswith(".pkl"):
                found = beyond_tensors(inner.read(name))
                if found:
                    raise _refusal(place, found)


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _dicts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _dicts(inner)


# The program --------------------------------------------------------------------------------------


def _program(value: Any, place: str, key: str = "") -> None:
    """Every text in the program is what its key says."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if not _WORD.fullmatch(name):
                raise _refusal(place, name)
            if name not in (
                "metadata",
                "as_string",
                "torch_version",
            ):  # These are never more than texts.
                _program(inner, place, name)
    elif isinstance(value, list):
        for inner in value:
            _program(inner, place, key)
    elif isinstance(value, str):
        _text(value, place, key)


def _text(text: str, place: str, key: str) -> None:
    if key in ("expr_str", "guards_code"):
        _expression(text, place)
    elif key == "target":
        parts = {p for p in text.split(".") if p.startswith("__")} - _SPECIAL
        if not _OPERATOR.fullmatch(text) or parts or _EFFECTS.intersection(text.split(".")):
            raise _refusal(place, text)
    elif key in ("in_spec", "out_spec", "treespec") and text:
        _program(json.loads(text), place)
    elif text[:1] in ("[", "{", '"') and key == "context":
        _program(json.loads(text), place, key)
    elif not _WORD.fullmatch(text):
        raise _refusal(place, text)


def _expression(text: str, place: str) -> None:
    """Arithmetic over sizes, and nothing else."""
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except SyntaxError:
        raise _refusal(place, text) from None
    for node in nodes:
        good = isinstance(node, _SYNTAX)
        if isinstance(node, ast.Attribute):
            good = node.attr in _ATTRIBUTES
        elif isinstance(node, ast.Call):
            function = node.func
            good = (isinstance(function, ast.Name) and function.id in _FUNCTIONS) or (
                isinstance(function, ast.Attribute) and function.attr in _METHODS
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            good = bool(re.fullmatch(r"\w*", node.value))
        if not good:
            raise _refusal(place, text)
