"""Where a Session finds its weights: in a file, in a .root file, or in the header itself."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass

from sofie_rdf.emit.literals import string
from sofie_rdf.errors import InputError, ModelError

__all__ = ["KINDS", "MOST_IN_HEADER", "Source"]

KINDS = ("file", "root", "header")
# Cling reads a header twice, in 10 ms for each MB of weights. What is larger belongs in a file.
MOST_IN_HEADER = 32 * 2**20
# Compilers need not take a string of more than 65536 characters.
_LINE, _LINES = 96, 512


@dataclass(frozen=True)
class Source:
    """What the constructors of a Session say about its weights.

    ``path`` is the file that a Session reads if it is given no other, ``directory`` that of the
    weights in a .root file.
    """

    kind: str
    path: str
    directory: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            listed = ", ".join(map(repr, KINDS))
            raise InputError(f"weights={self.kind!r} is unknown", remedy=f"Use one of {listed}")

    @property
    def header(self) -> str:
        """The header that knows how to read them, where session/weights.hxx does not suffice."""
        return {"root": "sofie/rdf/root_weights.hxx", "header": "sofie/session/embedded.hxx"}.get(
            self.kind, ""
        )

    @property
    def about(self) -> str:
        if self.kind == "header":
            return "The weights are in this header; there is no file to name."
        return "Reads the weight file that was written with this header."

    @property
    def parameter(self) -> str:
        if self.kind == "header":
            return 'const std::string & = ""'
        return f"const std::string &weights = {string(self.path)}"

    @property
    def expression(self) -> str:
        """What `sofie::WeightFile` and `sofie::Linked` are made of."""
        if self.kind == "header":
            return "sofie::from_base64(embedded_weights())"
        if self.kind == "root":
            return f"sofie::stored_weights(weights, {string(self.directory)})"
        return "weights"

    def embedded(self, name: str, weights: bytes) -> Iterable[str]:
        """The bytes of a weight file as text in the header; nothing if they are in a file."""
        if self.kind != "header":
            return
        if len(weights) > MOST_IN_HEADER:
            raise ModelError(
                f"has {len(weights):,} bytes of weights, too many for a header: each program that "
                f"includes it would compile them (the most is {MOST_IN_HEADER:,})",
                place=name,
                remedy='Keep them in a file: weights="file" or weights="root"',
            )
        text = base64.b64encode(weights).decode()
        lines = [text[i : i + _LINE] for i in range(0, len(text), _LINE)]
        yield "/// The weight file in base64."
        yield "inline const char *const *embedded_weights()"
        yield "{"
        yield "   static const char *const blocks[] = {"
        for i, line in enumerate(lines):
            ends = i % _LINES == _LINES - 1 or i == len(lines) - 1
            yield f'      "{line}"{"," if ends else ""}'
        yield "      nullptr};"
        yield "   return blocks;"
        yield "}"
        yield ""
