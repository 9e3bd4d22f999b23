"""What the ledger itself says of somebody who is erased: in requests, descriptions and addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from outhaul.ledger.store import Store, to_struct
from outhaul.ledger.tables import erasures, imports, tasks
from outhaul.wire import ENDED, ExportRequest, Import, Pin, Task, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PAGE = 200
_PATIENCE_MS = 100
_UNPINNED: dict[str, Any] = {
    "pin": None,
    "files": None,
    "phase": "waiting",
    "rows_planned": None,
    "rows_done": 0,
    "bytes_done": 0,
    "bytes_delivered": 0,
    "parts_done": 0,
    "parts_delivered": 0,
}


class Asked(Struct, frozen=True, rename="camel"):
    """An export that was asked for, and what it reads or read, if that was chosen."""

    id: str
    state: TaskState
    created_at: int
    destination_shown: str
    idempotency_key: str | None
    request: ExportRequest
    pin: Pin | None


class Forgetting(Store):
    def asked_exports(self, app_id: str, *, unfinished: bool = False) -> list[Asked]:
        """The exports of an app, oldest first; only those that have not ended, if asked."""
        columns = [tasks.c[name] for name in Asked.__struct_fields__]
        mine = sa.select(*columns).where(tasks.c.app_id == app_id)
        if unfinished:
            mine = mine.where(tasks.c.state.not_in(ENDED))
        return [to_struct(row, Asked) for row in self._read(mine.order_by(tasks.c.created_at, tasks.c.id))]

    def unpin_tasks(self, app_id: str, below: dict[str, int]) -> list[str]:
        """Have exports that ended without success begin anew if they read older versions of tables.

        Returns:
            The ids of those under way that read such. In the same transaction: nobody takes one up, or fails, unnoticed.
        """
        pinned = sa.select(tasks.c.id, tasks.c.pin, tasks.c.state).where(
            tasks.c.app_id == app_id, tasks.c.state != "succeeded", tasks.c.pin != sa.JSON.NULL
        )
        reading = []
        with self._write() as connection:
            for row in connection.execute(pinned).all():
                if row.pin is None or not is_older(row.pin["versions"], below):
                    continue
                if row.state in ENDED:
                    connection.execute(sa.update(tasks).where(tasks.c.id == row.id).values(_UNPINNED))
                else:
                    reading.append(row.id)
        return reading

    def expire_downloads(self, erasure_id: str, ids: Iterable[str], now: int) -> None:
        """Say that the files that are kept of exports are kept until now, and count them in an erasure's receipt."""
        receipt = erasures.c.receipt
        with self._write() as connection:
            count = sum(
                connection.execute(
                    sa.update(tasks)
                    .where(tasks.c.id == task_id, tasks.c.expires_at > now)
                    .values(expires_at=now)
                ).rowcount
                for task_id in ids
            )
            if count:
                mine = erasures.c.id == erasure_id
                given = dict(connection.execute(sa.select(receipt).where(mine)).scalar_one())
                given["downloads"] = given.get("downloads", 0) + count
                connection.execute(sa.update(erasures).where(mine).values(receipt=given))

    def reword_tasks(self, app_id: str, reword: Callable[[Task], dict[str, Any]]) -> None:
        """Change fields of an app's export tasks, as `reword` says for each."""
        self._reword(tasks, app_id, lambda row: reword(to_struct(row, Task)))

    def reword_imports(self, app_id: str, reword: Callable[[Import], dict[str, Any]]) -> None:
        """Change fields of an app's imports, as `reword` says for each."""
        self._reword(imports, app_id, lambda row: reword(to_struct(row, Import)))

    def _reword(self, table: sa.Table, app_id: str, reword: Callable[[Any], dict[str, Any]]) -> None:
        last = ""
        page = (
            sa.select(table)
            .where(table.c.app_id == app_id, table.c.id > sa.bindparam("last"))
            .order_by(table.c.id)
            .limit(_PAGE)
        )
        while True:
            # A page at a time: nobody else can write meanwhile.
            with self._write() as connection:
                rows = list(connection.execute(page, {"last": last}).mappings())
                for row in rows:
                    if changes := reword(row):
                        values = {name: msgspec.to_builtins(value) for name, value in changes.items()}
                        connection.execute(sa.update(table).where(table.c.id == row["id"]).values(values))
            if not rows:
                return
            last = rows[-1]["id"]

    def drop_log(self) -> bool:
        """Move what was written into the database and empty its log, where old pages are; whether nobody was in the way."""
        with self._engine.connect() as connection:
            # Whoever asks has other things to do than to wait for readers.
            patience = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
            try:
                busy, *_ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience}")
        return not busy


def is_older(versions: dict[str, int], than: dict[str, int]) -> bool:
    """Whether any table's version is."""
    return any(version < than.get(name, 0) for name, version in versions.items())
