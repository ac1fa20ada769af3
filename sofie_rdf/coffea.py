"""Models in processors of coffea, in the shape of the wrappers of ``coffea.ml_tools``.

::

    from sofie_rdf.coffea import sofie_wrapper

    class Tagger(sofie_wrapper):
        def prepare_awkward(self, jets):
            ak = self.get_awkward_lib(jets)
            flat = ak.flatten(jets)
            columns = [flat[name][:, np.newaxis] for name in ("pt", "eta", "phi", "mass")]
            return (ak.concatenate(columns, axis=1),), {}

        def postprocess_awkward(self, scores, jets):
            ak = self.get_awkward_lib(jets)
            return ak.unflatten(scores[:, 0], ak.num(jets))

Of columns alone, `sofie_rdf.Model.score` does the same without a class. Neither needs coffea.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from sofie_rdf import arguments
from sofie_rdf.errors import InputError, MissingDependency
from sofie_rdf.model import Model, load
from sofie_rdf.runtime.arrays import lazy

__all__ = ["sofie_wrapper"]


class sofie_wrapper:  # noqa: N801 - coffea's wrappers have such names.
    """A model that is called with arrays of NumPy, awkward or dask-awkward, all of one kind.

    ``model`` is a `sofie_rdf.Model` or the path of a file, with options of `sofie_rdf.load`. It
    travels to other processes with its weights, so these need no file. Arrays of NumPy go to
    `numpy_call` as they are. Those of awkward go through `prepare_awkward` and
    `postprocess_awkward` first and last; those of dask-awkward do so lazily.
    """

    def __init__(self, model: Model | str | PathLike[str], **options: Any) -> None:
        if isinstance(model, Model) and options:
            raise InputError(
                f"sofie_wrapper takes {', '.join(options)}= for files, and this is a model",
                remedy="Give them where the model is loaded",
            )
        self.model = model if isinstance(model, Model) else load(model, **options)

    def prepare_awkward(self, *args: Any, **kwargs: Any) -> tuple[Any, Mapping[str, Any]]:
        """What the model is called with: arrays that NumPy can have, as ``(args, kwargs)``."""
        return args, kwargs

    def postprocess_awkward(self, return_array: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        """What is made of the result, an array or a dict of them, and of what was given."""
        return return_array

    def validate_numpy_input(self, *args: Any, **kwargs: Any) -> None:
        """Raise an error for what the model must not get. The model itself checks shapes."""

    def numpy_call(self, *args: Any, **kwargs: Any) -> Any:
        """The model's output for arrays of NumPy, or a dict of several."""
        return self.model(*args, **kwargs)

    def get_awkward_lib(self, *args: Any, **kwargs: Any) -> Any:
        """awkward or dask_awkward, by what is given; None for arrays of NumPy."""
        given = (*args, *kwargs.values())
        if lazy.is_lazy(given):
            return lazy.dask_awkward()
        return _awkward() if any(map(_is_awkward, given)) else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result, as an array of the kind that is given; errors are those of the model.

        Raises `InputError` where arrays of several kinds are mixed.
        """
        given = (*args, *kwargs.values())
        if not lazy.is_lazy(given) and not any(map(_is_awkward, given)):
            return self._checked(*args, **kwargs)
        prepared, named = _pair(self.prepare_awkward(*args, **kwargs))
        if lazy.is_lazy(given):
            said = (prepared, named)
            found = lazy.mapped(_Partition(self), said, f"numpy_call_{type(self).__name__}")
            found = {name: found[name] for name in found.fields} if found.fields else found
        else:
            found = self._of_arrays(prepared, named)
        return self.postprocess_awkward(found, *args, **kwargs)

    def _checked(self, *args: Any, **kwargs: Any) -> Any:
        self.validate_numpy_input(*args, **kwargs)
        return self.numpy_call(*args, **kwargs)

    def _of_arrays(self, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """The result for prepared arrays of awkward."""
        ak = _awkward()
        given = [_as_numpy(ak, a) for a in args]
        found = self._checked(*given, **{name: _as_numpy(ak, a) for name, a in kwargs.items()})
        if isinstance(found, Mapping):
            return {name: ak.from_numpy(np.asarray(one)) for name, one in found.items()}
        return ak.from_numpy(np.asarray(found))


def _pair(prepared: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """What prepare_awkward gives; `InputError` for anything else."""
    if isinstance(prepared, tuple) and len(prepared) == 2:
        args, kwargs = prepared
        are_named = isinstance(kwargs, Mapping) and all(type(name) is str for name in kwargs)
        if isinstance(args, (tuple, list)) and are_named:
            return tuple(args), kwargs
    raise InputError(
        f"prepare_awkward gave {arguments.described(prepared)}",
        remedy="It returns (args, kwargs): return (array,), {}",
    )


def _awkward() -> Any:
    try:
        import awkward
    except ImportError as error:
        raise MissingDependency("this needs awkward", remedy="pip install awkward") from error
    return awkward


def _is_awkward(value: Any) -> bool:
    return any(
        cls.__module__.partition(".")[0] == "awkward" and cls.__name__ == "Array"
        for cls in type(value).__mro__
    )


def _as_numpy(ak: Any, array: Any) -> Any:
    """The array of NumPy; `InputError` for one with lists of different lengths."""
    if not _is_awkward(array):
        return array
    try:
        return ak.to_numpy(array, allow_missing=False)
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"prepare_awkward gave an array that NumPy cannot have, {array.type}: {reason}",
            remedy="Flatten it, or fill it up: ak.fill_none(ak.pad_none(array, 10, clip=True), 0)",
        ) from None


@dataclass(frozen=True)
class _Partition:
    """A wrapper's call for the prepared arrays of one partition, or for typetracers."""

    wrapper: sofie_wrapper

    def __call__(self, args: Any, kwargs: Mapping[str, Any]) -> Any:
        ak = _awkward()
        traced = False

        def real(array: Any) -> Any:
            nonlocal traced
            if not _is_awkward(array) or ak.backend(array) != "typetracer":
                return array
            traced = True
            return ak.typetracer.length_zero_if_typetracer(array)

        given = [real(a) for a in args]
        found = self.wrapper._of_arrays(given, {name: real(a) for name, a in kwargs.items()})
        if isinstance(found, Mapping):
            found = ak.zip(found, depth_limit=1)
        if not traced:
            return found
        return ak.Array(found.layout.to_typetracer(forget_length=True))
