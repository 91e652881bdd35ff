"""Other patches beside ours, errors of our own, and being turned off: the program gets what it would get anyway."""

from __future__ import annotations

from typing import Any

import openai
import pytest
import wrapt
from openai import AzureOpenAI, OpenAI

from spanledger import attributes as names
from spanledger import failures
from spanledger.instrumentation import OpenAIInstrumentor, span
from spanledger.settings import settings
from tests.instrumentation.conftest import Spans
from tests.instrumentation.test_openai_calls import ASK, CHAT, EVENTS, KEY
from tests.provider import Answer, Provider, stream


@pytest.fixture
def client(provider: Provider) -> OpenAI:
    return OpenAI(api_key=KEY, base_url=provider.url + "/v1", max_retries=0)


def test_a_foreign_instrumentation_over_ours_makes_no_second_row(
    client: OpenAI, provider: Provider, spans: Spans
) -> None:
    provider.say(Answer(CHAT))
    other = spans.provider.get_tracer("opentelemetry.instrumentation.openai_v2")

    @wrapt.patch_function_wrapper("openai.resources.chat.completions", "Completions.create")
    def create(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        with other.start_as_current_span("chat gpt-4o", attributes={names.OPERATION: "chat"}):
            return wrapped(*args, **kwargs)

    try:
        client.chat.completions.create(**ASK)
    finally:
        completions = openai.resources.chat.completions.Completions
        completions.create = completions.create.__wrapped__
    ours = spans.one()
    assert ours[names.COST_STATUS] == "priced"
    assert len(spans.exporter.get_finished_spans()) == 2
    assert spans.all()[0].parent is not None


def test_a_patch_over_ours_survives_our_going(client: OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    seen = []
    base = openai._base_client.SyncAPIClient
    ours = base.request

    def over(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return ours(self, *args, **kwargs)

    base.request = over
    try:
        OpenAIInstrumentor().uninstrument()
        assert base.request is over
        client.chat.completions.create(**ASK)
        assert (len(seen), spans.all()) == (1, [])
    finally:
        base.request = ours.__wrapped__


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("broken", ["CallSpan.__init__", "CallSpan._end", "default_book", "remember_id"])
def test_an_error_of_ours_never_reaches_the_program(
    client: OpenAI, provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch, broken: str, streamed: bool
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("ours")

    owner, _, name = broken.rpartition(".")
    monkeypatch.setattr(getattr(span, owner) if owner else span, name, fail)
    provider.say(stream(*EVENTS) if streamed else Answer(CHAT))
    result = client.chat.completions.create(**ASK, stream=streamed)
    if streamed:
        assert len(list(result)) == 4
    else:
        assert result.choices[0].message.content == "hello"


def test_fail_open_can_be_turned_off(
    client: OpenAI, provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr(span.CallSpan, "_end", fail)
    monkeypatch.setattr(failures, "fail_open", True)  # put back after the test
    monkeypatch.setenv("LLM_USAGE_FAIL_OPEN", "false")
    settings.cache_clear()
    OpenAIInstrumentor().uninstrument()
    OpenAIInstrumentor().instrument(tracer_provider=spans.provider)
    provider.say(Answer(CHAT))
    with pytest.raises(RuntimeError, match="ours"):
        client.chat.completions.create(**ASK)


def test_turned_off_there_is_nothing_of_ours(
    client: OpenAI, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_USAGE_LOGGING_ENABLED", "false")
    settings.cache_clear()
    before = openai._base_client.SyncAPIClient.request
    OpenAIInstrumentor().instrument()
    try:
        assert openai._base_client.SyncAPIClient.request is before
        provider.say(Answer(CHAT))
        client.chat.completions.create(**ASK)
        assert not settings().home.exists()
    finally:
        OpenAIInstrumentor().uninstrument()


def test_azure_is_its_own_provider_whatever_its_host(provider: Provider, spans: Spans) -> None:
    settings.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPANLEDGER_HOSTS", "")
        provider.say(Answer(CHAT))
        AzureOpenAI(api_key=KEY, azure_endpoint=provider.url, api_version="2025-01-01").chat.completions.create(**ASK)
    assert spans.one()[names.PROVIDER] == "azure.ai.openai"
    assert provider.paths[0].startswith("/openai/deployments/gpt-4o/")


def test_an_unknown_host_is_its_own_provider(client: OpenAI, provider: Provider, spans: Spans) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPANLEDGER_HOSTS", "")
        settings.cache_clear()
        provider.say(Answer(CHAT))
        client.chat.completions.create(**ASK)
    span_ = spans.one()
    assert (span_[names.PROVIDER], span_[names.COST_STATUS]) == ("127.0.0.1", "unpriced")
    assert names.COST not in span_
