"""What an export is asked to be, as options of a command → what the SDK takes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import click
import msgspec

from outhaul.cli.options import Size, Words
from outhaul.cli.places import DESTINATION
from outhaul.schema import EXPORTS
from outhaul.wire import Compression, Format, Mask, PeriodBy, TimeFormat

if TYPE_CHECKING:
    from collections.abc import Callable

_RULES = "drop, hash, a number of characters to keep, or minute, hour or day"
KINDS = f"KIND is one of {', '.join(EXPORTS)}."


class Json(click.ParamType[dict[str, Any]]):
    """A JSON object, or @ and the name of a file with one."""

    name = "json|@file"

    def convert(
        self, value: str | dict[str, Any], param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        text = Path(value[1:]).read_bytes() if value.startswith("@") else value
        try:
            return msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.fail(f"it is not a JSON object: {error}.", param, ctx)


class ColumnMask(click.ParamType[tuple[str, Mask]]):
    """A column and how its values are disguised."""

    name = "column=rule"

    def convert(
        self, value: str | tuple[str, Mask], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Mask]:
        if isinstance(value, tuple):
            return value
        column, _, rule = value.partition("=")
        try:
            return msgspec.convert(
                (column, _mask(rule)), tuple[Annotated[str, msgspec.Meta(min_length=1)], Mask]
            )
        except msgspec.ValidationError:
            self.fail(f"{value!r} is not column=rule, where rule is {_RULES}.", param, ctx)


def _mask(rule: str) -> str | dict[str, int | str]:
    if rule in {"drop", "hash"}:
        return rule
    return {"truncate": int(rule) if rule.isdecimal() else rule}


_ASKED = (
    click.option(
        "--from", "start", metavar="TIME", help="Start of the period: a date, or an RFC 3339 instant."
    ),
    click.option("--to", "end", metavar="TIME", help="Its end, which is not in it."),
    click.option(
        "--by", type=click.Choice(get_args(PeriodBy)), help="By when it happened, or by when it arrived."
    ),
    click.option("--format", type=click.Choice(get_args(Format)), default="jsonl", show_default=True),
    click.option(
        "--compression",
        type=click.Choice(get_args(Compression)),
        help="Without: zstd for Parquet, none for text. Snappy and lz4 are for Parquet.",
    ),
    click.option("--columns", type=Words(), help="Which columns, in this order."),
    click.option("--where", type=Json(), help="Which rows: a filter, docs/exports.md says how."),
    click.option(
        "--mask", type=ColumnMask(), multiple=True, help=f"Disguise a column: {_RULES}. Repeatable."
    ),
    click.option(
        "--layout",
        type=click.Choice(("single", "parts")),
        help="One file, or several. Without: what the rest needs.",
    ),
    click.option(
        "--max-file-bytes", type=Size(), help="The largest that a file of several may be, such as 256MB."
    ),
    click.option(
        "--day-path", is_flag=True, help="Put the files of each UTC day into a folder day=YYYY-MM-DD."
    ),
    click.option("--time-format", type=click.Choice(get_args(TimeFormat)), help="Without: the server's."),
    *DESTINATION.choices,
    click.option("--description", help="A note for people."),
)
_OF_KINDS = (
    click.option(
        "--campaigns", type=Json(), help='Of feedback: {"type": …, "ids": […]} or with "from" and "to".'
    ),
    click.option("--user", "user_id", metavar="ID", help="Of a history: this user's."),
    click.option("--device", "device_id", metavar="ID", help="Of a history: this device's."),
)


def asked_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command APP and KIND and all that an export may be asked to be."""
    kind = click.argument("kind", type=click.Choice(tuple(EXPORTS)), metavar="KIND")
    options = (click.argument("app"), kind, *_ASKED, *_OF_KINDS)
    return functools.reduce(lambda made, option: option(made), reversed(options), command)


def history_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all that an export of a history may be asked to be, but for whose it is."""
    return functools.reduce(lambda made, option: option(made), reversed(_ASKED), command)


def read_asked(options: dict[str, Any]) -> dict[str, Any]:
    """What the options ask for, as keywords of the SDK.

    Raises:
        UsageError: options do not go together.
        Invalid: the destination is none.
    """
    start, end = options.pop("start"), options.pop("end")
    if (start is None) != (end is None):
        raise click.UsageError("--from and --to go together.")
    options["period"] = None if start is None else (start, end)
    of = {"userId": options.pop("user_id", None), "deviceId": options.pop("device_id", None)}
    options["of"] = {name: one for name, one in of.items() if one is not None} or None
    masked = [column for column, _ in options["mask"]]
    if len(set(masked)) < len(masked):
        raise click.UsageError("--mask names a column twice.")
    options["mask"] = dict(options["mask"]) or None
    if options["layout"] is None and (options["max_file_bytes"] is not None or options["day_path"]):
        options["layout"] = "parts"
    options["destination"] = DESTINATION.read(options)
    return {name: value for name, value in options.items() if value is not None and value is not False}
