"""Graph networks as SOFIE has them: a Session that turns a `GNN_Data` into another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.compat.rmodel import RModel
from sofie_rdf.emit.session import Emission, namespace_of
from sofie_rdf.errors import MissingDependency, ModelError
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Graph
from sofie_rdf.model import Model, from_graph_nets
from sofie_rdf.runtime.compile.interpreter import import_cppyy

__all__ = ["GraphModel", "RModel_GNN", "RModel_GraphIndependent", "array_interface", "as_tensor"]

# What a value of a graph network is, told by its name; and the member of GNN_Data that has it.
_MEMBERS = {
    "nodes": "node_data",
    "edges": "edge_data",
    "globals": "global_data",
    "receivers": "receivers",
    "senders": "senders",
}


class GraphModel(RModel):
    """A network with the inputs nodes, edges, globals, receivers and senders, or some of them.

    Its header has two classes: the network's own Session in ``TMVA_SOFIE_NAME_network``, and around
    it one in ``TMVA_SOFIE_NAME`` whose ``infer(GNN_Data &)`` replaces the features of a graph.
    """

    def __init__(self, model: Model, filename: str = "") -> None:
        self._name = filename or model.name
        graph = replace(model.graph, name=f"{self._name}_network")
        super().__init__(Model(graph, model.extras))
        _ = _roles(graph, graph.inputs), _roles(graph, graph.outputs)

    def GetName(self) -> str:
        return self._name

    def GetNamespace(self) -> str:
        return namespace_of(self._name)

    def _emission(self, header: Path) -> Emission:
        emission = super()._emission(header)
        around = "\n".join(_session(self._made.graph, self._name, emission))
        return replace(emission, header=emission.header + around)


class RModel_GNN:  # noqa: N801 (SOFIE's name)
    """``RModel_GNN.ParseFromMemory(module, data, filename="gnn")``"""

    @staticmethod
    def ParseFromMemory(
        graph_module: Any, graph_data: Mapping[str, Any], filename: str = "gnn_network"
    ) -> GraphModel:
        """The GraphNetwork of the package graph_nets, which has seen data once."""
        return _from_memory(graph_module, graph_data, filename)


class RModel_GraphIndependent:  # noqa: N801 (SOFIE's name)
    """``RModel_GraphIndependent.ParseFromMemory(module, data, filename="encoder")``"""

    @staticmethod
    def ParseFromMemory(
        graph_module: Any,
        graph_data: Mapping[str, Any],
        filename: str = "graph_independent_network",
    ) -> GraphModel:
        """The GraphIndependent of the package graph_nets, which has seen data once."""
        return _from_memory(graph_module, graph_data, filename)


def _from_memory(module: Any, data: Mapping[str, Any], filename: str) -> GraphModel:
    try:
        from graph_nets import utils_tf
    except ImportError as error:
        raise MissingDependency(
            "this needs graph_nets, sonnet and tensorflow",
            remedy="pip install graph_nets dm-sonnet tensorflow-cpu",
        ) from error
    example = utils_tf.data_dicts_to_graphs_tuple([dict(data)])
    return GraphModel(from_graph_nets(module, example, name=filename), filename)


# The class around the network ---------------------------------------------------------------------


def _roles(graph: Graph, names: Iterable[str]) -> dict[str, str]:
    """What each value is: a key of `_MEMBERS`."""
    found: dict[str, str] = {}
    for name in names:
        kinds = [kind for kind in _MEMBERS if kind in name.lower() or kind[:-1] in name.lower()]
        if len(kinds) != 1 or kinds[0] in found.values():
            raise ModelError(
                f"{name!r} is none of {', '.join(_MEMBERS)}, or one of them again",
                place=graph.name,
                remedy="Name the inputs and outputs so, each once",
            )
        found[name] = kinds[0]
    return found


def _rows(graph: Graph, inputs: Mapping[str, str]) -> dict[str, str]:
    """The C++ expression of each named size; one that is no number of nodes or edges is 1."""
    found = dict.fromkeys(graph.symbols, "1")
    for name, kind in inputs.items():
        if kind in ("nodes", "edges", "senders", "receivers"):
            first = str(graph.types[name].shape[0])
            found[first] = "nodes" if kind == "nodes" else "edges"
    return {name: text for name, text in found.items() if name in graph.symbols}


def _features(graph: Graph, kind: str, roles: Mapping[str, str]) -> Dim:
    name = next((name for name, found in roles.items() if found == kind), "")
    return graph.types[name].shape[-1] if name else 0


def _session(graph: Graph, name: str, emission: Emission) -> Iterable[str]:
    inputs, outputs = _roles(graph, graph.inputs), _roles(graph, graph.outputs)
    space = namespace_of(name)
    sizes = _rows(graph, inputs)
    wanted = [str(_features(graph, kind, inputs)) for kind in ("nodes", "edges", "globals")]
    yield f"#ifndef {space}_HXX"
    yield f"#define {space}_HXX"
    yield ""
    yield '#include "sofie/rdf/words/graphs.hxx"'
    yield ""
    yield f"namespace {space} {{"
    yield ""
    yield "/// Replaces the features of a graph by those that the network computes."
    yield "class Session {"
    yield f"   {emission.namespace}::Session network_;"
    yield ""
    yield "public:"
    weights = "" if emission.source.kind == "header" else "weights"
    yield f"   explicit Session({emission.source.parameter}) : network_({weights}) {{}}"
    yield "   void infer(TMVA::Experimental::SOFIE::GNN_Data &data)"
    yield "   {"
    yield "      using namespace TMVA::Experimental;"
    yield f"      SOFIE::require_graph(data, {{{', '.join(wanted)}}});"
    for rows, member in (("nodes", "node_data"), ("edges", "edge_data")):
        yield f"      [[maybe_unused]] const std::size_t {rows} = data.{member}.GetShape()[0];"
    arguments = [sizes[s] for s in graph.symbols]
    for value, kind in inputs.items():
        dtype = graph.types[value].dtype.cxx
        if kind in ("receivers", "senders"):
            row = 0 if kind == "receivers" else 1
            yield f"      const auto {kind} = SOFIE::edge_ends<{dtype}>(data, {row});"
            arguments.append(f"{kind}.data()")
        else:
            arguments.append(f"std::as_const(data.{_MEMBERS[kind]}).GetData()")
    for value, kind in outputs.items():
        size = graph.types[value].shape[-1]
        shape = f"{{{size}}}" if kind == "globals" else f"{{{kind}, {size}}}"
        yield f"      RTensor<float> new_{kind}(std::vector<std::size_t>{shape});"
        arguments.append(f"new_{kind}.GetData()")
    yield f"      network_.infer({', '.join(arguments)});"
    for kind in outputs.values():
        yield f"      data.{_MEMBERS[kind]} = new_{kind};"
    yield "   }"
    yield "};"
    yield ""
    yield f"}} // namespace {space}"
    yield ""
    yield "#endif"
    yield ""


def as_tensor(root: Any, array: Any) -> Any:
    """An RTensor of PyROOT with a copy of the elements of an array, in its shape."""
    elements = np.ascontiguousarray(array).reshape(np.shape(array))
    known = {"float32": "float", "float64": "double", "int32": "int", "int64": "long"}
    type_ = known.get(str(elements.dtype))
    if type_ is None:
        raise ModelError(f"there is no RTensor of {elements.dtype}", remedy="array.astype(...)")
    made = root.TMVA.Experimental.RTensor[type_](root.std.vector["size_t"](elements.shape))
    if elements.size:
        view = np.frombuffer(_memory(made, elements.nbytes), elements.dtype)
        view[:] = elements.reshape(-1)
    return made


def _memory(tensor: Any, nbytes: int) -> Any:
    import ctypes

    address = import_cppyy().ll.addressof(tensor.GetData())
    return (ctypes.c_char * nbytes).from_address(address)


def array_interface(tensor: Any) -> dict[str, Any]:
    """What NumPy wants to know of an RTensor, whose memory it then shares."""
    elements = str(type(tensor).__cpp_name__).split("RTensor<", 1)[1].split(",")[0]
    known = {"float": "<f4", "double": "<f8", "int": "<i4", "long": "<i8"}
    address = int(import_cppyy().ll.addressof(tensor.GetData())) if tensor.GetSize() else 1
    return {
        "shape": tuple(int(n) for n in tensor.GetShape()),
        "typestr": known[elements],
        "version": 3,
        "data": (address, False),
    }
