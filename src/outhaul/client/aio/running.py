"""What the operations are made of that awaits; the module of the same name in `sync` is the same without."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar, cast

from outhaul.wire import ENDED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from outhaul.wire import TaskState

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Ending(Protocol):
    """What ends at some time."""

    @property
    def state(self) -> TaskState: ...


E = TypeVar("E", bound=Ending)

Lock = asyncio.Lock
sleep = asyncio.sleep


async def in_thread(work: Callable[P, R], *arguments: P.args, **more: P.kwargs) -> R:
    """Do what would block elsewhere."""
    return await asyncio.to_thread(work, *arguments, **more)


async def one_by_one(items: Iterator[T]) -> AsyncIterator[T]:
    """Take what is slow to come, one item at a time, elsewhere."""
    end: list[T] = []
    while (item := await asyncio.to_thread(next, items, end)) is not end:
        yield cast("T", item)


async def side_by_side(
    work: Callable[[T, Callable[[], bool]], Awaitable[R]], items: Sequence[T], at_once: int
) -> list[R]:
    """Work on all items, `at_once` of them at the same time; the first error stops the rest.

    The work is given what tells whether it is to stop, which here a cancellation does.
    """
    room = asyncio.Semaphore(at_once)

    async def one(item: T) -> R:
        async with room:
            return await work(item, lambda: False)

    tasks = [asyncio.create_task(one(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_ended(
    look: Callable[[], Awaitable[E]],
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
        found = await look()
        if found != seen and on_progress is not None:
            on_progress(found)
        left_s = until - time.monotonic()
        if found.state in ENDED or left_s <= 0:
            return found
        seen = found
        await sleep(min(poll_s, left_s))
