"""Models in pickles: they travel as their graph, and are compiled where they arrive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar

from sofie_rdf.errors import CorruptFile
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import with_seed
from sofie_rdf.reading import Allowed, Content, File
from sofie_rdf.runtime.compile import records

__all__ = ["Portable", "rebuilt"]

T = TypeVar("T", bound="Portable")
# What of a description is another one each time that the same model is written.
_PASSING = ("date", "sha256")


class Portable:
    """What pickle, cloudpickle, copy and multiprocessing do with a Model.

    A pickle holds the description and the weights that a .root file has, with their checksums
    (`sofie_rdf.ir.record`): no code, no ROOT, nothing that is compiled. What arrives is checked as
    a file is, and `CorruptFile` is raised for what is damaged. It is compiled there when it is
    first needed, or taken from the cache on disk, which knows models from pickles as well. Models
    with operators of other packages need these packages there.

    pickle itself runs whatever a pickle says, before anything of ours is asked: never load the
    pickle of a stranger. `Model.save` writes files that may come from anybody.

    Copies share everything: a model does not change.
    """

    compiler: str

    @property
    def graph(self) -> Graph:
        raise NotImplementedError

    @property
    def seed(self) -> int:
        raise NotImplementedError

    @property
    def extras(self) -> Mapping[str, str]:
        raise NotImplementedError

    @classmethod
    def _of(cls: type[T], file: File, compiler: str) -> T:
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        from sofie_rdf.ir.record import to_record

        record = to_record(with_seed(self.graph, self.seed), extras=self.extras)
        return rebuilt, (type(self), record.json, record.weights, self.compiler)

    def __copy__(self: T) -> T:
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __deepcopy__(self: T, memo: dict[int, Any]) -> T:
        return self.__copy__()


def rebuilt(cls: type[T], text: Any, weights: Any, compiler: Any) -> T:
    """The model of a pickle; `CorruptFile` where it is damaged."""
    if not (isinstance(text, str) and isinstance(weights, bytes) and isinstance(compiler, str)):
        raise CorruptFile("is no model of sofie_rdf", place="pickle")

    def read() -> Content:
        from sofie_rdf.ir.record import Record, from_record

        import_module("sofie_rdf.ops")  # It registers the operators that the text names.
        stored = from_record(Record(text, weights, ""), "pickle")
        return stored.graph, stored.extras

    allowed = Allowed(source=text.encode("utf-8", "surrogatepass") + weights)
    return cls._of(File(read, allowed, _key(text, weights)), compiler)


def _key(text: str, weights: bytes) -> str:
    """The key of the record in the cache; "" where there can be none."""
    try:
        document = {k: v for k, v in json.loads(text).items() if k not in _PASSING}
        same = json.dumps(document, sort_keys=True).encode()
    except (ValueError, AttributeError, RecursionError):
        return ""  # Whoever reads it says what is wrong.
    return records.key_of_content(same, hashlib.sha256(weights).digest())
