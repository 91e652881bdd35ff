"""The time to live that a request asked for its cache writes, for responses that do not name it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spanledger.pricing.counts import mapping, sequence, text

_LISTS = ("system", "tools", "messages", "input")
_DEPTH = 3

SEVERAL = "cache writes of several lifetimes, which the response does not tell apart"

_PART = {"5m": "cache_write_5m", "1h": "cache_write_1h", "12h": "cache_write_12h"}


def anthropic_part(request: Mapping[str, Any]) -> str | None:
    """The part for cache writes of a request with Anthropic's `cache_control` marks; None if their lifetimes differ.

    A mark without `ttl` lives for five minutes (`anthropic.types.CacheControlEphemeralParam`), which is what
    plain `cache_write` stands for.
    """
    return _part(_cache_controls(request), default="5m")


def converse_part(request: Mapping[str, Any]) -> str | None:
    """The part for cache writes of a Converse request with `cachePoint` marks; None if their lifetimes differ.

    A mark without `ttl` lives for five minutes, which is what plain `cache_write` stands for
    (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CachePointBlock.html).
    """
    marks = [
        *_marks(request, "cachePoint"),
        *_in_list(mapping(request.get("toolConfig")).get("tools"), "cachePoint", 1),
    ]
    return _part({text(mark.get("ttl")) for mark in marks}, default="5m")


def openai_part(request: Mapping[str, Any], response: Mapping[str, Any]) -> str | None:
    """The part for cache writes of a request in OpenAI's format; None if their lifetimes differ.

    `prompt_cache_options.ttl` (30m, the default, is what plain `cache_write` stands for) holds for the implicit
    breakpoint and for each `prompt_cache_breakpoint` without a `ttl`; `mode: explicit` drops the implicit one.
    `prompt_cache_retention` is another, independent matter (`openai.types.chat.completion_create_params`).
    Gateways take Anthropic's `cache_control` instead.
    """
    marked = _cache_controls(request)
    if marked:
        return _part(marked, default="5m")
    options = mapping(response.get("prompt_cache_options")) or mapping(request.get("prompt_cache_options"))
    common = text(options.get("ttl"))
    ttls = {text(mark.get("ttl")) or common for mark in _marks(request, "prompt_cache_breakpoint")}
    if not ttls or options.get("mode") != "explicit":
        ttls.add(common)
    return _part(ttls, default="30m")


def _part(ttls: set[str], default: str) -> str | None:
    if len({ttl or default for ttl in ttls}) > 1:
        return None
    return _PART.get(next(iter(ttls - {""}), default), "cache_write") if any(ttls) else "cache_write"


def _cache_controls(request: Mapping[str, Any]) -> set[str]:
    ttls = {text(mark.get("ttl")) for mark in _marks(request, "cache_control")}
    own = request.get("cache_control")
    if isinstance(own, Mapping):
        ttls.add(text(own.get("ttl")))
    return ttls


def _marks(request: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    for key in _LISTS:
        yield from _in_list(request.get(key), name, _DEPTH)


def _in_list(items: object, name: str, depth: int) -> Iterator[Mapping[str, Any]]:
    for item in sequence(items):
        if isinstance(item, Mapping):
            mark = item.get(name)
            if isinstance(mark, Mapping):
                yield mark
            if depth > 1:
                yield from _in_list(item.get("content"), name, depth - 1)
