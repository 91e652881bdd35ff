"""Folders and files that only their owner may read: the journal holds what calls cost, the ledger holds passwords."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class NotPrivate(OSError):
    """A folder of ours is a symbolic link, or belongs to somebody else."""


def home_folder(path: Path) -> Path:
    """Make `path` a folder, with its parents, and return it: mode 0700 if it is new.

    One that is there is the user's: it may be a link to a folder, and its mode stays; it must be this user's own.

    Raises:
        NotPrivate: it is no folder, or another user's.
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    _own_folder(path, os.stat(path))
    return path


def private_folder(path: Path) -> Path:
    """Make `path` a folder of mode 0700, and return it.

    Raises:
        NotPrivate: it is a symbolic link, no folder, or another user's.
        OSError: it cannot be made.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise NotPrivate(f"{path} is a symbolic link: remove it, or choose another SPANLEDGER_HOME")
    _own_folder(path, found)
    if found.st_mode & 0o077:
        os.chmod(path, 0o700)
    return path


def _own_folder(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise NotPrivate(f"{path} is not a folder: remove it, or choose another SPANLEDGER_HOME")
    if found.st_uid != os.geteuid():
        raise NotPrivate(
            f"{path} belongs to user {found.st_uid}, not to {os.geteuid()}: choose another SPANLEDGER_HOME"
        )


def write_private(path: Path, content: str) -> None:
    """Put `content` at `path`, mode 0600, whole or not at all."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    os.replace(new, path)
