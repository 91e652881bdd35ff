"""Every function of ours that runs in a call is made to fail in turn: the program gets what it gets without us.

Its code is exchanged, so that everybody who has the function has the failing one. `HOOKS` stand in place of functions
of the SDK and hold no work of their own: what they call is made to fail.
"""

from __future__ import annotations

import gc
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from spanledger import failures
from spanledger.exporter import shipper
from spanledger.exporter.install import install
from spanledger.instrumentation import AnthropicInstrumentor, OpenAIInstrumentor
from tests.chaos.conftest import LONG
from tests.chaos.kills import ROOT
from tests.chaos.scenarios import scenarios

ROOTS = tuple(f"{ROOT / room}/spanledger/" for room in ("pricing", "instrumentation", "exporter"))
FAULTS = ("RuntimeError", "MemoryError", "RecursionError") if LONG else ("RuntimeError",)
INJECTED = "injected"

HOOKS = frozenset(
    {
        "Patch._async_process_response.<locals>.process_response",
        "Patch._async_request.<locals>.request",
        "Patch._process_response.<locals>.process_response",
        "Patch._process_response_data.<locals>.process_response_data",
        "Patch._request.<locals>.request",
        "_AsyncTap.__aiter__",
        "_AsyncTap.aclose",
        "_SyncTap.__iter__",
        "_SyncTap.close",
        "_Tap.__del__",
        "durable.<locals>.wrapper",
    }
)

GUARDS = frozenset(
    {
        "Patch._begin",
        "Watch.broken",
        "Watch.closed",
        "Watch.end",
        "Watch.piece",
        "Watch._settle",
        "_enter",
        "_failed",
        "_leave",
        "_returned",
        "_seen",
        "internal_error",
    }
)
"""What they do stands in a `try` of theirs: again, what they call is made to fail."""

HIDING = frozenset({"Watch.__init__", "_Tap.__init__", "_register_at_exit", "_visible", "_watch", "tap"})
"""Where these fail, the chunk with the usage that we asked for shows: the provider has been asked by then."""

SHORT = ("openai, plain ", "openai, plain refused", "openai, async stream ", "anthropic, stream ")

ASKING = ("openai, stream ", "openai, async stream ")

Got = tuple[str, list[str]]


class Code:
    """A function's code, and all who have it."""

    def __init__(self, code: CodeType, functions: list[FunctionType]) -> None:
        self.code = code
        self.functions = [each for each in functions if each.__code__ is code]
        self.makers = [each for each in functions if any(const is code for const in each.__code__.co_consts)]

    def __str__(self) -> str:
        file = Path(self.code.co_filename).name
        return f"{file}:{self.code.co_firstlineno} {self.code.co_qualname}"

    @contextmanager
    def failing(self, error: str) -> Iterator[None]:
        bad = _failing(self.code, error)
        former = [(each, each.__code__) for each in (*self.functions, *self.makers)]
        for function in self.functions:
            function.__code__ = bad
        for maker in self.makers:
            consts = tuple(bad if each is self.code else each for each in maker.__code__.co_consts)
            maker.__code__ = maker.__code__.replace(co_consts=consts)
        try:
            yield
        finally:
            for function, code in former:
                function.__code__ = code


def _failing(code: CodeType, error: str) -> CodeType:
    kind = "async def" if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR) else "def"
    generates = code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR)
    place: dict[str, Any] = {}
    exec(f"{kind} fail(*args, **kwargs):\n raise {error}('{INJECTED}')\n" + (" yield\n" if generates else ""), place)
    made: CodeType = place["fail"].__code__
    return made.replace(co_freevars=code.co_freevars)


def got(scenario: Callable[[], list[str]]) -> Got:
    """What the program gets."""
    try:
        return "result", scenario()
    except Exception as error:
        return type(error).__name__, [str(error)]


@pytest.fixture
def instrumented(ledger_home: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], int]]:
    """The SDKs instrumented, a ledger behind them; gives the size of its journal."""
    caplog.set_level(logging.CRITICAL, "spanledger")
    provider = TracerProvider(shutdown_on_exit=False)
    install(provider)
    shipper._shipper = shipper.Shipper(ledger_home, interval=3600)
    instrumentors = [OpenAIInstrumentor(), AnthropicInstrumentor()]
    for each in instrumentors:
        each.instrument(tracer_provider=provider)

    def written() -> int:
        (segment,) = (ledger_home / "journal").glob("*.open")  # it is never sealed: the interval is an hour
        return segment.stat().st_size

    yield written
    for each in instrumentors:
        each.uninstrument()


def called(works: dict[str, Callable[[], list[str]]]) -> list[Code]:
    """Our functions that run in the program's own thread while `works` do."""
    seen: set[CodeType] = set()

    def look(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(ROOTS) and code not in seen:
            seen.add(code)

    for work in works.values():  # as after a while: all that is loaded late is there
        got(work)
    sys.setprofile(look)
    try:
        for work in works.values():
            got(work)
        gc.collect()
    finally:
        sys.setprofile(None)
    functions = [each for each in gc.get_objects() if isinstance(each, FunctionType)]
    found = [Code(code, functions) for code in seen if not code.co_name.startswith("<")]
    return sorted((each for each in found if each.code.co_qualname not in HOOKS | GUARDS), key=str)


@pytest.fixture
def plain() -> dict[str, Got]:
    """What the program gets without us."""
    return {name: got(work) for name, work in scenarios().items()}


def test_a_fault_anywhere_changes_nothing_for_the_program(
    plain: dict[str, Got], instrumented: Callable[[], int], told: Callable[[str], None]
) -> None:
    works = scenarios()
    codes = called(works)
    assert len(codes) > 100
    assert {name: got(work) for name, work in works.items()} == plain
    unheld = [str(code) for code in codes if not code.functions and not code.makers]
    assert not unheld, unheld
    changed = []
    for code in codes:
        for error in FAULTS:
            with code.failing(error):
                different = [name for name, work in works.items() if got(work) != plain[name]]
            if code.code.co_qualname in HIDING:
                different = [name for name in different if name not in ASKING]
            if different:
                changed.append(f"{code}, {error}: {different}")
    told(
        f"faults: {len(codes)} functions, {len(FAULTS)} errors each, {len(works)} calls under each: {len(changed)} seen"
    )
    assert not changed, "\n".join(changed)


def test_without_fail_open_no_call_goes_unlogged(
    plain: dict[str, Got], instrumented: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    works = {name: work for name, work in scenarios().items() if "let go" not in name and (LONG or name in SHORT)}
    codes = called(works)
    monkeypatch.setattr(failures, "fail_open", False)
    unlogged = []
    raised = 0
    for code in codes:
        for name, work in works.items():
            before = instrumented()
            with code.failing("RuntimeError"):
                what = got(work)
            if what[0] not in ("result", plain[name][0]):  # the SDK may raise another error on top
                raised += 1
            elif instrumented() == before:
                unlogged.append(f"{code}: {name}: {what}")
    assert raised > 50
    assert not unlogged, "\n".join(unlogged)
