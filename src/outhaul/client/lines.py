"""Bytes as they come → lines. Text must not be split where JSON may hold what other texts take for an end of line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from outhaul.errors import OuthaulError
from outhaul.rest import PersonRecord

if TYPE_CHECKING:
    from collections.abc import Iterator


class Lines:
    """Puts lines together that come in pieces; what comes after the last line feed waits for the next piece."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []

    def of(self, piece: bytes) -> Iterator[bytes]:
        """The lines that a piece completes."""
        *ended, rest = piece.split(b"\n")
        for line in ended:
            yield b"".join((*self._begun, line))
            self._begun = []
        if rest:
            self._begun.append(rest)


def record(line: bytes) -> PersonRecord:
    """A line of a history.

    Raises:
        OuthaulError: it is none, so it is not the server that we thought it was.
    """
    try:
        return msgspec.json.decode(line, type=PersonRecord)
    except msgspec.DecodeError as error:
        raise OuthaulError(
            f"A record cannot be understood: {error}.",
            hint="Check that the URL is that of an Outhaul server, and that this package is not older.",
        ) from error
