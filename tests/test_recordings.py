"""Every recorded call of every provider, through its real SDK into ClickHouse: each row equals the truth."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from opentelemetry.sdk.trace import TracerProvider

from spanledger.attribution import attribute
from spanledger.exporter import shipper
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.install import install
from spanledger.exporter.migrate import open_ledger
from spanledger.instrumentation import INSTRUMENTORS
from spanledger.pricing.names import canonical_provider
from spanledger.settings import settings
from tests import recordings

pytestmark = [pytest.mark.recordings, recordings.needed, pytest.mark.timeout(600)]

DRIVEN = {
    "anthropic": 227,
    "azure": 38,
    "bedrock": 259 + 13,
    "cerebras": 6,
    "cohere": 38,
    "crusoe": 4,
    "deepseek": 12,
    "google": 342,
    "groq": 60,
    "huggingface": 10,
    "mistral": 50,
    "ollama": 15 + 3,
    "openai": 691,
    "openrouter": 40,
    "replicate": 2,
    "snowflake": 3,
    "together": 6,
    "voyage": 5,
    "writer": 6,
    "zai": 6,
}
"""Provider -> at the least so many of its recordings are driven; 13 of Bedrock's and 3 of Ollama's by OpenAI's SDK."""

RAW = DRIVEN.keys() - {"bedrock", "cohere", "google", "huggingface", "mistral", "ollama", "replicate", "voyage"}
"""Providers whose SDK has `with_raw_response`."""

BY_OPENAI = ("cerebras", "groq", "huggingface", "mistral", "together")
"""Providers with an SDK of their own whose recordings are driven through OpenAI's, too."""

PASSES = {
    "sync": DRIVEN,
    "async": DRIVEN | {"bedrock": 13},
    "raw": {name: DRIVEN[name] for name in sorted(RAW)} | {"bedrock": 13, "ollama": 3},
    "by OpenAI's SDK": {name: DRIVEN[name] for name in BY_OPENAI},
    "async, google-genai over httpx": {"google": DRIVEN["google"]},
    "async, aiobotocore": {"bedrock": 259},
}
"""How the recordings are driven -> at the least how many of each provider."""

OPERATIONS = {"responses": "chat", "other": "transcription"}
"""The truth's own words for an operation -> OpenTelemetry's."""

COLUMNS = (
    "line, tags['recording'] AS recording, provider, operation, request_model, response_model, response_id, region, "
    "service_tier, stream, status, price_status, usage_status, usage, input_tokens, output_tokens, total_tokens, "
    "cost, cost_input + cost_output + cost_cache + cost_tools AS parts_cost"
)

Row = dict[str, Any]


class Pass(NamedTuple):
    """One pass over the recordings, in a ledger of its own."""

    how: str
    driven: list[dict[str, Any]]
    outcomes: list[Any]
    rows: list[Row]


@pytest.fixture(scope="module", params=list(PASSES))
def passed(
    request: pytest.FixtureRequest, clickhouse: EmbeddedClickHouse, tmp_path_factory: pytest.TempPathFactory
) -> Pass:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPANLEDGER_HOME", str(home))
        patch.setattr(shipper, "_shipper", None)
        settings.cache_clear()
        driven, outcomes = _drive(request.param)
        shipper.close()
    settings.cache_clear()
    endpoint = clickhouse.endpoint()
    assert endpoint is not None
    client = open_ledger(endpoint)
    client.command("TRUNCATE TABLE llm_calls")
    shipper.load_journal(home, client)
    found = client.query(f"SELECT {COLUMNS} FROM llm_calls FINAL")
    client.close()
    return Pass(request.param, driven, outcomes, [dict(zip(found.columns, row, strict=True)) for row in found.rows])


def _drive(how: str) -> tuple[list[dict[str, Any]], list[Any]]:
    """Make every recorded call of a pass through its SDK, instrumented into the journal."""
    driven = [_as(recording, how) for name in PASSES[how] for recording in recordings.load(name)]
    driven = [recording for recording in driven if _belongs(recording, how)]
    tracer_provider = TracerProvider()
    install(tracer_provider)
    instrumentors = [instrumentor() for instrumentor in INSTRUMENTORS]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=tracer_provider)
    outcomes = []
    try:
        with recordings.replayed(driven) as (server, call), pytest.MonkeyPatch.context() as patch:
            if how.endswith("httpx"):
                patch.setattr("google.genai._api_client.has_aiohttp", False)
            if how.endswith("aiobotocore"):
                return driven, asyncio.run(_by_aiobotocore(driven, server.url))
            for recording in driven:
                with attribute(tags={"recording": recording["id"]}):
                    outcomes.append(call(recording, mode="async" if "async" in how else "sync", raw=how == "raw"))
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
        tracer_provider.shutdown()
    return driven, outcomes


def _as(recording: dict[str, Any], how: str) -> dict[str, Any]:
    """The recording, for the driver: whatever OpenRouter's recordings are called by is OpenAI's SDK."""
    return recording | {"provider": "openrouter", "of": recording["provider"]} if how.startswith("by") else recording


def _belongs(recording: dict[str, Any], how: str) -> bool:
    """Whether a pass has it: of Bedrock and Ollama, some are called by OpenAI's SDK, and boto3 is sync alone."""
    provider, path = recording["provider"], recording["path"]
    if provider == "bedrock" and how != "sync":
        return ("/model/" in path) == how.endswith("aiobotocore")
    return not (provider == "ollama" and how == "raw") or path.startswith("/v1/")


def test_every_row_equals_the_truth(passed: Pass) -> None:
    truth = recordings.truth()
    by_recording: dict[str, list[Row]] = defaultdict(list)
    for row in passed.rows:
        by_recording[row["recording"]].append(row)
    shared_ids = Counter(truth[r["id"]]["response_id"] for r in passed.driven if r["id"] in truth)
    seen_ids: set[str] = set()
    table: dict[str, Counter[str]] = defaultdict(Counter)
    different = []
    for recording, outcome in zip(passed.driven, passed.outcomes, strict=True):
        provider = recording.get("of") or recording["provider"]
        count = table[provider]
        entry = truth.get(recording["id"])
        lines = sorted(by_recording[recording["id"]], key=lambda row: int(row["line"]))
        count["rows"] += len(lines)
        if outcome.status == "skipped":
            count["skipped"] += 1
            continue
        count["driven"] += 1
        if entry and entry["response_id"] and shared_ids[entry["response_id"]] > 1:  # one entry for all that share it
            seen_ids |= {entry["response_id"]} if lines else set()
            problem = None
        else:
            problem = _difference(recording, entry, lines)
        if not outcome.expected:
            problem = f"the SDK gave {outcome}"
        count["equal" if problem is None else "different"] += 1
        if problem:
            different.append(f"{provider} {recording['id']} {recording['path']}: {problem}")
    _print(passed.how, table)
    assert seen_ids == {name for name, n in shared_ids.items() if name and n > 1}
    assert not different, f"{len(different)} differ\n" + "\n".join(different[:40])
    least = PASSES[passed.how]
    assert {name: count["driven"] for name, count in table.items() if count["driven"] < least[name]} == {}
    assert set(table) == set(least)


def test_the_parts_cost_what_the_call_costs(passed: Pass) -> None:
    assert len(passed.rows) > len(passed.driven) * 0.9
    for row in passed.rows:
        if row["cost"] is not None:
            assert row["cost"] == row["parts_cost"], row
        else:
            assert row["price_status"] in ("unpriced", "usage_missing"), row


def _print(how: str, table: dict[str, Counter[str]]) -> None:
    columns = ("driven", "rows", "equal", "different", "skipped")
    print(f"\n{how}\n{'provider':12}" + "".join(f"{column:>10}" for column in columns))
    for provider, count in sorted(table.items()):
        print(f"{provider:12}" + "".join(f"{count[column]:10}" for column in columns))


def _difference(recording: dict[str, Any], entry: dict[str, Any] | None, rows: list[Row]) -> str | None:
    """What differs between the truth and the rows of a call; None if nothing does."""
    if "/threads/" in recording["path"]:  # a message is put into a thread: no model is called
        return f"a row: {rows}" if rows else None
    if not rows:
        return "no row"
    row, further = rows[0], rows[1:]
    if entry is None:  # an HTTP error was recorded
        right = not further and (row["price_status"], row["status"]) == ("not_billed", "error")
        return None if right else f"not an error: {rows}"
    usage = _usage(row)
    if usage not in recordings.readings(entry):
        return f"parts {usage}, truth {recordings.readings(entry)}"
    if row["usage"].get("grounded_request", 0) != (recording["provider"] == "google" and bool(usage.get("web_search"))):
        return f"grounding: {row['usage']}"
    expected = _expected(recording, entry)
    if usage == recordings.readings(entry)[0]:
        expected |= {name: entry[name] for name in ("input_tokens", "output_tokens", "total_tokens")}
    if any(note.startswith("CONTRADICTION") for note in entry["notes"]) and row["usage_status"] == "contradictory":
        del expected["usage_status"]  # which of such answers can be reconciled is the reader's to say
    actual = {name: bool(row[name]) if name == "stream" else row[name] for name in expected}
    if actual != expected:
        return f"{ {n: (actual[n], expected[n]) for n in expected if actual[n] != expected[n]} }"
    others = [(o["model"], o["parts"]) for o in entry.get("other_models") or ()]
    shares = [(line["response_model"], _usage(line)) for line in further]
    return None if shares == others else f"lines {shares}, truth {others}"


def _usage(row: Row) -> dict[str, int]:
    """The parts of a row, but for a unit of Google's bill where the truth has the searches alone."""
    return {part: int(quantity) for part, quantity in row["usage"].items() if part != "grounded_request"}


def _expected(recording: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """The columns of a call's first row, as the truth has them."""
    expected = {
        "line": 0,
        "provider": _provider(recording),
        "operation": OPERATIONS.get(entry["operation"], entry["operation"]),
        "response_model": entry["response_model"] or "",
        "response_id": entry["response_id"] or "",
        "service_tier": entry["service_tier"] or "",
        "stream": entry["stream"],
        "usage_status": entry["usage_status"],
    }
    match recording["provider"]:
        case "google":
            place = recording["path"].partition("/locations/")[2].partition("/")[0]
            expected["region"] = "" if place == "global" else place
            expected["service_tier"] = entry["service_tier"] or _tier_of_traffic(entry)
            if entry["request_model"]:
                expected["request_model"] = entry["request_model"]
        case "bedrock" if "/model/" in recording["path"]:
            expected |= {"region": _region(recording), "request_model": entry["request_model"]}
        case "replicate":
            expected["operation"] = "generate_content"
    return expected


def _provider(recording: dict[str, Any]) -> str:
    """The name that a provider's rows bear: its host's, where that is all there is."""
    path, host = recording["path"], recording["host"]
    if host.startswith(("localhost", "127.0.0.1")):
        return "ollama" if recording["provider"] == "ollama" and not path.startswith("/v1/") else "127.0.0.1"
    if "of" in recording:
        return canonical_provider(recording["of"])
    match recording["provider"]:
        case "google":
            return "gcp.vertex_ai" if "/locations/" in path else "gcp.gemini"
        case "bedrock":
            return "aws.bedrock"
        case "huggingface":
            return f"huggingface_{path.split('/')[1]}"
        case "replicate":
            return "127.0.0.1"  # the driver names no host
        case provider:
            return canonical_provider(provider)


def _region(recording: dict[str, Any]) -> str:
    return str(recording["host"].split(".")[1])


def _tier_of_traffic(entry: dict[str, Any]) -> str:
    """The truth keeps `serviceTier` alone; the tier that Vertex AI bills by is in the type of traffic."""
    return "flex" if (entry["raw_usage"] or {}).get("trafficType") == "ON_DEMAND_FLEX" else ""


class _Outcome(NamedTuple):
    status: str
    expected: bool


async def _by_aiobotocore(driven: list[dict[str, Any]], url: str) -> list[_Outcome]:
    """The driver knows boto3 alone."""
    from aiobotocore.session import get_session
    from botocore.exceptions import ClientError

    current = ""
    outcomes = {}

    def add_header(params: Any, **_: Any) -> None:
        params["headers"]["X-Recording-Id"] = current

    for region in sorted({_region(recording) for recording in driven}):
        async with get_session().create_client(
            "bedrock-runtime",
            region_name=region,
            endpoint_url=url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        ) as client:
            client.meta.events.register("before-call.bedrock-runtime", add_header)
            for recording in driven:
                if _region(recording) != region:
                    continue
                current = recording["id"]
                with attribute(tags={"recording": current}):
                    try:
                        await _call(client, recording)
                        outcomes[current] = _Outcome("ok", expected=recording["status"] < 400)
                    except ClientError:
                        outcomes[current] = _Outcome("error", expected=recording["status"] >= 400)
    return [outcomes[recording["id"]] for recording in driven]


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
