"""The collector's settings: `SPANLEDGER_COLLECTOR_*` over the file's `settings.collector` (`docs/settings.md`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from spanledger.service.part_settings import (
    Address,
    Reader,
    address,
    chosen,
    count,
    file,
    flag,
    seconds,
    secret_text,
    token,
)
from spanledger.settings import Settings, SettingsError, size

VARIABLE = "SPANLEDGER_COLLECTOR"
MIB = 2**20

# 4317 and 4318 are the default of Jaeger, of the OpenTelemetry Collector and of the SDKs.
GRPC = Address("127.0.0.1", 14317)
HTTP = Address("127.0.0.1", 14318)


@dataclass(frozen=True, slots=True)
class CollectorSettings:
    """What the user has set.

    Attributes:
        enabled: `spanledger up` starts the collector.
        grpc, http: where to listen; None: not at all.
        workers: processes at most that read spans; they are started as load asks for them.
        max_request_bytes: of a request as it comes over the wire.
        max_decompressed_bytes: of a request when it is unpacked.
        max_requests: that are being answered at the same time.
        max_held_bytes: of all requests that are being answered, as they came.
        max_attributes: of a span; one with more is rejected.
        max_attribute_length: characters of a text; a longer attribute is not read.
        max_journal_bytes: that may wait for ClickHouse before requests are refused.
        request_timeout: seconds in which a request must have arrived.
        tls_cert, tls_key: PEM files.
        tls_client_ca: PEM file; clients must show a certificate of it.
        token: that clients must send as `authorization: Bearer ...`.
        forward: OTLP URL that every span is sent on to.
        forward_headers: sent along with them.
        forward_queue_bytes: that may wait to be sent on.
        forward_retry_seconds: after which what cannot be sent on is dropped.
        metrics_url: OTLP/HTTP URL that the collector's own metrics are sent to.
    """

    enabled: bool = True
    grpc: Address | None = GRPC
    http: Address | None = HTTP
    workers: int = field(default_factory=lambda: max(1, min(4, os.cpu_count() or 1)))
    max_request_bytes: int = 16 * MIB
    max_decompressed_bytes: int = 64 * MIB
    max_requests: int = 16
    max_held_bytes: int = 32 * MIB
    max_attributes: int = 4096
    max_attribute_length: int = 64 * 2**10
    max_journal_bytes: int = 4096 * MIB
    request_timeout: float = 30.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    token: str = field(default="", repr=False)
    forward: str = ""
    forward_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    forward_queue_bytes: int = 64 * MIB
    forward_retry_seconds: float = 300.0
    metrics_url: str = ""

    def check(self) -> CollectorSettings:
        """Itself, where the settings go together.

        Raises:
            SettingsError: they do not.
        """
        if self.grpc is None and self.http is None:
            raise SettingsError(
                f"{VARIABLE}_GRPC and {VARIABLE}_HTTP are both off: nothing to listen on; set one,"
                f" or {VARIABLE}=false if `up` should start no collector"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            missing = f"{VARIABLE}_TLS_{'CERT' if self.tls_cert is None else 'KEY'}"
            raise SettingsError(f"{missing} is not set: a certificate and its key go together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise SettingsError(f"{VARIABLE}_TLS_CLIENT_CA needs {VARIABLE}_TLS_CERT and {VARIABLE}_TLS_KEY")
        for name, place in (("GRPC", self.grpc), ("HTTP", self.http)):
            if place is not None and not (place.loopback or self.tls_cert or self.token):
                raise SettingsError(
                    f"{VARIABLE}_{name}={place} is not loopback: anybody who reaches it could write to the ledger;"
                    f" set {VARIABLE}_TLS_CERT and {VARIABLE}_TLS_KEY, or a token in {VARIABLE}_TOKEN_FILE"
                )
        if self.max_held_bytes < self.max_request_bytes:
            raise SettingsError(
                f"{VARIABLE}_MAX_HELD_BYTES={self.max_held_bytes} is less than"
                f" {VARIABLE}_MAX_REQUEST_BYTES={self.max_request_bytes}: such a request could never be taken"
            )
        return self


def load(now: Settings, environ: Mapping[str, str]) -> CollectorSettings:
    """Read the collector's settings.

    Parameters:
        now: the process's settings; `now.collector` is the file's section.
        environ: variables that win over it.

    Raises:
        SettingsError: a value is wrong, or there is no such setting.
    """
    found = chosen("collector", now.collector, _READERS, now, environ, _SECRET)
    token_file = found.pop("token_file", None)
    if text := environ.get(f"{VARIABLE}_TOKEN", "").strip():
        found["token"] = token(f"{VARIABLE}_TOKEN", text)
    elif token_file is not None:
        name = f"{VARIABLE}_TOKEN_FILE"
        found["token"] = token(f"{name}={token_file}", secret_text(name, token_file))
    made = CollectorSettings(**found)
    room = now.journal_max_bytes * 4 // 5  # refused before the journal's own bound drops what was acknowledged
    return replace(made, max_journal_bytes=min(made.max_journal_bytes, room)).check()


def _url(value: Any, schemes: tuple[str, ...]) -> str:
    form = f"use a URL that begins with {', '.join(f'{scheme}://' for scheme in schemes)}"
    try:
        parts = urlsplit(str(value).strip())
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        raise ValueError(form) from None
    if parts.scheme not in schemes or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError(f"{form}, without user, ? and #")
    if parts.scheme.startswith("grpc") and (not parts.port or parts.path.strip("/")):
        raise ValueError("use grpc://HOST:PORT")
    return str(value).strip()


def _headers(value: Any) -> dict[str, str]:
    """`name=value,name=value` with percent-encoded values, as in OTEL_EXPORTER_OTLP_HEADERS; in the file a mapping."""
    if isinstance(value, Mapping):
        return {str(name).lower(): str(text) for name, text in value.items()}
    headers = {}
    for pair in filter(None, (piece.strip() for piece in str(value).split(","))):
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise ValueError("a header is not name=value")
        headers[name.strip().lower()] = unquote(text.strip())
    return headers


_READERS: dict[str, Reader] = {
    "enabled": flag,
    "grpc": address,
    "http": address,
    "workers": count,
    "max_request_bytes": size,
    "max_decompressed_bytes": size,
    "max_requests": count,
    "max_held_bytes": size,
    "max_attributes": count,
    "max_attribute_length": size,
    "max_journal_bytes": size,
    "request_timeout": seconds,
    "tls_cert": file,
    "tls_key": file,
    "tls_client_ca": file,
    "token_file": file,
    "forward": lambda value: _url(value, ("grpc", "grpcs", "http", "https")),
    "forward_headers": _headers,
    "forward_queue_bytes": size,
    "forward_retry_seconds": seconds,
    "metrics_url": lambda value: _url(value, ("http", "https")),
}
_SECRET = {"forward_headers"}
