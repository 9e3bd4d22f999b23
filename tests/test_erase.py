"""Erasing a person: nothing of them is left in the data folder, and everybody else's records stay as they were."""

from __future__ import annotations

import gzip
import re
import uuid
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from erasing import erase, maintainer, traces, work
from exporting import Bench
from landing import DAY, Site, T, activity, activity_end, event, every_kind
from outhaul.errors import DestinationDenied
from outhaul.keys import Keyring
from outhaul.wire import Destination, Filter, Import, Period, Source, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data")
    yield site
    site.close()


def userid(device: str, user: str, at: int = T) -> dict[str, object]:
    return {"kind": "tag", "deviceId": device, "timestamp": at, "key": "userid", "value": user}


def test_a_user_goes_and_others_stay(site: Site) -> None:
    for number in range(3):
        site.batch(
            *every_kind("gone-device"),
            *every_kind("kept-device"),
            userid("gone-device", "gone-user"),
            userid("kept-device", "kept-user"),
            event("gone-device", f"g{number}", T + number),
            event("kept-device", f"k{number}", T + number),
        )
    before = {
        name: [row for row in rows if row.get("deviceId") == "kept-device"]
        for name, rows in site.contents().items()
    }
    done = erase(site, user_id="gone-user")
    assert (done.state, done.phase, done.error, done.subject, done.found) == (
        "succeeded",
        "done",
        None,
        None,
        None,
    )
    assert site.contents() == before
    assert traces(site.data, "gone-device", "gone-user") == []
    assert traces(site.data, "kept-device") != []


GONE = ("gone-user", "gone-phone", "gone-tablet")
MERGING = {"OUTHAUL_COMPACT_FILES": "4"}


class Hidden:
    """A site that has somebody in every place where they can be, beside somebody else."""

    def __init__(self, site: Site, out: Path) -> None:
        self.site = site
        site.config.compact_files = 4
        self.bench = Bench(site, out)
        self._journal()
        for number in range(5):
            site.batch(
                *self._records("gone", "gone-phone", number), *self._records("kept", "kept-phone", number)
            )
        site.batch(
            userid("gone-tablet", "gone-user"), *every_kind("gone-tablet")[:2], event("gone-tablet", "t", T)
        )
        # Somebody's device was theirs before; what they did there stays theirs.
        site.batch(
            event("kept-phone", "shared", T + 50, userId="gone-user"),
            activity("kept-phone", "shared-screen", T + 9000, userId="gone-user"),
        )
        site.batch(activity_end("kept-phone", T + 9500))
        assert work(site, maintainer(site))
        self._exports()

    def _records(self, who: str, device: str, number: int) -> list[dict[str, Any]]:
        kept = [record for record in every_kind(device) if record.get("key") != "userid"]
        renamed = [
            {name: f"{value}-{who}-{number}" if name == "id" else value for name, value in record.items()}
            for record in kept
        ]
        return [*renamed, userid(device, f"{who}-user", T + number)]

    def _journal(self) -> None:
        """Requests that cannot be read, or not whole."""
        site = self.site
        site.send_body(b'{"records": [{"kind": "event", "deviceId": "gone-phone", "name": ""}]}')
        site.send_body(b'{"deviceId": "gone-tablet", broken')
        site.send_body(gzip.compress(b'{"deviceId": "gone-phone"}' * 50)[:-20], encoding="gzip")
        site.send_body(zlib.compress(b'{"deviceId": "gone-phone"}' * 50)[:-20], encoding="deflate")
        site.send_body(b'{"deviceId": "kept-phone", broken')
        site.land()
        site.send(event("gone-phone", "lost", T))
        site.roll()
        [segment] = (site.data / "journal").glob("*.log")
        data = segment.read_bytes()
        segment.write_bytes(data[:-3])
        site.land()
        (site.data / "journal" / "damaged" / f"{0:020d}.tail").write_bytes(b"torn gone-phone")
        assert traces(site.data / "journal", "gone-phone")

    def _exports(self) -> None:
        site, bench = self.site, self.bench
        period = Period(T - DAY, T + DAY)
        bench.destination = Destination(url="download:")
        self.kept_files = bench.ask(
            kind="error",
            format="jsonl",
            period=period,
            where=Filter(column="deviceId", eq="kept-phone"),
        )
        self.all_files = bench.ask(kind="device", format="csv", compression="gzip")
        self.masked = bench.ask(kind="crash", format="parquet", period=period, mask={"deviceId": "hash"})
        for task_id in (self.kept_files, self.all_files, self.masked):
            assert bench.carry_out(task_id).state == "succeeded"
        bench.destination = Destination(url=f"file://{bench.out}/")
        self.named = bench.ask(
            kind="tag", format="csv", where=Filter(column="userId", one_of=["gone-user", "x"])
        )
        self.history = bench.ask(kind="history", format="jsonl", of=Subject(user_id="gone-user"))
        self.nothing = bench.ask(kind="error", format="jsonl", period=Period(T - 9 * DAY, T - 8 * DAY))
        for task_id in (self.named, self.history, self.nothing):
            assert bench.carry_out(task_id).state == "succeeded"
        self.failed = bench.ask(kind="session", format="jsonl", period=period)
        for step in ("pin", "write"):
            getattr(bench.exporter, step)(self.failed, 1)
        bench.exporter.fail(self.failed, 1, DestinationDenied("No entry for gone-user."))
        self.described = bench.ask(kind="token", format="jsonl")
        with site.ledger._write() as connection:  # noqa: SLF001  as the door would have recorded it
            connection.exec_driver_sql(
                "UPDATE tasks SET description = 'asked by gone-user', idempotency_key = 'of gone-phone', "
                "idempotency_hash = '' WHERE id = ?",
                (self.described,),
            )
        assert bench.carry_out(self.described).state == "succeeded"
        site.ledger.create_import(
            Import(
                id=str(uuid.uuid4()),
                app_id=site.app.app_id,
                format="csv",
                source=Keyring.open(site.data, "").seal(Source(url="https://example.org/gone-user.csv")),
                source_shown="https://example.org/gone-user.csv",
                state="queued",
                created_at=site.now,
                mark=0,
                description="tags of gone-user",
            )
        )

    def others(self) -> dict[str, list[dict[str, Any]]]:
        """What is stored of anybody else."""
        found = {}
        for name, rows in self.site.contents().items():
            theirs = [row for row in rows if not any(one in str(row) for one in GONE)]
            if name.endswith("/reject"):
                # Nobody can tell whose this is.
                theirs = [row for row in theirs if not row["raw"].startswith(("\x1f", "x\\x9c"))]
            if name.endswith("/activity_end"):
                theirs = [row for row in theirs if row["activityId"] != "shared-screen"]
            found[name] = theirs
        return found


@pytest.fixture
def hidden(site: Site, tmp_path: Path) -> Hidden:
    return Hidden(site, tmp_path / "out")


def test_nothing_of_them_is_left_wherever_it_was(hidden: Hidden) -> None:
    site = hidden.site
    before, others = site.contents(), hidden.others()
    kept = {path.name: path.read_bytes() for path in (site.data / "downloads" / hidden.kept_files).iterdir()}
    places = {re.split("[/:]", trace)[0] for trace in traces(site.data, *GONE)}
    assert places >= {"tables", "journal", "land", "ledger.db", "downloads", "exports"}
    (site.data / "land" / "spill").mkdir(exist_ok=True)
    (site.data / "land" / "spill" / "left.tmp").write_bytes(b"gone-phone")
    done = erase(site, user_id="gone-user")
    assert (done.state, done.error) == ("succeeded", None)
    assert traces(site.data, *GONE) == []
    assert site.contents() == others
    assert {
        path.name: path.read_bytes() for path in (site.data / "downloads" / hidden.kept_files).iterdir()
    } == kept
    # The receipt counts exactly what is not there any more.
    gone = {
        name.partition("/")[2]: len(rows) - len(others[name])
        for name, rows in before.items()
        if len(rows) > len(others[name])
    }
    assert {table.table: table.rows for table in done.receipt.tables} == gone
    assert done.receipt.devices == 2
    assert done.receipt.journal_files == 2
    assert done.receipt.downloads == 2
    told = {export.id: export.rows for export in done.receipt.exports}
    assert told.keys() == {
        hidden.all_files,
        hidden.masked,
        hidden.named,
        hidden.history,
        hidden.failed,
        hidden.described,
    }
    assert told[hidden.all_files] == 2
    assert told[hidden.masked] == 5
    assert told[hidden.history] == sum(
        1 for line in next(hidden.bench.out.glob(f"*{hidden.history}.jsonl")).open()
    )
    assert done.receipt.files_deleted > 20
    assert done.receipt.removed_at is not None
    assert done.receipt.deleted_at is not None


def test_a_failed_export_taken_up_again_begins_anew_without_them(hidden: Hidden) -> None:
    site, bench = hidden.site, hidden.bench
    assert erase(site, user_id="gone-user").state == "succeeded"
    site.ledger.retry_task(hidden.failed)
    assert bench.carry_out(hidden.failed).state == "succeeded"
    [file] = bench.out.glob(f"*{hidden.failed}.jsonl")
    assert "kept-phone" in file.read_text()
    assert "gone" not in file.read_text()


def test_what_named_a_user_whose_device_moved_on_goes_too(site: Site, tmp_path: Path) -> None:
    """Exports of devices say whose they were; that is in no record of the device's own."""
    site.batch(*every_kind("shared"), *every_kind("other"), userid("shared", "gone-user", T + 1))
    site.batch({"kind": "tag", "deviceId": "shared", "timestamp": T + 2, "key": "plan", "value": "pro"})
    bench = Bench(site, tmp_path / "out")
    bench.destination = Destination(url="download:")
    kinds = ("device", "token", "feedback", "tag")
    earlier = {bench.carry_out(bench.ask(kind=kind, format="jsonl")).id for kind in kinds}
    chosen = Filter(column="deviceId", eq="other")
    others = bench.carry_out(bench.ask(kind="device", format="jsonl", where=chosen))
    site.now += 1000
    site.batch(userid("shared", "kept-user", T + 5000))
    later = [bench.carry_out(bench.ask(kind=kind, format="jsonl")) for kind in kinds]
    site.now += 1000
    done = erase(site, user_id="gone-user")
    assert {told.kind: told.rows for told in done.receipt.exports} == dict.fromkeys(kinds, 1) | {"tag": 2}
    assert {told.id for told in done.receipt.exports} == earlier
    assert traces(site.data, "gone-user") == []
    for kept in (others, *later):
        assert list((site.data / "downloads" / kept.id).iterdir())
    assert traces(site.data, "kept-user") != []


@pytest.mark.parametrize(
    "sent",
    [
        r"jos\u00E9 o'x\/y z",
        r"jos\u00e9 o\u0027x/y z",
        "jos%c3%a9+o%27x%2fy+z",
        "jos%C3%A9%20o'x%2Fy%20z",
        "José o'x/y z".replace("J", "j").encode("latin-1"),
    ],
)
def test_what_was_set_aside_is_theirs_however_the_id_is_written(site: Site, sent: str | bytes) -> None:
    text = sent if isinstance(sent, bytes) else sent.encode()
    site.send_body(b'{"user": "' + text + b'", broken')
    site.send_body(b'{"user": "jos", broken')
    site.land()
    assert len(site.rows("reject")) == 2
    erase(site, user_id="josé o'x/y z")
    assert [row["raw"] for row in site.rows("reject")] == ['{"user": "jos", broken']


def test_ids_as_long_as_can_be(site: Site) -> None:
    ids = [("設備🧡" * 90)[:250] + f"-{number}" for number in range(60)]
    site.batch(*(userid(one, "gone-user") for one in ids), *every_kind("kept"))
    site.send_body(f'{{"deviceId": "{ids[7]}", broken'.encode())
    site.land()
    assert erase(site, user_id="gone-user").state == "succeeded"
    assert site.rows("reject") == []
    assert traces(site.data, "gone-user", *ids) == []


def test_somebody_who_is_called_like_a_word_of_ours(site: Site, tmp_path: Path) -> None:
    site.batch(*every_kind("kept"), userid("phone", "download"))
    bench = Bench(site, tmp_path / "out")
    bench.destination = Destination(url="download:")
    others = bench.carry_out(bench.ask(kind="crash", format="jsonl"))
    erase(site, user_id="download")
    assert site.ledger.task(others.id).destination_shown == "download:"
