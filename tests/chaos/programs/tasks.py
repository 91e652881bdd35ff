"""A Celery application over a broker in a folder; each task makes two calls."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

from tests.chaos import traffic

HOME = Path(os.environ["SPANLEDGER_HOME"])
BROKER = HOME / "broker"

app = Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(BROKER),
        "data_folder_out": str(BROKER),
        "control_folder": str(HOME / "control"),
    },
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task
def two_calls() -> None:
    of, witness = traffic.client(), traffic.Witness(HOME / "witness")
    traffic.plain(of, witness)
    traffic.stream(of, witness)
