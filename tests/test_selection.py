"""Columns, filters and masks: what comes out is what plain Python makes of the whole export."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporting import Bench
from landing import Site, T, activity, event
from outhaul.errors import Invalid
from outhaul.schema import EXPORTS
from outhaul.selection import check
from outhaul.wire import ExportRequest, Filter, Period, Truncate

ALL = Period(T - 10**9, T + 10**9)
EVERY = [column.name for column in (*EXPORTS["event"].columns, *EXPORTS["event"].more)]
NAMES = ["tap", "Tap", "ta", "it's", "100%", "a_b", "żółć", "🧡", "x" * 64, "'; DROP TABLE x; --"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("selection")
    site = Site(root / "data")
    for batch in range(3):
        site.now += 60_000
        site.batch(
            *(
                event(
                    f"d{n % 5}",
                    f"e{batch}-{n}",
                    T - n * 1000 - batch,
                    name=NAMES[(n + batch) % len(NAMES)],
                    **({"userId": f"user-{n % 3}"} if n % 2 else {}),
                    **({"extras": {"n": n}} if n % 4 else {}),
                )
                for n in range(120)
            ),
            *(
                activity(f"d{n}", f"a{batch}-{n}", T - n * 1000, endTime=T - n * 1000 + n * 100)
                for n in range(9)
            ),
        )
    yield Bench(site, root / "out", slice_rows="50")
    site.close()


@pytest.fixture(scope="module")
def whole(bench):
    """Every event with every column, as JSON has it."""
    rows = bench.rows(kind="event", period=ALL, format="jsonl", columns=EVERY)
    assert len(rows) == 360
    return rows


def where(condition):
    return msgspec.convert(condition, Filter)


def holds(condition, row):  # noqa: PLR0911  one for each form
    """A filter in plain Python, on a row without its nulls."""
    if "and" in condition:
        return all(holds(one, row) for one in condition["and"])
    if "or" in condition:
        return any(holds(one, row) for one in condition["or"])
    if "not" in condition:
        return not holds(condition["not"], row)
    value = row.get(condition["column"])
    [(operator, operand)] = [(name, given) for name, given in condition.items() if name != "column"]
    if operator == "null":
        return (value is None) == operand
    if operator == "ne":
        return value != operand
    if value is None:
        return False
    return {
        "eq": lambda: value == operand,
        "lt": lambda: value < operand,
        "le": lambda: value <= operand,
        "gt": lambda: value > operand,
        "ge": lambda: value >= operand,
        "in": lambda: value in operand,
        "prefix": lambda: value.startswith(operand),
    }[operator]()


TEXTS = st.sampled_from([*NAMES, "user-1", "d2", "", "e1", "t", "session"])
TIMES = st.integers(T - 130_000, T + 10)
OPERATORS = st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"])
LEAF = st.one_of(
    st.builds(
        lambda column, operator, value: {"column": column, operator: value},
        st.sampled_from(["name", "userId", "deviceId", "eventId", "jobId"]),
        st.one_of(OPERATORS, st.just("prefix")),
        TEXTS,
    ),
    st.builds(lambda operator, value: {"column": "timestamp", operator: value}, OPERATORS, TIMES),
    st.builds(lambda values: {"column": "name", "in": values}, st.lists(TEXTS, min_size=1, max_size=4)),
    st.builds(
        lambda column, null: {"column": column, "null": null},
        st.sampled_from(["userId", "extras", "name", "sessionId"]),
        st.booleans(),
    ),
)
FILTERS = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.builds(lambda several: {"and": several}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda several: {"or": several}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda one: {"not": one}, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(FILTERS)
def test_a_filter_takes_the_rows_that_plain_python_takes(bench, whole, condition):
    found = bench.rows(kind="event", period=ALL, format="jsonl", columns=EVERY, where=where(condition))
    assert found == [row for row in whole if holds(condition, row)]


def test_a_filter_may_be_on_what_is_computed_and_on_columns_that_are_not_exported(bench):
    spans = bench.rows(kind="activity", period=ALL, format="jsonl")
    long = where({"column": "duration", "gt": 300})
    names = bench.rows(kind="activity", period=ALL, format="jsonl", columns=["activityId"], where=long)
    assert names == [{"activityId": row["activityId"]} for row in spans if row["duration"] > 300]
    assert 0 < len(names) < len(spans)


def test_columns_come_in_the_order_asked_for(bench, whole):
    for form in ("json", "csv", "parquet"):
        [row, *_] = bench.rows(
            kind="event", period=ALL, format=form, columns=["userId", "eventId", "protocol"]
        )
        assert list(row)[-2:] == ["eventId", "protocol"]
        assert row["eventId"] == whole[0]["eventId"]
    only = bench.rows(kind="event", period=ALL, format="jsonl", columns=["userId"])
    assert only == [{"userId": row["userId"]} if "userId" in row else {} for row in whole]


def hashed(bench, text):
    key = bench.keyring.derive(f"mask/{bench.site.app.app_id}")
    return hmac.digest(key, text.encode(), "sha256").hex()


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_masks_are_what_plain_python_computes(bench, whole, form):
    mask = {
        "deviceId": "hash",
        "userId": "hash",
        "extras": "drop",
        "name": Truncate(2),
        "timestamp": Truncate("hour"),
        "receivedAt": Truncate("day"),
    }
    rows = bench.rows(kind="event", period=ALL, format=form, columns=EVERY, mask=mask)
    hour, day = 3600_000, 24 * 3600_000
    assert len(rows) == len(whole)
    for row, before in zip(rows, whole, strict=True):
        assert "extras" not in row
        assert row["deviceId"] == hashed(bench, before["deviceId"])
        assert (row.get("userId") or None) == (
            hashed(bench, before["userId"]) if "userId" in before else None
        )
        assert row["name"] == before["name"][:2]
        for column, unit in (("timestamp", hour), ("receivedAt", day)):
            cut = before[column] // unit * unit
            expected = {"csv": str(cut), "parquet": datetime.fromtimestamp(cut / 1000, UTC)}
            assert row[column] == expected.get(form, cut)


def test_a_filter_sees_values_before_they_are_masked(bench, whole):
    kept = where({"column": "deviceId", "eq": "d3"})
    rows = bench.rows(kind="event", period=ALL, format="jsonl", mask={"deviceId": "hash"}, where=kept)
    assert len(rows) == sum(row["deviceId"] == "d3" for row in whole) > 0
    assert {row["deviceId"] for row in rows} == {hashed(bench, "d3")}


def test_hashes_join_kinds_of_an_app_and_differ_between_apps(bench):
    [row, *_] = bench.rows(kind="activity", period=ALL, format="jsonl", mask={"deviceId": "hash"})
    assert row["deviceId"] in {hashed(bench, f"d{n}") for n in range(9)}
    assert bench.keyring.derive("mask/a") != bench.keyring.derive("mask/b")
    assert hashlib.sha256(b"d1").hexdigest() != hashed(bench, "d1")


def test_periods_of_arrival_follow_one_another_without_gap_or_overlap(bench, whole):
    """Each landing came a minute after the one before; its rows are in the minute it came in, whenever they happened."""
    first = T + 3600_000
    seen = []
    for minute in range(5):
        window = Period(first + minute * 60_000, first + (minute + 1) * 60_000, "receivedAt")
        rows = bench.rows(kind="event", period=window, format="jsonl", columns=EVERY)
        assert len(rows) in {0, 120}
        seen += rows
    assert sorted(seen, key=lambda row: row["eventId"]) == sorted(whole, key=lambda row: row["eventId"])


def test_a_row_that_changed_arrives_again(tmp_path):
    """An activity whose end came later is in the period of its end, closed; before, it was exported open."""
    site = Site(tmp_path / "data")
    bench = Bench(site, tmp_path / "out")
    start = site.now
    site.batch(activity("d1", "a1", T))
    opened = Period(start, start + 60_000, "receivedAt")
    assert [row.get("endTime") for row in bench.rows(kind="activity", period=opened, format="jsonl")] == [
        None
    ]
    site.now += 60_000
    site.batch({"kind": "activityEnd", "deviceId": "d1", "timestamp": T + 5000})
    closed = Period(start + 60_000, start + 120_000, "receivedAt")
    for kind in ("activity", "session"):
        assert bench.rows(kind=kind, period=opened, format="jsonl") == []
        [row] = bench.rows(kind=kind, period=closed, format="jsonl")
        assert row["endTime"] == T + 5000
    site.close()


WRONG = {
    "an unknown column": ({"columns": ["name", "nome"]}, "columns: there is no column 'nome'"),
    "a column twice": ({"columns": ["name", "name"]}, "columns"),
    "no columns": ({"columns": []}, "columns"),
    "an unknown column to mask": ({"mask": {"nome": "drop"}}, "mask: there is no column"),
    "a mask of a column not exported": ({"columns": ["name"], "mask": {"userId": "hash"}}, "mask.userId"),
    "everything dropped": ({"columns": ["name"], "mask": {"name": "drop"}}, "mask drops every column"),
    "a hash of a time": ({"mask": {"timestamp": "hash"}}, "mask.timestamp"),
    "a hash of an object": ({"mask": {"extras": "hash"}}, "mask.extras"),
    "a text cut to a day": ({"mask": {"name": {"truncate": "day"}}}, "mask.name"),
    "a time cut to characters": ({"mask": {"timestamp": {"truncate": 4}}}, "mask.timestamp"),
    "a text cut to nothing": ({"mask": {"name": {"truncate": 0}}}, "mask.name"),
    "nothing compared": ({"where": {"column": "name"}}, "where does not compare"),
    "two comparisons": ({"where": {"column": "name", "eq": "a", "lt": "b"}}, "where does not compare"),
    "two forms": ({"where": {"column": "name", "and": []}}, "where is not one condition"),
    "no form": ({"where": {}}, "where is not one condition"),
    "an empty and": ({"where": {"and": []}}, "where.and is empty"),
    "an unknown column deep down": (
        {"where": {"or": [{"not": {"and": [{"column": "x", "eq": 1}]}}]}},
        "where.or[0].not.and[0].column",
    ),
    "a number for text": ({"where": {"column": "name", "eq": 1}}, "where.eq"),
    "text for a time": ({"where": {"column": "timestamp", "eq": "yesterday"}}, "where.eq is not an instant"),
    "a time before all time": ({"where": {"column": "timestamp", "eq": -1}}, "where.eq"),
    "true for text": ({"where": {"column": "name", "in": ["a", True]}}, "where.in[1]"),
    "a prefix of a time": ({"where": {"column": "timestamp", "prefix": "2026"}}, "where.prefix"),
    "an object compared": ({"where": {"column": "extras", "eq": "x"}}, "where.eq"),
    "NUL": ({"where": {"column": "name", "eq": "a\0b"}}, "where.eq"),
    "no values": ({"where": {"column": "name", "in": []}}, "where.in"),
    "too many values": ({"where": {"column": "name", "in": ["x"] * 10_001}}, "where.in"),
    "too many conditions": ({"where": {"or": [{"column": "name", "eq": "x"}] * 201}}, "where is too large"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said_and_where(wrong):
    given, told = WRONG[wrong]
    request = msgspec.convert({"kind": "event", "format": "jsonl", **given}, ExportRequest)
    with pytest.raises(Invalid) as refused:
        check(request)
    assert refused.value.message.startswith(told)
    assert refused.value.hint


def test_a_filter_that_is_too_deep_is_refused():
    condition = {"column": "name", "eq": "x"}
    for _ in range(10):
        condition = {"not": condition}
    with pytest.raises(Invalid):
        check(ExportRequest(kind="event", format="json", where=where(condition)))
    check(ExportRequest(kind="event", format="json", where=where(condition["not"])))
