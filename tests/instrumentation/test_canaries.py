"""Nothing leaks: canaries in whatever a request or an answer can hold come out nowhere.

Looked at are spans, rows, the journal's files, our logs at DEBUG and stderr. The first half goes through every wire
reader's fixtures with a canary in place of every text, the second through every SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import StatusCode

from spanledger import attributes as names
from spanledger.exporter import shipper
from spanledger.exporter.rows import encode
from spanledger.exporter.spans import LedgerSpanProcessor
from spanledger.instrumentation.span import CallSpan
from spanledger.instrumentation.wire import endpoints
from spanledger.instrumentation.wire.endpoints import Endpoint
from spanledger.settings import settings
from tests import sdks
from tests.instrumentation.conftest import Spans
from tests.instrumentation.wire import fixtures, sessions
from tests.provider import Answer, Provider
from tests.sdks import SDKS, Sdk

CANARY = "zebras in pyjamas sing at midnight"
SECRETS = ("zebras", "pyjamas", "midnight", sdks.KEY, "hunter2", "jane.doe", "AKIATESTTESTTESTTEST")
STRUCTURE = frozenset(
    {"type", "object", "event", "event_type", "role", "status", "done", "stop_reason", "finish_reason"}
)
"""Fields by which readers find their way; they get their canary when nothing else has one."""


def planted(value: Any, *, structure: bool, name: str = "") -> Any:
    """`value` with a canary for every text, and one more field in every object."""
    if isinstance(value, dict):
        return {key: planted(item, structure=structure, name=key) for key, item in value.items()} | {
            CANARY: 1,
            f"{CANARY} too": {"note": CANARY, CANARY: 7},
            "canary": CANARY,
        }
    if isinstance(value, list):
        return [planted(item, structure=structure, name=name) for item in value]
    if isinstance(value, str) and (structure or name not in STRUCTURE):
        return CANARY
    return value


def shown(span: ReadableSpan) -> str:
    """Everything that a span says."""
    events = [(event.name, dict(event.attributes or {})) for event in span.events]
    return repr((span.name, dict(span.attributes or {}), events, span.status.description, span.status.status_code))


def assert_clean(*outputs: str) -> None:
    for output in outputs:
        for secret in SECRETS:
            assert secret not in output, f"{secret!r} is in {output}"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What we log, with tracebacks."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name.startswith(("spanledger", "opentelemetry")):
                lines.append(logging.Formatter().format(record))

    keep = Keep()
    root = logging.getLogger()
    root.addHandler(keep)
    with caplog.at_level(logging.DEBUG):
        yield lines
    root.removeHandler(keep)


def readings(endpoint: Endpoint, fixture: fixtures.Fixture, *, structure: bool) -> Iterator[Any]:
    request = planted(fixture.request, structure=structure)
    if fixture.body is not None:
        yield request, endpoint.read(planted(fixture.body, structure=structure), request)
    if fixture.events is not None:
        events = [
            json.dumps(CANARY) if isinstance(event, str) else planted(event, structure=structure)
            for event in fixture.events
        ]
        yield request, fixtures.stream(endpoint, request, fixtures.lines(events))


@pytest.mark.parametrize("structure", [False, True])
@pytest.mark.parametrize("name", fixtures.names())
def test_no_reader_lets_a_canary_through(
    name: str, structure: bool, logged: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    fixture = fixtures.load(name)
    tracer = TracerProvider().get_tracer("spanledger.canary")
    for request, reading in readings(fixture.endpoint, fixture, structure=structure):
        call = CallSpan(
            tracer, operation="chat", provider="openai", request_model=CANARY, stream=False, context=Context()
        )
        call.sending({**request, "messages": CANARY})
        span: Any = call.span
        call.end(reading)
        assert_clean(shown(span), encode(span).decode())
    assert_clean(*logged, *capfd.readouterr())


def test_every_wire_format_has_fixtures_here() -> None:
    assert {fixtures.load(name).format for name in fixtures.names()} >= endpoints.FORMATS


@pytest.mark.parametrize("name", sessions.names())
def test_no_session_lets_a_canary_through(name: str) -> None:
    tracer = TracerProvider().get_tracer("spanledger.canary")
    reader = sessions.reader_of(name, sessions.load(name))
    messages = [{way: planted(said, structure=False) for way, said in each.items()} for each in sessions.messages(name)]
    play = sessions.play(reader, messages)
    for told in [call.reading for call in play.calls] + play.unanswered:
        call = CallSpan(tracer, operation="chat", provider="openai", request_model="m", stream=True, context=Context())
        call.sending({"messages": CANARY})
        span: Any = call.span
        call.end(told)
        assert_clean(shown(span), encode(span).decode())


# every SDK

HTTP = [sdk for sdk in SDKS if sdk.name != "xai"]

REFUSALS = {
    "a prompt": Answer({"error": {"message": f"Invalid prompt: {CANARY}", "type": "invalid_request_error"}}, 400),
    "in plain words": Answer({"message": f"We will not answer {CANARY} today"}, 400),
    "a list": Answer(
        {"detail": [{"loc": ["body"], "msg": "is no good", "input": CANARY, "ctx": {CANARY: CANARY}}]}, 422
    ),
    "a text": Answer(f"<html>{CANARY}</html>".encode(), 400, "text/html"),
    "secrets": Answer(
        {
            "error": {
                "message": f"Incorrect API key provided: {sdks.KEY}. Authorization: Bearer {sdks.KEY},"
                " ask jane.doe@example.com or see https://jane.doe:hunter2@example.com/?key=hunter2",
                "type": CANARY,
                "code": CANARY,
                "param": CANARY,
            }
        },
        401,
    ),
}


@pytest.fixture
def ledger_of(spans: Spans, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The spans' rows in a journal; gives all that has come out so far."""
    monkeypatch.setattr(shipper, "_shipper", None)
    spans.provider.add_span_processor(LedgerSpanProcessor())

    def outputs() -> list[str]:
        shipper.seal()
        files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
        return [*map(shown, spans.exporter.get_finished_spans()), *files]

    yield outputs
    shipper.close()


async def done(result: Any) -> Any:
    """`result`, its stream read to the end."""
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, dict):
        result = result.get("stream", result)
    with contextlib.AsyncExitStack() as stack:
        if hasattr(result, "__aenter__"):
            result = await stack.enter_async_context(result)
        elif hasattr(result, "__enter__"):
            result = stack.enter_context(result)
        if hasattr(result, "__aiter__"):
            async for _ in result:
                pass
        elif hasattr(result, "__next__") or type(result).__name__.endswith("Stream"):
            for _ in result:
                pass


def use(sdk: Sdk, url: str, call: Any) -> None:
    """Make a call with a canary; what the SDK raises is the program's."""
    with contextlib.suppress(Exception):
        if sdk.make is not None:
            asyncio.run(done(call(sdk.make(url), CANARY)))
            return
        assert sdk.make_async is not None
        make = sdk.make_async

        async def main() -> None:
            client = make(url)
            if hasattr(client, "__aenter__"):
                async with client as entered:
                    await done(call(entered, CANARY))
            else:
                await done(call(client, CANARY))

        asyncio.run(main())


@pytest.mark.parametrize("sdk", HTTP, ids=lambda sdk: sdk.name)
def test_no_sdk_lets_a_canary_through(
    sdk: Sdk, provider: Provider, ledger_of: Any, logged: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(sdk.module)
    body = json.loads(json.dumps(sdk.body(1)).replace("hello", CANARY)) | {"x_note": {"note": CANARY}}
    provider.say(Answer(body, headers={"x-note": CANARY, "request-id": "req_1"}))
    use(sdk, provider.url, sdk.ask)
    if sdk.stream is not None:
        pieces = sdk.pieces(2, 3)
        if sdk.content_type.startswith("text/") or "json" in sdk.content_type:
            pieces = [piece.replace(b"word ", f"{CANARY} ".encode()) for piece in pieces]
        provider.say(Answer(chunks=pieces, content_type=sdk.content_type))
        use(sdk, provider.url, sdk.stream)
    good = len(ledger_of())
    assert good >= 2, "no call was recorded"
    for refusal in REFUSALS.values():
        provider.say(refusal)
        use(sdk, provider.url, sdk.ask)
    if sdk.stream is not None:
        provider.say(Answer(chunks=[b"data: {", CANARY.encode()], content_type=sdk.content_type, drop=True))
        use(sdk, provider.url, sdk.stream)
    found = ledger_of()
    assert sum('"status":"error"' in line for output in found for line in output.splitlines()) >= len(REFUSALS)
    captured = capfd.readouterr()
    assert_clean(*found, *logged, captured.err)


# xai-sdk, which speaks gRPC


def filled(kind: Any, choice: int, depth: int = 6) -> Any:
    """A protobuf message with a canary in every text; of alternatives it has the one with this number."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        alternatives = field.containing_oneof.fields if field.containing_oneof else [field]
        if alternatives[choice % len(alternatives)] is not field:
            continue
        if field.message_type is not None:
            if depth == 0:
                continue
            nested = filled(field.message_type._concrete_class, choice, depth - 1)
            if field.message_type.GetOptions().map_entry:
                of = getattr(message, field.name)
                if field.message_type.fields_by_name["value"].message_type is None:
                    of[nested.key] = nested.value
                else:
                    of[nested.key].CopyFrom(nested.value)
                continue
            value = nested
        elif field.enum_type is not None:
            value = min(1, len(field.enum_type.values) - 1)  # DONE, of what may be pending
        elif field.cpp_type == field.CPPTYPE_STRING:
            value = CANARY.encode() if field.type == field.TYPE_BYTES else CANARY
        else:
            value = 1
        held = getattr(message, field.name)
        if hasattr(held, "extend"):
            held.extend([value])
        elif field.message_type is not None:
            held.CopyFrom(value)
        else:
            setattr(message, field.name, value)
    return message


@pytest.mark.parametrize("choice", range(3))
def test_no_message_of_xai_lets_a_canary_through(
    choice: int,
    monkeypatch: pytest.MonkeyPatch,
    ledger_of: Any,
    logged: list[str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Every method of every service that xAI bills, answered and refused."""
    xai_sdk = pytest.importorskip("xai_sdk")
    import grpc

    from tests.grpc_provider import SERVICES, GrpcProvider

    with (
        GrpcProvider() as server,
        contextlib.closing(xai_sdk.Client(api_key=sdks.KEY, api_host=server.host, use_insecure_channel=True)) as client,
    ):
        monkeypatch.setenv("SPANLEDGER_HOSTS", f"{server.host}=x_ai")
        settings.cache_clear()
        for service, module, stubs in SERVICES:
            stub = getattr(stubs, f"{service}Stub")(client._api_channel)
            for method in module.DESCRIPTOR.services_by_name[service].methods:
                request = filled(method.input_type._concrete_class, choice)
                answer = filled(method.output_type._concrete_class, choice)
                refusal = (grpc.StatusCode.INVALID_ARGUMENT, f"Invalid prompt: {CANARY}. API key provided: {sdks.KEY}")
                for said in (answer, refusal):
                    server.say(method.name, [said] if method.name.endswith("Chunk") else said)
                    with contextlib.suppress(grpc.RpcError):
                        outcome = getattr(stub, method.name)(request)
                        for _ in outcome if method.name.endswith("Chunk") else ():
                            pass
    found = ledger_of()
    rows = [line for output in found for line in output.splitlines() if '"provider":"x_ai"' in line]
    assert len(rows) >= 8
    assert sum('"status":"error"' in row for row in rows) >= 4
    captured = capfd.readouterr()
    assert_clean(*found, *logged, captured.err)


@pytest.mark.parametrize(
    "attribute",
    [
        *("gen_ai.prompt", "gen_ai.completion", "gen_ai.input.messages", "gen_ai.output.messages"),
        *("gen_ai.system_instructions", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"),
        *("gen_ai.prompt.0.content", "gen_ai.completion.0.content", "llm.prompts.0.content"),
        *("llm.input_messages.0.message.content", "llm.output_messages.0.message.content", "input.value"),
        *("output.value", "ai.prompt", "ai.prompt.messages", "ai.response.text", "ai.response.toolCalls"),
        *("langfuse.observation.input", "langfuse.observation.output", "traceloop.entity.input"),
        *("traceloop.entity.output", "logfire.msg", "request_data", "response_data", "all_messages_events"),
        *("gen_ai.usage.input_tokens", "gen_ai.response.id", "gen_ai.response.model", "gen_ai.request.model"),
        *("gen_ai.response.finish_reasons", "error.type", "gen_ai.response.service_tier", "exception.message"),
        names.USAGE_RAW,
        names.USAGE_REASONS,
        names.ERROR_MESSAGE,
        names.REGION,
        names.PROCESSING,
    ],
)
@pytest.mark.parametrize(
    "scope",
    [
        *("spanledger.openai", "opentelemetry.instrumentation.openai_v2", "openinference.instrumentation.openai"),
        *("opentelemetry.instrumentation.openai", "openlit.instrumentation.openai", "logfire.openai", "pydantic-ai"),
        *("ai", "langsmith", "langfuse-sdk", "litellm", "xai_sdk", "somebody.else"),
    ],
)
def test_no_dialect_keeps_content(scope: str, attribute: str) -> None:
    tracer = TracerProvider().get_tracer(scope)
    said = json.dumps({CANARY: CANARY, "a": {"b": f"Invalid prompt: {CANARY}"}})
    span: Any = tracer.start_span(
        CANARY,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.output_tokens": 3,
            "openinference.span.kind": "LLM",
            "llm.request.type": "chat",
            "ai.operationId": "ai.generateText.doGenerate",
            attribute: f"Invalid prompt: {CANARY}" if attribute == names.ERROR_MESSAGE else said,
        },
    )
    span.add_event(CANARY, {"content": CANARY})
    span.set_status(StatusCode.ERROR, CANARY)
    span.end()
    assert_clean(encode(span).decode())
