"""`spanledger settle`: one bill for each call that several spans describe."""

from __future__ import annotations

from dataclasses import asdict

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def settle(as_json: bool) -> None:
    """Load what waits in the journal, and settle: one bill for each call that several spans describe.

    `spanledger up` and every command that asks the ledger do so by themselves; this is for those who only read by SQL.

    \b
    Example:
      spanledger settle
    """
    from spanledger.exporter.settle import settle as settled
    from spanledger.service import output
    from spanledger.service.ledger import opened
    from spanledger.settings import settings

    with opened(settings(), settled=False) as client:
        done = settled(client)
    if as_json:
        output.print_json(asdict(done))
    else:
        click.echo(
            f"{done.retired:,} rows are no bills of their own, {done.revived:,} are after all,"
            f" {done.named:,} were given names, {done.contradictory:,} are contradictory"
        )
