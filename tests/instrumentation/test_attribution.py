"""Attribution follows nesting, tasks and threads, and by W3C baggage other services."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.propagate import extract, inject

from spanledger.attribution import MAX_VALUE_LENGTH, attribute, current_attribution


def test_inner_blocks_add_to_outer_ones_and_end() -> None:
    assert current_attribution() is None
    with attribute(tenant="acme", tags={"plan": "pro"}):
        with attribute(user="u-1", tags={"team": "a"}):
            inner = current_attribution()
            assert (inner.tenant, inner.user, inner.tags) == ("acme", "u-1", {"plan": "pro", "team": "a"})
        assert current_attribution().user == ""
    assert current_attribution() is None


def test_the_programs_own_exception_passes_and_ends_the_block() -> None:
    with pytest.raises(KeyError, match="mine"), attribute(tenant="acme"):
        raise KeyError("mine")
    assert current_attribution() is None


def test_as_a_decorator_it_holds_for_each_call_of_a_function() -> None:
    @attribute(feature="sum", tags={"plan": "pro"})
    def of(user: str) -> Any:
        with attribute(user=user):
            return current_attribution()

    assert of.__name__ == "of"
    for user in ("u-1", "u-2"):
        with attribute(tenant="acme"):
            found = of(user)
        assert (found.tenant, found.user, found.feature, found.tags) == ("acme", user, "sum", {"plan": "pro"})
    assert current_attribution() is None


def test_as_a_decorator_it_holds_while_a_coroutine_runs() -> None:
    @attribute(feature="sum")
    async def of(user: str) -> Any:
        with attribute(user=user):
            await asyncio.sleep(0)
            return current_attribution()

    async def main() -> Any:
        return await asyncio.gather(of("u-1"), of("u-2"))

    assert inspect.iscoroutinefunction(of)
    assert [(found.feature, found.user) for found in asyncio.run(main())] == [("sum", "u-1"), ("sum", "u-2")]


def test_one_block_may_be_entered_again_and_by_threads_and_tasks_at_once() -> None:
    acme = attribute(tenant="acme")
    both_inside = threading.Barrier(2)

    def of(user: str) -> tuple[Any, Any]:
        with acme, attribute(user=user), acme:
            both_inside.wait(10)
            found = current_attribution()
        return found, current_attribution()

    async def task(user: str) -> tuple[Any, Any]:
        with acme, attribute(user=user):
            await asyncio.sleep(0)
            found = current_attribution()
        return found, current_attribution()

    async def main() -> list[tuple[Any, Any]]:
        return [*await asyncio.gather(task("u-3"), task("u-4"))]

    with ThreadPoolExecutor(2) as pool:
        found = [*pool.map(of, ("u-1", "u-2")), *asyncio.run(main())]
        left = [*pool.map(lambda _: current_attribution(), range(2))]
    assert [(inside.tenant, inside.user) for inside, _ in found] == [("acme", f"u-{n}") for n in (1, 2, 3, 4)]
    assert [after for _, after in found] == [None] * 4
    assert left == [None, None], "the next work of a thread is for nobody"


def test_it_decorates_no_generator() -> None:
    def pieces() -> Any:
        yield 1

    async def async_pieces() -> Any:
        yield 1

    for function in (pieces, async_pieces):
        with pytest.raises(
            TypeError, match=r"pieces, whose body runs only later: use `with attribute\(\.\.\.\)` inside"
        ):
            attribute(tenant="acme")(function)


def test_tasks_inherit_it_and_do_not_share_it() -> None:
    async def of(user: str) -> tuple[str, str]:
        with attribute(user=user):
            await asyncio.sleep(0)
            now = current_attribution()
            return now.tenant, now.user

    async def main() -> list[Any]:
        with attribute(tenant="acme"):
            return await asyncio.gather(of("a"), of("b"))

    assert asyncio.run(main()) == [("acme", "a"), ("acme", "b")]


def test_threads_inherit_it_under_opentelemetrys_threading_instrumentation() -> None:
    ThreadingInstrumentor().instrument()
    try:
        with ThreadPoolExecutor(1) as pool, attribute(tenant="acme"):
            assert pool.submit(lambda: current_attribution().tenant).result() == "acme"
    finally:
        ThreadingInstrumentor().uninstrument()


def test_baggage_carries_it_to_another_service() -> None:
    headers: dict[str, str] = {}
    with attribute(tenant="acme & söhne", user="u-1", session="s", feature="f", tags={"plan": "pro, yearly"}):
        inject(headers)
    assert "baggage" in headers
    token = attach(extract(headers))
    try:
        there = current_attribution()
    finally:
        detach(token)
    assert (there.tenant, there.user, there.session, there.feature) == ("acme & söhne", "u-1", "s", "f")
    assert there.tags == {"plan": "pro, yearly"}


@pytest.mark.parametrize("value", [17, None, "x" * 10_000, "lone \ud800 surrogate", b"bytes"])
def test_odd_values_never_raise(value: Any) -> None:
    with attribute(tenant=value, tags={"n": value}):
        now = current_attribution()
    assert len(now.tenant) <= MAX_VALUE_LENGTH
    now.tenant.encode()
