"""The models whose code a macro may run: the checksums that the user trusts.

The header in a .root file is code, and who compiles it runs whatever stands there. Python never
does: it emits its own. A macro cannot, so it compiles only the header of a model that is in this
list, or whose checksum is in SOFIE_RDF_TRUSTED or is given to the reader. `Model.save` puts in what
it writes; `sofie-rdf trust` what it has compared with its own emission.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["file", "is_trusted", "trust"]


def file() -> Path:
    """The list: a line ``SHA256 NAME`` for each model. cling/sofie/rdf/stored.hxx reads it too."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path(os.environ.get("HOME", ""), ".config")
    return Path(config, "sofie_rdf", "trusted")


def is_trusted(sha256: str) -> bool:
    """Whether a macro would run the model of this checksum."""
    known = os.environ.get("SOFIE_RDF_TRUSTED", "")
    with suppress(OSError):
        known += file().read_text()
    return sha256 in known


def trust(sha256: str, name: str) -> bool:
    """Put a model into the list; whether it could be written."""
    if is_trusted(sha256):
        return True
    words = " ".join(name.split())
    try:
        file().parent.mkdir(parents=True, exist_ok=True)
        with file().open("a") as listed:
            listed.write(f"{sha256} {words}\n")
    except OSError:
        return False
    return True
