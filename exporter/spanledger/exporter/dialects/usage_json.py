"""A usage object that an emitter hands on as JSON text, in the provider's words or nearly: flattened, and counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from spanledger.exporter.dialects.counting import INSIDE, ON_TOP, Rule

_MAX_DEPTH: Final = 3

PREFIX: Final = "usage:"
"""Stands before the flattened names, so that they are no attributes of the span."""

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("prompt_tokens", "input_tokens", "input", "prompt", "promptTokens", "inputTokens"),
    "output": ("completion_tokens", "output_tokens", "output", "completion", "completionTokens", "outputTokens"),
    "total": ("total_tokens", "total", "totalTokens"),
    "cache_read": (
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
        "cache_read_input_tokens",
        "cacheReadInputTokens",
        "input_cache_read",
        "input_cached_tokens",
        "cached_tokens",
    ),
    "cache_write": (
        "prompt_tokens_details.cache_write_tokens",
        "input_tokens_details.cache_write_tokens",
        "cache_creation_input_tokens",
        "cacheWriteInputTokens",
        "input_cache_creation",
    ),
    "cache_write_5m": ("cache_creation.ephemeral_5m_input_tokens",),
    "cache_write_1h": ("cache_creation.ephemeral_1h_input_tokens",),
    "output_reasoning": (
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
        "output_tokens_details.thinking_tokens",
        "output_reasoning",
        "output_reasoning_tokens",
    ),
    "input_audio": ("prompt_tokens_details.audio_tokens", "input_tokens_details.audio_tokens", "input_audio"),
    "input_image": ("prompt_tokens_details.image_tokens", "input_tokens_details.image_tokens", "input_image"),
    "output_audio": ("completion_tokens_details.audio_tokens", "output_tokens_details.audio_tokens", "output_audio"),
    "output_image": ("completion_tokens_details.image_tokens", "output_tokens_details.image_tokens"),
    "web_search": ("server_tool_use.web_search_requests",),
    "web_fetch": ("server_tool_use.web_fetch_requests",),
}

COUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    part: tuple(PREFIX + name for name in several) for part, several in _NAMES.items()
}
"""For a `Words`: the names of `flat`."""

_ON_TOP: Final = tuple(
    PREFIX + name
    for name in (
        *("cache_read_input_tokens", "cache_creation_input_tokens"),
        *("cacheReadInputTokens", "cacheWriteInputTokens"),
        *("input_cache_read", "input_cache_creation", "input_cached_tokens"),
    )
)
"""Names that only those have whose cached tokens come on top of the input: Anthropic's, Bedrock's, Langfuse's."""

_KNOWN: Final = frozenset(name for several in COUNTS.values() for name in several)


def flat(text: Any) -> dict[str, Any]:
    """The counts of a usage object, its nested names with dots; empty where `text` is none."""
    if type(text) is not str or not text.startswith("{"):
        return {}
    try:
        usage = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    found: dict[str, Any] = {}
    _flatten(usage, PREFIX, found, 0)
    _add_compactions(usage, found)
    return found


def rule_of(usage: Mapping[str, Any]) -> Rule:
    """How a flattened usage object counts, told by the names that it has."""
    return Rule(ON_TOP if any(name in usage for name in _ON_TOP) else INSIDE)


def _add_compactions(usage: Mapping[str, Any], found: dict[str, Any]) -> None:
    """Anthropic's compactions are not in its top-level counts, and are billed on top of them."""
    iterations = usage.get("iterations")
    for entry in iterations[:64] if type(iterations) is list else ():
        if type(entry) is not dict or entry.get("type") != "compaction":
            continue
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
            more, so_far = entry.get(name), found.get(PREFIX + name, 0)
            if type(more) is int and type(so_far) is int:
                found[PREFIX + name] = so_far + more


def _flatten(usage: Mapping[str, Any], path: str, found: dict[str, Any], depth: int) -> None:
    for name, value in usage.items():
        if type(value) is dict:
            if depth < _MAX_DEPTH:
                _flatten(value, f"{path}{name}.", found, depth + 1)
        elif f"{path}{name}" in _KNOWN and value is not None:
            found[f"{path}{name}"] = value
