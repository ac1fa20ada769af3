"""`sofie-rdf precision`: what weights in fewer bits change on somebody's own events."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from dataclasses import asdict

from sofie_rdf.cli.events import events_of
from sofie_rdf.model import Model

__all__ = ["measure"]


def measure(model: Model, arguments: Namespace) -> int:
    """Print how far the numbers are apart, and what is saved; as JSON for programs."""
    events, options, labels = events_of(model, arguments.data, arguments)
    found = model.precision_loss(
        events, **options, precisions=arguments.precisions, cuts=arguments.cut, labels=labels
    )
    text = json.dumps(asdict(found), indent=2) if arguments.json else str(found)
    sys.stdout.write(f"{text}\n")
    return 0
