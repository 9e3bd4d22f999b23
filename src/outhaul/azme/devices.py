"""The operations on devices and users: look at them, list them, tag them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from outhaul.azme.bodies import read_shape
from outhaul.azme.filters import Selection, meta_of, read_filter, read_selection
from outhaul.azme.paging import link, read_devices_top
from outhaul.azme.reply import Reply, json_reply
from outhaul.azme.resources import app_path
from outhaul.azme.shapes import (
    Device,
    DeviceQueryResult,
    DevicesQueryResult,
    DeviceTagsParameters,
    DeviceTagsResult,
)
from outhaul.errors import Invalid, NotFound, TooLarge
from outhaul.records import Key, TagValue

if TYPE_CHECKING:
    from outhaul import devices, tables
    from outhaul.azme.call import Call
    from outhaul.azme.filters import Filter
    from outhaul.azme.resources import Resources

EXAMINED = 5000
"""Devices that one request looks at: where few of them match, a page has fewer than asked for, or none."""
IDS = 1000
"""Devices, or users, that are tagged by one request."""

_PAGE = 1000
_SENDER = "azme"

Values = dict[str, str | None]
Tags = dict[Key, TagValue | None]


class Devices:
    """The audit log says that devices were looked at or tagged, but not which: an id is a person's."""

    def __init__(self, resources: Resources, register: devices.Register) -> None:
        self._resources = resources
        self._register = register

    async def get(self, call: Call) -> Reply:
        app = await self._resources.find_app(call.names)
        device_id = call.names["device"]
        found = await self._register.get(app.app_id, [device_id])
        if device_id not in found:
            raise _missing("device", device_id)
        await call.record("device.read", app.app_id, app.app_id)
        return json_reply(200, _shown(found[device_id]))

    async def get_by_user(self, call: Call) -> Reply:
        """The device of a user; of several the one seen last."""
        app = await self._resources.find_app(call.names)
        found = await self._register.of_user(app.app_id, call.names["user"])
        if not found:
            raise _missing("user", call.names["user"])
        await call.record("device.read", app.app_id, app.app_id)
        return json_reply(200, _shown(found[0]))

    async def list(self, call: Call) -> Reply:
        app = await self._resources.find_app(call.names)
        query = call.request.query
        top = read_devices_top(query)
        selection = read_selection(query.get("$select"))
        within = read_filter(query.get("$filter"))
        found, examined_to = await _find(self._register, app.app_id, within, selection, top)
        options = {"$top": str(top)} if "$top" in query else {}
        if "$select" in query:
            options["$select"] = query["$select"]
        next_link = None
        if examined_to is not None:
            options["$filter"] = within.after(examined_to).text()
            next_link = link(call.request.base, f"{app_path(app, call.installation)}/devices", options)
        await call.record("device.list", app.app_id, app.app_id)
        return json_reply(200, DevicesQueryResult(value=found, next_link=next_link))

    async def tag(self, call: Call) -> Reply:
        app = await self._resources.find_app(call.names)
        tags = await _read_tags(call)
        known = await self._register.get(app.app_id, tags)
        wanted = {device_id: values for device_id, values in tags.items() if device_id in known}
        await self._register.tag(app.app_id, wanted, _SENDER, known)
        await call.record("device.tag", app.app_id, app.app_id)
        return _tagged(tags, known)

    async def tag_by_user(self, call: Call) -> Reply:
        """Tag all devices of users."""
        app = await self._resources.find_app(call.names)
        tags = await _read_tags(call)
        known = await self._register.of_users(app.app_id, tags)
        owned = {device.device_id: device for owners in known.values() for device in owners}
        wanted = {device.device_id: tags[user] for user, owners in known.items() for device in owners}
        await self._register.tag(app.app_id, wanted, _SENDER, owned)
        await call.record("device.tag", app.app_id, app.app_id)
        return _tagged(tags, known)


async def _find(
    register: devices.Register, app_id: str, within: Filter, selection: Selection, top: int
) -> tuple[list[DeviceQueryResult], str | None]:
    """A page, and the device to go on after unless that was the last page."""
    found: list[DeviceQueryResult] = []
    if within.never:
        return found, None
    after, out = within.low
    # Where every device is shown, one more than the page tells whether there is a next one.
    size = top + 1 if selection == Selection() and not within.by_time else _PAGE
    examined = 0
    async for page in register.pages(app_id, after, size, within.before, including=not out):
        for device in page:
            item = _listed(device, within, selection)
            if item is None:
                continue
            if len(found) == top:
                return found, found[-1].device_id
            found.append(item)
        examined += len(page)
        if examined >= EXAMINED:
            return found, page[-1].device_id
    return found, None


def _tagged(tags: dict[str, Values], known: dict[str, Any]) -> Reply:
    return json_reply(200, DeviceTagsResult(invalid_ids=[name for name in tags if name not in known]))


async def _read_tags(call: Call) -> dict[str, Values]:
    """What a request sets and removes, by device or user, with all of it checked before any is done.

    A null is left out where nulls do not delete: the old API never said what it did then.
    """
    content_type = call.request.headers.get("content-type", "")
    body = read_shape(await call.request.body(), content_type, DeviceTagsParameters)
    if len(body.tags) > IDS:
        raise TooLarge(f"The request has {len(body.tags)} ids.", hint=f"Send up to {IDS} in one request.")
    for name, values in body.tags.items():
        _check_values(name, values)
    return {
        name: {key: value for key, value in values.items() if value is not None or body.delete_on_null}
        for name, values in body.tags.items()
    }


def _check_values(name: str, values: Any) -> None:
    if _fits(values, Tags):
        return
    if not isinstance(values, dict):
        raise Invalid(f"tags: {name[:80]!r} has no object.", hint="Give it an object of keys and values.")
    for key, value in values.items():
        if not _fits(key, Key):
            raise Invalid(
                f"tags: {name[:80]!r} has the key {key[:80]!r}.",
                hint="A key is a letter, then letters, digits or _, 64 characters in all.",
            )
        if not _fits(value, TagValue | None):
            raise Invalid(
                f"tags: {key} of {name[:80]!r} has a value it cannot have.",
                hint="A value is a string of up to 1,024 characters, or null.",
            )


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _shown(device: tables.Device) -> Device:
    return Device(
        device_id=device.device_id,
        meta=meta_of(device),
        info=device.info,
        location=device.area,
        app_info={key: tag.value for key, tag in device.tags.items()},
    )


def _listed(device: tables.Device, within: Filter, selection: Selection) -> DeviceQueryResult | None:
    """The device with what was asked for, or None if it has nothing of it."""
    meta = selection.of_meta(device, within)
    app_info = selection.of_app_info(device, within)
    if not meta and not app_info:
        return None
    return DeviceQueryResult(device_id=device.device_id, meta=meta or None, app_info=app_info or None)


def _missing(what: str, name: str) -> NotFound:
    return NotFound(
        f"There is no {what} {name[:80]!r} in this app.", hint="Ids are compared with their case."
    )
