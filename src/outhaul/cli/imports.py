"""`outhaul imports`: files of tags, imported by a server and followed."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, get_args

import click

from outhaul.cli.exits import FAILED, INTERRUPTED
from outhaul.cli.options import Group, json_option
from outhaul.cli.output import emit, fields, painted, plain, table
from outhaul.cli.places import SOURCE
from outhaul.cli.talking import QUICK, STEADY, talks
from outhaul.errors import Cancelled, ImportFailed
from outhaul.wire import ImportFormat, TaskState

if TYPE_CHECKING:
    from outhaul.client import Client
    from outhaul.rest import ImportShown

_EXPLAINED = 10
"""Lines that are explained after an import; `imports show` explains all that the server does."""


@click.group(cls=Group)
def imports() -> None:
    """Imports: have files of tags applied to devices.

    Example:
      outhaul imports create shop --source-env TAGS_URL --wait
    """


@imports.command("create")
@click.argument("app")
@SOURCE.options
@click.option(
    "--format",
    type=click.Choice(get_args(ImportFormat)),
    default="auto",
    show_default=True,
    help="What the file is; auto: see from the file.",
)
@click.option("--description", help="A note for people.")
@click.option(
    "--idempotency-key", metavar="KEY", help="The same key gives the same import, however often asked."
)
@click.option("--wait", is_flag=True, help="Follow it until it ends, as `imports watch` does.")
@talks(STEADY)
@json_option
def create_import(client: Client, app: str, wait: bool, as_json: bool, **asked: Any) -> int:
    """Ask for a file of tags to be imported into APP (its name or appId) and print the import's id.

    The server reads the file, so it has to be where the server can reach it: in Azure, S3 or Google Cloud Storage, or in a
    folder of the server that the operator allows. Secrets are read from a file, from standard input or from an
    environment variable.

    Example:
      outhaul imports create shop --source-env TAGS_URL --format csv --wait
      outhaul imports create shop --source file:///srv/imports/tags.jsonl
      outhaul imports create shop --source-file source.json
    """
    source = SOURCE.read(asked)
    if source is None:
        raise SOURCE.missing()
    shown = client.imports.create(app, source, **asked)
    if wait:
        return _follow(client, shown.id, as_json, announce=True)
    if as_json:
        emit(shown)
        return 0
    click.echo(shown.id)
    click.echo(f"Follow it: outhaul imports watch {shown.id}", err=True)
    return 0


@imports.command("list")
@click.option("--app", help="Only those of this app, by its name or appId.")
@click.option("--state", type=click.Choice(get_args(TaskState)), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many to show.")
@talks(QUICK)
@json_option
def list_imports(client: Client, limit: int, as_json: bool, **chosen: Any) -> None:
    """Show imports, newest first.

    Example:
      outhaul imports list --app shop --state failed --json
    """
    found = list(itertools.islice(client.imports.list(**chosen), limit))
    if as_json:
        return emit({"imports": found})
    table(
        ("id", "app", "state", "done", "lines", "rejected", "created", "error"),
        [
            (
                *(one.id, one.app, _doing(one), f"{int(one.progress.percent)}%"),
                *(f"{_lines(one):,}", f"{one.progress.lines_rejected:,}"),
                *(one.created_at, one.error.code if one.error else ""),
            )
            for one in found
        ],
        right=("done", "lines", "rejected"),
    )
    return None


@imports.command("show")
@click.argument("import_id", metavar="ID")
@talks(QUICK)
@json_option
def show_import(client: Client, import_id: str, as_json: bool) -> None:
    """Show one import: how far it is, which lines were not applied and why, what went wrong.

    Example:
      outhaul imports show 7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11
    """
    found = client.imports.get(import_id)
    if as_json:
        return emit(found)
    _show(found)
    return None


@imports.command("watch")
@click.argument("import_id", metavar="ID")
@talks(STEADY)
@json_option
def watch_import(client: Client, import_id: str, as_json: bool) -> int:
    """Follow an import until it ends, also while its server is started again; Ctrl-C leaves it running.

    The exit code is 5 when the import failed or was cancelled; lines that were not applied do not change it.

    Example:
      outhaul imports watch 7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11
    """
    return _follow(client, import_id, as_json)


@imports.command("cancel")
@click.argument("import_id", metavar="ID")
@talks(QUICK)
@json_option
def cancel_import(client: Client, import_id: str, as_json: bool) -> None:
    """Stop an import. What was applied stays applied; `imports retry` goes on behind it.

    Example:
      outhaul imports cancel 7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11
    """
    _say(client.imports.cancel(import_id), as_json)


@imports.command("retry")
@click.argument("import_id", metavar="ID")
@SOURCE.options
@click.option("--wait", is_flag=True, help="Follow it until it ends, as `imports watch` does.")
@talks(STEADY)
@json_option
def retry_import(client: Client, import_id: str, wait: bool, as_json: bool, **where: Any) -> int:
    """Take up again an import that failed or was cancelled, where it stopped; with new credentials, if given.

    Example:
      outhaul imports retry 7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11 --source-env TAGS_URL --wait
    """
    shown = client.imports.retry(import_id, SOURCE.read(where))
    if wait:
        return _follow(client, shown.id, as_json)
    _say(shown, as_json)
    return 0


def _follow(client: Client, import_id: str, as_json: bool, *, announce: bool = False) -> int:
    """Say how far an import is until it ends, then what came of it."""
    said = ""

    def tell(now: ImportShown) -> None:
        nonlocal said
        if (line := _line(now)) != said:
            click.echo(line, err=True)
            said = line

    if announce and not as_json:
        click.echo(import_id)
    try:
        done = client.imports.wait(import_id, on_progress=None if as_json else tell)
    except (ImportFailed, Cancelled) as error:
        if as_json:
            emit(client.imports.get(import_id))
            return FAILED
        if isinstance(error, Cancelled):
            error.hint = f"outhaul imports retry {import_id}"
        raise
    except KeyboardInterrupt:
        click.echo(
            f"Stopped watching; the import goes on.\n"
            f"Follow it: outhaul imports watch {import_id}\nEnd it: outhaul imports cancel {import_id}",
            err=True,
        )
        return INTERRUPTED
    if as_json:
        emit(done)
        return 0
    _explain(done, _EXPLAINED)
    return 0


def _doing(shown: ImportShown) -> str:
    return "cancelling" if shown.cancelling and shown.state == "started" else shown.state


def _lines(shown: ImportShown) -> int:
    return shown.progress.lines_applied + shown.progress.lines_rejected


def _line(shown: ImportShown) -> str:
    progress = shown.progress
    rejected = f", {progress.lines_rejected:,} not applied" if progress.lines_rejected else ""
    return f"{_doing(shown)}  {int(progress.percent):>3}%  {_lines(shown):,} lines{rejected}"


def _say(shown: ImportShown, as_json: bool) -> None:
    if as_json:
        emit(shown)
    else:
        click.echo(f"{shown.id}  {_line(shown)}")


def _show(shown: ImportShown) -> None:
    progress = shown.progress
    fields(
        {
            "id": shown.id,
            "app": f"{shown.app} ({shown.app_id})",
            "description": shown.description,
            "source": shown.source.url,
            "format": shown.format,
            "state": _doing(shown),
            "progress": _line(shown),
            "lines applied": f"{progress.lines_applied:,}",
            "tags set": f"{progress.tags_set:,}",
            "created": f"{shown.created_at} by {shown.created_by}",
            "started": shown.started_at,
            "completed": shown.completed_at,
            "attempt": shown.attempt,
        }
    )
    for attempt in shown.attempts:
        trouble = attempt.error
        click.echo(f"\nattempt {attempt.number} failed at {attempt.at} ({trouble.code})")
        click.echo(f"  {plain(trouble.message)}")
        if trouble.hint:
            click.echo(f"  {painted('Try:', 'ok')} {trouble.hint}")
    if shown.rejected:
        click.echo()
    _explain(shown, len(shown.problems))


def _explain(shown: ImportShown, most: int) -> None:
    """How many lines were not applied, by reason, and what was wrong with the first of them."""
    for reason, count in sorted(shown.rejected.items(), key=lambda item: -item[1]):
        click.echo(f"{reason:<16}{count:,} line{'' if count == 1 else 's'} not applied")
    for problem in shown.problems[:most]:
        click.echo(f"line {problem.line:,}: {problem.reason}: {plain(problem.detail)}")
    if len(shown.problems) > most:
        click.echo(f"More: outhaul imports show {shown.id}", err=True)
