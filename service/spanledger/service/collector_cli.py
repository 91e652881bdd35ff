"""`spanledger collector`: spans by OTLP in, ledger rows out."""

from __future__ import annotations

import os

import click

from spanledger.settings import settings


@click.command()
@click.option("--grpc", "grpc_", metavar="HOST:PORT", help="Listen for OTLP/gRPC; off: do not. 127.0.0.1:14317.")
@click.option("--http", metavar="HOST:PORT", help="Listen for OTLP/HTTP; off: do not. 127.0.0.1:14318.")
@click.option("--forward", metavar="URL", help="Send every span on, with costs: grpc://HOST:4317 or http://HOST:4318.")
@click.option("--workers", metavar="N", help="Processes at most that read spans.")
def collector(grpc_: str | None, http: str | None, forward: str | None, workers: str | None) -> None:
    """Take spans by OTLP and write a ledger row for each LLM call among them, until Ctrl-C.

    `spanledger up` runs one already; this is for a collector of its own, in a container or on another machine. Rows
    go to the ClickHouse of SPANLEDGER_URL, else they wait in the journal for the next `up` or `report`.

    \b
    Examples:
      spanledger collector
      spanledger collector --forward grpc://jaeger:4317
      SPANLEDGER_COLLECTOR_TOKEN_FILE=token spanledger collector --grpc 0.0.0.0:4317 --http off
    """
    import logging

    from spanledger.service.cli import CommandError
    from spanledger.service.collector.running import Running, missing

    if absent := missing():
        raise CommandError(absent)
    from spanledger.service.collector.server import run
    from spanledger.service.collector.settings import VARIABLE, load

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    given = {"GRPC": grpc_, "HTTP": http, "FORWARD": forward, "WORKERS": workers}
    now = settings()
    chosen = load(now, {**os.environ, **{f"{VARIABLE}_{name}": text for name, text in given.items() if text}})

    def announce(here: Running) -> None:
        where = "ClickHouse" if now.url else f"the journal in {now.home}"
        onward = f", sent on to {here.forward}" if here.forward else ""
        click.echo(f"Up: {here}; rows go to {where}{onward}; Ctrl-C stops it")

    run(now, chosen, announce)
    click.echo("Down: all that was taken is journaled")
