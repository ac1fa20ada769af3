"""Files of PyTorch, read in a process of their own: torch is loaded there, and may crash there.

That process reads, exports and compares; its graph comes back as text and arrays.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf import isolation
from sofie_rdf.errors import InputError, SofieError
from sofie_rdf.frontends import recognise
from sofie_rdf.frontends.common.problems import Problems
from sofie_rdf.frontends.common.shapes import Shapes
from sofie_rdf.ir import contents
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.text import graph_text, parse_graph

__all__ = ["DEFAULT", "check", "examine", "examine_there", "read", "read_there"]

# Files of these kinds are read so if nobody says otherwise; a pickle needs the user's own classes.
DEFAULT = frozenset(("pt2", "torchscript"))
# What torch and its exporter take, and for each core the stacks of their threads.
_MEMORY = 4 * 2**30 + 2**25 * (os.cpu_count() or 1)


def read(
    source: Any,
    *,
    name: str = "",
    shapes: Shapes | None = None,
    isolated: bool | None = None,
    **options: Any,
) -> Graph:
    """As `torch.read`, in the process that ``isolated`` says, which must be this one for objects.

    Raises what the other process raises, and see `isolation.call`.
    """
    if not _is_isolated(source, isolated):
        return _frontend().read(source, name=name, shapes=shapes, **options)  # type: ignore[no-any-return]
    return _graph(_call("read_there", source, name, shapes, options), source)


def check(
    source: Any, *, shapes: Shapes | None = None, isolated: bool | None = None, **options: Any
) -> Problems:
    """As `torch.check`, in the process that ``isolated`` says."""
    return examine(source, shapes=shapes, isolated=isolated, **options)[0]


def examine(
    source: Any, *, shapes: Shapes | None = None, isolated: bool | None = None, **options: Any
) -> tuple[Problems, Graph | None]:
    """As `torch.examine`, in the process that ``isolated`` says."""
    if not _is_isolated(source, isolated):
        return _frontend().examine(source, shapes=shapes, **options)  # type: ignore[no-any-return]
    try:
        said = _call("examine_there", source, shapes, options)
        match said:
            case (list() as errors, None) if all(isinstance(e, SofieError) for e in errors):
                return Problems(errors), None
            case ([], content):
                return Problems([]), _graph(content, source)
        raise isolation.unexpected(str(source))
    except SofieError as error:
        return Problems([error]), None


def _graph(said: Any, source: Any) -> Graph:
    """What the other process has sent: a file that has taken it over could say anything."""
    match said:
        case (str(text), dict(constants)):
            arrays = [a for a in constants.values() if isinstance(a, np.ndarray)]
            if len(arrays) == len(constants) and all(type(name) is str for name in constants):
                for array in arrays:
                    array.setflags(write=False)
                return parse_graph(text, constants)
    raise isolation.unexpected(str(source))


def _is_isolated(source: Any, isolated: bool | None) -> bool:
    if not isinstance(source, Path) or isolated is False:
        return False
    return bool(isolated) or recognise(source) in DEFAULT


def _frontend() -> Any:
    """The frontend itself, which takes long to load."""
    return import_module("sofie_rdf.frontends.torch.reader")


def _call(function: str, source: Path, *given: Any) -> Any:
    *others, options = given
    path = os.path.abspath(source)  # noqa: PTH100
    known = contents.known(source)
    known = known and known._replace(path=path)
    arguments = (path, known, *others, _sendable(options))
    try:
        pickle.dumps(arguments)
    except Exception as error:  # Of objects of the user's own: of any kind.
        raise InputError(
            f"what is given with the file cannot be sent to another process: {error}",
            place=source.name,
            remedy="Give tensors, arrays and numbers, or read the file in this process: "
            "isolated=False",
        ) from None
    where = f"{__name__}:{function}"
    return isolation.call(
        where,
        *arguments,
        place=source.name,
        memory=_MEMORY,
        prepared="sofie_rdf.frontends.torch.warmed:load",
        of_here=_is_usual,
        # It registers the operators that the text names.
        meanwhile=lambda: import_module("sofie_rdf.ops"),
    )


def _is_usual() -> bool:
    """Whether torch is loaded here, does what it does in a fresh process, and uses no device."""
    torch = sys.modules.get("torch")
    try:
        return torch is not None and not (
            torch.cuda.is_initialized()
            or torch.xpu.is_initialized()
            or torch.get_default_dtype() != torch.float32
            or torch.get_default_device().type != "cpu"
            or not torch.is_grad_enabled()
            or torch.is_inference_mode_enabled()
            or torch.is_autocast_enabled("cpu")
            or torch.utils._python_dispatch._len_torch_dispatch_stack()
            or torch.overrides._len_torch_function_stack()
        )
    except AttributeError:  # An older or a later version.
        return False


def _sendable(value: Any) -> Any:
    """Arguments as they are, with tensors on the CPU, and names in place of torch.export.Dim."""
    if isinstance(value, Mapping):
        return {key: _sendable(inner) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_sendable(inner) for inner in value)
    if type(value).__module__.partition(".")[0] == "torch":
        if hasattr(value, "detach"):
            return value.detach().cpu()
        return getattr(value, "__name__", value)
    return value.__name__ if isinstance(value, type) else value


# There --------------------------------------------------------------------------------------------


def read_there(
    path: str,
    known: contents.Known | None,
    name: str,
    shapes: Shapes | None,
    options: dict[str, Any],
) -> Any:
    """The text and the constants of a file's graph, whose checksum may be known."""
    contents.tell(known)
    graph = _frontend().read(Path(path), name=name, shapes=shapes, **options)
    return graph_text(graph), dict(graph.constants)


def examine_there(
    path: str, known: contents.Known | None, shapes: Shapes | None, options: dict[str, Any]
) -> Any:
    """The errors in a file, and the text and the constants of the graph where there are none."""
    contents.tell(known)
    errors, graph = _frontend().examine(Path(path), shapes=shapes, **options)
    return list(errors), graph and (graph_text(graph), dict(graph.constants))
