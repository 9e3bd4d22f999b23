"""Exports N events to a folder, beside DuckDB's own COPY of the same rows in the same order to the same format.

Each run is a fresh process; ours includes counting, hashing, delivery and the manifest. DuckDB gets the same memory
limit and threads. `COPY` without ORDER BY is shown too: it does less, since the order is part of the format.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import duckdb
import msgspec
from runs import child, peak_mib

from data import START, WEEK, events
from outhaul.config import Config
from outhaul.container import Destinations
from outhaul.export.exporter import Exporter
from outhaul.keys import Keyring
from outhaul.ledger.ledger import Ledger
from outhaul.schema import EXPORTS
from outhaul.tables import Tables
from outhaul.wire import Destination, ExportRequest, Period, Task


def ours(data: Path, app_id: str, form: str, out: Path) -> None:
    config = Config({"OUTHAUL_DESTINATIONS": f"file://{out}/"})
    ledger, keyring = Ledger(data), Keyring.open(data, "")
    exporter = Exporter(data, ledger, config, keyring, Destinations(config.destinations), lambda: START)
    task_id = f"bench-{os.getpid()}"
    request = ExportRequest(kind="event", format=form, period=Period(START, START + WEEK))
    ledger.create_task(
        Task(
            id=task_id,
            app_id=app_id,
            request=request,
            destination=keyring.seal(msgspec.json.encode(Destination(url=f"file://{out}/")).decode()),
            state="queued",
            created_at=START,
            mark=0,
        )
    )
    for step in exporter.steps:
        getattr(exporter, step)(task_id, 1)
    task = ledger.task(task_id)
    if task.state != "succeeded":
        raise SystemExit(f"the export {task.state}: {task.error}")


def rival(data: Path, app_id: str, form: str, out: Path, *, ordered: bool) -> None:
    config = Config({})
    files = ", ".join(f"'{file.path}'" for file in Tables(data / "tables").files(app_id, "event"))
    db = duckdb.connect(
        config={"memory_limit": f"{config.memory_limit}B", "temp_directory": str(out / "spill")}
    )
    db.execute("SET TimeZone = 'UTC'")
    columns = ", ".join(
        f'epoch_ms("{c.name}") AS "{c.name}"'
        if c.type == "time"
        else f'"{c.name}"::JSON AS "{c.name}"'
        if c.type == "json"
        else f'"{c.name}"'
        for c in EXPORTS["event"].columns
    )
    order = 'ORDER BY "timestamp", "deviceId", "eventId"' if ordered else ""
    options = "FORMAT json, ARRAY true" if form == "json" else "FORMAT csv, HEADER true"
    db.execute(
        f"COPY (SELECT {columns} FROM (SELECT * FROM read_parquet([{files}], hive_partitioning = false) {order})) TO '{out / 'rival'}' ({options})"
    )


def compare(rows: int, rounds: int, forms: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="outhaul-bench-"))
    try:
        data, out = folder / "data", folder / "out"
        _, app_id = events(data, folder, rows)
        for form in forms:
            times: dict[str, list[float]] = {"ours": [], "rival": [], "unordered": []}
            peaks: dict[str, float] = {}
            for _ in range(rounds):
                for who, seconds_seen in times.items():
                    shutil.rmtree(out, ignore_errors=True)
                    out.mkdir()
                    seconds, peak = child(__file__, ["run", who, str(data), app_id, form, str(out)])
                    seconds_seen.append(seconds)
                    peaks[who] = max(peaks.get(who, 0), peak)
            median = {who: statistics.median(seconds) for who, seconds in times.items()}
            print(
                f"export {rows:>11,} events {form:4}: ours {median['ours']:6.2f} s (peak {peaks['ours']:5.0f} MiB)"
                f" | DuckDB COPY in order {median['rival']:6.2f} s (peak {peaks['rival']:5.0f} MiB), ratio {median['rival'] / median['ours']:.2f}"
                f" | DuckDB COPY unordered {median['unordered']:6.2f} s, ratio {median['unordered'] / median['ours']:.2f}",
                flush=True,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def memory(sizes: list[int]) -> None:
    """Peak memory of an export by its size: it should not grow with it."""
    for rows in sizes:
        folder = Path(tempfile.mkdtemp(prefix="outhaul-bench-"))
        try:
            _, app_id = events(folder / "data", folder, rows)
            (folder / "out").mkdir()
            seconds, peak = child(
                __file__, ["run", "ours", str(folder / "data"), app_id, "json", str(folder / "out")]
            )
            print(f"export {rows:>11,} events json: {seconds:6.2f} s, peak {peak:5.0f} MiB", flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    for name in ("who", "data", "app", "form", "out"):
        run.add_argument(name)
    against = commands.add_parser("compare")
    against.add_argument("--rows", type=int, default=10_000_000)
    against.add_argument("--rounds", type=int, default=3)
    against.add_argument("--formats", default="json,csv")
    peaks = commands.add_parser("memory")
    peaks.add_argument("--sizes", default="1000000,10000000,30000000")
    given = parser.parse_args()
    if given.command == "memory":
        memory([int(size) for size in given.sizes.split(",")])
    elif given.command == "compare":
        compare(given.rows, given.rounds, given.formats.split(","))
    elif given.who == "ours":
        ours(Path(given.data), given.app, given.form, Path(given.out))
        print(peak_mib())
    else:
        rival(Path(given.data), given.app, given.form, Path(given.out), ordered=given.who == "rival")
        print(peak_mib())


if __name__ == "__main__":
    main()
