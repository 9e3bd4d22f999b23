"""Imports: asked for, worked on, stopped, taken up again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from outhaul.errors import Conflict, NotFound
from outhaul.ledger.store import Store, to_row, to_struct
from outhaul.ledger.tables import erasures, imports
from outhaul.wire import ENDED, Due, Failure, Import, TaskState

if TYPE_CHECKING:
    from outhaul.ledger.tasks import Cursor


class Imports(Store):
    def create_import(self, asked: Import) -> Import:
        """Record an import; asked again with the same idempotency key, the one that is there.

        Raises:
            Conflict: the key was used for another import.
        """
        with self._write() as connection:
            if asked.idempotency_key is not None:
                same = sa.select(imports).where(
                    imports.c.created_by == asked.created_by,
                    imports.c.idempotency_key == asked.idempotency_key,
                )
                row = connection.execute(same).mappings().first()
                if row is not None and row["idempotency_hash"] != asked.idempotency_hash:
                    raise Conflict(
                        f"The idempotency key was used for another import, {row['id']}.",
                        hint="Use a new key for each new request.",
                        code="idempotency_key_used",
                    )
                if row is not None:
                    return to_struct(row, Import)
            connection.execute(sa.insert(imports).values(to_row(asked)))
        return asked

    def import_key_used(self, created_by: str, key: str) -> bool:
        """Whether somebody has asked for an import with this idempotency key."""
        same = sa.select(imports.c.id).where(
            imports.c.created_by == created_by, imports.c.idempotency_key == key
        )
        return bool(self._read(same))

    def count_unfinished_imports(self, created_by: str) -> int:
        """How many imports that somebody asked for have not ended."""
        count = sa.select(sa.func.count().label("count")).select_from(imports)
        mine = count.where(imports.c.created_by == created_by, imports.c.state.not_in(ENDED))
        return int(self._read(mine)[0]["count"])

    def import_time(self, created_by: str, since: int, number: int) -> int | None:
        """When the import so many from somebody's newest (1 is the newest) was asked for; None if not since that time."""
        times = sa.select(imports.c.created_at).where(
            imports.c.created_by == created_by, imports.c.created_at >= since
        )
        rows = self._read(times.order_by(imports.c.created_at.desc()).offset(number - 1).limit(1))
        return int(rows[0]["created_at"]) if rows else None

    def find_import(self, import_id: str) -> Import:
        """One import.

        Raises:
            NotFound: there is none of that id.
        """
        with self._engine.connect() as connection:
            return _find(connection, import_id)

    def imports(
        self, app_id: str, *, order: str = "id", descending: bool = False, skip: int = 0, top: int
    ) -> list[Import]:
        """Imports of an app, sorted by one of their fields and then by id."""
        column = imports.c[order]
        statement = sa.select(imports).where(imports.c.app_id == app_id).offset(skip).limit(top)
        ordered = statement.order_by(column.desc() if descending else column.asc(), imports.c.id)
        return [to_struct(row, Import) for row in self._read(ordered)]

    def newest_imports(
        self, app_id: str | None, state: TaskState | None, top: int, after: Cursor | None = None
    ) -> list[Import]:
        """The newest imports of an app or of all, in a state or in any, that are older than where a page ended."""
        statement = sa.select(imports).order_by(imports.c.created_at.desc(), imports.c.id.desc()).limit(top)
        if app_id is not None:
            statement = statement.where(imports.c.app_id == app_id)
        if state is not None:
            statement = statement.where(imports.c.state == state)
        if after is not None:
            place = sa.tuple_(imports.c.created_at, imports.c.id)
            statement = statement.where(place < sa.tuple_(sa.literal(after.at), sa.literal(after.id)))
        return [to_struct(row, Import) for row in self._read(statement)]

    def unfinished_imports(self) -> list[Due]:
        """Imports that have not ended, oldest first."""
        statement = sa.select(imports.c.id, imports.c.app_id, imports.c.attempt)
        unfinished = statement.where(imports.c.state.not_in(ENDED)).order_by(imports.c.created_at)
        return [Due(**row) for row in self._read(unfinished)]

    def start_import(self, import_id: str, attempt: int, now: int) -> bool:
        """Say that an attempt is under way; False while somebody is being removed from its app's tables.

        What an import finds out about devices must not come from before an erasure and be used after it.
        """
        with self._write() as connection:
            found = _find(connection, import_id)
            under_way = sa.select(erasures.c.id).where(
                erasures.c.app_id == found.app_id,
                erasures.c.state == "started",
                # By then the tables know nothing of them any more.
                erasures.c.phase != "deleting",
            )
            if connection.execute(under_way).first() is not None:
                return False
            if found.attempt == attempt and found.state not in ENDED:
                connection.execute(
                    sa.update(imports)
                    .where(imports.c.id == import_id)
                    .values(state="started", started_at=found.started_at or now)
                )
        return True

    def update_import(self, import_id: str, attempt: int, **changes: Any) -> bool:
        """Change fields of an import that has not ended; whether this attempt at it is still wanted."""
        values = {name: msgspec.to_builtins(value) for name, value in changes.items()}
        with self._write() as connection:
            found = _find(connection, import_id)
            if found.attempt != attempt or found.state in ENDED:
                return False
            if values:
                connection.execute(sa.update(imports).where(imports.c.id == import_id).values(values))
        return not found.cancelling

    def succeed_import(self, import_id: str, now: int) -> None:
        """Say that an import succeeded; where it came from is forgotten."""
        with self._write() as connection:
            if _find(connection, import_id).state in ENDED:
                return
            values = {"state": "succeeded", "completed_at": now, "source": None, "cancelling": False}
            connection.execute(sa.update(imports).where(imports.c.id == import_id).values(values))

    def end_import(self, import_id: str, state: TaskState, failure: Failure) -> None:
        """Say that an import ended without success, and how; what has ended, or was taken up again, stays as it is."""
        with self._write() as connection:
            found = _find(connection, import_id)
            if found.state in ENDED or found.attempt != failure.attempt:
                return
            values = {
                "state": state,
                "completed_at": failure.at,
                "error": f"{failure.message} {failure.hint}".rstrip(),
                "failures": msgspec.to_builtins([*found.failures, failure]),
                "cancelling": False,
            }
            connection.execute(sa.update(imports).where(imports.c.id == import_id).values(values))

    def cancel_import(self, import_id: str, now: int) -> Import:
        """Have an import stopped: at once while it is queued, else as soon as whoever works on it notices.

        What was applied stays applied.

        Raises:
            NotFound: there is none of that id.
            Conflict: it has ended otherwise.
        """
        with self._write() as connection:
            found = _find(connection, import_id)
            if found.state in {"succeeded", "failed"}:
                raise Conflict(
                    f"The import has {found.state} already.",
                    hint="There is nothing left to stop.",
                    code="import_ended",
                )
            if found.state == "queued":
                changes: dict[str, Any] = {"state": "cancelled", "completed_at": now, "cancelling": False}
            else:
                changes = {"cancelling": found.state == "started"}
            connection.execute(sa.update(imports).where(imports.c.id == import_id).values(changes))
            return _find(connection, import_id)

    def retry_import(self, import_id: str, source: str | None = None) -> Import:
        """Have an import that failed or was cancelled taken up again, where it stopped; with new credentials, if given.

        Raises:
            NotFound: there is none of that id.
            Conflict: it has not ended, or has succeeded, or where it comes from is no longer kept.
        """
        with self._write() as connection:
            found = _find(connection, import_id)
            if found.state not in {"failed", "cancelled"}:
                raise Conflict(
                    f"Only an import that failed or was cancelled can be retried; the state of this one is {found.state}.",
                    hint="Ask for a new one, or wait until it has ended.",
                    code="import_not_ended",
                )
            if source is None and found.source is None:
                raise Conflict(
                    "Where the import comes from is no longer kept.",
                    hint="Give its source again with the retry.",
                    code="source_forgotten",
                )
            changes: dict[str, Any] = {
                "state": "queued",
                "attempt": found.attempt + 1,
                "error": None,
                "completed_at": None,
                "cancelling": False,
                "source": source or found.source,
            }
            connection.execute(sa.update(imports).where(imports.c.id == import_id).values(changes))
            return _find(connection, import_id)

    def forget_sources(self, before: int) -> None:
        """Let go of where imports came from that ended without success before a time."""
        old = sa.and_(
            imports.c.state.in_(("failed", "cancelled")),
            imports.c.completed_at < before,
            imports.c.source.is_not(None),
        )
        with self._write() as connection:
            connection.execute(sa.update(imports).where(old).values(source=None))


def _find(connection: sa.Connection, import_id: str) -> Import:
    row = connection.execute(sa.select(imports).where(imports.c.id == import_id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no import {import_id[:80]!r}.", hint="List them to see which exist.")
    return to_struct(row, Import)
