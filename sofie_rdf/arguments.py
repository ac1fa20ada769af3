"""What somebody has given in the place of something else, and which function takes it."""

from __future__ import annotations

import functools
import inspect
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, TypeVar, cast

from sofie_rdf.errors import InputError, ModelError, nearest

__all__ = [
    "checked",
    "described",
    "refused",
    "require_columns",
    "require_data_frame",
    "require_estimator",
    "require_events",
    "require_file",
    "require_model",
    "require_new_column",
    "require_source",
    "require_torch",
    "way_of",
    "with_options",
]

_FILE = "sofie_rdf.load(path) reads a file"
# Objects are told by the first of their classes that a package here has defined.
_OBJECTS: Mapping[str, tuple[str, str]] = {
    "torch": ("PyTorch", "sofie_rdf.from_torch(module, example_inputs) reads a torch.nn.Module"),
    "keras": ("Keras", "sofie_rdf.from_keras(model) reads a keras.Model"),
    "sklearn": ("scikit-learn", "sofie_rdf.from_sklearn(estimator) reads a fitted estimator"),
    "xgboost": ("XGBoost", "sofie_rdf.from_xgboost(booster) reads a trained booster"),
    "lightgbm": ("LightGBM", "sofie_rdf.from_lightgbm(booster) reads a trained booster"),
    "onnx": ("ONNX", "sofie_rdf.from_onnx(model) reads an onnx.ModelProto"),
    "sofie_rdf": ("sofie_rdf", "It has been read already"),
}
_ALIASES = {"tf_keras": "keras", "tensorflow": "keras"}
# Classes whose __module__ does not say that they are of the package of their instances.
_PROTOBUF = {"ModelProto": "onnx", "GraphProto": "onnx", "NodeProto": "onnx"}
_DATA_FRAME = "model.define(df, 'score', columns) adds a column to a data frame"


def _package(value: object) -> str:
    """The package in `_OBJECTS` that knows what it is, or an empty string."""
    cls = value if isinstance(value, type) else type(value)
    for one in cls.__mro__:
        name = one.__module__.split(".")[0]
        name = _ALIASES.get(name, name)
        if name in _OBJECTS:
            return name
    return _PROTOBUF.get(cls.__name__, "")


def _is_data_frame(value: object) -> bool:
    """Whether it is an RDataFrame of ROOT, here or distributed."""
    return hasattr(value, "HasColumn") or hasattr(value, "proxied_node")


def described(value: object) -> str:
    """What it is, in a few words."""
    if value is None:
        return "None"
    if isinstance(value, (str, PathLike)):
        text = str(value)
        return f"the text {text if len(text) <= 60 else text[:60] + '...'!r}"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value)} bytes"
    if _is_data_frame(value):
        return "an RDataFrame"
    if isinstance(value, type):
        return f"the class {value.__name__}, of which there is no object yet"
    kind, package = type(value).__name__, _package(value)
    if package:
        return f"{'an' if package in ('onnx', 'xgboost') else 'a'} {_OBJECTS[package][0]} {kind}"
    if isinstance(value, (bool, int, float, list, tuple, dict)):
        return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
    return f"an object of the class {type(value).__module__}.{kind}"


def way_of(value: object) -> str:
    """Which function takes it; an empty string where none does."""
    if isinstance(value, type):
        return f"Give an object of it, {value.__name__}(...)"
    if isinstance(value, (str, PathLike)):
        return _FILE
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "sofie_rdf.from_onnx(content) reads the bytes of an ONNX file"
    if _is_data_frame(value):
        return _DATA_FRAME
    if isinstance(value, Mapping) and any(_package(v) == "torch" for v in value.values()):
        return "A state_dict has numbers only: load it into its module, and give that"
    if hasattr(value, "model_proto"):
        return "sofie_rdf.from_onnx(program.model_proto) reads what torch.onnx.export has made"
    if type(value).__name__ == "GraphProto":
        return "sofie_rdf.from_onnx(onnx.helper.make_model(graph)) reads a graph"
    if callable(getattr(value, "read", None)) and not _package(value):
        return "Give the path of an open file, or its bytes: file.read()"
    package = _package(value)
    return _OBJECTS[package][1] if package else ""


def refused(function: str, wanted: str, value: object, remedy: str = "") -> InputError:
    """``function takes wanted, not value``; without a remedy, which function takes the value."""
    remedy = remedy or way_of(value)
    return InputError(f"{function} takes {wanted}, not {described(value)}", remedy=remedy)


def require_file(function: str, value: object, wanted: str = "the path of a file") -> None:
    """`InputError` for what cannot be a path."""
    if not isinstance(value, (str, PathLike)) or isinstance(value, type):
        raise refused(function, wanted, value)
    try:
        is_possible = b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        is_possible = False
    if not is_possible:
        raise InputError(f"{function} is given {str(value)!a}, which no file can be called")


def require_plain(path: str | PathLike[str]) -> None:
    """`ModelError` for a pipe, which would be waited for, and a device, which may have no end.

    A stranger's archive can have either under the name of a model. Whoever opens what is not there
    says so.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ModelError(
            "is no file, but a pipe or a device",
            place=os.fspath(path),
            remedy="Copy what it gives into a file",
        )


def require_model(function: str, value: object, model: type, *others: object) -> None:
    """`InputError` if it is no Model; ``others`` are arguments beside it, with which it may have
    been swapped.
    """
    if isinstance(value, model):
        return
    remedy = ""
    if any(isinstance(other, model) for other in others):
        remedy = f"The arguments stand in another order: {function}"
    raise refused(function.split("(")[0], "a Model", value, remedy)


def require_source(
    function: str,
    value: object,
    packages: Sequence[str],
    wanted: str,
    *,
    takes: tuple[type, ...] = (str, PathLike, bytes),
    strictly: bool = True,
) -> None:
    """`InputError` for what is no object of these packages, nor one of the types ``takes``.

    Not ``strictly``, what no package here knows may be such an object all the same.
    """
    if isinstance(value, takes) and not isinstance(value, type):
        return
    others = (type, str, PathLike, bytes, bytearray, memoryview, Mapping, int, float, type(None))
    package = _package(value)
    is_known = package in packages or not (strictly or package or _is_data_frame(value))
    if isinstance(value, others) or not is_known:
        raise refused(function, wanted, value)


def require_columns(function: str, columns: Any) -> None:
    """`InputError` for what cannot name columns."""
    if columns is None or isinstance(columns, (str, Mapping)):
        return
    # Whether it has an order is looked at where it is read.
    is_listed = hasattr(columns, "__iter__") and not isinstance(columns, (bytes, bytearray))
    if not is_listed or _is_data_frame(columns) or _package(columns):
        wanted = "columns= as a list of names, or as a mapping from inputs to such lists"
        raise refused(function, wanted, columns, f"{function}(..., columns=['pt', 'eta'])")


def require_new_column(column: object) -> None:
    """`InputError` for what is neither the name of a new column nor a mapping with such names."""
    if not isinstance(column, (str, Mapping)):
        wanted = "column= as the name of the new column, or as a mapping from names to outputs"
        raise refused("define", wanted, column, "define(df, 'score', model, ['pt', 'eta'])")


def require_data_frame(function: str, value: object, *others: object) -> None:
    """`InputError` if it is no RDataFrame; ``others`` are arguments beside it."""
    if _is_data_frame(value):
        return
    remedy = "model.score(events, columns) takes awkward arrays, NumPy arrays and mappings of them"
    if any(map(_is_data_frame, others)):
        remedy = f"The arguments stand in another order: {function}"
    raise refused(function.split("(")[0], "an RDataFrame", value, remedy)


def require_torch(module: object, example_inputs: object) -> None:
    """`InputError` for what cannot be a model of PyTorch."""
    wanted = "a torch.nn.Module, a TorchScript module or a torch.export.ExportedProgram"
    if hasattr(example_inputs, "forward") and not hasattr(module, "forward"):
        swapped = "The arguments stand in another order: from_torch(module, example_inputs)"
        raise refused("from_torch", wanted, module, swapped)
    require_source("from_torch", module, ["torch"], wanted, takes=(), strictly=False)


def require_estimator(estimator: object) -> None:
    """`InputError` for what cannot be an estimator of scikit-learn."""
    packages, wanted = ["sklearn", "xgboost", "lightgbm"], "a fitted estimator or pipeline"
    require_source("from_sklearn", estimator, packages, wanted, takes=(), strictly=False)


def require_events(events: object, columns: object) -> None:
    """`InputError` for what are no arrays of events, as `Model.score` takes them."""
    wanted = "events as an array of records, or as a mapping from names to arrays"
    if isinstance(events, (str, PathLike, bytes)):
        raise refused("score", wanted, events, 'uproot.open(path)["tree"].arrays() reads a file')
    if _is_data_frame(events) or _package(events) not in ("", "torch"):
        raise refused("score", wanted, events)
    if events is None and columns is None:
        raise refused("score", wanted, events, "Give events, or columns= as arrays")
    if columns is not None and not isinstance(columns, (str, Mapping)):
        require_columns("score", columns)


# Names of arguments -------------------------------------------------------------------------------

_Function = TypeVar("_Function", bound=Callable[..., Any])


def checked(function: _Function) -> _Function:
    """The function, which raises `InputError` where it is called with arguments that it lacks.

    It costs nothing where they are right: they are looked at when Python has refused them.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except TypeError:
            mistake = _mistake_in(function, signature, arguments, named)
            if mistake is None:
                raise
        raise mistake from None

    return cast("_Function", called)


def with_options(
    options: type[Any], defaults: Mapping[str, Any]
) -> Callable[[_Function], _Function]:
    """`checked` for a function whose ``**options`` are those of a TypedDict, with these defaults.

    Its signature, as `help` and editors show it, has each of them.
    """

    def decorated(function: _Function) -> _Function:
        signature = inspect.signature(function)
        types = {k: getattr(t, "__forward_arg__", t) for k, t in _fields(options).items()}
        named = inspect.Parameter.KEYWORD_ONLY
        added = [
            inspect.Parameter(k, named, default=value, annotation=types[k])
            for k, value in defaults.items()
            if k in types
        ]
        own = list(signature.parameters.values())[:-1]
        return _checked(function, signature.replace(parameters=[*own, *added]))

    return decorated


def _fields(options: type[Any]) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", options.__annotations__)


def _checked(function: _Function, signature: inspect.Signature) -> _Function:
    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        mistake = _mistake_in(function, signature, arguments, named)
        if mistake is not None:
            raise mistake from None
        return function(*arguments, **named)

    called.__signature__ = signature  # type: ignore[attr-defined]
    return cast("_Function", called)


def _mistake_in(
    function: Callable[..., Any],
    signature: inspect.Signature,
    arguments: tuple[Any, ...],
    named: Mapping[str, Any],
) -> InputError | None:
    """What is wrong with these arguments; None where the function takes them."""
    try:
        signature.bind(*arguments, **named)
    except TypeError as error:
        return _mistaken(function, signature, named, str(error))
    return None


def _mistaken(
    function: Callable[..., Any], signature: inspect.Signature, named: Mapping[str, Any], why: str
) -> InputError:
    """Which argument the function does not have, or which is missing."""
    owner, _, name = function.__qualname__.rpartition(".")
    name = owner if name == "__init__" else name
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    known = [p.name for p in parameters]
    for one in named:
        if one not in known:
            listed = ", ".join(f"{k}=" for k in options or known)
            remedy = nearest(one, known) or (f"It has {listed}" if listed else "It has none")
            return InputError(f"{name} has no option {one}=", remedy=remedy)
    way = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    more = ["..."] if options else []
    return InputError(f"{name}: {why}", remedy=f"{name}({', '.join([*way, *more])})")
