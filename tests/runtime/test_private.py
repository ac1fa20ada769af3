"""What others may write does not decide what runs: the cache, and the list of trusted models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import sofie_rdf as sofie
from sofie_rdf.runtime.cache import disk as cache
from sofie_rdf.runtime.cache import private, trust
from tests.choice import some_of
from tests.frontends.test_normalization import same

PROJECT = Path(__file__).resolve().parents[2]
NAME = "0" * 40 + ".dat"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, and no warning has been given yet."""
    monkeypatch.setattr(private, "_warned", set())
    monkeypatch.setenv("SOFIE_RDF_CACHE", str(tmp_path / "shared" / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "shared" / "config"))
    (tmp_path / "shared").mkdir(mode=0o700)
    return tmp_path / "shared" / "cache"


def refused(words: str) -> None:
    """There is no cache, and one warning says why."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert [cache.folder() for _ in range(3)] == [None] * 3
        cache.store(NAME, b"other")
        assert cache.find(NAME) is None
    assert len(seen) == 1
    assert words in str(seen[0].message)


# The rule in Python and in C++ -----------------------------------------------------------------

ANOTHER = 12345
WAYS = """
import ROOT, json, sys
ROOT.gInterpreter.AddIncludePath(sys.argv[1])
ROOT.gInterpreter.Declare('#include "sofie/rdf/private.hxx"')
home, *ways = json.loads(sys.argv[2])
print(json.dumps([str(ROOT.sofie.trouble_of(way, home)) for way in ways]))
"""


def chowned(path: Path) -> bool:
    """Whether the path, and not what it leads to, is another user's now; only root can do that."""
    if os.getuid():
        return False
    os.chown(path, ANOTHER, ANOTHER, follow_symlinks=False)
    return True


def ways(base: Path) -> dict[str, tuple[str, str]]:
    """What is wrong with each of these ways, as words, and the part of it that is named."""
    found: dict[str, tuple[str, str]] = {}

    def way(name: str, words: str, part: str = "", mode: int = 0o755, owner: str = "") -> Path:
        """A way of three folders, of which one has this mode, or another owner."""
        place = base / name / "b" / "c"
        place.mkdir(parents=True, mode=0o755)
        changed = base / name / part
        changed.chmod(mode)
        if not owner or chowned(changed):
            found[name + "/b/c"] = (words, str(changed))
        return place

    own = way("own", "")
    way("open", "others may write to", "b", 0o777)
    way("of the group", "" if own.stat().st_gid == own.stat().st_uid else "others", "b", 0o775)
    way("sticky", "", "b", 0o1777)
    way("sticky itself", "others may write to it", "b/c", 0o1777)
    way("another's", f"belongs to another user, of number {ANOTHER}", "b", owner="another")
    way("another's and sticky", "belongs to another user", "b", 0o1777, owner="another")
    way("another's at the top", "belongs to another user", "", owner="another")
    way("another's itself", "it belongs to another user", "b/c", owner="another")
    found["own/b/missing/d"] = ("", "")
    found["open/b/missing/d"] = ("others may write to", str(base / "open/b"))
    (base / "own/file").write_text("")
    found["own/file"] = found["own/file/below"] = ("", "")
    for name, target in (
        ("link", "own/b"),
        ("absolute", str(base / "own/b")),
        ("to open", "open/b"),
        ("to a link", "open/b/back"),
        ("round", "round"),
        ("open/b/here", "."),
        ("own/b/above", "../../open/b/c/.."),
        ("up", "own/b/c/../../../own/b"),
    ):
        (base / name).symlink_to(target)
    # What the last of these leads to is sound, but others may write where the link to it is.
    (base / "open/b/back").symlink_to("../../own/b")
    found["link/c"] = found["absolute/c"] = found["up/c"] = ("", "")
    found["to open/c"] = found["to a link/c"] = ("others may write to", str(base / "open/b"))
    found["own/b/above"] = ("others may write to it", "")
    found["open/b/here"] = ("others may write to it", "")
    found["round/c"] = ("cannot be looked at: too many links", "")
    (base / "another's link").symlink_to("own/b")
    if chowned(base / "another's link"):
        found["another's link/c"] = ("belongs to another user", str(base / "another's link"))
    return found


def test_python_and_cxx_say_the_same_of_each_way(tmp_path: Path) -> None:
    pytest.importorskip("ROOT")
    base = tmp_path.resolve() / "ways"
    base.mkdir()
    wanted = ways(base)
    paths = [base / way for way in wanted]
    said = [private.trouble(path, "/none") for path in paths]
    for (words, part), text in zip(wanted.values(), said, strict=True):
        assert bool(words) == bool(text), text
        assert words in text
        assert not text or part in text or text.startswith(("it ", "others may write to it")), text
    given = json.dumps(["/none", *map(str, paths)])
    command = [sys.executable, "-c", WAYS, str(PROJECT / "cling"), given]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == said


def test_what_is_above_the_home_does_not_count(tmp_path: Path) -> None:
    """Whoever may replace the home decides what runs anyway; sshd stops there, too."""
    pytest.importorskip("ROOT")
    home = tmp_path.resolve() / "homes" / "me"
    (home / "cache").mkdir(parents=True)
    beside = home.parent / "beside"
    beside.mkdir()
    home.parent.chmod(0o777)
    said = [private.trouble(path, str(home)) for path in (home / "cache", beside)]
    assert said == ["", f"others may write to {home.parent} (chmod go-w, or chmod +t)"]
    given = json.dumps([str(home), str(home / "cache"), str(beside)])
    command = [sys.executable, "-c", WAYS, str(PROJECT / "cling"), given]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == said


@pytest.mark.parametrize("which", ["a folder above", "the folder in which it is"])
def test_a_cache_below_a_folder_of_another_user(
    folder: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner may put another folder in the place of ours."""
    above = folder.parent / "above" / "inner"
    cache_folder = above / "cache"
    above.mkdir(parents=True)
    monkeypatch.setenv("SOFIE_RDF_CACHE", str(cache_folder))
    cache.store(NAME, b"mine")
    if not chowned(above if which == "the folder in which it is" else above.parent):
        pytest.skip("only root can give a folder to another user")
    refused("belongs to another user")


def test_what_nobody_else_may_write_is_a_cache(folder: Path) -> None:
    cache.store(NAME, b"mine")
    assert bytes(cache.find(NAME) or b"") == b"mine"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_a_cache_that_others_may_write(folder: Path, mode: int) -> None:
    cache.store(NAME, b"mine")
    folder.chmod(mode)
    refused("others may write to it")
    assert (folder / NAME).exists()
    folder.chmod(0o700)
    assert cache.find(NAME) is not None


def test_a_cache_in_a_folder_that_others_may_write(folder: Path) -> None:
    cache.store(NAME, b"mine")
    folder.parent.chmod(0o777)
    refused(f"others may write to {folder.parent}")
    folder.parent.chmod(0o1777)  # As /tmp is.
    assert cache.find(NAME) is not None


def test_a_cache_that_is_not_there_yet(folder: Path) -> None:
    folder.parent.chmod(0o777)
    refused(f"others may write to {folder.parent}")
    assert not folder.exists()


def test_a_link_to_what_others_may_write(folder: Path, tmp_path: Path) -> None:
    """Where the link is, and where it leads, both count."""
    target = tmp_path / "open" / "target"
    target.mkdir(parents=True, mode=0o700)
    folder.symlink_to(target)
    cache.store(NAME, b"mine")
    assert cache.find(NAME) is not None
    target.parent.chmod(0o777)
    refused(f"others may write to {target.parent}")


def test_a_cache_of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(NAME, b"mine")
    if os.getuid():
        # Seen by another user, whom this test cannot become.
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    else:
        os.chown(folder, 12345, -1)
    refused("belongs to another user")


@pytest.mark.parametrize(
    ("mode", "user", "group", "own"),
    [
        (0o600, 1, 7, True),
        (0o644, 0, 0, True),
        (0o664, 1, 7, False),
        (0o664, 1, 1, True),  # The user's own group.
        (0o666, 1, 1, False),
        (0o600, 2, 2, False),
    ],
)
def test_whose_a_file_is(
    mode: int, user: int, group: int, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    status = os.stat_result((mode, 0, 0, 1, user, group, 0, 0, 0, 0))
    assert private.is_own(status) is own


def test_files_that_others_may_write_are_made_again(folder: Path, tmp_path: Path) -> None:
    for spoil in ("mode", "link", "folder", "pipe", "unreadable"):
        cache.store(NAME, b"mine")
        path = folder / NAME
        if spoil == "mode":
            path.chmod(0o666)
        elif spoil == "unreadable" and os.getuid():
            path.chmod(0)
        else:
            data = path.read_bytes()
            path.unlink()
            (tmp_path / "elsewhere").write_bytes(data)
            if spoil == "link":
                path.symlink_to(tmp_path / "elsewhere")
            elif spoil == "folder":
                path.mkdir()
                (path / "file").write_bytes(data)
            else:
                os.mkfifo(path)
        assert cache.find(NAME) is None, spoil
        cache.store(NAME, b"again")
        assert bytes(cache.find(NAME) or b"") == b"again", spoil


def test_who_has_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the folder that the user is in, nor one that a relative path names."""
    monkeypatch.chdir(tmp_path)
    for name in ("SOFIE_RDF_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for home in (None, "", ".", "relative"):
        if home is None:
            monkeypatch.delenv("HOME")
        else:
            monkeypatch.setenv("HOME", home)
        for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            monkeypatch.setenv(variable, "relative")
            found = private.below(variable, ".config")
            assert found is not None
            assert found.is_absolute()
            assert tmp_path not in found.parents
        assert tmp_path not in trust.file().parents


def test_a_tilde_of_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFIE_RDF_CACHE", "~nosuchuser/cache")
    assert cache.folder() == tmp_path / "~nosuchuser" / "cache"


# The list of trusted models -----------------------------------------------------------------------

MACRO = """
import ROOT, sys
ROOT.gInterpreter.AddIncludePath(sys.argv[1])
ROOT.gInterpreter.Declare('#include "sofie/rdf/stored.hxx"')
print(*[ROOT.sofie.is_trusted(sys.argv[2], "") for _ in range(3)])
"""


def in_cxx(sha256: str) -> tuple[str, str]:
    """What the reader in C++ says three times, and its messages."""
    done = subprocess.run(
        [sys.executable, "-c", MACRO, str(PROJECT / "cling"), sha256],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("which", some_of(["list", "its folder", "a folder above"], ["list"]))
def test_a_list_that_others_may_write(which: str) -> None:
    """Python and C++ say the same."""
    pytest.importorskip("ROOT")
    sha256 = "ab" * 32
    assert trust.trust(sha256, "mine")
    assert trust.is_trusted(sha256)
    assert in_cxx(sha256)[0] == "True True True"
    path = trust.file()
    assert path.stat().st_mode & 0o777 == 0o600
    spoilt = {"list": path, "its folder": path.parent, "a folder above": path.parents[2]}[which]
    spoilt.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="the list of trusted models .* is not used"):
        assert not trust.is_trusted(sha256)
    assert not trust.trust("cd" * 32, "another")
    said, messages = in_cxx(sha256)
    assert said == "False False False"
    assert messages.count("is not used") == 1
    spoilt.chmod(0o1777 if which == "a folder above" else 0o700)
    assert trust.is_trusted(sha256)
    assert in_cxx(sha256)[0] == "True True True"


@pytest.mark.exhaustive
def test_the_same_list_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a folder with a list of its own, which nobody asks."""
    pytest.importorskip("ROOT")
    monkeypatch.chdir(tmp_path)
    sha256 = "ef" * 32
    for place in (tmp_path / ".config", tmp_path / "relative"):
        (place / "sofie_rdf").mkdir(parents=True)
        (place / "sofie_rdf" / "trusted").write_text(f"{sha256} planted\n")
    for config in ("", "relative"):
        for home in ("", "."):
            monkeypatch.setenv("XDG_CONFIG_HOME", config)
            monkeypatch.setenv("HOME", home)
            assert not trust.is_trusted(sha256)
            assert in_cxx(sha256)[0] == "False False False"


def test_saving_does_not_fail_where_the_list_is_refused(tmp_path: Path) -> None:
    trust.file().parent.mkdir(parents=True)
    trust.file().parent.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="the list of trusted models"):
        same(x=(2,)).save(tmp_path / "m.root")
    with pytest.raises(sofie.ModelError, match="cannot be written"):
        sofie.trust(tmp_path / "m.root")
