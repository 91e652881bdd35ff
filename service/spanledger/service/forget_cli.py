"""`spanledger forget`: the bodies of somebody's calls removed, the rows under a pseudonym."""

from __future__ import annotations

import click


@click.command()
@click.option("--user", help="The user's id.")
@click.option("--session", help="The session's id.")
@click.option("--tenant", help="The tenant's name.")
@click.option("--dry-run", is_flag=True, help="Only show how much there is.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def forget(user: str | None, session: str | None, tenant: str | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Forget a user, a session or a tenant: their bodies are removed, their rows become pseudonymous.

    Costs stay. It cannot be undone.

    \b
    Examples:
      spanledger forget --user u-17 --dry-run
      spanledger forget --session s-4711 --yes
    """
    import secrets

    from spanledger.exporter import forget as forgetting
    from spanledger.instrumentation.content import store_of
    from spanledger.service import output
    from spanledger.service.ledger import opened
    from spanledger.settings import settings

    given = {who: name for who, name in (("user", user), ("session", session), ("tenant", tenant)) if name}
    if len(given) != 1:
        raise click.UsageError("name one of --user, --session and --tenant")
    ((who, name),) = given.items()
    now = settings()
    with opened(now) as client:
        found = forgetting.find(client, who, name)
        store = store_of(now) if found.uris else None
        done = {"calls": len(found.keys), "bodies": len(found.uris), "rows_written": 0, "bodies_removed": 0}
        if not dry_run:
            if found.keys and not yes:
                click.confirm(f"Forget {len(found.keys):,} calls and {len(found.uris):,} bodies?", abort=True, err=True)
            if store is not None:
                done["bodies_removed"] = store.remove(found.uris)
            secret = now.key_pepper.encode() or secrets.token_bytes(32)
            done["rows_written"] = forgetting.forget(client, who, name, found, secret)
    if as_json:
        output.print_json(done)
    elif dry_run or not found.keys:
        click.echo(f"{done['calls']:,} calls and {done['bodies']:,} bodies of this {who}")
    else:
        click.echo(f"{done['calls']:,} calls forgotten, {done['bodies_removed']:,} bodies removed")
