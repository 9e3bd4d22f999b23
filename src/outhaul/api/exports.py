"""Exports: asked for, listed, looked at, stopped, taken up again. What is asked for is done elsewhere."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from outhaul import instants
from outhaul.api.limits import check_quota
from outhaul.api.once import gives_replayed, read_key, same_request, takes_key
from outhaul.api.operations import PREFIX, Header, Operation, reply
from outhaul.api.paging import DEFAULT_SIZE, PageSize, PageToken, page_token, read_page_token
from outhaul.api.reading import read_export
from outhaul.api.showing import show_export
from outhaul.container import describe
from outhaul.errors import DestinationError, Invalid, NotFound, OuthaulError
from outhaul.ledger.tasks import Chosen, Cursor
from outhaul.rest import Export, ExportList, ExportSpec, Name, NewDestination
from outhaul.schema import Kind  # noqa: TC001  msgspec resolves it at run time
from outhaul.wire import DOWNLOAD, Destination, Task, TaskState

if TYPE_CHECKING:
    from starlette.responses import Response

    from outhaul.api.operations import Call, Door
    from outhaul.ledger.ledger import App


class ExportsQuery(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Which exports a list holds; together, all must be so."""

    app: Annotated[Name, Meta(description="Of this app: its name or its `appId`.")] | None = None
    state: Annotated[TaskState, Meta(description="In this state.")] | None = None
    kind: Annotated[Kind, Meta(description="Of this kind.")] | None = None
    created_after: Annotated[str, Meta(description="Asked for at this instant or later.")] | None = None
    created_before: Annotated[str, Meta(description="Asked for before this instant.")] | None = None
    page_size: PageSize = DEFAULT_SIZE
    page_token: PageToken | None = None


async def create(call: Call) -> Response:
    """Ask for an export."""
    return await record(call, call.body)


async def record(call: Call, spec: ExportSpec) -> Response:
    """Take an export that is asked for: 202 once it is recorded, and where to look how it is doing."""
    door = call.door
    app = await find_app(call, spec.app)
    request = read_export(spec)
    destination = spec.destination or Destination(url=DOWNLOAD)
    shown = await admit(door, destination)
    key = read_key(call)
    if key is None or not await asyncio.to_thread(door.ledger.key_used, call.caller.actor, key):
        # What was asked for before is answered again even when nothing more may be asked for.
        await asyncio.to_thread(check_quota, door.ledger, call.caller, door.config, door.now())
    asked = Task(
        id=str(uuid.uuid4()),
        app_id=app.app_id,
        request=request,
        destination=door.keyring.seal(destination),
        destination_shown=shown,
        description=spec.description,
        state="queued",
        created_at=door.now(),
        created_by=call.caller.actor,
        mark=await door.mark(),
        idempotency_key=key,
        idempotency_hash=same_request(call, spec) if key else None,
    )
    task = await asyncio.to_thread(door.ledger.create_task, asked)
    headers = {"Location": f"{call.base}/exports/{task.id}"}
    if task.id != asked.id:
        headers["Idempotency-Replayed"] = "true"
    else:
        await audit(call, "export.create", task)
    return reply(show_export(call, task, {app.app_id: app.name}), 202, headers)


async def list_exports(call: Call) -> Response:
    """A page of exports, newest first."""
    query: ExportsQuery = call.query
    door = call.door
    app_id = (await find_app(call, query.app)).app_id if query.app is not None else call.caller.app_id
    chosen = Chosen(
        app_id=app_id,
        state=query.state,
        kind=query.kind,
        since=_instant("createdAfter", query.created_after),
        until=_instant("createdBefore", query.created_before),
    )
    after = read_page_token(door.keyring, query.page_token, Cursor)
    tasks = await asyncio.to_thread(door.ledger.newest_tasks, chosen, query.page_size + 1, after)
    page = tasks[: query.page_size]
    more = len(tasks) > len(page)
    names = await app_names(door)
    await door.access.audit(call.caller, "export.list", app_id or "", app_id, call.request_id)
    return reply(
        ExportList(
            exports=[show_export(call, task, names) for task in page],
            next_page_token=page_token(door.keyring, Cursor(page[-1].created_at, page[-1].id))
            if more
            else None,
        )
    )


async def get(call: Call) -> Response:
    """One export as it is now."""
    task = await find_task(call)
    await audit(call, "export.read", task)
    return reply(await shown(call, task))


async def cancel(call: Call) -> Response:
    """Have an export stopped."""
    found = await find_task(call)
    task = await asyncio.to_thread(call.door.ledger.cancel_task, found.id, call.door.now())
    await audit(call, "export.cancel", task)
    return reply(await shown(call, task), 202)


async def retry(call: Call) -> Response:
    """Have an export that failed or was cancelled taken up again."""
    found = await find_task(call)
    task = await asyncio.to_thread(call.door.ledger.retry_task, found.id)
    await audit(call, "export.retry", task)
    return reply(await shown(call, task), 202)


async def move(call: Call) -> Response:
    """Give an export another destination, or new credentials."""
    new: NewDestination = call.body
    found = await find_task(call)
    where = await admit(call.door, new.destination)
    task = await asyncio.to_thread(
        call.door.ledger.move_task, found.id, call.door.keyring.seal(new.destination), where
    )
    await audit(call, "export.move", task)
    return reply(await shown(call, task), 202)


# Shared with other modules


async def find_own_app(call: Call, name: str | None) -> App:
    """The app of this name or id; if none is given, the one that the caller is for.

    Raises:
        Invalid: none is given, and the caller is for all apps.
        NotFound, Conflict: as for `find_app`.
    """
    chosen = name if name is not None else call.caller.app_id
    if chosen is None:
        raise Invalid("app: it is missing.", hint="Say in which app: its name or its appId.")
    return await find_app(call, chosen)


async def find_app(call: Call, name: str) -> App:
    """The app of this name or id, if the caller may know of it.

    Raises:
        NotFound: there is none, for this caller.
        Conflict: the name is that of several apps.
    """
    bound = call.caller.app_id
    missing = NotFound(
        f"There is no app {name[:80]!r}.",
        hint=f"Capitals matter. GET {PREFIX}/apps lists them, for who has apps:read.",
        code="app_not_found",
    )
    try:
        app = await asyncio.to_thread(call.door.ledger.app, name if bound is None else bound)
    except NotFound:
        raise missing from None
    if bound is not None and name not in {app.app_id, app.name}:
        raise missing
    return app


async def find_task(call: Call) -> Task:
    """The task that the path names, if the caller may know of it.

    Raises:
        NotFound: there is none, for this caller.
    """
    asked = call.names["id"]
    missing = NotFound(
        f"There is no export {asked[:80]!r}.",
        hint=f"`outhaul export list` or GET {PREFIX}/exports lists them.",
    )
    try:
        task = await asyncio.to_thread(call.door.ledger.task, asked.lower())
    except NotFound:
        raise missing from None
    if call.bearer is not None and call.bearer.app_id not in {None, task.app_id}:
        raise missing
    return task


async def app_names(door: Door) -> dict[str, str]:
    """Names of apps by id."""
    return {app.app_id: app.name for app in await asyncio.to_thread(door.ledger.apps)}


async def shown(call: Call, task: Task) -> Export:
    """A task as the caller sees it."""
    return show_export(call, task, await app_names(call.door))


async def admit(door: Door, destination: Destination) -> str:
    """Let a destination pass; what of it may be shown.

    Raises:
        Invalid: it is none.
        DestinationError: the operator does not allow it, or it says itself that it is of no use.
    """
    try:
        # It may look a name up, which can take its time.
        await asyncio.get_running_loop().run_in_executor(door.patient, door.destinations.check, destination)
        return describe(destination)
    except (Invalid, DestinationError) as error:
        raise of_destination(error) from None


def of_destination(error: OuthaulError) -> OuthaulError:
    """An error of a destination, as one of the request that names it."""
    named = error.message.startswith("destination.")
    message = error.message if named else f"destination: {error.message}"
    return type(error)(message, hint=error.hint, code=error.code)


async def audit(call: Call, action: str, task: Task) -> None:
    await call.door.access.audit(call.caller, action, task.id, task.app_id, call.request_id)


def _instant(name: str, text: str | None) -> int | None:
    return None if text is None else instants.read(name, text)


LOCATION = Header("Location", "Where the export can be looked at.", {"type": "string", "format": "uri"})
SPEC_EXAMPLE = {
    "app": "Shop",
    "kind": "event",
    "period": {"from": "2026-11-01", "to": "2026-12-01"},
    "format": "parquet",
    "where": {"column": "name", "in": ["purchase", "refund"]},
    "mask": {"userId": "hash"},
}
OPERATIONS = (
    Operation(
        "POST",
        "/exports",
        "createExport",
        "Ask for an export",
        create,
        "exports:write",
        body=ExportSpec,
        answer=Export,
        status=202,
        help="It is recorded, not done, when this answers: look at it, watch its events, or wait for its state.",
        problems=("app_not_found", "conflict", "idempotency_key_used", "destination_refused", "busy"),
        takes=(takes_key("export"),),
        gives=(LOCATION, gives_replayed("export")),
        example=SPEC_EXAMPLE,
    ),
    Operation(
        "GET",
        "/exports",
        "listExports",
        "List exports, newest first",
        list_exports,
        "exports:read",
        query=ExportsQuery,
        answer=ExportList,
        problems=("app_not_found", "conflict"),
    ),
    Operation(
        "GET",
        "/exports/{id}",
        "getExport",
        "Look at an export",
        get,
        "exports:read",
        answer=Export,
        problems=("not_found",),
    ),
    Operation(
        "POST",
        "/exports/{id}:cancel",
        "cancelExport",
        "Stop an export",
        cancel,
        "exports:write",
        answer=Export,
        status=202,
        help="A queued one is cancelled at once, one that runs as soon as it notices; until then it is `cancelling`.",
        problems=("not_found", "export_ended"),
    ),
    Operation(
        "POST",
        "/exports/{id}:retry",
        "retryExport",
        "Take up again an export that failed or was cancelled",
        retry,
        "exports:write",
        answer=Export,
        status=202,
        help="It goes on where it stopped, for as long as `OUTHAUL_KEEP_FAILED_HOURS` says.",
        problems=("not_found", "export_not_ended", "destination_forgotten"),
    ),
    Operation(
        "PUT",
        "/exports/{id}/destination",
        "setDestination",
        "Give an export another destination, or new credentials",
        move,
        "exports:write",
        body=NewDestination,
        answer=Export,
        status=202,
        help="One that runs uses it from then on; one that failed or was cancelled is taken up again with it.",
        problems=("not_found", "export_ended", "destination_refused"),
        example={
            "destination": {"url": "https://account.blob.core.windows.net/exports", "sasToken": "sv=…&sig=…"}
        },
    ),
)
