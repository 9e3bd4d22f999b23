"""A file of tags from the first byte to the last: inflated, its format found out, its lines read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from outhaul.errors import Invalid, SourceUnreadable
from outhaul.inflate import inflating, sniff
from outhaul.intake.entries import Broken, Entries
from outhaul.intake.lines import (
    LINE_BYTES,
    Bad,
    Line,
    read_entry,
    read_header,
    read_jsonl,
    read_rows,
    split,
)
from outhaul.protocols.json_text import JSON_ERRORS, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outhaul.container import Reading
    from outhaul.intake.lines import Columns
    from outhaul.wire import ImportFormat

_BOM = b"\xef\xbb\xbf"
_HEAD_BYTES = 2 * LINE_BYTES
_PIECE_BYTES = 256 * 1024
_FIRST_LINES = 20
"""Lines that are looked at to find out the format; what is wrong with one of them should not decide."""
_begins_line = re.compile(rb'\s*\{\s*"(?:deviceId|userId)"').match
_DELETE_ON_NULL = b'"deleteOnNull"'
_CUT_SHORT = "The JSON is cut short or broken here; nothing behind this place can be read."
_FORMATS = (
    "It takes JSON Lines, one JSON object with `tags`, or CSV whose first line is deviceId,key,value or userId,key,value; "
    "in UTF-8, as it is or compressed with gzip or zstd."
)


class TagFile:
    """The lines of a file behind the `lines_done`-th, which ends at the byte `bytes_done`.

    `heed` is called every 256 KiB of text at the latest; what it raises ends the reading.

    Raises:
        SourceUnreadable: it is of no format that is known, or not of the one that was named.
        SourceError: as `container.Reading`.
    """

    def __init__(
        self,
        reading: Reading,
        named: ImportFormat,
        lines_done: int = 0,
        bytes_done: int = 0,
        heed: Callable[[], None] = lambda: None,
    ) -> None:
        self._heed = heed
        self._reading = reading
        self._lines_done = lines_done
        self._bytes_done = bytes_done
        self._read = 0
        pieces = self._pieces(0)
        head = _head(pieces)
        self._encoding = sniff(head)
        self._start, self.format = 0, named
        self._columns: Columns | None = None
        self._look(named)

    def __iter__(self) -> Iterator[Line | Bad]:
        found = self._entries() if self.format == "json" else self._lines()
        for line in found:
            if line.last > self._lines_done:
                yield line

    def bytes_read(self, line: Line | Bad) -> int:
        """How much of the file that is, up to a line: exactly where it lies as it is, else about."""
        return line.end if self._encoding == "identity" else self._read

    def _look(self, named: ImportFormat) -> None:
        """Find out the format from the beginning of the text."""
        head = _head(self._text(0))
        self._start = len(_BOM) if head.startswith(_BOM) else 0
        lines = [one for one in head[self._start :].split(b"\n") if one.strip()][:_FIRST_LINES]
        self._columns = read_header(lines[0]) if lines else None
        if named == "auto":
            self.format = _recognised(lines, self._columns)
        elif named == "csv" and lines and self._columns is None:
            raise SourceUnreadable(
                "The first line does not name the columns of a file of tags.",
                hint="Begin with deviceId,key,value or userId,key,value.",
            )
        elif named == "json" and lines and not lines[0].lstrip().startswith(b"{"):
            raise SourceUnreadable("The file does not begin with a JSON object.", hint=_FORMATS)

    def _lines(self) -> Iterator[Line | Bad]:
        start, number = self._start, 0
        if self._encoding == "identity" and self._lines_done:
            start, number = self._bytes_done, self._lines_done
        texts = split(self._text(start), number, start)
        if self._columns is None or self.format != "csv":
            return read_jsonl(texts)
        if not number:
            for text in texts:
                if text.content and text.content.strip():
                    break
        return read_rows(texts, self._columns)

    def _entries(self) -> Iterator[Line | Bad]:
        null_removes = self._deletes_on_null()
        number, end = 0, self._start
        try:
            for number, (end, content) in enumerate(Entries(self._text(self._start)), start=1):
                yield read_entry(number, self._start + end, content, null_removes=null_removes)
        except Broken:
            yield Bad(number + 1, number + 1, self._start + end, "malformed", _CUT_SHORT)

    def _deletes_on_null(self) -> bool:
        """Read ahead to what may be the last word of the file: whether a null removes a tag."""
        entries = Entries(self._text(self._start), limit=0, kept={_DELETE_ON_NULL})
        try:
            for _ in entries:
                if _DELETE_ON_NULL in entries.members:
                    break
        except Broken:
            pass
        if not entries.has_tags:
            raise SourceUnreadable("The file is a JSON object without tags.", hint=_FORMATS)
        word = entries.members.get(_DELETE_ON_NULL, b"false")
        if word is not None and word.strip() in {b"false", b"null"}:
            return False
        if word is None or word.strip() != b"true":
            raise SourceUnreadable("deleteOnNull is neither true nor false.", hint="Correct it.")
        return True

    def _text(self, start: int) -> Iterator[bytes]:
        """The text from a byte on, in pieces that are worth looking at; only what lies as it is begins in its middle."""
        gathered = bytearray()
        passed = 0 if self._encoding == "identity" else start
        try:
            for piece in _small(inflating(self._pieces(start - passed), self._encoding)):
                self._heed()
                gathered += piece
                if len(gathered) >= _PIECE_BYTES + passed:
                    yield bytes(gathered[passed:])
                    gathered.clear()
                    passed = 0
        except Invalid as error:
            yield bytes(gathered[passed:])
            raise SourceUnreadable(error.message, hint=error.hint) from None
        yield bytes(gathered[passed:])

    def _pieces(self, start: int) -> Iterator[bytes]:
        self._read = start
        for piece in self._reading.chunks(start):
            self._read += len(piece)
            yield piece


def _small(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), _PIECE_BYTES):
            yield piece[start : start + _PIECE_BYTES]


def _head(pieces: Iterator[bytes]) -> bytes:
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= _HEAD_BYTES:
            break
    return head


def _recognised(lines: list[bytes], columns: Columns | None) -> ImportFormat:
    if columns is not None:
        return "csv"
    if lines and _begins_line(lines[0]):
        return "jsonl"
    for line in lines:
        try:
            told = read(line)
        except JSON_ERRORS:
            told = None
        if isinstance(told, dict) and told.keys() & {"deviceId", "userId"}:
            return "jsonl"
    if not lines or lines[0].lstrip().startswith(b"{"):
        return "json" if lines else "jsonl"
    raise SourceUnreadable("The file is of no format that is known.", hint=_FORMATS)
