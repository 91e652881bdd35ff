"""Videos through the real SDKs: a row where one is started, completed by the first retrieval that finds it done."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
import together
from google import genai
from google.genai import types

from spanledger import attributes as names
from spanledger.attribution import attribute
from spanledger.exporter.identity import entry_id
from spanledger.instrumentation.patches import background
from spanledger.settings import settings
from spanledger.tracking import cost_of, track
from tests.instrumentation.conftest import Spans
from tests.provider import Answer, Provider

JOB = {
    "id": "video_68d7512d07848190b3e45da0ecbebcde",
    "object": "video",
    "created_at": 1_780_000_000,
    "status": "queued",
    "model": "sora-2-pro",
    "progress": 0,
    "seconds": "8",
    "size": "1792x1024",
}
RUNNING = {**JOB, "status": "in_progress", "progress": 40}
DONE = {**JOB, "status": "completed", "progress": 100, "completed_at": 1_780_000_090}
FAILED = {**JOB, "status": "failed", "error": {"code": "moderation_blocked", "message": "No."}}
COST = "4"  # 8 x 0.50
PROMPT = "what is in my secret diary?"
NOW = {"openai-poll-after-ms": "1"}


@pytest.fixture(autouse=True)
def nothing_pending() -> None:
    background._pending.clear()
    background._delivered.clear()


@pytest.fixture
def client(provider: Provider) -> openai.OpenAI:
    return openai.OpenAI(api_key="sk-test-0123456789abcdef", base_url=provider.url + "/v1", max_retries=0)


def rows(spans: Spans) -> list[dict[str, Any]]:
    return [dict(span.attributes or {}) for span in spans.all()]


def assert_one_bill(*spans: Any) -> None:
    """Both spans are the same row, and the last one's usage stands."""
    ids = {
        entry_id(
            span.attributes[names.PROVIDER],
            span.attributes[names.RESPONSE_ID],
            f"{span.context.trace_id:032x}",
            f"{span.context.span_id:016x}",
        )
        for span in spans
    }
    assert len(ids) == 1
    statuses = [span.attributes[names.USAGE_STATUS] for span in spans]
    assert statuses == ["missing"] * (len(spans) - 1) + ["reported"]


def test_a_video_is_billed_once_when_it_is_done(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(*(Answer(body, headers=NOW) for body in (JOB, RUNNING, DONE, DONE)))
    with attribute(tenant="acme"), track() as made:
        video = client.videos.create(prompt=PROMPT, model="sora-2-pro", seconds="8", size="1792x1024")
    assert [row[names.COST_STATUS] for row in rows(spans)] == ["usage_missing"]
    with attribute(tenant="operations"):
        polled = client.videos.poll(video.id)
        assert polled.status == "completed"
        assert client.videos.retrieve(video.id).status == "completed"
    started, done = rows(spans)
    assert_one_bill(*spans.all())
    assert (started[names.OPERATION], done[names.OPERATION]) == ("video_generation", "video_generation")
    assert json.loads(done[names.USAGE_PARTS]) == {"video_second": 8}
    assert (done[names.COST], done[names.COST_STATUS], done[names.SERVICE_TIER]) == (COST, "priced", "1792x1024")
    assert (done[names.TENANT], done[names.CREATED_NS]) == ("acme", 1_780_000_000 * 10**9)
    assert (done[names.REQUEST_MODEL], done[names.RESPONSE_MODEL]) == ("sora-2-pro", "sora-2-pro")
    assert spans.all()[1].start_time == spans.all()[0].start_time
    assert (made.calls, made.unknown) == (2, 1)
    assert str(cost_of(polled).cost).rstrip("0").rstrip(".") == COST
    assert "diary" not in str([span.to_json() for span in spans.all()])
    assert all("diary" not in str(pending.request) for pending in background._pending.values())


def test_create_and_poll(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(*(Answer(body, headers=NOW) for body in (JOB, RUNNING, DONE)))
    assert client.videos.create_and_poll(prompt=PROMPT, model="sora-2-pro").status == "completed"
    assert_one_bill(*spans.all())


def test_async(provider: Provider, spans: Spans) -> None:
    provider.say(*(Answer(body, headers=NOW) for body in (JOB, DONE)))

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.url + "/v1", max_retries=0) as client:
            video = await client.videos.create(prompt=PROMPT)
            assert (await client.videos.retrieve(video.id)).status == "completed"

    asyncio.run(main())
    assert_one_bill(*spans.all())


def test_a_video_of_another_process_is_billed_where_it_is_found_done(
    client: openai.OpenAI, provider: Provider, spans: Spans
) -> None:
    provider.say(Answer(RUNNING), Answer(DONE))
    for _ in range(3):
        client.videos.retrieve(JOB["id"])
    assert json.loads(spans.one()[names.USAGE_PARTS]) == {"video_second": 8}


def test_an_extended_video_is_billed_by_the_seconds_that_were_added(
    client: openai.OpenAI, provider: Provider, spans: Spans
) -> None:
    provider.say(Answer(JOB), Answer({**DONE, "seconds": "12"}))
    client.videos.extend(prompt=PROMPT, seconds="4", video=b"mp4")
    client.videos.retrieve(JOB["id"])
    assert json.loads(rows(spans)[1][names.USAGE_PARTS]) == {"video_second": 4}


def test_a_video_that_failed_is_not_billed(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(JOB), Answer(FAILED))
    client.videos.create(prompt=PROMPT)
    assert client.videos.retrieve(JOB["id"]).error is not None
    assert_one_bill(*spans.all())
    failed = rows(spans)[1]
    assert (failed[names.NOT_BILLED], failed[names.COST], failed[names.COST_STATUS]) == (True, "0", "not_billed")
    assert (failed[names.ERROR_TYPE], failed[names.ERROR_MESSAGE]) == ("moderation_blocked", "No.")


def test_lists_and_contents_make_no_row(client: openai.OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"object": "list", "data": [DONE]}), Answer(b"mp4", content_type="video/mp4"))
    assert next(iter(client.videos.list())).id == JOB["id"]
    assert client.videos.download_content(JOB["id"]).content == b"mp4"
    assert spans.all() == []


def test_together(provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=together")
    settings.cache_clear()
    job = {"id": "0197f7b1-5e10-7eb2-8c2f-5b7d2f3c1a90", "object": "video", "created_at": 1_780_000_000.5}
    job |= {"model": "minimax/video-01-director", "seconds": "5", "size": "1366x768", "status": "in_progress"}
    outputs = {"cost": 28, "video_url": "https://example.com/v.mp4"}
    provider.say(Answer(job), Answer({**job, "status": "completed", "outputs": outputs}))
    client = together.Together(api_key="k", base_url=provider.url + "/v1", max_retries=0)
    video = client.videos.create(model="minimax/video-01-director", prompt=PROMPT)
    client.videos.retrieve(str(video.id))
    assert_one_bill(*spans.all())
    done = rows(spans)[1]
    assert (done[names.PROVIDER], json.loads(done[names.USAGE_PARTS])) == ("together", {"video_second": 5})
    assert "example.com" not in str(done)


OPERATION = "models/veo-3.1-fast-generate-001/operations/k3f9x2m8q1"
SAMPLE = {"video": {"uri": "https://example.com/files/1:download?alt=media"}}
ON_VERTEX = (
    "projects/p/locations/us-central1/publishers/google/models/veo-3.1-fast-generate-001/operations/"
    "1ee95bd1-0b4b-4b5d-8e6a-2f4b1d2c3e4f"
)


def veo(name: str, response: Any = None) -> Answer:
    return Answer({"name": name, **({} if response is None else {"done": True, "response": response})})


def start(client: genai.Client, vertex: bool, name: str) -> types.GenerateVideosOperation:
    """Ask for two videos of six seconds; google-genai from 3 on has a method for it on Vertex AI alone."""
    model = "veo-3.1-fast-generate-001"
    if vertex:
        config = types.GenerateVideosConfig(duration_seconds=6, resolution="1080p", number_of_videos=2)
        source = types.GenerateVideosSource(prompt=PROMPT)
        return client.models.generate_videos(model=model, source=source, config=config)
    parameters = {"durationSeconds": 6, "resolution": "1080p", "sampleCount": 2}
    body = {"instances": [{"prompt": PROMPT}], "parameters": parameters}
    client._api_client.request("post", f"models/{model}:predictLongRunning", body)
    return types.GenerateVideosOperation(name=name)


@pytest.mark.parametrize("vertex", [False, True])
def test_veo(provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch, vertex: bool) -> None:
    monkeypatch.delenv("SPANLEDGER_HOSTS")
    settings.cache_clear()
    options: dict[str, Any] = {"http_options": {"base_url": provider.url}}
    if vertex:
        from google.oauth2.credentials import Credentials

        options |= {"vertexai": True, "project": "p", "location": "us-central1", "credentials": Credentials("token")}
    client = genai.Client(**options) if vertex else genai.Client(vertexai=False, api_key="k", **options)
    name = ON_VERTEX if vertex else OPERATION
    videos = {"videos": [{"gcsUri": "gs://b/1"}, {"gcsUri": "gs://b/2"}]}
    done = videos if vertex else {"generateVideoResponse": {"generatedSamples": [SAMPLE, SAMPLE]}}
    provider.say(veo(name), veo(name), veo(name, done))
    with attribute(tenant="acme"):
        operation = start(client, vertex, name)
    for _ in range(3):
        operation = client.operations.get(operation)
    assert operation.done
    assert_one_bill(*spans.all())
    started, ended = rows(spans)
    assert started[names.PROVIDER] == ended[names.PROVIDER] == ("gcp.vertex_ai" if vertex else "gcp.gemini")
    assert started[names.REQUEST_MODEL] == ended[names.REQUEST_MODEL] == "veo-3.1-fast-generate-001"
    assert json.loads(ended[names.USAGE_PARTS]) == {"video_second": 12}
    assert (ended[names.COST], ended[names.COST_STATUS]) == ("1.44", "priced")  # 12 x 0.12
    assert (ended[names.SERVICE_TIER], ended[names.TENANT]) == ("1080p", "acme")
    assert ended.get(names.REGION, "") == ("us-central1" if vertex else "")
    assert "diary" not in str([span.to_json() for span in spans.all()])


def test_an_operation_of_another_process_makes_no_row(
    provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPANLEDGER_HOSTS")
    settings.cache_clear()
    provider.say(veo(OPERATION, {"generateVideoResponse": {"generatedSamples": [SAMPLE]}}))
    client = genai.Client(vertexai=False, api_key="k", http_options={"base_url": provider.url})
    assert client.operations.get(types.GenerateVideosOperation(name=OPERATION)).done
    assert spans.all() == []
