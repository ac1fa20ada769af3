"""sofie_rdf: trained networks as columns of ROOT's RDataFrame.

    import sofie_rdf

    model = sofie_rdf.load("higgs.onnx")
    df = sofie_rdf.define(df, "dnn", model, ["m_jj", "m_jjj", ...])

help(sofie_rdf.define) and help(sofie_rdf.Model) say more; so does each name here:

    load             the Model of a file: ONNX, Keras, PyTorch, trees, TMVA, .root
    from_onnx        the Model of an ONNX file, of its bytes, or of a ModelProto
    from_keras       ... of a keras.Model, or of a .keras or .h5 file
    from_torch       ... of a torch.nn.Module, a TorchScript module, or an ExportedProgram
    from_xgboost     ... of a booster of XGBoost, or of its file
    from_lightgbm    ... of a booster of LightGBM, or of its file
    from_sklearn     ... of an estimator or a pipeline of scikit-learn
    from_graph_nets  ... of a module of Graph Nets
    check            every reason why a file cannot run, without raising
    trust            lets macros run a model in a .root file

    Model            what all of these give: call it, define it, save it, emit it
    define           a data frame with the model's score as a new column
    SofieFunctor     the C++ function object for DefineSlot
    pythonization    a module: once it is imported, data frames have the method DefineModel
    EmittedFiles     what Model.emit has written
    fit              a module: sums over events with gradients, for Minuit2, iminuit and RooFit

    SofieError       the base of all errors, each with its thing, place and remedy: ColumnError,
                     CorruptFile, GraphError, InputError, JitError, LimitExceeded,
                     MissingDependency, ModelError, ShapeError, TypeMismatch, UnsupportedFormat,
                     UnsupportedOperator
    Limits           what the reading of a file may cost

    operator         makes a class an operator of networks; Operator, Tensor, TensorType, DType,
                     Call, Functor and Sizes are what it is written with

`sofie-rdf --help` is the command line.
"""

# Names that are exported are imported as themselves. There is no __all__: `help` would show every
# class and function of it in full; and nothing of __future__, which would be shown as data.
# ruff: noqa: I001, I002

from sofie_rdf import fit as fit
from sofie_rdf.defining import SofieFunctor as SofieFunctor, define as define
from sofie_rdf.errors import (
    ColumnError as ColumnError,
    CorruptFile as CorruptFile,
    GraphError as GraphError,
    InputError as InputError,
    JitError as JitError,
    LimitExceeded as LimitExceeded,
    MissingDependency as MissingDependency,
    ModelError as ModelError,
    ShapeError as ShapeError,
    SofieError as SofieError,
    TypeMismatch as TypeMismatch,
    UnsupportedFormat as UnsupportedFormat,
    UnsupportedOperator as UnsupportedOperator,
)
from sofie_rdf.ir.operator import (
    Call as Call,
    Functor as Functor,
    Operator as Operator,
    Sizes as Sizes,
    Tensor as Tensor,
    operator as operator,
)
from sofie_rdf.ir.types import DType as DType, TensorType as TensorType
from sofie_rdf.limits import Limits as Limits
from sofie_rdf.model import (
    EmittedFiles as EmittedFiles,
    Model as Model,
    check as check,
    from_graph_nets as from_graph_nets,
    from_keras as from_keras,
    from_lightgbm as from_lightgbm,
    from_onnx as from_onnx,
    from_sklearn as from_sklearn,
    from_torch as from_torch,
    from_xgboost as from_xgboost,
    load as load,
    trust as trust,
)

__version__ = "0.1.0"
