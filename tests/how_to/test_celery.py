"""docs/how-to/celery.md, as printed, with a folder as the broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.how_to.conftest import Reader, StandIn

BROKER = """
broker_url = "filesystem://"
broker_transport_options = {
    "data_folder_in": "broker",
    "data_folder_out": "broker",
    "control_folder": "control",
    "polling_interval": 0.05,
}
broker_connection_retry_on_startup = True
"""

MORE = '''

@app.task(bind=True)
def relay(self, text: str) -> None:
    """Sends tasks of its own, on a second try."""
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    (summarize.si(text) | summarize.si(text)).delay()
'''

SEND_MORE = """
from tasks import relay, summarize
from spanledger.attribution import attribute
summarize.delay("for nobody")
with attribute(tenant="globex", tags={"plan": "pro"}):
    relay.delay("more")
    summarize.apply(("at once",))
"""


def test_a_task_is_for_whom_its_sender_is(
    reader: Callable[..., Reader], billed: Callable[..., list[tuple[Any, ...]]], standin: StandIn
) -> None:
    # Nothing is sent but at the end of the processes.
    page = reader("celery", SPANLEDGER_SHIP_INTERVAL="3600")
    page.write()
    for name in ("broker", "control"):
        (page.folder / name).mkdir()
    (page.folder / "celeryconfig.py").write_text(BROKER)
    tasks = page.folder / "tasks.py"
    tasks.write_text(tasks.read_text() + MORE)
    (page.folder / "more.py").write_text(SEND_MORE)

    worker = page.start("opentelemetry-instrument celery", " --without-mingle --without-gossip --without-heartbeat")
    page.run("python send.py")
    page.also("opentelemetry-instrument python more.py")
    page.until(lambda: len(standin.requests) == 5)
    page.end(worker)
    assert billed("tenant", "user_id", "feature", "tags", calls=5) == [
        ("", "", "tasks.summarize", {}),
        ("acme", "ada", "tasks.summarize", {}),
        *[("globex", "", "tasks.summarize", {"plan": "pro"})] * 3,
    ]
    report = page.run("spanledger report")
    assert all(word in report for word in ("acme", "ada", "tasks.summarize"))
    assert "Failed to detach context" not in page.output.read_text()
    page.done()
