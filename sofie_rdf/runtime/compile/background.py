"""A process of its own (`fresh`): builds the libraries that its input names."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress

from sofie_rdf.errors import SofieError
from sofie_rdf.runtime.compile.library import build_source

if __name__ == "__main__":
    os.nice(19)
    for line in sys.stdin:
        with suppress(SofieError):  # Then there is no library, and nobody tries again.
            build_source(*json.loads(line))
