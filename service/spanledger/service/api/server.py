"""Serves the API and the dashboard until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

from spanledger.service import listening, presence
from spanledger.service.api.app import application
from spanledger.service.api.running import Running, ServeError, lock_file
from spanledger.service.api.settings import VARIABLE, ServeSettings
from spanledger.settings import Settings

ANSWER_S = 2.0


def run(now: Settings, chosen: ServeSettings, ready: Callable[[Running], None], parent: int | None = None) -> None:
    """Serve in this process until SIGTERM or SIGINT.

    Parameters:
        ready: called when the port is open.
        parent: descriptor of a pipe from the process that started this one; its end ends the serving too.

    Raises:
        ServeError, ListenError: it cannot start.
    """
    asyncio.run(_run(now, chosen, ready, parent))


async def _run(now: Settings, chosen: ServeSettings, ready: Callable[[Running], None], parent: int | None) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if parent is not None:

        def ended(pipe: int) -> None:
            loop.remove_reader(pipe)
            stopping.set()

        loop.add_reader(parent, ended, parent)
    listening.check_tls(VARIABLE, chosen.tls_cert, chosen.tls_key)
    app = application(now, chosen)
    try:
        with presence.held(lock_file(now.home)) as say:
            listener = listening.bind(chosen.http, f"{VARIABLE}_HTTP", "`spanledger up --no-serve` does without")
            with listener:
                host, port = chosen.http.host, listener.getsockname()[1]
                url = f"{'https' if chosen.tls_cert else 'http'}://{chosen.http._replace(host=host, port=port)}"
                here = Running(os.getpid(), time.time_ns(), url, bool(chosen.tokens))
                server = listening.Server(app, chosen.tls_cert, chosen.tls_key)
                async with listening.serving(server, listener, ANSWER_S):
                    say(here._asdict())
                    ready(here)
                    await stopping.wait()
    except presence.Taken:
        raise ServeError(f"the API is served for {now.home} already: `spanledger status` shows where") from None
    finally:
        app.state.ledger.close()
