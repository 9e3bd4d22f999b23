"""A process that lands what is in a data folder and dies at a chosen point, as `kill -9` would have it.

Started by a fork server, which has imported the engines but started no thread of theirs.
"""

from __future__ import annotations

import os
import signal
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from outhaul.config import Config
from outhaul.land.lander import Lander
from outhaul.ledger.ledger import Ledger
from outhaul.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from pathlib import Path

_context = get_context("forkserver")
_context.set_forkserver_preload(["land_crash"])


def start(data: Path, now: int, point: tuple[str, int] | None = None) -> BaseProcess:
    """Land all that is there, in a process of its own, one segment a batch.

    `point` says where it dies: after the n-th step; with the n-th commit to a table made, or just before it; or
    when it has made n files durable. None: it runs until it is done.
    """
    process = _context.Process(target=_land, args=(data, now, point))
    process.start()
    return process


def run(data: Path, now: int, point: tuple[str, int]) -> None:
    """The same, until it is dead; an error if it did not get to the point."""
    process = start(data, now, point)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, f"{point} was never reached"


def settings() -> dict[str, str]:
    return {"OUTHAUL_LAND_BATCH_BYTES": "1"}


def _land(data: Path, now: int, point: tuple[str, int] | None) -> None:
    lander = Lander(data, Ledger(data), Config(settings()), lambda: now)
    if point is not None:
        _prepare(lander, *point)
    while lander.land():
        pass


def _prepare(lander: Lander, where: str, number: int) -> None:
    if where == "step":
        lander.die = _die  # type: ignore[attr-defined]
        lander.steps = (*lander.steps[:number], "die")
    elif where == "committing":
        Tables.append = _counted(Tables.append, number, before=True)  # type: ignore[method-assign]
    elif where == "committed":
        Tables.append = _counted(Tables.append, number)  # type: ignore[method-assign]
    else:
        os.fsync = _counted(os.fsync, number)


def _counted(call: Callable[..., Any], number: int, *, before: bool = False) -> Callable[..., Any]:
    """The same call, but the process dies around the n-th."""
    calls = 0

    def counted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if before and calls == number:
            _die()
        result = call(*args)
        if calls == number:
            _die()
        return result

    return counted


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
