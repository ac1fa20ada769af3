"""Arrays of dask-awkward through a model: nothing is computed before dask asks for it.

dask-awkward works out types with typetracers, arrays that have types and no numbers. What they meet
here is an array of no events instead, whose result has the type. The fields that are looked at so
are those that dask reads from files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sofie_rdf.errors import InputError, MissingDependency
from sofie_rdf.runtime.rdataframe.options import ScoreOptions

__all__ = ["dask_awkward", "is_lazy", "mapped", "refuse", "scored"]


@dataclass(frozen=True)
class _Place:
    """Where one of the lazy arrays belongs."""

    number: int


def is_lazy(said: Any) -> bool:
    """Whether there is an array of dask-awkward in it, which takes no time without the package."""
    if "dask_awkward" not in sys.modules:
        return False
    if isinstance(said, Mapping):
        return any(map(is_lazy, said.values()))
    if isinstance(said, (list, tuple)):
        return any(map(is_lazy, said))
    return _is_dask(said)


def refuse(said: Any) -> None:
    """`InputError` for an array of dask-awkward, where numbers are needed now."""
    if is_lazy(said):
        raise InputError(
            "an array of dask-awkward has no numbers before it is computed",
            remedy="model.score(events, columns) stays lazy; array.compute() has the numbers",
        )


def _is_dask(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "dask_awkward" and hasattr(value, "_meta")


def _replaced(said: Any, change: Callable[[Any], Any]) -> Any:
    """The same with other values in its mappings and lists."""
    if isinstance(said, Mapping):
        return {key: _replaced(value, change) for key, value in said.items()}
    if isinstance(said, (list, tuple)):
        return type(said)(_replaced(value, change) for value in said)
    return change(said)


@dataclass(frozen=True)
class _Call:
    """The function of one partition: arrays go where they were said."""

    function: Callable[..., Any]
    said: tuple[Any, ...]

    def __call__(self, *arrays: Any) -> Any:
        def put(value: Any) -> Any:
            return arrays[value.number] if isinstance(value, _Place) else value

        return self.function(*_replaced(self.said, put))


def mapped(function: Callable[..., Any], said: tuple[Any, ...], label: str) -> Any:
    """The lazy array of ``function(*said)`` for each partition; `InputError` for mixed arrays.

    ``function`` is called once at once, with typetracers, so that its errors are raised here.
    """
    lazy: list[Any] = []

    def take(value: Any) -> Any:
        if _is_dask(value):
            lazy.append(value)
            return _Place(len(lazy) - 1)
        if type(value).__module__.partition(".")[0] in ("awkward", "numpy"):
            raise InputError(
                "arrays of dask-awkward and arrays in memory are mixed",
                remedy="Give arrays of one kind: dask_awkward.from_awkward(array, npartitions)",
            )
        return value

    call = _Call(function, _replaced(said, take))
    meta = call(*(array._meta for array in lazy))
    return dask_awkward().map_partitions(call, *lazy, label=label, meta=meta)


def dask_awkward() -> Any:
    """The package; `MissingDependency` where it is not installed."""
    try:
        import dask_awkward as found
    except ImportError as error:
        raise MissingDependency(
            "this needs dask-awkward", remedy="pip install 'sofie_rdf[dask-awkward]'"
        ) from error
    return found


@dataclass(frozen=True)
class _Score:
    """`Model.score` with options that are no arrays."""

    model: Any
    told: Mapping[str, Any]

    def __call__(self, events: Any, columns: Any, where: Any, entry: Any) -> Any:
        return self.model.score(events, columns, **self.told, where=where, entry=entry)


def scored(model: Any, events: Any, columns: Any, told: ScoreOptions) -> Any:
    """`sofie_rdf.Model.score` of arrays of dask-awkward, as one of these."""
    rest: dict[str, Any] = {k: v for k, v in told.items() if k not in ("where", "entry")}
    entry = told["entry"]
    if model.compiled.drawn is not None and isinstance(entry, int):
        raise InputError(
            f"model {model.name!r} draws random numbers, and partitions do not say which events "
            "they have",
            remedy="Give the number of each event: entry='event', or an array",
        )
    said = (events, columns, told["where"], entry)
    return mapped(_Score(model, rest), said, "sofie_rdf_score")
