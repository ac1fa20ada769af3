"""The reference of the command line, made from the parsers of `sofie-rdf`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from sofie_rdf.cli.arguments import parser
from sofie_rdf.cli.completion import commands_of

__all__ = ["reference"]


def reference() -> str:
    """A section for each command: what it does, its usage, its options, and examples."""
    whole = parser()
    commands_of(whole)  # Parsers that learn their arguments late have learnt them now.
    sections = list(_whole(whole))
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                sections += [f"## sofie-rdf {name}", *_command(command)]
    return "\n\n".join(sections)


def _whole(whole: argparse.ArgumentParser) -> Iterator[str]:
    options = [a for a in whole._actions if a.option_strings]
    yield "## sofie-rdf"
    yield _table(options)


def _command(command: argparse.ArgumentParser) -> Iterator[str]:
    yield command.description or ""
    yield f"```\n{_usage(command)}\n```"
    for group in command._action_groups:
        known = (a for a in group._group_actions if a.help is not argparse.SUPPRESS)
        shown = [a for a in known if a.dest != "help"]
        if shown:
            yield f"**{(group.title or '').capitalize()}**"
            yield _table(shown)
    if command.epilog:
        yield f"```\n{command.epilog.strip()}\n```"


def _usage(command: argparse.ArgumentParser) -> str:
    """How it is called; folded by ourselves, as argparse looks at the terminal."""
    words = " ".join(command.format_usage().removeprefix("usage: ").split())
    lines, indent = [""], " " * 4
    depth, part = 0, ""
    for word in words.split(" "):
        part = f"{part} {word}" if part else word
        depth += word.count("[") - word.count("]")
        if depth:
            continue
        if lines[-1] and len(lines[-1]) + len(part) > 95:
            lines.append(indent)
        lines[-1] += part if lines[-1] in ("", indent) else f" {part}"
        part = ""
    return "\n".join(lines)


def _table(actions: list[argparse.Action]) -> str:
    lines = ["| argument | what it says |", "| --- | --- |"]
    lines += [f"| {_name(a)} | {_cell(_help(a))} |" for a in actions]
    return "\n".join(lines)


def _name(action: argparse.Action) -> str:
    metavar = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    word = " ".join(metavar) if isinstance(metavar, tuple) else metavar
    if not action.option_strings:
        return f"`{_cell(word)}`"
    takes = "" if action.nargs == 0 else f" {word}"
    return ", ".join(f"`{_cell(option + takes)}`" for option in action.option_strings)


def _help(action: argparse.Action) -> str:
    text = action.help or ""
    return text % vars(action) if "%(" in text else text.replace("%%", "%")


def _cell(text: str) -> str:
    """As it may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
