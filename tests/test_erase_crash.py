"""An erasure that is killed again and again ends as one that was not: the same records, the same receipt."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from erasing import ask, traces
from landing import Site
from test_erase import GONE, Hidden

if TYPE_CHECKING:
    from collections.abc import Iterator


class Killer:
    """Runs maintenance in processes that are killed at a line."""

    def __init__(self) -> None:
        script = str(Path(__file__).with_name("erase_crash.py"))
        self._process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, data: Path, kill_at: int = 0) -> dict[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"data": str(data), "kill_at": kill_at}) + "\n")
        self._process.stdin.flush()
        done: dict[str, int] = json.loads(self._process.stdout.readline())
        return done

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


@pytest.fixture
def killer() -> Iterator[Killer]:
    killer = Killer()
    yield killer
    killer.close()


@pytest.fixture
def asked(tmp_path: Path) -> tuple[Path, str]:
    """A data folder with an erasure that is asked for, and its id."""
    site = Site(tmp_path / "data")
    Hidden(site, tmp_path / "out")
    erasure_id = ask(site, user_id="gone-user")
    site.close()
    return site.data, erasure_id


def outcome(data: Path, erasure_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the tables hold, and the receipt but for times."""
    site = Site(data)
    try:
        done = site.ledger.erasure(erasure_id)
        assert (done.state, done.subject, done.found) == ("succeeded", None, None)
        receipt = msgspec.to_builtins(done.receipt)
        assert receipt.pop("removedAt") <= receipt.pop("deletedAt")
        return site.contents(), receipt
    finally:
        site.close()


def test_killed_at_lines_all_over_it_ends_the_same(
    asked: tuple[Path, str], killer: Killer, tmp_path: Path
) -> None:
    data, erasure_id = asked
    whole = tmp_path / "whole"
    shutil.copytree(data, whole)
    done = killer.run(whole)
    assert done["status"] == 0
    expected = outcome(whole, erasure_id)
    # Each time it gets a little further before it is killed, from wherever it has got to.
    kills, step = 0, done["lines"] // 30
    for kill_at in range(step, 100 * step, step):
        killed = killer.run(data, kill_at)
        if killed["status"] == 0:
            break
        assert killed["status"] == -9
        kills += 1
    assert kills >= 8
    assert outcome(data, erasure_id) == expected
    assert traces(data, *GONE) == []
