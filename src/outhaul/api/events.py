"""A task's progress as server-sent events, until it has ended or the watcher is gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import StreamingResponse

from outhaul.api.exports import app_names, audit, find_task
from outhaul.api.operations import Operation
from outhaul.api.showing import show_export
from outhaul.errors import Busy, Forbidden, TooMany, Unauthenticated
from outhaul.wire import ENDED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.responses import Response

    from outhaul.api.operations import Call
    from outhaul.wire import Task

MEDIA = "text/event-stream"
WATCHERS = 200
_LOOK_S = 0.5
_LOOKS_BETWEEN_SIGNS = 30
_LOOKS_BETWEEN_QUESTIONS = 120


async def watch(call: Call) -> Response:
    """The export on every change, and once more when it has ended."""
    task = await find_task(call)
    if call.door.watchers.locked():
        raise Busy(f"{WATCHERS} exports are being watched already.", hint="Look at it now and then instead.")
    await audit(call, "export.read", task)
    return StreamingResponse(_events(call, task, await app_names(call.door)), media_type=MEDIA)


async def _events(call: Call, first: Task, names: Mapping[str, str]) -> AsyncIterator[bytes]:
    # Nothing but a timer and a short look at the ledger: a watcher holds no thread.
    async with call.door.watchers:
        number, looks, seen, task = 0, 0, None, first
        while True:
            if task != seen:
                ended = task.state in ENDED
                number += 1
                export = msgspec.json.encode(show_export(call, task, names)).decode()
                yield f"id: {number}\nevent: {'end' if ended else 'progress'}\ndata: {export}\n\n".encode()
                if ended:
                    return
            elif looks % _LOOKS_BETWEEN_SIGNS == 0:
                yield b": still there\n\n"
            seen = task
            if await _stopped(call.door.stopping):
                return
            looks += 1
            if looks % _LOOKS_BETWEEN_QUESTIONS == 0 and not await _may_still(call):
                return
            task = await asyncio.to_thread(call.door.ledger.task, task.id)


async def _stopped(stopping: asyncio.Event) -> bool:
    """Wait until it is time to look again, or the server stops: whether it does."""
    try:
        await asyncio.wait_for(stopping.wait(), _LOOK_S)
    except TimeoutError:
        return False
    return True


async def _may_still(call: Call) -> bool:
    """Whether the caller would be let in again: a token may have ended or been revoked meanwhile."""
    try:
        await call.door.access.caller(call.request)
    except TooMany:
        return True
    except (Unauthenticated, Forbidden, Busy):
        return False
    return True


OPERATIONS = (
    Operation(
        "GET",
        "/exports/{id}/events",
        "watchExport",
        "Watch an export",
        watch,
        "exports:read",
        media=MEDIA,
        help="Server-sent events: `progress` with the export as data on every change, last `end`, then it is closed. "
        "It is closed without `end` when the token is no longer good.",
        problems=("not_found", "busy"),
    ),
)
