"""Anthropic's message batches: JSON lines, each with a message, an error, or why it never ran.

Requests that errored, were canceled or expired are not billed. A message does not say when it was made: its time is
the batch's.

Sources: `anthropic.types.messages.message_batch`, `message_batch_individual_response`;
https://platform.claude.com/docs/en/build-with-claude/batch-processing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import anthropic_messages
from spanledger.instrumentation.wire.batch import Format, Job, Result, own_id
from spanledger.instrumentation.wire.gemini_usage import time_ns
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import error_of, mapping, sequence, text
from spanledger.pricing.usage import MISSING, Usage


def is_line(line: Mapping[str, Any]) -> bool:
    """Whether this is a line of results."""
    return "custom_id" in line and bool(text(mapping(line.get("result")).get("type")))


def jobs(body: Mapping[str, Any]) -> tuple[Job, ...]:
    """The job in a body, or those of a list."""
    body = mapping(body)
    told = sequence(body.get("data")) or (body,)
    return tuple(
        Job(name, time_ns(_utc(each.get("created_at"))), "/v1/messages")
        for each in map(mapping, told)
        if (name := text(each.get("id")))
    )


def read(line: Mapping[str, Any], _job: Job, name: str) -> Result | None:
    """Read a line of results."""
    result = mapping(mapping(line).get("result"))
    kind = result.get("type")
    if kind == "succeeded":
        reading = anthropic_messages.read(mapping(result.get("message")), {})
    elif kind == "errored":
        error = mapping(result.get("error"))
        told = error_of(error.get("error") or error) or ("errored", "")
        reading = Reading(usage=Usage(status=MISSING, reasons=("the line failed",)), error=told, not_billed=True)
    else:
        return None
    own_id(reading, name)
    return Result("chat", reading)


def _utc(value: object) -> str:
    told = text(value)
    return told.removesuffix("+00:00") + "Z" if told.endswith("+00:00") else told


FORMAT = Format(jobs, is_line, read, (b'"custom_id"',))
