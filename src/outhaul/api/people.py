"""A person, a user or a device: all their records, streamed, or as an export.

The audit log says of whose app, not of whom: what is forgotten of a person must not live on there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct
from starlette.responses import StreamingResponse

from outhaul import instants
from outhaul.api.exports import LOCATION, find_own_app, record
from outhaul.api.once import gives_replayed, takes_key
from outhaul.api.operations import Operation
from outhaul.api.reading import read_subject
from outhaul.errors import Busy, Invalid
from outhaul.records import Id
from outhaul.rest import Export, ExportSpec, HistorySpec, Name, PersonRecord
from outhaul.schema import RecordKind
from outhaul.wire import Period, Subject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from outhaul.api.operations import Call, Lines

T = TypeVar("T")

MEDIA = "application/x-ndjson"
KINDS: tuple[RecordKind, ...] = get_args(RecordKind)
_PIECE = 64 * 1024


class RecordsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which records of a person."""

    app: Annotated[Name, Meta(description="In this app; a token for one app need not say it.")] | None = None
    kinds: Annotated[str, Meta(description="Of these kinds, separated by commas.")] | None = None
    from_: Annotated[str, Meta(description="Of this instant or later.")] | None = msgspec.field(
        default=None, name="from"
    )
    to: Annotated[str, Meta(description="From before this instant.")] | None = None


async def user_records(call: Call) -> Response:
    """Every record of a user."""
    return await _stream(call, Subject(user_id=person_id(call)))


async def device_records(call: Call) -> Response:
    """Every record of a device."""
    return await _stream(call, Subject(device_id=person_id(call)))


async def export_user(call: Call) -> Response:
    """Ask for an export of a user's history."""
    return await _export(call, Subject(user_id=person_id(call)))


async def export_device(call: Call) -> Response:
    """Ask for an export of a device's history."""
    return await _export(call, Subject(device_id=person_id(call)))


def person_id(call: Call) -> str:
    """The id in the path, which has to be one that a record can have.

    Raises:
        Invalid: it is not.
    """
    try:
        return msgspec.convert(call.names["id"], Id)
    except msgspec.ValidationError:
        raise Invalid(
            "The id in the path has not 1 to 255 characters.", hint="Check it: no record has such an id."
        ) from None


async def _export(call: Call, of: Subject) -> Response:
    call.caller.require("data:read")
    spec: HistorySpec = call.body
    app = await find_own_app(call, spec.app)
    asked = {**msgspec.structs.asdict(spec), "app": app.app_id}
    return await record(call, ExportSpec(kind="history", of=of, **asked))


async def _stream(call: Call, of: Subject) -> Response:
    query: RecordsQuery = call.query
    kinds, period = _read_kinds(query.kinds), _read_period(query)
    read_subject("The path", of)
    app = await find_own_app(call, query.app)
    action = "user.records" if of.device_id is None else "device.records"
    await call.door.access.audit(call.caller, action, app.app_id, app.app_id, call.request_id)
    opening = call.door.histories.open(app.app_id, of, period, kinds)
    return _Records(call.door.stopping, await _unless_stopping(call.door.stopping, opening))


class _Records(StreamingResponse):
    """A history on its way. When it cannot go on, the connection is not ended as it should: whoever reads can tell."""

    def __init__(self, stopping: asyncio.Event, lines: Lines) -> None:
        super().__init__(_pieces(lines), media_type=MEDIA)
        self._stopping = stopping
        self._source = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # Whoever reads slowly must not hold up a server that is to stop.
            await _unless_stopping(self._stopping, super().__call__(scope, receive, send))
        finally:
            await asyncio.shield(self._source.close())


async def _pieces(lines: Lines) -> AsyncIterator[bytes]:
    # The server holds some pieces for whoever reads slowly: a number of them, however large they are.
    async for some in lines:
        for start in range(0, len(some), _PIECE):
            yield some[start : start + _PIECE]


async def _unless_stopping(stopping: asyncio.Event, work: Awaitable[T]) -> T:
    """What comes of some work, which is given up when the server stops.

    Raises:
        Busy: it does.
    """
    working, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Busy("The server is stopping.", hint="Ask again when it is back.")
    finally:
        for one in (working, stopped):
            one.cancel()
        await asyncio.gather(working, stopped, return_exceptions=True)


def _read_kinds(text: str | None) -> tuple[RecordKind, ...]:
    if text is None:
        return KINDS
    try:
        given = msgspec.convert(text.split(","), tuple[RecordKind, ...])
    except msgspec.ValidationError:
        raise Invalid("kinds: one of them is none.", hint=f"There are {', '.join(KINDS)}.") from None
    return tuple(dict.fromkeys(given))


def _read_period(query: RecordsQuery) -> Period | None:
    if query.from_ is None and query.to is None:
        return None
    start = 0 if query.from_ is None else instants.read("from", query.from_)
    end = instants.LAST if query.to is None else instants.read("to", query.to)
    if start >= end:
        raise Invalid("to: it is not after from.", hint="`from` is in the interval, `to` is not.")
    return Period(start=start, end=end)


_IN_ORDER = (
    "One JSON object a line, oldest first; what was acknowledged before is among them. A stream that does not come to its "
    "end is cut off: the connection breaks. Ask again then, or for an export, which goes on where it stopped."
)
_STREAM_PROBLEMS = ("app_not_found", "conflict", "not_found", "too_large", "busy")
_HISTORY = (
    "An export of kind `history`, of whom the path names. Needs the scope `data:read` as well. The export says of whom it "
    "is, until an erasure of theirs."
)
_EXPORT_PROBLEMS = ("app_not_found", "conflict", "idempotency_key_used", "destination_refused", "busy")
_EXAMPLE = {"app": "Shop", "format": "jsonl", "compression": "gzip"}
OPERATIONS = (
    Operation(
        "GET",
        "/users/{id:path}:records",
        "getUserRecords",
        "Stream every record of a user",
        user_records,
        "data:read",
        query=RecordsQuery,
        answer=PersonRecord,
        media=MEDIA,
        help=f"Of the devices whose user this is now, and whatever else carries the id. {_IN_ORDER}",
        problems=_STREAM_PROBLEMS,
    ),
    Operation(
        "GET",
        "/devices/{id:path}:records",
        "getDeviceRecords",
        "Stream every record of a device",
        device_records,
        "data:read",
        query=RecordsQuery,
        answer=PersonRecord,
        media=MEDIA,
        help=_IN_ORDER,
        problems=_STREAM_PROBLEMS,
    ),
    Operation(
        "POST",
        "/users/{id:path}:export",
        "exportUser",
        "Export every record of a user",
        export_user,
        "exports:write",
        body=HistorySpec,
        body_optional=True,
        answer=Export,
        status=202,
        help=_HISTORY,
        problems=_EXPORT_PROBLEMS,
        takes=(takes_key("export"),),
        gives=(LOCATION, gives_replayed("export")),
        example=_EXAMPLE,
    ),
    Operation(
        "POST",
        "/devices/{id:path}:export",
        "exportDevice",
        "Export every record of a device",
        export_device,
        "exports:write",
        body=HistorySpec,
        body_optional=True,
        answer=Export,
        status=202,
        help=_HISTORY,
        problems=_EXPORT_PROBLEMS,
        takes=(takes_key("export"),),
        gives=(LOCATION, gives_replayed("export")),
        example=_EXAMPLE,
    ),
)
