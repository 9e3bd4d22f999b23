"""The Segment dialect: what its messages mean here, and how odd ones are treated."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frames import NOW, assert_storable, body_of, mutated, read, reasons, told, values
from outhaul.errors import Invalid
from outhaul.protocols import segment
from outhaul.protocols.conventions import Names
from outhaul.protocols.keyed import flat
from outhaul.records import Frame

if TYPE_CHECKING:
    from pathlib import Path

SENT = "2026-11-23T18:30:00Z"


def message(kind: str, **given: Any) -> dict[str, Any]:
    return {"type": kind, "messageId": "m1", "anonymousId": "a1", "timestamp": "2026-11-23T18:29:00Z"} | given


def say(*messages: Any, **envelope: Any) -> Any:
    return read("segment", {"batch": list(messages), "sentAt": SENT, "writeKey": "k"} | envelope)


def kinds(parsed: Any) -> list[str]:
    return [record["kind"] for record in told(parsed)]


def test_a_server_batch_becomes_records() -> None:
    parsed = read("segment", body_of("segment-node"), received_at=1_795_458_386_500)
    assert segment.skim(body_of("segment-node")) == 7
    assert parsed.rejects == []
    assert (parsed.sdk_name, parsed.sdk_version) == ("@segment/analytics-node", "3.1.0")
    device, token, *rest = told(parsed)
    assert device["kind"] == "device"
    assert device["phoneModel"] == "Pixel 8"
    assert device["firmwareName"] == "Android"
    assert device["networkType"] == "wifi"
    assert device["timeZoneOffset"] == 60
    assert device["applicationVersionCode"] == 310
    assert (token["token"], token["service"]) == ("fcm-token-abc", "gcm")
    tags = {r["key"]: r["value"] for r in rest if r["kind"] == "tag" and r["deviceId"] == "dev-1"}
    assert tags == {"email": "a@b.c", "plan": "pro", "tags": '["x","y"]', "userid": "u1"}
    (ordered,) = (r for r in rest if r["kind"] == "event")
    assert ordered["timestamp"] == 1_795_458_326_038
    assert ordered["extras"] == {"revenue": 12.5, "nested": {"a": [1, 2]}}
    assert ordered["applicationVersionName"] == "3.1.0"
    assert ordered["userId"] == "u1"
    home, docs = (r for r in rest if r["kind"] == "activity")
    assert (home["name"], home["extras"]) == ("Home", {"category": "Main", "from": "push"})
    assert docs["deviceId"] == "u1"
    (feedback,) = (r for r in rest if r["kind"] == "feedback")
    assert (feedback["campaignId"], feedback["status"]) == ("c42", "system-notification-actioned")


def test_explicit_nulls_are_as_good_as_absent() -> None:
    parsed = read("segment", body_of("segment-python"), received_at=1_795_458_424_700)
    assert parsed.rejects == []
    assert kinds(parsed).count("event") == 2
    nulls = message("track", event="e", userId=None, properties=None, context=None, timestamp=None)
    (record,) = told(say(nulls, sentAt=None))
    assert record["timestamp"] == NOW
    assert "extras" not in record


def test_a_retry_keeps_its_ids_and_times() -> None:
    sent = read("segment", body_of("segment-python_single"), received_at=1_795_458_425_500)
    again = read("segment", body_of("segment-python_retry"), received_at=1_795_458_427_000)
    assert told(sent) == told(again)


def test_a_message_alone_is_a_batch_of_one() -> None:
    body = json.dumps(message("track", event="tap", sentAt=SENT, writeKey="k")).encode()
    assert segment.skim(body) == 1
    assert kinds(read("segment", body)) == ["event"]


@pytest.mark.parametrize(
    ("sent_at", "expected"),
    [
        ("2026-11-23T18:30:00Z", NOW - 60_000),
        ("2026-11-23T18:29:01Z", NOW - 60_000),
        ("2026-11-23T17:30:00Z", NOW),
        ("2026-11-23T18:31:30Z", NOW - 150_000),
        ("2026-11-23T19:30:00+01:00", NOW - 60_000),
        ("soon", NOW - 60_000),
        (None, NOW - 60_000),
    ],
)
def test_a_wrong_clock_is_corrected_but_never_past_the_arrival(sent_at: Any, expected: int) -> None:
    (record,) = told(say(message("track", event="e"), sentAt=sent_at))
    assert record["timestamp"] == expected


@pytest.mark.parametrize("library", ["analytics-kotlin", "analytics-swift", "Analytics-CSharp"])
def test_a_batch_that_waited_for_a_network_is_not_moved(library: str) -> None:
    """These libraries stamp a batch when they close it, and send it whenever they can."""
    context = {"library": {"name": library, "version": "1"}}
    sent = message("track", event="e", context=context, timestamp="2026-11-23T15:29:00Z")
    hours = 3 * 3600_000
    assert told(say(sent, sentAt="2026-11-23T15:30:00Z"))[-1]["timestamp"] == NOW - hours - 60_000
    ahead = message("track", event="e", context=context, timestamp="2026-11-23T19:29:00Z")
    assert told(say(ahead, sentAt="2026-11-23T19:30:00Z"))[-1]["timestamp"] == NOW - 60_000
    refreshed = sent | {"context": {"library": {"name": "analytics-react-native"}}}
    assert told(say(refreshed, sentAt="2026-11-23T15:30:00Z"))[-1]["timestamp"] == NOW - 60_000


def test_each_message_may_say_itself_when_it_was_sent() -> None:
    late = message("track", event="e", timestamp="2026-11-23T17:29:00Z", sentAt="2026-11-23T17:30:00Z")
    assert told(say(late, sentAt=None))[0]["timestamp"] == NOW - 60_000
    assert told(say(late | {"sentAt": {}}, sentAt=None))[0]["timestamp"] == NOW - 3_660_000


def test_a_clock_at_its_epoch_is_corrected_and_one_that_cannot_be_is_set_aside() -> None:
    stopped = message("track", event="e", timestamp="1970-01-01T00:00:10Z")
    assert told(say(stopped, sentAt="1970-01-01T00:01:10Z"))[0]["timestamp"] == NOW - 60_000
    assert reasons(say(stopped)) == ["time_out_of_range"]
    assert reasons(say(message("track", event="e", timestamp="noon"))) == ["field_invalid"]


def test_the_device_is_told_once_and_again_when_it_changes() -> None:
    def at(version: str, token: str, **given: Any) -> dict[str, Any]:
        device = {"id": "d1", "type": "iOS", "token": token}
        return message(
            "track", event="e", context={"device": device, "os": {"name": "iOS", "version": version}}, **given
        )

    parsed = say(
        at("1", "t1", messageId="a"), at("1", "t1", messageId="b"), at("2", "t1", messageId="c"), at("1", "t2", messageId="d")
    )  # fmt: skip
    records = told(parsed)
    assert [r["firmwareVersion"] for r in records if r["kind"] == "device"] == ["1", "2", "1"]
    assert [(r["token"], r["service"]) for r in records if r["kind"] == "token"] == [
        ("t1", "apns"),
        ("t2", "apns"),
    ]
    assert kinds(parsed).count("event") == 4
    assert len({r["id"] for r in records}) == len(records)


def test_a_library_alone_is_no_device_and_an_unknown_push_service_no_token() -> None:
    assert kinds(say(message("track", event="e", context={"library": {"name": "l", "version": "1"}}))) == [
        "event"
    ]
    parsed = say(message("track", event="e", context={"device": {"type": "fridge", "token": "t"}}))
    assert (kinds(parsed), reasons(parsed)) == (["event"], ["not_supported"])


FID = "c-4zOB5sRl2DkA0cWvXyZ1"


@pytest.mark.parametrize(
    ("device", "system", "service"),
    [
        ({"token": "fcm", "type": "android"}, "", "gcm"),
        ({"token": "fcm", "type": "Android"}, "iOS", "gcm"),
        ({"token": "c0ffee" * 10, "type": "ios"}, "", "apns"),
        ({"token": "c0ffee" * 10}, "iOS", "apns"),
        ({"token": "abc:APA91b-x", "type": "ios"}, "", "gcm"),
        ({"token": FID, "type": "android"}, "", "fcmFid"),
        ({"token": FID, "type": "ios"}, "", "fcmFid"),
        ({"token": "x", "type": "windows"}, "", "wns"),
        ({"token": {"endpoint": "https://push.example/1"}}, "", "webpush"),
        ({"token": '{"endpoint":"https://push.example/1"}'}, "Linux", "webpush"),
        ({"token": "x", "tokenKind": "fcm_token"}, "", "gcm"),
        ({"token": "x", "tokenKind": "fcm_fid"}, "", "fcmFid"),
        ({"token": "x", "tokenKind": "apns"}, "Android", "apns"),
        ({"token": "x", "token_kind": "apns_sandbox", "type": "ios"}, "", "apnsDev"),
        ({"token": "x", "tokenKind": "webpush"}, "", "webpush"),
        ({"token": "x", "tokenKind": "hms", "type": "android"}, "", "hms"),
        ({"token": "x", "tokenKind": "pigeon", "type": "android"}, "", None),
        ({"token": "x", "tokenKind": 5, "type": "android"}, "", None),
        ({"token": "x"}, "", None),
        ({"token": "x", "type": "fridge"}, "Android", None),
    ],
)
def test_a_token_is_for_the_service_that_is_said_or_seen(device: Any, system: str, service: Any) -> None:
    parsed = say(message("track", event="e", context={"device": device, "os": {"name": system}}))
    found = [(r["token"], r["service"]) for r in told(parsed) if r["kind"] == "token"]
    token = device["token"]
    text = token if isinstance(token, str) else json.dumps(token, separators=(",", ":"))
    assert found == ([(text, service)] if service else [])
    assert reasons(parsed) == ([] if service else ["not_supported"])


@pytest.mark.parametrize("library", ["analytics.js", "RudderLabs JavaScript SDK"])
def test_a_token_in_a_browser_is_for_web_push(library: str) -> None:
    context = {"device": {"token": "endpoint"}, "library": {"name": library}}
    found = [
        r["service"] for r in told(say(message("track", event="e", context=context))) if r["kind"] == "token"
    ]
    assert found == ["webpush"]


def test_traits_inside_traits_are_tags_of_their_own() -> None:
    traits = {
        "address": {"city": "Paris", "zip code": 75001, "gone": None, "geo": {"lat": 48.8}},
        "address_city": "Rennes",
        "list": [{"a": 1}],
        "empty": {},
    }
    tags = {r["key"]: r["value"] for r in told(say(message("identify", traits=traits)))}
    assert tags == {
        "address_city": "Rennes",
        "address_city_2": "Paris",
        "address_zip_code": "75001",
        "address_gone": None,
        "address_geo_lat": "48.8",
        "list": '[{"a":1}]',
        "empty": "{}",
    }
    group = {"plan": {"name": "pro", "seats": None}}
    tags = {r["key"]: r["value"] for r in told(say(message("group", groupId="g", traits=group)))}
    assert tags == {"group_plan_name": "pro", "group_plan_seats": None, "group": "g"}


def test_traits_deep_inside_or_under_long_names_are_all_kept() -> None:
    long = "a" * 10_000
    traits = {
        long: {str(n): n for n in range(2_000)},
        f"{long}b": {"0": "b"},
        "x": {"y": {"z" * 70: {"0": 1}}},
    }
    tags = told(say(message("identify", traits=traits)))
    assert len(tags) == len({r["key"] for r in tags}) == 2_002
    assert sorted(r["value"] for r in tags) == sorted([*map(str, range(2_000)), "b", "1"])


def test_traits_under_a_long_name_take_no_more_memory_than_others() -> None:
    tree = {"a" * 30_000: {str(n): n for n in range(2_000)}}
    tracemalloc.start()
    try:
        assert len(flat(tree)) == 2_000
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_the_names_of_jobs_errors_and_crashes_can_be_others() -> None:
    frame = Frame(
        app_id="a",
        protocol="segment",
        received_at=NOW,
        body=json.dumps(
            {"batch": [message("track", event="oops"), message("track", event="Error")]}
        ).encode(),
    )
    assert kinds(segment.parse(frame, Names(error=frozenset({"oops"})))) == ["error", "event"]


def test_a_place_is_a_location() -> None:
    context = {"location": {"city": "Paris", "country": "FR", "region": "IDF", "latitude": 48.8}}
    (place, _) = told(say(message("track", event="e", context=context)))
    assert (place["countrycode"], place["region"], place["locality"]) == ("FR", "IDF", "Paris")


def test_named_events_become_what_they_name() -> None:
    crash = message("track", event="Application Crashed", properties={"type": "NPE", "stack_trace": "at x"})
    (record,) = told(say(crash))
    assert (record["kind"], record["type"], record["stackTrace"]) == ("crash", "NPE", "at x")
    (record,) = told(say(message("track", event="Error", properties={"name": "io", "code": 5})))
    assert (record["kind"], record["name"], record["extras"]) == ("error", "io", {"name": "io", "code": 5})
    start = message("track", event="Job Started", properties={"job_id": "j1", "name": "upload", "size": 3})
    end = message("track", event="Job Ended", properties={"job_id": "j1"}, messageId="m2")
    job, job_end = told(say(start, end))
    assert (job["kind"], job["id"], job["name"]) == ("job", "j1", "upload")
    assert (job_end["kind"], job_end["id"], job_end["jobId"]) == ("jobEnd", "m2", "j1")
    assert kinds(say(message("track", event="Job Started"))) == ["event"]


def test_an_app_that_is_opened_starts_a_session_until_it_is_left():
    opened = message("track", event="Application Opened", properties={"from_background": True})
    left = message("track", event="Application Backgrounded", messageId="m2")
    records = told(say(opened, message("screen", name="Home", messageId="m3"), left))
    assert [(r["kind"], r["id"], r["sessionId"]) for r in records] == [
        ("sessionStart", "m1:start", "~"),
        ("event", "m1", "~"),
        ("activity", "m3", "~"),
        ("event", "m2", "~"),
        ("activityEnd", "m2:end", "~"),
        ("sessionEnd", "m2:over", "~"),
    ]
    assert {r["timestamp"] for r in records if "timestamp" in r} == {NOW - 60_000}
    for event in ("Application Installed", "Application Updated", "Application Foregrounded"):
        assert kinds(say(message("track", event=event))) == ["event"]


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ("Push Notification Received", "delivered"),
        ("Push Notification Tapped", "system-notification-actioned"),
        ("Push Notification Bounced", "dropped"),
    ],
)
def test_push_events_are_feedback_on_their_campaign(event: str, status: str) -> None:
    campaign = {"name": "Spring", "id": 42}
    for where in ({"properties": {"campaign": campaign}}, {"context": {"campaign": campaign}}):
        (record,) = told(say(message("track", event=event, **where)))
        assert (record["kind"], record["status"]) == ("feedback", status)
        assert record["campaignType"] == "Announcement"
        assert (record["campaignId"], record["campaignName"]) == ("42", "Spring")
    assert kinds(say(message("track", event=event))) == ["event"]


def test_traits_become_tags_whatever_their_keys() -> None:
    traits = {
        "first name": "A",
        "first_name": "B",
        "first-name": "C",
        "1st": 1,
        "vip": True,
        "gone": None,
        "é" * 70: 1.5,
    }
    sent = message("identify", userId=7, traits=traits | {"é" * 70: 1.5})
    tags = {r["key"]: r["value"] for r in told(say(sent))}
    assert tags == {
        "first_name": "B",
        "first_name_2": "A",
        "first_name_3": "C",
        "t_1st": "1",
        "vip": "true",
        "gone": None,
        "t_" + "_" * 62: "1.5",
        "userid": "7",
    }
    parsed = say(message("identify", traits={"long": "x" * 1025, "short": "y"}))
    assert reasons(parsed) == ["tag_invalid"]
    assert json.loads(parsed.rejects[0].raw) == {"long": "x" * 1025}
    assert [r["key"] for r in told(parsed)] == ["short"]


def test_groups_and_aliases_are_tags() -> None:
    group = told(say(message("group", groupId="g1", traits={"name": "ACME"})))
    assert {r["key"]: r["value"] for r in group} == {"group_name": "ACME", "group": "g1"}
    (alias,) = told(say(message("alias", anonymousId=None, previousId="a9", userId="u1")))
    assert (alias["deviceId"], alias["key"], alias["value"]) == ("a9", "userid", "u1")


def test_a_screen_goes_by_the_best_name_it_has() -> None:
    def name(**given: Any) -> str:
        return told(say(message("page", **given)))[0]["name"]

    assert name(name="Home", category="Main") == "Home"
    assert name(properties={"name": "Docs", "path": "/d"}) == "Docs"
    assert name(name=None, category="Main") == "Main"
    assert name(properties={"path": "/d", "title": "D"}) == "/d"
    assert name(properties={"path": "/" * 65, "title": "D"}) == "D"
    assert name(properties={"title": "D"}) == "D"
    assert reasons(say(message("page", properties={"path": "/" * 65}))) == ["name_invalid"]


def test_a_long_address_does_not_cost_the_page():
    page = {
        "path": "/d",
        "search": "?" + "s" * 500,
        "url": "https://shop.example/d?" + "s" * 500,
        "title": "D",
    }
    (record,) = told(say(message("page", properties={**page, "from": "push"}, context={"page": page})))
    assert record["extras"] == {"path": "/d", "search": page["search"], "title": "D", "from": "push"}
    own = {"from": "p" * 1024}
    assert reasons(say(message("page", properties={**page, **own}, context={"page": page}))) == [
        "extras_too_long"
    ]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (3, "malformed"),
        (message("track", event="e", padding="x" * 65_536), "malformed"),
        (message("teleport"), "unknown_kind"),
        (message("track"), "field_missing"),
        (message("screen"), "field_missing"),
        (message("group"), "field_missing"),
        (message("alias"), "field_missing"),
        (message("track", event="e", anonymousId=None), "field_missing"),
        (message("track", event="e", messageId={}), "field_invalid"),
        (message("track", event="x" * 65), "name_invalid"),
        (message("track", event={"a": 1}), "name_invalid"),
        (message("track", event="e", properties={"a": "x" * 1024}), "extras_too_long"),
    ],
)
def test_a_message_that_breaks_a_rule_costs_only_itself(sent: Any, reason: str) -> None:
    good = message("track", event="good")
    parsed = say(good, sent, good)
    assert [r["name"] for r in told(parsed)] == ["good", "good"]
    assert reasons(parsed) == [reason]
    assert json.loads(parsed.rejects[0].raw) == sent


def test_a_message_without_an_id_is_known_again_when_sent_again() -> None:
    told_time = message("track", event="e", messageId=None)
    first, again = say(told_time), read("segment", {"batch": [told_time], "sentAt": "2026-11-23T17:00:00Z"})
    assert told(first)[0]["id"] == told(again)[0]["id"]
    timeless = message("track", event="e", messageId=None, timestamp=None)
    later = read("segment", {"batch": [timeless]}, received_at=NOW + 5)
    assert told(say(timeless))[0]["id"] != told(later)[0]["id"]


def test_half_an_emoji_is_mended_instead_of_refusing_the_batch() -> None:
    body = json.dumps({"batch": [message("track", event="cut \ud83d"), message("track", event="b")]}).encode()
    assert segment.skim(body) == 2
    assert [r["name"] for r in told(read("segment", body))] == ["cut \ufffd", "b"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"batch":null}', b'{"batch":{}}', b'{"sentAt":1}', b"[" * 9_000]
)
def test_a_body_that_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        segment.skim(body)
    assert reasons(read("segment", body)) == ["malformed"]


def test_a_request_that_amounts_to_too_much_is_set_aside_whole() -> None:
    traits = {f"k{n}": n for n in range(4_000)}
    body = json.dumps({"batch": [message("identify", traits=traits)] * 26}).encode()
    parsed = read("segment", body)
    assert parsed.records == []
    assert reasons(parsed) == ["not_supported"]
    assert parsed.rejects[0].raw == body.decode()


def test_depth_does_not_hurt(tmp_path: Path) -> None:
    # Somewhere below the interpreter's limit of 1,000, reading a message still works and writing it no longer does.
    for depth in (100, 500, *range(850, 1_000), 2_000):
        deep = "[" * depth + "]" * depth
        for sent in (
            message("track", event="e", properties={"a": "X"}),
            message("identify", traits={"a": "X"}),
        ):
            parsed = read("segment", json.dumps({"batch": [sent]}).replace('"X"', deep).encode())
            assert len(parsed.records) + len(parsed.rejects) == 1
            assert_storable(parsed, tmp_path)


words = st.sampled_from(["track", "screen", "page", "identify", "group", "alias"])
names = st.sampled_from(
    [
        "tap",
        "Error",
        "Job Started",
        "Job Ended",
        "Application Crashed",
        "Application Opened",
        "Application Backgrounded",
        "Push Notification Tapped",
    ]
)
properties = st.sampled_from(
    ["name", "job_id", "job_name", "duration", "type", "campaign", "stack", "a b", "a-b"]
)
sessions = ["sessionId", "sessionStart"]
parts = st.sampled_from(
    [
        "app",
        "device",
        "os",
        "location",
        "library",
        "network",
        "timezone",
        "locale",
        "campaign",
        "traits",
        *sessions,
    ]
)
libraries = st.sampled_from(["analytics-swift", "analytics-node"]).map(lambda name: {"name": name})
devices = st.fixed_dictionaries(
    {"id": values, "version": values, "token": values, "type": st.just("ios"), "tokenKind": values}
)
messages = values | st.fixed_dictionaries(
    {"type": words | values, "anonymousId": st.text(max_size=4)},
    optional={
        "event": names | values,
        "properties": st.dictionaries(properties, values) | values,
        "traits": st.dictionaries(st.text(max_size=3), values, max_size=4) | values,
        "context": st.dictionaries(parts, values | devices | libraries | st.sampled_from([True, "GMT+0530"])),
        "timestamp": st.datetimes().map(str) | values,
        "sentAt": st.datetimes().map(str) | values,
        "messageId": st.text(max_size=3) | values,
        "userId": values,
        "groupId": values,
        "name": values,
    },
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(messages, max_size=4), sent_at=st.datetimes().map(str) | values)
def test_any_messages_can_be_stored_or_set_aside(tmp_path: Path, batch: list[Any], sent_at: Any) -> None:
    body = json.dumps({"batch": batch, "sentAt": sent_at}).encode()
    assert segment.skim(body) == len(batch)
    parsed = read("segment", body)
    assert_storable(parsed, tmp_path)
    assert all(getattr(record, "timestamp", 0) <= NOW for record in parsed.records)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutated([body_of("segment-node"), body_of("segment-python")]))
def test_damaged_batches_can_be_stored_or_set_aside(tmp_path: Path, body: bytes) -> None:
    assert_storable(read("segment", body), tmp_path)
