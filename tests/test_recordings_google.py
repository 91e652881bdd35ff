"""Every recorded call of google-genai, through it into ClickHouse, by httpx and by aiohttp: rows equal the truth."""

from __future__ import annotations

import logging
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from spanledger.attribution import attribute
from spanledger.exporter import shipper
from spanledger.exporter.client import Client
from spanledger.exporter.install import install
from spanledger.instrumentation import GoogleGenAIInstrumentor
from tests import recordings

pytestmark = [pytest.mark.recordings, recordings.needed, pytest.mark.timeout(600)]

COLUMNS = (
    "line, tags['recording'] AS recording, provider, operation, request_model, response_model, response_id, "
    "service_tier, stream, price_status, usage_status, usage, input_tokens, output_tokens, total_tokens, region, "
    "cost, cost_input + cost_output + cost_cache + cost_tools AS parts_cost"
)


@pytest.mark.parametrize("how", ["sync", "async by aiohttp", "async by httpx"])
def test_every_row_equals_the_truth(
    how: str, ledger: Client, ledger_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.genai import _api_client

    monkeypatch.setattr(_api_client, "has_aiohttp", how == "async by aiohttp")
    driven = recordings.load("google")
    outcomes = _drive(driven, how.partition(" ")[0])
    shipper.close()
    shipper.load_journal(ledger_home, ledger)
    found = ledger.query(f"SELECT {COLUMNS} FROM llm_calls FINAL")
    by_recording: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for values in found.rows:
        row = dict(zip(found.columns, values, strict=True))
        by_recording[row["recording"]].append(row)
        assert row["cost"] is None or row["cost"] == row["parts_cost"], row
    truth = recordings.truth()
    skipped = 0
    different = []
    for recording, outcome in zip(driven, outcomes, strict=True):
        if outcome.status == "skipped":
            skipped += 1
            continue
        problem = _difference(recording, truth.get(recording["id"]), by_recording[recording["id"]])
        if problem:
            different.append(f"{recording['id']}: {problem}")
    count = len(driven) - skipped
    print(f"{how}: driven {count}, rows {len(found.rows)}, different {len(different)}, skipped {skipped}")
    assert not different, f"{len(different)} differ\n" + "\n".join(different[:40])
    assert count == len(found.rows) > 300


def _drive(driven: list[dict[str, Any]], mode: str) -> list[Any]:
    drive = recordings.driver()
    tracer_provider = TracerProvider()
    install(tracer_provider)
    GoogleGenAIInstrumentor().instrument(tracer_provider=tracer_provider)
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
        GoogleGenAIInstrumentor().uninstrument()
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
    grounded = usage.pop("grounded_request", 0)  # a unit of the bill, where the truth has the searches alone
    if usage not in recordings.readings(entry) or grounded != bool(usage.get("web_search")):
        return f"parts {usage}, truth {recordings.readings(entry)}"
    place = recording["path"].partition("/locations/")[2].partition("/")[0]
    expected = {
        "provider": "gcp.vertex_ai" if place else "gcp.gemini",
        "region": "" if place == "global" else place,
        "operation": entry["operation"],
        "response_model": entry["response_model"] or "",
        "response_id": entry["response_id"] or "",
        "service_tier": entry["service_tier"] or _tier_of_traffic(entry),
        "stream": entry["stream"],
        "usage_status": entry["usage_status"],
    }
    if entry["request_model"]:
        expected["request_model"] = entry["request_model"]
    expected |= {name: entry[name] or 0 for name in ("input_tokens", "output_tokens", "total_tokens")}
    actual = {name: bool(row[name]) if name == "stream" else row[name] or 0 for name in expected}
    expected = {name: value or 0 for name, value in expected.items()}
    different = {name: (actual[name], expected[name]) for name in expected if actual[name] != expected[name]}
    return f"{different}" if different else None


def _tier_of_traffic(entry: dict[str, Any]) -> str:
    """The truth keeps `serviceTier` alone; the tier that Vertex AI bills by is in the type of traffic."""
    return "flex" if (entry["raw_usage"] or {}).get("trafficType") == "ON_DEMAND_FLEX" else ""
