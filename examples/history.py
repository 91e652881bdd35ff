"""Turns what another tool has stored into OTLP spans and sends them to the collector, which makes ledger rows of them.

    python history.py litellm < spend-logs.jsonl
    python history.py langfuse < observations.jsonl
    python history.py otel-traces < otel_traces.jsonl
    python history.py otlp < traces.jsonl

Each line of the standard input is a JSON object. Calls keep their time, are priced at it, and make one row each,
however often they are sent: their ids are the stored ones, or made of them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from itertools import islice
from typing import Any

Json = dict[str, Any]

PROVIDERS = {"claude-": "anthropic", "gemini-": "gcp.gemini", "gpt-": "openai", "o1": "openai", "o3": "openai"}
"""Langfuse does not store who answered: what a model's name begins with, and its provider. Add your own."""

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def ns(text: str) -> int:
    """Nanoseconds since the epoch of a time that is UTC unless it says otherwise."""
    found = re.fullmatch(r"(.{19})(?:\.(\d{1,9})\d*)?(.*)", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no time: use 2026-11-22T16:53:19.721Z")
    whole, places, zone = found.groups()
    at = datetime.fromisoformat(whole + (zone.replace("Z", "+00:00") or "+00:00"))
    return (at - EPOCH) // timedelta(seconds=1) * 10**9 + int((places or "").ljust(9, "0"))


def from_litellm(stored: Json) -> Json | None:
    """A row of the proxy's table `LiteLLM_SpendLogs`; answers out of its cache, and failures, were not billed."""
    if str(stored.get("cache_hit")).lower() == "true" or stored.get("status") == "failure":
        return None
    metadata = stored.get("metadata") or {}
    metadata = json.loads(metadata) if isinstance(metadata, str) else metadata
    usage = metadata.get("usage_object") or {}
    read = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    tells_cache = {"litellm.call_type": stored["call_type"]} if usage else {"llm.request.type": stored["call_type"]}
    return span(
        scope="litellm",
        trace=stored["request_id"],
        start=stored["startTime"],
        end=stored["endTime"],
        attributes={
            **tells_cache,
            "gen_ai.operation.name": stored["call_type"],
            "gen_ai.system": stored.get("custom_llm_provider"),
            "gen_ai.request.model": stored.get("model"),
            "gen_ai.response.id": stored["request_id"],
            "gen_ai.usage.input_tokens": stored["prompt_tokens"],
            "gen_ai.usage.output_tokens": stored["completion_tokens"],
            "gen_ai.usage.cache_read.input_tokens": usage.get("cache_read_input_tokens", read),
            "gen_ai.usage.cache_creation.input_tokens": usage.get("cache_creation_input_tokens"),
            "gen_ai.cost.total_cost": stored.get("spend"),
            "metadata.user_api_key_alias": metadata.get("user_api_key_alias"),
            "metadata.user_api_key_team_alias": metadata.get("user_api_key_team_alias") or stored.get("team_id"),
            "metadata.user_api_key_end_user_id": stored.get("end_user") or stored.get("user"),
            "session.id": stored.get("session_id"),
        },
    )


def from_langfuse(stored: Json) -> Json | None:
    """An observation of Langfuse's blob storage export."""
    if stored["type"].lower() not in ("generation", "embedding"):
        return None
    model = stored.get("provided_model_name") or ""
    usage = stored.get("usage_details") or {}
    if "output" in usage:  # what was stored is disjoint; the spans of Langfuse have reasoning inside the output
        usage = {**usage, "output": int(usage["output"]) + int(usage.get("output_reasoning_tokens", 0))}
    provider = next((name for begin, name in PROVIDERS.items() if model.startswith(begin)), None)
    return span(
        scope="langfuse-sdk",
        trace=stored["trace_id"],
        own=stored["id"],
        parent=stored.get("parent_observation_id"),
        start=stored["start_time"],
        end=stored.get("end_time") or stored["start_time"],
        resource={"deployment.environment.name": stored.get("environment")},
        attributes={
            "langfuse.observation.type": stored["type"].lower(),
            "langfuse.observation.model.name": model,
            "langfuse.observation.usage_details": json.dumps({name: int(count) for name, count in usage.items()}),
            "langfuse.observation.cost_details": json.dumps({"total": stored.get("total_cost")}),
            "langfuse.observation.prompt.name": stored.get("prompt_name"),
            "langfuse.trace.name": stored.get("trace_name"),
            "gen_ai.provider.name": provider,
            "user.id": stored.get("user_id"),
            "session.id": stored.get("session_id"),
        },
    )


def from_otel_traces(stored: Json) -> Json:
    """A row of the table `otel_traces` that the OpenTelemetry Collector's ClickHouse exporter writes, OpenLIT's too."""
    attributes = stored["SpanAttributes"]
    return span(
        scope=stored["ScopeName"],
        version=stored.get("ScopeVersion"),
        trace=stored["TraceId"],
        own=stored["SpanId"],
        parent=stored.get("ParentSpanId"),
        start=stored["Timestamp"],
        duration_ns=int(stored["Duration"]),
        resource=stored.get("ResourceAttributes"),
        attributes={name: typed(value) for name, value in attributes.items()},
    )


def from_otlp(stored: Json) -> Json:
    """A line of the OpenTelemetry Collector's file exporter: sent as it is."""
    return stored


def typed(text: str) -> Any:
    """That table keeps every value as a text."""
    if text in ("true", "false"):
        return text == "true"
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else text


def span(
    *,
    scope: str,
    trace: str,
    start: str,
    attributes: Json,
    end: str = "",
    duration_ns: int = 0,
    own: str = "",
    parent: str | None = "",
    version: str | None = "",
    resource: Json | None = None,
) -> Json:
    """An OTLP request with one span."""
    began = ns(start)
    made = {
        "traceId": hexadecimal(trace, 32),
        "spanId": hexadecimal(own or trace, 16),
        "parentSpanId": hexadecimal(parent, 16) if parent else "",
        "name": "history",
        "startTimeUnixNano": str(began),
        "endTimeUnixNano": str(ns(end) if end else began + duration_ns),
        "attributes": pairs(attributes),
    }
    within = {"scope": {"name": scope, "version": version or ""}, "spans": [made]}
    return {"resourceSpans": [{"resource": {"attributes": pairs(resource or {})}, "scopeSpans": [within]}]}


def hexadecimal(stored: str, digits: int) -> str:
    """An id of the right form: itself, or a hash of it."""
    bare = stored.replace("-", "").lower()
    return bare if re.fullmatch(rf"[0-9a-f]{{{digits}}}", bare) else sha256(stored.encode()).hexdigest()[:digits]


def pairs(attributes: Json) -> list[Json]:
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
    return [
        {"key": name, "value": {kinds[type(value)]: str(value) if type(value) is int else value}}
        for name, value in attributes.items()
        if type(value) in kinds and value != ""
    ]


READERS: dict[str, Callable[[Json], Json | None]] = {
    "langfuse": from_langfuse,
    "litellm": from_litellm,
    "otel-traces": from_otel_traces,
    "otlp": from_otlp,
}


def requests(lines: Iterable[str], read: Callable[[Json], Json | None], most: int = 500) -> Iterator[bytes]:
    """Bodies of up to so many lines each."""
    made = (found for line in lines if line.strip() and (found := read(json.loads(line))) is not None)
    while several := list(islice(made, most)):
        yield json.dumps({"resourceSpans": [each for one in several for each in one["resourceSpans"]]}).encode()


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("tool", choices=READERS)
    asked.add_argument("--to", default="http://127.0.0.1:14318", help="the collector")
    chosen = asked.parse_args()
    for number, body in enumerate(requests(sys.stdin, READERS[chosen.tool]), 1):
        request = urllib.request.Request(f"{chosen.to}/v1/traces", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            print(f"request {number}: {answer.status} {answer.read().decode()}")


if __name__ == "__main__":
    main()
