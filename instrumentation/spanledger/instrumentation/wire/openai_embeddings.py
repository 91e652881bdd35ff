"""OpenAI embeddings and those that speak them: the prompt is the input, there is no output.

Source: `openai.types.create_embedding_response`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import openai_chat
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import mapping

Stream = openai_chat.Stream


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a list of embeddings. Where a usage has a total alone (Voyage), the total is the input."""
    body = mapping(body)
    raw = body.get("usage")
    if not isinstance(raw, Mapping) or "total_tokens" not in raw or {"prompt_tokens", "input_tokens"} & raw.keys():
        return openai_chat.read(body, request)
    reading = openai_chat.read({**body, "usage": {**raw, "prompt_tokens": raw["total_tokens"]}}, request)
    reading.usage.raw = raw
    return reading
