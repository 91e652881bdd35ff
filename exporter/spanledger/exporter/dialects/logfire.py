"""Logfire's instrumentation of OpenAI and Anthropic, and Pydantic AI's own spans.

https://github.com/pydantic/logfire, https://github.com/pydantic/pydantic-ai. A streamed call makes two spans with
Logfire: the call, which has no usage, and a log when the stream ends, which has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson

from spanledger import attributes as names
from spanledger.exporter.dialects import genai, usage_json
from spanledger.exporter.dialects.call import OPERATIONS, call, first, words
from spanledger.exporter.dialects.counting import INSIDE, NOT_KNOWN, Rule
from spanledger.exporter.dialects.dialect import Attributes

_DETAILS: Final = "gen_ai.usage.details."

_COUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    **genai.COUNTS,
    "output_reasoning": (*genai.COUNTS["output_reasoning"], _DETAILS + "thoughts_tokens"),
    "input_audio": (*genai.COUNTS["input_audio"], _DETAILS + "input_audio_tokens"),
    "cache_read_audio": (*genai.COUNTS["cache_read_audio"], _DETAILS + "cache_audio_read_tokens"),
    "output_audio": (*genai.COUNTS["output_audio"], _DETAILS + "output_audio_tokens"),
}

_WORDS: Final = words(genai.TEXTS, _COUNTS, attribution={names.AGENT_NAME: ("agent_name",)}, costs=genai.COSTS)
_RAW: Final = words(genai.TEXTS, usage_json.COUNTS, costs=genai.COSTS)


def read(attributes: Attributes) -> Attributes | None:
    """Logfire's spans: the provider's own usage object is in `gen_ai.usage.raw`, since 4.0."""
    if attributes.get("logfire.span_type") == "pending_span":
        return None
    raw = usage_json.flat(attributes.get("gen_ai.usage.raw"))
    said = attributes.get(names.OPERATION)
    operation = OPERATIONS.get(said) if type(said) is str else None
    if operation is None:
        return genai.read_by(attributes, _WORDS, Rule(INSIDE))
    used = raw or first(attributes, (*genai.COUNTS["input"], *genai.COUNTS["output"])) is not None
    ended = "duration" in attributes or "logfire.exception.fingerprint" in attributes
    if not used and not ended and attributes.get(names.RESPONSE_ID) is None:
        return None
    attributes = {**attributes, names.FINISH_REASONS: _list(attributes.get(names.FINISH_REASONS))}
    if "duration" in attributes:
        attributes[names.REQUEST_STREAM] = True
    if raw:
        return call(attributes, _RAW, operation, usage_json.rule_of(raw), counts=raw)
    return call(attributes, _WORDS, operation, Rule(INSIDE))


def read_pydantic_ai(attributes: Attributes) -> Attributes | None:
    """Pydantic AI: cached tokens inside the input, whatever the provider; a run's span sums up its calls."""
    if attributes.get("logfire.span_type") == "pending_span":
        return None
    return genai.read_by(attributes, _WORDS, Rule(INSIDE, reasoning=NOT_KNOWN))


def _list(value: object) -> object:
    """Logfire keeps lists as JSON text."""
    if type(value) is not str:
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
