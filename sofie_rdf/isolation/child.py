"""What runs in the other process: ``python -I -B child.py``, see `sofie_rdf.isolation`.

This file is run by its path. It puts up the walls before it imports anything of the package, whose
folder it is told, and it keeps the folder where the user stands out of where modules are found.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import math
import os
import pickle
import select
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from types import ModuleType
from typing import Any, NoReturn


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
    if "questions" in told:
        sys.path[:] = told["path"]
        _module("sofie_rdf", os.path.join(package, "__init__.py"), package)  # noqa: PTH118
        _load(told)
        told = _asked(told)
    _work(told, package, walls)


def serve(told: dict[str, Any]) -> NoReturn:
    """What a copy of the user's process does: as a fresh one that is told to load and be asked."""
    from sofie_rdf.isolation import forked, walls

    told = {**told, "questions": forked.forget(told["questions"])}
    sys.path[:] = told["path"]
    _load(told)
    _work(_asked(told), told["package"], walls)


def _work(told: dict[str, Any], package: str, walls: ModuleType) -> NoReturn:
    """Do what is asked for behind the walls, answer, and end."""
    walls.die_with_parent(told["parent"])
    os.chdir(told["folder"])
    walls.limit(told["memory"], told["seconds"])
    walls.refuse_writing(told["folder"])
    walls.drop_capabilities()
    walls.refuse_calls()
    if "sofie_rdf" not in sys.modules:
        sys.path[:] = told["path"]
        _module("sofie_rdf", os.path.join(package, "__init__.py"), package)  # noqa: PTH118
    if told.get("has_threads") and "torch" in sys.modules:
        # It would wait for threads that only the user's process has.
        sys.modules["torch"].set_num_threads(1)
    with os.fdopen(told["answer"], "wb") as answer:
        _send(_answer(told), answer)
        answer.flush()
        # Nothing is left to do, and libraries take long to say goodbye.
        os._exit(0)


# Copies of a process that has loaded what takes long: see `sofie_rdf.isolation.warm` --------------


def _load(told: dict[str, Any]) -> None:
    # What is loaded stays: neither this process nor its copies need to look through it for garbage,
    # which takes a fifth of the time, and would give each copy all of it as memory of its own.
    gc.disable()
    with suppress(Exception):  # Whoever needs it says what is wrong with it.
        _function(told["prepared"])()
    gc.freeze()
    gc.enable()


def _asked(told: dict[str, Any]) -> dict[str, Any]:
    """Make a copy for each question; only the copies come back, with what they are told."""
    questions, parent = socket.socket(fileno=told["questions"]), os.getpid()
    while True:
        if not select.select([questions], [], [], told["seconds"])[0]:
            # What was asked until now is answered; who asks from now on sees that nobody is there.
            questions.shutdown(socket.SHUT_RD)
        message, files, _, _ = socket.recv_fds(questions, 2**22, 3)
        if not message:
            os._exit(0)
        copy = _forked()
        if not copy:
            questions.close()
            return _begun(json.loads(message), files, parent)
        with suppress(ProcessLookupError, PermissionError):
            os.setpgid(copy, copy)
        for file in files:
            os.close(file)
        questions.send(str(copy).encode())
        _wait(questions, copy)


def _forked() -> int:
    import warnings

    with warnings.catch_warnings():
        # NumPy has threads, which its library ends before a fork and starts again behind it.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _begun(told: dict[str, Any], files: list[int], parent: int) -> dict[str, Any]:
    """What a copy is told, with its own numbers of the files."""
    os.setpgid(0, 0)
    question, answer, errors = files
    os.dup2(errors, 2)
    os.close(errors)
    os.environ.clear()
    os.environ.update(told["environment"])
    tempfile.tempdir = None  # The folder that it knows may be another one.
    return {**told, "question": question, "answer": answer, "parent": parent}


def _wait(questions: socket.socket, copy: int) -> None:
    """Until the copy has ended and nobody wants anything of it any more, and nothing is left."""
    status, wanted = None, True
    while status is None or wanted:
        seconds = 0.02 if status is None else None
        if wanted and select.select([questions], [], [], seconds)[0]:
            wanted = False
            is_there = bool(questions.recv(64))
            if status is None:
                _kill(copy)
        if status is None:
            ended = os.waitid(os.P_PID, copy, os.WEXITED | os.WNOWAIT | (os.WNOHANG * wanted))
            if ended is not None:
                _kill(copy)  # What it may have started itself.
                status = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
                with suppress(OSError):
                    questions.send(str(status).encode())
    if not is_there:
        os._exit(0)


def _kill(copy: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(copy, signal.SIGKILL)


# What is asked for --------------------------------------------------------------------------------


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
            function = _function(told["function"])
            try:
                value = function(*args)
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


def _function(name: str) -> Any:
    """What ``module:name`` says."""
    module, _, names = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in names.split("."):
        found = getattr(found, part)
    return found


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
