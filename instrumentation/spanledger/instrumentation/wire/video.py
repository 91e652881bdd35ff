"""Videos, which are made in the background: jobs of OpenAI's and Together's `/videos`, and Veo's operations.

All bill by the second of video that was made, at a rate that depends on its size, which is the row's tier. A job that
failed has made none.

Sources: `openai.types.video`, `video_extend_params`; `together.types.video_job`; `google.genai.types.Video`,
`GenerateVideosConfig`, `GenerateVideosResponse`; https://ai.google.dev/gemini-api/docs/video,
https://developers.openai.com/api/docs/guides/video-generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import gemini_usage, openai_chat
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, amount, count, error_of, mapping, sequence, text, time_ns
from spanledger.pricing.usage import Quantity

Stream = openai_chat.Stream

_VEO_SECONDS = 8
"""What Veo makes where the request does not say (`durationSeconds`)."""

_UNDER_WAY = "the video is under way: its seconds come when it is done"


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a job of `/videos`, as it was created or as it was retrieved later.

    Parameters:
        request: of the call that created it. Its `seconds` stand over the job's, which are those of the whole
            video where one was extended.
    """
    body, request = mapping(body), mapping(request)
    status = text(body.get("status"))
    done, failed = status == "completed", status in ("failed", "cancelled")
    tally = Tally()
    if failed:
        tally.parts["video_second"] = 0
    elif done:
        seconds = _seconds(request.get("seconds"))
        seconds = _seconds(body.get("seconds")) if seconds is None else seconds
        if seconds is not None:
            tally.parts["video_second"] = seconds
        elif body.get("seconds") is not None:
            tally.reasons.append("seconds is not a number of seconds")
    raw = {name: body[name] for name in ("seconds", "size", "outputs") if body.get(name) is not None}
    if isinstance(raw.get("outputs"), dict):
        raw["outputs"] = {"cost": raw["outputs"].get("cost")}  # without the URL; in what unit is not documented
    return Reading(
        usage=tally.usage(raw or None, why_missing="it has no seconds" if done else _UNDER_WAY),
        response_id=text(body.get("id")),
        response_model=text(body.get("model")),
        service_tier=text(body.get("size")) or text(request.get("size")),
        finish_reasons=(status,) if done or failed else (),
        created_ns=time_ns(body.get("created_at")),
        error=(error_of(body.get("error")) or (status, "")) if failed else None,
        background=True,
        pending=bool(status) and not done and not failed,
        not_billed=failed,
    )


def read_operation(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a long-running operation of Veo's, as it was started or as it was fetched later.

    An operation does not tell how long its videos are: they are as long as was asked for. Videos that a filter took
    out are not billed.

    Parameters:
        request: `model` and the `parameters` of the call that started it.
    """
    body, request = mapping(body), mapping(request)
    done = body.get("done") is True
    error = gemini_usage.error(body.get("error")) if done else None
    response = mapping(body.get("response"))
    made = mapping(response.get("generateVideoResponse")) or response
    videos = [each for name in ("generatedSamples", "videos") for each in sequence(made.get(name)) if each]
    filtered = sequence(made.get("raiMediaFilteredReasons"))
    if not videos and not error and filtered:
        error = ("filtered", text(next(iter(filtered))))
    tally = Tally()
    if done:
        tally.parts["video_second"] = _asked_for(tally, request, len(videos)) * len(videos)
    raw = {name: request[name] for name in ("durationSeconds", "resolution", "generateAudio") if name in request}
    return Reading(
        usage=tally.usage({**raw, "videos": len(videos)} if done else None, why_missing=_UNDER_WAY),
        response_id=text(body.get("name")),
        response_model=text(request.get("model")),
        service_tier=_tier(request),
        error=error,
        background=True,
        pending=not done,
        not_billed=done and not videos,
    )


def _seconds(value: object) -> Quantity | None:
    whole = count(value)
    return amount(value) if whole is None else whole


def _asked_for(tally: Tally, request: Mapping[str, Any], videos: int) -> Quantity:
    stated = request.get("durationSeconds")
    seconds = _seconds(stated)
    if seconds is not None and seconds * videos <= 10**15:
        return seconds
    if videos:
        tally.estimates.append(f"durationSeconds is not stated: {_VEO_SECONDS}, the default, is assumed")
    return _VEO_SECONDS


def _tier(request: Mapping[str, Any]) -> str:
    """The resolution asked for; a video without sound has rates of its own on Vertex AI."""
    resolution = text(request.get("resolution"))
    return f"{resolution or '720p'} without audio" if request.get("generateAudio") is False else resolution
