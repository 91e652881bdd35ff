"""The lines of batches: which files they are told by, what each line is, and that no line can break a reader."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest

from spanledger.instrumentation.wire import batch_endpoints
from spanledger.instrumentation.wire.batch import Format, Job, Result
from spanledger.pricing.usage import MISSING, REPORTED
from tests.instrumentation.wire.test_hostile import HOSTILE, MUTATIONS, _check, _mutate

OPENAI = "openai GET /files/f/content"
MISTRAL = "mistral GET /v1/files/f/content"
ANTHROPIC = "anthropic GET /v1/messages/batches/b/results"
GEMINI = "gemini GET /v1beta/files/f:download"

CHAT = {
    "id": "chatcmpl-A1Efhv97EZNQeHKSLPnTmZex20gf2",
    "object": "chat.completion",
    "created": 1_724_858_089,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 24, "completion_tokens": 8, "total_tokens": 32},
}
RESPONSE = {
    "id": "resp_68d7512d07848190b3e45da0ecbebcde",
    "object": "response",
    "created_at": 1_780_000_000,
    "model": "gpt-5-mini",
    "status": "completed",
    "output": [],
    "usage": {"input_tokens": 30, "output_tokens": 5, "total_tokens": 35},
}
EMBEDDINGS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 7, "total_tokens": 7},
}
IMAGE = {"created": 1_780_000_000, "data": [{"b64_json": "aGk="}]}
VIDEO = {"id": "video_1", "object": "video", "created_at": 1_780_000_000, "status": "completed", "seconds": "4"}
OCR = {"pages": [{"index": 0}], "model": "mistral-ocr-latest", "usage_info": {"pages_processed": 3}}
MESSAGE = {
    "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "4"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 11, "output_tokens": 36, "service_tier": "batch"},
}
GENERATED = {
    "candidates": [{"content": {"parts": [{"text": "4"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11},
    "modelVersion": "gemini-2.5-flash",
    "responseId": "f3kTaZ2kL7-Xm9IPuvKjqQc",
}


def line(body: Any, status: int = 200, error: Any = None, **more: Any) -> dict[str, Any]:
    response = None if body is None else {"status_code": status, "request_id": "0" * 32, "body": body}
    return {"id": "batch_req_403hYy7nMxrxXFWXiwvoLG1q", "custom_id": "a", "response": response, "error": error, **more}


def of(call: str) -> Format:
    target = batch_endpoints.find(*call.split())
    assert target is not None, call
    return target.format


def read(call: str, document: dict[str, Any], job: Job | None = None) -> Result | None:
    return of(call).read(document, job or Job("f"), "f/a")


ANSWERED = [
    ("a chat", OPENAI, line(CHAT), "", "chat", {"input": 24, "output": 8}, CHAT["id"]),
    ("a response", OPENAI, line(RESPONSE), "", "chat", {"input": 30, "output": 5}, RESPONSE["id"]),
    ("embeddings", OPENAI, line(EMBEDDINGS), "", "embeddings", {"input": 7}, "batch_req_403hYy7nMxrxXFWXiwvoLG1q"),
    ("embeddings that the job tells", OPENAI, line({**EMBEDDINGS, "data": []}), "/v1/embeddings", "embeddings",
        {"input": 7}, "batch_req_403hYy7nMxrxXFWXiwvoLG1q"),
    ("embeddings without an id", OPENAI, {"custom_id": "a", "response": {"body": EMBEDDINGS}}, "", "embeddings",
        {"input": 7}, "f/a"),
    ("an image", OPENAI, line(IMAGE), "", "image_generation", {"image": 1}, "batch_req_403hYy7nMxrxXFWXiwvoLG1q"),
    ("a video", OPENAI, line(VIDEO), "", "video_generation", {"video_second": 4}, "video_1"),
    ("an answer without a wrapper", OPENAI, {"custom_id": "a", "response": CHAT}, "", "chat",
        {"input": 24, "output": 8}, CHAT["id"]),
    ("a chat of Mistral's", MISTRAL, line({**CHAT, "id": "e5cc70bb28c444948073e77776eb30ef"}), "", "chat",
        {"input": 24, "output": 8}, "e5cc70bb28c444948073e77776eb30ef"),
    ("pages", MISTRAL, line(OCR), "", "ocr", {"page": 3}, "batch_req_403hYy7nMxrxXFWXiwvoLG1q"),
    ("a message", ANTHROPIC, {"custom_id": "a", "result": {"type": "succeeded", "message": MESSAGE}}, "", "chat",
        {"input": 11, "output": 36}, MESSAGE["id"]),
    ("a generation", GEMINI, {"key": "a", "response": GENERATED}, "", "chat", {"input": 9, "output": 2},
        GENERATED["responseId"]),
    ("a generation without an id", GEMINI, {"response": {**GENERATED, "responseId": None}}, "", "chat",
        {"input": 9, "output": 2}, "f/a"),
    ("an embedding", GEMINI, {"key": "a", "response": {"embedding": {"values": [0.5]}, "tokenCount": "5"}}, "",
        "embeddings", {"input": 5}, "f/a"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "document", "path", "operation", "parts", "response_id"),
    [row[1:] for row in ANSWERED],
    ids=[row[0] for row in ANSWERED],
)
def test_a_line_is_read_as_the_answer_that_its_request_would_have_had(
    call: str, document: dict[str, Any], path: str, operation: str, parts: dict[str, int], response_id: str
) -> None:
    assert of(call).is_line(document)
    assert any(mark in json.dumps(document).encode()[:4096] for mark in of(call).marks)
    result = read(call, document, Job("f", path=path))
    assert result is not None
    assert result.operation == operation
    assert {part: n for part, n in result.reading.usage.parts.items() if n} == parts
    assert result.reading.usage.status == REPORTED
    assert result.reading.response_id == response_id
    assert not result.reading.not_billed


ERROR = {"error": {"code": "invalid_value", "type": "invalid_request_error", "message": "No."}}
FAILED = [
    ("a refused request", OPENAI, line(ERROR, 400), "/v1/chat/completions", "invalid_value"),
    ("an error of the batch", OPENAI, line(None, error={"code": "server_error", "message": "No."}), "/v1/responses",
        "server_error"),
    ("a message", ANTHROPIC, {"custom_id": "a", "result": {"type": "errored", "error": {"type": "error", "error":
        {"type": "invalid_request_error", "message": "No."}}}}, "", "invalid_request_error"),
    ("a generation", GEMINI, {"key": "a", "error": {"code": 13, "message": "No."}}, "", "13"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "document", "path", "kind"), [row[1:] for row in FAILED], ids=[row[0] for row in FAILED]
)
def test_a_line_that_failed_is_not_billed(call: str, document: dict[str, Any], path: str, kind: str) -> None:
    result = read(call, document, Job("f", path=path))
    assert result is not None
    assert result.reading.not_billed
    assert result.reading.error == (kind, "No.")
    assert (result.reading.usage.status, result.reading.usage.parts) == (MISSING, {})


@pytest.mark.parametrize(
    ("call", "document"),
    [
        (OPENAI, line(None, error={"code": "batch_expired", "message": "It expired."})),
        (OPENAI, line(None, error={"code": "batch_cancelled", "message": "It was cancelled."})),
        (ANTHROPIC, {"custom_id": "a", "result": {"type": "expired"}}),
        (ANTHROPIC, {"custom_id": "a", "result": {"type": "canceled"}}),
    ],
)
def test_a_line_that_never_ran_is_no_call(call: str, document: dict[str, Any]) -> None:
    assert of(call).is_line(document)
    assert read(call, document, Job("f", path="/v1/chat/completions")) is None


@pytest.mark.parametrize(
    ("call", "document"),
    [
        (OPENAI, {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"}}),
        (OPENAI, {"messages": [{"role": "user", "content": "hi"}]}),
        (OPENAI, {"prompt": "a", "completion": "b"}),
        (OPENAI, CHAT),
        (ANTHROPIC, {"custom_id": "a", "params": {"model": "m"}}),
        (ANTHROPIC, {"type": "error", "error": {"type": "not_found_error"}}),
        (GEMINI, {"key": "a", "request": {"contents": []}}),
        (GEMINI, {"text_input": "a", "output": "b"}),
    ],
)
def test_files_of_another_kind_are_told_by_their_first_line(call: str, document: dict[str, Any]) -> None:
    assert not of(call).is_line(document)


def test_jobs() -> None:
    job = {"id": "batch_1", "object": "batch", "endpoint": "/v1/responses", "created_at": 1_780_000_000}
    done = {**job, "output_file_id": "file-o", "error_file_id": "file-e", "model": "gpt-5-mini"}
    found = Job("batch_1", 1_780_000_000 * 10**9, "/v1/responses", "gpt-5-mini", ("file-o", "file-e"))
    assert of(OPENAI).jobs(done) == (found,)
    assert of(OPENAI).jobs({"object": "list", "data": [done, job]})[0] == found
    together = {"job": {"id": "b", "created_at": "2026-05-28T20:26:40Z", "endpoint": "/v1/chat/completions"}}
    assert of(OPENAI).jobs(together) == (Job("b", 1_780_000_000 * 10**9, "/v1/chat/completions"),)
    mistral = {
        "id": "b",
        "created_at": 1_780_000_000,
        "endpoint": "/v1/ocr",
        "output_file": "f",
        "outputs": [line(OCR)],
    }
    assert of(MISTRAL).jobs(mistral)[0].files == ("f",)
    assert list(of(MISTRAL).jobs(mistral)[0].lines) == [line(OCR)]
    message = {"id": "msgbatch_1", "created_at": "2026-05-28T20:26:40.5Z", "type": "message_batch"}
    assert of(ANTHROPIC).jobs(message)[0].created_ns == 1_780_000_000_500_000_000
    assert of(ANTHROPIC).jobs({**message, "created_at": "2026-05-28T20:26:40+00:00"})[0].created_ns == (
        1_780_000_000 * 10**9
    )
    about = {"model": "models/gemini-2.5-flash", "createTime": "2026-05-28T20:26:40Z"}
    output = {"inlinedResponses": {"inlinedResponses": [{"response": GENERATED, "metadata": {"key": "a"}}]}}
    gemini = {"name": "batches/b", "metadata": {**about, "output": output}, "done": True}
    assert of(GEMINI).jobs(gemini)[0].created_ns == 1_780_000_000 * 10**9
    assert of(GEMINI).jobs(gemini)[0].model == "gemini-2.5-flash"
    assert len(of(GEMINI).jobs(gemini)[0].lines) == 1
    filed = {"name": "batches/b", "metadata": about, "done": True, "response": {"responsesFile": "files/batch-b"}}
    assert of(GEMINI).jobs(filed)[0].files == ("files/batch-b",)


ABOUT_BATCHES = [
    ("openai", "POST", "/batches", "", True),
    ("openai", "GET", "/batches/batch_1", "", False),
    ("openai", "GET", "/batches?limit=2", "", False),
    ("openai", "POST", "/batches/batch_1/cancel", "", False),
    ("openai", "get", "https://r.openai.azure.com/openai/files/file-1/content?api-version=1", "file-1", False),
    ("openai", "GET", "/openai/v1/files/file-1/content", "file-1", False),
    ("mistral", "POST", "https://api.mistral.ai/v1/batch/jobs", "", True),
    ("mistral", "GET", "https://api.mistral.ai/v1/batch/jobs/b", "", False),
    ("mistral", "GET", "https://api.mistral.ai/v1/files/f/content", "f", False),
    ("anthropic", "POST", "/v1/messages/batches?beta=true", "", True),
    ("anthropic", "GET", "/v1/messages/batches/b?beta=true", "", False),
    ("anthropic", "GET", "https://api.anthropic.com/v1/messages/batches/b/results", "b", False),
    ("gemini", "POST", "https://g.com/v1beta/models/gemini-2.5-flash:batchGenerateContent", "", True),
    ("gemini", "POST", "https://g.com/v1beta/models/gemini-embedding-001:asyncBatchEmbedContent", "", True),
    ("gemini", "GET", "https://g.com/v1beta/batches/b", "", False),
    ("gemini", "GET", "https://g.com/v1beta/files/batch-b:download?alt=media", "files/batch-b", False),
]


@pytest.mark.parametrize(("format", "method", "url", "name", "creates"), ABOUT_BATCHES)
def test_requests_about_batches(format: str, method: str, url: str, name: str, creates: bool) -> None:
    target = batch_endpoints.find(format, method, url)
    assert target is not None
    assert (target.name, target.creates) == (name, creates)


@pytest.mark.parametrize(
    ("format", "method", "url"),
    [
        ("openai", "GET", "/files/file-1"),
        ("openai", "POST", "/files"),
        ("openai", "DELETE", "/files/file-1"),
        ("openai", "GET", "/videos/video_1/content"),
        ("openai", "GET", "/containers/c/files/f"),
        ("mistral", "GET", "https://api.mistral.ai/v1/fine_tuning/jobs/b"),
        ("mistral", "GET", "https://api.mistral.ai/v1/batch"),
        ("anthropic", "DELETE", "/v1/messages/batches/b"),
        ("anthropic", "GET", "/v1/files/f/content"),
        ("gemini", "POST", "https://g.com/v1beta/batches/b:cancel"),
        ("gemini", "GET", "https://g.com/v1beta/files/f"),
        ("cohere", "GET", "/v2/batches/b"),
        ("openai", "GET", ""),
    ],
)
def test_requests_about_something_else(format: str, method: str, url: str) -> None:
    assert batch_endpoints.find(format, method, url) is None


def test_mutated_lines_and_jobs() -> None:
    chance = random.Random(20_260_102)
    documents = [(row[1], row[2], row[3]) for row in ANSWERED] + [(row[1], row[2], row[3]) for row in FAILED]
    for number in range(MUTATIONS):
        call, document, path = chance.choice(documents)
        document = copy.deepcopy(document)
        for _ in range(chance.randint(1, 4)):
            _mutate(document, chance)
        told = f"mutation {number} of {call}: {document!r}"
        of(call).is_line(document)
        result = read(call, document, Job("f", path=path))
        if result is not None:
            assert result.operation, told
            _check(result.reading, told)
        job = {"id": "b", "name": "batches/b", "created_at": 1, "data": [document], "outputs": [document], **document}
        _mutate(job, chance)
        for each in of(call).jobs(chance.choice(HOSTILE) if chance.random() < 0.02 else job):
            assert each.name, told
            assert all(isinstance(value, str) for value in (each.path, each.model, *each.files)), told
            assert each.created_ns is None or type(each.created_ns) is int, told
