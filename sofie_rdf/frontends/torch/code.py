"""TorchScript's code, read before anything of it runs, and written anew from what was understood.

torch compiles what stands in an archive and runs it while the model is loaded and looked at. The
language looks like Python; what torch writes of it is assignments, branches, loops, and calls of
operators and of functions of the archive. So the text is parsed, each kind of statement and
expression must be one of these, and each operator one that has no effect but its result
(`torch.operators`). Comments and ways of writing that another parser might understand otherwise do
not reach torch: it gets the text of the tree that was checked.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping

from sofie_rdf.errors import CorruptFile, UnsupportedFormat
from sofie_rdf.frontends.torch.operators import is_allowed, is_method

__all__ = ["checked"]

_BASES = frozenset(("Module", "NamedTuple", "Interface", "ModuleInterface", "Enum", "Object"))
# What is called by its name alone, besides functions of the archive that a variable stands for.
_FUNCTIONS = frozenset(
    """annotate uninitialized unchecked_cast getattr hasattr range rangelist len int float bool
    complex str isinstance list dict tuple min max abs round ord chr zip enumerate sorted
    Exception AssertionError ValueError RuntimeError TypeError IndexError KeyError
    NotImplementedError""".split()
)
# Operators on texts and on anything, which a method of the archive must not be called like.
_EFFECTS = frozenset("from_file save set_ set_data _print wait to_here".split())
_STATEMENTS = (
    *(ast.Assign, ast.AnnAssign, ast.Expr, ast.If, ast.While, ast.For, ast.Return, ast.Pass),
    *(ast.Raise, ast.Break, ast.Continue),
)
_EXPRESSIONS = (
    *(ast.Name, ast.Attribute, ast.Call, ast.Constant, ast.List, ast.Tuple, ast.Dict),
    *(ast.Subscript, ast.UnaryOp, ast.IfExp),
)
_OTHERS = (ast.keyword, ast.USub, ast.Load, ast.Store, ast.arguments, ast.arg)
_KNOWN = frozenset[type[ast.AST]]((*_STATEMENTS, *_EXPRESSIONS, *_OTHERS))
_DEEPEST = 150


def checked(texts: Mapping[str, bytes], place: str) -> dict[str, bytes]:
    """The code of an archive, file by file, as torch is given it.

    Raises `UnsupportedFormat` for what could have an effect, `CorruptFile` for what is no code.
    """
    trees = {name: _parsed(name, text, place) for name, text in texts.items()}
    members = frozenset(_members(trees.values()))
    return {name: _written(tree, members, place) for name, tree in trees.items()}


def _written(tree: ast.Module, members: frozenset[str], place: str) -> bytes:
    try:
        _Checker(members, place).module(tree)
        _write_literals(tree)
        return ast.unparse(tree).encode() + b"\n"
    except RecursionError:
        raise CorruptFile("has code that is too deep", place=place) from None


def _parsed(name: str, text: bytes, place: str) -> ast.Module:
    try:
        # torch writes other letters as escapes.
        return ast.parse(text.decode("ascii"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CorruptFile(
            f"has code in {name!r} that cannot be read: {what}", place=place
        ) from error


def _members(trees: Iterable[ast.Module]) -> Iterable[str]:
    """The names of all methods and attributes that classes of the archive have."""
    for tree in trees:
        for node in tree.body:  # Classes in anything else are refused.
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    yield from _names_of(inner)


def _names_of(statement: ast.stmt) -> Iterable[str]:
    match statement:
        case ast.FunctionDef(name=name):
            yield name
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Assign(targets=[ast.Name(id=name)]):
            yield name
        case ast.Assign(targets=[ast.Subscript(slice=ast.Constant(value=str(name)))]):
            yield name


class _Checker:
    """Looks at each node of a tree, with what the functions around it have as variables."""

    def __init__(self, members: frozenset[str], place: str) -> None:
        self.members, self.place = members, place
        self.variables: set[str] = set()

    def refuse(self, what: str) -> UnsupportedFormat:
        return UnsupportedFormat(
            f"has code that says {what[:80]!r}, which no network needs and which could run "
            "anything when torch loads it",
            place=self.place,
            remedy="Export the module itself: torch.export.save, or sofie_rdf.from_torch",
        )

    def module(self, tree: ast.Module) -> None:
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                self._class(node)
            elif isinstance(node, ast.FunctionDef):
                self._function(node)
            else:
                raise self.refuse(_shown(node))

    def _class(self, node: ast.ClassDef) -> None:
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        if len(bases) != len(node.bases) or not _BASES.issuperset(bases) or len(bases) > 1:
            raise self.refuse(f"class {node.name}")
        if node.keywords or node.decorator_list:
            raise self.refuse(f"class {node.name}")
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef):
                self._function(inner)
            elif isinstance(inner, (ast.Assign, ast.AnnAssign, ast.Pass)):
                self.variables = {"__annotations__"}
                self._node(inner, 0)
            else:
                raise self.refuse(_shown(inner))

    def _function(self, node: ast.FunctionDef) -> None:
        if node.decorator_list or node.name in _EFFECTS or node.args.vararg or node.args.kwarg:
            raise self.refuse(f"def {node.name}")
        arguments = (inner.arg for inner in _within(node.args) if isinstance(inner, ast.arg))
        self.variables = {*arguments, *_stored(node)}
        for part in (node.args, *([node.returns] if node.returns else []), *node.body):
            self._node(part, 0)

    def _node(self, node: ast.AST, depth: int) -> None:
        if type(node) not in _KNOWN or depth > _DEEPEST:
            raise self.refuse(_shown(node))
        if isinstance(node, ast.Attribute):
            self._attribute(node)
        elif isinstance(node, ast.Call):
            self._call(node)
        elif isinstance(node, ast.Constant):
            self._constant(node)
        elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.USub):
            raise self.refuse(_shown(node))
        for child in _children(node):
            self._node(child, depth + 1)

    def _attribute(self, node: ast.Attribute) -> None:
        """Operators and constants by their dotted names, else attributes of values."""
        chain = _chain(node)
        root = chain[0] if chain else ""
        if root in self.variables or root not in _ROOTS:
            self._member(node.attr)
        elif not self._is_known(chain):
            # The parts of a longer name are looked at with the whole.
            raise self.refuse(".".join(chain))

    def _is_known(self, chain: list[str]) -> bool:
        match chain:
            case ["torch", name]:
                return is_allowed("aten", name)
            case ["ops", _]:
                return True
            case ["ops", namespace, name]:
                return is_allowed(namespace, name)
            case ["CONSTANTS", name]:
                return bool(re.fullmatch(r"c\d+", name))
            case ["__torch__", "torch", "classes", *_]:
                return False
            case ["__torch__", *names]:
                return not _EFFECTS.intersection(names)
        return False

    def _member(self, name: str) -> None:
        if name in _EFFECTS or not (name in self.members or is_method(name)):
            raise self.refuse(f".{name}")

    def _call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name):
            name = node.func.id
            if name not in _FUNCTIONS and name not in self.variables:
                raise self.refuse(f"{name}(...)")
            if name in ("getattr", "hasattr"):
                self._named_member(node)
        elif not isinstance(node.func, ast.Attribute):
            raise self.refuse(_shown(node.func))
        if any(keyword.arg is None for keyword in node.keywords):
            raise self.refuse("**")

    def _named_member(self, node: ast.Call) -> None:
        match node:
            case ast.Call(args=[_, ast.Constant(value=str(name))], keywords=[]):
                self._member(name)
            case _:
                raise self.refuse("getattr")

    def _constant(self, node: ast.Constant) -> None:
        value = node.value
        good = value is None or isinstance(value, (bool, str))
        good = good or (type(value) is int and abs(value) < 2**64)
        if isinstance(value, float):
            good = math.isfinite(value)
        if isinstance(value, str):
            good = all(ord(c) < 256 for c in value) and node.kind is None
        if not good:
            raise self.refuse(_shown(node))


_ROOTS = frozenset(("torch", "ops", "CONSTANTS", "__torch__"))


# What has nothing in it but how it is used: it is read, or assigned to.
_LEAVES = frozenset[type[ast.AST]]((ast.Name, ast.Constant, ast.Load, ast.Store, ast.USub))


def _children(node: ast.AST) -> list[ast.AST]:
    """As `ast.iter_child_nodes`, which takes twice as long; of a name it has nothing to say."""
    if type(node) in _LEAVES:
        return []
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, ast.AST):
            found.append(value)
        elif isinstance(value, list):
            found += [inner for inner in value if isinstance(inner, ast.AST)]
    return found


def _within(node: ast.AST) -> list[ast.AST]:
    """The node, and all that are in it."""
    found = [node]
    for inner in found:  # It grows meanwhile.
        found += _children(inner)
    return found


def _stored(node: ast.AST) -> list[str]:
    names = (inner for inner in _within(node) if isinstance(inner, ast.Name))
    return [name.id for name in names if isinstance(name.ctx, ast.Store)]


def _chain(node: ast.expr) -> list[str]:
    """The parts of a dotted name; empty if it begins with no name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def _shown(node: ast.AST) -> str:
    try:
        return ast.unparse(node).splitlines()[0]
    except (RecursionError, ValueError, IndexError, AttributeError):
        return type(node).__name__


def _write_literals(tree: ast.AST) -> None:
    """Texts as torch writes them: letters beyond ASCII are bytes, in octal digits."""
    for node in _within(tree):
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.Constant):
                setattr(node, name, _literal(value))
            elif isinstance(value, list):
                value[:] = [_literal(v) if isinstance(v, ast.Constant) else v for v in value]


def _literal(node: ast.Constant) -> ast.expr:
    if not isinstance(node.value, str):
        return node
    letters = (
        f"\\{byte:03o}" if byte < 32 or byte > 126 or chr(byte) in "\\\"'" else chr(byte)
        for byte in node.value.encode("latin-1")
    )
    return ast.Name(f'"{"".join(letters)}"', ast.Load())
