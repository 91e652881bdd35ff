"""Nothing is lost, and nothing billed twice, when a part is killed (SIGKILL) in the middle and started again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from e2e.stack import wait_until


def all_billed_once_and_shown(stack, programs):
    for program in programs:
        program.end()
        rows = stack.one_row_each(program.ids)
        assert all(row["cost"] > 0 for row in rows.values())
        stack.traces(program.service, program.ids)
    stack.settled()
    assert {each.service: stack.bill(each.service)[0] for each in programs} == {p.service: len(p.ids) for p in programs}


def test_spanledger_is_killed(stack, programs):
    for program in programs:
        program.call(5)
    stack.spanledger.kill()
    for program in programs:
        stack.traces(program.service, program.call(5))  # the Collector has them, spanledger has not
    stack.spanledger.start()
    for program in programs:
        program.call(5)
    all_billed_once_and_shown(stack, programs)


def test_clickhouse_is_killed(stack, programs):
    for program in programs:
        program.call(5)
    stack.kill_clickhouse()
    for program in programs:
        program.call(10)
    all_billed_once_and_shown(stack, programs)


def test_the_collector_is_killed(stack, programs):
    for program in programs:
        program.call(5)
    stack.collector.kill()
    for program in programs:
        program.call(5)  # their SDKs hold the spans
    stack.collector.start()
    for program in programs:
        program.call(5)
    all_billed_once_and_shown(stack, programs)


def test_the_collector_is_killed_with_spans_for_spanledger_in_its_queue(stack, programs):
    stack.spanledger.kill()
    for program in programs:
        program.call(10)
        program.end()  # nobody but the Collector has its spans now
        stack.traces(program.service, program.ids)
    stack.collector.kill()
    stack.collector.start()
    stack.spanledger.start()
    all_billed_once_and_shown(stack, programs)


def test_the_collector_is_stopped_with_spans_for_spanledger_in_its_queue(stack, programs):
    stack.spanledger.kill()
    for program in programs:
        program.call(10)
        program.end()
        stack.traces(program.service, program.ids)
    stack.collector.stop()
    stack.collector.start()
    stack.spanledger.start()
    all_billed_once_and_shown(stack, programs)


def test_everything_is_killed_at_once(stack, programs):
    for program in programs:
        program.call(10)
        program.end()
        stack.traces(program.service, program.ids)
    stack.collector.kill()
    stack.spanledger.kill()
    stack.kill_clickhouse()
    stack.spanledger.start()
    stack.collector.start()
    all_billed_once_and_shown(stack, programs)


def test_parts_are_killed_again_and_again_while_calls_are_made(stack, programs):
    over = threading.Event()

    def call_until_it_is_over(program):
        while not over.is_set():
            program.call(1)

    def after_some_calls(kill):
        made = len(programs[0].ids)
        wait_until(lambda: len(programs[0].ids) >= made + 10, "calls are made")
        kill()

    with ThreadPoolExecutor(len(programs)) as pool:
        calling = [pool.submit(call_until_it_is_over, program) for program in programs]
        try:
            for _ in range(2):
                after_some_calls(stack.collector.kill)
                stack.collector.start()
                after_some_calls(stack.spanledger.kill)
                stack.spanledger.start()
                after_some_calls(stack.kill_clickhouse)
        finally:
            over.set()
        for each in calling:
            each.result()
    all_billed_once_and_shown(stack, programs)
