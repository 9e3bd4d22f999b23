"""The export operations: ask for one, look at one, list them. What they ask for is done elsewhere."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, get_args

from outhaul import instants
from outhaul.azme.bodies import read_shape
from outhaul.azme.dates import DAY_MS, read_day, read_instant
from outhaul.azme.paging import API_VERSION, next_link, read_page
from outhaul.azme.reply import Reply, json_reply
from outhaul.azme.resources import app_path
from outhaul.azme.shapes import (
    DateRangeExportTaskParameter,
    ExportTaskListResult,
    ExportTaskParameter,
    ExportTaskResult,
    FeedbackByCampaignParameter,
    FeedbackByDateRangeParameter,
)
from outhaul.container import describe
from outhaul.errors import DestinationRefused, Invalid, NotFound
from outhaul.records import CampaignType
from outhaul.schema import EXPORT_TYPES
from outhaul.wire import DOWNLOAD, Campaigns, Destination, ExportRequest, Format, Period, Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from outhaul.azme.call import Call
    from outhaul.azme.resources import Resources
    from outhaul.keys import Keyring
    from outhaul.ledger.ledger import Ledger
    from outhaul.schema import Kind

T = TypeVar("T")


class Destinations(Protocol):
    def check(self, destination: Destination) -> None:
        """Let a destination pass.

        Raises:
            Invalid: it is none.
            DestinationRefused: the operator does not allow it.
        """


class Creation(NamedTuple):
    kind: Kind
    shape: type[ExportTaskParameter]


_DATED = DateRangeExportTaskParameter
_PLAIN = ExportTaskParameter
CREATIONS: dict[str, Creation] = {
    "activities": Creation("activity", _DATED),
    "crashes": Creation("crash", _DATED),
    "errors": Creation("error", _DATED),
    "events": Creation("event", _DATED),
    "jobs": Creation("job", _DATED),
    "sessions": Creation("session", _DATED),
    "tags": Creation("tag", _PLAIN),
    "tokens": Creation("token", _PLAIN),
    "devices": Creation("device", _PLAIN),
    "feedbackByDate": Creation("feedback", FeedbackByDateRangeParameter),
    "feedbackByCampaign": Creation("feedback", FeedbackByCampaignParameter),
}
"""What can be asked for, by the last segment of the path. `devices` is ours: no old client has it."""

_BY_SEGMENT = {segment.lower(): creation for segment, creation in CREATIONS.items()} | {
    # Some published samples write the singular.
    creation.kind: creation
    for creation in CREATIONS.values()
    if creation.kind != "feedback"
}
_FORMATS: dict[str, Format] = {"JsonBlob": "json", "CsvBlob": "csv"}
_CAMPAIGN_TYPES: dict[str, str] = {name: name for name in get_args(CampaignType)}
_ORDERS = {
    "taskId": "id",
    "errorDetails": "error",
    "dateCreated": "created_at",
    "dateCompleted": "completed_at",
    "taskStatus": "state",
}
_BOOLEANS = {"true": True, "false": False}
_STATES = {"cancelled": "Failed"}
"""How the old API says what it has no word for."""


class Exports:
    def __init__(
        self,
        resources: Resources,
        ledger: Ledger,
        keyring: Keyring,
        destinations: Destinations,
        mark: Callable[[], Awaitable[int]],
        now: Callable[[], int],
    ) -> None:
        self._resources = resources
        self._ledger = ledger
        self._keyring = keyring
        self._destinations = destinations
        self._mark = mark
        self._now = now

    async def create(self, call: Call) -> Reply:
        """Ask for an export: 202, and where to look how it is doing."""
        app = await self._resources.find_app(call.names)
        creation = _BY_SEGMENT.get(call.names["task"].lower())
        if creation is None:
            raise NotFound(
                f"There is no export of {call.names['task'][:80]!r}.",
                hint=f"There are {', '.join(CREATIONS)}.",
                code="InvalidResourceType",
            )
        content_type = call.request.headers.get("content-type", "")
        body = read_shape(await call.request.body(), content_type, creation.shape)
        request = read_request(creation.kind, body)
        destination = Destination(url=body.container_url)
        await self._check_destination(destination)
        task = Task(
            id=str(uuid.uuid4()),
            app_id=app.app_id,
            request=request,
            destination=self._keyring.seal(destination),
            destination_shown=describe(destination),
            description=body.description,
            state="queued",
            created_at=self._now(),
            created_by=call.actor,
            mark=await self._mark(),
        )
        await asyncio.to_thread(self._ledger.create_task, task)
        await call.record("export.create", task.id, app.app_id)
        path = f"{app_path(app, call.installation)}/devices/exportTasks/{task.id}"
        return json_reply(202, _result(task), location=f"{call.request.base}{path}?api-version={API_VERSION}")

    async def get(self, call: Call) -> Reply:
        app = await self._resources.find_app(call.names)
        # Another app's task is not said to exist.
        missing = NotFound(
            f"There is no export task {call.names['task'][:80]!r}.", hint="List them to see which exist."
        )
        try:
            task = await asyncio.to_thread(self._ledger.task, call.names["task"].lower())
        except NotFound:
            raise missing from None
        if task.app_id != app.app_id:
            raise missing
        await call.record("export.read", task.id, app.app_id)
        return json_reply(200, _result(task))

    async def list(self, call: Call) -> Reply:
        app = await self._resources.find_app(call.names)
        query = call.request.query
        page = read_page(query, tuple(_ORDERS))
        # `Device` and `History` are not among the export types the old API knows, so a strictly typed client that met
        # one in a list could not read the list at all.
        with_devices = _choose("includeDevice", query.get("includedevice", "false"), _BOOLEANS)
        hidden: list[Kind] = ["history"] if with_devices else ["history", "device"]
        tasks = await asyncio.to_thread(
            self._ledger.tasks,
            app.app_id,
            order=_ORDERS[page.order],
            descending=page.descending,
            skip=page.skip,
            top=page.top + 1,
            exclude_kinds=hidden,
        )
        await call.record("export.list", app.app_id, app.app_id)
        path = f"{app_path(app, call.installation)}/devices/exportTasks"
        more = {"includeDevice": "true"} if with_devices else {}
        link = next_link(call.request.base, path, page, **more) if len(tasks) > page.top else None
        return json_reply(
            200, ExportTaskListResult(value=[_result(task) for task in tasks[: page.top]], next_link=link)
        )

    async def _check_destination(self, destination: Destination) -> None:
        if destination.url.strip() == DOWNLOAD:
            # Nobody could fetch them: the old API has no operation for it.
            raise Invalid("containerUrl is not the URL of a container.", hint="Give one with its token.")
        try:
            await asyncio.to_thread(self._destinations.check, destination)
        except (Invalid, DestinationRefused) as error:
            raise type(error)(f"containerUrl: {error.message}", hint=error.hint) from None


def read_request(kind: Kind, body: ExportTaskParameter) -> ExportRequest:
    """What an export of this kind is asked to do.

    Raises:
        Invalid: a member has a value it cannot have, naming it.
    """
    period, campaigns = None, None
    match body:
        case DateRangeExportTaskParameter():
            start, end = read_day("startDate", body.start_date), read_day("endDate", body.end_date)
            period = _read_period("startDate", start, end, last=DAY_MS)
        case FeedbackByDateRangeParameter():
            start = read_instant("campaignWindowStart", body.campaign_window_start)
            end = read_instant("campaignWindowEnd", body.campaign_window_end)
            window = _read_period("campaignWindowStart", start, end, last=1)
            campaigns = Campaigns(type=_read_campaign_type(body.campaign_type), window=window)
        case FeedbackByCampaignParameter():
            ids = list(dict.fromkeys(str(number) for number in body.campaign_ids))
            campaigns = Campaigns(type=_read_campaign_type(body.campaign_type), ids=ids)
    form = _choose("exportFormat", body.export_format, _FORMATS)
    return ExportRequest(kind=kind, format=form, period=period, campaigns=campaigns)


def _read_campaign_type(text: str) -> str:
    return _choose("campaignType", text, _CAMPAIGN_TYPES)


def _read_period(name: str, start: int, end: int, last: int) -> Period:
    """From the start to the end, the end's own `last` ms included: the old API's ranges hold both ends."""
    if start > end:
        raise Invalid(f"{name} is after the end.", hint="Give the earlier one first.")
    return Period(start=start, end=end + last)


def _choose(name: str, text: str, choices: Mapping[str, T]) -> T:
    """Whatever the spelling: clients compare these without regard to case, then send them as written."""
    for choice, value in choices.items():
        if choice.lower() == text.lower():
            return value
    raise Invalid(f"{name} has a value it cannot have.", hint=f"It takes {' or '.join(choices)}.")


def _result(task: Task) -> ExportTaskResult:
    return ExportTaskResult(
        id=task.id,
        description=task.description,
        state=_STATES.get(task.state, task.state.capitalize()),
        date_created=instants.show(task.created_at),
        date_completed=None if task.completed_at is None else instants.show(task.completed_at),
        export_type=EXPORT_TYPES[task.request.kind],
        error_details="The export was cancelled." if task.state == "cancelled" else task.error,
    )
