"""Live sessions through the real google-genai: what each call's span says, and that the program gets the same."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from google import genai
from google.genai import live as genai_live
from google.genai import types as genai_types
from websockets.exceptions import ConnectionClosedError

from spanledger import attributes as names
from spanledger.attribution import attribute
from spanledger.instrumentation.keys import hash_key
from spanledger.instrumentation.patches import google_live
from spanledger.instrumentation.patches.http_call import Caller
from spanledger.instrumentation.sdks import GOOGLE_GENAI
from tests.instrumentation.conftest import Spans
from tests.instrumentation.wire.sessions import messages
from tests.socket_provider import Peer, Script, SocketProvider, following

KEY = "AIza-test-0123456789"


@pytest.fixture
def server() -> Iterator[SocketProvider]:
    with SocketProvider() as server:
        yield server


@pytest.fixture(autouse=True)
def plain_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """google-genai speaks TLS to any host; the server on loopback does not."""
    connect = genai_live.ws_connect

    def plain(uri: str, **options: Any) -> Any:
        return connect(uri.replace("wss://", "ws://", 1), additional_headers=options["additional_headers"])

    monkeypatch.setattr(genai_live, "ws_connect", plain)


def gemini(server: SocketProvider, vertex: bool = False) -> genai.Client:
    options = genai_types.HttpOptions(base_url=f"http://{server.host}")
    if vertex:
        return genai.Client(
            vertexai=True, project="p", location="us-central1", credentials=_Credentials(), http_options=options
        )
    return genai.Client(api_key=KEY, http_options=options)


def parts(span: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = json.loads(span[names.USAGE_PARTS])
    return found


class _Credentials:
    token = "t"
    valid = True
    expired = False
    quota_project_id = None


def live_script(name: str, then: Script = Peer.wait) -> Script:
    return following([{"sent": "setup"}, {"received": {"setupComplete": {}}}, *messages(name)], then)


async def live(own: genai.Client, name: str, model: str) -> list[Any]:
    """What the program gets of the provider's messages, when it plays its side of a Live session."""
    seen = []
    async with own.aio.live.connect(model=model) as session:
        for message in messages(name):
            if "sent" not in message:
                seen.append(await session._receive())
            elif "tool_response" in message["sent"]:
                await session.send_tool_response(
                    function_responses=[genai_types.FunctionResponse(id="f1", name="lights", response={"ok": True})]
                )
            else:
                with attribute(feature="asking"):
                    await session.send_client_content(turns=genai_types.Content(parts=[genai_types.Part(text="Hi")]))
    return seen


LIVE = "gemini-2.5-flash-native-audio-preview-12-2025"


@pytest.mark.parametrize("vertex", [False, True])
def test_each_turn_of_a_live_session_is_a_call(server: SocketProvider, spans: Spans, vertex: bool) -> None:
    server.play(live_script("gemini_live/turns"))
    with attribute(tenant="opener"), spans.provider.get_tracer("program").start_as_current_span("open") as opening:
        seen = asyncio.run(live(gemini(server, vertex), "gemini_live/turns", LIVE))
    assert [message.server_content.turn_complete for message in seen] == [None, None, None, True, None, None, True]
    first, second = spans.each()
    assert parts(first) == {"input": 100, "input_audio": 43, "output": 0, "output_audio": 19}
    assert parts(second) == {"input": 100, "input_audio": 81, "output": 0, "output_audio": 24}
    assert [span[names.COST] for span in (first, second)] == [
        "0.000407",  # (100 x 0.5 + 43 x 3 + 19 x 12) / 10^6
        "0.000581",  # (100 x 0.5 + 81 x 3 + 24 x 12) / 10^6
    ]
    assert first[names.PROVIDER] == ("gcp.vertex_ai" if vertex else "gcp.gemini")
    assert first.get(names.REGION, "") == ("us-central1" if vertex else "")
    assert (first[names.REQUEST_MODEL], first[names.OPERATION]) == (LIVE, "chat")
    assert first.get(names.API_KEY_HASH) == (None if vertex else hash_key(KEY)[0])
    assert [span.get(names.FEATURE) for span in (first, second)] == ["asking", None]
    assert [span[names.TENANT] for span in (first, second)] == ["opener", "opener"]
    assert {span.parent.span_id for span in spans.all() if span.parent} == {opening.get_span_context().span_id}
    assert "Hi" not in "".join(span.to_json() for span in spans.all())


def test_a_live_session_is_the_same_without_us(server: SocketProvider) -> None:
    server.play(live_script("gemini_live/tool_call"))
    alone = asyncio.run(live(gemini(server), "gemini_live/tool_call", LIVE))
    spanned = genai_live.AsyncLive.connect
    hooks = google_live.hook(genai_live, Caller(GOOGLE_GENAI))
    assert hooks is not None
    assert genai_live.AsyncLive.connect is not spanned
    try:
        assert asyncio.run(live(gemini(server), "gemini_live/tool_call", LIVE)) == alone
    finally:
        hooks.remove()
    assert genai_live.AsyncLive.connect is spanned


def test_a_tool_call_of_a_live_session_is_a_call(server: SocketProvider, spans: Spans) -> None:
    server.play(live_script("gemini_live/tool_call"))
    asyncio.run(live(gemini(server), "gemini_live/tool_call", LIVE))
    assert [parts(span) for span in spans.each()] == [{"input": 200, "output": 14}, {"input": 240, "output": 30}]


def test_a_live_session_that_is_lost_in_the_middle_of_a_turn(server: SocketProvider, spans: Spans) -> None:
    server.play(live_script("gemini_live/broken_off", Peer.break_off))

    async def main() -> None:
        async with gemini(server).aio.live.connect(model=LIVE) as session:
            async for _ in session.receive():
                pass

    with pytest.raises((genai.errors.APIError, ConnectionClosedError)):
        asyncio.run(main())
    span = spans.one()
    assert (span[names.USAGE_STATUS], span["error.type"]) == ("incomplete", "ConnectionClosedError")
    assert spans.parts() == {"input": 143, "output": 5}


def test_a_live_session_that_the_program_leaves_in_the_middle_of_a_turn(server: SocketProvider, spans: Spans) -> None:
    server.play(live_script("gemini_live/broken_off"))
    asyncio.run(live(gemini(server), "gemini_live/broken_off", LIVE))
    assert (spans.one()[names.USAGE_STATUS], spans.parts()) == ("incomplete", {"input": 143, "output": 5})
    assert "error.type" not in spans.one()


def test_a_turn_that_is_never_answered(server: SocketProvider, spans: Spans) -> None:
    server.play(following([{"sent": "setup"}, {"received": {"setupComplete": {}}}]))

    async def main() -> None:
        async with gemini(server).aio.live.connect(model=f"models/{LIVE}") as session:
            await session.send_client_content(turns=genai_types.Content(parts=[genai_types.Part(text="Hi")]))

    asyncio.run(main())
    assert (spans.one()[names.USAGE_STATUS], spans.one()[names.REQUEST_MODEL]) == ("missing", LIVE)


def test_a_waist_that_is_not_there_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "spanledger"):
        assert google_live.hook(ModuleType("google.genai.live"), Caller(GOOGLE_GENAI)) is None
    (record,) = caplog.records
    assert record.getMessage() == (
        "spanledger: google.genai.live has no AsyncLive.connect: its version is not one we know; Live sessions are "
        "not recorded"
    )
