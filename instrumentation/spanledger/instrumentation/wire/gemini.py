"""Gemini's generateContent and embedContent, and predict, of the Developer API and of Vertex AI.

Sources: https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/google-search,
`google.genai.types.GenerateContentResponse`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from spanledger.instrumentation.wire import gemini_usage, sse
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, mapping, sequence, text

NAMES = gemini_usage.Names(
    prompt="promptTokenCount",
    cached="cachedContentTokenCount",
    candidates="candidatesTokenCount",
    thoughts="thoughtsTokenCount",
    tool_use="toolUsePromptTokenCount",
    total="totalTokenCount",
    prompt_lists=("promptTokensDetails", "promptTokenDetails"),
    cached_list="cacheTokensDetails",
    candidates_list="candidatesTokensDetails",
    tool_use_list="toolUsePromptTokensDetails",
    tokens="tokenCount",
)

_KNOWN = NAMES.known() | {"serviceTier", "trafficType"}

_FINISH = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER"}
_JSON_STARTS = b'[]{},"\t '
_MAX_TEXT = 64 * 1024 * 1024


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a response of generateContent, embedContent or batchEmbedContents."""
    seen = Stream(request)
    seen.take(mapping(body))
    seen.finished = True
    return seen.reading("the response has no usage")


def read_predict(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read Vertex AI's predict: embeddings have statistics, images are billed by the image.

    An image that was filtered out has no bytes, and is not billed.
    """
    body = mapping(body)
    tally = Tally()
    statistics = []
    for prediction in sequence(body.get("predictions")):
        prediction = mapping(prediction)
        stated = mapping(mapping(prediction.get("embeddings")).get("statistics"))
        if stated:
            statistics.append(stated)
            tokens = tally.count(stated, "token_count")
            if tokens is not None:
                tally.add("input", tokens)
        elif prediction.get("bytesBase64Encoded") or prediction.get("gcsUri"):
            tally.add("image", 1)
    metadata = mapping(body.get("metadata"))
    raw = {"metadata": metadata, "statistics": statistics} if statistics else None
    tally.keep_unmapped(metadata, frozenset())
    return Reading(
        usage=tally.usage(raw, why_missing="the response has neither token counts nor images"),
        service_tier=_requested_tier(mapping(request)),
        error=gemini_usage.error(body.get("error")),
    )


class Stream:
    """Reads a stream of responses: server-sent events, or one JSON array over many lines.

    Every response has a metadata of its own; the last one stands, field by field.
    """

    __slots__ = (
        "_code_runs",
        "_created_ns",
        "_error",
        "_finish",
        "_id",
        "_maps",
        "_model",
        "_request",
        "_searches",
        "_size",
        "_text",
        "_usage",
        "ended",
        "finished",
    )

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._request = mapping(request)
        self._id = self._model = ""
        self._usage: dict[str, Any] | None = None
        self._created_ns: int | None = None
        self._error: tuple[str, str] | None = None
        self._finish: dict[object, str] = {}
        self._searches: dict[object, int] = {}
        self._maps: set[object] = set()
        self._code_runs = 0
        self._text: list[bytes] = []
        self._size = 0

    def feed(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            event = sse.event(line)
            if event is not None:
                self.take(event)
        elif line and line[0] in _JSON_STARTS and self._size <= _MAX_TEXT:
            self._text.append(line)
            self._size += len(line)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one response, parsed."""
        usage = event.get("usageMetadata")
        if isinstance(usage, dict):
            if None in usage.values():
                usage = {name: value for name, value in usage.items() if value is not None}
            self._usage = {**self._usage, **usage} if self._usage else usage
        if not self._id:
            self._id = text(event.get("responseId"))
            self._model = text(event.get("modelVersion"))
            if "createTime" in event:
                self._created_ns = gemini_usage.time_ns(event["createTime"])
        candidates = event.get("candidates")
        if type(candidates) is list:
            for candidate in candidates:
                if type(candidate) is dict:
                    self._take_candidate(candidate)
        if "promptFeedback" in event and mapping(event["promptFeedback"]).get("blockReason"):
            self.finished = True
        if "error" in event:
            self._error = gemini_usage.error(event["error"])
            self.ended = self._error is not None

    def _take_candidate(self, candidate: Mapping[str, Any]) -> None:
        for part in sequence(mapping(candidate.get("content")).get("parts")):
            if type(part) is dict and part.get("executableCode"):
                self._code_runs += 1
        reason, grounding = candidate.get("finishReason"), candidate.get("groundingMetadata")
        if not reason and not grounding:
            return
        index = candidate.get("index")
        place = index if type(index) is int else 0
        if reason:
            self._finish[place] = _FINISH.get(reason, str(reason)) if type(reason) is int else text(reason)
            self.finished = True
        if grounding:
            self._take_grounding(place, mapping(grounding))

    def _take_grounding(self, place: object, grounding: Mapping[str, Any]) -> None:
        """Count queries that are not empty: the billed unit (Gemini 3), or the sign of it (Gemini 2)."""
        queries = [*sequence(grounding.get("webSearchQueries")), *sequence(grounding.get("imageSearchQueries"))]
        searches = sum(1 for query in queries if query)
        if searches:
            self._searches[place] = searches
        if any(mapping(chunk).get("maps") for chunk in sequence(grounding.get("groundingChunks"))):
            self._maps.add(place)

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        for event in _objects(b"\n".join(self._text)) if self._text else ():
            self.take(event)
        self._text = []
        usage: Mapping[str, Any] = self._usage or {}
        tally = Tally()
        gemini_usage.take(tally, usage, NAMES)
        if self._code_runs:
            tally.parts["code_execution"] = self._code_runs
        if self._searches:
            tally.parts["web_search"] = sum(self._searches.values())
            tally.parts["grounded_request"] = 1
        if self._maps:
            tally.parts["maps_search"] = len(self._maps)
        tally.keep_unmapped(usage, _KNOWN)
        return Reading(
            usage=tally.usage(self._usage, complete=self.finished, why_missing=why_missing),
            response_id=self._id,
            response_model=self._model,
            service_tier=_tier(usage, self._request),
            finish_reasons=tuple(reason for reason in self._finish.values() if reason),
            created_ns=self._created_ns,
            error=self._error,
        )


def _tier(usage: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """The tier served: the Developer API names it, Vertex AI has a traffic type; else the tier asked for."""
    tier = _tier_named(usage.get("serviceTier"))
    if tier:
        return tier
    traffic = usage.get("trafficType")
    if traffic is not None and traffic not in (0, "TRAFFIC_TYPE_UNSPECIFIED"):
        return gemini_usage.TRAFFIC.get(traffic, "") if isinstance(traffic, (str, int)) else ""
    return _requested_tier(request)


def _requested_tier(request: Mapping[str, Any]) -> str:
    return _tier_named(request.get("serviceTier") or request.get("service_tier"))


def _tier_named(value: object) -> str:
    """`flex`, also where the enum's whole name stands (`SERVICE_TIER_FLEX`)."""
    tier = text(value).lower().removeprefix("service_tier_")
    return "" if tier == "unspecified" else tier


def _objects(document: bytes) -> Iterator[Mapping[str, Any]]:
    """The objects of a JSON array, or a single one, as far as they are whole."""
    told = document.decode(errors="replace")
    decoder = json.JSONDecoder()
    at = 0
    while True:
        while at < len(told) and told[at] in "[], \t\r\n":
            at += 1
        try:
            value, at = decoder.raw_decode(told, at)
        except (ValueError, RecursionError):
            return
        if isinstance(value, dict):
            yield value
