"""Batches of OpenAI's kind: a file of JSON lines, each with the answer that its request would have had by itself.

OpenAI, Azure, Groq, Together, Mistral and other compatible endpoints. A line that expired or was cancelled never ran;
one that failed is not billed. What was completed before the batch ended is.

Sources: https://developers.openai.com/api/docs/guides/batch, https://help.openai.com/en/articles/9197833-batch-api-faq,
`openai.types.batch`, `together.types.batch_job`, `mistralai.client.models.batchjob`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from spanledger.instrumentation.wire import gemini_usage
from spanledger.instrumentation.wire.batch import Format, Job, Result, own_id
from spanledger.instrumentation.wire.endpoints import Endpoint, find
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import count, error_of, mapping, sequence, text, time_ns
from spanledger.pricing.usage import MISSING, Usage

_PATHS = {
    "chat.completion": "/chat/completions",
    "text_completion": "/completions",
    "response": "/responses",
    "video": "/videos",
}
"""`object` of an answer -> the endpoint that gives it."""

_NEVER_RAN = frozenset({"batch_expired", "batch_cancelled", "batch_canceled"})
_FILES = ("output_file_id", "error_file_id", "output_file", "error_file")


def is_line(line: Mapping[str, Any]) -> bool:
    """Whether this is a line of results: one of requests has a `body` beside its `custom_id`."""
    return "custom_id" in line and ("response" in line or "error" in line) and "body" not in line


def jobs(body: Mapping[str, Any]) -> tuple[Job, ...]:
    """The job in a body, or those of a list, or the one that Together wraps."""
    body = mapping(body)
    told = sequence(body.get("data")) or (body.get("job") or body,)
    return tuple(_job(each) for each in map(mapping, told) if text(each.get("id")))


def _job(body: Mapping[str, Any]) -> Job:
    created = body.get("created_at")
    return Job(
        name=text(body.get("id")),
        created_ns=gemini_usage.time_ns(created) if isinstance(created, str) else time_ns(created),
        path=text(body.get("endpoint")),
        model=text(body.get("model")) or text(body.get("model_id")),
        files=tuple(name for field in _FILES if (name := text(body.get(field)))),
        lines=sequence(body.get("outputs")),
    )


def read(format: str, line: Mapping[str, Any], job: Job, name: str) -> Result | None:
    """Read a line of results, by the reader of the endpoint that it is for.

    Parameters:
        format: the endpoint's wire format.
        name: of the line; its own `id` stands over it.
    """
    line, response = mapping(line), mapping(line.get("response"))
    body = response.get("body")
    if not isinstance(body, dict):
        body = response if "status_code" not in response else {}
    status = count(response.get("status_code")) or 200
    endpoint = _endpoint(format, body, job.path)
    if endpoint is None:
        return None
    error = error_of(line.get("error"))
    if error is None and status >= 400:
        error = error_of(body.get("error")) or (str(status), text(body.get("message")))
    if error is None:
        if not body:
            return None
        reading = endpoint.read(body, {})
    elif error[0] in _NEVER_RAN:
        return None
    else:
        reading = Reading(usage=Usage(status=MISSING, reasons=("the line failed",)), error=error, not_billed=True)
    own_id(reading, text(line.get("id")) or text(response.get("request_id")) or name)
    return Result(endpoint.operation, reading)


def _endpoint(format: str, body: Mapping[str, Any], path: str) -> Endpoint | None:
    """The endpoint that gives such an answer: the answer says, else the job."""
    path = _PATHS.get(text(body.get("object"))) or path
    if not path:
        data = sequence(body.get("data"))
        first = mapping(next(iter(data), None))
        if first.get("object") == "embedding" or "embedding" in first:
            path = "/embeddings"
        elif "b64_json" in first or "url" in first:
            path = "/images/generations"
        elif "choices" in body:
            path = "/chat/completions"
        elif "pages" in body:
            path = "/ocr"
        elif "results" in body:
            path = "/moderations"
    return find(format, "POST", path) if path else None


OPENAI = Format(jobs, is_line, partial(read, "openai"), (b'"custom_id"',))
MISTRAL = Format(jobs, is_line, partial(read, "mistral"), (b'"custom_id"',))
