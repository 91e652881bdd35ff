"""Whether a call of gRPC that ended with an error may be billed (https://grpc.io/docs/guides/status-codes)."""

from __future__ import annotations

from typing import Any

import grpc

_REFUSALS = frozenset(
    {
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Nothing was generated. Others can arise while the provider generates."""
_NOT_SENT = ("failed to connect", "dns resolution failed", "http2 header with status")


def refused(code: Any, details: str) -> bool:
    """Whether an error says that nothing was generated.

    Parameters:
        code: `grpc.StatusCode`.
        details: its message, in lower case.
    """
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "received message larger than max" in details:
        return False  # our side would not take the answer
    if code is grpc.StatusCode.UNAVAILABLE:
        return any(words in details for words in _NOT_SENT)
    return code in _REFUSALS
