"""Values → SQL text, for what the engine cannot be handed as parameters."""

from __future__ import annotations

from datetime import UTC, datetime

from outhaul.instants import LAST


def quoted(value: object) -> str:
    """A value's text as an SQL literal."""
    return "'" + str(value).replace("'", "''") + "'"


def named(column: str) -> str:
    """A column's name as an SQL identifier."""
    return '"' + column.replace('"', '""') + '"'


def instant(milliseconds: int) -> str:
    """Ms since 1970 UTC as an SQL literal."""
    seconds, rest = divmod(min(milliseconds, LAST), 1000)
    return f"TIMESTAMPTZ '{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:03d}+00'"
