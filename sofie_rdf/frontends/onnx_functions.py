"""Functions: what a model defines itself, and ONNX's operators that are functions of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sofie_rdf.errors import CorruptFile
from sofie_rdf.frontends.onnx_control import CONTROL
from sofie_rdf.frontends.onnx_rules import has_rule
from sofie_rdf.ir.operator import REGISTRY

if TYPE_CHECKING:
    import onnx

__all__ = ["with_functions_inlined"]

# A function may use another one; deeper than this none of ONNX's does.
_DEEPEST = 8


def with_functions_inlined(model: onnx.ModelProto, place: str) -> onnx.ModelProto:
    """The model with nodes in place of calls of functions that are no operators of ours."""
    from onnx import inliner

    own = {(f.domain, f.name) for f in model.functions}
    for _ in range(_DEEPEST):
        wanted = {
            key for key in _used(model.graph) if key in own or _is_function_for_us(key, model)
        }
        if not wanted:
            return model
        try:
            model = inliner.inline_selected_functions(
                model, sorted(wanted), inline_schema_functions=True
            )
        except Exception as error:
            raise CorruptFile(
                f"calls functions that cannot be written out: {error}", place=place
            ) from error
    return model


def _used(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    for node in graph.node:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _used(inner)


def _is_function_for_us(key: tuple[str, str], model: onnx.ModelProto) -> bool:
    """Whether it is no operator of ours, but ONNX says what it is in terms of others."""
    from onnx import defs

    domain, name = "" if key[0] == "ai.onnx" else key[0], key[1]
    if (domain, name) in REGISTRY or has_rule(domain, name) or name in CONTROL:
        return False
    version = next((o.version for o in model.opset_import if o.domain in (key[0], domain)), 0)
    if not version or not defs.has(name, version, domain):
        return False
    schema: Any = defs.get_schema(name, version, domain)
    return bool(schema.has_function or schema.has_context_dependent_function)
