"""The native protocol: what a device may send, and what becomes of what it may not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frames import NOW, assert_storable, body_of, mutated, read, reasons, told, values
from outhaul import records
from outhaul.errors import Invalid
from outhaul.protocols import dialects, native
from outhaul.protocols.json_text import ITEM_LIMIT
from outhaul.records import Frame

DOC = Path(__file__).parent.parent / "docs" / "protocols.md"
KINDS = [str(cls.__struct_config__.tag) for cls in records.RECORD_CLASSES]


def event(**given: Any) -> dict[str, Any]:
    return {"kind": "event", "deviceId": "d1", "id": "e1", "name": "tap", "timestamp": NOW - 1000} | given


def documented() -> list[dict[str, Any]]:
    blocks = re.findall(r"```json\n(.*?)```", DOC.read_text(), re.DOTALL)
    return [record for block in blocks if '"kind"' in block for record in json.loads(block)["records"]]


def test_every_documented_record_is_taken(tmp_path: Path) -> None:
    examples = documented()
    newest = max(
        records.to_millis(record.timestamp)
        for record in read("native", {"records": examples}, received_at=2_000_000_000_000).records
        if hasattr(record, "timestamp")
    )
    parsed = read("native", {"records": examples}, received_at=newest)
    assert parsed.rejects == []
    assert sorted(KINDS) == sorted(record["kind"] for record in examples)
    assert told(parsed)[0]["kind"] == examples[0]["kind"]


@pytest.mark.parametrize("cls", records.RECORD_CLASSES)
def test_every_field_is_documented(cls: type[records.Record]) -> None:
    example = next(record for record in documented() if record["kind"] == cls.__struct_config__.tag)
    assert set(cls.__struct_encode_fields__) - {"frame"} == set(example) - {"kind"}


@pytest.mark.parametrize("reason", records.REASONS)
def test_every_reason_is_documented(reason: str) -> None:
    assert f"| `{reason}` |" in DOC.read_text()


def test_a_bare_array_and_an_envelope_say_the_same() -> None:
    bare = read("native", [event()])
    wrapped = read("native", {"records": [event()], "sdkName": "shop", "sdkVersion": "2.1"})
    assert told(bare) == told(wrapped)
    assert (wrapped.sdk_name, wrapped.sdk_version) == ("shop", "2.1")
    assert native.skim(b' [{"any":1}, 2]') == 2


def test_times_may_be_text_and_are_stored_as_ms() -> None:
    parsed = read(
        "native", [event(timestamp="2026-11-23T19:00:00.5+01:00"), event(timestamp="2026-11-23T18:00:00")]
    )
    assert [r["timestamp"] for r in told(parsed)] == [1_795_456_800_500, 1_795_456_800_000]


def test_a_record_without_an_id_gets_the_same_one_each_time() -> None:
    sent = event(name="a")
    del sent["id"]
    first, again = read("native", [sent]), read("native", {"records": [sent]}, received_at=NOW + 60_000)
    assert first.records[0].id == again.records[0].id
    assert first.records[0].id != read("native", [sent | {"name": "b"}]).records[0].id


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (7, "malformed"),
        (event(kind="click"), "unknown_kind"),
        ({"kind": "event", "id": "e", "name": "n", "timestamp": NOW}, "field_missing"),
        (event(colour="red"), "field_unknown"),
        (event(frame=3), "field_invalid"),
        (event(deviceId=""), "field_invalid"),
        (event(timestamp="yesterday"), "field_invalid"),
        (event(name="x" * 65), "name_invalid"),
        (event(name=""), "name_invalid"),
        (event(extras={"1st": 1}), "extras_invalid"),
        (event(extras={"a\n": 1}), "extras_invalid"),
        (event(extras={"a": "x" * 1024}), "extras_too_long"),
        ({"kind": "tag", "deviceId": "d", "timestamp": NOW, "key": "a b", "value": "x"}, "tag_invalid"),
        ({"kind": "tag", "deviceId": "d", "timestamp": NOW, "key": "a\n", "value": "x"}, "tag_invalid"),
        ({"kind": "tag", "deviceId": "d", "timestamp": NOW, "key": "a", "value": "x" * 1025}, "tag_invalid"),
        (event(timestamp=1_000), "time_out_of_range"),
        (event(timestamp=NOW + 25 * 3_600_000), "time_out_of_range"),
    ],
)  # fmt: skip
def test_a_record_that_breaks_a_rule_costs_only_itself(sent: Any, reason: str) -> None:
    parsed = read("native", [event(id="before"), sent, event(id="after")])
    assert [record.id for record in parsed.records] == ["before", "after"]
    assert reasons(parsed) == [reason]
    assert json.loads(parsed.rejects[0].raw) == sent


def test_extras_may_fill_their_limit_in_characters_not_bytes() -> None:
    full = {"a": "é" * (1024 - len('{"a":""}'))}
    assert reasons(read("native", [event(extras=full)])) == []
    assert reasons(read("native", [event(extras={"a": full["a"] + "é"})])) == ["extras_too_long"]


def test_bytes_that_are_not_utf8_cost_only_their_record() -> None:
    good = json.dumps(event()).encode()
    body = b"[" + good + b"," + good.replace(b"tap", b"t\xffp") + b"]"
    assert native.skim(body) == 2
    parsed = read("native", body)
    assert len(parsed.records) == 1
    assert reasons(parsed) == ["malformed"]
    assert r"t\xffp" in parsed.rejects[0].raw


def test_half_an_emoji_is_mended_instead_of_refusing_the_batch() -> None:
    sent = event(name="cut \ud83d", extras={"whole": "\U0001f600", "path": r"C:\ud83d"})
    body = json.dumps([sent]).encode()
    assert native.skim(body) == 1
    (record,) = told(read("native", body))
    assert record["name"] == "cut \ufffd"
    assert record["extras"] == {"whole": "\U0001f600", "path": r"C:\ud83d"}


@pytest.mark.parametrize("depth", [10, 300, 500, 900, 980, 5_000])
def test_depth_does_not_hurt(depth: int, tmp_path: Path) -> None:
    nested = "[" * depth + "]" * depth
    body = json.dumps([event(), event(id="deep", extras={"a": "X"})]).replace('"X"', nested).encode()
    parsed = dialects.parse(Frame(app_id="a", protocol="native", received_at=NOW, body=body))
    assert len(parsed.records) + len(parsed.rejects) in ({2} if depth < 900 else {1, 2})
    assert_storable(parsed, tmp_path)


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"{}", b"null", b'{"records":1}', b'{"records":[],"sentAt":1}', b'{"records":[{"a":"\x01"}]}', b"[" * 9_000,
     b"[" + b"0," * ITEM_LIMIT + b"0]", b"[[" + b"0," * 1_000_001 + b"0]]"],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_a_body_that_is_no_batch_is_refused_and_never_lost(body: bytes) -> None:
    with pytest.raises(Invalid) as error:
        native.skim(body)
    assert error.value.hint
    parsed = read("native", body)
    assert parsed.records == []
    assert reasons(parsed) == ["malformed"]
    assert parsed.rejects[0].raw == body.decode()


def test_an_unknown_dialect_and_a_fault_of_ours_set_the_request_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = Frame(app_id="a", protocol="telepathy", received_at=NOW, body=b"x\xff")
    assert reasons(dialects.parse(frame)) == ["not_supported"]

    def fail(frame: Frame) -> records.Parsed:
        raise ZeroDivisionError("broken \ud800")

    broken = {"native": dialects.DIALECTS["native"]._replace(parse=fail)}
    monkeypatch.setattr(dialects, "DIALECTS", broken)
    (reject,) = dialects.parse(Frame(app_id="a", protocol="native", received_at=NOW, body=b"[]")).rejects
    assert (reject.reason, reject.raw) == ("parser_failed", "[]")
    assert reject.detail.encode() == rb"ZeroDivisionError: broken \ud800"


items = st.lists(
    values
    | st.fixed_dictionaries(
        {"kind": st.sampled_from([*KINDS, "click"]), "deviceId": st.text(max_size=5) | values},
        optional={
            "id": st.text(max_size=300),
            "name": st.text(max_size=70) | values,
            "timestamp": st.integers(0, 2 * NOW) | st.datetimes().map(str) | values,
            "startTime": st.integers(NOW - 10**6, NOW),
            "extras": st.dictionaries(st.text("ab_1", max_size=3), values, max_size=3) | values,
            "key": st.text(max_size=3) | st.just("plan"),
            "value": values,
            "sessionId": values,
        },
    ),
    max_size=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items)
def test_every_item_is_accounted_for_and_can_be_stored(tmp_path: Path, batch: list[Any]) -> None:
    body = json.dumps(batch).encode()
    count = native.skim(body)
    parsed = read("native", body)
    assert len(parsed.records) + len(parsed.rejects) == count == len(batch)
    assert_storable(parsed, tmp_path)


bodies = [body_of(path.stem) for path in sorted((Path(__file__).parent / "data" / "requests").glob("*.json"))]
bodies.append(json.dumps({"records": [event(extras={"a": [1, {"b": "é\ud83d"}]}), event(id=None)]}).encode())


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(protocol=st.sampled_from(sorted(dialects.DIALECTS)), body=st.binary(max_size=60) | mutated(bodies))
def test_whatever_comes_is_refused_or_accounted_for(tmp_path: Path, protocol: str, body: bytes) -> None:
    try:
        count = dialects.DIALECTS[protocol].skim(body)
    except Invalid:
        count = None
    parsed = read(protocol, body)
    if count is None:
        assert reasons(parsed) == ["malformed"]
    elif protocol == "native":
        assert len(parsed.records) + len(parsed.rejects) == count
    assert_storable(parsed, tmp_path)


@pytest.mark.parametrize(
    ("op", "value", "taken"),
    [
        ("inc", "1", True),
        ("inc", "-0.5e2", True),
        ("max", "\u0661", False),
        ("mul", "abc", False),
        ("min", None, False),
        ("push", None, False),
        ("push", "", True),
        ("once", "x", True),
        ("set", None, True),
    ],
)
def test_a_tag_may_be_changed_by_what_can_be_computed_with(op: str, value: str | None, taken: bool) -> None:
    tag = {"kind": "tag", "deviceId": "d1", "timestamp": NOW, "key": "visits", "value": value, "op": op}
    parsed = read("native", [tag])
    assert reasons(parsed) == ([] if taken else ["tag_invalid"])


def test_a_tag_cannot_be_changed_in_unknown_ways() -> None:
    tag = {"kind": "tag", "deviceId": "d1", "timestamp": NOW, "key": "visits", "value": "1", "op": "divide"}
    assert reasons(read("native", [tag])) == ["field_invalid"]
