"""OpenAI images: generations, edits and variations.

Sources: `openai.types.images_response`, `image_gen_completed_event`, `image_edit_completed_event`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import openai_usage, sse
from spanledger.instrumentation.wire.openai_responses import svg_line
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, count, error_of, mapping, sequence, text, time_ns

_COMPLETED = frozenset({"image_generation.completed", "image_edit.completed"})


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read an images response; models that report no tokens are billed by the image."""
    body, request = mapping(body), mapping(request)
    raw = body.get("usage")
    tally = openai_usage.read(raw, request, body, "output_image")
    images = len(sequence(body.get("data")))
    if (
        images and not tally.unmapped and not any(tally.parts.values())
    ):  # xAI's usage is the cost alone, LiteLLM's may be zeros
        tally.parts["image"] = images
    svg = body.get("svg_usage")
    return Reading(
        usage=tally.usage(raw, why_missing="the response has neither usage nor images"),
        response_model=text(body.get("model")),
        service_tier=text(body.get("service_tier")),
        created_ns=time_ns(body.get("created")),
        reported_cost=openai_usage.reported_cost(raw),
        error=error_of(body.get("error")),
        lines=(svg_line(svg),) if isinstance(svg, Mapping) else (),
    )


class Stream:
    """Reads a stream of image events; each finished image has a usage of its own."""

    __slots__ = ("_created_ns", "_error", "_images", "_raws", "_request", "_wanted", "ended", "finished")

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._request = mapping(request)
        self._wanted = count(self._request.get("n")) or 1
        self._images = 0
        self._raws: list[object] = []
        self._created_ns: int | None = None
        self._error: tuple[str, str] | None = None

    def feed(self, line: bytes) -> None:
        if line.startswith((b"data:", b"{")) and b"partial_image" not in line[:64]:
            event = sse.event(_without_image(line))
            if event is not None:
                self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event, parsed."""
        if text(event.get("type")) in _COMPLETED:
            self._images += 1
            self._created_ns = time_ns(event.get("created_at"))
            if event.get("usage") is not None:
                self._raws.append(event["usage"])
            self.ended = self.finished = self._images >= self._wanted
        elif event.get("error") or event.get("type") == "error":
            self._error = error_of(event.get("error") or event)
            self.ended = True

    def reading(self) -> Reading:
        tally = Tally()
        for raw in self._raws:
            share = openai_usage.read(raw, self._request, {}, "output_image")
            for part, quantity in share.parts.items():
                tally.add(part, quantity)
            tally.reasons += share.reasons
            tally.unmapped.update(share.unmapped)
        if len(self._raws) > 1:
            tally.estimates.append("several images, each with a usage of its own: their sum")
        if self._images and not self._raws:
            tally.parts["image"] = self._images
        raw = self._raws[0] if len(self._raws) == 1 else {"images": self._raws} if self._raws else None
        return Reading(
            usage=tally.usage(raw, complete=self.finished, why_missing="the stream carried no finished image"),
            service_tier=text(self._request.get("service_tier")),
            created_ns=self._created_ns,
            error=self._error,
        )


def _without_image(line: bytes) -> bytes:
    """The line without its image, some megabytes of base64, which has neither quotes nor escapes."""
    start = line.find(b'"b64_json":"')
    if start < 0:
        return line
    end = line.find(b'"', start + 12)
    return line[: start + 12] + line[end:] if end > 0 else line
