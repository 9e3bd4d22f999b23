"""Reads single devices, and pages of them, among N: p50 and p99 in ms, beside reading all of them once.

The tables are as landing and merging leave them: large sorted files, and small ones that came since.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import duckdb
from runs import peak_mib

from data import START
from outhaul.schema import TABLES
from outhaul.tables import Devices, NewFile, Tables, parquet

FILE_ROWS = 2_000_000
SMALL_FILES = 30
SMALL_ROWS = 2_000
META = f"""epoch_ms({START})::TIMESTAMPTZ AS "receivedAt", 'native' AS protocol, NULL::VARCHAR AS "sdkName", NULL::VARCHAR AS "sdkVersion" """


def device_id(number: int | str) -> str:
    return f"md5('device' || {number})"


def rows(table: str, numbers: str) -> str:
    """Rows of a table, for the devices of these numbers."""
    time_of = f"epoch_ms({START} + i % 100000000)::TIMESTAMPTZ"
    if table == "device":
        info = {
            "phoneModel": "'Pixel ' || i % 9",
            "phoneManufacturer": "'Google'",
            "firmwareVersion": "'1' || i % 6",
            "firmwareName": "'Android'",
            "locale": "'fr-FR'",
            "networkType": "'wifi'",
            "applicationVersionName": "'3.' || i % 20",
        }
        columns = ", ".join(
            f'{info.get(c.name, "NULL::BIGINT" if c.type == "integer" else "NULL::VARCHAR")} AS "{c.name}"'
            for c in TABLES["device"].columns
            if c.name
            not in {"deviceId", "firstSeen", "lastSeen", "lastInfo", "lastLocation", "nativePushEnabled"}
            and c.name not in {"receivedAt", "protocol", "sdkName", "sdkVersion"}
        )
        own = (
            f'{time_of} AS "firstSeen", {time_of} AS "lastSeen", {time_of} AS "lastInfo", NULL::TIMESTAMPTZ AS "lastLocation", '
            f'NULL::BOOLEAN AS "nativePushEnabled", {columns}'
        )
    else:
        own = (
            f"""'userid' AS key, 'user-' || i AS value, {time_of} AS "lastModified", 0::BIGINT AS sequence"""
        )
    return f'SELECT {device_id("i")} AS "deviceId", {own}, {META} FROM ({numbers}) t(i)'


def make(folder: Path, count: int) -> tuple[Tables, dict[str, int]]:
    tables, versions = Tables(folder / "tables"), {}
    db = duckdb.connect(config={"temp_directory": str(folder / "spill"), "memory_limit": "4GB"})
    db.execute("SET TimeZone = 'UTC'")
    rng = random.Random(1)
    for table in ("device", "tag"):
        place = tables.folder("app", table)
        place.mkdir(parents=True)
        sources = [
            f"SELECT * FROM range({first}, {min(count, first + FILE_ROWS)})"
            for first in range(0, count, FILE_ROWS)
        ]
        sources += [
            f"SELECT unnest([{', '.join(str(rng.randrange(count)) for _ in range(SMALL_ROWS))}])"
            for _ in range(SMALL_FILES)
        ]
        files = []
        for number, numbers in enumerate(sources):
            path = place / f"{number:06d}.parquet"
            db.execute(
                f"COPY ({rows(table, numbers)} ORDER BY \"deviceId\") TO '{path}' ({parquet(TABLES[table], 0)})"
            )
            found = db.execute(
                f'SELECT count(*), min("deviceId"), max("deviceId") FROM \'{path}\''
            ).fetchone()
            files.append(NewFile(path.name, path.stat().st_size, found[0], found[1], found[2], START))
        versions[table] = tables.append("app", table, files, 1)
    return tables, versions


def timed(what: str, times: list[float]) -> None:
    ordered = sorted(times)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99) - 1]
    print(
        f"devices: {what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, first {times[0]:.0f} ms ({len(times)} reads)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000_000)
    count = parser.parse_args().count
    folder = Path(tempfile.mkdtemp(prefix="outhaul-bench-"))
    try:
        tables, versions = make(folder, count)
        reader, rng = Devices(tables), random.Random(2)
        ids = [
            row[0]
            for row in duckdb.sql(
                f"SELECT {device_id('i')} FROM (SELECT unnest({[rng.randrange(count) for _ in range(1200)]}) AS i)"
            ).fetchall()
        ]
        times = []
        for wanted in ids[:1000]:
            begun = time.perf_counter()
            assert wanted in reader.get("app", versions, [wanted])
            times.append(1000 * (time.perf_counter() - begun))
        timed(f"one of {count:,}", times)
        times = []
        for after in ids[1000:]:
            begun = time.perf_counter()
            assert len(reader.page("app", versions, after, 100)) > 0
            times.append(1000 * (time.perf_counter() - begun))
        timed(f"a page of 100 of {count:,}", times)
        begun = time.perf_counter()
        reader.get("app", versions, ids[:1000])
        print(
            f"devices: 1,000 at once: {time.perf_counter() - begun:.2f} s, peak {peak_mib():.0f} MiB",
            flush=True,
        )
        begun = time.perf_counter()
        files = ", ".join(f"'{file.path}'" for file in tables.files("app", "device"))
        duckdb.sql(
            f'SELECT "deviceId", max("lastSeen") FROM read_parquet([{files}]) GROUP BY 1 ORDER BY 1'
        ).to_arrow_table()
        print(
            f"devices: reading when each was last seen, all of them: {time.perf_counter() - begun:.2f} s",
            flush=True,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
