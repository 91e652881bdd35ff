"""`spanledger doctor`: what is wrong, and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from spanledger.service.doctor import Finding


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def doctor(as_json: bool) -> None:
    """Look at everything that a row depends on, and say what is wrong and what to do.

    It looks at the settings, the home folder, the installed SDKs, OpenTelemetry's set-up, the price book, the
    journal, ClickHouse, and the rows of the last 30 days. Exit code 1 if something is wrong.

    \b
    Examples:
      spanledger doctor
      spanledger doctor --json
    """
    from spanledger.service import output
    from spanledger.service.doctor import WRONG

    findings = list(_findings())
    if as_json:
        output.print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    click.get_current_context().exit(1 if any(finding.level == WRONG for finding in findings) else 0)


def _findings() -> Iterator[Finding]:
    from spanledger.service import doctor as checks
    from spanledger.service.cli import in_one_line
    from spanledger.settings import SettingsError, settings

    try:
        now = settings()
    except SettingsError as error:
        yield checks.Finding(checks.WRONG, "settings", str(error), "mend it: without settings nothing else can be told")
        return
    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "settings": partial(checks.check_settings, now),
        "home": partial(checks.check_home, now.home),
        "SDK": checks.check_sdks,
        "OpenTelemetry": partial(checks.check_opentelemetry, os.environ),
        "prices": partial(checks.check_prices, now),
        "collector": partial(checks.check_collector, now, os.environ),
        "dashboard": partial(checks.check_serve, now, os.environ),
        "journal": partial(checks.check_journal, now),
        "ClickHouse": partial(checks.check_clickhouse, now),
    }
    for topic, look in looks.items():
        try:
            yield from look()
        except Exception as error:  # one look that fails must not hide the others
            yield checks.Finding(checks.WRONG, topic, in_one_line(error))


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    from spanledger.service import output

    console = output.console()
    styles = {"ok": "green", "note": "yellow", "wrong": "bold red"}
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        line = Text(f"{finding.level:<5}", styles[finding.level])
        line.append(f"  {finding.topic:<{width}}  {finding.text}", "default")
        console.print(line, soft_wrap=True)
        if finding.todo:
            console.print(Text(f"{'':<7}{'':<{width}}  do: {finding.todo}"), soft_wrap=True)
