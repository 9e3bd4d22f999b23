"""The reading end of the journal: closed segments, in order."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from outhaul.durable import sync
from outhaul.errors import Damaged, Invalid, TooLarge
from outhaul.inflate import Encoding, inflate
from outhaul.journal.frames import scan
from outhaul.records import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Segment(NamedTuple):
    """A closed segment; `size` is in bytes."""

    number: int
    path: Path
    size: int


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
        for frame_end, header, body in scan(file):
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
    kept = damaged_folder(segment.path.parent) / segment.path.name
    with contextlib.suppress(FileExistsError):
        kept.hardlink_to(segment.path)
        sync(kept.parent)
    return kept


def damaged(directory: Path) -> list[Path]:
    """What is kept of damaged segments, of all apps: nobody can tell whose the damaged part is."""
    return sorted((directory / "damaged").glob("*"))


def _inflated(body: bytes, encoding: Encoding, limit: int) -> bytes:
    try:
        return inflate(body, encoding, limit)
    except (Invalid, TooLarge):
        return body


def damaged_folder(directory: Path) -> Path:
    """Where what is damaged is kept; made if it is missing."""
    folder = directory / "damaged"
    folder.mkdir(exist_ok=True)
    return folder
