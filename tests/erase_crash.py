"""Maintains a data folder in processes of their own that kill themselves in the middle: `python erase_crash.py`.

Reads jobs from standard input, one JSON object a line, and answers each with the exit status of its process and
the number of lines of code that it went through:

    {"data": "/folder", "kill_at": 1234}    SIGKILL before that line of ours runs; 0 for never
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
from outhaul.export import counting
from outhaul.keys import Keyring
from outhaul.land.lander import Lander
from outhaul.ledger.ledger import Ledger
from outhaul.maintain import Maintainer

if TYPE_CHECKING:
    from types import FrameType

TRACED = (
    "/maintain/erasure.py",
    "/maintain/engine.py",
    "/maintain/traces.py",
    "/maintain/maintainer.py",
    "/land/lander.py",
    "/land/state.py",
    "/tables/delta.py",
    "/ledger/forgetting.py",
    "/ledger/erasures.py",
)
TURNS = 3000


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


def maintain(data: Path, kill_at: int) -> int:
    """Maintain until no erasure is left to do, as the worker would after it was started; how many lines that took."""

    def now() -> int:
        return time.time_ns() // 1_000_000

    config = Config({"OUTHAUL_THREADS": "1"})
    ledger = Ledger(data)
    countdown = Countdown(kill_at)
    sys.settrace(countdown)
    maintainer = Maintainer(data, ledger, config, Keyring.open(data, ""), counting.count, now)
    lander = Lander(data, ledger, config, now)
    for _ in range(TURNS):
        landed = lander.land()
        if not ledger.unfinished_erasures():
            break
        maintainer.turn(lander, landed=landed)
    lander.close()
    sys.settrace(None)
    return countdown.lines


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            lines = maintain(Path(job["data"]), job["kill_at"])
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
