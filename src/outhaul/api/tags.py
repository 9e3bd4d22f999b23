"""Declared tags of an app: of which type the values of each are meant to be."""

from __future__ import annotations

import asyncio
import re
from datetime import date
from typing import TYPE_CHECKING

from outhaul import instants
from outhaul.api.exports import find_app
from outhaul.api.operations import Operation, reply
from outhaul.errors import Invalid, NotFound
from outhaul.records import KEY_PATTERN
from outhaul.rest import NewTag, TagDeclared, TagList

if TYPE_CHECKING:
    from starlette.responses import Response

    from outhaul.api.operations import Call
    from outhaul.ledger.ledger import App, TagDeclaration
    from outhaul.wire import TagType

_MEANINGS: dict[TagType, str] = {
    "string": "any text",
    "integer": "digits, with a minus before them or not, 18 at most",
    "date": "a date such as 2026-11-23",
    "boolean": "true or false",
}
_PATTERNS: dict[TagType, re.Pattern[str]] = {
    "string": re.compile(r".*", re.DOTALL),
    "integer": re.compile(r"-?[0-9]{1,18}"),
    "date": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
    "boolean": re.compile(r"true|false"),
}
_OF_APP = ("app_not_found", "conflict")


def check_value(name: str, value: str, of_type: TagType) -> None:
    """Let the value of a tag pass that is of a type.

    Raises:
        Invalid: it is not, naming `name`.
    """
    fits = _PATTERNS[of_type].fullmatch(value) is not None
    if fits and of_type == "date":
        try:
            date.fromisoformat(value)
        except ValueError:
            fits = False
    if not fits:
        raise Invalid(
            f"{name}: {value[:80]!r} is not of the type {of_type} that the tag was declared to be.",
            hint=f"It takes {_MEANINGS[of_type]}.",
        )


async def list_tags(call: Call) -> Response:
    """The declared tags of an app."""
    app = await find_app(call, call.names["app"])
    found = await asyncio.to_thread(call.door.ledger.tags, app.app_id)
    await _audit(call, "tag.list", app, app.app_id)
    return reply(TagList(tags=[_show(one) for one in found]))


async def get(call: Call) -> Response:
    """One declared tag."""
    app = await find_app(call, call.names["app"])
    key = call.names["key"]
    found = [one for one in await asyncio.to_thread(call.door.ledger.tags, app.app_id) if one.key == key]
    if not found:
        raise _missing(app, key)
    await _audit(call, "tag.read", app, f"{app.app_id}/{key}")
    return reply(_show(found[0]))


async def declare(call: Call) -> Response:
    """Say of which type a tag is."""
    asked: NewTag = call.body
    key = call.names["key"]
    if not re.fullmatch(KEY_PATTERN, key):
        raise Invalid(
            f"{key[:80]!r} cannot be the key of a tag.",
            hint="It takes a letter, then letters, digits or underscores, 64 in all.",
        )
    app = await find_app(call, call.names["app"])
    door = call.door
    declared = await asyncio.to_thread(door.ledger.declare_tag, app.app_id, key, asked.type, door.now())
    await _audit(call, "tag.declare", app, f"{app.app_id}/{key}")
    return reply(_show(declared))


async def remove(call: Call) -> Response:
    """Take a declaration back."""
    app = await find_app(call, call.names["app"])
    key = call.names["key"]
    removed = await asyncio.to_thread(call.door.ledger.remove_tag, app.app_id, key)
    if removed is None:
        raise _missing(app, key)
    await _audit(call, "tag.remove", app, f"{app.app_id}/{key}")
    return reply(_show(removed))


def _missing(app: App, key: str) -> NotFound:
    return NotFound(
        f"{app.name} has no declared tag {key[:80]!r}.", hint="A tag can have values without being declared."
    )


async def _audit(call: Call, action: str, app: App, target: str) -> None:
    await call.door.access.audit(call.caller, action, target, app.app_id, call.request_id)


def _show(declared: TagDeclaration) -> TagDeclared:
    return TagDeclared(key=declared.key, type=declared.type, declared_at=instants.show(declared.declared_at))


OPERATIONS = (
    Operation(
        "GET",
        "/apps/{app}/tags",
        "listTags",
        "List declared tags",
        list_tags,
        "data:read",
        answer=TagList,
        problems=_OF_APP,
    ),
    Operation(
        "GET",
        "/apps/{app}/tags/{key}",
        "getTag",
        "Look at a declared tag",
        get,
        "data:read",
        answer=TagDeclared,
        problems=(*_OF_APP, "not_found"),
    ),
    Operation(
        "PUT",
        "/apps/{app}/tags/{key}",
        "declareTag",
        "Declare of which type a tag is",
        declare,
        "data:write",
        body=NewTag,
        answer=TagDeclared,
        help="The type is in exports of tags asked for from then on, and checked where tags are set by this API.",
        problems=_OF_APP,
        example={"type": "integer"},
    ),
    Operation(
        "DELETE",
        "/apps/{app}/tags/{key}",
        "removeTag",
        "Take back the declaration of a tag; its values stay",
        remove,
        "data:write",
        answer=TagDeclared,
        problems=(*_OF_APP, "not_found"),
    ),
)
