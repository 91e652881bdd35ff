"""Anthropic Messages: the API's own, Bedrock's InvokeModel, Vertex AI's rawPredict, and those that speak it.

`input_tokens` excludes the cache, which comes on top (`anthropic.types.usage`, `anthropic.types.beta.beta_usage`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spanledger.instrumentation.wire import cache_ttl, sse
from spanledger.instrumentation.wire.reading import Line, Reading
from spanledger.pricing.counts import Tally, count, error_of, mapping, sequence, text

_RESULTS = {
    "web_search_tool_result": "web_search_requests",
    "web_fetch_tool_result": "web_fetch_requests",
    "code_execution_tool_result": "code_execution_requests",
    "bash_code_execution_tool_result": "code_execution_requests",
    "text_editor_code_execution_tool_result": "code_execution_requests",
    "tool_search_tool_result": "tool_search_requests",
    "mcp_tool_result": "mcp_requests",
}
"""Content blocks with the result of a tool that the provider ran -> what `server_tool_use` calls its runs.

Results are counted, not calls: a turn may end between the two (`pause_turn`), and then the next one begins with
the result. The advisor is billed by its tokens.
"""

_SERVER_TOOLS = {
    "web_search_requests": "web_search",
    "web_fetch_requests": "web_fetch",
    "code_execution_requests": "code_execution",
    "tool_search_requests": "tool_call",
    "mcp_requests": "tool_call",
}
_TTLS = (("ephemeral_5m_input_tokens", "cache_write_5m"), ("ephemeral_1h_input_tokens", "cache_write_1h"))
_FLAT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")

_MARKERS = (b'"usage"', b'_tool_result"', b'"message_start"', b'"message_stop"', b'"fallback"', b'"error"')
"""A line without any of these holds nothing that the bill needs; in a string, the quotes would be escaped."""

INFORMATIONAL = frozenset({"fallback_credit", "total_tokens"})
"""Usage fields that add nothing to the bill; `docs/usage.md` lists them."""

_KNOWN = INFORMATIONAL | {*_FLAT, "cache_creation", "iterations", "output_tokens_details", "server_tool_use"}
_SERVER_KNOWN = frozenset(_SERVER_TOOLS)
_OUTPUT_KNOWN = frozenset({"thinking_tokens"})


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a message."""
    seen = Stream(request)
    body = mapping(body)
    seen.take_message(body)
    for block in sequence(body.get("content")):
        seen.take_block(block)
    seen.finished = True
    return seen.reading("the response has no usage")


class Stream:
    """Reads a stream of message events.

    `message_start` has the first usage. Every `message_delta` has cumulative counts: a later value that is not
    null replaces, null keeps what was there.
    """

    __slots__ = (
        "_error",
        "_id",
        "_metrics",
        "_model",
        "_request",
        "_runs",
        "_split_is_old",
        "_stop",
        "_usage",
        "ended",
        "finished",
    )

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._request = mapping(request)
        self._id = self._model = self._stop = ""
        self._usage: dict[str, Any] | None = None
        self._split_is_old = False
        self._metrics: Mapping[str, Any] = {}
        self._runs: dict[str, int] = {}
        self._error: tuple[str, str] | None = None

    def feed(self, line: bytes) -> None:
        if not line.startswith((b"data:", b"{")) or b"content_block_delta" in line[:48]:
            return
        for marker in _MARKERS:
            if line.rfind(marker) >= 0:
                break
        else:
            return
        event = sse.event(line)
        if event is not None:
            self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event, parsed."""
        kind = event.get("type")
        if kind == "content_block_start":
            self.take_block(event.get("content_block"))
        elif kind == "message_start":
            self.take_message(mapping(event.get("message")))
        elif kind == "message_delta":
            self._take_usage(event.get("usage"))
            stop = text(mapping(event.get("delta")).get("stop_reason"))
            if stop:
                self._stop = stop
                self.finished = True
        elif kind == "message_stop":
            self.ended = self.finished = True
            self._metrics = mapping(event.get("amazon-bedrock-invocationMetrics"))
        elif kind == "error" or event.get("error"):
            self._error = error_of(event.get("error"))
            self.ended = True

    def take_message(self, message: Mapping[str, Any]) -> None:
        """Take a message, whole or as it starts, but for its content."""
        self._id = text(message.get("id")) or self._id
        self._model = text(message.get("model")) or self._model
        self._stop = text(message.get("stop_reason")) or self._stop
        self._error = error_of(message.get("error")) or self._error
        self._take_usage(message.get("usage"))

    def take_block(self, block: object) -> None:
        """Take a content block: count the tool that ran, and the model that took over."""
        if not isinstance(block, dict):
            return
        kind = block.get("type")
        if kind == "fallback":
            self._model = text(mapping(block.get("to")).get("model")) or self._model
        tool = _RESULTS.get(text(kind))
        if tool is None:
            return
        if tool == "web_search_requests" and isinstance(block.get("content"), Mapping):
            return  # an error stands in place of the list of results; such a search is not billed
        self._runs[tool] = self._runs.get(tool, 0) + 1

    def _take_usage(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        if self._usage is None:
            self._usage = dict(usage)
            return
        for name, value in usage.items():
            if value is None:
                continue
            former = self._usage.get(name)
            if name == "cache_creation_input_tokens" and value != former:
                self._split_is_old = usage.get("cache_creation") is None
            if isinstance(value, dict) and isinstance(former, dict):
                value = {**former, **{key: new for key, new in value.items() if new is not None}}
            self._usage[name] = value

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        usage: Mapping[str, Any] = self._usage or {}
        iterations = [entry for entry in sequence(usage.get("iterations")) if isinstance(entry, dict)]
        for entry in iterations:
            if entry.get("type") == "fallback_message":
                self._model = text(entry.get("model")) or self._model
        tally = Tally()
        split = mapping(usage.get("cache_creation"))
        if self._split_is_old:
            split = _renewed_split(split, count(usage.get("cache_creation_input_tokens")), iterations)
        _tokens(tally, usage, split, self._request)
        _bedrock_metrics(tally, self._metrics)
        lines = _iterations(tally, usage, iterations, self._model, self._request)
        _tools(tally, usage, self._runs)
        tally.keep_unmapped(usage, _KNOWN)
        tally.keep_unmapped(mapping(usage.get("server_tool_use")), _SERVER_KNOWN, "server_tool_use.")
        tally.keep_unmapped(mapping(usage.get("output_tokens_details")), _OUTPUT_KNOWN, "output_tokens_details.")
        tier = text(usage.get("service_tier"))
        return Reading(
            usage=tally.usage(self._usage or self._metrics or None, complete=self.finished, why_missing=why_missing),
            response_id=self._id,
            response_model=self._model,
            service_tier=tier or _requested_tier(self._request),
            processing=_processing(tier, usage, self._request),
            region=_region(usage, self._request),
            finish_reasons=(self._stop,) if self._stop else (),
            error=self._error,
            lines=lines,
        )


def _tokens(tally: Tally, usage: Mapping[str, Any], split: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    """The token parts of a usage or of one of its iterations."""
    for name, part in (("input_tokens", "input"), ("cache_read_input_tokens", "cache_read")):
        quantity = tally.count(usage, name)
        if quantity is not None:
            tally.parts[part] = quantity
    _cache_writes(tally, usage, split, request)
    thinking = tally.count(mapping(usage.get("output_tokens_details")), "thinking_tokens")
    left = tally.share("output_reasoning", thinking, tally.count(usage, "output_tokens"), "thinking_tokens")
    if left is not None:
        tally.parts["output"] = left


def _cache_writes(tally: Tally, usage: Mapping[str, Any], split: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    """The cache writes by lifetime: the split *or* the sum, never both; what has no lifetime takes the request's."""
    left = tally.count(usage, "cache_creation_input_tokens")
    named = False
    for name, part in _TTLS:
        if split.get(name) is not None:
            left = tally.share(part, tally.count(split, name), left, name)
            named = True
    if left is None or (named and not left):
        return
    lifetime = cache_ttl.anthropic_part(request) if left else "cache_write"
    if lifetime is None:
        tally.estimates.append(cache_ttl.SEVERAL)
    tally.add(lifetime or "cache_write", left)


def _renewed_split(
    split: Mapping[str, Any], flat: int | None, iterations: Iterable[Mapping[str, Any]]
) -> Mapping[str, Any]:
    """The split of a cumulative count that came later than its split did, in a stream."""
    sampled = {
        name: sum(count(mapping(entry.get("cache_creation")).get(name)) or 0 for entry in iterations if _sampled(entry))
        for name, _ in _TTLS
    }
    former = {name: count(split.get(name)) or 0 for name in split}
    for candidate in (former, sampled):
        if sum(candidate.values()) == flat:
            return candidate
    lifetimes = [name for name, quantity in former.items() if quantity]
    if flat is None or len(lifetimes) > 1:
        return {}
    return {name: flat if name in lifetimes else 0 for name in former} if lifetimes or not flat else {}


def _sampled(entry: Mapping[str, Any]) -> bool:
    return entry.get("type") in ("message", "fallback_message")


def _bedrock_metrics(tally: Tally, metrics: Mapping[str, Any]) -> None:
    """Bedrock's own counts at the end of a stream stand in for a side that the message lacks."""
    for name, part in (("inputTokenCount", "input"), ("outputTokenCount", "output")):
        if part not in tally.parts and name in metrics:
            quantity = tally.count(metrics, name)
            if quantity is not None:
                tally.parts[part] = quantity


def _iterations(
    tally: Tally,
    usage: Mapping[str, Any],
    iterations: Iterable[Mapping[str, Any]],
    model: str,
    request: Mapping[str, Any],
) -> tuple[Line, ...]:
    """Bill what the top level leaves out; returns the shares of other models.

    The top level is the sum of the samplings (`message`, `fallback_message`) of the model that answered.
    Compaction comes on top. So do entries with a model of their own: the advisor, and a model that declined,
    which is not billed unless it had begun to answer (release notes of 2026-06-09,
    https://platform.claude.com/docs/en/release-notes/overview).
    """
    own: dict[str, list[Mapping[str, Any]]] = {"message": [], "fallback_message": []}
    others: list[tuple[str, Mapping[str, Any]]] = []
    declined = any(entry.get("type") == "fallback_message" for entry in iterations)
    for entry in iterations:
        named = text(entry.get("model"))
        if _sampled(entry):
            if named in ("", model):
                own[entry["type"]].append(entry)
            elif not declined or count(entry.get("output_tokens")) != 0:
                others.append((named, entry))
        elif named:
            others.append((named, entry))
        else:
            share = _share(entry, request)
            for part, quantity in share.parts.items():
                tally.add(part, quantity)
            tally.reasons += share.reasons
    messages, fallbacks = own["message"], own["fallback_message"]
    top = _flat([usage])
    if (messages or fallbacks) and _flat(messages + fallbacks) != top:
        if fallbacks and _flat(fallbacks) == top:
            others += [(text(request.get("model")), entry) for entry in messages]
        elif fallbacks and _flat(messages) == top:
            others += [(model, entry) for entry in fallbacks]
        else:
            tally.reasons.append("the iterations do not sum to the top level")
    return tuple(Line(named, _share(entry, request).usage(entry)) for named, entry in others)


def _share(entry: Mapping[str, Any], request: Mapping[str, Any]) -> Tally:
    share = Tally()
    _tokens(share, entry, mapping(entry.get("cache_creation")), request)
    return share


def _flat(entries: list[Mapping[str, Any]]) -> tuple[int, ...]:
    return tuple(sum(count(entry.get(name)) or 0 for entry in entries) for name in _FLAT)


def _tools(tally: Tally, usage: Mapping[str, Any], runs: Mapping[str, int]) -> None:
    """Tool runs: the counts of `server_tool_use` stand over results in the content."""
    counts = mapping(usage.get("server_tool_use"))
    for name, part in _SERVER_TOOLS.items():
        number = tally.count(counts, name)
        number = runs.get(name) if number is None else number
        if number is not None:
            tally.add(part, number)


def _requested_tier(request: Mapping[str, Any]) -> str:
    tier = text(request.get("service_tier"))
    return "standard" if tier == "standard_only" else tier


def _processing(tier: str, usage: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    if tier == "batch":
        return "batch"
    speed = text(usage.get("speed")) or text(request.get("speed"))
    return "fast" if speed == "fast" else ""


def _region(usage: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    region = text(usage.get("inference_geo"))
    return text(request.get("inference_geo")) if region in ("", "not_available") else region
