"""What both processes do as they begin: log, see to their end, take what another may still hold."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import multiprocessing
import os
import sys
import threading
import time
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, TypeVar

from outhaul.errors import Conflict, OuthaulError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import IO

T = TypeVar("T")

_PATIENCE_S = 10.0
_RETRY_S = 0.1


def begin() -> None:
    """Log to stderr, and end with the supervisor: killed without a word, it would leave us holding its folder."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def end_with_parent() -> None:
            wait([sentinel])
            os._exit(1)

        threading.Thread(target=end_with_parent, name="parent", daemon=True).start()


def patiently(take: Callable[[], T], held: type[Exception]) -> T:
    """Take something that a process which is just ending may still hold; after some seconds it is really held."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return take()
        except held:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)


def lock(path: Path) -> IO[bytes]:
    """Hold a file for as long as this process lives, or the file returned is open.

    Raises:
        Conflict: another process holds it.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise Conflict(
            f"Another server is working on the data folder {path.parent}.",
            hint="Run one server per data folder; stop the other one first.",
        ) from None
    return file


@contextlib.contextmanager
def explained(log: logging.Logger) -> Iterator[None]:
    """End the process with our own errors in their own words: a traceback would help nobody."""
    try:
        yield
    except OuthaulError as error:
        log.error("%s", error)  # noqa: TRY400  no traceback
        sys.exit(1)


def now() -> int:
    """The time, in ms since 1970 UTC."""
    return time.time_ns() // 1_000_000
