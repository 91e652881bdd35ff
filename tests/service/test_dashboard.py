"""The dashboard in headless Chromium: what it shows, how one moves in it, whether everybody can read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter.client import Client
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.migrate import open_ledger
from spanledger.exporter.rollup import roll_up
from spanledger.settings import Settings
from tests.conftest import free_port
from tests.service import dashboard

pytest.importorskip("chdb", reason="needs embedded ClickHouse: pip install 'spanledger[local]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: pip install 'spanledger[dev]'")

DONE = dashboard.DONE
NOW = datetime.now(timezone.utc)
DAYS = 12


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with some days of calls, and a rollup of them."""
    folder = tmp_path_factory.mktemp("dashboard")
    engine = EmbeddedClickHouse(folder)
    client = open_ledger(engine.start(free_port(), free_port()))
    try:
        dashboard.fill(client, NOW, DAYS)
        roll_up(client, 0, 60)
        yield folder
    finally:
        client.close()
        engine.stop()


@pytest.fixture
def ledger(home: Path) -> Iterator[Client]:
    endpoint = EmbeddedClickHouse(home).endpoint()
    assert endpoint is not None
    client = open_ledger(endpoint)
    yield client
    client.close()


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with dashboard.served(home, trace_url="http://localhost:16686/trace/{trace_id}") as found:
        yield found


Opens = Callable[..., Any]


def figure(page: Any, title: str) -> str:
    return str(
        page.locator(".tile", has=page.get_by_role("heading", name=title, exact=True)).locator(".figure").inner_text()
    )


def no_violations(page: Any, within: str | None = None, **options: Any) -> None:
    found = axe.Axe().run(page, context=within, options=options).response["violations"]
    assert [(each["id"], [node["target"] for node in each["nodes"]]) for each in found] == []


def spent(ledger: Client, where: str = "1") -> Decimal:
    """Of the range that the dashboard shows first."""
    day = (NOW - timedelta(days=29)).strftime("%Y-%m-%d")
    return Decimal(
        ledger.query(f"SELECT sum(cost_base) FROM llm_calls FINAL WHERE start_time >= '{day}' AND {where}").rows[0][0]
    )


def test_the_first_view_says_what_the_ledger_says(opens: Opens, url: str, ledger: Client) -> None:
    page = opens(url)
    assert figure(page, "In this range") == f"${spent(ledger):.2f}"
    assert figure(page, "This month") == f"${spent(ledger, f'toYYYYMM(start_time) = {NOW:%Y%m}'):.2f}"
    rows = page.locator("#groups tbody tr")
    assert rows.first.locator("th").inner_text() == "claude-sonnet-4-5"
    cost = spent(ledger, "response_model = 'claude-sonnet-4-5'")
    assert rows.first.locator("td").first.inner_text().startswith(f"${cost:.2f}")
    assert "gpt-5-mini-preview-12" in page.locator("#attention").inner_text()
    assert "aliases: {'openai/gpt-5-mini-preview-12'" in page.locator("#attention code").first.inner_text()
    assert page.locator("#caching .figure").inner_text().startswith("$")
    assert page.locator("#errors tbody tr").count() == 2
    assert page.locator("#slowest .name").first.inner_text() in ("gpt-5", "claude-sonnet-4-5")
    assert "No budget is set." in page.locator("#budgets").inner_text()


def test_the_table_behind_the_chart_has_the_figures_of_the_bars(opens: Opens, url: str, ledger: Client) -> None:
    page = opens(f"{url}/?by=provider&metric=calls")
    page.locator("#time .behind summary").click()
    day = (NOW - timedelta(days=2)).strftime("%Y-%m-%d")
    row = page.locator("#time .behind tbody tr").nth(2)
    calls = ledger.query(
        f"SELECT provider, count() FROM llm_calls FINAL WHERE toDate(start_time, 'UTC') = '{day}' GROUP BY 1"
    ).rows
    heads = page.locator("#time .behind thead th").all_inner_texts()
    cells = row.locator("th, td").all_inner_texts()
    shown = {name: cell for name, cell in zip(heads, cells, strict=True) if name not in ("Time", "Total")}
    assert {name: int(cell) for name, cell in shown.items() if cell} == dict(calls)


def test_a_group_without_an_amount_that_is_asked_for_is_in_the_table_alone(opens: Opens, url: str) -> None:
    page = opens(f"{url}/?model=claude-sonnet-4-5&model=gpt-5-mini-preview-12")
    assert page.locator(".notice").count() == 0
    assert page.locator("#time .legend li").all_inner_texts() == ["claude-sonnet-4-5"]
    assert page.locator("#groups tbody .name").all_inner_texts() == ["claude-sonnet-4-5", "gpt-5-mini-preview-12"]


def test_from_a_bar_to_its_calls_to_one_call_and_back(opens: Opens, url: str) -> None:
    page = opens(url)
    over = page.locator("#time .u-over")
    box = over.bounding_box()
    over.click(position={"x": box["width"] * 29.5 / 31, "y": box["height"] - 4})
    page.wait_for_selector("h1:text('Calls')")
    page.wait_for_selector(DONE)
    assert "view=calls" in page.url
    assert "model=claude-sonnet-4-5" in page.url
    models = set(page.locator("tbody td:nth-child(2) .name").all_inner_texts())
    assert models == {"claude-sonnet-4-5"}
    page.locator("tbody a").first.click()
    page.wait_for_selector("#call .big")
    sheet = page.locator("#call")
    assert "The sum equals the stored cost to the last digit." in sheet.inner_text()
    parts = sheet.locator("tbody th").all_inner_texts()
    assert parts == ["input", "cache read", "cache write 5m", "output"]
    trace = sheet.get_by_role("link", name="Open the trace")
    assert trace.get_attribute("href").startswith("http://localhost:16686/trace/")
    page.keyboard.press("Escape")
    page.wait_for_selector("#call:not([open])", state="attached")
    assert "call=" not in page.url
    page.go_back()
    page.wait_for_selector("#tiles .tile")
    assert page.url.rstrip("/") == url


def test_a_trace_has_its_cost_its_course_and_a_link(opens: Opens, url: str, ledger: Client) -> None:
    trace, total = ledger.query(
        "SELECT trace_id, sum(cost_base) AS total FROM llm_calls FINAL GROUP BY 1 HAVING count() = 3"
        " ORDER BY total DESC LIMIT 1"
    ).rows[0]
    page = opens(f"{url}/?view=calls&trace={trace}")
    page.locator("tbody a").first.click()
    page.get_by_role("link", name="Calls and cost of this trace").click()
    page.wait_for_selector("#call:not([open])", state="attached")
    page.wait_for_selector(f"{DONE} #trace .button")
    assert page.locator("#trace .exact").inner_text() == f"{total.normalize():f} USD"
    assert page.locator("#trace .button").get_attribute("href") == f"http://localhost:16686/trace/{trace}"
    assert page.locator("#calls tbody tr").count() == 3
    assert page.locator("#calls .course .unseen").first.inner_text().startswith("after 0")
    no_violations(page, "main")


def test_budgets_show_what_is_left_of_them(opens: Opens, home: Path, ledger: Client) -> None:
    month = f"toYYYYMM(start_time) = {NOW:%Y%m}"
    total = spent(ledger, month)
    budgets: dict[str, Any] = {
        "everything": {"amount": f"{total / Decimal('0.9'):.2f}", "window": "month", "thresholds": ["50%", "80%"]},
        "each-tenant": {"amount": "0.01", "window": "month", "scope": {"tenant": "*"}},
        "acme": {"amount": 10_000, "window": "month", "scope": {"tenant": "acme"}},
    }
    with dashboard.served(home, Settings(home, budgets=budgets)) as url:
        page = opens(url)
        everything, acme, *tenants = page.locator("#budgets .budgets > li").all_inner_texts()
        assert "80% reached" in everything
        assert f"${total:.2f}" in everything
        assert "90%" in everything
        assert "ok" in acme.splitlines()
        assert all("over budget" in each for each in tenants)
        assert len(tenants) == 3
        assert page.locator("#budgets summary").inner_text() == "1 more, 1 over budget"
        no_violations(page, "#budgets")
        page.locator("#budgets").get_by_role("link", name="acme", exact=True).click()
        page.wait_for_url("**tenant=acme")
        of_acme = f"{month} AND tenant = 'acme'"
        page.locator(f".tile .figure span:text-is('${spent(ledger, of_acme):.2f}')").nth(1).wait_for()
    with dashboard.served(home, Settings(home, budgets={"b": {"amount": -1, "window": "day"}})) as url:
        page = opens(url)
        assert "settings.budgets.b.amount is -1: use an amount above 0" in page.locator("#budgets").inner_text()
        assert page.locator(".notice").count() == 0
        no_violations(page, "#budgets")


def test_a_table_is_sorted_by_its_heads(opens: Opens, url: str) -> None:
    page = opens(url)
    head = page.locator("#groups").get_by_role("button", name="p95")
    head.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#groups th[aria-sort=descending]:has-text('p95')")
    assert page.evaluate("document.activeElement.textContent") == "p95", "focus stays"
    assert page.url.endswith("?order=-duration_p95")
    slowest = page.locator("#groups .name").first.inner_text()
    assert slowest == page.locator("#slowest .name").first.inner_text()
    assert page.locator("#time .legend li").first.inner_text() == "claude-sonnet-4-5", "the chart keeps its order"
    page.locator("#groups").get_by_role("button", name="p95").click()
    page.wait_for_selector("#groups th[aria-sort=ascending]:has-text('p95')")
    assert page.locator("#groups .name").last.inner_text() == slowest
    with page.expect_download() as saving:
        page.locator("#groups").get_by_role("button", name="CSV").click()
    assert saving.value.suggested_filename == "llm-stats-by-model.csv"
    lines = Path(saving.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("model,calls,")
    assert lines[-1].startswith(f"{slowest},"), "in the order of the table"


def test_a_filter_is_added_shown_in_the_address_and_removed(opens: Opens, url: str, ledger: Client) -> None:
    page = opens(url)
    page.select_option("#dimension", "tenant")
    page.wait_for_selector("#values option[value=globex]", state="attached")
    page.fill("#value", "globex")
    page.keyboard.press("Enter")
    of_globex = "tenant = 'globex'"
    wanted = f"${spent(ledger, of_globex):.2f}"
    page.locator(f".tile .figure span:text-is('{wanted}')").first.wait_for()
    assert "tenant=globex" in page.url
    other = opens(page.url)
    assert figure(other, "In this range") == wanted
    page.get_by_role("button", name="Remove the filter Tenant globex").click()
    page.locator(f".tile .figure span:text-is('${spent(ledger):.2f}')").first.wait_for()
    assert "tenant" not in page.url


def test_it_can_be_used_with_the_keyboard_alone(opens: Opens, url: str) -> None:
    page = opens(url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the figures"
    page.locator("#time .plot").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    yesterday = NOW - timedelta(days=1)
    said = page.locator("#say").inner_text()
    assert said.startswith(f"{yesterday:%a} {yesterday.day} ")
    assert "claude-sonnet-4-5 $" in said
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:text('Calls')")
    assert f"since={yesterday:%Y-%m-%d}" in page.url


def test_the_group_the_figure_and_the_bucket_are_in_the_address(opens: Opens, url: str) -> None:
    page = opens(url)
    page.select_option("#by", "feature")
    page.locator("#time h2:text-is('Spend by feature')").wait_for()
    page.get_by_role("button", name="Tokens").click()
    page.locator("#time h2:text-is('Tokens by feature')").wait_for()
    page.select_option("#bucket", "week")
    page.wait_for_url("**bucket=week**")
    assert page.url.split("?")[1] == "by=feature&bucket=week&metric=tokens"
    page.go_back()
    page.go_back()
    page.go_back()
    page.locator("#time h2:text-is('Spend by model')").wait_for()


def test_a_new_call_appears_by_itself(opens: Opens, home: Path, tmp_path: Path) -> None:
    made = list(dashboard.rows(NOW, 3))
    engine = EmbeddedClickHouse(tmp_path)
    client = open_ledger(engine.start(free_port(), free_port()))
    try:
        with dashboard.served(tmp_path) as url:
            page = opens(url)
            assert "No calls yet." in page.locator("#time").inner_text()
            assert "opentelemetry-instrument python app.py" in page.locator("#time code").inner_text()
            dashboard.add(client, made[:40])
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            page.wait_for_selector("#time canvas")
            page.wait_for_selector("#groups tbody tr")
            page.set_viewport_size({"width": 1360, "height": 400})
            page.get_by_role("navigation").get_by_role("link", name="Calls").click()
            page.wait_for_selector("#calls tbody tr")
            page.evaluate("scrollTo(0, 500)")
            dashboard.add(client, made[40:60])
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            page.get_by_role("button", name="Show the new ones").wait_for()
            assert (page.evaluate("scrollY"), page.locator("#calls tbody tr").count()) == (500, 40)
            page.get_by_role("button", name="Show the new ones").click()
            page.locator("#calls tbody tr >> nth=59").wait_for()
    finally:
        client.close()
        engine.stop()


def test_what_goes_wrong_is_told_and_what_to_do(opens: Opens, home: Path, url: str) -> None:
    page = opens(f"{url}/?tenant=nobody")
    assert "No call of this range has all of these filters." in page.locator("#time").inner_text()
    page.get_by_role("button", name="Remove the filters").click()
    page.wait_for_selector("#groups tbody tr")
    page = opens(f"{url}/?price_status=cheap", done=".notice")
    assert "price_status: 'cheap' is not known; it may be priced, estimated" in page.locator(".notice").inner_text()
    page = opens(f"{url}/?view=calls&call=nothing", done="#call[open]")
    page.locator("#call", has_text="no call has 'nothing'").wait_for()
    with dashboard.served(home) as gone:
        page = opens(gone)
        calls = opens(f"{gone}/?view=calls")
    calls.get_by_role("button", name="CSV").click()
    calls.locator(".notice", has_text="spanledger up starts it").wait_for()
    page.locator("#live").click()
    page.locator("#live").click()
    page.wait_for_selector(".notice")
    assert "spanledger up starts it" in page.locator(".notice").inner_text()
    assert page.locator("#groups tbody tr").count() > 0, "what was known last stays"


def test_a_token_is_asked_for_and_a_tenant_sees_its_own(opens: Opens, home: Path, ledger: Client) -> None:
    with dashboard.served(home, tokens={"key-of-acme": "acme"}) as url:
        page = opens(url, done="#token")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=This token is not known.")
        page.fill("#token", "key-of-acme")
        page.keyboard.press("Enter")
        page.wait_for_selector("#tiles .tile")
        of_acme = "tenant = 'acme'"
        assert figure(page, "In this range") == f"${spent(ledger, of_acme):.2f}"
        assert "key-of-acme" not in page.url
        page.locator("#budgets", has_text="No budget is set for acme.").wait_for()


@pytest.mark.parametrize(("scheme", "options"), [("light", {}), ("dark", {"runOnly": ["color-contrast"]})])
def test_axe_finds_nothing(opens: Opens, url: str, scheme: str, options: dict[str, Any]) -> None:
    page = opens(url, color_scheme=scheme)
    page.locator("#time .behind summary").click()
    no_violations(page, **options)
    page.get_by_role("navigation").get_by_role("link", name="Calls").click()
    page.wait_for_selector("h1:text('Calls')")
    page.locator("tbody a").first.click()
    page.wait_for_selector("#call .big")
    no_violations(page, **options)
    page.goto(f"{url}/?tenant=nobody")
    page.wait_for_selector(".empty")
    no_violations(page, **options)
    page.goto(f"{url}/?view=repricing")
    page.wait_for_selector(f"{DONE} #repricing h2")
    no_violations(page, "main", **options)


def test_it_fits_a_phone(opens: Opens, url: str) -> None:
    page = opens(url, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for view in ("view=calls", "view=repricing"):
        page.goto(f"{url}/?{view}")
        page.wait_for_selector(DONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_first_view_is_small_asks_little_and_runs_nothing_of_others(opens: Opens, url: str) -> None:
    sizes: list[int] = []
    answers: list[Any] = []
    asked: list[str] = []

    def watch(page: Any) -> None:
        page.add_init_script(
            "window.shifted = 0; new PerformanceObserver((list) => list.getEntries()"
            ".forEach((each) => (shifted += each.value))).observe({type: 'layout-shift', buffered: true})"
        )
        wire = page.context.new_cdp_session(page)
        wire.send("Network.enable")
        wire.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        page.once("response", lambda answer: answers.append(answer))
        page.on("request", lambda request: "/api/" in request.url and asked.append(request.url))

    page = opens(url, before=watch)
    assert sum(sizes) < 200_000
    assert page.evaluate("shifted") < 0.05, "nothing jumps while it loads"
    assert len(asked) == len(set(asked)), "no question is asked twice"
    assert sum("llm/stats" in each for each in asked[:5]) == 5
    assert len(asked) <= 14  # one of them only where some calls have no exact price
    assert sum("latency=false" not in each for each in asked if "llm/stats" in each) == 3
    policy = answers[0].headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.locator("script:not([src]), style, [style*=url]").count() == 0
