"""Voyage: what goes in is all that is billed, for embeddings and rerankers alike.

Source: https://docs.voyageai.com/reference; https://docs.voyageai.com/docs/pricing for images, of which 560 pixels are
a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import openai_chat
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, error_of, mapping, text

Stream = openai_chat.Stream

INFORMATIONAL = frozenset({"total_tokens", "text_tokens", "image_pixels", "video_pixels"})
"""Usage fields that are totals, or that the token counts hold already; `docs/usage.md` lists them."""


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read embeddings (plain, contextualized, multimodal) or a reranking."""
    body = mapping(body)
    raw = body.get("usage")
    usage = mapping(raw)
    tally = Tally()
    total = tally.count(usage, "total_tokens")
    if "text_tokens" in usage:
        _modalities(tally, usage, total)
    elif total is not None:
        tally.parts["input"] = total
    tally.keep_unmapped(usage, INFORMATIONAL)
    return Reading(
        usage=tally.usage(raw, why_missing="the response has no usage"),
        response_id=text(body.get("id")),
        response_model=text(body.get("model")),
        service_tier=text(mapping(request).get("service_tier")),
        error=error_of(body.get("error")),
    )


def _modalities(tally: Tally, usage: Mapping[str, Any], total: int | None) -> None:
    """The text's tokens are stated; what is left of the total is the images' and videos'."""
    left = tally.share("input", tally.count(usage, "text_tokens"), total, "text_tokens")
    images = tally.count(usage, "image_pixels")
    videos = tally.count(usage, "video_pixels")
    if not left:
        return
    if images and videos:
        tally.estimates.append("how many tokens are images' and how many videos' is not reported")
    tally.parts["input_video" if videos and not images else "input_image"] = left
