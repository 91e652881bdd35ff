"""A request's bytes to an OTLP message: unpacked within bounds, protobuf or JSON.

https://opentelemetry.io/docs/specs/otlp/
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import orjson
import zstandard
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROTOBUF: Final = 0
JSON: Final = 1

ENCODINGS: Final = ("identity", "gzip", "deflate", "zstd")
"""Of HTTP's Content-Encoding."""

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class BadRequest(Exception):
    """The request is no OTLP: the same bytes once more will not do better."""


class TooLarge(BadRequest):
    """The request unpacks to more than is allowed."""


def encoding_of(message: bytes) -> str:
    """How a gRPC message is packed: gRPC's own frame says only that it is, and its core does not hand that on.

    A request in protobuf has one field, number 1, so it begins with 0x0a or is empty.
    """
    if message[:2] == b"\x1f\x8b":
        return "gzip"
    if message[:1] == b"\x78":
        return "deflate"
    return "identity"


def unpack(body: bytes, encoding: str, most: int) -> bytes:
    """The body without its encoding.

    Parameters:
        encoding: one of `ENCODINGS`.
        most: bytes that it may have then; no more than that is ever held.

    Raises:
        TooLarge: it has more.
        BadRequest: it is not of this encoding.
    """
    if encoding == "identity":
        unpacked = body
    elif encoding == "zstd":
        unpacked = _unzstd(body, most)
    else:
        unpacked = _inflate(body, encoding, most)
    if len(unpacked) > most:
        raise TooLarge(f"the request unpacks to more than {most} bytes: send smaller batches")
    return unpacked


def _inflate(body: bytes, encoding: str, most: int) -> bytes:
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        unpacked = inflater.decompress(body, most + 1)
    except zlib.error as error:
        raise BadRequest(f"the request is not valid {encoding}: {error}") from None
    if len(unpacked) <= most and not inflater.eof:
        raise BadRequest(f"the request is not valid {encoding}: it ends too early")
    return unpacked


def _unzstd(body: bytes, most: int) -> bytes:
    inflater = zstandard.ZstdDecompressor(max_window_size=max(most, 2**10)).stream_reader(body)
    try:
        return bytes(inflater.read(most + 1))
    except zstandard.ZstdError as error:
        raise BadRequest(f"the request is not valid zstd: {error}") from None


def parse(body: bytes, form: int) -> ExportTraceServiceRequest:
    """The message in an unpacked body.

    Parameters:
        form: `PROTOBUF` or `JSON`.

    Raises:
        BadRequest: there is none in it.
    """
    if form == PROTOBUF:
        try:
            message: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(body)
            return message
        except DecodeError as error:
            raise BadRequest(f"the request is not an ExportTraceServiceRequest: {error}") from None
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the request is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise BadRequest("the request is not a JSON object")
    try:
        _ids_to_base64(document)
        made = ExportTraceServiceRequest()
        ParseDict(document, made, ignore_unknown_fields=True)
        return made
    except (ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadRequest(f"the request is not an ExportTraceServiceRequest in JSON: {error}"[:500]) from None


def _ids_to_base64(document: dict[str, Any]) -> None:
    """OTLP's JSON writes the ids in hex, and is protobuf's JSON in all else, which writes bytes in base64."""
    for resource in _each(document, "resourceSpans"):
        for scope in _each(resource, "scopeSpans"):
            for span in _each(scope, "spans"):
                _rewrite(span, "parentSpanId")
                for owner in (span, *_each(span, "links")):
                    _rewrite(owner, "traceId")
                    _rewrite(owner, "spanId")


def _each(owner: dict[str, Any], name: str) -> list[Any]:
    return owner.get(name) or []


def _rewrite(owner: dict[str, Any], name: str) -> None:
    found = owner.get(name)
    if found:
        from base64 import b64encode

        try:
            owner[name] = b64encode(bytes.fromhex(found)).decode()
        except (ValueError, TypeError):
            raise BadRequest(f"{name} {found!r} is not hex"[:200]) from None
