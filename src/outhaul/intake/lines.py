"""What a file of tags says, line by line, and why a line says nothing that could be applied."""

from __future__ import annotations

import csv
import re
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct

from outhaul.protocols.json_text import JSON_ERRORS
from outhaul.records import KEY_PATTERN, Id, Key, TagValue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from outhaul.wire import LineReason

LINE_BYTES = 1024 * 1024
"""The longest line, or entry of a JSON object, that is read."""

_ROW_BYTES = 64 * 1024
"""How far the end of a quoted value is looked for, lines taken for as long as what they cost in memory."""
_LINE_COST = 16
_ID_LIMIT = 255
_VALUE_LIMIT = 1024
_KEYS_KNOWN = 10_000
_VALUE_RULE = f"A value is text of up to {_VALUE_LIMIT:,} characters, or null."
_KEY_RULE = "The key of a tag is a letter, then letters, digits or underscores, 64 in all."

Tags = dict[str, str | None]


class Line(NamedTuple):
    """Tags to set, or to remove where the value is None, on a device or on all devices of a user.

    `number` is that of the line, from 1, in a JSON object that of the entry; `last` differs from it where a quoted
    value has line breaks. `end` is where the line ends, in bytes of the text.
    """

    number: int
    last: int
    end: int
    subject: str
    is_user: bool
    tags: Tags


class Bad(NamedTuple):
    """A line that cannot be applied. `detail` repeats nothing of it: it may be about a person."""

    number: int
    last: int
    end: int
    reason: LineReason
    detail: str


class Text(NamedTuple):
    """A line as it lies there, with how it ends; `content` of None is too long to be read."""

    number: int
    end: int
    content: bytes | None


def split(pieces: Iterable[bytes], number: int, end: int) -> Iterator[Text]:
    """The lines of a text of which so many lines and bytes have been passed over; never much of one that is too long."""
    rest, lost = b"", 0
    for piece in pieces:
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        for content in lines:
            number += 1
            end += lost + len(content) + 1
            too_long = lost or len(content) > LINE_BYTES
            lost = 0
            yield Text(number, end, None if too_long else content)
        if len(rest) > LINE_BYTES:
            lost += len(rest)
            rest = b""
    if rest or lost:
        too_long = lost or len(rest) > LINE_BYTES
        yield Text(number + 1, end + lost + len(rest), None if too_long else rest)


# JSON


class _Tagged(Struct, rename="camel", forbid_unknown_fields=True):
    tags: dict[Key, TagValue | None]
    device_id: Id | None = None
    user_id: Id | None = None


_read_tagged = msgspec.json.Decoder(_Tagged).decode
_read_any = msgspec.json.Decoder().decode
_read_entry = msgspec.json.Decoder(dict[Id, dict[Key, TagValue | None]]).decode


def read_jsonl(lines: Iterable[Text]) -> Iterator[Line | Bad]:
    """Lines such as `{"deviceId": "d", "tags": {"key": "value", "other": null}}`; blank ones are passed over."""
    for number, end, content in lines:
        if content is None:
            yield _too_long(number, end)
            continue
        try:
            told = _read_tagged(content)
        except JSON_ERRORS:
            if content.strip():
                yield Bad(number, number, end, *_why_not(content))
            continue
        if (told.device_id is None) == (told.user_id is None):
            yield Bad(number, number, end, "malformed", _ONE_SUBJECT)
        elif told.device_id is not None:
            yield Line(number, number, end, told.device_id, False, told.tags)
        else:
            yield Line(number, number, end, told.user_id or "", True, told.tags)


_ONE_SUBJECT = "It takes exactly one of deviceId and userId."


def _why_not(content: bytes) -> tuple[LineReason, str]:
    """Why a line is not of the shape that it must be."""
    try:
        told = _read_any(content)
    except JSON_ERRORS:
        return "malformed", "It is not JSON."
    if not isinstance(told, dict):
        return "malformed", "It is not a JSON object."
    if complaint := _shape_complaint(told):
        return "malformed", complaint
    subject = told.get("deviceId") or told.get("userId") or ""
    if len(subject) > _ID_LIMIT:
        return _too_long_id(is_user=not told.get("deviceId"))
    return "tag_invalid", _tag_complaint(told["tags"])


def _shape_complaint(told: dict[str, Any]) -> str:
    named = [name for name in ("deviceId", "userId") if told.get(name) is not None]
    if len(named) != 1:
        return _ONE_SUBJECT
    if not isinstance(told[named[0]], str) or not told[named[0]]:
        return f"{named[0]} is not text, or is empty."
    if not isinstance(told.get("tags"), dict):
        return "tags is missing, or is not a JSON object."
    return "It has members besides the id and tags." if told.keys() - _MEMBERS else ""


_MEMBERS = {"deviceId", "userId", "tags"}


def read_entry(number: int, end: int, content: bytes | None, *, null_removes: bool) -> Line | Bad:
    """What an entry `"id": {"key": "value"}` of a JSON object says; without `null_removes` a null leaves a tag alone."""
    if content is None:
        return _too_long(number, end)
    text = b"{%b}" % content
    try:
        told = _read_entry(text)
        ((subject, tags),) = told.items()
    except (*JSON_ERRORS, ValueError):
        return Bad(number, number, end, *_why_no_entry(text))
    if not null_removes:
        tags = {key: value for key, value in tags.items() if value is not None}
    return Line(number, number, end, subject, False, tags)


def _why_no_entry(text: bytes) -> tuple[LineReason, str]:
    try:
        told = _read_any(text)
    except JSON_ERRORS:
        return "malformed", "It is not JSON."
    tags = next(iter(told.values()), None)
    subject = next(iter(told), "")
    if len(told) != 1 or not isinstance(tags, dict) or not subject:
        return "malformed", "It is not a device's id and an object of its tags."
    return _too_long_id(is_user=False) if len(subject) > _ID_LIMIT else ("tag_invalid", _tag_complaint(tags))


# CSV


class Columns(NamedTuple):
    """Where a CSV file has what: three places in a row."""

    subject: int
    key: int
    value: int
    is_user: bool


def read_header(content: bytes) -> Columns | None:
    """The columns that the first line of a CSV file names, in any order; None if it is no such line."""
    try:
        names = next(csv.reader([content.rstrip(b"\r").decode()], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return None
    for subject in ("deviceId", "userId"):
        if sorted(names) == sorted((subject, "key", "value")):
            return Columns(
                names.index(subject), names.index("key"), names.index("value"), subject == "userId"
            )
    return None


def read_rows(lines: Iterable[Text], columns: Columns) -> Iterator[Line | Bad]:
    """Rows of three values, each a tag; an empty value removes it. Blank lines are passed over."""
    keys: set[str] = set()
    for first, last, content in _rows(lines):
        if content is None:
            yield _too_long(first.number, last.end)
            continue
        row = _cells(content)
        if row is None:
            if content.strip():
                complaint = "It is not a row of three values."
                yield Bad(first.number, last.number, last.end, "malformed", complaint)
            continue
        subject, key, value = row[columns.subject], row[columns.key], row[columns.value]
        fault = _row_fault(subject, key, value, keys, is_user=columns.is_user)
        if fault is not None:
            yield Bad(first.number, last.number, last.end, *fault)
        else:
            tags: Tags = {key: value or None}
            yield Line(first.number, last.number, last.end, subject, columns.is_user, tags)


def _rows(lines: Iterable[Text]) -> Iterator[tuple[Text, Text, bytes | None]]:
    """The first and the last line of each row, and what they hold together: a quoted value may have line breaks.

    A quote that nothing closes within reach, or in the wrong place, costs its own line only.
    """
    ahead: deque[Text] = deque()
    source = iter(lines)
    while (first := ahead.popleft() if ahead else next(source, None)) is not None:
        if first.content is None or first.content.count(b'"') % 2 == 0:
            yield first, first, first.content
            continue
        taken, size, whole = [first], len(first.content), False
        while not whole and size <= _ROW_BYTES:
            line = ahead.popleft() if ahead else next(source, None)
            if line is None:
                break
            taken.append(line)
            if line.content is None:
                break
            # Each takes memory, also an empty one.
            size += len(line.content) + _LINE_COST
            whole = line.content.count(b'"') % 2 == 1
        row = b"\n".join(line.content or b"" for line in taken)
        if whole and _cells(row) is not None:
            yield first, taken[-1], row
        else:
            ahead.extendleft(reversed(taken[1:]))
            yield first, first, first.content


def _cells(content: bytes) -> list[str] | None:
    """The three values of a row, or None if it has not as many."""
    try:
        text = content.removesuffix(b"\r").decode()
        row = next(csv.reader([text], strict=True), []) if '"' in text else text.split(",")
    except (UnicodeDecodeError, csv.Error):
        return None
    return row if len(row) == len(Columns._fields) - 1 else None


def _row_fault(
    subject: str, key: str, value: str, keys: set[str], *, is_user: bool
) -> tuple[LineReason, str] | None:
    """What is wrong with a row; `keys` are those known to be right."""
    if not subject:
        return "malformed", f"{'userId' if is_user else 'deviceId'} is empty."
    if len(subject) > _ID_LIMIT:
        return _too_long_id(is_user=is_user)
    if key not in keys:
        if not _is_key(key):
            return "tag_invalid", _KEY_RULE
        if len(keys) < _KEYS_KNOWN:
            keys.add(key)
    return ("tag_invalid", _VALUE_RULE) if len(value) > _VALUE_LIMIT else None


# Both


_is_key = re.compile(KEY_PATTERN).fullmatch


def _too_long(number: int, end: int) -> Bad:
    return Bad(number, number, end, "too_long", "It is longer than 1 MiB.")


def _too_long_id(*, is_user: bool) -> tuple[LineReason, str]:
    return "unknown_user" if is_user else "unknown_device", f"No id is longer than {_ID_LIMIT} characters."


def _tag_complaint(tags: dict[str, object]) -> str:
    return _VALUE_RULE if all(map(_is_key, tags)) else _KEY_RULE
