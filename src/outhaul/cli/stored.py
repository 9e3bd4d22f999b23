"""`outhaul tables` and `outhaul rejects`: what is stored, and what was set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from outhaul.cli.folder import check_exists, opened, server_room
from outhaul.cli.options import Command, Group, data_option, json_option
from outhaul.cli.output import emit, fields, plain, size, table
from outhaul.errors import NotFound
from outhaul.records import REASONS
from outhaul.schema import TABLES

if TYPE_CHECKING:
    from pathlib import Path

_NUMBERS = ("rows", "files", "bytes", "days", "version")


@click.group(cls=Group)
def tables() -> None:
    """What is stored: a Delta table per app and kind.

    Example:
      outhaul tables list --data ./data
    """


@tables.command("list")
@click.option("--app", help="Only this app, by its name or appId.")
@data_option
@json_option
def list_tables(app: str | None, data: Path, as_json: bool) -> None:
    """Show every table: rows, files, bytes, days and newest version.

    Example:
      outhaul tables list --app shop --data ./data
    """
    found = [_described(*place) for place in _stored(data, app)]
    if as_json:
        return emit({"tables": [{k: v for k, v in entry.items() if k != "byDay"} for entry in found]})
    table(
        ("app", "table", *_NUMBERS, "first day", "last day"),
        [
            (
                *(entry["name"] or entry["appId"], entry["table"], f"{entry['rows']:,}", str(entry["files"])),
                *(size(entry["bytes"]), str(entry["days"]), str(entry["version"])),
                *(entry["firstDay"] or "", entry["lastDay"] or ""),
            )
            for entry in found
        ],
        right=_NUMBERS,
    )
    return None


@tables.command("show")
@click.argument("app")
@click.argument("name", metavar="TABLE", type=click.Choice(tuple(TABLES)))
@data_option
@json_option
def show_table(app: str, name: str, data: Path, as_json: bool) -> None:
    """Show one table of APP, day by day.

    Example:
      outhaul tables show shop event --data ./data
    """
    found = [place for place in _stored(data, app) if place[2] == name]
    if not found:
        raise NotFound(f"Nothing has landed in the table {name!r} of {app!r}.", hint="outhaul tables list")
    entry = _described(*found[0])
    if as_json:
        return emit(entry)
    days = entry.pop("byDay")
    fields(
        entry | {"rows": f"{entry['rows']:,}", "bytes": size(entry["bytes"]), "days": entry["days"] or None}
    )
    if days:
        click.echo()
        rows = [(day["day"], f"{day['rows']:,}", str(day["files"]), size(day["bytes"])) for day in days]
        table(("day", "rows", "files", "bytes"), rows, right=_NUMBERS)
    return None


def _stored(data: Path, app: str | None) -> list[tuple[Any, Any, str]]:
    """The store, the app (of the ledger) and the table's name, of every table that something landed in."""
    with opened(data) as ledger:
        apps = ledger.apps() if app is None else [ledger.app(app)]
    stored = server_room("tables").Tables(data / "tables")
    return [
        (stored, entry, name)
        for entry in apps
        for name in TABLES
        if stored.version(entry.app_id, name) is not None
    ]


def _described(stored: Any, app: Any, name: str) -> dict[str, Any]:
    days: dict[str, dict[str, Any]] = {}
    files = stored.files(app.app_id, name)
    for file in files:
        if file.day is not None:
            day = days.setdefault(file.day, {"day": file.day, "rows": 0, "files": 0, "bytes": 0})
            day["rows"] += file.rows
            day["files"] += 1
            day["bytes"] += file.size
    return {
        "appId": app.app_id,
        "name": app.name,
        "table": name,
        "rows": sum(file.rows for file in files),
        "files": len(files),
        "bytes": sum(file.size for file in files),
        "days": len(days),
        "firstDay": min(days, default=None),
        "lastDay": max(days, default=None),
        "version": stored.version(app.app_id, name),
        "byDay": [days[day] for day in sorted(days)],
    }


@click.command(cls=Command)
@data_option
@click.option("--app", help="Only this app, by its appId.")
@click.option("--reason", type=click.Choice(REASONS), help="Only what was set aside for this reason.")
@click.option(
    "--limit", type=click.IntRange(0), default=10, show_default=True, help="How many records to show."
)
@json_option
def rejects(data: Path, app: str | None, reason: str | None, limit: int, as_json: bool) -> None:
    """Show what was sent and could not be taken, and why.

    First counts by app and reason, then the newest records with what was sent.

    Example:
      outhaul rejects --data ./data --reason extras_too_long --limit 3
    """
    check_exists(data)
    found = server_room("rejects").read(data, app, reason, limit)
    if as_json:
        return emit(msgspec.to_builtins(found))
    for count in found.counts:
        click.echo(f"{count.count:>9}  {count.app_id}  {count.reason}")
    for row in found.newest:
        click.echo(f"\n{row.received_at:%Y-%m-%dT%H:%M:%SZ}  {row.app_id}  {row.protocol}  {row.reason}")
        click.echo(f"  {plain(row.detail)}")
        click.echo(f"  {plain(row.raw)}")
    return None
