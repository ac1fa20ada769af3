"""What a process says that a file has taken over: an error of ours, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf import isolation
from sofie_rdf.errors import SofieError, UnsupportedFormat

DATA = Path(__file__).resolve().parents[2] / "data"
ONE = np.ones(1, np.float32)
LIES: list[Any] = [
    None,
    5,
    "text",
    [],
    (),
    ("text", {}),
    ("text",),
    ("input x : float32[N]", {"w": ONE}),
    (5, {}),
    ("text", [ONE]),
    ("text", {"w": 5}),
    ("text", {5: ONE}),
    ({}, {}),
    ({}, {"w": 5}),
    ({}, {5: ONE}),
    ({5: "a"}, {}),
    ({"model_config": 5}, {}),
    ({"model_config": ["a", 5]}, {}),
    ({}, {"a": ({}, [])}),
    ([], ("text", {"w": 5})),
    ([5], None),
    ([UnsupportedFormat("is nothing")], 5),
    ([], None, None),
]
DEEP: Any = ({}, {})
for _ in range(500):
    DEEP = ({}, {"a": DEEP})


@pytest.mark.parametrize("lie", [*LIES, DEEP], ids=range(len(LIES) + 1))
@pytest.mark.parametrize("name", ["higgs.keras", "higgs.h5", "small_program.pt2", "small_trace.pt"])
def test_a_lie_is_an_error(name: str, lie: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "call", lambda *_, **__: lie)
    with pytest.raises(SofieError):
        _ = sofie.load(DATA / name).graph
    problems = sofie.check(DATA / name)
    assert problems
    assert all("report it" not in str(problem) for problem in problems)
