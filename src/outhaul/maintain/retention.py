"""Retention: records that are older than their app keeps them go out of the tables.

Of tables that have a partition per day whole days go, and nothing is written again; of the others, rows. A pinned export
still reads what it read; the files go when no kept version reads them any more.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from outhaul.ledger.access import AuditEntry
from outhaul.maintain.engine import scan
from outhaul.sql import instant

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator

    from outhaul.ledger.ledger import Ledger
    from outhaul.maintain.engine import Engine
    from outhaul.maintain.neighbours import Landing
    from outhaul.tables import StoredFile
    from outhaul.wire import RetainedKind

log = logging.getLogger(__name__)

_TABLES: dict[RetainedKind, tuple[str, ...]] = {
    "activity": ("activity", "activity_end"),
    "event": ("event",),
    "job": ("job", "job_end"),
    "error": ("error",),
    "crash": ("crash",),
    "session": ("session",),
    "feedback": ("feedback",),
    # Devices last: they tell whose the others are.
    "device": ("user", "token", "tag", "device"),
    "reject": ("reject",),
}
DEVICES = 100_000
"""Devices that are removed at a time."""


class _InHandError(Exception):
    """An erasure has an app's files in hand now: which these are is no longer as it was."""


class Retainer:
    """Applies what is set for the apps of a data folder, in small steps.

    `busy` says whether an erasure has an app's files in hand.
    """

    def __init__(
        self, ledger: Ledger, engine: Engine, busy: Callable[[str], bool], now: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._tables = engine.tables
        self._busy = busy
        self._now = now
        self._since = 0

    def steps(
        self, landing: Landing, only: Collection[str] | None = None
    ) -> Generator[bool, None, list[str]]:
        """Apply it once, to some apps or to all; apps that an erasure had in hand, to which it was not applied."""
        today = datetime.fromtimestamp(self._now() / 1000, UTC).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        left = []
        for app_id, kept in self._ledger.retention().items():
            if only is not None and app_id not in only:
                continue
            self._since = self._engine.in_hand
            try:
                for kind, days in kept.items():
                    self._check(app_id)
                    yield from self._apply(landing, app_id, kind, today - timedelta(days=days))
            except _InHandError:
                log.info("retention of app %s comes after an erasure", app_id)
                left.append(app_id)
                continue
            # Also what was removed before a crash.
            if self._ledger.checkpoint().versions.get(app_id, {}) != self._tables.newest(app_id):
                landing.adopt(app_id)
        return left

    def _apply(self, landing: Landing, app_id: str, kind: RetainedKind, since: datetime) -> Iterator[bool]:
        """Remove what is of before a UTC day."""
        before = self._rows(app_id, kind)
        if kind == "device":
            yield from self._drop_devices(landing, app_id, since)
        elif kind == "feedback":
            files = self._tables.files(app_id, kind)
            yield from self._drop_rows(app_id, kind, files, f'"timestamp" < {_literal(since)}')
        else:
            for name in _TABLES[kind]:
                yield from self._drop_days(app_id, name, f"{since:%Y-%m-%d}")
        rows = self._rows(app_id, kind) - before
        if rows:
            log.info("retention: %d rows of kind %s of app %s are kept no longer", rows, kind, app_id)
            entry = AuditEntry(
                id=0, at=self._now(), actor="server", action="retention.apply", target=kind, app_id=app_id
            )
            self._ledger.record([entry])

    def _rows(self, app_id: str, kind: RetainedKind) -> int:
        """The rows that were ever removed from a kind's tables."""
        return sum(self._tables.removed(app_id, name).rows for name in _TABLES[kind])

    def _drop_days(self, app_id: str, name: str, before: str) -> Iterator[bool]:
        old = [file for file in self._tables.files(app_id, name) if (file.day or before) < before]
        self._check(app_id)
        if old:
            self._tables.remove(app_id, name, old, [], self._now())
            yield True

    def _drop_devices(self, landing: Landing, app_id: str, since: datetime) -> Iterator[bool]:
        """Remove devices not seen since, with everything that is said of them alone; landing forgets them as well."""
        while files := self._tables.files(app_id, "device"):
            self._engine.db.execute(
                f'CREATE OR REPLACE TABLE gone AS SELECT "deviceId" FROM {scan(files)} GROUP BY "deviceId" '
                f'HAVING max("lastSeen") < {_literal(since)} ORDER BY "deviceId" LIMIT {DEVICES}'
            )
            gone: list[Any] = self._engine.db.execute("FROM gone").fetchall()
            if not gone:
                return
            self._check(app_id)
            # Before they are gone from the tables: nobody would find them a second time.
            landing.forget(app_id, [row[0] for row in gone], None)
            versions = self._tables.newest(app_id)
            for name in _TABLES["device"]:
                if name in versions:
                    held = self._tables.files(app_id, name, versions[name])
                    yield from self._drop_rows(
                        app_id, name, held, '"deviceId" IN (SELECT "deviceId" FROM gone)'
                    )

    def _drop_rows(self, app_id: str, name: str, files: list[StoredFile], condition: str) -> Iterator[bool]:
        yield from self._engine.remove(app_id, name, files, condition, lambda: self._check(app_id))

    def _check(self, app_id: str) -> None:
        if self._busy(app_id) or self._engine.in_hand != self._since:
            raise _InHandError


def _literal(moment: datetime) -> str:
    return instant(round(moment.timestamp() * 1000))
