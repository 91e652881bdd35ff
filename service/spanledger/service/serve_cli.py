"""`spanledger serve`: the API and the dashboard."""

from __future__ import annotations

import os

import click

from spanledger.settings import settings


@click.command()
@click.option("--http", metavar="HOST:PORT", help="Listen there: 127.0.0.1:14319.")
def serve(http: str | None) -> None:
    """Serve the API and the dashboard over HTTP, until Ctrl-C.

    `spanledger up` serves them already; this is for the ClickHouse of SPANLEDGER_URL, which it also settles and rolls
    up meanwhile.

    \b
    Examples:
      spanledger serve
      SPANLEDGER_SERVE_TOKEN_FILE=tokens spanledger serve --http 0.0.0.0:8080
    """
    import logging
    import threading

    from spanledger.service import daemon
    from spanledger.service.api.running import Running, missing
    from spanledger.service.cli import CommandError

    now = settings()
    if absent := missing():
        raise CommandError(absent)
    if not now.url and not daemon.running(now.home):
        raise CommandError(
            "embedded ClickHouse is not up: `spanledger up` starts it, and serves; SPANLEDGER_URL names another"
        )
    from spanledger.service.api.server import run
    from spanledger.service.api.settings import VARIABLE, load
    from spanledger.service.upkeep import Upkeep

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    chosen = load(now, {**os.environ, **({f"{VARIABLE}_HTTP": http} if http else {})})
    stopping = threading.Event()
    keeping = threading.Thread(target=Upkeep(now).run, args=(stopping,), daemon=True)

    def announce(here: Running) -> None:
        if now.url:
            keeping.start()
        click.echo(f"Up: {here}; Ctrl-C stops it")

    run(now, chosen, announce)
    stopping.set()
    if keeping.is_alive():
        keeping.join(10)
