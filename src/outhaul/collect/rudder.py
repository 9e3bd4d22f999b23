"""What RudderStack's SDKs ask for besides what Segment's do (`protocols.rudder`)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from outhaul.collect import segment
from outhaul.collect.requests import Answer, Endpoint, Request, json_answer

if TYPE_CHECKING:
    from outhaul.collect.intake import Intake

_UPDATED = "2026-01-01T00:00:00.000Z"


async def _config(_intake: Intake, request: Request) -> Answer:
    """A source without destinations, whatever the key: one that is not known yet may be in a minute.

    Its SDKs hold back everything until they have this, and report on themselves unless told not to. The mobile ones
    insist on `writeKey`, `workspaceId` and `updatedAt` in the source.
    """
    key = request.basic_user or parse_qs(request.query.decode("latin-1")).get("writeKey", [""])[0]
    off = {"enabled": False}
    source = {
        "id": "outhaul",
        "name": "outhaul",
        "writeKey": key,
        "enabled": True,
        "workspaceId": "outhaul",
        "updatedAt": _UPDATED,
        "config": {"statsCollection": {"errors": off, "metrics": off}},
        "connections": [],
        "destinations": [],
        "dataplanes": {},
    }
    consent: dict[str, list[str]] = {"providers": []}
    return json_answer({"source": source, "updatedAt": _UPDATED, "consentManagementMetadata": consent})


ENDPOINTS = (
    Endpoint("/sourceConfig", ("GET",), _config, segment.STATUSES),
    # By what a browser sends while its page is being left; the key is in the query.
    Endpoint("/beacon/v1/batch", ("POST",), segment.take, segment.STATUSES),
)
