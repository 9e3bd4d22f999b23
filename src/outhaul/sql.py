"""Values as SQL text, for the places where an engine takes no parameters."""

from __future__ import annotations


def quoted(value: object) -> str:
    """The text of a value as a SQL literal."""
    return "'" + str(value).replace("'", "''") + "'"
