"""Shapes that several rooms pass to each other: what an export is asked to do, how far it got, what it proves.

Times are ms since 1970 UTC. Everything encodes to camelCase JSON.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from outhaul.schema import Kind  # noqa: TC001  msgspec resolves it at run time

Format = Literal["json", "csv"]
Role = Literal["owner", "contributor", "reader"]
Platform = Literal["android", "ios", "windows", "windowsPhone", "web"]
TaskState = Literal["queued", "started", "succeeded", "failed"]


class Period(Struct, frozen=True, rename="camel"):
    """A half-open interval of event time: `start` is in it, `end` is not."""

    start: int
    end: int


class Campaigns(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Which campaigns' feedback: by id, or all of the type that were active at some time in `window`."""

    type: str
    ids: list[str] | None = None
    window: Period | None = None


class ExportRequest(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What to export, and how it is written down."""

    kind: Kind
    format: Format
    period: Period | None = None
    campaigns: Campaigns | None = None


class Pin(Struct, frozen=True, rename="camel"):
    """What an export reads and how it is made, chosen once when it starts: a Delta version per table, and the time.

    The settings that shape the bytes are in it too, so that a task taken up after they changed stays the same.
    """

    versions: dict[str, int]
    at: int
    slice_rows: int
    time_format: str


class FileEntry(Struct, frozen=True, rename="camel"):
    """One file of an export. `sha256` is lower-case hex, of the bytes as delivered."""

    name: str
    rows: int
    bytes: int
    sha256: str
    content_type: str


class ColumnEntry(Struct, frozen=True, rename="camel"):
    name: str
    type: str
    nullable: bool


class Manifest(Struct, frozen=True, kw_only=True, rename="camel"):
    """The proof of an export, written last: if it is there, the export is whole.

    `rows` was counted in the pinned tables before anything was written; the files' rows were counted while
    writing; the export succeeded only because they are equal.
    """

    manifest_version: int
    task_id: str
    app_id: str
    export_type: str
    format: str
    time_format: str
    schema: list[ColumnEntry]
    period: dict[str, str] | None
    campaigns: Campaigns | None
    table_versions: dict[str, int]
    pinned_at: str
    rows: int
    bytes: int
    files: list[FileEntry]


class Task(Struct, kw_only=True, rename="camel"):
    """One export asked for. `destination` is encrypted, and gone once the task has ended."""

    id: str
    app_id: str
    request: ExportRequest
    destination: str | None
    state: TaskState
    created_at: int
    mark: int
    description: str | None = None
    completed_at: int | None = None
    error: str | None = None
    pin: Pin | None = None
    rows_planned: int | None = None
    rows_done: int = 0
    bytes_done: int = 0
    files: list[FileEntry] | None = None
