"""OpenAI Responses, `responses/compact` and `decisions`, and the endpoints that speak them.

Sources: `openai.types.responses.response`, `response_usage`, `response_output_item`, `compacted_response`,
`openai.types.decision`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spanledger.instrumentation.wire import openai_usage, sse
from spanledger.instrumentation.wire.reading import Line, Reading
from spanledger.pricing.counts import Tally, error_of, mapping, sequence, text, time_ns

_PENDING = frozenset({"queued", "in_progress"})
_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})

_TOOL_RUNS = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_execution",
    "image_generation_call": "image",
    "mcp_call": "tool_call",
}
"""Output items of tools that the provider runs; the caller runs functions, computers and local shells."""

_NOT_RUN = frozenset({"in_progress", "searching", "interpreting", "generating", "calling", "failed"})
"""Item statuses of tools that did not come to an end, or failed."""

_HEAD = ("id", "model", "created_at", "service_tier", "status", "background", "usage")
"""What is kept of a response that is not finished."""


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a response; queued and running ones come back `pending`."""
    body, request = mapping(body), mapping(request)
    return _read(body, request, sequence(body.get("output")), why_missing=_why_missing(body))


class Stream:
    """Reads a stream of response events: the terminal one holds all; before it, executed tool items count."""

    __slots__ = ("_error", "_head", "_items", "_request", "_terminal", "ended", "finished")

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._request = mapping(request)
        self._head: Mapping[str, Any] = {}
        self._items: list[Mapping[str, Any]] = []
        self._terminal: Reading | None = None
        self._error: tuple[str, str] | None = None

    def feed(self, line: bytes) -> None:
        if not line.startswith((b"data:", b"{")) or b"partial_image" in line[:80]:
            return
        # rfind, since it is twice as fast as `in` here
        if line.rfind(b'"response"') >= 0:
            if self._head and b'"response.in_progress"' in line[:64]:
                return
        elif line.rfind(b'.output_item.done"') >= 0:
            if b'_call"' not in line:
                return
        elif line.rfind(b'"error"') < 0:
            return
        event = sse.event(line)
        if event is not None:
            self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event, parsed."""
        kind = event.get("type")
        response = event.get("response")
        if isinstance(response, dict):
            if text(kind) in _TERMINAL:
                self.ended = self.finished = True
                items = sequence(response.get("output")) or self._items
                self._terminal = _read(response, self._request, items, why_missing=_why_missing(response))
            else:
                self._head = {name: response[name] for name in _HEAD if name in response}
        elif kind == "response.output_item.done":
            item = event.get("item")
            if isinstance(item, dict) and text(item.get("type")) in _TOOL_RUNS:
                self._items.append(_without_content(item))
        elif kind == "error" or event.get("error"):
            self._error = error_of(event.get("error") or event)
            self.ended = True

    def reading(self) -> Reading:
        reading = self._terminal
        if reading is None:
            cut = "the stream broke off before its usage"
            reading = _read(self._head, self._request, self._items, complete=False, why_missing=cut)
            reading.finish_reasons = ()
            reading.pending = reading.pending and reading.background  # it runs on unread
        reading.error = reading.error or self._error
        return reading


def _without_content(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "type": item.get("type"),
        "status": item.get("status"),
        "action": {"type": mapping(item.get("action")).get("type")},
        "result": bool(item.get("result")),
        "svg_usage": item.get("svg_usage"),
    }


def _why_missing(body: Mapping[str, Any]) -> str:
    status = text(body.get("status"))
    return f"the response is {status}" if status in _PENDING else "the response has no usage"


def _read(
    body: Mapping[str, Any],
    request: Mapping[str, Any],
    items: Iterable[object],
    *,
    complete: bool = True,
    why_missing: str,
) -> Reading:
    raw = body.get("usage")
    tally = openai_usage.read(raw, request, body)
    lines = _tools(tally, body, request, items)
    status = text(body.get("status"))
    stopped = text(mapping(body.get("incomplete_details")).get("reason"))
    pending = raw is None and status in _PENDING
    return Reading(
        usage=tally.usage(raw, complete=complete, why_missing=why_missing),
        response_id=text(body.get("id")),
        response_model=text(body.get("model")),
        service_tier=text(body.get("service_tier")) or text(request.get("service_tier")),
        finish_reasons=() if pending or not (stopped or status) else (stopped or status,),
        created_ns=time_ns(body.get("created_at")),
        reported_cost=openai_usage.reported_cost(raw),
        error=error_of(body.get("error")),
        background=body.get("background") is True,
        pending=pending,
        lines=lines,
    )


def _tools(
    tally: Tally, body: Mapping[str, Any], request: Mapping[str, Any], items: Iterable[object]
) -> tuple[Line, ...]:
    """Count the tools that ran; those that ran a model of their own become lines.

    `tool_usage` stands over the items: it counts billable searches, and the tokens of the image model.
    Without it, an image counts as an image, and a web search only if its action is a search: opening a page or
    finding in it is none.
    """
    usage = mapping(body.get("tool_usage"))
    searches = tally.count(mapping(usage.get("web_search")), "num_requests")
    if searches is not None:
        tally.parts["web_search"] = searches
    lines = []
    image = _image_line(body, request, mapping(usage.get("image_gen")))
    if image:
        lines.append(image)
    counted = mapping(mapping(body.get("usage")).get("server_side_tool_usage_details"))  # xAI, read with the usage
    for item in items:
        if not isinstance(item, dict):
            continue
        part = _TOOL_RUNS.get(text(item.get("type")))
        if part is None or (text(item.get("status")) in _NOT_RUN and not item.get("result")):
            continue  # an image may be there while its status still is `generating`
        svg = item.get("svg_usage")
        if isinstance(svg, dict):
            lines.append(svg_line(svg))
        if counted or (part == "image" and image) or (part == "web_search" and searches is not None):
            continue
        if part == "web_search" and text(mapping(item.get("action")).get("type")) not in ("", "search"):
            continue
        tally.add(part, 1)
    return tuple(lines)


def _image_line(body: Mapping[str, Any], request: Mapping[str, Any], raw: Mapping[str, Any]) -> Line | None:
    """The image tool's own tokens, which the response's usage does not hold."""
    if not raw:
        return None
    share = openai_usage.read(raw, {}, {}, "output_image")
    if not any(share.parts.values()):
        return None
    for tools in (body.get("tools"), request.get("tools")):
        for tool in sequence(tools):
            if isinstance(tool, dict) and tool.get("type") == "image_generation" and text(tool.get("model")):
                return Line(text(tool["model"]), share.usage(raw))
    return Line("", share.usage(raw))


def svg_line(raw: Mapping[str, Any]) -> Line:
    """The share of the model that wrote an SVG: `svg_usage`, flat counts with the model's name."""
    share = openai_usage.read(
        {
            "input_tokens": raw.get("input_tokens"),
            "output_tokens": raw.get("output_tokens"),
            "output_tokens_details": {"reasoning_tokens": raw.get("reasoning_tokens")},
            "total_tokens": raw.get("total_tokens"),
        },
        {},
        {},
    )
    return Line(text(raw.get("model")), share.usage(raw))
