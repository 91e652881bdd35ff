"""One book serves many threads, and a forked child of a thread that was just resolving."""

from __future__ import annotations

import os
import threading

import pytest

from spanledger.pricing import book as book_module
from spanledger.pricing.book import load
from spanledger.pricing.call import Call

from .conftest import at

MODELS = ["gpt-5", "gpt-5-mini", "gpt-4o", "gpt-4.1", "o3", "gpt-6.1-sol", "gpt-5.4"]


def test_threads_that_meet_a_model_at_once_agree() -> None:
    book = load()
    start = threading.Barrier(8)
    found: list[list[int | None]] = []

    def work() -> None:
        start.wait()
        found.append(
            [book.price(Call("openai", m, at("2026-11-01"), {"input": 10**6, "output": 5})).cost_e18 for m in MODELS]
        )

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 8
    assert all(costs == found[0] for costs in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_forked_while_another_thread_resolves_prices_on() -> None:
    book = load()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with book_module._locks.resolving:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    pid = os.fork()
    if pid == 0:
        charge = book.price(Call("openai", "gpt-5", at("2026-11-01"), {"input": 10**6}))
        os._exit(0 if charge.cost_e18 else 1)
    _, status = os.waitpid(pid, 0)
    done.set()
    thread.join(30)
    assert os.waitstatus_to_exitcode(status) == 0
