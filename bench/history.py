"""Streams the history of one device of N events, half of what the app has, beside DuckDB writing the same rows as lines.

Each run is a fresh process; DuckDB gets four times the memory, for with as much as ours it may run out. Ours folds whatever else there may be, and ends with JSON that
has every column; DuckDB's rows are those of the one table, ordered by time.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import duckdb
from runs import child, peak_mib

from data import START, events
from outhaul.config import Config
from outhaul.export.history import History
from outhaul.ledger.ledger import Ledger
from outhaul.tables import Tables
from outhaul.wire import Subject

DEVICE = duckdb.sql("SELECT md5('device0')").fetchall()[0][0]


async def _ours(data: Path) -> int:
    ledger = Ledger(data)
    [app] = ledger.apps()

    async def versions(app_id: str) -> dict[str, int]:
        return ledger.checkpoint().versions[app_id]

    history = History(data, ledger, Config({}), versions, lambda: START)
    begun = time.perf_counter()
    stream = await history.open(app.app_id, Subject(device_id=DEVICE))
    lines = 0
    with (data / "out").open("wb") as out:
        async for some in stream:
            if not lines:
                print(f"first lines after {time.perf_counter() - begun:.2f} s", file=sys.stderr, flush=True)
            lines += some.count(b"\n")
            out.write(some)
    await stream.close()
    return lines


def _duckdb(data: Path) -> int:
    [app] = Ledger(data).apps()
    files = [str(file.path) for file in Tables(data / "tables").files(app.app_id, "event")]
    settings = {
        "memory_limit": f"{4 * Config({}).history_memory_limit}B",
        "temp_directory": str(data / "spill-rival"),
    }
    db = duckdb.connect(config=settings)
    db.execute("SET TimeZone = 'UTC'")
    rows = f"SELECT * FROM read_parquet({files}, hive_partitioning = false) WHERE \"deviceId\" = '{DEVICE}'"
    copied = db.execute(f"COPY ({rows} ORDER BY timestamp) TO '{data / 'rival'}' (FORMAT json)").fetchall()
    return copied[0][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--run", nargs=2, metavar=("WHO", "DATA"))
    asked = parser.parse_args()
    if asked.run:
        who, data = asked.run[0], Path(asked.run[1])
        lines = asyncio.run(_ours(data)) if who == "ours" else _duckdb(data)
        if lines != asked.count:
            raise SystemExit(f"{who} has {lines} rows")
        print(peak_mib())
        return
    folder = Path(tempfile.mkdtemp(prefix="outhaul-bench-"))
    try:
        events(folder / "data", folder, 2 * asked.count, devices=2)
        for who in ("ours", "duckdb"):
            again = ["--count", str(asked.count), "--run", who, str(folder / "data")]
            runs = [child(__file__, again) for _ in range(asked.runs)]
            seconds = [wall for wall, _ in runs]
            print(
                f"history: {who}: {asked.count:,} of {2 * asked.count:,} events, "
                f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f}), "
                f"peak {max(peak for _, peak in runs):.0f} MiB",
                flush=True,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
