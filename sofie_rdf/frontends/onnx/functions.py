"""Functions: what a model defines itself, and ONNX's operators that are functions of others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from sofie_rdf import isolation, limits
from sofie_rdf.errors import CorruptFile, SofieError
from sofie_rdf.frontends.onnx.control import CONTROL
from sofie_rdf.frontends.onnx.rules import has_rule
from sofie_rdf.ir.operator import REGISTRY

if TYPE_CHECKING:
    import onnx

__all__ = ["sound_models", "with_functions_inlined"]

# Domain and name.
_Key: TypeAlias = tuple[str, str]

# A function may use another one; deeper than this none of ONNX's does.
_DEEPEST = 8

_is_sound = ContextVar("_is_sound", default=False)


@contextmanager
def sound_models() -> Iterator[None]:
    """Meanwhile, models are our own and all types are known: no other process is needed."""
    token = _is_sound.set(True)
    try:
        yield
    finally:
        _is_sound.reset(token)


def with_functions_inlined(model: onnx.ModelProto, place: str) -> onnx.ModelProto:
    """The model with nodes in place of calls of functions that are no operators of ours."""
    own = {(f.domain, f.name) for f in model.functions}
    for _ in range(_DEEPEST):
        wanted = {
            key for key in _used(model.graph) if key in own or _is_function_for_us(key, model)
        }
        if not wanted:
            return model
        _refuse_untyped(model.graph, place)
        _spend(model, wanted)
        model = _inlined(model, sorted(wanted), place, apart=not wanted <= own)
    return model


def _inlined(
    model: onnx.ModelProto, wanted: list[_Key], place: str, *, apart: bool
) -> onnx.ModelProto:
    """The model without calls of these functions; in another process where that is needed.

    What ONNX's own functions become depends on the types of their inputs, and onnx's code crashes
    where it does not know them.
    """
    try:
        if not apart or _is_sound.get():
            return inlined(model, wanted)
        where = f"{__name__}:{inlined_bytes.__name__}"
        content = isolation.call(where, model.SerializeToString(), wanted, place=place)
        made: onnx.ModelProto = type(model).FromString(content)
        return made
    except SofieError:
        raise
    except Exception as error:
        raise CorruptFile(
            f"calls functions that cannot be written out: {error}", place=place
        ) from error


def inlined(model: onnx.ModelProto, wanted: list[_Key]) -> onnx.ModelProto:
    """What onnx makes of it."""
    from onnx import inliner

    return inliner.inline_selected_functions(model, wanted, inline_schema_functions=True)


def inlined_bytes(content: bytes, wanted: list[_Key]) -> bytes:
    """The same of a model as bytes."""
    import onnx

    return bytes(inlined(onnx.ModelProto.FromString(content), wanted).SerializeToString())


def _refuse_untyped(graph: onnx.GraphProto, place: str) -> None:
    """`CorruptFile` for an input whose type says nothing: onnx's own code crashes on those."""
    for value in (*graph.input, *graph.value_info):
        if not value.type.WhichOneof("value"):
            raise CorruptFile(f"says nothing about the type of {value.name!r}", place=place)


def _spend(model: onnx.ModelProto, wanted: AbstractSet[_Key]) -> None:
    """Count what is written out before it is: functions of functions grow like powers."""
    nodes, nbytes = _Costs(model, wanted).of(model.graph.node)
    limits.require(bytes=nbytes, nodes=nodes, what="the calls of functions, written out,")


# What a function of ONNX that is no operator of ours is made of, about.
_SCHEMA_NODES, _SCHEMA_BYTES = 30, 4096


class _Costs:
    """How many nodes and bytes calls become at most."""

    def __init__(self, model: onnx.ModelProto, wanted: AbstractSet[_Key]) -> None:
        self.wanted = wanted
        # There may be several of one name.
        self.functions: dict[_Key, list[onnx.FunctionProto]] = {}
        for function in model.functions:
            self.functions.setdefault((function.domain, function.name), []).append(function)
        # What a call hands over may be written out wherever the function reads an attribute.
        nodes = (model.graph, *model.functions)
        calls = (n for part in nodes for n in _all_nodes(part.node) if self._is_call(n))
        handed = (a.ByteSize() for call in calls for a in call.attribute)
        defaults = (a.ByteSize() for f in model.functions for a in f.attribute_proto)
        self.largest = max((*handed, *defaults), default=0)
        self.known: dict[_Key, tuple[int, int]] = {}

    def _is_call(self, node: onnx.NodeProto) -> bool:
        return (node.domain, node.op_type) in self.wanted

    def of(self, nodes: Iterable[onnx.NodeProto]) -> tuple[int, int]:
        """What these nodes become, and what is in graphs in their attributes."""
        count = nbytes = 0
        for node in _all_nodes(nodes):
            more = self._of_call(node) if self._is_call(node) else (1, node.ByteSize())
            read = sum(bool(a.ref_attr_name) for a in node.attribute)
            count, nbytes = count + more[0], nbytes + more[1] + read * self.largest
        return count, nbytes

    def _of_call(self, node: onnx.NodeProto) -> tuple[int, int]:
        key = (node.domain, node.op_type)
        if key not in self.functions:
            return _SCHEMA_NODES, _SCHEMA_BYTES
        if key not in self.known:
            self.known[key] = 0, 0  # Of one that calls itself the inliner says that it does.
            self.known[key] = max(self.of(function.node) for function in self.functions[key])
        return self.known[key]


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _all_nodes(inner.node)


def _used(graph: onnx.GraphProto) -> Iterator[_Key]:
    return ((node.domain, node.op_type) for node in _all_nodes(graph.node))


def _is_function_for_us(key: _Key, model: onnx.ModelProto) -> bool:
    """Whether it is no operator of ours, but ONNX says what it is in terms of others."""
    from onnx import defs

    domain, name = "" if key[0] == "ai.onnx" else key[0], key[1]
    if (domain, name) in REGISTRY or has_rule(domain, name) or name in CONTROL:
        return False
    version = next((o.version for o in model.opset_import if o.domain in (key[0], domain)), 0)
    # Larger numbers are none of onnx's.
    if not 0 < version < 2**31 or not defs.has(name, version, domain):
        return False
    schema: Any = defs.get_schema(name, version, domain)
    return bool(schema.has_function or schema.has_context_dependent_function)
