"""Countly's protocol: what each parameter becomes, that a repetition is one, and that nothing hostile gets through."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frames import NOW, assert_storable, mutated, read, reasons, told, values
from outhaul.errors import Invalid
from outhaul.protocols import countly
from outhaul.protocols.countly_form import key_in, read_form

if TYPE_CHECKING:
    from pathlib import Path

    from outhaul.records import Parsed

AT = NOW - 60_000
WEB = {"sdk_name": "javascript_native_web", "sdk_version": "26.1.1", "av": "3.1.0", "tz": "60"}
ANDROID = {"sdk_name": "java-native-android", "sdk_version": "26.1.2"}


def form(**params: Any) -> bytes:
    """A request as its SDK encodes it; objects and arrays as JSON."""
    shown = {"app_key": "k", "device_id": "d1", "timestamp": AT} | params
    return urlencode(
        {
            name: json.dumps(value) if isinstance(value, dict | list) else value
            for name, value in shown.items()
        }
    ).encode()


def said(**params: Any) -> Parsed:
    return read("countly", form(**params))


def records(**params: Any) -> list[dict[str, Any]]:
    """What a request becomes, without ids and what every record has; each that can be is in the session that is open."""
    parsed = said(**params)
    assert parsed.rejects == []
    found = told(parsed)
    outside = {"device", "location", "tag", "token", "feedback"}
    assert all((record.pop("sessionId", None) == "~") != (record["kind"] in outside) for record in found)
    return [
        {name: value for name, value in record.items() if name not in {"id", "deviceId"}} for record in found
    ]


def event(**members: Any) -> dict[str, Any]:
    return {"key": "buy", "count": 1, "timestamp": AT - 5000} | members


def test_a_session_begins_lives_and_ends() -> None:
    shared = {"timestamp": AT, "applicationVersionName": "3.1.0"}
    metrics = {"_os": "Android", "_os_version": "15", "_device": "Pixel 8", "_manufacturer": "Google"}
    metrics |= {"_carrier": "Orange F", "_locale": "fr_FR", "_resolution": "412x915", "_app_version": "3.1.0"}
    assert records(**WEB, begin_session=1, metrics=metrics) == [
        {
            "kind": "device",
            **shared,
            "phoneModel": "Pixel 8",
            "phoneManufacturer": "Google",
            "firmwareName": "Android",
            "firmwareVersion": "15",
            "carrierName": "Orange F",
            "locale": "fr_FR",
            "timeZoneOffset": 60,
            "serviceVersion": "26.1.1",
        },
        {"kind": "sessionStart", **shared},
    ]
    assert records(session_duration=60) == [{"kind": "heartbeat", "timestamp": AT}]
    assert records(end_session=1, session_duration=5) == [{"kind": "sessionEnd", "timestamp": AT}]


@pytest.mark.parametrize("metrics", [{}, {"_ua": "Mozilla", "_app_version": "2"}, {"_os": ""}])
def test_versions_alone_are_no_news_of_a_device(metrics: dict[str, str]) -> None:
    assert records(metrics=metrics) == []


def test_a_page_tells_its_browser() -> None:
    [device] = records(metrics={"_browser": "Chrome", "_browser_version": "156", "_app_version": "2"})
    assert (device["firmwareName"], device["firmwareVersion"]) == ("Chrome", "156")
    assert device["applicationVersionName"] == "2"
    [device] = records(metrics={"_browser": "Chrome", "_browser_version": "156", "_os": "Android"})
    assert (device["firmwareName"], "firmwareVersion" in device) == ("Android", False)


def test_a_place_is_an_area() -> None:
    assert records(country_code="FR", city="Rennes", location="48.1,-1.6", ip_address="203.0.113.9") == [
        {"kind": "location", "timestamp": AT, "countrycode": "FR", "locality": "Rennes"}
    ]
    assert records(location="") == []


def test_events() -> None:
    segments = {"country": "FR", "new price": 3, "count": "x"}
    assert records(events=[event(), event(count=2, sum=9.9, segmentation=segments), event(sum=0, dur=0)]) == [
        {"kind": "event", "name": "buy", "timestamp": AT - 5000},
        {
            "kind": "event",
            "name": "buy",
            "timestamp": AT - 5000,
            "extras": {"country": "FR", "new_price": 3, "count": "x", "event_count": 2, "sum": 9.9},
        },
        {"kind": "event", "name": "buy", "timestamp": AT - 5000},
    ]


@pytest.mark.parametrize(
    ("sdk", "start", "end"), [(WEB, AT - 6500, AT - 5000), (ANDROID, AT - 5000, AT - 3500)]
)
def test_what_took_time_is_a_job(sdk: dict[str, str], start: int, end: int) -> None:
    [job] = records(**sdk, events=[event(dur=1.5, segmentation={"n": 1})])
    assert {name: job[name] for name in ("kind", "name", "startTime", "endTime", "extras")} == {
        "kind": "job",
        "name": "buy",
        "startTime": start,
        "endTime": end,
        "extras": {"n": 1},
    }


def test_views_begin_and_end_under_one_id() -> None:
    view = {"key": "[CLY]_view", "id": "v1"}
    begun = {"name": "Home", "visit": 1, "segment": "Android"}
    parsed = said(
        events=[
            event(**view, segmentation=begun),
            event(**view, segmentation={"name": "Home"}, dur=4, timestamp=AT),
            event(**view | {"id": "v2"}, segmentation={"name": "Cart", "visit": "1"}, dur=3),
        ]
    )
    assert told(parsed) == [
        {
            "kind": "activity",
            "deviceId": "d1",
            "sessionId": "~",
            "id": "v1",
            "name": "Home",
            "startTime": AT - 5000,
            "extras": {"segment": "Android"},
        },
        {"kind": "activityEnd", "deviceId": "d1", "sessionId": "~", "id": f"v1:end:{AT}", "timestamp": AT},
        {
            "kind": "activity",
            "deviceId": "d1",
            "sessionId": "~",
            "id": "v2",
            "name": "Cart",
            "startTime": AT - 5000,
            "endTime": AT - 2000,
        },
    ]


def test_pushes_acted_on() -> None:
    acted = event(key="[CLY]_push_action", segmentation={"i": "m1", "b": "1", "p": "a"})
    assert records(events=[acted]) == [
        {
            "kind": "feedback",
            "timestamp": AT - 5000,
            "campaignType": "Announcement",
            "campaignId": "m1",
            "status": "system-notification-actioned",
        }
    ]


def test_a_crash_and_an_error() -> None:
    crash = {"_error": "java.lang.NullPointerException: x\n\tat a.B", "_os": "Android", "_os_version": "15"}
    crash |= {"_device": "Pixel 8", "_nonfatal": False, "_logs": "opened"}
    assert records(**ANDROID, crash=crash) == [
        {
            "kind": "crash",
            "timestamp": AT,
            "type": "java.lang.NullPointerException",
            "stackTrace": crash["_error"],
            "phoneModel": "Pixel 8",
            "firmwareName": "Android",
            "firmwareVersion": "15",
            "serviceVersion": "26.1.2",
        }
    ]
    assert records(crash=crash | {"_nonfatal": True, "_custom": {"screen": "Home"}}) == [
        {
            "kind": "error",
            "timestamp": AT,
            "name": "java.lang.NullPointerException",
            "extras": {"screen": "Home", "message": "x", "stack": crash["_error"]},
        }
    ]


@pytest.mark.parametrize(
    ("stack", "kind"),
    [
        ("Script error.\n\n", "Script error."),
        ("", "unknown"),
        ("Error: boom\n at x", "Error"),
        ("a b: c", "a b: c"),
    ],
)
def test_what_a_crash_is_called(stack: str, kind: str) -> None:
    [crash] = records(crash={"_error": stack})
    assert crash["type"] == kind
    [crash] = records(crash={"_error": stack, "_name": "NSRangeException"})
    assert crash["type"] == "NSRangeException"


@pytest.mark.parametrize("character", ["x", "\u00e9", '"', "\0"])
def test_an_error_has_as_much_of_its_stack_as_there_is_room_for(character: str) -> None:
    stack = "Error: boom\n" + character * 5000
    [error] = records(crash={"_error": stack, "_nonfatal": True, "_custom": {"k": "v" * 100}})
    assert stack.startswith(error["extras"]["stack"])
    assert 1018 <= len(json.dumps(error["extras"], separators=(",", ":"), ensure_ascii=False)) <= 1024


def test_user_details_are_tags() -> None:
    custom: dict[str, Any] = {"plan": "pro", "visits": {"$inc": 1}, "tags": {"$push": ["vip", "new"]}}
    custom |= {
        "first seen": {"$setOnce": "web"},
        "old": "",
        "size": {"w": 1},
        "score": {"$max": 3, "$mul": 2},
    }
    details = {"name": "Ann", "email": "a@b.c", "byear": 1990, "phone": "", "gender": None, "custom": custom}
    found = [(tag["key"], tag.get("op", "set"), tag["value"]) for tag in records(user_details=details)]
    assert found == [
        ("name", "set", "Ann"),
        ("email", "set", "a@b.c"),
        ("byear", "set", "1990"),
        ("phone", "set", None),
        ("gender", "set", None),
        ("plan", "set", "pro"),
        ("visits", "inc", "1"),
        ("tags", "push", "vip"),
        ("tags", "push", "new"),
        ("first_seen", "once", "web"),
        ("old", "set", None),
        ("size", "set", '{"w":1}'),
        ("score", "max", "3"),
        ("score", "mul", "2"),
    ]
    assert len({record["id"] for record in told(said(user_details=details))}) == len(found)


def test_a_merge_makes_both_devices_the_user_s() -> None:
    parsed = said(device_id="user-1", old_device_id="dev-1")
    assert [(tag["deviceId"], tag["key"], tag["value"]) for tag in told(parsed)] == [
        ("user-1", "userid", "user-1"),
        ("dev-1", "userid", "user-1"),
    ]


def test_a_campaign_and_a_trace() -> None:
    found = records(campaign_id="spring", campaign_user="u7")
    assert [(tag["key"], tag["value"]) for tag in found] == [
        ("campaign_id", "spring"),
        ("campaign_user", "u7"),
    ]
    trace = {"type": "network", "name": "/api", "stz": AT - 900, "etz": AT - 100}
    trace |= {"apm_metrics": {"response_time": 800}, "apm_attr": {}}
    assert records(apm=trace) == [
        {
            "kind": "job",
            "name": "/api",
            "startTime": AT - 900,
            "endTime": AT - 100,
            "extras": {"type": "network", "response_time": 800},
        }
    ]


@pytest.mark.parametrize(
    ("params", "service"),
    [
        ({"android_token": "t" * 150, "token_provider": "FCM"}, "gcm"),
        ({"android_token": "cZ3_9-abcdefghijklmnop"}, "fcmFid"),
        ({"android_token": "t", "token_provider": "HMS"}, "hms"),
        ({"ios_token": "t", "test_mode": "0"}, "apns"),
        ({"ios_token": "t", "test_mode": "1"}, "apnsDev"),
        ({"ios_token": "t", "test_mode": "2"}, "apns"),
    ],
)
def test_tokens(params: dict[str, str], service: str) -> None:
    device, token = records(token_session=1, locale="fr_FR", **params)
    assert (device["kind"], device["nativePushEnabled"], device["locale"]) == ("device", True, "fr_FR")
    assert (token["kind"], token["service"]) == ("token", service)


def test_an_empty_token_says_that_pushes_are_not_wanted() -> None:
    assert records(token_session=1, android_token="") == [
        {"kind": "device", "timestamp": AT, "nativePushEnabled": False}
    ]


@pytest.mark.parametrize("name", ["hc", "consent", "aid"])
def test_what_has_no_place_here_is_no_record(name: str) -> None:
    assert records(**{name: {"el": 0}}) == []


def test_bulk_requests_hold_what_single_ones_do() -> None:
    session: dict[str, Any] = {"begin_session": 1, "metrics": {"_os": "Linux"}, "timestamp": AT // 1000}
    view = {
        "key": "[CLY]_view",
        "dur": 5,
        "segmentation": {"name": "Home", "visit": 1},
        "timestamp": AT // 1000,
    }
    requests: list[Any] = [
        {"device_id": "d1", "app_key": "k", "av": "1", **session},
        {"device_id": "d2", "events": [view]},
        {"device_id": "d3", "user_details": json.dumps({"name": "Ann"})},
        {"device_id": "d4", "app_key": "other", "begin_session": 1},
        "x",
        {"begin_session": 1},
    ]
    parsed = read("countly", form(requests=requests))
    found = [(record["kind"], record["deviceId"]) for record in told(parsed)]
    assert found == [("device", "d1"), ("sessionStart", "d1"), ("activity", "d2"), ("tag", "d3")]
    assert told(parsed)[1]["timestamp"] == AT // 1000 * 1000
    assert told(parsed)[2]["endTime"] == AT // 1000 * 1000 + 5000
    assert reasons(parsed) == ["field_invalid", "malformed", "field_missing"]
    assert reasons(said(requests={})) == ["field_invalid"]


def test_a_repetition_has_the_same_ids_whatever_waits_behind_it() -> None:
    content: dict[str, Any] = {
        "begin_session": 1,
        "metrics": {"_os": "Linux"},
        "events": [event(), event(), event(id="own")],
        "crash": {"_error": "x"},
    }
    first, again = said(**content, rr=3), said(**content, rr=1, checksum256="ab")
    assert told(first) == told(again)
    assert len({record.id for record in first.records}) == len(first.records)
    assert "own" in {record.id for record in first.records}
    other = said(**content, timestamp=AT + 1)
    assert not {record.id for record in other.records} & {record.id for record in first.records} - {"own"}


def test_requests_without_a_time_are_told_apart_by_when_they_came() -> None:
    body = b"app_key=k&device_id=d1&begin_session=1"
    one, other = (read("countly", body, received_at=at) for at in (NOW, NOW + 1))
    assert one.records[0].id != other.records[0].id
    assert told(one)[0]["timestamp"] == NOW


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"device_id": ""}, "field_missing"),
        ({"device_id": "d" * 256}, "field_invalid"),
        ({"timestamp": "soon"}, "field_invalid"),
        ({"timestamp": "nan"}, "field_invalid"),
        ({"av": "1" * 256}, "field_invalid"),
        ({"events": "{"}, "malformed"),
        ({"events": {}}, "field_invalid"),
        ({"events": [1]}, "malformed"),
        ({"events": [{}]}, "field_missing"),
        ({"events": [event(key="")]}, "name_invalid"),
        ({"events": [event(key="k" * 65)]}, "name_invalid"),
        ({"events": [event(segmentation=[])]}, "extras_invalid"),
        ({"events": [event(segmentation={"a": "x" * 1100})]}, "extras_too_long"),
        ({"events": [event(timestamp=1)]}, "time_out_of_range"),
        ({"events": [event(id=[1])]}, "field_invalid"),
        ({"events": [event(key="[CLY]_view", segmentation={"visit": 1})]}, "field_missing"),
        ({"events": [event(key="[CLY]_push_action", segmentation={})]}, "field_missing"),
        ({"metrics": "[]"}, "field_invalid"),
        ({"crash": {}}, "field_missing"),
        ({"apm": {"name": "x"}}, "field_invalid"),
        ({"user_details": "x"}, "malformed"),
        ({"user_details": {"custom": []}}, "field_invalid"),
        ({"user_details": {"custom": {"a": {"$rename": "b"}}}}, "not_supported"),
        ({"user_details": {"custom": {"a": {"$inc": "b"}}}}, "tag_invalid"),
        ({"user_details": {"custom": {"a": {"$push": None}}}}, "tag_invalid"),
        ({"token_session": 1}, "field_missing"),
        ({"old_device_id": "d" * 256}, "field_invalid"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_set_aside_and_costs_nothing_else(
    params: dict[str, Any], reason: str
) -> None:
    parsed = said(**params)
    assert (reasons(parsed), parsed.records) == ([reason], [])
    assert parsed.rejects[0].raw
    whole = {"device_id", "timestamp", "av"}
    if not whole & params.keys():
        assert [record["kind"] for record in told(said(**params, end_session=1))] == ["sessionEnd"]


@pytest.mark.parametrize("body", [b"", b"&&", b"a=1\0", b"\xff=1", b"&".join([b"a=1"] * 1001)])
def test_what_is_no_form_is_set_aside(body: bytes) -> None:
    with pytest.raises(Invalid):
        countly.skim(body)
    assert reasons(read("countly", body)) == ["malformed"]
    assert reasons(read("countly_unproven", body)) == ["malformed"]


def test_a_request_whose_checksum_is_wrong_is_set_aside_whole() -> None:
    parsed = read("countly_unproven", form(begin_session=1))
    assert (reasons(parsed), parsed.records) == (["field_invalid"], [])


# Forms


def checksum(text: str, salt: str = "salt") -> str:
    return hashlib.sha256((text + salt).encode()).hexdigest()


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("where", ["query", "body"])
def test_a_checksum_is_made_from_what_was_sent_undecoded(where: str, upper: bool) -> None:
    text = "app_key=k&events=%5B%7B%22key%22%3A%22caf%C3%A9%22%7D%5D&device_id=d1"
    told_sum = checksum(text).upper() if upper else checksum(text)
    signed = f"{text}&checksum256={told_sum}".encode()
    found = read_form(signed, b"") if where == "query" else read_form(b"", signed)
    assert found.is_signed_with("salt")
    assert not found.is_signed_with("pepper")
    assert found.app_key == "k"
    for forged in (signed.replace(b"d1", b"d2"), text.encode(), signed.replace(b"%5B", b"[")):
        assert not read_form(b"", forged).is_signed_with("salt")


def parts(fields: dict[str, str]) -> bytes:
    body = b"".join(
        f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )
    picture = b'--B\r\nContent-Disposition: form-data; name="user_picture"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    return body + picture + bytes(range(256)) + b"\r\n--B--\r\n"


def test_a_picture_is_left_out_of_a_form_of_parts() -> None:
    fields = {"app_key": "k", "device_id": "d1", "user_details": '{"name":"Ann & \u00e9"}', "t": "0"}
    text = "&".join(f"{name}={value}" for name, value in fields.items())
    found = read_form(b"", parts(fields | {"checksum256": checksum(text)}))
    assert found.is_signed_with("salt")
    assert {name: found.params[name] for name in fields} == fields
    assert b"PNG" not in found.text
    assert b"\0" not in found.text
    [tag] = read("countly", found.text).records
    assert told(read("countly", found.text))[0]["value"] == "Ann & \u00e9"
    assert tag.device_id == "d1"


def test_a_form_of_parts_may_be_encoded_already() -> None:
    fields = {"app_key": "k", "device_id": "d%201", "user_details": quote('{"name":"Ann"}')}
    text = "&".join(f"{name}={value}" for name, value in fields.items())
    found = read_form(b"", parts(fields | {"checksum256": checksum(text)}))
    assert found.is_signed_with("salt")
    assert found.params["device_id"] == "d 1"
    assert told(read("countly", found.text))[0]["value"] == "Ann"


def test_query_and_body_are_one_form() -> None:
    found = read_form(b"app_key=k&device_id=d1", b"begin_session=1")
    assert found.params == {"app_key": "k", "device_id": "d1", "begin_session": "1"}


@pytest.mark.parametrize(
    ("query", "start", "key"),
    [
        (b"app_key=a%20b", b"", "a b"),
        (b"", b"x=1&app_key=k&y", "k"),
        (b"", b"\0\xff", ""),
        (b"a=1", b"app_key", ""),
    ],
)
def test_the_key_is_found_in_what_is_broken(query: bytes, start: bytes, key: str) -> None:
    assert key_in(query, start) == key


# Fuzzing

names = st.sampled_from(
    [
        "begin_session",
        "metrics",
        "session_duration",
        "end_session",
        "events",
        "user_details",
        "crash",
        "apm",
        "token_session",
        "android_token",
        "ios_token",
        "test_mode",
        "old_device_id",
        "city",
        "tz",
        "av",
        "rr",
        "timestamp",
        "requests",
        "campaign_id",
        "sdk_name",
        "device_id",
    ]
)
members = st.sampled_from(
    [
        "key",
        "count",
        "sum",
        "dur",
        "segmentation",
        "timestamp",
        "id",
        "name",
        "visit",
        "custom",
        "_error",
        "_nonfatal",
        "_custom",
        "_os",
        "stz",
        "etz",
        "$inc",
        "$push",
        "$max",
        "device_id",
        "events",
        "i",
    ]
)
trees = st.recursive(
    values | st.sampled_from(["[CLY]_view", "[CLY]_push_action", AT, 1, "x"]),
    lambda inner: st.dictionaries(members, inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, trees | trees.map(json.dumps), max_size=6))
def test_whatever_is_told_is_taken_or_set_aside(tmp_path: Path, params: dict[str, Any]) -> None:
    parsed = said(**params)
    assert "parser_failed" not in reasons(parsed)
    assert_storable(parsed, tmp_path)


bodies = [
    form(events=[event(), event(key="[CLY]_view", segmentation={"name": "Home", "visit": 1})], **WEB),
    form(
        requests=[
            {"device_id": "d1", "crash": {"_error": "x\ny"}, "user_details": {"custom": {"a": {"$inc": 1}}}}
        ]
    ),
    parts({"app_key": "k", "device_id": "d1", "user_details": "{}"}),
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.binary(max_size=30), body=st.binary(max_size=60) | mutated(bodies))
def test_whatever_comes_is_a_form_or_is_not(tmp_path: Path, query: bytes, body: bytes) -> None:
    key_in(query, body)
    try:
        found = read_form(query, body)
    except Invalid:
        return
    found.is_signed_with("salt")
    parsed = read("countly", found.text)
    assert "parser_failed" not in reasons(parsed)
    assert_storable(parsed, tmp_path)
