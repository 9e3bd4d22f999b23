"""A text file of an export: lines as the engine rendered them, compressed or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from outhaul.export.compress import BLOCK, Codec, bound, compressor, decompressed
from outhaul.export.parts import CannotContinueError, Growing
from outhaul.export.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from outhaul.formats import Writing


class Lines(NamedTuple):
    """Rendered lines back to back, and where each begins; the last offset is their end."""

    text: memoryview
    offsets: NDArray[np.integer[Any]]


class TextFile:
    """Grows by lines, to `limit` bytes at most if there is one (a single longer line apart).

    `growing` says how far it was when it was last made durable; what follows that is written again.
    """

    def __init__(
        self, path: Path, form: Writing, codec: Codec | None, limit: int | None, growing: Growing | None
    ) -> None:
        self._form = form
        self._limit = limit
        self._compressor = compressor(codec) if codec else None
        self._pending = bytearray()
        self.rows = growing.rows if growing else 0
        self._spool = Spool(path, growing.size if growing else 0)
        if growing is None:
            self._write(form.head)
        elif codec:
            self._replay(path, codec, growing)

    @property
    def size(self) -> int:
        """Bytes in the file so far."""
        return self._spool.size

    @property
    def pending(self) -> bytes:
        """What was written to it, but waits for its block to be full."""
        return bytes(self._pending)

    def take(self, batch: pa.RecordBatch, start: int) -> int:
        """Write rows of a batch of rendered lines, from `start` on; how many found room, 0 when the file is full."""
        lines = lines_of(batch.column(0))
        trim = 0 if self.rows else self._form.trim
        count = self._fitting(lines, start, trim)
        if count:
            self._write(lines.text[int(lines.offsets[start]) + trim : int(lines.offsets[start + count])])
            self.rows += count
        return count

    def end(self) -> str:
        """Complete the file, durably; its SHA-256."""
        if self._compressor:
            self._pending += self._form.tail
            self._spool.write(self._compressor.end(bytes(self._pending)))
            self._pending.clear()
        else:
            self._spool.write(self._form.tail)
        self.sync()
        self.close()
        return self._spool.sha256()

    def sync(self) -> None:
        self._spool.sync()

    def close(self) -> None:
        self._spool.close()

    def _fitting(self, lines: Lines, start: int, trim: int) -> int:
        rows = len(lines.offsets) - 1 - start
        if self._limit is None:
            return rows
        room = self._limit - self._spool.size - len(self._form.tail)
        if self._compressor:
            # What a block will come to is only known once it is full, so until then the worst is assumed.
            room = self._limit - self._spool.size
            room = (room - bound(0)) * 128 // 129 - len(self._pending) - len(self._form.tail)
        last = np.searchsorted(lines.offsets, int(lines.offsets[start]) + trim + max(room, 0), side="right")
        fitting = min(rows, int(last) - 1 - start)
        return fitting if fitting > 0 or self.rows else 1

    def _write(self, data: bytes | memoryview) -> None:
        if self._compressor is None:
            self._spool.write(data)
            return
        view = memoryview(data)
        while view:
            missing = BLOCK - len(self._pending)
            self._pending += view[:missing]
            view = view[missing:]
            if len(self._pending) == BLOCK:
                self._spool.write(self._compressor.block(bytes(self._pending)))
                self._pending.clear()

    def _replay(self, path: Path, codec: Codec, growing: Growing) -> None:
        """Bring a new compressor to where the one before was: the same blocks in, what comes out is there already."""
        stream = compressor(codec)
        made, block = 0, bytearray()
        for data in decompressed(codec, path, growing.size):
            block += data
            while len(block) >= BLOCK:
                made += len(stream.block(bytes(block[:BLOCK])))
                del block[:BLOCK]
        if made != growing.size or block:
            raise CannotContinueError
        self._compressor = stream
        self._pending += growing.pending


def lines_of(column: pa.Array) -> Lines:
    """The bytes of a text column, all rows one after the other, without a copy.

    Arrow keeps the strings of a column back to back in one buffer, with an offset for each row.
    """
    _, offsets_buffer, data = column.buffers()
    width = np.int64 if pa.types.is_large_string(column.type) else np.int32
    offsets: NDArray[Any] = np.frombuffer(offsets_buffer, dtype=width)[
        column.offset : column.offset + len(column) + 1
    ]
    return Lines(memoryview(data) if data else memoryview(b""), offsets)
