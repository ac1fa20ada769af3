"""Exported programs as torch writes them in JSON, read by a list of what may stand where.

What torch makes of a program is more than data: it evaluates sizes as Python, looks up functions by
their dotted names, imports modules that a tree names, and writes names into Python code. So every
record has the keys that are listed here, with values of these kinds, and what is handed on is
written from what was understood. Notes for people, which torch also looks up, are left out.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

from sofie_rdf.errors import UnsupportedFormat
from sofie_rdf.frontends.torch.operators import is_known_target

__all__ = ["TENSOR_META", "Wrong", "mapped", "program", "record", "refusal", "text", "truth"]

# What a value may be: gives it as it is written anew, or raises `Wrong`.
Kind: TypeAlias = Callable[[Any], Any]


class Wrong(Exception):
    """A value that is not what stands in such a place, and the keys that lead to it."""

    def __init__(self, value: Any) -> None:
        self.shown = value if isinstance(value, str) else json.dumps(value, default=str)
        self.path: list[str] = []
        super().__init__(value)


def refusal(wrong: Wrong, place: str) -> UnsupportedFormat:
    where = ".".join(reversed(wrong.path[:4]))
    return UnsupportedFormat(
        f"says {wrong.shown[:80]!r} as {where or 'its program'}, which could run anything when "
        "torch loads it",
        place=place,
        remedy="If torch wrote this file, export the model with the version of torch that is here, "
        "or to ONNX",
    )


def program(value: Any) -> Any:
    """An exported program as it is written anew; raises `Wrong` for what no program says."""
    return _PROGRAM(value)


# Kinds --------------------------------------------------------------------------------------------


def record(**fields: Kind) -> Kind:
    """A record with at most these keys; others may be there if they say nothing."""

    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise Wrong(value)
        found = {}
        for key, inner in value.items():
            kind = fields.get(key)
            if kind is None:
                if inner not in (None, "", False) and inner != [] and inner != {}:
                    raise _at(key, Wrong(key))
                continue
            try:
                found[key] = kind(inner)
            except Wrong as wrong:
                raise _at(key, wrong) from None
        return found

    return read


def union(**fields: Kind) -> Kind:
    """One of these keys, and its value."""

    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict or len(value) != 1:
            raise Wrong(value)
        ((key, inner),) = value.items()
        if key not in fields:
            raise Wrong(key)
        try:
            return {key: fields[key](inner)}
        except Wrong as wrong:
            raise _at(key, wrong) from None

    return read


def _at(key: str, wrong: Wrong) -> Wrong:
    wrong.path.append(key)
    return wrong


def listed(kind: Kind) -> Kind:
    def read(value: Any) -> list[Any]:
        if type(value) is not list:
            raise Wrong(value)
        return [kind(inner) for inner in value]

    return read


def mapped(key: Kind, kind: Kind) -> Kind:
    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise Wrong(value)
        return {key(k): kind(v) for k, v in value.items()}

    return read


def maybe(kind: Kind) -> Kind:
    return lambda value: None if value is None else kind(value)


def later(name: str) -> Kind:
    """A kind that is defined below."""
    return lambda value: globals()[name](value)


def matching(pattern: str) -> Kind:
    full = re.compile(pattern, re.ASCII)

    def read(value: Any) -> str:
        if type(value) is not str or not full.fullmatch(value):
            raise Wrong(value)
        return value

    return read


def number(value: Any) -> int:
    if type(value) is not int or not -(2**64) < value < 2**64:
        raise Wrong(value)
    return value


def real(value: Any) -> Any:
    if value in ("Infinity", "-Infinity", "NaN") or type(value) is float:
        return value
    return number(value)


def truth(value: Any) -> bool:
    if type(value) is not bool:
        raise Wrong(value)
    return value


def text(value: Any) -> str:
    """Any text, in a place where it is never more than that."""
    if type(value) is not str:
        raise Wrong(value)
    return value


def left_out(_value: Any) -> dict[str, str]:
    """Notes for people."""
    return {}


# What becomes a name in Python.
name = matching(r"([A-Za-z_]\w*)?")
# The dotted name of a tensor or module; names of modules are mostly free.
words = matching(r"[\w.:#<>*/ \-]*")
code = matching(r"\d{1,3}(\.\d{1,4})?|<=2\.4")


def target(value: Any) -> str:
    if type(value) is not str or not is_known_target(value):
        raise Wrong(value)
    return value


# Sizes --------------------------------------------------------------------------------------------

_FUNCTIONS = frozenset(
    """Abs Add And CeilDiv CeilToInt CleanDiv Eq Equality Float FloatPow FloatTrueDiv FloorDiv
    FloorToInt Ge Gt Identity IntTrueDiv Integer IsNonOverlappingAndDenseIndicator LShift Le Lt Max
    Min Mod ModularIndexing Mul Ne Not Or Pow PowByNatural PythonMod RShift Rational RoundDecimal
    RoundToInt Symbol ToFloat TruncToFloat TruncToInt Where ceiling floor sqrt Unequality
    GreaterThan LessThan StrictGreaterThan StrictLessThan""".split()
)
_POWERS = frozenset(("Pow", "FloatPow", "PowByNatural", "LShift"))
_SYMBOL = re.compile(r"[A-Za-z_]\w*")
_NAME = re.compile(r"[a-z_]+\d+|int_oo|oo|nan|true|false")
_SYNTAX = (
    *(ast.Expression, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Call, ast.Name),
    *(ast.Constant, ast.Load, ast.keyword, ast.boolop, ast.unaryop, ast.operator, ast.cmpop),
)
_LONGEST_EXPRESSION = 20_000
_LARGEST_POWER = 64


def expression(value: Any) -> str:
    """Arithmetic over sizes, written anew: sympy evaluates it as Python."""
    if type(value) is not str or len(value) > _LONGEST_EXPRESSION:
        raise Wrong(value)
    return _arithmetic(value)


@lru_cache(1000)
def _arithmetic(value: str) -> str:
    """The same of a text; each size of a program stands in it many times."""
    try:
        tree = ast.parse(value.strip(), mode="eval")
        called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
        if not all(id(n) in called or _is_arithmetic(n) for n in ast.walk(tree)):
            raise Wrong(value)
        return ast.unparse(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Wrong(value) from None


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        function = node.func.id if isinstance(node.func, ast.Name) else ""
        small = function not in _POWERS or (len(node.args) == 2 and _is_small(*node.args))
        symbol = function == "Symbol" or not any(_is_text(a) for a in node.args)
        keys = {k.arg for k in node.keywords}
        plain = all(isinstance(k.value, ast.Constant) for k in node.keywords) and None not in keys
        return function in _FUNCTIONS and small and plain and (symbol or function == "Float")
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Pow, ast.LShift)):
        return _is_small(node.left, node.right)
    if isinstance(node, ast.Name):
        return bool(_NAME.fullmatch(node.id))
    if isinstance(node, ast.Constant):
        return _is_plain_constant(node.value)
    return isinstance(node, _SYNTAX)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_plain_constant(value: object) -> bool:
    if isinstance(value, str):
        return bool(_SYMBOL.fullmatch(value) or re.fullmatch(r"-?[\d.e+\-]{1,40}", value))
    return isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 2**64)


def _is_small(base: ast.expr, exponent: ast.expr) -> bool:
    """Whether such a power is no number that fills the memory."""
    inside = list(ast.walk(exponent))
    numbers = [n.value for n in inside if isinstance(n, ast.Constant)]
    plain = not any(isinstance(n, (ast.Mult, ast.Pow, ast.LShift)) for n in inside)
    plain = plain and not any(_is_power(n) for n in (*inside, *_numeric(base)))
    return plain and all(isinstance(n, str) or abs(n) <= _LARGEST_POWER for n in numbers)  # type: ignore[arg-type]


def _numeric(base: ast.expr) -> list[ast.AST]:
    """What is in a base without symbols; with them it stays a formula."""
    inside = list(ast.walk(base))
    called = {id(n.func) for n in inside if isinstance(n, ast.Call)}
    symbols = any(isinstance(n, ast.Name) and id(n) not in called for n in inside)
    return [] if symbols or any(_is_text(n) for n in inside) else inside


def _is_power(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in (*_POWERS, "Mul")
    return isinstance(node, (ast.Pow, ast.LShift))


# Trees of arguments -------------------------------------------------------------------------------

_PLAIN_TREES = frozenset(("builtins.tuple", "builtins.list"))
_FACTORIES = frozenset(("list", "dict", "int", "float", "set", "str", "tuple", "bool"))
_type_name = matching(r"[A-Za-z_][\w.]*")


def tree(value: Any) -> str:
    """How arguments are nested, as text in JSON; what imports modules is not written again."""
    try:
        version, root = json.loads(text(value))
    except (ValueError, TypeError, RecursionError):
        raise Wrong(value) from None
    return json.dumps([number(version), _tree_node(root, at_top=True)])


def _tree_node(value: Any, *, at_top: bool = False) -> dict[str, Any]:
    node = record(type=maybe(_type_name), context=lambda v: v, children_spec=lambda v: v)(value)
    kind, context = node.get("type"), node.get("context")
    children = listed(_tree_node)(node.get("children_spec"))
    if kind == "builtins.tuple" and at_top and len(children) == 2:
        # Keywords of forward, which become parameters of a function.
        _keywords(children[1])
    return {"type": kind, "context": _context(kind, context), "children_spec": children}


def _keywords(node: dict[str, Any]) -> None:
    if node["type"] == "builtins.dict":
        listed(name)(json.loads(node["context"]))


def _context(kind: str | None, context: Any) -> Any:
    if kind == "collections.namedtuple":
        return _type_name(context) if isinstance(context, str) else _namedtuple(context)
    if kind == "collections.defaultdict":
        read = record(
            default_factory_module=matching("builtins"),
            default_factory_name=_factory,
            dict_context=_keys,
        )
        return read(context)
    if context is None:
        return None
    if not isinstance(context, str):
        return _keys(context)
    try:
        inside = json.loads(context)
    except (ValueError, RecursionError):
        return words(context)
    return json.dumps(_keys(inside))


def _namedtuple(context: Any) -> Any:
    return record(class_name=_type_name, fields=listed(name))(context)


def _factory(value: Any) -> str:
    if value not in _FACTORIES:
        raise Wrong(value)
    return str(value)


def _keys(value: Any) -> Any:
    """Keys of a dict, or what else describes a container: words and numbers, in lists."""
    if isinstance(value, list):
        return [_keys(inner) for inner in value]
    return words(value) if isinstance(value, str) else maybe(_number_or_truth)(value)


def _number_or_truth(value: Any) -> Any:
    return value if type(value) is bool else number(value)


# Records, as in torch's own schema ----------------------------------------------------------------

_DEVICE = record(type=matching("[a-z]{1,20}"), index=maybe(number))
_HINT = union(as_int=number, as_bool=truth, as_float=real)
_SYM_EXPR = record(expr_str=expression, hint=maybe(_HINT))
_SYM_INT = union(as_expr=_SYM_EXPR, as_int=number)
_SYM_FLOAT = union(as_expr=_SYM_EXPR, as_float=real)
_SYM_BOOL = union(as_expr=_SYM_EXPR, as_bool=truth)
TENSOR_META = record(
    dtype=number,
    sizes=listed(_SYM_INT),
    requires_grad=truth,
    device=_DEVICE,
    strides=listed(_SYM_INT),
    storage_offset=_SYM_INT,
    layout=number,
)
_INT = union(as_name=name, as_int=number)
_FLOAT = union(as_name=name, as_float=real)
_BOOL = union(as_name=name, as_bool=truth)
_TENSOR = record(name=name)
_OPTIONAL = union(as_tensor=_TENSOR, as_none=truth)
_argument = later("_ARGUMENT")
_ARGUMENT = union(
    as_none=truth,
    as_tensor=_TENSOR,
    as_tensors=listed(_TENSOR),
    as_int=number,
    as_ints=listed(number),
    as_float=real,
    as_floats=listed(real),
    as_string=text,
    as_strings=listed(text),
    as_sym_int=_INT,
    as_sym_ints=listed(_INT),
    as_scalar_type=number,
    as_memory_format=number,
    as_layout=number,
    as_device=_DEVICE,
    as_bool=truth,
    as_bools=listed(truth),
    as_sym_bool=_BOOL,
    as_sym_bools=listed(_BOOL),
    as_graph=record(name=name, graph=later("_GRAPH")),
    as_optional_tensors=listed(_OPTIONAL),
    as_operator=target,
    as_sym_float=_FLOAT,
    as_sym_floats=listed(_FLOAT),
    as_optional_tensor=_OPTIONAL,
    as_complex=record(real=real, imag=real),
    as_nested_tensors=listed(listed(_TENSOR)),
    as_int_lists=listed(listed(number)),
    as_string_to_argument=mapped(name, _argument),
    as_float_lists=listed(listed(real)),
)
_NODE = record(
    target=target,
    inputs=listed(record(name=name, arg=_argument, kind=maybe(number))),
    outputs=listed(_argument),
    metadata=left_out,
    is_hop_single_tensor_return=maybe(truth),
    name=maybe(name),
)
_GRAPH = record(
    inputs=listed(_argument),
    outputs=listed(_argument),
    nodes=listed(_NODE),
    tensor_values=mapped(name, TENSOR_META),
    sym_int_values=mapped(name, _SYM_INT),
    sym_bool_values=mapped(name, _SYM_BOOL),
    is_single_tensor_return=truth,
    sym_float_values=mapped(name, _SYM_FLOAT),
)
_CONSTANT = union(as_none=truth, as_int=number, as_float=real, as_string=text, as_bool=truth)
_INPUT = union(
    user_input=record(arg=_argument),
    parameter=record(arg=_TENSOR, parameter_name=words),
    buffer=record(arg=_TENSOR, buffer_name=words, persistent=truth),
    tensor_constant=record(arg=_TENSOR, tensor_constant_name=words),
    constant_input=record(name=name, value=_CONSTANT),
    token=record(arg=_TENSOR),
)
_OUTPUT = union(
    user_output=record(arg=_argument),
    loss_output=record(arg=_TENSOR),
    buffer_mutation=record(arg=_TENSOR, buffer_name=words),
    parameter_mutation=record(arg=_TENSOR, parameter_name=words),
    gradient_to_parameter=record(arg=_TENSOR, parameter_name=words),
    gradient_to_user_input=record(arg=_TENSOR, user_input_name=name),
    user_input_mutation=record(arg=_TENSOR, user_input_name=name),
    token=record(arg=_TENSOR),
)
_CALL = record(
    inputs=listed(_argument),
    outputs=listed(_argument),
    in_spec=tree,
    out_spec=tree,
    forward_arg_names=maybe(listed(name)),
)
_MODULE = record(
    graph=_GRAPH,
    signature=record(input_specs=listed(_INPUT), output_specs=listed(_OUTPUT)),
    module_call_graph=listed(record(fqn=words, signature=maybe(_CALL))),
    metadata=left_out,
    treespec_namedtuple_fields=mapped(_type_name, record(field_names=listed(name))),
)
_PROGRAM = record(
    graph_module=_MODULE,
    opset_version=mapped(matching(r"\w+"), number),
    range_constraints=mapped(
        matching(r"[a-z_]+\d+"), record(min_val=maybe(number), max_val=maybe(number))
    ),
    schema_version=record(major=number, minor=number),
    verifiers=listed(matching("ATEN|TRAINING|EDGE|")),
    torch_version=matching(r"[\w.+<=\-]*"),
    # Checks of sizes in Python. They are not wanted: other sizes are to be tried.
    guards_code=lambda _: [],
)
