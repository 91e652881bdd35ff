"""`spanledger up`, `down`, `status`: embedded ClickHouse, the collector and the API as a background service."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from spanledger.settings import Settings, settings

if TYPE_CHECKING:
    from spanledger.exporter.embedded import Status
    from spanledger.service.daemon import Ports, Running

_PORT = click.IntRange(1, 65535)


@click.command()
@click.option("--foreground", is_flag=True, help="Stay in this terminal until Ctrl-C.")
@click.option(
    "--http-port", type=_PORT, help="HTTP port on 127.0.0.1; by default the one of last time, 18123 or a free one."
)
@click.option("--tcp-port", type=_PORT, help="The same for ClickHouse's native protocol; 19000.")
@click.option("--no-collector", is_flag=True, help="Start no OTLP collector.")
@click.option("--no-serve", is_flag=True, help="Serve no API and no dashboard.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text, as `status` gives it.")
def up(
    foreground: bool, http_port: int | None, tcp_port: int | None, no_collector: bool, no_serve: bool, as_json: bool
) -> None:
    """Start embedded ClickHouse, the OTLP collector, the API and the dashboard on loopback, as a background service.

    The service loads the journal into ClickHouse while programs write it, and what programs left that have ended.

    \b
    Examples:
      spanledger up
      spanledger up --foreground
      SPANLEDGER_HOME=/srv/ledger spanledger up --http-port 8123
    """
    from spanledger.exporter.embedded import EmbeddedClickHouse
    from spanledger.service import daemon, output

    now = _embedded_settings()
    ports = daemon.Ports(http_port, tcp_port, not no_collector, not no_serve)
    if service := daemon.running(now.home):
        if as_json:
            output.print_json_line(_state(now))
            return
        click.echo(f"Already up: {_where(EmbeddedClickHouse(now.home).status(), service)}")
        _say_parts(now, ports)
        click.echo("What was set or installed since it came up: spanledger down, then spanledger up")
        return
    if foreground:
        _stay(now, ports, as_json)
        return
    service = daemon.start(now.home, ports)
    if as_json:
        output.print_json_line(_state(now))
        return
    status = EmbeddedClickHouse(now.home).status()
    click.echo(f"Up: {_where(status, service)}")
    _say_parts(now, ports)
    click.echo(f"Users and passwords: {status.folder / 'credentials.json'}. Stop it with: spanledger down")


@click.command()
@click.option("--quiet", "-q", is_flag=True, help="Say nothing.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def down(quiet: bool, as_json: bool) -> None:
    """Stop the background service and its embedded ClickHouse.

    What waits in the journal is loaded first. Calls made later wait in the journal for the next `up` or `report`.

    \b
    Example:
      spanledger down
    """
    from spanledger.exporter.embedded import EmbeddedClickHouse
    from spanledger.service import daemon, output
    from spanledger.service.ledger import alone

    now = settings()
    stopped = daemon.stop(now.home)
    engine = EmbeddedClickHouse(now.home)
    if engine.endpoint() is not None:  # a service that was killed left it behind, or a report uses it just now
        with alone(now.home):
            stopped = engine.stop() or stopped
    if as_json:
        output.print_json_line({"stopped": stopped, "home": str(now.home)})
    elif not quiet:
        click.echo(f"Down: {now.home}" if stopped else f"It was not up: {now.home}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def status(as_json: bool) -> None:
    """Show whether the service is up, where ClickHouse listens, and what waits in the journal.

    Exit code 1 if the service is not up. With SPANLEDGER_URL set, that ClickHouse is looked at instead.

    \b
    Examples:
      spanledger status
      spanledger status --json
    """
    from spanledger.service import output

    state = _state(settings())
    if as_json:
        output.print_json(state)
    else:
        width = max(map(len, state))
        for name, value in state.items():
            click.echo(f"{name.replace('_', ' '):{width}}  {_shown(value)}")
    click.get_current_context().exit(0 if state["up"] else 1)


def _stay(now: Settings, ports: Ports, as_json: bool) -> None:
    import signal
    import threading

    from spanledger.exporter.embedded import EmbeddedClickHouse
    from spanledger.service import daemon, output

    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())

    def announce() -> None:
        if as_json:
            output.print_json_line(_state(now))
            return
        service = daemon.running(now.home)
        click.echo(f"Up: {_where(EmbeddedClickHouse(now.home).status(), service)}; Ctrl-C stops it")
        _say_parts(now, ports)

    daemon.run(now.home, announce, stopping, ports)
    if not as_json:
        click.echo(f"Down: {now.home}")


def _embedded_settings() -> Settings:
    """The settings, where embedded ClickHouse is what programs write to.

    Raises:
        ClickException: `SPANLEDGER_URL` names another ClickHouse.
    """
    now = settings()
    if now.url:
        from spanledger.exporter.client import parse_url
        from spanledger.service.cli import CommandError

        raise CommandError(
            f"SPANLEDGER_URL is set: programs write to {parse_url(now.url)}, there is nothing to start;"
            " unset it to use embedded ClickHouse"
        )
    return now


def _where(engine: Status, service: Running | None) -> str:
    process = f", process {service.pid}" if service else ""
    return (
        f"ClickHouse {engine.version} at http://127.0.0.1:{engine.http_port} (native {engine.tcp_port}){process},"
        f" data in {engine.folder}"
    )


def _say_parts(now: Settings, asked: Ports) -> None:
    from spanledger.service.api import running as api
    from spanledger.service.collector import running as collector

    for name, part, wanted in (("Collector", collector, asked.collector), ("Dashboard", api, asked.serve)):
        if here := part.running(now.home):
            click.echo(f"{name}: {here}")
        elif wanted and (absent := part.missing()):
            click.echo(f"{name}: not started, {absent}")


def _state(now: Settings) -> dict[str, Any]:
    from spanledger.exporter.shipper import pending

    waiting = pending(now.home)
    return {
        "up": False,
        **(_remote_state(now.url) if now.url else _embedded_state(now)),
        **_collector_state(now),
        **_api_state(now),
        "home": str(now.home),
        "rows_waiting": waiting.rows,
        "rows_rejected": waiting.rejected_rows,
    }


def _collector_state(now: Settings) -> dict[str, Any]:
    from spanledger.service.collector.running import running

    here = running(now.home)
    return {
        "otlp_grpc": (here.grpc or None) if here else None,
        "otlp_http": f"{'https' if here.tls else 'http'}://{here.http}" if here and here.http else None,
        "forward": (here.forward or None) if here else None,
    }


def _api_state(now: Settings) -> dict[str, Any]:
    from spanledger.service.api.running import running

    here = running(now.home)
    return {"dashboard": here.url if here else None}


def _remote_state(url: str) -> dict[str, Any]:
    from spanledger.exporter.client import ClickHouseError, connect, parse_url

    endpoint = parse_url(url)
    try:
        client = connect(endpoint)
    except ClickHouseError as error:
        return {"clickhouse": str(endpoint), "error": str(error)}
    try:
        return {"up": True, "clickhouse": str(endpoint), "version": client.version}
    finally:
        client.close()


def _embedded_state(now: Settings) -> dict[str, Any]:
    from spanledger.exporter.embedded import EmbeddedClickHouse
    from spanledger.service import daemon

    service = daemon.running(now.home)
    engine = EmbeddedClickHouse(now.home).status()
    return {
        "up": service is not None and engine.running,
        "process": service.pid if service else None,
        "since": datetime.fromtimestamp(service.since_ns // 10**9, timezone.utc).isoformat() if service else None,
        "clickhouse": f"http://127.0.0.1:{engine.http_port}" if engine.running else None,
        "native_port": engine.tcp_port,
        "version": engine.version,
        "data": str(engine.folder / "data"),
        "data_bytes": engine.data_bytes,
    }


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
