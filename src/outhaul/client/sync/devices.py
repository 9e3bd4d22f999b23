# Made from the module of the same name in `aio` by `python -m outhaul.client.generate`; edit that one.
"""Devices of an app, their users, their tags, and what types tags are declared to be of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul.client.requests import quoted
from outhaul.rest import (
    DeviceList,
    DeviceShown,
    NewTag,
    TagDeclared,
    Tagged,
    Tagging,
    TagList,
    UserShown,
)

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Mapping

    from outhaul.client.sync.connection import Connection
    from outhaul.wire import TagType

    Values = Mapping[str, Mapping[str, str | None]]


class Devices:
    """Devices of an app, which is given by its name or its id. What was acknowledged before is in every answer."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, app: str, device_id: str) -> DeviceShown:
        """One device."""
        return self._connection.get(f"{_path(app)}/devices/{quoted(device_id)}", DeviceShown)

    def list(self, app: str, *, tag: str | None = None, user_id: str | None = None) -> Iterator[DeviceShown]:
        """Devices in order of their ids: all, or those with a tag (`key:value` or `key`) or of a user, or both.

        Pages are fetched as they are needed. A search by tag looks at every device of the app in the end.
        """
        given = {"tag": tag, "userId": user_id, "pageSize": "100"}
        params: dict[str, str] = {name: value for name, value in given.items() if value is not None}
        while True:
            page = self._connection.get(f"{_path(app)}/devices", DeviceList, params)
            yield from page.devices
            if page.next_page_token is None:
                return
            params["pageToken"] = page.next_page_token

    def of_user(self, app: str, user_id: str) -> builtins.list[DeviceShown]:
        """The devices whose `userid` tag this is now, the one seen last first; none at all is `NotFound`."""
        return (self._connection.get(f"{_path(app)}/users/{quoted(user_id)}", UserShown)).devices

    def tag(self, app: str, devices: Values) -> Tagged:
        """Set tags by device and key; None removes one. If anything is wrong, nothing is set."""
        return self._tag(app, Tagging(devices=_plain(devices)))

    def tag_users(self, app: str, users: Values) -> Tagged:
        """The same by user: all of a user's devices get the tags."""
        return self._tag(app, Tagging(users=_plain(users)))

    def _tag(self, app: str, body: Tagging) -> Tagged:
        return self._connection.tell("POST", f"{_path(app)}/devices:tag", Tagged, body=body, repeat=True)


class Tags:
    """Declared tags of an app, which is given by its name or its id."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, app: str) -> builtins.list[TagDeclared]:
        return (self._connection.get(f"{_path(app)}/tags", TagList)).tags

    def get(self, app: str, key: str) -> TagDeclared:
        return self._connection.get(f"{_path(app)}/tags/{quoted(key)}", TagDeclared)

    def declare(self, app: str, key: str, of_type: TagType) -> TagDeclared:
        """Say of which type a tag is, or that it is of another from now on."""
        path = f"{_path(app)}/tags/{quoted(key)}"
        return self._connection.tell("PUT", path, TagDeclared, body=NewTag(type=of_type), repeat=True)

    def remove(self, app: str, key: str) -> TagDeclared:
        """Take back a declaration, which is returned; values of the tag stay.

        When the answer is lost (`Unreachable`), it may be gone.
        """
        path = f"{_path(app)}/tags/{quoted(key)}"
        return self._connection.tell("DELETE", path, TagDeclared, repeat=False)


def _path(app: str) -> str:
    return f"/apps/{quoted(app)}"


def _plain(tags: Values) -> dict[str, dict[str, str | None]]:
    return {one: dict(values) for one, values in tags.items()}
