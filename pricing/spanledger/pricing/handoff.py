"""One call is priced once: hands the charge from the instrumentation to the ledger in the same process.

A span carries its cost as text for Jaeger; the ledger row needs the charge itself, with its snapshot. While a
span of ours ends, its `Priced` stands here under the span's id. Spans that come over the wire have none and
are priced on arrival.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from spanledger.pricing.call import Call, Charge


@dataclass(slots=True)
class Priced:
    """A call and its charge; `line` 0 is the call itself, further lines are other models' shares of it."""

    call: Call
    charge: Charge
    line: int = 0


ending: dict[int, list[Priced]] = {}
"""Span id -> the lines of a span that is ending right now."""

working: set[threading.Thread] = set()
"""Threads that still read the results of a batch: the ledger waits for them where it is flushed."""

held = 0
"""How often an event loop has left rows to a thread, because the disk was slow."""

write_held: Callable[[], None] | None = None
"""The ledger's: writes such rows, and returns when they are on disk, or the disk does not take them."""
