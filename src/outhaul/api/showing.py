"""A task as clients see it: what was asked, how far it is, what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from msgspec import Struct

from outhaul import instants
from outhaul.formats import manifest_name
from outhaul.rest import (
    Attempt,
    Between,
    CampaignChoice,
    DestinationShown,
    Export,
    ExportAsked,
    File,
    Progress,
    Trouble,
)
from outhaul.wire import DOWNLOAD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outhaul.api.operations import Call
    from outhaul.wire import ExportRequest, FileEntry, Period, Task


class Link(Struct, frozen=True, tag="link"):
    """What a link to a file says, sealed: who may fetch which file until when (ms)."""

    task_id: str
    name: str
    actor: str
    until: int


def show_export(call: Call, task: Task, app_names: Mapping[str, str]) -> Export:
    """A task as it is now; links in it are for the caller, and end soon."""
    request = show_request(task)
    files = [_file(call, task, entry) for entry in task.files or []] if task.state == "succeeded" else []
    name = manifest_name(task.request.kind, task.id)
    data = [file for file in files if file.name != name]
    return Export(
        id=task.id,
        app=app_names.get(task.app_id, task.app_id),
        app_id=task.app_id,
        kind=task.request.kind,
        state=task.state,
        cancelling=task.cancelling,
        description=task.description,
        request=request,
        destination=DestinationShown(task.destination_shown),
        created_at=instants.show(task.created_at),
        created_by=task.created_by,
        started_at=_instant(task.started_at),
        completed_at=_instant(task.completed_at),
        expires_at=_instant(task.expires_at),
        attempt=task.attempt,
        progress=show_progress(task, call.door.now()),
        error=_trouble(task),
        attempts=[
            Attempt(one.attempt, instants.show(one.at), Trouble(one.code, one.message, one.hint))
            for one in task.failures
        ],
        files=data,
        manifest=next((file for file in files if file.name == name), None),
        rows=sum(file.rows for file in data) if task.state == "succeeded" else None,
        bytes=sum(file.bytes for file in data) if task.state == "succeeded" else None,
    )


def show_request(task: Task) -> ExportAsked:
    """What was asked, so that it can be asked again; without the destination and its credentials."""
    request = task.request
    parts = request.max_file_bytes is not None or request.day_path
    return ExportAsked(
        app=task.app_id,
        kind=request.kind,
        of=request.of,
        period=_between(request.period) if request.period else None,
        campaigns=_campaigns(request),
        format=request.format,
        compression=request.compression,
        columns=request.columns,
        where=request.where,
        mask=request.mask,
        layout="parts" if parts else "single",
        max_file_bytes=request.max_file_bytes,
        day_path=request.day_path,
        time_format=request.time_format,
        description=task.description,
    )


def show_progress(task: Task, now: int) -> Progress:
    """How far a task is: bytes written and bytes delivered, out of twice those planned."""
    planned = _planned(task)
    done = task.bytes_done + task.bytes_delivered
    # What is planned is a guess: only success is the whole.
    share = min(done / (2 * planned), 0.999) if planned else 0.0
    if task.state == "succeeded":
        share = 1.0
    # Of one taken up again nobody knows how much was there before, and when it stood still.
    running = task.state == "started" and task.started_at is not None and task.attempt == 1 and share > 0
    elapsed = (now - (task.started_at or now)) / 1000
    return Progress(
        phase=task.phase,
        percent=round(100 * share, 1),
        rows_done=task.rows_done,
        rows_planned=task.rows_planned,
        bytes_written=task.bytes_done,
        bytes_delivered=task.bytes_delivered,
        bytes_planned=planned,
        parts_done=task.parts_done,
        eta_seconds=round(max(0.0, elapsed) * (1 - share) / share, 1) if running else None,
    )


def _planned(task: Task) -> int | None:
    if task.rows_planned is None:
        return None
    if task.rows_done >= task.rows_planned:
        return task.bytes_done
    return task.bytes_done * task.rows_planned // task.rows_done if task.rows_done else None


def _between(period: Period) -> Between:
    return Between(from_=instants.show(period.start), to=instants.show(period.end), by=period.by)


def _campaigns(request: ExportRequest) -> CampaignChoice | None:
    chosen = request.campaigns
    if chosen is None:
        return None
    window = chosen.window
    # The ledger's is any text, for it is what the old API was given too; both take the same four.
    return msgspec.convert(
        {
            "type": chosen.type,
            "ids": chosen.ids,
            "from": instants.show(window.start) if window else None,
            "to": instants.show(window.end) if window else None,
        },
        CampaignChoice,
    )


def _trouble(task: Task) -> Trouble | None:
    if task.error is None:
        return None
    if not task.failures:
        return Trouble(code="error", message=task.error, hint="")
    last = task.failures[-1]
    return Trouble(last.code, last.message, last.hint)


def _file(call: Call, task: Task, entry: FileEntry) -> File:
    return File(
        name=entry.name,
        rows=entry.rows,
        bytes=entry.bytes,
        sha256=entry.sha256,
        content_type=entry.content_type,
        url=_link(call, task, entry.name),
    )


def _link(call: Call, task: Task, name: str) -> str | None:
    """A link to a file that the server keeps, good for a short time without a token; None of any other."""
    now = call.door.now()
    if task.destination_shown != DOWNLOAD or task.expires_at is None or task.expires_at <= now:
        return None
    until = min(now + call.door.config.download_link_s * 1000, task.expires_at)
    link = Link(task_id=task.id, name=name, actor=call.caller.actor, until=until)
    sealed = call.door.keyring.seal(link)
    return f"{call.base}/exports/{task.id}/files/{quote(name)}?link={sealed}"


def _instant(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else instants.show(milliseconds)
