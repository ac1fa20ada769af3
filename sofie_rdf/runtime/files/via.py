"""Who writes a .root file: uproot, or ROOT itself."""

from __future__ import annotations

from typing import Any

from sofie_rdf.errors import InputError

__all__ = ["backend"]


def backend(via: str) -> Any:
    """The module that saves with ``"uproot"`` or ``"ROOT"``; `InputError` for others."""
    if via == "uproot":
        from sofie_rdf.ir import rootfile

        return rootfile
    if via == "ROOT":
        from sofie_rdf.runtime.files import rootio

        return rootio
    raise InputError(f"via={via!r} is unknown", remedy='Use "uproot" or "ROOT"')
