# Made from the module of the same name in `aio` by `python -m outhaul.client.generate`; edit that one.
"""Exports: asked for, checked, looked up."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Unpack

from outhaul.client.asking import Asked, specified
from outhaul.client.moments import Moment, moment
from outhaul.client.requests import quoted
from outhaul.client.sync.task import ExportTask
from outhaul.rest import Check, Export, ExportList

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outhaul.client.sync.connection import Connection
    from outhaul.schema import Kind
    from outhaul.wire import TaskState


class Exports:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self, app: str, kind: Kind, *, idempotency_key: str | None = None, **asked: Unpack[Asked]
    ) -> ExportTask:
        """Ask for an export of an app, by its name or its id; `outhaul.client.Asked` says what can be given.

        It is safe to repeat: the same `idempotency_key` gives the same task. Without one, a new key is made for this
        call, which covers the repetitions that are made when an answer is lost.

        Raises:
            Conflict: the key was used for another request.
        """
        export = self._connection.tell(
            "POST",
            "/exports",
            Export,
            body=specified(app, kind, asked),
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
            repeat=True,
        )
        return ExportTask(self._connection, export)

    def check(self, app: str, kind: Kind, **asked: Unpack[Asked]) -> Check:
        """What would come of it, without doing it: step by step whether it would work, and how large it would be."""
        body = specified(app, kind, asked)
        return self._connection.tell("POST", "/exports:check", Check, body=body, repeat=True)

    def get(self, export_id: str) -> ExportTask:
        export = self._connection.get(f"/exports/{quoted(export_id)}", Export)
        return ExportTask(self._connection, export)

    def list(
        self,
        *,
        app: str | None = None,
        state: TaskState | None = None,
        kind: Kind | None = None,
        created_after: Moment | None = None,
        created_before: Moment | None = None,
    ) -> Iterator[ExportTask]:
        """Exports, newest first; pages are fetched as they are needed."""
        after = None if created_after is None else moment("created_after", created_after)
        before = None if created_before is None else moment("created_before", created_before)
        given = {"app": app, "state": state, "kind": kind, "createdAfter": after, "createdBefore": before}
        params: dict[str, str] = {name: value for name, value in given.items() if value is not None}
        while True:
            page = self._connection.get("/exports", ExportList, params)
            for export in page.exports:
                yield ExportTask(self._connection, export)
            if page.next_page_token is None:
                return
            params["pageToken"] = page.next_page_token
