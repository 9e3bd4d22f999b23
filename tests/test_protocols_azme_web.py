"""The Azure Mobile Engagement Web dialect: what each element of a log becomes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frames import NOW, assert_storable, body_of, mutated, read, reasons, told, values
from outhaul.errors import Invalid
from outhaul.protocols import azme_web

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [
    "activity",
    "activity_and_job",
    "end_job",
    "end_session",
    "everything",
    "idle",
    "info",
    "repost",
    "start_session",
]
ELEMENTS = [
    "info",
    "startSession",
    "activity",
    "idle",
    "endSession",
    "event",
    "error",
    "startJob",
    "endJob",
    "crash",
    "location",
    "appInfo",
    "reach",
    "wave",
]
SID = "8051a0a2af574870a90b640484a0d8c3"


def log(*elements: str) -> bytes:
    return f"<log xmlns='urn:ubikod:ermin:0' appid='web1'>{''.join(elements)}</log>".encode()


def say(*elements: str, **given: Any) -> Any:
    return read("azme_web", log(*elements), **given)


def only(*elements: str) -> dict[str, Any]:
    parsed = say(*elements)
    assert parsed.rejects == []
    (record,) = told(parsed)
    return record


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_the_sdk_sends_is_set_aside(name: str, tmp_path: Path) -> None:
    body = body_of(f"azme_web-{name}")
    parsed = read("azme_web", body)
    assert parsed.rejects == []
    assert parsed.sdk_name == "azure-engagement-web"
    assert len(parsed.records) >= azme_web.skim(body)
    assert_storable(parsed, tmp_path)


def test_info_and_tags() -> None:
    parsed = read("azme_web", body_of("azme_web-info"))
    device, *tags = told(parsed)
    assert parsed.sdk_version == "2.0.1"
    assert device["infoId"] == "f31b76bf7a5eeaa475414c97b16de6c6"
    assert device["timestamp"] == NOW - 11
    assert device["firmwareVersion"] == "156"
    assert (device["applicationVersionName"], device["applicationVersionCode"]) == ("3.1.0", 310)
    assert {tag["key"]: tag["value"] for tag in tags} == {"plan": "pro", "birth": "1990-01-01", "vip": "true"}


def test_a_session_with_everything_in_it() -> None:
    records = told(read("azme_web", body_of("azme_web-everything")))
    start, activity, tap, sync, net, io, job, chunk, failed, crash, *_ = records
    assert (start["kind"], start["id"], start["sessionId"]) == ("sessionStart", f"{SID}:start", SID)
    assert (activity["name"], activity["startTime"], activity["extras"]) == (
        "Home",
        NOW - 7,
        {"from": "push"},
    )
    assert (tap["sessionId"], "standalone" in tap) == (SID, False)
    assert ("sessionId" in sync, sync["standalone"]) == (False, True)
    assert (net["kind"], net["sessionId"], io["standalone"]) == ("error", SID, True)
    assert (job["kind"], job["id"], job["name"]) == ("job", "618a76e834414795b9befb16d9c147a6", "upload")
    assert chunk["jobId"] == failed["jobId"] == job["id"]
    assert "standalone" not in chunk
    assert crash["type"] == "da14877ca4152788deaaf604fb49845b"
    assert crash["stackTrace"] == "at a.b.C(C.java:1)\nat x.Y"
    locations = [r for r in records if r["kind"] == "location"]
    assert [r["locationId"] for r in locations] == [
        "6939ef4ba4910470f6e15684b6605419",
        "43cf283f6c30c8c543939e86784b4cd9",
    ]
    assert locations[1]["countrycode"] == "fr"
    (feedback,) = (r for r in records if r["kind"] == "feedback")
    assert (feedback["campaignType"], feedback["campaignId"]) == ("Announcement", "c42")


def test_the_ends() -> None:
    (end,) = told(read("azme_web", body_of("azme_web-end_job")))
    assert (end["kind"], end["jobId"]) == ("jobEnd", "618a76e834414795b9befb16d9c147a6")
    (end,) = told(read("azme_web", body_of("azme_web-idle")))
    assert (end["kind"], end["sessionId"]) == ("activityEnd", SID)
    (end,) = told(read("azme_web", body_of("azme_web-end_session")))
    assert (end["kind"], end["id"]) == ("sessionEnd", f"{SID}:end")


def test_what_is_posted_again_has_the_same_ids_and_keeps_the_session_alive() -> None:
    first = told(read("azme_web", body_of("azme_web-activity_and_job")))
    again = told(read("azme_web", body_of("azme_web-repost"), received_at=NOW + 59_987))
    assert [r["kind"] for r in again] == ["activity", "heartbeat", "job"]
    assert [again[0]["id"], again[2]["id"]] == [first[0]["id"], first[1]["id"]]
    assert again[0]["startTime"] == first[0]["startTime"]
    assert again[1]["timestamp"] == NOW + 59_987
    assert again[1]["sessionId"] == first[0]["sessionId"]


def test_elements_without_an_id_are_known_again_when_sent_again() -> None:
    reach = "<reach kind='poll' contentid='c1' status='delivered' toffset='{}'/>"
    tag = "<appInfo toffset='{}'>{{\"a\":1}}</appInfo>"
    first = say(reach.format(0), tag.format(0))
    again = say(reach.format(30_000), tag.format(30_100), received_at=NOW + 30_050)
    assert [r.id for r in first.records] == [r.id for r in again.records]
    later = say(reach.format(0), tag.format(0), received_at=NOW + 30_050)
    assert not {r.id for r in first.records} & {r.id for r in later.records}
    other = say(reach.format(0), tag.format(0), device_id="other")
    assert not {r.id for r in first.records} & {r.id for r in other.records}


def test_tags_of_any_json_type() -> None:
    parsed = say(
        '<appInfo>{"userid":"u1","n":1.5,"off":false,"gone":null,"tree":{"a":[1]},"bad key":1}</appInfo>'
    )
    assert {r["key"]: r["value"] for r in told(parsed)} == {
        "userid": "u1",
        "n": "1.5",
        "off": "false",
        "gone": None,
        "tree": '{"a":[1]}',
    }
    assert reasons(parsed) == ["tag_invalid"]


def test_poll_answers() -> None:
    reach = "<reach kind='Poll' contentid='c1' status='content-actioned'>{}</reach>"
    assert only(reach.format('{"q1":"a"}'))["answers"] == {"q1": "a"}
    parsed = say(reach.format('{"q1":3}'))
    assert "answers" not in told(parsed)[0]
    assert reasons(parsed) == ["field_invalid"]
    assert only(reach.replace("Poll", "datapush").format("{}"))["campaignType"] == "DataPush"
    assert only(reach.replace("content-actioned", "replied").format(""))["status"] == "content-actioned"


@pytest.mark.parametrize(
    ("element", "reason"),
    [
        ("<wave id='1'/>", "not_supported"),
        ("<event xmlns='urn:other' id='1' name='n'/>", "not_supported"),
        ("<reach kind='postcard' contentid='c' status='delivered'/>", "not_supported"),
        ("<reach kind='poll' contentid='c' status='eaten'/>", "field_invalid"),
        ("<reach kind='poll' status='delivered'/>", "field_missing"),
        ("<event id='1'/>", "field_missing"),
        ("<crash id='1'>at x</crash>", "field_missing"),
        ("<startSession/>", "field_missing"),
        (f"<event id='1' name='{'x' * 65}'/>", "name_invalid"),
        ("<event id='1' name='n' toffset='soon'/>", "field_invalid"),
        ("<event id='1' name='n' toffset='-5'/>", "field_invalid"),
        ("<event id='1' name='n' toffset='999999999999999'/>", "field_invalid"),
        ("<event id='1' name='n' toffset='1000000000000'/>", "time_out_of_range"),
        ("<event id='1' name='n'><x>[1]</x></event>", "extras_invalid"),
        ("<event id='1' name='n'><x>{</x></event>", "extras_invalid"),
        ("<event id='1' name='n'><x>{\"a b\":1}</x></event>", "extras_invalid"),
        (f"<event id='1' name='n'><x>{json.dumps({'a': 'x' * 1024})}</x></event>", "extras_too_long"),
        (f"<appInfo>{json.dumps({'a': 'x' * 1024})}</appInfo>", "tag_invalid"),
        ("<appInfo>plan</appInfo>", "tag_invalid"),
        ("<info id='1'>[]</info>", "field_invalid"),
        ('<info id=\'1\'>{"applicationVersionCode":"x"}</info>', "field_invalid"),
    ],
)
def test_an_element_that_breaks_a_rule_costs_only_itself(element: str, reason: str, tmp_path: Path) -> None:
    parsed = say("<idle id='before'/>", element, "<idle id='after'/>")
    assert [r.id for r in parsed.records] == ["before", "after"]
    assert reasons(parsed) == [reason]
    assert_storable(parsed, tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"<log/>",
        b"<log xmlns='urn:ubikod:ermin:0'>",
        b"<?xml version='1.0' encoding='none'?><log/>",
        b"<!DOCTYPE log [<!ENTITY a 'b'>]>" + log("<idle id='&a;'/>"),
        b"<!DOCTYPE log [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>" + log("<event id='1' name='n'><x>&a;</x></event>"),
        log("<a>" * 50 + "</a>" * 50),
        log("<a/>" * 100_000),
    ],
    ids=lambda body: repr(body[:24]),
)  # fmt: skip
def test_a_body_that_is_no_log_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        azme_web.skim(body)
    parsed = read("azme_web", body)
    assert parsed.records == []
    assert reasons(parsed) == ["malformed"]
    assert parsed.rejects[0].raw == body.decode()


def test_without_a_device_nothing_can_be_taken() -> None:
    assert reasons(say("<idle id='1'/>", device_id=None)) == ["field_missing"]


texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"),
    max_size=70,
)


@st.composite
def elements(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(ELEMENTS))
    keys = [
        "id",
        "sid",
        "infoid",
        "jobid",
        "locid",
        "crashid",
        "name",
        "kind",
        "contentid",
        "status",
        "toffset",
        "repost",
    ]
    known = st.sampled_from(["poll", "announcement", "delivered", "true", "12", "1"])
    attributes = draw(st.dictionaries(st.sampled_from(keys), known | texts))
    told = " ".join(f'{key}="{escape(value, {chr(34): "&quot;"})}"' for key, value in attributes.items())
    content = escape(draw(st.dictionaries(texts, values, max_size=3).map(json.dumps) | texts))
    inner = draw(st.sampled_from([content, f"<x>{content}</x>", ""]))
    return f"<{name} {told}>{inner}</{name}>"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(elements(), max_size=4))
def test_any_elements_can_be_stored_or_set_aside(tmp_path: Path, sent: list[str]) -> None:
    assert azme_web.skim(log(*sent)) == len(sent)
    parsed = say(*sent)
    silent = sum(element.startswith("<appInfo") for element in sent)
    assert len(parsed.records) + len(parsed.rejects) >= len(sent) - silent
    assert_storable(parsed, tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutated([body_of(f"azme_web-{name}") for name in NAMES]))
def test_damaged_logs_can_be_stored_or_set_aside(tmp_path: Path, body: bytes) -> None:
    assert_storable(read("azme_web", body), tmp_path)
