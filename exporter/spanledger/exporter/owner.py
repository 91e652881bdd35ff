"""This process's name in the journal: `HOST-PID-START`, another one after a fork."""

from __future__ import annotations

import os
import re
import time

started_ns = time.time_ns()
"""When this process began to write, ns since the epoch."""


def host() -> str:
    return (re.sub(r"[^A-Za-z0-9.]+", "_", os.uname().nodename) or "host")[:100]


def name() -> str:
    return f"{host()}-{os.getpid()}-{started_ns}"


def _after_fork() -> None:
    global started_ns
    started_ns = time.time_ns()


os.register_at_fork(after_in_child=_after_fork)
