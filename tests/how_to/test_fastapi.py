"""docs/how-to/fastapi.md, as printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.how_to.conftest import Reader

MORE = """

from fastapi import BackgroundTasks


async def ask(question: str) -> None:
    await client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": question}])


@app.get("/later")
def later(question: str, background: BackgroundTasks) -> str:
    background.add_task(ask, question)
    return "later"


async def attributed() -> AsyncIterator[None]:
    with attribute(tags={"by": "a dependency"}):
        yield


@app.get("/dependent", dependencies=[Depends(attributed)])
async def dependent(question: str) -> None:
    await ask(question)
"""
"""Routes that make what the page says of them true or not."""


def test_each_route_is_attributed_and_sent_at_the_end_of_its_worker(
    reader: Callable[..., Reader], billed: Callable[..., list[tuple[Any, ...]]]
) -> None:
    page = reader("fastapi", SPANLEDGER_SHIP_INTERVAL="3600")
    page.write()
    main = page.folder / "main.py"
    main.write_text(main.read_text() + MORE)
    server = page.start("opentelemetry-instrument uvicorn", " --workers 2")
    assert page.answered("curl")
    assert page.run("curl")
    assert page.run("curl")
    for name in ("later", "dependent"):
        page.also(f"curl --fail --silent --header 'X-User: eve' 'http://acme.localhost:8000/{name}?question=Hello'")
    page.end(server)
    assert billed("tenant", "user_id", "feature", "tags", calls=5) == [
        ("acme", "ada", "answer", {}),
        ("acme", "ada", "chat", {}),
        ("acme", "bob", "advice", {}),
        ("acme", "eve", "", {}),
        ("acme", "eve", "", {}),  # what the dependency says does not get here
    ]
    report = page.run("spanledger report")
    assert all(word in report for word in ("acme", "ada", "bob", "answer", "chat", "advice"))
    assert "rror" not in page.output.read_text()
    page.done()
