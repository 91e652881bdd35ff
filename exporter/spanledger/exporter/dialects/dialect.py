"""What a dialect is: one emitter's way to say what a call was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

Attributes = Mapping[str, Any]

OURS: Final = 5
AN_SDKS_OWN: Final = 4
ANOTHER_INSTRUMENTATION: Final = 3
A_FRAMEWORK: Final = 2
A_GATEWAY: Final = 1

SURROUNDINGS: Final = frozenset({"invoke_agent", "invoke_workflow", "execute_tool"})
"""Operations of spans that are never billed, whose names the calls inside them are given."""


class Dialect(NamedTuple):
    """One emitter's way to describe a call.

    Attributes:
        source: the ledger's `source`.
        rank: how far it is believed, against others who describe the same call: `OURS` most, `A_GATEWAY` least.
        read: a span's attributes -> the same in our own names, of a billable call; or of a span around calls, whose
            operation is one of `SURROUNDINGS`; None where it is neither. What an emitter does not say is absent.
    """

    source: str
    rank: int
    read: Callable[[Attributes], Attributes | None]
