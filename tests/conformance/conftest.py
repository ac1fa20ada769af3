"""One line at the end of the test run: how many of ONNX's tests have passed."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    passed = terminalreporter.stats.get("passed", [])
    counts = [v for r in passed for key, v in r.user_properties if key == "onnx tests"]
    if counts:
        terminalreporter.write_line(
            f"{sum(counts)} of ONNX's own tests have passed (make conformance runs all of them)"
        )
