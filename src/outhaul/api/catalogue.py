"""What is there to export: kinds with their columns, and apps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outhaul import instants
from outhaul.api.exports import find_app
from outhaul.api.operations import Operation, reply
from outhaul.rest import AppList, AppShown, ColumnShown, KindList, KindShown
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
    )


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
        problems=("app_not_found", "conflict"),
    ),
)
