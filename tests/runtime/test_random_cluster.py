"""Random numbers on a cluster: those of a call, whichever worker has the event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import ColumnError
from tests.runtime.test_random import A, by_entry, model, ones

ROOT = pytest.importorskip("ROOT")
pytest.importorskip("distributed", reason="pip install 'dask[distributed]'")

from tests.runtime.test_distributed import client  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]
assert client
# Numbers: ROOT gathers no RVecs of several tasks.
SHOWN = {"first": "y[0]", "last": "y[3]"}


@pytest.mark.exhaustive
def test_an_empty_source_has_the_numbers_of_a_call(client: Any) -> None:
    network = model(seed=2**63 + 2)
    for parts in (2, 3):
        df = ROOT.RDataFrame(300, executor=client, npartitions=parts).Define("a", "1.f")
        df = network.define(df, SHOWN, A)
        for column, wanted in zip(SHOWN, network(ones())[:, [0, 3]].T, strict=True):
            assert np.array_equal(by_entry(df, column), wanted)


@pytest.mark.exhaustive
def test_files_need_a_column_that_tells_events_apart(client: Any, tmp_path: Path) -> None:
    """ROOT's number of an entry is that in the task, so that two tasks have the same ones."""
    network: sofie.Model = model()
    paths = []
    for i in range(3):
        paths.append(str(tmp_path / f"{i}.root"))
        df = ROOT.RDataFrame(100).Define("event", f"(unsigned long)(rdfentry_ + {100 * i})")
        df.Define("a", "1.f").Snapshot("t", paths[-1], ["event", "a"])
    df = ROOT.RDataFrame("t", paths, executor=client, npartitions=2)
    with pytest.raises(ColumnError, match=r'anew in the tasks of a cluster.*entry="event"'):
        network.define(df, "y", A)
    df = network.define(df, SHOWN, A, entry="event")
    for column, wanted in zip(SHOWN, network(ones())[:, [0, 3]].T, strict=True):
        assert np.array_equal(by_entry(df, column, "event"), wanted)
