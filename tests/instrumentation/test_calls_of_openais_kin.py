"""Calls through the real SDKs that share openai's base client: Cerebras, Groq, Together, Writer."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from spanledger import attributes as names
from spanledger.attribution import attribute
from spanledger.instrumentation import INSTRUMENTORS
from spanledger.instrumentation.sdks import Sdk
from spanledger.instrumentation.wire import endpoints
from spanledger.settings import settings
from tests.instrumentation.conftest import Spans
from tests.provider import Answer, Provider, stream

ID = "chatcmpl-0123456789abcdef01234567"
USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 30,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 10},
}
PARTS = {"input": 20, "cache_read": 100, "output": 20, "output_reasoning": 10}
CHAT = {
    "id": ID,
    "object": "chat.completion",
    "created": 1_780_000_000,
    "system_fingerprint": "fp_1",
    "model": "a-model",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": USAGE,
}


def chunk(text: str = "", finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {**CHAT, "object": "chat.completion.chunk", "choices": [choice], "usage": None} | fields


EVENTS = [chunk("he"), chunk("llo"), chunk(finish="stop", usage=USAGE)]
GROQ_EVENTS = [chunk("he"), chunk("llo"), chunk(finish="stop", x_groq={"id": "req_1", "usage": USAGE})]


@dataclass(frozen=True)
class Kin:
    """One SDK, and how its client makes a chat completion."""

    name: str
    module: str
    client: str
    path: str = "/v1/chat/completions"
    options: tuple[tuple[str, Any], ...] = ()

    def make(self, provider: Provider, asynchronous: bool = False, **options: Any) -> Any:
        kind = getattr(importlib.import_module(self.module), "Async" * asynchronous + self.client)
        known = inspect.signature(kind).parameters  # an old version may not know one
        own = {name: value for name, value in self.options if name in known}
        return kind(api_key="key-of-the-test", base_url=provider.url, **{"max_retries": 0, **own, **options})

    def create(self, client: Any, **options: Any) -> Any:
        ask = {"model": "a-model", "messages": [{"role": "user", "content": "my secret"}], **options}
        return client.chat.chat(**ask) if self.name == "writer" else client.chat.completions.create(**ask)

    def raw(self, client: Any) -> Any:
        chat = client.chat if self.name == "writer" else client.chat.completions
        return chat.with_raw_response

    @property
    def sdk(self) -> Sdk:
        return next(i.sdk for i in INSTRUMENTORS if i.sdk.name == self.name)

    @property
    def of_today(self) -> bool:
        """Its version is one that the project is developed with; an older one may have fewer methods."""
        distribution = Requirement(self.sdk.requirement).name
        wanted = next(r for r in map(Requirement, metadata.requires("spanledger") or ()) if r.name == distribution)
        return metadata.version(distribution) in wanted.specifier

    @property
    def events(self) -> list[dict[str, Any]]:
        return GROQ_EVENTS if self.name == "groq" else EVENTS


KIN = (
    Kin("cerebras", "cerebras.cloud.sdk", "Cerebras", options=(("warm_tcp_connection", False),)),
    Kin("groq", "groq", "Groq", path="/openai/v1/chat/completions"),
    Kin("together", "together", "Together"),
    Kin("writer", "writerai", "Writer", path="/v1/chat"),
)


@pytest.fixture(params=KIN, ids=lambda kin: kin.name)
def kin(request: pytest.FixtureRequest, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Kin:
    pytest.importorskip(request.param.module)
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}={request.param.name}")
    settings.cache_clear()
    return request.param


def check(spans: Spans, kin: Kin, *, streamed: bool) -> None:
    span = spans.one()
    assert {part: n for part, n in spans.parts().items() if n} == PARTS
    assert (span[names.OPERATION], span[names.PROVIDER], span[names.RESPONSE_ID]) == ("chat", kin.name, ID)
    assert (span[names.USAGE_STATUS], span[names.REQUEST_STREAM]) == ("reported", streamed)
    assert spans.all()[0].instrumentation_scope.name == f"spanledger.{kin.name}"
    told = str(spans.all()[0].to_json())
    assert not re.search("my secret|hello|key-of-the-test", told)


def test_a_plain_call(kin: Kin, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    assert kin.create(kin.make(provider)).choices[0].message.content == "hello"
    assert kin.path.endswith(provider.paths[0])  # the base URL that an old version of together expects ends in /v1
    assert len(provider.paths) == 1
    check(spans, kin, streamed=False)


def test_an_async_call(kin: Kin, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))

    async def main() -> None:
        async with kin.make(provider, asynchronous=True) as client:
            assert (await kin.create(client)).choices[0].message.content == "hello"

    asyncio.run(main())
    check(spans, kin, streamed=False)


def test_a_stream(kin: Kin, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*kin.events))
    chunks = kin.create(kin.make(provider), stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "hello"
    assert "stream_options" not in provider.requests[0]
    check(spans, kin, streamed=True)


def test_an_async_stream(kin: Kin, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*kin.events))

    async def main() -> str:
        async with kin.make(provider, asynchronous=True) as client:
            return "".join([c.choices[0].delta.content or "" async for c in await kin.create(client, stream=True)])

    assert asyncio.run(main()) == "hello"
    check(spans, kin, streamed=True)


def test_a_raw_response(kin: Kin, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    raw = kin.raw(kin.make(provider))
    method = raw.chat if kin.name == "writer" else raw.create
    response = method(model="a-model", messages=[{"role": "user", "content": "my secret"}])
    assert response.parse().choices[0].message.content == "hello"
    check(spans, kin, streamed=False)


def test_a_stream_broken_off_early_is_not_free(kin: Kin, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*kin.events))
    chunks = kin.create(kin.make(provider), stream=True)
    next(iter(chunks))
    chunks.close()
    del chunks
    gc.collect()
    span = spans.one()
    assert span[names.USAGE_STATUS] == "missing"
    assert names.COST not in span


def test_a_stream_that_the_provider_breaks_raises_what_it_would_raise_without_us(
    kin: Kin, provider: Provider, spans: Spans
) -> None:
    provider.say(stream(*kin.events[:2], done=False, drop=True))
    chunks = kin.create(kin.make(provider), stream=True)
    with pytest.raises(Exception, match="incomplete|peer closed"):
        list(chunks)
    span = spans.one()
    assert span[names.USAGE_STATUS] == "missing"
    assert names.COST not in span


def test_an_error_is_not_billed_and_reaches_the_program(kin: Kin, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"error": {"message": "no such model", "type": "invalid_request_error"}}, status=404))
    errors = importlib.import_module(kin.module)
    with pytest.raises(errors.NotFoundError):
        kin.create(kin.make(provider))
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_retries_are_one_call(kin: Kin, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"error": {"message": "busy"}}, status=503, headers={"retry-after-ms": "1"}), Answer(CHAT))
    kin.create(kin.make(provider, max_retries=2))
    assert len(provider.paths) == 2
    assert spans.one()[names.RETRIES] == 1
    check(spans, kin, streamed=False)


def test_threads_and_event_loops_keep_their_calls_apart(kin: Kin, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    client = kin.make(provider)

    def threaded(tenant: str) -> None:
        with attribute(tenant=tenant):
            kin.create(client)

    async def looped() -> None:
        async def one(tenant: str) -> None:
            with attribute(tenant=tenant):
                await kin.create(async_client)

        async with kin.make(provider, asynchronous=True) as async_client:
            await asyncio.gather(*(one(f"loop-{n}") for n in range(4)))

    threads = [threading.Thread(target=threaded, args=(f"thread-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    asyncio.run(looped())
    for thread in threads:
        thread.join()
    tenants = sorted(str((span.attributes or {})[names.TENANT]) for span in spans.all())
    assert tenants == [f"{where}-{n}" for where in ("loop", "thread") for n in range(4)]


# beyond chat

IMAGES = {"id": "img-1", "object": "list", "model": "m", "data": [{"index": 0, "type": "url", "url": "..."}] * 2}
RERANK = {
    "id": "rr-1",
    "object": "rerank",
    "model": "m",
    "results": [],
    "usage": {"prompt_tokens": 77, "completion_tokens": 0, "total_tokens": 77},
}
EMBEDDINGS = {"object": "list", "model": "m", "data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}
VERBOSE = {"text": "...", "duration": 7.5, "language": "en", "segments": []}
COMPLETION = {"id": "cmpl-1", "object": "text_completion", "created": 1_780_000_000, "model": "m"} | {
    "choices": [{"index": 0, "text": "...", "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
BEYOND_CHAT: list[tuple[str, str, Callable[[Any], Any], dict[str, Any], dict[str, Any]]] = [
    ("groq", "embeddings", lambda c: c.embeddings.create(model="m", input="text"), EMBEDDINGS, {"input": 8}),
    (
        "groq",
        "transcription",
        lambda c: c.audio.transcriptions.create(model="m", file=("a.mp3", b"-"), response_format="verbose_json"),
        VERBOSE,
        {"audio_second": 7.5},
    ),
    ("together", "embeddings", lambda c: c.embeddings.create(model="m", input="text"), EMBEDDINGS, {"input": 8}),
    ("together", "image_generation", lambda c: c.images.generate(model="m", prompt="a cat", n=2), IMAGES, {"image": 2}),
    ("together", "rerank", lambda c: c.rerank.create(model="m", query="q", documents=["d"]), RERANK, {"input": 77}),
    (
        "together",
        "text_completion",
        lambda c: c.completions.create(model="m", prompt="p"),
        COMPLETION,
        {"input": 5, "output": 2},
    ),
    (
        "cerebras",
        "text_completion",
        lambda c: c.completions.create(model="m", prompt="p"),
        COMPLETION,
        {"input": 5, "output": 2},
    ),
    ("writer", "text_completion", lambda c: c.completions.create(model="m", prompt="p"), {"choices": []}, {}),
    ("writer", "generate_content", lambda c: c.translation.translate(**TRANSLATION), {"data": "..."}, {}),
]
TRANSLATION: dict[str, Any] = {
    "model": "palmyra-translate",
    "text": "hello",
    "source_language_code": "en",
    "target_language_code": "de",
    "formality": False,
    "length_control": False,
    "mask_profanity": False,
}


@pytest.mark.parametrize(
    ("name", "operation", "call", "body", "parts"), BEYOND_CHAT, ids=[f"{row[0]} {row[1]}" for row in BEYOND_CHAT]
)
def test_beyond_chat(
    name: str,
    operation: str,
    call: Callable[[Any], Any],
    body: dict[str, Any],
    parts: dict[str, Any],
    provider: Provider,
    spans: Spans,
) -> None:
    provider.say(Answer(body))
    kin = next(kin for kin in KIN if kin.name == name)
    try:
        call(kin.make(provider))
    except AttributeError:
        if kin.of_today:
            raise
        pytest.skip(f"this version has no {operation}")
    span = spans.one()
    assert span[names.OPERATION] == operation
    assert span[names.USAGE_STATUS] == ("reported" if parts else "missing")
    assert {part: float(n) for part, n in (spans.parts() if parts else {}).items() if n} == parts


@pytest.mark.parametrize("kin_", KIN, ids=lambda kin: kin.name)
def test_the_operations_that_we_name_are_those_that_the_sdk_has_methods_for(kin_: Kin) -> None:
    sdk = kin_.sdk
    package = importlib.import_module(kin_.module)
    paths: set[str] = set()
    for source in (Path(str(package.__file__)).parent / "resources").rglob("*.py"):
        code = source.read_text(encoding="utf-8")
        for call in re.findall(r"self\._post\(\s*(?:path_template\(\s*)?f?\"(/[^\"]+)\"", code):
            paths.add(call)
    found = {endpoint.operation for path in paths if (endpoint := endpoints.find(sdk.wire, "POST", path))}
    assert found <= set(sdk.operations)
    if kin_.of_today:
        assert found == set(sdk.operations)
