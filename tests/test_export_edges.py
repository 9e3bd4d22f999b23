"""Exports at the edges of what is promised: other hosts' settings, ties, bounds, sizes, what a crash left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporting import Bench
from landing import Site, T, event
from outhaul.wire import Period, Truncate

EVER = Period(T - 10**10, T + 10**10)


@pytest.fixture
def bench(tmp_path):
    site = Site(tmp_path / "data")
    yield Bench(site, tmp_path / "out")
    site.close()


def test_times_are_utc_whatever_the_time_zone_of_the_host(bench):
    bench.site.batch(event("d1", "e1", T))
    how = {"kind": "event", "period": EVER, "format": "jsonl", "time_format": "rfc3339"}
    tasks = [bench.ask(**how), bench.ask(**how, mask={"timestamp": Truncate("day")})]
    process = subprocess.run(
        [sys.executable, Path(__file__).with_name("stepping.py"), bench.site.data],
        env={**os.environ, "OUTHAUL_DESTINATIONS": f"file://{bench.out}/", "TZ": "America/New_York"},
        input="".join(json.dumps({"task": task, "kill_at": 0}) + "\n" for task in tasks),
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line)["status"] for line in process.stdout.splitlines()] == [0, 0]
    times = [json.loads((bench.out / f"Event_{task}.jsonl").read_bytes())["timestamp"] for task in tasks]
    assert times == ["2026-11-23T18:26:26.000Z", "2026-11-23T00:00:00.000Z"]
