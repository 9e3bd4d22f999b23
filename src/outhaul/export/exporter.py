"""The steps of an export task. Each may be repeated after a crash and comes to the same result.

`pin` chooses the state to read, `write` makes the files on our disk, `deliver` puts them into the container, `prove`
writes the manifest and says that the task succeeded. Nothing is delivered unless its rows are those planned.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import time
from typing import TYPE_CHECKING

import duckdb
import msgspec

from outhaul.errors import (
    Cancelled,
    Damaged,
    DestinationError,
    ExportMismatch,
    Invalid,
    NotFound,
    OuthaulError,
)
from outhaul.export.compress import codec
from outhaul.export.parquet import ParquetFile, arrow_schema
from outhaul.export.parts import File, Growing, Parts
from outhaul.export.person import Records
from outhaul.export.plan import Source
from outhaul.export.render import rendered
from outhaul.export.text import TextFile
from outhaul.formats import manifest_name, writing
from outhaul.instants import show
from outhaul.schema import EXPORT_TYPES
from outhaul.selection import columns, projection
from outhaul.tables import Devices, Tables
from outhaul.wire import DOWNLOAD, ENDED, ColumnEntry, Destination, Failure, FileEntry, Manifest, Pin, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pyarrow import RecordBatch

    from outhaul.config import Config
    from outhaul.container import Container, Destinations
    from outhaul.export.slices import Slice, Sliced
    from outhaul.keys import Keyring
    from outhaul.ledger.ledger import Ledger
    from outhaul.wire import Orders

log = logging.getLogger(__name__)

_REPORT_S = 0.5
_POLL_S = 0.05
_HOUR_MS = 3_600_000
MANIFEST_VERSION = 1


class Exporter:
    """Carries out export tasks of one data folder, several at a time on as many threads.

    A step does nothing for an attempt that is over: the task has ended meanwhile, or was taken up again.

    Raises (each step):
        Cancelled: somebody asked for the task to be stopped.
    """

    steps: tuple[str, ...] = ("pin", "write", "deliver", "prove")
    """The steps of a task, in order; each is a method that takes the task's id and the number of the attempt."""

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
        self._users = Devices(Tables(self._tables))
        self._spools = data / "exports"
        self._downloads = data / "downloads"
        self._ledger = ledger
        self._config = config
        self._keyring = keyring
        self._destinations = destinations
        self._now = now
        # The engine makes its own folder to spill into, but not what that is in.
        self._spools.mkdir(parents=True, exist_ok=True)
        self._db = duckdb.connect(config=config.engine(config.memory_limit, self._spools / "spill"))
        # GLOBAL, for every step and slice has a cursor of its own, which would be in the host's time zone.
        self._db.execute("SET GLOBAL TimeZone = 'UTC'")

    def pin(self, task_id: str, attempt: int) -> None:
        """Wait until everything acknowledged before the task was created has landed, then choose what to read."""
        task = self._task(task_id, attempt)
        if task is None:
            return
        while self._ledger.checkpoint().position < task.mark:
            self._heed(task_id, attempt)
            time.sleep(_POLL_S)
        if task.pin is None:
            # What was made of another state, before somebody was erased from it, is no beginning of this one.
            self._clear(task_id)
            shutil.rmtree(self._downloads / task_id, ignore_errors=True)
        request = task.request
        tag_types = {one.key: one.type for one in self._ledger.tags(task.app_id)}
        # Once to have looked: what is asked again while the ledger waits is then known, but for what came meanwhile.
        with contextlib.suppress(FileNotFoundError):
            self._devices(task, self._ledger.checkpoint().versions.get(task.app_id, {}))

        def choose(versions: dict[str, int]) -> Pin:
            return Pin(
                versions=versions,
                at=self._now(),
                slice_rows=self._config.slice_rows,
                time_format=request.time_format or self._config.time_format,
                session_idle_s=self._config.session_idle_s,
                session_timeout_s=self._config.session_timeout_s,
                tag_types=tag_types if request.kind in {"tag", "history"} else {},
                devices=self._devices(task, versions),
            )

        self._ledger.start_task(task_id, attempt, choose, self._now())

    def _devices(self, task: Task, versions: dict[str, int]) -> list[str]:
        """The devices of the user that an export is of, if it is of one."""
        user_id = task.request.of.user_id if task.request.of else None
        if user_id is None:
            return []
        return sorted(one.device_id for one in self._users.of_user(task.app_id, versions, user_id))

    def write(self, task_id: str, attempt: int) -> None:
        """Make the files on our disk, or the rest of them.

        Raises:
            ExportMismatch: a slice has other rows than were counted: the tables changed under a pinned version.
            Damaged: a file of the tables is gone, or cannot be read.
        """
        task = self._task(task_id, attempt)
        if task is None or (task.files is not None and self._are_written(task)):
            return
        with _reading():
            self._write(task)

    def _write(self, task: Task) -> None:
        source, db = self._source(task), self._db.cursor()
        source.look(db)
        slices = source.slices(db, _pinned(task).slice_rows)
        planned = sum(part.rows for part in slices)
        self._ledger.update_task(task.id, rows_planned=planned, phase="writing")
        folder = self._folder(task.id)
        growable = task.request.format != "parquet"
        with Parts(folder, task.request, task.id, self._make(task), can_grow=growable) as parts:
            todo, skip = _rest(slices, parts.rows)
            queries = [self._query(task, source, part) for part in todo]
            with contextlib.closing(rendered(db, queries)) as results:
                report = _Report(lambda: self._told(task, parts))
                try:
                    for part, batches in zip(todo, results, strict=True):
                        self._write_slice(parts, part, batches, skip, report)
                        parts.mark(self._config.mark_bytes)
                        skip = 0
                except Cancelled:
                    parts.mark(0)
                    raise
            files = parts.finish()
            self._told(task, parts)
        changes: dict[str, int] = {}
        if task.files not in (None, files):
            # Another version made the files that were delivered: these would not be what the manifest says.
            changes = {"parts_delivered": 0, "bytes_delivered": 0}
        self._ledger.update_task(task.id, files=files, phase="delivering", **changes)

    def _write_slice(
        self, parts: Parts, part: Slice, batches: Iterator[RecordBatch], skip: int, report: _Report
    ) -> None:
        """Write the rows of a slice, but for the first `skip`, which the files have already."""
        count = 0
        for batch in batches:
            rest = batch.slice(max(0, skip - count))
            count += batch.num_rows
            if rest.num_rows:
                parts.add(rest, part.day)
            report.now_and_then()
        if count != part.rows:
            raise ExportMismatch(
                f"A part of the export has {count} rows where {part.rows} were counted.",
                hint="Check the disk that holds the data folder; the task can then be asked for again.",
            )

    def _source(self, task: Task) -> Sliced:
        request, pin = task.request, _pinned(task)
        if request.of is None:
            return Source(self._tables, task.app_id, request, pin)
        return Records(self._tables, task.app_id, request, pin, self._keyring.derive(f"mask/{task.app_id}"))

    def _query(self, task: Task, source: Sliced, part: Slice) -> str:
        request = task.request
        key = self._keyring.derive(f"mask/{task.app_id}")
        rows = f"SELECT {projection(request, key)} FROM {source.in_order(part)}"
        if request.format == "parquet":
            return rows
        form = writing(request.format, columns(request), _pinned(task).time_format)
        return f"SELECT {form.line} FROM ({rows})"

    def _make(self, task: Task) -> Callable[[Path, Growing | None], File]:
        request = task.request
        limit = request.max_file_bytes
        if request.format == "parquet":
            schema = arrow_schema(columns(request))
            return lambda path, _: ParquetFile(path, schema, request.compression, limit)
        form = writing(request.format, columns(request), _pinned(task).time_format)
        compression = codec(request.compression)
        return lambda path, growing: TextFile(path, form, compression, limit, growing)

    def _told(self, task: Task, parts: Parts) -> None:
        self._heed(task.id, task.attempt)
        self._ledger.update_task(task.id, rows_done=parts.rows, bytes_done=parts.size, parts_done=parts.done)

    def deliver(self, task_id: str, attempt: int) -> None:
        """Put the files into the asker's container, those that are not there yet.

        Raises:
            DestinationError: the container does not take it; only `DestinationUnreachable` is worth repeating.
        """
        while (task := self._task(task_id, attempt)) and task.parts_delivered < len(_written(task)):
            self._deliver(task)

    def _deliver(self, task: Task) -> None:
        """Put files where the task goes now, until all are there or it is to go elsewhere."""
        files, done = _written(task), task.parts_delivered
        before = sum(entry.bytes for entry in files[:done])
        report = _Report(lambda: None)

        def told(sent: int) -> None:
            self._heed(task.id, task.attempt)
            self._ledger.report_delivered(task.id, task.destination_shown, done, before + sent)

        def progress(sent: int) -> None:
            report.tell = lambda: told(sent)
            report.now_and_then()

        try:
            container = self._container(task)
            for entry in files[done:]:
                orders = self._orders(task.id, task.attempt)
                if orders is None or orders.destination != task.destination:
                    return
                path = self._folder(task.id) / entry.name
                container.put_file(entry.name, path, entry.content_type, progress)
                done, before = done + 1, before + entry.bytes
        except DestinationError:
            if not self._is_moved(task):
                raise
        finally:
            self._ledger.report_delivered(task.id, task.destination_shown, done, before)

    def _is_moved(self, task: Task) -> bool:
        """Whether a new destination, or new credentials, came while the old ones were being refused."""
        return self._ledger.orders(task.id).destination != task.destination

    def prove(self, task_id: str, attempt: int) -> None:
        """Write the manifest, last of all, and say that the task succeeded."""
        # A task that is moved at the very end is proven where it was moved to.
        while (task := self._task(task_id, attempt)) is not None:
            if task.parts_delivered < len(_written(task)):
                self.deliver(task_id, attempt)
                continue
            manifest = msgspec.json.format(msgspec.json.encode(self._manifest(task)), indent=2) + b"\n"
            digest = hashlib.sha256(manifest).hexdigest()
            name = manifest_name(task.request.kind, task.id)
            entry = FileEntry(name, 0, len(manifest), digest, "application/json")
            try:
                self._container(task).put_bytes(name, manifest, entry.content_type)
            except DestinationError:
                if not self._is_moved(task):
                    raise
                continue
            now = self._now()
            kept = task.destination_shown == DOWNLOAD
            self._ledger.succeed_task(
                task_id,
                task.destination_shown,
                now,
                expires_at=now + self._config.download_hours * _HOUR_MS if kept else None,
                manifest=entry,
            )
        if self._ledger.task(task_id).state == "succeeded":
            self._clear(task_id)

    def fail(self, task_id: str, attempt: int, error: Exception) -> None:
        """Say that the task ended without success, and why, in words for the one who asked."""
        told = (
            error
            if isinstance(error, OuthaulError)
            else OuthaulError("An internal error.", hint="The server's log says more.", code="internal")
        )
        failure = Failure(
            attempt=attempt, at=self._now(), code=told.code, message=told.message, hint=told.hint
        )
        self._ledger.end_task(task_id, "cancelled" if isinstance(error, Cancelled) else "failed", failure)

    def sweep(self) -> None:
        """Remove from our disk what belongs to tasks that are over, and files whose time to be fetched is."""
        self._ledger.forget_destinations(self._now() - self._config.keep_failed_hours * _HOUR_MS)
        for folder in self._spools.iterdir():
            if folder.name != "spill" and self._is_over(folder.name):
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self._downloads.iterdir() if self._downloads.is_dir() else ():
            if self._is_expired(folder.name):
                shutil.rmtree(folder, ignore_errors=True)

    def clear_spill(self) -> None:
        """Remove what the engine spilled before a crash; for when nothing runs yet."""
        shutil.rmtree(self._spools / "spill", ignore_errors=True)

    def _is_over(self, task_id: str) -> bool:
        try:
            task = self._ledger.task(task_id)
        except NotFound:
            return True
        return task.state in ENDED and task.destination is None

    def _is_expired(self, task_id: str) -> bool:
        try:
            task = self._ledger.task(task_id)
        except NotFound:
            return True
        if task.state == "succeeded":
            return task.expires_at is None or task.expires_at <= self._now()
        return self._is_over(task_id)

    def _task(self, task_id: str, attempt: int) -> Task | None:
        """The task, if this attempt at it is still to be worked on."""
        return self._ledger.task(task_id) if self._orders(task_id, attempt) else None

    def _orders(self, task_id: str, attempt: int) -> Orders | None:
        """How the task stands, if this attempt at it is still to be worked on."""
        orders = self._ledger.orders(task_id)
        if orders.attempt != attempt or orders.state in ENDED:
            return None
        if orders.cancelling:
            raise Cancelled("The export was cancelled.")
        return orders

    def _heed(self, task_id: str, attempt: int) -> None:
        if self._orders(task_id, attempt) is None:
            raise Cancelled("The export was cancelled.")

    def _clear(self, task_id: str) -> None:
        shutil.rmtree(self._folder(task_id), ignore_errors=True)

    def _folder(self, task_id: str) -> Path:
        return self._spools / task_id

    def _are_written(self, task: Task) -> bool:
        folder = self._folder(task.id)
        return all((folder / entry.name).is_file() for entry in _written(task)[task.parts_delivered :])

    def _destination(self, task: Task) -> Destination:
        if task.destination is None:
            raise Invalid("The export's destination is no longer kept.", hint="Set it again.")
        return self._keyring.unseal(task.destination, Destination)

    def _container(self, task: Task) -> Container:
        return self._destinations.open(
            self._destination(task),
            timeout_s=self._config.delivery_timeout_s,
            refresh=lambda: self._destination(self._ledger.task(task.id)),
            task_id=task.id,
        )

    def _manifest(self, task: Task) -> Manifest:
        pin, files, request = _pinned(task), _written(task), task.request
        period = request.period
        return Manifest(
            manifest_version=MANIFEST_VERSION,
            task_id=task.id,
            app_id=task.app_id,
            export_type=EXPORT_TYPES[request.kind],
            format=request.format,
            compression=request.compression,
            time_format=pin.time_format,
            schema=[ColumnEntry(c.name, c.type, not c.required) for c in columns(request)],
            period={"start": show(period.start), "end": show(period.end), "by": period.by}
            if period
            else None,
            campaigns=request.campaigns,
            of=request.of,
            where=request.where,
            mask=request.mask,
            table_versions=pin.versions,
            pinned_at=show(pin.at),
            rows=task.rows_planned or 0,
            bytes=sum(entry.bytes for entry in files),
            files=files,
        )


class _Report:
    """Tells how far a task is, now and then."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell = tell
        self._next = 0.0

    def now_and_then(self) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _REPORT_S
            self.tell()


def _rest(slices: list[Slice], rows: int) -> tuple[list[Slice], int]:
    """The slices that are not wholly among the first `rows` rows, and how many rows of the first of them are."""
    for index, part in enumerate(slices):
        if rows < part.rows:
            return slices[index:], rows
        rows -= part.rows
    return [], 0


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


def _written(task: Task) -> list[FileEntry]:
    if task.files is None:
        raise ValueError(f"task {task.id} has no files")
    return task.files
