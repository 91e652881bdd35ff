"""What `spanledger doctor` looks at: each check is a function that yields findings, and never raises."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from spanledger.settings import Settings, SettingsError

if TYPE_CHECKING:
    from spanledger.exporter.client import Client

OK = "ok"
NOTE = "note"
WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: `ok`, `note` (works, but worth knowing) or `wrong`.
        topic: what was looked at, one or two words.
        text: what is there.
        todo: what to do about it; empty where there is nothing to do.
    """

    level: str
    topic: str
    text: str
    todo: str = ""


def check_settings(now: Settings) -> Iterator[Finding]:
    where = f"{now.config} and the environment" if now.config else "the environment; there is no settings file"
    yield Finding(OK, "settings", f"from {where}")
    if given := _given(now):
        yield Finding(OK, "settings", f"not as by default: {', '.join(given)}")
    if now.config and _shows_secrets(now.config):
        yield Finding(
            WRONG, "settings", f"others can read {now.config}, and it holds secrets", f"chmod 600 {now.config}"
        )
    if not now.enabled:
        yield Finding(
            WRONG,
            "settings",
            "usage logging is off: no program writes rows",
            "set LLM_USAGE_LOGGING_ENABLED=true, or settings.usage_logging.enabled in the file",
        )
    if not now.fail_open:
        yield Finding(NOTE, "settings", "fail_open is false: an error of spanledger's own stops the program")
    if not now.key_pepper:
        yield Finding(
            NOTE,
            "settings",
            "no key pepper: whoever knows an API key can find its hash in the ledger",
            "set SPANLEDGER_KEY_PEPPER to a long random text, the same in all programs",
        )


def _given(now: Settings) -> list[str]:
    """The settings that somebody has set; values only where they cannot be secret."""
    default = Settings(home=now.home, config=now.config)
    changed = {field.name: getattr(now, field.name) for field in fields(now)}
    return [
        f"{name} {value}" if name == "hosts" or isinstance(value, (bool, int, float)) else name
        for name, value in changed.items()
        if value != getattr(default, name)
    ]


def _shows_secrets(config: Path) -> bool:
    """Others than its owner can read the file, and it holds the URL with its password, or the pepper."""
    try:
        text = config.read_text(encoding="utf-8")
        return bool(config.stat().st_mode & 0o077) and bool(re.search(r"^\s*(url:.*@|pepper:)", text, re.MULTILINE))
    except OSError:
        return False


def check_sdks() -> Iterator[Finding]:
    """Whether each SDK that is installed beside spanledger has a version that is instrumented."""
    from packaging.requirements import Requirement

    known = [Requirement(requirement) for requirement in _requirements()]
    found = False
    for need in known:
        try:
            there = version(need.name)
        except PackageNotFoundError:
            continue
        found = True
        if need.specifier.contains(there, prereleases=True):
            yield Finding(OK, "SDK", f"{need.name} {there} is instrumented")
        else:
            yield Finding(
                WRONG,
                "SDK",
                f"{need.name} {there} is not instrumented: it is not {need.specifier}",
                f"pip install '{need}'",
            )
    if not found:
        yield Finding(
            NOTE,
            "SDK",
            f"none of {', '.join(need.name for need in known)} is installed beside spanledger",
            "install spanledger into the environment of the program that calls them",
        )


def _requirements() -> Iterator[str]:
    """Distribution and versions that each of our instrumentors is made for."""
    for point in entry_points(group="opentelemetry_instrumentor"):
        if point.name.startswith("spanledger-"):
            yield from point.load()().instrumentation_dependencies()


_LITTLE_ROOM = 256 << 20
_RECENT_DAYS = 30
_LONG_WAIT_SECONDS = 60
_EXPORTERS = {
    "OTEL_TRACES_EXPORTER": "opentelemetry_traces_exporter",
    "OTEL_METRICS_EXPORTER": "opentelemetry_metrics_exporter",
    "OTEL_LOGS_EXPORTER": "opentelemetry_logs_exporter",
}


def check_opentelemetry(environ: Mapping[str, str]) -> Iterator[Finding]:
    yield Finding(OK, "OpenTelemetry", f"SDK {version('opentelemetry-sdk')}")
    yield from _opentelemetry_faults(environ)


def _opentelemetry_faults(environ: Mapping[str, str]) -> Iterator[Finding]:
    if not shutil.which("opentelemetry-instrument", path=environ.get("PATH")):
        yield Finding(
            NOTE,
            "OpenTelemetry",
            "opentelemetry-instrument is not on PATH",
            "activate the virtual environment that spanledger is in",
        )
    hooks = entry_points(group="opentelemetry_pre_instrument")
    if "spanledger" not in {hook.name for hook in hooks}:
        yield Finding(
            WRONG,
            "OpenTelemetry",
            "spanledger's entry points are missing: opentelemetry-instrument does not see it",
            "pip install --force-reinstall --no-deps spanledger",
        )
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield Finding(WRONG, "OpenTelemetry", "OTEL_SDK_DISABLED=true: no spans, so no rows", "unset OTEL_SDK_DISABLED")
    for variable, group in _EXPORTERS.items():
        known = {point.name for point in entry_points(group=group)}
        for name in _names(environ.get(variable, "otlp")):
            if name not in known | {"none"}:
                yield Finding(
                    WRONG,
                    "OpenTelemetry",
                    f"{variable} names {name!r}, which is not installed: the program would run uninstrumented",
                    f"install its package, or use one of {', '.join(sorted(known | {'none'}))}",
                )
    for name in _names(environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")):
        if name == "*" or name.startswith("spanledger-"):
            yield Finding(
                NOTE,
                "OpenTelemetry",
                f"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS leaves out {name}: its calls have no rows",
            )
    if (host := _dead_collector(environ)) is not None:
        yield Finding(
            NOTE,
            "OpenTelemetry",
            f"no collector answers at {host}: programs try some seconds when they end; rows are written all the same",
            "start a collector, or set OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER and OTEL_LOGS_EXPORTER to none",
        )


def _names(text: str) -> list[str]:
    return [name for piece in text.split(",") if (name := piece.strip())]


def _dead_collector(environ: Mapping[str, str]) -> str | None:
    """`host:port` that spans would go to and where nothing listens; None where all is well or nothing is sent."""
    if not any(name.startswith("otlp") for name in _names(environ.get("OTEL_TRACES_EXPORTER", "otlp"))):
        return None
    http = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc").startswith("http")
    named = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    url = urlsplit(named if named and "//" in named else f"//{named or 'localhost'}")
    host = url.hostname or "localhost"
    port = url.port or {"https": 443, "http": 80}.get(url.scheme if http else "", 4318 if http else 4317)
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return f"{host}:{port}"
    return None


def check_home(home: Path) -> Iterator[Finding]:
    """The home folder: there, ours, private, writable, with room."""
    elsewhere = "set SPANLEDGER_HOME to a folder of yours"
    try:
        mode = home.stat().st_mode
    except FileNotFoundError:
        yield Finding(NOTE, "home", f"{home} is not there yet: the first call or command makes it")
        return
    except OSError as error:
        yield Finding(WRONG, "home", f"{home}: {error.strerror}", elsewhere)
        return
    free = shutil.disk_usage(home).free
    if not stat.S_ISDIR(mode):
        yield Finding(WRONG, "home", f"{home} is not a folder", elsewhere)
    elif not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(WRONG, "home", f"{home} is not yours to write: rows are lost", elsewhere)
    elif stat.S_IMODE(mode) & 0o077:
        yield Finding(WRONG, "home", f"others can look into {home}, mode {stat.S_IMODE(mode):o}", f"chmod 700 {home}")
    elif free < _LITTLE_ROOM:
        yield Finding(WRONG, "home", f"{home} has {free >> 20} MiB left on its disk", f"make room, or {elsewhere}")
    else:
        yield Finding(OK, "home", f"{home}, {free >> 30} GiB free")


def check_prices(now: Settings) -> Iterator[Finding]:
    """Whether the catalogue and the user's price files load."""
    from spanledger.pricing.book import PriceFileError, load

    try:
        book = load(now.price_files, base_currency=now.base_currency, decimals=now.decimals)
        providers = book.providers()
        models = sum(len(book.models(provider)) for provider in providers)
    except (PriceFileError, OSError) as error:
        yield Finding(WRONG, "prices", f"{error}; the catalogue alone is in force", "mend the file: spanledger prices")
        return
    files = f", with {', '.join(map(str, now.price_files))} over it" if now.price_files else ""
    yield Finding(OK, "prices", f"{models} models of {len(providers)} providers{files}")


def check_journal(now: Settings) -> Iterator[Finding]:
    """What waits to be loaded, and what ClickHouse refused."""
    from spanledger.exporter.shipper import pending
    from spanledger.service import daemon

    waiting = pending(now.home)
    folder = now.home / "journal"
    if waiting.rejected:
        for reason in waiting.reasons:
            yield Finding(
                WRONG,
                "journal",
                f"refused rows: {reason}",
                f"mend the cause, or the file in {folder}, then: spanledger retry",
            )
    if not waiting.rows:
        yield Finding(OK, "journal", "nothing is waiting")
        return
    text = f"{_many(waiting.rows, 'row')} in {_many(waiting.segments, 'segment')} waiting"
    text += f", the oldest for {_age(waiting.oldest_age_s)}"
    loads = bool(now.url) or daemon.running(now.home) is not None
    if loads and waiting.oldest_age_s > _LONG_WAIT_SECONDS + now.ship_interval:
        yield Finding(WRONG, "journal", text, "see what is said of ClickHouse, and the log of the program or service")
    elif loads:
        yield Finding(OK, "journal", text)
    else:
        yield Finding(OK, "journal", f"{text}; the next report loads them")


def check_collector(now: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the collector's settings are right, and where it listens."""
    from spanledger.service import daemon
    from spanledger.service.collector.running import missing, running
    from spanledger.service.collector.settings import load

    try:
        chosen = load(now, environ)
    except SettingsError as error:
        yield Finding(WRONG, "collector", str(error), "mend the setting: docs/settings.md")
        return
    if here := running(now.home):
        yield Finding(OK, "collector", f"{here}, process {here.pid}")
    elif absent := missing():
        yield Finding(NOTE, "collector", absent)
    elif not chosen.enabled:
        yield Finding(NOTE, "collector", "off: SPANLEDGER_COLLECTOR=false")
    elif daemon.running(now.home):
        yield Finding(NOTE, "collector", "not up beside the service", _again(now))
    else:
        yield Finding(OK, "collector", "not up: `spanledger up` starts it")


def check_serve(now: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the settings of the API are right, and where it is served."""
    from spanledger.service import daemon
    from spanledger.service.api.running import missing, running
    from spanledger.service.api.settings import load

    try:
        chosen = load(now, environ)
    except SettingsError as error:
        yield Finding(WRONG, "dashboard", str(error), "mend the setting: docs/settings.md")
        return
    if here := running(now.home):
        yield Finding(OK, "dashboard", f"{here}, process {here.pid}")
    elif absent := missing():
        yield Finding(NOTE, "dashboard", absent)
    elif not chosen.enabled:
        yield Finding(NOTE, "dashboard", "off: SPANLEDGER_SERVE=false")
    elif daemon.running(now.home):
        yield Finding(NOTE, "dashboard", "not up beside the service", _again(now))
    else:
        yield Finding(OK, "dashboard", "not up: `spanledger up` serves it")


def _again(now: Settings) -> str:
    from spanledger.service import daemon

    return f"spanledger down, then spanledger up: what came since is taken then; else see {daemon.log_file(now.home)}"


def check_clickhouse(now: Settings) -> Iterator[Finding]:
    """Whether ClickHouse is there, with our schema; and what it says of the calls of the last days."""
    from spanledger.exporter.client import ClickHouseError, UrlError
    from spanledger.exporter.embedded import EmbeddedError
    from spanledger.service import daemon
    from spanledger.service.ledger import opened

    if not now.url and find_spec("chdb") is None:
        yield Finding(
            WRONG,
            "ClickHouse",
            "embedded ClickHouse is not installed, and SPANLEDGER_URL names no other: rows wait in the journal",
            "pip install 'spanledger[local]', or set SPANLEDGER_URL",
        )
        return
    try:
        with opened(now, read_only=True) as client:
            if now.url:
                how = str(client.endpoint)
            elif daemon.running(now.home):
                how = f"embedded, up at http://{client.endpoint.host}:{client.endpoint.port}"
            else:
                how = "embedded, not up: each command starts it for a moment"
            schema = client.query("SELECT max(id), count() FROM schema_migrations").rows[0]
            yield Finding(OK, "ClickHouse", f"{client.version}, {how}, schema {schema[0]:04}")
            yield from _ledger(client)
            yield from _health(client)
    except UrlError as error:
        yield Finding(WRONG, "ClickHouse", str(error), "set SPANLEDGER_URL right, or unset it to use the embedded one")
    except (ClickHouseError, EmbeddedError, daemon.ServiceError, OSError) as error:
        todo = "check SPANLEDGER_URL and the server" if now.url else f"see {now.home / 'clickhouse' / 'server.log'}"
        yield Finding(WRONG, "ClickHouse", str(error), todo)


_QUALITY = """
SELECT provider,
       if(response_model != '', response_model, request_model) AS model,
       countIf(price_status = 'unpriced') AS unpriced,
       countIf(price_status = 'usage_missing') AS missing,
       countIf(price_status = 'estimated') AS estimated,
       countIf(usage_status = 'contradictory') AS contradictory,
       anyIf(cost_reasons, price_status = 'unpriced') AS why_unpriced,
       anyIf(cost_reasons, price_status = 'estimated') AS why_estimated
FROM llm_calls FINAL
WHERE start_time >= now() - toIntervalDay({days:UInt32})
GROUP BY provider, model
HAVING unpriced + missing + estimated + contradictory > 0
ORDER BY unpriced DESC, missing DESC, provider, model
"""


_HEALTH = """
SELECT what, reason, sum(count), uniqExact(host, pid, started_at)
FROM spanledger_health FINAL
WHERE at >= now() - toIntervalDay({days:UInt32})
GROUP BY what, reason
ORDER BY what, reason
"""
_TROUBLES = {
    "rows_lost": ("rows are lost", "make room on the disk, or mend what the program's log says of it"),
    "rows_dropped": ("rows that waited are dropped", "bring ClickHouse back, or raise SPANLEDGER_JOURNAL_MAX_BYTES"),
    "rows_rejected": ("rows were refused", ""),
    "blocks_split": ("blocks were split", ""),
    "internal_errors": ("errors of spanledger's own", ""),
}


def _health(client: Client) -> Iterator[Finding]:
    """What programs counted, on any host."""
    for what, reason, count, processes in client.query(_HEALTH, {"days": _RECENT_DAYS}).rows:
        text, todo = _TROUBLES.get(what, (what, ""))
        text = f"{count} {text} in {_RECENT_DAYS} days, in {processes} process" + ("es" if processes > 1 else "")
        yield Finding(WRONG if todo else NOTE, "health", f"{text}: {reason}" if reason else text, todo)


def _ledger(client: Client) -> Iterator[Finding]:
    calls = client.query("SELECT countIf(line = 0) FROM llm_calls FINAL").rows[0][0]
    yield Finding(OK, "ledger", _many(calls, "call"))
    since = f"in {_RECENT_DAYS} days"
    for provider, model, unpriced, missing, estimated, contradictory, why_not, why_about in client.query(
        _QUALITY, {"days": _RECENT_DAYS}
    ).rows:
        name = f"{provider} {model or '(no model)'}"
        if unpriced:
            yield Finding(
                WRONG,
                "ledger",
                f"{unpriced} of {name} {since} have no price: {'; '.join(why_not)}",
                "put the line that spanledger report --unpriced prints into a price file; where it is a host of yours,"
                " name whose prices it has in SPANLEDGER_HOSTS",
            )
        if missing:
            yield Finding(
                WRONG,
                "ledger",
                f"{missing} of {name} {since} came without usage: their cost is unknown",
                'ask for it in streams (stream_options={"include_usage": True}), and read streams to their end',
            )
        if estimated:
            yield Finding(NOTE, "ledger", f"{estimated} of {name} {since} are estimated: {'; '.join(why_about)}")
        if contradictory:
            yield Finding(
                WRONG,
                "ledger",
                f"{contradictory} of {name} {since} have usage that contradicts itself",
                "compare raw_usage of these rows with the provider's bill: spanledger sql"
                " \"SELECT entry_id, raw_usage FROM llm_calls FINAL WHERE usage_status = 'contradictory'\"",
            )


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"
