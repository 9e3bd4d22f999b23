"""The writing end of the journal."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import threading
from typing import TYPE_CHECKING, Any

from outhaul.durable import sync
from outhaul.errors import Busy, Conflict
from outhaul.journal.frames import framed, scan
from outhaul.journal.offers import adopt, sync_adopted, tidy
from outhaul.journal.reading import damaged_folder, segments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from outhaul.journal.frames import Header

_WRITE_BUFFERS = 1024
"""Buffers that one `writev` takes (IOV_MAX on Linux)."""


class Journal:
    """The writing end; made and used on one event loop.

    Opening it closes what a killed process left open: whole frames stay, a torn end is set aside.

    `first` is the least number the next segment may get: the position that landing has reached.

    Raises:
        Conflict: another process is writing to the folder.
    """

    def __init__(
        self,
        directory: Path,
        *,
        first: int,
        segment_bytes: int,
        max_pending_bytes: int,
        max_journal_bytes: int,
    ) -> None:
        _make(directory)
        self._lock = _take_lock(directory)
        tidy(directory)
        self._writer = _Writer(directory, max(first, _recover(directory)), segment_bytes)
        self._max_pending = max_pending_bytes
        self._max_stored = max_journal_bytes
        self._pending = 0
        self._stored = self._writer.measure()
        self._filling: _Group | None = None
        self._writing = False
        self._closed = False
        self._work: queue.SimpleQueue[tuple[Callable[[], int], asyncio.Future[int]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    async def append(self, header: Header, body: bytes) -> None:
        """Return once the request is safe on disk.

        Raises:
            Busy: it is not, and will not be: too much waits for the disk or for landing, or the disk failed.
        """
        frame = framed(header, body)
        size = sum(map(len, frame))
        self._check_room(size)
        group = self._filling
        if group is None:
            group = self._filling = _Group()
            if not self._writing:
                # Not at once: requests that are ready in the same turn of the loop still get on.
                group.get_loop().call_soon(self._hand_over)
        group.buffers += frame
        group.size += size
        self._pending += size
        await group

    def _check_room(self, size: int) -> None:
        if self._closed:
            raise _stopping()
        if self._pending + size > self._max_pending:
            raise Busy("The disk does not keep up with what devices send.", hint="Send again later.")
        if self._stored + self._pending + size > self._max_stored:
            raise Busy("Too much that devices sent waits to be landed.", hint="Send again later.")

    async def roll(self) -> int:
        """The position below which everything is closed that was acknowledged, or offered, before this call.

        Also looks how much landing has deleted, which is what ends the refusals for want of room.

        Raises:
            Busy: the disk failed; calling again tries again.
        """
        if self._closed:
            raise _stopping()
        position = await self._submit(self._writer.roll)
        self._stored = await self._submit(self._writer.measure)
        return position

    async def close(self) -> None:
        """Write what waits, close the open segment, and let go of the folder. Appending is over.

        Raises:
            Busy: the disk failed; the next process to open the journal closes the segment.
        """
        self._closed = True
        try:
            while (group := self._filling) or self._writing:
                with contextlib.suppress(Busy):
                    await (group or self._submit(self._writer.measure))
            await self._submit(self._writer.close)
        finally:
            self._work.put(None)
            await asyncio.to_thread(self._thread.join)
            os.close(self._lock)

    def _submit(self, call: Callable[[], int]) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._work.put((call, future))
        return future

    def _hand_over(self) -> None:
        group = self._filling
        if group is not None:
            self._filling = None
            self._writing = True
            group.add_done_callback(lambda _: self._written(group))
            self._work.put((lambda: self._writer.write(group.buffers, group.size), group))

    def _written(self, group: _Group) -> None:
        self._writing = False
        self._pending -= group.size
        if group.exception() is None:
            self._stored += group.size
        self._hand_over()

    def _run(self) -> None:
        """The writer's thread: one call after the other, until told to end."""
        while (work := self._work.get()) is not None:
            call, future = work
            result, error = 0, None
            try:
                result = call()
            except Exception as problem:  # noqa: BLE001  nothing else ends the waiting of those who share the future
                error = Busy(f"Nothing can be stored now: {_why(problem)}.", hint="Send again later.")
            future.get_loop().call_soon_threadsafe(_settle, future, result, error)


class _Group(asyncio.Future[int]):
    """Frames that are written and synced together; done when they are on disk."""

    def __init__(self) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.buffers: list[bytes] = []
        self.size = 0

    def cancel(self, msg: Any = None) -> bool:  # noqa: ARG002  the signature of asyncio
        """A request that is given up must not take along the others that wait for the same sync."""
        return False


def _settle(future: asyncio.Future[int], result: int, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _stopping() -> Busy:
    return Busy("The server is stopping.", hint="Send again in a moment.")


def _why(problem: Exception) -> str:
    return problem.strerror or "I/O error" if isinstance(problem, OSError) else type(problem).__name__


class _Writer:
    """The open segment, used by one thread at a time. After an OSError any method may be called again."""

    def __init__(self, directory: Path, number: int, segment_bytes: int) -> None:
        self._directory = directory
        self._number = number
        self._segment_bytes = segment_bytes
        self._file = -1
        self._path = directory
        self._durable = 0
        self._must_close = False
        self._must_sync = False

    def write(self, buffers: list[bytes], size: int) -> int:
        """Write and sync, all or nothing; the bytes written."""
        if self._must_close or self._durable >= self._segment_bytes:
            self.close()
        if self._file < 0:
            self._create()
        try:
            _write_all(self._file, buffers)
            os.fdatasync(self._file)
        except BaseException:
            self._must_close = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._durable)
            raise
        self._durable += size
        return size

    def _create(self) -> None:
        path = _path(self._directory, self._number, "open")
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        self._path = path
        self._must_close = True
        sync(self._directory)
        self._must_close = False

    def close(self) -> int:
        """Close the open segment, if there is one; the number of the next. A segment without frames goes."""
        if self._file >= 0:
            self._must_close = True
            if self._durable:
                os.ftruncate(self._file, self._durable)
                os.fsync(self._file)
                if self._path.suffix == ".open":
                    self._path = self._path.rename(self._path.with_suffix(".log"))
                sync(self._directory)
                self._number += 1
            else:
                self._path.unlink(missing_ok=True)
            file = self._file
            self._file, self._durable, self._must_close = -1, 0, False
            os.close(file)
        return self._number

    def roll(self) -> int:
        """Close the open segment, and adopt what was offered; the number of the next."""
        self.close()
        while adopt(self._directory, _path(self._directory, self._number, "log")):
            self._must_sync = True
            self._number += 1
        if self._must_sync:
            sync_adopted(self._directory)
            self._must_sync = False
        return self._number

    def measure(self) -> int:
        """The bytes of all segments that are still there."""
        return sum(segment.size for segment in segments(self._directory, 0)) + self._durable


def _write_all(file: int, buffers: list[bytes]) -> None:
    for start in range(0, len(buffers), _WRITE_BUFFERS):
        some = buffers[start : start + _WRITE_BUFFERS]
        written = os.writev(file, some)
        if written < sum(map(len, some)):
            rest = memoryview(b"".join(some))[written:]
            while rest:
                rest = rest[os.write(file, rest) :]


def _take_lock(directory: Path) -> int:
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise Conflict(
            f"Another process is writing to the journal {directory}.",
            hint="Run one server per data folder; stop the other one first.",
        ) from None
    return lock


def _recover(directory: Path) -> int:
    """Close what was left open; the number after the highest there is."""
    for path in sorted(directory.glob("*.open")):
        with path.open("r+b") as file:
            whole = max((end for end, _, _ in scan(file)), default=0)
            file.seek(whole)
            torn = file.read()
            if torn.strip(b"\0"):
                _keep(torn, damaged_folder(directory), path.stem)
            file.truncate(whole)
            os.fsync(file.fileno())
        if whole:
            path.rename(path.with_suffix(".log"))
        else:
            path.unlink()
    sync(directory)
    # A number whose segment came to nothing is given again: landing would wait for it, and others for landing.
    known = (path.stem for where in (directory, directory / "damaged") for path in where.glob("*.log"))
    return max((int(number) + 1 for number in known if number.isdecimal()), default=0)


def _keep(torn: bytes, folder: Path, number: str) -> None:
    """Set a torn end aside: it was not acknowledged, as far as can be known, but can still be looked at."""
    path, times = folder / f"{number}.tail", 1
    while path.exists():
        times += 1
        path = folder / f"{number}-{times}.tail"
    with path.open("wb") as file:
        file.write(torn)
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)


def _path(directory: Path, number: int, suffix: str) -> Path:
    return directory / f"{number:020d}.{suffix}"


def _make(directory: Path) -> None:
    """Make a directory and those above it, durably."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync(made.parent)
