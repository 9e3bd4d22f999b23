"""`outhaul people erase`, `erasures` and `erasure`: have a person removed, and see what was."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING

import click

from outhaul.cli.exits import FAILED, INTERRUPTED
from outhaul.cli.options import Command, json_option
from outhaul.cli.output import emit, fields, painted, size, table
from outhaul.cli.talking import QUICK, STEADY, talks
from outhaul.errors import ErasureFailed

if TYPE_CHECKING:
    from outhaul.client import Client
    from outhaul.rest import ErasureShown

_ID = "7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11"


@click.command("erase", cls=Command)
@click.argument("app")
@click.option("--user", "user_id", metavar="ID", help="This user, with the devices that are theirs now.")
@click.option("--device", "device_id", metavar="ID", help="This device.")
@click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")
@click.option(
    "--wait", is_flag=True, help="Follow it until the last file is deleted; Ctrl-C leaves it going."
)
@talks(STEADY)
@json_option
def erase(
    client: Client,
    app: str,
    user_id: str | None,
    device_id: str | None,
    yes: bool,
    wait: bool,
    as_json: bool,
) -> int:
    """Remove everything that is stored of a user or a device of APP (its name or appId), for good.

    What arrives later is new and stays: have the app stop sending first. The receipt lists earlier exports that hold
    records of theirs.

    Example:
      outhaul people erase shop --user ada --wait
      outhaul people erase shop --device 5f0c --yes --json
    """
    if (user_id is None) == (device_id is None):
        raise click.UsageError("Give either --user or --device.")
    if not yes:
        _confirm(app, "user" if device_id is None else "device", user_id or device_id or "")
    erasure = client.erasures.create(app=app, user_id=user_id, device_id=device_id)
    if wait:
        return _follow(client, erasure, as_json)
    if as_json:
        emit(erasure)
        return 0
    click.echo(erasure.id)
    click.echo(f"Follow it: outhaul people erasure {erasure.id} --wait", err=True)
    return 0


@click.command("erasures", cls=Command)
@click.option("--app", help="Only those in this app, by its name or appId.")
@click.option("--user", "user_id", metavar="ID", help="Only those of who was this user of the app.")
@click.option("--device", "device_id", metavar="ID", help="Only those of what was this device of the app.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many to show.")
@talks(QUICK)
@json_option
def list_erasures(
    client: Client, app: str | None, user_id: str | None, device_id: str | None, limit: int, as_json: bool
) -> None:
    """Show erasures, newest first. They name nobody, but are found by the id of whom they were.

    Example:
      outhaul people erasures --app shop --user ada
    """
    listed = client.erasures.list(app=app, user_id=user_id, device_id=device_id)
    found = list(itertools.islice(listed, limit))
    if as_json:
        return emit({"erasures": found})
    table(
        ("id", "app", "of", "state", "rows", "created", "removed", "deleted"),
        [
            (
                *(one.id, one.app, one.of, _doing(one), f"{one.receipt.rows:,}", one.created_at),
                *(one.receipt.removed_at or "", one.receipt.deleted_at or ""),
            )
            for one in found
        ],
        right=("rows",),
    )
    return None


@click.command("erasure", cls=Command)
@click.argument("erasure_id", metavar="ID")
@click.option("--wait", is_flag=True, help="Follow it until the last file is deleted.")
@talks(STEADY)
@json_option
def show_erasure(client: Client, erasure_id: str, wait: bool, as_json: bool) -> int:
    """Show one erasure with its receipt: what was removed from where, and which earlier exports to follow up.

    With --wait the exit code is 5 when it failed.

    Example:
      outhaul people erasure 7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11
    """
    found = client.erasures.get(erasure_id)
    if wait:
        return _follow(client, found, as_json)
    _show(found, as_json)
    return 0


COMMANDS = (erase, list_erasures, show_erasure)
"""What the group of people has of these."""


def _confirm(app: str, of: str, one: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("It cannot be taken back, and there is nobody to ask: add --yes.")
    click.confirm(
        f"Remove everything of the {of} {one!r} from {app}? It cannot be taken back.", abort=True, err=True
    )


def _follow(client: Client, erasure: ErasureShown, as_json: bool) -> int:
    """Say how far an erasure is until it is done, then what came of it."""
    said = ""

    def tell(now: ErasureShown) -> None:
        nonlocal said
        if (line := _line(now)) != said:
            click.echo(line, err=True)
            said = line

    try:
        done = client.erasures.wait(erasure.id, on_progress=None if as_json else tell)
    except ErasureFailed:
        if not as_json:
            raise
        emit(client.erasures.get(erasure.id))
        return FAILED
    except KeyboardInterrupt:
        click.echo(
            f"Stopped looking; the erasure goes on.\nFollow it: outhaul people erasure {erasure.id} --wait",
            err=True,
        )
        return INTERRUPTED
    _show(done, as_json)
    return 0


def _doing(erasure: ErasureShown) -> str:
    return erasure.phase if erasure.state == "started" else erasure.state


def _line(erasure: ErasureShown) -> str:
    waits = erasure.receipt.waiting_for
    behind = f", waiting for the export{'s' if len(waits) > 1 else ''} {', '.join(waits)}" if waits else ""
    trouble = f": {erasure.error}" if erasure.error else ""
    return f"{erasure.id}  {_doing(erasure)}{behind}{trouble}"


def _show(erasure: ErasureShown, as_json: bool) -> None:
    if as_json:
        return emit(erasure)
    receipt = erasure.receipt
    fields(
        {
            "id": erasure.id,
            "app": f"{erasure.app} ({erasure.app_id})",
            "of": f"a {erasure.of}",
            "state": _doing(erasure),
            "error": erasure.error,
            "created": f"{erasure.created_at} by {erasure.created_by}",
            "devices": receipt.devices,
            "rows removed": f"{receipt.rows:,}",
            "remembered": f"{receipt.remembered:,} rows that landing had kept",
            "journal": f"{receipt.journal_files:,} damaged files deleted whole"
            if receipt.journal_files
            else None,
            "downloads": f"those of {receipt.downloads:,} exports deleted" if receipt.downloads else None,
            "removed": receipt.removed_at,
            "deleted": receipt.deleted_at,
            "files deleted": f"{receipt.files_deleted:,} ({size(receipt.bytes_deleted)})",
            "waiting for": ", ".join(receipt.waiting_for) or None,
        }
    )
    if receipt.tables:
        click.echo()
        table(
            ("table", "rows", "files", "from version", "to version"),
            [
                (
                    *(one.table, f"{one.rows:,}", f"{one.files:,}"),
                    *(str(one.from_version), str(one.to_version)),
                )
                for one in receipt.tables
            ],
            right=("rows", "files", "from version", "to version"),
        )
    if receipt.exports:
        click.echo(f"\n{painted('Earlier exports that hold records of theirs:', 'head')}")
        table(
            ("id", "kind", "created", "rows", "went to"),
            [
                (
                    *(one.id, one.kind, one.created_at),
                    *("not known" if one.rows is None else f"{one.rows:,}", one.destination.url),
                )
                for one in receipt.exports
            ],
            right=("rows",),
        )
    return None
