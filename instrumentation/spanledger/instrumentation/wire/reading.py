"""What a wire reader makes of one provider response; pure data, no SDK and no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from spanledger.pricing.usage import Usage


@dataclass(slots=True)
class Line:
    """Another model's share of a call (Anthropic's advisor, OpenAI's image tool): billed at that model's rates.

    Attributes:
        model: empty where the provider does not name it.
        usage: the share, which the call's own usage does not hold.
    """

    model: str
    usage: Usage


@dataclass(slots=True)
class Reading:
    """One response, as far as its bill depends on it.

    Attributes:
        usage: what was consumed by the call's own model.
        response_id: the provider's id of the response; empty if it has none.
        response_model: the model that answered; empty if the response does not say.
        service_tier: the tier served, in the provider's words; the request's where the response has none.
        processing: `batch`, `fast`, ...; empty for an ordinary call.
        region: where it was served (Anthropic's `inference_geo`), empty if unknown.
        finish_reasons: as the provider spells them.
        created_ns: the provider's own time of the response, ns since the epoch; None if it gives none.
        reported_cost: what the provider says it billed, in USD.
        error: (type, message) of an error inside a response that began well; None if there is none.
        background: the request was made in the background (OpenAI Responses).
        pending: the response is queued or in progress: its usage comes later, by polling.
        not_billed: nothing was generated, and nothing is billed.
        lines: other models' shares.
    """

    usage: Usage = field(default_factory=Usage)
    response_id: str = ""
    response_model: str = ""
    service_tier: str = ""
    processing: str = ""
    region: str = ""
    finish_reasons: tuple[str, ...] = ()
    created_ns: int | None = None
    reported_cost: Decimal | None = None
    error: tuple[str, str] | None = None
    background: bool = False
    pending: bool = False
    not_billed: bool = False
    lines: tuple[Line, ...] = ()


class Reader(Protocol):
    """Reads a plain (not streamed) response body."""

    def __call__(self, body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading: ...


class StreamReader(Protocol):
    """Reads a stream line by line, keeping nothing but what the bill needs.

    `ended` turns true at the provider's own end mark or error, after which nothing of use can come.
    `finished` turns true once the provider's last word on usage may have been seen, so that a caller who stops
    reading there has a complete row.
    """

    ended: bool
    finished: bool

    def feed(self, line: bytes) -> None:
        """Take one line of the stream, without its line end: an SSE field, or a line of JSON."""

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event that is parsed already; the same as `feed` with its line."""

    def reading(self) -> Reading:
        """What has been seen so far."""
