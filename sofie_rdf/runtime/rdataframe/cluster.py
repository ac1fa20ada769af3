"""A network as columns of a distributed RDataFrame, whatever runs it: Dask, Spark, ...

Such a data frame has `Define` with expressions only, and its tasks run in other processes, which
have ROOT. So the model is a file (`sofie_rdf.runtime.rdataframe.shipped`), which ROOT's backend
sends; its column is a call of a function that `DistributeCppCode` declares on each worker, and
which finds the file beside the headers that ROOT distributes.
"""

from __future__ import annotations

import re
import tempfile
import weakref
from collections.abc import MutableMapping
from functools import cache
from pathlib import Path
from typing import Any

from sofie_rdf.errors import InputError
from sofie_rdf.runtime.compile.interpreter import declare, import_root
from sofie_rdf.runtime.rdataframe.functors import FunctorText
from sofie_rdf.runtime.rdataframe.shipped import CallText, Parcel

__all__ = ["define", "is_distributed", "local"]

# What an expression can call a column.
_PLAIN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_distributed(df: Any) -> bool:
    """Whether it is a data frame of ROOT.RDF.Distributed, or what an operation on one gave."""
    return hasattr(df, "proxied_node")


def local(df: Any) -> Any:
    """The data frame that knows the columns: that of the client, where it is distributed."""
    return df.proxied_node.rdf_node if is_distributed(df) else df


def define(
    df: Any, parcel: Parcel, functor: FunctorText, hidden: str, *, redefine: bool = False
) -> Any:
    """The distributed data frame with outputs of the model as new columns.

    ``hidden`` is a free name, for a column with all results where there are several.
    """
    call = CallText(functor, parcel)
    _refuse_threads(df)
    _send(df, parcel)
    _declare(call.headers, call.text)
    arguments = ["rdfentry_"]
    for name in functor.arguments:
        if not _PLAIN.fullmatch(name):
            df, name = _alias(df, name)
        arguments.append(name)
    shown = [one.column for one in functor.plan.shown]
    expression = f"{call.name}({', '.join(arguments)})"
    way = "Redefine" if redefine else "Define"
    if len(shown) == 1:
        return getattr(df, way)(shown[0], expression)
    df = df.Define(hidden, expression)
    for i, column in enumerate(shown):
        df = getattr(df, way)(column, f"{call.name}_{i}({hidden})")
    return df


def _refuse_threads(df: Any) -> None:
    """`InputError` for workers with several threads: ROOT 6.40 lets them share one data frame, of
    which each changes the entries while others loop over them, so that results are wrong.
    """
    client = getattr(df.proxied_node.get_head().backend, "client", None)
    threads = client.nthreads() if client is not None else {}
    most = max(threads.values(), default=1)
    if most > 1:
        raise InputError(
            f"a worker of this Dask cluster has {most} threads, with which ROOT's distributed "
            "RDataFrame gives wrong results",
            remedy="LocalCluster(n_workers=..., threads_per_worker=1)",
        )


def _alias(df: Any, name: str) -> tuple[Any, str]:
    """The data frame with another name for a column of which no expression could speak."""
    plain = f"rdf_sofie_{name.encode().hex()}_"
    return (df if local(df).HasColumn(plain) else df.Alias(plain, name)), plain


def _declare(*texts: str) -> None:
    """Declare them here, where errors are seen, and on each worker before its next task."""
    distributed = import_root().RDF.Distributed
    for text in texts:
        declare(text)
        distributed.DistributeCppCode(text)
    # Of the folder of this header the worker's interpreter knows, and so of the files beside it.
    distributed.DistributeHeaders([str(_file("sofie_rdf_here.hxx", b"// Nothing.\n"))])


# Files --------------------------------------------------------------------------------------------

# Which files have gone where. A cluster gives them to its later workers by itself.
_sent: MutableMapping[Any, set[str]] = weakref.WeakKeyDictionary()


def _send(df: Any, parcel: Parcel) -> None:
    """Send the file, unless this connection has done so.

    As `DistributeFiles` does, but now and once: that sends all files before each event loop anew,
    while the tasks of others may be reading them.
    """
    backend = df.proxied_node.get_head().backend
    # Each data frame has a backend of its own; what Dask and Spark know files by lives longer.
    connection = getattr(backend, "client", None) or getattr(backend, "sc", None) or backend
    sent = _sent.setdefault(connection, set())
    if parcel.file not in sent:
        backend.distribute_unique_paths([str(_file(parcel.file, parcel.content))])
        sent.add(parcel.file)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where files wait for those who fetch them, until this process ends."""
    return tempfile.TemporaryDirectory(prefix="sofie_rdf-")


def _file(name: str, content: bytes) -> Path:
    path = Path(_folder().name, name)
    if not path.exists():
        path.write_bytes(content)
    return path
