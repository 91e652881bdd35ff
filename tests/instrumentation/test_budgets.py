"""A budget around calls: it stops the call after the one that reached it, before anything is sent."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import openai
import pytest
from opentelemetry.context import attach, detach, get_current

from spanledger.budgets import BudgetExceeded, BudgetWarning, budget
from spanledger.settings import settings
from spanledger.tracking import track
from tests.instrumentation import test_anthropic_calls as anthropic_calls
from tests.instrumentation import test_bedrock_calls as bedrock_calls
from tests.instrumentation import test_mistral_calls as mistral_calls
from tests.instrumentation.conftest import Spans
from tests.instrumentation.test_openai_calls import ASK, CHAT, COST, EVENTS, KEY, async_client
from tests.provider import Answer, Provider, stream

EACH = Decimal(COST)


@pytest.fixture
def client(provider: Provider) -> openai.OpenAI:
    return openai.OpenAI(api_key=KEY, base_url=provider.url + "/v1")  # with the SDK's own retries


def test_the_call_after_the_one_that_reaches_the_amount_is_not_sent(
    client: openai.OpenAI, provider: Provider, spans: Spans
) -> None:
    provider.say(Answer(CHAT))
    with budget(usd=str(2 * EACH)) as b:
        client.chat.completions.create(**ASK)
        assert not b.exceeded
        client.chat.completions.create(**ASK)
        assert (b.cost, b.left, b.calls, b.exceeded) == (2 * EACH, 0, 2, True)
        with pytest.raises(BudgetExceeded, match=r"the budget of 0\.011230 USD is used up: 0\.0112300* USD for 2"):
            client.chat.completions.create(**ASK)
    assert len(provider.requests) == len(spans.all()) == 2
    client.chat.completions.create(**ASK)
    assert len(spans.all()) == 3


def test_it_is_an_exception_that_has_its_budget(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    with budget("0.001") as b:
        client.chat.completions.create(**ASK)
        with pytest.raises(Exception, match="used up") as refused:
            client.chat.completions.create(**ASK)
    assert type(refused.value) is BudgetExceeded
    assert refused.value.budget is b


def test_a_stream_counts_when_it_has_ended(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*EVENTS))
    with budget(usd="0.001"):
        first = client.chat.completions.create(**ASK, stream=True)
        second = client.chat.completions.create(**ASK, stream=True)  # the first is under way: nothing is spent yet
        list(first)
        list(second)
        with pytest.raises(BudgetExceeded):
            client.chat.completions.create(**ASK, stream=True)
    assert len(provider.requests) == 2


def test_tasks_share_a_budget(provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))

    async def main() -> None:
        async with async_client(provider) as client:
            with budget(usd=3 * EACH) as b:
                for _ in range(3):
                    await asyncio.create_task(client.chat.completions.create(**ASK))
                refused = await asyncio.gather(
                    *(client.chat.completions.create(**ASK) for _ in range(4)), return_exceptions=True
                )
            assert [type(each) for each in refused] == [BudgetExceeded] * 4
            assert (b.calls, b.cost) == (3, 3 * EACH)

    asyncio.run(main())


def test_threads_share_a_budget(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    outcomes = []

    def work(context: Any) -> None:  # as OpenTelemetry's instrumentation of threads does
        token = attach(context)
        try:
            outcomes.append(type(client.chat.completions.create(**ASK)))
        except BudgetExceeded as error:
            outcomes.append(type(error))
        finally:
            detach(token)

    with budget(usd=str(5 * EACH)) as b, ThreadPoolExecutor(1) as pool:
        list(pool.map(work, [get_current()] * 20))
    assert outcomes.count(BudgetExceeded) == 15
    assert (b.calls, b.cost, len(provider.requests)) == (5, 5 * EACH, 5)


def test_calls_at_the_same_time_sum_exactly(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    with budget(usd="1000") as b:
        context = get_current()

        def work() -> None:
            token = attach(context)
            client.chat.completions.create(**ASK)
            detach(token)

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (b.calls, b.cost) == (16, 16 * EACH)


def test_the_tighter_of_nested_budgets_stops_and_both_count(
    client: openai.OpenAI, provider: Provider, spans: Spans
) -> None:
    provider.say(Answer(CHAT))
    with budget(usd="1") as outer, track() as tracked:
        with budget(usd="0.001") as inner:
            client.chat.completions.create(**ASK)
            with pytest.raises(BudgetExceeded) as refused:
                client.chat.completions.create(**ASK)
            assert refused.value.budget is inner
        client.chat.completions.create(**ASK)
    assert (outer.calls, inner.calls, tracked.calls) == (2, 1, 2)


def test_on_exceed_warn_warns_once_and_lets_the_call_be_made(
    client: openai.OpenAI, provider: Provider, spans: Spans
) -> None:
    provider.say(Answer(CHAT))
    with budget(usd="0.001", on_exceed="warn") as b:
        client.chat.completions.create(**ASK)
        with pytest.warns(BudgetWarning, match="is used up"):
            client.chat.completions.create(**ASK)
        with warnings.catch_warnings(record=True) as told:
            client.chat.completions.create(**ASK)
        assert not [each for each in told if each.category is BudgetWarning]
    assert b.calls == 3


def test_a_warning_that_is_an_error_in_the_program_stops_the_call(
    client: openai.OpenAI, provider: Provider, spans: Spans
) -> None:
    provider.say(Answer(CHAT))
    with budget(usd="0.001", on_exceed="warn"), warnings.catch_warnings():
        warnings.simplefilter("error", BudgetWarning)
        client.chat.completions.create(**ASK)
        with pytest.raises(BudgetExceeded):
            client.chat.completions.create(**ASK)


def test_an_unknown_cost_is_told_apart(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT | {"model": "no-such-model"}))
    with budget(usd="0.001") as b:
        client.chat.completions.create(**ASK | {"model": "no-such-model"})
        client.chat.completions.create(**ASK | {"model": "no-such-model"})
    assert (b.calls, b.unknown, b.cost) == (2, 2, 0)
    assert "2 whose cost is unknown" in b.spent_text


@pytest.mark.parametrize("fail_open", ["true", "false"])
def test_fail_open_has_nothing_to_do_with_it(
    fail_open: str, client: openai.OpenAI, provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_USAGE_FAIL_OPEN", fail_open)
    settings.cache_clear()
    provider.say(Answer(CHAT))
    with budget(usd="0.001"):
        client.chat.completions.create(**ASK)
        with pytest.raises(BudgetExceeded):
            client.chat.completions.create(**ASK)


def anthropic_call(provider: Provider) -> None:
    anthropic_calls.anthropic.Anthropic(api_key="sk-ant-test", base_url=provider.url).messages.create(
        **anthropic_calls.ASK
    )


def mistral_call(provider: Provider) -> None:
    mistral_calls.Mistral(api_key="test", server_url=provider.url).chat.complete(**mistral_calls.ASK)


def bedrock_call(provider: Provider) -> None:
    bedrock_calls.make(provider).converse(**bedrock_calls.ASK)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (anthropic_call, anthropic_calls.MESSAGE),
        (mistral_call, mistral_calls.CHAT),
        (bedrock_call, bedrock_calls.ANSWER),
    ],
)
def test_other_sdks_let_it_through_unchanged(
    call: Callable[[Provider], None],
    answer: dict[str, Any],
    provider: Provider,
    spans: Spans,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = {anthropic_call: "anthropic", mistral_call: "mistral_ai", bedrock_call: "aws_bedrock"}[call]
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}={name}")
    settings.cache_clear()
    provider.say(Answer(answer))
    with budget(usd="0.000001") as b:
        call(provider)
        assert b.exceeded
        with pytest.raises(BudgetExceeded):
            call(provider)
    assert len(provider.requests) == len(spans.all()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one amount"),
        ({"amount": "1", "usd": "1"}, "give one amount"),
        ({"usd": 0.5}, 'usd=0.5: a float is not exact, write a text: usd="0.5"'),
        ({"usd": "half"}, "usd='half' is not an amount above 0"),
        ({"usd": "-1"}, "usd='-1' is not an amount above 0"),
        ({"amount": "nan"}, "amount='nan' is not an amount above 0"),
        ({"amount": "1", "currency": "EUR"}, "the budget is in EUR, but costs are summed in USD"),
        ({"usd": "1", "currency": "EUR"}, "contradict"),
        ({"usd": "1", "on_exceed": "stop"}, "on_exceed='stop' is unknown: use 'raise' or 'warn'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")), budget(**arguments):
        pytest.fail("the block is not entered")
