"""Every recorded call of a provider, through its real SDK into ClickHouse: each row equals the truth."""

from __future__ import annotations

import logging
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from spanledger.attribution import attribute
from spanledger.exporter import shipper
from spanledger.exporter.client import connect
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.install import install
from spanledger.exporter.migrate import migrate
from spanledger.instrumentation import INSTRUMENTORS
from spanledger.pricing.names import canonical_provider
from spanledger.settings import settings
from tests import recordings

pytestmark = [pytest.mark.recordings, recordings.needed, pytest.mark.timeout(600)]

PROVIDERS = {
    "anthropic": "",
    "azure": "",
    "bedrock": "bedrock-mantle.",
    "cerebras": "",
    "crusoe": "",
    "deepseek": "",
    "groq": "",
    "ollama": "/v1/",
    "openai": "",
    "openrouter": "",
    "snowflake": "",
    "together": "",
    "writer": "",
    "zai": "",
}
"""Providers whose recordings are driven through their SDK, those with the text in their host and path."""

BY_OPENAI = ("cerebras", "groq", "huggingface", "mistral", "together")
"""Providers with an SDK of their own whose recordings are driven through OpenAI's, too."""

COLUMNS = (
    "line, tags['recording'] AS recording, provider, response_model, response_id, "
    "service_tier, stream, status, price_status, usage_status, usage, "
    "input_tokens, output_tokens, total_tokens, cost, cost_input + cost_output + cost_cache + cost_tools AS parts_cost"
)


@pytest.fixture(scope="module", params=["sync", "async", "raw", "by openai's SDK"])
def ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One pass over all recordings, in a ledger of its own: (recordings, outcomes, rows)."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPANLEDGER_HOME", str(home))
        patch.setattr(shipper, "_shipper", None)
        settings.cache_clear()
        driven, outcomes = _drive(request.param)
        shipper.close()
    settings.cache_clear()
    clickhouse = EmbeddedClickHouse(home)
    try:
        client = connect(clickhouse.start())
        migrate(client)
        shipper.load_journal(home, client)
        found = client.query(f"SELECT {COLUMNS} FROM llm_calls FINAL")
        yield driven, outcomes, [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    finally:
        clickhouse.stop()


def _drive(how: str) -> tuple[list[dict[str, Any]], list[Any]]:
    """Make every recorded call through its SDK, instrumented into the journal."""
    drive = recordings.driver()
    driven = _by_openai() if how.startswith("by") else _by_their_own()
    tracer_provider = TracerProvider()
    install(tracer_provider)
    instrumentors = [instrumentor() for instrumentor in INSTRUMENTORS]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=tracer_provider)
    mode = "async" if how == "async" else "sync"
    outcomes = []
    try:
        with warnings.catch_warnings(), drive.ReplayServer(driven) as server:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            for recording in driven:
                with attribute(tags={"recording": recording["id"]}):
                    outcomes.append(drive.drive(recording, server, mode=mode, raw=how == "raw"))
            drive.forget_clients()
    finally:
        logging.disable(logging.NOTSET)
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
        tracer_provider.shutdown()
    return driven, outcomes


def _by_their_own() -> list[dict[str, Any]]:
    return [
        recording
        for provider, of in PROVIDERS.items()
        for recording in recordings.load(provider)
        if of in recording["host"] + recording["path"]
    ]


def _by_openai() -> list[dict[str, Any]]:
    """For the driver, whatever OpenRouter's recordings are called by is OpenAI's SDK."""
    return [
        recording | {"provider": "openrouter", "of": provider}
        for provider in BY_OPENAI
        for recording in recordings.load(provider)
    ]


def test_every_row_equals_the_truth(ledger: Any) -> None:
    driven, outcomes, rows = ledger
    truth = recordings.truth()
    by_recording: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        by_recording[row["recording"]][row["line"]] = row
    shared_ids = Counter(truth[r["id"]]["response_id"] for r in driven if r["id"] in truth)
    seen_ids: set[str] = set()
    table: dict[str, Counter[str]] = defaultdict(Counter)
    different = []
    for recording, outcome in zip(driven, outcomes, strict=True):
        provider = recording.get("of") or recording["provider"]
        count = table[provider]
        entry = truth.get(recording["id"])
        lines = by_recording[recording["id"]]
        count["rows"] += len(lines)
        if outcome.status == "skipped":
            count["skipped"] += 1
            continue
        count["driven"] += 1
        if entry is None:  # an HTTP error was recorded
            problem = None if [r["price_status"] for r in lines.values()] == ["not_billed"] else f"rows {lines}"
        elif "/threads/" in recording["path"]:  # a message is put into a thread: no model is called
            problem = f"a row: {lines}" if lines else None
        elif entry["response_id"] and shared_ids[entry["response_id"]] > 1:  # one entry for all that share an id
            seen_ids |= {entry["response_id"]} if lines else set()
            problem = None
        else:
            problem = _difference(entry, lines, _provider(provider, recording["host"]))
        count["equal" if problem is None else "different"] += 1
        if problem:
            different.append(f"{provider} {recording['id']}: {problem}")
    assert seen_ids == {name for name, n in shared_ids.items() if name and n > 1}
    _print(table)
    assert not different, f"{len(different)} differ\n" + "\n".join(different[:40])


def test_the_parts_cost_what_the_call_costs(ledger: Any) -> None:
    driven, _, rows = ledger
    assert len(rows) > len(driven) * 0.9
    for row in rows:
        if row["cost"] is not None:
            assert row["cost"] == row["parts_cost"], row
        else:
            assert row["price_status"] in ("unpriced", "usage_missing"), row


def _print(table: dict[str, Counter[str]]) -> None:
    columns = ("driven", "rows", "equal", "different", "skipped")
    print("\n" + f"{'provider':12}" + "".join(f"{column:>10}" for column in columns))
    for provider, count in table.items():
        print(f"{provider:12}" + "".join(f"{count[column]:10}" for column in columns))


def _provider(of: str, host: str) -> str:
    """The name that a provider's rows bear: its host's, where that is all there is."""
    return "127.0.0.1" if host.startswith(("localhost", "127.0.0.1")) else canonical_provider(of)


def _difference(entry: dict[str, Any], lines: dict[int, dict[str, Any]], provider: str) -> str | None:
    """What differs between the truth and the row of a call; None if nothing does."""
    if 0 not in lines:
        return "no row"
    row = lines[0]
    usage = _usage(row)
    if usage not in recordings.readings(entry):
        return f"parts {usage}, truth {recordings.readings(entry)}"
    expected = {
        "provider": provider,
        "response_model": entry["response_model"] or "",
        "response_id": entry["response_id"] or "",
        "service_tier": entry["service_tier"] or "",
        "stream": entry["stream"],
        "usage_status": entry["usage_status"],
    }
    if any(note.startswith("CONTRADICTION") for note in entry["notes"]) and row["usage_status"] == "contradictory":
        del expected["usage_status"]  # which of such answers can be reconciled is the reader's to say
    if usage == recordings.readings(entry)[0]:
        expected |= {name: entry[name] for name in ("input_tokens", "output_tokens", "total_tokens")}
    actual = {name: bool(row[name]) if name == "stream" else row[name] for name in expected}
    if actual != expected:
        return f"{ {n: (actual[n], expected[n]) for n in expected if actual[n] != expected[n]} }"
    others = [(o["model"], o["parts"]) for o in entry.get("other_models") or ()]
    further = [(row["response_model"], _usage(row)) for line, row in sorted(lines.items()) if line]
    return None if further == others else f"lines {further}, truth {others}"


def _usage(row: dict[str, Any]) -> dict[str, int]:
    return {part: int(quantity) for part, quantity in row["usage"].items()}
