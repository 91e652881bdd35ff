"""OpenAI moderations, which are free and report no usage: nothing was consumed that is billed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import openai_chat
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import mapping
from spanledger.pricing.usage import MISSING, REPORTED

Stream = openai_chat.Stream


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a moderation. It counts as reported, since there is nothing to report; a usage that is there stands."""
    reading = openai_chat.read(mapping(body), request)
    if reading.usage.status == MISSING and reading.usage.raw is None:
        reading.usage.status, reading.usage.reasons = REPORTED, ()
    return reading
