"""One line at the end of the test run: how many of ONNX's node tests there are, and passed."""

from __future__ import annotations

from typing import Any

TESTS = "conformance/test_onnx_nodes.py::test_node["


def pytest_terminal_summary(terminalreporter: Any) -> None:
    passed = terminalreporter.stats.get("passed", [])
    lines = [v for r in passed for key, v in r.user_properties if key == "node tests"]
    if lines:
        number = sum(TESTS in report.nodeid for report in passed)
        terminalreporter.write_line(f"ONNX's node tests: {lines[0]}; passed now: {number}")
