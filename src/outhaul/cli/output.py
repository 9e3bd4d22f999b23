"""How things are shown: aligned for people, as JSON for scripts, in colour on a terminal only."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

import click
import msgspec

from outhaul import config

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

COLOURS = {
    "succeeded": "green",
    "started": "cyan",
    "failed": "red",
    "cancelled": "yellow",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}
"""The colours of words that say how things are."""
_STEP = 1000
_MINUTE = 60
_HOUR = 3600


def emit(value: Any) -> None:
    """Print one JSON object."""
    click.echo(msgspec.json.encode(value))


def fields(values: dict[str, object]) -> None:
    """Print names and values, aligned; those that are None are left out."""
    shown = {name: value for name, value in values.items() if value is not None}
    width = max(map(len, shown), default=0) + 2
    for name, value in shown.items():
        click.echo(f"{name:<{width}}{painted(plain(str(value)))}")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str] = ()) -> None:
    """Print rows below a head, in columns as wide as they need; those in `right` end at the same place."""
    lines = [tuple(head), *(tuple(map(plain, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(head, line, widths, strict=True)
        ]
        cells[-1] = cells[-1].rstrip()
        click.echo("  ".join(painted(cell, "" if number else "head") for cell in cells).rstrip())


def plain(text: str) -> str:
    """Text on one line, without what a terminal would obey: some of it comes from devices."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def painted(text: str, word: str = "", stream: TextIO | None = None) -> str:
    """Text in the colour of the word that it is, or of `word`, where colours are wanted."""
    if not coloured(stream or sys.stdout):
        return text
    if word == "head":
        return click.style(text, bold=True)
    colour = COLOURS.get(word or text.strip())
    return click.style(text, fg=colour) if colour else text


def coloured(stream: TextIO) -> bool:
    """Whether colours are wanted there (https://no-color.org)."""
    return stream.isatty() and not config.variable("NO_COLOR") and config.variable("TERM") != "dumb"


def size(count: int) -> str:
    """Bytes as people read them, in steps of 1000."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < _STEP:
            return f"{value:.3g} {unit}" if unit != "B" else f"{count} B"
        value /= _STEP
    return f"{value:.3g} TB"


def duration(seconds: float) -> str:
    """A time span as people read it, such as `1 min 20 s`."""
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    hours, rest = divmod(whole, _HOUR)
    return f"{hours} h {rest // _MINUTE} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"  # noqa: PLR2004  two days


def instant(millis: int | None) -> str | None:
    """A time in ms as RFC 3339 in UTC, to the second."""
    return None if millis is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(millis / 1000))
