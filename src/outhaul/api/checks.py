"""What would happen to an export, without doing it: step by step, each with a cure; and what it would come to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, get_args, get_type_hints

from outhaul.api.estimate import estimate
from outhaul.api.exports import SPEC_EXAMPLE, find_app, of_destination
from outhaul.api.operations import Operation, reply
from outhaul.api.reading import read_export, read_shape
from outhaul.errors import Conflict, Invalid, NotFound
from outhaul.rest import Check, CheckStep, Estimate, ExportSpec
from outhaul.wire import DOWNLOAD, Destination

if TYPE_CHECKING:
    from starlette.responses import Response

    from outhaul.api.operations import Call
    from outhaul.wire import ExportRequest

_MARGIN_S = 300
"""Seconds more than estimated for which a token should be valid: exports wait for each other."""


async def check(call: Call) -> Response:
    """Look at an export as if it were asked for."""
    estimated = None
    try:
        spec = read_shape(call.body, ExportSpec)
        app = await find_app(call, spec.app)
        request = read_export(spec)
        # How much of the tables is somebody's only a look at them can tell.
        estimated = None if request.of else await _estimate(call, app.app_id, request)
        steps = await _try(call, spec.destination or Destination(url=DOWNLOAD), estimated)
    except (Invalid, NotFound, Conflict) as error:
        failed = CheckStep(name="parse", ok=False, detail=error.message, cure=error.hint)
        others = get_args(get_type_hints(CheckStep)["name"])[1:]
        steps = [failed, *(CheckStep(name=name, ok=None, detail="Not tried.", cure="") for name in others)]
    else:
        await call.door.access.audit(call.caller, "export.check", app.app_id, app.app_id, call.request_id)
    return reply(Check(ok=all(step.ok is not False for step in steps), steps=steps, estimate=estimated))


async def _estimate(call: Call, app_id: str, request: ExportRequest) -> Estimate:
    return await asyncio.to_thread(estimate, call.door.ledger, call.door.tables, app_id, request)


async def _try(call: Call, destination: Destination, estimated: Estimate | None) -> list[CheckStep]:
    """The steps of a request that can be read.

    Raises:
        Invalid: the destination is none.
    """
    needed_s = (2 * estimated.seconds if estimated else 0) + _MARGIN_S
    try:
        taken = await asyncio.get_running_loop().run_in_executor(
            call.door.patient, call.door.destinations.probe, destination, needed_s
        )
    except Invalid as error:
        raise of_destination(error) from None
    return [
        CheckStep(name="parse", ok=True, detail="The request can be understood.", cure=""),
        *(CheckStep(name=step.name, ok=step.ok, detail=step.detail, cure=step.cure) for step in taken),
    ]


OPERATIONS = (
    Operation(
        "POST",
        "/exports:check",
        "checkExport",
        "Say what would happen to an export, without doing it",
        check,
        "exports:write",
        body=ExportSpec,
        answer=Check,
        help="Also where it would fail: then `ok` is false, and the step that fails has a cure.",
        example=SPEC_EXAMPLE,
        lenient=True,
    ),
)
