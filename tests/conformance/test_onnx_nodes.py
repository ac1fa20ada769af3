"""The part of ONNX's own node tests that our operators can run, through the whole pipeline."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sofie_rdf.errors import SofieError
from sofie_rdf.frontends.onnx import check, read
from tests.conformance import nodes


@pytest.mark.parametrize("name", nodes.included())
def test_node(name: str) -> None:
    """Frontend, passes, emission, Cling: within the suite's own tolerance."""
    message = nodes.failure(name)
    assert not message, message


@pytest.mark.parametrize("name", [n for n in nodes.matching() if nodes.excluded(n)])
def test_excluded_node_is_refused(name: str) -> None:
    """A test that is excluded must be refused, and for the reason that the table gives."""
    entry, model = nodes.excluded(name), nodes.suite()[name].model
    assert entry is not None
    with pytest.raises(SofieError, match=entry.message):
        read(model)
    assert any(entry.message in str(problem) for problem in check(model))


def test_every_exclusion_is_needed() -> None:
    for entry in nodes.EXCLUDED:
        assert any(nodes.excluded(n) is entry for n in nodes.matching()), entry


def test_counts(record_property: Callable[[str, object], None]) -> None:
    """How many there are; printed at the end of the test run."""
    text = nodes.counts()
    record_property("node tests", text)
    assert len(nodes.included()) >= 400, text
    assert len(nodes.matching()) > len(nodes.included()) + 10
