"""Reads a span's attributes as the ledger does: by the dialect of its scope."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from spanledger import attributes as names
from spanledger.exporter.dialects import dialect_of


def read(scope: str, attributes: Mapping[str, Any], version: str = "") -> dict[str, Any] | None:
    dialect = dialect_of(scope, attributes, version)
    assert dialect is not None
    found = dialect.read(attributes)
    return None if found is None else dict(found)


def a_call(scope: str, attributes: Mapping[str, Any], version: str = "") -> dict[str, Any]:
    found = read(scope, attributes, version)
    assert found is not None
    assert names.USAGE_STATUS in found
    return found


def parts(scope: str, attributes: Mapping[str, Any], version: str = "") -> dict[str, int]:
    """The usage parts above zero."""
    usage: dict[str, int] = json.loads(a_call(scope, attributes, version).get(names.USAGE_PARTS, "{}"))
    return {part: quantity for part, quantity in usage.items() if quantity}
