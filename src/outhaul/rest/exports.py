"""Exports: asked for, checked, shown."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from outhaul.rest.base import Answered, Asked, Description, Name
from outhaul.schema import Kind, RecordKind  # noqa: TC001  msgspec resolves them at run time
from outhaul.wire import (
    Compression,
    Destination,
    FileEntry,
    Filter,
    Format,
    Mask,
    PeriodBy,
    Phase,
    Subject,
    TaskState,
    TimeFormat,
)

MIN_FILE_BYTES = 1024 * 1024
"""The smallest `maxFileBytes` that is taken."""


class Between(Asked, frozen=True):
    """A half-open interval: `from` is in it, `to` is not; by event time, or by when the server received the record."""

    from_: str = field(name="from")
    to: str
    by: PeriodBy = "timestamp"


class CampaignChoice(Asked, frozen=True):
    """Of push feedback: the campaigns of one type, by `ids`, or all that were active at some time from `from` to `to`."""

    type: Literal["Announcement", "DataPush", "NativePush", "Poll"]
    ids: list[str] | None = None
    from_: str | None = field(default=None, name="from")
    to: str | None = None


class ExportSpec(Asked, frozen=True):
    """An export asked for. `app` is its name or its `appId`; without a `destination` the server keeps the files.

    `compression` of None is `zstd` for Parquet and `none` for text. `maxFileBytes` and `dayPath` go with
    `layout: parts`. `of` goes with kind `history`: whose.
    """

    app: Name
    kind: Kind
    of: Subject | None = None
    period: Between | None = None
    campaigns: CampaignChoice | None = None
    format: Format = "jsonl"
    compression: Compression | None = None
    columns: list[str] | None = None
    where: Filter | None = None
    mask: dict[str, Mask] | None = None
    layout: Literal["single", "parts"] = "single"
    max_file_bytes: Annotated[int, Meta(ge=MIN_FILE_BYTES)] | None = None
    day_path: bool = False
    time_format: TimeFormat | None = None
    destination: Destination | None = None
    description: Description | None = None


class HistorySpec(Asked, frozen=True):
    """An export of the history of the user or device in the path; a token that is for one app need not say which."""

    app: Name | None = None
    period: Between | None = None
    format: Format = "jsonl"
    compression: Compression | None = None
    columns: list[str] | None = None
    where: Filter | None = None
    mask: dict[str, Mask] | None = None
    layout: Literal["single", "parts"] = "single"
    max_file_bytes: Annotated[int, Meta(ge=MIN_FILE_BYTES)] | None = None
    day_path: bool = False
    time_format: TimeFormat | None = None
    destination: Destination | None = None
    description: Description | None = None


class PersonRecord(Answered, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a history: a record of any kind. `record` has every column that an export of its kind can have."""

    kind: RecordKind
    timestamp: str
    device_id: str | None = None
    user_id: str | None = None
    record: dict[str, Any]


class ExportAsked(ExportSpec, frozen=True, forbid_unknown_fields=False):
    """The same as it is answered: a server may say more than a client knows."""


class NewDestination(Asked, frozen=True):
    """Another destination for a task, or new credentials for the same one."""

    destination: Destination


class DestinationShown(Answered, frozen=True):
    """What may be seen of a destination: no credentials, no query."""

    url: str


class Progress(Answered, frozen=True):
    """How far a task is. `bytesPlanned` and `etaSeconds` are estimates, null until there is something to go by."""

    phase: Phase
    percent: float
    rows_done: int
    rows_planned: int | None
    bytes_written: int
    bytes_delivered: int
    bytes_planned: int | None
    parts_done: int
    eta_seconds: float | None


class Trouble(Answered, frozen=True):
    """Why an attempt failed: what happened, and what to do about it."""

    code: str
    message: str
    hint: str


class Attempt(Answered, frozen=True):
    """An attempt at a task that failed; the first is number 1."""

    number: int
    at: str
    error: Trouble


class File(FileEntry, frozen=True, rename="camel"):
    """A file of an export; `url` is a short-lived link where the server keeps it, else null."""

    url: str | None = None


class Export(Answered, frozen=True):
    """An export task as it is now. `request` is what was asked, without the destination and its credentials."""

    id: str
    app: str
    app_id: str
    kind: Kind
    state: TaskState
    cancelling: bool
    description: str | None
    request: ExportAsked
    destination: DestinationShown
    created_at: str
    created_by: str
    started_at: str | None
    completed_at: str | None
    expires_at: str | None
    attempt: int
    progress: Progress
    error: Trouble | None
    attempts: list[Attempt]
    files: list[File]
    manifest: File | None
    rows: int | None
    bytes: int | None


class ExportList(Answered, frozen=True):
    """A page of exports, newest first; `nextPageToken` is null on the last page."""

    exports: list[Export]
    next_page_token: str | None


class CheckStep(Answered, frozen=True):
    """One thing that was looked at. `ok` of null: not looked at since an earlier one failed, or it cannot be known."""

    name: Literal["parse", "allowed", "reach", "authorised", "valid_long_enough"]
    ok: bool | None
    detail: str
    cure: str


class Estimate(Answered, frozen=True):
    """What an export would come to, from the statistics of the stored tables; `atMost`: a filter may leave less."""

    rows: int
    bytes: int
    seconds: float
    at_most: bool


class Check(Answered, frozen=True):
    """What would happen to an export asked for like this; `ok` when every step is. No estimate is made of a history."""

    ok: bool
    steps: list[CheckStep]
    estimate: Estimate | None
