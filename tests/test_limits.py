"""The budget of a file: what is counted, what is refused, and who says how much there is."""

from __future__ import annotations

import io
import math
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sofie_rdf import limits
from sofie_rdf.errors import CorruptFile, InputError, LimitExceeded, SofieError
from sofie_rdf.limits import Limits


def test_without_a_budget_nothing_is_counted() -> None:
    limits.spend(bytes=1e30, nodes=1e30)
    limits.require(terms=1e30)
    assert limits.remaining() == Limits(math.inf, math.inf, math.inf, math.inf)


def test_what_is_spent_is_gone_and_what_is_required_is_not() -> None:
    with limits.budget("bytes=100,nodes=10,terms=5", place="model.onnx"):
        limits.require(bytes=100, terms=5)
        limits.spend(bytes=60, nodes=4)
        left = limits.remaining()
        assert (left.bytes, left.nodes, left.terms) == (40, 6, 5)
        with pytest.raises(LimitExceeded, match=r"^model.onnx: 'w' would take 41 bytes, .* 100"):
            limits.spend(bytes=41, what="'w'")
        with pytest.raises(LimitExceeded, match=r"limits='nodes=22'.*SOFIE_RDF_LIMITS"):
            limits.spend(nodes=7)
        with pytest.raises(LimitExceeded, match="6 terms"):
            limits.require(terms=6)
    limits.spend(bytes=1e9)


def test_time_is_over_at_some_time() -> None:
    with limits.budget("seconds=1e-9"), pytest.raises(LimitExceeded, match="takes too long"):
        limits.spend(what="the loop")


def test_the_outer_budget_stays_in_charge_unless_limits_are_given() -> None:
    with limits.budget("bytes=10"):
        with limits.budget(size=1e9):
            assert limits.remaining().bytes == 10
        with limits.budget("bytes=20"):
            assert limits.remaining().bytes == 20
        assert limits.remaining().bytes == 10


def test_each_thread_has_its_own() -> None:
    found = []
    with limits.budget("bytes=10"):
        thread = threading.Thread(target=lambda: found.append(limits.remaining().bytes))
        thread.start()
        thread.join()
    assert found == [math.inf]


def test_defaults_grow_with_the_file_and_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = Limits.for_size(100), Limits.for_size(10**9)
    assert small.bytes is not None and small.bytes >= 2**30
    assert large.bytes is not None and large.bytes > 60e9
    assert small.terms == large.terms
    monkeypatch.setenv(limits.VARIABLE, "bytes=8G, nodes=1e6")
    assert Limits.for_size(0) == Limits(8 * 2**30, 1e6, small.terms, 300)
    assert Limits.for_size(0, "bytes=1k").bytes == 1024
    assert Limits.for_size(0, Limits(seconds=3)) == Limits(8 * 2**30, 1e6, small.terms, 3)


@pytest.mark.parametrize(
    "text", ["8G", "bytes", "bytes=x", "bytes=-1", "bytes=nan", "words=3", "terms=0"]
)
def test_what_are_no_limits(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"are no limits.*bytes=8G"):
        Limits.parse(text)
    monkeypatch.setenv(limits.VARIABLE, text)
    with pytest.raises(InputError, match="SOFIE_RDF_LIMITS"), limits.budget():
        pass


def test_limits_of_another_type() -> None:
    with pytest.raises(InputError, match="are no limits"):
        Limits.parse(3)  # type: ignore[arg-type]


def zipped(content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("member", content)
    return file.getvalue()


def test_members_are_paid_as_they_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(zipped(bytes(2**25)))
    assert path.stat().st_size < 2**16
    with limits.archive(path) as archive:
        assert limits.unpacked(archive, "member") == bytes(2**25)
        with limits.budget("bytes=4M"), pytest.raises(LimitExceeded, match="the unpacked 'member'"):
            limits.unpacked(archive, "member")


def test_a_member_that_is_not_there_or_packed_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(bytes(100), zipfile.ZIP_BZIP2))
    with limits.archive(path) as archive:
        with pytest.raises(CorruptFile, match="'other'"):
            limits.unpacked(archive, "other")
        with pytest.raises(CorruptFile, match="method 12"):
            limits.unpacked(archive, "member")


def test_each_changed_byte_of_an_archive_is_an_error_of_ours(tmp_path: Path) -> None:
    whole = zipped(b"content" * 3)
    path = tmp_path / "a.zip"
    refused = 0
    for position in range(len(whole)):
        for byte in {0, 1, 0x7F, 0x80, 0xFF, whole[position] ^ 1} - {whole[position]}:
            path.write_bytes(whole[:position] + bytes([byte]) + whole[position + 1 :])
            try:
                with limits.archive(path) as archive:
                    for member in archive.infolist():
                        limits.unpacked(archive, member)
            except SofieError:
                refused += 1
    assert refused > len(whole)


@pytest.mark.parametrize("value", ["8G", -1, float("nan"), [1], object()])
def test_limits_that_are_no_numbers(value: Any) -> None:
    for name in ("bytes", "nodes", "terms", "seconds"):
        with pytest.raises(InputError, match=f"number from 0 on as {name}="):
            Limits(**{name: value})
