"""Collections of apps: made, disabled with all of their apps, enabled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outhaul import instants
from outhaul.api.operations import PREFIX, Operation, reply
from outhaul.errors import Forbidden, NotFound
from outhaul.rest import CollectionList, CollectionShown, NewCollection

if TYPE_CHECKING:
    from starlette.responses import Response

    from outhaul.api.operations import Call
    from outhaul.ledger.ledger import App, Collection


async def collections(call: Call) -> Response:
    """The collections that the caller may know of."""
    known = await _apps(call)
    found = await asyncio.to_thread(call.door.ledger.collections)
    bound = call.caller.app_id
    await call.door.access.audit(call.caller, "collection.list", bound or "", bound, call.request_id)
    mine = [one for one in found if bound is None or _in(one, known)]
    return reply(CollectionList(collections=[_show(one, known) for one in mine]))


async def collection(call: Call) -> Response:
    """One collection."""
    found = await _find(call)
    await _audit(call, "collection.read", found)
    return reply(_show(found, await _apps(call)))


async def create(call: Call) -> Response:
    """Make a collection."""
    asked: NewCollection = call.body
    _check_reach(call)
    made = await asyncio.to_thread(call.door.ledger.create_collection, asked.name, call.door.now())
    await _audit(call, "collection.create", made)
    return reply(_show(made, []), 201)


async def disable(call: Call) -> Response:
    """Take nothing from the devices of all apps in a collection."""
    found = await _find(call)
    _check_reach(call)
    disabled = await asyncio.to_thread(call.door.ledger.disable_collection, found.name, call.door.now())
    call.door.apps_changed()
    await _audit(call, "collection.disable", found)
    return reply(_show(disabled, await _apps(call)))


async def enable(call: Call) -> Response:
    """Take again what the devices of all apps in a collection send, but for apps that are disabled themselves."""
    found = await _find(call)
    _check_reach(call)
    enabled = await asyncio.to_thread(call.door.ledger.enable_collection, found.name)
    call.door.apps_changed()
    await _audit(call, "collection.enable", found)
    return reply(_show(enabled, await _apps(call)))


async def _find(call: Call) -> Collection:
    """The collection that the path names, if the caller may know of it.

    Raises:
        NotFound: there is none, for this caller.
    """
    asked = call.names["name"]
    missing = NotFound(
        f"There is no collection {asked[:80]!r}.",
        hint=f"Capitals matter. GET {PREFIX}/collections lists them.",
        code="collection_not_found",
    )
    try:
        found = await asyncio.to_thread(call.door.ledger.collection, asked)
    except NotFound:
        raise missing from None
    if call.caller.app_id is not None and not _in(found, await _apps(call)):
        raise missing
    return found


async def _apps(call: Call) -> list[App]:
    """The apps that the caller may know of."""
    bound = call.caller.app_id
    return [
        app for app in await asyncio.to_thread(call.door.ledger.apps) if bound is None or app.app_id == bound
    ]


def _check_reach(call: Call) -> None:
    """Let who is for all apps pass: others' apps may be in a collection, or come into it."""
    if call.caller.app_id is not None:
        raise Forbidden(
            f"{call.caller.actor} is for one app, and a collection can hold others.",
            hint="Use a token for all apps, or disable and enable the app.",
        )


def _in(collection: Collection, apps: list[App]) -> bool:
    return any(app.app_collection == collection.name for app in apps)


def _show(collection: Collection, apps: list[App]) -> CollectionShown:
    return CollectionShown(
        name=collection.name,
        apps=[app.app_id for app in apps if app.app_collection == collection.name],
        created_at=instants.show(collection.created_at),
        disabled_at=None if collection.disabled_at is None else instants.show(collection.disabled_at),
    )


async def _audit(call: Call, action: str, collection: Collection) -> None:
    await call.door.access.audit(call.caller, action, collection.name, call.caller.app_id, call.request_id)


_OF_COLLECTION = ("collection_not_found",)

OPERATIONS = (
    Operation(
        "GET",
        "/collections",
        "listCollections",
        "List collections of apps, those without apps too",
        collections,
        "apps:read",
        answer=CollectionList,
    ),
    Operation(
        "GET",
        "/collections/{name}",
        "getCollection",
        "Look at a collection",
        collection,
        "apps:read",
        answer=CollectionShown,
        problems=_OF_COLLECTION,
    ),
    Operation(
        "POST",
        "/collections",
        "createCollection",
        "Make a collection, with no apps in it yet",
        create,
        "apps:write",
        body=NewCollection,
        answer=CollectionShown,
        status=201,
        help="An app comes into it when it is registered with its name; one that is registered without makes its own.",
        problems=("conflict",),
        example={"name": "Games"},
    ),
    Operation(
        "POST",
        "/collections/{name}:disable",
        "disableCollection",
        "Take nothing from the devices of all apps in a collection",
        disable,
        "apps:write",
        answer=CollectionShown,
        help="Each is as disabled by itself, and so are apps that come into it while it is.",
        problems=_OF_COLLECTION,
    ),
    Operation(
        "POST",
        "/collections/{name}:enable",
        "enableCollection",
        "Take again what the devices of all apps in a collection send",
        enable,
        "apps:write",
        answer=CollectionShown,
        help="Apps that were disabled by themselves stay so.",
        problems=_OF_COLLECTION,
    ),
)
