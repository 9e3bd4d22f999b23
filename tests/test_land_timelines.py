"""Derived sessions against a model in plain Python, for random time lines cut into random batches."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landing import Site, T, activity, activity_end, by, crash, error, event, heartbeat, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE = 10_000
TIMEOUT = 180_000


class Step(NamedTuple):
    kind: str
    time: int
    identity: str
    until: int | None = None


class Said(NamedTuple):
    """What the model says of one record."""

    opener: str | None
    on_screen: str | None = None
    end: int | None = None
    previous: str | None = None


class Model:
    """One device, one record after the other, in order of time."""

    def __init__(self) -> None:
        self.said: dict[str, Said] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.session: str | None = None
        self.alive = 0
        self.idle_since: int | None = None
        self.current: Step | None = None
        self.last_name: str | None = None

    def take(self, step: Step) -> None:
        silent = step.time - self.alive > TIMEOUT
        unused = self.idle_since is not None and step.time - self.idle_since > IDLE
        if self.session is None or silent or unused:
            self.session = step.identity if step.kind == "activity" else None
            self.idle_since = self.current = self.last_name = None
        self.alive = max(self.alive, step.time, step.until or 0)
        if self.session is None:
            if step.kind in {"event", "error", "crash"}:
                self.said[step.identity] = Said(None)
            return
        self._note(step)
        if step.kind == "activity":
            self._end_activity(step.time)
            self.said[step.identity] = Said(self.session, None, step.until, self.last_name)
            self.current, self.last_name, self.idle_since = step, f"on {step.identity}", step.until
        elif step.kind == "activityEnd":
            self._end_activity(step.time)
            self.current, self.idle_since = None, step.time
        elif step.kind != "heartbeat":
            shown = self.current and (self.current.until is None or step.time < self.current.until)
            self.said[step.identity] = Said(self.session, self.last_name if shown else None)

    def _note(self, step: Step) -> None:
        assert self.session
        session = self.sessions.setdefault(self.session, {"start": step.time, "end": 0, "counts": [0, 0, 0]})
        session["end"] = max(session["end"], step.time, step.until or 0)
        if step.kind in {"activity", "event", "error"}:
            session["counts"][("activity", "event", "error").index(step.kind)] += 1

    def _end_activity(self, time: int) -> None:
        if self.current and self.current.until is None:
            self.said[self.current.identity] = self.said[self.current.identity]._replace(end=time)


GAPS = st.sampled_from(
    [0, 1, 1000, 9_999, 10_000, 10_001, 60_000, 179_999, 180_000, 180_001, 400_000]
) | st.integers(0, 200_000)
KINDS = st.sampled_from(
    ["activity", "activity", "activity", "activityEnd", "activityEnd", "event", "error", "crash", "heartbeat"]
)
LENGTHS = st.none() | st.none() | st.integers(0, 30_000)
LINES = st.lists(st.tuples(KINDS, GAPS, LENGTHS, st.integers(0, 3)), min_size=1, max_size=14)
numbers = itertools.count()
Line = list[tuple[str, int, int | None, int]]
"""For each record: its kind, the time since the one before, how long an activity lasts, its batch."""


def steps_of(line: Line, device: str) -> list[Step]:
    """A device's records in order. One activity at a time: one told with its end is over before the next."""
    steps, time, over = [], T, 0
    for at, (kind, gap, length, _) in enumerate(line):
        time += gap
        if kind in {"activity", "activityEnd"}:
            time = max(time, over)
        until = time + length if kind == "activity" and length is not None else None
        over = until or over
        steps.append(Step(kind, time, f"{device}.{at:02d}", until))
    return steps


def record_of(device: str, step: Step) -> dict[str, Any]:
    if step.kind == "activity":
        end = {} if step.until is None else {"endTime": step.until}
        return activity(device, step.identity, step.time, f"on {step.identity}", **end)
    if step.kind == "activityEnd":
        return activity_end(device, step.time, id=step.identity)
    if step.kind == "heartbeat":
        return heartbeat(device, step.time)
    return {"event": event, "error": error, "crash": crash}[step.kind](device, step.identity, step.time)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    # One lander for all examples, which name their devices apart: opening one takes longer than an example.
    site = Site(tmp_path_factory.mktemp("lines"))
    yield site
    site.close()


def rows_of(site: Site, example: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of the devices of one example, by table."""
    return {
        table: [
            plain(row)
            for row in pl.scan_delta(str(site.folder(table)))
            .filter(pl.col("deviceId").str.starts_with(example))
            .collect()
            .to_dicts()
        ]
        for table in ("activity", "activity_end", "event", "error", "crash", "session")
        if site.folder(table).exists()
    }


def seen_of(
    rows: dict[str, list[dict[str, Any]]], device: str
) -> tuple[dict[str, Said], dict[str, dict[str, Any]]]:
    """What the tables say of one device, in the words of the model."""
    mine: dict[str, list[dict[str, Any]]] = defaultdict(list)
    mine.update({table: [row for row in found if row["deviceId"] == device] for table, found in rows.items()})
    ends = by(mine["activity_end"], "activityId")
    openers: dict[str, str] = {}
    for row in sorted(mine["activity"], key=lambda row: row["activityId"]):
        openers.setdefault(row["sessionId"], row["activityId"])
    said = {}
    for row in mine["activity"]:
        late = ends.get(row["activityId"])
        assert not (late and row["endTime"])
        end = late["endTime"] if late else row["endTime"]
        said[row["activityId"]] = Said(openers[row["sessionId"]], None, end, row["previousName"])
    for kind in ("event", "error", "crash"):
        for row in mine[kind]:
            opener = openers[row["sessionId"]] if row["sessionId"] else None
            said[row[f"{kind}Id"]] = Said(opener, row["activityName"])
    sessions: dict[str, dict[str, Any]] = {}
    for row in mine["session"]:
        found = sessions.setdefault(
            openers[row["sessionId"]], {"start": row["startTime"], "end": 0, "counts": [0, 0, 0]}
        )
        assert found["start"] == row["startTime"]
        found["end"] = max(found["end"], row["lastTime"])
        counted = (row["activityCount"], row["eventCount"], row["errorCount"])
        found["counts"] = [a + b for a, b in zip(found["counts"], counted, strict=True)]
    return said, sessions


def check_timelines(site: Site, lines: list[Line]) -> None:
    """Land the records of one device for each line, each in the batch that was drawn for it, and compare."""
    number = next(numbers)
    batches: list[list[dict[str, Any]]] = [[] for _ in range(4)]
    models: dict[str, Model] = {}
    for at, line in enumerate(lines):
        device = f"{number}-{at}"
        model = models[device] = Model()
        cuts = sorted(batch for _, _, _, batch in line)
        for step, batch in zip(steps_of(line, device), cuts, strict=True):
            model.take(step)
            batches[batch].append(record_of(device, step))
    for batch in batches:
        if batch:
            site.batch(*batch)
    rows = rows_of(site, f"{number}-")
    for device, model in models.items():
        said, sessions = seen_of(rows, device)
        assert said == model.said
        assert sessions == model.sessions


@settings(max_examples=8, deadline=None)
@given(lines=st.lists(LINES, min_size=8, max_size=40))
def test_sessions_are_the_same_however_the_records_are_cut_into_batches(
    site: Site, lines: list[Line]
) -> None:
    check_timelines(site, lines)
