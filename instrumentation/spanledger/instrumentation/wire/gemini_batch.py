"""Batches of the Gemini Developer API: answers inside the job, or a file of JSON lines.

A response does not say when it was made: its time is the batch's. Batches of Vertex AI write to Cloud Storage or
BigQuery, which this does not read.

Sources: `google.genai.batches._BatchJob_from_mldev`, `google.genai.types.InlinedResponse`,
`InlinedEmbedContentResponse`; https://ai.google.dev/gemini-api/docs/batch-api.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import gemini, gemini_usage
from spanledger.instrumentation.wire.batch import Format, Job, Result, own_id
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import mapping, sequence, text
from spanledger.pricing.usage import MISSING, Usage

_INLINED = ("inlinedResponses", "inlinedEmbedContentResponses")


def is_line(line: Mapping[str, Any]) -> bool:
    """Whether this is a line of results: one of requests has a `request` beside its `key`."""
    return "request" not in line and (isinstance(line.get("response"), dict) or isinstance(line.get("error"), dict))


def jobs(body: Mapping[str, Any]) -> tuple[Job, ...]:
    """The job in a body, or those of a list."""
    body = mapping(body)
    told = sequence(body.get("operations")) or (body,)
    return tuple(_job(each) for each in map(mapping, told) if text(each.get("name")).startswith("batches/"))


def _job(body: Mapping[str, Any]) -> Job:
    about = mapping(body.get("metadata"))
    output = mapping(about.get("output")) or mapping(body.get("response"))
    file = text(output.get("responsesFile"))
    lines = [line for name in _INLINED for line in sequence(mapping(output.get(name)).get("inlinedResponses"))]
    return Job(
        name=text(body.get("name")),
        created_ns=gemini_usage.time_ns(about.get("createTime")),
        model=text(about.get("model")).removeprefix("models/"),
        files=(file,) if file else (),
        lines=lines,
    )


def read(line: Mapping[str, Any], job: Job, name: str) -> Result | None:
    """Read a line of results, or an inlined response."""
    line = mapping(line)
    response, error = mapping(line.get("response")), gemini_usage.error(line.get("error"))
    embeds = "embedding" in response or (error is not None and "embedding" in job.model)
    if error is not None:
        reading = Reading(usage=Usage(status=MISSING, reasons=("the line failed",)), error=error, not_billed=True)
    elif not response:
        return None
    else:
        if "tokenCount" in response and "usageMetadata" not in response:
            response = {**response, "usageMetadata": {"promptTokenCount": response["tokenCount"]}}
        reading = gemini.read(response, {})
    reading.response_model = reading.response_model or job.model
    own_id(reading, name)
    return Result("embeddings" if embeds else "chat", reading)


FORMAT = Format(jobs, is_line, read, (b'"response"', b'"error"', b'"key"'))
