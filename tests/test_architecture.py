"""The laws of the architecture: what ARCHITECTURE.md promises, checked."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import sofie_rdf.ops as _ops
from sofie_rdf.ir.operator import REGISTRY

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "sofie_rdf"
HEADERS = sorted((PROJECT / "cling" / "sofie").rglob("*.hxx"))
assert _ops

# A module may import from its own part of the package and from parts of a lower rank.
RANKS = {
    "errors": -3,
    "arguments": -2,
    "brief": -2,
    "limits": -1,
    "isolation": 2,
    "ir": 0,
    "kernels": 1,
    "ops": 2,
    "reference": 3,
    "gradients": 3,
    "frontends": 4,
    "passes": 4,
    "emit": 5,
    "runtime": 6,
    "devices": 6,
    "summary": 6,
    "reading": 7,
    "pickling": 8,
    "defining": 9,
    "fit": 9,
    "uncertainty": 8,
    "model": 10,
    "__init__": 11,
    "compat": 12,
    "tmva": 13,
    "pythonization": 13,
    "coffea": 13,
    "bench": 12,
    "cli": 13,
}
# Who may import what is not needed everywhere.
OWNERS = {
    "ROOT": ("runtime",),
    "cppyy": ("runtime",),
    "onnx": ("frontends", "bench"),
    "google": ("frontends",),
    # Libraries that read a file of theirs themselves, in a process of its own.
    "onnxruntime": ("bench", "cli.originals"),
    "uproot": ("ir.rootfile",),
    "awkward": ("ir.rootfile", "runtime.arrays", "coffea"),
    "dask_awkward": ("runtime.arrays", "coffea"),
    "rich": ("cli", "bench"),
    "torch": ("frontends", "bench", "cli.originals"),
    "tensorflow": ("frontends",),
    "keras": ("frontends", "bench", "cli.originals"),
    "h5py": ("frontends",),
    "sonnet": (),
    "graph_nets": ("compat.graphs",),
    "sklearn": ("frontends",),
    "skl2onnx": ("frontends",),
    "xgboost": ("cli.originals",),
    "lightgbm": ("cli.originals",),
}


@cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    """The dotted name below sofie_rdf, and the syntax tree, of every module."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found.append((name, ast.parse(path.read_text(), str(path))))
    return tuple(found)


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and module of every import that is executed, in functions too."""
    left: list[ast.AST] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, ast.If) and _is_for_checkers(node.test):
            left += node.orelse
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            module = node.module or ""
            if module == "sofie_rdf":
                yield from ((node.lineno, f"sofie_rdf.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module
        else:
            left += (n for n in ast.iter_child_nodes(node) if isinstance(n, BLOCKS))


# What statements stand in.
BLOCKS = (ast.stmt, ast.excepthandler, ast.match_case)


def _is_for_checkers(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def test_imports_point_one_way() -> None:
    wrong = []
    for name, tree in modules():
        part = name.split(".")[0]
        assert part in RANKS, f"{name}: give it a rank here and a line in ARCHITECTURE.md"
        for line, module in imports(tree):
            first, *rest = module.split(".")
            if first != "sofie_rdf":
                continue
            other = rest[0] if rest and rest[0] in RANKS else "__init__"
            if other != part and RANKS[other] >= RANKS[part]:
                wrong.append(f"{name}:{line} imports {module}")
    assert wrong == []


def test_foreign_packages_have_owners() -> None:
    wrong = []
    for name, tree in modules():
        for line, module in imports(tree):
            owners = OWNERS.get(module.split(".")[0])
            if owners is not None and not any(f"{name}.".startswith(f"{o}.") for o in owners):
                wrong.append(f"{name}:{line} imports {module}")
    assert wrong == []


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    """At the top of a module only what `import sofie_rdf` may cost."""
    wrong = []
    for name, tree in modules():
        if name.startswith(("bench.", "cli.")):
            continue  # Loaded only by the subcommands that need them.
        for node in tree.body:
            found = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [node.module or ""]
            wrong += [f"{name}: {m}" for m in found if m.split(".")[0] in OWNERS]
    assert wrong == []


LOOP = re.compile(r"\b(for|while)\s*\(")


def test_python_prints_no_loops() -> None:
    """A loop in a string belongs in cling/."""
    wrong = [
        f"{name}:{node.lineno}"
        for name, tree in modules()
        if name.split(".")[0] != "bench"  # Its C++ loop is the clock, not the network.
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and LOOP.search(node.value)
    ]
    assert wrong == []


def test_every_operator_has_a_header_with_its_kernels() -> None:
    for cls in REGISTRY.values():
        if cls.__module__.startswith("sofie_rdf."):
            assert (PROJECT / "cling" / cls.header).is_file(), f"{cls.__name__}: {cls.header!r}"


# What Cling never reads: kernels of devices, which need the standard library, and the adapters for
# libraries of others, which tests/devices compiles.
ON_DEVICES = PROJECT / "cling" / "sofie" / "device"
ADAPTERS = [ON_DEVICES / f"{name}.hxx" for name in ("alpaka", "sycl", "blas")]
OF_THE_LIBRARY = re.compile(r"<[a-z_]+>")


def test_headers_know_neither_root_nor_other_headers_of_the_system() -> None:
    for header in HEADERS:
        found = re.findall(r'#include\s+([<"][^>"]+[>"])', header.read_text())
        foreign = [f for f in found if not f.startswith('"sofie/')]
        if header.parent == ON_DEVICES:
            foreign = [f for f in foreign if not OF_THE_LIBRARY.fullmatch(f)]
            foreign = [] if header in ADAPTERS else foreign
        if "rdf" not in header.parts and header.name != "target.hxx":
            assert foreign == [], f"{header.name} includes {foreign}"


def test_assembler_names_the_members_that_it_reads() -> None:
    """A distance that somebody counted is wrong once a member moves, and no compiler sees it."""
    for header in HEADERS:
        text = header.read_text()
        for pointer in set(re.findall(r'\[(\w+)\] "r"\(&\w+\)', text)):
            counted = re.findall(rf"(?<![\w\])+])\d+\(%\[{pointer}\]", text)
            assert not counted, f"{header.name} counts {counted}: write SOFIE_MEMBERS"


MATH = (
    "math",
    *(f"math/{n}" for n in ("rounding", "erf", "gelu", "circular", "powers", "exponentials")),
)


def test_headers_include_the_functions_that_their_templates_call() -> None:
    """A template whose function comes later compiles, but not in a model that has no other."""

    def text(header: Path) -> str:
        return re.sub(r"//.*", "", header.read_text())

    def included(header: Path) -> set[Path]:
        found, left = set[Path](), [header]
        while left:
            names = re.findall(r'#include "(sofie/[^"]+)"', left.pop().read_text())
            new = {PROJECT / "cling" / name for name in names} - found
            found |= new
            left += new
        return found

    for name in MATH:
        source = PROJECT / "cling" / "sofie" / f"{name}.hxx"
        functions = re.findall(
            r"^SOFIE_INLINE (?:V|void) (\w+)\(", source.read_text(), re.MULTILINE
        )
        assert functions, source
        call = re.compile(rf"(?<![\w.:])(?:sofie::)?(?:{'|'.join(functions)})[(<]")
        for header in (h for h in HEADERS if h.parent != ON_DEVICES):
            if header != source and source not in included(header):
                assert not call.findall(text(header)), f"{header.name} does not include {name}.hxx"


@pytest.mark.exhaustive
@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
@pytest.mark.parametrize(
    "header",
    [h for h in HEADERS if "rdf" not in h.parts and h not in ADAPTERS],
    ids=lambda h: "/".join(h.parts[-2:]),
)
def test_each_header_stands_alone(header: Path) -> None:
    command = ["g++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    command += [f"-I{PROJECT / 'cling'}", "-x", "c++", "-"]
    text = f'#include "{header.relative_to(PROJECT / "cling")}"\n'
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _lines(function: ast.FunctionDef) -> int:
    """How many lines of code it has: what it promises is said in as many as that needs."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is None:
        return lines
    return lines - (first.end_lineno or 0) + first.lineno - 1


def _functions(node: ast.AST, name: str) -> Iterator[tuple[str, int]]:
    """All functions by their qualified names, and their lines."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            inner = f"{name}.{child.name}"
            if isinstance(child, ast.FunctionDef):
                yield f"{inner}:{child.lineno}", _lines(child)
            yield from _functions(child, inner)
        else:
            yield from _functions(child, name)


_NO_CODE = re.compile(
    r"^[ \t]*\#(?:[^\n]*\\\n)*[^\n]*|//[^\n]*|/\*.*?\*/"
    r'|R"\((.*?)\)"|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'',
    re.DOTALL | re.MULTILINE,
)
_HEAD = re.compile(r"\)\s*(?:const|noexcept|override|->\s*[\w:<>,\s&*]+|:\s[^;]*|\s)*$")


@dataclass(frozen=True)
class _Function:
    """A function of C++: where it is defined, how many lines of code and parameters it has."""

    header: str
    line: int
    lines: int
    name: str
    parameters: int


def _functions_of_cxx(header: Path) -> Iterator[_Function]:
    """All of a header; those of macros and of assembler's texts are none."""
    text = _NO_CODE.sub(lambda m: "\n" * m[0].count("\n"), header.read_text())
    stack: list[tuple[int, str]] = []  # Where functions begin; -1 for what is none, or in one.
    begin = 0
    for match in re.finditer("[;{}]", text):
        head = text[begin : match.start()]
        if match[0] == "{":
            is_function = _HEAD.search(head) and max((s for s, _ in stack), default=-1) < 0
            stack.append((match.start() if is_function else -1, head))
        elif match[0] == "}":
            start, head = stack.pop()
            if start >= 0:
                line = text.count("\n", 0, start) + 1
                lines = sum(1 for line in text[start : match.end()].splitlines() if line.strip())
                place = str(header.relative_to(PROJECT / "cling" / "sofie"))
                yield _Function(place, line, lines, *_parameters(head))
        begin = match.end()


_TEMPLATE = re.compile(r"template\s*<(?:[^<>]|<[^<>]*>)*>")


def _parameters(head: str) -> tuple[str, int]:
    """The name of a function, and how many parameters it has."""
    declared = _TEMPLATE.sub("", head)
    found = re.search(r"(operator *\(\)|operator[^(]*|[\w~]+)\s*\(", declared)
    if not found:
        return "", 0
    depth, count, given = 0, 1, ""
    for letter in declared[found.end() :]:
        if letter == ")" and depth == 0:
            break
        depth += (letter in "(<[{") - (letter in ")>]}")
        count += letter == "," and depth == 0
        given += letter
    return found[1], count if given.strip() else 0


def _longest(sizes: Mapping[str, int], title: str) -> int:
    longest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    print(f"{len(sizes)} {title}; the longest: {', '.join(f'{k} {v}' for k, v in longest)}")
    return longest[0][1]


def test_sizes() -> None:
    """The longest files and functions, shown with ``pytest -s``."""
    paths = [*PACKAGE.rglob("*.py"), *HEADERS]
    files = {str(p.relative_to(PROJECT)): len(p.read_text().splitlines()) for p in paths}
    functions = dict(f for name, tree in modules() for f in _functions(tree, name))
    of_cxx = {f"{f.header}:{f.line}": f.lines for h in HEADERS for f in _functions_of_cxx(h)}
    assert _longest(files, "files") <= 900
    assert _longest(functions, "functions") <= 60
    assert _longest(of_cxx, "functions of C++") <= 60
    assert len(functions) > 3000
    assert len(of_cxx) > 1500


# So many parameters a function of C++ may have: what describes a layer is one struct.
MOST_PARAMETERS = 8


def test_functions_of_cxx_have_few_parameters() -> None:
    every = (f for header in HEADERS for f in _functions_of_cxx(header))
    many = [f"{f.header}: {f.name}" for f in every if f.parameters > MOST_PARAMETERS]
    assert not many, "put what describes a layer into a struct"


def _imported(tree: ast.Module, known: Collection[str]) -> set[str]:
    """Which modules of ours it imports when it is imported, or later."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sofie_rdf"):
            module = (node.module or "").partition(".")[2] or "__init__"
            inner = {f"{module}.{a.name}".removeprefix("__init__.") for a in node.names}
            found |= (inner & set(known)) or {module}
    return found


def test_no_circles_of_imports() -> None:
    """Neither between modules nor between folders; what only types need is left out."""
    trees = {name: _without_types(tree) for name, tree in modules()}
    edges = {name: _imported(tree, trees) & trees.keys() for name, tree in trees.items()}
    assert list(_circles(edges)) == []
    folders: dict[str, set[str]] = {}
    for name, others in edges.items():
        folders.setdefault(_folder(name), set()).update(map(_folder, others))
    assert list(_circles({f: others - {f} for f, others in folders.items()})) == []


def _folder(name: str) -> str:
    """``frontends.onnx`` of all that is in there."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if len(rest) > 1 else first


def _without_types(tree: ast.Module) -> ast.Module:
    is_type = [ast.unparse(n.test) if isinstance(n, ast.If) else "" for n in tree.body]
    body = [n for n, test in zip(tree.body, is_type, strict=True) if test != "TYPE_CHECKING"]
    return ast.Module(body, [])


def _circles(edges: Mapping[str, set[str]]) -> Iterator[set[str]]:
    """Sets of names each of which reaches all others."""
    reached = {name: _reached(edges, name) for name in edges}
    for name, others in reached.items():
        circle = {o for o in others if name in reached.get(o, ())}
        if name in others and name == min(circle):
            yield circle


def _reached(edges: Mapping[str, set[str]], name: str) -> set[str]:
    found: set[str] = set()
    left = [name]
    while left:
        new = edges.get(left.pop(), set()) - found
        found |= new
        left += new
    return found
