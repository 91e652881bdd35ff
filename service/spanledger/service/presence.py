"""Who runs in a home: a lock file that a process holds as long as it lives, and that says who it is.

The kernel itself tells whether it lives: a stale file or a reused process id cannot mislead.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, TypeVar

from spanledger.exporter.private import home_folder

Told = TypeVar("Told")

_TRIES = 25


class Taken(RuntimeError):
    """Another process holds the lock."""


def holder(path: Path) -> dict[str, Any] | None:
    """What the process that holds the lock says of itself; None where nobody does."""
    try:
        with path.open() as file:
            if _lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB):
                return None
            found = json.loads(file.read())
            return found if isinstance(found, dict) else None
    except FileNotFoundError:
        return None
    except ValueError:  # in the instant before it has said so
        return None


def running(path: Path, told: Callable[..., Told]) -> Told | None:
    """Who holds the lock, as `told` makes it of what they say of themselves; None where nobody does."""
    found = holder(path)
    try:
        return told(**found) if found else None
    except TypeError:  # another version says other things
        return None


def missing(needs: Mapping[str, str]) -> str:
    """Why a part of the service cannot run here: what is not installed; empty where all is.

    Parameters:
        needs: module -> the distribution that has it.
    """
    absent = [name for module, name in needs.items() if find_spec(module) is None]
    return f"{', '.join(absent)} missing: pip install 'spanledger[service]'" if absent else ""


@contextmanager
def held(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Hold the lock for as long as the block lasts; call what it yields to say who holds it.

    Raises:
        Taken: another process holds it.
    """
    home_folder(path.parent)
    with open(path, "a+", opener=_private) as file:
        for _ in range(_TRIES):  # `holder` of another process has it for an instant
            if _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                break
            time.sleep(0.02)
        else:
            raise Taken(str(path))
        file.truncate(0)

        def say(what: Mapping[str, Any]) -> None:
            file.truncate(0)
            file.write(json.dumps(dict(what)))
            file.flush()

        yield say


def wait(path: Path) -> None:
    """Wait until nobody holds the lock."""
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)


def _lock(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
