"""The collector as a child process of the service: says `ready`, or why not, on its standard output."""

from __future__ import annotations

import os

from spanledger.service.child import answering


def main() -> None:
    with answering("collector") as say:
        from spanledger.service.collector.server import run
        from spanledger.service.collector.settings import load
        from spanledger.settings import settings

        now = settings()
        run(now, load(now, os.environ), lambda _: say("ready"), parent=0)


if __name__ == "__main__":
    main()
