"""`spanledger prices explain`: how a row of the ledger got its price, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import click


@click.command()
@click.argument("identifier", metavar="ENTRY_ID|RESPONSE_ID|SPAN_ID")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of tables.")
def explain(identifier: str, as_json: bool) -> None:
    """Show how a call got its price: quantity x rate for each part, and whether they come to the stored cost.

    The rates are those of the row's own snapshot, with all multipliers of tier, mode, region and overlay in them;
    today's price book has no part in it. Exit code 1 if there is no such call, or the sum is not the stored cost.

    \b
    Examples:
      spanledger prices explain chatcmpl-C8rV2YkqYhSU
      spanledger prices explain resp_0fabc13af1ee0049 --json
    """
    from spanledger.exporter.queries import explain_row
    from spanledger.service import output
    from spanledger.service.cli import CommandError
    from spanledger.service.ledger import opened
    from spanledger.settings import settings

    with opened(settings(), read_only=True) as client:
        rows = explain_row(client, identifier)
    if not rows:
        raise CommandError(
            f"no call has {identifier!r} as entry, response or span id; the ids are in:"
            ' spanledger sql "SELECT entry_id, response_id, span_id FROM llm_calls FINAL"'
        )
    proofs = [proof(row) for row in rows]
    if as_json:
        output.print_json(proofs)
    else:
        for found in proofs:
            _print(found)
    click.get_current_context().exit(0 if all(found["equal"] is not False for found in proofs) else 1)


def proof(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row of `llm_calls` was priced by, and what that comes to.

    `equal` tells whether it comes to the stored cost; None where the row has no price.
    """
    from spanledger.pricing import inquiry, snapshot
    from spanledger.pricing.call import amount
    from spanledger.pricing.usage import quantities
    from spanledger.pricing.verify import recompute
    from spanledger.service.proof import mismatches

    found: dict[str, Any] = {
        name: row[name]
        for name in (
            "entry_id",
            "line",
            "start_time",
            "provider",
            "request_model",
            "response_model",
            "response_id",
            "service_tier",
            "processing",
            "region",
            "usage_status",
            "price_status",
            "priced_model",
        )
    }
    found["start_time"] = row["start_time"].replace(tzinfo=timezone.utc)
    usage = quantities(row["usage"])
    unmapped = quantities(row["unmapped"])
    found["reasons"] = list(row["cost_reasons"])
    steps = inquiry.explain(row["price_snapshot"], usage, unmapped)
    found["parts"] = [
        {"part": step.part, "quantity": step.quantity, "rate": step.rate, "amount": step.amount} for step in steps
    ]
    found |= {"sum": None, "cost": row["cost"], "currency": row["currency"], "equal": None, "price": None}
    if row["price_snapshot"]:
        terms = snapshot.read(row["price_snapshot"])
        found["sum"] = amount(recompute(usage, unmapped, row["price_snapshot"]).cost_e18)
        found["equal"] = not mismatches(row)
        found["price"] = {name: value for name, value in terms.raw.items() if name not in ("rates", "currency")}
    return found


def _digits(rate: Fraction) -> str:
    """Plain decimal digits, or a fraction where the digits would not end."""
    from spanledger.pricing.arithmetic import text_of

    return text_of(rate)


def _print(found: Mapping[str, Any]) -> None:
    from spanledger.pricing.usage import TOKEN_PARTS
    from spanledger.service import output

    model = found["response_model"] or found["request_model"]
    line = f", line {found['line']}" if found["line"] else ""
    click.echo(f"{found['provider']} {model}, {found['start_time']:%Y-%m-%d %H:%M:%S} UTC")
    click.echo(
        f"entry {found['entry_id']}{line}" + (f", response {found['response_id']}" if found["response_id"] else "")
    )
    for name in ("service_tier", "processing", "region"):
        if found[name]:
            click.echo(f"{name.replace('_', ' ')}: {found[name]}")
    click.echo(f"usage {found['usage_status']}, price {found['price_status']}")
    for reason in found["reasons"]:
        click.echo(f"- {reason}")
    if found["price"]:
        for text in _price_lines(found["priced_model"], found["price"]):
            click.echo(text)
    currency = found["currency"]
    rows = [
        {
            "part": part["part"],
            "quantity": part["quantity"],
            f"rate {currency}": _rate_for_people(part["rate"], part["part"] in TOKEN_PARTS),
            f"amount {currency}": _all_digits(part["amount"]),
        }
        for part in found["parts"]
        if part["quantity"]
    ]
    if rows:
        columns = list(rows[0])
        footer = {"part": "sum", columns[-1]: _all_digits(found["sum"])}
        output.print_table(columns, rows, footer=footer, right=columns[1:])
    stored = "unknown" if found["cost"] is None else f"{_all_digits(found['cost'])} {currency}"
    verdict = {True: ": equal to the last digit", False: ": NOT what its snapshot comes to", None: ""}
    click.echo(f"stored cost {stored}{verdict[found['equal']]}\n")


def _price_lines(model: str, price: Mapping[str, Any]) -> list[str]:
    row = price["price"]
    dates = " ".join(f"{name} {row[name]}" for name in ("from", "until") if name in row)
    lines = [f"priced as {model} by {price['file']}" + (f", {dates}" if dates else "")]
    if "source" in row:
        checked = f", checked {row['checked']}" if "checked" in row else ""
        lines.append(f"source: {row['source']}{checked}")
    if "over" in price:
        lines.append(f"context tier: prompt {'of' if price.get('op') == 'gte' else 'over'} {price['over']:,} tokens")
    if "bands" in price:
        lines.append(f"context bands: edges {price['bands']['edges']}, rates {price['bands']['rates']}")
    for dimension, mode in price.get("modes", {}).items():
        lines.append(f"mode: {dimension.replace('_', ' ')} {mode}")
    if "region" in price:
        lines.append(f"region: {price['region']}")
    for overlay in price.get("overlays", ()):
        lines.append(f"overlay: {overlay}")
    for part, fee in price.get("fees", {}).items():
        lines.append(f"{part}: " + ", ".join(f"{name} {value}" for name, value in fee.items()))
    if "fx" in price:
        lines.append(f"in {price['base']}: x {price['fx']['rate']}, rate of {price['fx']['from']}")
    if "decimals" in price:
        lines.append(f"total rounded to {price['decimals']} places")
    return lines


def _rate_for_people(rate: str | None, of_token: bool) -> str:
    if rate is None:
        return "no rate"
    if not of_token:
        return rate
    return f"{_digits(Fraction(rate) * 10**6)} per 1M"


def _all_digits(value: Decimal | None) -> str:
    """Every digit that is not a trailing zero."""
    if value is None:
        return "-"
    return format(value.normalize(), "f")
