"""`spanledger top`, `tail`, `trace` and `completion`, and the pictures of `report`."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest

from spanledger.exporter.client import Client
from spanledger.exporter.rows import version
from spanledger.exporter.watching import Arrivals, trend
from spanledger.service.completion_cli import SHELLS
from spanledger.service.graphics import progress, share_bar, span_of_time, sparkline
from spanledger.service.trace_cli import tree
from tests.service.conftest import BIN, call_once, environment, spanledger

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
START = 1_795_381_573


def insert(ledger: Client, *rows: dict) -> None:
    """Rows as they come from the journal; each has an id of its own unless it says so."""
    whole = []
    for row in rows:
        made = {
            "event_date": "2026-11-22",
            "entry_id": os.urandom(8).hex(),
            "version": version("reported", 5),
            "start_time": f"{START}.000000000",
            "duration_ns": 2_000_000_000,
            "response_id": os.urandom(8).hex(),
            "trace_id": TRACE,
            "provider": "openai",
            "operation": "chat",
            "request_model": "gpt-5-mini",
            "status": "ok",
            "cost_base": "0.5",
            "base_currency": "USD",
            "price_status": "priced",
            **row,
        }
        whole.append(json.dumps(made))
    block = ("\n".join(whole) + "\n").encode()
    ledger.insert_block("llm_calls", block, os.urandom(8).hex())


def test_a_sparkline_is_as_high_as_the_shares_of_the_greatest():
    values = [None, Decimal(0), Decimal(1), Decimal(4), Decimal(8)]
    assert sparkline(values) == " ▁▂▅█"
    assert sparkline([Decimal(0), Decimal(0)]) == "▁▁"
    assert sparkline([]) == ""


def test_a_share_bar_is_filled_to_an_eighth():
    assert share_bar(Decimal(1), Decimal(2)) == "█████       50%"
    assert share_bar(Decimal("0.3125"), Decimal(1), 4) == "█▎    31%"
    assert share_bar(Decimal(1), Decimal(1)) == "██████████ 100%"
    assert share_bar(None, Decimal(1)) == share_bar(Decimal(1), None) == share_bar(Decimal(0), Decimal(0)) == ""


def test_a_span_of_time_is_told_in_its_largest_unit():
    assert [span_of_time(s) for s in (30, 60, 7200, 172_800)] == ["30 s", "1 min", "2 h", "2 d"]


def test_a_report_has_shares_and_trends_that_a_narrow_terminal_does_without(run):
    wide = run("report")
    assert "share" in wide.stdout
    assert "trend" in wide.stdout
    assert "A bar of the trend is 1 s, the first begins 20" in wide.stderr
    (dearest,) = (line for line in wide.stdout.splitlines() if line.split()[:1] == ["claude-sonnet-4-6"])
    assert "█" in dearest
    assert "trend" not in run("report", "--by", "day").stdout
    assert {"share", "trend"}.isdisjoint(json.loads(run("report", "--json").stdout)[0])


def test_an_output_that_cannot_hold_block_characters_has_none(example_home):
    done = spanledger(example_home, "report", PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 0, done.stderr
    assert "share" not in done.stdout


def test_the_bars_of_a_trend_add_up_and_are_no_more_than_asked_for(ledger):
    for hour in (0, 1, 1, 30):
        insert(ledger, {"start_time": f"{START + hour * 3600}.000000000", "tenant": "acme"})
    insert(ledger, {"tenant": "globex", "cost_base": None, "price_status": "unpriced"})
    insert(ledger, {"tenant": "other"})
    found = trend(ledger, ("tenant", "operation"), [("acme", "chat"), ("globex", "chat")], 16)
    assert found is not None
    assert found.bars.keys() == {("acme", "chat", "USD"), ("globex", "chat", "USD")}
    acme = found.bars["acme", "chat", "USD"]
    assert (found.step_s, len(acme)) == (7200, 16)
    assert found.first_s <= START < found.first_s + found.step_s
    assert sum(filter(None, acme)) == 2
    assert set(found.bars["globex", "chat", "USD"]) == {None}
    assert trend(ledger, ("tenant",), [("nobody",)], 16) is None


def test_a_call_arrives_once_however_often_it_is_written(ledger):
    insert(ledger, {"entry_id": "old"}, {"entry_id": "older", "start_time": f"{START - 60}.000000000"})
    calls = Arrivals(ledger)
    assert [row["entry_id"] for row in calls.latest(10)] == ["older", "old"]
    assert calls.new() == []
    insert(ledger, {"entry_id": "new", "tenant": "acme"})
    assert [row["entry_id"] for row in calls.new()] == ["new"]
    insert(ledger, {"entry_id": "new", "version": version("reported", 5) + 1, "tenant": "other"})
    assert calls.new() == []
    # Re-priced long after: an old call, that this watcher has never seen.
    insert(ledger, {"entry_id": "ancient", "version": version("reported", 5, 1), "start_time": "1700000000.000000000"})
    assert calls.new() == []


def test_only_calls_that_have_the_wanted_values_arrive(ledger):
    calls = Arrivals(ledger, {"tenant": "acme", "tag:team": "blue"})
    assert calls.latest(10) == []
    insert(ledger, {"tenant": "acme", "tags": {"team": "blue"}}, {"tenant": "acme"}, {"tenant": "globex"})
    assert [row["tenant"] for row in calls.new()] == ["acme"]


def test_tail_shows_the_last_calls_with_their_costs(run):
    rows = [json.loads(line) for line in run("tail", "--no-follow", "--json", "-n", "100").stdout.splitlines()]
    assert len(rows) == 13
    assert [row["start_ns"] for row in rows] == sorted(row["start_ns"] for row in rows)
    lines = run("tail", "--no-follow", "-n", "2").stdout.splitlines()
    assert len(lines) == 2
    assert f"{Decimal(rows[-1]['cost_base']):.6f} USD" in lines[-1]
    assert lines[-1].endswith(rows[-1]["trace_id"])
    (failed,) = run("tail", "--no-follow", "--status", "error").stdout.splitlines()
    assert "not_found_error" in failed


def test_tail_follows_until_it_is_interrupted(home):
    assert spanledger(home, "up").returncode == 0
    process = subprocess.Popen(
        [str(BIN / "spanledger"), "tail", "--json", "-n", "0", "--interval", "0.1"],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert call_once(home).returncode == 0
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["model"] == "gpt-5-mini-2025-08-07"
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=30)
    assert (process.returncode, rest, said) == (0, "", "")


@pytest.mark.parametrize("command", ["top", "tail"])
def test_watching_what_is_not_up_says_what_to_do(home, command):
    done = spanledger(home, command)
    assert done.returncode == 1
    assert done.stderr == "spanledger: nothing is up that could be watched: run `spanledger up` first\n"


def test_a_look_of_top_is_the_report_of_its_time(run):
    look = json.loads(run("top", "--json", "--by", "tenant", "--since", "1d").stdout)
    slow = {row["tenant"]: row.pop("p95_ns") for row in look["groups"]}
    assert look["groups"] == json.loads(run("report", "--json", "--by", "tenant", "--since", "1d").stdout)
    latency = json.loads(run("report", "--json", "--by", "tenant", "--since", "1d", "--latency").stdout)
    assert slow == {row["tenant"]: row["p95_ns"] for row in latency}
    assert look["totals"][0]["calls"] == 13
    assert look["totals"][0]["p95_ns"] > 0
    shown = run("top", "--since", "1d").stdout
    assert "13 calls" in shown.splitlines()[0]
    assert "claude-sonnet-4-6" in shown
    assert run("top", "--tenant", "nobody").stdout.splitlines()[-1] == "No calls."


def on_a_terminal(home, *arguments, columns=80):
    """What a command writes on a terminal without colours."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [str(BIN / "spanledger"), *arguments],
        env=environment(home, TERM="xterm", COLUMNS=str(columns), NO_COLOR="1"),
        stdout=slave,
        stderr=subprocess.PIPE,
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 0, said
    return seen, said


def test_a_report_fits_a_narrow_terminal_and_says_what_it_left_out(example_home):
    seen, said = on_a_terminal(example_home, "report", "--by", "tenant,model,operation")
    lines = re.sub("\x1b\\[[0-9;]*m", "", seen.decode()).replace("\r", "").split("\n")
    assert max(map(len, lines)) <= 80
    assert "cost USD" in lines[1]
    assert "cache write" not in lines[1]
    assert said.splitlines()[0].startswith("Left out, since the terminal is narrow: ")
    assert "cache write" in said
    seen, said = on_a_terminal(example_home, "report", columns=160)
    assert b"cache write" in seen
    assert "Left out" not in said


def test_durations_are_told_in_seconds(run):
    lines = [line for line in run("report", "--latency").stdout.splitlines() if line.strip()]
    assert lines[0].split() == ["model", "calls", "p50", "p95", "p99", "first", "token", "p95"]
    assert lines[2].split()[3] == "s"


def test_top_draws_on_a_terminal_and_leaves_it_as_it_was(example_home):
    seen, said = on_a_terminal(example_home, "top", "--count", "2", "--interval", "0.1")
    assert said == ""
    assert seen.startswith(b"\x1b[?1049h")
    assert seen.rstrip().endswith(b"\x1b[?1049l")
    assert seen.count(b"claude-sonnet-4-6") == 2
    assert b"cost USD" in seen
    assert b"p95" in seen
    assert b"\x1b[32m" not in seen


def test_a_trace_is_a_tree_with_what_each_branch_adds_up_to(ledger, clickhouse, run):
    insert(
        ledger,
        {"span_id": "a1", "parent_span_id": "agent", "ancestor_span_ids": ["root"], "agent_name": "writer"},
        {"span_id": "a2", "parent_span_id": "tool", "ancestor_span_ids": ["agent", "root"], "agent_name": "writer"},
        {"span_id": "b", "parent_span_id": "root", "status": "error", "error_type": "Timeout", "cost_base": "0"},
        {"span_id": "c", "parent_span_id": "b", "input_tokens": 7, "cost_base": None, "price_status": "unpriced"},
    )
    insert(ledger, {"span_id": "b", "entry_id": "e", "line": 1, "request_model": "advisor", "cost_base": "0.25"})
    url = clickhouse.endpoint()
    more = {"SPANLEDGER_URL": f"http://{url.username}:{url.password}@{url.host}:{url.port}/{url.database}"}
    result = run("trace", TRACE.upper(), **more)
    assert result.exit_code == 0, result.output
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[0].startswith(f"trace {TRACE}")
    assert lines[0].endswith("4 calls  1.250000 USD + 1 unknown")
    (agent,) = (line for line in lines if "agent writer" in line)
    assert agent.endswith("1.000000 USD")
    found = json.loads(run("trace", TRACE, "--json", **more).stdout)
    assert (found["calls"], found["costs"], found["unpriced"]) == (4, {"USD": "1.250000000000000000"}, 1)
    (root,) = found["children"]
    assert root["span_id"] == "root"
    assert {child["span_id"]: child["costs"].get("USD") for child in root["children"]} == {
        "agent": "1.000000000000000000",
        "b": "0.250000000000000000",
    }
    (b,) = (child for child in root["children"] if child["span_id"] == "b")
    assert [child["span_id"] for child in b["children"]] == ["c"]


def test_spans_that_name_each_other_as_parents_are_all_in_the_tree():
    row = {"ancestor_span_ids": [], "line": 0}
    top = tree([row | {"span_id": "a", "parent_span_id": "b"}, row | {"span_id": "b", "parent_span_id": "a"}])
    assert sorted(each["span_id"] for node in top for each in node.beneath()) == ["a", "b"]


def test_a_trace_that_is_not_there_is_code_1_and_what_is_no_trace_id_is_wrong_usage(run):
    result = run("trace", "0" * 31 + "1")
    assert result.exit_code == 1
    assert "no call of trace 0000" in result.stderr
    assert run("trace", "resp_123").exit_code == 2


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_by_the_script(shell, tmp_path):
    done = spanledger(tmp_path, "completion", shell)
    assert done.returncode == 0
    assert f"_SPANLEDGER_COMPLETE={shell}_complete" in done.stdout
    words = {"COMP_WORDS": "spanledger report --by tenant,mo", "COMP_CWORD": "3"}
    if shell == "fish":
        words["COMP_CWORD"] = "tenant,mo"
    answer = spanledger(tmp_path, _SPANLEDGER_COMPLETE=f"{shell}_complete", **words)
    assert "tenant,model" in answer.stdout


def test_bash_takes_the_script(tmp_path):
    script = spanledger(tmp_path, "completion", "bash").stdout
    (tmp_path / "script").write_text(script)
    ask = "COMP_WORDS=(spanledger tr); COMP_CWORD=1; _spanledger_completion spanledger; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "-c", f"source ./script; {ask}"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "trace", done.stderr


def test_progress_is_for_terminals_only(capsys):
    with progress("verifying", 100) as done:
        done(1)
    assert capsys.readouterr() == ("", "")


def test_a_long_command_shows_its_progress_on_a_terminal(example_home: Path):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [str(BIN / "spanledger"), "verify"],
        env=environment(example_home, TERM="xterm"),
        stdout=subprocess.PIPE,
        stderr=slave,
    )
    os.close(slave)
    seen = b""
    try:
        while piece := os.read(master, 65536):
            seen += piece
    except OSError:
        pass
    os.close(master)
    out, _ = process.communicate()
    assert (process.returncode, out) == (0, b"13 rows recomputed, 0 do not come out\n")
    assert b"verifying rows" in seen


def test_up_and_down_tell_programs_where_it_listens(home):
    up = json.loads(spanledger(home, "up", "--json").stdout)
    assert up["up"] is True
    assert up["clickhouse"].startswith("http://127.0.0.1:")
    assert json.loads(spanledger(home, "up", "--json").stdout)["process"] == up["process"]
    assert json.loads(spanledger(home, "down", "--json").stdout) == {"stopped": True, "home": str(home)}
