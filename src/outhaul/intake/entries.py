"""One JSON object of any size, cut into the entries of its member `tags` without being read whole.

Only quotes, brackets and commas are looked at here: an entry that is broken inside costs only itself, and one that is
too long is passed over in bounded memory.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from outhaul.intake.lines import LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?P<closed>")?|[{}\[\],]', re.DOTALL)
_STRING_REST = re.compile(rb'(?:[^"\\]++|\\.)*+(?P<closed>")?', re.DOTALL)
_MEMBER_BYTES = 1024
_SPACE = re.compile(rb"[ \t\r\n]*")


class Broken(Exception):  # noqa: N818  it is the file that is broken, not us
    """The JSON ends too early, or is no object whose members could be told apart."""


class Entries:
    """Iterates over the entries of `tags`, each with where it ends; None stands for one that is too long.

    `members` are those of the other members in `kept` that were met so far, as they are written; None for what is too long.

    Raises:
        Broken: nothing behind this place can be read.
    """

    def __init__(self, pieces: Iterable[bytes], limit: int = LINE_BYTES, kept: Container[bytes] = ()) -> None:
        self._kept = kept
        self._pieces = iter(pieces)
        self._limit = limit
        self._buffer = b""
        self._at = 0
        self._before = 0
        self.members: dict[bytes, bytes | None] = {}
        self.has_tags = False

    def __iter__(self) -> Iterator[tuple[int, bytes | None]]:
        self._expect(b"{")
        if self._peek() == b"}":
            self._at += 1
            self._end()
            return
        yield from self._members()
        self._end()

    def _members(self) -> Iterator[tuple[int, bytes | None]]:
        while True:
            name = self._name()
            if name == b'"tags"' and self._peek() == b"{":
                self.has_tags = True
                yield from self._entries()
            else:
                content = self._cut(_MEMBER_BYTES)
                # There may be any number of others.
                if name in self._kept:
                    self.members[name] = content
            if self._either(b",", b"}") == b"}":
                return

    def _entries(self) -> Iterator[tuple[int, bytes | None]]:
        self._expect(b"{")
        if self._peek() == b"}":
            self._at += 1
            return
        while True:
            self._peek()
            content = self._cut(self._limit)
            yield self._before + self._at, content
            if self._either(b",", b"}") == b"}":
                return

    def _name(self) -> bytes:
        """The name of a member, and the colon behind it."""
        if self._peek() != b'"':
            raise Broken
        while (match := _TOKEN.match(self._buffer, self._at)) is None or match["closed"] is None:
            if len(self._buffer) - self._at > LINE_BYTES:
                raise Broken
            self._more()
        self._at = match.end()
        self._expect(b":")
        return match[0]

    def _cut(self, limit: int) -> bytes | None:
        """What comes before the next comma or bracket that is not inside of it; None if that is over `limit` bytes."""
        depth, keep, place = 0, True, self._at
        while True:
            place, depth = self._scan(place, depth)
            if depth < 0:
                content = self._buffer[self._at : place]
                self._at = place
                return content if keep and len(content) <= limit else None
            if place - self._at > limit or len(self._buffer) - self._at > 2 * LINE_BYTES:
                keep = False
            if keep:
                place -= self._at
                self._more()
            else:
                self._at = place
                self._pass_string()
                if self._at == len(self._buffer):
                    self._more()
                place = self._at

    def _scan(self, place: int, depth: int) -> tuple[int, int]:
        """Go on from a place at a depth of brackets: up to the end of what is cut out (depth -1), or of what can be told."""
        for match in _TOKEN.finditer(self._buffer, place):
            token = self._buffer[match.start()]
            if token == _QUOTE:
                if match["closed"] is None:
                    return match.start(), depth
            elif token in _OPENING:
                depth += 1
            elif depth == 0:
                return match.start(), -1
            elif token in _CLOSING:
                depth -= 1
        return len(self._buffer), depth

    def _pass_string(self) -> None:
        """Pass over a string that does not end in the buffer, as it is too long to be kept."""
        if self._buffer[self._at : self._at + 1] != b'"':
            return
        self._at += 1
        while True:
            match = _STRING_REST.match(self._buffer, self._at)
            assert match is not None  # noqa: S101  it matches nothing, too
            self._at = match.end()
            if match["closed"] is not None:
                return
            self._more()

    def _end(self) -> None:
        try:
            self._peek()
        except Broken:
            return
        raise Broken

    def _expect(self, token: bytes) -> None:
        self._either(token, token)

    def _either(self, token: bytes, other: bytes) -> bytes:
        found = self._peek()
        if found not in {token, other}:
            raise Broken
        self._at += 1
        return found

    def _peek(self) -> bytes:
        """The next byte that is not white space."""
        while True:
            match = _SPACE.match(self._buffer, self._at)
            assert match is not None  # noqa: S101  it matches nothing, too
            self._at = match.end()
            if self._at < len(self._buffer):
                return self._buffer[self._at : self._at + 1]
            self._more()

    def _more(self) -> None:
        """Have another piece in the buffer, which then begins where reading is."""
        piece = next(self._pieces, None)
        if piece is None:
            raise Broken
        self._before += self._at
        self._buffer = self._buffer[self._at :] + piece
        self._at = 0


_QUOTE = ord('"')
_OPENING = frozenset(b"{[")
_CLOSING = frozenset(b"}]")
