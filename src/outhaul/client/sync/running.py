"""What the operations are made of that blocks; the module of the same name in `aio` is the same, awaiting."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from outhaul.wire import ENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from outhaul.wire import TaskState

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Ending(Protocol):
    """What ends at some time."""

    @property
    def state(self) -> TaskState: ...


E = TypeVar("E", bound=Ending)

Lock = threading.Lock
sleep = time.sleep


def in_thread(work: Callable[P, R], *arguments: P.args, **more: P.kwargs) -> R:
    """Do what blocks, which is what is expected here."""
    return work(*arguments, **more)


def one_by_one(items: Iterator[T]) -> Iterator[T]:
    """The items."""
    return items


def side_by_side(work: Callable[[T, Callable[[], bool]], R], items: Sequence[T], at_once: int) -> list[R]:
    """Work on all items, `at_once` of them at the same time; the first error stops the rest.

    The work is given what tells whether it is to stop.
    """
    stop = threading.Event()

    def one(item: T) -> R:
        try:
            return work(item, stop.is_set)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(at_once, thread_name_prefix="outhaul") as pool:
        try:
            return list(pool.map(one, items))
        finally:
            stop.set()


def until_ended(
    look: Callable[[], E],
    timeout_s: float | None,
    on_progress: Callable[[E], object] | None,
    poll_s: float,
) -> E:
    """Look every `poll_s` until what is found has ended, or until the time is over; what was found last.

    `on_progress` is called at once and on every change.
    """
    until = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    seen = None
    while True:
        found = look()
        if found != seen and on_progress is not None:
            on_progress(found)
        left_s = until - time.monotonic()
        if found.state in ENDED or left_s <= 0:
            return found
        seen = found
        sleep(min(poll_s, left_s))
