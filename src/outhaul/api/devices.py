"""Devices of an app as they are now: looked at, searched, tagged.

The audit log says of whose app, not of which device: what is forgotten of a person must not live on there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from outhaul import instants
from outhaul.api.exports import find_app
from outhaul.api.operations import Operation, reply
from outhaul.api.paging import DEFAULT_SIZE, page_token, read_page_token
from outhaul.api.tags import check_value
from outhaul.errors import Invalid, NotFound
from outhaul.records import Id  # noqa: TC001  msgspec resolves it at run time
from outhaul.rest import (
    MAX_TAGGED,
    DeviceList,
    DeviceShown,
    PushToken,
    Tagged,
    Tagging,
    TagShown,
    TagValues,
    UserShown,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.responses import Response

    from outhaul.api.operations import Call
    from outhaul.ledger.ledger import App
    from outhaul.tables import Device

EXAMINED = 1000
"""Devices that one request looks at in search of a tag."""

_SENDER = "outhaul-api"
_TAGGING_BYTES = 4 * 1024 * 1024
_OF_APP = ("app_not_found", "conflict")


class DevicesQuery(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Which devices a list holds."""

    tag: (
        Annotated[str, Meta(min_length=1, max_length=1089, description="`key:value`, or `key`: any value.")]
        | None
    ) = None
    user_id: Annotated[Id, Meta(description="Devices whose user this is now.")] | None = None
    page_size: Annotated[int, Meta(ge=1, le=100, description="How many devices a page holds at most.")] = (
        DEFAULT_SIZE
    )
    page_token: (
        Annotated[str, Meta(max_length=4096, description="`nextPageToken` of the page before.")] | None
    ) = None


class _End(Struct, frozen=True, tag="devices"):
    """Where a page ended: the last device that was looked at."""

    id: str


async def list_devices(call: Call) -> Response:
    """A page of devices, in order of their ids."""
    query: DevicesQuery = call.query
    door = call.door
    app = await find_app(call, call.names["app"])
    end = read_page_token(door.keyring, query.page_token, _End)
    after = end.id if end else ""
    if query.user_id is None:
        top = query.page_size + 1 if query.tag is None else EXAMINED
        looked_at = await door.devices.page(app.app_id, after, top)
        more = len(looked_at) == top
    else:
        owned = await door.devices.of_user(app.app_id, query.user_id)
        looked_at = sorted(
            (one for one in owned if one.device_id > after), key=lambda device: device.device_id
        )
        more = False
    found, last = _chosen(looked_at, query.tag, query.page_size)
    if last is None and more:
        last = looked_at[-1].device_id
    await _audit(call, "device.list", app)
    token = None if last is None else page_token(door.keyring, _End(last))
    return reply(DeviceList(devices=[_show(device) for device in found], next_page_token=token))


async def get(call: Call) -> Response:
    """One device."""
    app = await find_app(call, call.names["app"])
    asked = call.names["id"]
    found = await call.door.devices.get(app.app_id, [asked])
    await _audit(call, "device.read", app)
    if asked not in found:
        raise NotFound(f"{app.name} has no device {asked[:80]!r}.", hint="Nothing of it has arrived.")
    return reply(_show(found[asked]))


async def user(call: Call) -> Response:
    """The devices of a user."""
    app = await find_app(call, call.names["app"])
    asked = call.names["id"]
    owned = await call.door.devices.of_user(app.app_id, asked)
    await _audit(call, "user.read", app)
    if not owned:
        raise NotFound(f"{app.name} has no user {asked[:80]!r}.", hint="No device has it as `userid` now.")
    return reply(UserShown(user_id=asked, devices=[_show(device) for device in owned]))


async def tag(call: Call) -> Response:
    """Set and remove tags of many devices."""
    asked: Tagging = call.body
    door = call.door
    if (asked.devices is None) == (asked.users is None):
        raise Invalid("devices: it goes without users, or users without it.", hint="Give one of them.")
    app = await find_app(call, call.names["app"])
    given = asked.devices or asked.users or {}
    await _check(call, app, "users" if asked.devices is None else "devices", given)
    if asked.devices is None:
        of = await door.devices.of_users(app.app_id, given)
    else:
        of = {key: [device] for key, device in (await door.devices.get(app.app_id, given)).items()}
    known = {device.device_id: device for devices in of.values() for device in devices}
    tags = {device.device_id: given[one] for one, devices in of.items() for device in devices}
    await door.devices.tag(app.app_id, tags, _SENDER, known)
    await _audit(call, "device.tag", app)
    return reply(Tagged(devices=len(tags), unknown=[one for one in given if one not in of]))


async def _check(call: Call, app: App, member: str, given: dict[str, TagValues]) -> None:
    """Let values pass that are of the types declared."""
    declared = await asyncio.to_thread(call.door.ledger.tags, app.app_id)
    types = {one.key: one.type for one in declared}
    for one, values in given.items():
        for key, value in values.items():
            if value is not None and key in types:
                check_value(f"{member}.{one[:80]}.{key}", value, types[key])


def _chosen(devices: Iterable[Device], tag: str | None, top: int) -> tuple[list[Device], str | None]:
    """At most `top` devices with a tag, and the last one looked at if there may be more."""
    found: list[Device] = []
    last = None
    for device in devices:
        if len(found) == top:
            return found, last
        if tag is None or _has(device, tag):
            found.append(device)
        last = device.device_id
    return found, None


def _has(device: Device, tag: str) -> bool:
    # No key has a colon in it.
    key, colon, value = tag.partition(":")
    mine = device.tags.get(key)
    return mine is not None and (not colon or mine.value == value)


async def _audit(call: Call, action: str, app: App) -> None:
    await call.door.access.audit(call.caller, action, app.app_id, app.app_id, call.request_id)


def _show(device: Device) -> DeviceShown:
    return DeviceShown(
        device_id=device.device_id,
        user_id=device.user_id,
        first_seen=instants.show(device.first_seen),
        last_seen=instants.show(device.last_seen),
        last_info=_instant(device.last_info),
        last_location=_instant(device.last_location),
        native_push_enabled=device.native_push_enabled,
        info=device.info,
        area=device.area,
        tags={
            key: TagShown(value=one.value, last_modified=instants.show(one.last_modified))
            for key, one in device.tags.items()
        },
        tokens=[
            PushToken(service=one.service, token=one.token, registered_at=instants.show(one.registered_at))
            for one in device.tokens
        ],
    )


def _instant(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else instants.show(milliseconds)


OPERATIONS = (
    Operation(
        "GET",
        "/apps/{app}/devices",
        "listDevices",
        "List devices, or those with a tag or of a user",
        list_devices,
        "data:read",
        query=DevicesQuery,
        answer=DeviceList,
        help=(
            f"In search of a tag one request looks at {EXAMINED} devices: a page can be empty and have a "
            "`nextPageToken` all the same."
        ),
        problems=(*_OF_APP, "too_large"),
    ),
    Operation(
        "GET",
        "/apps/{app}/devices/{id:path}",
        "getDevice",
        "Look at a device",
        get,
        "data:read",
        answer=DeviceShown,
        help="What was acknowledged before is in the answer.",
        problems=(*_OF_APP, "not_found"),
    ),
    Operation(
        "POST",
        "/apps/{app}/devices:tag",
        "tagDevices",
        "Set and remove tags of devices, or of users",
        tag,
        "data:write",
        body=Tagging,
        body_limit=_TAGGING_BYTES,
        answer=Tagged,
        help=(
            f"Of up to {MAX_TAGGED} ids, in a body of up to 4 MiB. What is wrong with any value is an error, and then "
            "nothing is set. What was set is in every answer and in every export asked for after this answer."
        ),
        problems=_OF_APP,
        example={"devices": {"5f0c": {"plan": "pro", "trial": None}}},
    ),
    Operation(
        "GET",
        "/apps/{app}/users/{id:path}",
        "getUser",
        "Look at the devices of a user",
        user,
        "data:read",
        answer=UserShown,
        problems=(*_OF_APP, "not_found", "too_large"),
    ),
)
