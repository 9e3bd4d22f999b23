"""Erasures: a person's records go out of every table, what landing knows, kept files and requests, and at last off the disk.

An erasure works through the phases of its ledger entry. Each may be repeated after a crash: what was found out is in the
entry before anything is done that would make it impossible to find out again, and what tables lost is counted in the
commits that took it from them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from outhaul import journal
from outhaul.errors import Invalid
from outhaul.ledger.forgetting import is_older
from outhaul.maintain.compaction import readers
from outhaul.maintain.engine import scan
from outhaul.maintain.traces import Traces
from outhaul.schema import TABLES
from outhaul.sql import instant, named, quoted
from outhaul.subjects import Person, rows_of
from outhaul.tables import Devices, Removed
from outhaul.wire import Erasure, ExportTold, Filter, Receipt, Subject, TableErased

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from outhaul.keys import Keyring
    from outhaul.ledger.forgetting import Asked
    from outhaul.ledger.ledger import Ledger
    from outhaul.maintain.engine import Engine
    from outhaul.maintain.neighbours import Counting, Landing
    from outhaul.tables import StoredFile
    from outhaul.wire import ExportRequest, Pin

_ENDS = {"activity_end": "activity", "job_end": "job"}
# Whose these are is said by the tags of their device at the time.
_MOVED = ("device", "token", "feedback", "tag")
# Compressed requests that could not be read, as text: nobody can tell whose they are.
_UNREADABLE = r"regexp_matches(raw, '^(\x1f\\x8b|\(\\xb5/\\xfd|x(\x01|\^|\\x9c|\\xda))')"


class Found(Struct, frozen=True):
    """What an erasure found out and must still know after a crash; sealed in its ledger entry.

    `versions` are those of the tables that it is removed from, `removed` what had been removed from them until then,
    `clean` the first versions without them. `told` and `counted` say that the receipt has what earlier exports held and
    what files are to be deleted: that cannot be seen any more once it is done.
    """

    user_id: str | None
    devices: tuple[str, ...]
    versions: dict[str, int]
    removed: dict[str, Removed]
    clean: dict[str, int] = {}
    told: bool = False
    counted: bool = False

    @property
    def person(self) -> Person:
        return Person(self.user_id, self.devices)


class Eraser:
    """Works on the erasures of a data folder, each a series of small steps."""

    def __init__(
        self,
        data: Path,
        ledger: Ledger,
        keyring: Keyring,
        engine: Engine,
        count: Counting,
        now: Callable[[], int],
    ) -> None:
        self._data = data
        self._journal = data / "journal"
        self._ledger = ledger
        self._keyring = keyring
        self._engine = engine
        self._tables = engine.tables
        self._count = count
        self._now = now

    def steps(self, erasure_id: str, landing: Landing) -> Iterator[bool]:
        """Carry out what is left of an erasure: True after something was done, False where it has to wait.

        Raises:
            TooLarge: the user has more devices than a person has.
            Invalid: the ledger's entry was sealed with another key.
        """
        phases = {
            "waiting": self._wait,
            "finding": self._find,
            "removing": self._remove,
            "forgetting": self._forget,
            "deleting": self._delete,
        }
        while (phase := self._ledger.erasure(erasure_id).phase) != "done":
            yield from phases[phase](erasure_id, landing)

    def _found(self, erasure: Erasure) -> Found:
        if erasure.found is None:
            raise ValueError(f"erasure {erasure.id} has found nobody yet")
        return self._keyring.unseal(erasure.found, Found)

    def _note(self, erasure: Erasure, found: Found | None = None, **changes: Any) -> None:
        """Change the ledger's entry, and the one at hand."""
        if found is not None:
            changes["found"] = self._keyring.seal(found)
        self._ledger.update_erasure(erasure.id, **changes)
        for name, value in changes.items():
            setattr(erasure, name, value)

    # Phases

    def _wait(self, erasure_id: str, landing: Landing) -> Iterator[bool]:
        """Until everything received before has landed, also what imports made that have just ended."""
        while landing.position < self._ledger.erasure(erasure_id).mark:
            yield False
        while not self._ledger.start_erasure(erasure_id, self._now()):
            yield False
        while journal.offered(self._journal):
            yield False
        mark = max((one.number + 1 for one in journal.segments(self._journal, landing.position)), default=0)
        while landing.position < mark:
            yield False
        self._ledger.update_erasure(erasure_id, phase="finding")
        yield True

    def _find(self, erasure_id: str, landing: Landing) -> Iterator[bool]:
        """Find their devices, and have landing forget them before it learns anything new."""
        erasure = self._ledger.erasure(erasure_id)
        app_id = erasure.app_id
        self._engine.in_hand += 1
        if erasure.found is None:
            found = self._look(erasure)
            known = landing.remembered(app_id, found.devices, found.user_id)
            devices = Devices(self._tables).get(app_id, found.versions, found.devices)
            self._note(erasure, found, receipt=Receipt(devices=len(devices), remembered=known))
        found = self._found(erasure)
        landing.forget(app_id, found.devices, found.user_id)
        self._note(erasure, phase="removing")
        yield True

    def _look(self, erasure: Erasure) -> Found:
        if erasure.subject is None:
            raise Invalid("Of whom the erasure was is no longer kept.", hint="Ask for it again.")
        subject = self._keyring.unseal(erasure.subject, Subject)
        versions = self._tables.newest(erasure.app_id)
        devices: tuple[str, ...]
        if subject.user_id is None:
            devices = (subject.device_id or "",)
        else:
            theirs = Devices(self._tables).of_user(erasure.app_id, versions, subject.user_id)
            devices = tuple(sorted(device.device_id for device in theirs))
        removed = {name: self._tables.removed(erasure.app_id, name) for name in versions}
        return Found(subject.user_id, devices, versions, removed)

    def _remove(self, erasure_id: str, landing: Landing) -> Iterator[bool]:
        """Write every file again that has records of theirs; then nobody reads these any more, but who has pinned them."""
        erasure = self._ledger.erasure(erasure_id)
        app_id, found = erasure.app_id, self._found(erasure)
        if not found.clean:
            for name in sorted(found.versions):
                yield from self._remove_from(erasure, found, name)
            clean = {name: self._tables.checkpoint(app_id, name) for name in self._tables.newest(app_id)}
            self._note(erasure, msgspec.structs.replace(found, clean=clean))
        landing.adopt(app_id)
        receipt = msgspec.structs.replace(erasure.receipt, removed_at=self._now())
        self._note(erasure, receipt=receipt, phase="forgetting")
        yield True

    def _remove_from(self, erasure: Erasure, found: Found, name: str) -> Iterator[bool]:
        """Remove them from one table: from what it held when they were looked for, not from what came since."""
        app_id = erasure.app_id
        condition = yield from self._condition(app_id, found, name)
        now = {file.path for file in self._tables.files(app_id, name)}
        files = [
            file
            for file in self._tables.files(app_id, name, found.versions[name])
            # The others were written again before a crash.
            if file.path in now
        ]
        # Nobody else may remove anything from them meanwhile.
        yield from self._engine.remove(app_id, name, files, condition, lambda: None)
        before, after = found.removed[name], self._tables.removed(app_id, name)
        if after != before:
            version = self._tables.newest(app_id)[name]
            rows, count = after.rows - before.rows, after.files - before.files
            done = TableErased(name, rows, count, found.versions[name], version)
            tables = [*(one for one in erasure.receipt.tables if one.table != name), done]
            self._note(erasure, receipt=msgspec.structs.replace(erasure.receipt, tables=tables))

    def _condition(self, app_id: str, found: Found, name: str) -> Generator[bool, None, str]:
        """What is to be removed from a table."""
        theirs = rows_of(found.person, name)
        if name == "reject":
            theirs = f"{theirs} OR {_UNREADABLE}"
        if name in _ENDS and found.user_id is not None:
            # An end does not say whose it is, but what it ends does: on a device that is somebody else's now.
            begun = _ENDS[name]
            version = found.versions.get(begun)
            files = [] if version is None else self._tables.files(app_id, begun, version)
            if files:
                key = f'"deviceId", "{begun}Id"'
                # Erasures of other apps may be under way.
                table = named(f"begun_{app_id}")
                begin = (
                    f"CREATE OR REPLACE TABLE {table} AS SELECT {key} FROM {scan(files)} "
                    f'WHERE "userId" = {quoted(found.user_id)}'
                )
                yield from self._engine.aside(lambda db: db.execute(begin))
                theirs = f"{theirs} OR ({key}) IN (SELECT ({key}) FROM {table})"
        return f"({theirs})"

    def _forget(self, erasure_id: str, _landing: Landing) -> Iterator[bool]:
        """Say which earlier exports held them; then remove what else is left of them outside of the tables."""
        erasure = self._ledger.erasure(erasure_id)
        found = self._found(erasure)
        if not found.told:
            exports: list[ExportTold] = []
            yield from self._earlier(erasure.app_id, found, exports)
            self._engine.renew()
            found = msgspec.structs.replace(found, told=True)
            receipt = msgspec.structs.replace(
                erasure.receipt, exports=exports, journal_files=len(journal.damaged(self._journal))
            )
            self._note(erasure, found, receipt=receipt)
        for path in journal.damaged(self._journal):
            path.unlink(missing_ok=True)
        yield from self._clear(erasure, found)
        self._note(erasure, phase="deleting")
        yield True

    def _clear(self, erasure: Erasure, found: Found) -> Iterator[bool]:
        """Remove them from kept files, and from requests, of exports that are not under way."""
        theirs = Traces(self._data, self._ledger, erasure.app_id, found.person)
        told = [one.id for one in erasure.receipt.exports]
        theirs.clear_downloads(erasure.id, told, self._now())
        erasure.receipt = self._ledger.erasure(erasure.id).receipt
        yield True
        self._ledger.unpin_tasks(erasure.app_id, found.clean)
        theirs.clear_spools()
        yield True
        theirs.reword()
        yield True

    def _earlier(self, app_id: str, found: Found, told: list[ExportTold]) -> Iterator[bool]:
        """Add the exports that read versions with records of theirs, and how many of them they have."""
        older = [
            (asked, asked.pin)
            for asked in self._ledger.asked_exports(app_id)
            if asked.pin is not None and is_older(asked.pin.versions, found.clean)
        ]
        if not older:
            return
        for name in TABLES:
            yield from self._gather(app_id, found, name)
        moved = yield from self._gather_moved(app_id, found)
        shown = Traces(self._data, self._ledger, app_id, found.person).shown
        for asked, pin in older:
            tables = {name: _arrived(app_id, name, pin) for name in TABLES}
            rows = 0
            if moved and asked.request.kind in _MOVED:
                once = {name: _arrived(app_id, f"{name}_moved", pin) for name in _MOVED}
                only = _only(asked.request, found.user_id)
                rows = self._count(self._engine.db, only, pin, {**tables, **once})
                others = f"""SELECT "deviceId" FROM {_mine(app_id, "tag_moved")}"""
                tables["tag"] = f"""(SELECT * FROM {tables["tag"]} WHERE "deviceId" NOT IN ({others}))"""
            rows += self._count(self._engine.db, asked.request, pin, tables)
            if rows:
                # What was pinned while they were being removed has some of these rows, or none any more.
                known = None if is_older(found.versions, pin.versions) else rows
                told.append(_told(asked, shown(asked.destination_shown), known))
            yield True

    def _gather(self, app_id: str, found: Found, name: str) -> Iterator[bool]:
        """Make a table of their rows of a stored one."""
        files: list[StoredFile] = []
        if name in found.versions:
            # Since then, only files that held any were removed.
            now = {file.path for file in self._tables.files(app_id, name)}
            before = self._tables.files(app_id, name, found.versions[name])
            files = [file for file in before if file.path not in now]
        rows = "SELECT * FROM " + (scan(files) if files else _nothing(name))
        theirs = (
            f"CREATE OR REPLACE TABLE {_mine(app_id, name)} AS {rows} WHERE {rows_of(found.person, name)}"
        )
        yield from self._engine.aside(lambda db: db.execute(theirs))

    def _gather_moved(self, app_id: str, found: Found) -> Generator[bool, None, bool]:
        """Make tables of devices that were the user's once, for exports named the user then; whether there are any."""
        if found.user_id is None:
            return False
        once = (
            f"""SELECT "deviceId" FROM {_mine(app_id, "tag")} """
            f"WHERE key = 'userid' AND value = {quoted(found.user_id)}"
        )
        devices = {row[0] for row in self._engine.db.execute(once).fetchall()} - set(found.devices)
        if not devices:
            return False
        moved = f'"deviceId" IN ({", ".join(map(quoted, sorted(devices)))})'
        for name in _MOVED:
            files = self._tables.files(app_id, name)
            rows = "SELECT * FROM " + (scan(files) if files else _nothing(name))
            theirs = (
                f"CREATE OR REPLACE TABLE {_mine(app_id, f'{name}_moved')} AS SELECT * FROM ({rows} "
                f"UNION ALL BY NAME SELECT * FROM {_mine(app_id, name)}) WHERE {moved}"
            )
            yield from self._engine.aside(partial(_execute, theirs))
        return True

    def _delete(self, erasure_id: str, _landing: Landing) -> Iterator[bool]:
        """Once nobody reads the old files any more, delete them, and what the tables' logs say of them."""
        erasure = self._ledger.erasure(erasure_id)
        app_id, found = erasure.app_id, self._found(erasure)
        clear = False
        while (waiting := self._waiting_for(erasure, found)) or not clear:
            if waiting and waiting != erasure.receipt.waiting_for:
                receipt = msgspec.structs.replace(erasure.receipt, waiting_for=waiting)
                self._note(erasure, receipt=receipt)
            clear = not waiting
            if waiting:
                yield False
            else:
                # Again: of exports that have ended meanwhile. One of them may be taken up while that is done.
                yield from self._clear(erasure, found)
        while self._engine.uncommitted:
            yield False
        stale = self._stale(app_id, found)
        if not found.counted:
            found = msgspec.structs.replace(found, counted=True)
            receipt = msgspec.structs.replace(
                erasure.receipt,
                waiting_for=[],
                files_deleted=len(stale),
                bytes_deleted=sum(path.stat().st_size for path in stale),
            )
            self._note(erasure, found, receipt=receipt)
        for path in stale:
            path.unlink()
        yield True
        for name, version in found.clean.items():
            self._tables.trim(app_id, name, version)
        while not self._ledger.drop_log():
            yield False
        receipt = msgspec.structs.replace(erasure.receipt, deleted_at=self._now())
        self._note(erasure, receipt=receipt)
        self._ledger.end_erasure(erasure_id, self._now())
        yield True

    def _waiting_for(self, erasure: Erasure, found: Found) -> list[str]:
        """Exports under way that read the old files, or that name them in what they were asked for with."""
        reading = self._ledger.unpin_tasks(erasure.app_id, found.clean)
        theirs = Traces(self._data, self._ledger, erasure.app_id, found.person)
        naming = [
            asked.id
            for asked in self._ledger.asked_exports(erasure.app_id, unfinished=True)
            if asked.created_at <= (erasure.receipt.removed_at or 0) and theirs.are_in(asked)
        ]
        return [*reading, *(one for one in naming if one not in reading)]

    def _stale(self, app_id: str, found: Found) -> list[Path]:
        """Every file of the app's tables that neither the newest versions read nor anybody else."""
        reading = readers(self._ledger, app_id)
        for version in (self._tables.newest(app_id), *self._in_hand(app_id)):
            for name, number in version.items():
                reading[name].append(number)
        return [path for name in found.clean for path in self._tables.stale(app_id, name, reading[name])]

    def _in_hand(self, app_id: str) -> Iterator[dict[str, int]]:
        """What other erasures remove from, and look at once more to tell which exports had it: none of it is this one's."""
        for other in self._ledger.unfinished_erasures():
            if other.app_id == app_id and other.found is not None and other.phase != "deleting":
                yield self._found(other).versions


def _mine(app_id: str, name: str) -> str:
    """A table of what is theirs; erasures of other apps may be under way."""
    return named(f"mine_{app_id}_{name}")


def _execute(statement: str, db: DuckDBPyConnection) -> None:
    db.execute(statement)


def _arrived(app_id: str, name: str, pin: Pin) -> str:
    """What of it had arrived when it was pinned; nothing that came later is in an export."""
    return f'(SELECT * FROM {_mine(app_id, name)} WHERE "receivedAt" <= {instant(pin.at)})'


def _only(request: ExportRequest, user_id: str | None) -> ExportRequest:
    """The same export, of what it names as a user's."""
    theirs = Filter(column="userId", eq=user_id)
    both = theirs if request.where is None else Filter(all_of=[request.where, theirs])
    return msgspec.structs.replace(request, where=both)


def _nothing(name: str) -> str:
    columns = ", ".join(f'NULL::{_SQL[column.type]} AS "{column.name}"' for column in TABLES[name].columns)
    return f"(SELECT {columns} WHERE false)"


_SQL = {
    "string": "VARCHAR",
    "json": "VARCHAR",
    "time": "TIMESTAMPTZ",
    "duration": "BIGINT",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
}


def _told(asked: Asked, shown: str, rows: int | None) -> ExportTold:
    return ExportTold(asked.id, asked.request.kind, asked.created_at, shown, rows)
