"""What RudderStack's SDKs say otherwise than Segment's."""

from __future__ import annotations

from typing import Any

import pytest

from frames import NOW, read, reasons, told
from outhaul.protocols import rudder

# As its browser SDK writes every message.
WEB = {
    "sessionId": 1_795_459_020_974,
    "app": {
        "name": "RudderLabs JavaScript SDK",
        "namespace": "com.rudderlabs.javascript",
        "version": "3.34.1",
    },
    "library": {"name": "RudderLabs JavaScript SDK", "version": "3.34.1", "variant": "bundled"},
    "os": {"name": "", "version": ""},
    "locale": "en-US",
    "screen": {"width": 412, "height": 915, "density": 2.6, "innerWidth": 412, "innerHeight": 800},
    "timezone": "GMT+0530",
}


def message(kind: str, context: dict[str, Any], **given: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "messageId": "m1",
        "anonymousId": "a1",
        "userId": "",
        "channel": "web",
        "originalTimestamp": "2026-11-23T18:29:00Z",
        "sentAt": "2026-11-23T18:30:00Z",
        "context": context,
    } | given


def say(*messages: dict[str, Any]) -> Any:
    return read("segment", {"batch": list(messages), "sentAt": "2026-11-23T18:30:00Z"})


def test_a_session_is_the_one_told():
    first = message("page", WEB | {"sessionStart": True}, name="Home")
    then = message("track", WEB, event="tap", messageId="m2")
    left = message("track", WEB, event="Application Backgrounded", messageId="m3")
    opened = message("track", WEB, event="Application Opened", messageId="m4")
    device, start, page, event, last, end, again = told(say(first, then, left, opened))
    assert (again["kind"], again["sessionId"]) == ("event", "1795459020974")
    assert device["kind"] == "device"
    assert start == {
        "kind": "sessionStart",
        "deviceId": "a1",
        "id": "m1:session",
        "sessionId": "1795459020974",
        "timestamp": NOW - 60_000,
    }
    assert [(r["kind"], r["sessionId"]) for r in (page, event, last, end)] == [
        ("activity", "1795459020974"),
        ("event", "1795459020974"),
        ("event", "1795459020974"),
        ("activityEnd", "1795459020974"),
    ]


def test_a_session_starts_once_in_a_batch():
    again = [message("track", WEB | {"sessionStart": True}, event="tap", messageId=f"m{n}") for n in range(3)]
    assert [r["kind"] for r in told(say(*again))].count("sessionStart") == 1


def test_the_browser_sdk_is_not_the_app():
    (device, event) = told(say(message("track", WEB, event="tap")))
    assert "applicationVersionName" not in device
    assert "applicationVersionName" not in event
    assert (device["serviceVersion"], device["locale"], device["timeZoneOffset"]) == ("3.34.1", "en-US", 330)
    phone = WEB | {"app": {"name": "Shop", "version": "3.1.0", "build": "310"}}
    (device, event) = told(say(message("track", phone, event="tap")))
    assert (device["applicationVersionName"], device["applicationVersionCode"]) == ("3.1.0", 310)


def test_traits_of_a_user_may_be_in_the_context_only():
    context = WEB | {"traits": {"email": "a@b.c", "address": {"city": "Paris"}}}
    records = told(say(message("identify", context, userId="u1")))
    tags = {r["key"]: r["value"] for r in records if r["kind"] == "tag"}
    assert tags == {"email": "a@b.c", "address_city": "Paris", "userid": "u1"}
    # Every later message repeats them, which is no news.
    assert "tag" not in [r["kind"] for r in told(say(message("track", context, event="tap")))]


@pytest.mark.parametrize(
    ("zone", "minutes"),
    [
        ("GMT+0530", 330),
        ("GMT-0330", -210),
        ("GMT+0000", 0),
        ("GMT+05:30", 330),
        ("UTC", None),
        ("GMT+5", None),
    ],
)
def test_a_zone_may_be_written_as_an_offset(zone, minutes):
    assert rudder.offset_of(zone) == minutes


def test_an_odd_session_id_costs_its_message_only():
    odd = message("track", WEB | {"sessionId": {"a": 1}}, event="tap")
    parsed = say(odd, message("track", {}, event="good"))
    assert reasons(parsed) == ["field_invalid"]
    assert [r["name"] for r in told(parsed)] == ["good"]
