"""OTLP over gRPC. https://opentelemetry.io/docs/specs/otlp/#otlpgrpc"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spanledger.service.collector.admission import Refused
from spanledger.service.collector.frames import OK, Outcome
from spanledger.service.collector.receiver import Receiver, Unauthenticated
from spanledger.service.collector.request import PROTOBUF, encoding_of
from spanledger.service.collector.settings import CollectorSettings
from spanledger.service.part_settings import Address

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


def server(receiver: Receiver, settings: CollectorSettings) -> grpc.aio.Server:
    """The gRPC server, without a port."""
    made = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),  # else a second process shares the port, unnoticed
            ("grpc.max_receive_message_length", settings.max_request_bytes),
            ("grpc.max_concurrent_streams", settings.max_requests),
            # The core would unpack without a bound; a worker does it within one.
            ("grpc.per_message_decompression", 0),
        ]
    )

    async def export(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
        async def read() -> tuple[bytes, int, str]:
            message = await asyncio.wait_for(anext(aiter(messages), b""), settings.request_timeout)
            return message, PROTOBUF, encoding_of(message)

        metadata = dict(context.invocation_metadata() or ())
        try:
            outcome = await receiver.receive("grpc", metadata.get("authorization"), read)
        except Unauthenticated as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        except Refused as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error), _retry(error))
        except (TimeoutError, asyncio.TimeoutError):
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the request did not arrive in time")
        if outcome.status != OK:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, outcome.message)
        answer: bytes = response(outcome).SerializeToString()
        return answer

    # Not unary_unary: a handler of a stream is called before the message is read, and may refuse it.
    handler = grpc.stream_unary_rpc_method_handler(export)
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": handler}),))
    return made


def listen(made: grpc.aio.Server, address: Address, settings: CollectorSettings) -> int:
    """Open the port; its number.

    Raises:
        RuntimeError: it cannot be opened.
        OSError: a file of the certificate cannot be read.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return int(made.add_insecure_port(str(address)))
    ca = settings.tls_client_ca
    credentials = grpc.ssl_server_credentials(
        [(settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())],
        root_certificates=ca.read_bytes() if ca else None,
        require_client_auth=ca is not None,
    )
    return int(made.add_secure_port(str(address), credentials))


def response(outcome: Outcome) -> ExportTraceServiceResponse:
    """What the sender is told of a request that was taken."""
    made = ExportTraceServiceResponse()
    if outcome.rejected:
        made.partial_success.rejected_spans = outcome.rejected
        made.partial_success.error_message = outcome.message
    return made


def status(code: grpc.StatusCode, message: str, retry_after: int = 0) -> Status:
    """`google.rpc.Status`, with RetryInfo where the request may be sent again."""
    made = Status(code=code.value[0], message=message)
    if retry_after:
        info, packed = RetryInfo(), AnyMessage()
        info.retry_delay.seconds = retry_after
        packed.Pack(info)
        made.details.append(packed)
    return made


def _retry(error: Refused) -> Any:
    packed = status(grpc.StatusCode.UNAVAILABLE, str(error), error.retry_after).SerializeToString()
    return (("grpc-status-details-bin", packed),)
