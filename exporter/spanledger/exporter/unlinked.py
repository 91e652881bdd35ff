"""Spans of one call that no parent links: a framework tells of a call when it is over, in a trace of its own.

LangChain's callbacks do so, for one. Their span has no response id either. It is known again as the span of the same
process that began before a call and is told of after its beginning, with the same tokens and the same model. Of a
lazy stream, its end may be before the call's beginning: so the order in which spans are told of counts.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

Row = dict[str, Any]

_MOST: Final = 1_000


class _Ended(NamedTuple):
    """A span of a call with known usage."""

    start_ns: int
    end_ns: int
    input_tokens: int
    output_tokens: int
    request_model: str
    response_model: str
    rank: int
    row: Row
    """Of a call with an id only its `entry_id`: a whole row is large, and many are remembered."""
    paired: list[str]
    """Scopes whose span of the same call was found: each describes a call once."""


_calls: deque[_Ended] = deque(maxlen=_MOST)
"""Those that ended lately in this process, the last one last."""

_tales: deque[_Ended] = deque(maxlen=_MOST)
"""Spans without a response id of which no call was found yet: a stream may end after the span around it."""

_late: deque[Row] = deque()


def call(row: Row, start_ns: int, end_ns: int, rank: int) -> None:
    """Remember a call; spans before it may have been of the same one.

    Parameters:
        row: its ledger row.
        rank: of its dialect.
    """
    _add(_ended(row, {"entry_id": row["entry_id"]}, start_ns, end_ns, rank))


def tale(row: Row, start_ns: int, end_ns: int, rank: int) -> None:
    """Mark the row of a span without a response id as no bill of its own, if a call is known that it describes.

    Parameters:
        row: its ledger row.
        rank: of its dialect; only calls of a higher one are looked at.
    """
    mine = _ended(row, row, start_ns, end_ns, rank)
    for each in reversed(_calls.copy()):
        if each.end_ns < start_ns:
            break
        if mine.start_ns <= each.start_ns and _are_one(mine, each):
            _pair(mine, each)
            return
    mine = mine._replace(row=row.copy())
    _add(mine)  # of another's tale it may be the call
    _tales.append(mine)


def late() -> list[Row]:
    """Rows of spans that ended before, once more, since the call that they describe is known now."""
    found: list[Row] = []
    while _late:
        try:
            found.append(_late.popleft())
        except IndexError:  # another thread was quicker
            break
    return found


def of_another_process() -> None:
    """Forget what ended: the spans that follow come from somewhere else."""
    _calls.clear()
    _tales.clear()


def _add(call: _Ended) -> None:
    if _tales:
        for each in reversed(_tales.copy()):
            if each.end_ns < call.start_ns:
                break
            lasted = each.start_ns <= call.start_ns <= each.end_ns
            if lasted and not each.row.get("describes") and _are_one(each, call):
                _pair(each, call)
                _late.append(each.row)
    _calls.append(call)


def _ended(row: Row, kept: Row, start_ns: int, end_ns: int, rank: int) -> _Ended:
    return _Ended(
        start_ns,
        end_ns,
        row["input_tokens"],
        row["output_tokens"],
        row["request_model"],
        row["response_model"],
        rank,
        kept,
        [],
    )


def _are_one(tale: _Ended, call: _Ended) -> bool:
    return (
        tale.input_tokens == call.input_tokens
        and tale.output_tokens == call.output_tokens
        and tale.rank < call.rank
        and tale.row["scope"] not in call.paired
        and _may_be_one((tale.request_model, tale.response_model), (call.request_model, call.response_model))
    )


def _pair(tale: _Ended, call: _Ended) -> None:
    call.paired.append(tale.row["scope"])
    row = tale.row
    row["describes"] = call.row.get("describes") or call.row["entry_id"]
    row["is_deleted"] = 1
    row["version"] += 1  # stands before the row that the same span makes where the call is not seen


def _may_be_one(some: tuple[str, str], others: tuple[str, str]) -> bool:
    """Gateways put the provider before a model's name, `openai/gpt-4o`; answers a date behind it."""
    known = [name.rpartition("/")[2] for name in some if name]
    whole = [name.rpartition("/")[2] for name in others if name]
    return not known or not whole or any(a.startswith(b) or b.startswith(a) for a in known for b in whole)
