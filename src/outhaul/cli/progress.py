"""An export's progress: a line that is drawn over on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Self

import click

from outhaul.cli.output import duration, painted, size

if TYPE_CHECKING:
    from outhaul.rest import Export

_LONGEST_BAR = 30
_SHORTEST_BAR = 8


class Progress:
    """Shows how far an export is, on stderr, each time it is told; a context manager, which ends the line."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._drawn = False
        self._last: tuple[str, int] | None = None

    def show(self, export: Export) -> None:
        """Draw it over what was drawn before, or, where that cannot be, add a line for each step and each tenth."""
        if self._live:
            self._draw(*_parts(export))
            return
        current = (doing(export), int(export.progress.percent) // 10)
        if current != self._last:
            self._last = current
            click.echo(line(export), err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            click.echo(err=True)

    def _draw(self, before: str, percent: str, after: str) -> None:
        columns = shutil.get_terminal_size().columns - 1
        room = min(_LONGEST_BAR, columns - len(before) - len(percent) - len(after) - 6)
        bar = ""
        if room >= _SHORTEST_BAR:
            bar = f"{_bar(float(percent.rstrip('%')) / 100, room)} "
        text = f"{before}  {bar}{percent}  {after}"[:columns]
        word = before.rpartition("  ")[2]
        coloured = text.replace(word, painted(word, stream=sys.stderr), 1)
        click.echo(f"\r\033[K{coloured}", err=True, nl=False)
        self._drawn = True


def doing(export: Export) -> str:
    """In one word what is going on."""
    if export.cancelling and export.state == "started":
        return "cancelling"
    waiting = export.state != "started" or export.progress.phase == "waiting"
    return export.state if waiting else export.progress.phase


def line(export: Export) -> str:
    """How far an export is, in one line."""
    return "  ".join(_parts(export))


def _parts(export: Export) -> tuple[str, str, str]:
    progress = export.progress
    planned = "?" if progress.rows_planned is None else f"{progress.rows_planned:,}"
    count = progress.bytes_delivered if progress.phase == "delivering" else progress.bytes_written
    after = f"{progress.rows_done:,}/{planned} rows  {size(count)}"
    if export.state == "started" and progress.eta_seconds is not None:
        after = f"{after}  ETA {duration(progress.eta_seconds)}"
    before = f"{export.kind} {export.request.format}  {doing(export)}"
    return before, f"{int(progress.percent):>3}%", after


def _bar(done: float, width: int) -> str:
    full, empty = ("█", "░") if "utf" in (sys.stderr.encoding or "").lower() else ("#", "-")
    filled = min(width, int(done * width))
    return full * filled + empty * (width - filled)
