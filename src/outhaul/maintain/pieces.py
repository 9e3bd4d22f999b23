"""Files of tables, as many at a time as make a small step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outhaul.tables import StoredFile

MIB = 1024 * 1024
LOOKED_AT = 512 * MIB
"""Bytes that are searched at a time."""
WRITTEN = 32 * MIB
"""Bytes that are written again at a time."""
_FILES = 256


def pieces(files: list[StoredFile], size: int) -> Iterator[list[StoredFile]]:
    """Files, some at a time: at most so many bytes of them, unless it is one file, and not too many files."""
    some: list[StoredFile] = []
    for file in files:
        if some and (len(some) == _FILES or sum(one.size for one in some) + file.size > size):
            yield some
            some = []
        some.append(file)
    if some:
        yield some
