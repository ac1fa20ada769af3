"""`sofie-rdf completion`: what each shell offers is what the parser takes."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sofie_rdf.cli.arguments import parser
from sofie_rdf.cli.completion import SHELLS, Command, Option, commands_of, script
from tests.cli.conftest import Run
from tests.test_cli import COMMANDS

EVIL = 'it\'s $(touch evil) `touch evil` \\ [x]: "y" %(default)s'


def complete(folder: Path, shell: str, *words: str, text: str = "") -> list[str]:
    """What the shell offers for the last word."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    file = folder / f"completion.{shell}"
    file.write_text(text or script(shell, parser()))
    if shell == "fish":
        line = " ".join(["sofie-rdf", *words])
        code = f"source {file}; complete -C {line!r}"
    else:
        listed = " ".join(f"'{word}'" for word in ("sofie-rdf", *words))
        code = (
            f"source {file}; COMP_WORDS=({listed}); COMP_CWORD={len(words)}; _sofie_rdf; "
            "printf '%s\\n' \"${COMPREPLY[@]}\""
        )
    done = subprocess.run(
        [program, "--norc" if shell == "bash" else "--no-config", "-c", code],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == 0
    return [line.partition("\t")[0] for line in done.stdout.splitlines() if line]


def test_all_commands_and_options_are_known(run: Run) -> None:
    whole, *others = commands_of(parser())
    assert {"--version", "--help"} <= {option.name for option in whole.options}
    assert {one.name for one in others} == set(COMMANDS)
    for one in others:
        assert one.about
        text = run(one.name, "--help").out
        names = {option.name for option in one.options}
        assert names == set(re.findall(r"^  (?:-\w[^,\n]*, )?(--[\w-]+)", text, re.MULTILINE))


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command(run: Run, shell: str) -> None:
    done = run("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert done.out == script(shell, parser())
    assert run("completion", "tcsh").code == 2


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_what_is_offered(tmp_path: Path, shell: str) -> None:
    assert complete(tmp_path, shell, "ver") == ["verify"]
    assert set(complete(tmp_path, shell, "")) >= set(COMMANDS)
    assert complete(tmp_path, shell, "apply", "--fri") == ["--friend"]
    offered = complete(tmp_path, shell, "convert", "x.onnx", "y.root", "--via", "")
    assert set(offered) == {"uproot", "ROOT"}
    assert set(complete(tmp_path, shell, "completion", "")) >= {"bash", "zsh", "fish"}
    (tmp_path / "my model.onnx").touch()
    assert any("my" in word for word in complete(tmp_path, shell, "inspect", "my"))
    assert any("my" in word for word in complete(tmp_path, shell, "emit", "--depfile", "my"))


def test_zsh_reads_it(tmp_path: Path) -> None:
    program = shutil.which("zsh")
    if program is None:
        pytest.skip("there is no zsh")
    (tmp_path / "_sofie-rdf").write_text(script("zsh", parser()))
    code = f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -D -u; source _sofie-rdf; "
    done = subprocess.run(
        [program, "-f", "-c", f"{code} print -r -- $_comps[sofie-rdf]; whence -w _sofie_rdf"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.split() == ["_sofie_rdf", "_sofie_rdf:", "function"]


def odd() -> argparse.ArgumentParser:
    """A parser whose texts mean something to shells."""
    whole = argparse.ArgumentParser("sofie-rdf")
    whole.add_argument("--odd", help=EVIL, choices=["a", "b"])
    commands = whole.add_subparsers()
    commands.add_parser("run", help=EVIL).add_argument("--it", help=EVIL)
    return whole


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_texts_are_words(tmp_path: Path, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    file = tmp_path / "completion"
    file.write_text(script(shell, odd()).replace("compdef _sofie_rdf sofie-rdf\n", ""))
    for arguments in (["-n", str(file)], ["-c", f"source {file}"]):
        done = subprocess.run(
            [program, *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
    assert [p.name for p in tmp_path.iterdir()] == ["completion"]


def test_hidden_options_stay_hidden() -> None:
    whole = argparse.ArgumentParser("sofie-rdf")
    whole.add_argument("--secret", help=argparse.SUPPRESS)
    whole.add_argument("--shown", action="store_true", help="what it is (default: no)")
    (one,) = commands_of(whole)
    assert one == Command(
        "",
        "",
        (
            Option("--help", "show this help message and exit", False, ()),
            Option("--shown", "what it is", False, ()),
        ),
    )
