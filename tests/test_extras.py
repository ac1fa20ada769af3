"""What ``pip install sofie_rdf[all]`` brings."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


APART = {"coffea", "dask-awkward", "graph-nets"}


def test_the_extra_all_names_all_others_but_those_that_stay_apart() -> None:
    text = (PROJECT / "pyproject.toml").read_text()
    extras = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    names = set(re.findall(r"^([\w-]+) = ", extras, re.MULTILINE))
    found = re.search(r'^all = \["sofie_rdf\[([\w,-]+)\]"\]', extras, re.MULTILINE)
    assert found
    assert set(found[1].split(",")) == names - {"all", *APART}
