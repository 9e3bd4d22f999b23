"""Erasures of people: asked for, worked on; their receipts stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from outhaul.errors import NotFound
from outhaul.ledger.store import Store, to_row, to_struct
from outhaul.ledger.tables import erasures, imports
from outhaul.wire import ENDED, Erasure, Failure

if TYPE_CHECKING:
    from outhaul.ledger.tasks import Cursor


class Erasures(Store):
    def create_erasure(self, asked: Erasure) -> Erasure:
        """Record an erasure; while one of the same subject waits to begin, that one."""
        same = sa.select(erasures).where(
            erasures.c.app_id == asked.app_id,
            erasures.c.subject_digest == asked.subject_digest,
            erasures.c.state == "queued",
        )
        with self._write() as connection:
            row = connection.execute(same).mappings().first()
            if row is None:
                connection.execute(sa.insert(erasures).values(to_row(asked)))
                return asked
            # It has not begun, so it can take along what was received since.
            later = {"mark": max(asked.mark, row["mark"])}
            connection.execute(sa.update(erasures).where(erasures.c.id == row["id"]).values(later))
            return _find(connection, row["id"])

    def erasure(self, erasure_id: str) -> Erasure:
        """One erasure.

        Raises:
            NotFound: there is none of that id.
        """
        with self._engine.connect() as connection:
            return _find(connection, erasure_id)

    def newest_erasures(
        self, app_id: str | None, digest: str | None, top: int, after: Cursor | None = None
    ) -> list[Erasure]:
        """The newest erasures of an app or of all, of one subject or of any, older than where a page ended."""
        statement = sa.select(erasures).order_by(erasures.c.created_at.desc(), erasures.c.id.desc())
        if app_id is not None:
            statement = statement.where(erasures.c.app_id == app_id)
        if digest is not None:
            statement = statement.where(erasures.c.subject_digest == digest)
        if after is not None:
            place = sa.tuple_(erasures.c.created_at, erasures.c.id)
            statement = statement.where(place < sa.tuple_(sa.literal(after.at), sa.literal(after.id)))
        return [to_struct(row, Erasure) for row in self._read(statement.limit(top))]

    def unfinished_erasures(self) -> list[Erasure]:
        """Erasures that have not ended, those that were begun first, then the oldest."""
        statement = sa.select(erasures).where(erasures.c.state.not_in(ENDED))
        ordered = statement.order_by(erasures.c.state != "started", erasures.c.created_at, erasures.c.id)
        return [to_struct(row, Erasure) for row in self._read(ordered)]

    def start_erasure(self, erasure_id: str, now: int) -> bool:
        """Say that an erasure is under way; False while an import of its app is.

        See `start_import`.
        """
        with self._write() as connection:
            found = _find(connection, erasure_id)
            under_way = sa.select(imports.c.id).where(
                imports.c.app_id == found.app_id, imports.c.state == "started"
            )
            if connection.execute(under_way).first() is not None:
                return False
            values = {"state": "started", "started_at": found.started_at or now}
            connection.execute(sa.update(erasures).where(erasures.c.id == erasure_id).values(values))
        return True

    def update_erasure(self, erasure_id: str, **changes: Any) -> None:
        """Change fields of an erasure."""
        values = {name: msgspec.to_builtins(value) for name, value in changes.items()}
        with self._write() as connection:
            connection.execute(sa.update(erasures).where(erasures.c.id == erasure_id).values(values))

    def end_erasure(self, erasure_id: str, now: int, failure: Failure | None = None) -> None:
        """Say that an erasure succeeded, or how it failed; of whom it was is forgotten in either case."""
        values: dict[str, Any] = {"state": "succeeded", "phase": "done", "completed_at": now}
        values |= {"subject": None, "found": None}
        if failure is not None:
            values |= {"state": "failed", "error": f"{failure.message} {failure.hint}".rstrip()}
            del values["phase"]
        self.update_erasure(erasure_id, **values)


def _find(connection: sa.Connection, erasure_id: str) -> Erasure:
    row = connection.execute(sa.select(erasures).where(erasures.c.id == erasure_id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no erasure {erasure_id[:80]!r}.", hint="List them to see which exist.")
    return to_struct(row, Erasure)
