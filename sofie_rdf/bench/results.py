"""All that one run has found, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sofie_rdf.bench.cases import Case
from sofie_rdf.bench.dataframe import Loop
from sofie_rdf.bench.roofline import Roofline
from sofie_rdf.errors import ModelError

__all__ = ["Results"]

_FORMAT = 2


@dataclass
class Results:
    """What has been measured so far, where, and with which options."""

    machine: dict[str, Any]
    options: Mapping[str, Any]
    roofline: Roofline
    cases: list[Case] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def text(self) -> str:
        """As JSON."""
        return json.dumps(self.to_json(), indent=2) + "\n"

    def to_json(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "machine": self.machine,
            "options": self.options,
            "roofline": self.roofline.to_json(),
            "cases": [self._case(case) for case in self.cases],
            "loops": [loop.to_json() for loop in self.loops],
            "errors": self.errors,
            "ok": not self.errors,
        }

    def _case(self, case: Case) -> dict[str, Any]:
        least = case.work.least(self.roofline)
        bound = {
            "least_us": least.seconds * 1e6,
            "set_by": least.by,
            "distance": case.work.distance(case.ours.median, self.roofline),
        }
        return {**case.to_json(), "bound": bound}

    @classmethod
    def read(cls, file: str) -> Results:
        """What `text` has given; `ModelError` if it is something else."""
        try:
            read = json.loads(Path(file).read_text())
            if read["format"] != _FORMAT:
                raise ModelError(
                    f"has format {read['format']}, not {_FORMAT}",
                    place=file,
                    remedy="Measure again with this version",
                )
            return cls(
                read["machine"],
                read["options"],
                Roofline.from_json(read["roofline"]),
                [Case.from_json(case) for case in read["cases"]],
                [Loop.from_json(loop) for loop in read["loops"]],
                read["errors"],
            )
        except OSError as error:
            raise ModelError(f"cannot be read: {error.strerror}", place=file) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            remedy = "It takes what `sofie-rdf bench --json FILE` writes"
            raise ModelError("is no result of bench", place=file, remedy=remedy) from error
