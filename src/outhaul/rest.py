"""`/api/v1` on the wire: what is asked and what is answered, one definition for the door and for the Python SDK.

Everything is camelCase JSON. Instants are RFC 3339 text in UTC (`2026-11-23T12:00:00.000Z`); where one is asked for, a
date (`2026-11-23`, its start in UTC) will do. Clients must ignore members that they do not know.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from outhaul.records import Id, Key, TagValue
from outhaul.schema import Kind  # noqa: TC001  msgspec resolves it at run time
from outhaul.wire import (
    Compression,
    Destination,
    FileEntry,
    Filter,
    Format,
    Mask,
    PeriodBy,
    Phase,
    Platform,
    Scope,
    TagType,
    TaskState,
    TimeFormat,
)

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Description = Annotated[str, Meta(max_length=1024)]
MIN_FILE_BYTES = 1024 * 1024
"""The smallest `maxFileBytes` that is taken."""
MAX_TAGGED = 10_000
"""Devices or users that one request may tag."""


class _Asked(
    Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, rename="camel"
):
    """A request body: a member that does not exist is an error, for it was meant to do something."""


class _Answered(Struct, frozen=True, kw_only=True, rename="camel"):
    """An answer's body."""


# Exports


class Between(_Asked, frozen=True):
    """A half-open interval: `from` is in it, `to` is not; by event time, or by when the server received the record."""

    from_: str = field(name="from")
    to: str
    by: PeriodBy = "timestamp"


class CampaignChoice(_Asked, frozen=True):
    """Of push feedback: the campaigns of one type, by `ids`, or all that were active at some time from `from` to `to`."""

    type: Literal["Announcement", "DataPush", "NativePush", "Poll"]
    ids: list[str] | None = None
    from_: str | None = field(default=None, name="from")
    to: str | None = None


class ExportSpec(_Asked, frozen=True):
    """An export asked for. `app` is its name or its `appId`; without a `destination` the server keeps the files.

    `compression` of None is `zstd` for Parquet and `none` for text. `maxFileBytes` and `dayPath` go with
    `layout: parts`.
    """

    app: Name
    kind: Kind
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


class ExportAsked(ExportSpec, frozen=True, forbid_unknown_fields=False):
    """The same as it is answered: a server may say more than a client knows."""


class NewDestination(_Asked, frozen=True):
    """Another destination for a task, or new credentials for the same one."""

    destination: Destination


class DestinationShown(_Answered, frozen=True):
    """What may be seen of a destination: no credentials, no query."""

    url: str


class Progress(_Answered, frozen=True):
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


class Trouble(_Answered, frozen=True):
    """Why an attempt failed: what happened, and what to do about it."""

    code: str
    message: str
    hint: str


class Attempt(_Answered, frozen=True):
    """An attempt at a task that failed; the first is number 1."""

    number: int
    at: str
    error: Trouble


class File(FileEntry, frozen=True, rename="camel"):
    """A file of an export; `url` is a short-lived link where the server keeps it, else null."""

    url: str | None = None


class Export(_Answered, frozen=True):
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


class ExportList(_Answered, frozen=True):
    """A page of exports, newest first; `nextPageToken` is null on the last page."""

    exports: list[Export]
    next_page_token: str | None


class CheckStep(_Answered, frozen=True):
    """One thing that was looked at. `ok` of null: not looked at since an earlier one failed, or it cannot be known."""

    name: Literal["parse", "allowed", "reach", "authorised", "valid_long_enough"]
    ok: bool | None
    detail: str
    cure: str


class Estimate(_Answered, frozen=True):
    """What an export would come to, from the statistics of the stored tables; `atMost`: a filter may leave less."""

    rows: int
    bytes: int
    seconds: float
    at_most: bool


class Check(_Answered, frozen=True):
    """What would happen to an export asked for like this; `ok` when every step is."""

    ok: bool
    steps: list[CheckStep]
    estimate: Estimate | None


# What is there


class ColumnShown(_Answered, frozen=True):
    name: str
    type: str
    required: bool
    default: bool
    help: str


class KindShown(_Answered, frozen=True):
    """A kind of export: its columns, those with `default` of false only when asked for by name."""

    kind: Kind
    dated: bool
    help: str
    columns: list[ColumnShown]


class KindList(_Answered, frozen=True):
    kinds: list[KindShown]


class NewApp(_Asked, frozen=True):
    """An app to be registered, in the `collection` of its own name unless another is given."""

    name: Name
    platform: Platform
    collection: Name | None = None


class AppShown(_Answered, frozen=True, kw_only=True):
    """An app; nothing is taken from its devices while it has a `disabledAt`."""

    app_id: str
    name: str
    platform: Platform
    app_collection: str
    app_name: str
    created_at: str
    disabled_at: str | None = None


class RegisteredApp(AppShown, frozen=True, kw_only=True):
    """The same with the key that its devices send with."""

    sdk_key: str


class AppList(_Answered, frozen=True):
    apps: list[AppShown]


# Devices


class TagShown(_Answered, frozen=True):
    """A tag of a device, and when it was set."""

    value: str
    last_modified: str


class PushToken(_Answered, frozen=True):
    """A push token that is valid."""

    service: str
    token: str
    registered_at: str


class DeviceShown(_Answered, frozen=True):
    """A device as it is now; `info` and `area` hold what is known of it, by the names of the columns of exports."""

    device_id: str
    user_id: str | None
    first_seen: str
    last_seen: str
    last_info: str | None
    last_location: str | None
    native_push_enabled: bool
    info: dict[str, str | int]
    area: dict[str, str]
    tags: dict[str, TagShown]
    tokens: list[PushToken]


class DeviceList(_Answered, frozen=True):
    """A page of devices, in order of their ids; `nextPageToken` is null on the last page."""

    devices: list[DeviceShown]
    next_page_token: str | None


class UserShown(_Answered, frozen=True):
    """The devices whose user this is now, the one seen last first."""

    user_id: str
    devices: list[DeviceShown]


TagValues = dict[Key, TagValue | None]
"""Values by key; null removes a tag."""


class Tagging(_Asked, frozen=True):
    """Tags to be set, by the ids of `devices` or of `users`, whose devices then all get them; null removes a tag."""

    devices: Annotated[dict[Id, TagValues], Meta(max_length=MAX_TAGGED)] | None = None
    users: Annotated[dict[Id, TagValues], Meta(max_length=MAX_TAGGED)] | None = None


class Tagged(_Answered, frozen=True):
    """How many `devices` got tags, and which ids are of no device or user."""

    devices: int
    unknown: list[str]


class NewTag(_Asked, frozen=True):
    """What type a tag is meant to be of."""

    type: TagType


class TagDeclared(_Answered, frozen=True):
    key: str
    type: TagType
    declared_at: str


class TagList(_Answered, frozen=True):
    """The declared tags of an app, in order of their keys."""

    tags: list[TagDeclared]


# Who may


class NewToken(_Asked, frozen=True):
    """A token to be made: for one app (its name or `appId`) or, with None, for all; it may do what its scopes say."""

    name: Name
    scopes: Annotated[list[Scope], Meta(min_length=1)]
    app: Name | None = None
    expires_at: str | None = None


class Rotation(_Asked, frozen=True):
    """For how many seconds the secret that is replaced stays valid."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=30 * 24 * 3600)] = 24 * 3600


class Token(_Answered, frozen=True):
    """An API token, without its secret. `previousUntil`: until when the secret before the last rotation is valid."""

    id: str
    name: str
    app: str | None
    app_id: str | None
    scopes: list[Scope]
    created_at: str
    created_by: str
    expires_at: str | None
    last_used_at: str | None
    previous_until: str | None
    revoked_at: str | None


class IssuedToken(Token, frozen=True):
    """The same with its secret, which is shown this once."""

    secret: str

    def __repr__(self) -> str:
        return f"IssuedToken({self.id!r}, {self.name!r}, …)"


class TokenList(_Answered, frozen=True):
    tokens: list[Token]


class Caller(_Answered, frozen=True):
    """Who is asking, and what they may do. `app` of null: in every app."""

    actor: str
    app: str | None
    scopes: list[Scope]
    expires_at: str | None


class AuditEntry(_Answered, frozen=True):
    """Who did what to what, when. `actor` is `token:NAME`, `credential:NAME`, `oidc:SUBJECT` or `operator`."""

    at: str
    actor: str
    action: str
    target: str
    app_id: str | None
    request_id: str | None


class AuditList(_Answered, frozen=True):
    """A page of the audit log, newest first."""

    entries: list[AuditEntry]
    next_page_token: str | None


class Problem(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """Every error, as RFC 9457 has it (`application/problem+json`), with our `code`, `hint` and the request's id."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    request_id: str
    instance: str | UnsetType = UNSET
    errors: list[dict[str, Any]] | UnsetType = UNSET
