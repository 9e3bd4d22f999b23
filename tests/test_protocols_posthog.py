"""The PostHog dialect: what its events mean here, and how odd ones are treated."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frames import NOW, assert_storable, mutated, read, reasons, told, values
from outhaul.errors import Invalid
from outhaul.protocols import posthog, posthog_body, posthog_push
from outhaul.protocols.conventions import Names
from outhaul.records import Frame

if TYPE_CHECKING:
    from pathlib import Path

SENT = "2026-11-23T18:30:00Z"
AT = "2026-11-23T18:29:00Z"
BEGAN = NOW - 100_000
SESSION = f"{BEGAN:012x}"[:8] + f"-{BEGAN:012x}"[:1] + f"{BEGAN:012x}"[8:] + "-7abc-8def-0123456789ab"
ANDROID = {
    "$lib": "posthog-android",
    "$lib_version": "3.60.0",
    "$app_version": "3.1.0",
    "$app_build": "310",
    "$app_namespace": "com.example.shop",
    "$device_manufacturer": "Google",
    "$device_model": "Pixel 8",
    "$device_name": "shiba",
    "$device_type": "Mobile",
    "$os_name": "Android",
    "$os_version": "15",
    "$locale": "fr-FR",
    "$timezone": "Asia/Tokyo",
    "$screen_width": 412,
    "$network_wifi": True,
    "$network_cellular": False,
    "$network_carrier": "Orange F",
    "$is_identified": False,
}
WEB = {
    "$lib": "web",
    "$lib_version": "1.449.2",
    "$os": "Android",
    "$browser": "Chrome",
    "$browser_language": "en-US",
    "$timezone": "UTC",
    "$device_id": "d1",
    "$is_identified": False,
    "$current_url": "https://shop.example/cart?x=1",
    "$pathname": "/cart",
    "token": "k",
    "distinct_id": "d1",
    "gclid": None,
    "utm_campaign": "spring",
}


def event(name: Any = "tap", properties: Any = None, **given: Any) -> dict[str, Any]:
    return {
        "event": name,
        "uuid": "e1",
        "distinct_id": "d1",
        "timestamp": AT,
        "properties": properties or {},
    } | given


def say(*events: Any, **envelope: Any) -> Any:
    return read("posthog", {"api_key": "k", "batch": list(events), "sent_at": SENT} | envelope)


def kinds(parsed: Any) -> list[str]:
    return [record["kind"] for record in told(parsed)]


def tags(parsed: Any) -> dict[tuple[str, str], Any]:
    return {(r["deviceId"], r["key"]): r["value"] for r in told(parsed) if r["kind"] == "tag"}


def test_an_event_keeps_what_the_app_gave_it() -> None:
    sent = event("Order Completed", ANDROID | {"revenue": 12.5, "items": [{"sku": 1}], "gone": None})
    device, ordered = told(say(sent))
    assert ordered == {
        "kind": "event",
        "deviceId": "d1",
        "id": "e1",
        "applicationVersionName": "3.1.0",
        "name": "Order Completed",
        "timestamp": NOW - 60_000,
        "extras": {"revenue": 12.5, "items": [{"sku": 1}]},
    }
    assert device == {
        "kind": "device",
        "deviceId": "d1",
        "id": "e1:device",
        "applicationVersionName": "3.1.0",
        "timestamp": NOW - 60_000,
        "phoneModel": "Pixel 8",
        "phoneManufacturer": "Google",
        "firmwareName": "Android",
        "firmwareVersion": "15",
        "carrierName": "Orange F",
        "networkType": "wifi",
        "locale": "fr-FR",
        "applicationVersionCode": 310,
        "timeZoneOffset": 540,
        "serviceVersion": "3.60.0",
    }


def test_the_sdk_is_named_by_its_events_or_by_the_request() -> None:
    parsed = say(event(properties=WEB))
    assert (parsed.sdk_name, parsed.sdk_version) == ("web", "1.449.2")
    parsed = read("posthog", {"batch": [event()]}, user_agent="posthog-python/7.91.1")
    assert (parsed.sdk_name, parsed.sdk_version) == ("posthog-python", "7.91.1")


def test_the_device_is_told_once_and_again_when_it_changes() -> None:
    newer = ANDROID | {"$os_version": "16"}
    sent = [event(properties=p, uuid=f"e{n}") for n, p in enumerate((ANDROID, ANDROID, newer))]
    records = told(say(*sent))
    assert [r["firmwareVersion"] for r in records if r["kind"] == "device"] == ["15", "16"]


@pytest.mark.parametrize(
    "server", [{"$lib": "posthog-python"}, {"$lib": "posthog-ruby"}, {"$is_server": True}]
)
def test_a_server_is_not_the_device_it_speaks_of(server: dict[str, Any]) -> None:
    machine = {"$os": "Linux", "$os_version": "12", "$session_id": SESSION}
    (record,) = told(say(event(properties=machine | server)))
    assert (record["kind"], record["deviceId"], record["userId"]) == ("event", "d1", "d1")


@pytest.mark.parametrize(
    ("properties", "device", "user"),
    [
        ({"$device_id": "dev", "$is_identified": True}, "dev", "d1"),
        ({"$device_id": "dev", "$is_identified": False}, "dev", None),
        ({"$device_id": "dev"}, "dev", "d1"),
        ({"$device_id": "d1"}, "d1", None),
        ({"$anon_distinct_id": "anon", "$is_identified": True}, "anon", "d1"),
        ({"$is_identified": False}, "d1", None),
        ({"$process_person_profile": False}, "d1", None),
        ({}, "d1", "d1"),
        ({"$device_id": None, "$is_identified": None}, "d1", "d1"),
    ],
)
def test_who_it_is_about(properties: dict[str, Any], device: str, user: str | None) -> None:
    (record,) = told(say(event(properties=properties)))
    assert (record["deviceId"], record.get("userId")) == (device, user)


def test_the_distinct_id_may_stand_in_the_properties_and_be_a_number() -> None:
    sent = event(properties={"distinct_id": 7}, distinct_id=None)
    assert told(say(sent))[0]["deviceId"] == "7"


@pytest.mark.parametrize(
    ("sent_at", "expected"),
    [
        ("2026-11-23T18:30:00Z", NOW - 60_000),
        ("2026-11-23T18:29:01+00:00", NOW - 60_000),
        ("2026-11-23T17:30:00Z", NOW),
        ("2026-11-23T18:31:30Z", NOW - 150_000),
        (NOW + 90_000, NOW - 150_000),
        (str(NOW + 90_000), NOW - 150_000),
        ("soon", NOW - 60_000),
        ({}, NOW - 60_000),
        (None, NOW - 60_000),
    ],
)
def test_a_wrong_clock_is_corrected_but_never_past_the_arrival(sent_at: Any, expected: int) -> None:
    (record,) = told(say(event(), sent_at=sent_at))
    assert record["timestamp"] == expected


def test_a_clock_that_is_to_be_believed_is() -> None:
    for sent in (
        event(properties={"$ignore_sent_at": True}),
        event(options={"disable_skew_correction": True}),
    ):
        assert told(say(sent, sent_at="2026-11-23T18:31:30Z"))[0]["timestamp"] == NOW - 60_000


def test_an_event_without_a_time_happened_as_long_ago_as_it_says() -> None:
    assert told(say(event(timestamp=None)))[0]["timestamp"] == NOW
    assert told(say(event(timestamp=None, offset=5_000)))[0]["timestamp"] == NOW - 5_000


def test_screens_and_pages_are_activities() -> None:
    screen = event("$screen", {"$screen_name": "Home", "from": "push", "$screen_width": 4})
    page = event("$pageview", WEB | {"title": "Cart"}, uuid="e2")
    left = event("$pageleave", WEB | {"$prev_pageview_pathname": "/cart"}, uuid="e3")
    records = [record for record in told(say(screen, page, left)) if record["kind"] != "device"]
    assert [(r["kind"], r.get("name"), r.get("extras")) for r in records] == [
        ("activity", "Home", {"from": "push"}),
        ("activity", "/cart", {"utm_campaign": "spring", "title": "Cart"}),
        ("activityEnd", None, None),
    ]
    assert kinds(say(event("Application Backgrounded"))) == ["event", "activityEnd"]


def test_a_page_with_a_long_path_goes_by_its_title() -> None:
    long = {"$pathname": "/" + "x" * 64}
    assert told(say(event("$pageview", long | {"title": "Docs"})))[0]["name"] == "Docs"
    assert reasons(say(event("$pageview", long))) == ["name_invalid"]
    assert told(say(event("$pageview", {"$current_url": "https://shop.example/"})))[0]["name"] == (
        "https://shop.example/"
    )


def test_a_long_link_does_not_cost_what_happens_on_the_page() -> None:
    by_link = WEB | {"utm_campaign": "c" * 900, "gclid": "g" * 300, "revenue": 5}
    assert told(say(event(properties=by_link)))[-1]["extras"] == {"gclid": "g" * 300, "revenue": 5}
    parsed = say(event(properties={"mine": "x" * 1100, "utm_campaign": "spring"}))
    assert reasons(parsed) == ["extras_too_long"]


def test_a_session_begins_when_its_id_was_made() -> None:
    sent = [event(properties={"$session_id": SESSION, "$device_id": "d1"}, uuid=u) for u in ("a", "b")]
    start, *events = told(say(*sent))
    assert (start["kind"], start["sessionId"], start["timestamp"]) == ("sessionStart", SESSION, BEGAN)
    assert [record["sessionId"] for record in events] == [SESSION, SESSION]
    assert told(say(event(properties={"$session_id": SESSION}, uuid="c")))[0]["id"] == start["id"]
    corrected = told(say(sent[0], sent_at="2026-11-23T18:31:30Z"))[0]
    assert corrected["timestamp"] == BEGAN - 90_000


@pytest.mark.parametrize(
    "session_id",
    ["0197-sess", "01a209b3-5a14-421b-9e02-7ad6db2b3860", "00000000-0000-7000-8000-000000000000"],
)
def test_a_session_whose_id_tells_no_time_is_still_one(session_id: str) -> None:
    (record,) = told(say(event(properties={"$session_id": session_id})))
    assert (record["kind"], record["sessionId"]) == ("event", session_id)


def test_the_newer_form_has_the_session_beside_the_properties() -> None:
    (record,) = told(say(event(session_id="s", options={})))
    assert record["sessionId"] == "s"


FRAMES = [
    {"platform": "web:javascript", "filename": "app.js", "function": "main", "lineno": 1, "colno": 2},
    {"platform": "web:javascript", "filename": "app.js", "function": "pay", "lineno": 9},
]
THROWN = {
    "type": "TypeError",
    "value": "boom",
    "mechanism": {"handled": True},
    "stacktrace": {"type": "raw", "frames": FRAMES},
}


def test_a_handled_exception_is_an_error() -> None:
    sent = event("$exception", {"$exception_list": [THROWN], "$exception_level": "error", "screen": "Home"})
    (record,) = told(say(sent))
    assert (record["kind"], record["name"]) == ("error", "TypeError")
    assert record["extras"] == {
        "screen": "Home",
        "message": "boom",
        "stack": "at pay (app.js:9)\nat main (app.js:1:2)",
    }


def test_a_long_message_or_stack_does_not_cost_the_error() -> None:
    long = THROWN | {"value": "é\n" * 2000}
    (record,) = told(say(event("$exception", {"$exception_list": [long], "screen": "Home"})))
    extras = record["extras"]
    assert 1020 <= len(json.dumps(extras, ensure_ascii=False, separators=(",", ":"))) <= 1024
    assert (extras["screen"], extras["message"][:4]) == ("Home", "é\né\n")
    own = event("$exception", {"$exception_list": [THROWN], "message": "mine", "stack": "own"})
    assert told(say(own))[0]["extras"] == {"message": "mine", "stack": "own"}
    deep = THROWN | {"mechanism": {"handled": False}, "stacktrace": {"frames": FRAMES * 5_000}}
    (record,) = told(say(event("$exception", {"$exception_list": [deep]})))
    assert record["stackTrace"].endswith("\n    ... 9800 more")


@pytest.mark.parametrize("how", ["fatal", "unhandled", "unhandled cause"])
def test_an_exception_that_nothing_handles_is_a_crash(how: str) -> None:
    cause = {"type": "IOError", "mechanism": {"handled": how != "unhandled cause"}}
    thrown = THROWN | {"mechanism": {"handled": how != "unhandled"}}
    level = "fatal" if how == "fatal" else "error"
    sent = event("$exception", ANDROID | {"$exception_list": [thrown, cause], "$exception_level": level})
    record = told(say(sent))[-1]
    assert (record["kind"], record["type"], record["phoneModel"]) == ("crash", "TypeError", "Pixel 8")
    assert record["stackTrace"] == (
        "TypeError: boom\n    at pay (app.js:9)\n    at main (app.js:1:2)\nCaused by: IOError"
    )


def test_a_crash_of_java_reads_as_java_writes_it() -> None:
    frames = [
        {
            "platform": "java",
            "module": "com.example.Shop",
            "function": "pay",
            "filename": "Shop.kt",
            "lineno": 3,
        },
        {"platform": "java", "module": "com.example.Main", "function": "run"},
    ]
    thrown = {"type": "NPE", "mechanism": {"handled": False}, "stacktrace": {"frames": frames}}
    (record,) = told(say(event("$exception", {"$exception_list": [thrown]})))
    assert record["stackTrace"] == "NPE\n    at com.example.Shop.pay (Shop.kt:3)\n    at com.example.Main.run"


def test_exceptions_as_older_sdks_tell_them() -> None:
    old = {"$exception_type": "Error", "$exception_message": "boom", "$exception_level": "fatal"}
    (record,) = told(say(event("$exception", old | {"$exception_stack_trace_raw": "at x"})))
    assert (record["kind"], record["type"], record["stackTrace"]) == ("crash", "Error", "at x")
    assert told(say(event("$exception")))[0]["name"] == "Error"


def test_agreed_names_mean_jobs_errors_and_crashes() -> None:
    job = event("Job Started", {"job_id": "j1", "job_name": "upload", "size": 3})
    end = event("Job Ended", {"job_id": "j1"}, uuid="e2")
    crash = event("Application Crashed", ANDROID | {"type": "NPE", "stack_trace": "at x"}, uuid="e3")
    records = [record for record in told(say(job, end, crash)) if record["kind"] != "device"]
    assert [record["kind"] for record in records] == ["job", "jobEnd", "crash"]
    assert records[2]["phoneModel"] == "Pixel 8"
    frame = Frame(app_id="a", protocol="posthog", received_at=NOW, body=json.dumps(event("Oops")).encode())
    parsed = posthog.parse(frame, Names(error=frozenset({"Oops"})))
    assert kinds(parsed) == ["error"]


def test_an_opened_push_is_feedback_on_its_campaign() -> None:
    opened = {"$notification_campaign_id": 42, "$notification_campaign_name": "Spring"}
    (record,) = told(say(event("$push_notification_opened", opened)))
    assert (record["kind"], record["status"]) == ("feedback", "system-notification-actioned")
    assert (record["campaignType"], record["campaignId"], record["campaignName"]) == (
        "Announcement",
        "42",
        "Spring",
    )
    (record,) = told(say(event("$push_notification_opened", {"$notification_title": "Hi"})))
    assert (record["kind"], record["extras"]) == ("event", {"notification_title": "Hi"})


def test_what_the_sdk_tells_of_its_own_events_is_kept() -> None:
    survey = {"$survey_id": "s1", "$survey_response": "good", "$elements": ["x" * 2000]}
    assert told(say(event("survey sent", survey)))[0]["extras"] == {
        "survey_id": "s1",
        "survey_response": "good",
    }


def test_properties_of_the_user_are_tags() -> None:
    changes = {
        "$set": {"email": "a@b.c", "first name": "Ann", "vip": True, "gone": None, "userid": "x"},
        "$set_once": {"$initial_referrer": "$direct", "$initial_gclid": None},
        "$unset": ["old", "first name", 5],
    }
    for sent in (event("$set", changes), event("$set", **changes), event("tap", changes)):
        parsed = say(sent)
        assert tags(parsed) == {
            ("d1", "email"): "a@b.c",
            ("d1", "first_name"): None,
            ("d1", "vip"): "true",
            ("d1", "gone"): None,
            ("d1", "t_userid"): "x",
            ("d1", "initial_referrer"): "$direct",
            ("d1", "old"): None,
        }
        ops = {r["key"]: r.get("op", "set") for r in told(parsed) if r["kind"] == "tag"}
        assert [key for key, op in ops.items() if op == "once"] == ["initial_referrer"]
        own = [r["id"] for r in told(parsed)]
        assert len(set(own)) == len(own)
        assert kinds(parsed).count("event") == (sent["event"] == "tap")


def test_what_is_set_wins_over_what_is_set_once() -> None:
    parsed = say(event("$set", {"$set": {"a": 1}, "$set_once": {"a": 2}}))
    assert [(r.get("op", "set"), r["value"]) for r in told(parsed)] == [("once", "2"), ("set", "1")]


def test_an_identification_names_the_user() -> None:
    web = event(
        "$identify",
        WEB | {"distinct_id": "u1", "$anon_distinct_id": "d1", "$is_identified": True},
        distinct_id=None,
    )
    web["$set"] = {"email": "a@b.c"}
    assert tags(say(web)) == {("d1", "userid"): "u1", ("d1", "email"): "a@b.c"}
    mobile = event("$identify", {"$anon_distinct_id": "a1", "$set": {"email": "a@b.c"}}, distinct_id="u1")
    assert tags(say(mobile)) == {
        ("a1", "userid"): "u1",
        ("u1", "userid"): "u1",
        ("a1", "email"): "a@b.c",
        ("u1", "email"): "a@b.c",
    }
    ids = [record["id"] for record in told(say(mobile))]
    assert len(set(ids)) == 4


@pytest.mark.parametrize(
    ("properties", "user"),
    [
        ({"$is_server": True}, "x"),
        ({"$device_id": "d1"}, "x"),
        ({"$device_id": "dev", "$is_identified": True}, "d1"),
    ],
)
def test_an_alias_makes_both_ids_one_users(properties: dict[str, Any], user: str) -> None:
    device = properties.get("$device_id", "d1")
    parsed = say(event("$create_alias", properties | {"alias": "x"}))
    assert tags(parsed) == {(device, "userid"): user, ("x", "userid"): user}
    assert {record["userId"] for record in told(parsed)} == {user}


def test_what_has_no_place_is_not_kept_and_not_set_aside() -> None:
    parsed = say(*(event(name, ANDROID) for name in sorted(posthog.NOT_KEPT)))
    assert (parsed.records, parsed.rejects) == ([], [])


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (3, "malformed"),
        (event(None), "field_missing"),
        (event({"a": 1}), "name_invalid"),
        (event(""), "name_invalid"),
        (event("x" * 65), "name_invalid"),
        (event(distinct_id=None), "field_missing"),
        (event(distinct_id={}), "field_invalid"),
        (event(uuid=[]), "field_invalid"),
        (event(timestamp="noon"), "field_invalid"),
        (event(timestamp=True), "field_invalid"),
        (event(timestamp="1999-01-01T00:00:00Z"), "time_out_of_range"),
        (event("$screen"), "field_missing"),
        (event("$screen", {"$screen_name": 5}), "name_invalid"),
        (event("$pageview"), "field_missing"),
        (event("$create_alias"), "field_missing"),
        (event("$identify", {"$device_id": "d"}, distinct_id=None), "field_missing"),
        (event("Job Started", {"job_id": "j"}), "field_missing"),
        (event(properties={"a": "x" * 1024}), "extras_too_long"),
        (event(properties={"$app_version": "x" * 256}), "field_invalid"),
    ],
)
def test_an_event_that_breaks_a_rule_costs_only_itself(sent: Any, reason: str) -> None:
    good = event("good")
    parsed = say(good, sent, good)
    assert [r["name"] for r in told(parsed)] == ["good", "good"]
    assert reasons(parsed) == [reason]
    assert json.loads(parsed.rejects[0].raw) == sent


def test_a_property_that_is_no_tag_costs_only_itself() -> None:
    parsed = say(event("$set", {"$set": {"long": "x" * 1025, "short": "y"}}))
    assert reasons(parsed) == ["tag_invalid"]
    assert json.loads(parsed.rejects[0].raw) == {"long": "x" * 1025}
    assert tags(parsed) == {("d1", "short"): "y"}


def test_an_event_without_an_id_is_known_again_when_sent_again() -> None:
    sent = event(uuid=None)
    assert told(say(sent))[0]["id"] == told(say(sent, sent_at=None))[0]["id"]
    timeless = event(uuid=None, timestamp=None)
    later = read("posthog", {"batch": [timeless]}, received_at=NOW + 5)
    assert told(say(timeless))[0]["id"] != told(later)[0]["id"]


PLAIN = json.dumps({"api_key": "k", "batch": [event()], "sent_at": SENT}).encode()
ONE = json.dumps(event(api_key="k")).encode()
ARRAY = json.dumps([event(properties={"token": "k"})]).encode()
FORMS = {
    "batch": PLAIN,
    "one": ONE,
    "array": ARRAY,
    "form": urlencode({"data": PLAIN}).encode(),
    "form, base64": urlencode({"compression": "base64", "data": base64.b64encode(PLAIN)}).encode(),
    "form, base64, unpadded": b"data=" + base64.b64encode(PLAIN).rstrip(b"="),
    "form, gzip": urlencode({"data": base64.b64encode(gzip.compress(PLAIN))}).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_bodies_come_in_many_forms(form: str) -> None:
    bag = posthog_body.open_bag(FORMS[form])
    assert (bag.key, posthog.skim(FORMS[form])) == ("k", 1)
    assert kinds(read("posthog", FORMS[form])) == ["event"]


@pytest.mark.parametrize("form", FORMS)
def test_a_body_can_be_made_to_say_when_it_was_sent(form: str) -> None:
    body = posthog_body.sent(FORMS[form], "2026-11-23T18:31:30Z")
    bag = posthog_body.open_bag(body)
    # What the body itself says stands.
    assert bag.sent_at == ("2026-11-23T18:31:30Z" if form in {"one", "array"} else SENT)
    assert (bag.key, len(bag.events)) == ("k", 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"3",
        b'{"batch":null}',
        b'{"batch":{}}',
        b"[" * 9_000,
        b"data=",
        b"data=!!!",
        b"data=e30=",
        b"data=" + base64.b64encode(gzip.compress(PLAIN)[:-4]),
        b"data=" + base64.b64encode(gzip.compress(bytes(30_000_000))),
        b"data=%ff",
        b"\xff\xfe",
    ],
)
def test_a_body_that_holds_no_events_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        posthog.skim(body)
    assert reasons(read("posthog", body)) == ["malformed"]
    assert kinds(read("posthog", b"[]")) == []


def test_half_an_emoji_is_mended_instead_of_refusing_the_batch() -> None:
    body = json.dumps({"batch": [event("cut \ud83d")]}).encode()
    assert told(read("posthog", body))[0]["name"] == "cut \ufffd"


def test_a_request_that_amounts_to_too_much_is_set_aside_whole() -> None:
    sent = event("$set", {"$set": {f"k{n}": n for n in range(4_000)}})
    body = json.dumps({"batch": [sent] * 26}).encode()
    parsed = read("posthog", body)
    assert parsed.records == []
    assert reasons(parsed) == ["not_supported"]


# Push subscriptions

SUBSCRIPTION = {
    "api_key": "k",
    "distinct_id": "u1",
    "device_token": "t1",
    "platform": "android",
    "app_id": "firebase-project",
}


def subscribe(*, valid: bool = True, **changed: Any) -> Any:
    body = json.dumps(SUBSCRIPTION | changed).encode()
    return read("posthog_push", posthog_push.stored(body, valid=valid))


def test_a_subscription_is_a_device_with_a_token() -> None:
    token, user = told(subscribe())
    assert (token["kind"], token["token"], token["service"], token["userId"]) == ("token", "t1", "gcm", "u1")
    assert (user["key"], user["value"], user["deviceId"]) == ("userid", "u1", token["deviceId"])
    assert told(subscribe(platform="ios"))[0]["service"] == "apns"
    assert told(subscribe(device_token="fid_" + "a" * 18))[0]["service"] == "fcmFid"


def test_a_second_device_of_a_user_does_not_take_the_first_ones_token() -> None:
    first, second = told(subscribe())[0], told(subscribe(device_token="t2"))[0]
    assert first["deviceId"] != second["deviceId"]
    moved = told(subscribe(distinct_id="u2"))[0]
    assert moved["deviceId"] == first["deviceId"]


def test_a_subscription_that_ends_withdraws_the_token() -> None:
    (token,) = told(subscribe(valid=False))
    assert (token["token"], token["valid"]) == ("t1", False)
    assert token["deviceId"] == told(subscribe())[0]["deviceId"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"distinct_id": None}, "field_missing"),
        ({"distinct_id": []}, "field_invalid"),
        ({"device_token": ""}, "field_missing"),
        ({"device_token": 5}, "field_missing"),
        ({"device_token": "x" * 4097}, "field_invalid"),
        ({"platform": "fridge"}, "not_supported"),
    ],
)
def test_a_subscription_that_breaks_a_rule_is_set_aside(changed: dict[str, Any], reason: str) -> None:
    assert reasons(subscribe(**changed))[0] == reason


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 9_000])
def test_a_body_without_a_subscription_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        posthog_push.subscription(body)
    assert reasons(read("posthog_push", body)) == ["malformed"]
    with pytest.raises(Invalid):
        posthog_push.skim(b'{"valid":true}')


# Anything at all


def test_depth_does_not_hurt(tmp_path: Path) -> None:
    # Somewhere below the interpreter's limit of 1,000, reading an event still works and writing it no longer does.
    for depth in (100, 500, *range(850, 1_000), 2_000):
        deep = "[" * depth + "]" * depth
        for sent in (event(properties={"a": "X"}), event("$set", {"$set": {"a": "X"}})):
            parsed = read("posthog", json.dumps({"batch": [sent]}).replace('"X"', deep).encode())
            assert len(parsed.records) + len(parsed.rejects) == 1
            assert_storable(parsed, tmp_path)


NAMES = """
tap,$screen,$pageview,$pageleave,$identify,$set,$create_alias,$exception,$push_notification_opened
Application Backgrounded,Job Started,Job Ended,Application Crashed
"""
KEYS = """
$set,$set_once,$unset,$session_id,$device_id,$anon_distinct_id,$is_identified,$screen_name,$pathname,title,alias
$exception_list,$exception_level,$lib,$timezone,$app_version,$app_build,$notification_campaign_id,$os,$survey_id
job_id,job_name,a b,a-b
"""
names = st.sampled_from(re.split("[,\n]", NAMES.strip()))
keys = st.sampled_from(re.split("[,\n]", KEYS.strip()))
thrown = st.fixed_dictionaries(
    {"type": values, "value": values},
    optional={
        "mechanism": st.fixed_dictionaries({"handled": st.booleans() | values}) | values,
        "stacktrace": st.fixed_dictionaries(
            {
                "frames": st.lists(
                    st.dictionaries(
                        st.sampled_from(["platform", "function", "module", "filename", "lineno", "colno"]),
                        values,
                    )
                    | values,
                    max_size=3,
                )
            }
        )
        | values,
    },
)
properties = (
    st.dictionaries(keys, values | st.text(max_size=4) | st.lists(thrown, max_size=2), max_size=8) | values
)
events = values | st.fixed_dictionaries(
    {"event": names | values, "distinct_id": st.text(max_size=4) | values, "properties": properties},
    optional={
        "uuid": st.text(max_size=3) | values,
        "timestamp": st.datetimes().map(str) | values,
        "offset": values,
        "options": values,
        "session_id": values,
        "$set": values,
        "$unset": values,
    },
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(events, max_size=4), sent_at=st.datetimes().map(str) | values)
def test_any_events_can_be_stored_or_set_aside(tmp_path: Path, batch: list[Any], sent_at: Any) -> None:
    body = json.dumps({"batch": batch, "sent_at": sent_at}).encode()
    assert posthog.skim(body) == len(batch)
    parsed = read("posthog", body)
    assert_storable(parsed, tmp_path)
    assert all(getattr(record, "timestamp", 0) <= NOW for record in parsed.records)


DAMAGED = [PLAIN, ONE, ARRAY, FORMS["form"], FORMS["form, gzip"]]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mutated([*DAMAGED, json.dumps({"batch": [event("$exception", {"$exception_list": [THROWN]})]}).encode()])
)
def test_damaged_bodies_can_be_stored_or_set_aside(tmp_path: Path, body: bytes) -> None:
    assert_storable(read("posthog", body), tmp_path)
    assert_storable(read("posthog_push", posthog_push.stored(body, valid=True)), tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told_of=st.dictionaries(st.sampled_from(sorted(SUBSCRIPTION)), values | st.text(max_size=4)))
def test_any_subscription_can_be_stored_or_set_aside(tmp_path: Path, told_of: dict[str, Any]) -> None:
    assert_storable(subscribe(**told_of), tmp_path)
