"""Dialects: each emitter of spans has its own way to say what a call was.

A dialect's reader turns a span's attributes into those of `spanledger.attributes`; from there on all are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from spanledger import attributes as names

Attributes = Mapping[str, Any]

OURS = 5
AN_SDKS_OWN = 4
ANOTHER_INSTRUMENTATION = 3
A_FRAMEWORK = 2
A_GATEWAY = 1


class Dialect(NamedTuple):
    """One emitter's way to describe a call.

    Attributes:
        source: the ledger's `source`.
        rank: how far it is believed, against others who describe the same call: `OURS` most, `A_GATEWAY` least.
        speaks: whether the spans of an instrumentation scope (its name) are in this dialect.
        read: a span's attributes -> the same in our own names; None where it is no billable call.
    """

    source: str
    rank: int
    speaks: Callable[[str], bool]
    read: Callable[[Attributes], Attributes | None]


_NO_CALLS = frozenset({"create_agent", "invoke_agent", "invoke_workflow", "execute_tool", "retrieval"})


def _ours(attributes: Attributes) -> Attributes | None:
    operation = attributes.get(names.OPERATION)
    return attributes if operation and operation not in _NO_CALLS else None


DIALECTS: tuple[Dialect, ...] = (Dialect("spanledger", OURS, lambda scope: scope.startswith(names.SCOPE + "."), _ours),)

_by_scope: dict[str, Dialect | None] = {}


def dialect_of(scope: str) -> Dialect | None:
    """The dialect of an instrumentation scope, or None where nobody knows it."""
    try:
        return _by_scope[scope]
    except KeyError:
        if len(_by_scope) >= 1000:
            _by_scope.clear()
        found = next((dialect for dialect in DIALECTS if dialect.speaks(scope)), None)
        return _by_scope.setdefault(scope, found)
