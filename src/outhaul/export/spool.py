"""The file of an export while it grows on our own disk: appended to, marked, and taken up again after a crash.

Every so often what was written is forced to disk and a mark beside the file says how many slices, rows and bytes
that is; continuing cuts the file back to the mark. SHA-256 cannot be stored half-way, so the part that is there
is read once more, which is quicker than making it again.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Self

import msgspec
from msgspec import Struct

from outhaul.durable import sync

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_READ = 4 * 1024 * 1024


class Mark(Struct, frozen=True):
    """What of a file is durable."""

    slices: int = 0
    rows: int = 0
    bytes: int = 0


class Spool:
    """Appends to `path`, continuing after its last mark; `mark` says where that is."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._marks = path.with_name(path.name + ".mark")
        self.mark = (
            msgspec.json.decode(self._marks.read_bytes(), type=Mark) if self._marks.exists() else Mark()
        )
        self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        if self._file.seek(0, os.SEEK_END) < self.mark.bytes:
            # After a power failure the mark may be there without the file it speaks of.
            self.mark = Mark()
        self._file.truncate(self.mark.bytes)
        self._file.seek(0)
        self._hash = hashlib.sha256()
        while part := self._file.read(_READ):
            self._hash.update(part)
        self.bytes = self._file.tell()
        self.rows = self.mark.rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data)
        self._hash.update(view)
        self.bytes += len(view)
        while view:
            view = view[self._file.write(view) :]

    def set_mark(self, slices: int, rows: int) -> None:
        """Make what was written durable: after a crash it is not written again."""
        os.fdatasync(self._file.fileno())
        self.mark = Mark(slices, rows, self.bytes)
        self.rows = rows
        partial = self._marks.with_suffix(".tmp")
        partial.write_bytes(msgspec.json.encode(self.mark))
        sync(partial)
        partial.rename(self._marks)

    def sync(self) -> None:
        """Make what was written durable, for good: the file is whole, and it is found again."""
        os.fdatasync(self._file.fileno())
        for folder in (self._marks.parent, self._marks.parent.parent):
            sync(folder)

    def sha256(self) -> str:
        """Lower-case hex of everything in the file."""
        return self._hash.hexdigest()
