"""The journal: what devices sent, on disk before they are told so, in the order it came.

A folder of numbered segments. `00000000000000000042.open` is being written; closed it is called `.log`, and
never changes again. Each holds frames, one per request: length and CRC-32 (u32, little-endian), then what
they cover: the header's length (u32), the header (JSON, see `Header`) and the body as the device sent it,
compressed or not.

**Position** is the number of the segment to read next. Everything in segments below it has been read.

What always holds:

- `append` returns only after its frame was synced to disk (`fdatasync`). Requests that wait at the same time
  share one write and one sync. When writing or syncing fails, all that shared it fail, the segment is cut
  back to what had been synced before, and the next frame goes into a new one: a kernel that failed to sync
  once may report success the second time without having written anything.
- Only closed segments are read, and a segment is synced before it is closed. So nothing is ever landed that a
  power failure could still take back.
- Numbers only grow, also over restarts and after landed segments were deleted, so a position never comes to
  mean something else.
- One process appends (a lock on the folder sees to it), any process reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import threading
import zlib
from struct import Struct as Packing
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct

from outhaul.durable import sync
from outhaul.errors import Busy, Conflict, Damaged, Invalid, TooLarge
from outhaul.inflate import Encoding, inflate
from outhaul.records import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

_PREFIX = Packing("<II")
_HEADER_LENGTH = Packing("<I")
_WRITE_BUFFERS = 1024
"""Buffers that one `writev` takes (IOV_MAX on Linux)."""


class Header(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What the journal keeps beside the body of a request. `received_at` is in ms since 1970 UTC."""

    app_id: str
    protocol: str
    received_at: int
    encoding: Encoding = "identity"
    device_id: str | None = None
    user_agent: str = ""


class Segment(NamedTuple):
    """A closed segment; `size` is in bytes."""

    number: int
    path: Path
    size: int


_encode_header = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode


# Writing


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
        encoded = _encode_header(header)
        head = _HEADER_LENGTH.pack(len(encoded)) + encoded
        length = len(head) + len(body)
        prefix = _PREFIX.pack(length, zlib.crc32(body, zlib.crc32(head)))
        size = _PREFIX.size + length
        self._check_room(size)
        group = self._filling
        if group is None:
            group = self._filling = _Group()
            if not self._writing:
                # Not at once: requests that are ready in the same turn of the loop still get on.
                group.get_loop().call_soon(self._hand_over)
        group.buffers += (prefix + head, body)
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
        """The position below which everything is closed that was acknowledged before this call.

        Also looks how much landing has deleted, which is what ends the refusals for want of room.

        Raises:
            Busy: the disk failed; calling again tries again.
        """
        if self._closed:
            raise _stopping()
        position = await self._submit(self._writer.close)
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
            whole = max((end for end, _, _ in _scan(file)), default=0)
            file.seek(whole)
            torn = file.read()
            if torn.strip(b"\0"):
                _keep(torn, _damaged(directory) / f"{path.stem}.tail")
            file.truncate(whole)
            os.fsync(file.fileno())
        if whole:
            path.rename(path.with_suffix(".log"))
        else:
            path.unlink()
    sync(directory)
    known = [*directory.glob("*.log"), *directory.glob("damaged/*")]
    return max((int(path.stem) + 1 for path in known if path.stem.isdecimal()), default=0)


def _keep(torn: bytes, path: Path) -> None:
    """Set a torn end aside: it was not acknowledged, as far as can be known, but can still be looked at."""
    with path.open("wb") as file:
        file.write(torn)
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)


# Reading


def segments(directory: Path, position: int) -> list[Segment]:
    """The closed segments from a position on, in order."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(directory):
            stem, _, suffix = entry.name.partition(".")
            if suffix == "log" and stem.isdecimal() and int(stem) >= position:
                # Landing may delete a segment while somebody else counts them.
                with contextlib.suppress(FileNotFoundError):
                    found.append(Segment(int(stem), directory / entry.name, entry.stat().st_size))
    return sorted(found)


def read(segment: Segment, *, inflated_limit: int) -> Iterator[Frame]:
    """The frames of a segment, in order, inflated, one at a time in memory.

    A body that does not inflate to at most `inflated_limit` bytes comes as it was sent, for its dialect to
    set aside.

    Raises:
        Damaged: after the last frame before the damage.
    """
    end = 0
    with segment.path.open("rb") as file:
        for frame_end, header, body in _scan(file):
            end = frame_end
            yield Frame(
                app_id=header.app_id,
                protocol=header.protocol,
                received_at=header.received_at,
                body=_inflated(body, header.encoding, inflated_limit),
                device_id=header.device_id,
                user_agent=header.user_agent,
            )
        size = os.fstat(file.fileno()).st_size
    if end < size:
        raise Damaged(
            f"Journal segment {segment.number} is damaged from byte {end} of {size} on.",
            hint="Look for disk errors; the segment is kept in the journal's folder `damaged`.",
        )


def discard(directory: Path, below: int) -> None:
    """Delete the closed segments below a position, which must have been landed."""
    for segment in segments(directory, 0):
        if segment.number < below:
            segment.path.unlink(missing_ok=True)


def preserve(segment: Segment) -> Path:
    """Keep a damaged segment in `damaged`, for whoever wants to look; it is still landed as far as it can be read.

    A second name rather than a move: landing may be cut short, and must then find the segment where it was.
    """
    kept = _damaged(segment.path.parent) / segment.path.name
    with contextlib.suppress(FileExistsError):
        kept.hardlink_to(segment.path)
        sync(kept.parent)
    return kept


def _scan(file: BinaryIO) -> Iterator[tuple[int, Header, bytes]]:
    """Each frame's end, header and body, from the start of a file to the first that is not whole."""
    left = os.fstat(file.fileno()).st_size
    end = 0
    while left >= _PREFIX.size:
        length, checksum = _PREFIX.unpack(file.read(_PREFIX.size))
        left -= _PREFIX.size + length
        if left < 0 or length < _HEADER_LENGTH.size:
            return
        content = file.read(length)
        if zlib.crc32(content) != checksum:
            return
        start = _HEADER_LENGTH.size + _HEADER_LENGTH.unpack_from(content)[0]
        try:
            header = _decode_header(content[_HEADER_LENGTH.size : start])
        except msgspec.MsgspecError:
            return
        end += _PREFIX.size + length
        yield end, header, content[start:]


def _inflated(body: bytes, encoding: Encoding, limit: int) -> bytes:
    try:
        return inflate(body, encoding, limit)
    except (Invalid, TooLarge):
        return body


def _path(directory: Path, number: int, suffix: str) -> Path:
    return directory / f"{number:020d}.{suffix}"


def _make(directory: Path) -> None:
    """Make a directory and those above it, durably."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync(made.parent)


def _damaged(directory: Path) -> Path:
    damaged = directory / "damaged"
    damaged.mkdir(exist_ok=True)
    return damaged
