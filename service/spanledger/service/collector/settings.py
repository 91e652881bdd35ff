"""The collector's settings: `SPANLEDGER_COLLECTOR_*` over the file's `settings.collector` (`docs/settings.md`)."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from spanledger.settings import Settings, SettingsError, size

VARIABLE = "SPANLEDGER_COLLECTOR"
MIB = 2**20


class Address(NamedTuple):
    """Where to listen; port 0 is any free one."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


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
        for name, address in (("GRPC", self.grpc), ("HTTP", self.http)):
            if address is not None and not (address.loopback or self.tls_cert or self.token):
                raise SettingsError(
                    f"{VARIABLE}_{name}={address} is not loopback: anybody who reaches it could write to the ledger;"
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
    section = dict(now.collector)
    known = {each.name for each in fields(CollectorSettings)} - {"token"} | {"token_file"}
    for name in section:
        if name not in known:
            raise SettingsError(
                f"{now.config}: settings.collector.{name} is no setting; known: {', '.join(sorted(known))}"
            )
    for name in environ:
        if name.startswith(f"{VARIABLE}_") and name[len(VARIABLE) + 1 :].lower() not in (known | {"token"}) - {
            "enabled"
        }:
            raise SettingsError(f"{name} is no setting; see docs/settings.md")
    chosen: dict[str, Any] = {}
    for name, read in _READERS.items():
        variable = VARIABLE if name == "enabled" else f"{VARIABLE}_{name.upper()}"
        value: Any = environ.get(variable, "").strip()
        where = variable
        if not value:
            value, where = section.get(name), f"{now.config}: settings.collector.{name}"
            if value is None:
                continue
        try:
            chosen[name] = read(value)
        except (ValueError, TypeError) as error:
            shown = "" if name in _SECRET else f"={value!r}" if where == variable else f" is {value!r}"
            raise SettingsError(f"{where}{shown}: {error}") from None
    file = chosen.pop("token_file", None)
    if token := environ.get(f"{VARIABLE}_TOKEN", "").strip():
        chosen["token"] = _ascii(f"{VARIABLE}_TOKEN", token)
    elif file is not None:
        chosen["token"] = _token(file)
    return CollectorSettings(**chosen).check()


def _count(value: Any) -> int:
    if isinstance(value, bool) or not str(value).strip().isdecimal() or not int(value):
        raise ValueError("use a whole number above 0")
    return int(value)


def _seconds(value: Any) -> float:
    try:
        number = 0.0 if isinstance(value, bool) else float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < 10**6:
        raise ValueError("use a number of seconds above 0")
    return number


def _flag(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
        raise ValueError("use true or false")
    return text in ("true", "1", "yes", "on")


def _address(value: Any) -> Address | None:
    if value is False or str(value).strip().lower() in ("off", "none", "no", "false"):
        return None
    form = "use HOST:PORT, as 127.0.0.1:14317, or off"
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:/@\s]+)):(\d{1,5})", str(value).strip())
    if found is None or int(found[3]) > 65535:
        raise ValueError(form)
    return Address(found[1] or found[2], int(found[3]))


def _file(value: Any) -> Path:
    path = Path(str(value)).expanduser()
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"cannot read it: {error.strerror}") from None
    return path


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


def _token(path: Path) -> str:
    name = f"{VARIABLE}_TOKEN_FILE={path}"
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SettingsError(f"{name}: others can read it, mode {mode:o}; chmod 600 {path}")
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}: cannot read it: {error}") from None
    if not token:
        raise SettingsError(f"{name}: it is empty; put the token on its first line")
    return _ascii(name, token)


def _ascii(name: str, token: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise SettingsError(f"{name}: the token has blanks or characters beyond ASCII, which no header can carry")
    return token


_READERS: dict[str, Callable[[Any], Any]] = {
    "enabled": _flag,
    "grpc": _address,
    "http": _address,
    "workers": _count,
    "max_request_bytes": size,
    "max_decompressed_bytes": size,
    "max_requests": _count,
    "max_held_bytes": size,
    "max_attributes": _count,
    "max_attribute_length": size,
    "max_journal_bytes": size,
    "request_timeout": _seconds,
    "tls_cert": _file,
    "tls_key": _file,
    "tls_client_ca": _file,
    "token_file": _file,
    "forward": lambda value: _url(value, ("grpc", "grpcs", "http", "https")),
    "forward_headers": _headers,
    "forward_queue_bytes": size,
    "forward_retry_seconds": _seconds,
    "metrics_url": lambda value: _url(value, ("http", "https")),
}
_SECRET = {"forward_headers"}
