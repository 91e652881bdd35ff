"""OpenTelemetry's GenAI metrics and costs, from calls through the real openai SDK."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider

from spanledger.instrumentation import metrics
from spanledger.settings import settings
from tests.instrumentation.conftest import Spans
from tests.instrumentation.test_openai_calls import ASK, CHAT, COST, EVENTS, KEY
from tests.provider import Answer, Provider, stream

DURATION = "gen_ai.client.operation.duration"
TOKENS = "gen_ai.client.token.usage"
FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
OUTPUT_CHUNK = "gen_ai.client.operation.time_per_output_chunk"
COSTS = "spanledger.cost"
UNPRICED = "spanledger.calls.unpriced"


@pytest.fixture
def client(provider: Provider, spans: Spans) -> OpenAI:
    return OpenAI(api_key=KEY, base_url=provider.url + "/v1", max_retries=0)


def answer(number: int = 0, **fields: Any) -> Answer:
    return Answer({**CHAT, "id": f"chatcmpl-{number:024d}", **fields})


def common(provider: Provider) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "server.address": "127.0.0.1",
        "server.port": provider.server_port,
    }


def test_a_call_has_its_duration_tokens_and_cost(measured, client, provider):
    provider.say(answer(1))
    client.chat.completions.create(**ASK)
    found = measured.all()
    assert found.keys() == {DURATION, TOKENS, COSTS}
    (duration,) = found[DURATION]
    assert dict(duration.attributes) == common(provider)
    assert duration.count == 1
    assert 0 < duration.sum < 60
    assert duration.explicit_bounds == pytest.approx(
        [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
    )
    tokens = {point.attributes["gen_ai.token.type"]: point for point in found[TOKENS]}
    assert {kind: point.sum for kind, point in tokens.items()} == {"input": 2006, "output": 300}
    assert dict(tokens["input"].attributes) == common(provider) | {"gen_ai.token.type": "input"}
    assert list(tokens["input"].explicit_bounds) == [4**power for power in range(14)]
    (cost,) = found[COSTS]
    assert cost.value == pytest.approx(float(COST))
    assert dict(cost.attributes) == common(provider) | {
        "spanledger.cost.currency": "USD",
        "spanledger.cost.status": "priced",
    }


def test_a_stream_has_the_times_of_its_chunks(measured, client, provider):
    provider.say(stream(*EVENTS))
    assert len(list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))) == 4
    found = measured.all()
    (first,), (between,), (duration,) = found[FIRST_CHUNK], found[OUTPUT_CHUNK], found[DURATION]
    assert first.count == 1
    assert between.count >= 1
    assert first.sum + between.sum <= duration.sum
    assert first.explicit_bounds == between.explicit_bounds == duration.explicit_bounds
    assert {point.attributes["gen_ai.token.type"]: point.sum for point in found[TOKENS]} == {
        "input": 2006,
        "output": 300,
    }


def test_a_failed_call_has_a_duration_with_its_error_and_no_tokens(measured, client, provider):
    provider.say(Answer({"error": {"message": "no"}}, status=400))
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**ASK)
    found = measured.all()
    assert found.keys() == {DURATION}
    assert found[DURATION][0].attributes["error.type"] == "BadRequestError"


def test_a_call_of_unknown_cost_is_counted_and_has_no_cost(measured, client, provider):
    provider.say(answer(2, model="brand-new-model"))
    client.chat.completions.create(**{**ASK, "model": "brand-new-model"})
    found = measured.all()
    assert COSTS not in found
    (point,) = found[UNPRICED]
    assert (point.value, point.attributes["spanledger.cost.status"]) == (1, "unpriced")


def test_a_response_that_comes_again_is_counted_once(measured, client, provider):
    for number in (3, 3, 4):
        provider.say(answer(number))
        client.chat.completions.create(**ASK)
    found = measured.all()
    assert found[DURATION][0].count == 2
    assert found[COSTS][0].value == pytest.approx(2 * float(COST))


def test_a_point_leads_to_its_trace(measured, client, provider, spans):
    provider.say(answer(5))
    client.chat.completions.create(**ASK)
    (exemplar,) = measured.all()[DURATION][0].exemplars
    assert exemplar.trace_id == spans.all()[0].context.trace_id


@pytest.mark.parametrize("nobody", [NoOpMeterProvider, MeterProvider], ids=["no provider", "no reader"])
def test_where_nobody_reads_nothing_is_recorded(monkeypatch, measured, client, provider, nobody):
    def never(*_: object) -> None:
        raise AssertionError("recorded")

    monkeypatch.setattr(metrics, "record", never)
    metrics.use(nobody())
    assert metrics.instruments() is None
    provider.say(answer(6), stream(*EVENTS))
    client.chat.completions.create(**ASK)
    assert list(client.chat.completions.create(**ASK, stream=True))


def test_a_provider_that_is_set_later_is_found(monkeypatch, measured):
    from opentelemetry.metrics import _internal as api

    monkeypatch.setattr(metrics, "_given", None)
    monkeypatch.setattr(api, "_METER_PROVIDER", None)
    assert metrics.instruments() is None
    monkeypatch.setattr(api, "_METER_PROVIDER", measured.provider)
    assert metrics.instruments() is not None


class Another(BaseInstrumentor):
    """Somebody else's instrumentation of openai, which records the same metrics."""

    def instrumentation_dependencies(self) -> Collection[str]:
        return ("openai >= 1.26.0",)

    def _instrument(self, **kwargs: Any) -> None: ...

    def _uninstrument(self, **kwargs: Any) -> None: ...


@pytest.fixture
def another() -> Iterator[None]:
    Another().instrument(skip_dep_check=True)
    yield
    Another().uninstrument()


def test_where_another_instrumentation_records_them_only_costs_are_ours(another, measured, client, provider):
    provider.say(answer(7))
    client.chat.completions.create(**ASK)
    assert measured.all().keys() == {COSTS}


@pytest.mark.parametrize(("setting", "names"), [("always", {DURATION, TOKENS, COSTS}), ("never", set())])
def test_the_setting_has_the_last_word(monkeypatch, another, measured, client, provider, setting, names):
    monkeypatch.setenv("SPANLEDGER_METRICS", setting)
    settings.cache_clear()
    provider.say(answer(8))
    client.chat.completions.create(**ASK)
    assert measured.all().keys() == names


def test_an_error_of_ours_in_metrics_reaches_nobody_and_loses_no_span(monkeypatch, measured, client, provider, spans):
    def broken(*_: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr(metrics, "record", broken)
    provider.say(answer(9))
    assert client.chat.completions.create(**ASK).id
    assert len(spans.all()) == 1
