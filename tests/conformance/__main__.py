"""``python -m tests.conformance [REGEX]``: all of ONNX's tests, and a table of what passes.

The table is printed, and written to ``out/conformance.md``.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conformance import nodes

OUT = Path(__file__).resolve().parents[2] / "out" / "conformance.md"


def main(arguments: list[str]) -> int:
    """0 where every test passes that is not excluded."""
    pattern = arguments[0] if arguments else ".*"
    names = [n for n in nodes.suite() if re.fullmatch(pattern, n)]
    wanted = [n for n in names if not nodes.excluded(n)]
    start = time.monotonic()
    wrong: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for found in pool.map(nodes.outcomes, nodes.batches(wanted)):
            wrong |= {name: message for name, message in found.items() if message}
            sys.stdout.write(".")
            sys.stdout.flush()
    sys.stdout.write(f" {time.monotonic() - start:.0f} s\n")
    text = "\n".join([*_kinds(names, wrong), "", *_operators(names, wrong), "", *_left_out(names)])
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(text + "\n")
    failures = [f"FAILED {name}: {message[:300]}" for name, message in wrong.items()]
    sys.stdout.write("\n".join([text, *failures, ""]))
    return 1 if wrong else 0


def _kinds(names: Iterable[str], wrong: Mapping[str, str]) -> Iterable[str]:
    yield "| tests | in the suite | pass | fail | left out |"
    yield "| --- | --- | --- | --- | --- |"
    groups = defaultdict(list)
    for name in names:
        groups[nodes.kind_of(name)].append(name)
    for kind, members in groups.items():
        yield f"| {kind} | {len(members)} | {_counts(members, wrong)} |"


def _operators(names: Iterable[str], wrong: Mapping[str, str]) -> Iterable[str]:
    yield "| operator | tests | pass | fail | left out |"
    yield "| --- | --- | --- | --- | --- |"
    groups = defaultdict(list)
    for name in names:
        for op in {n.op_type for n in nodes.every_node(nodes.suite()[name].model.graph)}:
            if "_expanded" not in name:
                groups[op].append(name)
    for op, members in sorted(groups.items()):
        yield f"| {op} | {len(members)} | {_counts(members, wrong)} |"


def _counts(members: list[str], wrong: Mapping[str, str]) -> str:
    failed = sum(n in wrong for n in members)
    out = sum(nodes.excluded(n) is not None for n in members)
    return f"{len(members) - failed - out} | {failed} | {out}"


def _left_out(names: Iterable[str]) -> Iterable[str]:
    yield "Left out:"
    for entry in nodes.EXCLUDED:
        matching = [n for n in names if nodes.excluded(n) is entry]
        yield f"* {len(matching)}: {entry.reason} ({', '.join(matching)})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
