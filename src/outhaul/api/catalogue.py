"""What is there to export: kinds with their columns, and apps, which are also made, disabled and enabled here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec import structs

from outhaul import instants
from outhaul.api.exports import find_app
from outhaul.api.operations import Operation, reply
from outhaul.errors import Forbidden
from outhaul.rest import AppList, AppShown, ColumnShown, KindList, KindShown, NewApp, RegisteredApp
from outhaul.schema import EXPORTS, Column, Export

if TYPE_CHECKING:
    from starlette.responses import Response

    from outhaul.api.operations import Call
    from outhaul.ledger.ledger import App


async def kinds(_call: Call) -> Response:
    """Every kind of export."""
    return reply(KindList(kinds=[_show_kind(export) for export in EXPORTS.values()]))


async def apps(call: Call) -> Response:
    """The apps that the caller may know of."""
    found = await asyncio.to_thread(call.door.ledger.apps)
    bound = call.caller.app_id
    await call.door.access.audit(call.caller, "app.list", bound or "", bound, call.request_id)
    return reply(AppList(apps=[_show_app(app) for app in found if bound in {None, app.app_id}]))


async def app(call: Call) -> Response:
    """One app."""
    found = await find_app(call, call.names["app"])
    await call.door.access.audit(call.caller, "app.read", found.app_id, found.app_id, call.request_id)
    return reply(_show_app(found))


async def create_app(call: Call) -> Response:
    """Register an app."""
    asked: NewApp = call.body
    door, caller = call.door, call.caller
    if caller.app_id is not None:
        raise Forbidden(
            f"{caller.actor} is for one app, so it can make no other.", hint="Use a token for all apps."
        )
    made = await asyncio.to_thread(
        door.ledger.create_app, asked.name, asked.platform, door.now(), asked.collection
    )
    door.apps_changed()
    await door.access.audit(caller, "app.create", made.app_id, made.app_id, call.request_id)
    return reply(RegisteredApp(**structs.asdict(_show_app(made)), sdk_key=made.sdk_key), 201)


async def disable_app(call: Call) -> Response:
    """Take nothing from an app's devices."""
    found = await find_app(call, call.names["app"])
    disabled = await asyncio.to_thread(call.door.ledger.disable_app, found.app_id, call.door.now())
    call.door.apps_changed()
    await call.door.access.audit(call.caller, "app.disable", found.app_id, found.app_id, call.request_id)
    return reply(_show_app(disabled))


async def enable_app(call: Call) -> Response:
    """Take what an app's devices send again."""
    found = await find_app(call, call.names["app"])
    enabled = await asyncio.to_thread(call.door.ledger.enable_app, found.app_id)
    call.door.apps_changed()
    await call.door.access.audit(call.caller, "app.enable", found.app_id, found.app_id, call.request_id)
    return reply(_show_app(enabled))


def _show_kind(export: Export) -> KindShown:
    return KindShown(
        kind=export.kind,
        dated=export.dated,
        help=export.help,
        columns=[
            *(_show_column(column, default=True) for column in export.columns),
            *(_show_column(column, default=False) for column in export.more),
        ],
    )


def _show_column(column: Column, *, default: bool) -> ColumnShown:
    return ColumnShown(
        name=column.name, type=column.type, required=column.required, default=default, help=column.help
    )


def _show_app(app: App) -> AppShown:
    return AppShown(
        app_id=app.app_id,
        name=app.name,
        platform=app.platform,
        app_collection=app.app_collection,
        app_name=app.app_name,
        created_at=instants.show(app.created_at),
        disabled_at=None if app.disabled_at is None else instants.show(app.disabled_at),
    )


_OF_APP = ("app_not_found", "conflict")

OPERATIONS = (
    Operation(
        "GET",
        "/kinds",
        "listKinds",
        "List kinds of export and their columns",
        kinds,
        "exports:read",
        answer=KindList,
    ),
    Operation("GET", "/apps", "listApps", "List apps", apps, "apps:read", answer=AppList),
    Operation(
        "GET",
        "/apps/{app}",
        "getApp",
        "Look at an app, by its name or its `appId`",
        app,
        "apps:read",
        answer=AppShown,
        problems=_OF_APP,
    ),
    Operation(
        "POST",
        "/apps",
        "createApp",
        "Register an app",
        create_app,
        "apps:write",
        body=NewApp,
        answer=RegisteredApp,
        status=201,
        help="The answer has the key that its devices send with.",
        problems=("conflict",),
        example={"name": "Shop", "platform": "android"},
    ),
    Operation(
        "POST",
        "/apps/{app}:disable",
        "disableApp",
        "Take nothing from an app's devices",
        disable_app,
        "apps:write",
        answer=AppShown,
        help=(
            "From now on its devices are answered as if it were not registered, and keep what they have. "
            "What is stored can be exported as before."
        ),
        problems=_OF_APP,
    ),
    Operation(
        "POST",
        "/apps/{app}:enable",
        "enableApp",
        "Take what an app's devices send again",
        enable_app,
        "apps:write",
        answer=AppShown,
        problems=_OF_APP,
    ),
)
