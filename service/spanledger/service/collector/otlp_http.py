"""OTLP over HTTP, health and metrics. https://opentelemetry.io/docs/specs/otlp/#otlphttp"""

from __future__ import annotations

import asyncio

import grpc
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spanledger.service.collector import metrics
from spanledger.service.collector.admission import Refused
from spanledger.service.collector.frames import OK, TOO_LARGE
from spanledger.service.collector.otlp_grpc import response, status
from spanledger.service.collector.receiver import Receiver, Unauthenticated
from spanledger.service.collector.request import ENCODINGS, JSON, PROTOBUF
from spanledger.service.collector.settings import CollectorSettings

_FORMS = {"application/x-protobuf": PROTOBUF, "application/json": JSON}
_TYPES = {form: name for name, form in _FORMS.items()}


class _Wrong(Exception):
    """The request is answered with this HTTP status."""

    def __init__(self, http: int, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.http = http
        self.code = code


def application(receiver: Receiver, settings: CollectorSettings) -> Starlette:
    """`POST /v1/traces`, `GET /healthz`, `GET /metrics`."""

    async def traces(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        form = _FORMS.get(kind, PROTOBUF)
        encoding = request.headers.get("content-encoding", "").strip().lower() or "identity"

        async def read() -> tuple[bytes, int, str]:
            if kind not in _FORMS:
                raise _Wrong(415, grpc.StatusCode.INVALID_ARGUMENT, f"Content-Type {kind!r}: use {' or '.join(_FORMS)}")
            if encoding not in ENCODINGS:
                raise _Wrong(415, grpc.StatusCode.INVALID_ARGUMENT, f"Content-Encoding {encoding!r}: use {ENCODINGS}")
            body = await asyncio.wait_for(_body(request, settings.max_request_bytes), settings.request_timeout)
            return body, form, encoding

        def failure(http: int, code: grpc.StatusCode, message: str, retry: int = 0) -> Response:
            headers = {"connection": "close"}  # what has not been read of the body is not the next request
            if retry:
                headers["retry-after"] = str(retry)
            if http == 401:
                headers["www-authenticate"] = "Bearer"
            return _answer(status(code, message, retry), form, http, headers)

        try:
            outcome = await receiver.receive("http", request.headers.get("authorization"), read)
        except Unauthenticated as error:
            return failure(401, grpc.StatusCode.UNAUTHENTICATED, str(error))
        except Refused as error:
            return failure(503, grpc.StatusCode.UNAVAILABLE, str(error), error.retry_after)
        except _Wrong as error:
            return failure(error.http, error.code, str(error))
        except (TimeoutError, asyncio.TimeoutError):
            return failure(408, grpc.StatusCode.DEADLINE_EXCEEDED, "the request did not arrive in time")
        except ClientDisconnect:
            return Response(status_code=400)
        if outcome.status != OK:
            http = 413 if outcome.status == TOO_LARGE else 400
            return failure(http, grpc.StatusCode.INVALID_ARGUMENT, outcome.message)
        return _answer(response(outcome), form)

    async def health(request: Request) -> Response:  # noqa: ARG001
        refusal = receiver.admission.refusal()
        if refusal is None:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "refusing", "reason": str(refusal)}, 503)

    async def own_metrics(request: Request) -> Response:
        if not receiver.admission.knows(request.headers.get("authorization")):
            return Response("send the token", 401, {"www-authenticate": "Bearer"})
        return Response(metrics.prometheus(receiver.counts), media_type=metrics.PROMETHEUS)

    return Starlette(
        routes=[
            Route("/v1/traces", traces, methods=["POST"]),
            Route("/healthz", health),
            Route("/metrics", own_metrics),
        ]
    )


_PATIENCE = 4
"""So many times what is allowed is read, and thrown away, before a request is cut off."""


async def _body(request: Request, most: int) -> bytes:
    """The body, no more of it than is allowed.

    Raises:
        _Wrong: it is longer.
    """
    too_long = _Wrong(
        413, grpc.StatusCode.INVALID_ARGUMENT, f"the request has more than {most} bytes: send less at once"
    )
    stated = request.headers.get("content-length", "")
    excess = stated.isdecimal() and int(stated) > most
    body = bytearray()
    read = 0
    async for piece in request.stream():
        read += len(piece)
        if read > most:
            excess = True
            if read > _PATIENCE * most:
                break
        if not excess:
            body += piece
    if excess:  # said when the sender has sent all: it might not read an answer before, and try for ever
        raise too_long
    return bytes(body)


def _answer(message: Message, form: int, http: int = 200, headers: dict[str, str] | None = None) -> Response:
    content = MessageToJson(message, indent=None) if form == JSON else message.SerializeToString()
    return Response(content, http, headers, media_type=_TYPES[form])
