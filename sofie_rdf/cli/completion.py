"""Completion for shells, made of the argument parser: its commands, options, choices and files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["SHELLS", "Command", "Option", "commands_of", "script"]


@dataclass(frozen=True)
class Option:
    """``--name``: what it is for, whether a word follows, and which words that may be."""

    name: str
    about: str
    takes: bool
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """A command, or the program itself under the name "": its options, and words without a name."""

    name: str
    about: str
    options: tuple[Option, ...]
    words: tuple[str, ...] = ()


def commands_of(whole: argparse.ArgumentParser) -> list[Command]:
    """The program itself, and each of its commands."""
    found = [Command("", "", tuple(_options(whole)))]
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            abouts = {a.dest: a.help or "" for a in action._choices_actions}
            for name, command in action.choices.items():
                _complete(command)
                words = tuple(_words(command))
                options = tuple(_options(command))
                found.append(Command(name, abouts.get(name, ""), options, words))
    return found


def _complete(command: argparse.ArgumentParser) -> None:
    """Let a command that learns its arguments late learn them now."""
    complete = getattr(command, "complete", None)
    if complete:
        command.complete = None  # type: ignore[attr-defined]
        complete(command)


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:
        if action.help is argparse.SUPPRESS:
            continue
        takes = action.nargs != 0
        choices = tuple(map(str, action.choices or ()))
        for name in action.option_strings:
            if name.startswith("--"):
                yield Option(name, _about(action), takes, choices)


def _words(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The choices of arguments without a name."""
    for action in parser._actions:
        if not action.option_strings and action.choices:
            yield from map(str, action.choices)


def _about(action: argparse.Action) -> str:
    """The first words of its help, without what only argparse fills in."""
    text = " ".join((action.help or "").split())
    return text.partition(";")[0].partition(" (default")[0].replace("%%", "%")[:80]


# Shells -------------------------------------------------------------------------------------------


def script(shell: str, whole: argparse.ArgumentParser) -> str:
    """What this shell is to read."""
    return SHELLS[shell](commands_of(whole))


def _quoted(words: str) -> str:
    """A word of a shell, whatever is in it."""
    return "'" + words.replace("'", "'\\''") + "'"


_BASH = """\
# Completion of sofie-rdf for bash: source <(sofie-rdf completion bash)
_sofie_rdf() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
  local command= words= choices= only_files=
  if [[ $COMP_CWORD -gt 1 ]]; then
    command=${{COMP_WORDS[1]}}
  fi
  case $command in
{cases}
    *) words={top} ;;
  esac
  case "$command $before" in
{choices}
    {files}) only_files=1 ;;
  esac
  if [[ -n $choices ]]; then
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
  elif [[ -z $only_files && ( $word == -* || -z $command ) ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
  else
    compopt -o filenames 2>/dev/null
    local IFS=$'\\n'
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}}
complete -F _sofie_rdf sofie-rdf
"""


def _bash(commands: Sequence[Command]) -> str:
    whole, *others = commands
    top = " ".join([*(c.name for c in others), *(o.name for o in whole.options)])
    cases, choices, files = [], [], []
    for one in others:
        words = _quoted(" ".join(o.name for o in one.options))
        known = f" choices={_quoted(' '.join(one.words))}" if one.words else ""
        cases.append(f"    {one.name}) words={words}{known} ;;")
        for option in one.options:
            if option.choices:
                listed = _quoted(" ".join(option.choices))
                choices.append(f"    '{one.name} {option.name}') choices={listed} ;;")
            elif option.takes:
                files.append(f"'{one.name} {option.name}'")
    return _BASH.format(
        cases="\n".join(cases),
        top=_quoted(top),
        choices="\n".join(choices),
        files="|".join(files),
    )


_ZSH = """\
#compdef sofie-rdf
# Completion of sofie-rdf for zsh: source <(sofie-rdf completion zsh), behind compinit
_sofie_rdf() {{
  local context state line
  local -a commands
  commands=(
{commands}
  )
  _arguments -C \\
{top}
    '1: :->command' '*:: :->rest'
  case $state in
    command) _describe command commands ;;
    rest)
      case $line[1] in
{cases}
      esac ;;
  esac
}}
compdef _sofie_rdf sofie-rdf
"""


def _zsh(commands: Sequence[Command]) -> str:
    whole, *others = commands
    listed = "\n".join(f"    {_quoted(f'{c.name}:{c.about}')}" for c in others)
    cases = []
    for one in others:
        lines = [f"            {_quoted(_zsh_option(o))} \\" for o in one.options]
        rest = f"*: :({' '.join(one.words)})" if one.words else "*:file:_files"
        lines.append(f"            {_quoted(rest)} ;;")
        cases.append(f"        {one.name}) _arguments \\\n" + "\n".join(lines))
    top = "\n".join(f"    {_quoted(_zsh_option(o))} \\" for o in whole.options)
    return _ZSH.format(commands=listed, top=top, cases="\n".join(cases))


def _zsh_option(option: Option) -> str:
    about = option.about
    for mark in "\\[]:":
        about = about.replace(mark, f"\\{mark}")
    after = ""
    if option.choices:
        after = f":word:({' '.join(option.choices)})"
    elif option.takes:
        after = ":word:_files"
    return f"*{option.name}[{about}]{after}"


def _fish(commands: Sequence[Command]) -> str:
    whole, *others = commands
    lines = ["# Completion of sofie-rdf for fish: sofie-rdf completion fish | source"]
    first = "complete -c sofie-rdf -n __fish_use_subcommand"
    lines += [f"{first} {_fish_option(option)}" for option in whole.options]
    for one in others:
        lines.append(f"{first} -f -a {one.name} -d {_fish_quoted(one.about)}")
        seen = f"'__fish_seen_subcommand_from {one.name}'"
        lines += [f"complete -c sofie-rdf -n {seen} {_fish_option(o)}" for o in one.options]
        if one.words:
            words = _fish_quoted(" ".join(one.words))
            lines.append(f"complete -c sofie-rdf -n {seen} -f -a {words}")
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    parts = [f"-l {option.name[2:]}"]
    if option.choices:
        parts.append(f"-x -a {_fish_quoted(' '.join(option.choices))}")
    elif option.takes:
        parts.append("-r")
    return " ".join([*parts, f"-d {_fish_quoted(option.about)}"])


def _fish_quoted(words: str) -> str:
    return "'" + words.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: Mapping[str, Callable[[Sequence[Command]], str]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}
