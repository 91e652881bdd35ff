"""Replicate: predictions, whose metrics come once they are done; most models are billed by time, some by tokens.

Source: https://replicate.com/docs/reference/http#predictions.get; https://replicate.com/docs/topics/billing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import openai_chat
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, amount, mapping, text

Stream = openai_chat.Stream

_COUNTS = (("input_token_count", "input"), ("output_token_count", "output"), ("image_count", "image"))
_SECONDS = "video_output_duration_seconds"
_KNOWN = frozenset({name for name, _ in _COUNTS} | {_SECONDS, "total_time", "time_to_first_token", "tokens_per_second"})
_UNDER_WAY = frozenset({"starting", "processing", "queued"})


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a prediction, as it was created or as it was retrieved later."""
    body = mapping(body)
    raw = body.get("metrics")
    metrics = mapping(raw)
    tally = Tally()
    for name, part in _COUNTS:
        number = tally.count(metrics, name)
        if number is not None:
            tally.parts[part] = number
    seconds = amount(metrics.get(_SECONDS))
    if seconds is not None:
        tally.parts["video_second"] = seconds
    elif metrics.get(_SECONDS) is not None:
        tally.reasons.append(f"{_SECONDS} is not a number of seconds")
    tally.keep_unmapped(metrics, _KNOWN)  # predict_time, which is billed by the second of the model's hardware
    status = text(body.get("status"))
    pending = status in _UNDER_WAY and not metrics
    why = "the prediction is under way: its metrics come when it is done" if pending else "it has no metrics"
    failed = status == "failed" or bool(body.get("error"))
    return Reading(
        usage=tally.usage(raw, why_missing=why),
        response_id=text(body.get("id")),
        response_model=text(body.get("model")),
        service_tier=text(mapping(request).get("service_tier")),
        finish_reasons=(status,) if status and not pending else (),
        error=("failed", text(body.get("error"))) if failed else None,
        background=True,
        pending=pending,
    )
