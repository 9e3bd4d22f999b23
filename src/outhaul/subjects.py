"""Which stored records are a person's: what an export of their history holds, and what an erasure removes.

A device's records are those with its id. A user's are those of every device whose user they are now, and those that
carry the user's id wherever they came from; records of other users on a device that they share stay whose they are, and
so does the device, which is that of its latest user.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from msgspec import Struct

from outhaul.schema import TABLES
from outhaul.sql import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


ERASED = "[erased]"
"""What stands where an id was."""
# The engine refuses an expression of more than some ten thousands of characters.
_AT_ONCE = 100
_EXPRESSION = 10_000


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
    return " OR ".join(f"({condition})" for condition in ways(person, table))


def ways(person: Person, table: str) -> list[str]:
    """The conditions, as SQL, any of which makes a row of a stored table a person's.

    Each looks at few columns, so that the engine can hold it against the statistics of files; all in one it cannot.
    """
    either = [_one_of("deviceId", person.devices)]
    if person.user_id is not None:
        if any(column.name == "userId" for column in TABLES[table].columns):
            either.append(f'"userId" = {quoted(person.user_id)}')
        if table == "tag":
            either.append(f"key = 'userid' AND value = {quoted(person.user_id)}")
    if table == "reject":
        # What could not be read may be whoever's: it is theirs if it has one of their ids in it.
        for some in _some(person.ids):
            mentions = quoted(rf"(^|[^0-9A-Za-z]){_any_of(some)}($|[^0-9A-Za-z])")
            either.append(f"regexp_matches(raw, {mentions}) OR regexp_matches(detail, {mentions})")
    return either


def _one_of(column: str, values: tuple[str, ...]) -> str:
    listed = ", ".join(map(quoted, values))
    return f'"{column}" IN ({listed})' if values else "false"


def without(person: Person) -> Callable[[str], str]:
    """What takes a person's ids out of a text, where it mentions them."""
    expressions = [
        re.compile(rf"(?<![0-9A-Za-z]){_any_of(some)}(?![0-9A-Za-z])") for some in _some(person.ids)
    ]

    def reworded(text: str) -> str:
        for expression in expressions:
            text = expression.sub(ERASED, text)
        return text

    return reworded


def _some(ids: tuple[str, ...]) -> Iterator[list[str]]:
    """Expressions for ids, as many at a time as the engine takes in one."""
    some: list[str] = []
    for one in ids:
        expression = "".join(map(_spelled, one))
        if some and (len(some) == _AT_ONCE or sum(map(len, some)) + len(expression) > _EXPRESSION):
            yield some
            some = []
        some.append(expression)
    if some:
        yield some


def _any_of(expressions: list[str]) -> str:
    return f"(?:{'|'.join(sorted(expressions, key=lambda one: (-len(one), one)))})"


def _spelled(character: str) -> str:
    """An expression (RE2's and Python's) for a character, in any of the ways that requests write it."""
    if character.isascii() and character.isalnum():
        return character
    units = character.encode("utf-16-be").hex()
    ways = [
        character,
        json.dumps(character)[1:-1],
        "".join(rf"\u{units[start : start + 4]}" for start in range(0, len(units), 4)),
        "".join(f"%{byte:02x}" for byte in character.encode()),
    ]
    if character in _OTHERWISE:
        ways.append(_OTHERWISE[character])
    if "\x80" <= character <= "\xff":
        # What is not UTF-8 is shown so.
        ways.append(rf"\x{ord(character):02x}")
    return f"(?i:{'|'.join(map(re.escape, dict.fromkeys(ways)))})"


_OTHERWISE = {"/": r"\/", " ": "+"}
"""How JSON and forms write some characters, besides what goes for all."""
