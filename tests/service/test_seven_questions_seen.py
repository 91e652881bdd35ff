"""The seven questions answered by the dashboard: the figures on the page are those of the truth files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from spanledger.pricing import book as books
from spanledger.service.api import more
from spanledger.settings import Settings
from tests import recordings
from tests.all_recordings import Everything
from tests.service import dashboard
from tests.service.test_seven_questions import costs_by, truly

pytestmark = [pytest.mark.recordings, recordings.needed, pytest.mark.timeout(300)]

Opens = Callable[..., Any]


@pytest.fixture(scope="module")
def url(everything: Everything) -> Iterator[str]:
    with dashboard.served(everything.home, Settings(everything.home, url=everything.url)) as found:
        yield found


def amount(element: Any) -> Decimal:
    """With all its digits, which a pointer on it shows."""
    return Decimal(element.get_attribute("title").split()[0])


def tile(page: Any, title: str) -> Any:
    heading = page.get_by_role("heading", name=title, exact=True)
    return page.locator(".tile", has=heading).locator(".figure [title]")


def rows(page: Any, panel: str, column: int) -> dict[str, str | None]:
    """The first cell's name of each row of a table, and what a pointer on another cell shows."""
    found = page.locator(f"{panel} tbody tr").evaluate_all(
        "(rows, column) => rows.map((row) => [row.querySelector('.name').textContent,"
        " row.children[column].querySelector('[title]')?.title ?? row.children[column].textContent])",
        column,
    )
    assert len(found) == len(dict(found))
    return dict(found)


def test_1_the_cost_of_yesterday_by_model(everything: Everything, opens: Opens, url: str) -> None:
    day = min(row["start_time"].date() for row in everything.rows)
    expected = costs_by([each for each in truly(everything) if each[0]["start_time"].date() == day], "model")
    page = opens(f"{url}/?range=custom&since={day}&until={day}")
    page.get_by_role("button", name="Show all").click()
    page.locator("#groups tbody tr").nth(50).wait_for()
    shown = {model: Decimal(text.split()[0]) for model, text in rows(page, "#groups", 1).items() if text[:1].isdigit()}
    assert {model: cost for model, cost in shown.items() if cost} == expected
    assert amount(tile(page, "In this range")) == sum(expected.values())


def test_2_the_cost_of_one_user_this_month(everything: Everything, opens: Opens, url: str) -> None:
    since = min(row["start_time"].date() for row in everything.rows)
    (expected,) = costs_by(truly(everything, user_id="ann"), "user_id").values()
    page = opens(f"{url}/?range=custom&since={since}&user=ann")
    assert amount(tile(page, "In this range")) == expected


def test_3_the_cost_of_one_trace(everything: Everything, opens: Opens, url: str) -> None:
    trace, expected = max(costs_by(truly(everything), "trace_id").items(), key=lambda item: item[1])
    page = opens(url)
    page.select_option("#dimension", "trace")
    page.fill("#value", trace)
    page.keyboard.press("Enter")
    page.wait_for_selector("#trace .exact")
    assert page.locator("#trace .exact").inner_text().split()[0] == f"{expected.normalize():f}"
    assert page.locator("#trace").get_by_text(" calls · ").count() == 1
    assert page.locator("#calls tbody tr").count() == sum(row["trace_id"] == trace for row in everything.rows)


def test_4_5_6_caching_what_has_no_price_and_the_slowest_model(everything: Everything, opens: Opens, url: str) -> None:
    read = sum(row["cache_read_tokens"] or 0 for row in everything.rows)
    of = sum(row["input_tokens"] or 0 for row in everything.rows)
    unpriced = [row for row in everything.rows if row["price_status"] == "unpriced"]
    durations: dict[str, list[int]] = defaultdict(list)
    for row in everything.rows:
        if row["line"] == 0 and row["status"] == "ok":
            durations[row["response_model"] or row["request_model"]].append(row["duration_ns"])
    told: list[Any] = []

    def listen(page: Any) -> None:
        page.on("response", lambda answer: "llm/savings" in answer.url and told.append(answer))

    page = opens(url, before=listen)
    assert page.locator("#caching p [title]").nth(1).get_attribute("title") == f"{read:,} of {of:,} tokens"
    assert page.locator("#caching p [title]").nth(1).inner_text() == f"{read / of:.0%}"
    assert amount(page.locator("#caching .figure [title]")) == Decimal(told[0].json()["totals"][0]["saved"]) > 0

    marked = page.locator("#attention tbody tr", has=page.locator(".mark:text-is('unpriced')"))
    calls = marked.locator("td:last-child").all_inner_texts()
    assert sum(int(text.replace(",", "")) for text in calls) == len(unpriced) > 0
    names = set(marked.locator(".name").all_inner_texts())
    assert names == {row["response_model"] or row["request_model"] for row in unpriced}

    model, shown = next(iter(rows(page, "#slowest", 2).items()))
    told_ns = float(str(shown).split()[0]) * 1e6
    around = {name: _around_p95(sorted(values)) for name, values in durations.items()}
    assert told_ns <= around[model][1] + 1
    assert all(told_ns >= below * (1 - 1 / 128) - 1 for below, _ in around.values())


def _around_p95(values: list[int]) -> tuple[int, int]:
    """The values that p95 lies between."""
    index = int((len(values) - 1) * 0.95)
    return values[index], values[min(len(values) - 1, index + 1)]


def test_7_what_a_price_change_would_have_done(
    everything: Everything, opens: Opens, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("overlays: [{name: twice, provider: openai, mult: {'*': 2}}]\n", encoding="utf-8")
    dearer = books.load((file,))
    monkeypatch.setattr(books, "default_book", lambda: dearer)
    monkeypatch.setattr(more, "todays_book", lambda: dearer)
    true = sum(costs_by(truly(everything, provider="openai"), "provider").values())
    page = opens(f"{url}/?view=repricing&provider=openai")
    assert amount(tile(page, "By today's prices")) == true
    assert amount(tile(page, "Stored costs")) * 2 == true
    assert amount(tile(page, "Difference")) * 2 == true
    command = page.locator("#repricing code").inner_text()
    assert command.startswith("spanledger reprice --since 20")
    assert command.endswith("Z --provider openai")
