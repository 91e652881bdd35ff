"""Which requests are about batches, and who reads what they bring: one line a wire format."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from spanledger.instrumentation.wire import anthropic_batch, gemini_batch, openai_batch
from spanledger.instrumentation.wire.batch import Format

_FORMATS = {
    "anthropic": anthropic_batch.FORMAT,
    "gemini": gemini_batch.FORMAT,
    "mistral": openai_batch.MISTRAL,
    "openai": openai_batch.OPENAI,
}


class Target(NamedTuple):
    """What a request about batches is for.

    Attributes:
        format: who reads the answer.
        name: of the batch or file whose results the answer brings; empty where the answer is about jobs.
        creates: the request makes a batch.
    """

    format: Format
    name: str = ""
    creates: bool = False


@lru_cache(maxsize=1024)
def find(format: str, method: str, url: str) -> Target | None:
    """What a request has to do with batches; None if nothing.

    Parameters:
        format: a wire format; not all have batches.
        method: HTTP method, in any case.
        url: whole or only its path, with or without a query.
    """
    known, posts = _FORMATS.get(format), method.upper() == "POST"
    if known is None or not (posts or method.upper() == "GET"):
        return None
    path = url.partition("?")[0]
    segments = path.rpartition("://")[2].split("/")
    last = segments[-1]
    before = segments[-2] if len(segments) > 1 else ""
    place = segments[-3] if len(segments) > 2 else ""
    if format == "gemini":
        verb = last.partition(":")[2]
        if before == "files" and verb == "download":
            return Target(known, f"files/{last.partition(':')[0]}")
        if posts:
            return Target(known, creates=True) if verb in ("batchGenerateContent", "asyncBatchEmbedContent") else None
        return Target(known) if before == "batches" or last == "batches" else None
    if last in ("content", "results") and not posts:
        holder = "batches" if format == "anthropic" else "files"
        return Target(known, before) if place == holder and (last == "results") == (holder == "batches") else None
    collections = ("jobs", "batch") if format == "mistral" else ("batches", "")
    if last == collections[0] and collections[1] in ("", before):
        return Target(known, creates=posts)
    if before == collections[0] and collections[1] in ("", place):
        return Target(known)
    return Target(known) if last == "cancel" and place == collections[0] else None
