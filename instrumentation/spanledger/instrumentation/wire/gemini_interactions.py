"""Gemini's Interactions, and Decisions, which report their usage alike.

Until May 2026 an interaction had `outputs` in place of `steps`, and a stream had `content.start` and `content.delta` in
place of `step.start` and `step.delta`.

Sources: https://ai.google.dev/api/interactions-api, `google.genai.interactions.Usage`,
https://ai.google.dev/gemini-api/docs/interactions-breaking-changes-may-2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import gemini_usage, sse
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, mapping, sequence, text

NAMES = gemini_usage.Names(
    prompt="total_input_tokens",
    cached="total_cached_tokens",
    candidates="total_output_tokens",
    thoughts="total_thought_tokens",
    tool_use="total_tool_use_tokens",
    total="total_tokens",
    prompt_lists=("input_tokens_by_modality",),
    cached_list="cached_tokens_by_modality",
    candidates_list="output_tokens_by_modality",
    tool_use_list="tool_use_tokens_by_modality",
    tokens="tokens",
)

INFORMATIONAL = frozenset({"initial_input_tokens"})
"""Usage fields that add nothing to the bill; `docs/usage.md` lists them."""

_KNOWN = NAMES.known() | INFORMATIONAL | {"grounding_tool_count"}

_GROUNDING = {"google_search": "web_search", "google_maps": "maps_search", "retrieval": "file_search"}
_CALLS = {
    "google_search_call": "web_search",
    "google_maps_call": "maps_search",
    "retrieval_call": "file_search",
    "file_search_call": "file_search",
    "code_execution_call": "code_execution",
    "mcp_server_tool_call": "tool_call",
}
"""Steps, contents and deltas in which a tool that the provider runs is called."""

_BLOCKS = ("step", "content", "delta")
_MARKERS = (b'"interaction"', b'"usage"', b'_call"', b'"error"')
_PENDING = frozenset({"in_progress", "queued"})


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read an interaction, or a decision."""
    seen = Stream(request)
    seen.take_interaction(mapping(body))
    seen.finished = True
    return seen.reading("the response has no usage")


class Stream:
    """Reads a stream of interaction events; counts are cumulative, the last ones stand."""

    __slots__ = (
        "_calls",
        "_created_ns",
        "_error",
        "_id",
        "_model",
        "_request",
        "_status",
        "_tier",
        "_usage",
        "ended",
        "finished",
    )

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._request = mapping(request)
        self._id = self._model = self._status = self._tier = ""
        self._usage: dict[str, Any] | None = None
        self._created_ns: int | None = None
        self._error: tuple[str, str] | None = None
        self._calls: dict[object, tuple[str, int]] = {}

    def feed(self, line: bytes) -> None:
        if line.startswith((b"data:", b"{")):
            for marker in _MARKERS:
                if marker in line:
                    break
            else:
                return
            event = sse.event(line)
            if event is not None:
                self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event, parsed."""
        kind = text(event.get("event_type"))
        if "interaction" in event:
            self.take_interaction(mapping(event["interaction"]))
            if kind.startswith("interaction.complete"):
                self.ended = self.finished = True
        if "metadata" in event:
            self._take_usage(mapping(event["metadata"]).get("usage"))
        for name in _BLOCKS:
            if name in event:
                self._take_call(event.get("index"), event[name])
        if event.get("error"):
            self._error = gemini_usage.error(event["error"])
            self.ended = True

    def take_interaction(self, interaction: Mapping[str, Any]) -> None:
        """Take an interaction, as far as it has come."""
        self._id = text(interaction.get("id")) or self._id
        self._model = text(interaction.get("model")) or self._model
        self._status = text(interaction.get("status")) or self._status
        self._tier = text(interaction.get("service_tier")) or self._tier
        self._created_ns = gemini_usage.time_ns(interaction.get("created")) or self._created_ns
        self._error = gemini_usage.error(interaction.get("error")) or self._error
        self._take_usage(interaction.get("usage"))
        for index, step in enumerate(sequence(interaction.get("steps") or interaction.get("outputs"))):
            self._take_call(index, step)

    def _take_call(self, index: object, told: object) -> None:
        """Count a tool's call once, however many events tell of it; a search counts by its queries."""
        step = mapping(told)
        part = _CALLS.get(text(step.get("type")))
        if part is None:
            return
        place = index if type(index) is int else len(self._calls)
        queries = sum(1 for query in sequence(mapping(step.get("arguments")).get("queries")) if query)
        former = self._calls.get(place, ("", 0))[1]
        self._calls[place] = (part, max(queries, former, 1) if part == "web_search" else 1)

    def _take_usage(self, usage: object) -> None:
        if isinstance(usage, dict):
            if self._usage is None:
                self._usage = {}
            for name, value in usage.items():
                if value is not None:
                    self._usage[name] = value

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        usage: Mapping[str, Any] = self._usage or {}
        tally = Tally()
        gemini_usage.take(tally, usage, NAMES)
        self._tools(tally, usage)
        tally.keep_unmapped(usage, _KNOWN)
        pending = self._status in _PENDING
        return Reading(
            usage=tally.usage(self._usage, complete=self.finished, why_missing=why_missing),
            response_id=self._id,
            response_model=self._model,
            service_tier=self._tier or text(self._request.get("service_tier")),
            finish_reasons=(self._status,) if self._status and not pending else (),
            created_ns=self._created_ns,
            error=self._error,
            background=self._request.get("background") is True,
            pending=pending,
        )

    def _tools(self, tally: Tally, usage: Mapping[str, Any]) -> None:
        """Tool runs: the usage's own counts stand, calls in the steps fill in for the others."""
        runs: dict[str, int] = {}
        for part, number in self._calls.values():
            runs[part] = runs.get(part, 0) + number
        stated: dict[str, int] = {}
        for entry in sequence(usage.get("grounding_tool_count")):
            part = _GROUNDING.get(text(mapping(entry).get("type")), "")
            told = tally.count(mapping(entry), "count")
            if part and told is not None:
                stated[part] = stated.get(part, 0) + told
        for part, number in {**runs, **stated}.items():
            tally.add(part, number)
        if tally.parts.get("web_search"):
            tally.parts["grounded_request"] = 1
