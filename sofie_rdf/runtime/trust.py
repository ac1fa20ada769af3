"""The models whose code a macro may run: the checksums that the user trusts.

The header in a .root file is code, and who compiles it runs whatever stands there. Python never
does: it emits its own. A macro cannot, so it compiles only the header of a model that is in this
list, or whose checksum is in SOFIE_RDF_TRUSTED or is given to the reader. `Model.save` puts in what
it writes; `sofie-rdf trust` what it has compared with its own emission.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

__all__ = ["file", "is_trusted", "trust"]


def file() -> Path:
    """The list: a line ``SHA256 NAME`` for each model. cling/sofie/rdf/stored.hxx reads it too."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path(os.environ.get("HOME", ""), ".config")
    return Path(config, "sofie_rdf", "trusted")


def is_trusted(sha256: str) -> bool:
    """Whether a macro would run the model of this checksum."""
    known = re.split("[^0-9a-f]", os.environ.get("SOFIE_RDF_TRUSTED", ""))
    # Behind a checksum stands a name, which may be anything: another checksum, for example.
    known += [line.split(b" ")[0].decode("latin-1") for line in _listed().split(b"\n")]
    return sha256 != "" and sha256 in known


def _listed() -> bytes:
    with suppress(OSError):
        return file().read_bytes()
    return b""


def trust(sha256: str, name: str) -> bool:
    """Put a model into the list; whether it could be written."""
    if is_trusted(sha256):
        return True
    words = " ".join(name.encode("utf-8", "replace").decode().split())
    # The last line of what a killed process has written has no end.
    start = "" if (_listed() or b"\n").endswith(b"\n") else "\n"
    try:
        file().parent.mkdir(parents=True, exist_ok=True)
        with file().open("a", encoding="utf-8") as listed:
            listed.write(f"{start}{sha256} {words}\n")
    except OSError:
        return False
    return True
