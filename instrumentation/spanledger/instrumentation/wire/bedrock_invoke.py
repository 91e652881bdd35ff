"""Amazon Bedrock's InvokeModel and InvokeModelWithResponseStream: bodies in each model's own format.

A body is told by its shape and not by the model's id, which an inference profile's ARN hides. For a side (input,
output) that it lacks, Bedrock's own counts stand in: the response's headers, or in a stream's last chunk
`amazon-bedrock-invocationMetrics` (https://docs.aws.amazon.com/bedrock/latest/userguide/inference-invoke.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from spanledger.instrumentation.wire import (
    anthropic_complete,
    anthropic_messages,
    bedrock_converse,
    openai_chat,
    sse,
)
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, count, mapping, sequence, text
from spanledger.pricing.usage import (
    CACHE_READ_PARTS,
    CACHE_WRITE_PARTS,
    CONTRADICTORY,
    FEE_PARTS,
    INPUT_PARTS,
    MISSING,
    OUTPUT_PARTS,
    REPORTED,
)

OPERATIONS = ("chat", "embeddings", "image_generation", "rerank", "text_completion")
"""What an InvokeModel can be, by the model's kind."""

METRICS = "amazon-bedrock-invocationMetrics"
_HEADERS = {
    "x-amzn-bedrock-input-token-count": "inputTokenCount",
    "x-amzn-bedrock-output-token-count": "outputTokenCount",
    "x-amzn-bedrock-cache-read-input-token-count": "cacheReadInputTokenCount",
    "x-amzn-bedrock-cache-write-input-token-count": "cacheWriteInputTokenCount",
}
_COUNTS = {
    "inputTokenCount": "input",
    "outputTokenCount": "output",
    "cacheReadInputTokenCount": "cache_read",
    "cacheWriteInputTokenCount": "cache_write",
}
_INPUT = frozenset(INPUT_PARTS + CACHE_READ_PARTS + CACHE_WRITE_PARTS)
_OUTPUT = frozenset(OUTPUT_PARTS)
_NOTHING_SAID = frozenset(
    {
        "it reports no usage",
        "the response has no usage",
        "the stream carried no usage",
        "text completions report no usage",
    }
)
_ANTHROPIC = frozenset(
    {
        "message",
        "message_start",
        "message_delta",
        "message_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "ping",
        "error",
    }
)
_NOVA = ("output", "messageStart", "contentBlockDelta", "contentBlockStart", "messageStop", "metadata")
_CHUNK_PER_QUERY = 100


class _Seen(Protocol):
    ended: bool
    finished: bool

    def take(self, event: Mapping[str, Any]) -> None: ...
    def reading(self, why_missing: str = ...) -> Reading: ...


def operation_of(model: str, request: Mapping[str, Any]) -> str:
    """`gen_ai.operation.name` of an InvokeModel call, one of `OPERATIONS`.

    Parameters:
        model: `modelId` of the call; may be an ARN.
        request: the body, in the model's own format; empty if it is not JSON.
    """
    task = text(request.get("taskType"))
    if "embed" in model or task.endswith("_EMBEDDING") or "texts" in request or "embeddingTypes" in request:
        return "embeddings"
    if "rerank" in model or ("documents" in request and "query" in request):
        return "rerank"
    if "messages" in request or "message" in request:
        return "chat"
    if task or "text_prompts" in request or model.startswith("stability."):
        return "image_generation"
    if "inputText" in request and ("normalize" in request or "dimensions" in request):
        return "embeddings"
    return "text_completion"


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read the body of an answer."""
    body = mapping(body)
    kind = body.get("type")
    if kind == "message":
        return anthropic_messages.read(body, request)
    if kind == "completion":
        return anthropic_complete.read(body, request)
    if "output" in body and ("stopReason" in body or "usage" in body):
        return bedrock_converse.read(body, request)
    if "choices" in body:
        return openai_chat.read(body, request)
    seen = _Flat(request)
    seen.take(body)
    seen.finished = True
    return seen.reading("the response has no usage")


class Stream:
    """Reads a stream of chunks, each a JSON object in the model's own format; the first one tells which."""

    __slots__ = ("_metrics", "_request", "_seen", "ended", "finished")

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._request = mapping(request)
        self._seen: _Seen | None = None
        self._metrics: Mapping[str, Any] = {}

    def feed(self, line: bytes) -> None:
        event = sse.event(line)
        if event is not None:
            self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one chunk, parsed, or one of Bedrock's exceptions, `{exception type: {message}}`."""
        if self._seen is None:
            self._seen = _stream_of(event)(self._request)
        seen = self._seen
        if len(event) == 1 and next(iter(event)).endswith("Exception"):
            self._seen = _Failed(seen, event)
            self.ended = True
            return
        seen.take(event)
        metrics = event.get(METRICS)
        if isinstance(metrics, Mapping):
            self._metrics = metrics
            self.ended = self.finished = seen.finished = True
        else:
            self.finished = seen.finished

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        reading = (self._seen or _Flat(self._request)).reading(why_missing)
        _stand_in(reading, self._metrics, METRICS)
        return reading


def take_headers(reading: Reading, headers: Mapping[str, str], request: Mapping[str, Any]) -> Reading:
    """Let the response's headers stand in for what its body lacks; their service tier is the one that bills.

    Parameters:
        headers: of the HTTP response, in lower case.
        request: the parameters of the call.
    """
    counts = {name: headers[header] for header, name in _HEADERS.items() if header in headers}
    if counts:
        _stand_in(reading, counts, "headers")
    tier = text(headers.get("x-amzn-bedrock-service-tier"))
    reading.service_tier = tier or reading.service_tier or text(request.get("serviceTier"))
    if headers.get("x-amzn-bedrock-performanceconfig-latency") == "optimized":
        reading.processing = reading.processing or "optimized"
    return reading


def _stand_in(reading: Reading, counts: Mapping[str, Any], source: str) -> None:
    """Fill in the sides that a reading lacks."""
    usage = reading.usage
    if not counts or not FEE_PARTS.isdisjoint(usage.parts):
        return
    lacks = {"output"} if _OUTPUT.isdisjoint(usage.parts) else set()
    if _INPUT.isdisjoint(usage.parts):
        lacks |= {"input", "cache_read", "cache_write"}
    found = {part: count(counts.get(name)) for name, part in _COUNTS.items() if part in lacks}
    parts = {part: quantity for part, quantity in found.items() if quantity is not None}
    if not parts:
        return
    usage.parts = {**usage.parts, **parts}
    usage.raw = {**(usage.raw or {}), source: {name: count(counts[name]) for name in _COUNTS if name in counts}}
    if usage.status == MISSING:
        usage.reasons = tuple(reason for reason in usage.reasons if reason not in _NOTHING_SAID)
        usage.status = CONTRADICTORY if usage.reasons else REPORTED


def _stream_of(event: Mapping[str, Any]) -> Any:
    kind = text(event.get("type"))
    if kind in _ANTHROPIC:
        return anthropic_messages.Stream
    if kind == "completion":
        return anthropic_complete.Stream
    if any(name in event for name in _NOVA):
        return bedrock_converse.Stream
    return openai_chat.Stream if "choices" in event else _Flat


class _Failed:
    """What was seen of a stream until Bedrock broke it off with an exception."""

    __slots__ = ("_error", "_seen", "ended", "finished")

    def __init__(self, seen: _Seen, event: Mapping[str, Any]) -> None:
        self.ended, self.finished = True, seen.finished
        self._seen = seen
        failure = bedrock_converse.Stream({})
        failure.take(event)
        self._error = failure.reading().error

    def take(self, event: Mapping[str, Any]) -> None:
        """Nothing comes after the exception."""

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        reading = self._seen.reading(why_missing)
        reading.error = self._error
        return reading


class _Flat:
    """Titan, Llama, Mistral, Cohere, AI21, Stability: flat objects whose names do not collide.

    In a stream the counts are cumulative, and null or absent where there is nothing new.
    """

    __slots__ = ("_counts", "_error", "_finish", "_id", "_images", "_model", "_ranked", "_request", "ended", "finished")

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._request = mapping(request)
        self._counts: dict[str, Any] = {}
        self._id = self._model = ""
        self._finish: tuple[str, ...] = ()
        self._images = 0
        self._ranked = False
        self._error: tuple[str, str] | None = None

    def take(self, event: Mapping[str, Any]) -> None:
        """Take a body or a chunk, parsed."""
        answer = event.get("response")  # Cohere's `stream-end` has the whole answer
        if isinstance(answer, dict):
            event = {**answer, "is_finished": True}
        name = event.get("id") or event.get("response_id") or event.get("generation_id")
        self._id = text(name) or (str(name) if type(name) is int and abs(name) < 10**18 else self._id)
        self._model = text(event.get("model")) or self._model
        for field in ("inputTextTokenCount", "prompt_token_count", "totalOutputTextTokenCount"):
            if event.get(field) is not None:
                self._counts[field] = event[field]
        if event.get("generation_token_count") is not None:
            self._counts["generation_token_count"] = event["generation_token_count"]
        billed = mapping(mapping(event.get("meta")).get("billed_units"))
        if billed:
            self._counts["billed_units"] = billed
        results = [item for item in sequence(event.get("results")) if isinstance(item, dict)]
        tokens = [item["tokenCount"] for item in results if item.get("tokenCount") is not None]
        if tokens:
            self._counts["results.tokenCount"] = tokens
        self._ranked = self._ranked or any("relevance_score" in item for item in results)
        self._images += sum(isinstance(image, str) for image in sequence(event.get("images")))
        self._images += sum("base64" in image for image in sequence(event.get("artifacts")) if isinstance(image, dict))
        if isinstance(event.get("error"), str) and event["error"]:
            self._error = ("error", event["error"])
        self._finish = _finish_reasons(event) or self._finish
        self.finished = self.finished or event.get("is_finished") is True

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        tally, counts = Tally(), self._counts
        billed = mapping(counts.get("billed_units"))
        for part, names in _FLAT.items():
            quantity = tally.first(billed, names)
            quantity = tally.first(counts, names) if quantity is None else quantity
            if quantity is not None:
                tally.parts[part] = quantity
        tokens = sequence(counts.get("results.tokenCount"))
        if tokens:
            numbers = [tally.count({"tokenCount": number}, "tokenCount") for number in tokens]
            known = [number for number in numbers if number is not None]
            if known:
                tally.add("output", sum(known))
        if self._ranked and "search_unit" not in tally.parts:
            documents = len(sequence(self._request.get("documents")))
            if documents:
                estimate_search_units(tally, documents)
        if self._images and not tally.parts:
            tally.parts["image"] = self._images
        tally.keep_unmapped(billed, _BILLED, "billed_units.")
        return Reading(
            usage=tally.usage(counts or None, complete=self.finished, why_missing=why_missing),
            response_id=self._id,
            response_model=self._model,
            finish_reasons=self._finish,
            error=self._error,
        )


_FLAT = {
    "input": ("input_tokens", "inputTextTokenCount", "prompt_token_count"),
    "output": ("output_tokens", "totalOutputTextTokenCount", "generation_token_count"),
    "search_unit": ("search_units",),
}
_BILLED = frozenset({"input_tokens", "output_tokens", "search_units"})


def estimate_search_units(tally: Tally, documents: int) -> None:
    """Rerank reports no usage: a query has up to 100 documents, more are further queries.

    Source: https://aws.amazon.com/bedrock/pricing/
    """
    tally.parts["search_unit"] = -(-documents // _CHUNK_PER_QUERY)
    tally.estimates.append("rerank reports no usage: counted from the documents of the request")


def _finish_reasons(event: Mapping[str, Any]) -> tuple[str, ...]:
    found = [event.get(name) for name in ("stop_reason", "completionReason", "finish_reason")]
    for name, reason in (("results", "completionReason"), ("outputs", "stop_reason"), ("generations", "finish_reason")):
        found += [item.get(reason) for item in sequence(event.get(name)) if isinstance(item, dict)]
    for item in sequence(event.get("completions")):
        found.append(mapping(mapping(item).get("finishReason")).get("reason"))
    return tuple(reason for reason in found if reason and isinstance(reason, str))
