"""The settings of `spanledger serve`: `SPANLEDGER_SERVE_*` over the file's `settings.serve` (`docs/settings.md`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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
from spanledger.settings import Settings, SettingsError

VARIABLE = "SPANLEDGER_SERVE"

HTTP = Address("127.0.0.1", 14319)
"""Beside the collector's ports."""


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What the user has set.

    Attributes:
        enabled: `spanledger up` starts it.
        http: where to listen.
        tokens: token -> the tenant that its bearer sees; empty: everything. No tokens: whoever reaches the port.
        cors_origins: origins whose pages may ask; none.
        tls_cert, tls_key: PEM files.
        max_query_seconds: that a query may take.
        max_query_rows: that a query may read.
        requests_per_minute: of one token, or of one address where there are no tokens.
        trace_url: link to a trace, with `{trace_id}` in it, for the dashboard.
    """

    enabled: bool = True
    http: Address = HTTP
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    cors_origins: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_query_seconds: float = 10.0
    max_query_rows: int = 200_000_000
    requests_per_minute: int = 3000
    trace_url: str = ""

    def check(self) -> ServeSettings:
        """Itself, where the settings go together.

        Raises:
            SettingsError: they do not.
        """
        if (self.tls_cert is None) != (self.tls_key is None):
            missing = f"{VARIABLE}_TLS_{'CERT' if self.tls_cert is None else 'KEY'}"
            raise SettingsError(f"{missing} is not set: a certificate and its key go together")
        if not (self.http.loopback or self.tokens):
            raise SettingsError(
                f"{VARIABLE}_HTTP={self.http} is not loopback: anybody who reaches it could read the ledger;"
                f" set tokens in {VARIABLE}_TOKEN_FILE"
            )
        return self


def load(now: Settings, environ: Mapping[str, str] = os.environ) -> ServeSettings:
    """Read the settings.

    Parameters:
        now: the process's settings; `now.serve` is the file's section.
        environ: variables that win over it.

    Raises:
        SettingsError: a value is wrong, or there is no such setting.
    """
    found = chosen("serve", now.serve, _READERS, now, environ)
    token_file = found.pop("token_file", None)
    tokens = {}
    if token_file is not None:
        tokens = _tokens(f"{VARIABLE}_TOKEN_FILE", token_file)
    if text := environ.get(f"{VARIABLE}_TOKEN", "").strip():
        tokens[token(f"{VARIABLE}_TOKEN", text)] = ""
    return ServeSettings(**found, tokens=tokens).check()


def _tokens(name: str, path: Path) -> dict[str, str]:
    """Token -> tenant: each line has a token, and behind a blank the tenant that its bearer sees."""
    found = {}
    for line in secret_text(name, path).splitlines():
        text, _, tenant = line.strip().partition(" ")
        if text and not text.startswith("#"):
            found[token(f"{name}={path}", text)] = tenant.strip()
    if not found:
        raise SettingsError(f"{name}={path}: there is no token in it")
    return found


def _address(value: Any) -> Address:
    where = address(value)
    if where is None:
        raise ValueError(f"use HOST:PORT, as {HTTP}; {VARIABLE}=false starts none")
    return where


def _origins(value: Any) -> tuple[str, ...]:
    origins = value if isinstance(value, (list, tuple)) else str(value).split(",")
    found = tuple(str(origin).strip().rstrip("/") for origin in origins if str(origin).strip())
    for origin in found:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
            raise ValueError("use origins as https://dashboard.example.com, with commas between")
    return found


def _trace_url(value: Any) -> str:
    text = str(value).strip()
    if not text.startswith(("http://", "https://")) or "{trace_id}" not in text:
        raise ValueError("use a URL with {trace_id} in it, as http://localhost:16686/trace/{trace_id}")
    return text


_READERS: dict[str, Reader] = {
    "enabled": flag,
    "http": _address,
    "token_file": file,
    "cors_origins": _origins,
    "tls_cert": file,
    "tls_key": file,
    "max_query_seconds": seconds,
    "max_query_rows": count,
    "requests_per_minute": count,
    "trace_url": _trace_url,
}
