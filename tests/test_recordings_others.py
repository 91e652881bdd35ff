"""Every recorded call of the SDKs with an HTTP client of their own, into ClickHouse: each row equals the truth."""

from __future__ import annotations

import logging
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from spanledger.attribution import attribute
from spanledger.exporter import shipper
from spanledger.exporter.client import Client
from spanledger.exporter.install import install
from spanledger.instrumentation import INSTRUMENTORS
from tests import recordings

pytestmark = [pytest.mark.recordings, recordings.needed, pytest.mark.timeout(600)]

PROVIDERS = {
    "cohere": "cohere",
    "huggingface": "huggingface_",
    "mistral": "mistral_ai",
    "ollama": "ollama",
    "replicate": "replicate",
    "voyage": "voyageai",
}
"""Provider of the recordings -> provider of the rows; Hugging Face's ends in whom the path names."""

COLUMNS = (
    "line, tags['recording'] AS recording, provider, operation, response_model, response_id, service_tier, stream, "
    "price_status, usage_status, usage, input_tokens, output_tokens, total_tokens, "
    "cost, cost_input + cost_output + cost_cache + cost_tools AS parts_cost"
)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_every_row_equals_the_truth(mode: str, ledger: Client, ledger_home: Path) -> None:
    driven = [r for provider in PROVIDERS for r in recordings.load(provider) if not _openais(r)]
    outcomes = _drive(driven, mode)
    shipper.close()
    shipper.load_journal(ledger_home, ledger)
    found = ledger.query(f"SELECT {COLUMNS} FROM llm_calls FINAL")
    by_recording: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for values in found.rows:
        row = dict(zip(found.columns, values, strict=True))
        by_recording[row["recording"]].append(row)
        assert row["cost"] is None or row["cost"] == row["parts_cost"], row
    truth = recordings.truth()
    table: dict[str, Counter[str]] = defaultdict(Counter)
    different = []
    for recording, outcome in zip(driven, outcomes, strict=True):
        count = table[recording["provider"]]
        rows = by_recording[recording["id"]]
        count["rows"] += len(rows)
        if outcome.status == "skipped":
            count["skipped"] += 1
            continue
        count["driven"] += 1
        problem = _difference(recording, truth.get(recording["id"]), rows)
        count["equal" if problem is None else "different"] += 1
        if problem:
            different.append(f"{recording['provider']} {recording['id']}: {problem}")
    for provider, count in table.items():
        print(mode, provider, dict(count))
    assert not different, f"{len(different)} differ\n" + "\n".join(different[:40])
    assert set(table) == set(PROVIDERS)


def _openais(recording: dict[str, Any]) -> bool:
    """Whether the driver calls it by OpenAI's SDK."""
    return recording["provider"] == "ollama" and recording["path"].startswith("/v1/")


def _drive(driven: list[dict[str, Any]], mode: str) -> list[Any]:
    drive = recordings.driver()
    tracer_provider = TracerProvider()
    install(tracer_provider)
    instrumentors = [instrumentor() for instrumentor in INSTRUMENTORS]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=tracer_provider)
    outcomes = []
    try:
        with warnings.catch_warnings(), drive.ReplayServer(driven) as server:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            for recording in driven:
                with attribute(tags={"recording": recording["id"]}):
                    outcomes.append(drive.drive(recording, server, mode=mode))
            drive.forget_clients()
    finally:
        logging.disable(logging.NOTSET)
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
        tracer_provider.shutdown()
    return outcomes


def _difference(recording: dict[str, Any], entry: dict[str, Any] | None, rows: list[dict[str, Any]]) -> str | None:
    """What differs between the truth and the row of a call; None if nothing does."""
    if len(rows) != 1:
        return f"{len(rows)} rows"
    row = rows[0]
    if entry is None:  # an HTTP error was recorded
        return None if row["price_status"] == "not_billed" else f"not an error: {row}"
    usage = {part: int(quantity) for part, quantity in row["usage"].items()}
    if usage not in recordings.readings(entry):
        return f"parts {usage}, truth {recordings.readings(entry)}"
    named = recording["provider"] == "huggingface"
    expected = {
        "provider": PROVIDERS[recording["provider"]] + (recording["path"].split("/")[1] if named else ""),
        "operation": entry["operation"],
        "response_model": entry["response_model"] or "",
        "response_id": entry["response_id"] or "",
        "service_tier": entry["service_tier"] or "",
        "stream": entry["stream"],
        "usage_status": entry["usage_status"],
    }
    if usage == recordings.readings(entry)[0]:
        expected |= {name: entry[name] for name in ("input_tokens", "output_tokens", "total_tokens")}
    if recording["provider"] == "replicate":
        expected |= {"provider": "127.0.0.1", "operation": "generate_content"}  # the driver names no host
    actual = {name: bool(row[name]) if name == "stream" else row[name] for name in expected}
    different = {name: (actual[name], expected[name]) for name in expected if actual[name] != expected[name]}
    return f"{different}" if different else None
