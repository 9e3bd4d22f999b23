"""The dialect of PostHog's SDKs (`protocols.posthog`, `protocols.posthog_push`).

Feature flags, surveys, recordings of sessions and logs are not ours: their paths are answered so that SDKs go on, and
what is sent there is not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from outhaul.collect.requests import Answer, Endpoint, Request, json_answer
from outhaul.errors import Busy, Invalid, TooLarge, Unauthenticated
from outhaul.protocols import posthog_body, posthog_push
from outhaul.protocols.json_text import write

if TYPE_CHECKING:
    from outhaul.collect.intake import Intake
    from outhaul.protocols.posthog_body import Bag

# SDKs throw away what a client error refuses, so an unknown key is for later; on 413 mobile ones send half at a time.
_STATUSES = {Unauthenticated: 503, TooLarge: 413, Invalid: 400, Busy: 503}

_SENT_AT = b"posthog-request-timestamp"
_DONE = Answer(200, b'{"status":1}')

CONFIG: dict[str, Any] = {
    "supportedCompression": ["gzip", "gzip-js"],
    # Apps may wait for flags before they start: they are to ask for them, and be told that there are none.
    "hasFeatureFlags": True,
    "autocapture_opt_out": False,
    "autocaptureExceptions": False,
    "capturePerformance": False,
    "captureDeadClicks": False,
    "heatmaps": False,
    "sessionRecording": False,
    "surveys": False,
    "productTours": False,
    "conversations": False,
    "logs": {"captureConsoleLogs": False},
    "errorTracking": {"autocaptureExceptions": False, "suppressionRules": []},
    "defaultIdentifiedOnly": True,
    "isAuthenticated": False,
    "toolbarParams": {},
    "siteApps": [],
}
"""What an SDK may do: send events, compressed if it likes, and nothing that another server is needed for."""

_FLAGS = json_answer(
    {
        **CONFIG,
        "flags": {},
        "featureFlags": {},
        "featureFlagPayloads": {},
        "errorsWhileComputingFlags": False,
    }
)


async def _take(intake: Intake, request: Request) -> Answer:
    """Events as most SDKs send them, also by way of the query."""
    request = _with_query(request)
    query = _query(request)

    def look(body: bytes) -> tuple[bytes, Bag]:
        return body, posthog_body.open_bag(body)

    body, bag = await intake.look(request, look)
    app = await intake.apps.find(request.basic_user or bag.key or query.get("token", ""))
    sent_at = query.get("_", "")
    if bag.sent_at is None and sent_at.isdecimal():
        # The journal has no place for it but the body.
        await intake.store(app, "posthog", request, body=posthog_body.sent(body, sent_at))
    else:
        await intake.store(app, "posthog", request)
    return _DONE


async def _take_v1(intake: Intake, request: Request) -> Answer:
    """Events as newer SDKs send them: the key and the time of sending in headers, an answer for each event."""

    def look(body: bytes) -> tuple[bytes, Bag]:
        return body, posthog_body.open_bag(body)

    body, bag = await intake.look(request, look)
    app = await intake.apps.find(request.bearer)
    sent_at = request.header(_SENT_AT)
    if sent_at and bag.sent_at is None:
        await intake.store(app, "posthog", request, body=posthog_body.sent(body, sent_at))
    else:
        await intake.store(app, "posthog", request)
    uuids = [posthog_body.uuid_of(event) for event in bag.events]
    return json_answer({"results": {uuid: {"result": "ok"} for uuid in uuids if uuid is not None}})


async def _subscribe(intake: Intake, request: Request) -> Answer:
    return await _subscription(intake, request, valid=True)


async def _unsubscribe(intake: Intake, request: Request) -> Answer:
    return await _subscription(intake, request, valid=False)


async def _subscription(intake: Intake, request: Request, *, valid: bool) -> Answer:
    def look(body: bytes) -> tuple[bytes, Any]:
        return body, posthog_push.subscription(body).get("api_key")

    body, key = await intake.look(request, look)
    app = await intake.apps.find(request.basic_user or (key if isinstance(key, str) else ""))
    await intake.store(app, "posthog_push", request, body=posthog_push.stored(body, valid=valid))
    return _DONE


async def _flags(_intake: Intake, _request: Request) -> Answer:
    """No flags: whether something is on is not for this server to say."""
    return _FLAGS


async def _config(_intake: Intake, request: Request) -> Answer:
    return json_answer({**CONFIG, "token": request.names["token"]})


async def _config_script(_intake: Intake, request: Request) -> Answer:
    """The same as a script, which is how a page that loads the SDK with a script tag asks for it."""
    token = request.names["token"]
    held = write({"config": {**CONFIG, "token": token}, "siteApps": []})
    where = "window._POSTHOG_REMOTE_CONFIG"
    script = f"{where}={where}||{{}};{where}[{write(token)}]={held};"
    return Answer(200, script.encode(), ((b"content-type", b"application/javascript"),))


async def _surveys(_intake: Intake, _request: Request) -> Answer:
    return Answer(200, b'{"surveys":[]}')


async def _swallow(_intake: Intake, _request: Request) -> Answer:
    """Recordings, logs and metrics: taken, so that the SDK does not try for ever, and not kept."""
    return _DONE


def _query(request: Request) -> dict[str, str]:
    """The query's members, each by its first value."""
    try:
        told = parse_qs(request.query.decode("latin-1"), max_num_fields=64)
    except ValueError:
        return {}
    return {name: values[0] for name, values in told.items()}


def _with_query(request: Request) -> Request:
    """A request without a body has its events in the query, which has the form of a body then."""
    return request if request.body else request._replace(body=request.query)


_EVENTS = ("/batch", "/e", "/i/v0/e", "/i/v0/ai/batch", "/capture")
_SWALLOWED = ("/s", "/i/v1/logs", "/i/v1/metrics", "/i/v1/traces")

ENDPOINTS = (
    *(Endpoint(path, ("POST", "GET"), _take, _STATUSES) for path in _EVENTS),
    Endpoint("/i/v1/analytics/events", ("POST",), _take_v1, _STATUSES),
    *(Endpoint(path, ("POST",), _flags, _STATUSES) for path in ("/flags", "/decide")),
    Endpoint("/array/{token}/config", ("GET",), _config, _STATUSES),
    Endpoint("/array/{token}/config.js", ("GET",), _config_script, _STATUSES),
    Endpoint("/api/push_subscriptions", ("POST",), _subscribe, _STATUSES),
    Endpoint("/api/push_subscriptions", ("DELETE",), _unsubscribe, _STATUSES),
    Endpoint("/api/surveys", ("GET",), _surveys, _STATUSES),
    *(Endpoint(path, ("POST",), _swallow, _STATUSES) for path in _SWALLOWED),
)
