"""Exports N events to a folder, beside what users would pick instead: the same rows, from the same files, to the same format.

Each run is a fresh process; ours includes counting, hashing, delivery and the manifest. DuckDB and Polars get the same
threads, DuckDB the same memory limit. `unordered` does less, since the order is part of our format. `objects` is how
PostHog's batch exports convert (Arrow batches, Python objects, orjson, file), from its description, without order.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import duckdb
import orjson
import polars as pl
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

CASES = {
    "json": ("ours", "duckdb", "unordered"),
    "csv": ("ours", "duckdb", "unordered"),
    "jsonl": ("ours", "duckdb", "objects"),
    "jsonl+gzip": ("ours", "duckdb"),
    "jsonl+zstd": ("ours", "duckdb"),
    "parquet+zstd": ("ours", "duckdb", "unordered", "polars"),
}
COLUMNS = EXPORTS["event"].columns
ORDER = EXPORTS["event"].order


def ours(data: Path, app_id: str, case: str, out: Path) -> None:
    config = Config({"OUTHAUL_DESTINATIONS": f"file://{out}/"})
    ledger, keyring = Ledger(data), Keyring.open(data, "")
    exporter = Exporter(data, ledger, config, keyring, Destinations(config.destinations), lambda: START)
    task_id = f"bench-{os.getpid()}"
    form, _, compression = case.partition("+")
    request = ExportRequest(
        kind="event", format=form, compression=compression or "none", period=Period(START, START + WEEK)
    )
    destination = Destination(url=f"file://{out}/")
    ledger.create_task(
        Task(
            id=task_id,
            app_id=app_id,
            request=request,
            destination=keyring.seal(destination),
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


def files(data: Path, app_id: str) -> list[str]:
    return [str(file.path) for file in Tables(data / "tables").files(app_id, "event")]


def engine(out: Path) -> duckdb.DuckDBPyConnection:
    config = {"memory_limit": f"{Config({}).memory_limit}B", "temp_directory": str(out / "spill")}
    db = duckdb.connect(config=config)
    db.execute("SET TimeZone = 'UTC'")
    return db


def copy(data: Path, app_id: str, case: str, out: Path, *, ordered: bool) -> None:
    form, _, compression = case.partition("+")
    columns = ", ".join(
        f'"{c.name}"'
        if form == "parquet" or c.type not in {"time", "json"}
        else f'epoch_ms("{c.name}") AS "{c.name}"'
        if c.type == "time"
        else f'"{c.name}"::JSON AS "{c.name}"'
        for c in COLUMNS
    )
    order = "ORDER BY " + ", ".join(f'"{name}"' for name in ORDER) if ordered else ""
    options = {
        "json": "FORMAT json, ARRAY true",
        "jsonl": "FORMAT json",
        "csv": "FORMAT csv, HEADER true",
        "parquet": "FORMAT parquet",
    }[form] + (f", COMPRESSION {compression}" if compression else "")
    source = f"read_parquet({files(data, app_id)}, hive_partitioning = false)"
    engine(out).execute(
        f"COPY (SELECT {columns} FROM (SELECT * FROM {source} {order})) TO '{out / 'rival'}' ({options})"
    )


def polars(data: Path, app_id: str, out: Path) -> None:
    frame = pl.scan_parquet(files(data, app_id), hive_partitioning=False)
    frame.select([c.name for c in COLUMNS]).sort(ORDER).sink_parquet(out / "rival", compression="zstd")


def objects(data: Path, app_id: str, out: Path) -> None:
    names = ", ".join(f'"{c.name}"' for c in COLUMNS)
    source = f"read_parquet({files(data, app_id)}, hive_partitioning = false)"
    reader = engine(out).sql(f"SELECT {names} FROM {source}").to_arrow_reader(10_000)
    with (out / "rival").open("wb") as file:
        for batch in reader:
            for row in batch.to_pylist():
                row["extras"] = orjson.loads(row["extras"])
                file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def run(who: str, data: Path, app_id: str, case: str, out: Path) -> None:
    if who == "ours":
        ours(data, app_id, case, out)
    elif who == "polars":
        polars(data, app_id, out)
    elif who == "objects":
        objects(data, app_id, out)
    else:
        copy(data, app_id, case, out, ordered=who == "duckdb")
    print(peak_mib())


def compare(rows: int, rounds: int, cases: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="outhaul-bench-"))
    try:
        data, out = folder / "data", folder / "out"
        _, app_id = events(data, folder, rows)
        for case in cases:
            times: dict[str, list[float]] = {who: [] for who in CASES[case]}
            peaks = dict.fromkeys(times, 0.0)
            sizes = dict.fromkeys(times, 0)
            for _ in range(rounds):
                for who, seen in times.items():
                    shutil.rmtree(out, ignore_errors=True)
                    out.mkdir()
                    seconds, peak = child(__file__, ["run", who, str(data), app_id, case, str(out)])
                    seen.append(seconds)
                    peaks[who] = max(peaks[who], peak)
                    sizes[who] = max(path.stat().st_size for path in out.iterdir() if path.is_file())
            median = {who: statistics.median(seconds) for who, seconds in times.items()}
            told = " | ".join(
                f"{who} {median[who]:.2f} s, {peaks[who]:.0f} MiB, file {sizes[who] / 1e6:.0f} MB"
                + ("" if who == "ours" else f", ratio {median[who] / median['ours']:.2f}")
                for who in times
            )
            print(f"export {rows:,} events {case}: {told}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def memory(sizes: list[int], cases: list[str]) -> None:
    """Peak memory of an export by its size: it should not grow with it."""
    for rows in sizes:
        folder = Path(tempfile.mkdtemp(prefix="outhaul-bench-"))
        try:
            _, app_id = events(folder / "data", folder, rows)
            for case in cases:
                out = folder / "out"
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                seconds, peak = child(__file__, ["run", "ours", str(folder / "data"), app_id, case, str(out)])
                print(f"export {rows:>11,} events {case}: {seconds:6.2f} s, peak {peak:5.0f} MiB", flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    for name in ("who", "data", "app", "case", "out"):
        one.add_argument(name)
    against = commands.add_parser("compare")
    against.add_argument("--rows", type=int, default=10_000_000)
    against.add_argument("--rounds", type=int, default=3)
    against.add_argument("--cases", default=",".join(CASES))
    peaks = commands.add_parser("memory")
    peaks.add_argument("--sizes", default="1000000,10000000,30000000")
    peaks.add_argument("--cases", default="json,parquet+zstd")
    given = parser.parse_args()
    if given.command == "memory":
        memory([int(size) for size in given.sizes.split(",")], given.cases.split(","))
    elif given.command == "compare":
        compare(given.rows, given.rounds, given.cases.split(","))
    else:
        run(given.who, Path(given.data), given.app, given.case, Path(given.out))


if __name__ == "__main__":
    main()
