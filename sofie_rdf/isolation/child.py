"""What runs in the other process: ``python -I -B child.py``, see `sofie_rdf.isolation`.

This file is run by its path. It puts up the walls before it imports anything of the package, whose
folder it is told, and it keeps the folder where the user stands out of where modules are found.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import pickle
import sys
from types import ModuleType
from typing import Any


def _module(name: str, path: str, folder: str = "") -> ModuleType:
    """A module by the path of its file, so that no other one of its name is found first."""
    where = [folder] if folder else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=where)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _main() -> None:
    told = json.loads(sys.argv[1])
    package = str(told["package"])
    walls = _module("_walls", os.path.join(package, "isolation", "walls.py"))  # noqa: PTH118
    walls.die_with_parent()
    os.chdir(told["folder"])
    walls.limit(told["memory"], told["seconds"])
    walls.refuse_writing(told["folder"])
    walls.refuse_sockets()
    sys.path[:] = told["path"]
    _module("sofie_rdf", os.path.join(package, "__init__.py"), package)  # noqa: PTH118
    with os.fdopen(told["answer"], "wb") as answer:
        _send(_answer(told), answer)
        answer.flush()
        # Nothing is left to do, and libraries take long to say goodbye.
        os._exit(0)


def _answer(told: dict[str, Any]) -> Any:
    """``("result", value)``, or what went wrong."""
    from sofie_rdf import limits
    from sofie_rdf.errors import InputError, SofieError

    try:
        with os.fdopen(told["question"], "rb") as question:
            try:
                args = pickle.load(question)
            except Exception as error:  # Of classes that only the other process knows.
                raise InputError(
                    f"what is given with the file cannot be sent to another process: {error}",
                    place=told["place"],
                    remedy="Read the file in this process: isolated=False",
                ) from error
        allowed = limits.Limits(**told["limits"])
        with limits.budget(allowed, place=told["place"]):
            function = importlib.import_module(told["module"])
            for part in told["function"].split("."):
                function = getattr(function, part)
            try:
                value = function(*args)  # type: ignore[operator]
            except MemoryError:
                # Here it is the limit of this process, not all that the machine has.
                return ("memory",)
            left = limits.remaining()
            spent = [
                float(before - after) if before and after and before < math.inf else 0.0
                for before, after in ((allowed.bytes, left.bytes), (allowed.nodes, left.nodes))
            ]
            return ("result", value, *spent)
    except SofieError as error:
        return ("error", error)
    except MemoryError:
        return ("memory",)
    except BaseException as error:
        return ("failed", f"{type(error).__name__}: {error}"[:2000])


def _send(value: Any, answer: Any) -> None:
    from sofie_rdf.isolation.wire import parts

    try:
        first = next(pieces := parts(value))
    except TypeError as error:
        first = next(pieces := parts(("failed", str(error))))
    answer.write(first)
    for piece in pieces:
        answer.write(piece)


if __name__ == "__main__":
    _main()
