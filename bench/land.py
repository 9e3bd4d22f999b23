"""Lands N native events from the journal, beside DuckDB reading the same records as JSON lines into one Parquet file.

Each run is a fresh process. Ours includes checking every record against its limits, removing duplicates, relating
records to devices and sessions, sorted Parquet, the Delta commits and the state that makes it exactly once; DuckDB
only parses and writes, from the handier form (one record per line).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import statistics
import tempfile
import uuid
from pathlib import Path

import duckdb
from runs import child, peak_mib

from outhaul.config import Config
from outhaul.journal import Header, Journal
from outhaul.land.lander import Lander
from outhaul.ledger.ledger import Ledger

START = 1_767_225_600_000
BATCH = 50


def make(folder: Path, rows: int) -> None:
    """A journal of closed segments below `folder/data`, and the same records in `folder/records.ndjson`."""
    config = Config({})
    app_id = Ledger(folder / "data").create_app("bench", "android", START).app_id
    random_ = random.Random(1)

    def record(i: int) -> dict[str, object]:
        return {
            "kind": "event",
            "id": str(uuid.UUID(int=random_.getrandbits(128))),
            "deviceId": f"{i * 2654435761 % 50000:032x}",
            "timestamp": START + i,
            "name": f"event_{i % 50}",
            "applicationVersionName": "3.1.0",
            "extras": {"sku": f"A{i % 1000}", "price": i % 100, "from": "push"},
        }

    async def fill() -> None:
        journal = Journal(
            folder / "data" / "journal",
            first=0,
            segment_bytes=config.segment_bytes,
            max_pending_bytes=config.max_pending_bytes,
            max_journal_bytes=config.max_journal_bytes,
        )
        with (folder / "records.ndjson").open("w") as lines:
            for first in range(0, rows, BATCH):
                records = [json.dumps(record(i), separators=(",", ":")) for i in range(first, first + BATCH)]
                lines.write("\n".join(records) + "\n")
                body = '{"records":[' + ",".join(records) + "]}"
                await journal.append(Header(app_id, "native", START + first), body.encode())
        await journal.roll()
        await journal.close()

    asyncio.run(fill())


def ours(folder: Path, rows: int) -> None:
    lander = Lander(folder / "data", Ledger(folder / "data"), Config({}), lambda: START + rows)
    while lander.land():
        pass
    lander.close()


def rival(folder: Path) -> None:
    columns = (
        "{kind: 'VARCHAR', id: 'VARCHAR', \"deviceId\": 'VARCHAR', timestamp: 'BIGINT', name: 'VARCHAR', "
        "\"applicationVersionName\": 'VARCHAR', extras: 'JSON'}"
    )
    source = f"read_json('{folder}/records.ndjson', format = 'newline_delimited', columns = {columns})"
    duckdb.connect().execute(
        f"COPY (SELECT * FROM {source}) TO '{folder}/rival.parquet' (FORMAT parquet, COMPRESSION zstd)"
    )


def compare(rows: int, rounds: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="outhaul-bench-"))
    try:
        make(folder, rows)
        pristine = folder / "pristine"
        (folder / "data").rename(pristine)
        times: dict[str, list[float]] = {"ours": [], "rival": []}
        peak = 0.0
        for _ in range(rounds):
            shutil.rmtree(folder / "data", ignore_errors=True)
            shutil.copytree(pristine, folder / "data")
            seconds, used = child(__file__, ["ours", str(folder), str(rows)])
            peak = max(peak, used)
            times["ours"].append(seconds)
            times["rival"].append(child(__file__, ["rival", str(folder), str(rows)])[0])
        median = {who: statistics.median(seconds) for who, seconds in times.items()}
        print(
            f"land {rows:,} events: ours {median['ours']:.2f} s ({rows / median['ours']:,.0f}/s, peak {peak:.0f} MiB)"
            f" | DuckDB JSON to Parquet {median['rival']:.2f} s, ratio {median['rival'] / median['ours']:.2f}"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["compare", "ours", "rival"])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("rows", nargs="?", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.command == "compare":
        compare(given.rows, given.rounds)
    elif given.command == "ours":
        ours(Path(given.folder), given.rows)
        print(peak_mib())
    else:
        rival(Path(given.folder))
        print(peak_mib())


if __name__ == "__main__":
    main()
