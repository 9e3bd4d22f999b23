"""What has an address: the subscription, the tenant, app collections, apps. One of each of the first two."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

from outhaul.azme.bodies import read_shape
from outhaul.azme.reply import Reply, json_reply
from outhaul.azme.shapes import (
    AppCollectionNameAvailability,
    Resource,
    ResourceListResult,
    Subscription,
    SubscriptionListResult,
    SupportedPlatformsListResult,
    Tenant,
    TenantListResult,
)
from outhaul.errors import NotFound
from outhaul.ledger.ledger import PLATFORMS, RESOURCE_GROUP
from outhaul.ledger.store import name_complaint

if TYPE_CHECKING:
    from outhaul.azme.call import Call
    from outhaul.ledger.ledger import App, Installation, Ledger

PROVIDER = "Microsoft.MobileEngagement"
_LOCATION = "global"
"""A resource must have a location; this is Azure's word for one without a region."""


class Resources:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def subscriptions(self, call: Call) -> Reply:
        known = call.installation.subscription_id
        subscription = Subscription(f"/subscriptions/{known}", known, "Outhaul", "Enabled")
        return json_reply(200, SubscriptionListResult([subscription]))

    async def tenants(self, call: Call) -> Reply:
        known = call.installation.tenant_id
        return json_reply(200, TenantListResult([Tenant(f"/tenants/{known}", known)]))

    async def registration(self, _call: Call) -> Reply:
        """Azure's clients register a provider before they first use it; here it always is."""
        return json_reply(200, {"namespace": PROVIDER, "registrationState": "Registered"})

    async def platforms(self, _call: Call) -> Reply:
        return json_reply(200, SupportedPlatformsListResult(list(PLATFORMS)))

    async def collections(self, call: Call) -> Reply:
        found = await asyncio.to_thread(self._ledger.collections)
        resources = [
            Resource(
                id=_collection_path(RESOURCE_GROUP, collection.name, call.installation),
                name=collection.name,
                type=f"{PROVIDER}/appcollections",
                location=_LOCATION,
                properties={"provisioningState": "Succeeded"},
            )
            for collection in sorted(found, key=lambda collection: collection.created_at)
        ]
        await call.record("app.list", "")
        return json_reply(200, ResourceListResult(resources))

    async def check_name(self, call: Call) -> Reply:
        """Whether an app collection could be made under a name; names differ by more than case."""
        content_type = call.request.headers.get("content-type", "")
        name = read_shape(await call.request.body(), content_type, AppCollectionNameAvailability).name
        taken = {one.name.lower() for one in await asyncio.to_thread(self._ledger.collections)}
        reason = "The name is taken." if name.lower() in taken else name_complaint(name)
        answer = AppCollectionNameAvailability(
            name=name, available=reason is None, unavailability_reason=reason
        )
        return json_reply(200, answer)

    async def apps(self, call: Call) -> Reply:
        resources = [
            Resource(
                id=app_path(app, call.installation),
                name=app.app_name,
                type=f"{PROVIDER}/appcollections/apps",
                location=_LOCATION,
                properties={
                    "backendId": app.app_id,
                    "platform": app.platform,
                    "appState": "Enabled" if app.disabled_at is None else "Disabled",
                },
            )
            for app in await self._collection(call.names)
        ]
        await call.record("app.list", call.names["collection"])
        return json_reply(200, ResourceListResult(resources))

    async def find_app(self, names: dict[str, str]) -> App:
        """The app a path names, its names compared without regard to case.

        Raises:
            NotFound: there is no such resource group, collection or app, with the code that says which.
        """
        for app in await self._collection(names):
            if app.app_name.lower() == names["app"].lower():
                return app
        raise _missing("app", names["app"], "ResourceNotFound")

    async def _collection(self, names: dict[str, str]) -> list[App]:
        group, collection = names["group"].lower(), names["collection"].lower()
        found = await asyncio.to_thread(self._ledger.collections)
        if group != RESOURCE_GROUP.lower() or not found:
            raise _missing("resource group", names["group"], "ResourceGroupNotFound")
        if collection not in {one.name.lower() for one in found}:
            raise _missing("app collection", names["collection"], "ResourceNotFound")
        apps = await asyncio.to_thread(self._ledger.apps)
        return [app for app in apps if app.app_collection.lower() == collection]


def check_subscription(subscription: str, installation: Installation) -> None:
    """Let the one subscription there is pass.

    Raises:
        NotFound: it is another.
    """
    if subscription.lower() != installation.subscription_id:
        raise _missing("subscription", subscription, "SubscriptionNotFound")


def app_path(app: App, installation: Installation) -> str:
    collection = _collection_path(app.resource_group, app.app_collection, installation)
    return f"{collection}/apps/{quote(app.app_name, safe='')}"


def _collection_path(group: str, collection: str, installation: Installation) -> str:
    return (
        f"/subscriptions/{installation.subscription_id}/resourceGroups/{quote(group, safe='')}"
        f"/providers/{PROVIDER}/appcollections/{quote(collection, safe='')}"
    )


def _missing(what: str, name: str, code: str) -> NotFound:
    return NotFound(
        f"There is no {what} {name[:80]!r}.", hint="`outhaul apps list` shows what exists.", code=code
    )
