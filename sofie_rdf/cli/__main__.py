"""``python -m sofie_rdf.cli`` is `sofie-rdf`."""

from __future__ import annotations

import sys

from sofie_rdf.cli import main

if __name__ == "__main__":
    sys.exit(main())
