"""What the files of gradient-boosting libraries have in common: sources, fields, inputs, errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from sofie_rdf.errors import CorruptFile, InputError, ModelError, SofieError
from sofie_rdf.frontends.common.problems import Problems
from sofie_rdf.ir import contents
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import Array, DType, TensorType

__all__ = [
    "INPUT",
    "MOST_OUTPUTS",
    "Attempts",
    "Fields",
    "Reader",
    "content_of",
    "declared",
    "gathered",
    "written",
]

INPUT = "features"
# More are believed of no file.
MOST_OUTPUTS = 2**20
T = TypeVar("T")


def content_of(source: Path | bytes) -> tuple[bytes, str, Mapping[str, str]]:
    """The bytes, what they are called in errors, and where they are from."""
    path = None if isinstance(source, bytes) else source
    if isinstance(source, bytes):
        content, place, origin = source, "model", "a model in memory"
    else:
        place = origin = source.name
        try:
            content = source.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot be read: {error.strerror}", place=str(source)) from error
    return content, place, {"source": origin, "sha256": contents.sha256_of(path, content).hex()}


def written(source: Any, library: str, is_model: bool, write: Callable[[], T]) -> T:
    """What a library writes of a model in memory; `InputError` for what is no model of it."""
    if not is_model:
        kind, function = type(source).__name__, f"from_{library.lower()}"
        raise InputError(f"{function} takes a file, its bytes or a model, not {kind}")
    try:
        return write()
    except Exception as error:
        raise ModelError(f"{library} cannot write the model: {error}") from error


def declared(build: Builder, count: int, names: Sequence[str], dtype: DType, place: str) -> str:
    """The input, float[N, count]. The names of its columns are kept as the model's ``features``."""
    if names and len(names) != count:
        raise CorruptFile(f"has {len(names)} names for {count} features", place=place)
    if names:
        build.provenance["features"] = json.dumps(list(names))
    return build.input(INPUT, TensorType(dtype, (symbol("N"), count)))


class Fields:
    """An object of a file, whose fields are looked at before they are believed."""

    def __init__(self, found: Mapping[str, Any], place: str) -> None:
        self.found, self.place = found, place

    @classmethod
    def of(cls, found: Any, place: str) -> Fields:
        """``found``, which must be an object."""
        if not isinstance(found, dict):
            raise CorruptFile("is no object", place=place)
        return cls(found, place)

    def __contains__(self, key: str) -> bool:
        return key in self.found

    def wrong(self, key: str, wanted: str) -> CorruptFile:
        text = repr(self.found.get(key))
        shown = f"{text[:50]}..." if len(text) > 50 else text
        return CorruptFile(f"has no {wanted} in {key!r} but {shown}", place=self.place)

    def get(self, key: str, default: Any = None) -> Any:
        if default is None and key not in self.found:
            raise CorruptFile(f"lacks {key!r}", place=self.place)
        return self.found.get(key, default)

    def fields(self, key: str) -> Fields:
        """An object in it."""
        found = self.get(key)
        if not isinstance(found, dict):
            raise self.wrong(key, "object")
        return Fields(found, self.place)

    def text(self, key: str) -> str:
        found = self.get(key)
        if not isinstance(found, str):
            raise self.wrong(key, "text")
        return found

    def list(self, key: str) -> Sequence[Any]:
        """A list; of one of numbers of one type, UBJSON makes an array."""
        found = self.get(key)
        if not isinstance(found, (list, np.ndarray)):
            raise self.wrong(key, "list")
        return cast("Sequence[Any]", found)

    def texts(self, key: str) -> Sequence[str]:
        """A list of texts, which is empty where it is absent."""
        found = self.list(key) if key in self else ()
        if not all(isinstance(f, str) for f in found):
            raise self.wrong(key, "texts")
        return found

    def count(self, key: str, default: int | None = None, most: int = 2**31) -> int:
        """A whole number from 0 on; XGBoost writes it as a text."""
        found = self.get(key, default)
        try:
            number = int(found)
        except (TypeError, ValueError, OverflowError):
            raise self.wrong(key, "number") from None
        if not 0 <= number <= most:
            raise self.wrong(key, "number that can be")
        return number

    def array(self, key: str, dtype: type, count: int | None = None) -> Array:
        """A list of numbers, which has this length; whole ones where the type is."""
        found = self.list(key)
        try:
            given = np.asarray(found) if len(found) else np.zeros(0, dtype)
        except ValueError:
            raise self.wrong(key, "numbers") from None
        kinds = "iub" if np.dtype(dtype).kind == "i" else "iubf"
        if given.dtype.kind not in kinds or given.ndim != 1:
            raise self.wrong(key, "numbers")
        if count is not None and len(given) != count:
            raise CorruptFile(f"has {len(given)} numbers in {key!r}, not {count}", place=self.place)
        with np.errstate(over="ignore"):
            return given.astype(dtype)


class Reader:
    """A file of trees, or its bytes, which becomes a graph."""

    def opened(self, source: Path | bytes, name: str, problems: Problems | None) -> bytes:
        """What the file holds; its place, the graph, and who notes errors are there from now on."""
        content, self.place, provenance = content_of(source)
        stem = Path(self.place).stem if isinstance(source, Path) else "model"
        self.build, self.origin = Builder(name or stem, provenance), Origin(self.place)
        self.attempt = Attempts(problems)
        return content


class Attempts:
    """Raises the first error, or lists all of them where ``problems`` is a list."""

    def __init__(self, problems: Problems | None) -> None:
        self.problems = problems

    def __call__(self, function: Callable[..., T], *arguments: Any) -> T | None:
        """What the function returns; None for an error that is listed."""
        try:
            return function(*arguments)
        except SofieError as error:
            if self.problems is None:
                raise
            self.problems.note(error)
            return None


def gathered(read: Callable[[Problems], Any]) -> Problems:
    """Everything that is wrong: what is listed, and what ends the reading."""
    problems = Problems()
    try:
        read(problems)
    except SofieError as error:
        problems.append(error)
    return problems
