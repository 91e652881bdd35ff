"""`spanledger prices`: what the price book knows, and what a call would cost by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from spanledger.pricing.book import PriceBook
    from spanledger.pricing.inquiry import Step

_JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of tables.")
_AT = click.option("--at", metavar="TIME", default="now", help="Prices in force then: a day, a time (UTC) or an age.")


@click.group()
def prices() -> None:
    """The price book: the shipped catalogue with your own price files over it."""


@prices.command("list")
@click.argument("pattern", required=False, default="")
@click.option("--provider", metavar="NAME", default="", help="Only this provider's models.")
@_AT
@_JSON
def list_(pattern: str, provider: str, at: str, as_json: bool) -> None:
    """List the models of the price book, or those with PATTERN in their name.

    Rates are per million tokens, in the currency of the price.

    \b
    Examples:
      spanledger prices list gpt-5
      spanledger prices list --provider anthropic --at 2026-03-01
      spanledger prices list 'claude-*-5' --json
    """
    from spanledger.pricing.inquiry import list_models
    from spanledger.service import output

    found = list_models(_book(), _instant(at), provider, pattern)
    if as_json:
        output.print_json([asdict(listed) for listed in found])
        return
    columns = ["provider", "model", "input", "cache_read", "cache_write", "output", "since", "checked"]
    output.print_table(columns, [asdict(listed) for listed in found], right=columns[2:6])
    click.echo(f"{len(found):,} models")


@prices.command()
@click.argument("model")
@click.option("--provider", metavar="NAME", default="", help="Only this provider's price.")
@_JSON
def show(model: str, provider: str, as_json: bool) -> None:
    """Show all prices of MODEL: rates, context tiers, modes, regions, dates and sources.

    MODEL is any name that calls may carry: a snapshot, an ARN, a slug.

    \b
    Examples:
      spanledger prices show gpt-5-mini --provider openai
      spanledger prices show us.anthropic.claude-haiku-4-5-20251001-v1:0
      spanledger prices show deepseek-v4-pro --json
    """
    from spanledger.pricing.inquiry import show as ask
    from spanledger.service import output

    found = ask(_book(), model, provider)
    if as_json:
        output.print_json(found)
        return
    for entry in found:
        click.echo(f"{entry['provider']} {entry['model']}  ({entry['file']})")
        if entry["note"]:
            click.echo(f"- {entry['note']}")
        for price in entry["prices"]:
            _print_price(price)
        click.echo("")


def _print_price(price: Mapping[str, Any]) -> None:
    span = [f"from {price['from']}"] if "from" in price else ["from the beginning"]
    span += [f"until {price['until']}"] if "until" in price else []
    for start, end, days in price.get("windows", ()):
        from spanledger.pricing.price_file import WEEKDAYS

        names = "" if len(days) == 7 else " " + ",".join(WEEKDAYS[day] for day in days)
        span.append(f"{start // 60:02}:{start % 60:02}-{end // 60 % 24:02}:{end % 60:02} UTC{names}")
    click.echo(f"  {', '.join(span)}, {price['currency']}" + (", free" if price.get("free") else ""))
    for part, rate in (price["rates"] | price.get("unmapped", {})).items():
        click.echo(f"    {part:<18} {rate}")
    for tier in price.get("context", ()):
        click.echo(f"    prompt {'from' if tier.get('op') == 'gte' else 'over'} {tier['over']:,}: {_change(tier)}")
    for dimension, modes in price.get("modes", {}).items():
        for name, mode in modes.items():
            click.echo(f"    {dimension} {name}: {'as ' + mode['is'] if 'is' in mode else _change(mode)}")
    for rule in price.get("region", ()):
        click.echo(f"    region {', '.join(rule['when'])}: {_change(rule)}")
    for key in ("estimated", "source", "checked"):
        if key in price:
            click.echo(f"    {key}: {price[key]}")


def _change(change: Mapping[str, Any]) -> str:
    found = [f"{part} {rate}" for part, rate in change.get("rates", {}).items()]
    found += [f"{selector} x {factor}" for selector, factor in change.get("mult", {}).items()]
    for tier in change.get("context", ()):
        found.append(f"prompt over {tier['over']:,}: {_change(tier)}")
    if change.get("context") == []:
        found.append("no context tiers")
    if "excludes" in change:
        found.append(f"without {', '.join(change['excludes'])}")
    if "estimated" in change:
        found.append(f"estimated: {change['estimated']}")
    return ", ".join(found) or "as standard"


@prices.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILES...")
@_JSON
def check(files: Sequence[Path], as_json: bool) -> None:
    """Check price files as the price book would read them. Exit code 1 if one is refused.

    \b
    Examples:
      spanledger prices check prices.yaml
      spanledger prices check llm_config.yaml overrides/*.yaml --json
    """
    from spanledger.pricing.inquiry import check as ask
    from spanledger.service import output
    from spanledger.settings import settings

    found = ask(files, settings().base_currency)
    if as_json:
        output.print_json([asdict(checked) for checked in found])
    else:
        for checked in found:
            click.echo(checked.error or f"{checked.file}: sound, {checked.models} models, {checked.prices} prices")
    click.get_current_context().exit(1 if any(checked.error for checked in found) else 0)


@prices.command()
@click.argument("before", type=click.Path(exists=True, path_type=Path))
@click.argument("after", type=click.Path(exists=True, path_type=Path))
@_JSON
def diff(before: Path, after: Path, as_json: bool) -> None:
    """Show what changed from BEFORE to AFTER: price files, or folders of them. Of each model the last price counts.

    \b
    Examples:
      spanledger prices diff old/ new/
      spanledger prices diff old/openai.yaml new/openai.yaml --json
    """
    from spanledger.pricing.inquiry import diff as ask
    from spanledger.service import output

    found = ask([before], [after])
    if as_json:
        output.print_json([asdict(change) for change in found])
        return
    if found:
        output.print_table(
            ["provider", "model", "change", "what", "before", "after"], [asdict(change) for change in found]
        )
    click.echo(f"{len(found):,} changes")


@prices.command("import")
@click.option("--into", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write to.")
@_JSON
def import_(into: Path, as_json: bool) -> None:
    """Write price files from the data of the genai-prices package, one a provider.

    Put the ones that you want under `price_files` in the settings; files named after them stay on top.

    \b
    Examples:
      pip install -U genai-prices
      spanledger prices import --into prices/
    """
    from spanledger.pricing.importing import import_genai_prices
    from spanledger.service import output
    from spanledger.service.graphics import tracked

    found = import_genai_prices(into, datetime.now(timezone.utc).date().isoformat(), tracked("importing providers"))
    if as_json:
        output.print_json(
            {"files": [str(file) for file in found.files], "models": found.models, "left_out": found.left_out}
        )
        return
    for model, reason in found.left_out.items():
        click.echo(f"left out {model}: {reason}")
    click.echo(f"{found.models:,} models in {len(found.files)} files in {into}")


@prices.command("try")
@click.argument("usage", nargs=-1, required=True, metavar="PART=QUANTITY...")
@click.option("--provider", metavar="NAME", required=True, help="Its name, or the host that is called.")
@click.option("--model", metavar="NAME", required=True, help="The model's name as a call carries it.")
@_AT
@click.option("--tier", metavar="NAME", default="", help="The service tier: flex, priority, ...")
@click.option("--processing", metavar="NAME", default="", help="batch, fast, ...")
@click.option("--region", metavar="NAME", default="", help="Where it is served: us, eu, ...")
@click.option("--tenant", metavar="NAME", default="", help="For overlays that name tenants.")
@click.option("--key", metavar="NAME", default="", help="For overlays that name API keys.")
@_JSON
def try_(
    usage: Sequence[str],
    provider: str,
    model: str,
    at: str,
    tier: str,
    processing: str,
    region: str,
    tenant: str,
    key: str,
    as_json: bool,
) -> None:
    """Price a call that was never made, part by part.

    \b
    Examples:
      spanledger prices try --provider openai --model gpt-5 --at 2026-03-01 --tier flex \\
          input=1000 cache_read=200 output=50
      spanledger prices try --provider anthropic --model claude-opus-5-5 --region us input=1200 output=300 --json
    """
    from spanledger.pricing.inquiry import quantities, try_call
    from spanledger.service import output

    parts, unmapped = quantities(usage)
    call, charge, steps = try_call(
        _book(),
        provider,
        model,
        _instant(at),
        parts,
        unmapped,
        service_tier=tier,
        processing=processing,
        region=region,
        tenant=tenant,
        api_key=key,
    )
    if as_json:
        import json

        output.print_json(
            {
                "provider": call.provider,
                "model": call.model,
                "priced_model": charge.priced_model,
                "status": charge.status,
                "reasons": charge.reasons,
                "cost": charge.cost,
                "currency": charge.currency,
                "cost_base": charge.cost_base,
                "base_currency": charge.base_currency,
                "parts": [asdict(step) for step in steps],
                "snapshot": json.loads(charge.snapshot) if charge.snapshot else None,
            }
        )
        return
    rows = [{**asdict(step), "rate": _rate(step), "amount": _all_digits(step.amount)} for step in steps]
    cost = _all_digits(charge.cost) if charge.cost is not None else "unknown"
    output.print_table(
        ["part", "quantity", "rate", "amount"],
        rows,
        footer={"part": charge.currency, "amount": cost},
        right=["rate", "amount"],
    )
    if charge.cost_base is not None and charge.base_currency != charge.currency:
        click.echo(f"{_all_digits(charge.cost_base)} {charge.base_currency}")
    priced = f" as {charge.priced_model}" if charge.priced_model else ""
    click.echo(f"{charge.status}{priced}")
    for reason in charge.reasons:
        click.echo(f"- {reason}")


def _rate(step: Step) -> str:
    """Per million of tokens, each of everything else."""
    from fractions import Fraction

    from spanledger.pricing.arithmetic import text_of
    from spanledger.pricing.usage import TOKEN_PARTS

    if step.rate is None:
        return "no rate"
    return f"{text_of(Fraction(step.rate) * 10**6)} per 1M" if step.part in TOKEN_PARTS else step.rate


def _all_digits(value: Any) -> str:
    return "-" if value is None else format(value.normalize(), "f")


def _book() -> PriceBook:
    """The price book of the settings; a wrong file is the command's error."""
    from spanledger.pricing.book import load
    from spanledger.settings import settings

    chosen = settings()
    return load(chosen.price_files, base_currency=chosen.base_currency, decimals=chosen.decimals)


def _instant(text: str) -> int:
    from spanledger.service.times import parse

    try:
        when = parse(text, datetime.now(timezone.utc))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from None
    since = when - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return since // timedelta(microseconds=1) * 1_000
