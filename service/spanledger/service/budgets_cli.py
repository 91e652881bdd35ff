"""`spanledger budgets`: what was spent of each budget, a check for CI, and a test of the channels."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from spanledger.service.budgets.spending import Spending


@click.group()
def budgets() -> None:
    """Budgets of the configuration."""


@budgets.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def list_(as_json: bool) -> None:
    """Every budget with what was spent of it in its present window.

    \b
    Example:
      spanledger budgets list
    """
    _print(_evaluated(()), as_json)


@budgets.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def check(names: tuple[str, ...], as_json: bool) -> None:
    """Exit code 1 if more was spent than a budget allows. NAMES: only these budgets.

    \b
    Examples:
      spanledger budgets check
      spanledger budgets check nightly-evaluation --json
    """
    found = _evaluated(names)
    _print(found, as_json)
    over = [each for each in found if each.exceeded]
    for each in over:
        click.echo(f"over budget: {each.budget.name} ({each.scope_text})", err=True)
    click.get_current_context().exit(1 if over else 0)


@budgets.command()
def test() -> None:
    """Send a test alert through every channel of the configuration.

    \b
    Example:
      spanledger budgets test
    """
    from spanledger.service.budgets.settings import alerts
    from spanledger.service.budgets.telling import Alert, NotTold, channels
    from spanledger.settings import settings

    ways = channels(alerts(settings(), os.environ))
    if not ways:
        raise click.ClickException("nobody is told: set settings.alerts.webhook, email_to or command")
    failed = False
    for name, tell in ways.items():
        try:
            tell(Alert("A test of spanledger's alerts", {"test": "yes"}, False))
            click.echo(f"{name}: told")
        except NotTold as error:
            failed = True
            click.echo(f"{name}: {error}", err=True)
    click.get_current_context().exit(1 if failed else 0)


def _evaluated(names: tuple[str, ...]) -> list[Spending]:
    from dataclasses import replace

    from spanledger.service.budgets.spending import evaluate
    from spanledger.service.ledger import opened
    from spanledger.settings import settings

    now = settings()
    for name in names:
        if name not in now.budgets:
            raise click.BadParameter(f"there is no budget {name!r}; known: {', '.join(now.budgets) or 'none'}")
    if names:
        now = replace(now, budgets={name: now.budgets[name] for name in names})
    with opened(now, read_only=True) as client:
        return evaluate(client, now)


def _print(found: list[Spending], as_json: bool) -> None:
    from spanledger.service import output

    if as_json:
        output.print_json([each.as_dict() for each in found])
    elif not found:
        click.echo("no budgets are set: settings.budgets in the configuration, see docs/budgets.md")
    else:
        rows = [_shown(each) for each in found]
        output.print_table(list(rows[0]), rows, right=("share",))


def _shown(each: Spending) -> dict[str, Any]:
    return {
        "budget": each.budget.name,
        "scope": each.scope_text,
        "window": each.budget.window_text,
        "spent": each.spent,
        "amount": each.budget.amount,
        "currency": each.budget.currency,
        "share": f"{each.share * 100:,.1f} %",
        "calls": each.calls,
        "unpriced": each.unpriced,
        "state": "over budget" if each.exceeded else "near" if each.crossed else "ok",
    }
