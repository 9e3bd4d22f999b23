"""`outhaul export`: exports, asked of a server and followed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from outhaul.cli.asking import KINDS, asked_options, read_asked
from outhaul.cli.exits import ERROR, FAILED, INTERRUPTED
from outhaul.cli.options import Group, json_option
from outhaul.cli.output import emit, fields, painted, plain, size, table
from outhaul.cli.places import DESTINATION
from outhaul.cli.progress import Progress, doing, line
from outhaul.cli.talking import PATIENT, QUICK, STEADY, talks
from outhaul.errors import Cancelled, Conflict, ExportFailed
from outhaul.schema import EXPORTS
from outhaul.wire import DOWNLOAD, ENDED, TaskState

if TYPE_CHECKING:
    from outhaul.client import Client, ExportTask
    from outhaul.rest import Export

_RESULTS = {True: "ok", False: "fail", None: "-"}


@click.group(cls=Group)
def export() -> None:
    """Exports: ask for them, follow them, fetch them.

    Example:
      outhaul export create shop event --from 2026-11-01 --to 2026-12-01 --format parquet --wait
    """


@export.command("create", epilog=KINDS)
@asked_options
@click.option(
    "--idempotency-key", metavar="KEY", help="The same key gives the same export, however often asked."
)
@click.option("--wait", is_flag=True, help="Follow it until it ends, as `export watch` does.")
@talks(STEADY)
@json_option
def create_export(
    client: Client, idempotency_key: str | None, wait: bool, as_json: bool, app: str, kind: Any, **asked: Any
) -> int:
    """Ask for an export of KIND from APP (its name or appId) and print its id.

    Secrets of a destination are read from a file, from standard input or from an environment variable.

    Example:
      outhaul export create shop event --from 2026-11-01 --to 2026-12-01 --format parquet --wait
      outhaul export create shop device --columns deviceId,locale --where '{"column": "locale", "prefix": "de"}'
      outhaul export create shop crash --from 2026-11-01 --to 2026-12-01 --destination-env CONTAINER_URL
    """
    task = client.exports.create(app, kind, idempotency_key=idempotency_key, **read_asked(asked))
    return taken(task, as_json, wait=wait)


@export.command("check", epilog=KINDS)
@asked_options
@talks(QUICK)
@json_option
def check_export(client: Client, as_json: bool, app: str, kind: Any, **asked: Any) -> int:
    """Show what would come of an export, step by step, without doing it; the exit code is 1 if it would fail.

    Example:
      outhaul export check shop event --from 2026-11-01 --to 2026-12-01 --destination-file container.json
    """
    check = client.exports.check(app, kind, **read_asked(asked))
    if as_json:
        emit(check)
        return 0 if check.ok else ERROR
    for step in check.steps:
        click.echo(f"{painted(f'{_RESULTS[step.ok]:<4}')}  {step.name:<18}  {step.detail}".rstrip())
        if step.cure:
            click.echo(f"{'':<26}{painted('Try:', 'ok')} {step.cure}")
    if check.estimate is not None:
        found = check.estimate
        most = "at most " if found.at_most else "about "
        click.echo(f"\n{most}{found.rows:,} rows, {size(found.bytes)}, {found.seconds:.0f} s")
    return 0 if check.ok else ERROR


@export.command("list")
@click.option("--app", help="Only those of this app, by its name or appId.")
@click.option("--state", type=click.Choice(get_args(TaskState)), help="Only those in this state.")
@click.option("--kind", type=click.Choice(tuple(EXPORTS)), help="Only those of this kind.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many to show.")
@talks(QUICK)
@json_option
def list_exports(client: Client, limit: int, as_json: bool, **chosen: Any) -> None:
    """Show exports, newest first.

    Example:
      outhaul export list --app shop --state failed --json
    """
    found = [task.export for task in itertools.islice(client.exports.list(**chosen), limit)]
    if as_json:
        return emit({"exports": found})
    table(
        ("id", "app", "kind", "format", "state", "done", "rows", "bytes", "created", "error"),
        [
            (
                *(one.id, one.app, one.kind, one.request.format, doing(one), f"{int(one.progress.percent)}%"),
                *(f"{one.progress.rows_done:,}", size(one.progress.bytes_written)),
                *(one.created_at, one.error.code if one.error else ""),
            )
            for one in found
        ],
        right=("done", "rows", "bytes"),
    )
    return None


@export.command("show")
@click.argument("export_id", metavar="ID")
@talks(QUICK)
@json_option
def show_export(client: Client, export_id: str, as_json: bool) -> None:
    """Show one export: how far it is, what went wrong, its files.

    Example:
      outhaul export show 7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11
    """
    _show(client.exports.get(export_id).export, as_json)


@export.command("watch")
@click.argument("export_id", metavar="ID")
@talks(STEADY)
@json_option
def watch_export(client: Client, export_id: str, as_json: bool) -> int:
    """Follow an export until it ends, also while its server is started again; Ctrl-C leaves it running.

    The exit code is 5 when the export failed or was cancelled.

    Example:
      outhaul export watch 7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11
    """
    return _follow(client.exports.get(export_id), as_json)


@export.command("cancel")
@click.argument("export_id", metavar="ID")
@talks(QUICK)
@json_option
def cancel_export(client: Client, export_id: str, as_json: bool) -> None:
    """Stop an export. What it has written is kept for a while, for `export retry`.

    Example:
      outhaul export cancel 7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11
    """
    task = client.exports.get(export_id)
    task.cancel()
    _say(task.export, as_json)


@export.command("retry")
@click.argument("export_id", metavar="ID")
@click.option("--wait", is_flag=True, help="Follow it until it ends, as `export watch` does.")
@talks(STEADY)
@json_option
def retry_export(client: Client, export_id: str, wait: bool, as_json: bool) -> int:
    """Take up again an export that failed or was cancelled, where it stopped.

    Example:
      outhaul export retry 7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11 --wait
    """
    task = client.exports.get(export_id)
    task.retry()
    if wait:
        return _follow(task, as_json)
    _say(task.export, as_json)
    return 0


@export.command("move")
@click.argument("export_id", metavar="ID")
@DESTINATION.options
@talks(QUICK)
@json_option
def move_export(client: Client, export_id: str, as_json: bool, **where: Any) -> None:
    """Give an export another destination, or new credentials for the same; one that had ended goes on.

    Example:
      outhaul export move 7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11 --destination-env CONTAINER_URL
    """
    destination = DESTINATION.read(where)
    if destination is None:
        raise DESTINATION.missing()
    task = client.exports.get(export_id)
    task.set_destination(destination)
    _say(task.export, as_json)


@export.command("download")
@click.argument("export_id", metavar="ID")
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The folder for the files; made if it is not there.  [default: this one]",
)
@talks(PATIENT)
@json_option
def download_export(client: Client, export_id: str, folder: Path, as_json: bool) -> None:
    """Fetch the files of an export that the server keeps, and check them against the manifest.

    Example:
      outhaul export download 7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11 --to ./november
    """
    task = client.exports.get(export_id)
    if task.state not in ENDED:
        raise Conflict(f"The export {task.id} is {task.state}.", hint=f"outhaul export watch {task.id}")
    files = [str(path) for path in task.download(folder)]
    if as_json:
        return emit({"files": files})
    for file in files:
        click.echo(file)
    return None


def taken(task: ExportTask, as_json: bool, *, wait: bool) -> int:
    """Show an export that was asked for, and follow it if that is wanted."""
    if as_json and not wait:
        emit(task.export)
        return 0
    if not as_json:
        click.echo(task.id)
        if not wait:
            click.echo(f"Follow it: outhaul export watch {task.id}", err=True)
    return _follow(task, as_json) if wait else 0


def _follow(task: ExportTask, as_json: bool) -> int:
    """Show how far an export is until it ends, then what came of it."""
    try:
        with Progress() as progress:
            task.wait(on_progress=None if as_json else lambda now: progress.show(now.export))
    except (ExportFailed, Cancelled) as error:
        if as_json:
            emit(task.export)
            return FAILED
        if task.state == "cancelled":
            error.hint = f"outhaul export retry {task.id}"
        raise
    except KeyboardInterrupt:
        click.echo(
            f"Stopped watching; the export goes on.\n"
            f"Follow it: outhaul export watch {task.id}\nEnd it: outhaul export cancel {task.id}",
            err=True,
        )
        return INTERRUPTED
    if as_json:
        emit(task.export)
    else:
        _list_files(task.export)
        if task.destination.url == DOWNLOAD:
            click.echo(f"Fetch them: outhaul export download {task.id}", err=True)
    return 0


def _show(export: Export, as_json: bool) -> None:
    if as_json:
        return emit(export)
    fields(
        {
            "id": export.id,
            "app": f"{export.app} ({export.app_id})",
            "description": export.description,
            "request": msgspec.json.encode(export.request).decode(),
            "state": doing(export),
            "progress": line(export),
            "destination": export.destination.url,
            "created": f"{export.created_at} by {export.created_by}",
            "started": export.started_at,
            "completed": export.completed_at,
            "files until": export.expires_at,
            "attempt": export.attempt,
        }
    )
    for attempt in export.attempts:
        trouble = attempt.error
        click.echo(f"\nattempt {attempt.number} failed at {attempt.at} ({trouble.code})")
        click.echo(f"  {plain(trouble.message)}")
        if trouble.hint:
            click.echo(f"  {painted('Try:', 'ok')} {trouble.hint}")
    if export.files:
        click.echo()
        _list_files(export)
    return None


def _list_files(export: Export) -> None:
    for file in export.files:
        click.echo(f"{file.name}  {file.rows:,} rows  {size(file.bytes)}  sha256 {file.sha256}")


def _say(export: Export, as_json: bool) -> None:
    if as_json:
        emit(export)
    else:
        click.echo(f"{export.id}  {line(export)}")
