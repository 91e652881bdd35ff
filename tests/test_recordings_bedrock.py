"""Every recorded Bedrock call, by boto3 and by aiobotocore, into ClickHouse: one row a call, equal to the truth."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from botocore.exceptions import ClientError
from opentelemetry.sdk.trace import TracerProvider

from spanledger.attribution import attribute
from spanledger.exporter import shipper
from spanledger.exporter.client import Client
from spanledger.exporter.install import install
from spanledger.instrumentation import AioBotocoreInstrumentor, BotocoreInstrumentor
from tests import recordings

pytestmark = [pytest.mark.recordings, recordings.needed, pytest.mark.timeout(600)]

COLUMNS = (
    "line, tags['recording'] AS recording, provider, operation, request_model, response_model, response_id, region, "
    "service_tier, stream, status, price_status, usage_status, usage, input_tokens, output_tokens, total_tokens, "
    "cost, cost_input + cost_output + cost_cache + cost_tools AS parts_cost"
)
HEADER = "X-Recording-Id"


@pytest.fixture(autouse=True)
def no_proxy_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver puts proxies into the environment."""
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize("sdk", ["boto3", "aiobotocore"])
def test_every_row_equals_the_truth(sdk: str, ledger: Client, ledger_home: Path) -> None:
    driven = [r for r in recordings.load("bedrock") if "/model/" in r["path"]]
    _drive(driven, sdk)
    shipper.close()
    shipper.load_journal(ledger_home, ledger)
    found = ledger.query(f"SELECT {COLUMNS} FROM llm_calls FINAL")
    by_recording: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for values in found.rows:
        row = dict(zip(found.columns, values, strict=True))
        by_recording[row["recording"]].append(row)
        assert row["cost"] is None or row["cost"] == row["parts_cost"], row
    truth = recordings.truth()
    different = []
    for recording in driven:
        problem = _difference(recording, truth.get(recording["id"]), by_recording[recording["id"]])
        if problem:
            different.append(f"{recording['id']} {recording['path']}: {problem}")
    rows = sum(map(len, by_recording.values()))
    counts = {"driven": len(driven), "rows": rows, "equal": len(driven) - len(different), "different": len(different)}
    print(sdk, counts, dict(Counter(row["price_status"] for rows in by_recording.values() for row in rows)))
    assert not different, f"{len(different)} differ\n" + "\n".join(different[:40])
    assert rows == len(driven) > 250


def _drive(driven: list[dict[str, Any]], sdk: str) -> None:
    drive = recordings.driver()
    tracer_provider = TracerProvider()
    install(tracer_provider)
    instrumentors = BotocoreInstrumentor(), AioBotocoreInstrumentor()
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=tracer_provider)
    try:
        with warnings.catch_warnings(), drive.ReplayServer(driven) as server:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            if sdk == "aiobotocore":
                asyncio.run(_by_aiobotocore(driven, server))
                return
            for recording in driven:
                with attribute(tags={"recording": recording["id"]}):
                    assert drive.drive(recording, server).expected, recording["id"]
            drive.forget_clients()
    finally:
        logging.disable(logging.NOTSET)
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
        tracer_provider.shutdown()


async def _by_aiobotocore(driven: list[dict[str, Any]], server: Any) -> None:
    from aiobotocore.session import get_session

    current = ""

    def add_header(params: Any, **_: Any) -> None:
        params["headers"][HEADER] = current

    for region in sorted({_region(recording) for recording in driven}):
        async with get_session().create_client(
            "bedrock-runtime",
            region_name=region,
            endpoint_url=server.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        ) as client:
            client.meta.events.register("before-call.bedrock-runtime", add_header)
            for recording in driven:
                if _region(recording) == region:
                    current = recording["id"]
                    with attribute(tags={"recording": current}):
                        try:
                            await _call(client, recording)
                        except ClientError:
                            assert recording["status"] >= 400, recording["id"]


async def _call(client: Any, recording: dict[str, Any]) -> None:
    model, _, operation = recording["path"].removeprefix("/model/").rpartition("/")
    if operation.startswith("invoke"):
        arguments: dict[str, Any] = {"body": recording["request_body"] or b"{}"}
    else:
        arguments = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
    arguments["modelId"] = unquote(model)
    match operation:
        case "converse":
            await client.converse(**arguments)
        case "converse-stream":
            async for _ in (await client.converse_stream(**arguments))["stream"]:
                pass
        case "invoke":
            await (await client.invoke_model(**arguments))["body"].read()
        case _:
            async for _ in (await client.invoke_model_with_response_stream(**arguments))["body"]:
                pass


def _region(recording: dict[str, Any]) -> str:
    return str(recording["host"].split(".")[1])


def _difference(recording: dict[str, Any], entry: dict[str, Any] | None, rows: list[dict[str, Any]]) -> str | None:
    """What differs between the truth and the row of a call; None if nothing does."""
    if len(rows) != 1:
        return f"{len(rows)} rows"
    row = rows[0]
    if entry is None:  # an HTTP error was recorded
        return None if (row["price_status"], row["status"]) == ("not_billed", "error") else f"not an error: {row}"
    usage = {part: int(quantity) for part, quantity in row["usage"].items()}
    if usage not in recordings.readings(entry):
        return f"parts {usage}, truth {recordings.readings(entry)}"
    expected = {
        "line": 0,
        "provider": "aws.bedrock",
        "operation": entry["operation"],
        "request_model": entry["request_model"],
        "region": _region(recording),
        "response_model": entry["response_model"] or "",
        "response_id": entry["response_id"] or "",
        "service_tier": entry["service_tier"] or "",
        "stream": entry["stream"],
        "usage_status": entry["usage_status"],
    }
    if usage == recordings.readings(entry)[0]:
        expected |= {name: entry[name] for name in ("input_tokens", "output_tokens", "total_tokens")}
    actual = {name: bool(row[name]) if name == "stream" else row[name] for name in expected}
    different = {name: (actual[name], expected[name]) for name in expected if actual[name] != expected[name]}
    return f"{different}" if different else None
