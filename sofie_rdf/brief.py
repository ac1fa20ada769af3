"""A class whose `help` fits a screen or two: it has a line for each method, not all of its text."""

from __future__ import annotations

import inspect
import sys
from typing import TypeVar

__all__ = ["Listed", "brief"]

T = TypeVar("T", bound=type)
# What is machinery, though its name begins with no underscore.
_INNER = {"optimized", "plan", "emission", "compiled", "parcel"}


class Listed(type):
    """Its classes list what users call, so that `help` shows that and none of the machinery.

    ``help(cls)`` lists no methods either: `brief` has put them into the docstring.
    """

    def __dir__(cls) -> list[str]:
        names = [name for name in super().__dir__() if name not in _INNER]
        names = [name for name in names if name == "__call__" or not name.startswith("__")]
        # The one function by which pydoc finds what a class has. dir(cls) is complete for others.
        if sys._getframe(1).f_code is inspect.classify_class_attrs.__code__:
            return [name for name in names if not inspect.isroutine(getattr(cls, name))]
        return names


def brief(cls: T) -> T:
    """The class, with the first line of each method in its docstring.

    ``help(cls.method)`` and the site have the whole texts.
    """
    if cls.__doc__ is None:  # Python was started with -OO.
        return cls
    public = [name for name in dir(cls) if name == "__call__" or not name.startswith("_")]
    methods = {name: getattr(cls, name) for name in public}
    lines = [
        f"    {name:15}{(inspect.getdoc(method) or '').splitlines()[0]}"
        for name, method in methods.items()
        if inspect.isroutine(method)
    ]
    title = f"Methods (help({cls.__name__}.define) says what `define` takes, and so for each):"
    cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__), "", title, "", *lines])
    return cls
