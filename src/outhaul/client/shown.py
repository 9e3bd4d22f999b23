"""An export as it was last seen, its members as attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from outhaul.errors import Cancelled, ExportFailed, Invalid
from outhaul.rest import Export
from outhaul.wire import DOWNLOAD

if TYPE_CHECKING:
    from outhaul.rest import Attempt, DestinationShown, ExportSpec, File, Progress, Trouble
    from outhaul.schema import Kind
    from outhaul.wire import TaskState


class Shown:
    """The members of an export, as of the last answer about it; `export` holds them all."""

    export: Export

    id: str
    app: str
    app_id: str
    kind: Kind
    state: TaskState
    cancelling: bool
    description: str | None
    request: ExportSpec
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

    def __getattr__(self, name: str) -> Any:
        if name in Export.__struct_fields__:
            return getattr(self.export, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}", name=name, obj=self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {self.kind} of {self.app}, {self.state}>"


def check_success(export: Export) -> None:
    """Let an export that has ended pass if it succeeded.

    Raises:
        ExportFailed: it failed, with the code, the message and the hint of its failure.
        Cancelled: it was cancelled.
    """
    if export.state == "cancelled":
        raise Cancelled(f"The export {export.id} was cancelled.", hint="`retry()` goes on where it stopped.")
    if export.state == "failed":
        _fail(export)


def _fail(export: Export) -> NoReturn:
    if export.error is None:
        raise ExportFailed(f"The export {export.id} failed.")
    trouble = export.error
    raise ExportFailed(
        f"The export {export.id} failed: {trouble.message}", hint=trouble.hint, code=trouble.code
    )


def check_kept(export: Export) -> None:
    """Let an export pass if its files are there to be fetched from the server.

    Raises:
        Invalid: its files are elsewhere, or it is not done.
        ExportFailed: it failed.
        Cancelled: it was cancelled.
    """
    if export.destination.url != DOWNLOAD:
        raise Invalid(
            f"The files of the export {export.id} are not kept by the server; they went to {export.destination.url}.",
            hint="Read them there, or ask for an export without a destination.",
        )
    check_success(export)
    if export.state != "succeeded":
        raise Invalid(f"The export {export.id} is {export.state}.", hint="`wait()` until it is done.")
