"""Work in another process: what it does there ends there, and its answer can run nothing."""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import mmap
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sofie_rdf import isolation, limits
from sofie_rdf.errors import CorruptFile, LimitExceeded, SofieError, UnsupportedFormat
from sofie_rdf.ir.types import DType
from sofie_rdf.isolation import forked, fresh, warm, wire
from tests.choice import some_of

PROJECT = Path(isolation.__file__).parents[2]
_VERSION = ctypes.c_size_t(0), 1
HAS_LANDLOCK = sys.platform == "linux" and ctypes.CDLL(None).syscall(444, None, *_VERSION) > 0
# Machines whose system calls are filtered.
FILTERED = ("x86_64", "aarch64")

# What the other process is asked to do.
WORK = """
import ctypes, fcntl, os, socket, sys, threading, time
import numpy as np
from sofie_rdf.errors import UnsupportedFormat

def same(value): return value
def prepare(): global prepared; prepared = [os.getpid()]
def kept(value):
    prepared.append(value)
    return prepared, os.getppid(), os.environ.get("SOFIE_RDF_KEPT", "")
def files():
    names = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
    return [os.readlink(n) for n in names if os.path.exists(n)]
def children(seconds):
    try: child = os.fork()
    except OSError as error: return type(error).__name__
    if child:
        return os.getpid()
    time.sleep(seconds)
    os._exit(0)
def crash(): os.kill(os.getpid(), 11)
def segfault(): ctypes.string_at(1)
def byte_at(place): return ctypes.string_at(place, 1)[0]
def shared_memory():
    from sofie_rdf.isolation.forked import shared_memory
    return shared_memory()
def leave(): os._exit(3)
def closed():
    os.closerange(3, 100)
    time.sleep(1000)
def loop():
    while True: pass
def loop_in_c(): ctypes.CDLL(None).pause()
def hoard():
    kept = []
    while True: kept.append(np.ones(2**24))
def hoard_shared():
    import mmap
    kept = []
    while True:
        kept.append(mmap.mmap(-1, 2**26))
        kept[-1].write(bytes(2**26))
def recurse(): return recurse()
def refuse(): raise UnsupportedFormat("is nothing", place="there", remedy="Do that")
def refuse_all(): return [UnsupportedFormat("one", place="a"), (UnsupportedFormat("two"), None)]
def fail(): raise KeyError("x")
def unsendable(): return object()
def print_much():
    os.write(1, b"x" * 10**6); os.write(2, b"y" * 10**6); print("hello", flush=True)
    return sys.stdin.read()
def tree(): return {"a": (1, [2.5, None, True], b"bytes"), 7: np.arange(3)}
def zeros(n): return np.zeros(n, np.float32)
def pid(): return os.getpid()
lock = threading.Lock()
def wait_for_lock():
    with lock: pass
def use_lock():
    with lock: return os.getppid()
def deep(n): return deep_by(n)
def deep_by(n): return 1 + deep_by(n - 1) if n else 0
def use_all(value):
    import gc, logging
    logging.error("in a copy")
    print("in a copy", flush=True)
    gc.collect()
    return value
def world(): return [os.getcwd(), sys.path, sys.flags.isolated, os.environ.get("PYTHONHASHSEED")]
def write(path):
    try:
        with open(path, "wb") as file: file.write(b"x")
    except OSError as error: return type(error).__name__
    return "written"
def change(path):
    import shutil
    said = []
    for act in (os.remove, lambda p: os.rename(p, p + "x"), lambda p: os.symlink("x", p + "y"),
                lambda p: os.truncate(p, 0), lambda p: os.mkdir(p + "z")):
        try: act(path); said.append("done")
        except OSError as error: said.append(type(error).__name__)
    return said
def connect(kind):
    try: socket.socket(kind)
    except OSError as error: return type(error).__name__
    return "connected"
def start():
    import subprocess
    try: subprocess.run(["/bin/true"])
    except OSError as error: return type(error).__name__
    return "started"
def call_os(name, *args):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*args):
        raise OSError(ctypes.get_errno(), name)
def around(path):
    libc, said = ctypes.CDLL(None, use_errno=True), {}
    def call(name, *args):
        ctypes.set_errno(0)
        if libc.syscall(*args) < 0:
            said[name] = os.strerror(ctypes.get_errno())
        else:
            said[name] = "done"
    call("io_uring", 425, 4, ctypes.create_string_buffer(256))
    limits = (ctypes.c_ulong * 2)()
    for name, pid in (("limits of another process", os.getppid()), ("own limits", 0)):
        call(name, {"x86_64": 302, "aarch64": 261}[os.uname().machine], pid, 7, None, limits)
    call("process by clone3", 435, ctypes.create_string_buffer(88), 88)
    call("signal by a file", 424, 0, 0, None, 0)
    def attempt(name, work, *args):
        try: work(*args); said[name] = "done"
        except OSError as error: said[name] = os.strerror(error.errno)
    attempt("chmod", os.chmod, path, 0o777)
    attempt("utime", os.utime, path, (1, 1))
    attempt("setxattr", os.setxattr, path, "user.x", b"x")
    attempt("chown", os.chown, path, os.getuid(), os.getgid())
    attempt("kill", os.kill, os.getppid(), 0)
    attempt("itself", os.kill, os.getpid(), 0)
    attempt("kill of all", os.kill, -1, 0)
    attempt("owner of a file's signals", fcntl.fcntl, 0, fcntl.F_SETOWN, os.getppid())
    attempt("own flags", fcntl.fcntl, 0, fcntl.F_GETFL)
    attempt("priority", os.setpriority, os.PRIO_PROCESS, os.getppid(), 19)
    attempt("session", os.setsid)
    attempt("namespace", call_os, "unshare", 0x10000000)
    thread = threading.Thread(target=said.update, args=[{"thread": "done"}])
    thread.start(); thread.join()
    with open("/proc/self/status") as file:
        (held,) = (int(line.split()[1], 16) for line in file if line.startswith("CapEff"))
    said["what only root may"] = "done" if held & ~4 else "nothing"
    program = os.memfd_create("program")
    with open("/bin/true", "rb") as file: os.write(program, file.read())
    attempt("program in memory", os.execve, program, ["true"], {})
    if os.uname().machine == "x86_64":
        import mmap
        # socket(AF_UNIX, SOCK_STREAM, 0) as a program of 32 bits calls it.
        code = bytes.fromhex("53 b867010000 bb01000000 b901000000 31d2 cd80 5b c3".replace(" ", ""))
        memory = mmap.mmap(-1, 4096, prot=7, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.write(code)
        entry = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        found = ctypes.CFUNCTYPE(ctypes.c_int)(entry)()
        said["socket of 32 bits"] = os.strerror(-found) if found < 0 else "done"
    return said
def own_folder():
    import tempfile
    with tempfile.NamedTemporaryFile() as file: file.write(b"x")
    return tempfile.gettempdir()
def garbage():
    import gc
    return gc.get_freeze_count(), gc.isenabled()
def claim():
    from sofie_rdf import limits
    limits.remaining = lambda: limits.Limits(bytes=10**15, nodes=10**9)
    return 1
def spend():
    from sofie_rdf import limits
    limits.spend(bytes=100, nodes=7)
"""


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "isolated_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path / "modules")


# A fresh process for each question, or copies of one that is prepared, which is a fresh one or a
# copy of this one.
PREPARED = {
    "fresh": "",
    "copied": "isolated_work:prepare",
    "of_here": "isolated_work:prepare",
}
# Other tests leave threads here, and memory that is shared, so that no copy is made of a process.
OF_HERE = pytest.param("of_here", marks=pytest.mark.fresh_process)
LATER = pytest.param("of_here", marks=[pytest.mark.fresh_process, pytest.mark.exhaustive])
both = pytest.mark.parametrize("way", ["fresh", "copied", LATER], indirect=True)
each = pytest.mark.parametrize("way", ["fresh", "copied", OF_HERE], indirect=True)


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    chosen = getattr(request, "param", "fresh")
    if chosen != "fresh" and sys.platform != "linux":
        pytest.skip("only Linux has copies")
    _way.append(chosen)
    yield chosen
    _way.pop()
    warm.end_all()
    warm._failed.clear()


_way: list[str] = []


def ask(function: str, *args: Any, **options: Any) -> Any:
    chosen = _way[-1]
    given = {"prepared": PREPARED[chosen], "place": "m.pt2", **options}
    if chosen == "of_here":
        given = {"of_here": lambda: True, **given}
    return isolation.call(f"isolated_work:{function}", *args, **given)


# What comes back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", sorted(d.value for d in DType if d.value != "string"))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_arrays_of_all_types_and_shapes_arrive_as_they_are(
    dtype: str, shape: tuple[int, ...]
) -> None:
    array = np.arange(math.prod(shape)).reshape(shape).astype(DType(dtype).numpy)
    assert_same(_round_trip(array), array)


@pytest.mark.parametrize("dtype", [">f4", ">i8", "c8", "S3"])
def test_other_arrays_arrive_too(dtype: str) -> None:
    array = np.array([1, 2, 3]).astype(dtype)
    assert_same(_round_trip(array), array)
    assert_same(_round_trip(array[::2]), array[::2])
    assert _round_trip(array).flags.writeable


def test_values_arrive_as_they_are() -> None:
    values = (None, True, 0, -(2**70), 0.1, "ä\x00", b"", b"\x00", [], (), {}, [(1, {"a": []})])
    for value in values:
        assert _round_trip(value) == value
    assert math.isnan(_round_trip(math.nan))
    assert _round_trip(-math.inf) == -math.inf
    assert_same(_round_trip(np.float32(2)), np.array(2, np.float32))


@both
def test_a_result_comes_from_the_other_process() -> None:
    found = ask("tree")
    assert_same(found.pop(7), np.arange(3))
    assert found == {"a": (1, [2.5, None, True], b"bytes")}
    assert ask("pid") != os.getpid()
    array = np.float16([1, 2])
    assert_same(ask("same", array), array)


@both
def test_large_results_arrive() -> None:
    assert ask("zeros", 2**26).nbytes == 2**28
    assert_same(ask("same", np.arange(2**22)), np.arange(2**22))


def _round_trip(value: Any) -> Any:
    content = memoryview(b"".join(wire.parts(value)))
    reading = wire.reader()
    wanted = next(reading)
    while True:
        wanted[:] = content[: len(wanted)]
        content = content[len(wanted) :]
        try:
            wanted = next(reading)
        except StopIteration as end:
            assert not content
            return end.value


def assert_same(found: Any, wanted: Any) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    "text",
    [
        "[",
        '["what"]',
        '["array","O",[1]]',
        '["array","<f4",[-1]]',
        '["array","<f4",["x"]]',
        '["array","V8",[1]]',
        '["array",5,[1]]',
        '["array","<f4"]',
        '["array","<f4,<f4",[1]]',
        '["error","SystemExit","","",""]',
        '["error","nearest","","",""]',
        '["dict",["list"],1]',
        '["dict",1]',
        '["float","x"]',
        '["bytes","x"]',
        "[" * 100_000,
    ],
)
def test_answers_that_cannot_be_true_are_refused(text: str) -> None:
    reading = wire.reader()
    next(reading)[:] = len(text).to_bytes(8, "little")
    next(reading)[:] = text.encode()
    with pytest.raises(wire.Malformed):
        next(reading)


def test_answers_that_are_too_large_are_refused() -> None:
    reading = wire.reader(most=1000)
    text = b'["array","<f4",[1000000000000]]'
    next(reading)[:] = len(text).to_bytes(8, "little")
    next(reading)[:] = text
    with pytest.raises(MemoryError):
        next(reading)
    with limits.budget("bytes=1M"), pytest.raises(LimitExceeded, match="memory"):
        ask("zeros", 2**20)


def test_bools_that_are_none_are_refused() -> None:
    text = b'["array","|b1",[1]]'
    reading = wire.reader()
    next(reading)[:] = len(text).to_bytes(8, "little")
    next(reading)[:] = text
    next(reading)[:] = b"\x02"
    with pytest.raises(wire.Malformed, match="bool"):
        next(reading)


# What goes wrong ----------------------------------------------------------------------------------


@both
def test_errors_of_ours_are_passed_through() -> None:
    with pytest.raises(UnsupportedFormat, match=r"there: is nothing\. Do that") as caught:
        ask("refuse")
    assert caught.value.remedy == "Do that"
    one, (two, none) = ask("refuse_all")
    assert (str(one), str(two), none) == ("a: one", "two", None)


@both
@pytest.mark.parametrize(
    ("function", "match"),
    [
        ("crash", "SIGSEGV"),
        ("segfault", "SIGSEGV"),
        ("leave", "status 3"),
        ("fail", "KeyError: 'x'"),
        ("recurse", "RecursionError"),
        ("unsendable", "a object cannot be sent"),
        ("absent", "AttributeError"),
    ],
)
def test_what_crashes_there_is_an_error_here(function: str, match: str) -> None:
    with pytest.raises(CorruptFile, match=match) as caught:
        ask(function)
    assert caught.value.place == "m.pt2"


@both
def test_a_process_that_answers_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_SECONDS_TO_END", 0.1)
    with pytest.raises(CorruptFile, match="SIGKILL"):
        ask("closed")


@both
@pytest.mark.parametrize("function", ["loop", "loop_in_c"])
def test_loops_end_with_the_budget(function: str) -> None:
    with (
        limits.budget("seconds=1.5"),
        pytest.raises(LimitExceeded, match=r"m.pt2: reading it takes longer.*seconds="),
    ):
        ask(function)


@both
@pytest.mark.parametrize("function", some_of(["hoard", "hoard_shared"], ["hoard"]))
def test_memory_ends_with_the_budget(function: str) -> None:
    with limits.budget("bytes=300M"), pytest.raises(LimitExceeded, match=r"memory.*bytes="):
        ask(function, memory=2**29)


@each
def test_what_is_spent_there_is_spent_here() -> None:
    with limits.budget("bytes=1M,nodes=1000"):
        ask("spend")
        left = limits.remaining()
    assert (left.bytes, left.nodes) == (2**20 - 100, 993)


@each
def test_nobody_there_can_make_the_budget_larger() -> None:
    with limits.budget("bytes=1M,nodes=1000"):
        assert ask("claim") == 1
        left = limits.remaining()
    assert (left.bytes, left.nodes) == (2**20, 1000)


# What it sees and may do --------------------------------------------------------------------------


@both
def test_nothing_is_printed_and_there_is_no_input(capfd: pytest.CaptureFixture[str]) -> None:
    assert ask("print_much") == ""
    assert capfd.readouterr() == ("", "")


@each
def test_it_does_not_see_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "pickle", "numpy", "sofie_rdf", "sitecustomize", "ctypes", "torch"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(77)")
    (tmp_path / "walls.py").write_text("import os; os._exit(77)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "json.py"))
    folder, path, isolated, seed = ask("world")
    assert str(tmp_path) not in path
    assert not {"", "."} & set(path)
    assert folder not in (str(tmp_path), str(PROJECT))
    assert (isolated, seed) == (_way[-1] != "of_here", "1")


@both
def test_it_works_where_the_current_folder_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert ask("same", 1) == 1


@both
def test_it_has_a_folder_of_its_own_that_is_gone_afterwards() -> None:
    folder = Path(ask("own_folder"))
    assert folder.name.startswith("sofie_rdf-")
    assert not folder.exists()


@each
@pytest.mark.skipif(not HAS_LANDLOCK, reason="needs Landlock, which Linux has since 5.13")
def test_it_cannot_write(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    assert ask("write", str(tmp_path / "new")) == "PermissionError"
    assert ask("write", str(kept)) == "PermissionError"
    assert ask("write", os.devnull) == "written"
    assert set(ask("change", str(kept))) == {"PermissionError"}
    assert kept.read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept", "modules"]
    assert ask("start") == "PermissionError"


@both
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux filters system calls")
@pytest.mark.parametrize("kind", [1, 2, 10])  # UNIX, INET, INET6
def test_it_has_no_network(kind: int) -> None:
    assert ask("connect", kind) == "PermissionError"


@each
@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in FILTERED,
    reason="only Linux filters system calls",
)
def test_there_is_no_way_around(tmp_path: Path) -> None:
    """What neither opens a file for writing nor calls socket(): each of them worked once."""
    kept = tmp_path / "kept"
    kept.write_text("kept")
    before = kept.stat()
    said = ask("around", str(kept))
    allowed = {name for name, what in said.items() if what == "done"}
    assert allowed == {"own limits", "itself", "own flags", "thread"}, said
    assert kept.stat()[:9] == before[:9]


# When it ends -------------------------------------------------------------------------------------


def test_no_process_is_left() -> None:
    before = _children(os.getpid())
    assert ask("same", 1) == 1
    for function in ("crash", "refuse"):
        with pytest.raises(SofieError):
            ask(function)
    assert _children(os.getpid()) == before


# Where tests run in the background, SIGINT is ignored by what they start.
WAITING = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path[:] = json.loads(sys.argv[1])
from sofie_rdf import isolation
print("waiting", flush=True)
isolation.call("isolated_work:loop", place="m")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_the_process_that_waits(number: int) -> None:
    command = [sys.executable, "-c", WAITING, json.dumps(sys.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"waiting\n"
        child = _until(lambda: _children(waiting.pid))[0]
        _until(lambda: b"child.py" in _command_of(child))
        waiting.send_signal(number)
        waiting.communicate(timeout=60)
    assert waiting.returncode in (-number, 1)
    _until(lambda: not _command_of(child))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends it")
def test_it_ends_where_the_other_has_ended_before() -> None:
    """Before it could ask to be ended with it: it would work on for nobody."""
    code = (
        "import os, sys\nfrom sofie_rdf.isolation import walls\n"
        "walls.die_with_parent(int(sys.argv[1]))\nprint('goes on')"
    )
    for parent, said in ((os.getpid(), b"goes on\n"), (os.getppid(), b"")):
        command = [sys.executable, "-c", code, str(parent)]
        assert subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout == said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_copies_end_with_the_process_that_waits(number: int) -> None:
    code = WAITING.replace('place="m"', 'place="m", prepared="isolated_work:prepare"')
    command = [sys.executable, "-c", code, json.dumps(sys.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"waiting\n"
        prepared = _until(lambda: _children(waiting.pid))[0]
        copied = _until(lambda: _children(prepared))[0]
        waiting.send_signal(number)
        waiting.communicate(timeout=60)
    _until(lambda: not _command_of(prepared) and not _command_of(copied))


# Copies of a process that is prepared -------------------------------------------------------------


@pytest.mark.parametrize("way", ["copied"], indirect=True)
class TestCopies:
    def test_each_question_has_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What one does is gone with it, and the environment is that of the question."""
        (first, parent, _) = ask("kept", 1)
        monkeypatch.setenv("SOFIE_RDF_KEPT", "now")
        assert ask("kept", 2) == ([*first[:1], 2], parent, "now")
        assert first == [parent, 1]
        assert ask("pid") != ask("pid")

    def test_what_was_loaded_before_is_not_looked_through(self) -> None:
        """By Python, for garbage: that would make all of it memory of the copy's own."""
        frozen, is_enabled = ask("garbage")
        assert frozen > 1000 and is_enabled

    def test_only_its_own_files_are_open(self) -> None:
        """Neither what the user has open, nor what the one that makes copies is asked by."""
        with open(__file__):  # noqa: PTH123
            names = ask("files")
        assert sorted(n.partition(":")[0] for n in names) == ["/dev/null"] * 2 + ["pipe"] * 2

    def test_the_next_one_works_after_what_went_wrong(self) -> None:
        parent = ask("kept", 0)[1]
        for function in ("crash", "leave", "fail"):
            with pytest.raises(CorruptFile):
                ask(function)
        with limits.budget("seconds=1"), pytest.raises(LimitExceeded):
            ask("loop")
        assert ask("kept", 0)[1] == parent

    def test_nothing_is_left_of_what_a_copy_starts(self) -> None:
        """The copy has a group of processes of its own, which is ended with it."""
        copied = ask("children", 1000)
        if platform.machine() in FILTERED:
            assert copied == "PermissionError"
        assert ask("same", 1) == 1
        assert copied not in map(_running_group, Path("/proc").glob("[0-9]*/stat"))

    def test_one_that_is_gone_is_made_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(warm, "_SECONDS_WITHOUT_QUESTIONS", 0)
        parent = ask("kept", 0)[1]
        _until(lambda: _has_ended(parent))
        monkeypatch.setattr(warm, "_SECONDS_WITHOUT_QUESTIONS", 300)
        parents = [ask("kept", 0)[1] for _ in range(2)]
        assert parent not in parents
        os.kill(parents[0], signal.SIGKILL)
        _until(lambda: _has_ended(parents[0]))
        assert ask("kept", 0)[1] not in (parent, *parents)

    def test_several_threads_ask(self) -> None:
        """One has the copy, and the others get fresh processes."""
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(lambda n: ask("same", n), range(8))) == list(range(8))

    def test_a_fork_of_this_process_has_its_own(self) -> None:
        parent = ask("kept", 0)[1]
        child = os.fork()
        if not child:
            code = 1
            try:
                code = ask("kept", 0)[1] == parent
                warm.end_all()
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert ask("kept", 0)[1] == parent

    def test_none_is_left(self) -> None:
        before = _children(os.getpid())
        assert ask("same", 1) == 1
        (parent,) = set(_children(os.getpid())) - set(before)
        warm.end_all()
        assert not _command_of(parent)

    def test_what_cannot_be_prepared_is_asked_all_the_same(self) -> None:
        assert ask("same", 1, prepared="no_such_module:prepare") == 1


# Copies of this process ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", [OF_HERE], indirect=True)
class TestCopiesOfHere:
    def test_it_has_what_is_loaded_here(self) -> None:
        """Without a fresh process, and without the files that are open here."""
        with open(__file__):  # noqa: PTH123
            names = ask("files")
        assert _is_of_here()
        assert sorted({n.partition(":")[0] for n in names}) == ["/dev/null", "pipe"]
        assert sum("pipe" in n for n in names) == 2

    @pytest.mark.parametrize("function", ["write", "change", "connect", "start"])
    def test_it_has_walls(self, function: str, tmp_path: Path) -> None:
        """Here all ways of `both` are asked once more whether a copy has answered."""
        (tmp_path / "kept").write_text("kept")
        given = {"connect": [1], "start": []}.get(function, [str(tmp_path / "kept")])
        found = ask(function, *given)
        if function == "connect" or HAS_LANDLOCK:
            assert set([found] if isinstance(found, str) else found) == {"PermissionError"}
        assert _is_of_here()

    @pytest.mark.parametrize("function", ["crash", "hoard", "fail", "leave"])
    def test_what_goes_wrong_is_done_again_by_a_fresh_one(self, function: str) -> None:
        with limits.budget("bytes=300M"), pytest.raises((CorruptFile, LimitExceeded)):
            ask(function, memory=2**29)
        assert os.getpid() in warm._failed
        assert ask("same", 1) == 1
        assert not _is_of_here()

    def test_errors_of_ours_are_not_done_again(self) -> None:
        with pytest.raises(UnsupportedFormat):
            ask("refuse")
        assert _is_of_here()

    @pytest.mark.parametrize("prepared", ["isolated_work:prepare", "isolated_work:wait_for_lock"])
    def test_one_that_waits_for_a_thread_that_it_lacks(
        self, prepared: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A thread here holds a lock, which nobody gives back in the copy."""
        import isolated_work  # type: ignore[import-not-found]

        monkeypatch.setattr(warm, "_SECONDS_ASLEEP", 0.5)
        ends = threading.Event()

        def hold() -> None:
            with isolated_work.lock:
                ends.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        _until(isolated_work.lock.locked)
        try:
            assert ask("use_lock", prepared=prepared) > 0
            assert not _is_of_here()
        finally:
            ends.set()
            thread.join()
            del sys.modules["isolated_work"]

    def test_one_that_never_gets_so_far(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What somebody has arranged for copies waits for ever, before it has a group of its own.

        No test comes after this one in its process, where all copies wait from now on.
        """
        monkeypatch.setattr(warm, "_SECONDS_ASLEEP", 0.5)
        os.register_at_fork(after_in_child=lambda: time.sleep(100))
        begin = time.monotonic()
        assert ask("same", 1) == 1
        assert not _is_of_here()
        assert time.monotonic() - begin < 30

    def test_threads_that_compute(self) -> None:
        """They may hold any lock; those that sleep are no reason."""
        ends = threading.Event()
        sleeping = threading.Thread(target=ends.wait)
        sleeping.start()
        assert _until(forked.is_possible)
        # In C, so that it computes while Python does something else.

        def compute() -> None:
            while not ends.is_set():
                hashlib.pbkdf2_hmac("sha256", b"", b"", 10**5)

        computing = threading.Thread(target=compute)
        computing.start()
        try:
            assert not forked.is_possible()
            assert ask("same", 1) == 1
            assert not _is_of_here()
        finally:
            ends.set()
            computing.join()
            sleeping.join()

    @pytest.mark.parametrize("kind", ["writable", "anonymous", "readable"])
    def test_memory_that_is_shared(self, kind: str, tmp_path: Path) -> None:
        """A copy could write to the file through it, whatever walls it has: it has it no more."""
        path = tmp_path / "shared"
        path.write_bytes(bytes(4096))
        if kind == "anonymous":
            shared: Any = mmap.mmap(-1, 4096)
            place = ctypes.addressof(ctypes.c_char.from_buffer(shared))
        else:
            shared = np.memmap(path, mode="r+" if kind == "writable" else "r")
            place = shared.ctypes.data
        assert ask("shared_memory") == []
        assert _is_of_here()
        if kind == "readable":
            assert ask("byte_at", place) == 0
            assert _is_of_here()
        else:
            # Who reads it ends the copy; a fresh process has nothing there either.
            with pytest.raises(CorruptFile, match="SIGSEGV"):
                ask("byte_at", place)
            assert not _is_of_here()
            assert shared[:1] == b"\0" or shared[0] == 0
        assert forked.shared_memory() if kind != "readable" else True

    def test_the_user_may_refuse_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOFIE_RDF_FORK", "off")
        assert ask("same", 1) == 1
        assert not _is_of_here()

    @pytest.mark.parametrize("name", ["jax", "mpi4py.MPI"])
    def test_libraries_that_do_not_take_copies(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, name, sys)
        assert not forked.is_possible()

    def test_much_memory_is_given_back_with_the_answer(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(warm, "_MOST_KEPT", 0)
        assert ask("same", 1) == 1
        (template,) = warm._templates.values()
        assert template.is_of_here
        _until(lambda: not _command_of(template.process.pid))
        assert ask("same", 2) == 2

    def test_its_limit_of_memory_begins_with_what_is_here(self) -> None:
        kept = np.ones(2**26)
        with limits.budget("bytes=20M"):
            assert ask("zeros", 2**21).size == 2**21
        assert _is_of_here()
        del kept

    def test_deep_calls_leave_room(self) -> None:
        def deep(n: int) -> Any:
            return deep(n - 1) if n else ask("deep", 800)

        assert deep(sys.getrecursionlimit() - 300) == 800
        assert _is_of_here()


def _is_of_here() -> bool:
    return [template.is_of_here for template in warm._templates.values()] == [True]


USING = """
import atexit, gc, json, logging, os, signal, sys, tempfile, threading, weakref
sys.path[:] = json.loads(sys.argv[1])
from sofie_rdf import isolation
from sofie_rdf.isolation import warm

def say(what):
    with open("said", "a") as file: file.write(what + "\\n")

class Ended:
    def __del__(self): say("deleted")

atexit.register(say, "atexit")
class Kept: pass
ended, weak = Ended(), Kept()
ended.itself = ended
weakref.finalize(weak, say, "finalised")
logging.basicConfig(filename="log", level=0)
signal.signal(signal.SIGTERM, lambda *_: say("signal"))
sys.unraisablehook = lambda *_: say("unraisable")
os.register_at_fork(after_in_child=lambda: 1 / 0)
sys.settrace(lambda *_: None)
folder = tempfile.TemporaryDirectory(dir=".")
written = open("written", "w")
written.write("begun, ")
print("printed", end=" ")
threading.Thread(target=threading.Event().wait, daemon=True).start()
del ended
assert isolation.call("isolated_work:use_all", 7, place="m", prepared="isolated_work:prepare",
                      of_here=lambda: True) == 7
assert [t.is_of_here for t in warm._templates.values()] == [True]
logging.warning("logged here")
written.write("ended")
print(os.path.isdir(folder.name), end="")
folder.cleanup()
written.close()
gc.collect()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has copies")
def test_nothing_of_the_user_is_used_in_a_copy(tmp_path: Path) -> None:
    """Neither what is buffered, nor what is to be done at the end, nor loggers and hooks."""
    (tmp_path / "here").mkdir()
    command = [sys.executable, "-W", "error", "-c", USING, json.dumps(sys.path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path / "here", timeout=300
    )
    assert done.stdout == "printed True"
    assert (done.stderr, done.returncode) == ("", 0)
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == ["log", "said", "written"]
    said = (tmp_path / "here" / "said").read_text().split()
    assert sorted(said) == ["atexit", "deleted", "finalised"]
    assert (tmp_path / "here" / "written").read_text() == "begun, ended"
    assert (tmp_path / "here" / "log").read_text() == "WARNING:root:logged here\n"


def _running_group(stat: Path) -> int:
    """The group of a process; 0 for one that has ended."""
    try:
        state, _, group, *_ = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if state in "ZX" else int(group)


def _until(condition: Any) -> Any:
    for _ in range(600):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it never became true")


def _children(parent: int) -> list[int]:
    if sys.platform != "linux":
        pytest.skip("needs /proc")
    return [int(n) for n in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _command_of(process: int) -> bytes:
    """Its command line, empty when it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def _has_ended(process: int) -> bool:
    """Its files are closed: a command line is gone before they are, when nobody knows it yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_a_new_process_has_this_copy_of_the_package(tmp_path: Path) -> None:
    """Another one is installed as well: the one that runs the tests."""
    copy = tmp_path / "here" / "sofie_rdf"
    shutil.copytree(fresh.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "where.py").write_text("import sofie_rdf\nprint(sofie_rdf.__file__)\n")
    code = (
        f"import subprocess, sys; sys.path.insert(0, {str(copy.parent)!r})\n"
        "from sofie_rdf.isolation.fresh import command\n"
        "sys.exit(subprocess.run(command('sofie_rdf.where')).returncode)\n"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout.strip(), done.stderr) == (str(copy / "__init__.py"), "")


def test_a_program_with_python_inside_starts_the_python_beside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/root.exe")
    name = Path(fresh.interpreter()).name
    assert name == f"python{sys.version_info.major}.{sys.version_info.minor}"
    monkeypatch.setattr(sys, "exec_prefix", "/nowhere")
    assert fresh.interpreter() == ""
