"""What a process gives up before it opens a stranger's file: memory, time, writing, the network.

Nothing of the package is imported here: the walls stand before anything else is loaded. What the
system does not offer is left out; the process itself and the limits are there everywhere.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from contextlib import suppress

__all__ = ["die_with_parent", "limit", "refuse_sockets", "refuse_writing"]

# Landlock's numbers are the same on all machines: linux/landlock.h.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_WANTED = 1
_BENEATH = 1
_EXECUTE, _WRITE_FILE = 1 << 0, 1 << 1
# Removing and making, from REMOVE_DIR to MAKE_SYM.
_CHANGE = sum(1 << bit for bit in range(4, 13))
# What later versions have added: moving between folders, truncating, and controlling devices.
_LATER = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_TCP = {4: 0b11}

_SET_DEATH_SIGNAL, _NO_NEW_PRIVILEGES, _SECCOMP = 1, 38, 22
_SIGKILL = 9
# socket and socketpair have these numbers; AUDIT_ARCH tells which table is meant.
_MACHINES = {"x86_64": (0xC000003E, (41, 53)), "aarch64": (0xC00000B7, (198, 199))}


def _libc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None, use_errno=True)
    except OSError:
        return None


def die_with_parent(parent: int) -> None:
    """The kernel ends this process when its parent has ended, where the system is Linux.

    Where ``parent`` has ended before it could be asked for that, this process ends now.
    """
    libc = _libc()
    if libc is not None:
        libc.prctl(_SET_DEATH_SIGNAL, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def limit(memory: int, seconds: int) -> None:
    """At most so much memory that can be written, and CPU time; no core file."""
    import resource

    wanted = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, seconds)]
    if memory:
        # Not the address space: libraries reserve far more of it than they use.
        wanted.append((resource.RLIMIT_DATA, memory))
    for what, most in wanted:
        with suppress(OSError, ValueError):
            hard = resource.getrlimit(what)[1]
            if hard != resource.RLIM_INFINITY:
                most = min(most, hard)
            resource.setrlimit(what, (most, most))


def refuse_writing(folder: str) -> bool:
    """Nothing can be written, made, removed or started except in ``folder``; whether that holds.

    Landlock, which Linux has since version 5.13. It also refuses TCP from version 6.7 on.
    """
    libc = _libc()
    if libc is None:
        return False
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_WANTED)
    if version < 1:
        return False
    files = _EXECUTE | _WRITE_FILE | _CHANGE
    files |= sum(right for since, right in _LATER.items() if since <= version)
    network = sum(right for since, right in _TCP.items() if since <= version)
    handled = struct.pack("QQ", files, network)[: 16 if network else 8]
    rules = libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if rules < 0:
        return False
    try:
        _allow(libc, rules, folder, files & ~_EXECUTE)
        _allow(libc, rules, os.devnull, _WRITE_FILE)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        return bool(libc.syscall(_RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    with suppress(OSError):
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            libc.syscall(_ADD_RULE, rules, _BENEATH, struct.pack("=Qi", rights, file), 0)
        finally:
            os.close(file)


def refuse_sockets() -> bool:
    """No socket can be made from now on; whether that holds.

    A filter of system calls, which Linux has where its machine is one that is known here.
    """
    libc, known = _libc(), _MACHINES.get(platform.machine())
    if libc is None or known is None or sys.maxsize < 2**32:
        return False
    architecture, (socket, pair) = known
    load, jump_equal, give = 0x20, 0x15, 0x06
    allowed, refused = 0x7FFF0000, 0x00050000 | 13  # EACCES
    steps = [
        (load, 0, 0, 4),
        (jump_equal, 0, 4, architecture),
        (load, 0, 0, 0),
        (jump_equal, 1, 0, socket),
        (jump_equal, 0, 1, pair),
        (give, 0, 0, refused),
        (give, 0, 0, allowed),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    filtering = 2
    return bool(libc.prctl(_SECCOMP, filtering, program, 0, 0) == 0)
