"""Erasing a person: nothing of them is left in the data folder, and everybody else's records stay as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from erasing import erase, traces
from landing import Site, T, event, every_kind

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
