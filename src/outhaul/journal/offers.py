"""Segments that other processes than the one that appends have made: offered here, and adopted by it into the order.

An offer lies in the journal's folder `offered` under a name of its maker's, whole and on disk, until the writer gives it
the next number. So it is either there or adopted. Whoever cannot know whether an offer came through makes it again:
its records have ids, by which landing recognises what it has.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from typing import TYPE_CHECKING

from outhaul.durable import sync
from outhaul.journal.frames import framed
from outhaul.journal.reading import segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from outhaul.journal.frames import Header

_NAME = re.compile(r"[A-Za-z0-9-]{1,200}")


def offer(directory: Path, name: str, frames: Iterable[tuple[Header, bytes]]) -> int:
    """Make a segment of these frames, to be adopted in the order of the offers' names; its bytes.

    On return it is on disk. An offer of the same name that was not adopted yet is replaced.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("the name of an offer is letters, digits and dashes")
    folder = _folder(directory)
    path = folder / f"{name}.tmp"
    with _locked(path) as file:
        for header, body in frames:
            file.writelines(framed(header, body))
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
        path.rename(path.with_suffix(".log"))
    sync(folder)
    return size


def offered(directory: Path) -> list[str]:
    """The names of the offers that wait to be adopted, in order."""
    return sorted(path.stem for path in _offers(directory))


def backlog(directory: Path, position: int) -> int:
    """The bytes that wait to be landed, from a position on: closed segments and offers."""
    size = sum(segment.size for segment in segments(directory, position))
    for path in _offers(directory):
        # It may have been adopted meanwhile.
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def adopt(directory: Path, target: Path) -> bool:
    """Give the first of the offers its place in the journal, for the writer to sync; whether there was one."""
    path = min(_offers(directory), default=None)
    if path is None:
        return False
    path.rename(target)
    return True


def sync_adopted(directory: Path) -> None:
    """Put on disk where offers went."""
    sync(directory)
    sync(_folder(directory))


def tidy(directory: Path) -> None:
    """Remove what processes that were killed left half made."""
    for path in _folder(directory).glob("*.tmp"):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file, contextlib.suppress(OSError):
            # One that is locked is being made at this moment.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Make an empty file that `tidy` leaves alone until it is closed; nothing of it stays after an error."""
    while True:
        with path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                mine = path.stat().st_ino == os.fstat(file.fileno()).st_ino
            except FileNotFoundError:
                mine = False
            if not mine:
                # It was taken for a leftover before it was locked.
                continue
            try:
                yield file
            finally:
                # After a rename there is nothing of that name.
                path.unlink(missing_ok=True)
            return


def _offers(directory: Path) -> list[Path]:
    return list((directory / "offered").glob("*.log"))


def _folder(directory: Path) -> Path:
    folder = directory / "offered"
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync(directory)
    return folder
