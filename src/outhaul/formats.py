"""Rows → bytes: what files are called, and how a row is written down as a line of text.

Rendering text inside the engine, column by column, is several times faster than row by row in Python, and the
strings it makes are the file's bytes: a text file is `head`, the lines, `tail`. JSON is one array with one object per
line and no null members, JSONL the objects alone; CSV is RFC 4180 with a header, CRLF, strings quoted, nothing for null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from outhaul.schema import EXPORT_TYPES
from outhaul.sql import named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outhaul.schema import Column, Kind
    from outhaul.wire import Compression, ExportRequest, Format, TimeFormat


_INTEGER = "0|[1-9][0-9]{0,14}"
_SUFFIXES: dict[Compression, str] = {"gzip": ".gz", "zstd": ".zst"}
_CONTENT_TYPES: dict[str, str] = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "gzip": "application/gzip",
    "zstd": "application/zstd",
}


def file_name(request: ExportRequest, task_id: str, number: int | None = None, day: str | None = None) -> str:
    """What a file is called: after the kind and the task; with a number where there are parts, in the folder of a day."""
    suffix = "" if request.format == "parquet" else _SUFFIXES.get(request.compression, "")
    part = "" if number is None else f"-{number:05d}"
    folder = "" if day is None else f"day={day}/"
    return f"{folder}{EXPORT_TYPES[request.kind]}_{task_id}{part}.{request.format}{suffix}"


def manifest_name(kind: Kind, task_id: str) -> str:
    """What the manifest of a task is called."""
    return f"{EXPORT_TYPES[kind]}_{task_id}.manifest.json"


def content_type(request: ExportRequest) -> str:
    """The media type of a file; of a compressed text, that of the compression."""
    if request.format != "parquet" and request.compression != "none":
        return _CONTENT_TYPES[request.compression]
    return _CONTENT_TYPES[request.format]


class Writing(Struct, frozen=True):
    """How a text file is put together: `head` + the lines without the first `trim` bytes + `tail`."""

    line: str
    head: bytes
    tail: bytes
    trim: int


def writing(form: Format, columns: tuple[Column, ...], time_format: TimeFormat) -> Writing:
    """How rows with these columns are written as text."""
    if form == "csv":
        return _csv(columns, time_format)
    members = json_object(columns, time_format)
    if form == "jsonl":
        return Writing(f"concat({members}, E'\\n')", b"", b"", 0)
    # The separator stands before each line, so that a file can be cut after any line and continued.
    return Writing(f"concat(E',\\n', {members})", b"[", b"\n]\n", 1)


def _time(column: str, time_format: TimeFormat) -> str:
    if time_format == "rfc3339":
        return f"strftime({column}, '%Y-%m-%dT%H:%M:%S.%gZ')"
    return f"epoch_ms({column})"


def json_object(columns: Sequence[Column], time_format: TimeFormat) -> str:
    """A row as one JSON object, as the arguments of `concat`."""
    first_is_there = columns[0].required
    parts = []
    for index, column in enumerate(columns):
        name = named(column.name)
        if column.type == "string":
            value = f"to_json({name})::VARCHAR"
        elif column.type == "identifier":
            value = f"CASE WHEN regexp_full_match({name}, '{_INTEGER}') THEN {name} ELSE to_json({name})::VARCHAR END"
        elif column.type == "time":
            value = _time(name, time_format)
            if time_format == "rfc3339":
                value = f"'\"', {value}, '\"'"
        else:
            value = name
        label = ("" if index == 0 and first_is_there else ",") + f'"{column.name}":'
        if column.required:
            parts.append(f"'{label}', {value}")
        else:
            parts.append(f"CASE WHEN {name} IS NULL THEN '' ELSE concat('{label}', {value}) END")
    members = ", ".join(parts)
    # Whichever member comes first has a comma to lose.
    return f"'{{', {members}, '}}'" if first_is_there else f"'{{', substr(concat({members}), 2), '}}'"


def _csv(columns: tuple[Column, ...], time_format: TimeFormat) -> Writing:
    parts = []
    for column in columns:
        name = named(column.name)
        if column.type in {"string", "json", "identifier"}:
            value = f"concat('\"', replace({name}, '\"', '\"\"'), '\"')"
            parts.append(value if column.required else f"CASE WHEN {name} IS NULL THEN '' ELSE {value} END")
        else:
            parts.append(_time(name, time_format) if column.type == "time" else name)
    line = "concat(" + ", ',', ".join(parts) + ", E'\\r\\n')"
    head = ",".join(column.name for column in columns).encode() + b"\r\n"
    return Writing(line, head, b"", 0)
