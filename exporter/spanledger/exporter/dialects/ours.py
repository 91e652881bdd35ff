"""Our own spans: `docs/attributes.md`. Nothing is to be turned into anything."""

from __future__ import annotations

from typing import Final

from spanledger import attributes as names
from spanledger.exporter.dialects.dialect import Attributes

_NEITHER: Final = frozenset({"create_agent", "retrieval"})


def read(attributes: Attributes) -> Attributes | None:
    operation = attributes.get(names.OPERATION)
    return attributes if operation and operation not in _NEITHER else None
