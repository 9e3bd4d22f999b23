"""Devices and users as they are now, and what sets their tags."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from outhaul.records import Id, Key, TagValue
from outhaul.rest.base import Answered, Asked

MAX_TAGGED = 10_000
"""Devices or users that one request may tag."""


class TagShown(Answered, frozen=True):
    """A tag of a device, and when it was set."""

    value: str
    last_modified: str


class PushToken(Answered, frozen=True):
    """A push token that is valid."""

    service: str
    token: str
    registered_at: str


class DeviceShown(Answered, frozen=True):
    """A device as it is now; `info` and `area` hold what is known of it, by the names of the columns of exports."""

    device_id: str
    user_id: str | None
    first_seen: str
    last_seen: str
    last_info: str | None
    last_location: str | None
    native_push_enabled: bool
    info: dict[str, str | int]
    area: dict[str, str]
    tags: dict[str, TagShown]
    tokens: list[PushToken]


class DeviceList(Answered, frozen=True):
    """A page of devices, in order of their ids; `nextPageToken` is null on the last page."""

    devices: list[DeviceShown]
    next_page_token: str | None


class UserShown(Answered, frozen=True):
    """The devices whose user this is now, the one seen last first."""

    user_id: str
    devices: list[DeviceShown]


TagValues = dict[Key, TagValue | None]
"""Values by key; null removes a tag."""


class Tagging(Asked, frozen=True):
    """Tags to be set, by the ids of `devices` or of `users`, whose devices then all get them; null removes a tag."""

    devices: Annotated[dict[Id, TagValues], Meta(max_length=MAX_TAGGED)] | None = None
    users: Annotated[dict[Id, TagValues], Meta(max_length=MAX_TAGGED)] | None = None


class Tagged(Answered, frozen=True):
    """How many `devices` got tags, and which ids are of no device or user."""

    devices: int
    unknown: list[str]
