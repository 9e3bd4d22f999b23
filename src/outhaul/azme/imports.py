"""The import operations: ask for one, look at one, list them. What they ask for is done elsewhere."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from outhaul import instants
from outhaul.azme.bodies import read_shape
from outhaul.azme.paging import API_VERSION, next_link, read_page
from outhaul.azme.reply import Reply, json_reply
from outhaul.azme.resources import app_path
from outhaul.azme.shapes import ImportTask, ImportTaskListResult, ImportTaskResult
from outhaul.container import describe_source
from outhaul.errors import Invalid, NotFound, SourceRefused
from outhaul.wire import Import, Source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from outhaul.azme.call import Call
    from outhaul.azme.resources import Resources
    from outhaul.container import Sources
    from outhaul.keys import Keyring
    from outhaul.ledger.ledger import Ledger

_ORDERS = {
    "jobId": "id",
    "errorDetails": "error",
    "dateCreated": "created_at",
    "dateCompleted": "completed_at",
    "jobStatus": "state",
}
_STATES = {"cancelled": "Failed"}
"""How the old API says what it has no word for."""


class Imports:
    """`mark` closes what the journal holds and gives the position that an import has to wait for."""

    def __init__(
        self,
        resources: Resources,
        ledger: Ledger,
        keyring: Keyring,
        sources: Sources,
        mark: Callable[[], Awaitable[int]],
        now: Callable[[], int],
    ) -> None:
        self._resources = resources
        self._ledger = ledger
        self._keyring = keyring
        self._sources = sources
        self._mark = mark
        self._now = now

    async def create(self, call: Call) -> Reply:
        """Ask for an import: 202, and where to look how it is doing."""
        app = await self._resources.find_app(call.names)
        content_type = call.request.headers.get("content-type", "")
        body = read_shape(await call.request.body(), content_type, ImportTask)
        source = Source(url=body.storage_url)
        asked = Import(
            id=str(uuid.uuid4()),
            app_id=app.app_id,
            format="auto",
            source_shown=await self._admit(source),
            source=self._keyring.seal(source),
            state="queued",
            created_at=self._now(),
            created_by=call.actor,
            mark=await self._mark(),
        )
        await asyncio.to_thread(self._ledger.create_import, asked)
        await call.record("import.create", asked.id, app.app_id)
        path = f"{app_path(app, call.installation)}/devices/importTasks/{asked.id}"
        location = f"{call.request.base}{path}?api-version={API_VERSION}"
        return json_reply(202, _result(asked), location=location)

    async def get(self, call: Call) -> Reply:
        app = await self._resources.find_app(call.names)
        # Another app's import is not said to exist.
        missing = NotFound(
            f"There is no import task {call.names['task'][:80]!r}.", hint="List them to see which exist."
        )
        try:
            found = await asyncio.to_thread(self._ledger.find_import, call.names["task"].lower())
        except NotFound:
            raise missing from None
        if found.app_id != app.app_id:
            raise missing
        await call.record("import.read", found.id, app.app_id)
        return json_reply(200, _result(found))

    async def list(self, call: Call) -> Reply:
        app = await self._resources.find_app(call.names)
        page = read_page(call.request.query, tuple(_ORDERS))
        found = await asyncio.to_thread(
            self._ledger.imports,
            app.app_id,
            order=_ORDERS[page.order],
            descending=page.descending,
            skip=page.skip,
            top=page.top + 1,
        )
        await call.record("import.list", app.app_id, app.app_id)
        path = f"{app_path(app, call.installation)}/devices/importTasks"
        link = next_link(call.request.base, path, page) if len(found) > page.top else None
        shown = [_result(one) for one in found[: page.top]]
        return json_reply(200, ImportTaskListResult(value=shown, next_link=link))

    async def _admit(self, source: Source) -> str:
        """Let a source pass; what of it may be shown."""
        try:
            await asyncio.to_thread(self._sources.check, source)
            return describe_source(source)
        except (Invalid, SourceRefused) as error:
            raise type(error)(f"storageUrl: {error.message}", hint=error.hint) from None


def _result(found: Import) -> ImportTaskResult:
    return ImportTaskResult(
        id=found.id,
        state=_STATES.get(found.state, found.state.capitalize()),
        storage_url=found.source_shown,
        date_created=instants.show(found.created_at),
        date_completed=None if found.completed_at is None else instants.show(found.completed_at),
        error_details=_details(found),
    )


def _details(found: Import) -> str | None:
    """Why it failed; or, of one that succeeded, what was wrong with the lines that were passed over."""
    if found.state == "cancelled":
        return "The import was cancelled. What was applied stays applied."
    if found.state != "succeeded" or not found.rejected:
        return found.error
    rejected = sorted(found.rejected.items(), key=lambda item: -item[1])
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in rejected)
    bad = sum(found.rejected.values())
    summary = f"{bad:,} of {bad + found.lines_applied:,} lines were not applied: {reasons}."
    if found.problems:
        first = found.problems[0]
        summary += f" First: line {first.line:,}, {first.reason}: {first.detail}"
    return summary
