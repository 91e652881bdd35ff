"""What the readers of batches make of a job and of the lines that it delivers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import mapping, text


@dataclass(frozen=True, slots=True)
class Job:
    """A batch, as far as the bills of its lines depend on it.

    Attributes:
        name: the provider's id of the batch.
        created_ns: when it was created, ns since the epoch; None if that is unknown.
        path: the endpoint that all its lines are for (`/v1/chat/completions`); empty if unknown.
        model: the model of all its lines; empty if they say themselves.
        files: the ids of the files that its results are in.
        lines: results that came with the job itself, as the provider sent them.
    """

    name: str
    created_ns: int | None = None
    path: str = ""
    model: str = ""
    files: tuple[str, ...] = ()
    lines: Collection[Any] = ()


@dataclass(slots=True)
class Result:
    """One line of a batch that was answered, or failed.

    Attributes:
        operation: `gen_ai.operation.name`.
        reading: the answer.
    """

    operation: str
    reading: Reading


@dataclass(frozen=True, slots=True)
class Format:
    """How one provider's batches are read.

    Attributes:
        jobs: the jobs in the body of an answer that is about batches.
        is_line: whether a JSON object is a line of a batch's results.
        read: reads a line; takes the job, and a name that is the line's own. None where nothing ran.
        marks: bytes that the beginning of a line of results cannot be without, one of them.
    """

    jobs: Callable[[Mapping[str, Any]], tuple[Job, ...]]
    is_line: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any], Job, str], Result | None]
    marks: tuple[bytes, ...]


def key(line: Mapping[str, Any]) -> str:
    """The name that the program gave the line; empty if it gave none."""
    return text(line.get("custom_id")) or text(line.get("key")) or text(mapping(line.get("metadata")).get("key"))


def own_id(reading: Reading, name: str) -> None:
    """Give an answer without an id the name of its line, so that it is the same call whenever it is fetched."""
    if not reading.response_id:
        reading.response_id = name
