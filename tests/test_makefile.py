"""The Makefile: which interpreter is taken, and that nothing is set up twice. Without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")

# Notes down what it is asked to do, and does the small things: versions and environments.
_INTERPRETER = """#!/bin/sh
case "$1 $2" in
   "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
   "-c "*|"--version "*) exec "{real}" "$@" ;;
esac
[ -z "$PYTHONDONTWRITEBYTECODE" ] || echo "compiled again by each process" >> "{log}"
echo "$@" >> "{log}"
"""
_OLD = """#!/bin/sh
case "$2" in *version_info\\ \\<*) exit 1 ;; esac
[ "$1" = -c ] || echo "$@" >> "{log}"
"""


def _environment() -> dict[str, str]:
    """Ours, without what the `make` that runs these tests has put into it."""
    makes = ("PYTHON", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "GNUMAKEFLAGS")
    return {k: v for k, v in os.environ.items() if k not in makes}


class Clone(NamedTuple):
    """A folder with the Makefile, and an interpreter that only pretends."""

    folder: Path
    log: Path

    def interpreter(self, name: str, text: str = _INTERPRETER) -> Path:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.format(real=sys.executable, log=self.log))
        path.chmod(0o755)
        return path

    def make(self, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        environment = _environment()
        search = f"{self.folder / 'bin'}:{environment['PATH']}"
        return subprocess.run(
            ["make", *map(str, arguments)],
            cwd=self.folder,
            env=environment | {"PATH": search} | more,
            capture_output=True,
            text=True,
            check=False,
        )

    def done(self) -> list[str]:
        """What the interpreters have been asked to do since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    made = Clone(tmp_path, tmp_path / "log")
    made.interpreter("python3")
    return made


def test_the_demo_is_set_up_once(clone: Clone) -> None:
    first = clone.make("demo")
    assert first.returncode == 0, first.stderr
    assert "setting up .venv" in first.stdout
    assert "300 MB" in first.stdout
    venv, pip, install, demo = clone.done()
    assert venv == "-m venv .venv"
    assert "pip>=25.1" in pip
    assert "--editable . --group demo" in install
    assert demo.endswith("tutorials/higgs_demo.py")
    second = clone.make("demo")
    assert "setting up" not in second.stdout
    assert "installing" not in second.stdout
    assert clone.done() == [demo]


def test_tests_add_only_what_they_need(clone: Clone) -> None:
    clone.make("demo")
    clone.done()
    clone.make("test", PYTHONDONTWRITEBYTECODE="1")
    (install, *later) = clone.done()
    assert "--group test" in install
    assert "compiled again by each process" not in later
    clone.make("test")
    assert not [x for x in clone.done() if "pip" in x]


def test_the_site_adds_only_what_it_needs(clone: Clone) -> None:
    clone.make("lint")
    clone.done()
    install, build = (clone.make("docs"), clone.done())[1]
    assert "--group docs" in install
    assert build.endswith("-m mkdocs build --strict")
    clone.make("docs")
    assert clone.done() == [build]


def test_a_new_pyproject_is_installed_again(clone: Clone) -> None:
    clone.make("demo")
    clone.done()
    later = (clone.folder / ".venv/demo-ready").stat().st_mtime + 10
    os.utime(clone.folder / "pyproject.toml", (later, later))
    clone.make("demo")
    install, _ = clone.done()
    assert "--editable" in install


def test_what_failed_is_tried_again(clone: Clone) -> None:
    failing = _INTERPRETER.replace(
        'echo "$@"', 'case "$*" in *--editable*) exit 1;; esac\necho "$@"'
    )
    clone.interpreter("python3", failing)
    assert clone.make("demo").returncode != 0
    shutil.rmtree(clone.folder / ".venv/bin")
    clone.interpreter("python3")
    shutil.copytree(clone.folder / "bin", clone.folder / ".venv/bin")
    (clone.folder / ".venv/bin/python3").rename(clone.folder / ".venv/bin/python")
    clone.done()
    assert clone.make("demo").returncode == 0
    assert len(clone.done()) == 2


def test_python_is_the_one_that_is_given(clone: Clone) -> None:
    mine = clone.interpreter("mine")
    assert clone.make("demo", f"PYTHON={mine}").returncode == 0
    assert (clone.folder / ".venv/bin/python").read_text() == mine.read_text()
    clone.done()
    clone.make("demo", f"PYTHON={mine}")
    assert len(clone.done()) == 1


def test_another_python_makes_another_environment(clone: Clone) -> None:
    clone.make("demo")
    clone.done()
    text = _INTERPRETER.replace(
        '"-c "*|', '"-c import sys; print"*) echo another; exit;;\n   "-c "*|'
    )
    clone.interpreter("another", text)
    assert clone.make("demo", "PYTHON=another").returncode == 0
    assert clone.done()[0] == "-m venv .venv"
    clone.make("demo")
    assert len(clone.done()) == 1


@pytest.mark.parametrize("python", ["nosuchpython", "old"])
def test_a_python_that_cannot_do_it(clone: Clone, python: str) -> None:
    clone.interpreter("old", _OLD)
    result = clone.make("test", f"PYTHON={python}")
    assert result.returncode == 2
    assert f"No Python 3.10 or newer (tried: {python})" in result.stderr
    assert not (clone.folder / ".venv").exists()
    assert clone.done() == []


def test_a_bad_python_leaves_the_old_environment(clone: Clone) -> None:
    clone.make("demo")
    assert clone.make("demo", "PYTHON=nosuchpython").returncode == 2
    assert (clone.folder / ".venv/bin/python").exists()


def test_old_interpreters_are_passed_over(clone: Clone) -> None:
    clone.interpreter("python3", _OLD)
    newer = clone.interpreter("python3.12", _INTERPRETER + "# 3.12\n")
    for name in ("python3.14", "python3.13"):
        clone.interpreter(name, _OLD)
    assert clone.make("demo").returncode == 0
    assert (clone.folder / ".venv/bin/python").read_text() == newer.read_text()


def test_a_python_without_venv(clone: Clone) -> None:
    clone.interpreter(
        "python3", _INTERPRETER.replace('"-c "*', '"-c import ensurepip"*) exit 1;;\n "-c "*')
    )
    result = clone.make("demo")
    assert result.returncode == 2
    assert "apt install python3-venv" in result.stderr
    assert not (clone.folder / ".venv").exists()


def test_help_names_the_targets(clone: Clone) -> None:
    result = clone.make()
    assert [x.split()[1] for x in result.stdout.splitlines() if x.startswith("make")] == [
        "demo",
        "test",
        "test-all",
        "test-simd",
        "quick",
        "test-op",
        "lint",
        "conformance",
        "fuzz",
        "fuzz-files",
        "soak",
        "test-roots",
        "graph-nets",
        "gpu",
        "docs",
        "clean",
    ]


def test_conformance_passes_on_what_is_wanted(clone: Clone) -> None:
    clone.make("conformance", "REGEX=test_(conv|gemm).*")
    _, _, install, compiled, run = clone.done()
    assert "--group test" in install and "--no-compile" in install
    assert compiled.startswith("-m compileall")
    assert run.endswith("-m tests.conformance test_(conv|gemm).*")
    clone.make("conformance")
    operators, networks, modules, bits, devices, table, tutorials = clone.done()[-7:]
    assert operators.endswith("-m tests.conformance")
    assert networks.endswith("-m tests.conformance.real --pypi")
    assert modules.endswith("-m tests.conformance.torch_models --pypi")
    assert bits.endswith("-m pytest -q -n auto tests/ops/test_same_bits.py")
    assert "-m pytest -q -n auto -m  tests/devices/test_contract.py" in devices
    assert table.endswith("-m tests.devices.real")
    *command, root, ours = tutorials.split()
    assert command[-3:] == ["-m", "pytest", "-q"]
    assert root == "tests/tmva/test_tutorials.py"
    assert ours == "tests/test_tutorials.py::test_10_and_11_with_real_files"


def test_random_networks_for_as_long_as_is_wanted(clone: Clone) -> None:
    clone.make("fuzz", "SECONDS=5", "SEED=3")
    assert clone.done()[-1].endswith("-m tests.fuzz --seconds 5 --seed 3")
    clone.make("fuzz")
    assert clone.done()[-1].endswith("-m tests.fuzz")


def test_damaged_files_of_the_kinds_that_are_wanted(clone: Clone) -> None:
    clone.make("fuzz-files", "SECONDS=5", "SEED=3", "KIND=onnx,root", "WORKERS=2")
    wanted = "-m tests.fuzz_files --seconds 5 --seed 3 --kind onnx,root --workers 2"
    assert clone.done()[-1].endswith(wanted)
    clone.make("fuzz-files")
    assert clone.done()[-1].endswith("-m tests.fuzz_files")
    clone.make("soak", "MINUTES=5")
    assert clone.done()[-1].endswith("-m tests.soak --minutes 5")


def test_some_of_the_tests(clone: Clone) -> None:
    clone.make("test-op", "OP=Conv")
    # The names of compiled cases begin with their part: "part-Conv".
    assert clone.done()[-1].endswith("tests/ops/test_reference.py -k [Conv or -Conv")
    # The last one calls networks, which Cling compiles.
    names = ("passes", "emit", "test_architecture.py", "test_model.py")
    checked = [f"tests/{name}" for name in names]
    files = re.search("^quick: lint\n((?:\t| ).*\n)+", (REPOSITORY / "Makefile").read_text(), re.M)
    assert files is not None
    named = re.findall(r"tests/[\w/.]+", files[0])
    assert set(checked) < set(named)
    assert all((REPOSITORY / name).exists() for name in named)


def test_older_roots_that_are_wanted(clone: Clone) -> None:
    clone.make("test-roots")
    assert clone.done()[-1].endswith("-m tests.roots")
    clone.make("test-roots", "ROOTS=0.1a8 0.1a9")
    assert clone.done()[-1].endswith("-m tests.roots 0.1a8 0.1a9")


def test_graph_nets_has_a_group_of_its_own(clone: Clone) -> None:
    clone.make("graph-nets")
    *_, install, run = clone.done()
    assert "--group graph-nets" in install
    assert run.endswith("-m pytest -n auto tests/frontends/graph_nets")


def test_clean_keeps_what_is_ours(clone: Clone) -> None:
    clone.make("demo")
    (clone.folder / "out").mkdir()
    assert clone.make("clean").returncode == 0
    left = {p.name for p in clone.folder.iterdir()}
    assert left == {"Makefile", "pyproject.toml", "bin", "log"}


def test_continuous_integration_runs_make_test_from_anywhere(clone: Clone) -> None:
    shutil.copytree(REPOSITORY / ".ci", clone.folder / ".ci")
    (clone.folder / "Makefile").write_text(
        "test:\n\t@pwd\ntest-exhaustive:\n\t@echo all\n"
        "test-roots:\n\t@echo $(ROOTS)\ndocs:\n\t@echo site\nfuzz-files:\n\t@echo $(SECONDS)\n"
    )
    ran = subprocess.run(
        [clone.folder / ".ci/run"],
        cwd="/",
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    said = ran.stdout.strip().splitlines()
    assert said == [str(clone.folder.resolve()), "all", "--short", "site", "60"]
    (clone.folder / "Makefile").write_text(
        "test:\n\t@false\ntest-exhaustive test-roots docs fuzz-files:\n\t@true\n"
    )
    failed = subprocess.run(
        [clone.folder / ".ci/run"], env=_environment(), capture_output=True, check=False
    )
    assert failed.returncode != 0
