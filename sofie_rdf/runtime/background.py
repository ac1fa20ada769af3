"""``python -m sofie_rdf.runtime.background KEY COMPILER FLAGS``: builds a library of the cache."""

from __future__ import annotations

import os
import sys

from sofie_rdf.errors import SofieError
from sofie_rdf.runtime.library import build_source

if __name__ == "__main__":
    os.nice(19)
    try:
        build_source(sys.argv[1], sys.argv[2], sys.argv[3:])
    except SofieError as error:
        sys.exit(str(error))
