"""The libraries that models are from, asked for their outputs in a process of its own.

They read the user's file as they do themselves, but for torch, which gets what `torch.files` lets
pass. It may be a stranger's, so all of this runs behind the walls of `sofie_rdf.isolation`.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf import isolation
from sofie_rdf.errors import InputError, MissingDependency, ModelError, SofieError
from sofie_rdf.ir.types import Array

__all__ = ["LIBRARIES", "asked", "there"]

Call = Callable[[Mapping[str, Array]], "list[Array]"]
# By kind of file, as `sofie_rdf.frontends.recognise` says it.
LIBRARIES: Mapping[str, str] = {
    "onnx": "onnxruntime",
    "torchscript": "torch",
    "pt2": "torch",
    "keras": "keras",
    "h5": "keras",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
}
_MEMORY = 6 * 2**30


def asked(
    library: str, path: Path, outputs: Sequence[str], feeds: Sequence[Mapping[str, Array]]
) -> list[dict[str, Array]]:
    """The outputs for the inputs of each call; `MissingDependency` without the library."""
    if importlib.util.find_spec(library) is None:
        raise MissingDependency(
            f"{library} is not installed",
            remedy=f"pip install {library}, or compare with NumPy: --against reference",
        )
    known = [{name: np.ascontiguousarray(a) for name, a in one.items()} for one in feeds]
    found = isolation.call(
        f"{__name__}:there",
        library,
        os.path.abspath(path),  # noqa: PTH100
        list(outputs),
        known,
        place=path.name,
        memory=_MEMORY,
    )
    return [dict(zip(outputs, arrays, strict=True)) for arrays in found]


# There --------------------------------------------------------------------------------------------


def there(
    library: str, path: str, outputs: Sequence[str], feeds: Sequence[Mapping[str, Array]]
) -> list[list[Array]]:
    """The outputs in the model's order, for each call."""
    ways: Mapping[str, Callable[[str], Call]] = {
        "onnxruntime": partial(_onnxruntime, outputs),
        "torch": _torch,
        "keras": _keras,
        "xgboost": _xgboost,
        "lightgbm": _lightgbm,
    }
    try:
        call = ways[library](path)
        found = [[np.asarray(array) for array in call(one)] for one in feeds]
    except SofieError:
        raise
    except Exception as error:  # Each has its own kinds of errors.
        raise InputError(f"{library} refuses: {str(error).strip()[:2000]}") from error
    for arrays in found:
        if len(arrays) != len(outputs):
            raise ModelError(f"{library} gives {len(arrays)} outputs, not {len(outputs)}")
    return found


def _onnxruntime(outputs: Sequence[str], path: str) -> Call:
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    known = [port.name for port in session.get_inputs()]
    return lambda feeds: list(session.run(list(outputs), {name: feeds[name] for name in known}))


def _torch(path: str) -> Call:
    import torch

    from sofie_rdf.frontends.torch.files import opened

    # Not the file itself, which may say what torch is to run: the walls do not stand everywhere.
    found, kind = opened(Path(path), None)
    if kind == "torchscript":
        scripted: Any = found.eval()
        return lambda feeds: _arrays(scripted(*map(torch.from_numpy, feeds.values())))
    module, tree = found.module(), found.call_spec.in_spec
    from torch.utils._pytree import tree_unflatten

    def call(feeds: Mapping[str, Array]) -> list[Array]:
        args, kwargs = tree_unflatten([torch.from_numpy(a) for a in feeds.values()], tree)
        return _arrays(module(*args, **kwargs))

    return call


def _arrays(result: Any) -> list[Array]:
    from torch.utils._pytree import tree_flatten

    leaves, _ = tree_flatten(result)
    return [leaf.detach().cpu().numpy() for leaf in leaves if leaf is not None]


def _keras(path: str) -> Call:
    backends = {"tensorflow": "tensorflow", "torch": "torch", "jax": "jax"}
    here = (name for name in backends if importlib.util.find_spec(name) is not None)
    os.environ.setdefault("KERAS_BACKEND", next(here, "numpy"))
    import keras

    model: Any = keras.models.load_model(path, compile=False)

    def call(feeds: Mapping[str, Array]) -> list[Array]:
        given = [keras.ops.convert_to_tensor(a) for a in feeds.values()]
        found = model(given if len(given) > 1 else given[0], training=False)
        return [keras.ops.convert_to_numpy(leaf) for leaf in keras.tree.flatten(found)]

    return call


def _xgboost(path: str) -> Call:
    import xgboost

    booster = xgboost.Booster(model_file=path)
    best = booster.attributes().get("best_iteration") if _is_by_sklearn(booster) else None
    rounds = (0, int(best) + 1) if best is not None else (0, 0)

    def call(feeds: Mapping[str, Array]) -> list[Array]:
        (rows,) = feeds.values()
        matrix = xgboost.DMatrix(rows, feature_types=booster.feature_types)
        return [booster.predict(matrix, iteration_range=rounds, validate_features=False)]

    return call


def _is_by_sklearn(booster: Any) -> bool:
    return "scikit_learn" in booster.attributes()


def _lightgbm(path: str) -> Call:
    import lightgbm

    booster: Any = lightgbm.Booster(model_file=path)

    def call(feeds: Mapping[str, Array]) -> list[Array]:
        (rows,) = feeds.values()
        return [np.asarray(booster.predict(rows))]

    return call
