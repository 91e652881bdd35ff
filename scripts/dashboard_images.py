"""Makes the pictures of the dashboard in docs/images: `python scripts/dashboard_images.py`. Needs Chromium."""

from __future__ import annotations

import base64
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.conftest import free_port  # noqa: E402
from tests.service import dashboard  # noqa: E402

from spanledger.exporter.embedded import EmbeddedClickHouse  # noqa: E402
from spanledger.exporter.migrate import open_ledger  # noqa: E402
from spanledger.exporter.rollup import roll_up  # noqa: E402
from spanledger.pricing import book  # noqa: E402
from spanledger.service.api import more  # noqa: E402
from spanledger.settings import Settings  # noqa: E402

IMAGES = ROOT / "docs" / "images"
TIMES = 8
SCALE = 1.5
BUDGETS: dict[str, Any] = {
    "everything": {"amount": 480, "window": "month", "thresholds": ["50%", "80%", "100%"]},
    "acme": {"amount": 250, "window": "month", "scope": {"tenant": "acme"}},
    "reports": {"amount": 150, "window": "rolling 30d", "scope": {"service": "reports"}},
}
DEARER = "overlays: [{name: dearer, provider: openai, mult: {'*': '1.2'}}]\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        engine = EmbeddedClickHouse(home)
        client = open_ledger(engine.start(free_port(), free_port()))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            dashboard.fill(client, datetime.now(timezone.utc), times=TIMES)
            roll_up(client, 0, 60)
            trace = client.query(
                "SELECT trace_id FROM llm_calls FINAL WHERE start_time > now() - INTERVAL 2 DAY"
                " GROUP BY 1 HAVING count() = 3 AND uniq(response_model) = 3 ORDER BY sum(cost_base) DESC LIMIT 1"
            ).rows[0][0]
            given = Settings(home, budgets=BUDGETS)
            with dashboard.served(home, given, trace_url="http://localhost:16686/trace/{trace_id}") as url:
                _all(browser, url, trace, home)
        finally:
            browser.close()
            client.close()
            engine.stop()


def _all(browser: Any, url: str, trace: str, home: Path) -> None:
    def picture(
        name: str, path: str, act: Callable[[Any], object] = lambda _: None, part: str = "", **options: Any
    ) -> None:
        given = {
            "viewport": {"width": 1360, "height": 900},
            "device_scale_factor": SCALE,
            "timezone_id": "UTC",
            "locale": "en-GB",
        } | options
        context = browser.new_context(**given)
        page = context.new_page()
        page.goto(f"{url}/{path}")
        page.wait_for_selector(dashboard.DONE)
        act(page)
        page.wait_for_timeout(300)  # transitions
        size: Any = {"x": 0, "y": 0, **given["viewport"]}
        clip = (page.locator(part).bounding_box() if part else size) | {"scale": SCALE}
        wanted = {"format": "webp", "quality": 72, "clip": clip, "captureBeyondViewport": True}
        data = context.new_cdp_session(page).send("Page.captureScreenshot", wanted)["data"]
        file = IMAGES / f"{name}.webp"
        file.write_bytes(base64.b64decode(data))
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes")
        context.close()

    def open_call(page: Any) -> None:
        page.locator("tbody a").first.click()
        page.wait_for_selector("#call .big")

    def walk(page: Any) -> None:
        page.locator("#time .plot").focus()
        page.keyboard.press("End")
        for _ in range(4):
            page.keyboard.press("ArrowLeft")

    picture("dashboard", "", viewport={"width": 1360, "height": 960})
    picture("dashboard-call", "?view=calls&sort=-cost", open_call, viewport={"width": 600, "height": 1000})
    picture("dashboard-dark", "?by=feature&metric=tokens", walk, color_scheme="dark")
    picture("dashboard-phone", "", viewport={"width": 375, "height": 812})
    picture("dashboard-budgets", "", part="#budgets")
    picture("dashboard-trace", f"?view=calls&sort=start_time&trace={trace}", viewport={"width": 1360, "height": 620})
    file = home / "dearer.yaml"
    file.write_text(DEARER, encoding="utf-8")
    dearer = book.load((file,))
    more.reload = lambda: dearer
    picture("dashboard-repricing", "?view=repricing&range=lastmonth", viewport={"width": 1360, "height": 720})


if __name__ == "__main__":
    main()
