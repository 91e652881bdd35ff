"""Batches through the real SDKs: a row a line, once, for whoever created it, and the program sees no difference."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import groq
import mistralai.client
import openai
import pytest
import together
from google import genai
from google.genai import _api_client

from spanledger import attributes as names
from spanledger import failures
from spanledger.attribution import attribute
from spanledger.exporter.rows import read
from spanledger.exporter.shipper import FlushError, flush
from spanledger.instrumentation.patches import batch
from spanledger.instrumentation.wire import batch_endpoints
from spanledger.pricing import handoff
from spanledger.settings import settings
from spanledger.tracking import track
from tests.instrumentation.conftest import Spans
from tests.instrumentation.wire.test_batches import CHAT, EMBEDDINGS, ERROR, GENERATED, MESSAGE
from tests.provider import Answer, Provider, gzipped

BATCH = {
    "id": "batch_68d7512d0784",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "created_at": 1_780_000_000,
    "input_file_id": "file-in",
    "completion_window": "24h",
    "status": "completed",
    "output_file_id": "file-out",
}
COST = "0.0000042"  # (24 x 0.15 + 8 x 0.60) / 2, per million
MESSAGES = {
    "id": "msgbatch_013Zva2CMHLNnXjNJJKqJ2EF",
    "type": "message_batch",
    "processing_status": "ended",
    "created_at": "2026-05-28T20:26:40.100435Z",
    "expires_at": "2026-05-29T20:26:40.100435Z",
    "request_counts": {"canceled": 1, "errored": 1, "expired": 1, "processing": 0, "succeeded": 2},
}


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    batch._known.clear()
    batch._read.clear()
    yield
    for thread in list(handoff.working):
        thread.join(10)


def line(number: int, body: Any = None, status: int = 200) -> dict[str, Any]:
    body = {**CHAT, "id": f"chatcmpl-A1Efhv97EZNQeHKSLPnTmZex{number:05}"} if body is None else body
    response = {"status_code": status, "request_id": f"{number:032}", "body": body}
    return {"id": f"batch_req_{number:024}", "custom_id": f"r-{number}", "response": response, "error": None}


def jsonl(*lines: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


def file(content: bytes) -> Answer:
    return Answer(content, content_type="application/octet-stream")


def rows(spans: Spans) -> list[dict[str, Any]]:
    for thread in list(handoff.working):
        thread.join(10)
    return [dict(span.attributes or {}) for span in spans.all()]


def make(provider: Provider) -> openai.OpenAI:
    return openai.OpenAI(api_key="sk-test-0123456789abcdef", base_url=provider.url + "/v1", max_retries=0)


@pytest.fixture
def client(provider: Provider) -> openai.OpenAI:
    return make(provider)


THREE = jsonl(line(1), line(2, EMBEDDINGS), line(3, ERROR, 400))


def test_a_line_is_a_call_at_the_batch_price(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    content = jsonl(line(1), line(2, ERROR, 400))
    provider.say(Answer(BATCH), file(content))
    client.batches.retrieve(BATCH["id"])
    assert spans.all() == []
    assert client.files.content("file-out").content == content
    chat, failed = rows(spans)
    assert (chat[names.OPERATION], chat[names.PROCESSING], chat[names.PROVIDER]) == ("chat", "batch", "openai")
    assert chat[names.RESPONSE_ID] == "chatcmpl-A1Efhv97EZNQeHKSLPnTmZex00001"
    assert json.loads(chat[names.USAGE_PARTS]) == {"input": 24, "output": 8}
    assert (chat[names.COST], chat[names.COST_STATUS]) == (COST, "estimated")
    assert chat[names.CREATED_NS] == spans.all()[0].start_time == CHAT["created"] * 10**9
    assert len(chat[names.API_KEY_HASH]) == 16
    assert (failed[names.OPERATION], failed[names.NOT_BILLED], failed[names.COST]) == ("chat", True, "0")
    assert failed[names.ERROR_TYPE] == "invalid_value"


def test_an_answer_without_a_time_or_an_id_has_those_of_its_batch(
    client: openai.OpenAI, provider: Provider, spans: Spans
) -> None:
    provider.say(Answer({**BATCH, "endpoint": "/v1/embeddings"}), file(jsonl(line(2, EMBEDDINGS))))
    client.batches.retrieve(BATCH["id"])
    client.files.content("file-out")
    (embeddings,) = rows(spans)
    assert (embeddings[names.OPERATION], embeddings[names.RESPONSE_ID]) == ("embeddings", f"batch_req_{2:024}")
    assert embeddings[names.CREATED_NS] == spans.all()[0].start_time == BATCH["created_at"] * 10**9
    assert json.loads(embeddings[names.USAGE_PARTS]) == {"input": 7}


def test_what_was_read_to_its_end_is_not_read_again(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(file(THREE))
    for _ in range(3):
        assert client.files.content("file-out").content == THREE
    assert len(rows(spans)) == 2  # without the job nobody knows what the failed line was for


WAYS = {
    "content": lambda c: c.files.content("file-out").read(),
    "retrieve_content": lambda c: c.files.retrieve_content("file-out").encode(),
    "raw": lambda c: c.files.with_raw_response.content("file-out").parse().content,
    "by path": lambda c: c.get("/files/file-out/content", cast_to=str).encode(),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_fetching_a_file(way: str, client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(file(THREE))
    assert WAYS[way](client) == THREE
    assert [row[names.OPERATION] for row in rows(spans)] == ["chat", "embeddings"]


@pytest.mark.parametrize("squeeze", [lambda answer: answer, gzipped], ids=["plain", "gzip"])
def test_a_stream_makes_its_rows_as_it_is_read(
    client: openai.OpenAI, provider: Provider, spans: Spans, squeeze: Any
) -> None:
    content = jsonl(*(line(number) for number in range(50)))
    cut = len(content) // 2
    go_on = threading.Event()
    pieces = squeeze(Answer(chunks=[content[:cut], content[cut:]], content_type="application/octet-stream"))
    pieces.chunks.insert(1, lambda: go_on.wait(10))
    provider.say(pieces)
    with client.files.with_streaming_response.content("file-out") as response:
        got = b""
        pieces_read = response.iter_bytes()
        while len(got) < cut:
            got += next(pieces_read)
        assert len(spans.all()) == got.count(b"\n")
        go_on.set()
        for piece in pieces_read:
            got += piece
    assert got == content
    assert len(rows(spans)) == 50
    assert [row[names.RESPONSE_ID] for row in rows(spans)] == [
        line(number)["response"]["body"]["id"] for number in range(50)
    ]


def test_what_is_not_read_makes_no_row_until_it_is(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    content = jsonl(*(line(number) for number in range(2000)))
    provider.say(file(content))
    with client.files.with_streaming_response.content("file-out") as response:
        for _ in response.iter_lines():
            break
    seen = len(rows(spans))
    assert 0 < seen < 2000
    assert client.files.content("file-out").content == content
    again = rows(spans)[seen:]
    assert len(again) == 2000
    assert [row[names.RESPONSE_ID] for row in again[:seen]] == [row[names.RESPONSE_ID] for row in rows(spans)[:seen]]


def keys(spans: Spans) -> list[tuple[Any, ...]]:
    """What the ledger tells rows apart by."""
    return [(row["event_date"], row["entry_id"], row["line"]) for span in spans.all() for row in read(span)]


def test_another_process_makes_the_same_rows(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    content = jsonl(line(1), line(2, ERROR, 400), {"custom_id": "r-3", "response": {"body": EMBEDDINGS}})
    job = {**BATCH, "output_file_id": "file-9Lq4W3xk2mT7vBn1Zc8RyA"}
    provider.say(Answer(job), file(content), Answer(job), file(content))
    seen = []
    for _ in range(2):
        batch._known.clear()
        batch._read.clear()
        spans.exporter.clear()
        client.batches.retrieve(BATCH["id"])
        client.files.content(str(job["output_file_id"]))
        seen.append(keys(spans))
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 3
    assert {date for date, _, _ in seen[0]} == {"2024-08-28", "2026-05-28"}  # the chat's own day, and the batch's


def test_a_stream_that_breaks_has_the_rows_of_its_whole_lines(
    client: openai.OpenAI, provider: Provider, spans: Spans
) -> None:
    content = jsonl(*(line(number) for number in range(10)))
    cut = Answer(chunks=[content[:-200]], content_type="application/octet-stream", drop=True)
    provider.say(cut, file(content))
    with pytest.raises(Exception, match="closed connection|incomplete"):
        with client.files.with_streaming_response.content("file-out") as response:
            response.read()
    assert len(rows(spans)) == 9
    client.files.content("file-out")
    assert len(rows(spans)) == 9 + 10


@pytest.mark.parametrize(
    "content",
    [
        jsonl({"messages": [{"role": "user", "content": "hi"}]}, line(1)),
        jsonl({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}, line(1)),
        b"%PDF-1.7\n" + jsonl(line(1)),
        b"{" + b"x" * 10_000 + b"\n" + jsonl(line(1)),
        b"[1, 2]",
        b"",
        b"\n\n",
    ],
    ids=["training", "requests", "pdf", "no mark", "list", "empty", "blank"],
)
def test_files_of_another_kind_make_no_row(
    client: openai.OpenAI, provider: Provider, spans: Spans, content: bytes
) -> None:
    provider.say(file(content))
    assert client.files.content("file-other").content == content
    with client.files.with_streaming_response.content("file-other") as response:
        assert response.read() == content
    assert rows(spans) == []


def test_lines_belong_to_whoever_created_the_batch(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({**BATCH, "status": "validating", "output_file_id": None}), Answer(BATCH), file(jsonl(line(1))))
    with attribute(tenant="acme", feature="nightly"), track() as made:
        client.batches.create(input_file_id="file-in", endpoint="/v1/chat/completions", completion_window="24h")
    with attribute(tenant="operations"):
        client.batches.retrieve(BATCH["id"])
        client.files.content("file-out")
    (row,) = rows(spans)
    assert (row[names.TENANT], row[names.FEATURE]) == ("acme", "nightly")
    assert made.calls == 1


def test_lines_of_a_batch_from_elsewhere_belong_to_whoever_fetches_them(
    client: openai.OpenAI, provider: Provider, spans: Spans
) -> None:
    provider.say(Answer({"object": "list", "data": [BATCH]}), file(jsonl(line(1))))
    with attribute(tenant="operations"):
        assert next(iter(client.batches.list())).output_file_id == "file-out"
        client.files.content("file-out")
    assert rows(spans)[0][names.TENANT] == "operations"


def test_results_above_a_size_are_read_beside_the_program(
    client: openai.OpenAI, provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on = threading.Event(), threading.Event()
    take = batch.Results.all

    def waiting(results: Any, content: bytes) -> None:
        started.set()
        assert go_on.wait(10)
        take(results, content)

    monkeypatch.setattr(batch.Results, "all", waiting)
    content = jsonl(*(line(number) for number in range(4000)))
    assert len(content) > batch._INLINE
    provider.say(file(content))
    assert client.files.content("file-out").content == content
    assert started.wait(10)
    assert spans.all() == []
    go_on.set()
    assert len(rows(spans)) == 4000
    assert handoff.working == set()


@pytest.mark.usefixtures("ledger_home")
def test_a_flush_waits_for_results_that_are_still_being_read() -> None:
    go_on = threading.Event()
    batch._do(lambda: bool(go_on.wait(10)) and None, batch._INLINE + 1)
    with pytest.raises(FlushError, match="batch"):
        flush(0.01)
    go_on.set()
    flush()
    assert handoff.working == set()


def test_a_line_that_breaks_a_reader_costs_no_other_its_row(
    client: openai.OpenAI, provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = batch_endpoints.find("openai", "GET", "/files/file-out/content")
    assert target is not None
    reader = target.format.read

    def broken(document: Any, job: Any, name: str) -> Any:
        if document["custom_id"] == "r-2":
            raise ArithmeticError
        return reader(document, job, name)

    breaking = target._replace(format=dataclasses.replace(target.format, read=broken))
    monkeypatch.setattr(batch_endpoints, "find", lambda *_: breaking)
    provider.say(file(jsonl(line(1), line(2), line(3))))
    client.files.content("file-out")
    assert len(rows(spans)) == 2
    assert failures.counts["reading a line of a batch"] >= 1


def test_async(provider: Provider, spans: Spans) -> None:
    provider.say(file(THREE))

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.url + "/v1", max_retries=0) as client:
            assert (await client.files.content("file-out")).content == THREE
            async with client.files.with_streaming_response.content("file-two") as response:
                assert b"".join([piece async for piece in response.iter_bytes()]) == THREE

    asyncio.run(main())
    assert [row[names.OPERATION] for row in rows(spans)] == ["chat", "embeddings"] * 2


def test_groq_and_together(provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    provider.say(file(THREE))
    for sdk, name in ((groq, "groq"), (together, "together")):
        monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}={name}")
        settings.cache_clear()
        client = getattr(sdk, name.title())(api_key="k", base_url=provider.url + "/v1", max_retries=0)
        assert client.files.content(f"file-{name}").read() == THREE
    assert [row[names.PROVIDER] for row in rows(spans)] == ["groq"] * 2 + ["together"] * 2


def test_mistral(provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=mistral_ai")
    settings.cache_clear()
    job = {
        "id": "b-1",
        "object": "batch",
        "input_files": [],
        "endpoint": "/v1/chat/completions",
        "errors": [],
        "status": "SUCCESS",
        "created_at": 1_780_000_000,
        **dict.fromkeys(("total_requests", "completed_requests", "succeeded_requests", "failed_requests"), 1),
    }
    client = mistralai.client.Mistral(api_key="k", server_url=provider.url)
    provider.say(Answer({**job, "output_file": "f-1"}), file(jsonl(line(1), line(2, ERROR, 400))))
    client.batch.jobs.get(job_id="b-1")
    assert client.files.download(file_id="f-1").read() == jsonl(line(1), line(2, ERROR, 400))
    assert [(row[names.PROVIDER], names.NOT_BILLED in row) for row in rows(spans)] == [
        ("mistral_ai", False),
        ("mistral_ai", True),
    ]
    spans.exporter.clear()
    provider.say(Answer({**job, "id": "b-2", "outputs": [line(1), line(2)]}))
    for _ in range(2):
        assert len(client.batch.jobs.get(job_id="b-2", inline=True).outputs or ()) == 2
    assert len(rows(spans)) == 2


RESULTS = jsonl(
    {"custom_id": "a", "result": {"type": "succeeded", "message": MESSAGE}},
    {"custom_id": "b", "result": {"type": "errored", "error": {"type": "error", "error": {"type": "api_error"}}}},
    {"custom_id": "c", "result": {"type": "canceled"}},
    {"custom_id": "d", "result": {"type": "expired"}},
    {"custom_id": "e", "result": {"type": "succeeded", "message": {**MESSAGE, "id": "msg_01" + "z" * 22}}},
)


@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_anthropic(
    provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch, beta: bool, asynchronous: bool
) -> None:
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=anthropic")
    settings.cache_clear()
    job = {**MESSAGES, "results_url": f"{provider.url}/v1/messages/batches/{MESSAGES['id']}/results"}
    results = Answer(RESULTS, content_type="application/x-jsonl")
    provider.say(Answer(job), Answer(job), results, Answer(job), results)
    options: dict[str, Any] = {"api_key": "k", "base_url": provider.url, "max_retries": 0}
    requests: Any = [{"custom_id": "a", "params": {"model": "m", "max_tokens": 1, "messages": []}}]
    kinds: list[str] = []

    def of(client: Any) -> Any:
        return client.beta.messages.batches if beta else client.messages.batches

    async def main() -> None:
        async with anthropic.AsyncAnthropic(**options) as client:
            with attribute(tenant="acme"):
                await of(client).create(requests=requests)
            for _ in range(2):
                kinds.extend([each.result.type async for each in await of(client).results(MESSAGES["id"])])

    if asynchronous:
        asyncio.run(main())
    else:
        client = anthropic.Anthropic(**options)
        with attribute(tenant="acme"):
            of(client).create(requests=requests)
        for _ in range(2):
            kinds.extend(each.result.type for each in of(client).results(MESSAGES["id"]))
    assert kinds == ["succeeded", "errored", "canceled", "expired", "succeeded"] * 2
    first, failed, last = rows(spans)
    assert (first[names.RESPONSE_ID], last[names.RESPONSE_ID]) == (MESSAGE["id"], "msg_01" + "z" * 22)
    assert (first[names.OPERATION], first[names.PROCESSING], first[names.TENANT]) == ("chat", "batch", "acme")
    assert (first[names.COST], first[names.COST_STATUS]) == ("0.0002865", "priced")  # (11 x 3 + 36 x 15) / 2, per 1M
    assert first[names.CREATED_NS] == 1_780_000_000_100_435_000
    assert (failed[names.NOT_BILLED], failed[names.ERROR_TYPE]) == (True, "api_error")
    assert failed[names.RESPONSE_ID] == f"{MESSAGES['id']}/b"


def test_anthropics_results_are_read_no_sooner_than_the_program_reads_them(
    provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=anthropic")
    settings.cache_clear()
    job = {**MESSAGES, "results_url": f"{provider.url}/v1/messages/batches/{MESSAGES['id']}/results"}
    go_on = threading.Event()
    first, second, *others = RESULTS.splitlines(keepends=True)
    chunks = [first + second, lambda: go_on.wait(10), *others]
    provider.say(Answer(job), Answer(chunks=chunks, content_type="application/x-jsonl"))
    client = anthropic.Anthropic(api_key="k", base_url=provider.url)  # which closes its connection when it is let go
    results = client.messages.batches.results(MESSAGES["id"])
    assert spans.all() == []
    next(results)
    assert len(spans.all()) == 2
    go_on.set()
    assert len(list(results)) == 4
    assert len(rows(spans)) == 3


GEMINI_JOB = {
    "name": "batches/b1",
    "metadata": {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        "model": "models/gemini-2.5-flash",
        "state": "BATCH_STATE_SUCCEEDED",
        "createTime": "2026-11-01T00:00:00Z",
        "name": "batches/b1",
    },
    "done": True,
}
GEMINI_COST = "0.00000385"  # (9 x 0.30 + 2 x 2.50) / 2, per million


@pytest.fixture
def gemini(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> genai.Client:
    monkeypatch.delenv("SPANLEDGER_HOSTS")
    settings.cache_clear()
    return genai.Client(vertexai=False, api_key="AIza-test-0123456789", http_options={"base_url": provider.url})


def assert_gemini(row: dict[str, Any]) -> None:
    assert (row[names.PROVIDER], row[names.OPERATION], row[names.PROCESSING]) == ("gcp.gemini", "chat", "batch")
    assert (row[names.RESPONSE_ID], row[names.RESPONSE_MODEL]) == (GENERATED["responseId"], "gemini-2.5-flash")
    assert (row[names.COST], row[names.COST_STATUS]) == (GEMINI_COST, "priced")
    assert row[names.CREATED_NS] == 1_793_491_200 * 10**9


def test_gemini_inlined(gemini: genai.Client, provider: Provider, spans: Spans) -> None:
    inlined = [{"response": GENERATED, "metadata": {"key": "a"}}, {"error": {"code": 13, "message": "No."}}]
    output = {"inlinedResponses": {"inlinedResponses": inlined}}
    running = {**GEMINI_JOB, "done": False}
    done = {**GEMINI_JOB, "metadata": {**GEMINI_JOB["metadata"], "output": output}}  # type: ignore[dict-item]
    provider.say(Answer(running), Answer(running), Answer(done))
    with attribute(tenant="acme"):
        gemini.batches.create(model="gemini-2.5-flash", src=[{"contents": [{"parts": [{"text": "hi"}]}]}])
    assert gemini.batches.get(name="batches/b1").name == "batches/b1"
    assert spans.all() == []
    for _ in range(2):
        job = gemini.batches.get(name="batches/b1")
        assert job.dest is not None
        assert len(job.dest.inlined_responses or ()) == 2
    answered, failed = rows(spans)
    assert_gemini(answered)
    assert (answered[names.TENANT], answered[names.REQUEST_MODEL]) == ("acme", "gemini-2.5-flash")
    assert (failed[names.NOT_BILLED], failed[names.RESPONSE_ID]) == (True, "batches/b1/2")


@pytest.mark.parametrize("into", ["memory", "path", "writable"])
def test_gemini_from_a_file(gemini: genai.Client, provider: Provider, spans: Spans, into: str, tmp_path: Path) -> None:
    content = jsonl({"key": "a", "response": GENERATED}, {"key": "b", "error": {"code": 13, "message": "No."}})
    job = {**GEMINI_JOB, "metadata": {**GEMINI_JOB["metadata"], "output": {"responsesFile": "files/batch-b1"}}}  # type: ignore[dict-item]
    provider.say(Answer(job), file(content))
    found = gemini.batches.get(name="batches/b1")
    assert found.dest is not None
    for _ in range(2):
        destination: Any = {"memory": None, "path": tmp_path / "o", "writable": io.BytesIO()}[into]
        got = gemini.files.download(file=str(found.dest.file_name), destination=destination)
        if into == "path":
            got = destination.read_bytes()
        elif into == "writable":
            got = destination.getvalue()
        assert got == content
    answered, failed = rows(spans)
    assert_gemini(answered)
    assert failed[names.NOT_BILLED] is True


@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
@pytest.mark.parametrize("into", ["memory", "writable"])
def test_gemini_async(
    gemini: genai.Client,
    provider: Provider,
    spans: Spans,
    transport: str,
    into: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_api_client, "has_aiohttp", transport == "aiohttp")
    content = jsonl({"key": "a", "response": GENERATED})
    provider.say(Answer(GEMINI_JOB), file(content))

    class Writable:
        def __init__(self) -> None:
            self.got = b""

        async def write(self, data: bytes) -> None:
            self.got += data

    async def main() -> None:
        async with genai.Client(vertexai=False, api_key="k", http_options={"base_url": provider.url}).aio as client:
            await client.batches.get(name="batches/b1")
            destination: Any = Writable() if into == "writable" else None
            got = await client.files.download(file="files/batch-b1", destination=destination)
            assert (destination.got if into == "writable" else got) == content

    asyncio.run(main())
    (row,) = rows(spans)
    assert row[names.RESPONSE_ID] == GENERATED["responseId"]
    assert row[names.PROCESSING] == "batch"


def test_nothing_is_watched_without_instrumentation(client: openai.OpenAI, provider: Provider) -> None:
    provider.say(file(THREE))
    assert client.files.content("file-out").content == THREE
    assert batch._read == {}
