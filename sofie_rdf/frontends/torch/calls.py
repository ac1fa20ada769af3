"""Calls of a module: its tensors as arrays, and its buffers as they were before.

A module may change its buffers in each call: a counter, or what it has seen. So each
call here begins with the buffers that the user's module has.
"""

from __future__ import annotations

import copy
import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

from sofie_rdf.frontends.torch.inputs import Inputs, array_of
from sofie_rdf.frontends.torch.trials import Run
from sofie_rdf.ir.types import Array

if TYPE_CHECKING:
    import torch

__all__ = ["as_in_evaluation", "kept_buffers", "quiet", "repeated", "run_of", "tensors_in"]

_LOCK = threading.RLock()
_LOGGERS = ("torch", "torch.onnx", "torch.export", "torch._export", "torch.fx", "torch._dynamo")
_MORE_LOGGERS = ("onnxscript", "onnx_ir", "torch._subclasses", "torch.jit")

# Around the exporters -----------------------------------------------------------------------------


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and log lines of torch and onnxscript; one thread at a time."""
    names = (*_LOGGERS, *_MORE_LOGGERS)
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = logging.Logger.manager.loggerDict
        found = [n for n in known if n.split(".")[0] in {m.split(".")[0] for m in names}]
        loggers = [logging.getLogger(n) for n in dict.fromkeys((*names, *found))]
        # The others have the level of who is above them, and each change takes long.
        loggers = [one for one in loggers if one.level or one.name in names]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            out, err = _WithoutThisThread(sys.stdout), _WithoutThisThread(sys.stderr)
            with redirect_stdout(out), redirect_stderr(err):
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class _WithoutThisThread(io.TextIOBase):
    """A stream for all threads but this one: torch prints graphs when it fails."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() != self.thread and self.stream is not None:
            self.stream.write(text)
        return len(text)


@contextmanager
def as_in_evaluation(module: Any) -> Iterator[Any]:
    """The module in evaluation mode, on the CPU. Modes, buffers and random numbers are restored."""
    import torch

    tensors = (*module.parameters(), *module.buffers())
    if any(t.device.type != "cpu" for t in tensors):
        module = copy.deepcopy(module).cpu()
    modes = [(m, m.training) for m in module.modules()]
    with torch.random.fork_rng(devices=[]), torch.no_grad(), kept_buffers(module):
        try:
            _evaluating(module)
            yield module
        finally:
            for inner, mode in modes:
                inner.training = mode


@contextmanager
def kept_buffers(module: Any) -> Iterator[Callable[[], bool]]:
    """The buffers are put back at the end; what it gives says whether any has changed."""
    import torch

    inner = module.modules() if isinstance(module, torch.nn.Module) else ()
    before = [
        (m, name, b, b.detach().clone())
        for m in inner
        for name, b in m.named_buffers(recurse=False)
    ]

    def differs(now: Any, copied: torch.Tensor) -> bool:
        return now.shape != copied.shape or not torch.equal(now, copied)

    try:
        yield lambda: any(differs(getattr(m, name), copied) for m, name, _, copied in before)
    finally:
        for m, name, buffer, copied in before:
            if differs(buffer, copied):
                buffer.copy_(copied)
            if differs(getattr(m, name), copied):
                setattr(m, name, buffer)


def _evaluating(module: Any) -> None:
    try:
        module.eval()
    except NotImplementedError:  # An exported program in it has no modes.
        for inner in module.modules():
            inner.training = False


def run_of(module: Callable[..., Any], inputs: Inputs) -> Run:
    """The module as a function of tensors that gives arrays, and leaves its buffers."""
    call = repeated(module, inputs)

    def run(tensors: Sequence[torch.Tensor]) -> list[Array]:
        with kept_buffers(module):
            return call(tensors)

    return run


def repeated(module: Callable[..., Any], inputs: Inputs) -> Run:
    """As `run_of`, where each call finds the buffers as the last one has left them."""
    import torch

    def run(tensors: Sequence[torch.Tensor]) -> list[Array]:
        args, kwargs = inputs.with_tensors([t.clone() for t in tensors])
        with torch.no_grad(), quiet():
            return [array_of(t) for t in tensors_in(module(*args, **kwargs))]

    return run


def tensors_in(value: Any) -> list[torch.Tensor]:
    import torch
    from torch.utils import _pytree as pytree

    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
