"""The usage object of OpenAI's formats, in the spellings that compatible endpoints give it.

The prompt count includes cached, cache-written, audio and image tokens, and the completion count includes
reasoning, audio and prediction tokens (`openai.types.completion_usage`, `openai.types.responses.response_usage`):
details are taken out of their parent, never added to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from spanledger.instrumentation.wire import cache_ttl
from spanledger.pricing.counts import Tally, amount, count, mapping

_PROMPT = ("prompt_tokens", "input_tokens")
_COMPLETION = ("completion_tokens", "output_tokens")
_PROMPT_DETAILS = (
    "prompt_tokens_details",
    "input_tokens_details",
    "prompt_token_details",  # Writer
    "input_token_details",  # transcription, realtime
)
_COMPLETION_DETAILS = (
    "completion_tokens_details",
    "output_tokens_details",
    "completion_token_details",
    "output_token_details",
)
_CACHED = (
    "cached_tokens",  # Together and Hugging Face; most have it in the details
    "prompt_cache_hit_tokens",  # DeepSeek
    "num_cached_tokens",  # Mistral
    "cache_read_input_tokens",  # gateways in front of Anthropic; Perplexity, in the details
)
_WRITTEN = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
_WRITTEN_DETAILS = (
    "cache_write_tokens_details",
    "cache_creation_token_details",  # LiteLLM's proxy
    "cache_creation",  # Alibaba; gateways in front of Anthropic, beside the details
)
_WRITTEN_SPLIT = (
    ("ttl_30m_tokens", "cache_write_30m"),
    ("ttl_12h_tokens", "cache_write_12h"),
    ("ephemeral_5m_input_tokens", "cache_write_5m"),
    ("ephemeral_1h_input_tokens", "cache_write_1h"),
)
_INPUT_DETAILS = tuple(
    (f"{kind}_tokens", f"cached_{kind}_tokens", f"input_{kind}", f"cache_read_{kind}")
    for kind in ("audio", "image", "video", "document")
)
_OUTPUT_DETAILS = (
    ("audio_tokens", "output_audio"),
    ("image_tokens", "output_image"),
    ("video_tokens", "output_video"),
)
_TOOL_RUNS = {
    "web_search_calls": "web_search",
    "x_search_calls": "tool_call",
    "code_interpreter_calls": "code_execution",
    "file_search_calls": "file_search",
    "document_search_calls": "file_search",
    "mcp_calls": "tool_call",
}
"""xAI's `server_side_tool_usage_details`, the tool runs that succeeded and are billed."""

_INVOCATIONS = {"search_web": "web_search", "fetch_url": "web_fetch"}
"""Perplexity's `tool_calls_details`; others are `tool_call`."""

INFORMATIONAL = frozenset(
    {
        # totals, and what is left of a count once its details are taken out
        "total_tokens",
        "text_tokens",
        "prompt_cache_miss_tokens",
        # inside the completion count, the rejected ones too
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
        # requests of any outcome, where others count the executed ones
        "num_server_side_tools_used",
        "tool_calls_requested",
        "request_count",
        # seconds (Groq)
        "queue_time",
        "prompt_time",
        "completion_time",
        "total_time",
        # money, see `reported_cost`
        "cost",
        "cost_details",
        "cost_in_usd_ticks",
        "estimated_cost",
    }
)
"""Usage fields that add nothing to the bill; `docs/usage.md` lists them."""

_SERVER_TOOLS_KNOWN = INFORMATIONAL | {"web_search_requests", "web_fetch_requests", "tool_calls_executed"}
_TOOL_RUNS_KNOWN = INFORMATIONAL | _TOOL_RUNS.keys()

_BILLED_BY_THE_CALL = frozenset(
    {
        "num_search_queries",
        "prompt_audio_seconds",
        "seconds",
        "server_side_tool_usage_details",
        "server_tool_use",
        "server_tool_use_details",
        "tool_calls_details",
    }
)

_KNOWN = INFORMATIONAL | {
    *_PROMPT,
    *_COMPLETION,
    *_PROMPT_DETAILS,
    *_COMPLETION_DETAILS,
    *_CACHED,
    *_WRITTEN,
    *_WRITTEN_DETAILS,
    "cached_tokens_details",
    "reasoning_tokens",
    *_BILLED_BY_THE_CALL,
}
_PROMPT_KNOWN = (
    INFORMATIONAL
    | {row[0] for row in _INPUT_DETAILS}
    | {"cached_tokens_details", "web_search_requests", *_CACHED, *_WRITTEN, *_WRITTEN_DETAILS}
)
_COMPLETION_KNOWN = INFORMATIONAL | {"reasoning_tokens"} | {name for name, _ in _OUTPUT_DETAILS}

_ORDINARY = INFORMATIONAL.difference({"prompt_cache_miss_tokens"}).union(
    _PROMPT, _COMPLETION, _PROMPT_DETAILS, _COMPLETION_DETAILS
)
"""A usage of these fields alone needs no look for what only some endpoints send."""

_ORDINARY_DETAILS = frozenset(
    {"cached_tokens", "cache_write_tokens", "text_tokens", *(row[0] for row in _INPUT_DETAILS)}
)
"""Nor do details of the prompt of these alone."""

_NOTHING: Mapping[str, Any] = {}


def read(raw: object, request: Mapping[str, Any], response: Mapping[str, Any], output_part: str = "output") -> Tally:
    """Split a usage object into disjoint parts.

    Parameters:
        raw: the provider's usage object; anything else gives an empty tally.
        request: asked for the cache lifetime where the response does not name it.
        response: the body that `raw` came with.
        output_part: the part for generated tokens whose kind the details do not name.
    """
    tally = Tally()
    if not isinstance(raw, dict):
        if raw is not None:
            tally.reasons.append("usage is not an object")
        return tally
    prompt_name, details = _details(raw, _PROMPT_DETAILS)
    completion_name, out = _details(raw, _COMPLETION_DETAILS)
    ordinary = _ORDINARY.issuperset(raw)
    prompt = tally.first(raw, _PROMPT)
    if not ordinary and "prompt_cache_miss_tokens" in raw:
        prompt = _hits_and_misses(tally, raw, prompt)
    completion = tally.first(raw, _COMPLETION)
    cached = tally.count(details, "cached_tokens")
    written = tally.first(details, _WRITTEN)
    split = _NOTHING
    if not ordinary or not _ORDINARY_DETAILS.issuperset(details):
        cached = _cached_elsewhere(tally, raw, details, cached)
        split = _details(details, _WRITTEN_DETAILS)[1] or _details(raw, _WRITTEN_DETAILS)[1]
        if written is None:
            written = tally.first(raw, _WRITTEN)
        if written is None:
            written = tally.first(split, _WRITTEN)
    reasoning = tally.count(out, "reasoning_tokens")
    if reasoning is None and not ordinary:
        reasoning = tally.count(raw, "reasoning_tokens")
    total = tally.count(raw, "total_tokens")
    if total is not None and total != (prompt or 0) + (completion or 0):
        cache = (cached or 0) + (written or 0)
        prompt, completion, reasoning = _agree_with_total(tally, total, prompt, completion, cache, reasoning)
    elif reasoning and completion is not None and "citation_tokens" in raw:  # Perplexity's deep research
        completion += reasoning  # comes on top, of the total too

    if written is None and not split:
        left = tally.share("cache_read", cached, prompt, "cached_tokens")
    else:
        left = _cache_parts(tally, raw, split, prompt, cached, written, request, response)
    left = _input_modalities(tally, raw, details, prompt, left)
    if left is not None:
        tally.parts["input"] = left

    left = tally.share("output_reasoning", reasoning, completion, "reasoning_tokens")
    if output_part == "output":
        for name, part in _OUTPUT_DETAILS:
            if name in out:
                left = tally.share(part, tally.count(out, name), left, name)
    else:
        left = tally.share("output", tally.count(out, "text_tokens"), left, "text_tokens")
    if left is not None:
        tally.parts[output_part] = left

    if not ordinary:
        _fees(tally, raw)
        tally.keep_unmapped(raw, _KNOWN)
    if "web_search_requests" in details and "web_search" not in tally.parts:  # LiteLLM's proxy
        searches = tally.count(details, "web_search_requests")
        if searches is not None:
            tally.parts["web_search"] = searches
    tally.keep_unmapped(details, _PROMPT_KNOWN, f"{prompt_name}.")
    tally.keep_unmapped(out, _COMPLETION_KNOWN, f"{completion_name}.")
    return tally


def reported_cost(raw: object) -> Decimal | None:
    """What the provider says it billed, in USD; None if it says nothing.

    OpenRouter's `cost` (with `is_byok` that is only its fee), Perplexity's `cost.total_cost`, and xAI's
    `cost_in_usd_ticks` of 1e-10 USD (https://docs.x.ai/developers/cost-tracking).
    """
    if not isinstance(raw, dict):
        return None
    cost = raw.get("cost")
    if cost is not None:
        return amount(cost.get("total_cost") if isinstance(cost, dict) else cost)
    ticks = raw.get("cost_in_usd_ticks")
    if ticks is None:
        return None
    number = amount(ticks)
    return None if number is None else number.scaleb(-10)


def _details(raw: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, Mapping[str, Any]]:
    for name in names:
        value = raw.get(name)
        if value and isinstance(value, dict):
            return name, value
    return names[0], _NOTHING


def _hits_and_misses(tally: Tally, raw: Mapping[str, Any], prompt: int | None) -> int | None:
    """DeepSeek: cache hits and misses make up the prompt."""
    missed = tally.count(raw, "prompt_cache_miss_tokens")
    if missed is None:
        return prompt
    both = missed + (tally.count(raw, "prompt_cache_hit_tokens") or 0)
    if prompt is None:
        return both
    if both != prompt:
        tally.reasons.append(f"prompt_tokens is {prompt}, its cache hits and misses are {both}")
    return prompt


def _cached_elsewhere(
    tally: Tally, raw: Mapping[str, Any], details: Mapping[str, Any], cached: int | None
) -> int | None:
    """The cached count where other fields than `cached_tokens` of the details may state it too, or alone."""
    for holder in (raw, details):
        for name in _CACHED:
            if name in holder:
                again = tally.count(holder, name)
                if cached is None:
                    cached = again
                elif again is not None and again != cached:
                    tally.reasons.append(f"cached tokens are reported as {cached} and as {again}")
                    cached = max(cached, again)
    if cached is None and "cached_tokens_details" in details:
        split = mapping(details["cached_tokens_details"])
        cached = sum(count(value) or 0 for value in split.values()) if split else None
    return cached


def _agree_with_total(
    tally: Tally,
    total: int,
    prompt: int | None,
    completion: int | None,
    cache: int,
    reasoning: int | None,
) -> tuple[int | None, int | None, int | None]:
    """Prompt, completion and reasoning counts such that prompt + completion is the stated total, which they miss."""
    if prompt is None and completion is None:
        tally.reasons.append("total_tokens stands alone")
        tally.unmapped["total_tokens"] = total
        return prompt, completion, reasoning
    gap = total - (prompt or 0) - (completion or 0)
    if gap < 0:
        tally.reasons.append(f"total_tokens is {total}, prompt and completion are {total - gap}")
    elif prompt is None:
        tally.reasons.append("the prompt count is missing and follows from total_tokens")
        prompt = gap
    elif completion is None:
        tally.reasons.append("the completion count is missing and follows from total_tokens")
        completion = gap
    elif gap == reasoning:  # xAI chat: reasoning comes on top
        completion += gap
    elif gap == cache:  # the endpoint counts its cache outside the prompt
        prompt += gap
    elif not reasoning:  # Gemini's OpenAI endpoint: reasoning is hidden in the total
        completion += gap
        reasoning = gap
    else:
        tally.reasons.append(f"total_tokens is {total}, prompt and completion are {total - gap}")
        completion += gap
        reasoning = max(reasoning, gap)
    return prompt, completion, reasoning


def _cache_parts(
    tally: Tally,
    raw: Mapping[str, Any],
    split: Mapping[str, Any],
    prompt: int | None,
    cached: int | None,
    written: int | None,
    request: Mapping[str, Any],
    response: Mapping[str, Any],
) -> int | None:
    """Take cache reads and writes out of the prompt; returns what is left of it.

    Parameters:
        split: the writes by time to live, where the provider tells.
    """
    shares = [(name, part, tally.count(split, name)) for name, part in _WRITTEN_SPLIT if name in split]
    if written is None and shares:
        written = sum(quantity or 0 for _, _, quantity in shares)
    left = prompt
    if cached and written and _billed_twice(raw, prompt, cached, written):
        left = (prompt or 0) + min(cached, written)
    left = tally.share("cache_read", cached, left, "cached_tokens")
    if written is None:
        return left
    rest: int | None = written
    if left is not None and written > left:
        tally.reasons.append(f"cache_write_tokens is {written}, more than the {left} that is left of its total")
        rest = written = left
    for name, part, quantity in shares:
        rest = tally.share(part, quantity, rest, name)
    if not shares:
        tally.parts[_write_part(tally, written, request, response)] = written
    elif rest:
        tally.parts["cache_write"] = rest
    return None if left is None else left - written


def _billed_twice(raw: Mapping[str, Any], prompt: int | None, cached: int, written: int) -> bool:
    """OpenRouter: the same tokens can be read and written, and are billed as both."""
    from_openrouter = "cost" in raw or "cost_details" in raw
    return from_openrouter and prompt is not None and max(cached, written) <= prompt < cached + written


def _write_part(tally: Tally, written: int, request: Mapping[str, Any], response: Mapping[str, Any]) -> str:
    if not written:
        return "cache_write"
    part = cache_ttl.openai_part(request, response)
    if part is None:
        tally.estimates.append(cache_ttl.SEVERAL)
    return part or "cache_write"


def _input_modalities(
    tally: Tally, raw: Mapping[str, Any], details: Mapping[str, Any], prompt: int | None, left: int | None
) -> int | None:
    """Take the named modalities out of the prompt; returns what is left of it.

    A cached token of a modality leaves that modality's part once (`cached_tokens_details`).
    """
    from_cache = mapping(details.get("cached_tokens_details") or raw.get("cached_tokens_details"))
    for name, cached_name, part, cache_part in _INPUT_DETAILS:
        if name not in details and not (from_cache and (name in from_cache or cached_name in from_cache)):
            continue
        quantity = tally.count(details, name)
        cached = tally.first(from_cache, (name, cached_name))
        if cached is not None:
            read = tally.parts.get("cache_read")
            tally.parts["cache_read"] = tally.share(cache_part, cached, int(read or 0), cached_name) or 0
            if quantity is not None:
                quantity = max(0, quantity - cached)
        elif quantity and left is not None and quantity > left and _modalities_fill(details, prompt):
            tally.estimates.append("which modality was read from the cache is not reported")
            quantity = left
        left = tally.share(part, quantity, left, name)
    return left


def _modalities_fill(details: Mapping[str, Any], prompt: int | None) -> bool:
    """Whether text and the other modalities make up the whole prompt, cached tokens included."""
    return "text_tokens" in details and prompt == sum(
        count(details.get(name)) or 0 for name in ("text_tokens", *(row[0] for row in _INPUT_DETAILS))
    )


def _fees(tally: Tally, raw: Mapping[str, Any]) -> None:
    """What is billed by the call or the second, where the usage object has it."""
    for holder in ("server_tool_use_details", "server_tool_use"):
        runs = mapping(raw.get(holder))
        if runs:  # OpenRouter: the tool calls executed include the searches
            searches = tally.count(runs, "web_search_requests")
            fetches = tally.count(runs, "web_fetch_requests")
            executed = tally.count(runs, "tool_calls_executed")
            if searches is not None:
                tally.parts["web_search"] = searches
            if fetches is not None:
                tally.parts["web_fetch"] = fetches
            if executed is not None:
                tally.parts["tool_call"] = max(0, executed - (searches or 0) - (fetches or 0))
            tally.keep_unmapped(runs, _SERVER_TOOLS_KNOWN, f"{holder}.")
            break
    for name, run in mapping(raw.get("tool_calls_details")).items():
        number = tally.count(mapping(run), "invocation")
        if number is not None:
            tally.add(_INVOCATIONS.get(name, "tool_call"), number)
    runs = mapping(raw.get("server_side_tool_usage_details"))
    for name, part in _TOOL_RUNS.items() if runs else ():
        number = tally.count(runs, name)
        if number is not None:
            tally.add(part, number)
    tally.keep_unmapped(runs, _TOOL_RUNS_KNOWN, "server_side_tool_usage_details.")
    searches = tally.count(raw, "num_search_queries")  # Perplexity
    if searches is not None:
        tally.parts["web_search"] = searches
    for name in ("prompt_audio_seconds", "seconds"):  # Mistral; transcription by duration
        if raw.get(name) is not None:
            seconds = amount(raw[name])
            if seconds is None:
                tally.reasons.append(f"{name} is not a number of seconds")
            else:
                tally.parts["audio_second"] = int(seconds) if seconds == int(seconds) else seconds
