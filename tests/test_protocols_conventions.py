"""Events that mean jobs, errors and crashes by their names, in protocols that have none of these."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from outhaul.protocols.conventions import Happening, Names, meant
from outhaul.records import Invalid

T = 1_795_458_600_000
SHARED = {"device_id": "d1", "id": "m1", "session_id": "s1"}


def told(name: Any, properties: dict[str, Any], **given: Any) -> Any:
    record = meant(Happening(name=name, properties=properties, time=T, shared=SHARED), **given)
    return record and msgspec.to_builtins(record)


def test_a_job_starts_and_ends_under_its_own_id():
    assert told("Job Started", {"job_id": 7, "job_name": "sync", "n 1": 1, "duration": 3}) == {
        "kind": "job",
        "deviceId": "d1",
        "id": "7",
        "sessionId": "s1",
        "name": "sync",
        "startTime": T,
        "extras": {"n_1": 1, "duration": 3},
    }
    assert told("Job Ended", {"job_id": 7, "duration": 3}) == {
        "kind": "jobEnd",
        "deviceId": "d1",
        "id": "m1",
        "jobId": "7",
        "timestamp": T,
    }


def test_a_job_may_be_told_whole_by_its_duration():
    assert told("Job Ended", {"name": "sync", "duration": 1.5, "size": 2}) == {
        "kind": "job",
        "deviceId": "d1",
        "id": "m1",
        "sessionId": "s1",
        "name": "sync",
        "startTime": T - 1500,
        "endTime": T,
        "extras": {"name": "sync", "size": 2},
    }


@pytest.mark.parametrize(
    ("name", "properties"),
    [
        ("tap", {"job_id": "7"}),
        ("Job Started", {"name": "no id"}),
        ("Job Ended", {}),
        ("Job Ended", {"name": "sync", "duration": "long"}),
        ("Job Ended", {"name": "sync", "duration": -1}),
        ("Job Ended", {"name": "sync", "duration": True}),
        (None, {}),
        ({"a": []}, {}),
    ],
)
def test_what_is_not_agreed_is_just_an_event(name, properties):
    assert told(name, properties) is None


def test_a_job_needs_a_name():
    for name, properties in (("Job Started", {"job_id": "7"}), ("Job Ended", {"duration": 3})):
        with pytest.raises(Invalid, match="job_name"):
            told(name, properties)


def test_errors_and_crashes():
    error = told("Error", {"name": "io", "code": 5})
    assert (error["kind"], error["name"], error["extras"]) == ("error", "io", {"name": "io", "code": 5})
    assert told("Error", {})["name"] == "Error"
    crash = meant(
        Happening(
            name="Application Crashed",
            properties={"type": "NPE", "stackTrace": ["at x"]},
            time=T,
            shared=SHARED,
            device=lambda: {"phone_model": "Pixel 8"},
        )
    )
    assert (crash.type, crash.stack_trace, crash.phone_model) == ("NPE", '["at x"]', "Pixel 8")
    assert told("Application Crashed", {})["type"] == "Application Crashed"


def test_other_names_may_be_agreed_on():
    names = Names(error=frozenset({"oops", "failed"}))
    assert told("oops", {}, names=names)["kind"] == "error"
    assert told("Error", {}, names=names) is None
    assert told("Application Crashed", {}, names=names)["kind"] == "crash"
