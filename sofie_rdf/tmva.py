"""SOFIE's words where SOFIE's users look for them: ``import sofie_rdf.tmva``, and nothing else.

    parser = ROOT.TMVA.Experimental.SOFIE.RModelParser_ONNX()
    model = parser.Parse("model.onnx")
    model.Generate()
    model.OutputGenerated()
    ROOT.gInterpreter.Declare('#include "model.hxx"')
    y = ROOT.TMVA_SOFIE_model.Session("model.dat").infer(x)

The import puts them into `ROOT.TMVA.Experimental`, each that this ROOT has none for itself, and
lets C++ find the headers of sofie_rdf, ``TMVA/RModelParser_ONNX.hxx`` among them. Without ROOT they
are in this module: ``from sofie_rdf.tmva import RModelParser_ONNX``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import Any

from sofie_rdf.compat.graphs import (
    RModel_GNN,
    RModel_GraphIndependent,
    array_interface,
    as_tensor,
)
from sofie_rdf.compat.options import ETensorType, OptimizationLevel, Options
from sofie_rdf.compat.parsers import PyKeras, PyTorch, RModelParser_ONNX
from sofie_rdf.compat.rmodel import RModel
from sofie_rdf.compat.sessions import guard
from sofie_rdf.errors import MissingDependency
from sofie_rdf.isolation.fresh import interpreter
from sofie_rdf.runtime.compile.interpreter import declare, import_cppyy, import_root

__all__ = [
    "ETensorType",
    "OptimizationLevel",
    "Options",
    "PyKeras",
    "PyTorch",
    "RModel",
    "RModelParser_ONNX",
    "RModel_GNN",
    "RModel_GraphIndependent",
]

# What becomes an attribute of TMVA::Experimental::SOFIE in PyROOT.
_WORDS = {
    "ETensorType": ETensorType,
    "OptimizationLevel": OptimizationLevel,
    "Options": Options,
    "PyKeras": PyKeras,
    "PyTorch": PyTorch,
    "RModel": RModel,
    "RModelParser_ONNX": RModelParser_ONNX,
    "RModel_GNN": RModel_GNN,
    "RModel_GraphIndependent": RModel_GraphIndependent,
}


def _attach() -> None:
    """Give the namespaces of PyROOT what they lack."""
    root = import_root()
    declare("namespace TMVA { namespace Experimental { namespace SOFIE {} } }")
    sofie = root.TMVA.Experimental.SOFIE
    missing = {name: word for name, word in _WORDS.items() if not _has(sofie, name)}
    # Macros that C++ runs from here hand their models to this Python.
    os.environ.setdefault("SOFIE_RDF_PYTHON", interpreter())
    declare('#include "sofie/rdf/tmva.hxx"')
    for name, word in missing.items():
        setattr(sofie, name, word)
    if "RModel" in missing:
        root.TDirectoryFile.Get = _getting_models(root)
    if not _has(root.TMVA.Experimental, "AsRTensor"):
        root.TMVA.Experimental.AsRTensor = partial(as_tensor, root)
    import_cppyy().py.add_pythonization(_pythonize)


def _has(namespace: Any, name: str) -> bool:
    try:
        return getattr(namespace, name) is not None
    except AttributeError:
        return False


def _getting_models(root: Any) -> Any:
    """PyROOT's ``Get`` of a file, which gives an RModel where it finds the directory of one."""
    theirs = root.TDirectoryFile.Get

    def get(self: Any, namecycle: str) -> Any:
        found = theirs(self, namecycle)
        if not (isinstance(found, root.TDirectoryFile) and isinstance(self, root.TFile)):
            return found
        kinds = {str(k.GetName()): str(k.GetClassName()) for k in found.GetListOfKeys()}
        is_model = kinds.get("model") == "TObjString" and {"header", "weights"} <= kinds.keys()
        return RModel.Read(self, namecycle.split(";")[0]) if is_model else found

    return get


def _pythonize(klass: Any, name: str) -> None:
    """Arrays that are given to a Session are checked; NumPy sees the elements of an RTensor."""
    if name.startswith("TMVA::Experimental::RTensor<") and not _has(klass, "__array_interface__"):
        klass.__array_interface__ = property(array_interface)
    if name.startswith("TMVA_SOFIE_") and name.endswith("::Session"):
        guard(klass, import_root())


# Without ROOT the words are in this module.
with suppress(MissingDependency):
    _attach()
