"""xAI's gRPC API: its messages' fields under the names that the protos give them, without content.

Sources: `xai_api.SamplingUsage`, `GetChatCompletionResponse`, `ImageResponse`, `VideoResponse` of xai-sdk's protos;
https://docs.x.ai/developers/cost-tracking, https://docs.x.ai/developers/tools/tool-usage-details.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from spanledger.instrumentation.wire import openai_usage, sse
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, count, error_of, mapping, sequence, text, time_ns

_TOOLS = {
    "SERVER_SIDE_TOOL_WEB_SEARCH": "web_search",
    "SERVER_SIDE_TOOL_CODE_EXECUTION": "code_execution",
    "SERVER_SIDE_TOOL_COLLECTIONS_SEARCH": "file_search",
    "SERVER_SIDE_TOOL_ATTACHMENT_SEARCH": "file_search",
    "SERVER_SIDE_TOOL_IMAGE_GENERATION": "image",
}
"""`server_side_tools_used`, one entry for each run that succeeded -> part; others are `tool_call`."""

_TOKENS = ("prompt_tokens", "completion_tokens", "reasoning_tokens")

INFORMATIONAL = frozenset({"total_tokens", "prompt_text_tokens", "cost_in_usd_ticks"})
"""Usage fields that add nothing to the bill; `docs/usage.md` lists them."""

_KNOWN = INFORMATIONAL.union(_TOKENS, {"cached_prompt_text_tokens", "prompt_image_tokens", "server_side_tools_used"})


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a completion, a compaction, a deferred completion, images or a video."""
    seen = Stream(request)
    if isinstance(body, dict):
        seen.take(body)
    seen.finished = True
    return seen.reading("the response has no usage")


class Stream:
    """Reads a stream of chunks; the last usage seen stands. The protocol has no end mark of its own."""

    __slots__ = ("_body", "_finish", "_request", "_usage", "ended", "finished")

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._request = mapping(request)
        self._body: dict[str, Any] = {}
        self._finish: dict[int, str] = {}
        self._usage: object = None

    def feed(self, line: bytes) -> None:
        event = sse.event(line)
        if event is not None:
            self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one message."""
        self._usage = event.get("usage") or self._usage
        for output in sequence(event.get("outputs")):
            reason = mapping(output).get("finish_reason")
            if reason and isinstance(reason, str):
                self._finish[count(output.get("index")) or 0] = reason
        for name in ("id", "model", "created", "service_tier", "images", "video", "error"):
            if event.get(name):
                self._body[name] = event[name]
        self.finished = bool(self._finish) and self._usage is not None

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        body = self._body
        made = {"image": len(sequence(body.get("images"))), "video_second": mapping(body.get("video")).get("duration")}
        created = mapping(body.get("created"))
        tier = text(body.get("service_tier")) or text(self._request.get("service_tier"))
        return Reading(
            usage=_tally(self._usage, made).usage(self._usage, complete=self.finished, why_missing=why_missing),
            response_id=text(body.get("id")),
            response_model=text(body.get("model")),
            service_tier=tier.removeprefix("SERVICE_TIER_").lower(),
            finish_reasons=tuple(map(self._finish.__getitem__, sorted(self._finish))),
            created_ns=time_ns(created.get("seconds")),
            reported_cost=_reported_cost(self._usage),
            error=error_of(body.get("error")),
        )


def _tally(raw: object, made: Mapping[str, Any]) -> Tally:
    """Disjoint parts: cached and image tokens are inside the prompt, reasoning comes on top of the completion.

    What is billed by the image or second has its tokens, if any, in `unmapped`. In the protos an absent number is 0.
    """
    tally = Tally()
    usage = mapping(raw)
    if raw is not None and not isinstance(raw, dict):
        tally.reasons.append("usage is not an object")
    for part in made:
        quantity = tally.count(made, part)
        if quantity:
            tally.parts[part] = quantity
    if tally.parts:
        tally.keep_unmapped(usage, INFORMATIONAL | {"server_side_tools_used"})
        return tally
    prompt, completion, reasoning = (tally.count(usage, name) for name in _TOKENS)
    total = tally.count(usage, "total_tokens")
    if total is not None:
        completion = _agree_with_total(tally, total, prompt, completion, reasoning)
    cached = tally.count(usage, "cached_prompt_text_tokens")
    left = tally.share("cache_read", cached, prompt, "cached_prompt_text_tokens")
    left = tally.share("input_image", tally.count(usage, "prompt_image_tokens"), left, "prompt_image_tokens")
    if left is not None:
        tally.parts["input"] = left
    if completion is not None:
        tally.parts["output"] = completion
    if reasoning is not None:
        tally.parts["output_reasoning"] = reasoning
    for tool in sequence(usage.get("server_side_tools_used")):
        tally.add(_TOOLS.get(text(tool), "tool_call"), 1)
    tally.keep_unmapped(usage, _KNOWN)
    return tally


def _agree_with_total(
    tally: Tally, total: int, prompt: int | None, completion: int | None, reasoning: int | None
) -> int | None:
    """The completion without its reasoning: the total tells whether that lies inside or, as it should, on top."""
    outside = (prompt or 0) + (completion or 0)
    if total == outside + (reasoning or 0):
        return completion
    if total == outside and completion is not None and reasoning is not None and reasoning <= completion:
        return completion - reasoning
    tally.reasons.append(f"total_tokens is {total}, its parts are {outside + (reasoning or 0)}")
    return completion


def _reported_cost(raw: object) -> Decimal | None:
    return openai_usage.reported_cost({"cost_in_usd_ticks": mapping(raw).get("cost_in_usd_ticks")})
