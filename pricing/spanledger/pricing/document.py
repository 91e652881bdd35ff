"""The plain data that a price file becomes, and the few words that the book shares with its reader.

A `Document` holds nothing but strings, ints, lists and dicts; the catalogue's compiled form is its JSON. It has
`file`, `digest`, `sections` (one a provider: `models`, `additions`, `aliases`, `extends`, `fallback`,
`informational`), `overlays`, `fx` and `providers`. A rate is `[text, per]`, with a third item for what more a fee says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

Document = dict[str, Any]
Json = dict[str, Any]

ANY_PROVIDER = "*"
STANDARD = frozenset({"", "default", "standard", "on_demand", "auto", "none"})
"""Words for the standard tier and ordinary processing."""


class PriceFileError(ValueError):
    """A price file is wrong and is refused whole.

    Attributes:
        file: the file.
        line: where in it, from 1; 0 for the file as such.
        reason: what is wrong and what to do.
    """

    def __init__(self, file: Path | str, line: int, reason: str) -> None:
        super().__init__(f"{file}:{line}: {reason}" if line else f"{file}: {reason}")
        self.file = Path(file)
        self.line = line
        self.reason = reason


def mode_name(text: str) -> str:
    """A tier's or mode's name in one spelling: `On-Demand` is `on_demand`."""
    return text.strip().lower().replace("-", "_").replace(" ", "_")
