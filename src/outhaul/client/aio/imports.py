"""Imports of tags: asked for, looked up, steered, waited for."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from outhaul.client.aio.running import until_ended
from outhaul.client.importing import check_success, source_of
from outhaul.client.requests import quoted
from outhaul.errors import TimedOut
from outhaul.rest import ImportList, ImportShown, ImportSpec, NewSource
from outhaul.wire import ENDED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from outhaul.client.aio.connection import Connection
    from outhaul.wire import ImportFormat, Source, TaskState


class Imports:
    """Files of tags, which the server reads from where they are and applies to devices."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self,
        app: str,
        source: str | Source,
        *,
        format: ImportFormat = "auto",  # noqa: A002  as the wire has it
        description: str | None = None,
        idempotency_key: str | None = None,
    ) -> ImportShown:
        """Ask for an import into an app, by its name or its id; it is recorded, not done, when this returns.

        `source` is the URL of one file, or a `Source` with the credentials to read it.

        It is safe to repeat: the same `idempotency_key` gives the same import. Without one, a new key is made for this
        call, which covers the repetitions that are made when an answer is lost.

        Raises:
            Invalid: the source is no URL.
            SourceRefused: the operator does not allow imports from there.
            Conflict: the key was used for another request.
        """
        body = ImportSpec(app=app, source=source_of(source), format=format, description=description)
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return await self._connection.tell(
            "POST", "/imports", ImportShown, body=body, headers=headers, repeat=True
        )

    async def get(self, import_id: str) -> ImportShown:
        """One import as it is now."""
        return await self._connection.get(f"/imports/{quoted(import_id)}", ImportShown)

    async def list(
        self, *, app: str | None = None, state: TaskState | None = None
    ) -> AsyncIterator[ImportShown]:
        """Imports, newest first; pages are fetched as they are needed."""
        given = {"app": app, "state": state}
        params: dict[str, str] = {name: value for name, value in given.items() if value is not None}
        while True:
            page = await self._connection.get("/imports", ImportList, params)
            for one in page.imports:
                yield one
            if page.next_page_token is None:
                return
            params["pageToken"] = page.next_page_token

    async def cancel(self, import_id: str) -> ImportShown:
        """Ask for it to be stopped; it is once its state says `cancelled`. What was applied stays applied."""
        path = f"/imports/{quoted(import_id)}:cancel"
        return await self._connection.tell("POST", path, ImportShown, repeat=True)

    async def retry(self, import_id: str, source: str | Source | None = None) -> ImportShown:
        """Take it up again where it stopped, after it failed or was cancelled.

        `source` gives new credentials for the same file.
        """
        body = NewSource(source=None if source is None else source_of(source))
        path = f"/imports/{quoted(import_id)}:retry"
        return await self._connection.tell("POST", path, ImportShown, body=body, repeat=False)

    async def wait(
        self,
        import_id: str,
        timeout_s: float | None = None,
        on_progress: Callable[[ImportShown], object] | None = None,
        *,
        poll_s: float = 1.0,
    ) -> ImportShown:
        """Look every `poll_s` until it has succeeded; `on_progress` is called at once and on every change.

        Raises:
            ImportFailed: it failed, with the code, the message and the hint of its failure.
            Cancelled: it was cancelled.
            TimedOut: it has not ended after `timeout_s`; it goes on.
        """
        found = await until_ended(lambda: self.get(import_id), timeout_s, on_progress, poll_s)
        if found.state not in ENDED:
            raise TimedOut(
                f"The import {found.id} is {found.state} after {timeout_s:g} s.",
                hint="It goes on; wait for it again, or cancel it.",
            )
        check_success(found)
        return found
