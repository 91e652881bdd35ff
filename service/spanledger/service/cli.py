"""The command line, `spanledger COMMAND`: each family of commands is a module, imported when it is used.

Exit codes: 0 done; 1 something is wrong (the command failed, or `doctor` found something); 2 wrong usage.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

COMMANDS = {
    "up": "spanledger.service.server_cli:up",
    "down": "spanledger.service.server_cli:down",
    "status": "spanledger.service.server_cli:status",
    "collector": "spanledger.service.collector_cli:collector",
    "serve": "spanledger.service.serve_cli:serve",
    "report": "spanledger.service.report_cli:report",
    "top": "spanledger.service.top_cli:top",
    "tail": "spanledger.service.tail_cli:tail",
    "trace": "spanledger.service.trace_cli:trace",
    "budgets": "spanledger.service.budgets_cli:budgets",
    "verify": "spanledger.service.verify_cli:verify",
    "reprice": "spanledger.service.reprice_cli:reprice",
    "settle": "spanledger.service.settle_cli:settle",
    "retry": "spanledger.service.retry_cli:retry",
    "forget": "spanledger.service.forget_cli:forget",
    "content": "spanledger.service.content_cli:content",
    "sql": "spanledger.service.sql_cli:sql",
    "doctor": "spanledger.service.doctor_cli:doctor",
    "prices": "spanledger.service.prices_cli:prices",
    "completion": "spanledger.service.completion_cli:completion",
}
"""Command -> where it is, in the order that `--help` lists them."""

ADDED = {"prices": {"explain": "spanledger.service.explain_cli:explain"}}
"""Group -> commands of other rooms that it shows: `explain` needs the ledger, the price book does not."""


class CommandError(click.ClickException):
    """What went wrong and what to do, as one line on stderr; exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"spanledger: {self.format_message()}", file=file, err=file is None)


class Commands(click.Group):
    """Loads a command when it is asked for, and turns errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = _load(COMMANDS[cmd_name])
        if isinstance(command, click.Group):
            for name, place in ADDED.get(cmd_name, {}).items():
                if name not in command.commands:
                    command.add_command(_load(place), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            raise CommandError(in_one_line(error)) from error


def _load(place: str) -> click.Command:
    module, _, name = place.partition(":")
    command = getattr(import_module(module), name)
    assert isinstance(command, click.Command)
    return command


def in_one_line(error: Exception) -> str:
    """`error` for a person; our own errors already say what to do, others name the way to find out."""
    text = " ".join(str(error).split())
    kind = type(error)
    if kind.__module__.startswith("spanledger."):
        return text
    return f"unexpected {kind.__name__}: {text or 'no message'} (spanledger --debug shows where)"


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done; 1 something is wrong; 2 wrong usage. "
    "Settings: SPANLEDGER_HOME, SPANLEDGER_URL, SPANLEDGER_CONFIG, ...; `spanledger doctor` shows them.",
)
@click.version_option(package_name="spanledger", prog_name="spanledger")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """One exact cost row in ClickHouse for every LLM call.

    \b
    Examples:
      opentelemetry-instrument python app.py     write rows
      spanledger report --by model --since 7d    what they cost
      spanledger doctor                          what is wrong, and what to do
    """
    import logging

    from spanledger.settings import settings

    settings.cache_clear()
    if not debug:  # the driver logs what it then raises
        logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)


def main() -> None:
    """The console script."""
    try:
        cli.main(prog_name="spanledger")
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stderr.close()
        sys.exit(0)
