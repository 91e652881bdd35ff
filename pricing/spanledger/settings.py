"""Settings: environment variables over one YAML file; `docs/settings.md` lists them.

The file is `SPANLEDGER_CONFIG`, else `config.yaml` in `SPANLEDGER_HOME` if it is there. It may also hold prices
(`docs/prices.md`): then it is laid over the catalogue.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

logger = logging.getLogger("spanledger")


MAX_JOURNAL_BYTES = 5 * 2**30
"""Some 2.5 million rows; the collector refuses requests before, at 4 GiB."""


class SettingsError(ValueError):
    """A setting is wrong; the message names it, says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user has set.

    Attributes:
        home: folder of journal, embedded ClickHouse and configuration; 0700.
        url: `https://user:password@host:8443/database` of the ClickHouse to write to; empty: embedded.
        config: the YAML file in use, or None.
        enabled: false: no spans, rows, threads or files of ours.
        fail_open: true: an error of ours never reaches the program.
        stream_usage: `auto`: ask OpenAI's own hosts for usage in chat streams; `never`: do not.
        metrics: `auto`: OpenTelemetry's metrics where no other instrumentation records them, and costs; `always`: both
            anyway; `never`: neither.
        base_currency: ISO code that reports sum in.
        decimals: round each total to so many places; None: exact.
        key_pepper: secret that API key hashes are keyed with.
        key_aliases: key hash -> name.
        price_files: YAML files laid over the catalogue, in this order.
        hosts: host or host:port -> provider, for gateways and proxies of your own.
        ship_interval: seconds between shipments of the journal to ClickHouse.
        sync: `none`, `batch` or `always`: who waits until the disk has a row.
        journal_max_bytes: of the journal; beyond it the oldest rows are dropped.
        journal_max_days: rows that have waited longer are dropped; 0: none.
        content: URL of the store of bodies; empty: none.
        content_days: the service removes bodies of calls that began more whole days ago; 0: none.
        capture: bodies are captured, since OpenTelemetry's variable says so and there is a store.
        content_redact: `module:function` that each body goes through first.
        collector: the file's section on the collector, which reads it itself.
        serve: the same of the API and the dashboard.
        budgets: name -> the file's section on a budget, which the service reads itself.
        alerts: the same of who is told of them.
    """

    home: Path
    url: str = ""
    config: Path | None = None
    enabled: bool = True
    fail_open: bool = True
    stream_usage: str = "auto"
    metrics: str = "auto"
    base_currency: str = "USD"
    decimals: int | None = None
    key_pepper: str = ""
    key_aliases: Mapping[str, str] = field(default_factory=dict)
    price_files: tuple[Path, ...] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)
    ship_interval: float = 2.0
    sync: str = "none"
    journal_max_bytes: int = MAX_JOURNAL_BYTES
    journal_max_days: float = 0.0
    content: str = ""
    content_days: int = 0
    capture: bool = False
    content_redact: str = ""
    collector: Mapping[str, Any] = field(default_factory=dict)
    serve: Mapping[str, Any] = field(default_factory=dict)
    budgets: Mapping[str, Any] = field(default_factory=dict)
    alerts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def journal(self) -> Path:
        return self.home / "journal"


_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def _flag(name: str, text: str) -> bool:
    if text.strip().lower() in _TRUE:
        return True
    if text.strip().lower() in _FALSE:
        return False
    raise SettingsError(f"{name}={text!r} is not a yes or no: use true or false")


def _pairs(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    pairs = {}
    for pair in filter(None, (piece.strip() for piece in environ.get(name, "").split(","))):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise SettingsError(f"{name}: {pair!r} is not host=provider")
        pairs[key.strip()] = value.strip()
    return pairs


_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def _captures(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own variable asks for content: true, or where it would go by the convention."""
    said = environ.get(_CAPTURE, "").strip().lower()
    if said in _TRUE or said in ("span_only", "event_only", "span_and_event"):
        return True
    if not said or said in _FALSE or said == "no_content":
        return False
    raise SettingsError(f"{_CAPTURE}={said!r} is unknown: use true or false")


_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def size(value: Any) -> int:
    """Bytes, from a number or a text like `16MiB`.

    Raises:
        ValueError: it is none above 0.
    """
    found = re.fullmatch(r"(\d+) *(?:([kmg])i?b?)?", str(value).strip().lower())
    if isinstance(value, bool) or found is None or not int(found[1]):
        raise ValueError("use a number of bytes above 0, or 16MiB")
    return int(found[1]) * _UNITS[found[2] or ""]


def load(environ: Mapping[str, str]) -> Settings:
    """Read the settings from `environ` and the file it names.

    Raises:
        SettingsError: a value is wrong, or the named file is missing or malformed.
    """
    home = Path(environ.get("SPANLEDGER_HOME") or Path.home() / ".spanledger").expanduser().absolute()
    named = environ.get("SPANLEDGER_CONFIG")
    config: Path | None = Path(named).expanduser() if named else home / "config.yaml"
    document: dict[str, Any] = {}
    if config is not None and (named or config.is_file()):
        document = _read(config)
    else:
        config = None
    section = _mapping(document.get("settings"), "settings", config)
    usage_logging = _mapping(section.get("usage_logging"), "settings.usage_logging", config)

    def choose(variable: str, key: str, default: bool) -> bool:
        if variable in environ and environ[variable].strip():
            return _flag(variable, environ[variable])
        value = usage_logging.get(key, default)
        if not isinstance(value, bool):
            raise SettingsError(f"{config}: settings.usage_logging.{key} is {value!r}: use true or false")
        return value

    stream_usage = environ.get("SPANLEDGER_STREAM_USAGE") or section.get("stream_usage", "auto")
    if stream_usage not in ("auto", "never"):
        raise SettingsError(f"SPANLEDGER_STREAM_USAGE={stream_usage!r} is unknown: use auto or never")
    metrics = environ.get("SPANLEDGER_METRICS") or section.get("metrics", "auto")
    if metrics not in ("auto", "always", "never"):
        raise SettingsError(f"SPANLEDGER_METRICS={metrics!r} is unknown: use auto, always or never")
    decimals = usage_logging.get("default_rounding_decimals")
    if decimals is not None and not (isinstance(decimals, int) and 0 <= decimals <= 18):
        raise SettingsError(f"{config}: settings.usage_logging.default_rounding_decimals is {decimals!r}: use 0 to 18")
    files = [Path(f).expanduser() for f in section.get("price_files", ())]
    if config is not None:
        files = [f if f.is_absolute() else config.parent / f for f in files]
        if _has_prices(document):
            files.append(config)
    interval = environ.get("SPANLEDGER_SHIP_INTERVAL") or section.get("ship_interval", 2.0)
    try:
        ship_interval = float(interval)
    except (TypeError, ValueError):
        ship_interval = 0.0
    if not ship_interval > 0:
        raise SettingsError(f"SPANLEDGER_SHIP_INTERVAL={interval!r} is not a number of seconds above 0")
    sync = environ.get("SPANLEDGER_SYNC") or section.get("sync", "none")
    if sync not in ("none", "batch", "always"):
        raise SettingsError(f"SPANLEDGER_SYNC={sync!r} is unknown: use none, batch or always")
    days = environ.get("SPANLEDGER_JOURNAL_MAX_DAYS") or section.get("journal_max_days", 0)
    try:
        journal_max_days = -1.0 if isinstance(days, bool) else float(days)
    except (TypeError, ValueError):
        journal_max_days = -1.0
    if not 0 <= journal_max_days < 10**6:
        raise SettingsError(f"SPANLEDGER_JOURNAL_MAX_DAYS={days!r} is not a number of days: 0 keeps rows for ever")
    most = environ.get("SPANLEDGER_JOURNAL_MAX_BYTES") or section.get("journal_max_bytes", MAX_JOURNAL_BYTES)
    try:
        journal_max_bytes = size(most)
    except ValueError as error:
        raise SettingsError(f"SPANLEDGER_JOURNAL_MAX_BYTES={most!r}: {error}") from None
    content = environ.get("SPANLEDGER_CONTENT") or str(section.get("content") or "")
    kept = str(environ.get("SPANLEDGER_CONTENT_DAYS") or section.get("content_days", 0)).strip()
    if not kept.isdecimal() or len(kept) > 5:
        raise SettingsError(f"SPANLEDGER_CONTENT_DAYS={kept!r} is not a whole number of days: 0 keeps bodies for ever")
    redact = environ.get("SPANLEDGER_CONTENT_REDACT") or str(section.get("content_redact") or "")
    if redact and not all(redact.partition(":")):
        raise SettingsError(f"SPANLEDGER_CONTENT_REDACT={redact!r} is not module:function")
    keys = _mapping(section.get("api_keys"), "settings.api_keys", config)
    return Settings(
        home=home,
        url=environ.get("SPANLEDGER_URL") or str(section.get("url") or ""),
        config=config,
        enabled=choose("LLM_USAGE_LOGGING_ENABLED", "enabled", True),
        fail_open=choose("LLM_USAGE_FAIL_OPEN", "fail_open", True),
        stream_usage=stream_usage,
        metrics=metrics,
        base_currency=str(usage_logging.get("base_currency", "USD")),
        decimals=decimals,
        key_pepper=environ.get("SPANLEDGER_KEY_PEPPER") or str(keys.get("pepper") or ""),
        key_aliases={
            str(k): str(v) for k, v in _mapping(keys.get("aliases"), "settings.api_keys.aliases", config).items()
        },
        price_files=tuple(files),
        hosts={
            **_mapping(section.get("hosts"), "settings.hosts", config),
            **_pairs("SPANLEDGER_HOSTS", environ),
        },
        ship_interval=ship_interval,
        sync=sync,
        journal_max_bytes=journal_max_bytes,
        journal_max_days=journal_max_days,
        content=content,
        content_days=int(kept),
        capture=bool(content) and _captures(environ),
        content_redact=redact,
        collector=_mapping(section.get("collector"), "settings.collector", config),
        serve=_mapping(section.get("serve"), "settings.serve", config),
        budgets=_mapping(section.get("budgets"), "settings.budgets", config),
        alerts=_mapping(section.get("alerts"), "settings.alerts", config),
    )


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read once; `settings.cache_clear()` reads them anew."""
    return load(os.environ)


_said = ""


def usable() -> Settings | None:
    """The process's settings; None where they are wrong, which is logged once: then nothing of ours runs.

    Raises:
        SettingsError: a setting is wrong, and `LLM_USAGE_FAIL_OPEN` is false.
    """
    global _said
    try:
        return settings()
    except SettingsError as error:
        if os.environ.get("LLM_USAGE_FAIL_OPEN", "").strip().lower() in _FALSE:
            raise
        if _said != str(error):
            _said = str(error)
            logger.error("spanledger: %s; no rows are written", error)
        return None


def _has_prices(document: Mapping[str, Any]) -> bool:
    """Whether a configuration file holds anything besides settings."""
    return any(key != "settings" for key in document)


def _mapping(value: object, name: str, config: Path | None) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SettingsError(f"{config}: {name} is not a mapping")
    return value


def _read(path: Path) -> dict[str, Any]:
    import yaml  # 27 ms: only where there is a file to read

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"SPANLEDGER_CONFIG: cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"{path} is not a mapping at its top level")
    return document
