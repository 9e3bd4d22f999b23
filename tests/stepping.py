"""Carries out export tasks in processes of their own that kill themselves in the middle: `python stepping.py DATA`.

Reads jobs from standard input, one JSON object a line, and answers each with the exit status of its process and
the number of lines of code that it went through:

    {"task": "...", "kill_at": 1234}    SIGKILL before that line of ours runs; 0 for never
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outhaul.config import Config
from outhaul.container import Destinations
from outhaul.export.exporter import Exporter
from outhaul.keys import Keyring
from outhaul.ledger.ledger import Ledger

if TYPE_CHECKING:
    from types import FrameType

TRACED = (
    "/export/exporter.py",
    "/export/parts.py",
    "/export/text.py",
    "/export/parquet.py",
    "/export/spool.py",
    "/container/destinations.py",
    "/container/folder.py",
)


class Countdown:
    """Counts the lines run in the modules that do the work, and kills the process before a chosen one."""

    def __init__(self, kill_at: int) -> None:
        self.lines = 0
        self._kill_at = kill_at

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.endswith(TRACED):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def carry_out(data: Path, config: Config, task_id: str, kill_at: int) -> int:
    """Run the steps that are not known to be finished, as the worker would; how many lines that took."""
    finished = data / f"{task_id}.steps"
    ledger = Ledger(data)
    exporter = Exporter(
        data,
        ledger,
        config,
        Keyring.open(data, config.secret_key),
        Destinations(config.destinations),
        lambda: time.time_ns() // 1_000_000,
    )
    exporter.clear_spill()
    exporter.sweep()
    done = finished.read_text().split() if finished.exists() else []
    countdown = Countdown(kill_at)
    sys.settrace(countdown)
    for name in exporter.steps:
        if name not in done:
            getattr(exporter, name)(task_id, 1)
            with finished.open("a") as file:
                file.write(f"{name}\n")
    sys.settrace(None)
    return countdown.lines


def main() -> None:
    data, config = Path(sys.argv[1]), Config(os.environ)
    for line in sys.stdin:
        job = json.loads(line)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            lines = carry_out(data, config, job["task"], job["kill_at"])
            os.write(write, str(lines).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            lines = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(json.dumps({"status": status, "lines": int(lines or 0)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
