"""Agents, flows and knowledge bases of Amazon Bedrock, whose traces tell what their models consumed; and guardrails.

An agent is no billable call of its own: each invocation of a model that its trace reports is billed at that model's
rates. The first is the call's own usage, the others are lines beside it. What reports none may be billed all the same.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/trace-events.html,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_agent-runtime_Usage.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spanledger.instrumentation.wire import sse
from spanledger.instrumentation.wire.reading import Line, Reading
from spanledger.pricing.counts import Tally, mapping, sequence, text
from spanledger.pricing.usage import Usage

_STEPS = ("preProcessingTrace", "orchestrationTrace", "routingClassifierTrace", "postProcessingTrace")
_PARTS = (("inputTokens", "input"), ("outputTokens", "output"))
_KNOWN = frozenset(name for name, _ in _PARTS)
_NO_TRACE = "an agent tells what its models consumed in its trace alone (enableTrace)"
_SILENT = "the trace names no model invocation with a usage"


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:  # noqa: ARG001, what a reader takes
    """Read the answer of RetrieveAndGenerate, which tells nothing of its usage."""
    return Reading(usage=Tally().usage(None, why_missing="a knowledge base does not tell what its model consumed"))


def read_guardrail(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:  # noqa: ARG001
    """Read the answer of ApplyGuardrail: the units of text that each policy processed, which are billed by policy.

    Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_GuardrailUsage.html
    """
    usage = mapping(mapping(body).get("usage"))
    tally = Tally()
    tally.keep_unmapped(usage, frozenset(), "guardrail.")
    return Reading(usage=tally.usage(usage or None))


def model_of(request: Mapping[str, Any]) -> str:
    """The model that a request of an inline agent or of a knowledge base names, or the guardrail; else empty."""
    configuration = mapping(request.get("retrieveAndGenerateConfiguration"))
    for holder in ("knowledgeBaseConfiguration", "externalSourcesConfiguration"):
        model = text(mapping(configuration.get(holder)).get("modelArn"))
        if model:
            return model
    return text(request.get("foundationModel")) or text(request.get("guardrailIdentifier"))


class Stream:
    """Reads the events of an agent or a flow, `{event type: event}`; they have no end mark of their own."""

    __slots__ = ("_error", "_invocations", "_models", "_request", "ended", "finished")

    ends_with_the_events = True

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._request = mapping(request)
        self._models: dict[str, str] = {}  # by the id of the trace's step
        self._invocations: list[tuple[str, object]] = []
        self._error: tuple[str, str] | None = None

    def feed(self, line: bytes) -> None:
        event = sse.event(line) if line.startswith(b"data:") else None  # anything else is a piece of the answer
        if event is not None:
            self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event, parsed."""
        for kind, value in event.items():
            if kind == "trace":
                self._take_trace(mapping(value))
            elif kind == "flowTraceEvent":
                node = mapping(mapping(mapping(value).get("trace")).get("nodeDependencyTrace"))
                for trace in sequence(mapping(node.get("traceElements")).get("agentTraces")):
                    self._take_trace(mapping(trace))
            elif kind.endswith("Exception"):
                self._error = (kind[:1].upper() + kind[1:], text(mapping(value).get("message")))
                self.ended = True

    def _take_trace(self, part: Mapping[str, Any]) -> None:
        trace = mapping(part.get("trace"))
        for step in map(mapping, map(trace.get, _STEPS)):
            asked, answered = mapping(step.get("modelInvocationInput")), mapping(step.get("modelInvocationOutput"))
            if asked:
                self._models[text(asked.get("traceId"))] = text(asked.get("foundationModel"))
            usage = mapping(answered.get("metadata")).get("usage")
            if usage is not None:
                self._invocations.append((self._models.pop(text(answered.get("traceId")), ""), usage))

    def reading(self) -> Reading:
        request = self._request
        usages = list(self._usages())
        if not usages:
            asked_for = request.get("enableTrace") is True
            usages = [("", Tally().usage(None, why_missing=_SILENT if asked_for else _NO_TRACE))]
        own = text(request.get("foundationModel"))
        return Reading(
            usage=usages[0][1],
            response_model=usages[0][0],
            lines=tuple(Line(model or own, usage) for model, usage in usages[1:]),
            error=self._error,
        )

    def _usages(self) -> Iterator[tuple[str, Usage]]:
        for model, raw in self._invocations:
            tally, usage = Tally(), mapping(raw)
            if not isinstance(raw, Mapping):
                tally.reasons.append("usage is not an object")
            for name, part in _PARTS:
                number = tally.count(usage, name)
                if number is not None:
                    tally.parts[part] = number
            tally.keep_unmapped(usage, _KNOWN)
            yield model, tally.usage(usage or None, complete=self.finished)
