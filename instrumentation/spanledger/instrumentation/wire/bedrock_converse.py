"""Amazon Bedrock's Converse and ConverseStream; InvokeModel of Amazon Nova speaks the same.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger import kept
from spanledger.instrumentation.wire import cache_ttl, sse
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, mapping, sequence, text
from spanledger.pricing.usage import MAX_QUANTITY

_READ = ("cacheReadInputTokens", "cacheReadInputTokenCount")
_WRITTEN = ("cacheWriteInputTokens", "cacheWriteInputTokenCount")
"""One count under two names: some responses have the one, some the other, some both."""

_KNOWN = frozenset({"inputTokens", "outputTokens", "totalTokens", "cacheDetails", *_READ, *_WRITTEN})
_TTLS = {"5m": "cache_write_5m", "1h": "cache_write_1h"}
_TRACE_DEPTH = 8


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read the answer of Converse, or of InvokeModel of a Nova model."""
    seen = Stream(request)
    body = mapping(body)
    seen.take({"messageStop": body, "metadata": body})
    return seen.reading("the response has no usage")


class Stream:
    """Reads a stream of events, `{event type: event}`; `metadata`, the last one, has the usage."""

    __slots__ = ("_error", "_metadata", "_request", "_stop", "ended", "finished")

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._request = mapping(request)
        self._metadata: Mapping[str, Any] = {}
        self._stop = ""
        self._error: tuple[str, str] | None = None

    def feed(self, line: bytes) -> None:
        event = sse.event(line)
        if event is not None:
            self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event, parsed."""
        for kind, value in event.items():
            if kind == "messageStop":
                self._stop = text(mapping(value).get("stopReason")) or self._stop
            elif kind == "metadata":
                known = mapping(value)
                self._metadata = {name: known[name] for name in _METADATA if known.get(name) is not None}
                self.ended = self.finished = True
            elif kind.endswith("Exception"):
                self._error = (kind[:1].upper() + kind[1:], text(mapping(value).get("message")))
                self.ended = True

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        metadata = self._metadata
        usage = mapping(metadata.get("usage"))
        tally = Tally()
        if not isinstance(metadata.get("usage", usage), Mapping):
            tally.reasons.append("usage is not an object")
        _tokens(tally, usage, self._request)
        tally.keep_unmapped(usage, _KNOWN)
        trace = mapping(metadata.get("trace"))
        for guarded in (trace, mapping(metadata.get("amazon-bedrock-trace"))):
            if guarded:
                guardrail_units(tally, guarded.get("guardrail"))
        tier = mapping(metadata.get("serviceTier")) or mapping(self._request.get("serviceTier"))
        latency = mapping(metadata.get("performanceConfig")).get("latency")
        return Reading(
            usage=tally.usage(usage or None, complete=self.finished, why_missing=why_missing),
            response_model=text(mapping(trace.get("promptRouter")).get("invokedModelId")),
            service_tier=text(tier.get("type")),
            processing="optimized" if latency == "optimized" else "",
            finish_reasons=(self._stop,) if self._stop else (),
            error=self._error,
        )


_METADATA = ("usage", "trace", "amazon-bedrock-trace", "serviceTier", "performanceConfig")


def guardrail_units(tally: Tally, trace: object, depth: int = 0) -> None:
    """Keep the text units that guardrails processed, which AWS bills apart from the model, unmapped.

    Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_GuardrailUsage.html
    """
    if depth > _TRACE_DEPTH:
        return
    if isinstance(trace, Mapping):
        units = mapping(mapping(trace.get("invocationMetrics")).get("usage"))
        for name, number in units.items():
            if type(number) is int or type(number) is float:
                _add_units(tally, f"guardrail.{kept.field(name)}", tally.count(units, name))
        for part in trace.values():
            guardrail_units(tally, part, depth + 1)
    elif isinstance(trace, list):
        for part in trace:
            guardrail_units(tally, part, depth + 1)


def _add_units(tally: Tally, name: str, number: int | None) -> None:
    total = tally.unmapped.get(name, 0) + (number or 0)
    if total > MAX_QUANTITY:
        tally.reasons.append(f"{name} would be more than there can be")
    elif total:
        tally.unmapped[name] = total


def _tokens(tally: Tally, usage: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    """The token parts.

    `inputTokens` excludes the cache for Claude and Nova, where the total is input + cache + output. Where the total is
    input + output though there is a cache, as for OpenAI's models, the cache lies inside `inputTokens`.
    """
    plain, output = tally.count(usage, "inputTokens"), tally.count(usage, "outputTokens")
    total = tally.count(usage, "totalTokens")
    cached, written = _twice_named(tally, usage, _READ), _twice_named(tally, usage, _WRITTEN)
    split = _split(tally, usage["cacheDetails"]) if "cacheDetails" in usage else {}
    if written is None and split:
        written = sum(split.values())
    cache = (cached or 0) + (written or 0)
    if plain is None and output is None:
        if total:
            tally.reasons.append("totalTokens stands alone")
            tally.unmapped["totalTokens"] = total
    elif total is not None and plain is not None and output is not None and total != plain + cache + output:
        if total != plain + output:
            tally.reasons.append(f"totalTokens is {total}, input, cache and output are {plain + cache + output}")
        else:
            if cache > plain:
                tally.reasons.append(f"the cache is {cache}, more than the {plain} that is left of its total")
                cached = min(cached or 0, plain)
                written = min(written or 0, plain - cached)
                cache = cached + written
            plain -= cache
    if plain is not None:
        tally.parts["input"] = plain
    if cached is not None:
        tally.parts["cache_read"] = cached
    if output is not None:
        tally.parts["output"] = output
    if written is not None:
        _writes(tally, written, split, request)


def _writes(tally: Tally, written: int, split: Mapping[str, int], request: Mapping[str, Any]) -> None:
    """The cache writes by lifetime: the split *or* the sum; what has no lifetime takes the request's."""
    left: int | None = written
    for part, quantity in split.items():
        left = tally.share(part, quantity, left, "cacheDetails")
    if split and not left:
        return
    lifetime = cache_ttl.converse_part(request) if left else "cache_write"
    if lifetime is None:
        tally.estimates.append(cache_ttl.SEVERAL)
    tally.add(lifetime or "cache_write", left or 0)


def _split(tally: Tally, details: object) -> dict[str, int]:
    """Part -> tokens of `cacheDetails`; lifetimes that are not known are left to the sum."""
    split: dict[str, int] = {}
    for detail in sequence(details):
        part = _TTLS.get(text(mapping(detail).get("ttl")))
        quantity = tally.count(detail, "inputTokens") if part else None
        if part and quantity is not None:
            split[part] = split.get(part, 0) + quantity
    return split


def _twice_named(tally: Tally, usage: Mapping[str, Any], names: tuple[str, str]) -> int | None:
    first, second = tally.count(usage, names[0]), tally.count(usage, names[1])
    if first is None or second is None:
        return second if first is None else first
    if first != second:
        tally.reasons.append(f"{names[0]} is {first}, {names[1]} is {second}")
    return max(first, second)
