"""OTLP's spans, as the exporter's reader takes them.

The reader keeps what the rows of a resource and a scope share by these objects' identity, so they are the same ones
for the same resource and scope, request after request.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import StatusCode

from spanledger.exporter import ancestors
from spanledger.exporter.dialects import dialect_of

_MOST_INTERNED = 1000
_MOST_INTERNED_BYTES = 16 * 2**10
_MOST_ABOVE = 8
_MOST_STEPS = 64

_STATUSES: Final = {1: StatusCode.OK, 2: StatusCode.ERROR}


class Status(NamedTuple):
    status_code: StatusCode
    description: str | None = None


_UNSET = Status(StatusCode.UNSET)


class Resource:
    __slots__ = ("attributes",)

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes


class Scope:
    __slots__ = ("attributes", "name", "version")

    def __init__(self, name: str, version: str, attributes: dict[str, Any]) -> None:
        self.name = name
        self.version = version
        self.attributes = attributes


class Context:
    __slots__ = ("span_id", "trace_id")

    def __init__(self, trace_id: int, span_id: int) -> None:
        self.trace_id = trace_id
        self.span_id = span_id


class Span:
    """What `spanledger.exporter.rows` reads of an SDK's span."""

    __slots__ = (
        "attributes",
        "context",
        "end_time",
        "instrumentation_scope",
        "name",
        "parent",
        "resource",
        "start_time",
        "status",
        ancestors.ATTRIBUTE,
    )

    attributes: dict[str, Any]
    context: Context
    end_time: int | None
    instrumentation_scope: Scope
    name: str
    parent: Context | None
    resource: Resource
    start_time: int | None
    status: Status


class Unreadable(ValueError):
    """A span that no row can be made of."""


class Told(NamedTuple):
    """A span of a request that is in some dialect: a call, or something around calls."""

    message: Any
    resource: Resource
    scope: Scope


class Family:
    """How the spans of a request lie in each other; of those above it that are not in it, only the id is known.

    Attributes:
        parents: span id -> its parent's.
        others: spans in no dialect.
    """

    __slots__ = ("others", "parents")

    def __init__(self) -> None:
        self.parents: dict[bytes, bytes] = {}
        self.others: set[bytes] = set()

    def above(self, span_id: bytes) -> tuple[str, ...]:
        """Ids of the spans that a span lies in and that may speak of the same call, nearest first."""
        found: list[str] = []
        for _ in range(_MOST_STEPS):
            parent = self.parents.get(span_id)
            if not parent or len(found) == _MOST_ABOVE:
                break
            if parent not in self.others:
                found.append(parent.hex())
            span_id = parent
        return tuple(found)


def told(request: ExportTraceServiceRequest) -> tuple[list[Told], Family, int]:
    """The spans of a request that a row may be made of, how all its spans lie in each other, and how many others."""
    found: list[Told] = []
    family = Family()
    others = 0
    for resource_spans in request.resource_spans:
        resource = _resource(resource_spans.resource)
        for scope_spans in resource_spans.scope_spans:
            scope = _scope(scope_spans.scope)
            known = dialect_of(scope.name, None, scope.version) is not None
            for message in scope_spans.spans:
                if parent := message.parent_span_id:
                    family.parents[message.span_id] = parent
                if known or dialect_of(scope.name, {pair.key: None for pair in message.attributes}, scope.version):
                    found.append(Told(message, resource, scope))
                else:
                    others += 1
                    family.others.add(message.span_id)
    return found, family, others


def span(one: Told, family: Family, most: int, longest: int) -> Span:
    """An OTLP span as the reader takes it.

    Parameters:
        most: attributes that it may have.
        longest: characters of a text; longer ones are left out.

    Raises:
        Unreadable: it has no ids, or too many attributes.
    """
    message = one.message
    trace_id, span_id = message.trace_id, message.span_id
    if len(trace_id) != 16 or len(span_id) != 8:
        raise Unreadable("a trace id has 16 bytes and a span id 8")
    found = Span()
    found.context = Context(int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"))
    if not found.context.trace_id or not found.context.span_id:
        raise Unreadable("a trace id or span id is all zeros")
    parent = message.parent_span_id
    if any(parent):
        found.parent = Context(found.context.trace_id, int.from_bytes(parent, "big"))
        setattr(found, ancestors.ATTRIBUTE, family.above(span_id))
    else:
        found.parent = None
    found.resource = one.resource
    found.instrumentation_scope = one.scope
    found.name = message.name
    found.start_time = message.start_time_unix_nano or None
    found.end_time = message.end_time_unix_nano or None
    status = message.status
    found.status = Status(_STATUSES.get(status.code, StatusCode.UNSET), status.message) if status.code else _UNSET
    attributes = message.attributes
    if len(attributes) > most:
        raise Unreadable(f"it has {len(attributes)} attributes, and {most} are allowed")
    found.attributes = kept = {}
    for pair in attributes:  # looks into a message are slow: the usual kinds come first
        value = pair.value
        known: Any = value.string_value
        if known:
            if len(known) <= longest:
                kept[pair.key] = known
        elif known := value.int_value:
            kept[pair.key] = known
        else:
            kept[pair.key] = _value(value)
    return found


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(each) for each in value.array_value.values)
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind) if kind else None


_resources: dict[bytes, Resource] = {}
_scopes: dict[bytes, Scope] = {}


def _resource(message: Any) -> Resource:
    key = message.SerializeToString()
    found = _resources.get(key)
    if found is None:
        found = Resource({pair.key: _value(pair.value) for pair in message.attributes})
        _intern(_resources, key, found)
    return found


def _scope(message: Any) -> Scope:
    key = message.SerializeToString()
    found = _scopes.get(key)
    if found is None:
        attributes = {pair.key: _value(pair.value) for pair in message.attributes}
        found = Scope(message.name, message.version, attributes)
        _intern(_scopes, key, found)
    return found


def _intern(known: dict[bytes, Any], key: bytes, value: Any) -> None:
    if len(key) > _MOST_INTERNED_BYTES:
        return
    if len(known) >= _MOST_INTERNED:
        known.clear()
    known[key] = value
