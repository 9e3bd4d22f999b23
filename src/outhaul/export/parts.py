"""The files of an export, one after another, on our own disk, with a mark of how far they are durable.

Where one file ends and the next begins depends on the rows alone, so that a task taken up after a crash makes the same
files. After a crash rows up to the mark are there; the rest is written again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

import msgspec
from msgspec import Struct

from outhaul.durable import sync
from outhaul.formats import content_type, file_name
from outhaul.wire import FileEntry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    import pyarrow as pa

    from outhaul.wire import ExportRequest

_DONE = "done.jsonl"
_MARK = "mark.json"


class CannotContinueError(Exception):
    """A file that was begun is not what this version would have made of it; it is begun again."""


class Growing(Struct, frozen=True):
    """A file that was not complete at the mark: its rows and bytes, and what waited to be compressed."""

    rows: int
    size: int
    pending: bytes
    day: str | None


class Mark(Struct, frozen=True):
    """A file that can be gone on with, if it is the one after `after` complete ones."""

    after: int
    growing: Growing


class File(Protocol):
    """A file being written."""

    rows: int

    @property
    def size(self) -> int:
        """Bytes in the file so far."""

    @property
    def pending(self) -> bytes:
        """What was written to it, but waits for its block to be full."""

    def take(self, batch: pa.RecordBatch, start: int) -> int:
        """Take rows of a batch, from `start` on; how many found room, 0 when the file is full."""

    def end(self) -> str:
        """Complete the file, durably; its SHA-256."""

    def sync(self) -> None:
        """Make what was written durable."""

    def close(self) -> None:
        """Leave the file as it is."""


class Parts:
    """Writes the files of a task into `folder`, going on after its mark.

    `make` opens a file, new or as it was at the mark; `can_grow` says whether it can go on with one that was not complete.
    """

    def __init__(
        self,
        folder: Path,
        request: ExportRequest,
        task_id: str,
        make: Callable[[Path, Growing | None], File],
        *,
        can_grow: bool,
    ) -> None:
        self._folder = folder
        self._request = request
        self._task_id = task_id
        self._make = make
        self._can_grow = can_grow
        self._several = request.max_file_bytes is not None or request.day_path
        folder.mkdir(parents=True, exist_ok=True)
        self._done = self._read_done()
        self._done_rows = sum(entry.rows for entry in self._done)
        self._done_size = sum(entry.bytes for entry in self._done)
        growing = self._read_mark()
        self._day = growing.day if growing else None
        self._file = self._continued(growing) if growing else None
        self._marked = self.size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return self._done_rows + (self._file.rows if self._file else 0)

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return self._done_size + (self._file.size if self._file else 0)

    @property
    def done(self) -> int:
        """Complete files."""
        return len(self._done)

    def add(self, batch: pa.RecordBatch, day: str | None) -> None:
        """Write rows, all of one day where each day has files of its own."""
        if self._file and day != self._day:
            self._end_file()
        self._day = day
        start = 0
        while start < batch.num_rows:
            if self._file is None:
                self._file = self._make(self._path(), None)
            taken = self._file.take(batch, start)
            if taken == 0:
                self._end_file()
            start += taken

    def mark(self, every: int) -> None:
        """Make what was written durable if that is `every` bytes or more, and the file can be continued there."""
        if self._can_grow and self._file and self.size - self._marked >= every:
            self._file.sync()
            growing = Growing(self._file.rows, self._file.size, self._file.pending, self._day)
            self._replace(_MARK, msgspec.json.encode(Mark(len(self._done), growing)))
            self._marked = self.size

    def finish(self) -> list[FileEntry]:
        """Complete the last file, which there is even when there are no rows; all files, in order."""
        if self._file is None and not self._done:
            self._file = self._make(self._path(), None)
        if self._file:
            self._end_file()
        for folder in (self._folder, self._folder.parent):
            sync(folder)
        return self._done

    def _continued(self, growing: Growing) -> File | None:
        try:
            return self._make(self._path(), growing)
        except CannotContinueError:
            return None

    def _path(self) -> Path:
        return self._folder / self._name()

    def _name(self) -> str:
        number = len(self._done) + 1 if self._several else None
        return file_name(self._request, self._task_id, number, self._day)

    def _end_file(self) -> None:
        if self._file:
            file, self._file = self._file, None
            sha256 = file.end()
            entry = FileEntry(self._name(), file.rows, file.size, sha256, content_type(self._request))
            self._done.append(entry)
            self._done_rows += entry.rows
            self._done_size += entry.bytes
            # A line for each: there may be thousands, of which each would otherwise write down all before it.
            with (self._folder / _DONE).open("ab") as done:
                done.write(msgspec.json.encode(entry) + b"\n")
            sync(self._folder / _DONE)
            self._marked = self.size

    def _read_done(self) -> list[FileEntry]:
        """The complete files that are there; what follows is made again."""
        path, done = self._folder / _DONE, []
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        for line in lines:
            try:
                entry = msgspec.json.decode(line, type=FileEntry)
            except msgspec.MsgspecError:
                break
            # After a power failure a line may be torn, or there without the file that it speaks of.
            if not line.endswith(b"\n") or not _has(self._folder / entry.name, entry.bytes):
                break
            done.append(entry)
        if len(done) < len(lines):
            self._replace(_DONE, b"".join(lines[: len(done)]))
        return done

    def _read_mark(self) -> Growing | None:
        path = self._folder / _MARK
        try:
            mark = msgspec.json.decode(path.read_bytes(), type=Mark)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        if mark.after != len(self._done):
            return None
        self._day = mark.growing.day
        return mark.growing if _has(self._path(), mark.growing.size) else None

    def _replace(self, name: str, data: bytes) -> None:
        partial = self._folder / f"{name}.tmp"
        partial.write_bytes(data)
        sync(partial)
        partial.rename(self._folder / name)


def _has(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size >= size
