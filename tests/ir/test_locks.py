"""One writer at a time: nothing that was reported as saved is ever missing, whoever is killed."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from sofie_rdf.errors import ModelError
from sofie_rdf.ir import locks, rootfile
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.replacing import replacing
from sofie_rdf.ir.types import DType, TensorType

PROJECT = Path(__file__).resolve().parents[2]

SAVER = """
import sys
import numpy as np
from sofie_rdf.ir import rootfile
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.types import DType, TensorType
if sys.argv[2] == "ROOT":
    from sofie_rdf.runtime.files import rootio as rootfile

def save(name, number):
    build = Builder(name)
    build.input("x", TensorType(DType.FLOAT32, (7,)))
    rootfile.save(build.graph(build.constant(np.full(9, number), "w")), sys.argv[1])

for number in range(int(sys.argv[4]), int(sys.argv[5])):
    save(f"{sys.argv[3]}_{number}", number)
    print(number, flush=True)
"""


def saver(path: Path, via: str, name: str, begin: int, end: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SAVER, str(path), via, name, str(begin), str(end)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def graph(name: str = "m", number: float = 1.0) -> Graph:
    build = Builder(name)
    build.input("x", TensorType(DType.FLOAT32, (7,)))
    return build.graph(build.constant(np.full(9, number), "w"))


def assert_saved(path: Path, reported: dict[str, int]) -> None:
    names = rootfile.names(path)
    assert set(reported) <= set(names)
    for name, number in reported.items():
        assert rootfile.load(path, name).graph.constants["w"][0] == number
    with uproot.open(path) as file:
        assert file["h"].to_numpy()[0].sum() == 3


def analysis(path: Path) -> None:
    with uproot.recreate(path) as file:
        file["h"] = np.histogram([1.0, 2.0, 2.5], bins=4)


def only(folder: Path, *names: str) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)


def test_three_processes_save_into_one_file_and_one_is_killed(tmp_path: Path) -> None:
    save_while_some_are_killed(tmp_path, 3, 1)


@pytest.mark.exhaustive
def test_eight_processes_save_into_one_file_and_six_are_killed(tmp_path: Path) -> None:
    save_while_some_are_killed(tmp_path, 8, 6)


def save_while_some_are_killed(tmp_path: Path, count: int, killed: int) -> None:
    path = tmp_path / "models.root"
    analysis(path)
    dice = random.Random(1)
    saves = 6
    # Some would save for ever. They are killed somewhere in their work, and others end it.
    doomed = {f"p{i}": saver(path, "uproot", f"p{i}", 0, 10**6) for i in range(killed)}
    others = {f"p{i}": saver(path, "uproot", f"p{i}", 0, saves) for i in range(killed, count)}
    reported: dict[str, int] = {}
    warned = ""
    while path.stat().st_size < 20_000:
        time.sleep(0.1)
    for name, process in doomed.items():
        time.sleep(dice.uniform(0.1, 0.6))
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=300)
        numbers = [int(line) for line in out.split()]
        reported |= {f"{name}_{number}": number for number in numbers}
        warned += err
        begin = max(numbers, default=-1) + 1
        others[name] = saver(path, "uproot", name, begin, max(saves, begin + 1))
    for name, process in others.items():
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        reported |= {f"{name}_{number}": number for number in map(int, out.split())}
        warned += err
    assert len(reported) >= count * saves
    assert "Traceback" not in warned
    assert_saved(path, reported)
    rootfile.save(graph("last"), path)
    only(tmp_path, "models.root")


@pytest.mark.exhaustive
def test_all_processes_find_the_same_abandoned_lock(tmp_path: Path) -> None:
    """Each sees that its holder is gone; none takes away the lock that another one has made."""
    path = tmp_path / "models.root"
    analysis(path)
    _abandoned(path)
    running = {f"p{i}": saver(path, "uproot", f"p{i}", 0, 2) for i in range(8)}
    warned = 0
    for process in running.values():
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        warned += err.count("has been killed")
    assert warned == 1
    assert_saved(path, {f"{name}_{number}": number for name in running for number in range(2)})
    only(tmp_path, "models.root")


@pytest.mark.exhaustive
def test_root_waits_as_well(tmp_path: Path) -> None:
    pytest.importorskip("ROOT")
    path = tmp_path / "models.root"
    analysis(path)
    vias = {"a": "ROOT", "b": "uproot", "c": "ROOT"}
    running = {name: saver(path, via, name, 0, 4) for name, via in vias.items()}
    for process in running.values():
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert_saved(path, {f"{name}_{number}": number for name in running for number in range(4)})
    only(tmp_path, "models.root")


def _lock(path: Path) -> locks.Lock:
    return locks.Lock(path, locks._Holder.me())


def _abandoned(path: Path, **other: Any) -> locks.Lock:
    """The lock of a process that is gone."""
    done = subprocess.Popen(["true"])
    done.wait()
    lock = _lock(path)
    holder = replace(lock.holder, **{"pid": done.pid, **other})
    lock.path.write_text(json.dumps(asdict(holder)))
    return lock


def test_what_killed_processes_leave_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    rootfile.save(graph(), path)
    mine, other = _lock(path), _lock(tmp_path / "other.root")
    dead = _abandoned(tmp_path / "another.root")
    waiting = dead.path.rename(mine.copy.with_suffix(".lock"))
    for left in (mine.copy, other.copy, tmp_path / ".sofie_rdf-0123456789ab.tmp"):
        left.write_bytes(b"half a file")
    old = tmp_path / ".sofie_rdf-ba9876543210.tmp"
    old.write_bytes(b"half a file")
    os.utime(old, (1, 1))
    rootfile.save(graph(number=2), path)
    assert not waiting.exists()
    # What another file needs stays, and what an older version may still be writing.
    only(tmp_path, "m.root", other.copy.name, ".sofie_rdf-0123456789ab.tmp")


def test_a_lock_of_another_machine_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.2)
    path = tmp_path / "m.root"
    rootfile.save(graph(), path)
    before = path.read_bytes()
    lock = _abandoned(path, machine="another", host="node7.example.org")
    with pytest.raises(ModelError, match=r"process \d+ on node7\.example\.org, since 20") as caught:
        rootfile.save(graph("other"), path)
    assert f"remove {lock.path}" in str(caught.value)
    assert path.read_bytes() == before
    only(tmp_path, "m.root", lock.path.name)
    lock.path.unlink()
    rootfile.save(graph("other"), path)
    assert rootfile.names(path) == ["m", "other"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"pid": 1}', "\0" * 99, "[" * 4096, '{"pid":"1"}']
)
def test_a_lock_that_says_nothing_is_somebody_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.05)
    path = tmp_path / "m.root"
    _lock(path).path.write_text(text)
    with pytest.raises(ModelError, match="is being written by another process"):
        rootfile.save(graph(), path)


def test_a_number_that_another_process_has_got_is_no_holder(tmp_path: Path) -> None:
    path = tmp_path / "m.root"
    _abandoned(path, pid=os.getpid(), born="1")
    with pytest.warns(RuntimeWarning, match="has been killed"):
        rootfile.save(graph(), path)
    only(tmp_path, "m.root")


def test_a_process_that_lives_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.2)
    path = tmp_path / "m.root"
    with replacing(path) as copy:
        copy.write_bytes(b"one")
        with pytest.raises(ModelError, match=f"process {os.getpid()} on "), replacing(path):
            pass
    assert path.read_bytes() == b"one"


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def link(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    path = tmp_path / "m.root"
    with replacing(path) as copy:
        copy.write_bytes(b"one")
        with pytest.raises(ModelError, match=f"process {os.getpid()} on "), replacing(path):
            pass
    only(tmp_path, "m.root")


def test_a_lock_that_was_taken_away_is_seen(tmp_path: Path) -> None:
    """Then somebody else may be writing as well, and what is there stays."""
    path = tmp_path / "m.root"
    path.write_bytes(b"old")

    def robbed() -> None:
        with replacing(path) as copy:
            copy.write_bytes(b"new")
            _lock(path).path.unlink()

    with pytest.raises(ModelError, match="Save again"):
        robbed()
    assert path.read_bytes() == b"old"


def test_the_longest_name_of_a_file_has_a_lock(tmp_path: Path) -> None:
    path = tmp_path / ("m" * 250 + ".root")
    rootfile.save(graph(), path)
    only(tmp_path, path.name)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_whose_locks_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """NFS without a lock manager: who is gone cannot be told, so the lock stays and is named."""
    import fcntl

    def flock(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(locks, "_PATIENCE", 0.2)
    path = tmp_path / "m.root"
    rootfile.save(graph(), path)
    before = path.read_bytes()
    lock = _abandoned(path, pid=os.getpid(), born="1")
    with pytest.raises(ModelError, match=f"process {os.getpid()} on ") as caught:
        rootfile.save(graph("other"), path)
    assert f"remove {lock.path}" in str(caught.value)
    assert path.read_bytes() == before
    only(tmp_path, "m.root", lock.path.name)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EIO, errno.ESTALE])
def test_a_link_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    path = tmp_path / "m.root"
    rootfile.save(graph(), path)
    before = path.read_bytes()

    def link(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(ModelError, match=r"m\.root"):
        rootfile.save(graph("other"), path)
    assert path.read_bytes() == before
    only(tmp_path, "m.root")


def test_an_answer_to_link_that_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question that is asked again is refused, and the status may be what it was before."""
    link, stat = os.link, Path.stat

    def lost(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def cached(self: Path, **options: Any) -> os.stat_result:
        found = stat(self, **options)
        if not self.name.endswith(".lock"):
            return found
        return os.stat_result([*found[:3], 1, *found[4:10]])

    monkeypatch.setattr(os, "link", lost)
    monkeypatch.setattr(Path, "stat", cached)
    monkeypatch.setattr(locks, "_PATIENCE", 0.2)
    path = tmp_path / "m.root"
    with replacing(path) as copy:
        copy.write_bytes(b"one")
    assert path.read_bytes() == b"one"
    only(tmp_path, "m.root")


def test_two_machines_of_one_name_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not tell them apart: else one removes the locks of the other."""

    def refused(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refused)
    said = set()
    for number in (1, 2):
        monkeypatch.setattr(locks.uuid, "getnode", lambda number=number: number)
        said.add(locks._machine())
    assert len(said) == 2
