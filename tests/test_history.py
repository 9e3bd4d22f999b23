"""Everything about one user or device, as an export: the same records that all other exports have, and no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from exporting import Bench
from landing import DAY, Site, T, activity, activity_end, event, every_kind, plain
from outhaul.schema import EXPORTS
from outhaul.wire import Filter, Period, Subject, Truncate

EVER = Period(0, T + 100 * DAY)
FOLDED_OR_STORED = ("activity", "event", "job", "error", "crash", "session", "device", "feedback")
ADA, D1 = Subject(user_id="ada"), Subject(device_id="d1")
HARSH = 'd"ü\n,\\'


def tag(device, key, value, time=T, **more):
    return {"kind": "tag", "deviceId": device, "timestamp": time, "key": key, "value": value, **more}


def crowd(site):
    """Ada has two devices, and used d3 before Bo did; d9 is nobody's. Ends and later news come in landings of their own."""
    site.batch(
        *(record for device in ("d1", "d3", HARSH, "d9") for record in every_kind(device)),
        *(tag(device, "userid", "ada", T + 1) for device in ("d1", "d3", HARSH)),
        {**event("d1", "e7", T + 150, extras={"by": "ada"}), "deviceId": "d2"},
        activity("d1", "a9", T + 40_000, "Open"),
        activity("d3", "a9", T + 40_000, "Open", userId="ada"),
    )
    site.batch(
        activity_end("d1", T + 45_000), activity_end("d3", T + 46_000), event("d3", "e8", T + 2, userId="ada")
    )
    site.send_body(
        b'{"records":[{"kind":"event","deviceId":"d1","timestamp":"soon"},{"kind":"event","user":"ada"}]}'
    )
    site.send_body(b'{"records":[{"kind":"event","deviceId":"d1x","timestamp":"soon"}]}')
    site.land()
    site.batch(
        tag("d3", "userid", "bo", T + DAY), tag("d1", "plan", "pro", T + 2), event("d3", "e9", T + DAY + 5)
    )
    site.batch(
        {"kind": "token", "deviceId": "d1", "timestamp": T + 9, "id": "k9", "token": "new", "service": "gcm"}
    )
    site.batch(*(event("d1", f"n{n}", T + n // 3, name=f"n{n % 5}") for n in range(600)))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("history")
    site = Site(root / "data")
    crowd(site)
    yield Bench(site, root / "out")
    site.close()


def history(bench, of, **more):
    return bench.rows(**{"kind": "history", "of": of, "format": "jsonl", **more})


def records(rows, kind):
    return [row["record"] for row in rows if row["kind"] == kind]


def exported(bench, kind, keep):
    """What an export of a kind has of somebody, in every column."""
    export = EXPORTS[kind]
    asked = {"period": EVER} if export.dated else {}
    columns = [column.name for column in (*export.columns, *export.more)]
    return [row for row in bench.rows(kind=kind, format="jsonl", columns=columns, **asked) if keep(row)]


@pytest.mark.parametrize("device", ["d1", HARSH])
def test_of_a_device_it_is_what_the_exports_of_each_kind_have(bench, device):
    rows = history(bench, Subject(device_id=device))
    for kind in FOLDED_OR_STORED:
        found = records(rows, kind)
        assert sorted(found, key=str) == sorted(
            exported(bench, kind, lambda row: row["deviceId"] == device), key=str
        ), kind
        assert found
    assert {row["deviceId"] for row in rows if row["kind"] != "reject"} == {device}


def test_tags_and_tokens_are_there_each_time_they_were_set(bench):
    rows = history(bench, D1)
    told = [
        (one["key"], one.get("value"), one["lastModified"] - T, one["userId"]) for one in records(rows, "tag")
    ]
    assert {*told} == {
        ("plan", None, 0, "ada"),
        ("userid", "u1", 0, "ada"),
        ("userid", "ada", 1, "ada"),
        ("plan", "pro", 2, "ada"),
    }
    tokens = {(one["service"], one["token"], one["valid"]) for one in records(rows, "token")}
    assert tokens == {("gcm", "tok", True), ("adm", "old", False), ("gcm", "new", True)}
    assert len(told) == sum(row["deviceId"] == "d1" for row in bench.site.rows("tag"))


def test_what_was_set_aside_is_there_where_it_names_the_device_or_the_user(bench):
    [one] = records(history(bench, D1), "reject")
    assert json.loads(one["raw"])["deviceId"] == "d1"
    assert set(one) == {"reason", "detail", "raw", "receivedAt"}
    found = [json.loads(row["raw"]) for row in records(history(bench, ADA), "reject")]
    assert {(row.get("deviceId"), row.get("user")) for row in found} == {("d1", None), (None, "ada")}


def test_of_a_user_it_is_their_devices_and_what_carries_their_id(bench):
    rows = history(bench, ADA)
    mine = {"d1", HARSH}
    for kind in ("activity", "event", "error", "crash", "job"):
        expected = exported(bench, kind, lambda row: row["deviceId"] in mine or row.get("userId") == "ada")
        assert sorted(records(rows, kind), key=str) == sorted(expected, key=str), kind
    assert {row["record"]["deviceId"] for row in rows if row["kind"] == "device"} == mine
    shared = [row for row in rows if row.get("deviceId") == "d3"]
    assert {row["userId"] for row in shared} == {"ada"}
    # What was open on the device that is Bo's now has its end, which names nobody.
    assert [one["endTime"] - T for one in records(shared, "activity") if one["activityId"] == "a9"] == [
        46_000
    ]
    assert [(one["key"], one["value"]) for one in records(shared, "tag")] == [("userid", "ada")]
    bo = history(bench, Subject(user_id="bo"))
    assert {row["deviceId"] for row in bo if row["kind"] != "reject"} == {"d3"}
    assert "e9" in [one["eventId"] for one in records(bo, "event")]


def test_somebody_unknown_has_none(bench):
    *files, manifest = bench.export(kind="history", of=Subject(user_id="nobody"), format="json").values()
    assert files == [b"[\n]\n"]
    assert json.loads(manifest)["rows"] == 0


def test_the_order_is_that_of_time_and_the_same_however_it_is_cut(bench, tmp_path):
    data = bench.export(kind="history", of=ADA, format="jsonl")
    rows = [json.loads(line) for line in next(iter(data.values())).splitlines()]
    order = [(row["timestamp"], row.get("deviceId", "\U0010ffff"), row["kind"]) for row in rows]
    assert order == sorted(order)
    assert len(rows) > 600
    small = Bench(bench.site, tmp_path / "out", slice_rows="60")
    assert next(iter(small.export(kind="history", of=ADA, format="jsonl").values())) == next(
        iter(data.values())
    )


def test_periods_filters_columns_and_days(bench):
    rows = history(bench, D1)
    period = Period(T + 100, T + 45_000)
    within = [row for row in rows if T + 100 <= row["timestamp"] < T + 45_000]
    assert history(bench, D1, period=period) == within
    assert {row["kind"] for row in within} > {"event", "activity", "crash"}
    chosen = Filter(
        all_of=[Filter(column="kind", one_of=["event", "tag"]), Filter(column="timestamp", lt=T + 9)]
    )
    kept = [row for row in rows if row["kind"] in {"event", "tag"} and row["timestamp"] < T + 9]
    assert history(bench, D1, where=chosen) == kept
    assert history(bench, D1, columns=["kind", "record"])[0].keys() == {"kind", "record"}
    *files, _ = bench.export(kind="history", of=ADA, format="jsonl", day_path=True)
    assert [name.split("/")[0] for name in files] == [f"day=2026-11-{day}" for day in (23, 24)][: len(files)]


def test_times_in_a_record_are_written_like_those_beside_it(bench):
    [row, *_] = history(bench, D1, time_format="rfc3339", where=Filter(column="kind", eq="activity"))
    assert row["timestamp"] == row["record"]["startTime"] == "2026-11-23T18:26:26.000Z"
    data, _ = bench.export(kind="history", of=D1, format="parquet", compression="zstd").values()
    frame = pl.read_parquet(data)
    assert frame.schema["timestamp"] == pl.Datetime("ms", "UTC")
    assert json.loads(frame["record"][0]).keys() == row["record"].keys()


def test_masked_ids_do_not_stand_in_the_record(bench):
    where = Filter(column="kind", one_of=["event", "activity", "session", "feedback", "token"])
    masked = history(bench, ADA, where=where, mask={"userId": "hash", "deviceId": "hash"})
    text = json.dumps(masked)
    assert '"ada"' not in text
    assert '"d1"' not in text
    for row in masked:
        assert row["record"]["deviceId"] == row["deviceId"]
        assert row["record"].get("userId") == row.get("userId")
    events = bench.rows(kind="event", period=EVER, format="jsonl", mask={"deviceId": "hash"})
    assert {row["deviceId"] for row in masked} < {row["deviceId"] for row in events}
    dropped = history(bench, ADA, where=where, mask={"userId": "drop", "deviceId": Truncate(1)})
    assert {row["record"]["deviceId"] for row in dropped} == {"d"}
    assert not any("userId" in row["record"] or "userId" in row for row in dropped)


def test_whose_devices_it_is_of_is_chosen_once(tmp_path):
    """A device that changes hands while a task is under way is in it or not, whenever it is taken up again."""
    site = Site(tmp_path / "data")
    site.batch(tag("d1", "userid", "ada"), event("d1", "e1", T), event("d2", "e2", T))
    bench = Bench(site, tmp_path / "out")
    task_id = bench.ask(kind="history", of=ADA, format="jsonl")
    bench.exporter.pin(task_id, 1)
    assert site.ledger.task(task_id).pin.devices == ["d1"]
    site.batch(tag("d1", "userid", "bo", T + 1), tag("d2", "userid", "ada", T + 1))
    task = bench.carry_out(task_id)
    assert task.state == "succeeded", task.error
    rows = [json.loads(line) for line in (bench.out / f"History_{task_id}.jsonl").read_bytes().splitlines()]
    assert {row["deviceId"] for row in rows} == {"d1"}
    manifest = json.loads((bench.out / f"History_{task_id}.manifest.json").read_bytes())
    assert (manifest["exportType"], manifest["of"]) == ("History", {"userId": "ada"})
    assert "e2" not in json.dumps(rows)
    assert "e2" in json.dumps(history(bench, ADA))
    site.close()


def test_killed_on_the_way_it_comes_to_the_same_bytes(bench):
    how = {"kind": "history", "of": ADA, "format": "jsonl", "compression": "gzip", "day_path": True}
    expected = list(bench.export(**how).values())[:-1]
    settings = {
        "OUTHAUL_DESTINATIONS": f"file://{bench.out}/",
        "OUTHAUL_SLICE_ROWS": "150",
        "OUTHAUL_MARK_BYTES": "500",
    }

    def run(*jobs):
        process = subprocess.run(
            [sys.executable, Path(__file__).with_name("stepping.py"), bench.site.data],
            env={**os.environ, **settings},
            input="".join(json.dumps(job) + "\n" for job in jobs),
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in process.stdout.splitlines()]

    [whole] = run({"task": bench.ask(**how), "kill_at": 0})
    for share in (0.4, 0.8):
        task_id = bench.ask(**how)
        killed, _, ended = run(
            {"task": task_id, "kill_at": int(whole["lines"] * share)},
            {"task": task_id, "kill_at": int(whole["lines"] * share / 3)},
            {"task": task_id, "kill_at": 0},
        )
        assert (killed["status"], ended["status"]) == (-9, 0)
        manifest = json.loads((bench.out / f"History_{task_id}.manifest.json").read_bytes())
        assert [(bench.out / entry["name"]).read_bytes() for entry in manifest["files"]] == expected


def test_a_user_of_many_devices(tmp_path):
    site = Site(tmp_path / "data")
    site.batch(
        *(tag(f"d{n}", "userid", "all" if n % 2 else "others") for n in range(600)),
        *(event(f"d{n}", f"e{n}", T + n) for n in range(600)),
    )
    rows = history(Bench(site, tmp_path / "out"), Subject(user_id="all"))
    assert [row["deviceId"] for row in rows if row["kind"] == "event"] == [f"d{n}" for n in range(1, 600, 2)]
    assert plain({"n": len(rows)}) == {"n": 300 * 3}
    site.close()


def test_records_of_the_same_instant_are_in_the_same_order_however_they_are_written(bench):
    ids = [
        [one["eventId"] for one in records(history(bench, D1, **how), "event")]
        for how in ({}, {"time_format": "rfc3339"}, {"mask": {"deviceId": "hash"}})
    ]
    assert ids[0] == ids[1] == ids[2]
    assert ids[0][:3] == ["n0", "n1", "n2"]
