"""What commands have in common: their class, options that several take, and values as people write them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SPANS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


class Command(click.Command):
    """A command whose help shows its examples as they are written, line by line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = _unwrapped(self.help)


class Group(click.Group):
    """The same for a command that only holds others."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = _unwrapped(self.help)


def _unwrapped(text: str | None) -> str | None:
    # A backspace on a line of its own is click's mark for a paragraph that is not to be wrapped.
    return text and inspect.cleandoc(text).replace("\n\nExample:\n", "\n\n\b\nExample:\n")


class Words(click.ParamType[list[str]]):
    """Several words in one value, separated by commas."""

    name = "a,b,…"

    def convert(
        self, value: str | Sequence[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        if not isinstance(value, str):
            return list(value)
        words = [word.strip() for word in value.split(",")]
        if not all(words):
            self.fail("one of the names is empty.", param, ctx)
        return words


class Size(click.ParamType[int]):
    """A number of bytes, such as 256MB or 64MiB."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d+) *([A-Za-z]*)", str(value))
        if found is None or found[2].lower() not in _UNITS:
            self.fail(f"{value!r} is not a size: use bytes, or a unit such as 256MB or 64MiB.", param, ctx)
        return int(found[1]) * _UNITS[found[2].lower()]


class Span(click.ParamType[int]):
    """A span of time in ms, written such as 90d or 12h."""

    name = "span"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+)([smhdw])", value)
        if found is None:
            self.fail(f"{value!r} is not a span of time: use 30m, 12h, 90d or 8w.", param, ctx)
        return int(found[1]) * _SPANS_MS[found[2]]


data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    envvar="OUTHAUL_DATA",
    show_envvar=True,
    help="The folder in which the server keeps everything.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of text; errors too, on stderr."
)
profile_option = click.option(
    "--profile",
    help="The profile that says which server, and as whom.  [env var: OUTHAUL_PROFILE; default: default]",
)
url_option = click.option(
    "--url",
    help="Base URL of another server; its token is then that of OUTHAUL_TOKEN.  [env var: OUTHAUL_URL]",
)
