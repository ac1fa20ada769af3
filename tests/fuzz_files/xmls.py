"""XML as trees of values: elements, attributes and texts are changed where they have a meaning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from random import Random
from typing import Any
from xml.etree import ElementTree as Xml
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from tests.fuzz_files.values import changed, copied, dumped

__all__ = ["mutated", "samples"]

_DOCTYPES = (
    '<!DOCTYPE a [<!ENTITY b "c">]>',
    '<!DOCTYPE a SYSTEM "/etc/passwd">',
    '<?xml version="1.0" encoding="UTF-16"?>',
    '<?xml version="1.0" encoding="rot13"?>',
    "<?xml-stylesheet href='x'?>",
    "<!-- - -->",
    "\ufeff",
)


def samples() -> list[bytes]:
    """Weight files of TMVA: each way of boosting, and MLPs behind each transformation."""
    from tests.frontends.tmva_files import documents
    from tests.frontends.tmva_files.test_trees import CASES, document

    made = [document(*case, normalized=bool(i % 2)) for i, case in enumerate(CASES)]
    for root in made:  # Three trees, of which all classes have one, are damaged more at once.
        weights = root.find("Weights")
        assert weights is not None
        for tree in list(weights)[3:]:
            weights.remove(tree)
        weights.set("NTrees", "3")
        for node in weights.iterfind("*/Node/Node/Node"):
            for below in list(node):
                node.remove(below)
            node.set("IVar", "-1")
            node.set("nType", "1" if "Grad" not in str(_option(root, "BoostType")) else "-99")
    numbers = np.random.default_rng(1)
    kinds = ("Normalize", "Decorrelation", "PCA", "Gauss", "Flat")
    transforms = [documents.transformation(kind, numbers) for kind in kinds]
    made += [documents.mlp(transforms=[one]) for one in transforms]
    made.append(documents.mlp("Multiclass", "ReLU", "sqsum", "MSE", outputs=3))
    for root in made:
        for pdf in root.iter("PDF"):
            _shorten(pdf)
    return [_LONG.sub(_rounded, Xml.tostring(root)) for root in made]


def _option(root: Xml.Element, name: str) -> str:
    return root.findtext(f"Options/Option[@name='{name}']", "")


def _shorten(pdf: Xml.Element) -> None:
    """The first bins of a distribution: of many, each is changed more rarely."""
    ends = pdf.find("HistogramBinning")
    for held, more in ((pdf.find("Histogram"), 0), (ends, 1)):
        if held is not None:
            held.set("NBins", str(_BINS))
            held.text = " ".join((held.text or "").split()[: _BINS + more])


_BINS = 6
# Numbers of many digits, which take longer to read.
_LONG = re.compile(rb"-?\d\.\d{15,}e[-+]\d+")


def _rounded(found: re.Match[bytes]) -> bytes:
    return b"%.4g" % float(found[0])


def _tree(element: Xml.Element) -> dict[str, Any]:
    """An element; texts that are numbers are numbers, so that these are changed as such."""
    given = {name: _value(text) for name, text in element.attrib.items()}
    inner = [_tree(child) for child in element]
    return {"name": element.tag, "given": given, "text": element.text or "", "inner": inner}


@lru_cache(200)
def _read(data: bytes) -> Any:
    """The document of these bytes, of which `copied` may be changed."""
    return _tree(Xml.fromstring(data))


@lru_cache(10_000)
def _value(text: str) -> Any:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return repr(value) if isinstance(value, (int, float)) else dumped(value)


# What XML has no other names for.
_SPECIAL = re.compile(r"[&<>\"'\t\n\r]")


def _quoted(value: Any) -> str:
    text = _text(value)
    return quoteattr(text) if _SPECIAL.search(text) else f'"{text}"'


def _written(tree: Any) -> str:
    """The element as text; what is no element any more is a text."""
    if not isinstance(tree, dict):
        return escape(_text(tree))
    name, given = _text(tree.get("name", "Node")), tree.get("given")
    pairs = given.items() if isinstance(given, dict) else ()
    # A key that is to stand twice has a mark behind it.
    attributes = "".join([f" {k.rstrip(chr(2))}={_quoted(v)}" for k, v in pairs])
    inner = tree.get("inner", "")
    parts = "".join(map(_written, inner)) if isinstance(inner, list) else escape(_text(inner))
    return f"<{name}{attributes}>{escape(_text(tree.get('text', '')))}{parts}</{name}>"


def mutated(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """The file after a few changes; what is no XML stays."""
    try:
        tree = copied(_read(data))
        more = [_read(o) for o in rng.sample(list(others), min(1, len(others)))]
    except (Xml.ParseError, ValueError, LookupError, RecursionError):
        return data
    try:
        text = _written(changed(tree, rng, more))
    except (RecursionError, ValueError):  # An integer of more digits than Python writes.
        return data
    if rng.randrange(16) == 0:
        text = rng.choice(_DOCTYPES) + text
    if rng.randrange(32) == 0:
        text = "<a>" * 5000 + text
    return text.encode("utf-8", "surrogatepass")
