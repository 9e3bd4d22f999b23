"""The steps of an export task. Each may be repeated after a crash and comes to the same result.

`pin` chooses the state to read, `write` makes the file on our disk, `deliver` puts it into the container, `prove`
writes the manifest and says that the task succeeded. A file is never delivered unless its rows are those planned.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb
import msgspec

from outhaul.errors import Damaged, ExportMismatch, OuthaulError
from outhaul.export.plan import Source
from outhaul.export.render import rendered
from outhaul.export.spool import Spool
from outhaul.formats import Writing, writing
from outhaul.schema import EXPORT_TYPES, EXPORTS
from outhaul.wire import ColumnEntry, Failure, FileEntry, Manifest, Pin, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from outhaul.config import Config
    from outhaul.container import Container, Destinations
    from outhaul.keys import Keyring
    from outhaul.ledger.ledger import Ledger

log = logging.getLogger(__name__)

_REPORT_S = 0.5
_POLL_S = 0.05
MANIFEST_VERSION = 1


class Exporter:
    """Carries out export tasks of one data folder, several at a time on as many threads."""

    steps: tuple[str, ...] = ("pin", "write", "deliver", "prove")
    """The steps of a task, in order; each is a method that takes the task's id."""

    def __init__(
        self,
        data: Path,
        ledger: Ledger,
        config: Config,
        keyring: Keyring,
        destinations: Destinations,
        now: Callable[[], int],
    ) -> None:
        self._tables = data / "tables"
        self._spools = data / "exports"
        self._ledger = ledger
        self._config = config
        self._keyring = keyring
        self._destinations = destinations
        self._now = now
        # The engine makes its own folder to spill into, but not what that is in.
        self._spools.mkdir(parents=True, exist_ok=True)
        self._db = duckdb.connect(config=config.engine(config.memory_limit, self._spools / "spill"))
        self._db.execute("SET TimeZone = 'UTC'")

    def pin(self, task_id: str, attempt: int) -> None:
        """Wait until everything acknowledged before the task was created has landed, then choose what to read."""
        task = self._ledger.task(task_id)
        if task.pin is not None:
            return
        while (checkpoint := self._ledger.checkpoint()).position < task.mark:
            time.sleep(_POLL_S)
        pin = Pin(
            versions=checkpoint.versions.get(task.app_id, {}),
            at=self._now(),
            slice_rows=self._config.slice_rows,
            time_format=self._config.time_format,
        )
        self._ledger.update_task(task_id, state="started", pin=pin)

    def write(self, task_id: str, attempt: int) -> None:
        """Make the file on our disk, or the rest of it.

        Raises:
            ExportMismatch: a slice has other rows than were counted: the tables changed under a pinned version.
            Damaged: a file of the tables is gone, or cannot be read.
        """
        task = self._ledger.task(task_id)
        if task.files is None:
            with _reading():
                self._write(task)

    def _write(self, task: Task) -> None:
        form = self._writing(task)
        source, db = self._source(task), self._db.cursor()
        source.select_campaigns(db)
        slices = source.slices(db, _pinned(task).slice_rows)
        planned = sum(part.rows for part in slices)
        self._ledger.update_task(task.id, rows_planned=planned)
        order = ", ".join(f'"{name}"' for name in EXPORTS[task.request.kind].order)
        with Spool(self._path(task, form)) as spool:
            if not spool.mark.bytes:
                spool.write(form.head)
            report = _Progress(self._ledger, task.id, spool)
            rows = spool.rows
            todo = slices[spool.mark.slices :]
            queries = [
                f"SELECT {form.line} FROM (SELECT * FROM {source.rows(part)} ORDER BY {order})"
                for part in todo
            ]
            for index, lines in enumerate(rendered(db, queries)):
                before = rows
                for text, count in lines:
                    spool.write(text[form.trim :] if rows == 0 else text)
                    rows += count
                    report.at(rows)
                if rows - before != todo[index].rows:
                    raise ExportMismatch(
                        f"A part of the export has {rows - before} rows where {todo[index].rows} were counted.",
                        hint="Check the disk that holds the data folder; the task can then be asked for again.",
                    )
                if spool.bytes - spool.mark.bytes >= self._config.mark_bytes:
                    spool.set_mark(len(slices) - len(todo) + index + 1, rows)
            spool.write(form.tail)
            entry = FileEntry(self._name(task, form), rows, spool.bytes, spool.sha256(), form.content_type)
            spool.sync()
        self._ledger.update_task(task.id, files=[entry], rows_done=rows, bytes_done=entry.bytes)

    def deliver(self, task_id: str, attempt: int) -> None:
        """Put the file into the asker's container.

        Raises:
            DestinationError: the container does not take it; only `DestinationUnreachable` is worth repeating.
        """
        task = self._ledger.task(task_id)
        entry = _written(task)
        self._container(task).put_file(entry.name, self._folder(task) / entry.name, entry.content_type)

    def prove(self, task_id: str, attempt: int) -> None:
        """Write the manifest, last of all, and say that the task succeeded."""
        task = self._ledger.task(task_id)
        if task.state == "succeeded":
            # Killed between saying so and being believed; the destination is forgotten already.
            return
        manifest = msgspec.json.format(msgspec.json.encode(self._manifest(task)), indent=2) + b"\n"
        name = f"{EXPORT_TYPES[task.request.kind]}_{task.id}.manifest.json"
        self._container(task).put_bytes(name, manifest, "application/json")
        self._ledger.update_task(task_id, state="succeeded", completed_at=self._now())
        self._clear(task)

    def fail(self, task_id: str, attempt: int, error: Exception) -> None:
        """Say that the task failed, and why, in words for the one who asked."""
        told = (
            error
            if isinstance(error, OuthaulError)
            else OuthaulError("An internal error.", hint="The server's log says more.")
        )
        failure = Failure(
            attempt=attempt, at=self._now(), code=told.code, message=told.message, hint=told.hint
        )
        self._ledger.end_task(task_id, "failed", failure)
        self._clear(self._ledger.task(task_id))

    def sweep(self) -> None:
        """Remove what tasks that have ended left on our disk, and what the engine spilled before a crash."""
        kept = {task.id for task in self._ledger.unfinished_tasks()}
        for folder in self._spools.iterdir() if self._spools.is_dir() else ():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _clear(self, task: Task) -> None:
        shutil.rmtree(self._folder(task), ignore_errors=True)

    def _folder(self, task: Task) -> Path:
        return self._spools / task.id

    def _writing(self, task: Task) -> Writing:
        return writing(task.request.format, EXPORTS[task.request.kind].columns, _pinned(task).time_format)

    def _name(self, task: Task, form: Writing) -> str:
        return f"{EXPORT_TYPES[task.request.kind]}_{task.id}.{form.extension}"

    def _path(self, task: Task, form: Writing) -> Path:
        return self._folder(task) / self._name(task, form)

    def _source(self, task: Task) -> Source:
        return Source(self._tables, task.app_id, task.request, _pinned(task), self._config)

    def _container(self, task: Task) -> Container:
        url = self._keyring.unseal(task.destination or "")
        return self._destinations.open(url, timeout_s=self._config.delivery_timeout_s)

    def _manifest(self, task: Task) -> Manifest:
        pin, entry = _pinned(task), _written(task)
        export = EXPORTS[task.request.kind]
        period = task.request.period
        return Manifest(
            manifest_version=MANIFEST_VERSION,
            task_id=task.id,
            app_id=task.app_id,
            export_type=EXPORT_TYPES[task.request.kind],
            format=task.request.format,
            compression=task.request.compression,
            where=task.request.where,
            mask=task.request.mask,
            time_format=pin.time_format,
            schema=[ColumnEntry(c.name, c.type, not c.required) for c in export.columns],
            period={"start": _rfc3339(period.start), "end": _rfc3339(period.end)} if period else None,
            campaigns=task.request.campaigns,
            table_versions=pin.versions,
            pinned_at=_rfc3339(pin.at),
            rows=task.rows_planned or 0,
            bytes=entry.bytes,
            files=[entry],
        )


class _Progress:
    """Writes how far a task is into the ledger, now and then."""

    def __init__(self, ledger: Ledger, task_id: str, spool: Spool) -> None:
        self._ledger = ledger
        self._task_id = task_id
        self._spool = spool
        self._next = 0.0

    def at(self, rows: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _REPORT_S
            self._ledger.update_task(self._task_id, rows_done=rows, bytes_done=self._spool.bytes)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Say in our words that stored data cannot be read: the engine's own name paths, which the asker need not know."""
    try:
        yield
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        log.exception("an export cannot read its tables")
        raise Damaged(
            "Stored data cannot be read back, so nothing was delivered.",
            hint="The server's log says which file; check the disk that holds the data folder.",
        ) from error


def _pinned(task: Task) -> Pin:
    if task.pin is None:
        raise ValueError(f"task {task.id} is not pinned")
    return task.pin


def _written(task: Task) -> FileEntry:
    if not task.files:
        raise ValueError(f"task {task.id} has no file")
    return task.files[0]


def _rfc3339(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(min(milliseconds, 253_402_300_799_999) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
