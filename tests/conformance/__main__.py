"""``python -m tests.conformance [REGEX]``: all of ONNX's tests, and a table of what passes.

The table is printed, and written to ``out/conformance.md``.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.conformance.suite import EXCLUDED, excluded, operators_of, suite
from tests.conformance.workers import outcomes

OUT = Path(__file__).resolve().parents[2] / "out" / "conformance.md"


def main(arguments: Sequence[str]) -> int:
    """0 where every test passes that is not excluded."""
    pattern = arguments[0] if arguments else ".*"
    names = [n for n in suite() if re.fullmatch(pattern, n)]
    if not names:
        sys.stderr.write(f"No test of ONNX is called {pattern!r}\n")
        return 2
    start = time.monotonic()
    wanted = [suite()[n] for n in names if not excluded(n)]
    found = outcomes(wanted, os.cpu_count() or 1, _progress)
    sys.stdout.write(f" {time.monotonic() - start:.0f} s\n")
    wrong = {name: message for name, message in found.items() if message}
    kinds = {name: [suite()[name].kind] for name in names}
    operators = {name: operators_of(name) for name in names if "_expanded" not in name}
    parts = (_table("tests", kinds, wrong), _table("operator", operators, wrong), _left_out(names))
    text = "\n".join(line for part in parts for line in (*part, ""))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(text)
    failures = [f"FAILED {name}: {message[:300]}\n" for name, message in wrong.items()]
    sys.stdout.write("".join([text, *failures]))
    return 1 if wrong else 0


def _progress() -> None:
    sys.stdout.write(".")
    sys.stdout.flush()


def _table(
    title: str, groups: Mapping[str, Iterable[str]], wrong: Mapping[str, str]
) -> Iterator[str]:
    """What passes, by the groups that each test is in."""
    yield f"| {title} | in the suite | pass | fail | left out |"
    yield "| --- | --- | --- | --- | --- |"
    members = defaultdict(list)
    for name, listed in groups.items():
        for group in listed:
            members[group].append(name)
    for group in members if title == "tests" else sorted(members):
        names = members[group]
        failed, out = sum(n in wrong for n in names), sum(excluded(n) is not None for n in names)
        passed = len(names) - failed - out
        yield f"| {group} | {len(names)} | {passed} | {failed} | {out} |"


def _left_out(names: Sequence[str]) -> Iterator[str]:
    yield "Left out:"
    yield ""
    for entry in EXCLUDED:
        matching = [n for n in names if excluded(n) is entry]
        if matching:
            yield f"* {len(matching)}: {entry.reason} ({', '.join(matching)})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
