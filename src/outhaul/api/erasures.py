"""Erasures: what is stored of a user or a device is to go; and the receipts.

The ledger holds of whom it was only sealed, until it is done, and as a digest to find the receipt by; the audit log says of
which app, not of whom.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from outhaul import instants
from outhaul.api.exports import app_names, find_app, find_own_app
from outhaul.api.operations import PREFIX, Header, Operation, reply
from outhaul.api.paging import DEFAULT_SIZE, PageSize, PageToken, page_token, read_page_token
from outhaul.api.people import person_id
from outhaul.errors import Invalid, NotFound
from outhaul.ledger.tasks import Cursor
from outhaul.records import Id  # noqa: TC001  msgspec resolves it at run time
from outhaul.rest import DestinationShown, EarlierExport, ErasureList, ErasureShown, InApp, Name, Receipt
from outhaul.wire import Erasure, Subject

if TYPE_CHECKING:
    from starlette.responses import Response

    from outhaul.api.operations import Call
    from outhaul.keys import Keyring


class ErasuresQuery(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Which erasures a list holds."""

    app: Annotated[Name, Meta(description="Of this app: its name or its `appId`.")] | None = None
    user_id: Annotated[Id, Meta(description="Of this user.")] | None = None
    device_id: Annotated[Id, Meta(description="Of this device.")] | None = None
    page_size: PageSize = DEFAULT_SIZE
    page_token: PageToken | None = None


async def erase_user(call: Call) -> Response:
    """Have a user removed."""
    return await _erase(call, Subject(user_id=person_id(call)))


async def erase_device(call: Call) -> Response:
    """Have a device removed."""
    return await _erase(call, Subject(device_id=person_id(call)))


async def list_erasures(call: Call) -> Response:
    """A page of erasures, newest first."""
    query: ErasuresQuery = call.query
    door = call.door
    if query.user_id is not None and query.device_id is not None:
        raise Invalid("userId: it goes without deviceId.", hint="Give one of them.")
    digest = None
    app_id = (await find_app(call, query.app)).app_id if query.app is not None else call.caller.app_id
    if query.user_id is not None or query.device_id is not None:
        if app_id is None:
            raise Invalid(
                "app: it is missing.", hint="Say in which app the user or the device is to be found."
            )
        digest = _digest(door.keyring, app_id, Subject(user_id=query.user_id, device_id=query.device_id))
    after = read_page_token(door.keyring, query.page_token, Cursor)
    found = await asyncio.to_thread(door.ledger.newest_erasures, app_id, digest, query.page_size + 1, after)
    page = found[: query.page_size]
    more = len(found) > len(page)
    names = await app_names(door)
    await door.access.audit(call.caller, "erasure.list", app_id or "", app_id, call.request_id)
    return reply(
        ErasureList(
            erasures=[_show(erasure, names) for erasure in page],
            next_page_token=page_token(door.keyring, Cursor(page[-1].created_at, page[-1].id))
            if more
            else None,
        )
    )


async def get(call: Call) -> Response:
    """One erasure as it is now."""
    asked = call.names["id"]
    missing = NotFound(
        f"There is no erasure {asked[:80]!r}.",
        hint=f"`outhaul people erasures` or GET {PREFIX}/erasures lists them.",
    )
    try:
        found = await asyncio.to_thread(call.door.ledger.erasure, asked.lower())
    except NotFound:
        raise missing from None
    if call.caller.app_id not in {None, found.app_id}:
        raise missing
    await call.door.access.audit(call.caller, "erasure.read", found.id, found.app_id, call.request_id)
    return reply(_show(found, await app_names(call.door)))


async def _erase(call: Call, subject: Subject) -> Response:
    """Record an erasure: 202 once it is, and where to look how it is doing."""
    door = call.door
    body: InApp = call.body
    app = await find_own_app(call, body.app)
    asked = Erasure(
        id=str(uuid.uuid4()),
        app_id=app.app_id,
        of=_of(subject),
        subject=door.keyring.seal(subject),
        subject_digest=_digest(door.keyring, app.app_id, subject),
        state="queued",
        created_at=door.now(),
        created_by=call.caller.actor,
        mark=await door.mark(),
    )
    erasure = await asyncio.to_thread(door.ledger.create_erasure, asked)
    await door.access.audit(call.caller, "erasure.create", app.app_id, app.app_id, call.request_id)
    headers = {"Location": f"{call.base}/erasures/{erasure.id}"}
    return reply(_show(erasure, {app.app_id: app.name}), 202, headers)


def _of(subject: Subject) -> Literal["user", "device"]:
    return "device" if subject.user_id is None else "user"


def _digest(keyring: Keyring, app_id: str, subject: Subject) -> str:
    """What erasures of a user or a device are found by, when nobody knows any more of whom they were."""
    return keyring.digest(f"{app_id}/{_of(subject)}/{subject.user_id or subject.device_id}")


def _show(erasure: Erasure, app_names: dict[str, str]) -> ErasureShown:
    return ErasureShown(
        id=erasure.id,
        app=app_names.get(erasure.app_id, erasure.app_id),
        app_id=erasure.app_id,
        of=erasure.of,
        state=erasure.state,
        phase=erasure.phase,
        created_at=instants.show(erasure.created_at),
        created_by=erasure.created_by,
        started_at=_instant(erasure.started_at),
        completed_at=_instant(erasure.completed_at),
        error=erasure.error,
        receipt=_receipt(erasure),
    )


def _receipt(erasure: Erasure) -> Receipt:
    done = erasure.receipt
    return Receipt(
        devices=done.devices,
        rows=sum(table.rows for table in done.tables),
        tables=done.tables,
        remembered=done.remembered,
        journal_files=done.journal_files,
        downloads=done.downloads,
        exports=[
            EarlierExport(
                id=told.id,
                kind=told.kind,
                created_at=instants.show(told.created_at),
                destination=DestinationShown(told.destination_shown),
                rows=told.rows,
            )
            for told in done.exports
        ],
        waiting_for=done.waiting_for,
        removed_at=_instant(done.removed_at),
        files_deleted=done.files_deleted,
        bytes_deleted=done.bytes_deleted,
        deleted_at=_instant(done.deleted_at),
    )


def _instant(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else instants.show(milliseconds)


_LOCATION = Header("Location", "Where the erasure can be looked at.", {"type": "string", "format": "uri"})
_HELP = (
    "It is recorded, not done, when this answers. What was received until now goes, what comes later is new and stays: "
    "have the app stop sending first. One asked for again before it has begun is the same. An id that nothing is known "
    "of is taken too: whether anything was there is in the receipt."
)
OPERATIONS = (
    Operation(
        "POST",
        "/users/{id:path}:erase",
        "eraseUser",
        "Remove everything that is stored of a user",
        erase_user,
        "data:erase",
        body=InApp,
        body_optional=True,
        answer=ErasureShown,
        status=202,
        help=f"The devices whose user this is now go as a whole. {_HELP}",
        problems=("app_not_found", "conflict"),
        gives=(_LOCATION,),
        example={"app": "Shop"},
    ),
    Operation(
        "POST",
        "/devices/{id:path}:erase",
        "eraseDevice",
        "Remove everything that is stored of a device",
        erase_device,
        "data:erase",
        body=InApp,
        body_optional=True,
        answer=ErasureShown,
        status=202,
        help=_HELP,
        problems=("app_not_found", "conflict"),
        gives=(_LOCATION,),
        example={"app": "Shop"},
    ),
    Operation(
        "GET",
        "/erasures",
        "listErasures",
        "List erasures, newest first",
        list_erasures,
        "data:erase",
        query=ErasuresQuery,
        answer=ErasureList,
        help="With `userId` or `deviceId`, those of whoever this was: receipts name nobody, but can be found by the id.",
        problems=("app_not_found", "conflict"),
    ),
    Operation(
        "GET",
        "/erasures/{id}",
        "getErasure",
        "Look at an erasure and its receipt",
        get,
        "data:erase",
        answer=ErasureShown,
        problems=("not_found",),
    ),
)
