"""What both protocols do with a request: admit it, let a worker read it, count it, send it on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from spanledger.service.collector.admission import Admission, Refused
from spanledger.service.collector.forward import Forwarder
from spanledger.service.collector.frames import BAD, OK, RETRY, TOO_LARGE, Outcome
from spanledger.service.collector.metrics import Counts
from spanledger.service.collector.pool import Pool


class Unauthenticated(Exception):
    """The sender has not shown the token."""


@dataclass(slots=True)
class Receiver:
    """The collector behind its ports."""

    admission: Admission
    pool: Pool
    counts: Counts
    forwarder: Forwarder | None

    async def receive(
        self,
        protocol: str,
        authorization: str | None,
        read: Callable[[], Awaitable[tuple[bytes, int, str]]],
    ) -> Outcome:
        """Answer a request.

        Parameters:
            protocol: `grpc` or `http`, for the counts.
            authorization: the header.
            read: the request's body, form and encoding; asked only when there is room for them.

        Raises:
            Unauthenticated: the sender has not shown the token.
            Refused: there is no room, or the journal takes nothing.
        """
        try:
            if not self.admission.knows(authorization):
                raise Unauthenticated("send the token: authorization: Bearer ...")
            with self.admission.request():
                body, form, encoding = await read()
                with self.admission.holding(body):
                    outcome, onward = await self.pool.read(form, encoding, body)
        except Unauthenticated:
            self.counts.request(protocol, "unauthenticated")
            raise
        except Refused:
            self.counts.request(protocol, "refused")
            raise
        except BaseException:
            self.counts.request(protocol, "invalid")
            raise
        self.counts.request(protocol, _COUNTED[outcome.status], len(body), outcome)
        if outcome.status == RETRY:
            raise Refused(outcome.message, 5)
        if onward and self.forwarder is not None:
            self.forwarder.put(onward, outcome.spans)
        return outcome


_COUNTED = {OK: "accepted", BAD: "invalid", TOO_LARGE: "invalid", RETRY: "refused"}
