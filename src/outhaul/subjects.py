"""Which stored records are a person's: what an export of their history holds, and what an erasure removes.

A device's records are those with its id. A user's are those of every device whose user they are now, and those that
carry the user's id wherever they came from; records of other users on a device that they share stay whose they are, and
so does the device, which is that of its latest user.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from msgspec import Struct

from outhaul.schema import TABLES
from outhaul.sql import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator


class Person(Struct, frozen=True):
    """A user, if one is meant, and the devices that are theirs."""

    user_id: str | None
    devices: tuple[str, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id that they are known by."""
        return (*(() if self.user_id is None else (self.user_id,)), *self.devices)


def rows_of(person: Person, table: str) -> str:
    """The condition on the rows of a stored table that are a person's, as SQL."""
    either = [_one_of("deviceId", person.devices)]
    if person.user_id is not None:
        if any(column.name == "userId" for column in TABLES[table].columns):
            either.append(f'"userId" = {quoted(person.user_id)}')
        if table == "tag":
            either.append(f"key = 'userid' AND value = {quoted(person.user_id)}")
    if table == "reject":
        # What could not be read may be whoever's: it is theirs if it has one of their ids in it.
        mentions = quoted(_mentions(person.ids))
        either.append(f"regexp_matches(raw, {mentions}) OR regexp_matches(detail, {mentions})")
    return " OR ".join(f"({condition})" for condition in either)


def _one_of(column: str, values: tuple[str, ...]) -> str:
    listed = ", ".join(map(quoted, values))
    return f'"{column}" IN ({listed})' if values else "false"


def _mentions(ids: tuple[str, ...]) -> str:
    """An expression (RE2) for any of the ids, written in any of the ways that requests write text, and not as part of another."""
    spelled = {way for one in ids for way in _spellings(one)}
    return rf"(^|[^0-9A-Za-z])(?:{'|'.join(sorted(map(re.escape, spelled)))})($|[^0-9A-Za-z])"


def _spellings(text: str) -> Iterator[str]:
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield quote(text, safe="")
