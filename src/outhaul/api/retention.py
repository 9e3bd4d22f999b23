"""For how many days an app's records are kept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, get_args

from outhaul.api.exports import find_app
from outhaul.api.operations import Operation, reply
from outhaul.rest import NewRetention, Retention
from outhaul.wire import RetainedKind

if TYPE_CHECKING:
    from starlette.responses import Response

    from outhaul.api.operations import Call
    from outhaul.ledger.ledger import App


async def get(call: Call) -> Response:
    """What is set for an app."""
    app = await find_app(call, call.names["app"])
    await _audit(call, "retention.read", app)
    return await _answer(call, app)


async def put(call: Call) -> Response:
    """Set it, in place of what was set before."""
    asked: NewRetention = call.body
    app = await find_app(call, call.names["app"])
    await asyncio.to_thread(call.door.ledger.set_retention, app.app_id, asked.days)
    await _audit(call, "retention.set", app)
    return await _answer(call, app)


async def _answer(call: Call, app: App) -> Response:
    found = await asyncio.to_thread(call.door.ledger.retention, app.app_id)
    days = {str(kind): number for kind, number in found.get(app.app_id, {}).items()}
    return reply(Retention(days=days))


async def _audit(call: Call, action: str, app: App) -> None:
    await call.door.access.audit(call.caller, action, app.app_id, app.app_id, call.request_id)


_PATH = "/apps/{app}/retention"
_OF_APP = ("app_not_found", "conflict")

OPERATIONS = (
    Operation(
        "GET",
        _PATH,
        "getRetention",
        "Look for how many days an app's records are kept",
        get,
        "apps:read",
        answer=Retention,
        help="A kind that is not in the answer is kept for ever.",
        problems=_OF_APP,
    ),
    Operation(
        "PUT",
        _PATH,
        "setRetention",
        "Set for how many days an app's records are kept",
        put,
        "apps:write",
        body=NewRetention,
        answer=Retention,
        help=(
            f"In place of what was set before, by kind: {', '.join(get_args(RetainedKind))}. What is older is removed for "
            "good within the hour, and from then on as it grows older; a kind that is not named is kept for ever."
        ),
        problems=_OF_APP,
        example={"days": {"event": 90, "crash": 365}},
    ),
)
