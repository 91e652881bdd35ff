"""Listening for HTTP: the socket, TLS, and a server that leaves signals to whoever runs it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from spanledger.service.part_settings import Address


class ListenError(RuntimeError):
    """A port cannot be had, or a certificate is none; the message says why and what to do."""


def bind(address: Address, variable: str, otherwise: str) -> socket.socket:
    """A listening socket.

    Parameters:
        variable: of the setting that `address` is.
        otherwise: what else one can do where the port is taken.

    Raises:
        ListenError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # With its protocol named, asyncio sets TCP_NODELAY; else each answer waits 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ListenError(
                f"port {address.port} is taken: set {variable} to another, as {Address(address.host, 0)} for any"
                f" free one; {otherwise}"
            ) from None
        raise ListenError(f"{variable}={address}: cannot listen there: {error.strerror or error}") from None
    return listener


def check_tls(variable: str, cert: Path | None, key: Path | None, client_ca: Path | None = None) -> None:
    """See that the files are what they should be.

    Parameters:
        variable: what the settings' names begin with.

    Raises:
        ListenError: they are not.
    """
    if cert is None or key is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as error:
        raise ListenError(
            f"{variable}_TLS_CERT={cert} and {variable}_TLS_KEY={key} are no certificate and its key, in PEM: {error}"
        ) from None
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except (ssl.SSLError, OSError) as error:
            raise ListenError(f"{variable}_TLS_CLIENT_CA={client_ca} is no PEM certificate: {error}") from None


class Server(uvicorn.Server):
    """Serves an application; its caller minds the signals."""

    def __init__(
        self, app: Starlette, cert: Path | None = None, key: Path | None = None, client_ca: Path | None = None
    ) -> None:
        tls: dict[str, Any] = {}
        if cert is not None and key is not None:
            tls = {"ssl_certfile": str(cert), "ssl_keyfile": str(key)}
            if client_ca is not None:
                tls |= {"ssl_ca_certs": str(client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level="warning",
                server_header=False,
                proxy_headers=False,
                ws="none",
                timeout_graceful_shutdown=2,
                **tls,
            )
        )

    def capture_signals(self) -> Any:
        return nullcontext()


@asynccontextmanager
async def serving(server: Server, listener: socket.socket, answer_s: float) -> AsyncIterator[None]:
    """Serve on `listener` for as long as the block lasts.

    Parameters:
        answer_s: seconds that requests which are being answered may take at the end.

    Raises:
        ListenError: it does not start.
    """
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    if task.done():
        task.result()
        raise ListenError("HTTP is not served; the log says why")
    try:
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(task, answer_s)
