"""`outhaul collect`: records from a file to a server."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import click
import msgspec

from outhaul import config
from outhaul.cli.options import Command, json_option
from outhaul.cli.output import emit, fields
from outhaul.client import Collector
from outhaul.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command(cls=Command)
@click.argument("file", type=click.File("rb"))
@click.option("--url", required=True, help="Base URL of the server.")
@click.option(
    "--key-env",
    default="OUTHAUL_SDK_KEY",
    show_default=True,
    help="The environment variable with the app's SDK key; on the command line others could see it.",
)
@json_option
def collect(file: Any, url: str, key_env: str, as_json: bool) -> None:
    """Send records from FILE, or from standard input with `-`.

    FILE has one JSON object a line. What the server cannot take it sets aside: `outhaul rejects` there says why.

    Records without an `id` get one made from their line and its number: sending the same file again, after
    a failure, doubles nothing.

    Example:
      OUTHAUL_SDK_KEY=… outhaul collect records.ndjson --url http://127.0.0.1:8080
    """
    key = config.variable(key_env)
    if not key:
        raise Invalid(
            f"The environment variable {key_env} is not set.", hint=f"export {key_env}=<the app's sdkKey>"
        )
    with Collector(url, key) as collector:
        sent = collector.send(_records(file))
    (emit if as_json else fields)({"sent": sent})


def _records(lines: Any) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Invalid(
                f"Line {number} is not a JSON object: {error}.",
                hint="Mend the line and send the whole file again: the lines before it are not doubled.",
            ) from None
        if record.get("id") is None:
            record["id"] = hashlib.md5(b"%d:%s" % (number, line.strip()), usedforsecurity=False).hexdigest()
        yield record
