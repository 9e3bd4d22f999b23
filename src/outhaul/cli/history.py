"""`outhaul people records` and `export`: every record of a user or a device, printed or exported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from outhaul.cli.asking import history_options, read_asked
from outhaul.cli.export import taken
from outhaul.cli.options import Command, Words, json_option
from outhaul.cli.talking import STEADY, talks
from outhaul.schema import RecordKind

if TYPE_CHECKING:
    from outhaul.client import Client

_KINDS = get_args(RecordKind)
_WHOSE = (
    click.option(
        "--user", "user_id", metavar="ID", help="Of this user, with the devices that are theirs now."
    ),
    click.option("--device", "device_id", metavar="ID", help="Of this device."),
)


@click.command("records", cls=Command, epilog=f"KIND is one of {', '.join(_KINDS)}.")
@click.argument("app")
@_WHOSE[0]
@_WHOSE[1]
@click.option("--kinds", type=Words(), metavar="KIND,…", help="Only records of these kinds.")
@click.option("--from", "start", metavar="TIME", help="Only from then on: a date, or an RFC 3339 instant.")
@click.option("--to", "end", metavar="TIME", help="Only from before then.")
@talks(STEADY)
@json_option
def records(
    client: Client,
    app: str,
    user_id: str | None,
    device_id: str | None,
    kinds: list[Any] | None,
    as_json: bool,  # noqa: ARG001  it says how errors are shown
    **period: str | None,
) -> None:
    """Print every record of a user or a device of APP (its name or appId), oldest first, one JSON object a line.

    They are printed as they come. Unless the exit code is 0, they are not all there.

    Example:
      outhaul people records shop --user ada > ada.jsonl
      outhaul people records shop --device 5f0c --kinds event,crash --from 2026-11-01
    """
    _check_whose(user_id, device_id)
    unknown = [kind for kind in kinds or () if kind not in _KINDS]
    if unknown:
        raise click.UsageError(f"--kinds: there is no kind {unknown[0]!r}: use {', '.join(_KINDS)}.")
    found = client.people.records(
        app=app, user_id=user_id, device_id=device_id, kinds=kinds, period=(period["start"], period["end"])
    )
    for record in found:
        # One by one they are too many to be printed in the usual way, which looks at what each has in it.
        sys.stdout.write(msgspec.json.encode(record).decode() + "\n")
    sys.stdout.flush()


@click.command("export", cls=Command)
@click.argument("app")
@_WHOSE[0]
@_WHOSE[1]
@history_options
@click.option(
    "--idempotency-key", metavar="KEY", help="The same key gives the same export, however often asked."
)
@click.option("--wait", is_flag=True, help="Follow it until it ends, as `export watch` does.")
@talks(STEADY)
@json_option
def export(
    client: Client,
    app: str,
    user_id: str | None,
    device_id: str | None,
    idempotency_key: str | None,
    wait: bool,
    as_json: bool,
    **asked: Any,
) -> int:
    """Ask for an export of every record of a user or a device of APP (its name or appId), and print its id.

    Example:
      outhaul people export shop --user ada --format csv --wait
      outhaul export download 7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11 --to ./ada
    """
    _check_whose(user_id, device_id)
    task = client.people.export(
        app=app,
        user_id=user_id,
        device_id=device_id,
        idempotency_key=idempotency_key,
        **read_asked(asked),
    )
    return taken(task, as_json, wait=wait)


def _check_whose(user_id: str | None, device_id: str | None) -> None:
    if (user_id is None) == (device_id is None):
        raise click.UsageError("Give either --user or --device.")


COMMANDS = (records, export)
