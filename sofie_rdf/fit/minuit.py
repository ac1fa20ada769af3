"""A function of parameters in C++, for ROOT's minimizers."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from sofie_rdf.runtime.compile.interpreter import declare, import_root

if TYPE_CHECKING:
    from sofie_rdf.fit.likelihood import Function

__all__ = ["functor"]

_DOUBLES = ctypes.POINTER(ctypes.c_double)
# Of parameters the value and the gradient, where there is room for them; a message, or nothing.
_CALL = ctypes.CFUNCTYPE(ctypes.c_void_p, _DOUBLES, _DOUBLES, _DOUBLES)


def functor(function: Function) -> Any:
    """A ``ROOT.Math.IMultiGradFunction`` that calls this function."""
    declare('#include "sofie/rdf/fit.hxx"\n')
    messages: list[Any] = []

    def call(theta: Any, value: Any, gradient: Any) -> int | None:
        count = len(function.parameters)
        try:
            numbers = theta[:count]
            if value:
                value[0] = function(numbers)
            if gradient:
                for i, slope in enumerate(function.grad(numbers)):
                    gradient[i] = slope
        # An exception cannot go through C: C++ throws one with its text.
        except BaseException as error:
            text = str(error) or type(error).__name__
            messages[:] = [ctypes.create_string_buffer(text.encode(errors="replace"))]
            return ctypes.addressof(messages[0])
        return None

    held = _CALL(call)
    address = ctypes.cast(held, ctypes.c_void_p).value
    made = import_root().sofie.FitFunction(len(function.parameters), address)
    made._called = held
    return made
