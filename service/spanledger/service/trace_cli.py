"""`spanledger trace`: the calls of a trace as a tree, with what each cost and what each branch adds up to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree


@dataclass(slots=True)
class Node:
    """A span: a call with its rows (a bill may have several lines), or one that calls were made beneath.

    Attributes:
        rows: of `watching.CALL`; none for a span that is no call.
    """

    span_id: str
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)

    def beneath(self) -> Iterator[Mapping[str, Any]]:
        """The rows of this span and of all beneath it."""
        yield from self.rows
        for child in self.children:
            yield from child.beneath()


def tree(rows: Sequence[Mapping[str, Any]]) -> list[Node]:
    """The topmost spans of a trace, from its calls' own ids and those of the spans above them.

    A span that is no call is there only where it holds several branches together.
    """
    nodes: dict[str, Node] = {}
    above: dict[str, str] = {}
    for row in rows:
        nodes.setdefault(row["span_id"], Node(row["span_id"])).rows.append(row)
        path = [row["span_id"], *filter(None, dict.fromkeys((row["parent_span_id"], *row["ancestor_span_ids"])))]
        for span_id, parent in pairwise(path):
            above.setdefault(span_id, parent)
            nodes.setdefault(parent, Node(parent))
    top = []
    for span_id, node in nodes.items():
        if span_id in above and span_id not in _ancestors(above[span_id], above):
            nodes[above[span_id]].children.append(node)
        else:
            top.append(node)
    return [kept for node in top for kept in _without_links(node)]


def _ancestors(span_id: str, above: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    while span_id not in found:
        found.add(span_id)
        span_id = above.get(span_id, span_id)
    return found


def _without_links(node: Node) -> list[Node]:
    node.children = [kept for child in node.children for kept in _without_links(child)]
    return [node] if node.rows or len(node.children) > 1 else node.children


def costs(rows: Iterator[Mapping[str, Any]] | Sequence[Mapping[str, Any]]) -> tuple[dict[str, Decimal], int]:
    """Known costs, a sum for each base currency, and how many rows have none."""
    sums: dict[str, Decimal] = {}
    unknown = 0
    for row in rows:
        if row["cost_base"] is None:
            unknown += 1
        else:
            sums[row["base_currency"]] = sums.get(row["base_currency"], Decimal(0)) + row["cost_base"]
    return sums, unknown


@click.command()
@click.argument("trace_id")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a tree.")
def trace(trace_id: str, as_json: bool) -> None:
    """Show the calls of a trace as a tree, what each cost, and what each branch adds up to.

    Exit code 1 if the ledger has no call of this trace.

    \b
    Examples:
      spanledger trace 4bf92f3577b34da6a3ce929d0e0e4736
      spanledger trace 4bf92f3577b34da6a3ce929d0e0e4736 --json
    """
    from spanledger.exporter.watching import trace_calls
    from spanledger.service import output
    from spanledger.service.cli import CommandError
    from spanledger.service.ledger import opened
    from spanledger.settings import settings

    trace_id = trace_id.strip().lower().removeprefix("0x").replace("-", "")
    if len(trace_id) != 32 or not set(trace_id) <= set("0123456789abcdef"):
        raise click.BadParameter(
            "a trace id is 32 hexadecimal digits; one call by its response: spanledger prices explain ID",
            param_hint="TRACE_ID",
        )
    with opened(settings(), read_only=True) as client:
        rows = trace_calls(client, trace_id)
    if not rows:
        raise CommandError(f"no call of trace {trace_id} is in the ledger; `spanledger tail` shows the traces of calls")
    top = tree(rows)
    if as_json:
        output.print_json({"trace_id": trace_id, **_summary(rows), "children": [_as_json(node) for node in top]})
    else:
        _print(trace_id, rows, top)


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    start = min(row["start_ns"] for row in rows)
    sums, unknown = costs(rows)
    return {
        "start_ns": start,
        "duration_ns": max(row["start_ns"] + row["duration_ns"] for row in rows) - start,
        "calls": sum(row["line"] == 0 for row in rows),
        "costs": sums,
        "unpriced": unknown,
    }


def _as_json(node: Node) -> dict[str, Any]:
    return {
        "span_id": node.span_id,
        **_summary(list(node.beneath())),
        "lines": [{name: value for name, value in row.items() if name not in _OF_THE_TREE} for row in node.rows],
        "children": [_as_json(child) for child in node.children],
    }


_OF_THE_TREE = ("trace_id", "span_id", "parent_span_id", "ancestor_span_ids")


def _print(trace_id: str, rows: Sequence[Mapping[str, Any]], top: Sequence[Node]) -> None:
    from rich.tree import Tree

    from spanledger.service import output

    whole = _summary(rows)
    services = ", ".join(dict.fromkeys(row["service_name"] for row in rows if row["service_name"]))
    heading = _text(
        (f"trace {trace_id}", "bold"),
        (services, ""),
        (output.when(whole["start_ns"]), ""),
        (output.seconds(whole["duration_ns"]), ""),
        (f"{whole['calls']} calls" if whole["calls"] != 1 else "1 call", ""),
        (_costs(whole), "bold"),
    )
    drawn = Tree(heading, guide_style="dim")
    for node in top:
        _grow(drawn, node)
    output.console().print(drawn, soft_wrap=True)


def _grow(parent: Tree, node: Node) -> None:
    from spanledger.service import output

    summary = _summary(list(node.beneath()))
    branch = parent
    if not node.rows:
        agents = {row["agent_name"] for row in node.beneath()}
        name = f"agent {agents.pop()}" if len(agents) == 1 and all(agents) else f"span {node.span_id}"
        duration = output.seconds(summary["duration_ns"])
        branch = parent.add(_text((name, "bold"), (duration, ""), (_costs(summary), "bold")))
    for row in node.rows:
        label = _text(*_call_pieces(row))
        if row["line"]:
            branch.add(label)
            continue
        if node.children:
            label.append(f"  with all beneath {_costs(summary)}", "bold")
        branch = parent.add(label)
    for child in node.children:
        _grow(branch, child)


def _call_pieces(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from spanledger.service import output

    if row["line"]:
        yield f"of it {row['model']}", ""
    else:
        yield f"{row['operation']} {row['model'] or '-'}", "cyan"
        yield row["provider"], "dim"
        yield output.seconds(row["duration_ns"]), ""
    yield output.tokens(row), ""
    yield output.cost_of(row)
    if row["status"] == "error":
        yield row["error_type"] or "error", "red"


def _costs(summary: Mapping[str, Any]) -> str:
    from spanledger.service import output

    known = [f"{output.money(amount)} {currency}" for currency, amount in summary["costs"].items()]
    if summary["unpriced"]:
        known.append(f"{summary['unpriced']} unknown")
    return " + ".join(known)


def _text(*pieces: tuple[str, str]) -> Text:
    from rich.text import Text

    made = Text()
    for text, style in pieces:
        if text:
            made.append(("  " if made else "") + text, style or None)
    return made
