"""A file of an export while it grows on our own disk: appended to, hashed, continued after a crash.

SHA-256 cannot be stored half-way, so what is there is read once more when a file is continued, which is quicker than
making it again.
"""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING

from outhaul.durable import sync

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Buffer

_READ = 4 * 1024 * 1024


class Spool(io.RawIOBase):
    """Appends to `path`, after the first `kept` bytes of what is there; a binary file to those who write Parquet."""

    def __init__(self, path: Path, kept: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        self._file.truncate(kept)
        self._hash = hashlib.sha256()
        while part := self._file.read(_READ):
            self._hash.update(part)
        self.size = self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Buffer) -> int:
        """Append bytes; all of them, and how many that is."""
        view = memoryview(data)
        count = len(view)
        self._hash.update(view)
        self.size += count
        while view:
            view = view[self._file.write(view) :]
        return count

    def sync(self) -> None:
        """Make what was written durable: after a crash it is there, under its name."""
        os.fdatasync(self._file.fileno())
        for folder in (self._path.parent, self._path.parent.parent):
            sync(folder)

    def sha256(self) -> str:
        """Lower-case hex of everything in the file."""
        return self._hash.hexdigest()
