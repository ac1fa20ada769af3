"""sofie_rdf: trained networks as columns of ROOT's RDataFrame.

    model = sofie_rdf.load("higgs.onnx")
    df = sofie_rdf.define(df, "dnn", model, ["m_jj", "m_jjj", ...])

The package, from the bottom up; imports only point upwards in this list:

    errors       everything that is raised
    limits       what the reading of a file may cost
    ir           what a network is: types, operators, graphs, text, .root files
    ops          which operators exist, by family
    frontends    how foreign files become a graph
    passes       how a graph becomes a better graph, and its memory plan
    reference    a graph evaluated with NumPy: the oracle
    emit         how a graph becomes C++
    runtime      where it runs: ROOT's interpreter and RDataFrame
    reading      what a model is read from
    fit          sums over events, for minimizers
    model        what a user holds
    compat, tmva SOFIE's words, around all of this
    pythonization  df.DefineModel, where it is imported
    bench, cli   `sofie-rdf`
"""

from __future__ import annotations

from sofie_rdf import fit
from sofie_rdf.defining import SofieFunctor, define
from sofie_rdf.errors import (
    ColumnError,
    CorruptFile,
    GraphError,
    InputError,
    JitError,
    LimitExceeded,
    MissingDependency,
    ModelError,
    ShapeError,
    SofieError,
    TypeMismatch,
    UnsupportedFormat,
    UnsupportedOperator,
)
from sofie_rdf.ir.operator import Call, Functor, Operator, Sizes, Tensor, operator
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.limits import Limits
from sofie_rdf.model import (
    EmittedFiles,
    Model,
    check,
    from_graph_nets,
    from_keras,
    from_lightgbm,
    from_onnx,
    from_sklearn,
    from_torch,
    from_xgboost,
    load,
    trust,
)

__version__ = "0.1.0"

__all__ = [
    "Call",
    "ColumnError",
    "CorruptFile",
    "DType",
    "EmittedFiles",
    "Functor",
    "GraphError",
    "InputError",
    "JitError",
    "LimitExceeded",
    "Limits",
    "MissingDependency",
    "Model",
    "ModelError",
    "Operator",
    "ShapeError",
    "Sizes",
    "SofieError",
    "SofieFunctor",
    "Tensor",
    "TensorType",
    "TypeMismatch",
    "UnsupportedFormat",
    "UnsupportedOperator",
    "check",
    "define",
    "fit",
    "from_graph_nets",
    "from_keras",
    "from_lightgbm",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "from_xgboost",
    "load",
    "operator",
    "trust",
]
