"""Imports of tags: asked for, listed, looked at, stopped, taken up again. What is asked for is done elsewhere."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from outhaul import instants
from outhaul.api.exports import app_names, find_app
from outhaul.api.limits import check_import_quota
from outhaul.api.once import gives_replayed, read_key, same_request, takes_key
from outhaul.api.operations import PREFIX, Header, Operation, reply
from outhaul.api.paging import DEFAULT_SIZE, PageSize, PageToken, page_token, read_page_token
from outhaul.container import describe_source
from outhaul.errors import Invalid, NotFound, SourceError
from outhaul.ledger.tasks import Cursor
from outhaul.rest import (
    Attempt,
    ImportList,
    ImportProgress,
    ImportShown,
    ImportSpec,
    Name,
    NewSource,
    SourceShown,
    Trouble,
)
from outhaul.wire import Import, TaskState

if TYPE_CHECKING:
    from starlette.responses import Response

    from outhaul.api.operations import Call, Door
    from outhaul.wire import Source


class ImportsQuery(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Which imports a list holds; together, all must be so."""

    app: Annotated[Name, Meta(description="Of this app: its name or its `appId`.")] | None = None
    state: Annotated[TaskState, Meta(description="In this state.")] | None = None
    page_size: PageSize = DEFAULT_SIZE
    page_token: PageToken | None = None


async def create(call: Call) -> Response:
    """Ask for an import: 202 once it is recorded, and where to look how it is doing."""
    spec: ImportSpec = call.body
    door = call.door
    app = await find_app(call, spec.app)
    shown = await _admit(door, spec.source)
    key = read_key(call)
    if key is None or not await asyncio.to_thread(door.ledger.import_key_used, call.caller.actor, key):
        # What was asked for before is answered again even when nothing more may be asked for.
        await asyncio.to_thread(check_import_quota, door.ledger, call.caller, door.config, door.now())
    asked = Import(
        id=str(uuid.uuid4()),
        app_id=app.app_id,
        format=spec.format,
        source=door.keyring.seal(spec.source),
        source_shown=shown,
        description=spec.description,
        state="queued",
        created_at=door.now(),
        created_by=call.caller.actor,
        mark=await door.mark(),
        idempotency_key=key,
        idempotency_hash=same_request(call, spec) if key else None,
    )
    found = await asyncio.to_thread(door.ledger.create_import, asked)
    headers = {"Location": f"{call.base}/imports/{found.id}"}
    if found.id != asked.id:
        headers["Idempotency-Replayed"] = "true"
    else:
        await _audit(call, "import.create", found)
    return reply(_show(found, {app.app_id: app.name}), 202, headers)


async def list_imports(call: Call) -> Response:
    """A page of imports, newest first."""
    query: ImportsQuery = call.query
    door = call.door
    app_id = (await find_app(call, query.app)).app_id if query.app is not None else call.caller.app_id
    after = read_page_token(door.keyring, query.page_token, Cursor)
    found = await asyncio.to_thread(
        door.ledger.newest_imports, app_id, query.state, query.page_size + 1, after
    )
    page = found[: query.page_size]
    more = len(found) > len(page)
    names = await app_names(door)
    await door.access.audit(call.caller, "import.list", app_id or "", app_id, call.request_id)
    return reply(
        ImportList(
            imports=[_show(one, names) for one in page],
            next_page_token=page_token(door.keyring, Cursor(page[-1].created_at, page[-1].id))
            if more
            else None,
        )
    )


async def get(call: Call) -> Response:
    """One import as it is now."""
    found = await _find(call)
    await _audit(call, "import.read", found)
    return reply(await _shown(call, found))


async def cancel(call: Call) -> Response:
    """Have an import stopped."""
    asked = await _find(call)
    found = await asyncio.to_thread(call.door.ledger.cancel_import, asked.id, call.door.now())
    await _audit(call, "import.cancel", found)
    return reply(await _shown(call, found), 202)


async def retry(call: Call) -> Response:
    """Have an import that failed or was cancelled taken up again, with new credentials if there are some."""
    new: NewSource = call.body
    door = call.door
    asked = await _find(call)
    sealed = None
    if new.source is not None:
        if await _admit(door, new.source) != asked.source_shown:
            raise Invalid(
                "source: it is another file than the import was asked for.",
                hint=f"Give new credentials for {asked.source_shown}, or ask for a new import.",
            )
        sealed = door.keyring.seal(new.source)
    found = await asyncio.to_thread(door.ledger.retry_import, asked.id, sealed)
    await _audit(call, "import.retry", found)
    return reply(await _shown(call, found), 202)


async def _find(call: Call) -> Import:
    """The import that the path names, if the caller may know of it."""
    asked = call.names["id"]
    missing = NotFound(
        f"There is no import {asked[:80]!r}.",
        hint=f"`outhaul imports list` or GET {PREFIX}/imports lists them.",
    )
    try:
        found = await asyncio.to_thread(call.door.ledger.find_import, asked.lower())
    except NotFound:
        raise missing from None
    if call.caller.app_id not in {None, found.app_id}:
        raise missing
    return found


async def _admit(door: Door, source: Source) -> str:
    """Let a source pass; what of it may be shown."""
    try:
        # It may look a name up, which can take its time.
        await asyncio.get_running_loop().run_in_executor(door.patient, door.sources.check, source)
        return describe_source(source)
    except (Invalid, SourceError) as error:
        named = error.message.startswith("source.")
        message = error.message if named else f"source: {error.message}"
        raise type(error)(message, hint=error.hint, code=error.code) from None


async def _audit(call: Call, action: str, found: Import) -> None:
    await call.door.access.audit(call.caller, action, found.id, found.app_id, call.request_id)


async def _shown(call: Call, found: Import) -> ImportShown:
    return _show(found, await app_names(call.door))


def _show(found: Import, app_names: dict[str, str]) -> ImportShown:
    return ImportShown(
        id=found.id,
        app=app_names.get(found.app_id, found.app_id),
        app_id=found.app_id,
        state=found.state,
        cancelling=found.cancelling,
        description=found.description,
        format=found.format,
        source=SourceShown(found.source_shown),
        created_at=instants.show(found.created_at),
        created_by=found.created_by,
        started_at=_instant(found.started_at),
        completed_at=_instant(found.completed_at),
        attempt=found.attempt,
        progress=_progress(found),
        rejected=found.rejected,
        problems=found.problems,
        error=_trouble(found),
        attempts=[
            Attempt(one.attempt, instants.show(one.at), Trouble(one.code, one.message, one.hint))
            for one in found.failures
        ],
    )


def _progress(found: Import) -> ImportProgress:
    share = min(found.bytes_done / found.bytes_total, 0.999) if found.bytes_total else 0.0
    return ImportProgress(
        percent=round(100 * (1.0 if found.state == "succeeded" else share), 1),
        bytes_done=found.bytes_done,
        bytes_total=found.bytes_total,
        lines_done=found.lines_done,
        lines_applied=found.lines_applied,
        lines_rejected=sum(found.rejected.values()),
        tags_set=found.tags_set,
    )


def _trouble(found: Import) -> Trouble | None:
    if found.error is None or not found.failures:
        return None
    last = found.failures[-1]
    return Trouble(last.code, last.message, last.hint)


def _instant(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else instants.show(milliseconds)


_LOCATION = Header("Location", "Where the import can be looked at.", {"type": "string", "format": "uri"})
SOURCE_EXAMPLE = {
    "url": "https://account.blob.core.windows.net/imports/tags.csv",
    "sasToken": "sv=…&sp=r&sig=…",
}
OPERATIONS = (
    Operation(
        "POST",
        "/imports",
        "createImport",
        "Import a file of tags",
        create,
        "data:write",
        body=ImportSpec,
        answer=ImportShown,
        status=202,
        help=(
            "It is recorded, not done, when this answers. Devices that had sent something before are known to it. A line "
            "that cannot be applied is counted and explained; the others are applied, each once."
        ),
        problems=("app_not_found", "conflict", "idempotency_key_used", "source_refused", "busy"),
        takes=(takes_key("import"),),
        gives=(_LOCATION, gives_replayed("import")),
        example={"app": "Shop", "source": SOURCE_EXAMPLE, "format": "csv"},
    ),
    Operation(
        "GET",
        "/imports",
        "listImports",
        "List imports, newest first",
        list_imports,
        "data:read",
        query=ImportsQuery,
        answer=ImportList,
        problems=("app_not_found", "conflict"),
    ),
    Operation(
        "GET",
        "/imports/{id}",
        "getImport",
        "Look at an import",
        get,
        "data:read",
        answer=ImportShown,
        problems=("not_found",),
    ),
    Operation(
        "POST",
        "/imports/{id}:cancel",
        "cancelImport",
        "Stop an import",
        cancel,
        "data:write",
        answer=ImportShown,
        status=202,
        help="As soon as it notices; until then it is `cancelling`. What was applied stays applied.",
        problems=("not_found", "import_ended"),
    ),
    Operation(
        "POST",
        "/imports/{id}:retry",
        "retryImport",
        "Take up again an import that failed or was cancelled",
        retry,
        "data:write",
        body=NewSource,
        body_optional=True,
        answer=ImportShown,
        status=202,
        help="It goes on where it stopped, with the credentials given before unless there are new ones for the same file.",
        problems=("not_found", "import_not_ended", "source_forgotten", "source_refused"),
        example={"source": SOURCE_EXAMPLE},
    ),
)
