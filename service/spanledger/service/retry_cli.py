"""`spanledger retry`: the rows again that ClickHouse refused."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def retry(as_json: bool) -> None:
    """Send the rows again that ClickHouse refused for their content, once the cause is mended.

    They are the .rejected files of the journal, and may be edited first; `spanledger doctor` says why they were
    refused. Exit code 1 if some are refused again.

    \b
    Example:
      spanledger retry
    """
    from spanledger.exporter.deliver import retry_rejected
    from spanledger.exporter.shipper import pending
    from spanledger.service import output
    from spanledger.service.ledger import opened
    from spanledger.settings import settings

    now = settings()
    with opened(now):  # what else waits of the same segments goes first
        pass
    tried = retry_rejected(now.journal)
    with opened(now):
        pass
    left = pending(now.home)
    if as_json:
        output.print_json({"tried": tried, "refused": left.rejected_rows})
    else:
        click.echo(f"{tried:,} rows were tried again, {left.rejected_rows:,} are refused")
        for reason in left.reasons:
            click.echo(f"  {reason}")
    click.get_current_context().exit(1 if left.rejected_rows else 0)
