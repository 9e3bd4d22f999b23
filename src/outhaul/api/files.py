"""Files that the server keeps: fetched whole or in ranges, with a token or by a link that is good for a short time."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct
from starlette.responses import FileResponse

from outhaul.api import problems
from outhaul.api.access import Caller
from outhaul.api.exports import find_task
from outhaul.api.operations import Header, Operation
from outhaul.api.showing import Link
from outhaul.errors import Invalid, NotFound, Unauthenticated
from outhaul.wire import DOWNLOAD

if TYPE_CHECKING:
    from os import stat_result
    from pathlib import Path

    from starlette.responses import Response

    from outhaul.api.operations import Call, Door
    from outhaul.wire import FileEntry, Task

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class FileQuery(Struct, frozen=True, forbid_unknown_fields=True):
    link: (
        Annotated[str, Meta(max_length=2048, description="The permission in a link that an export shows.")]
        | None
    ) = None


async def fetch(call: Call) -> Response:
    """A file, or the range of it that was asked for."""
    name = call.names["name"]
    actor = call.caller.actor if call.bearer else _read_link(call, name)
    call.request.state.actor = actor
    task = await find_task(call)
    path, entry, stat = await asyncio.to_thread(_find, call.door, task, name)
    etag = f'"{entry.sha256}"'
    if _settle_range(call, etag, stat.st_size):
        error = Invalid(
            f"The file has {stat.st_size} bytes.", hint="Ask for less.", code="range_not_satisfiable"
        )
        headers = {"Content-Range": f"bytes */{stat.st_size}"}
        return problems.answer(error, call.request_id, call.request.url.path, headers)
    if call.request.method == "GET":
        reader = call.bearer or Caller(actor=actor, app_id=None, scopes=frozenset(), expires_at=None)
        await call.door.access.audit(
            reader, "export.download", f"{task.id}/{name}", task.app_id, call.request_id
        )
    return FileResponse(
        path,
        headers={"ETag": etag},
        media_type=entry.content_type,
        filename=name.rpartition("/")[2],
        stat_result=stat,
    )


def _read_link(call: Call, name: str) -> str:
    """Who was given the link that the request came by.

    Raises:
        Unauthenticated: it is not for this file, or no longer good.
    """
    hint = "Look at the export again for a new one."
    try:
        link = call.door.keyring.unseal(call.query.link, Link)
    except Invalid:
        link = None
    if link is None or (link.task_id, link.name) != (call.names["id"], name):
        raise Unauthenticated("The link is not one to this file.", hint=hint)
    if link.until <= call.door.now():
        raise Unauthenticated("The link has expired.", hint=hint, code="link_expired")
    return link.actor


def _find(door: Door, task: Task, name: str) -> tuple[Path, FileEntry, stat_result]:
    """Where a file of a task is, what is known of it, and its size.

    Raises:
        NotFound: the task has no such file, or not here; with the code `expired` if it had.
    """
    if task.destination_shown != DOWNLOAD:
        raise NotFound("The files of this export are not kept here.", hint="They are at its destination.")
    if task.state != "succeeded":
        raise NotFound(f"The export is {task.state} and has no files.", hint="Wait until it has succeeded.")
    entry = next((entry for entry in task.files or [] if entry.name == name), None)
    if entry is None:
        raise NotFound(f"The export has no file {name[:80]!r}.", hint="Look at the export for their names.")
    path = door.downloads / task.id / name
    gone = NotFound("The file is no longer kept.", hint="Ask for the export again.", code="expired")
    if task.expires_at is not None and task.expires_at <= door.now():
        raise gone
    try:
        return path, entry, path.stat()
    except FileNotFoundError:
        raise gone from None


def _settle_range(call: Call, etag: str, size: int) -> bool:
    """Whether the range asked for lies outside of the file; of what is no single range, nothing is left to see."""
    headers = call.request.headers
    asked = _RANGE.fullmatch(headers.get("range", "").strip())
    current = headers.get("if-range", etag) == etag
    if asked is None or not any(asked.groups()) or not current:
        ranged = False
    else:
        first, last = asked.groups()
        # The last bytes of nothing are as far outside as anything.
        if (int(first) >= size) if first else (not int(last) or not size):
            return True
        ranged = not first or not last or int(last) >= int(first)
    if not ranged:
        # Such a header is to be ignored (RFC 9110, section 14.2).
        scope = call.request.scope
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name.lower() != b"range"]
    return False


_RANGES = Header("Range", "One range of bytes, `bytes=0-1023`; anything else is ignored.", {"type": "string"})
_IF_RANGE = Header("If-Range", "The `ETag`; if it is another, the whole file comes.", {"type": "string"})
_ETAG = Header("ETag", "The file's SHA-256, in quotes.", {"type": "string"})
_HELP = (
    "For exports to `download:`. The whole file, or with `Range` a part of it. Without a token, a `link` will do: an "
    "export shows one for each file."
)
OPERATIONS = (
    Operation(
        "GET",
        "/exports/{id}/files/{name:path}",
        "getFile",
        "Fetch a file that the server keeps",
        fetch,
        "exports:read",
        query=FileQuery,
        media="*/*",
        help=_HELP,
        problems=("link_expired", "not_found", "expired", "range_not_satisfiable"),
        takes=(_RANGES, _IF_RANGE),
        gives=(_ETAG,),
        more=((206, "The range of the file that was asked for."),),
        linked=True,
    ),
    Operation(
        "HEAD",
        "/exports/{id}/files/{name:path}",
        "headFile",
        "Look how large a file is that the server keeps",
        fetch,
        "exports:read",
        query=FileQuery,
        media="*/*",
        help="The same as fetching it, without the file.",
        problems=("link_expired", "not_found", "expired", "range_not_satisfiable"),
        takes=(_RANGES, _IF_RANGE),
        gives=(_ETAG,),
        more=((206, "The range of the file that was asked for."),),
        linked=True,
    ),
)
