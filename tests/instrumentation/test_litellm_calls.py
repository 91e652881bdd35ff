"""Calls through litellm: one bill each, whether it goes by a provider's SDK or by its own HTTP client."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import threading
import zlib
from typing import Any

import pytest

from spanledger import attributes as names
from spanledger.instrumentation.keys import hash_key
from spanledger.instrumentation.stream import _end_all
from spanledger.settings import settings
from tests.instrumentation.conftest import Spans
from tests.provider import Answer, Provider, stream

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"  # else it fetches one when it is imported
litellm = pytest.importorskip("litellm", reason="litellm wants an openai of its own: pip install litellm elsewhere")

KEY = "key-of-the-test"
MESSAGES = [{"role": "user", "content": "my secret"}]
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_780_000_000,
    "model": "a-model",
    "service_tier": "default",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
}
CHUNK = {**CHAT, "object": "chat.completion.chunk", "usage": None} | {
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "hello"}, "finish_reason": None}]
}
LAST = {**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": CHAT["usage"]}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 20, "output_tokens": 5},
}
EVENTS = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
]
GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 5, "totalTokenCount": 25},
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r-1",
}
CONVERSE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 20, "outputTokens": 5, "totalTokens": 25},
    "metrics": {"latencyMs": 1},
}
OLLAMA = {
    "model": "llama3.2",
    "created_at": "2026-11-01T00:00:00Z",
    "message": {"role": "assistant", "content": "hello"},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 20,
    "eval_count": 5,
}
COHERE = {
    "id": "c-1",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "hello"}]},
    "usage": {
        "billed_units": {"input_tokens": 20, "output_tokens": 5},
        "tokens": {"input_tokens": 90, "output_tokens": 5},
    },
}
AWS = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "s", "aws_region_name": "us-east-1"}
BY_PROVIDER: list[tuple[str, str, Any, dict[str, Any], str]] = [
    ("openai/a-model", "/v1", CHAT, {}, "openai"),
    ("groq/a-model", "/openai/v1", CHAT, {}, "litellm"),
    ("mistral/a-model", "/v1", CHAT, {}, "litellm"),
    ("deepseek/a-model", "", CHAT, {}, "litellm"),
    ("anthropic/claude-sonnet-4-5", "", MESSAGE, {}, "litellm"),
    ("gemini/gemini-2.5-flash", "", GEMINI, {}, "litellm"),
    ("cohere_chat/command-r", "/v2/chat", COHERE, {}, "litellm"),
    ("ollama_chat/llama3.2", "", OLLAMA, {}, "litellm"),
    ("bedrock/converse/amazon.nova-lite-v1:0", "", CONVERSE, AWS, "litellm"),
]


@pytest.fixture(autouse=True)
def quiet_litellm(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    monkeypatch.setattr(litellm, "num_retries", 0)
    monkeypatch.setattr(litellm, "cache", None)
    litellm.in_memory_llm_clients_cache.flush_cache()
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=own")
    settings.cache_clear()


def ask(provider: Provider, model: str, path: str = "", **options: Any) -> dict[str, Any]:
    return {
        "model": model,
        "messages": MESSAGES,
        "api_base": provider.url + path,
        "api_key": KEY,
        "max_retries": 0,
    } | options


def check(spans: Spans, scope: str) -> dict[str, Any]:
    span = spans.one()
    assert {part: n for part, n in spans.parts().items() if n} == {"input": 20, "output": 5}
    assert (span[names.OPERATION], span[names.PROVIDER], span[names.USAGE_STATUS]) == ("chat", "own", "reported")
    assert spans.all()[0].instrumentation_scope.name == f"spanledger.{scope}"
    told = str(spans.all()[0].to_json())
    assert "my secret" not in told
    assert KEY not in told
    return span


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("model", "path", "body", "options", "scope"), BY_PROVIDER, ids=[r[0] for r in BY_PROVIDER])
def test_a_call_is_one_row(
    model: str,
    path: str,
    body: Any,
    options: dict[str, Any],
    scope: str,
    asynchronous: bool,
    provider: Provider,
    spans: Spans,
) -> None:
    if "aws_region_name" in options:
        pytest.importorskip("boto3")
    provider.say(Answer(body))
    given = ask(provider, model, path, **options)
    if options:
        del given["api_key"]
    response = asyncio.run(litellm.acompletion(**given)) if asynchronous else litellm.completion(**given)
    assert response.choices[0].message.content == "hello"
    assert len([path for path in provider.paths if path != "/api/show"]) == 1
    span = check(spans, scope)
    assert span[names.REQUEST_MODEL] in (model.partition("/")[2], model.rpartition("/")[2])
    assert span[names.API_KEY_HASH] == hash_key(AWS["aws_access_key_id"] if "aws_region_name" in options else KEY)[0]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("model", "path", "events", "scope"),
    [
        ("openai/a-model", "/v1", [CHUNK, LAST], "openai"),
        ("groq/a-model", "/openai/v1", [CHUNK, LAST], "litellm"),
        ("anthropic/claude-sonnet-4-5", "", EVENTS, "litellm"),
        ("gemini/gemini-2.5-flash", "", [GEMINI], "litellm"),
    ],
)
def test_a_stream_is_one_row(
    model: str, path: str, events: list[Any], scope: str, asynchronous: bool, provider: Provider, spans: Spans
) -> None:
    provider.say(stream(*events, event_names=events is EVENTS, done=events is not EVENTS))
    given = ask(provider, model, path, stream=True)

    async def main() -> str:
        return "".join([c.choices[0].delta.content or "" async for c in await litellm.acompletion(**given)])

    if asynchronous:
        told = asyncio.run(main())
    else:
        told = "".join(c.choices[0].delta.content or "" for c in litellm.completion(**given))
    assert told == "hello"
    assert check(spans, scope)[names.REQUEST_STREAM] is True


def aws_event(kind: str, payload: dict[str, Any]) -> bytes:
    """One message of an AWS event stream, with its checksums."""
    headers = b""
    for name, value in ((":event-type", kind), (":content-type", "application/json"), (":message-type", "event")):
        headers += struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack("!I", zlib.crc32(message))


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_stream_of_bedrocks_is_one_row(asynchronous: bool, provider: Provider, spans: Spans) -> None:
    pytest.importorskip("boto3")
    events = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "hello"}}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": CONVERSE["usage"], "metrics": {"latencyMs": 1}}),
    ]
    provider.say(Answer(chunks=[aws_event(*e) for e in events], content_type="application/vnd.amazon.eventstream"))
    given = ask(provider, "bedrock/converse/amazon.nova-lite-v1:0", stream=True, **AWS)
    del given["api_key"]

    async def main() -> str:
        return "".join([c.choices[0].delta.content or "" async for c in await litellm.acompletion(**given)])

    told = (
        asyncio.run(main())
        if asynchronous
        else "".join(c.choices[0].delta.content or "" for c in litellm.completion(**given))
    )
    assert told == "hello"
    _end_all()
    check(spans, "litellm")


def test_a_stream_broken_off_early_is_incomplete_when_the_program_ends(provider: Provider, spans: Spans) -> None:
    go_on = threading.Event()
    provider.say(stream(*EVENTS[:3], event_names=True, done=False))
    provider.answers[0].chunks = [*(provider.answers[0].chunks or ()), lambda: go_on.wait() and None]
    chunks = litellm.completion(**ask(provider, "anthropic/claude-sonnet-4-5", stream=True))
    assert next(iter(chunks)).choices[0].delta.content == "hello"
    del chunks  # litellm holds on to the response
    _end_all()
    go_on.set()
    assert spans.one()[names.USAGE_STATUS] == "incomplete"


def test_an_error_is_not_billed_and_reaches_the_program(provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"type": "error", "error": {"type": "not_found_error", "message": "no"}}, status=404))
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(**ask(provider, "anthropic/claude-sonnet-4-5"))
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_a_call_that_timed_out_may_be_billed(provider: Provider, spans: Spans) -> None:
    answered = threading.Event()
    provider.say(Answer(chunks=[lambda: answered.wait() and None]))
    with pytest.raises(litellm.Timeout):
        litellm.completion(**ask(provider, "anthropic/claude-sonnet-4-5", timeout=0.2))
    answered.set()
    span = spans.one()
    assert span[names.USAGE_STATUS] == "missing"
    assert names.COST not in span


def test_each_attempt_of_litellms_own_retries_is_a_call(provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"error": {"message": "busy"}}, status=500), Answer(MESSAGE))
    litellm.completion(**ask(provider, "anthropic/claude-sonnet-4-5", num_retries=1, max_retries=None))
    statuses = sorted(str((span.attributes or {})[names.COST_STATUS]) for span in spans.all())
    assert len(provider.paths) == len(statuses) == 2
    assert statuses[0] == "not_billed"


def test_what_litellm_mocks_or_caches_makes_no_row(provider: Provider, spans: Spans) -> None:
    provider.say(Answer(MESSAGE))
    litellm.completion(**ask(provider, "anthropic/claude-sonnet-4-5", mock_response="hello"))
    assert spans.all() == []
    litellm.cache = litellm.Cache(type="local")
    for _ in range(2):
        litellm.completion(**ask(provider, "anthropic/claude-sonnet-4-5", caching=True))
    assert len(provider.paths) == 1
    check(spans, "litellm")


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("name", "given", "path"),
    [
        ("embedding", {"model": "openai/m", "input": ["a"]}, "/v1"),
        ("embedding", {"model": "voyage/voyage-3", "input": ["a"]}, "/v1/embeddings"),
        ("rerank", {"model": "cohere/rerank-v3.5", "query": "q", "documents": ["d"]}, ""),
    ],
    ids=["openai", "voyage", "cohere"],
)
def test_embeddings_and_rerank(
    name: str,
    given: dict[str, Any],
    path: str,
    asynchronous: bool,
    provider: Provider,
    spans: Spans,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embeddings = {"object": "list", "model": "m", "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    embeddings["data"] = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    ranked = {"id": "r", "results": [{"index": 0, "relevance_score": 1}], "meta": {"billed_units": {"search_units": 1}}}
    provider.say(Answer(ranked if name == "rerank" else embeddings))
    if name == "rerank":
        monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=cohere")
        settings.cache_clear()
    given = given | {"api_base": provider.url + path, "api_key": KEY}
    if asynchronous:
        asyncio.run(getattr(litellm, "a" + name)(**given))
    else:
        getattr(litellm, name)(**given)
    assert spans.one()[names.OPERATION] == ("rerank" if name == "rerank" else "embeddings")
    assert spans.parts() == ({"search_unit": 1} if name == "rerank" else {"input": 8})
