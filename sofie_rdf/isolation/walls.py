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

__all__ = ["die_with_parent", "drop_capabilities", "limit", "refuse_calls", "refuse_writing"]

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
# Abstract sockets and signals stay among the processes behind these walls.
_SCOPES = {6: 0b11}

_SET_DEATH_SIGNAL, _NO_NEW_PRIVILEGES, _SECCOMP = 1, 38, 22
_SIGKILL = 9
# AUDIT_ARCH tells which table of system calls is meant; the column of it below.
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
# Their numbers on x86-64 and on ARM, which has some of them not; one number for what is new. They
# would go round Landlock, which has no say about them, or be there where Landlock is not.
_REFUSED = {
    "socket": (41, 198),
    "socketpair": (53, 199),
    "execve": (59, 221),
    "execveat": (322, 281),
    # It makes sockets, and opens files, by other ways.
    "io_uring_setup": (425,),
    "io_uring_enter": (426,),
    "io_uring_register": (427,),
    # Other processes: their memory and files, and memory that they share.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440,),
    "pidfd_getfd": (438,),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # Signals to others, however they are called.
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424,),
    # Processes of its own, which might live on.
    "fork": (57, 0),
    "vfork": (58, 0),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "unshare": (272, 97),
    "setns": (308, 268),
    # Root opens files by it from outside of a container.
    "open_by_handle_at": (304, 265),
    # The kernel itself.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    # What files have besides their content.
    "chmod": (90, 0),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452,),
    "chown": (92, 0),
    "fchown": (93, 55),
    "lchown": (94, 0),
    "fchownat": (260, 54),
    "utime": (132, 0),
    "utimes": (235, 0),
    "futimesat": (261, 0),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463,),
    "removexattrat": (466,),
    "file_setattr": (469,),
}
_LIMITS, _FILES = (302, 261), (72, 25)
_KILLS = ((62, 129), (234, 131))  # kill and tgkill
_CLONE, _NEWER_CLONE, _THREAD = (56, 220), 435, 0x10000
# Whom a file sends its signals to, and which ones.
_SIGNALS_OF_FILES = (8, 10, 15)
# Steps of a filter, and how it ends: as the call does, with EACCES, or with ENOSYS.
_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS = 0x20, 0x15, 0x35, 0x45
_ALLOW, _REFUSE, _ABSENT = (6, 0, 0, 0x7FFF0000), (6, 0, 0, 0x5000D), (6, 0, 0, 0x50026)


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
    scopes = sum(scope for since, scope in _SCOPES.items() if since <= version)
    handled = struct.pack("QQQ", files, network, scopes)
    handled = handled[: 24 if scopes else 16 if network else 8]
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


def refuse_calls() -> bool:
    """No socket, program, process or change of others' files and processes; whether that holds.

    A filter of system calls, which Linux has where its machine is one that is known here.
    """
    libc, known = _libc(), _MACHINES.get(platform.machine())
    if libc is None or known is None or sys.maxsize < 2**32:
        return False
    architecture, column = known
    # Numbers from the largest one on are those of x32, which has the same architecture.
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), _REFUSE]
    steps += [(_LOAD, 0, 0, 0), (_AT_LEAST, 0, 1, 0x40000000), _REFUSE]
    for numbers in _REFUSED.values():
        if number := numbers[min(column, len(numbers) - 1)]:
            steps += [(_EQUAL, 0, 1, number), _REFUSE]
    # The C library makes threads by the older call where this one is not there.
    steps += [(_EQUAL, 0, 1, _NEWER_CLONE), _ABSENT]
    steps += _only(_CLONE[column], 0, _HAS_BITS, _THREAD)
    # Its own limits are its own business, and it may end itself.
    steps += _only(_LIMITS[column], 0, _EQUAL, 0)
    for numbers in _KILLS:
        steps += _only(numbers[column], 0, _EQUAL, os.getpid())
    for command in _SIGNALS_OF_FILES:
        steps += [(_LOAD, 0, 0, 0), (_EQUAL, 0, 3, _FILES[column])]
        steps += [(_LOAD, 0, 0, 24), (_EQUAL, 0, 1, command), _REFUSE]
    steps += [_ALLOW]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    filtering = 2
    return bool(libc.prctl(_SECCOMP, filtering, program, 0, 0) == 0)


def _only(number: int, argument: int, test: int, value: int) -> list[tuple[int, int, int, int]]:
    """The call of this number is allowed where its argument passes the test, else refused."""
    given = (_LOAD, 0, 0, 16 + 8 * argument)
    return [(_EQUAL, 0, 4, number), given, (test, 1, 0, value), _REFUSE, _ALLOW]


def drop_capabilities() -> None:
    """What root may do beyond others is given up, but for reading files of other users."""
    libc = _libc()
    if libc is None:
        return
    header = struct.pack("Ii", 0x20080522, 0)
    held = ctypes.create_string_buffer(24)
    if libc.capget(header, held) == 0:
        read_all = 1 << 2
        effective, permitted, *_ = struct.unpack("6I", held.raw)
        kept = struct.pack("6I", effective & read_all, permitted & read_all, 0, 0, 0, 0)
        libc.capset(header, kept)
