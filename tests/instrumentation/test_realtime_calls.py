"""Sessions over a WebSocket through the real openai: what each call's span says, and that the program gets the same."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import openai
import pytest
from opentelemetry import trace
from websockets.exceptions import ConnectionClosedError

from spanledger import attributes as names
from spanledger.attribution import attribute
from spanledger.instrumentation import OpenAIInstrumentor
from spanledger.instrumentation.keys import hash_key
from spanledger.instrumentation.patches import openai as openai_patch
from spanledger.instrumentation.sdks import OPENAI
from spanledger.instrumentation.wire import openai_realtime
from spanledger.settings import settings
from spanledger.tracking import cost_of, track
from tests.instrumentation.conftest import Spans
from tests.instrumentation.wire.sessions import messages, said
from tests.socket_provider import Peer, SocketProvider, following

KEY = "sk-test-0123456789abcdef"
FIRST, SECOND = "resp_CCXHw0UJld10EzIUXQCNh", "resp_CCXIk3PsYyVXFvPQ8BLsP"
FIRST_COST = "0.0069656"  # (55 x 4 + 64 x 0.4 + 13 x 32 + 30 x 16 + 91 x 64) / 10^6
SECOND_COST = "0.012432"  # (52 x 4 + (128 + 192) x 0.4 + 58 x 32 + 40 x 16 + 150 x 64) / 10^6


@pytest.fixture
def server() -> Iterator[SocketProvider]:
    with SocketProvider() as server:
        yield server


@pytest.fixture(autouse=True)
def at_openai(own_settings: None, monkeypatch: pytest.MonkeyPatch, server: SocketProvider) -> None:
    called(monkeypatch, server, "openai")


def called(monkeypatch: pytest.MonkeyPatch, server: SocketProvider, provider: str) -> None:
    """The server on loopback is `provider`'s; the empty one leaves it a stranger."""
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{server.host}={provider}" if provider else "")
    settings.cache_clear()


def client(server: SocketProvider) -> openai.OpenAI:
    skip_without_sessions()
    return openai.OpenAI(api_key=KEY, websocket_base_url=f"ws://{server.host}/v1")


def aclient(server: SocketProvider) -> openai.AsyncOpenAI:
    skip_without_sessions()
    return openai.AsyncOpenAI(api_key=KEY, websocket_base_url=f"ws://{server.host}/v1")


def skip_without_sessions() -> None:
    if not hasattr(openai.OpenAI, "realtime"):
        pytest.skip(f"openai {openai.__version__} has its sessions elsewhere, or none")


def heard(connection: Any, name: str) -> list[Any]:
    """What the program gets when it plays its side of a session."""
    seen = []
    for message in messages(name):
        if "sent" in message:
            connection.send(message["sent"])
        else:
            seen.append(connection.recv())
    return seen


async def aheard(connection: Any, name: str) -> list[Any]:
    seen = []
    for message in messages(name):
        if "sent" in message:
            await connection.send(message["sent"])
        else:
            seen.append(await connection.recv())
    return seen


def converse(server: SocketProvider, mode: str, name: str, options: dict[str, Any]) -> list[Any]:
    """A session of `client.<mode's resource>.connect(**options)`, sync or async."""
    kind, _, path = mode.partition(" ")

    def resource(of: Any) -> Any:
        for each in path.split("."):
            of = getattr(of, each, None)
        if not hasattr(of, "connect"):
            pytest.skip(f"openai {openai.__version__} has no {path}.connect")
        return of

    async def main() -> list[Any]:
        async with aclient(server) as own, resource(own).connect(**options) as connection:
            return await aheard(connection, name)

    if kind == "async":
        return asyncio.run(main())
    with resource(client(server)).connect(**options) as connection:
        return heard(connection, name)


def parts(span: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = json.loads(span[names.USAGE_PARTS])
    return found


REALTIME = ["sync realtime", "async realtime", "sync beta.realtime", "async beta.realtime"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize("mode", REALTIME)
def test_each_response_of_a_conversation_is_a_call(server: SocketProvider, spans: Spans, mode: str) -> None:
    server.play(following(messages("openai_realtime/turns")))
    with track() as tracked:
        events = converse(server, mode, "openai_realtime/turns", {"model": "gpt-realtime"})
    assert [event.type for event in events] == [event["type"] for event in said("openai_realtime/turns")]
    assert server.paths == ["/v1/realtime?model=gpt-realtime"]
    first, second = spans.each()
    assert [parts(span)["output_audio"] for span in (first, second)] == [91, 150]
    assert [span[names.RESPONSE_ID] for span in (first, second)] == [FIRST, SECOND]
    assert [span[names.COST] for span in (first, second)] == [FIRST_COST, SECOND_COST]
    assert (first[names.USAGE_STATUS], first[names.COST_STATUS]) == ("reported", "priced")
    assert (first[names.OPERATION], first[names.PROVIDER], first[names.REQUEST_STREAM]) == ("chat", "openai", True)
    assert first[names.RESPONSE_MODEL] == "gpt-realtime-2025-08-28"
    assert first[names.API_KEY_HASH] == hash_key(KEY)[0]
    assert (first[names.SERVER_ADDRESS], first[names.SERVER_PORT]) == ("127.0.0.1", int(server.host.split(":")[1]))
    assert first[names.TIME_TO_FIRST_TOKEN_NS] > 0
    assert tracked.calls == 2
    assert cost_of(events[-1].response) is not None
    told = "".join(span.to_json() for span in spans.all())
    assert all(secret not in told for secret in (KEY, "AAAA", "Say "))
    assert {span.kind for span in spans.all()} == {trace.SpanKind.CLIENT}


@pytest.mark.parametrize("mode", REALTIME)
def test_the_program_gets_what_it_gets_without_us(server: SocketProvider, mode: str) -> None:
    server.play(following(messages("openai_realtime/turns")))
    alone = converse(server, mode, "openai_realtime/turns", {"model": "gpt-realtime"})
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument()
    try:
        watched = converse(server, mode, "openai_realtime/turns", {"model": "gpt-realtime"})
    finally:
        instrumentor.uninstrument()
    assert watched == alone
    assert [type(event) for event in watched] == [type(event) for event in alone]


def test_a_raw_message_is_the_providers_own(server: SocketProvider, spans: Spans) -> None:
    server.play(following(messages("openai_realtime/cancelled")))
    with client(server).realtime.connect(model="gpt-realtime") as connection:
        raw = [connection.recv_bytes() for _ in said("openai_realtime/cancelled")]
    assert raw == [json.dumps(event).encode() for event in said("openai_realtime/cancelled")]
    assert spans.one()[names.FINISH_REASONS] == ("turn_detected",)


def test_a_response_belongs_to_who_asked_for_it_and_others_to_who_opened_the_session(
    server: SocketProvider, spans: Spans
) -> None:
    tracer = spans.provider.get_tracer("program")
    server.play(following(messages("openai_realtime/turns")))
    with attribute(tenant="opener", user="u-1"), tracer.start_as_current_span("open") as opening:
        connection = client(server).realtime.connect(model="gpt-realtime").enter()
    with attribute(tenant="asker"), tracer.start_as_current_span("ask") as asking:
        connection.response.create()
    with attribute(tenant="reader"), tracer.start_as_current_span("read"):
        for _ in said("openai_realtime/turns"):
            connection.recv()
        connection.close()
    first, second = spans.all()
    assert (first.attributes or {})[names.TENANT] == "asker"
    assert first.parent is not None
    assert first.parent.span_id == asking.get_span_context().span_id
    assert names.USER_ID not in (first.attributes or {})
    assert ((second.attributes or {})[names.TENANT], (second.attributes or {})[names.USER_ID]) == ("opener", "u-1")
    assert second.parent is not None
    assert second.parent.span_id == opening.get_span_context().span_id


def test_who_asks_without_a_context_of_its_own_asks_for_who_opened_the_session(
    server: SocketProvider, spans: Spans
) -> None:
    tracer = spans.provider.get_tracer("program")
    server.play(following(messages("openai_realtime/broken_off")))
    with attribute(tenant="opener"), tracer.start_as_current_span("open") as opening:
        connection = client(server).realtime.connect(model="gpt-realtime").enter()
    sender = threading.Thread(target=connection.response.create)
    sender.start()
    sender.join()
    for _ in said("openai_realtime/broken_off"):
        connection.recv()
    connection.close()
    (span,) = spans.all()
    assert (span.attributes or {})[names.TENANT] == "opener"
    assert span.parent is not None
    assert span.parent.span_id == opening.get_span_context().span_id


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_session_that_is_lost_in_the_middle_of_a_response(server: SocketProvider, spans: Spans, mode: str) -> None:
    server.play(following(messages("openai_realtime/broken_off"), Peer.break_off))

    async def main() -> None:
        async with aclient(server) as own, own.realtime.connect(model="gpt-realtime") as connection:
            await connection.response.create()
            with pytest.raises(ConnectionClosedError):
                async for _ in connection:
                    pass

    if mode == "async":
        asyncio.run(main())
    else:
        with client(server).realtime.connect(model="gpt-realtime") as connection:
            connection.response.create()
            with pytest.raises(ConnectionClosedError):
                for _ in connection:
                    pass
    span = spans.one()
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS]) == ("missing", "usage_missing")
    assert (span[names.RESPONSE_ID], span["error.type"]) == (FIRST, "ConnectionClosedError")


def test_a_session_that_is_closed_in_the_middle_of_a_response(server: SocketProvider, spans: Spans) -> None:
    server.play(following(messages("openai_realtime/broken_off")))
    converse(server, "sync realtime", "openai_realtime/broken_off", {"model": "gpt-realtime"})
    span = spans.one()
    assert (span[names.USAGE_STATUS], span[names.RESPONSE_ID]) == ("missing", FIRST)
    assert "error.type" not in span


def test_a_session_that_the_program_lets_go_of(server: SocketProvider, spans: Spans) -> None:
    done = threading.Event()
    server.play(following(messages("openai_realtime/broken_off"), lambda _: done.set()))
    connection = client(server).realtime.connect(model="gpt-realtime").enter()
    heard(connection, "openai_realtime/broken_off")
    assert done.wait(10)
    connection._connection.recv_events_thread.join(10)
    del connection
    gc.collect()
    assert spans.one()[names.USAGE_STATUS] == "missing"


AT_EXIT = """
import sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from spanledger.instrumentation import OpenAIInstrumentor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None))))
OpenAIInstrumentor().instrument(tracer_provider=provider)
import openai

connection = openai.OpenAI(api_key="k", websocket_base_url=sys.argv[1]).realtime.connect(model="gpt-realtime").enter()
connection.response.create()
while connection.recv().type != "response.created":
    pass
"""


def test_a_session_that_is_open_when_the_program_ends(server: SocketProvider) -> None:
    skip_without_sessions()
    server.play(following(messages("openai_realtime/broken_off")))
    ran = subprocess.run(
        [sys.executable, "-c", AT_EXIT, f"ws://{server.host}/v1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    span = json.loads(ran.stdout)["attributes"]
    assert (span[names.USAGE_STATUS], span[names.RESPONSE_ID]) == ("missing", FIRST)


def test_a_request_that_is_never_answered(server: SocketProvider, spans: Spans) -> None:
    server.play(following(messages("openai_realtime/unanswered")))
    with attribute(tenant="asker"):
        converse(server, "sync realtime", "openai_realtime/unanswered", {"model": "gpt-realtime"})
    span = spans.one()
    assert (span[names.USAGE_STATUS], span[names.TENANT]) == ("missing", "asker")
    assert span[names.REQUEST_MODEL] == "gpt-realtime-2025-08-28"
    assert names.RESPONSE_MODEL not in span


def test_a_request_that_is_refused_costs_nothing(server: SocketProvider, spans: Spans) -> None:
    server.play(following(messages("openai_realtime/refused")))
    converse(server, "sync realtime", "openai_realtime/refused", {"model": "gpt-realtime"})
    refused, *others = spans.each()
    assert (refused[names.COST_STATUS], refused["error.type"]) == (
        "not_billed",
        "conversation_already_has_active_response",
    )
    assert [span[names.COST] for span in others] == [FIRST_COST, SECOND_COST]


def test_a_message_that_is_waited_for_in_vain_ends_nothing(server: SocketProvider, spans: Spans) -> None:
    go_on = threading.Event()
    first, *rest = said("openai_realtime/cancelled")

    def script(peer: Peer) -> None:
        peer.say(first, rest[0])
        assert go_on.wait(10)
        peer.say(*rest[1:])
        peer.wait()

    async def main() -> None:
        async with aclient(server) as own, own.realtime.connect(model="gpt-realtime") as connection:
            await connection.recv()
            await connection.recv()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(connection.recv(), 0.01)
            assert not spans.all()
            go_on.set()
            for _ in rest[1:]:
                await connection.recv()

    server.play(script)
    asyncio.run(main())
    assert spans.one()[names.USAGE_STATUS] == "reported"


def test_a_session_that_reconnects_is_watched_on(server: SocketProvider, spans: Spans) -> None:
    lost = following(messages("openai_realtime/turns"), Peer.break_off)
    server.play(lost, following(messages("openai_realtime/cancelled")))
    seen = []
    options: dict[str, Any] = {"on_reconnecting": lambda _: None, "initial_delay": 0.001}
    realtime = client(server).realtime
    if "on_reconnecting" not in inspect.signature(realtime.connect).parameters:
        pytest.skip(f"openai {openai.__version__} does not reconnect")
    with realtime.connect(model="gpt-realtime", **options) as connection:
        connection.response.create()
        for event in connection:
            seen.append(event.type)
            if seen.count("response.done") == 3:
                break
    assert len(server.paths) == 2
    assert [parts(span)["output_audio"] for span in spans.each()] == [91, 150, 36]


def test_what_the_user_said_is_transcribed_by_a_model_of_its_own(server: SocketProvider, spans: Spans) -> None:
    server.play(following(messages("openai_realtime/transcription_by_tokens")))
    converse(server, "sync realtime", "openai_realtime/transcription_by_tokens", {"model": "gpt-realtime"})
    transcription, response = spans.each()
    assert (transcription[names.OPERATION], transcription[names.REQUEST_MODEL]) == (
        "transcription",
        "gpt-4o-transcribe",
    )
    assert parts(transcription) == {"input_audio": 13, "input": 4, "output": 9}
    assert transcription[names.COST] == "0.000178"  # (13 x 6 + 4 x 2.5 + 9 x 10) / 10^6
    assert response[names.COST] == FIRST_COST


def test_a_transcription_session_by_the_second(server: SocketProvider, spans: Spans) -> None:
    name = "openai_realtime/transcription_by_seconds"
    server.play(following(messages(name)))
    converse(server, "async realtime", name, {"model": "gpt-realtime", "extra_query": {"intent": "transcription"}})
    found = spans.each()
    assert [span[names.COST] for span in found] == [
        "0.000920833333333333",  # 3.25 s at 1.02 an hour
        "0.001133333333333333",
        "0.000283333333333333",
    ]
    assert len({span[names.RESPONSE_ID] for span in found}) == 3


def test_azure_names_the_deployment_and_the_session_its_model(
    server: SocketProvider, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    called(monkeypatch, server, "")
    server.play(following(messages("openai_realtime/turns")))
    azure = openai.AzureOpenAI(
        api_key=KEY,
        azure_endpoint=f"http://{server.host}",
        websocket_base_url=f"ws://{server.host}/openai",
        api_version="2025-04-01-preview",
    )
    with azure.realtime.connect(model="my-voice") as connection:
        heard(connection, "openai_realtime/turns")
    first, _ = spans.each()
    assert (first[names.PROVIDER], first[names.REQUEST_MODEL]) == ("azure.ai.openai", "my-voice")
    assert first[names.RESPONSE_MODEL] == "gpt-realtime-2025-08-28"
    assert first[names.API_KEY_HASH] == hash_key(KEY)[0]
    assert first[names.COST_STATUS] == "priced"


@pytest.mark.parametrize(("host", "name"), [("x_ai", "x_ai"), ("", "127.0.0.1")])
def test_a_compatible_server_is_told_by_its_host(
    server: SocketProvider, spans: Spans, monkeypatch: pytest.MonkeyPatch, host: str, name: str
) -> None:
    called(monkeypatch, server, host)
    server.play(following(messages("openai_realtime/cancelled")))
    converse(server, "sync realtime", "openai_realtime/cancelled", {"model": "grok-voice"})
    assert (spans.one()[names.PROVIDER], spans.parts()["output_audio"]) == (name, 36)


RESPONSES = ["sync responses", "async responses", "sync beta.responses", "async beta.responses"]


@pytest.mark.parametrize("mode", RESPONSES)
def test_responses_over_a_websocket(server: SocketProvider, spans: Spans, mode: str) -> None:
    server.play(following(messages("openai_responses/responses")))
    events = converse(server, mode, "openai_responses/responses", {})
    assert [event.type for event in events] == [event["type"] for event in said("openai_responses/responses")]
    first, second = spans.each()
    assert (first[names.OPERATION], first[names.REQUEST_MODEL]) == ("chat", "gpt-5.4")
    assert first[names.RESPONSE_MODEL] == "gpt-5.4-2026-03-05"
    assert parts(first) == {"cache_read": 600, "input": 400, "output_reasoning": 128, "output": 72}
    assert [span[names.SERVICE_TIER] for span in (first, second)] == ["flex", "priority"]
    assert {span[names.COST_STATUS] for span in (first, second)} == {"priced"}


def test_lanes_of_one_connection(server: SocketProvider, spans: Spans) -> None:
    sdk = pytest.importorskip("openai.lib.responses_websocket")
    server.play(following(messages("openai_responses/lanes")))
    limits = sdk.ResponsesWebSocketLimits(
        max_lanes=8, max_events_per_lane=64, max_events=256, max_bytes_per_lane=1 << 20, max_bytes=1 << 22
    )
    with (
        client(server).responses.connect() as connection,
        sdk.ResponsesWebSocketSession(connection, limits=limits) as session,
    ):
        one, two = session.lane("one"), session.lane("two")
        with attribute(tenant="one"):
            one.send({"type": "response.create", "model": "gpt-5.4", "input": "Hi"})
        with attribute(tenant="two"):
            two.send({"type": "response.create", "model": "gpt-5.4-mini", "input": "Hi"})
        assert one.get_final_response(timeout=10).id.endswith("aaaa")
        assert two.get_final_response(timeout=10).id.endswith("bbbb")
    found = {span[names.TENANT]: span for span in spans.each()}
    assert (parts(found["one"])["input"], parts(found["two"])["input"]) == (400, 100)
    assert parts(found["two"])["web_search"] == 1


def test_a_refused_response_over_a_websocket(server: SocketProvider, spans: Spans) -> None:
    server.play(following(messages("openai_responses/refused")))
    converse(server, "sync responses", "openai_responses/refused", {})
    refused, answered = spans.each()
    assert (refused[names.COST_STATUS], refused["error.type"]) == ("not_billed", "previous_response_not_found")
    assert answered[names.COST_STATUS] == "priced"


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("sync live", {}),
        ("async live", {}),
        ("sync live.sideband", {"session_id": "live_sess_0123456789abcdef"}),
        ("async live.sideband", {"session_id": "live_sess_0123456789abcdef"}),
        ("sync live.forks", {"session_id": "live_sess_0123456789abcdef"}),
        ("async live.forks", {"session_id": "live_sess_0123456789abcdef"}),
    ],
)
def test_a_live_session_is_billed_by_its_last_count_of_seconds(
    server: SocketProvider, spans: Spans, mode: str, options: dict[str, Any]
) -> None:
    server.play(following(messages("openai_live/session")))
    converse(server, mode, "openai_live/session", options)
    span = spans.one()
    assert json.loads(span[names.USAGE_PARTS], parse_float=str) == {"audio_second": "90.5"}
    assert span[names.COST] == "0.075416666666666667"  # 90.5 s at 3 an hour
    assert (span[names.RESPONSE_MODEL], span[names.FINISH_REASONS]) == ("gpt-live-1", ("close_requested",))


def test_a_live_session_that_is_closed_before_its_last_count(server: SocketProvider, spans: Spans) -> None:
    server.play(following(messages("openai_live/broken_off")))
    converse(server, "sync live", "openai_live/broken_off", {})
    assert spans.one()[names.USAGE_STATUS] == "incomplete"
    assert json.loads(spans.one()[names.USAGE_PARTS], parse_float=str) == {"audio_second": "42.25"}


def test_what_a_live_session_delegates_is_billed_apart(server: SocketProvider, spans: Spans) -> None:
    server.play(following(messages("openai_live/delegated_response")))
    converse(server, "async live", "openai_live/delegated_response", {})
    delegated, session = spans.each()
    assert (delegated[names.RESPONSE_MODEL], parts(delegated)["web_search"]) == ("gpt-5.4-mini", 1)
    assert parts(session) == {"audio_second": 30}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_translation_session_reports_no_usage(server: SocketProvider, spans: Spans, kind: str) -> None:
    server.play(following(messages("openai_translation/session")))
    mode, model = f"{kind} realtime.translations", "gpt-realtime-translate"
    converse(server, mode, "openai_translation/session", {"model": model})
    span = spans.one()
    assert (span[names.OPERATION], span[names.REQUEST_MODEL]) == ("translation", model)
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS]) == ("missing", "usage_missing")


def test_sessions_that_are_open_when_we_are_taken_off_make_no_further_calls(
    server: SocketProvider, spans: Spans
) -> None:
    server.play(following(messages("openai_realtime/turns")))
    with client(server).realtime.connect(model="gpt-realtime") as connection:
        connection.response.create()
        seen = [connection.recv() for _ in range(4)]
        OpenAIInstrumentor().uninstrument()
        seen += [connection.recv() for _ in range(4)]
    assert [event.type for event in seen] == [event["type"] for event in said("openai_realtime/turns")]
    assert spans.one()[names.RESPONSE_ID] == FIRST


@pytest.mark.parametrize("off", ["LLM_USAGE_LOGGING_ENABLED", "connection", "sent", "received", "broken_off"])
def test_nothing_is_raised_into_the_program(
    server: SocketProvider, spans: Spans, monkeypatch: pytest.MonkeyPatch, off: str
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("ours")

    if off == "connection":
        monkeypatch.setattr(openai_patch, "url_of", broken)
    elif off == "LLM_USAGE_LOGGING_ENABLED":
        monkeypatch.setenv(off, "false")
        settings.cache_clear()
    else:
        monkeypatch.setattr(openai_realtime.Session, off, broken)
    server.play(following(messages("openai_realtime/broken_off")))
    events = converse(server, "sync realtime", "openai_realtime/broken_off", {"model": "gpt-realtime"})
    assert len(events) == len(said("openai_realtime/broken_off"))
    assert len(spans.all()) == (off in ("sent", "received"))


def test_a_waist_that_is_not_there_is_one_warning(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    changed = ModuleType("openai.resources.realtime.realtime")
    changed.Realtime = type("Realtime", (), {"connect": None})  # type: ignore[attr-defined]
    older = ModuleType("openai.resources.responses.responses")
    older.Responses = type("Responses", (), {})  # type: ignore[attr-defined]
    patch = openai_patch.Patch(OPENAI, openai._base_client)
    with caplog.at_level(logging.WARNING, "spanledger"):
        patch._hook_sessions(openai_patch._RESOURCES[0], changed)
        patch._hook_sessions(openai_patch._RESOURCES[3], older)
    patch.remove()
    version = "its version is not one we know"
    assert [record.getMessage() for record in caplog.records] == [
        f"spanledger: {changed.__name__} has no RealtimeConnection.__init__: {version}; its sessions are not recorded",
    ]
