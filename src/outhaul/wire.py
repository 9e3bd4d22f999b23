"""Shapes that several rooms pass to each other: what an export is asked to do, how far it got, what it proves.

Times are ms since 1970 UTC. Everything encodes to camelCase JSON.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from outhaul.records import Id  # noqa: TC001  msgspec resolves it at run time
from outhaul.schema import Kind  # noqa: TC001  msgspec resolves it at run time

Format = Literal["json", "jsonl", "csv", "parquet"]
Compression = Literal["none", "gzip", "zstd", "snappy", "lz4"]
TimeFormat = Literal["ms", "rfc3339"]
PeriodBy = Literal["timestamp", "receivedAt"]
Role = Literal["owner", "contributor", "reader"]
Platform = Literal["android", "ios", "windows", "windowsPhone", "web"]
TagType = Literal["string", "integer", "date", "boolean"]
TaskState = Literal["queued", "started", "succeeded", "failed", "cancelled"]
ENDED: tuple[TaskState, ...] = ("succeeded", "failed", "cancelled")
Phase = Literal["waiting", "counting", "writing", "delivering", "proving"]
Scope = Literal[
    "exports:read",
    "exports:write",
    "data:read",
    "data:write",
    "data:erase",
    "apps:read",
    "apps:write",
    "tokens:read",
    "tokens:write",
    "audit:read",
]

READS: tuple[Scope, ...] = ("exports:read", "data:read", "apps:read", "tokens:read")
ROLE_SCOPES: dict[Role, tuple[Scope, ...]] = {
    "reader": READS,
    "contributor": (*READS, "exports:write", "data:write"),
    "owner": (
        *READS,
        "exports:write",
        "data:write",
        "data:erase",
        "apps:write",
        "tokens:write",
        "audit:read",
    ),
}
"""What each role may do, as scopes of tokens."""


class Period(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A half-open interval: `start` is in it, `end` is not; of event time, or of the time of arrival."""

    start: int
    end: int
    by: PeriodBy = "timestamp"


class Campaigns(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Which campaigns' feedback: by id, or all of the type that were active at some time in `window`."""

    type: str
    ids: list[str] | None = None
    window: Period | None = None


Scalar = str | int | float | bool


class Filter(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One condition on a column, or several joined: exactly one of `and`, `or`, `not` and `column`.

    A column goes with exactly one comparison. A value that is missing fails every comparison except `null` and `ne`.
    """

    all_of: list[Filter] | None = field(default=None, name="and")
    any_of: list[Filter] | None = field(default=None, name="or")
    negated: Filter | None = field(default=None, name="not")
    column: str | None = None
    eq: Scalar | None = None
    ne: Scalar | None = None
    lt: Scalar | None = None
    le: Scalar | None = None
    gt: Scalar | None = None
    ge: Scalar | None = None
    one_of: list[Scalar] | None = field(default=None, name="in")
    prefix: str | None = None
    null: bool | None = None


class Truncate(Struct, frozen=True, forbid_unknown_fields=True):
    """Keep the first so many characters of a text, or a time down to the unit."""

    truncate: int | Literal["minute", "hour", "day"]


Mask = Literal["drop", "hash"] | Truncate
"""`drop` leaves the column out, `hash` replaces a text by its HMAC-SHA256 under the app's key, in lower-case hex."""


class Subject(
    Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True
):
    """Whose records are meant: exactly one of a user and a device. `outhaul.subjects` says which records these are."""

    user_id: Id | None = None
    device_id: Id | None = None


class ExportRequest(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What to export, and how it is written down.

    `columns` of None are those that every export of the kind has. `max_file_bytes` of None is one file. `day_path`
    puts the files of each UTC day of event time into a folder `day=YYYY-MM-DD`. `time_format` of None is the server's.
    `of` goes with kind `history`, and with no other.
    """

    kind: Kind
    format: Format
    period: Period | None = None
    campaigns: Campaigns | None = None
    compression: Compression = "none"
    columns: list[str] | None = None
    where: Filter | None = None
    mask: dict[str, Mask] | None = None
    max_file_bytes: int | None = None
    day_path: bool = False
    time_format: TimeFormat | None = None
    of: Subject | None = None


class Destination(
    Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True
):
    """Where files go, with what it takes to write there; never shown whole once it was taken.

    `url` is an Azure container (`https://ACCOUNT.blob.core.windows.net/CONTAINER?SAS`, the token in it or in
    `sas_token`), `s3://BUCKET/PREFIX` with keys and a region (and an `endpoint` unless it is Amazon's),
    `gs://BUCKET/PREFIX` with a service account's JSON, `file:///FOLDER/`, or `download:` for files that the server
    keeps to be fetched.
    """

    url: str
    sas_token: str | None = None
    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    service_account: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return "Destination(…)"


class Source(
    Destination, frozen=True, kw_only=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True
):
    """Where one file is read from, with what it takes to read it: the members of a destination, with the file's URL."""

    def __repr__(self) -> str:
        return "Source(…)"


DOWNLOAD = "download:"
"""The URL of the destination that is the server itself: files are kept there to be fetched."""


class Pin(Struct, frozen=True, rename="camel"):
    """What an export reads and how it is made, chosen once when it starts: a Delta version per table, and the time.

    The settings that shape the bytes are in it too, so that a task taken up after they changed stays the same. So are
    the types declared for tags, by key, where the export shows them, and the devices of the user that an export is of.
    """

    versions: dict[str, int]
    at: int
    slice_rows: int
    time_format: TimeFormat
    session_idle_s: int = 10
    session_timeout_s: int = 180
    tag_types: dict[str, TagType] = {}
    devices: list[str] = []


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
    compression: str
    time_format: str
    schema: list[ColumnEntry]
    period: dict[str, str] | None
    campaigns: Campaigns | None
    of: Subject | None = None
    where: Filter | None
    mask: dict[str, Mask] | None
    table_versions: dict[str, int]
    pinned_at: str
    rows: int
    bytes: int
    files: list[FileEntry]


class Failure(Struct, frozen=True, kw_only=True, rename="camel"):
    """How one attempt at a task ended without success. `attempt` counts from 1."""

    attempt: int
    at: int
    code: str
    message: str
    hint: str


class Task(Struct, kw_only=True, rename="camel"):
    """One export asked for.

    `destination` is encrypted, and gone once the task has succeeded, or ended otherwise so long ago that it is no longer
    taken up; `destination_shown` is what of it may be seen. `error` is set while the last attempt failed, `failures`
    holds every attempt that did. `attempt` goes up when a task that has ended is taken up again. A task that was asked
    to stop while it runs has `cancelling` set until it has stopped. `parts_done` are files written, `parts_delivered`
    those of them that are in the container. `expires_at` is when files that the server keeps are removed. The last of
    `files`, once the task has succeeded, is the manifest.
    """

    id: str
    app_id: str
    request: ExportRequest
    destination: str | None
    state: TaskState
    created_at: int
    mark: int
    destination_shown: str = ""
    created_by: str = ""
    idempotency_key: str | None = None
    idempotency_hash: str | None = None
    description: str | None = None
    started_at: int | None = None
    completed_at: int | None = None
    expires_at: int | None = None
    attempt: int = 1
    cancelling: bool = False
    phase: Phase = "waiting"
    error: str | None = None
    failures: list[Failure] = []
    pin: Pin | None = None
    rows_planned: int | None = None
    rows_done: int = 0
    bytes_done: int = 0
    bytes_delivered: int = 0
    parts_done: int = 0
    parts_delivered: int = 0
    files: list[FileEntry] | None = None


class Due(Struct, frozen=True):
    """An attempt at a task that is to be made, or under way."""

    id: str
    app_id: str
    attempt: int


class Orders(Struct, frozen=True):
    """What whoever works on a task looks at again and again, for others may change it meanwhile."""

    attempt: int
    state: TaskState
    cancelling: bool
    destination: str | None
    destination_shown: str


# Imports

ImportFormat = Literal["auto", "jsonl", "json", "csv"]
LineReason = Literal["malformed", "tag_invalid", "unknown_device", "unknown_user", "too_long", "too_many"]
"""Why a line of an import was not applied: a closed set, so that all of them can be counted."""
PROBLEMS = 100
"""Lines that an import explains; the others are counted."""


class LineProblem(Struct, frozen=True, rename="camel"):
    """A line that was not applied, and why. It is not quoted: what is forgotten of a person must not live on there."""

    line: int
    reason: LineReason
    detail: str


class Import(Struct, kw_only=True, rename="camel"):
    """One file of tags to be read from somewhere and applied, once.

    `source` is encrypted, and gone once the import has succeeded; `source_shown` is what of it may be seen. `mark` is the
    journal position whose records it goes by: devices received before it was asked for are known to it. `version`
    is what identifies the file's bytes where it lies, so that one taken up again reads the same. `lines_done` is the
    number of the line that reading goes on behind when it is taken up again, and `bytes_done` how much of the file that
    is; what follows counts what is applied durably. Lines are `lines_applied` or in `rejected`, by reason; blank ones
    and the header of a CSV file are neither. The first of those rejected are in `problems`.
    """

    id: str
    app_id: str
    format: ImportFormat
    source: str | None
    source_shown: str
    state: TaskState
    created_at: int
    mark: int
    created_by: str = ""
    idempotency_key: str | None = None
    idempotency_hash: str | None = None
    description: str | None = None
    started_at: int | None = None
    completed_at: int | None = None
    attempt: int = 1
    cancelling: bool = False
    error: str | None = None
    failures: list[Failure] = []
    version: str | None = None
    bytes_total: int | None = None
    bytes_done: int = 0
    lines_done: int = 0
    lines_applied: int = 0
    tags_set: int = 0
    rejected: dict[LineReason, int] = {}
    problems: list[LineProblem] = []


# Erasures

ErasurePhase = Literal["waiting", "finding", "removing", "forgetting", "deleting", "done"]


class TableErased(Struct, frozen=True, rename="camel"):
    """What was removed from a stored table: rows and the files they were in, between two versions of it."""

    table: str
    rows: int
    files: int
    from_version: int
    to_version: int


class ExportTold(Struct, frozen=True, rename="camel"):
    """An earlier export that holds records of whoever was erased, and where it went; `rows` of None is not known."""

    id: str
    kind: Kind
    created_at: int
    destination_shown: str
    rows: int | None


class Receipt(Struct, frozen=True, kw_only=True, rename="camel"):
    """What an erasure did. It names nobody.

    `removed_at` is when nobody could read the records any more, `deleted_at` when the last file that held them was
    deleted: `files_deleted`, of `bytes_deleted` bytes. Until then `waiting_for` are exports that still read them.
    `remembered` counts what landing knew, `journal_files` damaged pieces of the journal that could not be looked
    into and were deleted whole, `downloads` exports whose kept files were deleted.
    """

    devices: int = 0
    tables: list[TableErased] = []
    remembered: int = 0
    journal_files: int = 0
    downloads: int = 0
    exports: list[ExportTold] = []
    waiting_for: list[str] = []
    removed_at: int | None = None
    files_deleted: int = 0
    bytes_deleted: int = 0
    deleted_at: int | None = None


class Erasure(Struct, kw_only=True, rename="camel"):
    """The removal of a user or a device, asked for once.

    `subject` is encrypted, as are the devices `found` to be theirs; both are gone when it has ended. `subject_digest`
    stays, to find the receipt by. `mark` is the
    journal position up to which records are removed at least: what lands once they were looked for is new.
    """

    id: str
    app_id: str
    of: Literal["user", "device"]
    subject: str | None
    subject_digest: str
    state: TaskState
    created_at: int
    mark: int
    created_by: str = ""
    phase: ErasurePhase = "waiting"
    started_at: int | None = None
    completed_at: int | None = None
    error: str | None = None
    found: str | None = None
    receipt: Receipt = Receipt()


# Retention

RetainedKind = Literal[
    "activity", "event", "job", "error", "crash", "session", "feedback", "device", "reject"
]
"""What a number of days can be set for: `device` takes along tags, tokens and users of devices not seen for so long."""
