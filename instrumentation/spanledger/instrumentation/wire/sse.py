"""Lines of a server-sent event stream, and of streams that are plain JSON lines."""

from __future__ import annotations

from typing import Any

import orjson


def event(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a `data:` line or a line of JSON; None for anything else, broken JSON included."""
    if line.startswith(b"data:"):
        line = line[5:]
    elif not line.startswith(b"{"):
        return None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
