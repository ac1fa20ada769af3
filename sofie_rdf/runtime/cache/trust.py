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

from sofie_rdf.runtime.cache import private

__all__ = ["file", "is_trusted", "trust"]


def file() -> Path:
    """The list: a line ``SHA256 NAME`` for each model. cling/sofie/rdf/stored.hxx reads it too."""
    config = private.below("XDG_CONFIG_HOME", ".config") or Path("/")
    return config / "sofie_rdf" / "trusted"


def _usable() -> Path | None:
    """The list; None, with a warning, where other users may write to it."""
    path, what = file(), "the list of trusted models"
    # Who may write to the folder may put another list there.
    return path if private.is_safe(path.parent, what) and private.is_safe(path, what) else None


def is_trusted(sha256: str) -> bool:
    """Whether a macro would run the model of this checksum."""
    known = re.split("[^0-9a-f]", os.environ.get("SOFIE_RDF_TRUSTED", ""))
    # Behind a checksum stands a name, which may be anything: another checksum, for example.
    known += [line.split(b" ")[0].decode("latin-1") for line in _listed().split(b"\n")]
    return sha256 != "" and sha256 in known


def _listed() -> bytes:
    path = _usable()
    with suppress(OSError):
        return path.read_bytes() if path else b""
    return b""


def trust(sha256: str, name: str) -> bool:
    """Put a model into the list; whether it could be written."""
    if is_trusted(sha256):
        return True
    path = _usable()
    if path is None:
        return False
    words = " ".join(name.encode("utf-8", "replace").decode().split())
    # The last line of what a killed process has written has no end.
    start = "" if (_listed() or b"\n").endswith(b"\n") else "\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8", opener=_for_this_user) as listed:
            listed.write(f"{start}{sha256} {words}\n")
    except OSError:
        return False
    return True


def _for_this_user(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
