"""Imports: asked for, shown."""

from __future__ import annotations

from outhaul.rest.base import Answered, Asked, Description, Name
from outhaul.rest.exports import Attempt, Trouble  # noqa: TC001  msgspec resolves it at run time
from outhaul.wire import (  # noqa: TC001  msgspec resolves them at run time
    ImportFormat,
    LineProblem,
    LineReason,
    Source,
    TaskState,
)


class ImportSpec(Asked, frozen=True):
    """An import asked for: one file of tags for the devices of `app` (its name or its `appId`).

    `format` of `auto` is seen from the file.
    """

    app: Name
    source: Source
    format: ImportFormat = "auto"
    description: Description | None = None


class NewSource(Asked, frozen=True):
    """New credentials for the same file; without `source`, those given before."""

    source: Source | None = None


class SourceShown(Answered, frozen=True):
    """What may be seen of a source: no credentials, no query."""

    url: str


class ImportProgress(Answered, frozen=True):
    """How far an import is, counting what is applied for good.

    `bytesTotal` is null until the file was looked at. `linesDone` is the number of the last line that is done, in a JSON
    object of the last entry; blank ones and a header are neither applied nor rejected. `tagsSet` counts tags set and
    removed, on every device of a user.
    """

    percent: float
    bytes_done: int
    bytes_total: int | None
    lines_done: int
    lines_applied: int
    lines_rejected: int
    tags_set: int


class ImportShown(Answered, frozen=True):
    """An import as it is now.

    `rejected` counts the lines that were not applied by reason; the first hundred of them are in `problems`, which quote
    nothing of the file.
    """

    id: str
    app: str
    app_id: str
    state: TaskState
    cancelling: bool
    description: str | None
    format: ImportFormat
    source: SourceShown
    created_at: str
    created_by: str
    started_at: str | None
    completed_at: str | None
    attempt: int
    progress: ImportProgress
    rejected: dict[LineReason, int]
    problems: list[LineProblem]
    error: Trouble | None
    attempts: list[Attempt]


class ImportList(Answered, frozen=True):
    """A page of imports, newest first; `nextPageToken` is null on the last page."""

    imports: list[ImportShown]
    next_page_token: str | None
